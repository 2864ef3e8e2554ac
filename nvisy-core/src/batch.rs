//! What an edge carries: many primitives, with identity, envelope and lineage as columns.

mod columns;
mod each;
mod wire;

use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, BooleanArray, BooleanBufferBuilder, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::error::ArrowError;

use self::columns::{Envelopes, Ids, Stretch, Trail};
pub use self::wire::{BatchReader, BatchWriter};
use crate::error::{Error, Result};
use crate::id::{PrimitiveId, SourceIdentity};
use crate::lineage::{Lineage, Link, Parents, Step};
use crate::metadata::Metadata;
use crate::position::Positions;
use crate::primitive::row::Row;
use crate::primitive::{Kind, KindId, Kinds, Payload, Primitive};
use crate::token::{Settlement, Tokens};

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

#[derive(Clone)]
enum Content {
    Items(Arc<Items>),
    Rows(Table),
    /// So many payloads, which somebody else has now.
    Gone(usize),
}

/// Payloads, and how many bytes they hold once somebody asked.
struct Items {
    payloads: Vec<Payload>,
    bytes: OnceLock<usize>,
}

impl Items {
    fn shared(payloads: Vec<Payload>) -> Arc<Self> {
        Arc::new(Self { payloads, bytes: OnceLock::new() })
    }

    fn bytes(&self) -> usize {
        *self.bytes.get_or_init(|| self.payloads.iter().map(Payload::size).sum())
    }
}

/// Rows, and how many bytes they hold once somebody asked.
#[derive(Clone)]
struct Table {
    rows: Arc<RecordBatch>,
    bytes: OnceLock<usize>,
}

impl From<Arc<RecordBatch>> for Table {
    fn from(rows: Arc<RecordBatch>) -> Self {
        Self { rows, bytes: OnceLock::new() }
    }
}

impl From<RecordBatch> for Table {
    fn from(rows: RecordBatch) -> Self {
        Arc::new(rows).into()
    }
}

impl Table {
    fn bytes(&self) -> usize {
        let size = |column: &ArrayRef| {
            column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
        };
        *self.bytes.get_or_init(|| self.rows.columns().iter().map(size).sum())
    }

