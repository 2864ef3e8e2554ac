//! Primitives of every kind, as they may come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nvisy_core::lineage::Step;
use nvisy_core::metadata::Timestamp;
use nvisy_core::position::KeyValue;
use nvisy_core::primitive::audio::{Audio, AudioFields, AudioFormat};
use nvisy_core::primitive::completion::*;
use nvisy_core::primitive::custom::Custom;
use nvisy_core::primitive::document::{Document, DocumentFields};
use nvisy_core::primitive::embedding::{Embedding, EmbeddingFields, Metric};
use nvisy_core::primitive::fine_tune_sample::{FineTuneSample, FineTuneSampleFields, Sample, Split, Turn};
use nvisy_core::primitive::graph::{Edge, Graph, Node};
use nvisy_core::primitive::image::{Image, ImageFields, ImageFormat};
use nvisy_core::primitive::message::{Header, Message, MessageFields};
use nvisy_core::primitive::object::{Object, ObjectFields};
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::structured_output::{StructuredOutput, StructuredOutputFields};
use nvisy_core::primitive::tool_call_trace::{Outcome, ToolCall, ToolCallTrace, ToolCallTraceFields};
use nvisy_core::{Lineage, Metadata, Payload, Position, Primitive, RunId, SourceIdentity};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::rows::row;

type Map = BTreeMap<String, Value>;

pub(super) fn finite() -> impl Strategy<Value = f64> {
    use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        finite().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let object = btree_map(any::<String>(), inner.clone(), 0..4);
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Map> {
    btree_map(any::<String>(), value(), 0..3)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn word() -> impl Strategy<Value = String> {
    "[a-z]{1,6}"
}

fn moment() -> impl Strategy<Value = Timestamp> {
    (-60_000_000_000..250_000_000_000_i64, 0..1_000_000_000_u32)
        .prop_map(|(seconds, nanos)| Timestamp::from_timestamp(seconds, nanos).unwrap())
}

fn duration() -> impl Strategy<Value = Duration> {
    (0..u64::from(u32::MAX), 0..1_000_000_000_u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos))
}

fn document() -> impl Strategy<Value = Document> {
    let texts = (of(any::<String>()), of(word()), of(word()), of(any::<String>()));
    let range = of((any::<u32>(), any::<u32>()).prop_map(|(a, b)| u64::from(a.min(b))..u64::from(a.max(b))));
    (any::<String>(), texts, range, of(any::<u64>()), attributes()).prop_map(
        |(text, (title, language, mime_type, source_uri), byte_range, chunk, attributes)| {
            let allow_empty = text.is_empty();
            let fields = DocumentFields {
                text,
                title,
                language,
                mime_type,
                source_uri,
                byte_range,
                chunk,
                attributes,
                allow_empty,
            };
            fields.try_into().unwrap()
        },
    )
}

fn object() -> impl Strategy<Value = Object> {
    let contents = (of(bytes()), any::<u64>());
    (word(), contents, of(word()), of(any::<String>()), of(moment())).prop_map(
        |(key, (bytes, size), mime_type, etag, last_modified)| {
            let size = bytes.as_ref().map_or(size, |bytes| bytes.len() as u64);
            ObjectFields { key, bytes, size, mime_type, etag, last_modified }.try_into().unwrap()
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let text = any::<String>().prop_map(Bytes::from);
    let body = prop_oneof![bytes(), text];
    let headers = vec((word(), bytes()).prop_map(|(name, value)| Header { name, value }), 0..3);
    let place = (of(word()), of(any::<u32>()), of(any::<u64>()));
    (of(bytes()), body, headers, place, of(moment())).prop_map(
        |(key, body, headers, (topic, partition, offset), sent_at)| {
            MessageFields { key, body, headers, topic, partition, offset, sent_at }.try_into().unwrap()
        },
    )
}

fn graph() -> impl Strategy<Value = Graph> {
    let nodes = btree_map(word(), (vec(any::<String>(), 0..3), attributes()), 1..5);
    let edges = vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), word(), attributes()), 0..5);
    (nodes, edges).prop_map(|(nodes, edges)| {
        let nodes: Vec<_> =
            nodes.into_iter().map(|(id, (labels, properties))| Node { id, labels, properties }).collect();
        let edge = |(from, to, label, properties): (prop::sample::Index, prop::sample::Index, _, _)| {
            let (from, to) = (from.get(&nodes).id.clone(), to.get(&nodes).id.clone());
            Edge { from, to, label, properties }
        };
        let edges = edges.into_iter().map(edge).collect();
        Graph::new(nodes, edges).unwrap()
    })
}

