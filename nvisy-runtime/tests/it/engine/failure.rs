//! What fails, what is set aside, and what goes on all the same.

use std::time::Duration;

use nvisy_core::prelude::*;
use nvisy_core::testing::memory::{Form, MemoryStore};
use nvisy_core::{DeadLetter, KindId};
use nvisy_runtime::engine::{NodeStatus, RunStatus};
use serde_json::{Value, json};

use crate::fixture::*;

fn bad(item: &Item) -> Error {
    Error::new(ErrorKind::Validation, format!("{} is odd", n(item)))
}

/// Fails the odd ones.
fn picky(form: Form, input: &str) -> Value {
    with(
        each(form, input, |item| if n(&item) % 2 == 1 { Err(bad(&item)) } else { Ok(Outcome::emit(item)) }),
        json!({ "retry": { "max_attempts": 1 } }),
    )
}

#[tokio::test(start_paused = true)]
async fn what_fails_goes_out_of_the_dead_letter_port_and_reads_back() {
    for form in [Form::Transform, Form::Batch, Form::Columnar, Form::Stateful] {
        let [out, aside] = ["out", "aside"].map(unique);
        let report = run(json!({
            "in": batches(6, 4), "act": picky(form, "in"),
            "out": sink(&out, "act"), "aside": sink(&aside, "act.dead_letter"),
        }))
        .await;

        assert_eq!(report.status, RunStatus::Success, "{form:?}: {report}");
        assert_eq!(written(&out), [0, 2, 4], "{form:?}");
        let letters: Vec<DeadLetter> = MemoryStore::named(&aside)
            .items()
            .iter()
            .map(|item| DeadLetter::from_primitive(item).unwrap())
            .collect();
        let set_aside: Vec<u64> = letters.iter().map(|letter| number(&letter.primitive)).collect();
        assert_eq!(set_aside, [1, 3, 5], "{form:?}");
        let first = &letters[0];
        assert_eq!((&*first.node, &*first.error.tag, first.attempts), ("act", "item.validation", 1));
        assert_eq!(first.error.message, "1 is odd");
        assert!(first.position.as_deref().unwrap().ends_with("at 1"), "{:?}", first.position);
        assert_eq!(first.primitive.id(), MemoryStore::named(&aside).ids()[0], "a letter keeps the item's id");
        let act = node(&report, "act");
        assert_eq!((act.received, act.emitted_from, act.dead_lettered, act.failed), (6, 3, 3, 0));
        assert_eq!(settled_items(&report), 6, "what is set aside is done with");
    }
}

