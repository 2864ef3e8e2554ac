//! What items share, in no order: as behind a sort.

use std::sync::Arc;

use arrow::buffer::ScalarBuffer;

use super::columns::Runs;

/// A value an item, of some that are held once: eight bytes an item, and no count to touch.
#[derive(Clone, Debug)]
pub(super) struct Mixed<T> {
    pub(super) values: Arc<[T]>,
    /// Of each item the number of its value, and in the lower half what it is there.
    pub(super) items: ScalarBuffer<u64>,
}

impl<T: Clone> Mixed<T> {
    /// Gathers values; none if most items have that of the one before.
    pub(super) fn gather(values: Vec<T>, items: Vec<u64>) -> Result<Self, Self> {
        let changes = items.windows(2).filter(|two| two[0] >> 32 != two[1] >> 32).count();
        let mixed = Self { values: values.into(), items: items.into() };
        if changes * 4 > mixed.items.len() { Ok(mixed.compacted()) } else { Err(mixed) }
    }

    pub(super) fn get(&self, index: usize) -> (&T, u32) {
        let item = self.items[index];
        (&self.values[(item >> 32) as usize], item as u32)
    }

    pub(super) fn slice(&self, offset: usize, len: usize) -> Self {
        Self { values: self.values.clone(), items: self.items.slice(offset, len) }.compacted()
    }

    /// Returns for how many items side by side which value holds, and what they are there.
    pub(super) fn stretches(&self) -> impl Iterator<Item = (&T, &[u64])> {
        let same = self.items.chunk_by(|one, next| one >> 32 == next >> 32);
        same.map(|items| (&self.values[(items[0] >> 32) as usize], items))
    }

    /// Leaves out the values that no item has, where they are many.
    fn compacted(self) -> Self {
        if self.values.len() <= self.items.len() {
            return self;
        }
        let (mut values, mut numbers) = (Vec::new(), vec![u64::MAX; self.values.len()]);
        let items = self.items.iter().map(|item| {
            let number = &mut numbers[(item >> 32) as usize];
            if *number == u64::MAX {
                *number = values.len() as u64;
                values.push(self.values[(item >> 32) as usize].clone());
            }
            *number << 32 | u64::from(*item as u32)
        });
        Self { items: items.collect(), values: values.into() }
    }
}

/// Runs, with a way to the items of any order that is shorter than to search for each.
pub(super) struct Lookup<'a, T> {
    runs: &'a Runs<T>,
    /// The run of the first item of each block.
    blocks: Vec<u32>,
}

const BLOCK: usize = 1_024;

impl<'a, T: Clone> Lookup<'a, T> {
    /// Prepares for so many look-ups.
    pub(super) fn new(runs: &'a Runs<T>, many: usize) -> Self {
        let Runs::Many(all) = runs else { return Self { runs, blocks: Vec::new() } };
        let len = all.last().map_or(0, |(end, _)| *end as usize);
        if many < len / BLOCK {
            return Self { runs, blocks: Vec::new() };
        }
        let mut run = 0;
        let blocks = (0..len).step_by(BLOCK).map(|first| {
            while all[run].0 as usize <= first {
                run += 1;
            }
            run as u32
        });
        Self { blocks: blocks.collect(), runs }
    }

    /// Returns the value of an item, the number of its run, and where that begins.
    pub(super) fn find(&self, index: usize) -> (&'a T, usize, usize) {
        let (Some(block), Runs::Many(all)) = (self.blocks.get(index / BLOCK), self.runs) else {
            return self.runs.find(index);
        };
        let mut at = *block as usize;
        while all[at].0 as usize <= index {
            at += 1;
        }
        (&all[at].1, at, at.checked_sub(1).map_or(0, |before| all[before].0 as usize))
    }
}
