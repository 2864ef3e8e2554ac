//! What was seen: keys in memory, and beyond a limit in files.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;

use nvisy_core::{Result, RunId, Spill};

use super::run::{Run, failed};
use super::table::Table;

const NAME: &str = "seen-";
/// How many files of about one size there are before they become one.
const MERGED: usize = 6;

/// A set of keys that takes so many bytes of memory, about, however many keys there are.
#[derive(Debug)]
pub(super) struct Seen {
    memory: usize,
    table: Table,
    /// The oldest and largest first, each with how often it was merged.
    runs: Vec<(u32, Run)>,
    spill: Spill,
    /// Part of the names of its files: another one may have the same folder.
    id: RunId,
    written: u64,
}

impl Seen {
    pub(super) fn new(memory: usize, spill: Spill) -> Self {
        let table = Table::new(room(memory, 0));
        Self { memory, table, runs: Vec::new(), spill, id: RunId::new(), written: 0 }
    }

    /// Removes the files of a process that was killed.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read, or a file not be removed.
    pub(super) fn clean(spill: &Spill) -> Result<()> {
        let folder = spill.path()?;
        let remove = || {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(NAME) {
                    std::fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        remove().map_err(|error| failed(folder, error))
    }

    /// Says which keys are about to come. That is of use for some tens of them.
    pub(super) fn warm(&self, keys: &[u128]) {
        self.table.warm(keys);
    }

    /// Adds a key. Returns whether it is new.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub(super) fn insert(&mut self, key: u128) -> Result<bool> {
        // Zero is no key of a table; to take it for another is as likely as two alike hashes.
        let key = key.max(1);
        if self.runs.is_empty() {
            return Ok(self.table.insert(key));
        }
        if self.table.contains(key) {
            return Ok(false);
        }
        for (_, run) in self.runs.iter().rev() {
            if run.contains(key)? {
                return Ok(false);
            }
        }
        Ok(self.table.insert(key))
    }

    /// Returns whether there is memory for more keys.
    pub(super) fn has_room(&self) -> bool {
        self.table.len() == 0 || self.table.bytes() <= self.room()
    }

    /// Returns how many bytes the table may take: there has to be room for the filter of its run.
    fn room(&self) -> usize {
        room(self.memory, self.runs.iter().map(|(_, run)| run.bytes()).sum())
    }

    /// Writes what is in memory to a file, and makes one of several that have about one size.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub(super) fn spill(&mut self) -> Result<()> {
        let keys = self.table.len();
        let run = Run::write(self.next_path()?, keys, self.filter(keys), self.table.iter().map(Ok))?;
        self.runs.push((0, run));
        self.table = Table::new(0);
        while let Some(&(level, _)) = self.runs.last()
            && let Some(from) = self.runs.len().checked_sub(MERGED)
            && self.runs[from].0 == level
        {
            let keys = self.runs[from..].iter().map(|(_, run)| run.len()).sum();
            let path = self.next_path()?;
            let merged = Run::write(path, keys, self.filter(keys), Merged::of(&self.runs[from..])?)?;
            self.runs.truncate(from);
            self.runs.push((level + 1, merged));
        }
        self.table = Table::new(self.room());
        Ok(())
    }

    /// Returns how large the filter of a run of so many keys may be: its share of half of the
    /// memory. The more keys there are, the more often is a file looked into.
    fn filter(&self, keys: usize) -> usize {
        let all: usize = self.runs.iter().map(|(_, run)| run.len()).sum::<usize>().max(keys);
        (self.memory as f64 / 2.0 * keys as f64 / all.max(1) as f64) as usize
    }

    fn next_path(&mut self) -> Result<PathBuf> {
        self.written += 1;
        Ok(self.spill.path()?.join(format!("{NAME}{}-{}", self.id, self.written)))
    }
}

/// How many bytes a table may take beside what runs take.
fn room(memory: usize, runs: usize) -> usize {
    (memory.saturating_sub(runs) / 10 * 9).max(memory / 4)
}

/// The keys of several runs in order.
struct Merged<I> {
    runs: Vec<I>,
    /// The next key of each.
    next: BinaryHeap<Reverse<(u128, usize)>>,
}

impl<'a> Merged<Box<dyn Iterator<Item = Result<u128>> + 'a>> {
    fn of(runs: &'a [(u32, Run)]) -> Result<Self> {
        let mut merged = Self { runs: Vec::new(), next: BinaryHeap::new() };
        for (at, (_, run)) in runs.iter().enumerate() {
            merged.runs.push(Box::new(run.iter()?));
            merged.refill(at)?;
        }
        Ok(merged)
    }
}

