//! Items that were made of several others each: of which, as columns.

use std::ops::Range;
use std::sync::Arc;

use super::{Lineage, Link, Step};
use crate::batch::Batch;
use crate::id::PrimitiveId;

/// Of which items each item of a new batch was made, and in which step.
///
/// The batches that the inputs are of are named once each, and an input is a number of one of
/// them and an index: eight bytes, whatever its lineage. Ids that follow from positions are not
/// computed before somebody asks. [`Batch::merged`](crate::Batch::merged) takes it.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use nvisy_core::lineage::{Merges, Step};
/// use nvisy_core::primitive::raw::Raw;
/// use nvisy_core::{Batch, Metadata, Positions, SourceIdentity};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let step = |node: &str| Arc::new(Step::new(node, "example", chrono::Utc::now()));
/// let numbers = [1, 2, 3].map(|n| Raw::Json(n.into()).into()).to_vec();
/// let (source, metadata) = (SourceIdentity::new("numbers"), Arc::new(Metadata::default()));
/// let read = Batch::read(numbers, Positions::from(0), &source, step("read"), metadata.clone())?;
///
/// let mut merges = Merges::default();
/// let of = merges.batch(&read);
/// merges.input(&read, of, 0);
/// merges.input(&read, of, 2);
/// merges.end(&step("sum"));
/// let rows = arrow::array::RecordBatch::try_from_iter([(
///     "sum",
///     Arc::new(arrow::array::Int64Array::from(vec![4])) as arrow::array::ArrayRef,
/// )])?;
/// let keys = arrow::array::BinaryArray::from_vec(vec![b"all"]);
/// let sum = Batch::merged(rows, (source.clone(), keys), merges, metadata)?;
/// assert_eq!(sum.lineage(0).roots().len(), 2);
/// assert_eq!(sum.id(0), source.id_of_key(b"all"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Merges(pub(crate) Merge);

/// A batch whose items are inputs: how [`Merges`] know it.
#[derive(Clone, Copy, Debug)]
pub struct MergeBatch {
    /// The number of its first link.
    link: u32,
    /// The index there of its first item, if those of the others follow.
    start: Option<u32>,
}

/// The inputs of each item of a batch.
#[derive(Debug, Default)]
pub(crate) struct Merge {
    pub(crate) steps: Vec<Arc<Step>>,
    /// For each item which step made it, and the end of its inputs.
    pub(crate) items: Vec<(u32, u32)>,
    pub(crate) links: Vec<Arc<Link>>,
    /// The link of each input, and its index there.
    pub(crate) inputs: Vec<(u32, u32)>,
    /// The ids of the inputs; none where each follows from its link.
    pub(crate) ids: Option<Vec<PrimitiveId>>,
}

impl Merges {
    /// Names a batch whose items may be inputs.
    pub fn batch(&mut self, batch: &Batch) -> MergeBatch {
        let Merge { links, inputs, ids, .. } = &mut self.0;
        if !batch.is_natural() && ids.is_none() {
            *ids = Some(inputs.iter().map(|input| natural_id(links, *input)).collect());
        }
        let first = links.len() as u32;
        links.extend(batch.links().into_iter().cloned());
        MergeBatch { link: first, start: batch.start() }
    }

    /// Adds an input of the next item: one of a batch that was named.
    ///
    /// # Panics
    ///
    /// If the batch has no such item.
    #[inline]
    pub fn input(&mut self, batch: &Batch, of: MergeBatch, index: usize) {
        assert!(index < batch.len(), "an input is an item of its batch");
        self.0.inputs.push(match of.start {
            Some(start) => (of.link, start + index as u32),
            None => {
                let (at, index) = batch.link_at(index);
                (of.link + at as u32, index)
            }
        });
        if let Some(ids) = &mut self.0.ids {
            ids.push(batch.id(index));
        }
    }

    /// Ends an item: it was made, in this step, of the inputs since the item before.
    pub fn end(&mut self, step: &Arc<Step>) {
        let Merge { steps, items, inputs, .. } = &mut self.0;
        // Where many items share a few steps, the last ones are the likely ones.
        let known = steps.iter().rposition(|known| Arc::ptr_eq(known, step));
        let step = known.unwrap_or_else(|| {
            steps.push(step.clone());
            steps.len() - 1
        });
        items.push((step as u32, inputs.len() as u32));
    }

    /// Returns how many items were ended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.items.len()
    }

    /// Returns whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.items.is_empty()
    }
}

/// One input of an item.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) link: &'a Arc<Link>,
    pub(crate) index: u32,
    /// None where it follows from the link.
    id: Option<PrimitiveId>,
}

impl<'a> Input<'a> {
    pub(crate) fn new(id: PrimitiveId, link: &'a Arc<Link>, index: u32) -> Self {
        Self { link, index, id: Some(id) }
    }

    pub(crate) fn lineage(&self) -> Lineage {
        Lineage { link: self.link.clone(), index: self.index }
    }

    pub(crate) fn id(&self) -> PrimitiveId {
        match self.id.or_else(|| self.link.natural_id(self.index)) {
            Some(id) => id,
            None => unreachable!("an id without a source"),
        }
    }
}

impl Merge {
    /// Returns where the inputs of an item stand.
    pub(crate) fn range(&self, index: u32) -> Range<usize> {
        let at = index as usize;
        let end = |at: usize| self.items.get(at).map_or(self.inputs.len(), |(_, end)| *end as usize);
        let start = at.checked_sub(1).map_or(0, end);
        start..end(at)
    }

    pub(crate) fn input(&self, at: usize) -> Input<'_> {
        let (link, index) = self.inputs[at];
        Input { link: &self.links[link as usize], index, id: self.ids.as_ref().map(|ids| ids[at]) }
    }

    pub(crate) fn step(&self, index: u32) -> &Arc<Step> {
        &self.steps[self.items[index as usize].0 as usize]
    }

    /// Returns whether all that is named is there.
    pub(crate) fn is_whole(&self) -> bool {
        let below = |number: u32, len: usize| (number as usize) < len;
        let mut ends = self.items.iter().map(|(_, end)| *end as usize);
        ends.clone().is_sorted()
            && ends.next_back().unwrap_or(0) == self.inputs.len()
            && self.items.iter().all(|(step, _)| below(*step, self.steps.len()))
            && self.inputs.iter().all(|(link, _)| below(*link, self.links.len()))
            && match &self.ids {
                Some(ids) => ids.len() == self.inputs.len(),
                None => self.links.iter().all(|link| link.origin().is_some()),
            }
    }
}

fn natural_id(links: &[Arc<Link>], (link, index): (u32, u32)) -> PrimitiveId {
    match links[link as usize].natural_id(index) {
        Some(id) => id,
        None => unreachable!("an id without a source"),
    }
}
