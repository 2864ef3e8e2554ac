//! Files of the object plugin, as a run that fails leaves them.

use std::path::Path;

use nvisy_core::prelude::*;
use nvisy_core::testing::memory::Form;
use nvisy_runtime::engine::{RunReport, RunStatus};
use serde_json::{Value, json};

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
            "a second run replaces the files whole",
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