#[tokio::test(start_paused = true)]
async fn one_sink_takes_the_dead_letters_of_all() {
    let [out, aside] = ["out", "aside"].map(unique);
    let late =
        each(
            Form::Batch,
            "act",
            |item| if n(&item) == 4 { Err(bad(&item)) } else { Ok(Outcome::emit(item)) },
        );
    let report = run_graph(&document(json!({
        "nodes": {
            "in": with(batches(6, 4), json!({ "config": { "rejected": [0] } })),
            "act": picky(Form::Batch, "in"), "late": late, "out": sink(&out, "late"),
            "aside": with(sink(&aside, "x"), json!({ "inputs": [] })),
        },
        "settings": { "dead_letter": "aside" },
    })))
    .await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(written(&out), [2]);
    let mut from: Vec<_> = MemoryStore::named(&aside)
        .items()
        .iter()
        .map(|item| DeadLetter::from_primitive(item).unwrap().node.to_string())
        .collect();
    from.sort();
    assert_eq!(from, ["act", "act", "act", "in", "late"]);
    assert_eq!(settled_items(&report), 6);
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_on_error_is_counted_and_acknowledged() {
    let out = unique("out");
    let act = with(picky(Form::Batch, "in"), json!({ "on_error": "drop" }));
    let report = run(json!({ "in": batches(6, 4), "act": act, "out": sink(&out, "act") })).await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(node(&report, "act").dropped, 3);
    assert_eq!(node(&report, "act").dropped_because["it failed: item.validation"], 3);
    assert_eq!(settled_items(&report), 6);
}

#[tokio::test(start_paused = true)]
async fn a_failed_node_ends_its_path_and_no_other() {
    let [left, right] = ["left", "right"].map(unique);
    let fails =
        each(
            Form::Batch,
            "copies",
            |item| if n(&item) == 4 { Err(bad(&item)) } else { Ok(Outcome::emit(item)) },
        );
    let report = run(json!({
        "in": batches(20, 2),
        "copies": { "type": "fan_out", "inputs": ["in"] },
        "fails": fails,
        "then": each(Form::Batch, "fails", |item| Ok(Outcome::emit(item))),
        "left": sink(&left, "then"),
        "right": sink(&right, "copies"),
    }))
    .await;

    assert_eq!(report.status, RunStatus::PartialFailure, "{report}");
    assert_eq!(written(&right), all(20), "the other branch goes on");
    assert_eq!(node(&report, "fails").status, NodeStatus::Failed);
    assert_eq!(node(&report, "fails").failure.as_ref().unwrap().message, "4 is odd");
    assert_eq!(node(&report, "then").status, NodeStatus::Skipped);
    assert_eq!(node(&report, "left").status, NodeStatus::Skipped);
    assert_eq!(node(&report, "right").status, NodeStatus::Completed);
    assert!(written(&left).iter().all(|n| *n < 6));
    assert_eq!(settled_items(&report), 4, "nothing from the failed item on is acknowledged");
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_only_sink_cannot_be_reached_fails_and_stops_reading() {
    let out = unique("out");
    let fails = each(Form::Batch, "in", |item| Err(bad(&item)));
    let source = scripted(vec![vec![
        Step::Give(0..2),
        Step::Sleep(Duration::from_secs(5)),
        Step::Give(2..4),
        Step::Hang,
    ]]);
    let report = run(json!({ "in": source, "fails": fails, "out": sink(&out, "fails") })).await;

    assert_eq!(report.status, RunStatus::Failure, "{report}");
    assert!(report.duration < Duration::from_secs(60), "the source is not read to its end");
    assert_eq!(node(&report, "in").status, NodeStatus::Stopped, "nobody cancelled the run");
    assert!(report.to_string().contains("  stopped"), "{report}");
    let written = serde_json::to_value(&report).unwrap();
    assert_eq!(written["nodes"][0]["status"], "stopped");
    assert_eq!((node(&report, "in").received, node(&report, "fails").failed), (2, 2));
    assert_eq!(node(&report, "out").status, NodeStatus::Skipped);
    assert_eq!(settled_items(&report), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_rejects_items_fails_without_dead_letters() {
    let out = unique("out");
    let refusing = with(sink(&out, "in"), json!({ "config": { "refuses": ["raw"] } }));
    let report = run(json!({ "in": batches(4, 2), "out": refusing })).await;

    assert_eq!(report.status, RunStatus::Failure, "{report}");
    assert_eq!(settled_items(&report), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sink_sets_aside_what_it_rejects_and_writes_the_neighbours() {
    let aside = unique("aside");
    let picky = write("in", |items| async move {
        Ok(items.iter().zip(0..).fold(
            WriteReport::applied(items.len()),
            |report, (item, index)| match number(item) {
                3 => report.with(index, WriteStatus::Rejected(Error::invalid("n", "it is three"))),
                _ => report,
            },
        ))
    });
    let report =
        run(json!({ "in": batches(6, 6), "out": picky, "aside": sink(&aside, "out.dead_letter") })).await;

    assert_eq!(report.status, RunStatus::Success, "{report}");
    let letters = MemoryStore::named(&aside).items();
    let letters: Vec<_> =
        letters.iter().map(|item| number(&DeadLetter::from_primitive(item).unwrap().primitive)).collect();
    assert_eq!(letters, [3]);
    assert_eq!((node(&report, "out").emitted_from, node(&report, "out").dead_lettered), (5, 1));
    assert_eq!(settled_items(&report), 6);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_that_cannot_be_written_is_not_acknowledged() {
    let out = unique("out");
    let broken = write("act.dead_letter", |_| async { Err(Error::new(ErrorKind::Permission, "full")) });
    let report = run(json!({
        "in": batches(6, 2), "act": picky(Form::Batch, "in"), "out": sink(&out, "act"), "aside": broken,
    }))
    .await;

    assert_eq!(report.status, RunStatus::PartialFailure, "{report}");
    assert_eq!(written(&out), [0, 2, 4]);
    assert_eq!(settled_items(&report), 0);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_fails_lets_the_others_arrive() {
    let out = unique("out");
    let gone = Error::new(ErrorKind::NotFound, "the object is gone");
    let source = scripted(vec![
        vec![Step::Give(0..3), Step::fail(9, gone), Step::Give(3..6)],
        vec![Step::Give(10..13), Step::Give(13..16)],
        vec![Step::Give(20..21), Step::Panic],
    ]);
    let report = run(json!({ "in": source, "out": sink(&out, "in") })).await;

    assert_eq!(report.status, RunStatus::PartialFailure, "{report}");
    assert_eq!(written(&out), [0, 1, 2, 10, 11, 12, 13, 14, 15, 20]);
    let source = node(&report, "in");
    assert_eq!(source.status, NodeStatus::Failed);
    assert_eq!(source.failure.as_ref().unwrap().message, "the object is gone");
    assert_eq!(source.failure.as_ref().unwrap().context.item.as_deref(), Some("0"), "the partition is named");
    assert_eq!(source.errors.len(), 2);
    assert_eq!(settled_items(&report), 10, "what arrived is acknowledged");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_fails_alone_and_pins_its_partition() {
    let out = unique("out");
    let source = with(batches(9, 3), json!({ "config": { "rejected": [4] } }));
    let report = run(json!({ "in": source, "out": sink(&out, "in") })).await;

    assert_eq!(report.status, RunStatus::PartialFailure, "{report}");
    assert_eq!(written(&out), [0, 1, 2, 3, 5, 6, 7, 8]);
    assert_eq!((node(&report, "in").failed, node(&report, "in").emitted_from), (1, 8));
    assert_eq!(node(&report, "in").errors[0].message, "item 4 cannot be read");
    assert_eq!(settled_items(&report), 3, "the batch of the bad record is not acknowledged");
}

#[tokio::test(start_paused = true)]
async fn a_source_told_to_fail_on_a_bad_record_does() {
    let out = unique("out");
    let source = with(batches(9, 3), json!({ "config": { "rejected": [4] }, "on_error": "fail" }));
    let report = run(json!({ "in": source, "out": sink(&out, "in") })).await;

    assert_eq!(node(&report, "in").status, NodeStatus::Failed, "{report}");
    assert_eq!(written(&out), [0, 1, 2]);
    assert_eq!(node(&report, "in").failed, 3);
    assert_eq!(settled_items(&report), 3);
}

#[tokio::test(start_paused = true)]
async fn an_item_of_the_wrong_kind_fails_and_its_neighbours_pass() {
    let [out, aside] = ["out", "aside"].map(unique);
    let engine = builder()
        .function("text", |item: Item<nvisy_core::primitive::document::Document>| Ok(Outcome::emit(item)))
        .build()
        .unwrap();
    let source = json!({ "type": "source", "use": "memory/source", "config": { "name": unique("mixed") } });
    let name = source["config"]["name"].as_str().unwrap().to_owned();
    let store = MemoryStore::named(&name);
    let document = || nvisy_core::primitive::document::Document::new("a").unwrap().into_payload();
    store.put([document()]);
    let graph = graph(json!({
        "in": source,
        "act": { "type": "action", "use": "fn/text", "inputs": ["in"] },
        "out": sink(&out, "act"), "aside": sink(&aside, "act.dead_letter"),
    }));
    let plan = engine.compile(&graph).unwrap();
    store.put([document(), nvisy_core::primitive::raw::Raw::Json(json!(1)).into_payload()]);
    // What is known when the graph compiles is refused then; what comes later fails alone.
    let refused = engine.compile(&graph).unwrap_err();
    assert_eq!(refused.as_slice()[0].code, "kind.mismatch", "{refused}");
    let report = within(engine.start_plan(&plan).await.unwrap().wait()).await.unwrap();
    assert_eq!(MemoryStore::named(&out).len(), 1, "{report}");
    assert_eq!(MemoryStore::named(&out).items()[0].kind(), KindId::Document);
    assert_eq!(MemoryStore::named(&aside).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_passes_a_node_that_drops_others_is_acknowledged_only_when_it_is_written() {
    let work =
        |item: Item| Ok(if n(&item).is_multiple_of(2) { Outcome::drop("even") } else { Outcome::emit(item) });
    let report = run(json!({
        "in": batches(6, 2), "act": each(Form::Batch, "in", work),
        "out": write("act", |_| async { Err(Error::new(ErrorKind::Permission, "full")) }),
    }))
    .await;
    assert_eq!((report.status, settled_items(&report)), (RunStatus::Failure, 0), "{report}");
}
