//! Values that tend to break things.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::primitive::document::{Document, DocumentFields};
use crate::primitive::embedding::{Embedding, EmbeddingFields};
use crate::primitive::row::Row;
use crate::primitive::{Kind, Payload};

/// Texts: empty ones, quotes, control characters, other scripts, right-to-left, combining
/// characters, emoji of several code points, what looks like a query, a number or nothing,
/// and a long one.
#[must_use]
pub fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "plain",
        "it's \"quoted\" `so` and \\so\\",
        "line one\nline two\r\nline three\ttabbed",
        "\u{1}\u{7f}",
        "comma, semicolon; pipe | colon: equals=",
        "Grüße, žluťoučký kůň, Ελληνικά, Русский",
        "漢字かな交じり文 한국어 ภาษาไทย",
        "עברית \u{202e}abc\u{202c} العربية",
        "e\u{301} ≠ é",
        "👩‍👩‍👧‍👦 🏳️‍🌈 𝒳 \u{10ffff}",
        "\u{feff}with a byte order mark",
        "'; DROP TABLE items; --",
        "{{template}} ${variable} %s %(name)s",
        "NULL",
        "null",
        "NaN",
        "0",
        "1e400",
        "true",
        "2024-02-30",
        "../../etc/passwd",
    ]
    .map(str::to_owned)
    .into();
    texts.push("long ".repeat(4_000));
    texts
}

/// Integers at their edges.
#[must_use]
pub fn integers() -> Vec<i64> {
    vec![0, 1, -1, i64::from(i32::MAX), i64::from(i32::MIN), (1 << 53) + 1, i64::MAX, i64::MIN]
}

/// Floating-point numbers at their edges, all finite.
#[must_use]
pub fn floats() -> Vec<f64> {
    vec![0.0, -0.0, 0.1, 1.0 / 3.0, f64::MAX, f64::MIN, f64::MIN_POSITIVE, f64::EPSILON, 1e300, -1e-300]
}

/// Documents of the [`texts`] that are not empty, with titles, attributes and nothing.
#[must_use]
pub fn documents() -> Vec<Payload> {
    let fields =
        texts().into_iter().filter(|text| !text.is_empty()).enumerate().map(|(n, text)| DocumentFields {
            title: (n % 2 == 0).then(|| text.chars().take(40).collect()),
            attributes: if n % 3 == 0 {
                BTreeMap::from([("sample".to_owned(), json!(n))])
            } else {
                BTreeMap::new()
            },
            text,
            ..DocumentFields::default()
        });
    fields.filter_map(|fields| Document::try_from(fields).ok()).map(Kind::into_payload).collect()
}

/// Embeddings of so many dimensions: along an axis, all alike, tiny, huge, negative, and of
/// numbers that have no exact decimal form; each with one of the [`texts`].
#[must_use]
pub fn embeddings(dimensions: usize) -> Vec<Payload> {
    let vector = |n: usize| -> Vec<f32> {
        (0..dimensions)
            .map(|d| match n {
                0 => f32::from(u8::from(d == 0)),
                1 => 0.1,
                2 => f32::MIN_POSITIVE * 2.0,
                3 => 1e15,
                4 => -1.0 / 3.0,
                n => ((n * 31 + d * 7) % 97) as f32 / 97.0 - 0.5,
            })
            .collect()
    };
    let fields = texts().into_iter().enumerate().map(|(n, text)| EmbeddingFields {
        vector: vector(n),
        model: "samples".to_owned(),
        document: Document::new(text).ok().map(std::sync::Arc::new),
        ..EmbeddingFields::default()
    });
    fields.filter_map(|fields| Embedding::try_from(fields).ok()).map(Kind::into_payload).collect()
}

/// Objects for rows, of an `id`, a `text`, an `integer`, a `float` and a `flag`: every sample
/// once, and no nulls.
#[must_use]
pub fn objects() -> Vec<Value> {
    let (texts, integers, floats) = (texts(), integers(), floats());
    let object = |n: usize| {
        json!({
            "id": n,
            "text": texts[n % texts.len()],
            "integer": integers[n % integers.len()],
            "float": floats[n % floats.len()],
            "flag": n.is_multiple_of(2),
        })
    };
    (0..texts.len()).map(object).collect()
}

/// The [`objects`], each with another column null, and one with all of them but the `id`.
#[must_use]
pub fn objects_with_nulls() -> Vec<Value> {
    let mut objects = objects();
    let columns = ["text", "integer", "float", "flag"];
    for (n, object) in objects.iter_mut().enumerate() {
        for (c, column) in columns.iter().enumerate() {
            if n == 0 || n % columns.len() == c {
                object[*column] = Value::Null;
            }
        }
    }
    objects
}

/// Rows of objects, of the columns that these show together, in one record batch.
///
/// What is not an object is left out.
#[must_use]
pub fn rows(objects: &[Value]) -> Vec<Payload> {
    let Ok(batch) = crate::testing::memory::rows_of(objects) else { return Vec::new() };
    let batch = std::sync::Arc::new(batch);
    let row = |index| Row::new(batch.clone(), index as u32).ok().map(Payload::Row);
    (0..batch.num_rows()).filter_map(row).collect()
}
