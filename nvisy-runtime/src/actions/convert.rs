//! `convert`: makes another kind of payload of an item.

mod documents;
mod rows;

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use nvisy_core::config::Problem;
use nvisy_core::error::Error;
use nvisy_core::prelude::*;
use nvisy_core::primitive::audio::Audio;
use nvisy_core::primitive::completion::Completion;
use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::embedding::Embedding;
use nvisy_core::primitive::fine_tune_sample::FineTuneSample;
use nvisy_core::primitive::graph::Graph;
use nvisy_core::primitive::image::Image;
use nvisy_core::primitive::message::Message;
use nvisy_core::primitive::object::Object;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::row::Row;
use nvisy_core::primitive::structured_output::StructuredOutput;
use nvisy_core::primitive::tool_call_trace::ToolCallTrace;
use nvisy_core::primitive::{KindId, Kinds};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value as Json;

use super::{json, outcomes_of};

/// Makes another kind of payload of an item, which stays the same item: its id is kept.
///
/// | from | to | how |
/// |---|---|---|
/// | row | document | the column `text` (default `text`) is the text, `title` and the others what they are set to; the rest become attributes, nulls left out |
/// | raw | document | a JSON object as a row; a JSON text, or bytes that are UTF-8, are the text |
/// | object | document | its bytes as UTF-8, the key as `source_uri`, the MIME type |
/// | message | document | its body as UTF-8, the headers that are text as attributes |
/// | completion | document | the answer; `model` as an attribute |
/// | embedding | document | the document that it is the vector of |
/// | image, audio | document | the caption, the transcript; the URI as `source_uri` |
/// | document | row | columns `text`, `title`, `language`, `mime_type`, `source_uri`, `byte_start`, `byte_end`, `chunk`, and `attributes` as JSON text |
/// | embedding | row | `vector`, `dimensions`, `model`, `content_hash`, and `text`, `title`, `source_uri`, `chunk`, `attributes` of its document |
/// | completion | row | `answer`, `model`, `finish_reason`, `input_tokens`, `output_tokens`, `latency_ms`, `cost_usd` |
/// | raw, structured output | row | the fields of the JSON object are columns; those of a batch are joined |
/// | row | raw | a JSON object of its columns |
/// | structured output | raw | its value |
/// | message | raw | its body: as JSON if it reads as such, else as bytes |
/// | object | raw | its bytes: as JSON if key (`.json`) or MIME type say so, else as bytes |
/// | any other | raw | its fields as a JSON object |
/// | raw | any other | reads the fields from a JSON object: the way back |
///
/// An item of the kind that is asked for stays as it is. An item that cannot be converted (a
/// text that is null, a caption that is not there) fails.
///
/// # Examples
///
/// ```json
/// { "type": "action", "use": "convert", "inputs": ["tickets"],
///   "config": { "to": "document", "text": "body", "title": "subject" } }
/// ```
///
/// ```
/// use nvisy_core::primitive::completion::Completion;
/// use nvisy_runtime::actions::Convert;
///
/// let documents = Convert::to_document("body").title("subject");
/// let json = serde_json::to_string(&documents).unwrap();
/// assert_eq!(json, r#"{"to":"document","text":"body","title":"subject"}"#);
///
/// let rows = Convert::to_row();
/// let completions = Convert::to::<Completion>();
/// ```
pub struct Convert<To: Kind = Any> {
    options: Options,
    to: PhantomData<fn() -> To>,
}

/// The settings of a [`Convert`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    /// The kind to make.
    to: KindId,
    /// The column or field that is a document's text. Default `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The column or field that is its title. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    /// The column or field that is its language, as a BCP 47 tag. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    /// The column or field that is its MIME type. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mime_type: Option<String>,
    /// The column or field that says where it was found. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source_uri: Option<String>,
    /// The columns or fields that become attributes. Default all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attributes: Option<Vec<String>>,
}

/// A kind of payload that [`Convert`] makes.
pub trait Target: Kind {
    /// The kind, as a value.
    const ID: KindId;
}

