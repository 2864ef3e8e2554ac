//! That no two partitions of a source give one position: their items would have one id.

use std::collections::BTreeMap;
use std::sync::Arc;

use nvisy_core::batch::Offsets;
use nvisy_core::{Batch, Error, Result};

/// How many stretches are kept at the most.
const STRETCHES: usize = 1 << 16;

/// Which offsets each partition has given, where they stand in no object of their own.
///
/// Of partitions that take turns, each turn is a stretch. Beyond [`STRETCHES`] those go that nothing
/// was added to for longest, and what another partition gives of them later is not noticed. Nor is
/// what has its positions one by one (`Positions::each`).
#[derive(Debug, Default)]
pub(in crate::engine) struct Places {
    /// Stretches that do not overlap, by the first offset of each.
    given: BTreeMap<u64, Stretch>,
    /// How often something was added.
    turns: u64,
}

#[derive(Debug)]
struct Stretch {
    /// The offset behind its last.
    end: u64,
    partition: Arc<str>,
    /// The turn that it was added to last.
    turn: u64,
}

impl Places {
    /// Takes note of what a partition gives.
    ///
    /// # Errors
    ///
    /// If another one has given some of it.
    pub(super) fn note(&mut self, partition: &Arc<str>, batch: &Batch) -> Result<()> {
        for (_, origin) in batch.source_items() {
            let (first, last) = match origin.as_ref().and_then(|origin| origin.offsets()) {
                Some((None, Offsets::Consecutive { first, len })) if len > 0 => {
                    (first, first.saturating_add(len as u64 - 1))
                }
                Some((None, Offsets::Each(each))) => match each[..] {
                    [first, .., last] => (first, last),
                    [only] => (only, only),
                    [] => continue,
                },
                _ => continue,
            };
            self.add(partition, first, last.saturating_add(1))?;
        }
        Ok(())
    }

    fn add(&mut self, partition: &Arc<str>, first: u64, end: u64) -> Result<()> {
        let mut shared = self.given.range(..end).rev().take_while(|(_, given)| given.end > first);
        if let Some((start, Stretch { partition: other, .. })) =
            shared.find(|(_, given)| given.partition != *partition)
        {
            return Err(Error::internal(format!(
                "partitions \"{other}\" and \"{partition}\" both have an item at offset {}: an id is made of the source and the position, so give positions that name the partition (`Positions::rows`, `Position::Marker`)",
                first.max(*start)
            )));
        }
        self.turns += 1;
        let turn = self.turns;
        // What follows on its own goes into one stretch.
        match self.given.range_mut(..=first).next_back() {
            Some((_, own)) if own.partition == *partition && own.end >= first => {
                (own.end, own.turn) = (end.max(own.end), turn);
            }
            _ => _ = self.given.insert(first, Stretch { end, partition: partition.clone(), turn }),
        }
        if self.given.len() > STRETCHES {
            self.forget_half();
        }
        Ok(())
    }

    /// Forgets the half of the stretches that nothing was added to for longest.
    fn forget_half(&mut self) {
        let mut turns: Vec<u64> = self.given.values().map(|given| given.turn).collect();
        let (_, middle, _) = turns.select_nth_unstable(STRETCHES / 2);
        self.given.retain(|_, given| given.turn > *middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_offset_of_two_partitions_is_found_and_stretches_stay_few() {
        let [one, two]: [Arc<str>; 2] = ["one".into(), "two".into()];
        let mut places = Places::default();
        for n in 0..1_000 {
            places.add(&one, n * 10, n * 10 + 10).unwrap();
        }
        places.add(&two, 20_000, 20_010).unwrap();
        places.add(&two, 10_000, 10_010).unwrap();
        assert_eq!(places.given.len(), 3);
        for (first, end) in [(5, 6), (9_999, 10_001), (0, 1), (19_000, 20_001)] {
            assert_eq!(places.add(&two, first, end).is_err(), first < 10_000, "{first}");
        }
        assert!(places.add(&one, 20_009, 20_020).unwrap_err().message().contains("\"two\" and \"one\""));
    }

    #[test]
    fn partitions_that_take_turns_cost_no_more_than_so_many_stretches() {
        let [long, one, two]: [Arc<str>; 3] = ["long".into(), "one".into(), "two".into()];
        let mut places = Places::default();
        let far = u64::MAX / 2;
        for n in 0..3 * STRETCHES as u64 {
            places.add(if n % 2 == 0 { &one } else { &two }, n * 10, n * 10 + 10).unwrap();
            places.add(&long, far + n, far + n + 1).unwrap();
            assert!(places.given.len() <= STRETCHES);
        }
        let last = 3 * STRETCHES as u64 * 10 - 1;
        assert!(places.add(&one, last, last + 1).is_err(), "the newest are kept");
        assert!(places.add(&one, far, far + 1).is_err(), "so is what goes on");
        places.add(&two, 0, 1).unwrap();
    }
}
