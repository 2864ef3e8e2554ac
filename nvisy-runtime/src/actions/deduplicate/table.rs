//! Keys in memory: parts that grow apart, each in order.

/// How many parts there are: one for each first byte of a key.
const PARTS: usize = 256;
/// Slots behind the last home, for keys that are pushed on.
const SLACK: usize = 16;
const SMALLEST: usize = 16;
/// How many slots of a part are taken when it grows, of a hundred, and by how much it grows.
const FULL: usize = 85;
const GROWTH: usize = 125;

/// A set of keys that are hashes: 19 to 24 bytes a key.
///
/// Each part is a table with linear probing whose keys stand in order: that of a key's home is
/// that of the keys. So a look-up ends at the first larger key, growing is one pass, and all the
/// keys in order are simply there.
#[derive(Debug)]
pub(super) struct Table {
    parts: Vec<Part>,
    len: usize,
    slots: usize,
}

#[derive(Debug)]
struct Part {
    /// Zero where there is none.
    slots: Vec<u128>,
    /// How many of them are the home of some key.
    homes: usize,
    len: usize,
}

impl Table {
    pub(super) fn new() -> Self {
        let part = || Part { slots: vec![0; SMALLEST + SLACK], homes: SMALLEST, len: 0 };
        let parts: Vec<Part> = std::iter::repeat_with(part).take(PARTS).collect();
        Self { slots: parts.iter().map(|part| part.slots.len()).sum(), parts, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.slots * size_of::<u128>()
    }

    /// Returns whether a key is there. None is zero.
    pub(super) fn contains(&self, key: u128) -> bool {
        let part = &self.parts[part_of(key)];
        part.slots.get(part.find(key)) == Some(&key)
    }

    /// Looks at the homes of keys that are about to come, all at once: memory that is far is then
    /// waited for once, and not for each.
    pub(super) fn warm(&self, keys: &[u128]) {
        let homes = keys.iter().map(|key| {
            let part = &self.parts[part_of(*key)];
            part.slots[part.home(*key)] as u64
        });
        std::hint::black_box(homes.fold(0, |all, home| all ^ home));
    }

    /// Adds a key. Returns whether it is new.
    pub(super) fn insert(&mut self, key: u128) -> bool {
        let part = &mut self.parts[part_of(key)];
        let before = part.slots.len();
        let is_new = part.insert(key);
        self.slots = self.slots + part.slots.len() - before;
        self.len += usize::from(is_new);
        is_new
    }

    /// Returns all keys in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u128> {
        self.parts.iter().flat_map(|part| part.slots.iter().copied().filter(|key| *key != 0))
    }
}

fn part_of(key: u128) -> usize {
    (key >> 120) as usize
}

impl Part {
    fn home(&self, key: u128) -> usize {
        ((u128::from((key >> 56) as u64) * self.homes as u128) >> 64) as usize
    }

    /// Returns where a key is, or is to be.
    fn find(&self, key: u128) -> usize {
        let home = self.home(key);
        let behind = self.slots[home..].iter().position(|slot| *slot == 0 || *slot >= key);
        behind.map_or(self.slots.len(), |behind| home + behind)
    }

    fn insert(&mut self, key: u128) -> bool {
        let mut at = self.find(key);
        if self.slots.get(at) == Some(&key) {
            return false;
        }
        if self.len * 100 >= self.homes * FULL {
            self.grow();
            at = self.find(key);
        }
        let free = self.slots[at..].iter().position(|slot| *slot == 0);
        let free = free.map_or(self.slots.len(), |behind| at + behind);
        if free == self.slots.len() {
            self.slots.reserve_exact(SLACK);
            self.slots.resize(free + SLACK, 0);
        }
        self.slots.copy_within(at..free, at + 1);
        self.slots[at] = key;
        self.len += 1;
        true
    }

    fn grow(&mut self) {
        let homes = self.homes * GROWTH / 100;
        let before = std::mem::take(&mut self.slots);
        self.homes = homes;
        // No more than that: the room is counted.
        self.slots.reserve_exact(homes + SLACK);
        self.slots.resize(homes + SLACK, 0);
        let mut next = 0;
        for key in before.into_iter().filter(|key| *key != 0) {
            let at = self.home(key).max(next);
            next = at + 1;
            if at == self.slots.len() {
                self.slots.push(0);
            }
            self.slots[at] = key;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::roll;
    use super::*;

    #[test]
    fn it_is_a_set_in_order_of_some_twenty_bytes_a_key() {
        for (seed, keys) in [(1, 10), (2, 5_000), (3, 400_000)] {
            let (mut table, mut set, mut dice) = (Table::new(), BTreeSet::new(), seed);
            for round in 0..keys {
                // Some of them close together, and some there before.
                let key = match round % 5 {
                    0 => roll(&mut dice) & !0xff | 1 | u128::from(round as u8),
                    1 => set.iter().next_back().copied().map_or(1, |last: u128| last ^ 1).max(1),
                    _ => roll(&mut dice),
                };
                assert_eq!(table.contains(key), set.contains(&key), "seed {seed}");
                assert_eq!(table.insert(key), set.insert(key), "seed {seed}");
                assert!(table.contains(key) && table.len() == set.len(), "seed {seed}");
            }
            assert!(table.iter().eq(set.iter().copied()), "seed {seed}");
            let each = table.bytes() as f64 / table.len() as f64;
            assert!(keys < 100_000 || (18.0..25.0).contains(&each), "{each} bytes a key");
        }
    }

    #[test]
    fn keys_that_are_all_alike_but_for_their_end_fit() {
        let mut table = Table::new();
        (1..=3_000).for_each(|key| assert!(table.insert(key)));
        assert!((1..=3_000).all(|key| table.contains(key)) && !table.contains(3_001));
        let high = u128::MAX - 3_000;
        (0..=3_000).for_each(|key| assert!(table.insert(high + key)));
        assert_eq!(table.iter().count(), 6_001);
    }
}
