//! What a store keeps of an embedding: what is written, and what is read back.

use std::collections::BTreeMap;
use std::sync::Arc;

use nvisy_core::lineage::Record;
use nvisy_core::metadata::Metadata;
use nvisy_core::primitive::document::{Document, DocumentFields};
use nvisy_core::primitive::embedding::{Embedding, EmbeddingFields, Metric};
use nvisy_core::{Batch, Context, Error, ErrorKind, Kind, Origin, Payload, PrimitiveId, Result, RunId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The key of an envelope under which what is read from a store carries where it came from
/// before: so that a copy in another store still traces back to its source item.
const BEFORE: &str = "nvisy.origin";

/// Where an embedding came from before it was in the store that it is read from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Before {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) root: Option<PrimitiveId>,
    pub(crate) lineage: Vec<Record>,
}

/// What users say about an embedding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Said {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) custom: BTreeMap<String, Value>,
}

/// An embedding on its way into a store.
#[derive(Clone, Debug)]
pub(crate) struct NewPoint {
    pub(crate) id: PrimitiveId,
    pub(crate) embedding: Arc<Embedding>,
    pub(crate) metadata: Arc<Metadata>,
    pub(crate) run: Option<RunId>,
    pub(crate) root: Option<PrimitiveId>,
    /// The object that it comes from, and the generation that writes it.
    pub(crate) origin: Option<Origin>,
    pub(crate) generation: u64,
    pub(crate) lineage: Vec<Record>,
}

impl NewPoint {
    /// Takes an item of a batch.
    ///
    /// # Errors
    ///
    /// `validation` if it is no embedding.
    pub(crate) fn of(batch: &Batch, index: usize, context: &Context) -> Result<Self> {
        let id = batch.id(index);
        let embedding = match batch.payload(index) {
            Payload::Embedding(embedding) => embedding,
            other => {
                let kind = other.kind();
                let remedy = match kind {
                    nvisy_core::KindId::Document => "put an `ai/embed` in between",
                    _ => "put a `convert` in between",
                };
                let message = format!("expected an embedding, found a {kind}: {remedy}");
                return Err(Error::new(ErrorKind::Validation, message).at_item(id));
            }
        };
        let lineage = batch.lineage(index);
        let metadata = batch.metadata(index).clone();
        let run = context.run().or(metadata.run);
        let mut point = Self {
            id,
            embedding,
            run,
            root: lineage.root().map(|root| root.id),
            origin: Origin::of(batch, index),
            generation: context.generation_or_now(),
            lineage: lineage.records(),
            metadata,
        };
        if let Some(origin) = point.metadata.custom.get(BEFORE).and_then(|v| Before::deserialize(v).ok()) {
            point.root = origin.root.or(point.root);
            let after = std::mem::replace(&mut point.lineage, origin.lineage);
            point.lineage.extend(after);
        }
        Ok(point)
    }

    pub(crate) fn said(&self) -> Said {
        let mut said = Said { tags: self.metadata.tags.clone(), custom: self.metadata.custom.clone() };
        said.custom.remove(BEFORE);
        said
    }

    /// Checks the vector against the collection that it is for.
    ///
    /// # Errors
    ///
    /// `validation` if it has another number of dimensions, or holds something that is no number.
    pub(crate) fn check(&self, collection: &str, dimensions: u32) -> Result<()> {
        let vector = &self.embedding.vector;
        if vector.len() != dimensions as usize {
            let have = vector.len();
            let message = format!(
                "has {have} dimensions, the collection \"{collection}\" takes {dimensions}: embed with the same model"
            );
            return Err(Error::invalid("embedding.vector", message).at_item(self.id));
        }
        match vector.iter().position(|x| !x.is_finite()) {
            Some(at) => {
                let message = format!("holds {} at index {at}", vector[at]);
                Err(Error::invalid("embedding.vector", message).at_item(self.id))
            }
            None => Ok(()),
        }
    }
}

/// An embedding out of a store.
#[derive(Clone, Debug)]
pub(crate) struct StoredPoint {
    pub(crate) id: PrimitiveId,
    /// Empty where only the rest was asked for.
    pub(crate) vector: Vec<f32>,
    pub(crate) model: String,
    pub(crate) content_hash: Option<String>,
    pub(crate) metric: Option<Metric>,
    pub(crate) document: Option<DocumentFields>,
    pub(crate) said: Said,
    pub(crate) run: Option<RunId>,
    pub(crate) origin: Before,
}

impl StoredPoint {
    /// Seals the payload again: takes the vector and the document out.
    ///
    /// # Errors
    ///
    /// `validation` if what is stored is no embedding any more.
    pub(crate) fn seal(&mut self) -> Result<Payload> {
        let document = self.document.take().map(Document::try_from).transpose()?;
        let fields = EmbeddingFields {
            vector: std::mem::take(&mut self.vector),
            model: std::mem::take(&mut self.model),
            document: document.map(Arc::new),
            content_hash: self.content_hash.take(),
            metric: self.metric,
        };
        Ok(Embedding::try_from(fields)?.into_payload())
    }

    /// Returns an envelope with what users said, and where the item came from.
    pub(crate) fn edit(&self, metadata: &mut Metadata) {
        metadata.tags.clone_from(&self.said.tags);
        metadata.custom.clone_from(&self.said.custom);
        if let Ok(origin) = serde_json::to_value(&self.origin) {
            metadata.custom.insert(BEFORE.to_owned(), origin);
        }
    }
}
