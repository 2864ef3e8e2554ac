//! The lineages of a batch: of each item a link, and its index in that.

use std::ops::Range;
use std::sync::Arc;

use arrow::buffer::ScalarBuffer;

use super::columns::{Runs, RunsBuilder};
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
    /// They do not, as behind a sort.
    Mixed(Mixed),
}

/// Lineages in no order: eight bytes an item, and no count of links to touch.
#[derive(Clone, Debug)]
pub(super) struct Mixed {
    pub(super) links: Arc<[Arc<Link>]>,
    /// Of each item the number of its link, and in the lower half its index in that.
    pub(super) items: ScalarBuffer<u64>,
}

impl Mixed {
    fn get(&self, index: usize) -> (&Arc<Link>, u32) {
        let item = self.items[index];
        (&self.links[(item >> 32) as usize], item as u32)
    }

    /// Leaves out the links that no item has, where they are many.
    fn compacted(self) -> Self {
        if self.links.len() <= self.items.len() {
            return self;
        }
        let (mut links, mut numbers) = (Vec::new(), vec![u64::MAX; self.links.len()]);
        let items = self.items.iter().map(|item| {
            let number = &mut numbers[(item >> 32) as usize];
            if *number == u64::MAX {
                *number = links.len() as u64;
                links.push(self.links[(item >> 32) as usize].clone());
            }
            *number << 32 | u64::from(*item as u32)
        });
        Self { items: items.collect(), links: links.into() }
    }
}

impl Trail {
    /// One link for all, whose index is the item's.
    pub(super) fn shared(link: Arc<Link>) -> Self {
        Self::Runs(Runs::One(Stretch { link, indices: Indices::From(0) }))
    }

    /// Lineages as [`Mixed`], unless most items have the link of the one before.
    fn gather(links: Vec<Arc<Link>>, items: Vec<u64>) -> Self {
        let changes = items.windows(2).filter(|two| two[0] >> 32 != two[1] >> 32).count();
        let mixed = Mixed { links: links.into(), items: items.into() };
        if changes * 4 > mixed.items.len() {
            return Self::Mixed(mixed.compacted());
        }
        let mut builder = TrailBuilder::with_capacity(mixed.items.len());
        for index in 0..mixed.items.len() {
            let (link, index) = mixed.get(index);
            builder.push_index(link, index);
        }
        builder.finish()
    }

    /// Returns what all items share, if they share a link.
    pub(super) fn the_one(&self) -> Option<&Stretch> {
        match self {
            Self::Runs(Runs::One(stretch)) => Some(stretch),
            Self::Runs(Runs::Many(_)) | Self::Mixed(_) => None,
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

    /// Returns the links that items have.
    fn links(&self) -> Vec<Arc<Link>> {
        match self {
            Self::Runs(runs) => runs.values().into_iter().map(|stretch| stretch.link.clone()).collect(),
            Self::Mixed(mixed) => mixed.links.to_vec(),
        }
    }

    /// Returns the number of an item's link, among [`links`](Self::links), and its index.
    fn item(&self, index: usize) -> u64 {
        match self {
            Self::Runs(runs) => {
                let (Stretch { indices, .. }, number, start) = runs.find(index);
                (number as u64) << 32 | u64::from(indices.get(index - start))
            }
            Self::Mixed(mixed) => mixed.items[index],
        }
    }

    /// Returns the links of `len` items, in order: each with the indices of its items and how
    /// many they are.
    pub(super) fn stretches(&self, len: usize) -> Vec<(&Arc<Link>, Indices, usize)> {
        match self {
            Self::Runs(runs) => {
                let stretch = |(part, stretch): (Range<usize>, &'_ Stretch)| {
                    let items = part.len();
                    (stretch.indices.slice(part), items)
                };
                let within = runs.within(0, len).into_iter();
                within
                    .map(|(part, of)| {
                        let (indices, items) = stretch((part, of));
                        (&of.link, indices, items)
                    })
                    .collect()
            }
            Self::Mixed(mixed) => {
                let same = mixed.items.chunk_by(|one, next| one >> 32 == next >> 32);
                let stretch = |items: &[u64]| {
                    let indices: Vec<u32> = items.iter().map(|item| *item as u32).collect();
                    (&mixed.links[(items[0] >> 32) as usize], Indices::gather(&indices), items.len())
                };
                same.map(stretch).collect()
            }
        }
    }

    pub(super) fn take(&self, indices: &[u32]) -> Self {
        if let Some(Stretch { link, indices: mine }) = self.the_one() {
            let each: Vec<u32> = indices.iter().map(|index| mine.get(*index as usize)).collect();
            return Self::Runs(Runs::One(Stretch { link: link.clone(), indices: Indices::gather(&each) }));
        }
        Self::gather(self.links(), indices.iter().map(|index| self.item(*index as usize)).collect())
    }

    /// Gathers lineages of several, each of one of them and of an item there.
    pub(super) fn interleave(parts: &[&Self], picks: &[(usize, usize)]) -> Self {
        let (mut links, mut firsts) = (Vec::new(), Vec::new());
        for part in parts {
            firsts.push((links.len() as u64) << 32);
            links.extend(part.links());
        }
        let items = picks.iter().map(|(part, index)| firsts[*part] + parts[*part].item(*index));
        Self::gather(links, items.collect())
    }

    pub(super) fn slice(&self, offset: usize, len: usize) -> Self {
        match self {
            Self::Runs(_) => Self::concat(&[(self, offset, len)]),
            Self::Mixed(Mixed { links, items }) => {
                let part = Mixed { links: links.clone(), items: items.slice(offset, len) };
                Self::Mixed(part.compacted())
            }
        }
    }

    /// Joins parts, each so many items from an offset on.
    pub(super) fn concat(parts: &[(&Self, usize, usize)]) -> Self {
        let mut runs = RunsBuilder::<Stretch>::new();
        let mut len_of_last = 0;
        for (trail, offset, len) in parts.iter().filter(|(.., len)| *len > 0) {
            let Self::Runs(of) = trail else { return Self::concat_mixed(parts) };
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

    fn concat_mixed(parts: &[(&Self, usize, usize)]) -> Self {
        let (trails, picks): (Vec<&Self>, Vec<_>) = parts
            .iter()
            .enumerate()
            .map(|(at, (trail, offset, len))| (*trail, (*offset..offset + len).map(move |index| (at, index))))
            .unzip();
        Self::interleave(&trails, &picks.into_iter().flatten().collect::<Vec<_>>())
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
            Self::Mixed(Mixed { links, items }) => {
                Self::Mixed(Mixed { links: links.iter().map(edit).collect(), items })
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
