//! What running code is told about where it runs.

use std::fmt;
use std::sync::Arc;

use chrono::Utc;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::batch::{Batch, BatchLimits};
use crate::connection::NoClient;
use crate::error::{Error, Result};
use crate::id::{RunId, SourceIdentity};
use crate::lineage::Step;
use crate::metadata::{Metadata, Timestamp};
use crate::observability::{Meter, NoMeter};
use crate::position::{Position, Positions};
use crate::primitive::{Kind, Payload};
use crate::sink::Staging;
use crate::source::{Rejected, SourceBatch};
use crate::spill::Spill;

use arrow::array::RecordBatch;

/// Where code runs: graph, run, node, attempt. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
    attempt: u32,
}

#[derive(Clone)]
struct Inner {
    graph: Arc<str>,
    run: Option<RunId>,
    generation: Option<u64>,
    node: Arc<str>,
    operation: Arc<str>,
    parameters: Arc<Value>,
    cancel: CancellationToken,
    meter: Arc<dyn Meter>,
}

impl Context {
    /// A context outside any run: for tests, and for using an action without the engine.
    #[must_use]
    pub fn detached() -> Self {
        Self::new("", "detached", "detached")
    }

    /// The context of a node of a graph; `operation` is the name of the node's type.
    #[must_use]
    pub fn new(
        graph: impl Into<Arc<str>>,
        node: impl Into<Arc<str>>,
        operation: impl Into<Arc<str>>,
    ) -> Self {
        let inner = Inner {
            graph: graph.into(),
            run: None,
            generation: None,
            node: node.into(),
            operation: operation.into(),
            parameters: Arc::new(Value::Null),
            cancel: CancellationToken::new(),
            meter: Arc::new(NoMeter),
        };
        Self { inner: Arc::new(inner), attempt: 1 }
    }

    fn edit(mut self, edit: impl FnOnce(&mut Inner)) -> Self {
        edit(Arc::make_mut(&mut self.inner));
        self
    }

    /// Names the run.
    #[must_use]
    pub fn in_run(self, run: RunId) -> Self {
        self.edit(|inner| inner.run = Some(run))
    }

    /// Says in which generation an incremental run writes.
    #[must_use]
    pub fn in_generation(self, generation: u64) -> Self {
        self.edit(|inner| inner.generation = Some(generation))
    }

    /// Adds the parameters that go into lineage records.
    #[must_use]
    pub fn with_parameters(self, parameters: Arc<Value>) -> Self {
        self.edit(|inner| inner.parameters = parameters)
    }

    /// Sets what cancels the code.
    #[must_use]
    pub fn with_cancellation(self, cancel: CancellationToken) -> Self {
        self.edit(|inner| inner.cancel = cancel)
    }

    /// Sets who counts what calls use.
    #[must_use]
    pub fn with_meter(self, meter: Arc<dyn Meter>) -> Self {
        self.edit(|inner| inner.meter = meter)
    }

    /// Sets the number of this attempt, from one.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// Returns the graph's name.
    #[must_use]
    pub fn graph(&self) -> &Arc<str> {
        &self.inner.graph
    }

    /// Returns the run, unless there is none.
    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        self.inner.run
    }

    /// Returns the generation, in an incremental run: a number that grows from start to start.
    ///
    /// A source gives [versions](crate::Partition::version) then, and a sink keeps the generation
    /// and the [origin](crate::Origin) of each item that it writes.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.inner.generation
    }

    /// Returns the generation to keep with what is written: that of the run, or where it is not
    /// incremental the time, of which generations are made. What a replay of dead letters writes is
    /// not stale to an incremental run that began before it.
    #[must_use]
    pub fn generation_or_now(&self) -> u64 {
        let now = || u64::try_from(self.now().timestamp_millis()).unwrap_or(0);
        self.inner.generation.unwrap_or_else(now)
    }

    /// Returns the node's name.
    #[must_use]
    pub fn node(&self) -> &Arc<str> {
        &self.inner.node
    }

    /// Returns the name of the node's type.
    #[must_use]
    pub fn operation(&self) -> &Arc<str> {
        &self.inner.operation
    }

    /// Returns the number of this attempt, from one.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns what cancels the code. Long loops look at it now and then.
    #[must_use]
    pub fn cancellation(&self) -> &CancellationToken {
        &self.inner.cancel
    }

    /// Returns who counts what calls use.
    #[must_use]
    pub fn meter(&self) -> &dyn Meter {
        &*self.inner.meter
    }

    /// Returns the time, for envelopes and lineage.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Utc::now()
    }

    /// Returns a lineage step of this node, at this time: one serves a batch.
    #[must_use]
    pub fn step(&self) -> Arc<Step> {
        let step = Step::new(self.inner.node.clone(), self.inner.operation.clone(), self.now());
        Arc::new(step.with_parameters(self.inner.parameters.clone()))
    }

    /// Returns a new envelope for what this node makes: one serves a batch.
    #[must_use]
    pub fn metadata(&self) -> Arc<Metadata> {
        let mut metadata = Metadata::new(self.inner.graph.clone(), self.inner.node.clone(), self.now());
        metadata.run = self.inner.run;
        Arc::new(metadata)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("graph", &self.inner.graph)
            .field("run", &self.inner.run)
            .field("node", &self.inner.node)
            .field("attempt", &self.attempt)
            .finish()
    }
}

