//! What is tried again, when, and how often.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nvisy_core::DeadLetter;
use nvisy_core::prelude::*;
use nvisy_core::testing::memory::{Form, MemoryStore};
use nvisy_runtime::engine::RunStatus;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::fixture::*;

fn transient() -> Error {
    Error::new(ErrorKind::Connection, "gone")
}

/// When calls were made, in milliseconds of virtual time since the first.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<Instant>>>);

impl Calls {
    /// Notes a call and returns how many there were before.
    fn note(&self) -> usize {
        let mut calls = self.0.lock().unwrap();
        calls.push(Instant::now());
        calls.len() - 1
    }

    fn at(&self) -> Vec<u128> {
        let calls = self.0.lock().unwrap();
        calls.iter().map(|at| (*at - calls[0]).as_millis()).collect()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// An action that fails so many times with an error.
fn flaky(form: Form, times: usize, error: Error, policies: Value) -> (Value, Calls) {
    let calls = Calls::default();
    let noted = calls.clone();
    let work = move |items: Vec<Item>, _| {
        let failed = noted.note() < times;
        let error = error.clone();
        async move { if failed { Err(error) } else { Ok(items.into_iter().map(Outcome::emit).collect()) } }
    };
    (with(act(form, "in", work), policies), calls)
}

async fn run_flaky(act: Value) -> (nvisy_runtime::engine::RunReport, String) {
    let out = unique("out");
    let report = run(json!({ "in": numbers(1), "act": act, "out": sink(&out, "act") })).await;
    (report, out)
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_is_retried_with_growing_delay() {
    for form in [Form::Transform, Form::Batch, Form::Columnar] {
        let retry =
            json!({ "retry": { "max_attempts": 5, "initial": "100ms", "max": "350ms", "jitter": false } });
        let (act, calls) = flaky(form, 4, transient(), retry);
        let (report, out) = run_flaky(act).await;

        assert_eq!(report.status, RunStatus::Success, "{report}");
        assert_eq!(written(&out), [0]);
        assert_eq!(calls.at(), [0, 100, 300, 650, 1_000]);
        let act = node(&report, "act");
        assert_eq!((act.calls, act.failed_calls, act.retries), (5, 4, 4));
    }
}

#[tokio::test(start_paused = true)]
async fn a_fixed_delay_stays() {
    let retry =
        json!({ "retry": { "max_attempts": 4, "backoff": "fixed", "initial": "70ms", "jitter": false } });
    let (act, calls) = flaky(Form::Batch, 3, transient(), retry);
    run_flaky(act).await;
    assert_eq!(calls.at(), [0, 70, 140, 210]);
}

#[tokio::test(start_paused = true)]
async fn jitter_stays_within_the_schedule() {
    for _ in 0..20 {
        let (act, calls) =
            flaky(Form::Batch, 2, transient(), json!({ "retry": { "max_attempts": 3, "initial": "100ms" } }));
        run_flaky(act).await;
        let at = calls.at();
        // The timer rounds up to a millisecond.
        assert!(at[1] <= 101 && at[2] - at[1] <= 201, "{at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_other_side_asks_for_wins_over_the_schedule() {
    let error = Error::new(ErrorKind::RateLimited, "slow down").with_retry_after(Duration::from_secs(45));
    let (act, calls) =
        flaky(Form::Transform, 1, error, json!({ "retry": { "max_attempts": 2, "max": "1s" } }));
    let (report, _) = run_flaky(act).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(calls.at(), [0, 45_000]);
}

#[tokio::test(start_paused = true)]
async fn attempts_end_and_the_letter_counts_them() {
    for form in [Form::Transform, Form::Batch] {
        let [out, aside] = ["out", "aside"].map(unique);
        let (act, calls) = flaky(form, 99, transient(), json!({ "retry": { "max_attempts": 4 } }));
        let report = run(json!({
            "in": numbers(1), "act": act, "out": sink(&out, "act"), "aside": sink(&aside, "act.dead_letter"),
        }))
        .await;

        assert_eq!(calls.len(), 4, "{form:?} {report}");
        let letter = DeadLetter::from_primitive(&MemoryStore::named(&aside).items()[0]).unwrap();
        assert_eq!((letter.attempts, letter.error.retry_class), (4, RetryClass::Exhausted), "{form:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_permanent_or_not_allowed_is_not_tried_again() {
    let permanent = Error::new(ErrorKind::Permission, "no");
    let (act, calls) = flaky(Form::Batch, 1, permanent.clone(), json!({ "retry": { "max_attempts": 5 } }));
    let (report, _) = run_flaky(act).await;
    assert_eq!((calls.len(), report.status), (1, RunStatus::Failure));

    let only = json!({ "retry": { "max_attempts": 5, "on": ["rate_limited"] } });
    for form in [Form::Transform, Form::Batch] {
        let (act, calls) = flaky(form, 1, transient(), only.clone());
        let (report, _) = run_flaky(act).await;
        assert_eq!((calls.len(), report.status), (1, RunStatus::Failure), "{form:?}");
    }

    let also = json!({ "retry": { "max_attempts": 5, "on": ["permission"] } });
    let (act, calls) = flaky(Form::Batch, 1, permanent, also);
    let (report, _) = run_flaky(act).await;
    assert_eq!((calls.len(), report.status), (2, RunStatus::Success));
}

#[tokio::test(start_paused = true)]
async fn only_the_bad_half_of_a_batch_is_tried_again() {
    let out = unique("out");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = seen.clone();
    let work = move |items: Vec<Item>, context: Context| {
        sees.lock().unwrap().push(items.iter().map(n).collect::<Vec<_>>());
        async move {
            let outcome = |item: Item| match n(&item) % 2 == 1 && context.attempt() == 1 {
                true => Outcome::fail(transient()),
                false => Outcome::emit(item),
            };
            Ok(items.into_iter().map(outcome).collect())
        }
    };
    let report =
        run(json!({ "in": batches(6, 6), "act": act(Form::Batch, "in", work), "out": sink(&out, "act") }))
            .await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(*seen.lock().unwrap(), [vec![0, 1, 2, 3, 4, 5], vec![1, 3, 5]]);
    let order: Vec<_> =
        MemoryStore::named(&out).plain().iter().map(|item| item["n"].as_u64().unwrap()).collect();
    assert_eq!(order, all(6), "the order is that of the inputs");
    assert_eq!(settled_items(&report), 6);
}

#[tokio::test(start_paused = true)]
async fn a_sink_writes_only_what_is_not_written_yet_again() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sees = seen.clone();
    let sink = write("in", move |items| {
        let first = sees.lock().unwrap().is_empty();
        sees.lock().unwrap().push(items.iter().map(number).collect::<Vec<_>>());
        let later = WriteStatus::Retryable(transient());
        let report = WriteReport::applied(items.len());
        async move { Ok(if first { report.with(1, later.clone()).with(3, later) } else { report }) }
    });
    let sink = with(sink, json!({ "config": { "appends": true } }));
    let report = run(json!({ "in": batches(5, 5), "out": sink })).await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(*seen.lock().unwrap(), [vec![0, 1, 2, 3, 4], vec![1, 3]]);
    assert_eq!(node(&report, "out").emitted_from, 5);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_got_lost_is_asked_for_again_only_where_that_does_no_harm() {
    for (appends, kind) in [
        (false, ErrorKind::Ambiguous),
        (true, ErrorKind::Ambiguous),
        (false, ErrorKind::Timeout),
        (true, ErrorKind::Timeout),
    ] {
        for whole in [true, false] {
            let calls = Calls::default();
            let noted = calls.clone();
            let out = write("in", move |items| {
                let first = noted.note() == 0;
                async move {
                    match (first, whole) {
                        (true, true) => Err(Error::new(kind, "who knows")),
                        (true, false) => {
                            let status = WriteStatus::Ambiguous(Error::new(kind, "who knows"));
                            Ok(WriteReport::applied(items.len()).with(0, status))
                        }
                        _ => Ok(WriteReport::applied(items.len())),
                    }
                }
            });
            let out = with(out, json!({ "config": { "appends": appends } }));
            let report = run(json!({ "in": numbers(2), "out": out })).await;
            // A sink that says that it timed out wrote nothing: only `ambiguous` leaves it open.
            let lost = appends && (kind == ErrorKind::Ambiguous || !whole);
            let expected = if lost { (1, RunStatus::Failure) } else { (2, RunStatus::Success) };
            assert_eq!((calls.len(), report.status), expected, "appends {appends} {kind} whole {whole}");
            assert_eq!(settled_items(&report), if lost { 0 } else { 2 });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_broken_off_is_made_again_only_where_that_does_no_harm() {
    for appends in [false, true] {
        let aside = unique("aside");
        let calls = Calls::default();
        let noted = calls.clone();
        let out = write("in", move |items| {
            let first = noted.note() == 0;
            async move {
                if first {
                    std::future::pending::<()>().await;
                }
                Ok(WriteReport::applied(items.len()))
            }
        });
        let out = with(out, json!({ "config": { "appends": appends }, "timeout": "1s" }));
        let nodes = json!({ "in": numbers(2), "out": out, "aside": sink(&aside, "out.dead_letter") });
        let report = run(nodes).await;

        assert_eq!(report.status, RunStatus::Success, "{report}");
        assert_eq!(calls.len(), if appends { 1 } else { 2 });
        let letters = MemoryStore::named(&aside).items();
        assert_eq!(letters.len(), if appends { 2 } else { 0 }, "{report}");
        for letter in letters {
            let error = DeadLetter::from_primitive(&letter).unwrap().error;
            assert_eq!(error.kind, ErrorKind::Ambiguous);
            assert!(error.message.contains("its timeout of 1s: nobody knows"), "{}", error.message);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_items_the_one_that_asks_for_the_longest_wait_is_heard() {
    for through in ["action", "sink"] {
        let calls = Calls::default();
        let noted = calls.clone();
        let later = |n: u64| {
            let error = Error::new(ErrorKind::RateLimited, "later");
            error.with_retry_after(Duration::from_secs([5, 90, 7][n as usize % 3]))
        };
        let nodes = if through == "action" {
            let work = move |items: Vec<Item>, _| {
                let first = noted.note() == 0;
                let outcome = |item: Item| match first {
                    true => Outcome::fail(later(n(&item))),
                    false => Outcome::emit(item),
                };
                let outcomes = items.into_iter().map(outcome).collect();
                async move { Ok(outcomes) }
            };
            json!({ "in": batches(3, 3), "act": act(Form::Batch, "in", work), "out": sink(&unique("out"), "act") })
        } else {
            let out = write("in", move |items| {
                let first = noted.note() == 0;
                let status = |item| match first {
                    true => WriteStatus::Retryable(later(number(item))),
                    false => WriteStatus::Applied,
                };
                let report = WriteReport::new(items.iter().map(status));
                async move { Ok(report) }
            });
            json!({ "in": batches(3, 3), "out": out })
        };
        let report = run(nodes).await;
        assert_eq!(report.status, RunStatus::Success, "{report}");
        assert_eq!(calls.at(), [0, 90_000], "{through}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_reads_on_where_it_was_and_each_batch_begins_anew() {
    let out = unique("out");
    let steps = (0..5).flat_map(|i| [Step::fail(2, transient()), Step::Give(i * 2..i * 2 + 2)]).collect();
    let report = run(json!({ "in": scripted(vec![steps]), "out": sink(&out, "in") })).await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(written(&out), all(10));
    assert_eq!(node(&report, "in").received, 10, "nothing is read twice");
    assert_eq!(node(&report, "in").retries, 10);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_waits_for_its_next_attempt_does_not_hold_the_others_up() {
    let out = unique("out");
    let later = Error::new(ErrorKind::RateLimited, "later").with_retry_after(Duration::from_secs(100));
    let began = Instant::now();
    let done = Arc::new(Mutex::new(None));
    let when = done.clone();
    let act = act(Form::Batch, "in", move |items: Vec<Item>, _| {
        if items.iter().any(|item| n(item) == 15) {
            *when.lock().unwrap() = Some(began.elapsed());
        }
        async move { Ok(items.into_iter().map(Outcome::emit).collect()) }
    });
    let source = scripted(vec![
        vec![Step::Give(0..2), Step::fail(1, later), Step::Give(2..4)],
        (0..3).map(|i| Step::Give(10 + i * 2..12 + i * 2)).collect(),
    ]);
    let source = with(source, json!({ "concurrency": 2 }));
    let report = run(json!({ "in": source, "act": act, "out": sink(&out, "act") })).await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert!(done.lock().unwrap().unwrap() < Duration::from_secs(1), "{done:?}");
}

#[tokio::test(start_paused = true)]
async fn a_retry_budget_keeps_a_sick_connection_from_being_stormed() {
    let log = unique("log");
    let out = unique("out");
    let calls = Calls::default();
    let noted = calls.clone();
    // The rate is said to be exceeded, which the breaker takes for no illness.
    let work = move |_: Vec<Item>, _| {
        noted.note();
        async { Err::<Vec<Outcome>, _>(Error::new(ErrorKind::RateLimited, "full")) }
    };
    let act = with(
        far_act("far", Form::Transform, "in", work),
        json!({ "concurrency": 64, "retry": { "max_attempts": 3, "backoff": "fixed", "initial": "1ms", "jitter": false } }),
    );
    let report = run_graph(&document(json!({
        "connections": { "far": far(&log) },
        "settings": { "concurrency": 64 },
        "nodes": { "in": numbers(200), "act": with(act, json!({ "on_error": "drop" })), "out": sink(&out, "act") },
    })))
    .await;

    assert_eq!(node(&report, "act").retries, 400, "{report}");
    let took = report.duration.as_secs_f64();
    // 400 retries; 600 calls earn 120 of them, 10 are there at the start, the rest come at 10 a second.
    assert!((20.0..45.0).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_breaker_gives_a_sick_connection_rest_and_closes_when_it_is_well() {
    let [log, out] = ["log", "out"].map(unique);
    let calls = Calls::default();
    let noted = calls.clone();
    let began = Instant::now();
    let work = move |items: Vec<Item>, _| {
        noted.note();
        // Long enough that one probe fails: an item has three attempts, and may lose two.
        let sick = began.elapsed() < Duration::from_millis(2_500);
        async move { if sick { Err(transient()) } else { Ok(items.into_iter().map(Outcome::emit).collect()) } }
    };
    let act = with(far_act("far", Form::Transform, "in", work), json!({ "concurrency": 30 }));
    let report = run_graph(&document(json!({
        "settings": { "concurrency": 30 },
        "connections": { "far": far(&log) },
        "nodes": { "in": numbers(30), "act": act, "out": sink(&out, "act") },
    })))
    .await;

    let sick: Vec<_> = calls.at().into_iter().filter(|at| *at < 2_500).collect();
    assert_eq!(sick.len(), 21, "twenty calls open it, and then one finds out: {sick:?}");
    assert!(sick[20] >= 1_000, "{sick:?}");
    assert_eq!(written(&out), all(30), "what waits for the breaker loses no attempt: {report}");
    assert_eq!(node(&report, "act").retries, 21, "{report}");
    assert!(report.duration < Duration::from_secs(10), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_dropped_does_not_keep_the_breaker_shut() {
    let [log, out] = ["log", "out"].map(unique);
    let engine = engine();
    let sick = |input: &str| {
        with(
            far_act("far", Form::Transform, input, |_: Vec<Item>, _| async {
                Err::<Vec<Outcome>, _>(transient())
            }),
            json!({ "concurrency": 1, "on_error": "drop", "retry": { "max_attempts": 1 } }),
        )
    };
    // A run that keeps the connection's state alive, opens the breaker, and then waits.
    let holding = graph_with(
        &log,
        json!({
            "in": scripted(vec![vec![Step::Give(0..20), Step::Hang]]), "act": sick("in"), "out": sink(&out, "act"),
        }),
    );
    let held = engine.start(&holding).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    // Its first call is the probe, and waits for the rate limit or hangs until it is cancelled.
    let hanging = graph_with(
        &log,
        json!({
            "in": numbers(1),
            "act": far_act("far", Form::Transform, "in", |_: Vec<Item>, _| std::future::pending::<Result<Vec<Outcome>>>()),
            "out": sink(&out, "act"),
        }),
    );
    let probing = engine.start(&hanging).await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    drop(probing);
    tokio::time::sleep(Duration::from_millis(10)).await;
    let well = graph_with(
        &log,
        json!({
            "in": numbers(3),
            "act": far_act("far", Form::Transform, "in", |items: Vec<Item>, _| async move {
                Ok(items.into_iter().map(Outcome::emit).collect())
            }),
            "out": sink(&out, "act"),
        }),
    );
    let report = run_on(&engine, &well).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(written(&out), all(3));
    drop(held);
}

fn graph_with(log: &str, nodes: Value) -> nvisy_runtime::graph::Graph {
    document(json!({ "connections": { "far": far(log) }, "nodes": nodes }))
}
