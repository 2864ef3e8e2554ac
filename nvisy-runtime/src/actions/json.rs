//! Payloads as plain JSON, and back: what people write and read.

use nvisy_core::primitive::raw::Raw;
use nvisy_core::{Error, KindId, Payload, Result};
use serde::Serialize;
use serde_json::Value;

/// Returns a payload as plain JSON: of a row its columns, of other kinds their fields.
pub(crate) fn of_payload(payload: &Payload) -> Result<Value> {
    match payload {
        Payload::Row(row) => Ok(Value::Object(row.to_json())),
        Payload::Document(payload) => write(&**payload),
        Payload::Object(payload) => write(&**payload),
        Payload::Message(payload) => write(&**payload),
        Payload::Graph(payload) => write(&**payload),
        Payload::Embedding(payload) => write(&**payload),
        Payload::Completion(payload) => write(&**payload),
        Payload::StructuredOutput(payload) => write(&**payload),
        Payload::ToolCallTrace(payload) => write(&**payload),
        Payload::Image(payload) => write(&**payload),
        Payload::Audio(payload) => write(&**payload),
        Payload::FineTuneSample(payload) => write(&**payload),
        Payload::Custom(payload) => write(&**payload),
        Payload::Raw(raw) => match &**raw {
            Raw::Json(value) => Ok(value.clone()),
            Raw::Bytes(_) => Err(Error::invalid("raw", "is bytes, not JSON")),
        },
        other => Err(Error::invalid(other.kind().name(), "has no form in JSON here")),
    }
}

fn write(payload: &impl Serialize) -> Result<Value> {
    serde_json::to_value(payload)
        .map_err(|error| Error::internal("a payload cannot be written as JSON").with_source(error))
}

/// Reads a payload of a kind from its fields in JSON: the other way of [`of_payload`].
pub(crate) fn to_payload(kind: KindId, value: &Value) -> Result<Payload> {
    use nvisy_core::primitive as p;
    fn read<T: serde::de::DeserializeOwned + Into<Payload>>(kind: KindId, value: &Value) -> Result<Payload> {
        let payload: T = serde_path_to_error::deserialize(value).map_err(|error| {
            let (path, error) = (error.path().to_string(), error.into_inner());
            let field = if path == "." { kind.name().to_owned() } else { format!("{}.{path}", kind.name()) };
            Error::invalid(field, format!("is not as a {kind} has it")).with_detail(error)
        })?;
        Ok(payload.into())
    }
    match kind {
        KindId::Row => match value {
            Value::Object(object) => Ok(p::row::Row::from_json(object, None)?.into()),
            _ => Err(Error::invalid("raw", "is no JSON object, so it has no columns")),
        },
        KindId::Document => read::<p::document::Document>(kind, value),
        KindId::Object => read::<p::object::Object>(kind, value),
        KindId::Message => read::<p::message::Message>(kind, value),
        KindId::Graph => read::<p::graph::Graph>(kind, value),
        KindId::Embedding => read::<p::embedding::Embedding>(kind, value),
        KindId::Completion => read::<p::completion::Completion>(kind, value),
        KindId::StructuredOutput => read::<p::structured_output::StructuredOutput>(kind, value),
        KindId::ToolCallTrace => read::<p::tool_call_trace::ToolCallTrace>(kind, value),
        KindId::Image => read::<p::image::Image>(kind, value),
        KindId::Audio => read::<p::audio::Audio>(kind, value),
        KindId::FineTuneSample => read::<p::fine_tune_sample::FineTuneSample>(kind, value),
        KindId::Raw => Ok(Raw::Json(value.clone()).into()),
        _ => Err(Error::invalid(kind.name(), "is not read from JSON here")),
    }
}
