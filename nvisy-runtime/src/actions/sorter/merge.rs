//! Several sorted runs as one.

use nvisy_core::batch::BatchReader;
use nvisy_core::{Batch, Result};

use super::held::Ordered;
use super::{Sorted, most_items};
use crate::actions::key::Keys;
use crate::actions::spill::{RunReader, Runs};

/// Several sorted runs as one, by a tournament: each node of the tree keeps who lost there, so
/// that what comes next of the winner meets one other on each level.
pub(super) struct Merge {
    cursors: Vec<Cursor>,
    /// The beginning of the key at which each cursor is: the last of all when it is done.
    heads: Vec<u128>,
    /// The first is the winner of all, each other one the loser of two: those at twice its place,
    /// and one further, where those behind the end are the cursors.
    tree: Vec<usize>,
}

/// Where in a run the merge is.
pub(super) struct Cursor {
    /// None of what is in memory.
    pub(super) number: Option<u64>,
    source: Source,
    block: Sorted,
    at: usize,
    /// How many of the run's items came out.
    pub(super) taken: u64,
}

/// Where the next block of a run comes from.
enum Source {
    File(RunReader, BatchReader),
    Memory(Ordered),
}

impl Cursor {
    fn new(number: Option<u64>, source: Source) -> Self {
        let block = Sorted { batch: Batch::empty(), keys: Keys::default() };
        Self { number, source, block, at: 0, taken: 0 }
    }

    pub(super) fn held(held: Ordered) -> Result<Self> {
        let mut cursor = Self::new(None, Source::Memory(held));
        cursor.load()?;
        Ok(cursor)
    }

    /// Opens a run behind what came out of it before.
    pub(super) fn open(runs: &Runs, number: u64, taken: u64) -> Result<Self> {
        let mut cursor = Self::new(Some(number), Source::File(runs.open(number)?, BatchReader::default()));
        cursor.load()?;
        while !cursor.is_done() && cursor.taken + (cursor.block.batch.len() as u64) <= taken {
            cursor.taken += cursor.block.batch.len() as u64;
            cursor.at = cursor.block.batch.len();
            cursor.load()?;
        }
        cursor.at = taken.saturating_sub(cursor.taken) as usize;
        cursor.taken = taken;
        Ok(cursor)
    }

    pub(super) fn is_done(&self) -> bool {
        self.at >= self.block.batch.len()
    }

    fn key(&self) -> &[u8] {
        self.block.keys.get(self.at)
    }

    /// The beginning of the key, as a number.
    fn head(&self) -> u128 {
        if self.is_done() {
            return u128::MAX;
        }
        let key = self.key();
        if let Some(head) = key.first_chunk() {
            return u128::from_be_bytes(*head);
        }
        let mut head = [0; 16];
        head[..key.len()].copy_from_slice(key);
        u128::from_be_bytes(head)
    }

    /// Goes on to the next block, if there is one.
    fn load(&mut self) -> Result<()> {
        match &mut self.source {
            Source::Memory(held) => {
                if let Some(block) = held.next()? {
                    (self.block, self.at) = (block, 0);
                }
            }
            Source::File(file, batches) => {
                let Some((items, bytes)) = file.next()? else { return Ok(()) };
                let (keys, bytes) = Keys::from_bytes(&bytes).ok_or_else(|| file.damaged())?;
                let batch = batches.read(bytes)?;
                if batch.len() != items || keys.len() != items {
                    return Err(file.damaged());
                }
                (self.block, self.at) = (Sorted { batch, keys }, 0);
            }
        }
        Ok(())
    }

    /// Takes what is left of the block, and goes on to the next one.
    pub(super) fn rest(&mut self) -> Result<Option<Sorted>> {
        let (at, len) = (self.at, self.block.batch.len() - self.at);
        if len == 0 {
            return Ok(None);
        }
        let rest = self.block.slice(at, len)?;
        self.at += len;
        self.taken += len as u64;
        self.load()?;
        Ok(Some(rest))
    }
}

