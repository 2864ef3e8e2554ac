//! How many items of a node go to dead letters, and when that is too many.

use std::collections::VecDeque;

use crate::graph::DeadLetterLimit;

/// Counts the last items that a node settled.
#[derive(Debug)]
pub(super) struct Flood {
    pub(super) limit: DeadLetterLimit,
    /// How many items there were.
    seen: u64,
    /// The numbers of the last items that went aside, at most one more than may.
    aside: VecDeque<u64>,
}

impl Flood {
    pub(super) fn new(limit: DeadLetterLimit) -> Self {
        Self { limit, seen: 0, aside: VecDeque::new() }
    }

    /// Counts a batch, of which some items are to go aside, in ascending order. Returns whether
    /// they are too many.
    pub(super) fn rises(&mut self, items: u64, aside: impl IntoIterator<Item = u64>) -> bool {
        let first = self.seen;
        self.seen += items;
        let Some(most) = self.limit.most() else { return false };
        let (most, of) = (most as usize, u64::from(self.limit.of.get()));
        for index in aside {
            let number = first + index;
            self.aside.push_back(number);
            if self.aside.len() > most + 1 {
                self.aside.pop_front();
            }
            let recent = |oldest: &u64| number - oldest < of;
            if self.aside.len() > most && self.aside.front().is_some_and(recent) {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of the first item that is too many, of those that go aside.
    fn check(limit: DeadLetterLimit, aside: impl IntoIterator<Item = u64>, expected: Option<u64>) {
        let aside: Vec<u64> = aside.into_iter().collect();
        for batch in [1, 7, 100] {
            let mut flood = Flood::new(limit);
            let tripped = (0..10_000_u64).step_by(batch).find(|first| {
                let end = first + batch as u64;
                let bad = aside.iter().filter(|n| (*first..end).contains(n)).map(|n| n - first);
                flood.rises(batch as u64, bad)
            });
            let expected = expected.map(|n| n - n % batch as u64);
            assert_eq!(tripped, expected, "{limit:?} in batches of {batch}");
        }
    }

    #[test]
    fn it_rises_with_the_first_item_above_the_share_of_the_last_ones() {
        let default = DeadLetterLimit::default();
        check(default, 0..50, None);
        check(default, 0..51, Some(50));
        check(default, (0..10_000).step_by(20), None);
        check(default, (0..10_000).step_by(19), Some(50 * 19));
        check(default, (0..50).chain(1_000..1_050), None);
        check(default, (0..50).chain([999]), Some(999));
        check(DeadLetterLimit::share(0.0), [7], Some(7));
        check(DeadLetterLimit::share(0.5).of(2), [3, 5, 6], Some(6));
        check(DeadLetterLimit::none(), 0..10_000, None);
    }
}
