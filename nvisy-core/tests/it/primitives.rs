//! Primitives of every kind are written and read back unchanged, and what is corrupt is an error.

mod golden;
mod rows;
mod strategies;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int8Type, Schema, TimeUnit};
use nvisy_core::metadata::Timestamp;
use nvisy_core::primitive::embedding::Embedding;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::row::{Cell, Row};
use nvisy_core::{DeadLetter, Error, ErrorKind, Item, KindId, Payload, Primitive};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn config() -> ProptestConfig {
    ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() }
}

/// Writes a payload in both forms and reads it back the same, with the same hash.
#[track_caller]
fn survives(payload: &Payload) {
    let text = serde_json::to_string(payload).unwrap();
    let back: Payload = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(&back, payload, "{text}");
    assert_eq!(back.content_hash(), payload.content_hash());
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
    let bytes = postcard::to_allocvec(payload).unwrap();
    let back: Payload = postcard::from_bytes(&bytes).unwrap_or_else(|error| panic!("{error}: {payload:?}"));
    assert_eq!(&back, payload);
    assert_eq!(postcard::to_allocvec(&back).unwrap(), bytes);
}

/// Gives corrupt content the checksum that makes it look whole.
fn seal(content: &[u8]) -> Vec<u8> {
    [content, &Sha256::digest(content)[..8]].concat()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_primitive_reads_back_from_json(primitive in strategies::primitive()) {
        let text = serde_json::to_string(&primitive).unwrap();
        let back: Primitive = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&back, &primitive);
        let value: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(serde_json::from_value::<Primitive>(value).unwrap(), primitive);
    }

    #[test]
    fn a_dead_letter_gives_back_what_was_set_aside(primitive in strategies::primitive(), attempts: u32) {
        let error = Error::new(ErrorKind::Timeout, "too late").with_detail("of the item");
        let letter = DeadLetter::new(primitive.clone(), &error, "node".into(), attempts, Timestamp::default());
        let raw = letter.to_primitive().unwrap();
        prop_assert_eq!(raw.id(), primitive.id());
        let row = raw.clone().with_payload(letter.to_row().unwrap());
        for kept in [raw, row] {
            let text = serde_json::to_string(&kept).unwrap();
            let back = DeadLetter::from_primitive(&serde_json::from_str(&text).unwrap()).unwrap();
            prop_assert_eq!(&back, &letter);
            let replayed = back.replay();
            prop_assert_eq!(replayed.content_hash(), primitive.content_hash());
            prop_assert_eq!(replayed.root(), primitive.root());
            prop_assert_eq!(serde_json::to_string(&replayed).unwrap(), serde_json::to_string(&primitive).unwrap());
            let again = DeadLetter::new(replayed.clone(), &error, "node".into(), 1, Timestamp::default());
            prop_assert_eq!(again.attempts, attempts.saturating_add(1));
            let elsewhere = DeadLetter::new(replayed, &error, "other".into(), 1, Timestamp::default());
            prop_assert_eq!(elsewhere.attempts, 1);
        }
    }

    #[test]
    fn a_primitive_reads_back_from_bytes(primitive in strategies::primitive()) {
        let bytes = primitive.to_bytes().unwrap();
        let back = Primitive::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&back, &primitive);
        prop_assert_eq!(back.content_hash(), primitive.content_hash());
        prop_assert_eq!(back.to_bytes().unwrap(), bytes);
    }

    #[test]
    fn corrupt_bytes_are_an_error(primitive in strategies::primitive(), at: prop::sample::Index, bit in 0..8) {
        let mut bytes = primitive.to_bytes().unwrap();
        let at = at.index(bytes.len());
        prop_assert_eq!(Primitive::from_bytes(&bytes[..at]).unwrap_err().kind(), ErrorKind::Validation);
        bytes[at] ^= 1_u8 << bit;
        prop_assert_eq!(Primitive::from_bytes(&bytes).unwrap_err().kind(), ErrorKind::Validation);
    }

    #[test]
    fn corrupt_bytes_that_look_whole_never_panic(
        primitive in strategies::primitive(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let bytes = primitive.to_bytes().unwrap();
        let mut content = bytes[..bytes.len() - 8].to_vec();
        for (at, byte) in edits {
            let at = 1 + at.index(content.len() - 1);
            content[at] = byte;
            drop(Primitive::from_bytes(&seal(&content[..at])));
        }
        if let Err(error) = Primitive::from_bytes(&seal(&content)) {
            prop_assert_eq!(error.kind(), ErrorKind::Validation);
        }
    }

    #[test]
    fn noise_is_an_error(noise: Vec<u8>) {
        prop_assert!(Primitive::from_bytes(&noise).is_err());
        drop(Primitive::from_bytes(&seal(&[&[1], noise.as_slice()].concat())));
    }

    #[test]
    fn a_row_is_plain_json_to_people(row in rows::row()) {
        let json = row.to_json();
        prop_assert_eq!(json.len(), row.schema().fields().len());
        // What JSON shows of it is a row again, of the same columns.
        let shown = Row::from_json(&json, None).unwrap();
        prop_assert!(shown.columns().map(|(name, _)| name).eq(row.columns().map(|(name, _)| name)));
    }
}

