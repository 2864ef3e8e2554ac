//! What a run tells: progress while it goes on, a report when it is over.

use std::time::Duration;

use futures::StreamExt;
use nvisy_core::prelude::*;
use nvisy_core::testing::memory::Form;
use nvisy_runtime::compiler::DeliveryGuarantee;
use nvisy_runtime::engine::{RunReport, RunStatus};
use serde_json::json;

use crate::fixture::*;

#[tokio::test(start_paused = true)]
async fn progress_shows_rate_and_time_left_and_ends_with_the_run() {
    let out = unique("out");
    let slow = act(Form::Transform, "in", |items: Vec<Item>, _| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(items.into_iter().map(Outcome::emit).collect())
    });
    let slow = with(slow, json!({ "concurrency": 1 }));
    let graph = document(json!({
        "settings": { "checkpoint": { "uncommitted_items": 10 } },
        "nodes": {
            "in": batches(100, 1), "act": slow,
            "out": with(sink(&out, "act"), json!({ "config": { "batch_items": 1 } })),
        },
    }));
    let run = engine().start(&graph).await.unwrap();
    let seen: Vec<_> = within(run.progress(Duration::from_secs(1)).collect()).await;
    let report = within(run.wait()).await.unwrap();

    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert!((10..=12).contains(&seen.len()), "{}", seen.len());
    let middle = &seen[5];
    assert_eq!(middle.expected, Some(100));
    let read = &middle.nodes[0];
    assert!((50..=62).contains(&read.received), "{}", read.received);
    assert!((10.0..13.0).contains(&middle.rate), "{}", middle.rate);
    assert!((3.0..5.0).contains(&middle.eta.unwrap().as_secs_f64()), "{:?}", middle.eta);
    assert!(middle.to_string().contains("left") && middle.to_string().contains("in "), "{middle}");
    let last = seen.last().unwrap();
    assert!(last.done && !middle.done);
    assert!(last.nodes.iter().all(|node| node.received == 100 && node.in_flight == 0));
    assert!(seen.windows(2).all(|pair| pair[0].nodes[2].received <= pair[1].nodes[2].received));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_know_its_size_promises_no_end() {
    let out = unique("out");
    let source = scripted(vec![vec![Step::Give(0..3), Step::Sleep(Duration::from_secs(3))]]);
    let run = engine().start(&graph(json!({ "in": source, "out": sink(&out, "in") }))).await.unwrap();
    let seen: Vec<_> = within(run.progress(Duration::from_secs(1)).collect()).await;
    assert!(seen.iter().all(|progress| progress.eta.is_none() && progress.expected.is_none()));
}

async fn a_report() -> RunReport {
    let [out, aside] = ["out", "aside"].map(unique);
    let work = |item: Item| match n(&item) % 5 {
        1 => Ok(Outcome::drop("one")),
        2 => Err(Error::new(ErrorKind::Validation, "two")),
        _ => Ok(Outcome::emit(item)),
    };
    let nodes = json!({
        "in": batches(1_500, 100), "act": with(each(Form::Batch, "in", work), json!({ "config": { "calls": "none" } })),
        "out": sink(&out, "act"), "aside": sink(&aside, "act.dead_letter"),
    });
    let settings = json!({ "dead_letter_limit": { "share": 1 } });
    run_graph(&document(json!({ "settings": settings, "nodes": nodes }))).await
}

