//! Connections are let go of on every way out; secrets are named and never shown.

use std::time::Duration;

use nvisy_core::Secret;
use nvisy_core::connection::SecretResolver;
use nvisy_core::prelude::*;
use nvisy_core::testing::memory::Form;
use nvisy_runtime::engine::RunStatus;
use nvisy_runtime::graph::Graph;
use serde_json::{Value, json};

use crate::fixture::*;

const WHOLE: [&str; 3] = ["connect", "verify", "disconnect"];

fn relay(input: &str) -> Value {
    far_act("far", Form::Batch, input, |items: Vec<Item>, _| async move {
        Ok(items.into_iter().map(Outcome::emit).collect())
    })
}

fn over(connections: Value, source: Value, act: Value) -> Graph {
    let out = unique("out");
    document(
        json!({ "connections": connections, "nodes": { "in": source, "act": act, "out": sink(&out, "act") } }),
    )
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_opened_checked_and_let_go_of_once() {
    let a = unique("log");
    let report = run_graph(&over(json!({ "far": far(&a) }), numbers(5), relay("in"))).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(log(&a), WHOLE);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_let_go_of_when_a_node_fails() {
    for work in [|| Err(Error::new(ErrorKind::Permission, "no")), || panic!("no")] {
        let a = unique("log");
        let act = far_act("far", Form::Stateful, "in", move |_: Vec<Item>, _| async move { work() });
        let report = run_graph(&over(json!({ "far": far(&a) }), numbers(5), act)).await;
        assert_eq!(report.status, RunStatus::Failure, "{report}");
        assert_eq!(log(&a), WHOLE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_let_go_of_when_the_run_is_cancelled_or_dropped() {
    for cancels in [true, false] {
        let a = unique("log");
        let source = scripted(vec![vec![Step::Give(0..3), Step::Hang]]);
        let run = engine().start(&over(json!({ "far": far(&a) }), source, relay("in"))).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(log(&a), WHOLE[..2]);
        if cancels {
            run.cancel();
            assert_eq!(within(run.wait()).await.unwrap().status, RunStatus::Cancelled);
        } else {
            drop(run);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(log(&a), WHOLE);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_connection_is_let_go_of_when_the_second_one_fails() {
    for (fault, kind) in [
        ("connect", ErrorKind::Authentication),
        ("verify", ErrorKind::Permission),
        ("panic in verify", ErrorKind::Panic),
    ] {
        let [a, b] = ["a", "b"].map(unique);
        let connections =
            json!({ "far": far(&a), "further": with(far(&b), json!({ "config": { "fault": fault } })) });
        let graph = document(json!({
            "connections": connections,
            "nodes": {
                "in": numbers(5), "act": relay("in"),
                "more": with(relay("act"), json!({ "connection": "further" })),
                "out": sink(&unique("out"), "more"),
            },
        }));
        let error = engine().start(&graph).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert_eq!(error.context().connection.as_deref(), Some("further"));
        assert_eq!(log(&a), WHOLE);
        let expected: &[&str] = if fault == "connect" { &WHOLE[..1] } else { &WHOLE };
        assert_eq!(log(&b), expected, "{fault}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_let_go_of_when_a_node_cannot_be_opened() {
    let [a, script, out] = ["log", "script", "out"].map(unique);
    nvisy_core::testing::faulty::Script::named(&script).inject(
        nvisy_core::testing::faulty::Site::Open,
        1,
        nvisy_core::testing::faulty::FaultKind::Terminal,
    );
    let graph = document(json!({
        "connections": { "far": far(&a) },
        "nodes": {
            "in": numbers(5), "act": relay("in"),
            "out": { "type": "sink", "use": "faulty/sink", "inputs": ["act"],
                     "config": { "script": script, "sink": { "name": out } } },
        },
    }));
    let error = engine().start(&graph).await.unwrap_err();
    assert_eq!(error.context().node.as_deref(), Some("out"), "{error:?}");
    assert_eq!(log(&a), WHOLE);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_answers_fails_the_start() {
    for fault in ["hang in connect", "hang in verify"] {
        let a = unique("log");
        let connections = json!({ "far": with(far(&a), json!({ "config": { "fault": fault } })) });
        let error = within(engine().start(&over(connections, numbers(5), relay("in")))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
        assert_eq!(error.context().connection.as_deref(), Some("far"));
        assert!(error.message().contains("connection \"far\" did not answer within 30s"), "{error}");
        let connected = fault == "hang in verify";
        assert_eq!(log(&a), if connected { &WHOLE[..] } else { &WHOLE[..1] });
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_let_go_of_when_a_start_is_dropped_half_way() {
    let [a, b] = ["a", "b"].map(unique);
    let connections = json!({ "far": far(&a), "further": with(far(&b), json!({ "config": { "fault": "hang in connect" } })) });
    let graph = document(json!({
        "connections": connections,
        "nodes": {
            "in": numbers(5), "act": relay("in"),
            "more": with(relay("act"), json!({ "connection": "further" })),
            "out": sink(&unique("out"), "more"),
        },
    }));
    let engine = engine();
    assert!(tokio::time::timeout(Duration::from_secs(1), engine.run(&graph)).await.is_err());
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(log(&a), WHOLE);
}

#[tokio::test(start_paused = true)]
async fn letting_go_may_fail_hang_or_panic_and_keeps_none_of_the_others() {
    for fault in ["disconnect", "hang in disconnect", "panic in disconnect", "panic in drop"] {
        let [a, b] = ["a", "b"].map(unique);
        let bad = |log: &str| with(far(log), json!({ "config": { "fault": fault } }));
        for (first, second) in [(far(&a), bad(&b)), (bad(&b), far(&a))] {
            let graph = document(json!({
                "connections": { "far": first, "further": second },
                "nodes": {
                    "in": numbers(5), "act": relay("in"),
                    "more": with(relay("act"), json!({ "connection": "further" })),
                    "out": sink(&unique("out"), "more"),
                },
            }));
            let report = run_graph(&graph).await;
            assert_eq!(report.status, RunStatus::Success, "{fault}: {report}");
        }
        assert_eq!(log(&a), [WHOLE, WHOLE].concat());
        assert_eq!(log(&b), [WHOLE, WHOLE].concat());
    }
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_run_counts_while_it_is_made_ready() {
    let [log_of, script] = ["log", "script"].map(unique);
    nvisy_core::testing::faulty::Script::named(&script).inject(
        nvisy_core::testing::faulty::Site::Open,
        1,
        nvisy_core::testing::faulty::FaultKind::Hang,
    );
    let graph = document(json!({
        "settings": { "timeout": "5s" },
        "connections": { "far": far(&log_of) },
        "nodes": {
            "in": numbers(5), "act": relay("in"),
            "out": { "type": "sink", "use": "faulty/sink", "inputs": ["act"],
                     "config": { "script": script, "sink": { "name": unique("out") } } },
        },
    }));
    let error = within(engine().run(&graph)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert_eq!(error.message(), "the run took longer than its timeout of 5s");
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(log(&log_of), WHOLE);
}

const CANARY: &str = "canary-5f1c9a";

#[derive(Debug)]
struct Vault;

impl SecretResolver for Vault {
    fn resolve(&self, reference: &SecretRef) -> Result<Option<Secret>> {
        Ok((reference.name() == "KNOWN").then(|| Secret::new(CANARY)))
    }
}

#[tokio::test(start_paused = true)]
async fn every_secret_that_is_not_set_is_named_before_anything_is_opened() {
    let [a, b] = ["a", "b"].map(unique);
    let secret = |log: &str, name: &str| with(far(log), json!({ "config": { "token": { "secret": name } } }));
    let graph = document(json!({
        "connections": { "far": secret(&a, "FIRST"), "further": secret(&b, "SECOND") },
        "nodes": {
            "in": numbers(5), "act": relay("in"),
            "more": with(relay("act"), json!({ "connection": "further" })),
            "out": sink(&unique("out"), "more"),
        },
    }));
    let error = builder().secrets(Vault).build().unwrap().start(&graph).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.message().contains("\"FIRST\"") && error.message().contains("\"SECOND\""), "{error}");
    assert!(log(&a).is_empty() && log(&b).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_given_the_secrets_of_the_host_only_where_the_host_says_so() {
    // What is set in every environment, and what is set nowhere: nobody learns which is which.
    let refused = ["PATH", "NOT_SET_ANYWHERE"].map(|name| {
        let a = unique("log");
        let far = with(far(&a), json!({ "config": { "token": { "secret": name } } }));
        let graph = over(json!({ "far": far }), numbers(2), relay("in"));
        let found = builder().untrusted().build().unwrap().compile(&graph).unwrap_err();
        let [diagnostic] = found.as_slice() else { panic!("{found}") };
        assert_eq!((diagnostic.code, &*diagnostic.path), ("reach.secret", "connections.far.config.token"));
        assert!(builder().build().unwrap().compile(&graph).is_ok());
        assert!(log(&a).is_empty());
        diagnostic.to_string().replace(name, "NAME")
    });
    assert_eq!(refused[0], refused[1]);
    let given = builder().untrusted().secrets(Vault).build().unwrap();
    for (name, works) in [("KNOWN", true), ("PATH", false)] {
        let far = with(far(&unique("log")), json!({ "config": { "token": { "secret": name } } }));
        let graph = over(json!({ "far": far }), numbers(2), relay("in"));
        assert_eq!(within(given.run(&graph)).await.is_ok(), works, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_value_of_a_secret_is_never_shown() {
    for fault in ["", "verify", "connect", "disconnect"] {
        let a = unique("log");
        let far = with(far(&a), json!({ "config": { "token": { "secret": "KNOWN" }, "fault": fault } }));
        let act = far_act("far", Form::Batch, "in", |items: Vec<Item>, context| async move {
            Ok(items.into_iter().map(|_| Outcome::fail(Error::internal(format!("{context:?}")))).collect())
        });
        let graph = over(json!({ "far": far }), numbers(2), act);
        let engine = builder().secrets(Vault).build().unwrap();
        let mut shown = format!("{engine:?} {graph:?} {:?} {}", engine.compile(&graph), graph.to_json());
        match engine.start(&graph).await {
            Ok(run) => {
                shown += &format!("{run:?}");
                let report = within(run.wait()).await.unwrap();
                shown += &format!("{report} {report:?} {}", serde_json::to_string(&report).unwrap());
            }
            Err(error) => {
                shown += &format!("{error} {error:?} {}", serde_json::to_string(&error.to_report()).unwrap())
            }
        }
        assert!(!shown.contains(CANARY), "{fault}: {shown}");
        assert!(shown.contains("KNOWN"), "the name may be seen");
    }
}
