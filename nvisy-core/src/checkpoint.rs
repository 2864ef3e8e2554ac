//! What a run has to remember in order to go on, and where it is kept.
//!
//! A [`Checkpoint`] is a small ordered map of texts to bytes, which means something to the
//! engine alone. A store advances it by transactions.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::error::Result;

/// Where the checkpoints of graphs are kept.
///
/// # Contract
///
/// 1. A graph that nothing was committed for opens with generation 0 and no entries.
/// 2. What was committed is there when the graph is opened again, also after a crash or a power
///    cut. A store may lose the newest commits, and says so by [`Checkpoints::recovery`]; what
///    it gives is always the whole of what one commit left, never more and never a mixture.
/// 3. Graphs are apart, whatever characters are in their names.
/// 4. Of two that have opened the same graph only one commits. The other is refused with a
///    `conflict` error: when it opens, or when it commits.
/// 5. [`peek`](Self::peek) gives what opening would give, and changes nothing: it creates no file,
///    table or entry.
///
/// [`testing::conformance::checkpoints`](crate::testing::conformance::checkpoints) (feature
/// `testing`) checks it.
pub trait CheckpointStore: fmt::Debug + Send + Sync + 'static {
    /// Opens the checkpoints of the graph of that name, for one run at a time: until what it
    /// returns is dropped.
    ///
    /// # Errors
    ///
    /// `conflict` if they are open already; `validation` if they are damaged beyond recovery.
    fn open<'a>(&'a self, graph: &'a str) -> BoxFuture<'a, Result<Box<dyn Checkpoints>>>;

    /// Reads the last checkpoint of a graph and changes nothing; none if there is none. Default
    /// opens it, so that it is refused while a run has it open: a store that creates or changes
    /// anything when it opens has a way of its own.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    fn peek<'a>(&'a self, graph: &'a str) -> BoxFuture<'a, Result<Option<Checkpoint>>> {
        Box::pin(async move {
            let checkpoint = self.open(graph).await?.last().clone();
            Ok(Some(checkpoint).filter(|checkpoint| checkpoint.generation > 0))
        })
    }
}

/// The checkpoints of one graph, open.
///
/// # Contract
///
/// 1. [`commit`](Self::commit) is durable when it returns, and all or nothing.
/// 2. One that fails has changed nothing, unless the error is `ambiguous`. After that, and when
///    the future was dropped half way, whether it was done shows when the graph is opened again.
/// 3. [`last`](Self::last) is what was recovered, and then what was committed last.
pub trait Checkpoints: fmt::Debug + Send + Sync + 'static {
    /// Returns the newest checkpoint that is whole.
    fn last(&self) -> &Checkpoint;

    /// Returns what opening had to give up, to be told to the user. Default nothing.
    fn recovery(&self) -> Option<&Recovery> {
        None
    }

    /// Makes the changes in one transaction, and returns the generation that they make.
    ///
    /// # Errors
    ///
    /// `conflict` if somebody else has committed since this was opened.
    ///
    /// # Cancellation
    ///
    /// A commit that is dropped half way may have been done. Drop this value then, and open the
    /// graph again: it may refuse to commit.
    fn commit(&mut self, changes: Changes) -> BoxFuture<'_, Result<u64>>;
}

/// What is remembered, by key.
pub type Entries = BTreeMap<String, Bytes>;

/// What a run remembered: the state after one commit.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// How many commits made it: 0 before the first.
    pub generation: u64,
    /// What is remembered, by key.
    pub entries: Entries,
}

impl Checkpoint {
    /// Makes the changes of one commit.
    pub fn apply(&mut self, changes: Changes) {
        self.generation += 1;
        if changes.len() > self.entries.len() / 8 {
            // Many are merged in one go through both.
            for (key, _) in changes.iter().filter(|(_, value)| value.is_none()) {
                self.entries.remove(key);
            }
            let puts = changes.0.into_iter().filter_map(|(key, value)| Some((key, value?)));
            self.entries.append(&mut puts.collect());
            return;
        }
        for (key, value) in changes.0 {
            match value {
                Some(value) => drop(self.entries.insert(key, value)),
                None => drop(self.entries.remove(&key)),
            }
        }
    }
}

