//! Sorts batches by keys, on disk where they do not fit into memory.
//!
//! What is held in memory becomes a sorted run when it is too much, and whenever a checkpoint
//! is made; runs are merged, some tens of a level at a time, so that each item is written a few
//! times however many there are. Items of equal keys keep their order. Without keys it is a queue.

mod held;
mod merge;
mod order;

use nvisy_core::batch::BatchWriter;
use nvisy_core::checkpoint::{Changes, Entries};
use nvisy_core::spill::Spill;
use nvisy_core::{Batch, Error, ErrorKind, Result};

use self::held::Held;
pub(super) use self::held::Spilling;
use self::merge::{Cursor, Merge};
use super::key::Keys;
use super::spill::{Runs, Written};

/// Rows, and items of any kind, of a frame and of a batch that is released, at the most.
const MOST_ROWS: usize = 16_384;
const MOST_ITEMS: usize = 1_024;
/// Bytes of a frame, and of a batch that is released, at the most.
pub(super) const MOST_BYTES: usize = 1 << 20;
/// How many runs are merged at once.
const MERGED: usize = 32;

fn most_items(batch: &Batch) -> usize {
    if batch.as_rows().is_some() { MOST_ROWS } else { MOST_ITEMS }
}

/// What an item takes beside payload and key: identity, envelope, lineage.
fn beside(batch: &Batch) -> usize {
    if batch.as_rows().is_some() { 16 } else { 48 }
}

/// Batches, sorted by their keys.
pub(super) struct Sorter {
    runs: Runs,
    /// How many more are being written.
    begun: usize,
    /// How many bytes may be held.
    memory: usize,
    /// How many items come out at the most.
    limit: Option<u64>,
    /// How many have.
    released: u64,
    /// Whether runs stay until all is cleared, and a checkpoint does not say what came out.
    whole: bool,
    held: Held,
    merge: Option<Merge>,
}

/// Items with their keys.
pub(super) struct Sorted {
    pub(super) batch: Batch,
    pub(super) keys: Keys,
}

impl Sorted {
    fn slice(&self, offset: usize, len: usize) -> Result<Self> {
        let keys = if self.keys.len() == 0 { Keys::default() } else { self.keys.slice(offset, len)? };
        Ok(Self { batch: self.batch.slice(offset, len), keys })
    }

    /// Takes off what is too much, and returns how many may still come.
    fn limit(&mut self, left: u64) -> Result<u64> {
        if self.batch.len() as u64 > left {
            *self = self.slice(0, left as usize)?;
        }
        Ok(left - self.batch.len() as u64)
    }
}

impl Sorter {
    pub(super) fn new(spill: Spill, name: &'static str, memory: u64) -> Self {
        Self {
            runs: Runs::new(spill, name).merged(MERGED),
            begun: 0,
            memory: usize::try_from(memory).unwrap_or(usize::MAX),
            limit: None,
            released: 0,
            whole: false,
            held: Held::default(),
            merge: None,
        }
    }

    pub(super) fn with_limit(mut self, limit: Option<u64>) -> Self {
        self.limit = limit;
        self
    }

    /// Keeps all runs until they are [cleared](Self::clear): after a crash all comes out again.
    pub(super) fn kept_whole(mut self) -> Self {
        self.whole = true;
        self
    }

    pub(super) fn push(&mut self, batch: Batch, keys: &Keys) -> Result<()> {
        self.held.push(batch, keys)?;
        if let Some(limit) = self.limit
            && self.held.len() as u64 > limit.saturating_mul(2).max(MOST_ITEMS as u64)
        {
            let mut first = std::mem::take(&mut self.held).ordered(self.limit, MOST_BYTES);
            while let Some(Sorted { batch, keys }) = first.next()? {
                self.held.push(batch, &keys)?;
            }
        }
        Ok(())
    }

    /// Returns whether what is held is to be spilled: a fifth of the memory, for sorting takes as
    /// much, and more may be held while two runs are being written.
    pub(super) fn is_full(&self) -> bool {
        self.held.bytes() > self.memory / 5
    }

    /// Takes what is held, if anything, to be written as a run, and begins to hold anew. Nothing
    /// but to push and to begin others is done before it was [added](Self::add), in order.
    pub(super) fn begin_spill(&mut self) -> Result<Option<Spilling>> {
        if self.held.is_empty() {
            return Ok(None);
        }
        let (limit, frame, file) = (self.limit, self.frame(), self.runs.begin(0)?);
        self.begun += 1;
        Ok(Some(Spilling { held: std::mem::take(&mut self.held), limit, frame, file }))
    }

    /// Returns whether all that was begun is to be added before more is: then runs are merged.
    pub(super) fn is_due(&self) -> bool {
        self.runs.last_of_level(0) + self.begun >= MERGED
    }

