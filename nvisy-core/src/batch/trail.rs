//! The lineages of a batch: of each item a link, and its index in that.

use std::ops::Range;
use std::sync::Arc;

use super::columns::{Runs, RunsBuilder, in_order, interleaved};
use super::mixed::{Lookup, Mixed};
use crate::lineage::{Lineage, Link, Step};

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
pub(super) enum Trail {
    /// Items of one link stand side by side.
    Runs(Runs<Stretch>),
    /// They do not.
    Mixed(Box<Mixed<Arc<Link>>>),
}

impl Trail {
    /// One link for all, whose index is the item's.
    pub(super) fn shared(link: Arc<Link>) -> Self {
        Self::Runs(Runs::One(Stretch { link, indices: Indices::From(0) }))
    }

    fn gather(links: Vec<Arc<Link>>, items: Vec<u64>) -> Self {
        match Mixed::gather(links, items) {
            Ok(mixed) => Self::Mixed(Box::new(mixed)),
            Err(side_by_side) => {
                let mut builder = TrailBuilder::with_capacity(side_by_side.items.len());
                for (link, items) in side_by_side.stretches() {
                    items.iter().for_each(|item| builder.push_index(link, *item as u32));
                }
                builder.finish()
            }
        }
    }

    /// Returns what all items share, if they share a link.
    pub(super) fn the_one(&self) -> Option<&Stretch> {
        match self {
            Self::Runs(Runs::One(stretch)) => Some(stretch),
            Self::Runs(Runs::Many(_)) | Self::Mixed(_) => None,
        }
    }

    /// Returns the links: one a run, or those of which each item has one.
    pub(super) fn links(&self) -> Vec<&Arc<Link>> {
        match self {
            Self::Runs(runs) => runs.values().into_iter().map(|stretch| &stretch.link).collect(),
            Self::Mixed(mixed) => mixed.values.iter().collect(),
        }
    }

    /// Returns which of the [links](Self::links) is that of an item, and its index in that.
    pub(super) fn at(&self, index: usize) -> (usize, u32) {
        match self {
            Self::Runs(runs) => {
                let (Stretch { indices, .. }, at, start) = runs.find(index);
                (at, indices.get(index - start))
            }
            Self::Mixed(mixed) => ((mixed.items[index] >> 32) as usize, mixed.items[index] as u32),
        }
    }

    /// Returns the index in the link that the first item has, if all share one and the indices of
    /// the others follow.
    pub(super) fn start(&self) -> Option<u32> {
        match self.the_one()?.indices {
            Indices::From(start) => Some(start),
            Indices::Each(_) => None,
        }
    }

    fn find(&self, index: usize) -> (&Arc<Link>, u32) {
        match self {
            Self::Runs(runs) => {
                let (Stretch { link, indices }, _, start) = runs.find(index);
                (link, indices.get(index - start))
            }
            Self::Mixed(mixed) => mixed.get(index),
        }
    }

    pub(super) fn get(&self, index: usize) -> Lineage {
        let (link, index) = self.find(index);
        Lineage { link: link.clone(), index }
    }

    /// Returns the links, and of items of them the number of theirs, and in the lower half its
    /// index in that.
    fn items(&self, indices: impl ExactSizeIterator<Item = usize>) -> (Vec<Arc<Link>>, Vec<u64>) {
        match self {
            Self::Runs(runs) => {
                let lookup = Lookup::new(runs, indices.len());
                let item = |index| {
                    let (stretch, number, start) = lookup.find(index);
                    (number as u64) << 32 | u64::from(stretch.indices.get(index - start))
                };
                let links = runs.values().into_iter().map(|stretch| stretch.link.clone());
                (links.collect(), indices.map(item).collect())
            }
            Self::Mixed(mixed) => (mixed.values.to_vec(), indices.map(|index| mixed.items[index]).collect()),
        }
    }

    /// Returns the links of `len` items, in order: each with the indices of its items and how
    /// many they are.
    pub(super) fn stretches(&self, len: usize) -> Vec<(&Arc<Link>, Indices, usize)> {
        match self {
            Self::Runs(runs) => {
                let within = runs.within(0, len).into_iter();
                within.map(|(part, of)| (&of.link, of.indices.slice(part.clone()), part.len())).collect()
            }
            Self::Mixed(mixed) => {
                let stretch = |(link, items): (_, &[u64])| {
                    let indices: Vec<u32> = items.iter().map(|item| *item as u32).collect();
                    (link, Indices::gather(&indices), items.len())
                };
                mixed.stretches().map(stretch).collect()
            }
        }
    }

    pub(super) fn take(&self, indices: &[u32]) -> Self {
        if let Some(Stretch { link, indices: mine }) = self.the_one() {
            let each: Vec<u32> = indices.iter().map(|index| mine.get(*index as usize)).collect();
            return Self::Runs(Runs::One(Stretch { link: link.clone(), indices: Indices::gather(&each) }));
        }
        let (links, items) = self.items(indices.iter().map(|index| *index as usize));
        Self::gather(links, items)
    }

    /// Gathers lineages of several, each of one of them and of an item there.
    pub(super) fn interleave(parts: &[&Self], picks: &[(usize, usize)]) -> Self {
        let (links, items) = interleaved(parts, picks, |part, picks| part.items(picks.iter().copied()));
        Self::gather(links, items)
    }

    pub(super) fn slice(&self, offset: usize, len: usize) -> Self {
        match self {
            Self::Runs(_) => Self::concat(&[(self, offset, len)]),
            Self::Mixed(mixed) => Self::Mixed(Box::new(mixed.slice(offset, len))),
        }
    }

    /// Joins parts, each so many items from an offset on.
    pub(super) fn concat(parts: &[(&Self, usize, usize)]) -> Self {
        let mut runs = RunsBuilder::<Stretch>::new();
        let mut len_of_last = 0;
        for (trail, offset, len) in parts.iter().filter(|(.., len)| *len > 0) {
            let Self::Runs(of) = trail else {
                let (parts, picks) = in_order(parts);
                return Self::interleave(&parts, &picks);
            };
            for (part, Stretch { link, indices }) in of.within(*offset, *len) {
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
        Self::Runs(runs.finish())
    }

    /// Adds an edit to every lineage: one link for those that share one.
    pub(super) fn edited(self, step: &Arc<Step>) -> Self {
        let edit = |link: &Arc<Link>| Arc::new(Link::edit(step.clone(), link.clone()));
        match self {
            Self::Runs(Runs::One(Stretch { link, indices })) => {
                Self::Runs(Runs::One(Stretch { link: edit(&link), indices }))
            }
            Self::Runs(Runs::Many(runs)) => {
                let mut last: Option<(Arc<Link>, Arc<Link>)> = None;
                let runs = runs.iter().map(|(end, Stretch { link: parent, indices })| {
                    let link = match &last {
                        Some((known, link)) if Arc::ptr_eq(known, parent) => link.clone(),
                        _ => {
                            let link = edit(parent);
                            last = Some((parent.clone(), link.clone()));
                            link
                        }
                    };
                    (*end, Stretch { link, indices: indices.clone() })
                });
                Self::Runs(Runs::Many(runs.collect()))
            }
            Self::Mixed(mixed) => {
                let Mixed { values, items } = *mixed;
                Self::Mixed(Box::new(Mixed { values: values.iter().map(edit).collect(), items }))
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
        Trail::Runs(self.runs.finish())
    }
}
