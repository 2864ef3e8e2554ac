//! The payload of a primitive: one of the kinds.

use std::sync::Arc;

use super::audio::Audio;
use super::completion::Completion;
use super::custom::Custom;
use super::document::Document;
use super::embedding::Embedding;
use super::fine_tune_sample::FineTuneSample;
use super::graph::Graph;
use super::image::Image;
use super::kind::{Accepts, Kind, KindId, Kinds};
use super::message::Message;
use super::object::Object;
use super::raw::Raw;
use super::row::Row;
use super::structured_output::StructuredOutput;
use super::tool_call_trace::ToolCallTrace;
use crate::hash::{Content, ContentHash, ContentHasher};

/// What a primitive is about. A clone is one reference count; the enum is two words.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Payload {
    /// One relational record.
    Row(Row),
    /// A text.
    Document(Arc<Document>),
    /// Bytes with a key.
    Object(Arc<Object>),
    /// A message of a queue.
    Message(Arc<Message>),
    /// Nodes and edges.
    Graph(Arc<Graph>),
    /// A vector.
    Embedding(Arc<Embedding>),
    /// A model's answer.
    Completion(Arc<Completion>),
    /// JSON that obeys a schema.
    StructuredOutput(Arc<StructuredOutput>),
    /// What tools a model called.
    ToolCallTrace(Arc<ToolCallTrace>),
    /// A picture.
    Image(Arc<Image>),
    /// A sound.
    Audio(Arc<Audio>),
    /// A sample to train on.
    FineTuneSample(Arc<FineTuneSample>),
    /// JSON or bytes of any shape.
    Raw(Arc<Raw>),
    /// A user's own type.
    Custom(Arc<Custom>),
}

impl Payload {
    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> KindId {
        match self {
            Self::Row(_) => KindId::Row,
            Self::Document(_) => KindId::Document,
            Self::Object(_) => KindId::Object,
            Self::Message(_) => KindId::Message,
            Self::Graph(_) => KindId::Graph,
            Self::Embedding(_) => KindId::Embedding,
            Self::Completion(_) => KindId::Completion,
            Self::StructuredOutput(_) => KindId::StructuredOutput,
            Self::ToolCallTrace(_) => KindId::ToolCallTrace,
            Self::Image(_) => KindId::Image,
            Self::Audio(_) => KindId::Audio,
            Self::FineTuneSample(_) => KindId::FineTuneSample,
            Self::Raw(_) => KindId::Raw,
            Self::Custom(_) => KindId::Custom,
        }
    }

    /// Returns about how many bytes it holds in memory: what bounds in bytes are counted in.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Row(p) => p.size(),
            Self::Document(p) => p.size(),
            Self::Object(p) => p.size(),
            Self::Message(p) => p.size(),
            Self::Graph(p) => p.size(),
            Self::Embedding(p) => p.size(),
            Self::Completion(p) => p.size(),
            Self::StructuredOutput(p) => p.size(),
            Self::ToolCallTrace(p) => p.size(),
            Self::Image(p) => p.size(),
            Self::Audio(p) => p.size(),
            Self::FineTuneSample(p) => p.size(),
            Self::Raw(p) => p.size(),
            Self::Custom(p) => p.size(),
        }
    }

    /// Returns the hash of what it says: see [`ContentHash`].
    #[must_use]
    pub fn content_hash(&self) -> ContentHash {
        let mut hasher = ContentHasher::new(self.kind().name());
        match self {
            Self::Row(p) => p.feed(&mut hasher),
            Self::Document(p) => Content::feed(&**p, &mut hasher),
            Self::Object(p) => p.feed(&mut hasher),
            Self::Message(p) => p.feed(&mut hasher),
            Self::Graph(p) => p.feed(&mut hasher),
            Self::Embedding(p) => p.feed(&mut hasher),
            Self::Completion(p) => p.feed(&mut hasher),
            Self::StructuredOutput(p) => p.feed(&mut hasher),
            Self::ToolCallTrace(p) => p.feed(&mut hasher),
            Self::Image(p) => p.feed(&mut hasher),
            Self::Audio(p) => p.feed(&mut hasher),
            Self::FineTuneSample(p) => p.feed(&mut hasher),
            Self::Raw(p) => p.feed(&mut hasher),
            Self::Custom(p) => p.feed(&mut hasher),
        }
        hasher.finish()
    }
}

macro_rules! kinds {
    (@replace Row) => {};
    (@replace $variant:ident) => {
        fn replace(self, old: Payload) -> Payload {
            if let Payload::$variant(mut place) = old
                && let Some(payload) = Arc::get_mut(&mut place)
            {
                *payload = self;
                return Payload::$variant(place);
            }
            self.into_payload()
        }
    };
    ($($variant:ident: $type:ty, $name:literal;)*) => {$(
        impl Kind for $type {
            const NAME: &'static str = $name;
            const KINDS: Kinds = Kinds::of(KindId::$variant);

            fn of(payload: &Payload) -> Option<&Self> {
                match payload {
                    Payload::$variant(payload) => Some(payload),
                    _ => None,
                }
            }

            fn into_payload(self) -> Payload {
                Payload::$variant(self.into())
            }

            kinds!(@replace $variant);
        }

        impl Accepts<$type> for $type {}

        impl From<$type> for Payload {
            fn from(payload: $type) -> Self {
                payload.into_payload()
            }
        }
    )*};
}

kinds! {
    Row: Row, "row";
    Document: Document, "document";
    Object: Object, "object";
    Message: Message, "message";
    Graph: Graph, "graph";
    Embedding: Embedding, "embedding";
    Completion: Completion, "completion";
    StructuredOutput: StructuredOutput, "structured output";
    ToolCallTrace: ToolCallTrace, "tool call trace";
    Image: Image, "image";
    Audio: Audio, "audio";
    FineTuneSample: FineTuneSample, "fine-tuning sample";
    Raw: Raw, "raw";
    Custom: Custom, "custom";
}
