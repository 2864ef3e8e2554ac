//! What an edge carries: many primitives, with identity, envelope and lineage as columns.

mod columns;
mod content;
mod each;
mod edit;
mod limits;
mod mixed;
mod part;
mod source_items;
mod trail;
mod wire;

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use self::columns::{Envelopes, Ids};
use self::content::{Content, Items, gather};
pub use self::limits::BatchLimits;
pub use self::source_items::{Offsets, SourceItems};
use self::trail::Trail;
pub use self::wire::{BatchReader, BatchWriter};
use crate::error::{Error, Result};
use crate::id::{PrimitiveId, SourceIdentity};
use crate::lineage::{Lineage, Link, Step};
use crate::metadata::Metadata;
use crate::position::Positions;
use crate::primitive::{Kind, KindId, Kinds, Payload, Primitive};
use crate::token::Tokens;

/// Many primitives, in one of two layouts.
///
/// - **items**: a payload an item, of any kinds;
/// - **rows**: one Arrow record batch.
///
/// Either way identity, envelope and lineage stand beside the payloads as columns, shared
/// where the items share them: a pass-through node costs one allocation a batch.
/// [`as_rows`](Self::as_rows) is the door to the columnar path; everything else works on both.
///
/// A batch also carries the [`Tokens`] that say which source slots its items come from.
/// Cloning it splits them.
pub struct Batch {
    content: Content,
    ids: Ids,
    envelopes: Envelopes,
    trail: Trail,
    tokens: Tokens,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn empty() -> Self {
        Self::from_primitives(Vec::new())
    }

    /// What a source read: payloads with their positions.
    ///
    /// # Errors
    ///
    /// `internal` if there are not as many positions as payloads.
    pub fn read(
        payloads: Vec<Payload>,
        positions: Positions,
        source: &SourceIdentity,
        step: Arc<Step>,
        metadata: Arc<Metadata>,
    ) -> Result<Self> {
        Self::origin(Content::Items(Items::shared(payloads)), positions, source, step, metadata)
    }

    /// What a source read: rows with their positions.
    ///
    /// # Errors
    ///
    /// `internal` if there are not as many positions as rows.
    pub fn read_rows(
        rows: RecordBatch,
        positions: Positions,
        source: &SourceIdentity,
        step: Arc<Step>,
        metadata: Arc<Metadata>,
    ) -> Result<Self> {
        Self::origin(Content::Rows(rows.into()), positions, source, step, metadata)
    }

    fn origin(
        content: Content,
        positions: Positions,
        source: &SourceIdentity,
        step: Arc<Step>,
        metadata: Arc<Metadata>,
    ) -> Result<Self> {
        let len = content.len();
        if let Some(positions) = positions.len()
            && positions != len
        {
            return Err(Error::internal(format!("a source gave {positions} positions for {len} items")));
        }
        let link = Lineage::origins(step, source.clone(), positions).link;
        Ok(Self {
            content,
            ids: Ids::Natural,
            envelopes: Envelopes::shared(metadata),
            trail: Trail::shared(link),
            tokens: Tokens::none(),
        })
    }

    /// Gathers primitives. Columns that they share are shared again, and rows of one record
    /// batch become rows again.
    #[must_use]
    pub fn from_primitives(primitives: Vec<Primitive>) -> Self {
        let len = primitives.len();
        let mut payloads = Vec::with_capacity(len);
        let mut ids = columns::IdsBuilder::with_capacity(len);
        let mut envelopes = columns::EnvelopesBuilder::new();
        let mut trail = trail::TrailBuilder::with_capacity(len);
        for primitive in primitives {
            let (id, payload, metadata, lineage) = primitive.into_parts();
            payloads.push(payload);
            ids.push(id, &lineage);
            envelopes.push(metadata);
            trail.push(lineage);
        }
        let trail = trail.finish();
        Self {
            content: gather(payloads),
            ids: ids.finish(&trail),
            envelopes: envelopes.finish(),
            trail,
            tokens: Tokens::none(),
        }
    }

