//! From a plan to nodes that are ready to run: secrets, connections, actions, sinks, edges.

mod connections;
mod work;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nvisy_core::{Action, Context, Error, Result, RunId, Spill};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(super) use self::connections::Connections;
use super::Engine;
use super::call::{AdaptiveSize, Caller};
use super::checkpoint::{self, Checkpointer, Journal, Memory, Phase, Recalling, Request, Stage};
use super::connection::ConnectionState;
use super::edge::{EdgeCount, Receiver, Sender, edge};
use super::flood::Flood;
use super::ledger::NodeMeter;
use super::lineage::LineageLog;
use super::memo::Memo;
use super::node::{Built, Node};
use super::outlet::{Outlet, Outlets};
use super::run::required;
use super::tracker::{Asks, Bounds, SharedTracker, Tracker};
use crate::compiler::DEFAULT_UNCOMMITTED_ITEMS;
use crate::compiler::plan::{ExecutionPlan, PlanNode, PlanParts, Port, Work};
use crate::disk::file_name;
use crate::graph::policy::Ways;
use crate::memo::MemoStore;

/// How much a source may have on its way.
const CREDIT_ITEMS: u64 = 65_536;
const CREDIT_BYTES: u64 = 64 << 20;

/// A run that is ready to start.
pub(super) struct Prepared {
    pub(super) run: RunId,
    pub(super) plan: ExecutionPlan,
    pub(super) nodes: Vec<Node>,
    pub(super) meters: Vec<Arc<NodeMeter>>,
    pub(super) edges: Vec<EdgeCount>,
    /// The trackers of the sources, and what stops each, by node.
    pub(super) sources: Vec<(usize, Arc<SharedTracker>, CancellationToken)>,
    /// What remembers, by node.
    pub(super) memories: Vec<(usize, Arc<Memory>)>,
    pub(super) connections: Connections,
    pub(super) checkpointer: Option<Checkpointer>,
    pub(super) lineage: LineageLog,
    pub(super) cancel: CancellationToken,
    pub(super) drain: CancellationToken,
    /// Since when the run's timeout counts.
    pub(super) began: Instant,
}

/// Makes a plan ready to run, within the time that the run may take.
pub(super) async fn prepare(engine: &Engine, plan: &ExecutionPlan) -> Result<Prepared> {
    let began = Instant::now();
    // First: of two runs of a graph one is refused before it has touched anything.
    let engine = &engine.keeping(plan)?;
    let mut journal = match &engine.0.checkpoints {
        None => None,
        Some(store) => {
            let (plan, registry, accepted) = (&*plan.0, &engine.0.registry, &engine.0.accepted_changes);
            let open = within(began, plan, store.open(&plan.graph.name)).await?;
            let mut journal = Journal::open(open, plan, registry, accepted, uncommitted(plan))?;
            journal.begin().await?;
            Some(journal)
        }
    };
    let connections = match within(began, &plan.0, Connections::connect(engine, plan)).await {
        Ok(connections) => connections,
        Err(error) => {
            if let Some(journal) = &mut journal {
                journal.leave().await;
            }
            return Err(error);
        }
    };
    match build(began, engine, plan, journal, &connections).await {
        Ok(built) => {
            let (builder, nodes, sources, checkpointer) = built;
            let Builder { run, meters, cancel, drain, counts, memories, lineage, .. } = builder;
            Ok(Prepared {
                run,
                plan: plan.clone(),
                nodes,
                meters,
                edges: counts,
                sources,
                memories,
                connections,
                checkpointer,
                lineage,
                cancel,
                drain,
                began,
            })
        }
        Err(error) => {
            connections.disconnect().await;
            Err(error)
        }
    }
}

/// Does something within the time that the run may take. Dropped half way, it lets go of what it has
/// opened.
async fn within<T>(began: Instant, plan: &PlanParts, work: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(timeout) = plan.timeout else { return work.await };
    let done = tokio::time::timeout_at(super::moment::after(began, timeout), work).await;
    done.unwrap_or_else(|_| Err(super::executor::too_long(timeout)))
}