    fn take(&self, indices: &[u32]) -> Result<RecordBatch, ArrowError> {
        if indices.is_sorted_by(|a, b| a < b) && indices.len() > self.rows.num_rows() / 16 {
            let mut mask = BooleanBufferBuilder::new(self.rows.num_rows());
            mask.append_n(self.rows.num_rows(), false);
            indices.iter().for_each(|index| mask.set_bit(*index as usize, true));
            return filter_record_batch(&self.rows, &mask.finish().into());
        }
        take_record_batch(&self.rows, &UInt32Array::from(indices.to_vec()))
    }
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Self::Items(items) => items.payloads.len(),
            Self::Rows(table) => table.rows.num_rows(),
            Self::Gone(len) => *len,
        }
    }

    fn take(&self, indices: &[u32]) -> Self {
        match self {
            Self::Items(items) => Self::Items(Items::shared(
                indices.iter().map(|i| items.payloads[*i as usize].clone()).collect(),
            )),
            Self::Rows(table) => match table.take(indices) {
                Ok(rows) => Self::Rows(rows.into()),
                // A column that grows too long for its type: the rows stay where they are.
                Err(_) => Self::views(&table.rows, indices),
            },
            Self::Gone(_) => Self::Gone(indices.len()),
        }
    }

    /// Returns the payloads at `indices` as items. Views of rows need no kernel, and so cannot
    /// fail where one does: where the texts of a column outgrow what its offsets can say.
    fn views(rows: &Arc<RecordBatch>, indices: &[u32]) -> Self {
        Self::Items(Items::shared(indices.iter().map(|index| view(rows, *index)).collect()))
    }

    fn slice(&self, offset: usize, len: usize) -> Self {
        match self {
            Self::Items(items) => Self::Items(Items::shared(items.payloads[offset..offset + len].to_vec())),
            Self::Rows(table) => Self::Rows(table.rows.slice(offset, len).into()),
            Self::Gone(_) => Self::Gone(len),
        }
    }

    fn payload(&self, index: usize) -> Payload {
        match self {
            Self::Items(items) => items.payloads[index].clone(),
            Self::Rows(table) => view(&table.rows, index as u32),
            Self::Gone(_) => unreachable!("a payload that was handed over"),
        }
    }
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
        let mut trail = columns::TrailBuilder::with_capacity(len);
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

    /// Returns the envelope of the item at `index`.
    ///
    /// # Panics
    ///
    /// If there is no such item.
    #[must_use]
    pub fn metadata(&self, index: usize) -> &Arc<Metadata> {
        self.envelopes.get(index)
    }

    /// Returns a part: the items at `indices`, in that order. Splits the tokens. Rows stay rows,
    /// unless their texts outgrow a column: then they become views, and none is lost.
    ///
    /// # Panics
    ///
    /// If there is no such item.
    #[must_use]
    pub fn select(&self, indices: &[u32]) -> Self {
        Self {
            content: self.content.take(indices),
            ids: self.ids.take(indices),
            envelopes: self.envelopes.take(indices),
            trail: self.trail.take(indices),
            tokens: self.tokens.split_for(indices.iter().copied()),
        }
    }

    /// Returns `len` items from `offset` on. Splits the tokens; rows are not copied.
    ///
    /// # Panics
    ///
    /// If there are not so many items.
    #[must_use]
    pub fn slice(&self, offset: usize, len: usize) -> Self {
        Self {
            content: self.content.slice(offset, len),
            ids: self.ids.slice(offset, len),
            envelopes: self.envelopes.slice(offset, len),
            trail: self.trail.slice(offset, len),
            tokens: self.tokens.split_for(offset as u32..(offset + len) as u32),
        }
    }

    /// Keeps the items whose bit is set; a null bit is not. The tokens of what goes settle as
    /// [dropped](Settlement::Dropped).
    ///
    /// # Panics
    ///
    /// If the mask has another length.
    #[must_use]
    pub fn filter(mut self, mask: &BooleanArray) -> Self {
        assert_eq!(mask.len(), self.len(), "a mask has a bit an item");
        let kept: Vec<u32> = match mask.nulls() {
            None => mask.values().set_indices_u32().collect(),
            Some(valid) => (mask.values() & valid.inner()).set_indices_u32().collect(),
        };
        if kept.len() == self.len() {
            return self;
        }
        let tokens = self.take_tokens();
        self.tokens = tokens.split_for(kept.iter().copied());
        if tokens.len() > 1 {
            // Slots that lose nothing are not to count as dropped.
            let gone = (0..mask.len()).filter(|i| !(mask.is_valid(*i) && mask.value(*i))).map(|i| i as u32);
            tokens.split_for(gone).settle(Settlement::Dropped);
            tokens.settle(Settlement::Delivered);
        } else {
            tokens.settle(Settlement::Dropped);
        }
        let rows = self.as_rows().and_then(|rows| filter_record_batch(rows, mask).ok());
        self.content = rows.map_or_else(|| self.content.take(&kept), |rows| Content::Rows(rows.into()));
        self.ids = self.ids.take(&kept);
        self.envelopes = self.envelopes.take(&kept);
        self.trail = self.trail.take(&kept);
        self
    }

    /// Joins batches, in order. Where all are rows of one schema, so is the result.
    ///
    /// Gives one batch, but for the case that more than 65,534 source slots are behind it.
    #[must_use]
    pub fn concat(batches: Vec<Self>) -> Vec<Self> {
        let mut joined: Vec<Vec<Self>> = Vec::new();
        let mut slots = 0;
        for batch in batches {
            slots += batch.tokens.len();
            match joined.last_mut() {
                Some(group) if slots < usize::from(u16::MAX) => group.push(batch),
                _ => {
                    slots = batch.tokens.len();
                    joined.push(vec![batch]);
                }
            }
        }
        joined.into_iter().map(Self::join).collect()
    }

    fn join(mut batches: Vec<Self>) -> Self {
        if batches.len() == 1
            && let Some(only) = batches.pop()
        {
            return only;
        }
        let mut tokens = Tokens::none();
        let mut len = 0;
        for batch in &mut batches {
            let (more, more_len) = (batch.take_tokens(), batch.len());
            if tokens.append(len, more, more_len).is_err() {
                unreachable!("more slots than were counted");
            }
            len += more_len;
        }
        let natural = batches.iter().all(|batch| matches!(batch.ids, Ids::Natural));
        let ids =
            if natural { Ids::Natural } else { Ids::Each(batches.iter().flat_map(Self::ids).collect()) };
        let content = join_content(batches.iter().map(|batch| &batch.content));
        let envelopes = Envelopes::concat(batches.iter().map(|batch| (&batch.envelopes, 0, batch.len())));
        let trail = Trail::concat(batches.iter().map(|batch| (&batch.trail, 0, batch.len())));
        Self { content, ids, envelopes, trail, tokens }
    }

    /// Returns the same items with other rows: an edit a row, ids stay.
    ///
    /// # Errors
    ///
    /// `internal` if there are not as many rows as items.
    pub fn with_rows(mut self, rows: RecordBatch) -> Result<Self> {
        self.same_len(rows.num_rows())?;
        self.content = Content::Rows(rows.into());
        Ok(self)
    }

    /// Returns the same items with other payloads: an edit an item, ids stay.
    ///
    /// # Errors
    ///
    /// `internal` if there are not as many payloads as items.
    pub fn with_payloads(mut self, payloads: Vec<Payload>) -> Result<Self> {
        self.same_len(payloads.len())?;
        self.content = gather(payloads);
        Ok(self)
    }

    /// Returns the same items under ids of the user's choice. What is said before the first
    /// edit is kept as the source item's identity.
    ///
    /// # Errors
    ///
    /// `internal` if there are not as many ids as items.
    pub fn with_ids(mut self, ids: Vec<PrimitiveId>) -> Result<Self> {
        self.same_len(ids.len())?;
        if let Some(Stretch { link, indices }) = self.trail.the_one()
            && let Link::Origin { step, source, positions, keys: None } = &**link
            && indices.is_from(0)
        {
            let (step, source, positions) = (step.clone(), source.clone(), positions.clone());
            let keys = Some(ids.as_slice().into());
            self.trail = Trail::shared(Arc::new(Link::Origin { step, source, positions, keys }));
        }
        self.ids = Ids::Each(ids);
        Ok(self)
    }

    fn same_len(&self, len: usize) -> Result<()> {
        if len == self.len() {
            return Ok(());
        }
        Err(Error::internal(format!("{len} results for {} items", self.len())))
    }

    /// Adds the record of an edit to every item's lineage.
    #[must_use]
    pub fn edited(mut self, step: &Arc<Step>) -> Self {
        self.trail = self.trail.edited(step);
        self
    }

    /// Returns what was derived from this batch's items: `payloads[i]` is the
    /// `ordinals[i]`-th thing that `salt` makes of item `parents[i]`. Carries no tokens.
    ///
    /// # Errors
    ///
    /// `internal` if the three are of different lengths or a parent does not exist.
    pub fn derive(
        &self,
        step: &Arc<Step>,
        salt: &str,
        payloads: Vec<Payload>,
        parents: &[u32],
        ordinals: &[u64],
    ) -> Result<Self> {
        if payloads.len() != parents.len() || parents.len() != ordinals.len() {
            return Err(Error::internal("a derivation needs a parent and an ordinal a payload"));
        }
        if parents.iter().any(|parent| *parent as usize >= self.len()) {
            return Err(Error::internal("a derivation names a parent that is not in the batch"));
        }
        let from: Box<[_]> =
            parents.iter().map(|p| (self.id(*p as usize), self.trail.get(*p as usize))).collect();
        let ids = from.iter().zip(ordinals).map(|((id, _), ordinal)| id.derive(salt, *ordinal)).collect();
        let link = Arc::new(Link::Derive { step: step.clone(), parents: Parents::One(from) });
        Ok(Self {
            content: gather(payloads),
            ids: Ids::Each(ids),
            envelopes: self.envelopes.take(parents),
            trail: Trail::shared(link),
            tokens: Tokens::none(),
        })
    }

    /// Writes into the lineage that item `i` was derived from item `parents[i]` of `input`.
    pub(crate) fn derived_from(mut self, input: &Self, step: &Arc<Step>, parents: &[u32]) -> Self {
        let from = parents.iter().map(|p| (input.id(*p as usize), input.trail.get(*p as usize))).collect();
        let link = Arc::new(Link::Derive { step: step.clone(), parents: Parents::One(from) });
        self.trail = Trail::shared(link);
        self
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

/// A view of one row.
fn view(rows: &Arc<RecordBatch>, index: u32) -> Payload {
    match Row::new(rows.clone(), index) {
        Ok(row) => Payload::Row(row),
        Err(_) => unreachable!("a row behind the end of its batch"),
    }
}

/// Rows of one record batch become rows again; everything else stays items.
fn gather(payloads: Vec<Payload>) -> Content {
    let Some(Payload::Row(first)) = payloads.first() else {
        return Content::Items(Items::shared(payloads));
    };
    let batch = first.batch().clone();
    let mut indices = Vec::with_capacity(payloads.len());
    for payload in &payloads {
        match payload {
            Payload::Row(row) if Arc::ptr_eq(row.batch(), &batch) => indices.push(row.index() as u32),
            _ => return Content::Items(Items::shared(payloads)),
        }
    }
    if indices.len() == batch.num_rows() && indices.iter().enumerate().all(|(i, at)| i == *at as usize) {
        return Content::Rows(batch.into());
    }
    Content::Rows(batch.into()).take(&indices)
}

fn join_content<'a>(contents: impl Iterator<Item = &'a Content> + Clone) -> Content {
    let rows: Option<Vec<&RecordBatch>> = contents
        .clone()
        .map(|content| match content {
            Content::Rows(table) => Some(&*table.rows),
            Content::Items(_) | Content::Gone(_) => None,
        })
        .collect();
    if let Some(rows) = rows
        && let Some(first) = rows.first()
        && rows.iter().all(|batch| batch.schema() == first.schema())
        && let Ok(joined) = concat_batches(&first.schema(), rows)
    {
        return Content::Rows(joined.into());
    }
    Content::Items(Items::shared(
        contents.flat_map(|content| (0..content.len()).map(|index| content.payload(index))).collect(),
    ))
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

/// How large a batch may be: whichever bound is met first. Default 1,024 items or 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Items at the most.
    pub items: usize,
    /// Bytes at the most.
    pub bytes: usize,
    /// Model tokens at the most, where they are counted.
    pub tokens: Option<u64>,
}

impl BatchLimits {
    /// At most so many items, and 1 MiB.
    #[must_use]
    pub const fn items(items: usize) -> Self {
        Self { items, bytes: 1 << 20, tokens: None }
    }

    /// At most so many bytes.
    #[must_use]
    pub const fn with_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// At most so many model tokens.
    #[must_use]
    pub const fn with_tokens(mut self, tokens: u64) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Returns the tighter of both, bound by bound.
    #[must_use]
    pub fn tighten(self, other: Self) -> Self {
        Self {
            items: self.items.min(other.items),
            bytes: self.bytes.min(other.bytes),
            tokens: match (self.tokens, other.tokens) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self::items(1_024)
    }
}