impl Merge {
    pub(super) fn of(runs: &Runs, numbers: &[u64], held: Option<Ordered>) -> Result<Self> {
        let mut cursors = Vec::with_capacity(numbers.len() + 1);
        for number in numbers {
            let taken = runs.get(*number).map_or(0, |run| run.taken);
            cursors.push(Cursor::open(runs, *number, taken)?);
        }
        if let Some(held) = held {
            cursors.push(Cursor::held(held)?);
        }
        Ok(Self::new(cursors))
    }

    pub(super) fn new(cursors: Vec<Cursor>) -> Self {
        let heads = cursors.iter().map(Cursor::head).collect();
        let mut merge = Self { cursors, heads, tree: Vec::new() };
        let len = merge.cursors.len();
        merge.tree = vec![0; len];
        let mut winners: Vec<usize> = std::iter::repeat_n(0, len).chain(0..len).collect();
        for node in (1..len).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            let first = merge.is_before(left, right);
            (winners[node], merge.tree[node]) = if first { (left, right) } else { (right, left) };
        }
        if len > 1 {
            merge.tree[0] = winners[1];
        }
        merge
    }

    pub(super) fn into_cursors(self) -> Vec<Cursor> {
        self.cursors
    }

    /// Of equal keys that of the earlier run is the first.
    fn is_before(&self, a: usize, b: usize) -> bool {
        if self.heads[a] != self.heads[b] {
            return self.heads[a] < self.heads[b];
        }
        let (left, right) = (&self.cursors[a], &self.cursors[b]);
        match (left.is_done(), right.is_done()) {
            (false, false) => left.key().cmp(right.key()).then(a.cmp(&b)).is_lt(),
            (left, _) => !left,
        }
    }

    /// Finds the winner anew, once that of before is at another key.
    fn replay(&mut self, cursor: usize) {
        let mut winner = cursor;
        let mut node = (cursor + self.cursors.len()) / 2;
        while node > 0 {
            if self.is_before(self.tree[node], winner) {
                std::mem::swap(&mut self.tree[node], &mut winner);
            }
            node /= 2;
        }
        self.tree[0] = winner;
    }

    /// Returns the next items: a batch of at most so many bytes, but of one item at least, with
    /// their keys if these are asked for.
    pub(super) fn next(&mut self, most: usize, keyed: bool) -> Result<Option<Sorted>> {
        if let [only] = &mut self.cursors[..] {
            return only.rest();
        }
        let mut parts: Vec<(Batch, usize)> = Vec::new();
        let mut part_of = vec![usize::MAX; self.cursors.len()];
        let mut picks: Vec<(usize, usize)> = Vec::new();
        let mut keys = Keys::default();
        let (mut bytes, mut items) = (0, usize::MAX);
        while let Some(first) = self.tree.first().copied()
            && !self.cursors[first].is_done()
            && picks.len() < items
            && (bytes < most || picks.is_empty())
        {
            let cursor = &mut self.cursors[first];
            if part_of[first] == usize::MAX {
                let batch = &cursor.block.batch;
                items = items.min(most_items(batch));
                part_of[first] = parts.len();
                let each = (batch.bytes() + cursor.block.keys.bytes()) / batch.len().max(1);
                parts.push((batch.without_tokens(), each));
            }
            bytes += parts[part_of[first]].1;
            picks.push((part_of[first], cursor.at));
            if keyed {
                keys.push(cursor.key())?;
            }
            cursor.at += 1;
            cursor.taken += 1;
            if cursor.is_done() {
                part_of[first] = usize::MAX;
                cursor.load()?;
            }
            self.heads[first] = cursor.head();
            self.replay(first);
        }
        if picks.is_empty() {
            return Ok(None);
        }
        let parts: Vec<&Batch> = parts.iter().map(|(batch, _)| batch).collect();
        Ok(Some(Sorted { batch: Batch::interleave(&parts, &picks), keys }))
    }
}
