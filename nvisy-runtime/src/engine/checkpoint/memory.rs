//! What an action remembers: shared by its node and by whoever makes checkpoints of it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::FutureExt;
use nvisy_core::action::ErasedStateful;
use nvisy_core::checkpoint::{Changes, Entries};
use nvisy_core::{Error, ErrorKind, Result, Spill};
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio_util::sync::CancellationToken;

use crate::engine::tracker::SharedTracker;

/// The memory of a node, which is a source inside the graph for what it lets go of.
///
/// It is locked around one call of the action only: never while the node waits for room, for
/// credit, or for a checkpoint.
pub(in crate::engine) struct Memory {
    pub(in crate::engine) node: Arc<str>,
    /// The slots of what is let go of. Its positions are in the memory, and in no cursor.
    pub(in crate::engine) tracker: Arc<SharedTracker>,
    /// Stops letting go.
    pub(in crate::engine) stop: CancellationToken,
    state: Mutex<Box<dyn ErasedStateful>>,
    spill: Spill,
    /// Whether it keeps what it lets go of until that is done with, so that a checkpoint does not
    /// wait for it.
    lags: Arc<AtomicBool>,
    /// Whether it has more than it is meant to.
    pub(in crate::engine) full: watch::Sender<bool>,
    /// Whether more than best-effort copies come to it: then what fails behind it binds checkpoints.
    pub(in crate::engine) required: bool,
}

impl Memory {
    pub(in crate::engine) fn new(
        node: Arc<str>,
        state: Box<dyn ErasedStateful>,
        tracker: Arc<SharedTracker>,
        stop: CancellationToken,
        spill: Spill,
        required: bool,
    ) -> Self {
        Self {
            node,
            tracker,
            stop,
            state: Mutex::new(state),
            spill,
            lags: Arc::default(),
            full: watch::Sender::new(false),
            required,
        }
    }

    /// Says in `lags` whether it keeps what it lets go of until that is done with.
    pub(in crate::engine) fn lagging(self, lags: Arc<AtomicBool>) -> Self {
        Self { lags, ..self }
    }

    pub(in crate::engine) fn lag(&self) {
        self.lags.store(true, Ordering::Relaxed);
    }

    pub(in crate::engine) fn lags(&self) -> bool {
        self.lags.load(Ordering::Relaxed)
    }

    pub(in crate::engine) async fn lock(&self) -> MutexGuard<'_, Box<dyn ErasedStateful>> {
        self.state.lock().await
    }

    /// Returns whether it has more than it is meant to.
    pub(super) fn is_full(&self) -> bool {
        *self.full.borrow()
    }

    /// Waits until it has no more than it is meant to.
    pub(super) async fn until_room(&self) {
        // What it waits for is sent from here: it cannot be gone.
        _ = self.full.subscribe().wait_for(|full| !full).await;
    }

    /// Has the action take up what the last checkpoint holds of it.
    ///
    /// # Errors
    ///
    /// If it cannot.
    pub(in crate::engine) async fn restore(&self, saved: Entries) -> Result<()> {
        self.called(async { self.lock().await.restore(saved).await }).await
    }

    /// Adds what the next checkpoint has to hold of it.
    ///
    /// # Errors
    ///
    /// If the action cannot say.
    pub(super) async fn save(&self, changes: &mut Changes) -> Result<()> {
        let own = self.called(async { self.lock().await.save().await }).await?;
        changes.extend(own.iter().map(|(key, value)| (key_of(&self.node, key), value.cloned())));
        Ok(())
    }

    /// The checkpoint is durable.
    ///
    /// # Errors
    ///
    /// If the action cannot put in order what it keeps.
    pub(super) async fn saved(&self) -> Result<()> {
        self.called(async { self.lock().await.saved().await }).await
    }

    async fn called<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let called = AssertUnwindSafe(call).catch_unwind().await;
        let called = called.unwrap_or_else(|panic| Err(Error::from_panic(&*panic)));
        called.map_err(|error| error.at_node(self.node.clone()))
    }

    /// Removes what it keeps in files: the run has finished.
    pub(super) fn forget(&self) {
        // What stays is removed when the next run begins.
        _ = clear(&self.spill);
    }
}

/// Removes what a run before left in the folder of a node, if it stays there at all.
///
/// # Errors
///
/// If that is not possible.
pub(in crate::engine) fn clear(spill: &Spill) -> Result<()> {
    let Some(path) = spill.kept_path() else { return Ok(()) };
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let message =
                format!("the folder \"{}\" of a run that is over cannot be removed", path.display());
            Err(Error::new(ErrorKind::Permission, message).with_source(error))
        }
        _ => Ok(()),
    }
}

/// What the keys begin with that memories have in checkpoints.
pub(super) const KEYS: &str = "state/";

/// The key under which a checkpoint has one of a node's. Names of nodes have no slash.
fn key_of(node: &str, key: &str) -> String {
    format!("{KEYS}{node}/{key}")
}

/// Returns what entries of a checkpoint are of a node, under its own keys.
pub(super) fn entries_of(node: &str, entries: &Entries) -> Entries {
    let before = key_of(node, "");
    let own =
        entries.range(before.clone()..).map_while(|(key, value)| Some((key.strip_prefix(&before)?, value)));
    own.map(|(key, value)| (key.to_owned(), value.clone())).collect()
}

/// Returns of which node an entry of a checkpoint is, if it is of a memory.
pub(super) fn node_of(key: &str) -> Option<&str> {
    key.strip_prefix(KEYS)?.split_once('/').map(|(node, _)| node)
}
