//! The plan of a rehearsal: sources give a sample, calls are counted and not made, sinks take
//! everything and keep nothing.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{BoxStream, StreamExt};
use nvisy_core::action::{ErasedBatch, ErasedTransform};
use nvisy_core::plugin::{AnyClient, ErasedActionConfig, ErasedSink, ErasedSinkConfig, ErasedSource};
use nvisy_core::{
    Action, Any, Batch, BatchLimits, Calls, Context, Guarantee, Increments, Kinds, Outcome, Outcomes,
    Partition, Position, Primitive, ReplaceSet, Result, SourceBatch, SourceIdentity, Spill, Staging,
    WriteReport,
};

use super::{Forecast, ITEMS, PARTITIONS, Samples, SourceForecast, Tallies, Tally, Work};
use crate::compiler::ExecutionPlan;
use crate::engine::report::IncrementReport;

/// Why an item goes no further.
const NOT_CALLED: &str = "a dry run makes no calls";

/// Returns the plan that rehearses another one, and what it will have counted, node by node.
pub(super) fn rehearsed(plan: &ExecutionPlan) -> (ExecutionPlan, Samples, Tallies) {
    let mut parts = (*plan.0).clone();
    // Where it keeps its state is for whoever runs it.
    parts.graph.settings.checkpoint = None;
    for connection in &mut parts.connections {
        connection.rate_limit = None;
    }
    let (mut samples, mut tallies) = (Samples::new(), Tallies::new());
    for node in &mut parts.nodes {
        let (mut sample, mut tally) = (None, None);
        node.rate_limit = None;
        match &mut node.work {
            Work::Source { config, .. } => {
                let seen = Arc::new(Sample::default());
                *config = Arc::new(Sampled { config: config.clone(), sample: seen.clone() });
                sample = Some(seen);
            }
            Work::Action(config) if node.calls != Calls::None => {
                let counted = Arc::new(Mutex::new(Tally::default()));
                *config = Arc::new(Uncalled { config: config.clone(), tally: counted.clone() });
                tally = Some(counted);
            }
            Work::Sink(config) => *config = Arc::new(Unwritten(config.clone())),
            _ => {}
        }
        samples.push(sample);
        tallies.push(tally);
    }
    (ExecutionPlan(Arc::new(parts)), samples, tallies)
}

/// What was seen of a source.
#[derive(Debug, Default)]
pub(super) struct Sample(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    partitions: u64,
    /// Partitions that are to be read.
    open: u64,
    /// Partitions that were read, and those of them that were to their end.
    looked_into: u64,
    read_to_the_end: u64,
    /// Items of the partitions that are to be read; none where one cannot tell.
    told: Option<u64>,
    items: u64,
    bytes: u64,
}

impl Sample {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A partition is to be read. Returns how many of its items.
    fn open(&self, partition: &Partition, after: Option<&Position>) -> u64 {
        let mut seen = self.seen();
        // How many are behind a position, the source does not tell.
        let items = partition.items.filter(|_| after.is_none());
        seen.told = seen.told.zip(items).map(|(told, items)| told.saturating_add(items));
        seen.open += 1;
        if seen.looked_into >= PARTITIONS || seen.items >= ITEMS {
            return 0;
        }
        seen.looked_into += 1;
        ITEMS / seen.partitions.clamp(1, PARTITIONS)
    }

    pub(super) fn forecast(&self, name: &Arc<str>, increment: Option<IncrementReport>) -> SourceForecast {
        let seen = self.seen();
        let all = |n: u64| match (seen.looked_into, seen.read_to_the_end) {
            (looked, ended) if ended < looked => Forecast::MoreThan(n),
            (looked, _) if looked < seen.open => {
                Forecast::About((n as f64 * seen.open as f64 / looked as f64).round() as u64)
            }
            _ => Forecast::Exactly(n),
        };
        let items = match seen.told {
            Some(told) if told >= seen.items => Forecast::Exactly(told),
            _ => all(seen.items),
        };
        let bytes = match items {
            Forecast::Exactly(_) if seen.items < items.number() => items.of(seen.bytes, seen.items),
            _ => all(seen.bytes),
        };
        SourceForecast {
            name: name.clone(),
            partitions: seen.partitions,
            open: seen.open,
            increment,
            items,
            bytes,
            sampled: seen.items,
        }
    }
}

