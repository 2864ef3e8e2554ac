//! Kinds of payload: as types for rustc, as values for the compiler of graphs.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::payload::Payload;
use crate::error::{Error, ErrorKind};

/// A kind of payload, as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[repr(u8)]
pub enum KindId {
    /// One relational record.
    Row,
    /// A text.
    Document,
    /// Bytes with a key.
    Object,
    /// A message of a queue.
    Message,
    /// Nodes and edges.
    Graph,
    /// A vector.
    Embedding,
    /// A model's answer.
    Completion,
    /// JSON that obeys a schema.
    StructuredOutput,
    /// What tools a model called.
    ToolCallTrace,
    /// A picture.
    Image,
    /// A sound.
    Audio,
    /// A sample to train on.
    FineTuneSample,
    /// JSON or bytes of any shape.
    Raw,
    /// A user's own type.
    Custom,
}

impl KindId {
    /// Every kind, in order.
    pub const ALL: [Self; 14] = [
        Self::Row,
        Self::Document,
        Self::Object,
        Self::Message,
        Self::Graph,
        Self::Embedding,
        Self::Completion,
        Self::StructuredOutput,
        Self::ToolCallTrace,
        Self::Image,
        Self::Audio,
        Self::FineTuneSample,
        Self::Raw,
        Self::Custom,
    ];

    /// Returns the name, as graphs write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Document => "document",
            Self::Object => "object",
            Self::Message => "message",
            Self::Graph => "graph",
            Self::Embedding => "embedding",
            Self::Completion => "completion",
            Self::StructuredOutput => "structured_output",
            Self::ToolCallTrace => "tool_call_trace",
            Self::Image => "image",
            Self::Audio => "audio",
            Self::FineTuneSample => "fine_tune_sample",
            Self::Raw => "raw",
            Self::Custom => "custom",
        }
    }
}

impl fmt::Display for KindId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KindId {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| Error::new(ErrorKind::Validation, format!("there is no kind of payload `{name}`")))
    }
}

/// A set of kinds: what a port takes or gives.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kinds(u16);

impl Kinds {
    /// No kind.
    pub const NONE: Self = Self(0);
    /// Every kind.
    pub const ANY: Self = Self((1 << KindId::ALL.len()) - 1);

    /// The set of one kind.
    #[must_use]
    pub const fn of(kind: KindId) -> Self {
        Self(1 << kind as u8)
    }

    /// Returns the set with what is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether the kind is in it.
    #[must_use]
    pub const fn contains(self, kind: KindId) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Returns whether every kind of `other` is in it.
    #[must_use]
    pub const fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Returns whether any kind is in both.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns whether it is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Iterates over the kinds, in order.
    pub fn iter(self) -> impl Iterator<Item = KindId> {
        KindId::ALL.into_iter().filter(move |kind| self.contains(*kind))
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ANY {
            return f.write_str("any");
        }
        for (i, kind) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(" or ")?;
            }
            kind.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromIterator<KindId> for Kinds {
    fn from_iter<T: IntoIterator<Item = KindId>>(kinds: T) -> Self {
        kinds.into_iter().fold(Self::NONE, |set, kind| set.union(Self::of(kind)))
    }
}

/// A kind of payload, as a type: the payload's own, or [`Any`].
pub trait Kind: Clone + Send + Sync + 'static {
    /// The name, for messages.
    const NAME: &'static str;
    /// The kinds that it stands for.
    const KINDS: Kinds;

    /// Returns the payload as this type, if it is of this kind.
    fn of(payload: &Payload) -> Option<&Self>;

    /// Returns the payload.
    fn into_payload(self) -> Payload;

    /// Returns the payload, in the memory of `old` if nobody else holds that.
    #[must_use]
    fn replace(self, old: Payload) -> Payload {
        drop(old);
        self.into_payload()
    }
}

/// Any kind of payload.
pub type Any = Payload;

impl Kind for Payload {
    const NAME: &'static str = "payload of any kind";
    const KINDS: Kinds = Kinds::ANY;

    fn of(payload: &Payload) -> Option<&Self> {
        Some(payload)
    }

    fn into_payload(self) -> Payload {
        self
    }
}

/// Says that a node whose input is `Self` takes items of kind `K`.
#[diagnostic::on_unimplemented(
    message = "a node that takes `{Self}` cannot take `{K}`",
    label = "what flows here is `{K}`, this node takes `{Self}`",
    note = "put an action in between that makes the one of the other, such as `Convert` or `ai::Embed`, or take `Any` if every kind is welcome"
)]
pub trait Accepts<K: Kind>: Kind {}

impl<K: Kind> Accepts<K> for Payload {}
