//! The names that a run gives its spans, their fields and its metrics: others build on them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{
    Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit,
};
use nvisy_core::observability::ModelUsage;
use nvisy_core::prelude::*;
use nvisy_core::testing::memory::Form;
use nvisy_runtime::engine::RunStatus;
use serde_json::json;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};

use crate::fixture::*;

/// Everything that was named, each with its fields or labels.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<BTreeSet<String>>>);

impl Names {
    fn add(&self, name: &str, fields: impl Iterator<Item = String>) {
        let fields: Vec<_> = fields.collect();
        self.0.lock().unwrap().insert(format!("{name}({})", fields.join(", ")));
    }

    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap()).into_iter().collect::<Vec<_>>().join("\n")
    }
}

impl Subscriber for Names {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("nvisy")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.add(span.metadata().name(), span.fields().iter().map(|field| field.name().to_owned()));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl metrics::Recorder for Names {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Named(self.clone(), key.clone())))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Named(self.clone(), key.clone())))
    }
}

struct Named(Names, Key);

impl Named {
    fn add(&self) {
        let shown = |label: &metrics::Label| match label.key() {
            "status" => format!("status={}", label.value()),
            key => key.to_owned(),
        };
        self.0.add(self.1.name(), self.1.labels().map(shown));
    }
}

impl CounterFn for Named {
    fn increment(&self, _: u64) {
        self.add();
    }

    fn absolute(&self, _: u64) {
        self.add();
    }
}

impl HistogramFn for Named {
    fn record(&self, _: f64) {
        self.add();
    }
}

/// A run in which everything happens that is named.
async fn everything() {
    let [log, out, aside] = ["log", "out", "aside"].map(unique);
    let work = |items: Vec<Item>, context: Context| async move {
        if context.attempt() == 1 {
            return Err(Error::new(ErrorKind::Connection, "gone"));
        }
        context.meter().call("POST /things", Duration::from_millis(5), true);
        context.meter().model_usage(&ModelUsage {
            model: "small".into(),
            input_tokens: 1,
            ..Default::default()
        });
        let outcome = |item: Item| match n(&item) {
            0 => Outcome::fail(Error::new(ErrorKind::Validation, "zero")),
            1 => Outcome::drop("one"),
            _ => Outcome::emit(item),
        };
        Ok(items.into_iter().map(outcome).collect())
    };
    let report = run_graph(&document(json!({
        "connections": { "far": far(&log) },
        "nodes": {
            "in": batches(4, 4), "act": far_act("far", Form::Batch, "in", work),
            "out": sink(&out, "act"), "aside": sink(&aside, "act.dead_letter"),
        },
    })))
    .await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
}

#[test]
fn spans_and_metrics_have_the_names_that_are_documented() {
    let (spans, numbers) = (Names::default(), Names::default());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    tracing::subscriber::with_default(spans.clone(), || {
        metrics::with_local_recorder(&numbers, || runtime.block_on(everything()));
    });
    expect_test::expect![[r#"
        call(otel.name, nvisy.node, nvisy.connection, nvisy.operation, nvisy.attempt, nvisy.error)
        node(otel.name, nvisy.node, nvisy.operation)
        run(otel.name, nvisy.run, nvisy.graph)"#]]
    .assert_eq(&spans.take());
    expect_test::expect![[r#"
        nvisy_connector_call_duration_seconds(connection, operation)
        nvisy_connector_calls_total(connection, operation, outcome)
        nvisy_dead_letters_total(graph, node, tag)
        nvisy_model_tokens_total(model, direction)
        nvisy_node_batches_total(graph, node)
        nvisy_node_items_total(graph, node, outcome)
        nvisy_permit_wait_seconds(graph, node)
        nvisy_rate_limit_wait_seconds(graph, node)
        nvisy_retries_total(graph, node)
        nvisy_run_duration_seconds(graph, status=success)"#]]
    .assert_eq(&numbers.take());
}

#[test]
fn the_status_of_a_run_is_a_tag_in_its_metric_as_in_its_report() {
    let numbers = Names::default();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let [whole, broken] = ["whole", "broken"].map(unique);
    let graph = graph(json!({
        "in": batches(4, 2), "copies": { "type": "fan_out", "inputs": ["in"] },
        "fails": each(Form::Batch, "copies", |_| Err(Error::new(ErrorKind::Validation, "bad"))),
        "broken": sink(&broken, "fails"), "whole": sink(&whole, "copies"),
    }));
    let report = metrics::with_local_recorder(&numbers, || runtime.block_on(run_graph(&graph)));
    assert_eq!(report.status, RunStatus::PartialFailure, "{report}");
    assert_eq!(serde_json::to_value(report.status).unwrap(), report.status.tag());
    let named = numbers.take();
    assert!(named.contains("nvisy_run_duration_seconds(graph, status=partial_failure)"), "{named}");
}
