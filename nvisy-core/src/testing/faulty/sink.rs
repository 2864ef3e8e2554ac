//! A sink whose calls meet faults.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::script::{Course, Script, Site};
use crate::batch::{Batch, BatchLimits};
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result, RetryClass};
use crate::plugin::{AnyClient, ErasedSink, ErasedSinkConfig};
use crate::primitive::Kinds;
use crate::replace::ReplaceSet;
use crate::sink::{Guarantee, Sink, Staging, WriteReport, WriteStatus};

/// Wraps an open sink: its calls meet the faults of a script.
#[must_use]
pub fn sink(sink: Arc<dyn ErasedSink>, script: &Script) -> Arc<dyn ErasedSink> {
    Arc::new(OpenFaultySink { sink, script: script.clone() })
}

/// Wraps a sink's config: opening it and the calls of what it opens meet the faults of a script.
#[must_use]
pub fn sink_config(config: Arc<dyn ErasedSinkConfig>, script: &Script) -> Arc<dyn ErasedSinkConfig> {
    Arc::new(FaultyConfig { config, script: script.clone() })
}

/// An open sink whose calls meet faults.
pub struct OpenFaultySink {
    sink: Arc<dyn ErasedSink>,
    script: Script,
}

impl OpenFaultySink {
    pub(super) fn new(sink: impl Sink, script: Script) -> Self {
        Self { sink: Arc::new(sink), script }
    }
}

impl Sink for OpenFaultySink {
    async fn write(&self, batch: &Batch, context: &Context) -> Result<WriteReport> {
        match self.script.meet(Site::Write).await? {
            Course::Whole => self.sink.write(batch, context).await,
            Course::ThenFail(error) => {
                self.sink.write(batch, context).await?;
                Err(error)
            }
            Course::Half(error) => {
                let good: Vec<u32> = (1..batch.len() as u32).step_by(2).collect();
                // The tokens stay with the caller's batch.
                let half = batch.without_tokens().select(&good);
                let written = self.sink.write(&half, context).await?;
                let mut report = WriteReport::applied(batch.len());
                for (index, status) in written.others() {
                    if let Some(index) = good.get(*index as usize) {
                        report = report.with(*index, status.clone());
                    }
                }
                Ok((0..batch.len() as u32)
                    .step_by(2)
                    .fold(report, |report, bad| report.with(bad, status(&error))))
            }
        }
    }

    async fn flush(&self, context: &Context) -> Result<()> {
        self.script.around(Site::Flush, self.sink.flush(context)).await
    }

    async fn stage(&self, context: &Context) -> Result<Option<Bytes>> {
        self.script.around(Site::Flush, self.sink.stage(context)).await
    }

    async fn publish(&self, staged: &Bytes, context: &Context) -> Result<()> {
        self.script.around(Site::Publish, self.sink.publish(staged, context)).await
    }

    async fn replace(&self, sets: &[ReplaceSet], context: &Context) -> Result<u64> {
        self.script.around(Site::Replace, self.sink.replace(sets, context)).await
    }

    async fn close(&self, context: &Context) -> Result<()> {
        self.script.around(Site::Close, self.sink.close(context)).await
    }
}

fn status(error: &Error) -> WriteStatus {
    match (error.kind(), error.retry_class()) {
        (ErrorKind::Ambiguous, _) => WriteStatus::Ambiguous(error.clone()),
        (_, RetryClass::Transient) => WriteStatus::Retryable(error.clone()),
        _ => WriteStatus::Rejected(error.clone()),
    }
}

impl fmt::Debug for OpenFaultySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenFaultySink").field("script", &self.script).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct FaultyConfig {
    config: Arc<dyn ErasedSinkConfig>,
    script: Script,
}

impl ErasedSinkConfig for FaultyConfig {
    fn input_kinds(&self) -> Kinds {
        self.config.input_kinds()
    }

    fn guarantee(&self) -> Guarantee {
        self.config.guarantee()
    }

    fn replayed(&self) -> Option<String> {
        self.config.replayed()
    }

    fn optimum(&self) -> BatchLimits {
        self.config.optimum()
    }

    fn concurrency(&self) -> usize {
        self.config.concurrency()
    }

    fn buffers(&self) -> bool {
        self.config.buffers()
    }

    fn stages(&self) -> bool {
        self.config.stages()
    }

    fn remembers(&self) -> bool {
        self.config.remembers()
    }

    fn replaces(&self) -> bool {
        self.config.replaces()
    }

    fn open<'a>(
        &'a self,
        context: Context,
        client: &'a AnyClient,
        staging: Staging,
    ) -> BoxFuture<'a, Result<Arc<dyn ErasedSink>>> {
        Box::pin(async move {
            let opened = self.script.around(Site::Open, self.config.open(context, client, staging)).await?;
            Ok(sink(opened, &self.script))
        })
    }
}
