//! Deterministic identity: what makes an upsert idempotent and a replay harmless.

mod derivation;

use std::fmt;
use std::num::NonZeroU128;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

pub use self::derivation::{Derivation, Derivations};
use crate::error::{Error, ErrorKind, Result};
use crate::position::Position;

/// The identity of a [`Primitive`](crate::Primitive): 128 bits, shown as a UUID (version 8).
///
/// It is **deterministic**. A source item's id is `H(source identity ‖ natural key)`, a
/// derived item's `H(parent id ‖ salt ‖ ordinal)`, where `H` is SHA-256 cut to the 122 bits
/// that a UUID leaves free. Reading the same source again gives the same ids, and nothing
/// that a model said or a clock showed goes into one.
///
/// # Examples
///
/// ```
/// use nvisy_core::{Position, PrimitiveId, SourceIdentity};
///
/// let tickets = SourceIdentity::new("file:///data/tickets.jsonl");
/// let ticket = tickets.id(&Position::Offset(17));
/// assert_eq!(ticket, tickets.id(&Position::Offset(17)));
/// assert_ne!(ticket.derive("chunk", 0), ticket.derive("chunk", 1));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrimitiveId(NonZeroU128);

impl PrimitiveId {
    /// Returns the id of the `ordinal`-th thing that `salt` makes of this one.
    ///
    /// The salt names what makes the result another thing (a model, a chunking rule), never
    /// the node: renaming a node orphans nothing.
    #[must_use]
    pub fn derive(self, salt: &str, ordinal: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"derive\0");
        hash.update(self.as_bytes());
        hash.update((salt.len() as u64).to_be_bytes());
        hash.update(salt.as_bytes());
        hash.update(ordinal.to_be_bytes());
        let derived = Self::cut(&hash.finalize());
        derivation::note(self, salt, ordinal, derived);
        derived
    }

    /// Returns the id of what `salt` makes of several inputs together, in their order.
    #[must_use]
    pub fn merge(inputs: impl IntoIterator<Item = Self>, salt: &str, ordinal: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"merge\0\0");
        hash.update((salt.len() as u64).to_be_bytes());
        hash.update(salt.as_bytes());
        hash.update(ordinal.to_be_bytes());
        for input in inputs {
            hash.update(input.as_bytes());
        }
        Self::cut(&hash.finalize())
    }

    /// Returns the sixteen bytes, most significant first.
    #[must_use]
    pub fn as_bytes(&self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }

    /// Reads an id from its sixteen bytes.
    ///
    /// # Errors
    ///
    /// `validation` if the bytes are no version 8 UUID.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self> {
        let value = u128::from_be_bytes(bytes);
        let versioned = bytes[6] >> 4 == 8 && bytes[8] >> 6 == 0b10;
        match NonZeroU128::new(value) {
            Some(value) if versioned => Ok(Self(value)),
            _ => Err(Error::new(ErrorKind::Validation, "a primitive id is a version 8 UUID")),
        }
    }

    fn cut(hash: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash[..16]);
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        // The version bits are set, so the value is never zero.
        Self(NonZeroU128::new(u128::from_be_bytes(bytes)).unwrap_or(NonZeroU128::MAX))
    }
}

impl fmt::Display for PrimitiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0.get();
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            (v >> 96) as u32,
            (v >> 80) as u16,
            (v >> 64) as u16,
            (v >> 48) as u16,
            v & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for PrimitiveId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PrimitiveId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bytes = text.as_bytes();
        let dashed = bytes.len() == 36
            && bytes.iter().enumerate().all(|(i, b)| (*b == b'-') == matches!(i, 8 | 13 | 18 | 23));
        let hex: String = text.chars().filter(|c| *c != '-').collect();
        let value = if dashed && hex.len() == 32 { u128::from_str_radix(&hex, 16).ok() } else { None };
        let value = value.ok_or_else(|| {
            Error::new(ErrorKind::Validation, format!("`{text}` is not a primitive id: expected a UUID"))
        })?;
        Self::from_bytes(value.to_be_bytes())
    }
}

