//! Identity, envelope and lineage of a batch, shared where its items share them.

use std::sync::Arc;

use crate::id::PrimitiveId;
use crate::lineage::{Lineage, Link, Step};
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

/// The envelopes of a batch.
#[derive(Clone, Debug)]
pub(super) enum Envelopes {
    /// One for all.
    Shared(Arc<Metadata>),
    /// One an item.
    Each(Vec<Arc<Metadata>>),
}

impl Envelopes {
    pub(super) fn get(&self, index: usize) -> &Arc<Metadata> {
        match self {
            Self::Shared(metadata) => metadata,
            Self::Each(each) => &each[index],
        }
    }

    pub(super) fn take(&self, indices: &[u32]) -> Self {
        match self {
            Self::Shared(metadata) => Self::Shared(metadata.clone()),
            Self::Each(each) => Self::Each(indices.iter().map(|i| each[*i as usize].clone()).collect()),
        }
    }

    pub(super) fn slice(&self, offset: usize, len: usize) -> Self {
        match self {
            Self::Shared(metadata) => Self::Shared(metadata.clone()),
            Self::Each(each) => Self::Each(each[offset..offset + len].to_vec()),
        }
    }
}

/// Gathers envelopes; shared as long as they are one.
pub(super) struct EnvelopesBuilder {
    first: Option<Arc<Metadata>>,
    len: usize,
    each: Vec<Arc<Metadata>>,
    capacity: usize,
}

impl EnvelopesBuilder {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { first: None, len: 0, each: Vec::new(), capacity }
    }

    pub(super) fn push(&mut self, metadata: Arc<Metadata>) {
        match &self.first {
            None => self.first = Some(metadata),
            Some(first) if self.each.is_empty() && Arc::ptr_eq(first, &metadata) => {}
            Some(first) => {
                if self.each.is_empty() {
                    self.each.reserve(self.capacity);
                    self.each.extend(std::iter::repeat_n(first, self.len).cloned());
                }
                self.each.push(metadata);
            }
        }
        self.len += 1;
    }

    pub(super) fn finish(self) -> Envelopes {
        if self.each.is_empty() {
            Envelopes::Shared(self.first.unwrap_or_default())
        } else {
            Envelopes::Each(self.each)
        }
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
    pub(super) fn from(start: u32) -> Self {
        Self::From(start)
    }

    pub(super) fn is_from(&self, start: u32) -> bool {
        matches!(self, Self::From(from) if *from == start)
    }

    pub(super) fn get(&self, index: usize) -> u32 {
        match self {
            Self::From(start) => start + index as u32,
            Self::Each(each) => each[index],
        }
    }
}

/// The lineages of a batch.
#[derive(Clone, Debug)]
pub(super) enum Trail {
    /// One link for all.
    Shared { link: Arc<Link>, indices: Indices },
    /// One lineage an item.
    Each(Vec<Lineage>),
}

impl Trail {
    pub(super) fn get(&self, index: usize) -> Lineage {
        match self {
            Self::Shared { link, indices } => Lineage { link: link.clone(), index: indices.get(index) },
            Self::Each(each) => each[index].clone(),
        }
    }

    pub(super) fn take(&self, indices: &[u32]) -> Self {
        match self {
            Self::Shared { link, indices: mine } => {
                let each = indices.iter().map(|i| mine.get(*i as usize)).collect();
                Self::Shared { link: link.clone(), indices: Indices::Each(each) }
            }
            Self::Each(each) => Self::Each(indices.iter().map(|i| each[*i as usize].clone()).collect()),
        }
    }

    pub(super) fn slice(&self, offset: usize, len: usize) -> Self {
        match self {
            Self::Shared { link, indices } => {
                let indices = match indices {
                    Indices::From(start) => Indices::From(start + offset as u32),
                    Indices::Each(each) => Indices::Each(each[offset..offset + len].into()),
                };
                Self::Shared { link: link.clone(), indices }
            }
            Self::Each(each) => Self::Each(each[offset..offset + len].to_vec()),
        }
    }

    /// Adds an edit to every lineage: one link for those that share one.
    pub(super) fn edited(self, step: &Arc<Step>) -> Self {
        match self {
            Self::Shared { link, indices } => {
                Self::Shared { link: Arc::new(Link::edit(step.clone(), link)), indices }
            }
            Self::Each(each) => {
                let mut last: Option<(Arc<Link>, Arc<Link>)> = None;
                let each = each.into_iter().map(|lineage| {
                    let link = match &last {
                        Some((parent, link)) if Arc::ptr_eq(parent, &lineage.link) => link.clone(),
                        _ => {
                            let parent = lineage.link.clone();
                            let link = Arc::new(Link::edit(step.clone(), parent.clone()));
                            last = Some((parent, link.clone()));
                            link
                        }
                    };
                    Lineage { link, index: lineage.index }
                });
                Self::Each(each.collect())
            }
        }
    }
}

/// Gathers lineages; shared as long as their link is one.
pub(super) struct TrailBuilder {
    link: Option<Arc<Link>>,
    indices: Vec<u32>,
    each: Vec<Lineage>,
    capacity: usize,
}

impl TrailBuilder {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { link: None, indices: Vec::new(), each: Vec::new(), capacity }
    }

    pub(super) fn push(&mut self, lineage: Lineage) {
        if !self.each.is_empty() {
            self.each.push(lineage);
            return;
        }
        match &self.link {
            None => {
                self.indices.reserve(self.capacity);
                self.indices.push(lineage.index);
                self.link = Some(lineage.link);
            }
            Some(link) if Arc::ptr_eq(link, &lineage.link) => self.indices.push(lineage.index),
            Some(link) => {
                self.each.reserve(self.capacity);
                self.each.extend(self.indices.drain(..).map(|index| Lineage { link: link.clone(), index }));
                self.each.push(lineage);
            }
        }
    }

    pub(super) fn finish(self) -> Trail {
        match self.link {
            Some(link) if self.each.is_empty() => {
                let start = self.indices.first().copied().unwrap_or(0);
                let consecutive = self.indices.iter().enumerate().all(|(i, at)| *at == start + i as u32);
                let indices =
                    if consecutive { Indices::From(start) } else { Indices::Each(self.indices.into()) };
                Trail::Shared { link, indices }
            }
            _ => Trail::Each(self.each),
        }
    }
}
