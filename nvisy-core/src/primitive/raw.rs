//! The escape hatch: JSON or bytes of any shape.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::hash::ContentHasher;

/// JSON or bytes of any shape, with nothing known about them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Raw {
    /// A JSON value.
    Json(#[serde(with = "crate::metadata::json_value")] Value),
    /// Bytes. In JSON they are written in base64.
    Bytes(#[serde(with = "super::base64_bytes")] Bytes),
}

impl Raw {
    /// Returns the JSON value, if it is one.
    #[must_use]
    pub fn as_json(&self) -> Option<&Value> {
        match self {
            Self::Json(value) => Some(value),
            Self::Bytes(_) => None,
        }
    }

    /// Returns the bytes, if they are such.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Json(_) => None,
        }
    }

    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Json(value) => json_size(value),
                Self::Bytes(bytes) => bytes.len(),
            }
    }

    pub(crate) fn feed(&self, hasher: &mut ContentHasher) {
        match self {
            Self::Json(value) => hasher.json(value),
            Self::Bytes(bytes) => hasher.bytes(bytes),
        }
    }
}

impl From<Value> for Raw {
    fn from(value: Value) -> Self {
        Self::Json(value)
    }
}

impl From<Bytes> for Raw {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

/// About how many bytes a JSON value holds in memory.
pub(crate) fn json_size(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(json_size).sum(),
            Value::Object(fields) => {
                fields.iter().map(|(k, v)| k.len() + size_of::<String>() + json_size(v)).sum()
            }
            _ => 0,
        }
}