macro_rules! targets {
    ($($type:ident),*) => {$(
        impl Target for $type {
            const ID: KindId = KindId::$type;
        }
    )*};
}

targets! {
    Row, Document, Object, Message, Graph, Embedding, Completion, StructuredOutput, ToolCallTrace, Image, Audio,
    FineTuneSample, Raw
}

impl Convert {
    /// Makes documents of rows or JSON objects: `text` is the column or field of the text.
    #[must_use]
    pub fn to_document(text: impl Into<String>) -> Convert<Document> {
        let mut convert = Self::to::<Document>();
        convert.options.text = Some(text.into());
        convert
    }

    /// Makes rows.
    #[must_use]
    pub fn to_row() -> Convert<Row> {
        Self::to()
    }

    /// Makes raw JSON or bytes.
    #[must_use]
    pub fn to_raw() -> Convert<Raw> {
        Self::to()
    }

    /// Makes payloads of a kind.
    #[must_use]
    pub fn to<K: Target>() -> Convert<K> {
        let options = Options {
            to: K::ID,
            text: None,
            title: None,
            language: None,
            mime_type: None,
            source_uri: None,
            attributes: None,
        };
        Convert { options, to: PhantomData }
    }
}

impl Convert<Document> {
    /// Names the column or field that is the title.
    #[must_use]
    pub fn title(mut self, column: impl Into<String>) -> Self {
        self.options.title = Some(column.into());
        self
    }

    /// Names the column or field that is the language.
    #[must_use]
    pub fn language(mut self, column: impl Into<String>) -> Self {
        self.options.language = Some(column.into());
        self
    }

    /// Names the column or field that is the MIME type.
    #[must_use]
    pub fn mime_type(mut self, column: impl Into<String>) -> Self {
        self.options.mime_type = Some(column.into());
        self
    }

    /// Names the column or field that says where the document was found.
    #[must_use]
    pub fn source_uri(mut self, column: impl Into<String>) -> Self {
        self.options.source_uri = Some(column.into());
        self
    }

    /// Names the columns or fields that become attributes. Default all others.
    #[must_use]
    pub fn attributes<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.options.attributes = Some(columns.into_iter().map(Into::into).collect());
        self
    }
}

impl<To: Kind> ActionConfig for Convert<To> {
    const NAME: &'static str = "convert";
    type Input = Any;
    type Output<In: Kind> = To;
    type Client = NoClient;

    fn input_kinds(&self) -> Kinds {
        use KindId as K;
        let from: &[KindId] = match self.options.to {
            K::Document => {
                &[K::Row, K::Raw, K::Object, K::Message, K::Completion, K::Embedding, K::Image, K::Audio]
            }
            K::Row => &[K::Document, K::Embedding, K::Completion, K::Raw, K::StructuredOutput],
            K::Raw => return Kinds::ANY,
            _ => &[K::Raw],
        };
        from.iter().copied().collect::<Kinds>().union(Kinds::of(self.options.to))
    }

    fn output_kinds(&self, _: Kinds) -> Kinds {
        Kinds::of(self.options.to)
    }

    fn validate(&self) -> Vec<Problem> {
        let o = &self.options;
        let mut problems = Vec::new();
        if o.to == KindId::Custom {
            let problem =
                Problem::new("to", "a `custom` payload is a type of your own, nothing here can make it");
            problems.push(problem.with_help("write a `Transform` that makes it"));
        }
        let set = [
            ("text", o.text.is_some()),
            ("title", o.title.is_some()),
            ("language", o.language.is_some()),
            ("mime_type", o.mime_type.is_some()),
            ("source_uri", o.source_uri.is_some()),
            ("attributes", o.attributes.is_some()),
        ];
        for (field, set) in set {
            if set && o.to != KindId::Document {
                let problem = Problem::new(field, format!("a {} has no such setting", o.to));
                problems.push(problem.with_help(format!("leave `{field}` out, or convert to `document`")));
            }
        }
        problems
    }

    async fn build(&self, _: &OpenContext) -> Result<Action> {
        Ok(Action::columnar(Converting { options: self.options.clone() }))
    }
}