fn embedding() -> impl Strategy<Value = Embedding> {
    use proptest::num::f32::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    let number = POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO;
    let metric = of(prop_oneof![Just(Metric::Cosine), Just(Metric::Dot), Just(Metric::L2)]);
    (vec(number, 1..20), word(), of(document()), of("[0-9a-f]{64}"), metric).prop_map(
        |(vector, model, document, content_hash, metric)| {
            let document = document.map(Arc::new);
            EmbeddingFields { vector, model, document, content_hash, metric }.try_into().unwrap()
        },
    )
}

fn chat() -> impl Strategy<Value = ChatMessage> {
    let role = prop_oneof![Just(Role::System), Just(Role::User), Just(Role::Assistant), Just(Role::Tool)];
    let call =
        (word(), word(), value()).prop_map(|(id, name, arguments)| ToolRequest { id, name, arguments });
    (role, any::<String>(), vec(call, 0..2), of(word())).prop_map(
        |(role, content, tool_calls, tool_call_id)| ChatMessage { role, content, tool_calls, tool_call_id },
    )
}

fn completion() -> impl Strategy<Value = Completion> {
    let reason = prop_oneof![
        Just(FinishReason::Stop),
        Just(FinishReason::Length),
        Just(FinishReason::ToolCalls),
        Just(FinishReason::ContentFilter),
        any::<String>().prop_map(FinishReason::Other),
    ];
    let usage = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(a, b, c, d)| Usage {
        cached_input_tokens: u64::from(a.min(c)),
        reasoning_tokens: u64::from(b.min(d)),
        ..Usage::new(a.into(), b.into())
    });
    let rest = (of(reason), of(usage), of(duration()), of(0.0..1e6));
    (vec(chat(), 0..3), any::<String>(), word(), rest).prop_map(
        |(prompt, answer, model, (finish_reason, usage, latency, cost_usd))| {
            CompletionFields { prompt, answer, model, finish_reason, usage, latency, cost_usd }
                .try_into()
                .unwrap()
        },
    )
}

fn structured_output() -> impl Strategy<Value = StructuredOutput> {
    let schema = prop_oneof![Just(json!({})), Just(json!(true)), Just(json!({"description": "\u{1f600}"}))];
    (value(), schema, of(word()), any::<u32>()).prop_map(|(value, schema, model, repair_attempts)| {
        let schema = Arc::new(schema);
        StructuredOutputFields { value, schema, model, repair_attempts }.try_into().unwrap()
    })
}

fn tool_call_trace() -> impl Strategy<Value = ToolCallTrace> {
    let outcome = prop_oneof![value().prop_map(Outcome::Result), any::<String>().prop_map(Outcome::Error)];
    let call = (word(), value(), outcome, (moment(), 0..100_000_i64)).prop_map(
        |(name, arguments, outcome, (started_at, lasts))| {
            let ended_at = started_at + chrono::TimeDelta::nanoseconds(lasts);
            ToolCall { name, arguments, outcome, started_at, ended_at }
        },
    );
    (vec(call, 0..4), of(word())).prop_map(|(mut calls, model)| {
        calls.sort_by_key(|call| call.started_at);
        ToolCallTraceFields { calls, model }.try_into().unwrap()
    })
}

pub(super) const GIF: &[u8] = b"GIF89a\x0a\x00\x14\x00";
pub(super) const MP3: &[u8] = &[0xff, 0xfb, 0x90, 0x64];

fn image() -> impl Strategy<Value = Image> {
    let handle = (1..u32::MAX, 1..u32::MAX, any::<u64>(), word()).prop_map(|(width, height, size, uri)| {
        let uri = Some(uri);
        ImageFields { uri, size, format: ImageFormat::Webp, width, height, ..Default::default() }
    });
    let bytes =
        vec(any::<u8>(), 0..20).prop_map(|rest| Image::new([GIF, &rest].concat()).unwrap().into_fields());
    (prop_oneof![handle, bytes], of(any::<String>()))
        .prop_map(|(fields, caption)| ImageFields { caption, ..fields }.try_into().unwrap())
}

fn audio() -> impl Strategy<Value = Audio> {
    let handle =
        (1..u32::MAX, 1..u16::MAX, any::<u64>(), word()).prop_map(|(sample_rate, channels, size, uri)| {
            let uri = Some(uri);
            AudioFields { uri, size, format: AudioFormat::Flac, sample_rate, channels, ..Default::default() }
        });
    let bytes =
        vec(any::<u8>(), 0..20).prop_map(|rest| Audio::new([MP3, &rest].concat()).unwrap().into_fields());
    (prop_oneof![handle, bytes], of(any::<String>()), of(duration())).prop_map(
        |(fields, transcript, duration)| AudioFields { transcript, duration, ..fields }.try_into().unwrap(),
    )
}

