//! The log of lineage, as the engine sees it: noted before it is settled, durable before a
//! checkpoint. Without the feature `lineage` there is none.

use std::path::Path;
use std::sync::Arc;

use nvisy_core::{Batch, Result, RunId};

use super::call::Failure;
#[cfg(feature = "lineage")]
use crate::lineage::Log;

/// Where a run logs what its sinks have written, if it does.
#[derive(Clone, Debug, Default)]
pub(super) struct LineageLog(Option<Arc<Log>>);

impl LineageLog {
    /// Opens the log of a run, if there is a place for it.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(super) async fn open(directory: Option<&Path>, run: RunId, graph: &str) -> Result<Self> {
        let Some(directory) = directory else { return Ok(Self::default()) };
        let log = Log::open(directory.to_owned(), run, graph.to_owned()).await?;
        Ok(Self(Some(Arc::new(log))))
    }

    /// Notes what a sink has written: all but what failed, which stands in ascending order.
    pub(super) async fn note(&self, sink: &str, batch: &Batch, failed: &[Failure]) {
        let Some(log) = &self.0 else { return };
        match failed {
            [] => log.note(sink, batch).await,
            _ => log.note(sink, &without(batch, failed)).await,
        }
    }

    /// Makes durable what was noted before.
    ///
    /// # Errors
    ///
    /// If it cannot be written: nothing may count as done that is not in it.
    pub(super) async fn durable(&self) -> Result<()> {
        match &self.0 {
            Some(log) => log.durable().await,
            None => Ok(()),
        }
    }
}

fn without(batch: &Batch, failed: &[Failure]) -> Batch {
    let mut failed = failed.iter().map(|failure| failure.index).peekable();
    let others: Vec<u32> = (0..batch.len() as u32).filter(|at| failed.next_if_eq(at).is_none()).collect();
    batch.without_tokens().select(&others)
}

/// There is no value of this.
#[cfg(not(feature = "lineage"))]
#[derive(Debug)]
enum Log {}

#[cfg(not(feature = "lineage"))]
impl Log {
    async fn open(_: std::path::PathBuf, _: RunId, _: String) -> Result<Self> {
        Err(nvisy_core::Error::configuration("a log of lineage needs the feature `lineage`"))
    }

    async fn note(&self, _: &str, _: &Batch) {
        match *self {}
    }

    async fn durable(&self) -> Result<()> {
        match *self {}
    }
}
