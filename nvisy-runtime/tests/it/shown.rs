//! Files that show and are taken away are not missed; files that are lost are.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nvisy_core::prelude::*;
use nvisy_core::testing::memory::Form;
use nvisy_runtime::Engine;
use nvisy_runtime::engine::{RunReport, RunStatus};
use nvisy_runtime::graph::Graph;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::fixture::*;

const ITEMS: u64 = 300;

/// Numbers into files. When so many are seen, a bell rings.
fn graph(dir: &Path, bell: &Arc<Notify>, after: u64) -> Graph {
    let (bell, seen) = (bell.clone(), AtomicU64::new(0));
    let counted = act(Form::Batch, "in", move |items: Vec<Item>, _| {
        if seen.fetch_add(items.len() as u64, Ordering::Relaxed) >= after {
            bell.notify_one();
        }
        async move { Ok(items.into_iter().map(Outcome::emit).collect()) }
    });
    let files = json!({ "use": "object/local", "config": { "root": dir.join("out"), "create": true } });
    document(json!({
        "settings": { "checkpoint": { "every": "5ms", "uncommitted_items": 40 } },
        "nodes": {
            "in": batches(ITEMS, 5),
            "seen": counted,
            "files": { "type": "sink", "use": "object/jsonl", "connection": files, "inputs": ["seen"],
                       "config": { "path": "{part}.jsonl" } },
        },
    }))
}

fn engine_in(dir: &Path) -> Engine {
    builder().state(dir.join("state")).build().unwrap().accepting(["seen"])
}

/// Runs until about so many items are seen, and is stopped then.
async fn drained(dir: &Path, after: u64) -> RunReport {
    let bell = Arc::new(Notify::new());
    let run = engine_in(dir).start(&graph(dir, &bell, after)).await.unwrap();
    bell.notified().await;
    run.drain(Duration::from_secs(600));
    let report = run.wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert!(!report.checkpoint.as_ref().unwrap().finished, "{report}");
    report
}

/// Takes away the files that show, and returns the numbers in them.
fn take(dir: &Path) -> Vec<u64> {
    let mut taken = Vec::new();
    for entry in std::fs::read_dir(dir.join("out")).unwrap() {
        let path = entry.unwrap().path();
        let lines = std::fs::read_to_string(&path).unwrap();
        let numbers = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["n"].clone());
        taken.extend(numbers.filter_map(|n| n.as_u64()));
        std::fs::remove_file(path).unwrap();
    }
    taken
}

#[tokio::test]
async fn files_that_are_taken_away_when_they_show_are_not_missed_by_the_run_that_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut taken = Vec::new();
    for after in [50, 50] {
        drained(dir, after).await;
        let now = take(dir);
        assert!(!now.is_empty());
        taken.extend(now);
    }
    let report = run_on(&engine_in(dir), &graph(dir, &Arc::default(), u64::MAX)).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    taken.extend(take(dir));
    taken.sort_unstable();
    assert_eq!(taken, all(ITEMS));
}
