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
async fn a_sink_behind_a_failed_node_shows_what_it_holds_back_not_at_all() {
    for buffers in [true, false] {
        let out = unique("out");
        let fails = each(Form::Batch, "in", |item| match n(&item) {
            3 => Err(Error::new(ErrorKind::Validation, "three")),
            _ => Ok(Outcome::emit(item)),
        });
        let to = with(sink(&out, "act"), json!({ "config": { "buffers": buffers } }));
        let report = run(json!({ "in": batches(8, 1), "act": fails, "out": to })).await;

        assert_eq!(report.status, RunStatus::Failure, "{report}");
        let (came, held) = if buffers { (vec![], 3) } else { (vec![0, 1, 2], 0) };
        assert_eq!((settled_items(&report), written(&out)), (came.len() as u64, came), "{report}");
        let to = node(&report, "out");
        assert_eq!((to.status, to.failed, to.emitted_from), (NodeStatus::Skipped, held, 3 - held));
        assert_eq!(MemoryStore::named(&out).tally().closes, u64::from(!buffers));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_behind_a_source_that_could_not_read_all_shows_what_it_holds_back_not_at_all() {
    for buffers in [true, false] {
        let out = unique("out");
        let source = scripted(vec![
            vec![Step::Give(0..3)],
            vec![Step::Give(10..12), Step::fail(9, Error::new(ErrorKind::NotFound, "gone"))],
        ]);
        let relay = each(Form::Batch, "in", |item| Ok(Outcome::emit(item)));
        let to = with(sink(&out, "act"), json!({ "config": { "buffers": buffers } }));
        let report = run(json!({ "in": source, "act": relay, "out": to })).await;

        let came = if buffers { vec![] } else { vec![0, 1, 2, 10, 11] };
        assert_eq!((settled_items(&report), written(&out)), (came.len() as u64, came), "{report}");
        let status = if buffers { RunStatus::Failure } else { RunStatus::PartialFailure };
        assert_eq!(report.status, status, "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_of_a_node_that_failed_later_are_kept() {
    let [out, aside] = ["out", "aside"].map(unique);
    let first = each(Form::Batch, "in", |item| match n(&item) {
        1 => Err(Error::new(ErrorKind::Validation, "one")),
        _ => Ok(Outcome::emit(item)),
    });
    let then = act(Form::Stateful, "act", |items: Vec<Item>, _| async move {
        match items.iter().any(|item| n(item) == 3) {
            true => Err(Error::new(ErrorKind::Validation, "three")),
            false => Ok(items.into_iter().map(Outcome::emit).collect()),
        }
    });
    let letters = with(sink(&aside, "x"), json!({ "inputs": [], "config": { "buffers": true } }));
    let report = run_graph(&document(json!({
        "settings": { "dead_letter": "aside" },
        "nodes": {
            "in": batches(8, 1), "act": first, "then": then, "out": sink(&out, "then"), "aside": letters,
        },
    })))
    .await;
    assert_eq!(report.status, RunStatus::Failure, "{report}");
    assert_eq!(node(&report, "aside").status, NodeStatus::Skipped, "{report}");
    assert_eq!(MemoryStore::named(&aside).len(), 1, "{report}");
}

#[tokio::test(start_paused = true)]
async fn one_item_that_waits_long_holds_reading_up_and_no_memory_grows() {
    let [out, other] = ["out", "other"].map(unique);
    let work = |items: Vec<Item>, context: Context| async move {
        if context.attempt() == 1 {
            let error = Error::new(ErrorKind::RateLimited, "later");
            return Err(error.with_retry_after(Duration::from_secs(60)));
        }
        Ok(items.into_iter().map(Outcome::emit).collect())
    };
    let source = scripted(vec![(0..100).map(|i| Step::Give(i * 1_000..(i + 1) * 1_000)).collect()]);
    let counting =
        |store: &str, input: &str| with(sink(store, input), json!({ "config": { "counts_only": true } }));
    let run = engine()
        .start(&graph(json!({
            "in": source,
            "by": { "type": "branch", "inputs": ["in"], "routes": { "first": "raw.n == 0" }, "default": "rest" },
            "act": act(Form::Batch, "by.first", work),
            "out": counting(&out, "act"), "other": counting(&other, "by.rest"),
        })))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let read = MemoryStore::named(&other).tally().written;
    assert!((60_000..=67_000).contains(&read), "reading stops at the span: {read}");
    let report = within(run.wait()).await.unwrap();
    assert_eq!((report.status, settled_items(&report)), (RunStatus::Success, 100_000), "{report}");
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