/// A source that ends after a sample.
struct Sampled {
    config: Arc<dyn ErasedSource>,
    sample: Arc<Sample>,
}

impl fmt::Debug for Sampled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl ErasedSource for Sampled {
    fn output_kinds(&self) -> Kinds {
        self.config.output_kinds()
    }

    fn identity(&self, client: &AnyClient) -> Result<SourceIdentity> {
        self.config.identity(client)
    }

    fn increments(&self) -> std::result::Result<Increments, &'static str> {
        self.config.increments()
    }

    fn unchanged<'a>(
        &'a self,
        partitions: &'a [(Partition, Arc<str>)],
        context: Context,
        client: &'a AnyClient,
    ) -> BoxFuture<'a, Result<Vec<bool>>> {
        self.config.unchanged(partitions, context, client)
    }

    fn partitions<'a>(
        &'a self,
        context: Context,
        client: &'a AnyClient,
    ) -> BoxFuture<'a, Result<Vec<Partition>>> {
        async move {
            let partitions = self.config.partitions(context, client).await?;
            let mut seen = self.sample.seen();
            (seen.partitions, seen.told) = (partitions.len() as u64, Some(0));
            drop(seen);
            Ok(partitions)
        }
        .boxed()
    }

    fn read(
        self: Arc<Self>,
        partition: Partition,
        after: Option<Position>,
        context: Context,
        client: AnyClient,
        limits: BatchLimits,
    ) -> BoxStream<'static, Result<SourceBatch>> {
        let share = self.sample.open(&partition, after.as_ref());
        if share == 0 {
            return futures::stream::empty().boxed();
        }
        let limits = BatchLimits { items: limits.items.min(share as usize), ..limits };
        let mut read = self.config.clone().read(partition, after, context, client, limits);
        async_stream::stream! {
            let mut items = 0;
            while items < share {
                let Some(next) = read.next().await else {
                    self.sample.seen().read_to_the_end += 1;
                    return;
                };
                if let Ok(batch) = &next {
                    let came = (batch.batch.len() + batch.rejected.len()) as u64;
                    items += came;
                    let mut seen = self.sample.seen();
                    seen.items += came;
                    seen.bytes += batch.batch.bytes() as u64;
                }
                yield next;
            }
            // One that ends just there is not taken for one that goes on.
            if read.next().await.is_none() {
                self.sample.seen().read_to_the_end += 1;
            }
        }
        .boxed()
    }
}

/// An action that is built, and not called.
struct Uncalled {
    config: Arc<dyn ErasedActionConfig>,
    tally: Arc<Mutex<Tally>>,
}

impl fmt::Debug for Uncalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl ErasedActionConfig for Uncalled {
    fn inputs(&self) -> usize {
        self.config.inputs()
    }

    fn type_kinds(&self) -> Kinds {
        self.config.type_kinds()
    }

    fn input_kinds(&self) -> Kinds {
        self.config.input_kinds()
    }

    fn output_kinds(&self, input: Kinds) -> Kinds {
        self.config.output_kinds(input)
    }

    fn calls(&self) -> Calls {
        self.config.calls()
    }

