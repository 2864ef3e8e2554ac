//! Parts of batches, and batches of parts.

use arrow::array::{Array, BooleanArray};
use arrow::compute::filter_record_batch;

use super::Batch;
use super::columns::{Envelopes, Ids};
use super::content::{self, Content};
use super::trail::Trail;
use crate::token::{Settlement, Tokens};

impl Batch {
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

    /// Gathers items of several batches: each pick is of a batch, and of an item there. Where all
    /// are rows of one schema, so is the result. Carries no tokens.
    ///
    /// # Panics
    ///
    /// If there is no such batch or item.
    ///
    /// # Examples
    ///
    /// ```
    /// use nvisy_core::primitive::raw::Raw;
    /// use nvisy_core::{Batch, Item};
    ///
    /// let batch = |ids: [&str; 2]| ids.map(|id| Item::detached(id, Raw::Json(id.into()))).into_iter().collect();
    /// let parts: [Batch; 2] = [batch(["a", "b"]), batch(["c", "d"])];
    /// let merged = Batch::interleave(&[&parts[0], &parts[1]], &[(1, 0), (0, 1), (1, 1)]);
    /// assert_eq!(merged.ids(), [parts[1].id(0), parts[0].id(1), parts[1].id(1)]);
    /// ```
    #[must_use]
    pub fn interleave(parts: &[&Self], picks: &[(usize, usize)]) -> Self {
        let natural = parts.iter().all(|part| matches!(part.ids, Ids::Natural));
        let contents: Vec<_> = parts.iter().map(|part| &part.content).collect();
        let envelopes: Vec<_> = parts.iter().map(|part| &part.envelopes).collect();
        let trails: Vec<_> = parts.iter().map(|part| &part.trail).collect();
        Self {
            content: content::interleave(&contents, picks),
            ids: if natural {
                Ids::Natural
            } else {
                Ids::Each(picks.iter().map(|(part, index)| parts[*part].id(*index)).collect())
            },
            envelopes: Envelopes::interleave(&envelopes, picks),
            trail: Trail::interleave(&trails, picks),
            tokens: Tokens::none(),
        }
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
        let content = content::join(batches.iter().map(|batch| &batch.content));
        let envelopes: Vec<_> = batches.iter().map(|batch| (&batch.envelopes, 0, batch.len())).collect();
        let envelopes = Envelopes::concat(&envelopes);
        let trails: Vec<_> = batches.iter().map(|batch| (&batch.trail, 0, batch.len())).collect();
        let trail = Trail::concat(&trails);
        Self { content, ids, envelopes, trail, tokens }
    }
}
