//! How batches are cut, gathered, and let go of.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nvisy_core::prelude::*;
use nvisy_core::testing::memory::{Form, MemoryStore};
use nvisy_runtime::engine::RunStatus;
use serde_json::{Value, json};

use crate::fixture::*;

#[derive(Clone, Default)]
struct Sizes(Arc<Mutex<Vec<Vec<u64>>>>);

impl Sizes {
    fn act(&self, input: &str) -> Value {
        let sizes = self.clone();
        act(Form::Batch, input, move |items: Vec<Item>, _| {
            sizes.0.lock().unwrap().push(items.iter().map(n).collect());
            async move { Ok(items.into_iter().map(Outcome::emit).collect()) }
        })
    }

    fn get(&self) -> Vec<usize> {
        self.0.lock().unwrap().iter().map(Vec::len).collect()
    }
}

fn one_call(act: Value) -> Value {
    with(act, json!({ "concurrency": 1 }))
}

#[tokio::test(start_paused = true)]
async fn batches_are_cut_to_what_an_action_finds_best() {
    let (sizes, out) = (Sizes::default(), unique("out"));
    let act = one_call(with(sizes.act("in"), json!({ "config": { "items": 4 } })));
    let report = run(json!({ "in": batches(25, 10), "act": act, "out": sink(&out, "act") })).await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert!(sizes.get().iter().all(|size| *size <= 4), "{:?}", sizes.get());
    assert_eq!(written(&out), all(25));
    assert_eq!(settled_items(&report), 25);
}

#[tokio::test(start_paused = true)]
async fn small_batches_are_joined_up_to_what_is_best() {
    let (sizes, out) = (Sizes::default(), unique("out"));
    let act = one_call(with(sizes.act("in"), json!({ "config": { "items": 10 } })));
    let report = run(json!({ "in": batches(25, 1), "act": act, "out": sink(&out, "act") })).await;

    assert_eq!(sizes.get(), [10, 10, 5], "{report}");
    assert_eq!((written(&out), settled_items(&report)), (all(25), 25));
    assert_eq!(MemoryStore::named(&out).writes().len(), 1, "the sink takes 1,024 at once");
}

#[tokio::test(start_paused = true)]
async fn the_users_size_is_the_tighter_one() {
    let (sizes, out) = (Sizes::default(), unique("out"));
    let act = one_call(with(sizes.act("in"), json!({ "config": { "items": 10 }, "batch": { "items": 3 } })));
    run(json!({ "in": batches(10, 10), "act": act, "out": sink(&out, "act") })).await;
    assert_eq!(sizes.get(), [3, 3, 3, 1]);
}

#[tokio::test(start_paused = true)]
async fn batches_are_cut_by_weight_in_tokens() {
    let (sizes, out) = (Sizes::default(), unique("out"));
    // Items weigh their numbers; one that is too heavy goes alone.
    let act = one_call(with(sizes.act("in"), json!({ "config": { "tokens": 10 } })));
    let report = run(json!({ "in": batches(13, 13), "act": act, "out": sink(&out, "act") })).await;

    let got = sizes.0.lock().unwrap().clone();
    assert_eq!(got[0], [0, 1, 2, 3, 4], "{report}");
    assert!(got.iter().all(|batch| batch.len() == 1 || batch.iter().sum::<u64>() <= 10), "{got:?}");
    assert_eq!(written(&out), all(13));
}

#[tokio::test(start_paused = true)]
async fn batches_are_cut_by_bytes() {
    let out = unique("out");
    let to = with(sink(&out, "in"), json!({ "batch": { "bytes": 300 } }));
    let items: Vec<_> = (0..10).map(|n| json!({ "n": n, "text": "x".repeat(100) })).collect();
    let source = json!({ "type": "source", "use": "memory/source", "config": { "items": items } });
    run(json!({ "in": source, "out": to })).await;

    let writes = MemoryStore::named(&out).writes();
    assert!(
        writes.len() >= 4 && writes.iter().all(|write| write.bytes <= 300 || write.ids.len() == 1),
        "{writes:?}"
    );
    assert_eq!(written(&out), all(10));
}

#[tokio::test(start_paused = true)]
async fn what_is_gathered_waits_no_longer_than_it_may() {
    let out = unique("out");
    let began = tokio::time::Instant::now();
    let at = Arc::new(Mutex::new(Vec::new()));
    let noted = at.clone();
    let act = act(Form::Batch, "in", move |items: Vec<Item>, _| {
        noted.lock().unwrap().push((began.elapsed().as_millis(), items.len()));
        async move { Ok(items.into_iter().map(Outcome::emit).collect()) }
    });
    let act = with(act, json!({ "batch": { "items": 100, "linger": "70ms" } }));
    // An item every twenty milliseconds: the source is never idle for long.
    let steps = (0..8).flat_map(|n| [Step::Give(n..n + 1), Step::Sleep(Duration::from_millis(20))]).collect();
    run(json!({ "in": scripted(vec![steps]), "act": act, "out": sink(&out, "act") })).await;

    assert_eq!(*at.lock().unwrap(), [(70, 4), (150, 4)]);
}