    /// Takes up a run that is written, and merges runs where there are many. What they make comes
    /// behind all others, so that none may be on its way then.
    pub(super) fn add(&mut self, written: Written) -> Result<()> {
        self.runs.add(written);
        self.begun = self.begun.saturating_sub(1);
        while self.begun == 0
            && let Some((numbers, level)) = self.runs.to_merge()
        {
            let frame = self.frame();
            let mut merge = Merge::of(&self.runs, &numbers, None)?;
            let mut left = self.limit.unwrap_or(u64::MAX);
            self.runs.write(level.saturating_add(1), |file| {
                let mut batches = BatchWriter::default();
                while left > 0
                    && let Some(mut sorted) = merge.next(frame, true)?
                {
                    left = sorted.limit(left)?;
                    sorted.write(file, &mut batches)?;
                }
                Ok(())
            })?;
            numbers.into_iter().for_each(|number| self.runs.remove(number));
        }
        Ok(())
    }

    /// Writes what is held as a run.
    pub(super) fn spill(&mut self) -> Result<()> {
        match self.begin_spill()? {
            Some(spilling) => self.add(spilling.write()?),
            None => Ok(()),
        }
    }

    /// How many bytes of a run are read at once: a part of the memory that is left for all runs.
    fn frame(&self) -> usize {
        (self.memory / (4 * MERGED)).clamp(1, MOST_BYTES)
    }

    /// Returns the next items in order. Nothing is pushed once this was called, until there is
    /// nothing more.
    pub(super) fn next(&mut self) -> Result<Option<Sorted>> {
        self.advance(true)
    }

    /// Returns the next items without their keys.
    pub(super) fn next_batch(&mut self) -> Result<Option<Batch>> {
        Ok(self.advance(false)?.map(|sorted| sorted.batch))
    }

    fn advance(&mut self, keyed: bool) -> Result<Option<Sorted>> {
        if self.merge.is_none() {
            if self.whole && self.runs.is_kept() {
                self.spill()?;
            }
            let most = if self.runs.is_empty() { MOST_BYTES } else { self.frame() };
            let held = std::mem::take(&mut self.held);
            let held = if held.is_empty() { None } else { Some(held.ordered(self.limit, most)) };
            let numbers = self.runs.numbers();
            self.merge = Some(Merge::of(&self.runs, &numbers, held)?);
        }
        let left = self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.released));
        let most = if self.runs.is_empty() { MOST_BYTES } else { self.frame().max(MOST_BYTES / 16) };
        let next = match &mut self.merge {
            Some(merge) if left > 0 => merge.next(most, keyed)?,
            _ => None,
        };
        let Some(mut sorted) = next else {
            self.merge = None;
            if !self.whole {
                self.clear();
            }
            return Ok(None);
        };
        sorted.limit(left)?;
        self.released += sorted.batch.len() as u64;
        Ok(Some(sorted))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.held = Held::default();
        self.merge = None;
        self.released = 0;
    }

    pub(super) fn save(&mut self, changes: &mut Changes) -> Result<()> {
        match self.merge.take() {
            None => self.spill()?,
            Some(merge) => {
                let mut cursors = merge.into_cursors();
                for cursor in &mut cursors {
                    match cursor.number {
                        Some(number) if !self.whole => self.runs.set_taken(number, cursor.taken),
                        Some(_) => {}
                        // What is still in memory goes on as a run.
                        None => self.settle(cursor)?,
                    }
                }
                cursors.retain(|cursor| !cursor.is_done());
                self.merge = Some(Merge::new(cursors));
            }
        }
        if let Some(released) = self.limit.map(|_| self.released) {
            changes.put(self.runs.key("released"), released.to_le_bytes().to_vec());
        }
        self.runs.save(changes)
    }

    fn settle(&mut self, cursor: &mut Cursor) -> Result<()> {
        let number = self.runs.write(0, |file| {
            let mut batches = BatchWriter::default();
            while let Some(rest) = cursor.rest()? {
                rest.write(file, &mut batches)?;
            }
            Ok(())
        })?;
        if let Some(number) = number {
            *cursor = Cursor::open(&self.runs, number, 0)?;
        }
        Ok(())
    }

    pub(super) fn saved(&mut self) {
        self.runs.saved();
    }

    pub(super) fn restore(&mut self, saved: &Entries) -> Result<()> {
        if let Some(released) = saved.get(&self.runs.key("released")) {
            let bytes = <[u8; 8]>::try_from(&**released);
            self.released =
                u64::from_le_bytes(bytes.map_err(|_| {
                    Error::new(ErrorKind::Validation, "what a sort has released does not read")
                })?);
        }
        self.runs.restore(saved)
    }
}
