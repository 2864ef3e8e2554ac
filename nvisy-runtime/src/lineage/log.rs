//! The log of a run that goes on: rows are gathered in memory, and written by other threads.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nvisy_core::{Batch, Error, Result, RunId};
use tokio::sync::Mutex as AsyncMutex;

use super::files::Files;
use super::rows::Rows;
use crate::checkpoint::blocking;

/// How many rows are gathered before they are written.
const ROWS: usize = 1 << 16;
/// How many bytes of them, about.
const BYTES: usize = 8 << 20;

/// Writes down what sinks have written.
pub(crate) struct Log {
    rows: Mutex<Rows>,
    /// One thread at a time writes; who is next waits, so that no more is gathered meanwhile.
    files: Arc<AsyncMutex<Files>>,
}

impl Log {
    /// Opens the log of a run in a directory, which is made.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) async fn open(directory: PathBuf, run: RunId, graph: String) -> Result<Self> {
        let files = blocking(move || Files::open(&directory, run, &graph)).await?;
        Ok(Self { rows: Mutex::default(), files: Arc::new(AsyncMutex::new(files)) })
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a sink has written.
    ///
    /// # Cancellation
    ///
    /// Dropped, it has noted all.
    pub(crate) async fn note(&self, sink: &str, batch: &Batch) {
        let full = {
            let mut rows = self.rows();
            rows.push(sink, batch);
            rows.len() >= ROWS || rows.bytes() >= BYTES
        };
        if !full {
            return;
        }
        let mut files = self.files.clone().lock_owned().await;
        // From here on nothing waits: rows that are taken out are written.
        let taken = self.rows().take();
        drop(tokio::task::spawn_blocking(move || match taken {
            Ok(rows) => files.write(&rows),
            Err(error) => files.fail(unwritable(error)),
        }));
    }

    /// Makes durable what was noted before.
    ///
    /// # Errors
    ///
    /// If that, or anything since the log was opened, could not be written.
    pub(crate) async fn durable(&self) -> Result<()> {
        let mut files = self.files.clone().lock_owned().await;
        let taken = self.rows().take();
        blocking(move || {
            let rows = taken.map_err(unwritable)?;
            files.seal(&rows)
        })
        .await
    }
}

fn unwritable(error: arrow::error::ArrowError) -> Error {
    Error::internal("rows of the log of lineage do not fit together").with_source(error)
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}