    /// Returns how many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.content.len()
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns about how many bytes the payloads hold in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.content {
            Content::Items(items) => items.bytes(),
            Content::Rows(table) => table.bytes(),
            Content::Gone(_) => 0,
        }
    }

    /// Returns the kinds that are in it.
    #[must_use]
    pub fn kinds(&self) -> Kinds {
        match &self.content {
            Content::Items(items) => items.payloads.iter().map(Payload::kind).collect(),
            Content::Rows(table) if table.rows.num_rows() == 0 => Kinds::NONE,
            Content::Gone(_) => Kinds::NONE,
            Content::Rows(_) => Kinds::of(KindId::Row),
        }
    }

    /// Returns the record batch, if the layout is rows: the door to the columnar path.
    #[must_use]
    pub fn as_rows(&self) -> Option<&Arc<RecordBatch>> {
        match &self.content {
            Content::Rows(table) => Some(&table.rows),
            Content::Items(_) | Content::Gone(_) => None,
        }
    }

    /// Returns the payloads, if the layout is items.
    #[must_use]
    pub fn as_items(&self) -> Option<&[Payload]> {
        match &self.content {
            Content::Items(items) => Some(&items.payloads),
            Content::Rows(_) | Content::Gone(_) => None,
        }
    }

    /// Returns the payload at `index`; a row is a view at no copy.
    ///
    /// # Panics
    ///
    /// If there is no such item, or its payload was taken out.
    #[must_use]
    pub fn payload(&self, index: usize) -> Payload {
        self.content.payload(index)
    }

    /// Returns the primitive at `index`; a row is a view at no copy.
    ///
    /// # Panics
    ///
    /// If there is no such item.
    #[must_use]
    pub fn primitive(&self, index: usize) -> Primitive {
        Primitive::from_parts(
            self.ids.get(index),
            self.content.payload(index),
            self.envelopes.get(index).clone(),
            self.trail.get(index),
        )
    }

    /// Iterates over the primitives.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Primitive> {
        (0..self.len()).map(|index| self.primitive(index))
    }

    /// Returns the primitives. The tokens count as abandoned unless they were
    /// [taken](Self::take_tokens).
    #[must_use]
    pub fn into_primitives(self) -> Vec<Primitive> {
        self.iter().collect()
    }

    /// Returns the id of the item at `index`.
    ///
    /// # Panics
    ///
    /// If there is no such item.
    #[must_use]
    pub fn id(&self, index: usize) -> PrimitiveId {
        match self.ids.get(index).or_else(|| self.trail.get(index).natural_id()) {
            Some(id) => id,
            None => unreachable!("an id without a source"),
        }
    }

    /// Returns the ids, in order.
    #[must_use]
    pub fn ids(&self) -> Vec<PrimitiveId> {
        (0..self.len()).map(|index| self.id(index)).collect()
    }

    /// Returns the lineage of the item at `index`.
    ///
    /// # Panics
    ///
    /// If there is no such item.
    #[must_use]
    pub fn lineage(&self, index: usize) -> Lineage {
        self.trail.get(index)
    }

    /// Returns about how many bytes it takes to remember who the items are and where they come
    /// from; what stands behind the last step counts where it is remembered for itself.
    #[must_use]
    pub fn identity_bytes(&self) -> usize {
        size_of::<Self>()
            + self.ids.bytes()
            + self.trail.links().into_iter().map(|link| link.bytes()).sum::<usize>()
    }

    /// Returns whether the ids follow from the lineages.
    pub(crate) fn is_natural(&self) -> bool {
        matches!(self.ids, Ids::Natural)
    }

    /// Returns the links of the lineages: each once for many items.
    pub(crate) fn links(&self) -> Vec<&Arc<Link>> {
        self.trail.links()
    }

    /// Returns the index in its link of the first item, if the items share one, in order.
    pub(crate) fn start(&self) -> Option<u32> {
        self.trail.start()
    }

    /// Returns which of the [links](Self::links) is that of the item at `index`, and its index there.
    pub(crate) fn link_at(&self, index: usize) -> (usize, u32) {
        self.trail.at(index)
    }

    /// Returns the envelope of the item at `index`.
    ///
    /// # Panics
    ///
    /// If there is no such item.
    #[must_use]
    pub fn metadata(&self, index: usize) -> &Arc<Metadata> {
        self.envelopes.get(index)
    }

    /// Returns the tokens.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Takes the tokens out: whoever has them says how the items ended.
    pub fn take_tokens(&mut self) -> Tokens {
        std::mem::take(&mut self.tokens)
    }

    /// Returns the batch with these tokens instead of its own.
    #[must_use]
    pub fn with_tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = tokens;
        self
    }

    /// Returns a copy without tokens: the content is shared.
    #[must_use]
    pub fn without_tokens(&self) -> Self {
        Self {
            content: self.content.clone(),
            ids: self.ids.clone(),
            envelopes: self.envelopes.clone(),
            trail: self.trail.clone(),
            tokens: Tokens::none(),
        }
    }

    /// Takes the payloads out, for good: what is left, tokens too, still knows how many there
    /// were, whose, and where they came from.
    ///
    /// For whoever calls an action that gets its batch to keep, so that the payloads have one
    /// owner and are edited in place. What is left is for the books only: it is never sent on,
    /// and to ask it for a payload or a primitive panics. It must not outlive the settling of
    /// that one call, and there must be nobody to set failed items aside for, who would ask.
    #[doc(hidden)]
    #[must_use]
    pub fn take_payloads(&mut self) -> Self {
        let left = Self { content: Content::Gone(self.len()), ..self.without_tokens() };
        let tokens = self.take_tokens();
        std::mem::replace(self, left.with_tokens(tokens))
    }

    /// Returns all items as rows of one schema, if they are rows: joins views where needed.
    ///
    /// # Errors
    ///
    /// `validation` if an item is no row, or if their schemas differ.
    pub fn to_rows(&self) -> Result<Arc<RecordBatch>> {
        match &self.content {
            Content::Rows(table) => Ok(table.rows.clone()),
            Content::Items(items) => {
                let mut parts: Vec<RecordBatch> = Vec::new();
                for (index, payload) in items.payloads.iter().enumerate() {
                    let Payload::Row(row) = payload else {
                        let kind = payload.kind();
                        let message = format!("expected a row, found a {kind}: put a `convert` in between");
                        return Err(Error::invalid("payload", message).at_item(self.id(index)));
                    };
                    parts.push(row.batch().slice(row.index(), 1));
                }
                let schema = parts
                    .first()
                    .map_or_else(|| arrow::datatypes::Schema::empty().into(), RecordBatch::schema);
                let rows = concat_batches(&schema, &parts).map_err(|e| {
                    Error::invalid("row", "the rows of a batch have different schemas").with_source(e)
                })?;
                Ok(Arc::new(rows))
            }
            Content::Gone(_) => Err(Error::internal("the rows were handed over")),
        }
    }
}

impl Clone for Batch {
    /// Returns a second batch of the same items. The tokens are split: both have to end well.
    fn clone(&self) -> Self {
        self.without_tokens().with_tokens(self.tokens.split())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("len", &self.len())
            .field("kinds", &self.kinds())
            .field("rows", &matches!(self.content, Content::Rows(_)))
            .field("tokens", &self.tokens.len())
            .finish()
    }
}

impl FromIterator<Primitive> for Batch {
    fn from_iter<T: IntoIterator<Item = Primitive>>(primitives: T) -> Self {
        Self::from_primitives(primitives.into_iter().collect())
    }
}

impl<K: Kind> FromIterator<crate::primitive::Item<K>> for Batch {
    fn from_iter<T: IntoIterator<Item = crate::primitive::Item<K>>>(items: T) -> Self {
        items.into_iter().map(crate::primitive::Item::into_primitive).collect()
    }
}
