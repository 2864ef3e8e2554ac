//! Results in memory.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use nvisy_core::Result;
use nvisy_core::hash::ContentHash;

use super::{MAX_BYTES, MemoStore};

/// Keeps results as long as the store or a clone of it lives. Clones share them. Default 1 GiB,
/// of which the oldest go first.
#[derive(Clone)]
pub struct MemoryStore {
    kept: Arc<Mutex<Kept>>,
    max_bytes: u64,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<ContentHash, Bytes>,
    /// The keys, the oldest first.
    order: VecDeque<ContentHash>,
    bytes: u64,
}

impl MemoryStore {
    /// Makes an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self { kept: Arc::default(), max_bytes: MAX_BYTES }
    }

    /// Sets how many bytes of results are kept at the most. Default 1 GiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Returns how many results are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Returns whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns what is kept, in no order.
    #[must_use]
    pub fn entries(&self) -> Vec<(ContentHash, Bytes)> {
        self.lock().entries.iter().map(|(key, value)| (*key, value.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoStore for MemoryStore {
    fn get<'a>(&'a self, keys: &'a [ContentHash]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>>> {
        let kept = self.lock();
        ready(Ok(keys.iter().map(|key| kept.entries.get(key).cloned()).collect())).boxed()
    }

    fn put(&self, entries: Vec<(ContentHash, Bytes)>) -> BoxFuture<'_, Result<()>> {
        let mut kept = self.lock();
        for (key, value) in entries {
            kept.bytes += value.len() as u64;
            match kept.entries.insert(key, value) {
                Some(before) => kept.bytes -= before.len() as u64,
                None => kept.order.push_back(key),
            }
        }
        while kept.bytes > self.max_bytes
            && let Some(oldest) = kept.order.pop_front()
        {
            if let Some(value) = kept.entries.remove(&oldest) {
                kept.bytes -= value.len() as u64;
            }
        }
        ready(Ok(())).boxed()
    }
}

/// Shows how much there is, and no value: they hold what items hold.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("entries", &self.len()).finish_non_exhaustive()
    }
}
