//! That no two partitions of a source give one position: their items would have one id.

use std::collections::BTreeMap;
use std::sync::Arc;

use nvisy_core::{Batch, Error, Result};

/// Which offsets each partition has given, where they stand in no object of their own.
#[derive(Debug, Default)]
pub(in crate::engine) struct Places {
    /// Stretches that do not overlap: the first offset of each, the one behind its last, and whose.
    given: BTreeMap<u64, (u64, Arc<str>)>,
}

impl Places {
    /// Takes note of what a partition gives.
    ///
    /// # Errors
    ///
    /// If another one has given some of it.
    pub(super) fn note(&mut self, partition: &Arc<str>, batch: &Batch) -> Result<()> {
        for (_, origin) in batch.source_items() {
            let Some((None, mut offsets)) = origin.as_ref().and_then(|origin| origin.offsets()) else {
                continue;
            };
            let Some(first) = offsets.next() else { continue };
            // They follow one another: no item is looked at but the first and the last.
            let end = offsets.next_back().unwrap_or(first).saturating_add(1);
            self.add(partition, first, end)?;
        }
        Ok(())
    }

    fn add(&mut self, partition: &Arc<str>, first: u64, end: u64) -> Result<()> {
        let mut shared = self.given.range(..end).rev().take_while(|(_, (until, _))| *until > first);
        if let Some((start, (_, other))) = shared.find(|(_, (_, whose))| whose != partition) {
            return Err(Error::internal(format!(
                "partitions \"{other}\" and \"{partition}\" both have an item at offset {}: an id is made of the source and the position, so give positions that name the partition (`Positions::rows`, `Position::Marker`)",
                first.max(*start)
            )));
        }
        // What follows on its own goes into one stretch.
        match self.given.range_mut(..=first).next_back() {
            Some((_, (until, own))) if own == partition && *until >= first => *until = end.max(*until),
            _ => _ = self.given.insert(first, (end, partition.clone())),
        }
        Ok(())
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
}