async fn build<'a>(
    began: Instant,
    engine: &Engine,
    plan: &'a ExecutionPlan,
    journal: Option<Journal>,
    connections: &Connections,
) -> Result<(Builder<'a>, Vec<Node>, Sources, Option<Checkpointer>)> {
    let (phase, phase_seen) = watch::channel(Phase::Read);
    let mut builder = Builder::new(engine, plan, journal, phase_seen);
    let directory = engine.0.lineage.as_ref().and_then(Option::as_deref);
    let (nodes, sources) = match within(began, &plan.0, builder.build(directory, connections)).await {
        Ok(built) => built,
        Err(error) => {
            if let Some(journal) = &mut builder.journal {
                journal.leave().await;
            }
            return Err(error);
        }
    };
    let Some(journal) = builder.journal.take() else { return Ok((builder, nodes, sources, None)) };
    let stages = (std::mem::take(&mut builder.stages), std::mem::take(&mut builder.recalling));
    let request = builder.request.clone();
    let memories = builder.memories.iter().map(|(_, memory)| memory.clone()).collect();
    let every = builder.plan.checkpoint_every;
    let checkpointer = Checkpointer::new(journal, stages, memories, every, phase, request);
    Ok((builder, nodes, sources, Some(checkpointer)))
}

type Sources = Vec<(usize, Arc<SharedTracker>, CancellationToken)>;

struct Builder<'a> {
    plan: &'a PlanParts,
    run: RunId,
    meters: Vec<Arc<NodeMeter>>,
    states: Vec<Arc<ConnectionState>>,
    senders: Vec<Option<Sender>>,
    receivers: Vec<Option<Receiver>>,
    counts: Vec<EdgeCount>,
    /// Whether nothing comes to a node but dead letters.
    letters: Vec<bool>,
    permits: Arc<Semaphore>,
    cancel: CancellationToken,
    drain: CancellationToken,
    journal: Option<Journal>,
    memo: Option<Arc<dyn MemoStore>>,
    spill: Option<PathBuf>,
    lineage: LineageLog,
    stages: Vec<Arc<Stage>>,
    recalling: Vec<Arc<Recalling>>,
    memories: Vec<(usize, Arc<Memory>)>,
    phase: watch::Receiver<Phase>,
    request: Arc<Request>,
    /// Whether what comes to a node may have to be replaced later.
    behind_versions: Vec<bool>,
    /// Which nodes are fed by more than best-effort copies.
    required: Vec<bool>,
    /// The nodes whose changes since the last run are accepted.
    accepted: Vec<String>,
}

