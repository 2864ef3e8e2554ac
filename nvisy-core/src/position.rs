//! Where an item stands in its source: what a run resumes after.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{PrimitiveId, SourceIdentity};

/// A part of a source that can be read on its own, in parallel with the others and on
/// another machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Partition {
    /// Names the partition within its source; stable from run to run.
    pub id: Arc<str>,
    /// How many items are in it, where the source can tell cheaply: what an ETA is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
    /// Tells the content apart from what it was and will be: two readings of one version give the
    /// same items. None where the source cannot tell, or nobody asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// Whether it is a range of one whole, as of the keys of a table: with another cut its items are in
    /// other partitions, and a run that goes on would read them again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub range: bool,
}

impl Partition {
    /// Names a partition.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self { id: id.into(), items: None, version: None, range: false }
    }

    /// The one partition of a source that has no parts.
    #[must_use]
    pub fn whole() -> Self {
        Self::new("all")
    }

    /// Says how many items are in it.
    #[must_use]
    pub fn with_items(mut self, items: u64) -> Self {
        self.items = Some(items);
        self
    }

    /// Says that it is a range of one whole: a run that goes on fails where other ranges are listed than
    /// those that it has read, unless the source is incremental.
    #[must_use]
    pub fn as_range(mut self) -> Self {
        self.range = true;
        self
    }

    /// Says in which version it is.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<Arc<str>>) -> Self {
        self.version = Some(version.into());
        self
    }
}

/// Where an item stands in its partition: reading *after* it goes on with the next.
///
/// A total order within a partition, known to the connector; opaque to the engine, which
/// only hands it back. It is also the connector's natural key: see [`SourceIdentity::id`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// A count: of items, messages or bytes.
    Offset(u64),
    /// A place in an object: object stores.
    Marker {
        /// The object's key.
        object: Arc<str>,
        /// The row's number or the byte's offset in it.
        offset: u64,
    },
    /// The values of the ordering key: relational databases.
    Keyset(Arc<[KeyValue]>),
    /// What the other system calls its place: vector stores, queues.
    Token(Arc<str>),
}

/// One column's value in a [`Position::Keyset`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyValue {
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A text.
    Text(Arc<str>),
    /// Bytes.
    Bytes(bytes::Bytes),
}

impl Position {
    /// Feeds the position to a hash, unambiguously.
    pub(crate) fn feed(&self, feed: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Offset(offset) => feed_offset(*offset, feed),
            Self::Marker { object, offset } => feed_marker(object, *offset, feed),
            Self::Keyset(values) => {
                feed(b"s");
                for value in values.iter() {
                    match value {
                        KeyValue::Int(v) => {
                            feed(b"i");
                            feed(&v.to_be_bytes());
                        }
                        KeyValue::Float(v) => {
                            feed(b"f");
                            feed(&v.to_bits().to_be_bytes());
                        }
                        KeyValue::Text(v) => feed_part(b"t", v.as_bytes(), feed),
                        KeyValue::Bytes(v) => feed_part(b"b", v, feed),
                    }
                }
            }
            Self::Token(token) => feed_part(b"t", token.as_bytes(), feed),
        }
    }
}

fn feed_offset(offset: u64, feed: &mut dyn FnMut(&[u8])) {
    let mut bytes = [b'o'; 9];
    bytes[1..].copy_from_slice(&offset.to_be_bytes());
    feed(&bytes);
}

fn feed_marker(object: &str, offset: u64, feed: &mut dyn FnMut(&[u8])) {
    feed_part(b"m", object.as_bytes(), feed);
    feed(&offset.to_be_bytes());
}

fn feed_part(tag: &[u8], bytes: &[u8], feed: &mut dyn FnMut(&[u8])) {
    feed(tag);
    feed(&(bytes.len() as u64).to_be_bytes());
    feed(bytes);
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(offset) => write!(f, "{offset}"),
            Self::Marker { object, offset } => write!(f, "{object}:{offset}"),
            Self::Keyset(values) => {
                for (i, value) in values.iter().enumerate() {
                    if i > 0 {
                        f.write_str(",")?;
                    }
                    match value {
                        KeyValue::Int(v) => write!(f, "{v}")?,
                        KeyValue::Float(v) => write!(f, "{v}")?,
                        KeyValue::Text(v) => f.write_str(v)?,
                        KeyValue::Bytes(v) => write!(f, "{v:x}")?,
                    }
                }
                Ok(())
            }
            Self::Token(token) => f.write_str(token),
        }
    }
}

