//! The spans of a run, as OpenTelemetry gets them.

use nvisy_core::testing::memory::{MemorySink, MemorySource};
use nvisy_runtime::observability::{continue_trace, layer, traceparent};
use nvisy_runtime::prelude::*;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    span.attributes.iter().find(|pair| pair.key.as_str() == key).map(|pair| pair.value.to_string())
}

#[tokio::test(flavor = "current_thread")]
async fn a_run_is_part_of_its_callers_trace_and_its_nodes_are_part_of_the_run() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let subscriber = tracing_subscriber::registry().with(layer(provider.tracer("test")));
    let _default = tracing::subscriber::set_default(subscriber);

    let graph = Graph::builder("numbers");
    graph
        .source("read", MemorySource::raw([1.into(), 2.into()]))
        .then_fn("seen", |item: Item<Raw>| {
            let id = traceparent().map(|header| header[3..35].to_owned());
            Ok(Outcome::emit(item.with_tag("trace", id.unwrap_or_default())))
        })
        .sink("keep", MemorySink::named("otel"));
    let engine = Engine::builder().source::<MemorySource>().sink::<MemorySink>().build().unwrap();

    // Tests beside this one have no subscriber: one that meets a span for the first time in the
    // moment in which this one does may have it switched off. Met once, it is asked for anew.
    engine.run(&graph.build().unwrap()).await.unwrap();
    tracing::callsite::rebuild_interest_cache();
    provider.force_flush().unwrap();
    exporter.reset();

    let request = tracing::info_span!("request");
    continue_trace(&request, CALLER).unwrap();
    let report = engine.run(&graph.build().unwrap()).instrument(request).await.unwrap();
    assert!(report.is_success(), "{report}");

    provider.force_flush().unwrap();
    let spans = exporter.get_finished_spans().unwrap();
    let named = |name: &str| {
        spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("{name}: {spans:?}"))
    };
    assert!(spans.iter().all(|span| span.span_context.trace_id().to_string() == CALLER[3..35]));
    assert_eq!(named("request").parent_span_id.to_string(), CALLER[36..52]);

    let run = named("numbers");
    assert_eq!(run.parent_span_id, named("request").span_context.span_id());
    assert_eq!(attribute(run, "nvisy.run"), Some(report.run.to_string()));
    for node in ["read", "seen", "keep"] {
        assert_eq!(named(node).parent_span_id, run.span_context.span_id(), "{node}");
        assert_eq!(attribute(named(node), "nvisy.node").as_deref(), Some(node));
    }
    let call = spans.iter().find(|span| span.parent_span_id == named("keep").span_context.span_id());
    assert!(call.is_some(), "a write is a call: {spans:?}");
}

#[test]
fn without_a_layer_there_is_no_trace_to_continue_or_to_pass_on() {
    assert_eq!(traceparent(), None);
    let span = tracing::info_span!("request");
    assert_eq!(continue_trace(&span, CALLER).unwrap_err().kind(), ErrorKind::Configuration);
    assert_eq!(continue_trace(&span, "nonsense").unwrap_err().kind(), ErrorKind::Validation);
}
