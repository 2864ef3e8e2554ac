//! Checkpoints in memory.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use nvisy_core::{Changes, Checkpoint, CheckpointStore, Checkpoints, Error, ErrorKind, Result};

/// Keeps checkpoints as long as the store or a clone of it lives. Clones share them.
///
/// For tests: what outlives one engine is what would outlive a process.
///
/// # Examples
///
/// ```
/// use nvisy_runtime::checkpoint::MemoryStore;
/// use nvisy_runtime::nvisy_core::{Changes, CheckpointStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nvisy_runtime::nvisy_core::Result<()> {
/// let store = MemoryStore::default();
/// let mut changes = Changes::default();
/// changes.put("read/all", "42");
/// store.open("tickets").await?.commit(changes).await?;
/// assert_eq!(store.open("tickets").await?.last().entries["read/all"], "42");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<HashMap<String, Slot>>>);

/// How many commits may be forgotten.
const REMEMBERED: usize = 8;

/// The checkpoints of one graph.
#[derive(Default)]
struct Slot {
    last: Checkpoint,
    /// Those before, the oldest first, as far as they are remembered.
    previous: VecDeque<Checkpoint>,
    open: bool,
}

impl MemoryStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the last checkpoint of a graph, also while it is open.
    #[must_use]
    pub fn peek(&self, graph: &str) -> Option<Checkpoint> {
        self.lock().get(graph).map(|slot| slot.last.clone())
    }

    /// Forgets the last commit of a graph, as a store may that lost power, and returns whether
    /// there was one to forget: the last eight are remembered.
    pub fn go_back(&self, graph: &str) -> bool {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(graph) else { return false };
        let Some(previous) = slot.previous.pop_back() else { return false };
        slot.last = previous;
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, graph: &str) -> Result<Box<dyn Checkpoints>> {
        let mut slots = self.lock();
        let slot = slots.entry(graph.to_owned()).or_default();
        if slot.open {
            let message = format!("the checkpoints of graph \"{graph}\" are in use: wait until its run ends");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        slot.open = true;
        Ok(Box::new(Open { store: self.clone(), graph: graph.to_owned(), last: slot.last.clone() }))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("graphs", &self.lock().len()).finish()
    }
}

impl CheckpointStore for MemoryStore {
    fn open<'a>(&'a self, graph: &'a str) -> BoxFuture<'a, Result<Box<dyn Checkpoints>>> {
        ready(self.take(graph)).boxed()
    }
}

/// The checkpoints of one graph, open.
#[derive(Debug)]
struct Open {
    store: MemoryStore,
    graph: String,
    last: Checkpoint,
}

impl Open {
    fn advance(&mut self, changes: Changes) -> Result<u64> {
        let mut slots = self.store.lock();
        let slot = slots.entry(self.graph.clone()).or_default();
        if slot.last.generation != self.last.generation {
            let message = format!(
                "the checkpoints of graph \"{}\" stand at generation {}, not at {}: start the run again",
                self.graph, slot.last.generation, self.last.generation
            );
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        self.last.apply(changes);
        slot.previous.push_back(std::mem::replace(&mut slot.last, self.last.clone()));
        if slot.previous.len() > REMEMBERED {
            slot.previous.pop_front();
        }
        Ok(self.last.generation)
    }
}

impl Checkpoints for Open {
    fn last(&self) -> &Checkpoint {
        &self.last
    }

    fn commit(&mut self, changes: Changes) -> BoxFuture<'_, Result<u64>> {
        ready(self.advance(changes)).boxed()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(slot) = self.store.lock().get_mut(&self.graph) {
            slot.open = false;
        }
    }
}
