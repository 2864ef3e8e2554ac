//! Sorts batches by keys, on disk where they do not fit into memory.
//!
//! What is held in memory becomes a sorted run when it is too much, and whenever a checkpoint
//! is made; runs are merged, sixteen of a level at a time, so that each item is written a few
//! times however many there are. Items of equal keys keep their order. Without keys it is a queue.

use std::cmp::Ordering;

use nvisy_core::batch::{BatchReader, BatchWriter};
use nvisy_core::checkpoint::{Changes, Entries};
use nvisy_core::spill::Spill;
use nvisy_core::{Batch, Error, ErrorKind, Result};

use super::key::Keys;
use super::spill::{RunReader, RunWriter, Runs};

/// What an item takes beside payload and key: identity, envelope, lineage.
const BESIDE: usize = 48;
/// Items of a frame, and of a batch that is released, at the most.
const MOST_ITEMS: usize = 1_024;
/// Bytes of a frame, and of a batch that is released, at the most.
const MOST_BYTES: usize = 1 << 20;

/// Batches, sorted by their keys.
pub(super) struct Sorter {
    runs: Runs,
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

/// What is in memory, in order of arrival.
#[derive(Default)]
struct Held {
    batches: Vec<Batch>,
    keys: Keys,
    bytes: usize,
}

/// Items with their keys.
pub(super) struct Sorted {
    pub(super) batch: Batch,
    pub(super) keys: Keys,
}

impl Sorter {
    pub(super) fn new(spill: Spill, name: &'static str, memory: u64) -> Self {
        Self {
            runs: Runs::new(spill, name),
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
        self.held.bytes += batch.bytes() + keys.bytes() + BESIDE * batch.len();
        self.held.keys.append(keys)?;
        self.held.batches.push(batch);
        if let Some(limit) = self.limit
            && self.held.keys.len() as u64 > limit.saturating_mul(2).max(MOST_ITEMS as u64)
        {
            let Sorted { batch, keys } = self.sort()?;
            let bytes = batch.bytes() + keys.bytes() + BESIDE * batch.len();
            self.held = Held { batches: vec![batch], keys, bytes };
        }
        Ok(())
    }

    /// Returns whether what is held is to be spilled: half of the memory, for sorting copies it.
    pub(super) fn is_full(&self) -> bool {
        self.held.bytes > self.memory / 2
    }

    /// Sorts what is held, and lets go of it.
    fn sort(&mut self) -> Result<Sorted> {
        let Held { batches, keys, .. } = std::mem::take(&mut self.held);
        let batch = Batch::concat(batches).into_iter().next().unwrap_or_else(Batch::empty);
        let mut order: Vec<(u64, u32)> =
            (0..keys.len()).map(|index| (prefix(keys.get(index)), index as u32)).collect();
        if order.is_sorted_by(|a, b| keys.get(a.1 as usize) <= keys.get(b.1 as usize)) {
            let len = self.limit.map_or(batch.len(), |limit| batch.len().min(limit as usize));
            return Ok(Sorted { batch: batch.slice(0, len), keys: keys.slice(0, len)? });
        }
        order.sort_unstable_by(|(a, i), (b, j)| {
            let whole = || keys.get(*i as usize).cmp(keys.get(*j as usize));
            a.cmp(b).then_with(whole).then(i.cmp(j))
        });
        let most = self.limit.map_or(usize::MAX, |limit| limit as usize);
        let order: Vec<u32> = order.into_iter().take(most).map(|(_, index)| index).collect();
        Ok(Sorted { batch: batch.select(&order), keys: keys.select(&order)? })
    }

    /// Writes what is held as a run, and merges runs where there are many.
    pub(super) fn spill(&mut self) -> Result<()> {
        if self.held.batches.is_empty() {
            return Ok(());
        }
        let sorted = self.sort()?;
        self.write(0, |writer| writer.sorted(&sorted))?;
        while let Some((numbers, level)) = self.runs.to_merge() {
            let frame = self.frame();
            let mut merge = Merge::of(&self.runs, &numbers, None)?;
            let mut left = self.limit.unwrap_or(u64::MAX);
            self.write(level.saturating_add(1), |writer| {
                while let Some(mut sorted) = merge.next(frame)? {
                    if sorted.batch.len() as u64 > left {
                        sorted.batch = sorted.batch.slice(0, left as usize);
                        sorted.keys = sorted.keys.slice(0, left as usize)?;
                    }
                    left -= sorted.batch.len() as u64;
                    if sorted.batch.is_empty() {
                        break;
                    }
                    writer.sorted(&sorted)?;
                }
                Ok(())
            })?;
            numbers.into_iter().for_each(|number| self.runs.remove(number));
        }
        Ok(())
    }

    fn write(
        &mut self,
        level: u8,
        write: impl FnOnce(&mut SortedWriter<'_>) -> Result<()>,
    ) -> Result<Option<u64>> {
        let frame = self.frame();
        self.runs
            .write(level, |file| write(&mut SortedWriter { file, batches: BatchWriter::default(), frame }))
    }

    /// How many bytes of a run are read at once.
    fn frame(&self) -> usize {
        (self.memory / 64).clamp(1, MOST_BYTES)
    }

    /// Returns the next items in order. Nothing is pushed once this was called, until there is
    /// nothing more.
    pub(super) fn next(&mut self) -> Result<Option<Sorted>> {
        if self.merge.is_none() {
            if self.whole && self.runs.is_kept() {
                self.spill()?;
            }
            let sorted = if self.held.batches.is_empty() { None } else { Some(self.sort()?) };
            let numbers = self.runs.numbers();
            self.merge = Some(Merge::of(&self.runs, &numbers, sorted)?);
        }
        let left = self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.released));
        let most = if self.runs.is_empty() { MOST_BYTES } else { self.frame().max(MOST_BYTES / 16) };
        let next = match &mut self.merge {
            Some(merge) if left > 0 => merge.next(most)?,
            _ => None,
        };
        let Some(mut sorted) = next else {
            self.merge = None;
            if !self.whole {
                self.clear();
            }
            return Ok(None);
        };
        if sorted.batch.len() as u64 > left {
            sorted.batch = sorted.batch.slice(0, left as usize);
            sorted.keys = sorted.keys.slice(0, left as usize)?;
        }
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
            Some(mut merge) => {
                for cursor in &mut merge.cursors {
                    match cursor.number {
                        Some(number) if !self.whole => self.runs.set_taken(number, cursor.taken),
                        Some(_) => {}
                        // What is still in memory goes on as a run.
                        None => self.settle(cursor)?,
                    }
                }
                merge.cursors.retain(|cursor| !cursor.is_done());
                self.merge = Some(Merge::new(merge.cursors));
            }
        }
        if let Some(released) = self.limit.map(|_| self.released) {
            changes.put(self.runs.key("released"), released.to_le_bytes().to_vec());
        }
        self.runs.save(changes)
    }

