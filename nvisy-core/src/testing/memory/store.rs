//! What memory sources read and memory sinks wrote, under a name.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use serde_json::Value;

use super::input::Input;
use crate::id::PrimitiveId;
use crate::primitive::{Kind, Kinds, Payload, Primitive};
use crate::testing::plain;

/// What memory sources of one name read, and what memory sinks of one name wrote. The two are
/// apart: a store can be both ends of one graph.
///
/// Stores live as long as the process. Tests that run side by side use names of their own.
///
/// # Examples
///
/// ```
/// use nvisy_core::primitive::raw::Raw;
/// use nvisy_core::testing::memory::MemoryStore;
///
/// let tickets = MemoryStore::named("tickets");
/// tickets.put((0..3_u64).map(|n| Raw::Json(n.into())));
/// assert_eq!(tickets.input_len(), 3);
/// assert!(tickets.items().is_empty());
/// ```
#[derive(Clone)]
pub struct MemoryStore(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    input: Input,
    /// What is durable, in the order of its first writing.
    items: Vec<Primitive>,
    /// Where upserted items are; appended ones are not here.
    places: HashMap<PrimitiveId, usize>,
    /// What is kept until a checkpoint has it, by who staged it and the number of the time.
    staged: BTreeMap<(String, u64), Vec<Primitive>>,
    writes: Vec<Write>,
    tally: Tally,
}

/// One call of a memory sink's `write`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The ids of the batch, in order.
    pub ids: Vec<PrimitiveId>,
    /// How many bytes the batch said it holds.
    pub bytes: usize,
    /// Whether the batch came as rows.
    pub rows: bool,
}

/// How often things happened to a [`MemoryStore`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Batches that sources read.
    pub reads: u64,
    /// Sinks opened.
    pub opens: u64,
    /// Calls of `write` that came to their end.
    pub writes: u64,
    /// Items that these calls brought, repeated and refused ones included.
    pub written: u64,
    /// Items refused.
    pub refused: u64,
    /// Calls of `flush`.
    pub flushes: u64,
    /// Calls of `stage`.
    pub stages: u64,
    /// Calls of `publish`.
    pub publishes: u64,
    /// Calls of `close`.
    pub closes: u64,
    /// Calls of anything but `close` on a sink that was closed: there should be none.
    pub after_close: u64,
}

static STORES: LazyLock<Mutex<HashMap<String, MemoryStore>>> = LazyLock::new(Mutex::default);

impl MemoryStore {
    /// Returns the store of that name, and makes it if there is none.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
        match stores.get(name) {
            Some(store) => store.clone(),
            None => stores.entry(name.to_owned()).or_insert_with(|| Self(Arc::default())).clone(),
        }
    }

    /// Forgets the store of that name. Those who hold it keep it.
    pub fn remove(name: &str) {
        STORES.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what sources read, instead of what they read so far.
    pub fn put<K: Kind>(&self, payloads: impl IntoIterator<Item = K>) {
        self.state().input = Input::items(payloads.into_iter().map(Kind::into_payload).collect());
    }

    /// Adds to what sources read, behind what is there.
    pub fn extend<K: Kind>(&self, payloads: impl IntoIterator<Item = K>) {
        let mut state = self.state();
        let mut all: Vec<Payload> =
            (0..state.input.len()).filter_map(|index| state.input.payload(index)).collect();
        all.extend(payloads.into_iter().map(Kind::into_payload));
        state.input = Input::items(all);
    }

    /// Sets what sources read to the rows of a record batch: they come as slices, at no copy.
    pub fn put_rows(&self, rows: RecordBatch) {
        self.state().input = Input::Rows(Arc::new(rows));
    }

    /// Returns how many items sources read.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.state().input.len()
    }

    /// Returns the kinds that sources read.
    #[must_use]
    pub fn input_kinds(&self) -> Kinds {
        self.state().input.kinds()
    }

    pub(super) fn input(&self) -> Input {
        self.state().input.clone()
    }

    /// Returns what is written and durable, in the order of its first writing.
    #[must_use]
    pub fn items(&self) -> Vec<Primitive> {
        self.state().items.clone()
    }

    /// Returns the ids of what is written and durable, in the order of its first writing.
    #[must_use]
    pub fn ids(&self) -> Vec<PrimitiveId> {
        self.state().items.iter().map(Primitive::id).collect()
    }

    /// Returns the payloads of what is written and durable as [plain] JSON, in the order of
    /// its first writing.
    #[must_use]
    pub fn plain(&self) -> Vec<Value> {
        self.state().items.iter().map(|item| plain(item.payload())).collect()
    }

    /// Returns how many items are written and durable.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state().items.len()
    }

    /// Returns whether nothing is written and durable.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the calls of `write`, in order.
    #[must_use]
    pub fn writes(&self) -> Vec<Write> {
        self.state().writes.clone()
    }

    /// Returns how often things happened.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.state().tally
    }

    /// Returns how many items are staged and not shown.
    #[must_use]
    pub fn staged_len(&self) -> usize {
        self.state().staged.values().map(Vec::len).sum()
    }

    /// Forgets what was written and what happened; what sources read stays.
    pub fn clear(&self) {
        let mut state = self.state();
        let input = std::mem::take(&mut state.input);
        *state = State { input, ..State::default() };
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.state().tally);
    }

    pub(super) fn record(&self, write: Write) {
        self.state().writes.push(write);
    }

    /// Adds items behind those that are there.
    pub(super) fn append(&self, items: Vec<Primitive>) {
        self.state().items.extend(items);
    }

    /// Keeps items out of sight.
    pub(super) fn stage(&self, owner: &str, time: u64, items: Vec<Primitive>) {
        self.state().staged.insert((owner.to_owned(), time), items);
    }

    /// Shows what was staged up to that time.
    pub(super) fn show(&self, owner: &str, time: u64) {
        let state = &mut *self.state();
        let times = (owner.to_owned(), 0)..=(owner.to_owned(), time);
        let shown: Vec<_> = state.staged.range(times).map(|(key, _)| key.clone()).collect();
        for key in shown {
            state.items.extend(state.staged.remove(&key).unwrap_or_default());
        }
    }

    /// Forgets what was staged and not shown.
    pub(super) fn forget(&self, owner: &str) {
        self.state().staged.retain(|(other, _), _| other != owner);
    }

    /// Adds items, or puts them in the place of those with the same id. Returns for each
    /// whether it was there already, just so.
    pub(super) fn upsert(&self, items: Vec<Primitive>) -> Vec<bool> {
        let state = &mut *self.state();
        let same = items.into_iter().map(|item| match state.places.get(&item.id()) {
            Some(place) => {
                let there = &mut state.items[*place];
                let same = there.payload() == item.payload();
                *there = item;
                same
            }
            None => {
                state.places.insert(item.id(), state.items.len());
                state.items.push(item);
                false
            }
        });
        same.collect()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("MemoryStore")
            .field("input", &state.input.len())
            .field("items", &state.items.len())
            .field("tally", &state.tally)
            .finish()
    }
}
