//! Keys and the numbers of their groups.

use std::hash::{BuildHasher, RandomState};

use crate::actions::key::Keys;

/// Keys of a page: a power of two.
const PAGE: usize = 1 << 14;

/// Gives each key a number, from zero on.
///
/// Slots are open addressed with linear steps, at most three of four taken; each has 32 bits of
/// the hash and the number, so that keys are not read where it grows. Keys are looked up many at
/// once, pass by pass: the processor then waits for many places of memory at the same time.
pub(super) struct Table {
    /// The hash above, the number below and one more than it is; 0 is free.
    slots: Vec<u64>,
    keys: Vec<KeyPage>,
    len: usize,
    seeds: [u64; 2],
    hashes: Vec<u32>,
    found: Vec<u64>,
    missed: Vec<u32>,
}

/// Keys side by side; where all are of one length there are no ends.
#[derive(Default)]
struct KeyPage {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    width: usize,
    len: usize,
}

impl KeyPage {
    fn get(&self, index: usize) -> &[u8] {
        if self.ends.is_empty() {
            return &self.bytes[index * self.width..(index + 1) * self.width];
        }
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }

    fn push(&mut self, key: &[u8]) {
        if self.len == 0 {
            self.width = key.len();
        } else if self.ends.is_empty() && key.len() != self.width {
            self.ends = (1..=self.len).map(|count| count * self.width).collect();
        }
        self.bytes.extend_from_slice(key);
        if !self.ends.is_empty() {
            self.ends.push(self.bytes.len());
        }
        self.len += 1;
    }
}

impl Table {
    pub(super) fn new() -> Self {
        let state = RandomState::new();
        Self {
            slots: Vec::new(),
            keys: Vec::new(),
            len: 0,
            seeds: [state.hash_one(0), state.hash_one(1) | 1],
            hashes: Vec::new(),
            found: Vec::new(),
            missed: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn key(&self, group: usize) -> &[u8] {
        self.keys[group / PAGE].get(group % PAGE)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len).map(|group| self.key(group))
    }

    pub(super) fn bytes(&self) -> usize {
        let keys: usize = self.keys.iter().map(|page| page.bytes.len() + 8 * page.ends.len()).sum();
        8 * self.slots.len() + keys
    }

    /// Lets go of what finds numbers: nothing is looked up any more.
    pub(super) fn close(&mut self) {
        (self.slots, self.hashes, self.found, self.missed) = Default::default();
    }

    /// Finds the group of each key, and makes those that are not there.
    pub(super) fn find(&mut self, keys: &Keys, groups: &mut Vec<u32>) {
        self.reserve(keys.len());
        let mask = self.slots.len() - 1;
        let (hashes, found, missed) = (&mut self.hashes, &mut self.found, &mut self.missed);
        hashes.clear();
        hashes.extend((0..keys.len()).map(|at| hash(self.seeds, keys.get(at))));
        found.clear();
        found.extend(hashes.iter().map(|hash| self.slots[*hash as usize & mask]));
        groups.clear();
        missed.clear();
        for (at, (hash, slot)) in hashes.iter().zip(found.iter()).enumerate() {
            let group = (*slot as u32).wrapping_sub(1);
            let is_it = (slot >> 32) as u32 == *hash
                && *slot != 0
                && self.keys[group as usize / PAGE].get(group as usize % PAGE) == keys.get(at);
            groups.push(group);
            if !is_it {
                missed.push(at as u32);
            }
        }
        for at in std::mem::take(&mut self.missed) {
            groups[at as usize] = self.place(self.hashes[at as usize], keys.get(at as usize));
        }
    }

    /// Finds the group of a key step by step, and makes it where there is none.
    fn place(&mut self, hash: u32, key: &[u8]) -> u32 {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 {
                break;
            }
            let group = slot as u32 - 1;
            if (slot >> 32) as u32 == hash && self.key(group as usize) == key {
                return group;
            }
            at = (at + 1) & mask;
        }
        let group = self.len as u32;
        self.slots[at] = u64::from(hash) << 32 | u64::from(group + 1);
        if self.len.is_multiple_of(PAGE) {
            self.keys.push(KeyPage::default());
        }
        if let Some(page) = self.keys.last_mut() {
            page.push(key);
        }
        self.len += 1;
        group
    }

