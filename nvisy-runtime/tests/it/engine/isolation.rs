//! Code of the user's that misbehaves.

use nvisy_core::DeadLetter;
use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::testing::memory::{Form, MemoryStore};
use nvisy_runtime::engine::{NodeStatus, RunStatus};
use serde_json::json;

use crate::fixture::*;

#[tokio::test(start_paused = true)]
async fn a_panic_fails_the_item_that_it_is_about_and_no_other() {
    for form in [Form::Transform, Form::Batch, Form::Columnar] {
        for calls in ["none", "idempotent"] {
            let [out, aside] = ["out", "aside"].map(unique);
            let work = |items: Vec<Item>, _| async move {
                assert!(!items.iter().any(|item| [3, 4, 9].contains(&n(item))), "not this one");
                Ok(items.into_iter().map(Outcome::emit).collect())
            };
            let act = with(act(form, "in", work), json!({ "config": { "calls": calls } }));
            let report = run(json!({
                "in": batches(16, 8), "act": act, "out": sink(&out, "act"), "aside": sink(&aside, "act.dead_letter"),
            }))
            .await;

            assert_eq!(report.status, RunStatus::Success, "{form:?}: {report}");
            assert_eq!(written(&out), [0, 1, 2, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15], "{form:?}");
            let letters = MemoryStore::named(&aside).items();
            let letters: Vec<_> =
                letters.iter().map(|item| DeadLetter::from_primitive(item).unwrap()).collect();
            assert_eq!(letters.iter().map(|letter| number(&letter.primitive)).collect::<Vec<_>>(), [3, 4, 9]);
            assert!(letters.iter().all(|letter| letter.error.tag == "code.panic"));
            assert!(letters[0].error.message.contains("not this one"));
            assert_eq!(settled_items(&report), 16);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_function_that_panics_fails_the_item() {
    let [out, aside] = ["out", "aside"].map(unique);
    let engine = builder()
        .function("picky", |item: Item<Raw>| {
            assert_ne!(item.as_json().and_then(|json| json["n"].as_u64()), Some(2));
            Ok(Outcome::emit(item))
        })
        .build()
        .unwrap();
    let graph = graph(json!({
        "in": batches(4, 4), "act": { "type": "action", "use": "fn/picky", "inputs": ["in"] },
        "out": sink(&out, "act"), "aside": sink(&aside, "act.dead_letter"),
    }));
    let report = run_on(&engine, &graph).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!((written(&out), MemoryStore::named(&aside).len()), (vec![0, 1, 3], 1));
}

#[tokio::test(start_paused = true)]
async fn one_bad_item_of_a_call_is_found_by_halving() {
    let [out, aside] = ["out", "aside"].map(unique);
    let calls = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = calls.clone();
    let work = move |items: Vec<Item>, _| {
        noted.lock().unwrap().push(items.len());
        async move {
            if items.iter().any(|item| n(item) == 5) {
                return Err(Error::new(ErrorKind::Validation, "one of these is bad"));
            }
            Ok(items.into_iter().map(Outcome::emit).collect())
        }
    };
    let report = run(json!({
        "in": batches(16, 16), "act": act(Form::Batch, "in", work),
        "out": sink(&out, "act"), "aside": sink(&aside, "act.dead_letter"),
    }))
    .await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(written(&out).len(), 15);
    assert_eq!(*calls.lock().unwrap(), [16, 8, 4, 4, 2, 1, 1, 2, 8]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_form_with_memory_fails_the_node_and_in_a_pipe_the_epoch() {
    for form in [Form::Stateful, Form::Pipe] {
        let [out, other] = ["out", "other"].map(unique);
        let work = |items: Vec<Item>, _| async move {
            assert!(!items.iter().any(|item| n(item) == 3), "not this one");
            Ok(items.into_iter().map(Outcome::emit).collect())
        };
        let report = run(json!({
            "in": batches(8, 2), "copies": { "type": "fan_out", "inputs": ["in"] },
            "act": act(form, "copies", work), "out": sink(&out, "act"), "other": sink(&other, "copies"),
        }))
        .await;
        assert_eq!(report.status, RunStatus::PartialFailure, "{form:?}: {report}");
        assert_eq!(node(&report, "act").status, NodeStatus::Failed);
        assert_eq!(node(&report, "act").failure.as_ref().unwrap().tag, "code.panic");
        assert_eq!((written(&out), written(&other)), (vec![0, 1], all(8)));
        assert_eq!(settled_items(&report), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn the_wrong_number_of_outcomes_fails_the_node_and_others_go_on() {
    for form in [Form::Batch, Form::Columnar, Form::Stateful] {
        for wrong in [-1_isize, 1] {
            let [out, other, aside] = ["out", "other", "aside"].map(unique);
            let work = move |mut items: Vec<Item>, _| async move {
                if n(&items[0]) >= 4 {
                    let more = items[0].clone();
                    items.truncate((items.len() as isize + wrong.min(0)) as usize);
                    items.extend((wrong > 0).then_some(more));
                }
                Ok(items.into_iter().map(Outcome::emit).collect())
            };
            let report = run(json!({
                "in": batches(8, 4), "copies": { "type": "fan_out", "inputs": ["in"] },
                "act": act(form, "copies", work), "out": sink(&out, "act"), "aside": sink(&aside, "act.dead_letter"),
                "other": sink(&other, "copies"),
            }))
            .await;
            assert_eq!(report.status, RunStatus::PartialFailure, "{form:?} {wrong}: {report}");
            let act = node(&report, "act");
            assert_eq!((act.status, act.emitted_from, act.failed), (NodeStatus::Failed, 4, 4));
            let message = &act.failure.as_ref().unwrap().message;
            assert!(message.contains("exactly one"), "{message}");
            assert_eq!((written(&out), written(&other)), (all(4), all(8)));
            assert_eq!(settled_items(&report), 4);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_reports_on_too_few_items_fails() {
    let report = run(json!({
        "in": batches(4, 4), "out": write("in", |items| async move { Ok(WriteReport::applied(items.len() - 1)) }),
    }))
    .await;
    assert_eq!((report.status, settled_items(&report)), (RunStatus::Failure, 0), "{report}");
    assert!(node(&report, "out").failure.as_ref().unwrap().message.contains("report on each"));
}

#[tokio::test(start_paused = true)]
async fn an_error_that_says_it_is_a_bug_fails_the_item_that_it_is_about_and_no_other() {
    for of in [1, 8] {
        for sinks in [false, true] {
            let aside = unique("aside");
            let bug = || Error::internal("five is a bug");
            let relay = act(Form::Batch, "in", move |items: Vec<Item>, _| async move {
                let bad = !sinks && items.iter().any(|item| n(item) == 5);
                if bad { Err(bug()) } else { Ok(items.into_iter().map(Outcome::emit).collect()) }
            });
            let to = write("act", move |items| async move {
                let bad = sinks && items.iter().any(|item| number(item) == 5);
                if bad { Err(bug()) } else { Ok(WriteReport::applied(items.len())) }
            });
            let letters = if sinks { "out.dead_letter" } else { "act.dead_letter" };
            let report = run(json!({
                "in": batches(8, of), "act": relay, "out": to,
                "aside": sink(&aside, letters),
            }))
            .await;
            assert_eq!(report.status, RunStatus::Success, "of {of}: {report}");
            let letters = MemoryStore::named(&aside).items();
            let letters: Vec<_> =
                letters.iter().map(|item| DeadLetter::from_primitive(item).unwrap()).collect();
            assert_eq!(letters.iter().map(|letter| number(&letter.primitive)).collect::<Vec<_>>(), [5]);
            assert_eq!(letters[0].error.message, "five is a bug");
            assert_eq!(settled_items(&report), 8);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_reports_on_an_item_that_is_not_there_fails() {
    let none = || WriteStatus::Rejected(Error::invalid("n", "there is none"));
    let out = write("in", move |items| async move { Ok(WriteReport::applied(items.len()).with(9, none())) });
    let report = run(json!({ "in": batches(4, 4), "out": out })).await;
    assert_eq!((report.status, settled_items(&report)), (RunStatus::Failure, 0), "{report}");
    assert_eq!((node(&report, "out").failed, node(&report, "out").emitted_from), (4, 0));
    assert!(node(&report, "out").failure.as_ref().unwrap().message.contains("item 9 of 4"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_speaks_of_an_item_twice_counts_it_once() {
    let aside = unique("aside");
    let bad = || WriteStatus::Rejected(Error::invalid("n", "one"));
    let out = write("in", move |items| async move {
        Ok(WriteReport::applied(items.len()).with(1, bad()).with(1, bad()))
    });
    let report =
        run(json!({ "in": batches(4, 4), "out": out, "aside": sink(&aside, "out.dead_letter") })).await;
    assert_eq!((report.status, settled_items(&report)), (RunStatus::Success, 4), "{report}");
    assert_eq!((node(&report, "out").dead_lettered, node(&report, "out").emitted_from), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_at_an_item_is_halved_unless_it_appends() {
    for appends in [false, true] {
        let aside = unique("aside");
        let wrote = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let writes = wrote.clone();
        let out = write("in", move |items| {
            let writes = writes.clone();
            async move {
                for item in &items {
                    assert_ne!(number(item), 2, "two");
                    writes.lock().unwrap().push(number(item));
                }
                Ok(WriteReport::applied(items.len()))
            }
        });
        let out = with(out, json!({ "config": { "appends": appends } }));
        let report =
            run(json!({ "in": batches(4, 4), "out": out, "aside": sink(&aside, "out.dead_letter") })).await;
        assert_eq!(report.status, RunStatus::Success, "{report}");
        let wrote = wrote.lock().unwrap().clone();
        if appends {
            assert_eq!(wrote, [0, 1], "what may be there already is not written again");
        } else {
            assert_eq!((MemoryStore::named(&aside).len(), wrote.contains(&3)), (1, true));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn siblings_with_one_id_fail_their_input() {
    let [out, aside] = ["out", "aside"].map(unique);
    let work = |item: Item| {
        let twin = |item: &Item| item.derive("twin", 0, Raw::Json(json!({ "n": 1 })).into_payload());
        Ok(if n(&item) == 1 { Outcome::emit_all([twin(&item), twin(&item)]) } else { Outcome::emit(item) })
    };
    let report = run(json!({
        "in": batches(3, 3), "act": each(Form::Batch, "in", work),
        "out": sink(&out, "act"), "aside": sink(&aside, "act.dead_letter"),
    }))
    .await;
    assert_eq!((written(&out), MemoryStore::named(&aside).len()), (vec![0, 2], 1), "{report}");
}