/// The positions of the items of one source batch, as a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// Consecutive offsets from `start`, in an object or on their own: no memory an item.
    Sequence {
        /// The object's key, if the offsets are in one.
        object: Option<Arc<str>>,
        /// The first item's offset.
        start: u64,
    },
    /// Offsets in one object.
    Offsets {
        /// The object's key.
        object: Arc<str>,
        /// An offset an item.
        offsets: Arc<[u64]>,
    },
    /// A position an item.
    Each(Arc<[Position]>),
}

impl Positions {
    /// Consecutive offsets from `start`.
    #[must_use]
    pub fn from(start: u64) -> Self {
        Self::Sequence { object: None, start }
    }

    /// Consecutive rows of an object, from `start`.
    #[must_use]
    pub fn rows(object: impl Into<Arc<str>>, start: u64) -> Self {
        Self::Sequence { object: Some(object.into()), start }
    }

    /// Offsets in one object, one an item.
    #[must_use]
    pub fn offsets(object: impl Into<Arc<str>>, offsets: impl Into<Arc<[u64]>>) -> Self {
        Self::Offsets { object: object.into(), offsets: offsets.into() }
    }

    /// A position an item.
    #[must_use]
    pub fn each(positions: impl Into<Arc<[Position]>>) -> Self {
        Self::Each(positions.into())
    }

    /// Returns the position of the item at `index`, or none past the end of a finite column.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<Position> {
        let at = index as usize;
        match self {
            Self::Sequence { object: None, start } => Some(Position::Offset(start + u64::from(index))),
            Self::Sequence { object: Some(object), start } => {
                Some(Position::Marker { object: object.clone(), offset: start + u64::from(index) })
            }
            Self::Offsets { object, offsets } => {
                offsets.get(at).map(|offset| Position::Marker { object: object.clone(), offset: *offset })
            }
            Self::Each(positions) => positions.get(at).cloned(),
        }
    }

    /// Returns how many positions there are, or none for a sequence, which has no end.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a sequence is neither empty nor not")]
    pub fn len(&self) -> Option<usize> {
        match self {
            Self::Sequence { .. } => None,
            Self::Offsets { offsets, .. } => Some(offsets.len()),
            Self::Each(positions) => Some(positions.len()),
        }
    }

    /// Returns the id of the item at `index`, without building its position.
    pub(crate) fn id(&self, source: &SourceIdentity, index: u32) -> PrimitiveId {
        let at = index as usize;
        source.hash(|feed| match self {
            Self::Sequence { object: None, start } => feed_offset(start + u64::from(index), feed),
            Self::Sequence { object: Some(object), start } => {
                feed_marker(object, start + u64::from(index), feed);
            }
            Self::Offsets { object, offsets } => {
                feed_marker(object, offsets.get(at).copied().unwrap_or(u64::MAX), feed);
            }
            Self::Each(positions) => {
                if let Some(position) = positions.get(at) {
                    position.feed(feed);
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_gives_the_ids_that_its_positions_give() {
        let source = SourceIdentity::new("memory");
        let columns = [
            Positions::from(5),
            Positions::rows("a.csv", 5),
            Positions::offsets("a.csv", [0, 17, 90]),
            Positions::each([Position::Token("x".into()), Position::Offset(1), Position::Keyset([].into())]),
        ];
        for column in columns {
            for index in 0..3 {
                let position = column.get(index).unwrap();
                assert_eq!(column.id(&source, index), source.id(&position), "{position}");
            }
        }
    }

    #[test]
    fn keys_that_read_alike_are_told_apart() {
        let source = SourceIdentity::new("memory");
        let keyset =
            |values: &[&str]| Position::Keyset(values.iter().map(|v| KeyValue::Text((*v).into())).collect());
        assert_ne!(source.id(&keyset(&["ab", "c"])), source.id(&keyset(&["a", "bc"])));
        assert_ne!(source.id(&Position::Offset(1)), source.id(&Position::Token("1".into())));
    }
}