#[tokio::test(start_paused = true)]
async fn a_report_reads_well() {
    let report = a_report().await;
    let text = report.to_string();
    let line = |name: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
        line.split_whitespace().take(8).map(str::to_owned).collect()
    };
    assert_eq!(line("act "), ["act", "completed", "1,500", "900", "300", "300", "0", "900"], "{text}");
    assert_eq!(line("aside "), ["aside", "completed", "300", "300", "0", "0", "0", "0"], "{text}");
    assert!(text.starts_with(&format!("run {} of \"test\": success in ", report.run)), "{text}");
    assert!(
        text.contains("ledger balances: in = passed + dropped + set aside + failed + 0 in flight"),
        "{text}"
    );
    assert!(text.contains("act: dropped 300 because one"), "{text}");
    assert!(text.contains("two [item.validation]"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_report_serializes_and_reads_back() {
    let report = a_report().await;
    let json = serde_json::to_value(&report).unwrap();
    let back: RunReport = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&back).unwrap(), json);
    assert_eq!(back.to_string(), report.to_string());
    assert_eq!(json["status"], "success");
    let act = json["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "act").unwrap();
    assert_eq!(
        (&act["received"], &act["dropped"], &act["dead_lettered"]),
        (&json!(1_500), &json!(300), &json!(300))
    );
    assert_eq!(report.guarantee, Some(DeliveryGuarantee::ExactlyOnceEffect));
}

#[tokio::test(start_paused = true)]
async fn every_line_of_a_ledger_adds_up() {
    let report = a_report().await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    let parts = |name: &str| {
        let node = node(&report, name);
        assert_eq!((node.failed, node.in_flight), (0, 0), "{name}");
        [node.received, node.emitted_from, node.dropped, node.dead_lettered, node.emitted]
    };
    assert_eq!(parts("in"), [1_500, 1_500, 0, 0, 1_500]);
    assert_eq!(parts("act"), [1_500, 900, 300, 300, 900]);
    assert_eq!(parts("out"), [900, 900, 0, 0, 0]);
    assert_eq!(parts("aside"), [300, 300, 0, 0, 0]);
    assert!(report.nodes.iter().all(|node| node.bytes > node.received), "{report:?}");
    assert_eq!(node(&report, "act").errors.len(), 5, "the first few");
    assert!(node(&report, "out").latency.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_models_use_adds_up() {
    let out = unique("out");
    let act = act(Form::Transform, "in", |items: Vec<Item>, context| async move {
        context.meter().model_usage(&nvisy_core::observability::ModelUsage {
            model: "small".into(),
            requests: 1,
            input_tokens: 10,
            output_tokens: 2,
            usd: Some(0.5),
        });
        Ok(items.into_iter().map(Outcome::emit).collect())
    });
    let report = run(json!({ "in": numbers(4), "act": act, "out": sink(&out, "act") })).await;
    let used = &report.models()[0];
    assert_eq!((used.requests, used.input_tokens, used.output_tokens, used.usd), (4, 40, 8, Some(2.0)));
    assert!(report.to_string().contains("model small: 4 requests, 40 tokens in, 8 out, $2.0000"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn lineage_leads_from_what_is_written_to_the_source() {
    let out = unique("out");
    let work = |item: Item| {
        Ok(Outcome::expand(
            &item,
            "half",
            [0, 1].map(|i| nvisy_core::primitive::raw::Raw::Json(json!({ "n": i })).into_payload()),
        ))
    };
    run(json!({ "in": batches(3, 2), "act": each(Form::Batch, "in", work), "out": sink(&out, "act") })).await;
    let items = nvisy_core::testing::memory::MemoryStore::named(&out).items();
    assert_eq!(items.len(), 6);
    let positions: Vec<_> = items.iter().map(|item| item.root().unwrap().position).collect();
    assert_eq!(positions, [0, 0, 1, 1, 2, 2].map(Position::Offset));
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_is_no_larger_for_a_large_config() {
    let aside = unique("aside");
    let fails = each(Form::Transform, "in", |_| Err(Error::invalid("n", "bad")));
    let nodes = json!({
        "in": numbers(1_000), "act": fails,
        "out": sink(&unique("out"), "act"), "aside": sink(&aside, "act.dead_letter"),
    });
    let settings = json!({ "dead_letter_limit": { "share": 1 } });
    run_graph(&document(json!({ "settings": settings, "nodes": nodes }))).await;
    let letters = nvisy_core::testing::memory::MemoryStore::named(&aside).items();
    assert_eq!(letters.len(), 1_000);
    let records = nvisy_core::DeadLetter::from_primitive(&letters[7]).unwrap().primitive.lineage().records();
    let parameters = &records[0].parameters;
    assert!(parameters["bytes"].as_u64() > Some(4 << 10), "{parameters}");
    assert_eq!(parameters["sha256"].as_str().map(str::len), Some(64), "{parameters}");
}

#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("the error panics when it is told")
    }
}

impl std::error::Error for Unspeakable {}

#[tokio::test(start_paused = true)]
async fn an_error_that_panics_when_it_is_told_costs_neither_report_nor_progress() {
    let fails = act(Form::Transform, "in", |_: Vec<Item>, _| async {
        Err(Error::invalid("n", "bad").with_source(Unspeakable))
    });
    let nodes = json!({ "in": numbers(3), "act": fails, "out": sink(&unique("out"), "act") });
    let run = engine().start(&graph(nodes)).await.unwrap();
    let progress = run.progress(Duration::from_secs(1));
    let report = within(run.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Failure, "{report}");
    assert!(within(progress.collect::<Vec<_>>()).await.last().unwrap().done);
}