    fn settle(&mut self, cursor: &mut Cursor) -> Result<()> {
        let (at, len) = (cursor.at, cursor.block.batch.len() - cursor.at);
        let rest =
            Sorted { batch: cursor.block.batch.slice(at, len), keys: cursor.block.keys.slice(at, len)? };
        if let Some(number) = self.write(0, |writer| writer.sorted(&rest))? {
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

fn prefix(key: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.iter_mut().zip(key).for_each(|(byte, key)| *byte = *key);
    u64::from_be_bytes(bytes)
}

/// Writes sorted items in frames.
struct SortedWriter<'a> {
    file: &'a mut RunWriter,
    batches: BatchWriter,
    frame: usize,
}

impl SortedWriter<'_> {
    fn sorted(&mut self, sorted: &Sorted) -> Result<()> {
        let len = sorted.batch.len();
        let each = (sorted.batch.bytes() + sorted.keys.bytes()) / len.max(1) + BESIDE;
        let items = (self.frame / each).clamp(1, MOST_ITEMS);
        for offset in (0..len).step_by(items) {
            let count = items.min(len - offset);
            let keys = sorted.keys.slice(offset, count)?.to_bytes();
            let batch = self.batches.write(&sorted.batch.slice(offset, count))?;
            self.file.frame(count, &[&keys, &batch])?;
        }
        Ok(())
    }
}

/// Several sorted runs as one.
struct Merge {
    cursors: Vec<Cursor>,
    /// The cursors that have an item, as a heap: the first has the first of all.
    heap: Vec<usize>,
}

/// Where in a run the merge is.
struct Cursor {
    /// None of what is in memory.
    number: Option<u64>,
    file: Option<(RunReader, BatchReader)>,
    block: Sorted,
    at: usize,
    prefix: u64,
    /// How many of the run's items came out.
    taken: u64,
}

impl Cursor {
    /// Opens a run behind what came out of it before.
    fn open(runs: &Runs, number: u64, taken: u64) -> Result<Self> {
        let file = Some((runs.open(number)?, BatchReader::default()));
        let block = Sorted { batch: Batch::empty(), keys: Keys::default() };
        let mut cursor = Self { number: Some(number), file, block, at: 0, prefix: 0, taken: 0 };
        cursor.load()?;
        while !cursor.is_done() && cursor.taken + (cursor.block.batch.len() as u64) <= taken {
            cursor.taken += cursor.block.batch.len() as u64;
            cursor.at = cursor.block.batch.len();
            cursor.load()?;
        }
        cursor.at = taken.saturating_sub(cursor.taken) as usize;
        cursor.taken = taken;
        cursor.look();
        Ok(cursor)
    }

