//! Sources, actions and sinks as plain streams, without the engine.

use std::future::Future;
use std::sync::Arc;

use futures::stream::{BoxStream, Stream, StreamExt};

use crate::action::{Action, ErasedStateful};
use crate::batch::Batch;
use crate::context::{Context, OpenContext, ReadContext};
use crate::error::Result;
use crate::outcome::Outcomes;
use crate::position::{Partition, Position};
use crate::sink::{Sink, WriteStatus};
use crate::source::Source;

/// Reads a source as a stream of batches, partition after partition, from the beginning.
/// Records that cannot be read come as errors; the stream goes on behind them.
pub fn read<S: Source>(source: &S, client: Arc<S::Client>) -> impl Stream<Item = Result<Batch>> + Send {
    async_stream::stream! {
        let open = OpenContext::new(Context::detached(), client);
        let identity = source.identity(open.client());
        let context = ReadContext::new(open.clone(), identity, crate::batch::BatchLimits::default());
        let partitions = match source.partitions(&open).await {
            Ok(partitions) => partitions,
            Err(error) => {
                yield Err(error);
                return;
            }
        };
        for partition in partitions {
            for await read in read_partition(source, &partition, None, &context) {
                match read {
                    Ok(read) => {
                        yield Ok(read.batch);
                        for rejected in read.rejected {
                            yield Err(rejected.error);
                        }
                    }
                    Err(error) => yield Err(error),
                }
            }
        }
    }
}

fn read_partition<S: Source>(
    source: &S,
    partition: &Partition,
    after: Option<Position>,
    context: &ReadContext<S::Client>,
) -> impl Stream<Item = Result<crate::source::SourceBatch>> + Send {
    source.read(partition, after, context)
}

/// Adds [`apply`](Self::apply) to streams of batches.
pub trait ApplyExt: Stream<Item = Result<Batch>> + Send + Sized {
    /// Applies an action to every batch. Items that fail come as errors; the stream goes on
    /// behind them. What an action absorbs comes when it lets go of it, at the latest when the
    /// stream ends. There is no retry, no timeout and no concurrency: those are the engine's.
    fn apply<'a>(self, action: &'a Action, context: &'a Context) -> BoxStream<'a, Result<Batch>>
    where
        Self: 'a,
    {
        match action {
            Action::Transform(transform) => split(self.then(move |batch| async move {
                let batch = batch?;
                let mut outcomes = Vec::with_capacity(batch.len());
                for item in batch.iter() {
                    outcomes.push(
                        transform.call(item, context).await.unwrap_or_else(crate::outcome::Outcome::Fail),
                    );
                }
                Outcomes::collect(&batch, &context.step(), outcomes)
            })),
            Action::Batch(batch) => split(self.then(move |input| async move {
                let input = input?;
                let len = input.len();
                let outcomes = batch.call(input, context).await?;
                outcomes.check(len)?;
                Ok(outcomes)
            })),
            Action::Stateful(make) => {
                let state = make();
                split(async_stream::stream! {
                    let mut state = state;
                    let mut whole = true;
                    for await batch in self {
                        match batch {
                            Ok(batch) => {
                                let len = batch.len();
                                let outcomes = state.call(batch, 0, context).await;
                                let outcomes = outcomes.and_then(|outcomes| outcomes.check(len).map(|()| outcomes));
                                whole &= outcomes.is_ok();
                                yield outcomes;
                                for await released in release(&mut *state, false, context) {
                                    whole &= released.is_ok();
                                    yield released;
                                }
                            }
                            Err(error) => yield Err(error),
                        }
                    }
                    // What failed has left behind nobody knows what.
                    if whole {
                        for await released in release(&mut *state, true, context) {
                            yield released;
                        }
                    }
                })
            }
            Action::Pipe(pipe) => async_stream::stream! {
                let mut input = std::pin::pin!(self);
                while let Some(batch) = input.next().await {
                    match batch {
                        Ok(batch) => {
                            let epoch = futures::stream::iter([batch]).boxed();
                            for await output in pipe.call(epoch, context) {
                                yield output;
                            }
                        }
                        Err(error) => yield Err(error),
                    }
                }
            }
            .boxed(),
        }
    }
}

impl<S: Stream<Item = Result<Batch>> + Send + Sized> ApplyExt for S {}

/// What a stateful action lets go of, until there is no more for now.
fn release<'a>(
    state: &'a mut dyn ErasedStateful,
    ended: bool,
    context: &'a Context,
) -> impl Stream<Item = Result<Outcomes>> + Send + 'a {
    async_stream::stream! {
        loop {
            match state.release(ended, context).await {
                Ok(None) => break,
                Ok(Some(batch)) => yield Ok(Outcomes::same(batch)),
                Err(error) => {
                    yield Err(error);
                    break;
                }
            }
        }
    }
}

fn split<'a>(outcomes: impl Stream<Item = Result<Outcomes>> + Send + 'a) -> BoxStream<'a, Result<Batch>> {
    outcomes
        .flat_map(|outcomes| {
            let results: Vec<Result<Batch>> = match outcomes {
                Ok(outcomes) => {
                    let failed = outcomes.failed.into_iter().map(|(_, error)| Err(error));
                    std::iter::once(Ok(outcomes.emitted)).chain(failed).collect()
                }
                Err(error) => vec![Err(error)],
            };
            futures::stream::iter(results)
        })
        .boxed()
}

/// Adds [`drain`](Self::drain) to sinks.
pub trait DrainExt: Sink + Sized {
    /// Writes every batch of a stream, then closes the sink. Returns how many items are
    /// written; the first item that is not ends it with its error.
    fn drain(
        &self,
        stream: impl Stream<Item = Result<Batch>> + Send,
        context: &Context,
    ) -> impl Future<Output = Result<u64>> + Send {
        async move {
            let mut written = 0;
            let mut stream = std::pin::pin!(stream);
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                let report = self.write(&batch, context).await?;
                for (index, status) in report.others() {
                    match status {
                        WriteStatus::Applied | WriteStatus::AlreadyApplied => {}
                        WriteStatus::Rejected(error)
                        | WriteStatus::Retryable(error)
                        | WriteStatus::Ambiguous(error) => {
                            return Err(error.clone().at_item(batch.id(*index as usize)));
                        }
                    }
                }
                written += batch.len() as u64;
            }
            self.close(context).await?;
            Ok(written)
        }
    }
}

impl<S: Sink> DrainExt for S {}
