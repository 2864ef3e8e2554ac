//! Identity, envelope and lineage of a batch, shared where its items share them.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, BinaryArray};

use crate::id::{PrimitiveId, SourceIdentity};
use crate::lineage::{Lineage, Link, Step};
use crate::metadata::Metadata;

/// The ids of a batch.
#[derive(Clone, Debug)]
pub(super) enum Ids {
    /// Those of the source items, computed from the lineage when asked.
    Natural,
    /// One an item.
    Each(Vec<PrimitiveId>),
    /// Those of keys of a source, computed when asked.
    Keyed(SourceIdentity, BinaryArray),
}

impl Ids {
    pub(super) fn get(&self, index: usize) -> Option<PrimitiveId> {
        match self {
            Self::Natural => None,
            Self::Each(ids) => Some(ids[index]),
            Self::Keyed(source, keys) => Some(source.id_of_key(keys.value(index))),
        }
    }

    pub(super) fn take(&self, indices: &[u32]) -> Self {
        match self {
            Self::Natural => Self::Natural,
            Self::Each(_) | Self::Keyed(..) => {
                Self::Each(indices.iter().filter_map(|index| self.get(*index as usize)).collect())
            }
        }
    }

    pub(super) fn slice(&self, offset: usize, len: usize) -> Self {
        match self {
            Self::Natural => Self::Natural,
            Self::Each(ids) => Self::Each(ids[offset..offset + len].to_vec()),
            Self::Keyed(source, keys) => Self::Keyed(source.clone(), keys.slice(offset, len)),
        }
    }

    /// Returns about how many bytes they take.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Natural => 0,
            Self::Each(ids) => size_of_val(&**ids),
            Self::Keyed(_, keys) => keys.get_array_memory_size(),
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
    /// Returns the value of an item, and where its run begins.
    fn find(&self, index: usize) -> (&T, usize) {
        match self {
            Self::One(value) => (value, 0),
            Self::Many(runs) => {
                let at = runs.partition_point(|(end, _)| *end as usize <= index);
                let start = at.checked_sub(1).map_or(0, |before| runs[before].0 as usize);
                (&runs[at].1, start)
            }
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

    fn last(&mut self) -> Option<&mut T> {
        self.runs.last_mut().map(|(_, value)| value)
    }

    pub(super) fn push(&mut self, value: T, len: usize) {
        self.len += len as u32;
        self.runs.push((self.len, value));
    }

    /// Makes the last run longer.
    fn extend(&mut self, len: usize) {
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

/// Which index of a link each item has.
#[derive(Clone, Debug)]
pub(super) enum Indices {
    /// Consecutive, from the first.
    From(u32),
    /// One an item.
    Each(Arc<[u32]>),
}

impl Indices {
    pub(super) fn is_from(&self, start: u32) -> bool {
        matches!(self, Self::From(from) if *from == start)
    }

    pub(super) fn get(&self, index: usize) -> u32 {
        match self {
            Self::From(start) => start + index as u32,
            Self::Each(each) => each[index],
        }
    }

    fn slice(&self, part: Range<usize>) -> Self {
        match self {
            Self::From(start) => Self::From(start + part.start as u32),
            Self::Each(each) if part.len() == each.len() => Self::Each(each.clone()),
            Self::Each(each) => Self::Each(each[part].into()),
        }
    }

    fn gather(indices: &[u32]) -> Self {
        let start = indices.first().copied().unwrap_or(0);
        let consecutive = indices.iter().zip(start..).all(|(index, next)| *index == next);
        if consecutive { Self::From(start) } else { Self::Each(indices.into()) }
    }
}

/// What items of one link share.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub(super) link: Arc<Link>,
    pub(super) indices: Indices,
}

/// The lineages of a batch.
#[derive(Clone, Debug)]
pub(super) struct Trail(pub(super) Runs<Stretch>);

impl Trail {
    /// One link for all, whose index is the item's.
    pub(super) fn shared(link: Arc<Link>) -> Self {
        Self(Runs::One(Stretch { link, indices: Indices::From(0) }))
    }

    /// Returns what all items share, if they share a link.
    pub(super) fn the_one(&self) -> Option<&Stretch> {
        match &self.0 {
            Runs::One(stretch) => Some(stretch),
            Runs::Many(_) => None,
        }
    }

    pub(super) fn get(&self, index: usize) -> Lineage {
        let (Stretch { link, indices }, start) = self.0.find(index);
        Lineage { link: link.clone(), index: indices.get(index - start) }
    }

    /// Returns the links of the runs, in order.
    pub(super) fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        let (one, many) = match &self.0 {
            Runs::One(stretch) => (Some(stretch), &[][..]),
            Runs::Many(runs) => (None, &**runs),
        };
        one.into_iter().chain(many.iter().map(|(_, stretch)| stretch)).map(|stretch| &stretch.link)
    }

    /// Returns the index in the link that the first item has, if they share one and the indices
    /// of the others follow.
    pub(super) fn start(&self) -> Option<u32> {
        match self.the_one()?.indices {
            Indices::From(start) => Some(start),
            Indices::Each(_) => None,
        }
    }

    /// Returns which run an item is in, and its index in the link.
    pub(super) fn at(&self, index: usize) -> (usize, u32) {
        match &self.0 {
            Runs::One(Stretch { indices, .. }) => (0, indices.get(index)),
            Runs::Many(runs) => {
                let at = runs.partition_point(|(end, _)| *end as usize <= index);
                let start = at.checked_sub(1).map_or(0, |before| runs[before].0 as usize);
                (at, runs[at].1.indices.get(index - start))
            }
        }
    }

    /// Returns the links of `len` items, in order: each with the indices of its items and how
    /// many they are.
    pub(super) fn stretches(&self, len: usize) -> impl Iterator<Item = (&Arc<Link>, Indices, usize)> {
        self.0.within(0, len).into_iter().map(|(part, Stretch { link, indices })| {
            let items = part.len();
            (link, indices.slice(part), items)
        })
    }

    pub(super) fn take(&self, indices: &[u32]) -> Self {
        if let Some(Stretch { link, indices: mine }) = self.the_one() {
            let each: Vec<u32> = indices.iter().map(|index| mine.get(*index as usize)).collect();
            return Self(Runs::One(Stretch { link: link.clone(), indices: Indices::gather(&each) }));
        }
        let mut builder = TrailBuilder::with_capacity(indices.len());
        for index in indices {
            let (Stretch { link, indices: mine }, start) = self.0.find(*index as usize);
            builder.push_index(link, mine.get(*index as usize - start));
        }
        builder.finish()
    }

    pub(super) fn slice(&self, offset: usize, len: usize) -> Self {
        Self::concat([(self, offset, len)])
    }

    /// Joins parts, each so many items from an offset on.
    pub(super) fn concat<'a>(parts: impl IntoIterator<Item = (&'a Self, usize, usize)>) -> Self {
        let mut runs = RunsBuilder::<Stretch>::new();
        let mut len_of_last = 0;
        for (trail, offset, len) in parts {
            for (part, Stretch { link, indices }) in
                trail.0.within(offset, len).into_iter().filter(|_| len > 0)
            {
                let (len, indices) = (part.len(), indices.slice(part));
                if let Some(Stretch { link: last, indices: Indices::From(start) }) = runs.last()
                    && Arc::ptr_eq(last, link)
                    && indices.is_from(*start + len_of_last)
                {
                    runs.extend(len);
                    len_of_last += len as u32;
                    continue;
                }
                len_of_last = len as u32;
                runs.push(Stretch { link: link.clone(), indices }, len);
            }
        }
        Self(runs.finish())
    }