    fn version(&self) -> &'static str {
        self.config.version()
    }

    fn optimum(&self) -> Option<BatchLimits> {
        self.config.optimum()
    }

    fn is_columnar(&self) -> bool {
        self.config.is_columnar()
    }

    fn build<'a>(
        &'a self,
        context: Context,
        client: &'a AnyClient,
        spill: Spill,
    ) -> BoxFuture<'a, Result<Action>> {
        async move {
            let tally = self.tally.clone();
            Ok(match self.config.build(context, client, spill).await? {
                Action::Transform(_) => Action::Transform(Arc::new(Counted { weighs: None, tally })),
                Action::Batch(batch) => Action::Batch(Arc::new(Counted {
                    weighs: Some(batch).filter(|batch| batch.weighs()),
                    tally,
                })),
                Action::Stateful(_) | Action::Pipe(_) => {
                    Action::Batch(Arc::new(Counted { weighs: None, tally }))
                }
            })
        }
        .boxed()
    }
}

/// Counts what an action would be called with.
struct Counted {
    weighs: Option<Arc<dyn ErasedBatch>>,
    tally: Arc<Mutex<Tally>>,
}

impl Counted {
    fn count(&self, items: u64, tokens: Option<u64>) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.items += items;
        tally.tokens = tokens.map(|tokens| tokens + tally.tokens.unwrap_or(0));
    }
}

impl ErasedTransform for Counted {
    fn call<'a>(&'a self, _: Primitive, _: &'a Context) -> BoxFuture<'a, Result<Outcome<Any>>> {
        self.count(1, None);
        std::future::ready(Ok(Outcome::drop(NOT_CALLED))).boxed()
    }
}

impl ErasedBatch for Counted {
    fn call<'a>(&'a self, batch: Batch, context: &'a Context) -> BoxFuture<'a, Result<Outcomes>> {
        let tokens = self.weighs.as_ref().map(|action| batch.iter().map(|item| action.weigh(&item)).sum());
        self.count(batch.len() as u64, tokens);
        let outcomes = batch.iter().map(|_| Outcome::<Any>::drop(NOT_CALLED)).collect();
        std::future::ready(Outcomes::collect(&batch, &context.step(), outcomes)).boxed()
    }

    fn weigh(&self, item: &Primitive) -> u64 {
        self.weighs.as_ref().map_or(0, |action| action.weigh(item))
    }

    fn weighs(&self) -> bool {
        self.weighs.is_some()
    }
}

/// A sink that is not opened: it takes everything, and keeps nothing.
struct Unwritten(Arc<dyn ErasedSinkConfig>);

impl fmt::Debug for Unwritten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ErasedSinkConfig for Unwritten {
    fn input_kinds(&self) -> Kinds {
        self.0.input_kinds()
    }

    fn guarantee(&self) -> Guarantee {
        self.0.guarantee()
    }

    fn replayed(&self) -> Option<String> {
        self.0.replayed()
    }

    fn optimum(&self) -> BatchLimits {
        self.0.optimum()
    }

    fn concurrency(&self) -> usize {
        self.0.concurrency()
    }

    fn buffers(&self) -> bool {
        false
    }

    fn stages(&self) -> bool {
        false
    }

    fn remembers(&self) -> bool {
        false
    }

    fn replaces(&self) -> bool {
        self.0.replaces()
    }

    fn open<'a>(
        &'a self,
        _: Context,
        _: &'a AnyClient,
        _: Staging,
    ) -> BoxFuture<'a, Result<Arc<dyn ErasedSink>>> {
        std::future::ready(Ok(Arc::new(Nowhere) as Arc<dyn ErasedSink>)).boxed()
    }
}

struct Nowhere;

impl ErasedSink for Nowhere {
    fn write<'a>(&'a self, batch: &'a Batch, _: &'a Context) -> BoxFuture<'a, Result<WriteReport>> {
        std::future::ready(Ok(WriteReport::applied(batch.len()))).boxed()
    }

    fn flush<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }

    fn stage<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<Option<Bytes>>> {
        std::future::ready(Ok(None)).boxed()
    }

    fn publish<'a>(&'a self, _: &'a Bytes, _: &'a Context) -> BoxFuture<'a, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }

    fn replace<'a>(&'a self, _: &'a [ReplaceSet], _: &'a Context) -> BoxFuture<'a, Result<u64>> {
        std::future::ready(Ok(0)).boxed()
    }

    fn close<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }
}
