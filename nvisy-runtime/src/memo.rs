//! The memo of paid calls: what a call was paid for is kept, and not paid for again.
//!
//! A node whose policy says `"memo": true` asks a [`MemoStore`] before it calls. What is known of
//! the items of a batch is taken from there; the call is made with the others, and what it made of
//! each is kept before it goes on. So an unchanged second run makes no call, and nor does a run
//! that is taken up again for what it had paid for when it was killed.
//!
//! | store | for | survives |
//! |---|---|---|
//! | [`MemoryStore`] | tests | nothing |
//! | [`DirectoryStore`] | a program on one machine: what [`EngineBuilder::state`] uses | a crash, a `kill -9`, a power cut |
//!
//! # What is the same
//!
//! The key of a result is a hash of everything that decides it: the [content
//! hash](nvisy_core::hash::ContentHash) of the item's payload, the name of the action's type, its
//! config, its [version](nvisy_core::ActionConfig::version), the type and config of its connection
//! (without the secrets that it names), and the version of this crate. The id, the envelope and the
//! lineage of an item are not part of it: another item with the same content is a hit, and what is
//! emitted for it has the ids and the lineage that a call would have given it. An action whose
//! result depends on them, on the time or on chance is not one to keep results of.
//!
//! # What is kept
//!
//! What was emitted for an item: payloads, how their ids follow from the item's, and its share of
//! what the model used. Kept are neither failures, nor what was dropped, nor what could not be made
//! again exactly as it was: an emitted item whose envelope the action has edited, whose id does not
//! follow from its input's by derivations made in the call itself (not in a task that it spawned),
//! or whose payload does not read back equal. No secret is in a key, and none is kept unless an
//! action emits it.
//!
//! Items that are the same in one batch, or on their way at once, are each called for. A store that
//! fails costs the calls and no more: the report warns of it.
//!
//! [`EngineBuilder::state`]: crate::engine::EngineBuilder::state

mod directory;
mod memory;
mod segment;

use bytes::Bytes;
use futures::future::BoxFuture;
use nvisy_core::Result;
use nvisy_core::hash::ContentHash;

pub use self::directory::DirectoryStore;
pub use self::memory::MemoryStore;

/// How much a store keeps unless it is told otherwise.
const MAX_BYTES: u64 = 1 << 30;

/// Keeps results by their keys. It may forget any of them at any time.
///
/// # Contract
///
/// 1. What it gives is what was put under that key, byte for byte; where it cannot tell, it gives
///    nothing.
/// 2. When [`put`](Self::put) returns, what it put outlives whatever the store outlives.
/// 3. Both may be called side by side, and be dropped at any await.
pub trait MemoStore: Send + Sync + 'static {
    /// Returns for each key, in order, what is kept under it.
    ///
    /// # Errors
    ///
    /// Whatever keeps the store from being read at all: nothing is known then.
    fn get<'a>(&'a self, keys: &'a [ContentHash]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>>>;

    /// Keeps entries.
    ///
    /// # Errors
    ///
    /// Whatever keeps the store from being written: some entries may be kept.
    fn put(&self, entries: Vec<(ContentHash, Bytes)>) -> BoxFuture<'_, Result<()>>;
}
