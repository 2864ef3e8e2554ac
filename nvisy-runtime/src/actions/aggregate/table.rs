//! Keys and the numbers of their groups.

use std::hash::{BuildHasher, RandomState};

use nvisy_core::Result;

use crate::actions::key::Keys;

/// Keys of a page: a power of two.
const PAGE: usize = 1 << 14;

/// Gives each key a number, from zero on.
///
/// Slots are open addressed with linear steps, at most three of four taken. A short key stands in
/// its slot, of a long one a hash: to find a key is one access to memory in most cases. Keys are
/// looked up many at once, pass by pass: the processor then waits for many of them side by side.
pub(super) struct Table {
    slots: Vec<Slot>,
    keys: Vec<Keys>,
    len: usize,
    seeds: [u64; 2],
    wanted: Vec<(Slot, u32)>,
    found: Vec<Slot>,
    missed: Vec<u32>,
}

/// What tells keys apart, and the number of the group.
#[derive(Clone, Copy, Default, PartialEq)]
struct Slot {
    /// The first eight bytes of a short key, the hash of a long one.
    word: u64,
    /// What is behind that in a short key.
    rest: u32,
    /// One more than the number; 0 in a slot that is free, and [`LONG`] beside that of a long key.
    group: u32,
}

const LONG: u32 = 1 << 31;
/// Bytes of a short key at the most.
const SHORT: usize = 12;

impl Slot {
    /// A slot for a key, without a number. No key is the beginning of another, so short keys are
    /// the same with zeros behind them; the seeds are secret, so whoever chooses keys does not
    /// choose where they stand.
    #[inline]
    fn of(key: &[u8], seeds: [u64; 2]) -> Self {
        let word = |key: &[u8]| key.first_chunk().map(|first| u64::from_le_bytes(*first));
        match (word(key), key.last_chunk()) {
            (Some(word), Some(last)) if key.len() <= SHORT => {
                let rest = u64::from(u32::from_le_bytes(*last)) >> (8 * (SHORT - key.len()));
                Self { word, rest: rest as u32, group: 0 }
            }
            (Some(_), _) => {
                let start = mix(seeds[0] ^ key.len() as u64, seeds[1]);
                let (words, rest) = key.as_chunks();
                let hash =
                    words.iter().fold(start, |hash, word| mix(hash ^ u64::from_le_bytes(*word), seeds[1]));
                Self { word: mix(hash ^ padded(rest), seeds[1]), rest: 0, group: LONG }
            }
            _ => Self { word: padded(key), rest: 0, group: 0 },
        }
    }

    #[inline]
    fn place(&self, seeds: [u64; 2], mask: usize) -> usize {
        mix(self.word ^ seeds[0], seeds[1] ^ u64::from(self.rest)) as usize & mask
    }

    /// Returns whether it is of the same key, as far as a slot says it.
    #[inline]
    fn is_like(&self, wanted: &Self) -> bool {
        self.word == wanted.word && self.rest == wanted.rest && self.group & LONG == wanted.group
    }

    #[inline]
    fn number(&self) -> u32 {
        (self.group & !LONG).wrapping_sub(1)
    }
}

/// Mixes by multiplication.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// Less than eight bytes, and zeros behind them.
fn padded(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

impl Table {
    pub(super) fn new() -> Self {
        let state = RandomState::new();
        Self {
            slots: Vec::new(),
            keys: Vec::new(),
            len: 0,
            seeds: [state.hash_one(0), state.hash_one(1)],
            wanted: Vec::new(),
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
        let keys: usize = self.keys.iter().map(Keys::bytes).sum();
        size_of_val(&*self.slots) + keys
    }

    /// Lets go of what finds numbers: nothing is looked up any more.
    pub(super) fn close(&mut self) {
        (self.slots, self.wanted, self.found, self.missed) = Default::default();
    }

    /// Finds the group of each key, and makes those that are not there.
    ///
    /// # Errors
    ///
    /// If keys that stand side by side take more than 4 GiB.
    pub(super) fn find(&mut self, keys: &Keys, groups: &mut Vec<u32>) -> Result<()> {
        self.reserve(keys.len());
        let (seeds, mask) = (self.seeds, self.slots.len() - 1);
        let slots = (0..keys.len()).map(|at| Slot::of(keys.get(at), seeds));
        self.wanted.clear();
        self.wanted.extend(slots.map(|slot| (slot, slot.place(seeds, mask) as u32)));
        self.found.clear();
        self.found.extend(self.wanted.iter().map(|(_, at)| self.slots[*at as usize]));
        groups.clear();
        self.missed.clear();
        for (at, ((wanted, _), found)) in self.wanted.iter().zip(&self.found).enumerate() {
            groups.push(found.number());
            if !found.is_like(wanted) || wanted.group == LONG || found.group == 0 {
                self.missed.push(at as u32);
            }
        }
        for at in std::mem::take(&mut self.missed) {
            let (wanted, place) = self.wanted[at as usize];
            groups[at as usize] = self.place(wanted, place as usize, keys.get(at as usize))?;
        }
        Ok(())
    }

    /// Finds the group of a key step by step, and makes it where there is none.
    fn place(&mut self, wanted: Slot, mut at: usize, key: &[u8]) -> Result<u32> {
        let mask = self.slots.len() - 1;
        loop {
            let slot = self.slots[at];
            if slot.group == 0 {
                break;
            }
            if slot.is_like(&wanted) && (wanted.group != LONG || self.key(slot.number() as usize) == key) {
                return Ok(slot.number());
            }
            at = (at + 1) & mask;
        }
        if self.len.is_multiple_of(PAGE) {
            self.keys.push(Keys::default());
        }
        if let Some(page) = self.keys.last_mut() {
            page.push(key)?;
        }
        let group = self.len as u32;
        self.slots[at] = Slot { group: wanted.group | (group + 1), ..wanted };
        self.len += 1;
        Ok(group)
    }

    /// Makes room for so many keys more.
    fn reserve(&mut self, more: usize) {
        let wanted = ((self.len + more) * 4 / 3 + 1).next_power_of_two();
        if wanted <= self.slots.len() {
            return;
        }
        let before = std::mem::replace(&mut self.slots, vec![Slot::default(); wanted]);
        let mask = wanted - 1;
        for slot in before.into_iter().filter(|slot| slot.group != 0) {
            let mut at = slot.place(self.seeds, mask);
            while self.slots[at].group != 0 {
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
            self.keys()
                .map(|key| first.iter().zip(key).take_while(|(a, b)| a == b).count())
                .min()
                .unwrap_or(0)
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
                .map(|n| (n * 7 + round * 31) % 1_500)
                .map(|n| format!("{:0width$}\n", n, width = [1, 7, 8, 11, 40][n as usize % 5]).into_bytes())
                .collect();
            made.iter().for_each(|key| keys.push(key).unwrap());
            table.find(&keys, &mut groups).unwrap();
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