#[test]
fn nothing_nests_without_end() {
    // A list in a list in a list: two bytes a level, much deeper than any stack.
    let item = Item::detached("deep", Payload::from(Row::from_json(&serde_json::Map::new(), None).unwrap()));
    let bytes = item.primitive().to_bytes().unwrap();
    let columns = br#"{"columns":[]}"#;
    let at = bytes.windows(columns.len()).position(|window| window == columns).unwrap() + columns.len();
    let mut content = bytes[..at].to_vec();
    content.push(1);
    content.extend([8, 1].repeat(1 << 20));
    let error = Primitive::from_bytes(&seal(&content)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation);
}

#[test]
fn a_newer_version_is_named() {
    let error = Primitive::from_bytes(&seal(&[9, 0, 0])).unwrap_err();
    assert_eq!(
        error.message(),
        "the bytes are no primitive: version 9 is not 1, the one that this release reads"
    );
}

#[test]
fn a_primitive_is_one_object_that_describes_itself() {
    let item = Item::detached("greeting", Payload::from(Raw::Json(json!({"hello": ["world"]}))));
    let text = serde_json::to_string_pretty(item.primitive()).unwrap();
    expect_test::expect_file!["../golden/shape.json"].assert_eq(&text);
}

#[test]
fn an_error_names_the_field() {
    let check = |json: Value, field: &str| {
        let error = serde_json::from_value::<Payload>(json).unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{field}")), "{error}");
    };
    check(json!({"kind": "document", "payload": {"text": ""}}), "document.text`");
    check(json!({"kind": "object", "payload": {"key": "", "size": 0}}), "object.key`");
    check(json!({"kind": "object", "payload": {"key": "a", "bytes": "AA==", "size": 2}}), "object.size`");
    check(
        json!({"kind": "message", "payload": {"body": "", "headers": [{"name": "", "value": ""}]}}),
        "message.headers[0].name`",
    );
    check(
        json!({"kind": "graph", "payload": {"nodes": [], "edges": [{"from": "a", "to": "b"}]}}),
        "graph.edges[0].from`",
    );
    check(json!({"kind": "embedding", "payload": {"vector": [], "model": "m"}}), "embedding.vector`");
    check(json!({"kind": "embedding", "payload": {"vector": "AADAfw==", "model": "m"}}), "embedding.vector`");
    let usage = json!({"input_tokens": 1, "output_tokens": 2, "total_tokens": 4});
    check(
        json!({"kind": "completion", "payload": {"answer": "", "model": "m", "usage": usage}}),
        "completion.usage.total_tokens`",
    );
    check(
        json!({"kind": "structured_output", "payload": {"value": {"a": 1}, "schema": {"properties": {"a": {"type": "string"}}}}}),
        "structured_output.value/a`",
    );
    let call = json!({"name": "", "arguments": {}, "outcome": {"result": 1}, "started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:00Z"});
    check(json!({"kind": "tool_call_trace", "payload": {"calls": [call]}}), "tool_call_trace.calls[0].name`");
    check(
        json!({"kind": "image", "payload": {"size": 0, "format": "png", "width": 0, "height": 1}}),
        "image.width`",
    );
    check(
        json!({"kind": "audio", "payload": {"size": 0, "format": "mp3", "sample_rate": 1, "channels": 0}}),
        "audio.channels`",
    );
    check(
        json!({"kind": "fine_tune_sample", "payload": {"sample": {"messages": []}}}),
        "fine_tune_sample.sample.messages`",
    );
    check(json!({"kind": "custom", "payload": {"type": "", "value": 1}}), "custom.type`");
    check(
        json!({"kind": "row", "payload": {"columns": [{"name": "n", "type": "int8"}], "values": [300]}}),
        "row.n`",
    );
    check(
        json!({"kind": "row", "payload": {"columns": [{"name": "n", "type": "int8", "nullable": false}], "values": [null]}}),
        "row.values`",
    );
    check(
        json!({"kind": "row", "payload": {"columns": [{"name": "n", "type": "int8"}], "values": []}}),
        "row.values`",
    );
}

#[test]
fn malformed_types_are_an_error() {
    let types = [
        json!({"decimal128": [39, 2]}),
        json!({"decimal32": [3, 5]}),
        json!({"time32": "us"}),
        json!({"fixed_size_binary": -1}),
        json!({"fixed_size_list": [{"name": "item", "type": "int8"}, 2_147_483_647]}),
        json!({"map": [{"name": "entries", "type": "int8"}, false]}),
        json!({"dictionary": ["utf8", "utf8"]}),
        json!({"run_end_encoded": [{"name": "e", "type": "int32"}, {"name": "v", "type": "int8"}]}),
        json!({"sparse_union": [[1, {"name": "a", "type": "int8"}], [1, {"name": "b", "type": "int8"}]]}),
        json!("int7"),
    ];
    for data_type in types {
        let json = json!({"kind": "row", "payload": {"columns": [{"name": "n", "type": data_type}], "values": [null]}});
        assert!(serde_json::from_value::<Payload>(json).is_err(), "{data_type}");
    }
}