impl Serialize for PrimitiveId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.as_bytes().serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PrimitiveId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(D::Error::custom)
        } else {
            Self::from_bytes(<[u8; 16]>::deserialize(deserializer)?).map_err(D::Error::custom)
        }
    }
}

/// What a source reads, named apart from every node and graph: a database and table, a
/// bucket or directory.
///
/// It is the first half of every source item's id. Cheap to clone.
#[derive(Clone)]
pub struct SourceIdentity(Arc<Inner>);

struct Inner {
    name: Box<str>,
    /// SHA-256 after a whole number of blocks that name the source: an id costs one block more.
    midstate: Sha256,
}

impl SourceIdentity {
    /// Names a source by what it reads, such as `sqlite:tickets.db#tickets`.
    #[must_use]
    pub fn new(name: impl Into<Box<str>>) -> Self {
        let name = name.into();
        let mut midstate = Sha256::new();
        midstate.update(b"source\0\0");
        midstate.update((name.len() as u64).to_be_bytes());
        midstate.update(name.as_bytes());
        let used = 16 + name.len();
        midstate.update(&[0; 64][..used.next_multiple_of(64) - used]);
        Self(Arc::new(Inner { name, midstate }))
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns the id of the item at `position`, the connector's natural key.
    #[must_use]
    pub fn id(&self, position: &Position) -> PrimitiveId {
        self.hash(|feed| position.feed(feed))
    }

    /// Returns the id of the item with a natural key of the user's choice.
    #[must_use]
    pub fn id_of_key(&self, key: &[u8]) -> PrimitiveId {
        self.hash(|feed| {
            feed(b"k");
            feed(key);
        })
    }

    pub(crate) fn hash(&self, key: impl FnOnce(&mut dyn FnMut(&[u8]))) -> PrimitiveId {
        let mut hash = self.0.midstate.clone();
        key(&mut |bytes| hash.update(bytes));
        PrimitiveId::cut(&hash.finalize())
    }
}

impl PartialEq for SourceIdentity {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.name() == other.name()
    }
}

impl Eq for SourceIdentity {}

impl fmt::Debug for SourceIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SourceIdentity").field(&self.name()).finish()
    }
}

/// The identity of one run: a ULID, new every time and sortable by time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RunId(#[schemars(with = "String")] ulid::Ulid);

impl RunId {
    /// Makes a run id from a time in milliseconds since 1970 and 80 random bits.
    #[must_use]
    pub fn from_parts(milliseconds: u64, random: u128) -> Self {
        Self(ulid::Ulid::from_parts(milliseconds, random))
    }

    /// Makes a new run id from the wall clock and the system's randomness.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a new id is an event, not a default")]
    pub fn new() -> Self {
        Self(ulid::Ulid::generate())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for RunId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.parse().map(Self).map_err(|_| {
            Error::new(ErrorKind::Validation, format!("`{text}` is not a run id: expected a ULID"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_version_8_uuid_and_reads_back() {
        let id = SourceIdentity::new("memory").id(&Position::Offset(7));
        let text = id.to_string();
        assert_eq!(text.len(), 36);
        assert_eq!(&text[14..15], "8");
        assert_eq!(text.parse::<PrimitiveId>().unwrap(), id);
        assert_eq!(PrimitiveId::from_bytes(id.as_bytes()).unwrap(), id);
        assert!("not-an-id".parse::<PrimitiveId>().is_err());
    }

    #[test]
    fn ids_never_change() {
        // Golden: a change here orphans everything that was ever written.
        let id = SourceIdentity::new("file:///tickets.jsonl").id(&Position::Offset(42));
        assert_eq!(id.to_string(), GOLDEN_SOURCE);
        assert_eq!(id.derive("chunk", 3).to_string(), GOLDEN_DERIVED);
    }

    const GOLDEN_SOURCE: &str = "3baf5d72-72b5-84de-8e5e-22c86faf26f5";
    const GOLDEN_DERIVED: &str = "54c507e2-d35b-829c-9fe1-3b3024beee4e";
}
