//! What is known of partitions, by name.

use std::sync::Arc;

/// Something of each of many partitions, to be taken out by name.
///
/// Checkpoints have partitions in the order of their names, and sources mostly list them so: what is
/// asked for is looked for behind what was asked for before, and only then searched.
#[derive(Clone, Debug)]
pub(in crate::engine) struct ByPartition<T> {
    /// In the order of the names; without a thing where that was taken out.
    known: Vec<(Arc<str>, Option<T>)>,
    next: usize,
    left: usize,
}

impl<T> Default for ByPartition<T> {
    fn default() -> Self {
        Self { known: Vec::new(), next: 0, left: 0 }
    }
}

impl<T> ByPartition<T> {
    pub(in crate::engine) fn len(&self) -> usize {
        self.left
    }

    fn find(&mut self, partition: &str) -> Option<&mut Option<T>> {
        let is_next = self.known.get(self.next).is_some_and(|(name, _)| **name == *partition);
        let at = match is_next {
            true => self.next,
            false => self.known.binary_search_by(|(name, _)| (**name).cmp(partition)).ok()?,
        };
        self.next = at + 1;
        Some(&mut self.known[at].1)
    }

    /// Returns what is known of a partition.
    pub(in crate::engine) fn get(&mut self, partition: &str) -> Option<&T> {
        self.find(partition)?.as_ref()
    }

    /// Takes out what is known of a partition.
    pub(in crate::engine) fn take(&mut self, partition: &str) -> Option<T> {
        let taken = self.find(partition)?.take()?;
        self.left -= 1;
        Some(taken)
    }

    /// Returns what was not taken out, in the order of the names.
    pub(in crate::engine) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &T)> {
        self.known.iter().filter_map(|(name, thing)| Some((name, thing.as_ref()?)))
    }

    /// Returns the names of what was not taken out, in their order.
    pub(in crate::engine) fn into_names(self) -> impl Iterator<Item = Arc<str>> {
        self.known.into_iter().filter_map(|(name, thing)| thing.map(|_| name))
    }
}

/// Of several things of one partition, the last counts.
impl<T> FromIterator<(Arc<str>, T)> for ByPartition<T> {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, T)>>(things: I) -> Self {
        let mut known: Vec<_> = things.into_iter().map(|(name, thing)| (name, Some(thing))).collect();
        // In no time where they are in order.
        known.sort_by(|(one, _), (other, _)| one.cmp(other));
        known.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(&mut later.1, &mut kept.1);
            }
            same
        });
        Self { left: known.len(), known, next: 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_gives_what_a_map_gives(
            put in proptest::collection::vec(("[ab]{0,3}", any::<u8>()), 0..30),
            asked in proptest::collection::vec("[ab]{0,3}", 0..30),
            in_order: bool,
        ) {
            let mut asked = asked;
            if in_order {
                asked.sort();
            }
            let mut map: std::collections::BTreeMap<Arc<str>, u8> = std::collections::BTreeMap::new();
            map.extend(put.iter().map(|(name, thing)| (name.as_str().into(), *thing)));
            let mut known: ByPartition<u8> = put.iter().map(|(name, n)| (name.as_str().into(), *n)).collect();
            for name in &asked {
                prop_assert_eq!(known.get(name), map.get(name.as_str()));
                prop_assert_eq!(known.take(name), map.remove(name.as_str()));
                prop_assert_eq!(known.len(), map.len());
            }
            prop_assert!(known.iter().eq(map.iter()));
            prop_assert!(known.into_names().eq(map.into_keys()));
        }
    }
}