impl<I: Iterator<Item = Result<u128>>> Merged<I> {
    fn refill(&mut self, at: usize) -> Result<()> {
        if let Some(key) = self.runs[at].next().transpose()? {
            self.next.push(Reverse((key, at)));
        }
        Ok(())
    }
}

impl<I: Iterator<Item = Result<u128>>> Iterator for Merged<I> {
    type Item = Result<u128>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((key, at)) = self.next.pop()?;
        Some(self.refill(at).map(|()| key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::tests::roll;
    use super::*;

    #[test]
    fn whatever_the_memory_the_answers_are_those_of_a_set() {
        for (seed, memory) in [(1, 300_000), (2, 1_000_000), (3, 8_000_000)] {
            let place = tempfile::tempdir().unwrap();
            let spill = Spill::kept(place.path().join("spill"));
            let (mut seen, mut set) = (Seen::new(memory, spill), HashSet::new());
            let (mut dice, mut spills) = (seed, 0);
            for round in 0..250_000_u32 {
                if round % 500 == 0 && !seen.has_room() {
                    seen.spill().unwrap();
                    spills += 1;
                }
                // Every third is one of those before.
                let key = match round % 3 {
                    0 => u128::from((roll(&mut dice) as u32) % (round + 1)).wrapping_mul(u128::MAX / 250_001),
                    _ => u128::from(round).wrapping_mul(u128::MAX / 250_001),
                };
                assert_eq!(seen.insert(key).unwrap(), set.insert(key.max(1)), "seed {seed}, round {round}");
            }
            assert_eq!(spills == 0, memory == 8_000_000, "seed {seed}: {spills} spills");
            assert!(memory != 300_000 || spills > 2 * MERGED, "seed {seed}: {spills} spills");
            assert!(seen.runs.len() < 2 * MERGED, "seed {seed}: {} files", seen.runs.len());
            drop(seen);
            let left = std::fs::read_dir(place.path().join("spill")).map_or(0, Iterator::count);
            assert_eq!(left, 0, "seed {seed}: files are left behind");
        }
    }

    #[test]
    fn two_in_one_folder_do_not_mix_and_what_a_dead_process_left_is_removed() {
        let place = tempfile::tempdir().unwrap();
        let spill = Spill::kept(place.path());
        let mut two = [0, 1].map(|_| Seen::new(1 << 20, spill.clone()));
        for (at, seen) in two.iter_mut().enumerate() {
            (0..1_000).for_each(|n| assert!(seen.insert(n * 2 + 10 + at as u128).unwrap()));
            seen.spill().unwrap();
        }
        for (at, seen) in two.iter_mut().enumerate() {
            (0..1_000).for_each(|n| assert!(!seen.insert(n * 2 + 10 + at as u128).unwrap()));
        }
        std::mem::forget(two);
        std::fs::write(place.path().join("keys"), "").unwrap();
        Seen::clean(&spill).unwrap();
        let left: Vec<_> =
            std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["keys"]);
    }

    #[test]
    fn a_file_that_is_cut_or_flipped_is_an_error_or_gives_the_right_answers() {
        let mut dice = 7;
        let keys: Vec<u128> = (0..500).map(|_| roll(&mut dice)).collect();
        let place = tempfile::tempdir().unwrap();
        let mut seen = Seen::new(1 << 20, Spill::kept(place.path()));
        for key in &keys {
            seen.insert(*key).unwrap();
        }
        seen.spill().unwrap();
        let path = std::fs::read_dir(place.path()).unwrap().next().unwrap().unwrap().path();
        let whole = std::fs::read(&path).unwrap();
        let changes = (0..whole.len()).step_by(crate::torture::step(199));
        for (at, change) in changes.flat_map(|at| [(at, "flipped"), (at, "cut")]) {
            let mut bytes = whole.clone();
            match change {
                "flipped" => bytes[at] ^= 1 << (at % 8),
                _ => bytes.truncate(at),
            }
            std::fs::write(&path, bytes).unwrap();
            let mut errors = 0;
            for key in &keys {
                match seen.insert(*key) {
                    Ok(is_new) => assert!(!is_new, "{change} at {at}: it was there"),
                    Err(error) => {
                        assert!(error.message().contains("seen-"), "{error}");
                        errors += 1;
                    }
                }
            }
            assert!(errors > 0, "{change} at {at} of {}: nobody saw it", whole.len());
        }
    }
}
