//! How a run is stopped, and that nothing of it stays behind.

use std::sync::Arc;
use std::time::Duration;

use nvisy_core::prelude::*;
use nvisy_core::testing::memory::{Form, MemoryStore};
use nvisy_runtime::engine::{NodeStatus, RunStatus};
use serde_json::json;

use crate::fixture::*;

/// Waits until no task is left but this one.
async fn all_tasks_end() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    within(async {
        while tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

fn busy(witness: &Arc<()>) -> nvisy_runtime::graph::Graph {
    let seen = witness.clone();
    let act = act(Form::Transform, "in", move |items: Vec<Item>, _| {
        let seen = seen.clone();
        async move {
            let _seen = seen;
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(items.into_iter().map(Outcome::emit).collect())
        }
    });
    let source = scripted(vec![(0..100).map(|i| Step::Give(i..i + 1)).chain([Step::Hang]).collect()]);
    graph(json!({
        "in": source, "copies": { "type": "fan_out", "inputs": ["in"] }, "act": with(act, json!({ "inputs": ["copies"] })),
        "out": sink(&unique("out"), "act"), "other": sink(&unique("other"), "copies"),
    }))
}

#[tokio::test(start_paused = true)]
async fn dropping_the_handle_ends_every_task_and_drops_what_they_hold() {
    let witness = Arc::new(());
    let graph = busy(&witness);
    let before = Arc::strong_count(&witness);
    let run = engine().start(&graph).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(tokio::runtime::Handle::current().metrics().num_alive_tasks() >= 6);
    assert!(Arc::strong_count(&witness) > before, "calls are on their way");
    drop(run);
    all_tasks_end().await;
    assert_eq!(Arc::strong_count(&witness), before);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_wait_ends_every_task() {
    let witness = Arc::new(());
    let graph = busy(&witness);
    let engine = engine();
    assert!(tokio::time::timeout(Duration::from_secs(3), engine.run(&graph)).await.is_err());
    all_tasks_end().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_over_leaves_no_task() {
    let out = unique("out");
    run(json!({ "in": numbers(5), "out": sink(&out, "in") })).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_run_acknowledges_what_is_written_and_nothing_else() {
    let out = unique("out");
    let slow = act(Form::Transform, "in", |items: Vec<Item>, _| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(items.into_iter().map(Outcome::emit).collect())
    });
    let slow = with(slow, json!({ "concurrency": 1 }));
    let to = with(sink(&out, "act"), json!({ "config": { "batch_items": 1 } }));
    let run = engine().start(&graph(json!({ "in": batches(10, 1), "act": slow, "out": to }))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    run.cancel();
    let report = within(run.wait()).await.unwrap();

    assert_eq!(report.status, RunStatus::Cancelled, "{report}");
    assert_eq!((written(&out), settled_items(&report)), (all(4), 4));
    assert_eq!(node(&report, "act").status, NodeStatus::Cancelled);
    assert!(node(&report, "act").in_flight > 0 && report.imbalances.is_empty(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_drain_stops_reading_and_finishes_what_is_on_its_way() {
    let out = unique("out");
    let source = scripted(vec![
        (0..100).flat_map(|i| [Step::Give(i..i + 1), Step::Sleep(Duration::from_secs(1))]).collect(),
    ]);
    let slow = act(Form::Transform, "in", |items: Vec<Item>, _| async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok(items.into_iter().map(Outcome::emit).collect())
    });
    let run =
        engine().start(&graph(json!({ "in": source, "act": slow, "out": sink(&out, "act") }))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    run.drain(Duration::from_secs(60));
    let report = within(run.wait()).await.unwrap();

    assert_eq!((report.status, report.drained), (RunStatus::Success, true), "{report}");
    assert_eq!((written(&out), settled_items(&report)), (all(4), 4));
    assert!(report.nodes.iter().all(|node| node.status == NodeStatus::Completed), "{report}");
    assert!(report.to_string().contains("drained"));
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_takes_too_long_is_a_cancel() {
    let out = unique("out");
    let hangs = act(Form::Transform, "in", |_: Vec<Item>, _| std::future::pending::<Result<Vec<Outcome>>>());
    let run = engine()
        .start(&graph(json!({ "in": batches(4, 1), "act": hangs, "out": sink(&out, "act") })))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    run.drain(Duration::from_secs(5));
    let report = within(run.wait()).await.unwrap();
    assert_eq!((report.status, report.duration.as_secs()), (RunStatus::Cancelled, 6), "{report}");
    assert_eq!((MemoryStore::named(&out).len(), settled_items(&report)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_a_source_that_waits_to_try_again() {
    let out = unique("out");
    let later = Error::new(ErrorKind::RateLimited, "later").with_retry_after(Duration::from_secs(500));
    let source = scripted(vec![vec![Step::Give(0..3), Step::fail(1, later)]]);
    let run = engine().start(&graph(json!({ "in": source, "out": sink(&out, "in") }))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    run.drain(Duration::from_secs(60));
    let report = within(run.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert!(report.duration < Duration::from_secs(5), "{report}");
    assert_eq!(settled_items(&report), 3);
}

#[tokio::test(start_paused = true)]
async fn an_engine_serves_many_runs_at_once() {
    let engine = engine();
    let stores: Vec<_> = (0..8).map(|_| unique("out")).collect();
    let graphs: Vec<_> =
        stores.iter().map(|out| graph(json!({ "in": batches(50, 7), "out": sink(out, "in") }))).collect();
    let reports = futures::future::join_all(graphs.iter().map(|graph| run_on(&engine, graph))).await;
    assert!(reports.iter().all(|report| report.is_success()));
    assert!(stores.iter().all(|out| written(out) == all(50)));
    let ids: std::collections::HashSet<_> = reports.iter().map(|report| report.run).collect();
    assert_eq!(ids.len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_run_again_writes_the_same_ids() {
    let out = unique("out");
    let graph = graph(json!({ "in": batches(50, 7), "out": sink(&out, "in") }));
    run_graph(&graph).await;
    let first = MemoryStore::named(&out).ids();
    run_graph(&graph).await;
    assert_eq!(MemoryStore::named(&out).ids(), first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn many_threads_give_the_same_result() {
    for round in 0..10 {
        let [out, aside] = ["out", "aside"].map(unique);
        let act = act(Form::Batch, "all", |items: Vec<Item>, _| async move {
            tokio::task::yield_now().await;
            Ok(items
                .into_iter()
                .map(|item| {
                    if n(&item).is_multiple_of(7) {
                        Outcome::fail(Error::invalid("n", "seven"))
                    } else {
                        Outcome::emit(item)
                    }
                })
                .collect())
        });
        let nodes = json!({
            "in": with(batches(2_000, 13), json!({ "config": { "partitions": 3 }, "concurrency": 3 })),
            "by": { "type": "branch", "inputs": ["in"], "routes": { "even": "raw.n % 2 == 0" }, "default": "odd" },
            "all": { "type": "fan_in", "inputs": ["by.even", "by.odd"] },
            "act": with(act, json!({ "concurrency": 4, "config": { "items": 50 } })),
            "out": with(sink(&out, "act"), json!({ "config": { "buffers": true, "batch_items": 64, "concurrency": 2 } })),
            "aside": sink(&aside, "act.dead_letter"),
        });
        let settings =
            json!({ "checkpoint": { "uncommitted_items": 200 }, "dead_letter_limit": { "share": 1 } });
        let report = run_graph(&document(json!({ "settings": settings, "nodes": nodes }))).await;
        assert_eq!(report.status, RunStatus::Success, "{round}: {report}");
        assert_eq!(written(&out), (0..2_000).filter(|n| n % 7 != 0).collect::<Vec<_>>());
        assert_eq!((MemoryStore::named(&aside).len(), settled_items(&report)), (286, 2_000));
    }
}
