//! Keys in memory: parts that grow apart.

/// How many parts there are: one for each first byte of a key.
const PARTS: usize = 256;
/// Keys of a bucket: as many as the processor fetches at once.
const KEYS: usize = 4;
/// Buckets behind the last home, for keys that are pushed on.
const SLACK: usize = 4;
const SMALLEST: usize = 4;
/// How many slots of a part are taken when it grows, of a hundred.
const FULL: usize = 85;
/// By how much it grows, of a hundred, and at the end of its room.
const GROWTH: usize = 150;
const LAST_GROWTH: usize = 115;

/// A set of keys that are hashes: 19 to 28 bytes a key.
///
/// Each part is a table of buckets, in which a key has its home, or in the next one with room.
/// The order of homes is that of the keys, so that growing is one pass, and all the keys are
/// nearly in order.
#[derive(Debug)]
pub(super) struct Table {
    parts: Vec<Part>,
    len: usize,
    buckets: usize,
    /// How many homes a part has when it is as large as it is to be.
    homes: usize,
}

#[derive(Debug)]
struct Part {
    buckets: Vec<Bucket>,
    /// How many of them are the home of some key.
    homes: usize,
    len: usize,
}

/// Keys from the first slot on; zero where there is none.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Bucket([u128; KEYS]);

impl Bucket {
    const EMPTY: Self = Self([0; KEYS]);

    // Neither of these two stops early: that would be a guess at each slot.

    fn has(&self, key: u128) -> bool {
        self.0.iter().fold(false, |has, slot| has | (*slot == key))
    }

    fn len(&self) -> usize {
        self.0.iter().map(|slot| usize::from(*slot != 0)).sum()
    }
}

impl Table {
    /// Makes a table that grows up to so many bytes fast, and beyond in small steps.
    pub(super) fn new(room: usize) -> Self {
        let part = || Part { buckets: vec![Bucket::EMPTY; SMALLEST + SLACK], homes: SMALLEST, len: 0 };
        let parts: Vec<Part> = std::iter::repeat_with(part).take(PARTS).collect();
        let homes = (room / PARTS / size_of::<Bucket>()).saturating_sub(SLACK);
        Self { parts, len: 0, buckets: PARTS * (SMALLEST + SLACK), homes }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.buckets * size_of::<Bucket>()
    }

    /// Returns whether a key is there. None is zero.
    pub(super) fn contains(&self, key: u128) -> bool {
        let part = &self.parts[part_of(key)];
        for bucket in &part.buckets[part.home(key)..] {
            if bucket.has(key) {
                return true;
            }
            if bucket.len() < KEYS {
                break;
            }
        }
        false
    }

    /// Looks at the homes of keys that are about to come, all at once: memory that is far is then
    /// waited for once, and not for each.
    pub(super) fn warm(&self, keys: &[u128]) {
        let homes = keys.iter().map(|key| {
            let part = &self.parts[part_of(*key)];
            // There is always one behind it, in which one of four is.
            let home = part.home(*key);
            part.buckets[home].0[0] as u64 ^ part.buckets[home + 1].0[0] as u64
        });
        std::hint::black_box(homes.fold(0, |all, home| all ^ home));
    }

    /// Adds a key. Returns whether it is new.
    pub(super) fn insert(&mut self, key: u128) -> bool {
        let part = &mut self.parts[part_of(key)];
        let before = part.buckets.len();
        let is_new = part.insert(key, self.homes);
        self.buckets = self.buckets + part.buckets.len() - before;
        self.len += usize::from(is_new);
        is_new
    }

    /// Returns all keys in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u128> {
        self.parts.iter().flat_map(|part| {
            let mut keys: Vec<u128> = part.keys().collect();
            keys.sort_unstable();
            keys
        })
    }
}

fn part_of(key: u128) -> usize {
    (key >> 120) as usize
}

impl Part {
    fn home(&self, key: u128) -> usize {
        ((u128::from((key >> 56) as u64) * self.homes as u128) >> 64) as usize
    }

    fn keys(&self) -> impl Iterator<Item = u128> {
        self.buckets.iter().flat_map(|bucket| bucket.0).filter(|key| *key != 0)
    }

    fn insert(&mut self, key: u128, most: usize) -> bool {
        let home = self.home(key);
        for bucket in &mut self.buckets[home..] {
            if bucket.has(key) {
                return false;
            }
            let len = bucket.len();
            if len < KEYS {
                bucket.0[len] = key;
                self.len += 1;
                if self.len * 100 >= self.homes * KEYS * FULL {
                    self.grow(most);
                }
                return true;
            }
        }
        self.push(key);
        self.len += 1;
        true
    }

    /// Adds a key behind all buckets, which are full.
    fn push(&mut self, key: u128) {
        let end = self.buckets.len();
        self.buckets.reserve_exact(SLACK);
        self.buckets.resize(end + SLACK, Bucket::EMPTY);
        self.buckets[end].0[0] = key;
    }

    fn grow(&mut self, most: usize) {
        let [slow, fast] = [LAST_GROWTH, GROWTH].map(|growth| (self.homes * growth).div_ceil(100));
        let homes = fast.min(most).max(slow);
        // No more than that: the room is counted.
        let mut grown = Self { buckets: Vec::new(), homes, len: self.len };
        grown.buckets.reserve_exact(homes + SLACK);
        grown.buckets.resize(homes + SLACK, Bucket::EMPTY);
        for key in self.keys() {
            let home = grown.home(key);
            match grown.buckets[home..].iter_mut().find_map(|bucket| {
                let len = bucket.len();
                bucket.0.get_mut(len)
            }) {
                Some(slot) => *slot = key,
                None => grown.push(key),
            }
        }
        *self = grown;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::roll;
    use super::*;

    const ROOM: usize = 4 << 20;

    #[test]
    fn it_is_a_set_in_order_of_some_twenty_bytes_a_key() {
        for (seed, keys) in [(1, 10), (2, 5_000), (3, 400_000)] {
            let (mut table, mut set, mut dice) = (Table::new(ROOM), BTreeSet::new(), seed);
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
            // Within its room it grows fast, and beyond in small steps.
            assert!(table.bytes() <= ROOM || (18.0..23.0).contains(&each), "{each} bytes a key");
            assert_eq!(table.bytes() > ROOM, keys > 100_000, "{} bytes", table.bytes());
        }
    }

    #[test]
    fn keys_that_are_all_alike_but_for_their_end_fit() {
        let mut table = Table::new(ROOM);
        (1..=3_000).for_each(|key| assert!(table.insert(key)));
        assert!((1..=3_000).all(|key| table.contains(key)) && !table.contains(3_001));
        let high = u128::MAX - 3_000;
        (0..=3_000).for_each(|key| assert!(table.insert(high + key)));
        assert_eq!(table.iter().count(), 6_001);
    }
}
