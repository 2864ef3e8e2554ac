//! What runs: an immutable plan with everything resolved.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use nvisy_core::action::{Action, Calls};
use nvisy_core::plugin::{ErasedActionConfig, ErasedConnection, ErasedSinkConfig, ErasedSource};
use nvisy_core::{BatchLimits, Increments, Kinds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::expression::Expression;
use crate::graph::Graph;
use crate::graph::policy::{OnError, RateLimit, Retry, SpillPolicy};

/// A compiled graph: order, resolved types, connections, policies, batch sizes, guarantees.
/// Immutable and cheap to clone; it runs any number of times.
#[derive(Clone, Debug)]
pub struct ExecutionPlan(pub(crate) Arc<PlanParts>);

impl ExecutionPlan {
    /// Returns the graph that was compiled.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.0.graph
    }
}

#[derive(Clone, Debug)]
pub(crate) struct PlanParts {
    /// The graph that was compiled.
    pub(crate) graph: Graph,
    /// The nodes, each behind those that feed it.
    pub(crate) nodes: Vec<PlanNode>,
    /// The edges.
    pub(crate) edges: Vec<PlanEdge>,
    /// The connections, shared ones first; inline ones carry their node's name.
    pub(crate) connections: Vec<PlanConnection>,
    /// What every source and sink give together.
    pub(crate) deliveries: Vec<Delivery>,
    /// How many calls may run at once.
    pub(crate) concurrency: usize,
    /// How long the run may take.
    pub(crate) timeout: Option<Duration>,
    /// How many items a source may read ahead of what is settled, where the user says so.
    pub(crate) uncommitted_items: Option<u64>,
    /// How often a checkpoint is made, where the user says so.
    pub(crate) checkpoint_every: Option<Duration>,
}

/// A node of a plan.
#[derive(Clone, Debug)]
pub(crate) struct PlanNode {
    pub(crate) name: Arc<str>,
    /// The name of its type: `ai/embed`, `branch`.
    pub(crate) operation: Arc<str>,
    pub(crate) work: Work,
    /// Its connection, as an index into the plan's.
    pub(crate) connection: Option<usize>,
    /// The edges that feed it, in the order of its `inputs`.
    pub(crate) inputs: Vec<usize>,
    /// The edges that it feeds, by port. More than one for the same port only of a fan-out.
    pub(crate) outputs: Vec<(Port, usize)>,
    pub(crate) input_kinds: Kinds,
    pub(crate) output_kinds: Kinds,
    /// Its config; null where it has none.
    pub(crate) parameters: Arc<Value>,
    /// The same for lineage records: the hash of what is too large for each of them to have.
    pub(crate) recorded: Arc<Value>,
    pub(crate) retry: Retry,
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) concurrency: usize,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) on_error: OnError,
    /// How large the batches are that it gets; for a source, that it makes.
    pub(crate) limits: BatchLimits,
    /// Whether batches are joined up to the limits, and how long it waits for that.
    pub(crate) gather: Option<Gather>,
    pub(crate) calls: Calls,
    /// Whether results of its calls are kept.
    pub(crate) memo: bool,
    /// How a source tells what has changed, where only that is read.
    pub(crate) incremental: Option<Increments>,
    /// Whether nothing may be left of what it had.
    pub(crate) allow_empty: bool,
}

impl PlanParts {
    /// Returns for each node whether something comes to it of a source that tells what has changed
    /// by versions, dead letters apart.
    pub(crate) fn behind_versions(&self) -> Vec<bool> {
        let mut behind: Vec<bool> =
            self.nodes.iter().map(|node| node.incremental == Some(Increments::Versions)).collect();
        // The nodes stand behind those that feed them.
        for (index, node) in self.nodes.iter().enumerate() {
            let all = node.inputs.iter().map(|edge| &self.edges[*edge]);
            behind[index] |= all.filter(|edge| edge.port != Port::DeadLetter).any(|edge| behind[edge.from]);
        }
        behind
    }
}

/// How a node joins the batches that come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gather {
    /// How long it waits for a batch to fill up, counted from its first item. None: until the
    /// flush pulse or the end.
    pub(crate) linger: Option<Duration>,
}

/// What a node does.
#[derive(Clone)]
pub(crate) enum Work {
    Source {
        config: Arc<dyn ErasedSource>,
        key: Option<Expression>,
    },
    Action(Arc<dyn ErasedActionConfig>),
    /// A function that the engine knows by name.
    Function(Action),
    Sink(Arc<dyn ErasedSinkConfig>),
    Branch {
        routes: Vec<(Arc<str>, Expression)>,
        default: Option<Arc<str>>,
    },
    /// Which outputs, by index, may fail or lag without holding up the others.
    FanOut {
        best_effort: Vec<usize>,
        /// Which have a buffer before them, and how large.
        spill: Vec<(usize, SpillPolicy)>,
    },
    FanIn,
    /// The buffer of a fan-out's reader.
    Spill(SpillPolicy),
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source { .. } => "Source",
            Self::Action(_) => "Action",
            Self::Function(_) => "Function",
            Self::Sink(_) => "Sink",
            Self::Branch { .. } => "Branch",
            Self::FanOut { .. } => "FanOut",
            Self::FanIn => "FanIn",
            Self::Spill(_) => "Spill",
        })
    }
}

/// Where an edge begins on its node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Port {
    /// What the node emits.
    Out,
    /// A branch's route.
    Route(Arc<str>),
    /// What the node sets aside.
    DeadLetter,
}

/// An edge of a plan.
#[derive(Clone, Debug)]
pub(crate) struct PlanEdge {
    pub(crate) from: usize,
    pub(crate) port: Port,
    pub(crate) to: usize,
    /// Items that may wait on it, but for one batch, which always may.
    pub(crate) items: usize,
    /// Bytes that may wait on it, but for one batch, which always may.
    pub(crate) bytes: usize,
}

/// A connection of a plan.
#[derive(Clone, Debug)]
pub(crate) struct PlanConnection {
    pub(crate) name: Arc<str>,
    /// The name of its type and its config: what makes it the same in another run.
    pub(crate) operation: Arc<str>,
    pub(crate) config_json: Arc<Value>,
    pub(crate) config: Arc<dyn ErasedConnection>,
    pub(crate) rate_limit: Option<RateLimit>,
}

/// What a source and a sink give together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryGuarantee {
    /// An item may be lost: it passes a fan-out's best-effort branch.
    AtMostOnce,
    /// An item may be there twice.
    AtLeastOnce,
    /// An item is there once, whatever happens.
    ExactlyOnceEffect,
}

/// The guarantee of one path.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) source: Arc<str>,
    pub(crate) sink: Arc<str>,
    pub(crate) guarantee: DeliveryGuarantee,
    /// Whether checkpoints make that an effect of exactly once.
    pub(crate) stages: bool,
    /// Why, in words.
    pub(crate) because: String,
}
