//! Bytes with a key: a file, an attachment.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::validated::validated;
use crate::error::{Error, Result};
use crate::hash::ContentHasher;
use crate::metadata::Timestamp;

/// The fields of an [`Object`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectFields {
    /// The key: a path with `/` between its parts.
    pub key: String,
    /// The bytes, or none for a lazy handle: its key and store say where they are.
    #[serde(default, with = "super::base64_bytes::option")]
    pub bytes: Option<Bytes>,
    /// How many bytes there are.
    pub size: u64,
    /// The MIME type.
    #[serde(default)]
    pub mime_type: Option<String>,
    /// The store's tag of this version.
    #[serde(default)]
    pub etag: Option<String>,
    /// When it was last changed.
    #[serde(default)]
    pub last_modified: Option<Timestamp>,
}

impl ObjectFields {
    fn check(&self) -> Result<()> {
        if self.key.is_empty() {
            return Err(Error::invalid("object.key", "is empty"));
        }
        match &self.bytes {
            Some(bytes) if bytes.len() as u64 != self.size => Err(Error::invalid(
                "object.size",
                format!("says {} bytes, there are {}", self.size, bytes.len()),
            )),
            _ => Ok(()),
        }
    }
}

validated! {
    /// Bytes with a key, or a handle to them.
    Object(ObjectFields)
}

impl Object {
    /// Makes an object of its bytes.
    ///
    /// # Errors
    ///
    /// `validation` if the key is empty.
    pub fn new(key: impl Into<String>, bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        let size = bytes.len() as u64;
        ObjectFields { key: key.into(), bytes: Some(bytes), size, ..Default::default() }.try_into()
    }

    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.key.len() + self.bytes.as_ref().map_or(0, Bytes::len)
    }

    pub(crate) fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("key", &self.key);
        hasher.field("bytes", &self.bytes);
        hasher.field("size", &self.size);
        hasher.field("mime_type", &self.mime_type);
        hasher.field("etag", &self.etag);
        hasher.field("last_modified", &self.last_modified);
    }
}
