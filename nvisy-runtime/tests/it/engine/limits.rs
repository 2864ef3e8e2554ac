//! Time, rate and concurrency: what is bounded, and that it is shared.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nvisy_core::prelude::*;
use nvisy_core::testing::memory::{Form, MemoryStore};
use nvisy_runtime::engine::{NodeStatus, RunReport, RunStatus};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::fixture::*;

/// Counts how many calls run at once, each for a tenth of a second.
#[derive(Clone, Default)]
struct Gauge(Arc<(AtomicUsize, AtomicUsize)>);

impl Gauge {
    async fn call(self, items: Vec<Item>) -> Result<Vec<Outcome>> {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.0.0.fetch_sub(1, Ordering::SeqCst);
        Ok(items.into_iter().map(Outcome::emit).collect())
    }

    fn act(&self, form: Form, input: &str) -> Value {
        let gauge = self.clone();
        act(form, input, move |items, _| gauge.clone().call(items))
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_never_makes_more_calls_at_once_than_it_may_and_makes_so_many() {
    for form in [Form::Transform, Form::Batch] {
        for calls in ["none", "idempotent"] {
            // A batch action that calls nobody works in place: no such policy.
            if (form, calls) == (Form::Batch, "none") {
                continue;
            }
            let (gauge, out) = (Gauge::default(), unique("out"));
            let act = with(gauge.act(form, "in"), json!({ "concurrency": 3, "config": { "calls": calls } }));
            let report = run(json!({ "in": batches(24, 2), "act": act, "out": sink(&out, "act") })).await;
            assert_eq!(report.status, RunStatus::Success, "{report}");
            assert_eq!(gauge.most(), 3, "{form:?} {calls}");
        }
    }
}

/// What compiling, or else starting, says of an action with policies.
async fn refusal(act: Value) -> Option<String> {
    let graph = graph(json!({ "in": batches(4, 2), "act": act, "out": sink(&unique("out"), "act") }));
    if let Err(diagnostics) = engine().compile(&graph) {
        assert!(diagnostics.iter().all(|d| d.code == "policy.not_applicable"), "{diagnostics}");
        return Some(format!("compile: {}", diagnostics.as_slice()[0].path));
    }
    let error = within(engine().run(&graph)).await.err()?;
    assert_eq!((error.kind(), error.context().node.as_deref()), (ErrorKind::Configuration, Some("act")));
    Some(format!("start: {}", error.message().split('`').nth(1)?))
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_would_do_nothing_is_refused() {
    let work = |items: Vec<Item>, _| async move { Ok(items.into_iter().map(Outcome::emit).collect()) };
    let policies = [
        ("retry", json!({ "retry": { "max_attempts": 2 } })),
        ("concurrency", json!({ "concurrency": 2 })),
        ("rate_limit", json!({ "rate_limit": { "requests_per_minute": 60 } })),
        ("rate_limit.tokens_per_minute", json!({ "rate_limit": { "tokens_per_minute": 60 } })),
        ("batch.tokens", json!({ "batch": { "tokens": 60 } })),
    ];
    let mut said = String::new();
    for calls in ["none", "idempotent"] {
        for form in Form::ALL {
            let mut refused = Vec::new();
            for (name, policy) in &policies {
                let act = with(
                    act(form, "in", work),
                    with(policy.clone(), json!({ "config": { "calls": calls } })),
                );
                match refusal(act).await.as_deref().map(|said| said.split_once(": ").unwrap()) {
                    None => {}
                    Some((stage, what)) => {
                        assert!(what.ends_with(name) || name.starts_with("rate_limit"), "{name}: {what}");
                        refused.push(format!("{name} ({stage})"));
                    }
                }
            }
            said += &format!("{calls} {form:?}: {}\n", refused.join(", "));
        }
    }
    expect_test::expect![[r#"
        none Transform: rate_limit (compile), rate_limit.tokens_per_minute (compile), batch.tokens (start)
        none Batch: concurrency (start), rate_limit (compile), rate_limit.tokens_per_minute (compile)
        none Columnar: concurrency (start), rate_limit (compile), rate_limit.tokens_per_minute (compile), batch.tokens (start)
        none Stateful: retry (start), concurrency (start), rate_limit (compile), rate_limit.tokens_per_minute (compile), batch.tokens (start)
        none Pipe: retry (start), concurrency (start), rate_limit (compile), rate_limit.tokens_per_minute (compile), batch.tokens (start)
        idempotent Transform: rate_limit.tokens_per_minute (start), batch.tokens (start)
        idempotent Batch: 
        idempotent Columnar: rate_limit.tokens_per_minute (start), batch.tokens (start)
        idempotent Stateful: retry (start), concurrency (start), rate_limit.tokens_per_minute (start), batch.tokens (start)
        idempotent Pipe: retry (start), concurrency (start), rate_limit.tokens_per_minute (start), batch.tokens (start)
    "#]].assert_eq(&said);
    let filter = json!({ "type": "action", "use": "filter", "inputs": ["in"], "config": { "when": "true" } });
    let limited = with(filter.clone(), json!({ "rate_limit": { "requests_per_minute": 1 } }));
    assert_eq!(refusal(limited).await.as_deref(), Some("compile: nodes.act.rate_limit"));
    assert_eq!(refusal(filter).await, None);
}

#[tokio::test(start_paused = true)]
async fn no_time_is_too_long_to_wait() {
    let out = unique("out");
    let source = scripted(vec![vec![Step::Give(0..3), Step::Hang]]);
    let run = engine().start(&graph(json!({ "in": source, "out": sink(&out, "in") }))).await.unwrap();
    run.drain(Duration::MAX);
    assert_eq!(within(run.wait()).await.unwrap().status, RunStatus::Success);

    let nodes = |more: Value| json!({ "in": numbers(5), "out": with(sink(&out, "in"), more) });
    for ages in ["500000000000years", "11years"] {
        let policies = json!({ "timeout": ages, "deadline": ages, "batch": { "items": 2, "linger": ages },
            "retry": { "max_attempts": 2, "initial": ages, "max": ages } });
        let graph = document(json!({ "nodes": nodes(policies), "settings": { "timeout": ages } }));
        let diagnostics = engine().compile(&graph).unwrap_err();
        let mut paths: Vec<_> =
            diagnostics.iter().map(|d| (d.code, d.path.trim_start_matches("nodes.out."))).collect();
        paths.sort_unstable();
        let expected =
            ["batch.linger", "deadline", "retry.initial", "retry.max", "settings.timeout", "timeout"];
        assert_eq!(paths, expected.map(|path| ("policy.invalid", path)));
    }
    let ten =
        json!({ "timeout": "10years", "deadline": "10years", "batch": { "items": 2, "linger": "10years" } });
    let graph = document(json!({ "nodes": nodes(ten), "settings": { "timeout": "10years" } }));
    assert_eq!(run_graph(&graph).await.status, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn all_nodes_together_make_no_more_calls_than_the_run_may() {
    let (gauge, out) = (Gauge::default(), unique("out"));
    let eight = json!({ "concurrency": 8 });
    let report = run_graph(&document(json!({
        "settings": { "concurrency": 5 },
        "nodes": {
            "in": batches(60, 2),
            "a": with(gauge.act(Form::Transform, "in"), eight.clone()),
            "b": with(gauge.act(Form::Batch, "a"), eight),
            "out": sink(&out, "b"),
        },
    })))
    .await;
    assert_eq!((report.status, gauge.most()), (RunStatus::Success, 5), "{report}");
    assert!(!node(&report, "a").permit_wait.is_zero());
}

#[tokio::test(start_paused = true)]
async fn a_sink_writes_as_many_batches_at_once_as_it_may() {
    let gauge = Gauge::default();
    let writes = gauge.clone();
    let out = write("in", move |items| {
        let gauge = writes.clone();
        async move {
            gauge.call(Vec::new()).await?;
            Ok(WriteReport::applied(items.len()))
        }
    });
    let out = with(out, json!({ "config": { "items": 2, "concurrency": 3 } }));
    run(json!({ "in": batches(30, 2), "out": out })).await;
    assert_eq!(gauge.most(), 3);
}

#[tokio::test(start_paused = true)]
async fn permits_are_not_held_while_a_node_waits_for_room() {
    // More nodes than permits, and more items than an edge holds.
    let out = unique("out");
    let mut nodes = json!({ "in": with(batches(12_000, 1_000), json!({ "batch": { "items": 1_000 } })) });
    let mut input = "in".to_owned();
    for i in 0..30 {
        let name = format!("n{i:02}");
        let form = if i % 2 == 0 { Form::Batch } else { Form::Columnar };
        nodes[&name] = act(form, &input, |items: Vec<Item>, _| async move {
            tokio::task::yield_now().await;
            Ok(items.into_iter().map(Outcome::emit).collect())
        });
        input = name;
    }
    nodes["out"] = sink(&out, &input);
    let report = run_graph(&document(json!({ "settings": { "concurrency": 1 }, "nodes": nodes }))).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(MemoryStore::named(&out).len(), 12_000);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_room_leaves_its_permit_to_those_who_make_room() {
    for form in [Form::Transform, Form::Batch, Form::Columnar] {
        // The one permit is all that there is, and the sink, which is slow, needs it to go on.
        let slow = with(
            write("act", |items| async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(WriteReport::applied(items.len()))
            }),
            json!({ "config": { "items": 1_000 } }),
        );
        // A call makes more than an edge holds, which the sink takes away write by write.
        let ten = |item: Item| {
            let raw = |i| nvisy_core::primitive::raw::Raw::Json(json!({ "n": i })).into_payload();
            Outcome::expand(&item, "ten", (0..10).map(raw))
        };
        let act =
            act(
                form,
                "in",
                move |items: Vec<Item>, _| async move { Ok(items.into_iter().map(ten).collect()) },
            );
        let source = scripted(vec![(0..6).map(|i| Step::Give(i * 1_000..(i + 1) * 1_000)).collect()]);
        let report = run_graph(&document(json!({
            "settings": { "concurrency": 1 },
            "nodes": { "in": source, "act": act, "out": slow },
        })))
        .await;
        assert_eq!((report.status, settled_items(&report)), (RunStatus::Success, 6_000), "{form:?} {report}");
    }
}

#[tokio::test(start_paused = true)]
async fn back_pressure_does_not_look_like_a_slow_call() {
    // Calls have a second each, and what comes after them is far slower.
    let slow = with(
        write("act", |items| async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(WriteReport::applied(items.len()))
        }),
        json!({ "config": { "items": 4 } }),
    );
    let work = |items: Vec<Item>, _| async move {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(items.into_iter().map(Outcome::emit).collect())
    };
    for form in [Form::Transform, Form::Batch] {
        let act = with(act(form, "in", work), json!({ "timeout": "1s", "retry": { "max_attempts": 1 } }));
        // The last partition waits a little, so that it is on its way while the others wait for room.
        let giving = |p: u64| {
            (0..4)
                .flat_map(|i| {
                    vec![Step::Sleep(Duration::from_millis(10)); 3]
                        .into_iter()
                        .chain([Step::Give(p * 100 + i * 4..p * 100 + i * 4 + 4)])
                })
                .collect::<Vec<_>>()
        };
        let source = with(
            scripted((0..4).map(giving).collect()),
            json!({ "concurrency": 4, "timeout": "1s", "retry": { "max_attempts": 1 } }),
        );
        let report = run(json!({ "in": source, "act": act, "out": slow.clone() })).await;
        assert_eq!(report.status, RunStatus::Success, "{form:?} {report}");
        assert_eq!(settled_items(&report), 64);
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_waits_for_room_does_not_time_out() {
    // One huge batch fills the edge, so that sending the next one waits while others are read.
    let slow = with(
        write("in", |items| async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(WriteReport::applied(items.len()))
        }),
        json!({ "config": { "items": 5_000 } }),
    );
    let giving = |p: u64| {
        let pause = || [Step::Sleep(Duration::from_millis(10)), Step::Sleep(Duration::from_millis(10))];
        (0..3)
            .flat_map(|i| {
                pause().into_iter().chain([Step::Give((p * 10 + i) * 5_000..(p * 10 + i + 1) * 5_000)])
            })
            .collect::<Vec<_>>()
    };
    let source = with(
        scripted((0..4).map(giving).collect()),
        json!({ "concurrency": 4, "timeout": "1s", "retry": { "max_attempts": 1 } }),
    );
    let report = run(json!({ "in": source, "out": slow })).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(settled_items(&report), 60_000);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_for_each_attempt() {
    let out = unique("out");
    let calls = Arc::new(AtomicUsize::new(0));
    let counts = calls.clone();
    let work = move |items: Vec<Item>, _| {
        let first = counts.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(1_900)).await;
            Ok(items.into_iter().map(Outcome::emit).collect())
        }
    };
    let act = with(act(Form::Batch, "in", work), json!({ "timeout": "2s" }));
    let report = run(json!({ "in": numbers(4), "act": act, "out": sink(&out, "act") })).await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert!(
        (Duration::from_millis(3_900)..Duration::from_millis(4_500)).contains(&report.duration),
        "{report}"
    );
    let act = node(&report, "act");
    assert_eq!((act.emitted_from, act.emitted, act.failed_calls), (4, 4, 1), "what timed out counts once");
    assert_eq!(written(&out), all(4));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_returns_fails_its_items_when_it_has_a_timeout() {
    for form in Form::ALL {
        let [out, aside] = ["out", "aside"].map(unique);
        let work = |items: Vec<Item>, _| async move {
            if items.iter().any(|item| n(item) == 3) {
                std::future::pending::<()>().await;
            }
            Ok(items.into_iter().map(Outcome::emit).collect())
        };
        let mut act = with(act(form, "in", work), json!({ "timeout": "1s" }));
        if !matches!(form, Form::Stateful | Form::Pipe) {
            act["retry"] = json!({ "max_attempts": 2 });
        }
        let report = run(json!({
            "in": batches(6, 2), "act": act, "out": sink(&out, "act"), "aside": sink(&aside, "act.dead_letter"),
        }))
        .await;

        match form {
            Form::Transform => assert_eq!(written(&out), [0, 1, 2, 4, 5], "{report}"),
            Form::Batch | Form::Columnar | Form::Pipe => assert_eq!(written(&out), [0, 1, 4, 5], "{report}"),
            // Its memory may be half changed: it cannot go on.
            Form::Stateful => {
                assert_eq!(node(&report, "act").status, NodeStatus::Failed, "{report}");
                assert_eq!((written(&out), settled_items(&report)), (vec![0, 1], 2));
                continue;
            }
        }
        assert_eq!(report.status, RunStatus::Success, "{form:?} {report}");
        assert_eq!(settled_items(&report), 6);
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_says_nothing_is_read_again_after_its_timeout() {
    let out = unique("out");
    let source = scripted(vec![vec![Step::Give(0..2), Step::Hang]]);
    let source = with(
        source,
        json!({ "timeout": "3s", "retry": { "max_attempts": 2, "initial": "1s", "jitter": false } }),
    );
    let report = run(json!({ "in": source, "out": sink(&out, "in") })).await;

    assert_eq!(report.status, RunStatus::PartialFailure, "{report}");
    assert_eq!(node(&report, "in").failure.as_ref().unwrap().tag, "connector.timeout");
    assert_eq!((written(&out), settled_items(&report)), (all(2), 2));
    assert!((7.0..7.5).contains(&report.duration.as_secs_f64()), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_node_has_a_deadline() {
    let [out, other] = ["out", "other"].map(unique);
    let slow = act(Form::Batch, "copies", |items: Vec<Item>, _| async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(items.into_iter().map(Outcome::emit).collect())
    });
    let slow = with(slow, json!({ "deadline": "5s", "concurrency": 1 }));
    let report = run(json!({
        "in": batches(10, 1), "copies": { "type": "fan_out", "inputs": ["in"] },
        "slow": slow, "out": sink(&out, "slow"), "other": sink(&other, "copies"),
    }))
    .await;

    assert_eq!(report.status, RunStatus::PartialFailure, "{report}");
    assert_eq!(node(&report, "slow").failure.as_ref().unwrap().tag, "connector.timeout");
    assert_eq!(node(&report, "slow").emitted_from + node(&report, "slow").failed, 10);
    assert_eq!(written(&other), all(10));
    assert!(settled_items(&report) <= 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_has_a_timeout() {
    let out = unique("out");
    let source = scripted(vec![vec![Step::Give(0..2), Step::Hang]]);
    let report = run_graph(&document(json!({
        "settings": { "timeout": "30s" }, "nodes": { "in": source, "out": sink(&out, "in") },
    })))
    .await;

    assert_eq!(report.status, RunStatus::Failure, "{report}");
    assert_eq!(report.duration.as_secs(), 30);
    let failure = report.failure.as_ref().unwrap();
    assert_eq!((failure.kind, &*failure.tag), (ErrorKind::Timeout, "connector.timeout"), "{report}");
    assert!(report.to_string().contains("the run: failed: the run took longer than its timeout of 30s"));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["duration"], "30s");
    assert_eq!(serde_json::from_value::<RunReport>(json).unwrap().duration.as_secs(), 30);
}

fn asking(connection: &str, input: &str) -> Value {
    let work = |items: Vec<Item>, _| async move { Ok(items.into_iter().map(Outcome::emit).collect()) };
    with(far_act(connection, Form::Transform, input, work), json!({ "concurrency": 16 }))
}

#[tokio::test(start_paused = true)]
async fn two_nodes_of_a_connection_share_its_rate() {
    let [log, out] = ["log", "out"].map(unique);
    let report = run_graph(&document(json!({
        "connections": { "far": with(far(&log), json!({ "rate_limit": { "requests_per_minute": 120 } })) },
        "nodes": { "in": numbers(60), "a": asking("far", "in"), "b": asking("far", "a"), "out": sink(&out, "b") },
    })))
    .await;

    // 120 requests at two a second.
    assert!((58.0..61.0).contains(&report.duration.as_secs_f64()), "{report}");
    assert!(!node(&report, "a").rate_limit_wait.is_zero());
}

#[tokio::test(start_paused = true)]
async fn two_runs_of_an_engine_share_the_rate_of_a_connection_that_is_the_same() {
    let [log, out] = ["log", "out"].map(unique);
    let graph = document(json!({
        "connections": { "far": with(far(&log), json!({ "rate_limit": { "requests_per_minute": 120 } })) },
        "nodes": { "in": numbers(60), "a": asking("far", "in"), "out": sink(&out, "a") },
    }));
    let engine = engine();
    let began = Instant::now();
    let (one, two) = tokio::join!(run_on(&engine, &graph), run_on(&engine, &graph));
    assert!(one.is_success() && two.is_success());
    assert!((58.0..61.0).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_node_may_have_a_rate_of_its_own() {
    let out = unique("out");
    let work = |items: Vec<Item>, _| async move { Ok(items.into_iter().map(Outcome::emit).collect()) };
    let act = with(act(Form::Transform, "in", work), json!({ "rate_limit": { "requests_per_minute": 60 } }));
    let report = run(json!({ "in": numbers(30), "act": act, "out": sink(&out, "act") })).await;
    assert!((28.0..31.0).contains(&report.duration.as_secs_f64()), "{report}");
}

#[tokio::test(start_paused = true)]
async fn tokens_a_minute_delay_batches_and_split_none() {
    let [log, out] = ["log", "out"].map(unique);
    let work = |items: Vec<Item>, _| async move { Ok(items.into_iter().map(Outcome::emit).collect()) };
    // Items weigh their numbers: 45 tokens in three batches, the last of them 24.
    let act = with(far_act("far", Form::Batch, "in", work), json!({ "concurrency": 1 }));
    let report = run_graph(&document(json!({
        "connections": { "far": with(far(&log), json!({ "rate_limit": { "tokens_per_minute": 60 } })) },
        "nodes": { "in": batches(10, 4), "act": act, "out": sink(&out, "act") },
    })))
    .await;

    assert_eq!(node(&report, "act").calls, 3, "{report}");
    // 0+1+2+3 and 4+5+6+7 tokens are owed before the last batch goes, at one a second.
    assert!((26.0..29.0).contains(&report.duration.as_secs_f64()), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_ladder_of_copies_behind_dead_letters_starts_at_once() {
    let letters = unique("letters");
    let mut nodes = json!({ "in": numbers(3), "out": sink(&unique("out"), "in") });
    let mut from = "in.dead_letter".to_owned();
    // As many ways lead down as there are atoms in the world.
    for level in 0..300 {
        let [copies, left, right, both] =
            ["copies", "left", "right", "both"].map(|name| format!("{name}{level}"));
        nodes[&copies] = json!({ "type": "fan_out", "inputs": [from] });
        for side in [&left, &right] {
            nodes[side] =
                json!({ "type": "action", "use": "batch", "inputs": [copies], "config": { "items": 1 } });
        }
        nodes[&both] = json!({ "type": "fan_in", "inputs": [left, right] });
        from = both;
    }
    nodes["letters"] = sink(&letters, &from);
    assert!(run(nodes).await.is_success());
}
