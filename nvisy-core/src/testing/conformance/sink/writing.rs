//! Writing into a target, and looking what is in it.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::{SinkHarness, Target};
use crate::batch::Batch;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::id::SourceIdentity;
use crate::plugin::ErasedSink;
use crate::position::Positions;
use crate::primitive::Payload;
use crate::sink::{Staging, WriteReport, WriteStatus};
use crate::testing::conformance::examiner::Seen;

impl SinkHarness {
    pub(super) async fn target(&self, seen: &Seen) -> Result<Target, String> {
        (self.fresh)().await.map_err(|error| seen.unexpected("there is no target", &error))
    }

    /// Returns a batch of the items from `first` on.
    pub(super) fn batch(&self, first: u64, len: usize) -> Result<Batch, String> {
        batch((first..).take(len).map(|n| (self.item)(n)).collect(), first)
    }

    /// Returns what the target has to show for the items of a batch.
    pub(super) fn shown(&self, batch: &Batch) -> Vec<Value> {
        batch.iter().map(|item| (self.show)(&item)).collect()
    }
}

/// Returns a batch of payloads whose ids begin with that of the `first` number.
pub(super) fn batch(payloads: Vec<Payload>, first: u64) -> Result<Batch, String> {
    let (context, source) = (Context::detached(), SourceIdentity::new("conformance"));
    let batch = Batch::read(payloads, Positions::from(first), &source, context.step(), context.metadata());
    batch.map_err(|error| error.to_string())
}

impl Target {
    pub(super) async fn open(&self, seen: &Seen) -> Result<Arc<dyn ErasedSink>, String> {
        self.open_staging(Staging::Off, seen).await
    }

    pub(super) async fn open_staging(
        &self,
        staging: Staging,
        seen: &Seen,
    ) -> Result<Arc<dyn ErasedSink>, String> {
        let opened = self.config.open(Context::detached(), &self.client, staging).await;
        opened.map_err(|error| seen.unexpected("it does not open", &error))
    }

    pub(super) async fn found(&self, seen: &Seen) -> Result<Vec<Value>, String> {
        (self.read_back)().await.map_err(|error| seen.unexpected("it cannot be read back", &error))
    }

    /// Opens, writes batches that have to be applied whole, and closes.
    pub(super) async fn write_all(&self, batches: &[Batch], seen: &Seen) -> Result<(), String> {
        let sink = self.open(seen).await?;
        for batch in batches {
            applied(&*sink, batch, seen).await?;
        }
        close(&*sink, seen).await
    }
}

/// Writes a batch, every item of which has to be applied.
pub(super) async fn applied(sink: &dyn ErasedSink, batch: &Batch, seen: &Seen) -> Result<(), String> {
    let report = write(sink, batch, seen).await?;
    for (index, status) in report.others() {
        if let Some(error) = error_of(status) {
            return Err(seen.unexpected(&format!("item {index} is not written"), error));
        }
    }
    Ok(())
}

/// Writes a batch. The report has to speak of every item.
pub(super) async fn write(sink: &dyn ErasedSink, batch: &Batch, seen: &Seen) -> Result<WriteReport, String> {
    let written = sink.write(batch, &Context::detached()).await;
    let report = written.map_err(|error| seen.unexpected("it does not write", &error))?;
    report.others().iter().filter_map(|(_, status)| error_of(status)).for_each(|error| seen.error(error));
    report.check(batch.len()).map_err(|error| error.message().to_owned())?;
    Ok(report)
}

pub(super) async fn flush(sink: &dyn ErasedSink, seen: &Seen) -> Result<(), String> {
    sink.flush(&Context::detached()).await.map_err(|error| seen.unexpected("it does not flush", &error))
}

/// Stages what was written, of which there has to be something.
pub(super) async fn stage(sink: &dyn ErasedSink, seen: &Seen) -> Result<Bytes, String> {
    let staged = sink.stage(&Context::detached()).await;
    let staged = staged.map_err(|error| seen.unexpected("it does not stage", &error))?;
    staged.ok_or_else(|| "it has staged what was written, and says there is nothing".to_owned())
}

pub(super) async fn publish(sink: &dyn ErasedSink, staged: &Bytes, seen: &Seen) -> Result<(), String> {
    let published = sink.publish(staged, &Context::detached()).await;
    published.map_err(|error| seen.unexpected("it does not publish", &error))
}

pub(super) async fn close(sink: &dyn ErasedSink, seen: &Seen) -> Result<(), String> {
    sink.close(&Context::detached()).await.map_err(|error| seen.unexpected("it does not close", &error))
}

pub(super) fn error_of(status: &WriteStatus) -> Option<&Error> {
    match status {
        WriteStatus::Applied | WriteStatus::AlreadyApplied => None,
        WriteStatus::Rejected(error) | WriteStatus::Retryable(error) | WriteStatus::Ambiguous(error) => {
            Some(error)
        }
    }
}
