//! How a primitive is written and read: as one JSON object, and as compact bytes.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::audio::Audio;
use super::completion::Completion;
use super::custom::Custom;
use super::document::Document;
use super::embedding::Embedding;
use super::fine_tune_sample::FineTuneSample;
use super::graph::Graph;
use super::image::Image;
use super::message::Message;
use super::object::Object;
use super::raw::Raw;
use super::row::Row;
use super::structured_output::StructuredOutput;
use super::tool_call_trace::ToolCallTrace;
use super::{KindId, Payload, Primitive};
use crate::error::{Error, ErrorKind, Result};
use crate::id::PrimitiveId;
use crate::lineage::Lineage;
use crate::metadata::Metadata;

/// The first byte of the binary form.
const VERSION: u8 = 1;
/// How much of its SHA-256 stands at the end of the binary form.
const CHECKSUM: usize = 8;

impl Primitive {
    /// Writes the primitive as compact bytes: a version, the content in `postcard`, a checksum.
    ///
    /// # Errors
    ///
    /// `validation` if a user's own type does not serialize.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = postcard::to_extend(self, vec![VERSION]).map_err(|error| {
            Error::new(ErrorKind::Validation, "the primitive does not become bytes")
                .with_source(error)
                .at_item(self.id())
        })?;
        let checksum = Sha256::digest(&bytes);
        bytes.extend_from_slice(&checksum[..CHECKSUM]);
        Ok(bytes)
    }

    /// Reads a primitive from its compact bytes.
    ///
    /// # Errors
    ///
    /// `validation` if the bytes are of another version, cut or corrupt, or the payload is
    /// malformed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let corrupt = |message: &str| {
            Error::new(ErrorKind::Validation, format!("the bytes are no primitive: {message}"))
        };
        let Some((content, checksum)) = bytes.split_last_chunk::<CHECKSUM>() else {
            return Err(corrupt("they are cut"));
        };
        let Some((version, body)) = content.split_first() else {
            return Err(corrupt("they are cut"));
        };
        if Sha256::digest(content)[..CHECKSUM] != *checksum {
            return Err(corrupt("the checksum is another"));
        }
        if *version != VERSION {
            return Err(corrupt(&format!(
                "version {version} is not {VERSION}, the one that this release reads"
            )));
        }
        match postcard::take_from_bytes(body) {
            Ok((primitive, [])) => Ok(primitive),
            Ok(_) => Err(corrupt("there are more of them than it takes")),
            Err(error) => Err(corrupt("they do not read").with_source(error)),
        }
    }
}

/// A primitive as JSON, borrowed.
#[derive(Serialize)]
struct Written<'a> {
    id: PrimitiveId,
    kind: KindId,
    payload: Bare<'a>,
    metadata: &'a Metadata,
    lineage: &'a Lineage,
}

/// A primitive as JSON. The payload is read once the kind is known: fields may come in any order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Readable {
    id: PrimitiveId,
    kind: KindId,
    payload: Value,
    #[serde(default)]
    metadata: Arc<Metadata>,
    lineage: Lineage,
}

impl Serialize for Primitive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            let payload = Bare(&self.payload);
            let (id, kind) = (self.id(), self.kind());
            return Written { id, kind, payload, metadata: &self.metadata, lineage: &self.lineage }
                .serialize(serializer);
        }
        (self.id(), &self.payload, &self.metadata, &self.lineage).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Primitive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let Readable { id, kind, payload, metadata, lineage } = Readable::deserialize(deserializer)?;
            let payload = read(kind, payload).map_err(serde::de::Error::custom)?;
            return Ok(Self::from_parts(Some(id), payload, metadata, lineage));
        }
        let (id, payload, metadata, lineage) = Deserialize::deserialize(deserializer)?;
        Ok(Self::from_parts(Some(id), payload, metadata, lineage))
    }
}

/// A payload as JSON, apart from the primitive.
#[derive(Serialize)]
struct WrittenPayload<'a> {
    kind: KindId,
    payload: Bare<'a>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadablePayload {
    kind: KindId,
    payload: Value,
}

macro_rules! forms {
    ($($variant:ident($type:ty)),*) => {
        /// A payload as JSON without its kind, which stands beside it.
        struct Bare<'a>(&'a Payload);

        impl Serialize for Bare<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self.0 {
                    $(Payload::$variant(payload) => payload.serialize(serializer),)*
                }
            }
        }

        fn read(kind: KindId, payload: Value) -> Result<Payload, serde_json::Error> {
            match kind {
                $(KindId::$variant => <$type>::deserialize(payload).map(Payload::from),)*
            }
        }

        /// A payload in binary formats: the order of the kinds never changes.
        #[derive(Serialize)]
        enum Compact<'a> {
            $($variant(&'a $type),)*
        }

        #[derive(Deserialize)]
        enum CompactOwned {
            $($variant($type),)*
        }

        impl Serialize for Payload {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    return WrittenPayload { kind: self.kind(), payload: Bare(self) }.serialize(serializer);
                }
                let compact = match self {
                    $(Self::$variant(payload) => Compact::$variant(payload),)*
                };
                compact.serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for Payload {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let ReadablePayload { kind, payload } = ReadablePayload::deserialize(deserializer)?;
                    return read(kind, payload).map_err(serde::de::Error::custom);
                }
                Ok(match CompactOwned::deserialize(deserializer)? {
                    $(CompactOwned::$variant(payload) => payload.into(),)*
                })
            }
        }
    };
}

forms! {
    Row(Row), Document(Document), Object(Object), Message(Message), Graph(Graph), Embedding(Embedding),
    Completion(Completion), StructuredOutput(StructuredOutput), ToolCallTrace(ToolCallTrace), Image(Image),
    Audio(Audio), FineTuneSample(FineTuneSample), Raw(Raw), Custom(Custom)
}
