//! The hash of what a payload says: what deduplication and the memo of paid calls go by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// SHA-256 over the canonical form of a payload, without envelope, id and lineage.
///
/// The canonical form does not depend on where the payload is kept: a row hashes alike in
/// every batch, in a dictionary or not; JSON objects hash by sorted keys. An optional field
/// that is not set is left out, so a field added later changes no hash. `-0.0` hashes like
/// `0.0`, and all numbers that are none (NaN) hash alike.
///
/// # Examples
///
/// ```
/// use nvisy_core::Payload;
/// use nvisy_core::primitive::raw::Raw;
/// use serde_json::json;
///
/// let hash = |value| Payload::from(Raw::Json(value)).content_hash();
/// assert_eq!(hash(json!({"a": 1, "b": 2})), hash(json!({"b": 2, "a": 1})));
/// assert_ne!(hash(json!({"a": 1})), hash(json!({"a": 1.5})));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Takes the 32 bytes of a hash.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Hashes bytes as they are.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentHash {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let mut bytes = [0; 32];
            if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
            }
            Some(Self(bytes))
        };
        parse().ok_or_else(|| {
            Error::new(
                ErrorKind::Validation,
                format!("`{text}` is not a content hash: expected 64 hex digits"),
            )
        })
    }
}

impl Serialize for ContentHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
        } else {
            <[u8; 32]>::deserialize(deserializer).map(Self)
        }
    }
}

/// Takes the canonical form of a payload, value by value. Each is tagged and its length told,
/// so that no two forms read alike.
pub(crate) struct ContentHasher(Sha256);

impl ContentHasher {
    pub(crate) fn new(kind: &str) -> Self {
        let mut hasher = Self(Sha256::new());
        hasher.text(kind);
        hasher
    }

    pub(crate) fn finish(self) -> ContentHash {
        ContentHash(self.0.finalize().into())
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        self.0.update([tag]);
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn null(&mut self) {
        self.0.update(b"n");
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.0.update(if value { b"1" } else { b"0" });
    }

    pub(crate) fn int(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.uint(value),
            Err(_) => {
                self.0.update(b"i");
                self.0.update(value.to_be_bytes());
            }
        }
    }

    pub(crate) fn uint(&mut self, value: u64) {
        self.0.update(b"u");
        self.0.update(value.to_be_bytes());
    }

    pub(crate) fn float(&mut self, value: f64) {
        // Adding zero turns -0.0 into 0.0.
        let bits = if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() };
        self.0.update(b"f");
        self.0.update(bits.to_be_bytes());
    }

    pub(crate) fn vector(&mut self, values: &[f32]) {
        self.0.update(b"v");
        self.0.update((values.len() as u64).to_be_bytes());
        for value in values {
            let bits = if value.is_nan() { f32::NAN.to_bits() } else { (value + 0.0).to_bits() };
            self.0.update(bits.to_be_bytes());
        }
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.tagged(b't', value.as_bytes());
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.tagged(b'b', value);
    }

    /// Says that a list of `len` values follows.
    pub(crate) fn list(&mut self, len: usize) {
        self.0.update(b"l");
        self.0.update((len as u64).to_be_bytes());
    }

    /// Says that `len` keys follow, each with its value.
    fn map(&mut self, len: usize) {
        self.0.update(b"m");
        self.0.update((len as u64).to_be_bytes());
    }

    pub(crate) fn json(&mut self, value: &Value) {
        match value {
            Value::Null => self.null(),
            Value::Bool(value) => self.bool(*value),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => self.int(value),
                (None, Some(value)) => self.uint(value),
                (None, None) => self.float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => self.text(text),
            Value::Array(values) => {
                self.list(values.len());
                values.iter().for_each(|value| self.json(value));
            }
            Value::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_unstable_by_key(|(name, _)| *name);
                self.map(fields.len());
                for (name, value) in fields {
                    self.text(name);
                    self.json(value);
                }
            }
        }
    }

    /// Feeds a named field, unless it is not set.
    pub(crate) fn field(&mut self, name: &str, value: &(impl Content + ?Sized)) {
        if value.is_set() {
            self.tagged(b'.', name.as_bytes());
            value.feed(self);
        }
    }

    /// Ends the fields of one thing.
    pub(crate) fn end(&mut self) {
        self.0.update(b";");
    }
}

/// What has a canonical form.
pub(crate) trait Content {
    /// Feeds the canonical form.
    fn feed(&self, hasher: &mut ContentHasher);

    /// Whether it is there at all: an optional field that is not leaves no trace.
    fn is_set(&self) -> bool {
        true
    }
}

macro_rules! content {
    ($($type:ty => $method:ident: $map:expr;)*) => {$(
        impl Content for $type {
            fn feed(&self, hasher: &mut ContentHasher) {
                let map: fn(&Self) -> _ = $map;
                hasher.$method(map(self));
            }
        }
    )*};
}

content! {
    bool => bool: |v| *v;
    u16 => uint: |v| (*v).into();
    u32 => uint: |v| (*v).into();
    u64 => uint: |v| *v;
    i32 => int: |v| (*v).into();
    i64 => int: |v| *v;
    f64 => float: |v| *v;
}

impl Content for str {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.text(self);
    }
}

impl Content for String {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.text(self);
    }
}

impl Content for bytes::Bytes {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.bytes(self);
    }
}

impl Content for [f32] {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.vector(self);
    }
}

impl Content for Value {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.json(self);
    }
}

impl Content for crate::metadata::Timestamp {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.list(2);
        hasher.int(self.timestamp());
        hasher.uint(self.timestamp_subsec_nanos().into());
    }
}

impl Content for std::time::Duration {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.list(2);
        hasher.uint(self.as_secs());
        hasher.uint(self.subsec_nanos().into());
    }
}

impl<T: Content + ?Sized> Content for &T {
    fn feed(&self, hasher: &mut ContentHasher) {
        (**self).feed(hasher);
    }

    fn is_set(&self) -> bool {
        (**self).is_set()
    }
}

impl<T: Content> Content for Option<T> {
    fn feed(&self, hasher: &mut ContentHasher) {
        match self {
            Some(value) => value.feed(hasher),
            None => hasher.null(),
        }
    }

    fn is_set(&self) -> bool {
        self.is_some()
    }
}

impl<T: Content> Content for Vec<T> {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.list(self.len());
        self.iter().for_each(|value| value.feed(hasher));
    }

    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl<V: Content> Content for std::collections::BTreeMap<String, V> {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.map(self.len());
        for (key, value) in self {
            hasher.text(key);
            value.feed(hasher);
        }
    }

    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_back() {
        let hash = ContentHash::of_bytes(b"abc");
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hash.to_string().parse::<ContentHash>().unwrap(), hash);
        assert!("ba78".parse::<ContentHash>().is_err());
        assert!("é".repeat(32).parse::<ContentHash>().is_err());
        assert_eq!(serde_json::from_value::<ContentHash>(serde_json::to_value(hash).unwrap()).unwrap(), hash);
    }

    #[test]
    fn forms_that_read_alike_are_told_apart() {
        let hash = |texts: &[&str]| {
            let mut hasher = ContentHasher::new("raw");
            texts.iter().for_each(|text| hasher.text(text));
            hasher.finish()
        };
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
    }
}
