//! A source whose calls meet faults.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, Stream, StreamExt};

use super::script::{Course, Script, Site};
use crate::batch::BatchLimits;
use crate::context::Context;
use crate::error::Result;
use crate::id::SourceIdentity;
use crate::plugin::{AnyClient, ErasedSource};
use crate::position::{Partition, Position};
use crate::primitive::Kinds;
use crate::source::{Increments, SourceBatch};

/// Wraps a source: its calls meet the faults of a script.
#[must_use]
pub fn source(source: Arc<dyn ErasedSource>, script: &Script) -> Arc<dyn ErasedSource> {
    Arc::new(Faulty { source, script: script.clone() })
}

#[derive(Debug)]
struct Faulty {
    source: Arc<dyn ErasedSource>,
    script: Script,
}

impl ErasedSource for Faulty {
    fn output_kinds(&self) -> Kinds {
        self.source.output_kinds()
    }

    fn identity(&self, client: &AnyClient) -> Result<SourceIdentity> {
        self.source.identity(client)
    }

    fn partitions<'a>(
        &'a self,
        context: Context,
        client: &'a AnyClient,
    ) -> BoxFuture<'a, Result<Vec<Partition>>> {
        Box::pin(self.script.around(Site::Partitions, self.source.partitions(context, client)))
    }

    fn increments(&self) -> Result<Increments, &'static str> {
        self.source.increments()
    }

    fn unchanged<'a>(
        &'a self,
        partitions: &'a [(Partition, Arc<str>)],
        context: Context,
        client: &'a AnyClient,
    ) -> BoxFuture<'a, Result<Vec<bool>>> {
        self.source.unchanged(partitions, context, client)
    }

    fn read(
        self: Arc<Self>,
        partition: Partition,
        after: Option<Position>,
        context: Context,
        client: AnyClient,
        limits: BatchLimits,
    ) -> BoxStream<'static, Result<SourceBatch>> {
        let inner = self.source.clone().read(partition, after, context, client, limits);
        faulty(inner, self.script.clone()).boxed()
    }
}

/// The stream that a source's stream becomes. An error ends it.
pub(super) fn faulty(
    stream: impl Stream<Item = Result<SourceBatch>> + Send,
    script: Script,
) -> impl Stream<Item = Result<SourceBatch>> + Send {
    async_stream::try_stream! {
        let mut stream = std::pin::pin!(stream);
        loop {
            let course = script.meet(Site::Read).await?;
            let Some(read) = stream.next().await else {
                if let Course::Half(error) | Course::ThenFail(error) = course {
                    Err(error)?;
                }
                break;
            };
            let read = read?;
            match course {
                Course::Whole => yield read,
                Course::ThenFail(error) => Err(error)?,
                Course::Half(error) => {
                    if let Some(half) = half(&read) {
                        yield half;
                    }
                    Err(error)?;
                }
            }
        }
    }
}

/// Returns the first half of a batch, if it has one that can be read on after.
fn half(read: &SourceBatch) -> Option<SourceBatch> {
    let len = read.batch.len() / 2;
    // Where rejected records stand among the items is not known here.
    if len == 0 || !read.rejected.is_empty() {
        return None;
    }
    let after = read.batch.lineage(len - 1).root()?.position;
    Some(SourceBatch::new(read.batch.slice(0, len), after))
}
