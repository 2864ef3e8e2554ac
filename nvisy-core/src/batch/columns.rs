//! Identity, envelope and lineage of a batch, shared where its items share them.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, BinaryArray};

use super::mixed::{Lookup, Mixed};
use super::trail::Trail;
use crate::id::{PrimitiveId, SourceIdentity};
use crate::lineage::Lineage;
use crate::metadata::Metadata;

/// The ids of a batch.
#[derive(Clone, Debug)]
pub(super) enum Ids {
    /// Those of the source items, computed from the lineage when asked.
    Natural,
    /// One an item.
    Each(Vec<PrimitiveId>),
    /// Those of keys of a source, computed when asked.
    Keyed(Arc<(SourceIdentity, BinaryArray)>),
}

impl Ids {
    pub(super) fn get(&self, index: usize) -> Option<PrimitiveId> {
        match self {
            Self::Natural => None,
            Self::Each(ids) => Some(ids[index]),
            Self::Keyed(keyed) => Some(keyed.0.id_of_key(keyed.1.value(index))),
        }
    }

    pub(super) fn take(&self, indices: &[u32]) -> Self {
        match self {
            Self::Natural => Self::Natural,
            Self::Each(_) | Self::Keyed(_) => {
                Self::Each(indices.iter().filter_map(|index| self.get(*index as usize)).collect())
            }
        }
    }

    pub(super) fn slice(&self, offset: usize, len: usize) -> Self {
        match self {
            Self::Natural => Self::Natural,
            Self::Each(ids) => Self::Each(ids[offset..offset + len].to_vec()),
            Self::Keyed(keyed) => Self::Keyed(Arc::new((keyed.0.clone(), keyed.1.slice(offset, len)))),
        }
    }

    /// Returns about how many bytes they take.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Natural => 0,
            Self::Each(ids) => size_of_val(&**ids),
            Self::Keyed(keyed) => keyed.1.get_array_memory_size(),
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
pub(super) enum Envelopes {
    /// Items of one envelope stand side by side.
    Runs(Runs<Arc<Metadata>>),
    /// They do not.
    Mixed(Box<Mixed<Arc<Metadata>>>),
}

impl Envelopes {
    /// One for all.
    pub(super) fn shared(metadata: Arc<Metadata>) -> Self {
        Self::Runs(Runs::One(metadata))
    }

    /// Returns the envelope that all items share, if they do.
    pub(super) fn the_one(&self) -> Option<&Arc<Metadata>> {
        match self {
            Self::Runs(Runs::One(metadata)) => Some(metadata),
            Self::Runs(Runs::Many(_)) | Self::Mixed(_) => None,
        }
    }

    pub(super) fn get(&self, index: usize) -> &Arc<Metadata> {
        match self {
            Self::Runs(runs) => runs.find(index).0,
            Self::Mixed(mixed) => mixed.get(index).0,
        }
    }

    fn gather(values: Vec<Arc<Metadata>>, items: Vec<u64>) -> Self {
        match Mixed::gather(values, items) {
            Ok(mixed) => Self::Mixed(Box::new(mixed)),
            Err(side_by_side) => {
                let mut builder = EnvelopesBuilder::new();
                for (metadata, items) in side_by_side.stretches() {
                    builder.push_run(metadata, items.len());
                }
                builder.finish()
            }
        }
    }

    /// Returns the envelopes, and of items of them the number of theirs in the upper half.
    fn items(&self, indices: impl ExactSizeIterator<Item = usize>) -> (Vec<Arc<Metadata>>, Vec<u64>) {
        match self {
            Self::Runs(runs) => {
                let lookup = Lookup::new(runs, indices.len());
                let items = indices.map(|index| (lookup.find(index).1 as u64) << 32).collect();
                (runs.values().into_iter().cloned().collect(), items)
            }
            Self::Mixed(mixed) => (mixed.values.to_vec(), indices.map(|index| mixed.items[index]).collect()),
        }
    }

    pub(super) fn take(&self, indices: &[u32]) -> Self {
        if self.the_one().is_some() {
            return self.clone();
        }
        let (values, items) = self.items(indices.iter().map(|index| *index as usize));
        Self::gather(values, items)
    }

    pub(super) fn slice(&self, offset: usize, len: usize) -> Self {
        match self {
            Self::Runs(Runs::One(_)) => self.clone(),
            Self::Runs(_) => Self::concat(&[(self, offset, len)]),
            Self::Mixed(mixed) => Self::Mixed(Box::new(mixed.slice(offset, len))),
        }
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
        let (values, items) = interleaved(parts, picks, |part, picks| part.items(picks.iter().copied()));
        Self::gather(values, items)
    }

    /// Joins parts, each so many items from an offset on.
    pub(super) fn concat(parts: &[(&Self, usize, usize)]) -> Self {
        let mut builder = EnvelopesBuilder::new();
        for (envelopes, offset, len) in parts.iter().filter(|(.., len)| *len > 0) {
            match envelopes {
                Self::Runs(runs) => {
                    for (part, metadata) in runs.within(*offset, *len) {
                        builder.push_run(metadata, part.len());
                    }
                }
                Self::Mixed(_) => {
                    let (parts, picks) = in_order(parts);
                    return Self::interleave(&parts, &picks);
                }
            }
        }
        builder.finish()
    }
}

/// What [`Mixed::gather`] takes, of several parts: `items` gives it of some items of one.
pub(super) fn interleaved<P, T>(
    parts: &[&P],
    picks: &[(usize, usize)],
    items: impl Fn(&P, &[usize]) -> (Vec<T>, Vec<u64>),
) -> (Vec<T>, Vec<u64>) {
    let mut of_part = vec![Vec::new(); parts.len()];
    picks.iter().for_each(|(part, index)| of_part[*part].push(*index));
    let mut values = Vec::new();
    let mut of_part: Vec<_> = parts
        .iter()
        .zip(&of_part)
        .map(|(part, indices)| {
            let first = (values.len() as u64) << 32;
            let (more, items) = items(part, indices);
            values.extend(more);
            items.into_iter().map(move |item| first + item)
        })
        .collect();
    let items = picks.iter().filter_map(|(part, _)| of_part[*part].next()).collect();
    (values, items)
}

/// The items of parts in order, each of which is so many items from an offset on.
pub(super) fn in_order<'a, P>(parts: &[(&'a P, usize, usize)]) -> (Vec<&'a P>, Vec<(usize, usize)>) {
    let picks = parts.iter().enumerate();
    let picks =
        picks.flat_map(|(at, (_, offset, len))| (*offset..offset + len).map(move |index| (at, index)));
    (parts.iter().map(|(part, ..)| *part).collect(), picks.collect())
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
        Envelopes::Runs(self.0.finish())
    }
}
