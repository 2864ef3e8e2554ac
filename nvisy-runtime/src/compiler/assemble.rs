//! The last step: from a graph with nothing wrong to its plan.

use std::num::NonZeroUsize;
use std::sync::Arc;

use nvisy_core::action::Calls;
use nvisy_core::plugin::ErasedSinkConfig;
use nvisy_core::{ActionConfig, BatchLimits, ContentHash, Guarantee, Kinds};
use serde_json::{Value, json};

use super::plan::{
    self, Delivery, DeliveryGuarantee, ExecutionPlan, PlanConnection, PlanEdge, PlanNode, PlanParts, Port,
    Work,
};
use super::validate::{Draft, DraftEdge, DraftNode};
use crate::actions::Gather;
use crate::graph::{BatchPolicy, Graph, Node, OnError, Policies, Retry, SpillPolicy};

/// How many items a source may read ahead of what is settled, unless the graph says so.
pub(crate) const DEFAULT_UNCOMMITTED_ITEMS: u64 = 65_536;
/// How many calls of all nodes may run at once, unless the graph says so.
const DEFAULT_CONCURRENCY: usize = 10;
/// How many calls of a node that calls others may run at once, unless the graph says so.
const DEFAULT_CALLS: usize = 4;
/// Bytes of a node's parameters, as JSON, that go into lineage records as they are.
const RECORDED_BYTES: usize = 4 << 10;
/// Items that may wait on an edge.
const EDGE_ITEMS: usize = 8_192;
/// Bytes that may wait on an edge, and at least, and on all of them together.
const EDGE_BYTES: usize = 16 << 20;
const MIN_EDGE_BYTES: usize = 1 << 20;
const ALL_EDGE_BYTES: usize = 1 << 30;
/// How many items a batch of a source has at the most where a paid node below says nothing.
const PAID_ITEMS: usize = 64;
/// How many pairs of source and sink the plan speaks of.
const MAX_DELIVERIES: usize = 4_096;

/// Makes the plan of a graph.
pub(super) fn assemble(graph: &Graph, draft: Draft<'_>) -> ExecutionPlan {
    let Draft { nodes, edges, connections, order } = draft;
    let mut place = vec![0; nodes.len()];
    for (at, node) in order.iter().enumerate() {
        place[*node] = at;
    }
    let bytes = (ALL_EDGE_BYTES / edges.len().max(1)).clamp(MIN_EDGE_BYTES, EDGE_BYTES);
    let mut plan_edges = Vec::with_capacity(edges.len());
    for edge in &edges {
        let (from, to) = (place[edge.from], place[edge.to]);
        plan_edges.push(PlanEdge { from, port: edge.port.clone(), to, items: EDGE_ITEMS, bytes });
    }
    let checkpoint = graph.settings.checkpoint.as_ref();
    let span = checkpoint.and_then(|c| c.uncommitted_items).map(std::num::NonZeroU64::get);
    let largest = usize::try_from(span.unwrap_or(DEFAULT_UNCOMMITTED_ITEMS)).unwrap_or(usize::MAX);
    let mut slots: Vec<Option<DraftNode<'_>>> = nodes.into_iter().map(Some).collect();
    let mut plan_nodes: Vec<PlanNode> = order
        .iter()
        .filter_map(|node| slots[*node].take())
        .filter_map(|node| plan_node(node, &edges, &connections, largest))
        .collect();
    add_buffers(&mut plan_nodes, &mut plan_edges);
    shrink_sources(&mut plan_nodes, &plan_edges);
    let deliveries = deliveries(&plan_nodes, &plan_edges);
    ExecutionPlan(Arc::new(PlanParts {
        graph: graph.clone(),
        nodes: plan_nodes,
        edges: plan_edges,
        connections,
        deliveries,
        concurrency: graph.settings.concurrency.map_or(DEFAULT_CONCURRENCY, NonZeroUsize::get),
        timeout: graph.settings.timeout,
        uncommitted_items: span,
        checkpoint_every: checkpoint.and_then(|checkpoint| checkpoint.every),
    }))
}