/// Shows how much there is, and no value: they may hold what items hold.
impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: usize = self.entries.values().map(Bytes::len).sum();
        f.debug_struct("Checkpoint")
            .field("generation", &self.generation)
            .field("entries", &self.entries.len())
            .field("bytes", &bytes)
            .finish()
    }
}

/// What one commit changes. Of several changes of one key the last counts.
///
/// # Examples
///
/// ```
/// use nvisy_core::checkpoint::{Changes, Checkpoint};
///
/// let mut checkpoint = Checkpoint::default();
/// let mut changes = Changes::default();
/// changes.put("read/all", "42").remove("read/old");
/// checkpoint.apply(changes);
/// assert_eq!(checkpoint.generation, 1);
/// assert_eq!(checkpoint.entries["read/all"], "42");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Changes(BTreeMap<String, Option<Bytes>>);

impl Changes {
    /// Sets a key to a value.
    pub fn put(&mut self, key: impl Into<String>, value: impl Into<Bytes>) -> &mut Self {
        self.0.insert(key.into(), Some(value.into()));
        self
    }

    /// Removes a key, if it is there.
    pub fn remove(&mut self, key: impl Into<String>) -> &mut Self {
        self.0.insert(key.into(), None);
        self
    }

    /// Keeps the changes for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, Option<&Bytes>) -> bool) {
        self.0.retain(|key, value| keep(key, value.as_ref()));
    }

    /// Returns how many keys it changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether it changes none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what it puts, and the keys that it removes (`None`), in the order of the keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Option<&Bytes>)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_ref()))
    }
}

impl Extend<(String, Option<Bytes>)> for Changes {
    fn extend<I: IntoIterator<Item = (String, Option<Bytes>)>>(&mut self, changes: I) {
        self.0.extend(changes);
    }
}

impl FromIterator<(String, Option<Bytes>)> for Changes {
    fn from_iter<I: IntoIterator<Item = (String, Option<Bytes>)>>(changes: I) -> Self {
        Self(changes.into_iter().collect())
    }
}

/// Shows the keys, and no value.
impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.0.iter().map(|(key, value)| (key, value.as_ref().map(Bytes::len)));
        f.debug_map().entries(sizes).finish()
    }
}

/// What a store had to give up when it opened the checkpoints of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// What was damaged: a file, a table.
    pub place: String,
    /// What was wrong with it, and what was done about it.
    pub reason: String,
    /// The generation that it fell back to.
    pub generation: u64,
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, reason, generation } = self;
        write!(f, "\"{place}\": {reason}; going on from generation {generation}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option::of;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn commits_of_all_sizes_do_what_they_say(
            commits in vec(vec(("[abc]{0,4}", of("[xy]{0,2}")), 0..60), 0..6),
        ) {
            let (mut checkpoint, mut entries) = (Checkpoint::default(), Entries::new());
            for commit in &commits {
                let mut changes = Changes::default();
                for (key, value) in commit {
                    match value {
                        Some(value) => {
                            changes.put(key.clone(), value.clone());
                            entries.insert(key.clone(), value.clone().into());
                        }
                        None => {
                            changes.remove(key.clone());
                            entries.remove(key);
                        }
                    }
                }
                let mut kept = changes.clone();
                kept.retain(|key, value| value.is_some() || checkpoint.entries.contains_key(key));
                let mut other = checkpoint.clone();
                other.apply(kept);
                checkpoint.apply(changes);
                prop_assert_eq!(&checkpoint, &other, "what is not there is not missed");
            }
            prop_assert_eq!(checkpoint, Checkpoint { generation: commits.len() as u64, entries });
        }
    }
}