    /// Adds an edit to every lineage: one link for those that share one.
    pub(super) fn edited(self, step: &Arc<Step>) -> Self {
        match self.0 {
            Runs::One(Stretch { link, indices }) => {
                Self(Runs::One(Stretch { link: Arc::new(Link::edit(step.clone(), link)), indices }))
            }
            Runs::Many(runs) => {
                let mut last: Option<(Arc<Link>, Arc<Link>)> = None;
                let runs = runs.iter().map(|(end, Stretch { link: parent, indices })| {
                    let link = match &last {
                        Some((known, link)) if Arc::ptr_eq(known, parent) => link.clone(),
                        _ => {
                            let link = Arc::new(Link::edit(step.clone(), parent.clone()));
                            last = Some((parent.clone(), link.clone()));
                            link
                        }
                    };
                    (*end, Stretch { link, indices: indices.clone() })
                });
                Self(Runs::Many(runs.collect()))
            }
        }
    }
}

/// Gathers lineages; shared as long as their link is one.
pub(super) struct TrailBuilder {
    runs: RunsBuilder<Stretch>,
    link: Option<Arc<Link>>,
    /// Those of the link.
    indices: Vec<u32>,
}

impl TrailBuilder {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { runs: RunsBuilder::new(), link: None, indices: Vec::with_capacity(capacity) }
    }

    pub(super) fn push(&mut self, lineage: Lineage) {
        if !self.link.as_ref().is_some_and(|link| Arc::ptr_eq(link, &lineage.link)) {
            self.begin(lineage.link);
        }
        self.indices.push(lineage.index);
    }

    fn push_index(&mut self, link: &Arc<Link>, index: u32) {
        if !self.link.as_ref().is_some_and(|known| Arc::ptr_eq(known, link)) {
            self.begin(link.clone());
        }
        self.indices.push(index);
    }

    fn begin(&mut self, link: Arc<Link>) {
        self.end();
        self.link = Some(link);
    }

    fn end(&mut self) {
        if let Some(link) = self.link.take() {
            let (indices, len) = (Indices::gather(&self.indices), self.indices.len());
            self.runs.push(Stretch { link, indices }, len);
            self.indices.clear();
        }
    }

    pub(super) fn finish(mut self) -> Trail {
        self.end();
        Trail(self.runs.finish())
    }
}
