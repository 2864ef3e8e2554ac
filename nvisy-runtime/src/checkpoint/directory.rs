//! Checkpoints in a directory of this machine.

mod disk;
mod format;
mod lock;
mod log;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use nvisy_core::{
    Changes, Checkpoint, CheckpointStore, Checkpoints, Error, ErrorKind, Recovery, Result, RetryClass,
};

use self::disk::Directory;
use self::log::{Growth, Log, io_error, recover};
use crate::disk::{blocking, file_name, make};

/// Keeps the checkpoints of each graph in a directory of its own below a path.
///
/// A commit is appended to a log with its checksum and synced. When a log has grown large, a new
/// one begins with what is remembered; the one before is kept. After a crash or a power cut the
/// newest state that is whole is found again, and where something of it was given up,
/// [`Checkpoints::recovery`] says so.
///
/// One run at a time: a lock on a file beside the logs, which the operating system lets go of
/// when the process ends, however that happens. The directory has to be on a file system with
/// locks and a working `fsync`: a disk of this machine rather than a share.
///
/// To begin a graph again from the start, remove its directory.
///
/// # Examples
///
/// ```
/// use nvisy_runtime::checkpoint::DirectoryStore;
/// use nvisy_runtime::nvisy_core::{Changes, CheckpointStore};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nvisy_runtime::nvisy_core::Result<()> {
/// # let place = tempfile::tempdir().unwrap();
/// # let path = place.path();
/// let store = DirectoryStore::new(path);
/// let mut checkpoints = store.open("tickets").await?;
/// let mut changes = Changes::default();
/// changes.put("read/all", "42");
/// checkpoints.commit(changes).await?;
///
/// assert_eq!(store.peek("tickets").await?.unwrap().entries["read/all"], "42");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryStore {
    path: PathBuf,
}

impl DirectoryStore {
    /// Keeps checkpoints below `path`, which is made when it does not exist.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Reads the last checkpoint of a graph, also while a run has it open, and changes nothing.
    /// None if nothing was committed for the graph.
    ///
    /// # Errors
    ///
    /// As when it is opened, but never `conflict`.
    pub async fn peek(&self, graph: &str) -> Result<Option<Checkpoint>> {
        let directory = Directory(self.directory(graph));
        let graph = graph.to_owned();
        blocking(move || {
            if !directory.0.try_exists().map_err(|error| io_error(&shown(&directory.0), error))? {
                return Ok(None);
            }
            // A run may remove a file between the look at the directory and that into the file.
            let mut patience = 3;
            loop {
                match recover(&directory, &graph) {
                    Err(error) if error.kind() == ErrorKind::NotFound && patience > 0 => patience -= 1,
                    recovered => {
                        let last = recovered?.map(|recovered| recovered.checkpoint);
                        return Ok(last.filter(|last| last.generation > 0));
                    }
                }
            }
        })
        .await
    }

    /// Returns the directory in which the checkpoints of a graph are kept.
    #[must_use]
    pub fn directory(&self, graph: &str) -> PathBuf {
        self.path.join(directory_name(graph))
    }
}

impl CheckpointStore for DirectoryStore {
    fn open<'a>(&'a self, graph: &'a str) -> BoxFuture<'a, Result<Box<dyn Checkpoints>>> {
        let path = self.directory(graph);
        let graph = graph.to_owned();
        let open = blocking(move || {
            make(&path).map_err(|error| io_error(&shown(&path), error))?;
            let lock = lock::take(&path, &graph)?;
            let (log, last, recovery) = Log::open(Arc::new(Directory(path)), &graph, Growth::default())?;
            Ok(Open { held: Some(Held { log, lock }), last: Arc::new(last), recovery })
        });
        open.map(|opened| Ok(Box::new(opened?) as Box<dyn Checkpoints>)).boxed()
    }

    fn peek<'a>(&'a self, graph: &'a str) -> BoxFuture<'a, Result<Option<Checkpoint>>> {
        Self::peek(self, graph).boxed()
    }
}

/// The checkpoints of one graph, open.
struct Open {
    /// Out of hand while a commit is on its way, and for ever if that was dropped.
    held: Option<Held>,
    last: Arc<Checkpoint>,
    recovery: Option<Recovery>,
}

/// What a thread that writes has to hold.
struct Held {
    log: Log,
    /// Let go of after the log.
    #[expect(dead_code, reason = "held until it is dropped")]
    lock: File,
}

impl Open {
    async fn advance(&mut self, changes: Changes) -> Result<u64> {
        let Some(mut held) = self.held.take() else {
            let message = "a commit was broken off, and may have been done: open the checkpoints again";
            return Err(Error::new(ErrorKind::Ambiguous, message).with_retry_class(RetryClass::Permanent));
        };
        let (committed, held, changes) = blocking(move || {
            let committed = held.log.commit(&changes);
            Ok((committed, held, changes))
        })
        .await?;
        let held = self.held.insert(held);
        let generation = committed?;
        Arc::make_mut(&mut self.last).apply(changes);
        if held.log.is_long()
            && let Some(mut held) = self.held.take()
        {
            let last = self.last.clone();
            let held = blocking(move || {
                held.log.shrink(&last);
                Ok(held)
            });
            self.held = Some(held.await?);
        }
        Ok(generation)
    }
}

impl Checkpoints for Open {
    fn last(&self) -> &Checkpoint {
        &self.last
    }

    fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    fn commit(&mut self, changes: Changes) -> BoxFuture<'_, Result<u64>> {
        self.advance(changes).boxed()
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("last", &self.last)
            .field("recovery", &self.recovery)
            .finish_non_exhaustive()
    }
}

/// Names the directory of a graph.
fn directory_name(graph: &str) -> String {
    file_name("graph-", graph)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
