//! Primitives as 0.1 wrote them. They must read forever: a file here is never changed, only
//! added, and a form that no longer reads one of them needs another version.
//!
//! `NVISY_BLESS=1` writes the files that are not there yet.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, Decimal128Array, Float64Array, Int64Array, ListArray, RecordBatch, TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Int32Type, Schema};
use nvisy_core::lineage::Step;
use nvisy_core::metadata::Timestamp;
use nvisy_core::position::KeyValue;
use nvisy_core::primitive::audio::Audio;
use nvisy_core::primitive::completion::*;
use nvisy_core::primitive::custom::Custom;
use nvisy_core::primitive::document::{Document, DocumentFields};
use nvisy_core::primitive::embedding::{Embedding, EmbeddingFields, Metric};
use nvisy_core::primitive::fine_tune_sample::FineTuneSample;
use nvisy_core::primitive::graph::{Edge, Graph, Node};
use nvisy_core::primitive::image::Image;
use nvisy_core::primitive::message::{Header, Message, MessageFields};
use nvisy_core::primitive::object::Object;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::row::Row;
use nvisy_core::primitive::structured_output::StructuredOutput;
use nvisy_core::primitive::tool_call_trace::{Outcome, ToolCall, ToolCallTrace};
use nvisy_core::{Lineage, Metadata, Payload, Position, Primitive, RunId, SourceIdentity};
use serde_json::json;

use super::strategies::{GIF, MP3};

fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_767_225_600 + seconds, 123_456_789).unwrap()
}

fn primitive(payload: impl Into<Payload>) -> Primitive {
    let source = SourceIdentity::new("sqlite:tickets.db#tickets");
    let position = Position::Keyset([KeyValue::Int(-7), KeyValue::Text("b".into())].into());
    let id = source.id(&position);
    let step = |node, operation, seconds| Step::new(node, operation, moment(seconds));
    let read = Lineage::origin(Arc::new(step("tickets", "sql/read", 0)), source, position);
    let edited = read.edited(Arc::new(step("clean", "map", 1)));
    let made = step("make", "ai/make", 2).with_parameters(Arc::new(json!({"model": "small"})));
    let other = Lineage::origin(
        Arc::new(step("files", "object/read", 0)),
        SourceIdentity::new("file:///data"),
        Position::Marker { object: "a.csv".into(), offset: 3 },
    );
    let other_id = other.root().unwrap().id;
    let lineage = Lineage::derived(Arc::new(made), [(id, edited), (other_id, other)]);
    let mut metadata =
        Metadata::new("support", "make", moment(2)).in_run(RunId::from_parts(1_767_225_600_000, 42));
    metadata.tags.insert("team".into(), "red".into());
    metadata.custom.insert("score".into(), json!(0.1));
    Primitive::new(id.derive("make", 0), payload, Arc::new(metadata), lineage)
}

fn row() -> Row {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![0, i64::MIN]))),
        ("x", Arc::new(Float64Array::from(vec![0.0, f64::NEG_INFINITY]))),
        ("price", Arc::new(Decimal128Array::from(vec![1, 1999]).with_precision_and_scale(10, 2).unwrap())),
        ("at", Arc::new(TimestampMicrosecondArray::from(vec![0, 1]).with_timezone("Europe/Berlin"))),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([None, Some(vec![Some(1), None])])),
        ),
    ];
    let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    Row::new(Arc::new(RecordBatch::try_new(schema, columns).unwrap()), 1).unwrap()
}

fn document() -> Document {
    let fields = DocumentFields {
        text: "Printer on fire \u{1f525}".into(),
        title: Some("Ticket 7".into()),
        byte_range: Some(10..29),
        chunk: Some(2),
        attributes: BTreeMap::from([("page".into(), json!(3))]),
        ..Default::default()
    };
    fields.try_into().unwrap()
}

/// One primitive of every kind.
pub(super) fn samples() -> Vec<Primitive> {
    let message = MessageFields {
        key: Some("7".into()),
        body: bytes::Bytes::from_static(&[0xff, 0x00]),
        headers: vec![Header { name: "trace".into(), value: "abc".into() }],
        topic: Some("tickets".into()),
        partition: Some(1),
        offset: Some(u64::MAX),
        sent_at: Some(moment(0)),
    };
    let node = |id: &str| Node { id: id.into(), labels: vec!["Person".into()], ..Default::default() };
    let edge = Edge { from: "ada".into(), to: "bob".into(), label: "KNOWS".into(), ..Default::default() };
    let embedding = EmbeddingFields {
        vector: vec![0.1, -2.5, 3.0e-8],
        model: "small".into(),
        document: Some(Arc::new(document())),
        content_hash: None,
        metric: Some(Metric::Dot),
    };
    let completion = CompletionFields {
        prompt: vec![ChatMessage::system("be kind"), ChatMessage::user("hello")],
        answer: "hi".into(),
        model: "small".into(),
        finish_reason: Some(FinishReason::Stop),
        usage: Some(Usage::new(5, 1)),
        latency: Some(Duration::from_millis(1_250)),
        cost_usd: Some(0.000_1),
    };
    let call = ToolCall {
        name: "search".into(),
        arguments: json!({"q": "fire"}),
        outcome: Outcome::Error("timed out".into()),
        started_at: moment(0),
        ended_at: moment(3),
    };
    vec![
        primitive(row()),
        primitive(document()),
        primitive(Object::new("in/a.bin", vec![0, 1, 254, 255]).unwrap()),
        primitive(Message::try_from(message).unwrap()),
        primitive(Graph::new(vec![node("ada"), node("bob")], vec![edge]).unwrap()),
        primitive(Embedding::try_from(embedding).unwrap()),
        primitive(Completion::try_from(completion).unwrap()),
        primitive(StructuredOutput::new(json!({"age": 7}), json!({"required": ["age"]})).unwrap()),
        primitive(ToolCallTrace::new(vec![call]).unwrap()),
        primitive(Image::new(GIF).unwrap()),
        primitive(Audio::new(MP3).unwrap()),
        primitive(
            FineTuneSample::conversation([ChatMessage::user("hello"), ChatMessage::assistant("hi")]).unwrap(),
        ),
        primitive(Raw::Json(json!({"b": [1, 2.5, null], "a": true}))),
        primitive(Custom::opaque("acme.molecule", json!({"smiles": "CCO"})).unwrap()),
    ]
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/0.1").join(name)
}

fn golden(name: &str, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let path = file(name);
    if !path.exists() && std::env::var_os("NVISY_BLESS").is_some() {
        fs::write(&path, make()).unwrap();
    }
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn what_0_1_wrote_reads_forever() {
    for sample in samples() {
        let kind = sample.kind();
        let json = golden(&format!("{kind}.json"), || serde_json::to_vec_pretty(&sample).unwrap());
        assert_eq!(serde_json::from_slice::<Primitive>(&json).unwrap(), sample, "{kind}.json");
        let bytes = golden(&format!("{kind}.bin"), || sample.to_bytes().unwrap());
        assert_eq!(Primitive::from_bytes(&bytes).unwrap(), sample, "{kind}.bin");
    }
}

#[test]
fn hashes_never_change() {
    let hashes =
        || samples().iter().map(|s| format!("{}: {}\n", s.kind(), s.content_hash())).collect::<String>();
    let written = golden("hashes.txt", || hashes().into_bytes());
    assert_eq!(hashes(), String::from_utf8(written).unwrap());
}
