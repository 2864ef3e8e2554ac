//! Stretches of a batch whose items are what a source read: what a log of lineage writes in one.

use std::ops::Range;
use std::sync::Arc;

use super::Batch;
use super::columns::Ids;
use super::trail::Indices;
use crate::id::{PrimitiveId, SourceIdentity};
use crate::lineage::{Link, Step};
use crate::position::{Position, Positions};

/// Items of a batch that stand side by side, were read from one source, and made from nothing
/// else: edited at the most.
///
/// What they share is said once. See [`Batch::source_items`].
#[derive(Debug)]
pub struct SourceItems<'a> {
    steps: Vec<&'a Arc<Step>>,
    source: &'a SourceIdentity,
    positions: &'a Positions,
    keys: Option<&'a [PrimitiveId]>,
    indices: Indices,
    len: usize,
    natural: bool,
}

impl SourceItems<'_> {
    /// Returns the steps from the source to here.
    #[must_use]
    pub fn steps(&self) -> &[&Arc<Step>] {
        &self.steps
    }

    /// Returns the source's identity.
    #[must_use]
    pub fn source(&self) -> &SourceIdentity {
        self.source
    }

    /// Returns the id of the source item at `at`, counted from the first one here.
    #[must_use]
    pub fn root(&self, at: usize) -> Option<PrimitiveId> {
        let index = self.indices.get(at);
        match self.keys {
            Some(keys) => keys.get(index as usize).copied(),
            None => Some(self.positions.id(self.source, index)),
        }
    }

    /// Returns the position of the item at `at`, counted from the first one here.
    #[must_use]
    pub fn position(&self, at: usize) -> Option<Position> {
        self.positions.get(self.indices.get(at))
    }

    /// Returns the object that they are in, if any, and the offset of each, where the ids of the
    /// items follow from that and nothing else is needed to compute them.
    #[must_use]
    pub fn offsets(&self) -> Option<(Option<&Arc<str>>, Offsets)> {
        if !self.natural || self.keys.is_some() {
            return None;
        }
        Some(match (self.positions, &self.indices) {
            (Positions::Sequence { object, start }, Indices::From(first)) => {
                let first = start + u64::from(*first);
                (object.as_ref(), Offsets::Consecutive { first, len: self.len })
            }
            (Positions::Sequence { object, start }, Indices::Each(each)) => {
                let offsets = each.iter().map(|index| start + u64::from(*index));
                (object.as_ref(), Offsets::Each(offsets.collect()))
            }
            (Positions::Offsets { object, offsets }, indices) => {
                let offset = |at| offsets.get(indices.get(at) as usize).copied().unwrap_or(u64::MAX);
                (Some(object), Offsets::Each((0..self.len).map(offset).collect()))
            }
            (Positions::Each(_), _) => return None,
        })
    }
}

/// Where items that stand side by side are in their object. See [`SourceItems::offsets`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offsets {
    /// Each is one behind the one before it.
    Consecutive {
        /// The offset of the first.
        first: u64,
        /// How many they are.
        len: usize,
    },
    /// The offset of each.
    Each(Vec<u64>),
}

impl Batch {
    /// Returns the items in stretches, each with what its items share if they are what a source
    /// read; none for items that were made from others, each of which has its own
    /// [`lineage`](Self::lineage).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use nvisy_core::batch::Offsets;
    /// use nvisy_core::lineage::Step;
    /// use nvisy_core::metadata::Metadata;
    /// use nvisy_core::primitive::raw::Raw;
    /// use nvisy_core::{Batch, Positions, SourceIdentity};
    ///
    /// # fn main() -> nvisy_core::Result<()> {
    /// let step = Arc::new(Step::new("read", "object/jsonl", chrono::Utc::now()));
    /// let tickets = SourceIdentity::new("file:///data");
    /// let payloads = [1, 2].map(|n| Raw::Json(n.into()).into()).to_vec();
    /// let positions = Positions::offsets("a.jsonl", [0, 17]);
    /// let read = Batch::read(payloads, positions, &tickets, step, Arc::new(Metadata::default()))?;
    ///
    /// let (items, origin) = &read.source_items()[0];
    /// let (object, offsets) = origin.as_ref().and_then(|origin| origin.offsets()).unwrap();
    /// assert_eq!((items.clone(), object.map(|o| &**o)), (0..2, Some("a.jsonl")));
    /// assert_eq!(offsets, Offsets::Each(vec![0, 17]));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn source_items(&self) -> Vec<(Range<usize>, Option<SourceItems<'_>>)> {
        let natural = matches!(self.ids, Ids::Natural);
        let mut first = 0;
        let mut stretches = Vec::new();
        for (link, indices, len) in self.trail.stretches(self.len()) {
            let items = first..first + len;
            first = items.end;
            stretches.push((items, origin(link, indices, len, natural)));
        }
        stretches
    }
}

/// Follows a link through edits to its source.
fn origin(mut link: &Arc<Link>, indices: Indices, len: usize, natural: bool) -> Option<SourceItems<'_>> {
    let mut steps = Vec::new();
    loop {
        match &**link {
            Link::Origin { step, source, positions, keys } => {
                steps.push(step);
                steps.reverse();
                return Some(SourceItems {
                    steps,
                    source,
                    positions,
                    keys: keys.as_deref(),
                    indices,
                    len,
                    natural,
                });
            }
            Link::Edit { step, parent } => {
                steps.push(step);
                link = parent.as_ref()?;
            }
            Link::Derive { .. } | Link::Merge(_) => return None,
        }
    }
}