impl<'a> Builder<'a> {
    fn new(
        engine: &Engine,
        plan: &'a ExecutionPlan,
        journal: Option<Journal>,
        phase: watch::Receiver<Phase>,
    ) -> Self {
        let plan = &*plan.0;
        let graph: Arc<str> = plan.graph.name.as_str().into();
        let states: Vec<_> =
            plan.connections.iter().map(|connection| engine.connection_state(connection)).collect();
        let meters = plan.nodes.iter().map(|node| {
            let state = node.connection.map(|at| states[at].clone());
            Arc::new(NodeMeter::new(graph.clone(), node.name.clone(), state))
        });
        let meters = meters.collect();
        let (mut senders, mut receivers, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for planned in &plan.edges {
            let (sender, receiver, count) = edge(planned.items, planned.bytes);
            senders.push(Some(sender));
            receivers.push(Some(receiver));
            counts.push(count);
        }
        Self {
            plan,
            run: journal.as_ref().map_or_else(RunId::new, Journal::run),
            meters,
            states,
            senders,
            receivers,
            counts,
            letters: only_letters(plan),
            permits: Arc::new(Semaphore::new(plan.concurrency)),
            cancel: CancellationToken::new(),
            drain: CancellationToken::new(),
            journal,
            memo: engine.0.memo.clone(),
            spill: engine.0.spill.clone(),
            lineage: LineageLog::default(),
            stages: Vec::new(),
            recalling: Vec::new(),
            memories: Vec::new(),
            phase,
            request: Arc::default(),
            behind_versions: plan.behind_versions(),
            required: required(plan),
            accepted: engine.0.accepted_changes.clone(),
        }
    }

    /// Refuses incremental sources where nothing remembers what they have read.
    fn refuse_forgetting(&self) -> Result<()> {
        let incremental = self.plan.nodes.iter().find(|node| node.incremental.is_some());
        match incremental.filter(|_| self.journal.is_none()) {
            None => Ok(()),
            Some(node) => Err(Error::configuration(
                "`incremental` reads what has changed since the last run, and the engine keeps nothing of that: \
                 name a place with `EngineBuilder::state` or `EngineBuilder::checkpoints`, or remove the policy",
            )
            .at_node(node.name.clone())),
        }
    }

    /// Refuses actions behind which an item may come from several files: when one of them changes,
    /// nobody knows what is stale.
    fn refuse_mixing(&self, index: usize, node: &PlanNode, action: &Action) -> Result<()> {
        if !self.behind_versions[index] || !matches!(action, Action::Stateful(_) | Action::Pipe(_)) {
            return Ok(());
        }
        let operation = &node.operation;
        Err(Error::configuration(format!(
            "`{operation}` may make one item of several files, of which an incremental source reads only those that have changed: remove `incremental` from the source, or this node"
        )))
    }

    /// Returns whether checkpoints are made of what sinks stage.
    fn stages_any(&self) -> bool {
        let stages = |node: &PlanNode| matches!(&node.work, Work::Sink(config) if config.stages());
        self.journal.is_some() && self.plan.nodes.iter().any(stages)
    }

    async fn build(
        &mut self,
        lineage: Option<&Path>,
        connections: &Connections,
    ) -> Result<(Vec<Node>, Sources)> {
        self.lineage = LineageLog::open(lineage, self.run, &self.plan.graph.name).await?;
        self.refuse_forgetting()?;
        let mut nodes = Vec::new();
        let mut sources = Vec::new();
        for (index, node) in self.plan.nodes.iter().enumerate() {
            let client = connections.client(node.connection);
            let work = self.work(index, node, &client, &mut sources).await;
            let work = work.map_err(|error| error.at_node(node.name.clone()))?;
            let inputs = node.inputs.iter().filter_map(|edge| self.receivers[*edge].take()).collect();
            nodes.push(Node {
                meter: self.meters[index].clone(),
                cancel: self.cancel.clone(),
                deadline: node.deadline.map(|deadline| super::moment::after(Instant::now(), deadline)),
                inputs,
                outlets: self.outlets(index, node),
                work,
            });
        }
        let remembered = self.is_or_feeds(|index| self.remembers(index));
        for (node, remembered) in nodes.iter_mut().zip(remembered) {
            if let Built::Source(source) = &mut node.work {
                source.remembered = remembered;
            }
        }
        self.lag();
        if self.journal.is_some() && !self.memories.is_empty() {
            // Checkpoints are cuts: what is written becomes durable by them.
            for node in &mut nodes {
                match &mut node.work {
                    Built::Source(source) => source.asks.staged = true,
                    Built::Stateful { work, .. } => work.asks.staged = true,
                    Built::Buffer(work) => work.asks.staged = !work.memory.lags(),
                    _ => {}
                }
            }
        }
        if let Some(journal) = &mut self.journal {
            journal.name_feeds().await?;
        }
        Ok((nodes, sources))
    }

    /// Returns the tracker of a node that opens slots.
    fn tracker(&self) -> Arc<SharedTracker> {
        let (saved, said) = (self.journal.is_some(), self.plan.uncommitted_items);
        // What is staged is durable by checkpoints, whenever they are made.
        let durable = said.is_some() || saved && !self.stages_any();
        let (span, unsaved) = (self.span(), said.filter(|_| saved));
        let bounds = Bounds { items: CREDIT_ITEMS, bytes: CREDIT_BYTES, span, durable, saved, unsaved };
        Arc::new(SharedTracker::new(Tracker::new(bounds)))
    }

    /// Returns how many items a source may read ahead of what is settled.
    fn span(&self) -> u64 {
        self.plan.uncommitted_items.unwrap_or(DEFAULT_UNCOMMITTED_ITEMS)
    }

    fn asks(&self) -> Asks {
        let request = self.journal.is_some().then(|| self.request.clone());
        Asks { request, staged: self.stages_any() }
    }

    /// Returns where a node keeps what does not fit into memory. What a run before left there that
    /// does not go on is removed.
    fn spill(&self, node: &PlanNode) -> Result<Spill> {
        let Some(folder) = &self.spill else { return Ok(Spill::temporary()) };
        let spill = Spill::kept(
            folder.join(file_name("graph-", &self.plan.graph.name)).join(file_name("node-", &node.name)),
        );
        if self.journal.as_ref().is_none_or(|journal| !journal.is_resumed()) {
            checkpoint::clear(&spill)?;
        }
        Ok(spill)
    }

    /// Lets buffers lag where what is behind them allows it: where nothing stages, and nothing
    /// remembers what would come again.
    fn lag(&self) {
        if self.journal.is_none() {
            return;
        }
        let stages =
            |index: usize| matches!(&self.plan.nodes[index].work, Work::Sink(config) if config.stages());
        let binds = self.is_or_feeds(|index| self.remembers(index) || stages(index));
        for (index, memory) in &self.memories {
            if self.is_buffer(*index) && !binds[*index] {
                memory.lag();
            }
        }
    }

    fn is_buffer(&self, index: usize) -> bool {
        matches!(self.plan.nodes[index].work, Work::Spill(_))
    }

    /// Returns whether a node is an action that remembers.
    fn remembers(&self, index: usize) -> bool {
        self.memories.iter().any(|(at, _)| *at == index) && !self.is_buffer(index)
    }

    /// Returns for each node whether it is so, or one behind it is.
    fn is_or_feeds(&self, is: impl Fn(usize) -> bool) -> Vec<bool> {
        let mut found = vec![false; self.plan.nodes.len()];
        for (index, node) in self.plan.nodes.iter().enumerate().rev() {
            found[index] = is(index) || node.outputs.iter().any(|(_, edge)| found[self.plan.edges[*edge].to]);
        }
        found
    }

    fn context(&self, index: usize, node: &PlanNode) -> Context {
        let context = Context::new(self.plan.graph.name.as_str(), node.name.clone(), node.operation.clone())
            .in_run(self.run)
            .with_parameters(node.recorded.clone())
            .with_cancellation(self.cancel.clone())
            .with_meter(self.meters[index].clone());
        match &self.journal {
            Some(journal) if self.behind_versions[index] => context.in_generation(journal.generation()),
            _ => context,
        }
    }

    fn caller(&self, index: usize, node: &PlanNode, context: &Context) -> Caller {
        Caller {
            meter: self.meters[index].clone(),
            context: context.clone(),
            calls: node.calls,
            retry: node.retry.clone(),
            timeout: node.timeout,
            permits: [Arc::new(Semaphore::new(node.concurrency.max(1))), self.permits.clone()],
            connection: node.connection.map(|at| self.states[at].clone()),
            own_limit: node.rate_limit.map(|limit| ConnectionState::new(node.name.clone(), Some(limit))),
            size: AdaptiveSize::new(node.limits),
            memo: None,
        }
    }

    /// Returns the memo of an action, if its policy asks for one.
    fn memo(&self, index: usize, node: &PlanNode, version: &str) -> Result<Option<Memo>> {
        if !node.memo {
            return Ok(None);
        }
        let Some(store) = &self.memo else {
            return Err(Error::configuration(
                "`memo` keeps what calls give, and the engine has no place for it: name one with \
                 `EngineBuilder::state` or `EngineBuilder::memo`, or remove the policy",
            ));
        };
        let connection = node.connection.map(|at| &self.plan.connections[at]);
        Ok(Some(Memo::new(store.clone(), node, version, connection, self.meters[index].clone())))
    }

    /// Refuses policies that would do nothing, where only the action that is built shows it.
    fn refuse_idle(&self, node: &PlanNode, action: &Action) -> Result<()> {
        let policies = self.plan.graph.nodes.get(&node.name).map(|node| &node.policies);
        let idle = policies.map_or_else(Vec::new, |policies| policies.idle(Ways::of(action, node.calls)));
        let Some((policy, why)) = idle.first() else { return Ok(()) };
        let operation = &node.operation;
        Err(Error::configuration(format!("`{policy}` of `{operation}` would do nothing: {why}: remove it")))
    }

    fn outlets(&mut self, index: usize, node: &PlanNode) -> Outlets {
        let mut out = Vec::new();
        let mut dead_letter = None;
        let routes: Vec<&Arc<str>> = match &node.work {
            Work::Branch { routes, default } => routes.iter().map(|(name, _)| name).chain(default).collect(),
            _ => Vec::new(),
        };
        let best_effort: &[usize] = match &node.work {
            Work::FanOut { best_effort, .. } => best_effort,
            _ => &[],
        };
        // A branch's outlets stand in the order of its routes, the default last.
        let mut ports: Vec<&(Port, usize)> = node.outputs.iter().collect();
        ports.sort_by_key(|(port, _)| match port {
            Port::Route(name) => routes.iter().position(|route| *route == name),
            _ => None,
        });
        for (port, edge) in ports {
            let Some(sender) = self.senders[*edge].take() else { continue };
            match port {
                Port::DeadLetter => dead_letter = Some(sender),
                Port::Out | Port::Route(_) => {
                    let best_effort = best_effort.contains(&out.len());
                    out.push(Outlet { sender, best_effort });
                }
            }
        }
        // A source goes on past records that it cannot read unless it is told not to.
        let said = self.plan.graph.nodes.get(&node.name).and_then(|node| node.policies.on_error);
        let strict = !matches!(node.work, Work::Source { .. }) || said.is_some();
        Outlets {
            out,
            dead_letter,
            on_error: node.on_error,
            strict,
            meter: self.meters[index].clone(),
            context: self.context(index, node),
            flood: Mutex::new(Flood::new(self.plan.graph.settings.dead_letter_limit.unwrap_or_default())),
        }
    }
}

/// Returns how many items a run may have read that no checkpoint has, as far as it is said: the span of
/// each source, and as much again for batches that are read ahead.
fn uncommitted(plan: &PlanParts) -> u64 {
    let sources = plan.nodes.iter().filter(|node| matches!(node.work, Work::Source { .. })).count() as u64;
    let span = plan.uncommitted_items.unwrap_or(DEFAULT_UNCOMMITTED_ITEMS);
    span.saturating_mul(2).saturating_mul(sources)
}

/// Returns for each node whether nothing comes to it but dead letters, straight or through others.
fn only_letters(plan: &PlanParts) -> Vec<bool> {
    let mut letters: Vec<bool> = Vec::with_capacity(plan.nodes.len());
    // The nodes stand behind those that feed them.
    for node in &plan.nodes {
        let all = node.inputs.iter().map(|edge| &plan.edges[*edge]);
        let mut all = all.map(|edge| edge.port == Port::DeadLetter || letters[edge.from]);
        letters.push(!node.inputs.is_empty() && all.all(|only| only));
    }
    letters
}