/// What a node is told when it is opened: where it runs, and the client of its connection.
#[derive(Debug)]
pub struct OpenContext<C = NoClient> {
    context: Context,
    client: Arc<C>,
    staging: Staging,
    spill: Spill,
}

impl<C> OpenContext<C> {
    /// Puts a context and a client together.
    #[must_use]
    pub fn new(context: Context, client: Arc<C>) -> Self {
        Self { context, client, staging: Staging::Off, spill: Spill::temporary() }
    }

    /// Says whether the sink that is opened is to stage what it writes.
    #[must_use]
    pub fn with_staging(mut self, staging: Staging) -> Self {
        self.staging = staging;
        self
    }

    /// Returns whether the sink that is opened is to stage what it writes.
    #[must_use]
    pub fn staging(&self) -> &Staging {
        &self.staging
    }

    /// Says where the node keeps what does not fit into memory. Default a temporary folder.
    #[must_use]
    pub fn with_spill(mut self, spill: Spill) -> Self {
        self.spill = spill;
        self
    }

    /// Returns where the node keeps what does not fit into memory.
    #[must_use]
    pub fn spill(&self) -> &Spill {
        &self.spill
    }

    /// Returns where the node runs.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Returns the client of the node's connection.
    #[must_use]
    pub fn client(&self) -> &Arc<C> {
        &self.client
    }
}

impl<C> Clone for OpenContext<C> {
    fn clone(&self) -> Self {
        Self {
            context: self.context.clone(),
            client: self.client.clone(),
            staging: self.staging.clone(),
            spill: self.spill.clone(),
        }
    }
}

/// What a source is told when it reads: where it runs, its client, its identity, and how
/// large batches should be.
#[derive(Debug)]
pub struct ReadContext<C = NoClient> {
    open: OpenContext<C>,
    identity: SourceIdentity,
    limits: BatchLimits,
}

impl<C> ReadContext<C> {
    /// Puts together what a source is told.
    #[must_use]
    pub fn new(open: OpenContext<C>, identity: SourceIdentity, limits: BatchLimits) -> Self {
        Self { open, identity, limits }
    }

    /// Returns where the source runs.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.open.context
    }

    /// Returns the client of the source's connection.
    #[must_use]
    pub fn client(&self) -> &Arc<C> {
        &self.open.client
    }

    /// Returns the source's identity.
    #[must_use]
    pub fn identity(&self) -> &SourceIdentity {
        &self.identity
    }

    /// Returns how large batches should be at the most.
    #[must_use]
    pub fn limits(&self) -> BatchLimits {
        self.limits
    }

    /// Makes a batch of what was read: payloads with their positions. Reading on begins after
    /// `after`.
    ///
    /// # Errors
    ///
    /// `internal` if there are not as many positions as payloads.
    pub fn items<K: Kind>(
        &self,
        payloads: impl IntoIterator<Item = K>,
        positions: Positions,
        after: Position,
    ) -> Result<SourceBatch> {
        let payloads: Vec<Payload> = payloads.into_iter().map(Kind::into_payload).collect();
        let (step, metadata) = (self.open.context.step(), self.open.context.metadata());
        Ok(SourceBatch::new(Batch::read(payloads, positions, &self.identity, step, metadata)?, after))
    }

    /// Makes a batch of what was read: rows with their positions. Reading on begins after
    /// `after`.
    ///
    /// # Errors
    ///
    /// `internal` if there are not as many positions as rows.
    pub fn rows(&self, rows: RecordBatch, positions: Positions, after: Position) -> Result<SourceBatch> {
        let (step, metadata) = (self.open.context.step(), self.open.context.metadata());
        Ok(SourceBatch::new(Batch::read_rows(rows, positions, &self.identity, step, metadata)?, after))
    }

    /// Makes a record of something that could not be read: `raw` as it stands in the source.
    ///
    /// # Errors
    ///
    /// `internal` if the position does not make a batch of one, which cannot be.
    pub fn reject(&self, raw: impl Into<Payload>, position: Position, error: Error) -> Result<Rejected> {
        let (step, metadata) = (self.open.context.step(), self.open.context.metadata());
        let error = error.at_item(&position);
        let batch =
            Batch::read(vec![raw.into()], Positions::each([position]), &self.identity, step, metadata)?;
        Ok(Rejected { primitive: batch.primitive(0), error })
    }
}

impl<C> Clone for ReadContext<C> {
    fn clone(&self) -> Self {
        Self { open: self.open.clone(), identity: self.identity.clone(), limits: self.limits }
    }
}