fn plan_node(
    node: DraftNode<'_>,
    edges: &[DraftEdge],
    connections: &[PlanConnection],
    largest: usize,
) -> Option<PlanNode> {
    let work = node.work?;
    let calls = calls(&work, node.connection.and_then(|at| connections.get(at)));
    let incremental = match &work {
        Work::Source { config, .. } if node.node.policies.incremental == Some(true) => {
            config.increments().ok()
        }
        _ => None,
    };
    let policies = &node.node.policies;
    let outputs = node.outputs.iter().map(|edge| (edges[*edge].port.clone(), *edge)).collect();
    let said = said_of_batches(node.node);
    let (limits, gather) = batches(&work, calls, policies.batch.is_some(), said, largest);
    let parameters = parameters(node.node);
    Some(PlanNode {
        name: node.name.into(),
        operation: operation(node.node).into(),
        concurrency: concurrency(&work, policies, calls),
        retry: retry(policies, calls),
        work,
        connection: node.connection,
        inputs: node.inputs,
        outputs,
        input_kinds: node.input_kinds.unwrap_or(Kinds::NONE),
        output_kinds: node.output_kinds.unwrap_or(Kinds::NONE),
        recorded: recorded(&parameters),
        parameters,
        timeout: policies.timeout,
        deadline: policies.deadline,
        rate_limit: policies.rate_limit,
        on_error: node.on_error,
        limits,
        gather,
        calls,
        memo: policies.memo == Some(true),
        incremental,
        allow_empty: policies.allow_empty == Some(true),
    })
}

/// Puts the buffer of each reader that has one between the fan-out and the reader, as a node
/// `FAN_OUT.READER`: no node of a graph has a name with a dot.
fn add_buffers(nodes: &mut Vec<PlanNode>, edges: &mut Vec<PlanEdge>) {
    let mut at = 0;
    while at < nodes.len() {
        let buffers = match &nodes[at].work {
            Work::FanOut { spill, .. } => spill.clone(),
            _ => Vec::new(),
        };
        let copies: Vec<usize> = nodes[at].outputs.iter().map(|(_, edge)| *edge).collect();
        for (copy, policy) in buffers {
            let (edge, own) = (copies[copy], at + 1);
            for edge in edges.iter_mut() {
                edge.from += usize::from(edge.from >= own);
                edge.to += usize::from(edge.to >= own);
            }
            let (reader, onward) = (edges[edge].to, edges.len());
            edges.push(PlanEdge { from: own, port: Port::Out, to: reader, ..edges[edge] });
            edges[edge].to = own;
            // The reader stands one further once the buffer is there.
            let reader = &mut nodes[reader - 1];
            reader.inputs.iter_mut().filter(|input| **input == edge).for_each(|input| *input = onward);
            let buffer = buffer_of(&nodes[at], &nodes[edges[onward].to - 1].name, policy, edge, onward);
            nodes.insert(own, buffer);
        }
        at += 1;
    }
}

fn buffer_of(fan_out: &PlanNode, reader: &str, policy: SpillPolicy, input: usize, output: usize) -> PlanNode {
    PlanNode {
        name: format!("{}.{reader}", fan_out.name).into(),
        operation: "spill".into(),
        work: Work::Spill(policy),
        inputs: vec![input],
        outputs: vec![(Port::Out, output)],
        input_kinds: fan_out.output_kinds,
        ..fan_out.clone()
    }
}

fn operation(node: &Node) -> &str {
    node.uses().unwrap_or_else(|| node.body.type_name())
}

fn parameters(node: &Node) -> Arc<Value> {
    let config = node.config().filter(|config| config.as_object().is_none_or(|config| !config.is_empty()));
    Arc::new(config.cloned().unwrap_or(Value::Null))
}

/// Returns what a record has of a node's parameters. Lineages are written out beside dead letters:
/// what is large is named by its size and hash there.
fn recorded(parameters: &Arc<Value>) -> Arc<Value> {
    let text = parameters.to_string();
    if text.len() <= RECORDED_BYTES {
        return parameters.clone();
    }
    Arc::new(json!({ "bytes": text.len(), "sha256": ContentHash::of_bytes(text.as_bytes()).to_string() }))
}

