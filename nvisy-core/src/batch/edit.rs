//! Batches made of others, item by item: edits and derivations.

use std::sync::Arc;

use arrow::array::{Array, BinaryArray, RecordBatch};

use super::Batch;
use super::columns::{Envelopes, Ids};
use super::content::{Content, gather};
use super::trail::{Stretch, Trail};
use crate::error::{Error, Result};
use crate::id::{PrimitiveId, SourceIdentity};
use crate::lineage::{Link, Merges, Parents, Step};
use crate::metadata::Metadata;
use crate::primitive::Payload;
use crate::token::Tokens;

impl Batch {
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

    /// Returns the same items as rows without columns, in an empty envelope: who they are and where
    /// they come from, and nothing else.
    #[must_use]
    pub fn without_payloads(&self) -> Self {
        Self {
            content: Content::blank(self.len()),
            ids: self.ids.clone(),
            envelopes: Envelopes::shared(Arc::default()),
            trail: self.trail.clone(),
            tokens: Tokens::none(),
        }
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

    /// Returns what was made of several items each: every row of those that `merges` says of it.
    /// Its id is [that of its key](SourceIdentity::id_of_key), computed when somebody asks for it.
    /// Carries no tokens.
    ///
    /// # Errors
    ///
    /// `internal` if there are not as many keys and merges as rows, or a key is null.
    pub fn merged(
        rows: RecordBatch,
        (source, keys): (SourceIdentity, BinaryArray),
        merges: Merges,
        metadata: Arc<Metadata>,
    ) -> Result<Self> {
        let (len, named) = (rows.num_rows(), keys.len() - keys.null_count());
        if named != len || merges.len() != len {
            let merges = merges.len();
            return Err(Error::internal(format!("{named} keys and {merges} merges for {len} rows")));
        }
        Ok(Self {
            content: Content::Rows(rows.into()),
            ids: Ids::Keyed(Arc::new((source, keys))),
            envelopes: Envelopes::shared(metadata),
            trail: Trail::shared(Arc::new(Link::Merge(merges.0))),
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
}