    fn is_done(&self) -> bool {
        self.at >= self.block.batch.len()
    }

    fn key(&self) -> &[u8] {
        self.block.keys.get(self.at)
    }

    fn look(&mut self) {
        if !self.is_done() {
            self.prefix = prefix(self.key());
        }
    }

    /// Goes on to the next block, if there is one.
    fn load(&mut self) -> Result<()> {
        let Some((file, batches)) = &mut self.file else { return Ok(()) };
        let Some((items, bytes)) = file.next()? else { return Ok(()) };
        let (keys, bytes) = Keys::from_bytes(&bytes).ok_or_else(|| file.damaged())?;
        let batch = batches.read(bytes)?;
        if batch.len() != items || keys.len() != items {
            return Err(file.damaged());
        }
        self.block = Sorted { batch, keys };
        self.at = 0;
        self.look();
        Ok(())
    }
}

impl Merge {
    fn of(runs: &Runs, numbers: &[u64], held: Option<Sorted>) -> Result<Self> {
        let mut cursors = Vec::with_capacity(numbers.len() + 1);
        for number in numbers {
            let taken = runs.get(*number).map_or(0, |run| run.taken);
            cursors.push(Cursor::open(runs, *number, taken)?);
        }
        cursors.extend(held.map(|block| {
            let mut cursor = Cursor { number: None, file: None, block, at: 0, prefix: 0, taken: 0 };
            cursor.look();
            cursor
        }));
        Ok(Self::new(cursors))
    }

    fn new(cursors: Vec<Cursor>) -> Self {
        let heap = (0..cursors.len()).filter(|cursor| !cursors[*cursor].is_done()).collect();
        let mut merge = Self { cursors, heap };
        (0..merge.heap.len() / 2).rev().for_each(|at| merge.sift(at));
        merge
    }

    /// Of equal keys that of the earlier run is the first.
    fn order(&self, a: usize, b: usize) -> Ordering {
        let (left, right) = (&self.cursors[a], &self.cursors[b]);
        left.prefix.cmp(&right.prefix).then_with(|| left.key().cmp(right.key())).then(a.cmp(&b))
    }

    fn sift(&mut self, mut at: usize) {
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.order(self.heap[child], self.heap[least]).is_lt() {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }

    /// Returns the next items: a batch of at most so many bytes, but of one item at least.
    fn next(&mut self, most: usize) -> Result<Option<Sorted>> {
        let mut parts: Vec<(Batch, Vec<u32>)> = Vec::new();
        let mut part_of: Vec<Option<usize>> = vec![None; self.cursors.len()];
        let mut picks: Vec<(usize, usize)> = Vec::new();
        let mut keys = Keys::default();
        let mut bytes = 0;
        while let Some(first) = self.heap.first().copied()
            && picks.len() < MOST_ITEMS
            && (bytes < most || picks.is_empty())
        {
            let cursor = &mut self.cursors[first];
            let part = *part_of[first].get_or_insert_with(|| {
                parts.push((cursor.block.batch.without_tokens(), Vec::new()));
                parts.len() - 1
            });
            let (batch, picked) = &mut parts[part];
            bytes += batch.bytes() / batch.len().max(1) + cursor.key().len();
            picks.push((part, picked.len()));
            picked.push(cursor.at as u32);
            keys.push(cursor.key())?;
            cursor.at += 1;
            cursor.taken += 1;
            if cursor.is_done() {
                part_of[first] = None;
                cursor.load()?;
            }
            if cursor.is_done() {
                self.heap.swap_remove(0);
            } else {
                cursor.look();
            }
            self.sift(0);
        }
        if picks.is_empty() {
            return Ok(None);
        }
        Ok(Some(Sorted { batch: gather(parts, &picks), keys }))
    }
}

/// Puts items of several batches into their order.
fn gather(parts: Vec<(Batch, Vec<u32>)>, picks: &[(usize, usize)]) -> Batch {
    let starts: Vec<usize> = parts
        .iter()
        .scan(0, |start, (_, picked)| Some(std::mem::replace(start, *start + picked.len())))
        .collect();
    let parts = parts.into_iter().map(|(batch, picked)| match picked.first() {
        // What is picked of a batch ascends by one.
        Some(first) => batch.slice(*first as usize, picked.len()),
        None => Batch::empty(),
    });
    let joined = Batch::concat(parts.collect()).into_iter().next().unwrap_or_else(Batch::empty);
    let order: Vec<u32> = picks.iter().map(|(part, at)| (starts[*part] + at) as u32).collect();
    if order.is_sorted() { joined } else { joined.select(&order) }
}