    /// Makes room for so many keys more.
    fn reserve(&mut self, more: usize) {
        let wanted = ((self.len + more) * 4 / 3 + 1).next_power_of_two();
        if wanted <= self.slots.len() {
            return;
        }
        let before = std::mem::replace(&mut self.slots, vec![0; wanted]);
        let mask = wanted - 1;
        for slot in before.into_iter().filter(|slot| *slot != 0) {
            let mut at = (slot >> 32) as usize & mask;
            while self.slots[at] != 0 {
                at = (at + 1) & mask;
            }
            self.slots[at] = slot;
        }
    }

    /// Returns the groups whose keys are below a bound in the order of these; and how many others
    /// there are.
    pub(super) fn order(&self, bound: Option<&[u8]>) -> (Vec<u32>, usize) {
        let mut first = self.keys();
        let common = first.next().map_or(0, |first| {
            self.keys().map(|key| first.iter().zip(key).take_while(|(a, b)| a == b).count()).min().unwrap_or(0)
        });
        let below = (0..).zip(self.keys()).filter(|(_, key)| bound.is_none_or(|bound| *key < bound));
        let mut order: Vec<(u64, u32)> =
            below.map(|(group, key)| (beginning(&key[common..]), group)).collect();
        order.sort_unstable_by(|(a, left), (b, right)| {
            a.cmp(b).then_with(|| self.key(*left as usize).cmp(self.key(*right as usize)))
        });
        let others = self.len - order.len();
        (order.into_iter().map(|(_, group)| group).collect(), others)
    }
}

/// The first eight bytes, as a number that is ordered as they are.
fn beginning(key: &[u8]) -> u64 {
    match key.first_chunk() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let mut first = [0; 8];
            first[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(first)
        }
    }
}

/// Mixes a key by multiplication, eight bytes at a time. The seeds are secret: whoever chooses
/// keys does not choose where they stand.
fn hash([seed, factor]: [u64; 2], key: &[u8]) -> u32 {
    let mix = |hash: u64, bytes: u64| {
        let product = u128::from(hash ^ bytes) * u128::from(factor);
        product as u64 ^ (product >> 64) as u64
    };
    let start = mix(seed, key.len() as u64);
    let mixed = match key.last_chunk() {
        // The last bytes may count twice: the length says how many there are.
        Some(last) => {
            let chunks = key.as_chunks().0.iter().map(|chunk| u64::from_le_bytes(*chunk));
            mix(chunks.fold(start, mix), u64::from_le_bytes(*last))
        }
        None => mix(start, beginning(key)),
    };
    (mixed ^ mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_number_and_keys_come_in_order() {
        let mut table = Table::new();
        let mut known: Vec<Vec<u8>> = Vec::new();
        let mut groups = Vec::new();
        for round in 0..40_u32 {
            let mut keys = Keys::default();
            let made: Vec<Vec<u8>> = (0..100)
                .map(|n| format!("{:0width$}", (n * 7 + round * 31) % 1_500, width = (n % 3 * 5) as usize))
                .map(String::into_bytes)
                .collect();
            made.iter().for_each(|key| keys.push(key).unwrap());
            table.find(&keys, &mut groups);
            for (key, group) in made.iter().zip(&groups) {
                if *group as usize == known.len() {
                    known.push(key.clone());
                }
                assert_eq!(&known[*group as usize], key);
                assert_eq!(table.key(*group as usize), key);
            }
        }
        assert_eq!(table.len(), known.len());
        let bound = known[17].clone();
        let (order, others) = table.order(Some(&bound));
        let found: Vec<&[u8]> = order.iter().map(|group| table.key(*group as usize)).collect();
        let mut wanted: Vec<&[u8]> = known.iter().map(Vec::as_slice).filter(|key| **key < *bound).collect();
        wanted.sort_unstable();
        assert_eq!(found, wanted);
        assert_eq!(others, known.len() - wanted.len());
    }
}
