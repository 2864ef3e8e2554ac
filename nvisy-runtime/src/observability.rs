//! Traces for OpenTelemetry: a run is a span, its nodes are spans within it, their calls to
//! other systems spans within those.
//!
//! The engine speaks `tracing` alone, and knows nothing of exporters. This module connects the
//! two: [`layer`] hands its spans to a tracer of yours, [`continue_trace`] makes a run part of
//! its caller's trace, and [`traceparent`] passes the trace on to systems that are called.

use nvisy_core::{Error, Result};
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};

/// Returns a layer for a `tracing` subscriber that hands the spans of runs to a tracer.
///
/// Any tracer of the `opentelemetry` crates will do: that of an OTLP exporter, for instance.
///
/// # Examples
///
/// ```
/// use opentelemetry::trace::TracerProvider;
/// use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
/// use tracing_subscriber::layer::SubscriberExt;
///
/// let exporter = InMemorySpanExporter::default();
/// let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
/// let layer = nvisy_runtime::observability::layer(provider.tracer("acme"));
/// let subscriber = tracing_subscriber::registry().with(layer);
/// tracing::subscriber::with_default(subscriber, || {
///     // engine.run(&graph) ..
/// });
/// ```
pub fn layer<S, T>(tracer: T) -> OpenTelemetryLayer<S, T>
where
    S: Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
    T: Tracer + 'static,
    T::Span: Send + Sync,
{
    tracing_opentelemetry::layer().with_tracer(tracer)
}

/// Makes a span, and with it every run that is started within it, part of a trace that began
/// elsewhere: the `traceparent` of a request, as W3C Trace Context writes it.
///
/// # Errors
///
/// `validation` if it is none; `configuration` if no [`layer`] is there to take it.
///
/// # Examples
///
/// ```no_run
/// use nvisy_runtime::{Engine, graph::Graph, observability};
/// use tracing::Instrument;
///
/// # async fn serve(engine: Engine, graph: Graph, header: &str) -> nvisy_core::Result<()> {
/// let span = tracing::info_span!("request");
/// observability::continue_trace(&span, header)?;
/// let report = engine.run(&graph).instrument(span).await?;
/// # Ok(())
/// # }
/// ```
pub fn continue_trace(span: &Span, traceparent: &str) -> Result<()> {
    let parent = read(traceparent)
        .ok_or_else(|| Error::invalid("traceparent", format!("\"{traceparent}\" is none")))?;
    let context = opentelemetry::Context::new().with_remote_span_context(parent);
    span.set_parent(context)
        .map_err(|error| Error::configuration("no layer for OpenTelemetry takes the span").with_source(error))
}

/// Returns the current span as W3C Trace Context writes it, for the `traceparent` header of a
/// request to another system; none if there is no span, or nobody exports it.
#[must_use]
pub fn traceparent() -> Option<String> {
    let context = Span::current().context();
    let span = context.span().span_context().clone();
    let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags());
    span.is_valid().then(|| format!("00-{trace:032x}-{id:016x}-{flags:02x}"))
}

/// Reads `version-trace-parent-flags`: <https://www.w3.org/TR/trace-context/#traceparent-header>.
fn read(traceparent: &str) -> Option<SpanContext> {
    let is_hex = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut parts = traceparent.trim().split('-');
    let [version, trace, id, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let lengths = [version.len(), trace.len(), id.len(), flags.len()];
    if lengths != [2, 32, 16, 2] || ![version, trace, id, flags].into_iter().all(is_hex) || version == "ff" {
        return None;
    }
    // Later versions may say more; this one says no more.
    if version == "00" && parts.next().is_some() {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, id) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(id).ok()?);
    let span = SpanContext::new(trace, id, flags, true, TraceState::default());
    span.is_valid().then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(traceparent: &str, reads: bool) {
        assert_eq!(read(traceparent).is_some(), reads, "{traceparent:?}");
    }

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        check(good, true);
        check(&good.replacen("00", "cc", 1).replace("-01", "-01-more"), true);
        check(&format!("{good}-more"), false);
        check(&good.replacen("00", "ff", 1), false);
        check(&good.to_uppercase(), false);
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01", false);
        check("", false);
        check("é-é-é-é", false);
    }
}