fn fine_tune_sample() -> impl Strategy<Value = FineTuneSample> {
    let turn = |role| {
        (any::<String>(), any::<bool>())
            .prop_map(move |(text, supervised)| Turn { message: ChatMessage::new(role, text), supervised })
    };
    let exchange = (turn(Role::User), turn(Role::Assistant));
    let conversation = (of(turn(Role::System)), vec(exchange, 1..4)).prop_map(|(system, exchanges)| {
        let mut turns: Vec<_> =
            system.into_iter().chain(exchanges.into_iter().flat_map(|(u, a)| [u, a])).collect();
        turns.last_mut().unwrap().supervised = true;
        Sample::Messages(turns)
    });
    let pair = (any::<String>(), word()).prop_map(|(prompt, completion)| Sample::Pair { prompt, completion });
    let split = of(prop_oneof![Just(Split::Train), Just(Split::Validation), Just(Split::Test)]);
    (prop_oneof![conversation, pair], 0.0..10.0, split).prop_map(|(sample, weight, split)| {
        FineTuneSampleFields { sample, weight, split }.try_into().unwrap()
    })
}

fn raw() -> impl Strategy<Value = Raw> {
    prop_oneof![value().prop_map(Raw::Json), bytes().prop_map(Raw::Bytes)]
}

fn custom() -> impl Strategy<Value = Custom> {
    (word(), value()).prop_map(|(name, value)| Custom::opaque(name, value).unwrap())
}

pub(super) fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        row().prop_map(Payload::from),
        document().prop_map(Payload::from),
        object().prop_map(Payload::from),
        message().prop_map(Payload::from),
        graph().prop_map(Payload::from),
        embedding().prop_map(Payload::from),
        completion().prop_map(Payload::from),
        structured_output().prop_map(Payload::from),
        tool_call_trace().prop_map(Payload::from),
        image().prop_map(Payload::from),
        audio().prop_map(Payload::from),
        fine_tune_sample().prop_map(Payload::from),
        raw().prop_map(Payload::from),
        custom().prop_map(Payload::from),
    ]
}

fn position() -> impl Strategy<Value = Position> {
    let key = prop_oneof![
        any::<i64>().prop_map(KeyValue::Int),
        finite().prop_map(KeyValue::Float),
        any::<String>().prop_map(|text| KeyValue::Text(text.into())),
        bytes().prop_map(KeyValue::Bytes),
    ];
    prop_oneof![
        any::<u64>().prop_map(Position::Offset),
        (any::<String>(), any::<u64>())
            .prop_map(|(object, offset)| Position::Marker { object: object.into(), offset }),
        vec(key, 0..3).prop_map(|keys| Position::Keyset(keys.into())),
        any::<String>().prop_map(|token| Position::Token(token.into())),
    ]
}

fn step() -> impl Strategy<Value = Arc<Step>> {
    let parameters = prop_oneof![Just(Value::Null), value()];
    (word(), word(), moment(), parameters).prop_map(|(node, operation, time, parameters)| {
        Arc::new(Step::new(node, operation, time).with_parameters(Arc::new(parameters)))
    })
}

fn lineage() -> impl Strategy<Value = Lineage> {
    let origin = (step(), word(), position())
        .prop_map(|(step, source, position)| Lineage::origin(step, SourceIdentity::new(source), position));
    origin.boxed().prop_recursive(3, 6, 2, |inner| {
        let edited = (inner.clone(), step()).prop_map(|(lineage, step)| lineage.edited(step));
        let derived = (vec(inner, 1..3), step()).prop_map(|(inputs, step)| {
            let id = |lineage: &Lineage| lineage.root().unwrap().id.derive("test", 0);
            Lineage::derived(step, inputs.into_iter().map(|lineage| (id(&lineage), lineage)))
        });
        prop_oneof![edited, derived]
    })
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let run = of(any::<u64>().prop_map(|n| RunId::from_parts(n & 0xffff_ffff_ffff, n.into())));
    let tags = btree_map(any::<String>(), any::<String>(), 0..3);
    (moment(), word(), word(), run, tags, attributes()).prop_map(
        |(created_at, node, graph, run, tags, custom)| {
            let mut metadata = Metadata::new(graph, node, created_at);
            (metadata.run, metadata.tags, metadata.custom) = (run, tags, custom);
            metadata
        },
    )
}

/// A primitive of any kind.
pub(super) fn primitive() -> impl Strategy<Value = Primitive> {
    (payload(), metadata(), lineage()).prop_map(|(payload, metadata, lineage)| {
        let id = lineage.root().unwrap().id.derive("test", 1);
        Primitive::new(id, payload, Arc::new(metadata), lineage)
    })
}