#[tokio::test(start_paused = true)]
async fn an_idle_source_lets_go_of_what_is_gathered() {
    let [out, log] = ["out", "log"].map(unique);
    let source =
        scripted(vec![vec![Step::Give(0..3), Step::Sleep(Duration::from_secs(60)), Step::Give(3..5)]]);
    let relay = json!({ "type": "action", "use": "memory/relay", "inputs": ["in"], "config": { "form": "stateful" } });
    let gathers = with(Sizes::default().act("relay"), json!({ "config": { "items": 100 } }));
    let graph = graph(json!({ "in": source, "relay": relay, "act": gathers, "out": sink(&out, "act") }));
    let engine = engine();
    let run = engine.start(&graph).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(written(&out), [0, 1, 2], "{log}: through two nodes that gather");
    let report = within(run.wait()).await.unwrap();
    assert_eq!(written(&out), all(5), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_gatherer_below_a_source_out_of_credit_does_not_deadlock() {
    // The batch is larger than all that may be on its way.
    let out = unique("out");
    let to = with(sink(&out, "in"), json!({ "config": { "batch_items": 60_000 } }));
    let report = run_graph(&document(json!({
        "settings": { "checkpoint": { "uncommitted_items": 70_000 } },
        "nodes": { "in": batches(150_000, 1_000), "out": to },
    })))
    .await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(MemoryStore::named(&out).len(), 150_000);
    assert!(MemoryStore::named(&out).writes().len() > 2);
}

#[tokio::test(start_paused = true)]
async fn a_span_smaller_than_a_gathered_batch_does_not_deadlock() {
    for buffers in [false, true] {
        let out = unique("out");
        let to = with(sink(&out, "act"), json!({ "config": { "batch_items": 50, "buffers": buffers } }));
        let gathers = with(Sizes::default().act("in"), json!({ "config": { "items": 64 } }));
        let report = run_graph(&document(json!({
            "settings": { "checkpoint": { "uncommitted_items": 64 } },
            "nodes": { "in": batches(1_000, 7), "act": gathers, "out": to },
        })))
        .await;
        assert_eq!(report.status, RunStatus::Success, "{report}");
        assert_eq!((written(&out), settled_items(&report)), (all(1_000), 1_000));
    }
}

/// Refuses calls of more than so many items as too large.
fn tight(
    most: usize,
    sizes: &Sizes,
) -> impl Fn(Vec<Item>, Context) -> futures::future::Ready<Result<Vec<Outcome>>> + Send + Sync + 'static {
    let sizes = sizes.clone();
    move |items, _| {
        sizes.0.lock().unwrap().push(items.iter().map(n).collect());
        futures::future::ready(if items.len() > most {
            Err(Error::new(ErrorKind::TooLarge, "too many"))
        } else {
            Ok(items.into_iter().map(Outcome::emit).collect())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_too_large_is_halved_and_the_next_ones_are_smaller() {
    let (sizes, out) = (Sizes::default(), unique("out"));
    let act = one_call(with(act(Form::Batch, "in", tight(5, &sizes)), json!({ "config": { "items": 32 } })));
    let report = run(json!({ "in": batches(320, 1), "act": act, "out": sink(&out, "act") })).await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(written(&out), all(320));
    assert_eq!(sizes.get()[..4], [32, 16, 8, 4]);
    let refused = sizes.get().iter().filter(|size| **size > 5).count();
    assert!((4..30).contains(&refused), "it learns, and tries a little more now and then: {refused}");
    let largest = sizes.get()[10..].iter().copied().max().unwrap();
    assert!(largest <= 8, "{largest}");
    assert_eq!(node(&report, "act").retries, 0, "a smaller call is another call");
    assert_eq!(settled_items(&report), 320);
}

#[tokio::test(start_paused = true)]
async fn one_item_that_is_too_large_fails_alone() {
    let [out, aside] = ["out", "aside"].map(unique);
    let work = |items: Vec<Item>, _| async move {
        if items.iter().any(|item| n(item) == 5) {
            return Err(Error::new(ErrorKind::TooLarge, "five is too much"));
        }
        Ok(items.into_iter().map(Outcome::emit).collect())
    };
    let report = run(json!({
        "in": batches(8, 8), "act": act(Form::Batch, "in", work),
        "out": sink(&out, "act"), "aside": sink(&aside, "act.dead_letter"),
    }))
    .await;
    assert_eq!(written(&out), [0, 1, 2, 3, 4, 6, 7], "{report}");
    assert_eq!(MemoryStore::named(&aside).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_too_large_is_halved_too() {
    let store = unique("out");
    let stored = Arc::new(Mutex::new(Vec::new()));
    let stores = stored.clone();
    let out = write("in", move |items| {
        let result = if items.len() > 3 {
            Err(Error::new(ErrorKind::TooLarge, store.clone()))
        } else {
            stores.lock().unwrap().extend(items.iter().map(number));
            Ok(WriteReport::applied(items.len()))
        };
        async move { result }
    });
    let report =
        run(json!({ "in": batches(20, 20), "out": with(out, json!({ "config": { "appends": true } })) }))
            .await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(*stored.lock().unwrap(), all(20), "in order, each once");
}

#[tokio::test(start_paused = true)]
async fn rows_stay_rows_from_end_to_end() {
    let out = unique("out");
    let items: Vec<_> = (0..10).map(|n| json!({ "n": n })).collect();
    let source = json!({ "type": "source", "use": "memory/source", "config": { "items": items, "kind": "row", "batch_items": 3 } });
    let relay = json!({ "type": "action", "use": "memory/relay", "inputs": ["in"], "config": { "form": "columnar" } });
    run(json!({ "in": source, "relay": relay, "out": sink(&out, "relay") })).await;
    let writes = MemoryStore::named(&out).writes();
    assert!(writes.len() == 1 && writes[0].rows, "{writes:?}");
    assert_eq!(written(&out), all(10));
}
