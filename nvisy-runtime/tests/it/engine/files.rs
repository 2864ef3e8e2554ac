//! Files of the object plugin, as a run that fails leaves them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nvisy_core::prelude::*;
use nvisy_core::testing::memory::Form;
use nvisy_runtime::engine::{RunReport, RunStatus};
use nvisy_runtime::plugins::sql::SqliteCheckpoints;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::fixture::*;

const FORMATS: [(&str, &str); 2] = [("object/jsonl", "out.jsonl"), ("object/parquet", "out.parquet")];

/// Rows in batches of two, through an action that fails at one of them, to a file.
async fn write(root: &Path, (format, path): (&str, &str), fails_at: Option<u64>) -> RunReport {
    let items: Vec<Value> = (0..6).map(|n| json!({ "n": n })).collect();
    let relay = act(Form::Batch, "in", move |items: Vec<Item>, _| async move {
        let at = |item: &Item| match item.primitive().payload() {
            Payload::Row(row) => row.get_u64("n"),
            _ => None,
        };
        let bad = fails_at.is_some() && items.iter().any(|item| at(item) == fails_at);
        if bad {
            Err(Error::new(ErrorKind::Permission, "no"))
        } else {
            Ok(items.into_iter().map(Outcome::emit).collect())
        }
    });
    let graph = document(json!({
        "connections": { "files": { "use": "object/local", "config": { "root": root } } },
        "nodes": {
            "in": { "type": "source", "use": "memory/source",
                    "config": { "items": items, "kind": "row", "batch_items": 2 } },
            "act": relay,
            "out": { "type": "sink", "use": format, "connection": "files", "inputs": ["act"],
                     "config": { "path": path, "on_existing": "replace" } },
        },
    }));
    run_on(&engine(), &graph).await
}

#[tokio::test]
async fn a_run_that_fails_leaves_the_file_of_the_run_before_as_it_is() {
    for target in FORMATS {
        let folder = tempfile::tempdir().unwrap();
        let report = write(folder.path(), target, None).await;
        assert_eq!(report.status, RunStatus::Success, "{report}");
        let yesterday = std::fs::read(folder.path().join(target.1)).unwrap();

        let report = write(folder.path(), target, Some(4)).await;
        assert_eq!((report.status, settled_items(&report)), (RunStatus::Failure, 0), "{report}");
        assert_eq!(std::fs::read(folder.path().join(target.1)).unwrap(), yesterday, "{}", target.1);
        let left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(left, [folder.path().join(target.1)], "nothing unfinished is left");

        let report = write(folder.path(), target, None).await;
        assert_eq!((report.status, settled_items(&report)), (RunStatus::Success, 6), "{report}");
    }
}

/// Copies the files of a folder into another one, twice. Returns what was said before, and how
/// the second run ended.
async fn twice(sink: &Value, root: &Path) -> (String, Result<RunReport>) {
    let from = tempfile::tempdir().unwrap();
    std::fs::write(from.path().join("a.md"), "one").unwrap();
    let uses = sink["use"].as_str().unwrap().to_owned();
    let read = if uses == "object/bytes" { "object/bytes" } else { "object/text" };
    let config = sink.get("config").cloned().unwrap_or_else(|| json!({}));
    let graph = document(json!({
        "connections": { "from": { "use": "object/local", "config": { "root": from.path() } },
                         "to": { "use": "object/local", "config": { "root": root } } },
        "nodes": {
            "in": { "type": "source", "use": read, "connection": "from", "config": {} },
            "out": { "type": "sink", "use": uses, "connection": "to", "inputs": ["in"], "config": config },
        },
    }));
    let said = engine().compile(&graph).unwrap().explain();
    let said = said.lines().last().unwrap().trim().to_owned();
    let first = run_on(&engine(), &graph).await;
    assert_eq!(first.status, RunStatus::Success, "{sink}: {first}");
    (said, engine().run(&graph).await)
}

#[tokio::test]
async fn what_a_second_run_finds_is_what_was_explained() {
    const TAKEN: &str = "a second run finds the name taken and stops with `conflict`: put {run} in the path, or say `on_existing`";
    const TWICE: &str = "what is replayed is there twice, in a file of its own";
    const BY_NAME: &str =
        "what is replayed replaces the file of its name; of two items with one name the second is rejected";
    let cases = [
        (json!({ "use": "object/jsonl", "config": { "path": "out.jsonl" } }), TAKEN, 1, false),
        (json!({ "use": "object/jsonl", "config": { "path": "{run}.jsonl" } }), TWICE, 2, true),
        (
            json!({ "use": "object/jsonl", "config": { "path": "out.jsonl", "on_existing": "number" } }),
            TWICE,
            2,
            true,
        ),
        (
            json!({ "use": "object/jsonl", "config": { "path": "out.jsonl", "on_existing": "replace" } }),
            "a second run replaces the files of the same names",
            1,
            true,
        ),
        (json!({ "use": "object/bytes" }), BY_NAME, 1, true),
        (json!({ "use": "object/text", "config": { "path": "{key}" } }), BY_NAME, 1, true),
        (
            json!({ "use": "object/text", "config": { "path": "{key}", "on_existing": "fail" } }),
            "what is replayed finds its name taken: the same bytes count as written, others are rejected",
            1,
            true,
        ),
        (json!({ "use": "object/text" }), "ids are deterministic, and the sink replaces by id", 1, true),
    ];
    for (sink, expected, files, succeeds) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (said, second) = twice(&sink, folder.path()).await;
        assert!(said.starts_with("in → out: ") && said.ends_with(expected), "{sink}: {said}");
        let (success, told) = match second {
            Ok(report) => (report.is_success(), report.to_string()),
            Err(error) => (false, format!("{error:?}")),
        };
        assert_eq!((success, told.contains("conflict")), (succeeds, !succeeds), "{sink}: {told}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), files, "{sink}");
    }
}