#[test]
fn a_vector_is_exact_and_numbers_read_too() {
    let vector: Vec<f32> = vec![0.1, -0.0, f32::MIN_POSITIVE, f32::MAX, 1.0e-45];
    let payload = json!({"vector": vector.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(), "model": "m"});
    let embedding: Embedding = serde_json::from_value(payload).unwrap();
    let bits = |vector: &[f32]| vector.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&embedding.vector), bits(&vector));
    let text = serde_json::to_string(&embedding).unwrap();
    assert_eq!(bits(&serde_json::from_str::<Embedding>(&text).unwrap().vector), bits(&vector));
}

fn one_row(name: &str, columns: Vec<ArrayRef>, index: u32) -> Row {
    let fields = columns.iter().map(|column| Field::new(name, column.data_type().clone(), true));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    Row::new(Arc::new(RecordBatch::try_new(Arc::new(schema), columns).unwrap()), index).unwrap()
}

#[test]
fn a_row_hashes_by_what_it_says() {
    let hash = |row: Row| Payload::from(row).content_hash();
    let texts = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
    let first = hash(one_row("c", vec![texts(vec!["a", "b"])], 1));
    assert_eq!(first, hash(one_row("c", vec![texts(vec!["b"])], 0)), "in another batch");
    let dictionary: DictionaryArray<Int8Type> = vec!["x", "b"].into_iter().collect();
    assert_eq!(first, hash(one_row("c", vec![Arc::new(dictionary)], 1)), "in a dictionary");
    assert_ne!(first, hash(one_row("c", vec![texts(vec!["a", "b"])], 0)), "another value");
    assert_ne!(first, hash(one_row("d", vec![texts(vec!["b"])], 0)), "another column");
    let number = |array: ArrayRef| hash(one_row("n", vec![array], 0));
    let float = |value: f64| number(Arc::new(Float64Array::from(vec![value])));
    assert_ne!(number(Arc::new(Int64Array::from(vec![1]))), float(1.0), "another type");
    assert_eq!(float(0.0), float(-0.0));
    assert_eq!(float(f64::NAN), float(-f64::NAN));
}

#[test]
fn json_becomes_a_row_of_a_schema() {
    let zone = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int32, false),
        Field::new("at", zone, true),
        Field::new("day", DataType::Date32, true),
        Field::new("price", DataType::Decimal128(10, 2), true),
        Field::new("missing", DataType::Utf8, true),
    ]));
    let object = json!({"id": 1, "at": "2026-01-02T03:04:05.5+01:00", "day": "2026-01-02", "price": 12.5});
    let row = Row::from_json(object.as_object().unwrap(), Some(schema.clone())).unwrap();
    assert_eq!(row.get("id"), Some(Cell::Int(1)));
    assert_eq!(row.get_timestamp("at").unwrap().to_string(), "2026-01-02 02:04:05.500 UTC");
    assert!(row.is_null("missing"));
    let shown = json!({
        "id": 1, "at": "2026-01-02T02:04:05.500Z", "day": "2026-01-02", "price": "12.50", "missing": null
    });
    assert_eq!(Value::from(row.to_json()), shown);

    let wrong = |object: Value| {
        Row::from_json(object.as_object().unwrap(), Some(schema.clone())).unwrap_err().to_string()
    };
    assert_eq!(wrong(json!({"id": "x"})), "`row`: column `id`: this text is no Int32");
    assert_eq!(wrong(json!({"id": 1, "more": 2})), "`row`: there is no column `more`");
    assert_eq!(
        wrong(json!({"id": 3_000_000_000_u32})),
        "`row.id`: this number is no value of the column's type"
    );
    assert_eq!(
        wrong(json!({"id": 1, "price": 0.001})),
        "`row.price`: this text is no value of the column's type"
    );
}

#[test]
fn json_shows_its_columns() {
    let object = json!({
        "n": 1, "big": u64::MAX, "x": 1.5, "ok": true, "none": null,
        "tags": ["a", null], "mixed": [1, 2.5], "odd": [1, "a"], "empty": [],
        "deep": [{"a": 1}, {"b": [true]}],
    });
    let row = Row::from_json(object.as_object().unwrap(), None).unwrap();
    let types: BTreeSet<_> =
        row.schema().fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect();
    expect_test::expect![[r#"
        big: UInt64
        deep: List(Struct("a": Int64, "b": List(Boolean)))
        empty: List(Null)
        mixed: List(Float64)
        n: Int64
        none: Null
        odd: List(Utf8)
        ok: Boolean
        tags: List(Utf8)
        x: Float64"#]]
    .assert_eq(&types.into_iter().collect::<Vec<_>>().join("\n"));
    survives(&row.into());
}

#[test]
fn every_kind_has_a_golden_file() {
    let kinds: BTreeSet<_> = golden::samples().iter().map(|item| item.kind()).collect();
    assert_eq!(kinds, KindId::ALL.into_iter().collect());
}
