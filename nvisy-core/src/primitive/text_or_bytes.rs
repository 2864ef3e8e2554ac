//! Bytes as text in JSON where they are text, as `{"base64": ".."}` where not.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that are mostly text.
pub(super) struct TextOrBytes(pub(super) Bytes);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Bytes { base64: String },
}

impl Serialize for TextOrBytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if !s.is_human_readable() {
            return s.serialize_bytes(&self.0);
        }
        match std::str::from_utf8(&self.0) {
            Ok(text) => s.serialize_str(text),
            Err(_) => Form::Bytes { base64: STANDARD.encode(&self.0) }.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for TextOrBytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if !d.is_human_readable() {
            return Bytes::deserialize(d).map(Self);
        }
        match Form::deserialize(d)? {
            Form::Text(text) => Ok(Self(text.into())),
            Form::Bytes { base64 } => {
                STANDARD.decode(base64).map(|bytes| Self(bytes.into())).map_err(serde::de::Error::custom)
            }
        }
    }
}

pub(super) fn serialize<S: Serializer>(bytes: &Bytes, s: S) -> Result<S::Ok, S::Error> {
    TextOrBytes(bytes.clone()).serialize(s)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
    TextOrBytes::deserialize(d).map(|bytes| bytes.0)
}

/// The same for bytes that may be missing.
pub(super) mod option {
    use super::{Bytes, Deserialize, Deserializer, Serialize, Serializer, TextOrBytes};

    pub(in super::super) fn serialize<S: Serializer>(bytes: &Option<Bytes>, s: S) -> Result<S::Ok, S::Error> {
        bytes.clone().map(TextOrBytes).serialize(s)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Bytes>, D::Error> {
        Ok(Option::<TextOrBytes>::deserialize(d)?.map(|bytes| bytes.0))
    }
}
