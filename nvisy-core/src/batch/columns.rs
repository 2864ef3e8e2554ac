//! Identity, envelope and lineage of a batch, shared where its items share them.

use std::ops::Range;
use std::sync::Arc;

use super::trail::Trail;
use crate::id::PrimitiveId;
use crate::lineage::Lineage;
use crate::metadata::Metadata;

/// The ids of a batch.
#[derive(Clone, Debug)]
pub(super) enum Ids {
    /// Those of the source items, computed from the lineage when asked.
    Natural,
    /// One an item.
    Each(Vec<PrimitiveId>),
}

impl Ids {
    pub(super) fn get(&self, index: usize) -> Option<PrimitiveId> {
        match self {
            Self::Natural => None,
            Self::Each(ids) => Some(ids[index]),
        }
    }

    pub(super) fn take(&self, indices: &[u32]) -> Self {
        match self {
            Self::Natural => Self::Natural,
            Self::Each(ids) => Self::Each(indices.iter().map(|i| ids[*i as usize]).collect()),
        }
    }

    pub(super) fn slice(&self, offset: usize, len: usize) -> Self {
        match self {
            Self::Natural => Self::Natural,
            Self::Each(ids) => Self::Each(ids[offset..offset + len].to_vec()),
        }
    }
}

/// Gathers ids; natural as long as every item's is.
pub(super) struct IdsBuilder {
    each: Vec<PrimitiveId>,
    natural: usize,
    capacity: usize,
}

impl IdsBuilder {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { each: Vec::new(), natural: 0, capacity }
    }

    pub(super) fn push(&mut self, id: Option<PrimitiveId>, lineage: &Lineage) {
        match id {
            None if self.each.is_empty() => self.natural += 1,
            _ => {
                if self.each.is_empty() {
                    self.each.reserve(self.capacity);
                }
                match id.or_else(|| lineage.natural_id()) {
                    Some(id) => self.each.push(id),
                    None => unreachable!("an id without a source"),
                }
            }
        }
    }

    pub(super) fn finish(self, trail: &Trail) -> Ids {
        if self.each.is_empty() {
            return Ids::Natural;
        }
        // The first items' ids were left to their lineage: now all are written out.
        let mut ids: Vec<_> = (0..self.natural).filter_map(|index| trail.get(index).natural_id()).collect();
        ids.extend(self.each);
        Ids::Each(ids)
    }
}

/// A value an item, held once for each run of items that share it.
#[derive(Clone, Debug)]
pub(super) enum Runs<T> {
    /// One for all.
    One(T),
    /// Each with the index behind its last item.
    Many(Arc<[(u32, T)]>),
}

impl<T: Clone> Runs<T> {
    /// Returns the value of an item, the number of its run, and where that begins.
    pub(super) fn find(&self, index: usize) -> (&T, usize, usize) {
        match self {
            Self::One(value) => (value, 0, 0),
            Self::Many(runs) => {
                let at = runs.partition_point(|(end, _)| *end as usize <= index);
                let start = at.checked_sub(1).map_or(0, |before| runs[before].0 as usize);
                (&runs[at].1, at, start)
            }
        }
    }

    /// Returns the value of each run.
    pub(super) fn values(&self) -> Vec<&T> {
        match self {
            Self::One(value) => vec![value],
            Self::Many(runs) => runs.iter().map(|(_, value)| value).collect(),
        }
    }

    /// Returns the runs that `len` items from `offset` on touch: each value with the part of
    /// its run, counted from the run's beginning.
    pub(super) fn within(&self, offset: usize, len: usize) -> Vec<(Range<usize>, &T)> {
        let end = offset + len;
        match self {
            Self::One(value) => vec![(offset..end, value)],
            Self::Many(runs) => {
                let first = runs.partition_point(|(run_end, _)| *run_end as usize <= offset);
                let mut start = first.checked_sub(1).map_or(0, |before| runs[before].0 as usize);
                let mut parts = Vec::new();
                for (run_end, value) in runs[first..].iter().take_while(|_| len > 0) {
                    let run_end = *run_end as usize;
                    parts.push((offset.max(start) - start..end.min(run_end) - start, value));
                    start = run_end;
                    if run_end >= end {
                        break;
                    }
                }
                parts
            }
        }
    }
}

