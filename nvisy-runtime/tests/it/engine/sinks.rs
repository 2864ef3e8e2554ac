//! When what is written counts as written.

use std::time::Duration;

use nvisy_core::prelude::*;
use nvisy_core::testing::faulty::{FaultKind, Script, Site};
use nvisy_core::testing::memory::{Form, MemoryStore};
use nvisy_runtime::engine::{NodeStatus, RunStatus};
use serde_json::{Value, json};

use crate::fixture::*;

fn faulty(script: &str, store: &str, input: &str) -> Value {
    json!({
        "type": "sink", "use": "faulty/sink", "inputs": [input],
        "config": { "script": script, "sink": { "name": store, "buffers": true } }
    })
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_buffers_is_acknowledged_when_it_closes() {
    let out = unique("out");
    let to = with(sink(&out, "in"), json!({ "config": { "buffers": true, "batch_items": 2 } }));
    let source =
        scripted(vec![vec![Step::Give(0..4), Step::Sleep(Duration::from_secs(5)), Step::Give(4..6)]]);
    let run = engine().start(&graph(json!({ "in": source, "out": to }))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(MemoryStore::named(&out).tally().writes, 2);
    assert!(MemoryStore::named(&out).is_empty());
    let report = within(run.wait()).await.unwrap();

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!((written(&out), settled_items(&report)), (all(6), 6));
    let tally = MemoryStore::named(&out).tally();
    assert_eq!((tally.closes, tally.flushes), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_buffers_is_not_acknowledged_when_the_run_is_cancelled() {
    let out = unique("out");
    let to = with(sink(&out, "in"), json!({ "config": { "buffers": true, "batch_items": 2 } }));
    let source = scripted(vec![vec![Step::Give(0..4), Step::Hang]]);
    let run = engine().start(&graph(json!({ "in": source, "out": to }))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    run.cancel();
    let report = within(run.wait()).await.unwrap();

    assert_eq!(report.status, RunStatus::Cancelled, "{report}");
    assert_eq!(MemoryStore::named(&out).tally().writes, 2);
    assert_eq!((written(&out), settled_items(&report)), (vec![], 0));
}

#[tokio::test(start_paused = true)]
async fn a_close_that_fails_fails_what_was_buffered() {
    for kind in [FaultKind::Terminal, FaultKind::Panic] {
        let [script, out] = ["script", "out"].map(unique);
        Script::named(&script).inject(Site::Close, 1, kind);
        let report = run(json!({ "in": batches(6, 2), "out": faulty(&script, &out, "in") })).await;

        assert_eq!(report.status, RunStatus::Failure, "{report}");
        assert_eq!((written(&out), settled_items(&report)), (vec![], 0));
        assert_eq!((node(&report, "out").failed, node(&report, "out").emitted_from), (6, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_that_fails_for_a_while_is_tried_again() {
    for kind in [FaultKind::Retryable, FaultKind::AmbiguousApplied, FaultKind::AmbiguousNotApplied] {
        let [script, out] = ["script", "out"].map(unique);
        Script::named(&script).inject(Site::Close, 1, kind);
        let report = run(json!({ "in": batches(6, 2), "out": faulty(&script, &out, "in") })).await;
        assert_eq!(report.status, RunStatus::Success, "{report}");
        assert_eq!((written(&out), settled_items(&report)), (all(6), 6));
    }
}

#[tokio::test(start_paused = true)]
async fn a_span_smaller_than_the_data_makes_a_buffering_sink_flush() {
    for through in ["in", "copies", "all"] {
        let out = unique("out");
        let mut to = with(sink(&out, through), json!({ "config": { "buffers": true, "batch_items": 8 } }));
        let mut nodes = json!({ "in": batches(500, 4) });
        match through {
            "copies" => {
                nodes["copies"] = json!({ "type": "fan_out", "inputs": ["in"] });
                nodes["other"] =
                    with(sink(&unique("other"), "copies"), json!({ "config": { "buffers": true } }));
            }
            "all" => {
                nodes["by"] = json!({ "type": "branch", "inputs": ["in"], "routes": { "even": "raw.n % 2 == 0" }, "default": "odd" });
                nodes["act"] = with(
                    each(Form::Batch, "by.odd", |item| Ok(Outcome::emit(item))),
                    json!({ "config": { "items": 5 } }),
                );
                nodes["all"] = json!({ "type": "fan_in", "inputs": ["by.even", "act"] });
            }
            _ => to["concurrency"] = json!(3),
        }
        nodes["out"] = to;
        let report = run_graph(&document(json!({
            "settings": { "checkpoint": { "uncommitted_items": 32 } }, "nodes": nodes,
        })))
        .await;

        assert_eq!(report.status, RunStatus::Success, "{through}: {report}");
        assert_eq!((written(&out), settled_items(&report)), (all(500), 500));
        assert!(MemoryStore::named(&out).tally().flushes >= 10, "{:?}", MemoryStore::named(&out).tally());
        assert!(report.duration < Duration::from_secs(1), "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_is_unsettled_than_the_span_allows() {
    let out = unique("out");
    let most = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let seen = most.clone();
    let store = MemoryStore::named(&out);
    let act = each(Form::Transform, "in", move |item| {
        let ahead = n(&item).saturating_sub(store.len() as u64);
        seen.fetch_max(ahead, std::sync::atomic::Ordering::Relaxed);
        Ok(Outcome::emit(item))
    });
    let to = with(sink(&out, "act"), json!({ "config": { "buffers": true, "batch_items": 8 } }));
    let report = run_graph(&document(json!({
        "settings": { "checkpoint": { "uncommitted_items": 40 } },
        "nodes": { "in": batches(400, 4), "act": act, "out": to },
    })))
    .await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    // The span may be passed by one batch.
    let most = most.load(std::sync::atomic::Ordering::Relaxed);
    assert!((20..44).contains(&most), "{most}");
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_fails_fails_the_sink_and_what_it_held() {
    let [script, out] = ["script", "out"].map(unique);
    Script::named(&script).inject(Site::Flush, 2, FaultKind::Terminal);
    let to = with(faulty(&script, &out, "in"), json!({ "config": { "sink": { "batch_items": 8 } } }));
    let report = run_graph(&document(json!({
        "settings": { "checkpoint": { "uncommitted_items": 32 } },
        "nodes": { "in": batches(500, 4), "out": to },
    })))
    .await;

    assert_eq!(
        (report.status, node(&report, "out").status),
        (RunStatus::Failure, NodeStatus::Failed),
        "{report}"
    );
    let durable = MemoryStore::named(&out).len() as u64;
    assert!(durable > 0 && settled_items(&report) <= durable, "{durable}: {report}");
    assert!(node(&report, "in").received < 500, "the source stops");
}

#[tokio::test(start_paused = true)]
async fn a_sink_behind_a_failed_node_keeps_what_came_and_closes() {
    let out = unique("out");
    let fails = each(Form::Batch, "in", |item| match n(&item) {
        3 => Err(Error::new(ErrorKind::Validation, "three")),
        _ => Ok(Outcome::emit(item)),
    });
    let to = with(sink(&out, "act"), json!({ "config": { "buffers": true } }));
    let report = run(json!({ "in": batches(8, 1), "act": fails, "out": to })).await;
    assert_eq!(report.status, RunStatus::Failure, "{report}");
    assert_eq!((written(&out), settled_items(&report)), (vec![0, 1, 2], 3));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_after_a_sink_is_closed() {
    for form in Form::ALL {
        let out = unique("out");
        let act = each(form, "in", |item| Ok(Outcome::emit(item)));
        let to =
            with(sink(&out, "act"), json!({ "concurrency": 4, "config": { "batch_items": 3, "yields": 5 } }));
        run(json!({ "in": batches(40, 2), "act": act, "out": to })).await;
        let tally = MemoryStore::named(&out).tally();
        assert_eq!((tally.opens, tally.closes, tally.after_close), (1, 1, 0), "{form:?}");
    }
}
