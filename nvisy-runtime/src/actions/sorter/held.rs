//! What a sorter has in memory, and how it gets to a file.

use nvisy_core::batch::BatchWriter;
use nvisy_core::{Batch, Result};

use super::order::order;
use super::{Sorted, beside, most_items};
use crate::actions::key::Keys;
use crate::actions::spill::{RunWriter, Written};

/// What is in memory, in order of arrival.
#[derive(Default)]
pub(super) struct Held {
    batches: Vec<Batch>,
    keys: Keys,
    bytes: usize,
}

impl Held {
    pub(super) fn push(&mut self, batch: Batch, keys: &Keys) -> Result<()> {
        self.bytes += batch.bytes() + keys.bytes() + beside(&batch) * batch.len();
        self.keys.append(keys)?;
        self.batches.push(batch);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Finds the order of what is held: of at most so many items, in parts of about so many bytes.
    pub(super) fn ordered(self, limit: Option<u64>, part: usize) -> Ordered {
        let Self { batches, keys, .. } = self;
        let batch = Batch::concat(batches).into_iter().next().unwrap_or_else(Batch::empty);
        let order = order(&keys);
        let len =
            limit.map_or(batch.len(), |limit| batch.len().min(usize::try_from(limit).unwrap_or(usize::MAX)));
        let each = (batch.bytes() + keys.bytes()) / batch.len().max(1) + beside(&batch);
        let step = (part / each).clamp(1, most_items(&batch));
        Ordered { batch, keys, order, at: 0, len, step }
    }
}

/// What was held, and is taken out in order, a part at a time.
pub(super) struct Ordered {
    batch: Batch,
    keys: Keys,
    order: Option<Vec<u32>>,
    at: usize,
    len: usize,
    step: usize,
}

impl Ordered {
    pub(super) fn next(&mut self) -> Result<Option<Sorted>> {
        let (at, len) = (self.at, self.step.min(self.len - self.at));
        if len == 0 {
            return Ok(None);
        }
        self.at += len;
        Ok(Some(match &self.order {
            None => Sorted { batch: self.batch.slice(at, len), keys: self.keys.slice(at, len)? },
            Some(order) => {
                let order = &order[at..at + len];
                Sorted { batch: self.batch.select(order), keys: self.keys.select(order)? }
            }
        }))
    }
}

/// What was held, on its way to a file: that takes nothing of the sorter, which may hold more
/// meanwhile.
pub(in crate::actions) struct Spilling {
    pub(super) held: Held,
    pub(super) limit: Option<u64>,
    pub(super) frame: usize,
    pub(super) file: RunWriter,
}

impl Spilling {
    pub(in crate::actions) fn write(self) -> Result<Written> {
        let Self { held, limit, frame, mut file } = self;
        let (mut ordered, mut batches) = (held.ordered(limit, frame), BatchWriter::default());
        while let Some(sorted) = ordered.next()? {
            sorted.write(&mut file, &mut batches)?;
        }
        file.finish()
    }
}

impl Sorted {
    /// Writes a frame.
    pub(super) fn write(&self, file: &mut RunWriter, batches: &mut BatchWriter) -> Result<()> {
        file.frame(self.batch.len(), &[&self.keys.to_bytes(), &batches.write(&self.batch)?])
    }
}