/// The numbers that stand in the files of a folder, in order.
fn numbers_in(folder: &Path) -> Vec<u64> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let shown = files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    let text: String = shown.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let number = |line: &str| serde_json::from_str::<Value>(line).unwrap()["n"].as_u64().unwrap();
    let mut numbers: Vec<u64> = text.lines().map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn a_run_that_is_taken_over_shows_no_more_and_who_takes_it_over_shows_everything_once() {
    let (folder, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // It refuses who comes too late when that commits, and not before.
    let store = || SqliteCheckpoints::at(place.path().join("runs.db").display().to_string());
    // It waits in the middle of its items, when a part of them is in a file that shows.
    let (reached, goes_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let waits = Arc::new(AtomicBool::new(true));
    let work = {
        let (reached, goes_on, waits) = (reached.clone(), goes_on.clone(), waits.clone());
        let shown = folder.path().to_owned();
        act(Form::Batch, "in", move |items: Vec<Item>, _| {
            let (reached, goes_on, waits) = (reached.clone(), goes_on.clone(), waits.clone());
            let (shown, half) = (shown.clone(), items.iter().any(|item| n(item) == 30));
            async move {
                if half && waits.load(Ordering::Relaxed) {
                    while numbers_in(&shown).is_empty() {
                        tokio::task::yield_now().await;
                    }
                    reached.notify_one();
                    goes_on.notified().await;
                }
                Ok(items.into_iter().map(Outcome::emit).collect())
            }
        })
    };
    let graph = document(json!({
        "settings": { "checkpoint": { "every": "1ms", "uncommitted_items": 10 } },
        "connections": { "files": { "use": "object/local", "config": { "root": folder.path() } } },
        "nodes": {
            "in": batches(60, 2),
            "work": work,
            "out": { "type": "sink", "use": "object/jsonl", "connection": "files", "inputs": ["work"],
                     "config": { "path": "out-{part}.jsonl" } },
        },
    }));
    let engine = || builder().checkpoints(store()).build().unwrap();
    let first = engine().start(&graph).await.unwrap();
    within(reached.notified()).await;
    waits.store(false, Ordering::Relaxed);
    let report = run_on(&engine(), &graph).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(numbers_in(folder.path()), all(60));

    goes_on.notify_one();
    let ended = within(first.wait()).await;
    assert!(ended.as_ref().map_or(true, |report| !report.is_success()), "{ended:?}");
    assert_eq!(numbers_in(folder.path()), all(60), "it adds nothing");
}

#[tokio::test]
async fn a_source_that_finds_nothing_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.txt"), "a").unwrap();
    let of = |glob: &str| {
        document(json!({
            "connections": { "files": { "use": "object/local", "config": { "root": dir.path() } } },
            "nodes": {
                "in": { "type": "source", "use": "object/text", "connection": "files", "config": { "glob": glob } },
                "out": sink(&unique("out"), "in"),
            }
        }))
    };
    let told = |report: &RunReport| report.to_string().contains("source \"in\" found nothing to read");
    let report = run_graph(&of("*.md")).await;
    assert!(report.is_success() && told(&report), "{report}");
    let report = run_graph(&of("*.txt")).await;
    assert!(!told(&report), "{report}");

    // Nor does it keep to itself what it passes by.
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;

        let elsewhere = tempfile::tempdir().unwrap();
        std::fs::write(elsewhere.path().join("other.md"), "not asked for").unwrap();
        for (link, target) in [("one.txt", "nowhere"), ("away", ""), ("other.md", "other.md")] {
            std::os::unix::fs::symlink(elsewhere.path().join(target), dir.path().join(link)).unwrap();
        }
        std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff.txt")), "no key").unwrap();
        let report = run_graph(&of("*.txt")).await;
        let mut warnings = report.warnings.clone();
        warnings.sort();
        let [link, name] = &warnings[..] else { panic!("{report}") };
        assert_eq!(name, "node \"in\": passes by \"\u{fffd}.txt\": names that are not UTF-8 are no keys");
        assert!(link.ends_with("and 1 more: links have to lead to something within the root"), "{report}");
        assert!(report.is_success(), "{report}");
    }

    // A run that goes on where all was read has found it before.
    let state = tempfile::tempdir().unwrap();
    let engine = builder().state(state.path()).build().unwrap();
    for _ in 0..2 {
        let report = engine.run(&of("*.txt")).await.unwrap();
        assert!(report.is_success() && !told(&report), "{report}");
    }
}