/// Returns what the calls of a node cost others: sources and sinks call their systems, and
/// actions nobody through a connection that is local.
pub(super) fn calls(work: &Work, connection: Option<&PlanConnection>) -> Calls {
    match work {
        Work::Action(_) if connection.is_some_and(|connection| connection.config.is_local()) => Calls::None,
        Work::Source { .. } | Work::Sink(_) => Calls::Idempotent,
        Work::Action(config) => config.calls(),
        Work::Function(_) | Work::Branch { .. } | Work::FanOut { .. } | Work::FanIn | Work::Spill(_) => {
            Calls::None
        }
    }
}

fn retry(policies: &Policies, calls: Calls) -> Retry {
    policies.retry.clone().unwrap_or_else(|| default_retry(calls))
}

pub(super) fn default_retry(calls: Calls) -> Retry {
    if calls == Calls::None { Retry::none() } else { Retry::default() }
}

fn concurrency(work: &Work, policies: &Policies, calls: Calls) -> usize {
    policies.concurrency.map_or_else(|| default_concurrency(work, calls), NonZeroUsize::get)
}

pub(super) fn default_concurrency(work: &Work, calls: Calls) -> usize {
    match work {
        Work::Sink(config) => config.concurrency(),
        Work::Action(_) if calls != Calls::None => DEFAULT_CALLS,
        _ => 1,
    }
}

const AS_THEY_COME: BatchLimits = BatchLimits { items: usize::MAX, bytes: usize::MAX, tokens: None };

/// Returns how large the batches of a node are, and whether smaller ones are joined for it.
///
/// What calls nobody takes batches as they come: to cut them would only cost time.
fn batches(
    work: &Work,
    calls: Calls,
    explicit: bool,
    said: BatchPolicy,
    largest: usize,
) -> (BatchLimits, Option<plan::Gather>) {
    let optimum = match work {
        Work::Action(config) => config.optimum(),
        Work::Sink(config) => Some(config.optimum()),
        _ => None,
    };
    let limits = match optimum {
        Some(optimum) => optimum.tighten(limits(said, AS_THEY_COME)),
        None if calls == Calls::None => limits(said, AS_THEY_COME),
        None => limits(said, BatchLimits::default()),
    };
    let limits = BatchLimits {
        items: limits.items.clamp(1, largest.max(1)),
        bytes: limits.bytes.max(1),
        tokens: limits.tokens,
    };
    let joins = match work {
        Work::Source { .. } => false,
        Work::Sink(_) => true,
        // One that calls nobody and yet finds a size best is there to make batches.
        Work::Action(_) => explicit || optimum.is_some(),
        _ => explicit,
    };
    (limits, joins.then_some(plan::Gather { linger: said.linger }))
}

/// Returns what a node says of its batches: its policy, and for the action that makes batches
/// its config.
pub(super) fn said_of_batches(node: &Node) -> BatchPolicy {
    let said = node.policies.batch.unwrap_or_default();
    let gather = (node.uses() == Some(<Gather as ActionConfig>::NAME))
        .then(|| serde_json::from_value::<Gather>(node.config().cloned().unwrap_or_default()).ok());
    let Some(gather) = gather.flatten() else { return said };
    BatchPolicy {
        items: said.items.or_else(|| NonZeroUsize::new(gather.items?)),
        bytes: said.bytes.or_else(|| NonZeroUsize::new(gather.bytes?)),
        linger: said.linger.or(gather.linger),
        ..said
    }
}

fn limits(said: BatchPolicy, or: BatchLimits) -> BatchLimits {
    BatchLimits {
        items: said.items.map_or(or.items, NonZeroUsize::get),
        bytes: said.bytes.map_or(or.bytes, NonZeroUsize::get),
        tokens: said.tokens.map(std::num::NonZeroU64::get).or(or.tokens),
    }
}