struct Converting {
    options: Options,
}

impl Columnar for Converting {
    async fn apply(&self, batch: Batch, context: &Context) -> Result<Outcomes> {
        let step = context.step();
        let to = self.options.to;
        if batch.kinds() == Kinds::of(to) || batch.is_empty() {
            return Ok(Outcomes::same(batch.edited(&step)));
        }
        let payloads = (0..batch.len()).map(|index| batch.payload(index));
        let results = match to {
            KindId::Document => payloads.map(|payload| self.options.document(payload)).collect(),
            KindId::Row => rows::of(payloads),
            KindId::Raw => payloads.map(|payload| raw(payload).map(Payload::from)).collect(),
            kind => payloads.map(|payload| read(kind, &payload)).collect(),
        };
        outcomes_of(batch, &step, results)
    }
}

/// The error of a pair that nobody converts.
fn impossible(from: KindId, to: KindId) -> Error {
    let message = format!("a {from} does not become a {to}");
    Error::invalid("convert", message)
}

fn raw(payload: Payload) -> Result<Raw> {
    Ok(match payload {
        Payload::Raw(raw) => Arc::unwrap_or_clone(raw),
        Payload::StructuredOutput(output) => Raw::Json(output.value.clone()),
        Payload::Message(message) => match serde_json::from_slice(&message.body) {
            Ok(value) => Raw::Json(value),
            Err(_) => Raw::Bytes(message.body.clone()),
        },
        Payload::Object(object) => {
            let bytes = object_bytes(&object)?;
            let mime_type = object.mime_type.as_deref().unwrap_or_default();
            let essence = mime_type.split(';').next().unwrap_or_default().trim();
            if object.key.ends_with(".json") || essence == "application/json" || essence.ends_with("+json") {
                let value = serde_json::from_slice(bytes);
                Raw::Json(
                    value.map_err(|error| Error::invalid("object.bytes", format!("are no JSON: {error}")))?,
                )
            } else {
                Raw::Bytes(bytes.clone())
            }
        }
        other => Raw::Json(json::of_payload(&other)?),
    })
}

fn read(kind: KindId, payload: &Payload) -> Result<Payload> {
    match payload {
        payload if payload.kind() == kind => Ok(payload.clone()),
        Payload::Raw(raw) => match raw.as_json() {
            Some(value) => json::to_payload(kind, value),
            None => Err(Error::invalid("raw", format!("is bytes, not the JSON of a {kind}"))),
        },
        other => Err(impossible(other.kind(), kind)),
    }
}

fn object_bytes(object: &Object) -> Result<&Bytes> {
    object.bytes.as_ref().ok_or_else(|| {
        Error::invalid(
            "object.bytes",
            format!("are not there: `{}` is a handle, read the object first", object.key),
        )
    })
}

/// A JSON value as columns, if it is an object.
fn object_of(value: &Json) -> Result<&serde_json::Map<String, Json>> {
    value.as_object().ok_or_else(|| Error::invalid("raw", "is no JSON object, so it has no fields"))
}

impl<To: Kind> Clone for Convert<To> {
    fn clone(&self) -> Self {
        Self { options: self.options.clone(), to: PhantomData }
    }
}

impl<To: Kind> std::fmt::Debug for Convert<To> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Convert").field(&self.options).finish()
    }
}

impl<To: Kind> PartialEq for Convert<To> {
    fn eq(&self, other: &Self) -> bool {
        self.options == other.options
    }
}

impl<To: Kind> Serialize for Convert<To> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.options.serialize(serializer)
    }
}

impl<'de, To: Kind> Deserialize<'de> for Convert<To> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let options = Options::deserialize(deserializer)?;
        if !To::KINDS.contains(options.to) {
            let (want, have) = (To::NAME, options.to);
            return Err(serde::de::Error::custom(format!("expected `to` to be a {want}, found `{have}`")));
        }
        Ok(Self { options, to: PhantomData })
    }
}

impl<To: Kind> JsonSchema for Convert<To> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Convert".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Options::json_schema(generator)
    }
}