/// Gathers runs.
pub(super) struct RunsBuilder<T> {
    runs: Vec<(u32, T)>,
    len: u32,
}

impl<T> RunsBuilder<T> {
    pub(super) fn new() -> Self {
        Self { runs: Vec::new(), len: 0 }
    }

    pub(super) fn last(&mut self) -> Option<&mut T> {
        self.runs.last_mut().map(|(_, value)| value)
    }

    pub(super) fn push(&mut self, value: T, len: usize) {
        self.len += len as u32;
        self.runs.push((self.len, value));
    }

    /// Makes the last run longer.
    pub(super) fn extend(&mut self, len: usize) {
        self.len += len as u32;
        if let Some((end, _)) = self.runs.last_mut() {
            *end = self.len;
        }
    }

    pub(super) fn finish(mut self) -> Runs<T> {
        if self.runs.len() == 1
            && let Some((_, only)) = self.runs.pop()
        {
            return Runs::One(only);
        }
        Runs::Many(self.runs.into())
    }
}

/// The envelopes of a batch.
#[derive(Clone, Debug)]
pub(super) struct Envelopes(pub(super) Runs<Arc<Metadata>>);

impl Envelopes {
    /// One for all.
    pub(super) fn shared(metadata: Arc<Metadata>) -> Self {
        Self(Runs::One(metadata))
    }

    /// Returns the envelope that all items share, if they do.
    pub(super) fn the_one(&self) -> Option<&Arc<Metadata>> {
        match &self.0 {
            Runs::One(metadata) => Some(metadata),
            Runs::Many(_) => None,
        }
    }

    pub(super) fn get(&self, index: usize) -> &Arc<Metadata> {
        self.0.find(index).0
    }

    pub(super) fn take(&self, indices: &[u32]) -> Self {
        if self.the_one().is_some() {
            return self.clone();
        }
        let mut builder = EnvelopesBuilder::new();
        indices.iter().for_each(|index| builder.push_run(self.get(*index as usize), 1));
        builder.finish()
    }

    pub(super) fn slice(&self, offset: usize, len: usize) -> Self {
        if self.the_one().is_some() {
            return self.clone();
        }
        Self::concat([(self, offset, len)])
    }

    /// Gathers envelopes of several, each of one of them and of an item there.
    pub(super) fn interleave(parts: &[&Self], picks: &[(usize, usize)]) -> Self {
        let all: Option<Vec<_>> = parts.iter().map(|part| part.the_one()).collect();
        if let Some(all) = all
            && let Some(first) = all.first()
            && all.iter().all(|one| Arc::ptr_eq(one, first) || one == first)
        {
            return Self::shared(Arc::clone(first));
        }
        let mut builder = EnvelopesBuilder::new();
        picks.iter().for_each(|(part, index)| builder.push_run(parts[*part].get(*index), 1));
        builder.finish()
    }

    /// Joins parts, each so many items from an offset on.
    pub(super) fn concat<'a>(parts: impl IntoIterator<Item = (&'a Self, usize, usize)>) -> Self {
        let mut builder = EnvelopesBuilder::new();
        for (envelopes, offset, len) in parts {
            for (part, metadata) in envelopes.0.within(offset, len).into_iter().filter(|_| len > 0) {
                builder.push_run(metadata, part.len());
            }
        }
        builder.finish()
    }
}

/// Gathers envelopes; shared as long as they are one.
pub(super) struct EnvelopesBuilder(RunsBuilder<Arc<Metadata>>);

impl EnvelopesBuilder {
    pub(super) fn new() -> Self {
        Self(RunsBuilder::new())
    }

    pub(super) fn push(&mut self, metadata: Arc<Metadata>) {
        match self.0.last() {
            Some(last) if Arc::ptr_eq(last, &metadata) => self.0.extend(1),
            _ => self.0.push(metadata, 1),
        }
    }

    fn push_run(&mut self, metadata: &Arc<Metadata>, len: usize) {
        match self.0.last() {
            Some(last) if Arc::ptr_eq(last, metadata) => self.0.extend(len),
            _ => self.0.push(metadata.clone(), len),
        }
    }

    pub(super) fn finish(self) -> Envelopes {
        Envelopes(self.0.finish())
    }
}