/// Makes the batches of a source as small as the first paid call below takes them: a crash
/// then repeats little that costs.
fn shrink_sources(nodes: &mut [PlanNode], edges: &[PlanEdge]) {
    let mut paid = vec![usize::MAX; nodes.len()];
    for at in (0..nodes.len()).rev() {
        let node = &nodes[at];
        let below = node
            .outputs
            .iter()
            .filter(|(port, _)| *port != Port::DeadLetter)
            .map(|(_, edge)| paid[edges[*edge].to]);
        let own = match (&node.work, node.calls) {
            (Work::Action(config), Calls::Paid) if config.optimum().is_none() => {
                node.limits.items.min(PAID_ITEMS)
            }
            (Work::Action(_), Calls::Paid) => node.limits.items,
            _ => usize::MAX,
        };
        paid[at] = below.min().unwrap_or(usize::MAX).min(own);
        if matches!(node.work, Work::Source { .. }) {
            nodes[at].limits.items = nodes[at].limits.items.min(paid[at]);
        }
    }
}

/// What is known of the ways from a source to a node.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Way {
    /// One of them is a fan-out's best-effort branch.
    best_effort: bool,
    /// One of them drops what fails.
    drops: bool,
    /// All of them are of dead letters.
    aside: bool,
}

impl Way {
    fn join(self, other: Self) -> Self {
        Self {
            best_effort: self.best_effort || other.best_effort,
            drops: self.drops || other.drops,
            aside: self.aside && other.aside,
        }
    }
}

fn deliveries(nodes: &[PlanNode], edges: &[PlanEdge]) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    let sources = (0..nodes.len()).filter(|at| matches!(nodes[*at].work, Work::Source { .. }));
    for source in sources {
        let mut ways: Vec<Option<Way>> = vec![None; nodes.len()];
        ways[source] = Some(Way { best_effort: false, drops: false, aside: false });
        for at in source..nodes.len() {
            let Some(way) = ways[at] else { continue };
            let node = &nodes[at];
            if let Work::Sink(config) = &node.work {
                deliveries.push(delivery(&nodes[source], node, &**config, way));
                if deliveries.len() == MAX_DELIVERIES {
                    return deliveries;
                }
            }
            let mut copy = 0;
            for (port, edge) in &node.outputs {
                let mut next = Way { drops: way.drops || node.on_error == OnError::Drop, ..way };
                match (port, &node.work) {
                    (Port::DeadLetter, _) => next.aside = true,
                    (_, Work::FanOut { best_effort, .. }) => {
                        next.best_effort |= best_effort.contains(&copy);
                        copy += 1;
                    }
                    _ => {}
                }
                let to = edges[*edge].to;
                ways[to] = Some(ways[to].map_or(next, |known| known.join(next)));
            }
        }
    }
    deliveries
}

fn delivery(source: &PlanNode, sink: &PlanNode, config: &dyn ErasedSinkConfig, way: Way) -> Delivery {
    let (guarantee, because) = match config.guarantee() {
        _ if way.best_effort => {
            (DeliveryGuarantee::AtMostOnce, "a way there is a fan-out's best-effort branch")
        }
        Guarantee::Append => {
            (DeliveryGuarantee::AtLeastOnce, "the sink appends: what is replayed is there twice")
        }
        Guarantee::Upsert => {
            (DeliveryGuarantee::ExactlyOnceEffect, "ids are deterministic, and the sink replaces by id")
        }
    };
    let replayed = config.replayed().filter(|_| !way.best_effort);
    let mut because = replayed.unwrap_or_else(|| because.to_owned());
    let stages = (config.stages() || config.remembers()) && guarantee == DeliveryGuarantee::AtLeastOnce;
    if stages {
        because = format!("with a state directory each item is there once; without, {because}");
    }
    if way.aside {
        because.push_str("; of dead letters only");
    }
    if way.drops {
        because.push_str("; a node on the way drops what fails");
    }
    Delivery { source: source.name.clone(), sink: sink.name.clone(), guarantee, stages, because }
}
