//! A vector, and what it is the vector of.

use serde::{Deserialize, Serialize};

use super::document::Document;
use super::validated::validated;
use crate::error::{Error, Result};
use crate::hash::{Content, ContentHasher};

/// How two vectors are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The angle between them.
    #[default]
    Cosine,
    /// Their inner product.
    Dot,
    /// Their Euclidean distance.
    L2,
}

/// The fields of an [`Embedding`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingFields {
    /// The vector: `[dimensions]` finite numbers. In JSON it is base64 of them, little-endian;
    /// an array of numbers is read as well.
    #[serde(with = "super::vector")]
    pub vector: Vec<f32>,
    /// The model that made it.
    pub model: String,
    /// What it is the vector of: the text with what is known about it.
    #[serde(default)]
    pub document: Option<std::sync::Arc<Document>>,
    /// The content hash of what it is the vector of, in hexadecimal.
    #[serde(default)]
    pub content_hash: Option<String>,
    /// How the model means its vectors to be compared.
    #[serde(default)]
    pub metric: Option<Metric>,
}

impl EmbeddingFields {
    fn check(&self) -> Result<()> {
        if self.vector.is_empty() {
            return Err(Error::invalid("embedding.vector", "is empty"));
        }
        if let Some(at) = self.vector.iter().position(|x| !x.is_finite()) {
            let x = self.vector[at];
            return Err(Error::invalid("embedding.vector", format!("holds {x} at index {at}")));
        }
        Ok(())
    }
}

validated! {
    /// A vector of finite numbers, with the text that it stands for.
    Embedding(EmbeddingFields)
}

impl Embedding {
    /// Returns how many numbers the vector has.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.vector.len()
    }

    pub(crate) fn size(&self) -> usize {
        let document = self.document.as_ref().map_or(0, |d| d.size());
        size_of::<Self>() + size_of_val(self.vector.as_slice()) + self.model.len() + document
    }

    pub(crate) fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("vector", self.vector.as_slice());
        hasher.field("model", &self.model);
        if let Some(document) = &self.document {
            hasher.field("document", &**document);
        }
        hasher.field("content_hash", &self.content_hash);
        hasher.field("metric", &self.metric);
    }
}

impl Content for Metric {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.text(match self {
            Self::Cosine => "cosine",
            Self::Dot => "dot",
            Self::L2 => "l2",
        });
    }
}
