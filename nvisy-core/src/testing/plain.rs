//! A payload as plain JSON, to compare and to show.

use serde::Serialize;
use serde_json::Value;

use crate::primitive::Payload;
use crate::primitive::raw::Raw;

/// Returns a payload as plain JSON: what a test compares and a person reads. It need not read
/// back.
///
/// A row is an object of its columns; raw JSON is itself; of every other kind it is an object
/// of the fields that are set.
#[must_use]
pub fn plain(payload: &Payload) -> Value {
    match payload {
        Payload::Row(row) => Value::Object(row.to_json()),
        Payload::Document(fields) => set(&**fields),
        Payload::Object(fields) => set(&**fields),
        Payload::Message(fields) => set(&**fields),
        Payload::Graph(fields) => set(&**fields),
        Payload::Embedding(fields) => set(&**fields),
        Payload::Completion(fields) => set(&**fields),
        Payload::StructuredOutput(fields) => set(&**fields),
        Payload::ToolCallTrace(fields) => set(&**fields),
        Payload::Image(fields) => set(&**fields),
        Payload::Audio(fields) => set(&**fields),
        Payload::FineTuneSample(fields) => set(&**fields),
        Payload::Raw(raw) => match &**raw {
            Raw::Json(json) => json.clone(),
            Raw::Bytes(_) => set(&**raw),
        },
        Payload::Custom(custom) => set(&**custom),
    }
}

/// Returns the fields that are set: neither null nor false nor an empty object.
fn set(payload: &impl Serialize) -> Value {
    match serde_json::to_value(payload) {
        Ok(Value::Object(fields)) => {
            let is_set = |(_, value): &(String, Value)| match value {
                Value::Null | Value::Bool(false) => false,
                Value::Object(fields) => !fields.is_empty(),
                _ => true,
            };
            Value::Object(fields.into_iter().filter(is_set).collect())
        }
        Ok(other) => other,
        Err(error) => Value::String(error.to_string()),
    }
}
