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
