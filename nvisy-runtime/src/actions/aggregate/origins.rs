//! Who the first items of groups are: batches without payloads, by the numbers of their items.

use std::sync::Arc;

use nvisy_core::batch::{BatchReader, BatchWriter};
use nvisy_core::{Batch, Result};

use super::column::Plain;
use crate::actions::spill::RunWriter;

/// Batches of which items are named, in the order in which they came.
#[derive(Clone, Default)]
pub(super) struct Origins {
    /// Each with the number of its first item.
    batches: Vec<(u64, Arc<Batch>)>,
    bytes: usize,
}

/// About how many bytes of batches stand in a frame.
const FRAME: usize = 1 << 20;

impl Origins {
    /// Adds the batch that came last, unless it is there.
    pub(super) fn push(&mut self, first: u64, batch: &Batch) {
        if self.batches.last().is_none_or(|(last, _)| *last != first) {
            self.insert(first, Arc::new(batch.without_payloads()));
        }
    }

    fn insert(&mut self, first: u64, batch: Arc<Batch>) {
        self.bytes += size_of::<(u64, Arc<Batch>)>() + batch.identity_bytes();
        self.batches.push((first, batch));
    }

    /// Adds those of others that are not there.
    pub(super) fn extend(&mut self, others: &Self) {
        self.batches.extend(others.batches.iter().cloned());
        self.batches.sort_by_key(|(first, _)| *first);
        self.batches.dedup_by_key(|(first, _)| *first);
        self.bytes += others.bytes;
    }

    /// Returns those that are of these numbers.
    pub(super) fn of(&self, numbers: impl Iterator<Item = u64>) -> Self {
        let mut used = vec![false; self.batches.len()];
        numbers.filter_map(|number| self.find(number)).for_each(|at| used[at] = true);
        let mut some = Self::default();
        for ((first, batch), _) in self.batches.iter().zip(used).filter(|(_, used)| *used) {
            some.insert(*first, batch.clone());
        }
        some
    }

    /// Returns which batch the item with a number is in.
    pub(super) fn find(&self, number: u64) -> Option<usize> {
        // Most batches are of one size: the place follows from that.
        let (first, last) = (self.first()?, self.batches.last()?.0);
        let span = ((last - first) / (self.batches.len() as u64 - 1).max(1)).max(1);
        let guess = (number.saturating_sub(first) / span) as usize;
        let starts = |at: usize| self.batches.get(at).map_or(u64::MAX, |(first, _)| *first);
        if starts(guess) <= number && number < starts(guess + 1) {
            return Some(guess);
        }
        self.batches.partition_point(|(first, _)| *first <= number).checked_sub(1)
    }

    /// Returns a batch with the number of its first item.
    pub(super) fn get(&self, at: usize) -> (u64, &Batch) {
        let (first, batch) = &self.batches[at];
        (*first, batch)
    }

    /// Returns the number of the first item of the first batch.
    pub(super) fn first(&self) -> Option<u64> {
        self.batches.first().map(|(first, _)| *first)
    }

    pub(super) fn len(&self) -> usize {
        self.batches.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes them at the beginning of a run, as frames without groups.
    pub(super) fn write(&self, file: &mut RunWriter) -> Result<()> {
        let mut writer = BatchWriter::default();
        let mut frame = Vec::new();
        for (first, batch) in &self.batches {
            let batch = writer.write(batch)?;
            first.put(&mut frame);
            (batch.len() as u64).put(&mut frame);
            frame.extend(batch);
            if frame.len() > FRAME {
                file.frame(0, &[&std::mem::take(&mut frame)])?;
            }
        }
        if frame.is_empty() { Ok(()) } else { file.frame(0, &[&frame]) }
    }

    /// Reads the next frame; none if it is not one.
    pub(super) fn read(&mut self, reader: &mut BatchReader, mut frame: &[u8]) -> Option<()> {
        while !frame.is_empty() {
            let first = u64::take(&mut frame)?;
            let len = usize::try_from(u64::take(&mut frame)?).ok()?;
            let (batch, rest) = frame.split_at_checked(len)?;
            frame = rest;
            self.insert(first, Arc::new(reader.read(batch).ok()?));
        }
        Some(())
    }
}
