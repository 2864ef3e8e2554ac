//! The words that logs, spans and metrics use, and who counts what calls use.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Names of spans.
pub mod span {
    /// A run: a trace of its own.
    pub const RUN: &str = "run";
    /// A node, within a run.
    pub const NODE: &str = "node";
    /// A call to another system, within a node.
    pub const CALL: &str = "call";
}

/// Names of fields that spans and logs carry.
pub mod field {
    /// The run's id.
    pub const RUN: &str = "nvisy.run";
    /// The graph's name.
    pub const GRAPH: &str = "nvisy.graph";
    /// The node's name.
    pub const NODE: &str = "nvisy.node";
    /// The connection's name.
    pub const CONNECTION: &str = "nvisy.connection";
    /// What was done.
    pub const OPERATION: &str = "nvisy.operation";
    /// The number of the attempt.
    pub const ATTEMPT: &str = "nvisy.attempt";
    /// The error's tag.
    pub const ERROR: &str = "nvisy.error";
}

/// Names of metrics.
pub mod metric {
    /// How long a run took, in seconds. Labels: graph, status (`success`, `partial_failure`,
    /// `failure`, `cancelled`).
    pub const RUN_DURATION: &str = "nvisy_run_duration_seconds";
    /// Items by what became of them. Labels: graph, node, outcome.
    pub const NODE_ITEMS: &str = "nvisy_node_items_total";
    /// Batches. Labels: graph, node.
    pub const NODE_BATCHES: &str = "nvisy_node_batches_total";
    /// Calls to other systems. Labels: connection, operation, outcome. The operation is the name
    /// of the node's type for an attempt of the engine's, and what a connector calls it for what
    /// it reports through [`Meter::call`](super::Meter::call): add up one or the other.
    pub const CONNECTOR_CALLS: &str = "nvisy_connector_calls_total";
    /// How long calls took, in seconds. Labels: connection, operation.
    pub const CONNECTOR_CALL_DURATION: &str = "nvisy_connector_call_duration_seconds";
    /// Retries. Labels: graph, node.
    pub const RETRIES: &str = "nvisy_retries_total";
    /// Items whose result was known, and cost no call. Labels: graph, node.
    pub const MEMO_HITS: &str = "nvisy_memo_hits_total";
    /// How long calls waited for a rate limit, in seconds. Labels: graph, node.
    pub const RATE_LIMIT_WAIT: &str = "nvisy_rate_limit_wait_seconds";
    /// How long calls waited for a permit, in seconds. Labels: graph, node.
    pub const PERMIT_WAIT: &str = "nvisy_permit_wait_seconds";
    /// Model tokens. Labels: model, direction.
    pub const MODEL_TOKENS: &str = "nvisy_model_tokens_total";
    /// Dead letters. Labels: graph, node, tag.
    pub const DEAD_LETTERS: &str = "nvisy_dead_letters_total";
}

/// What a call to a model used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelUsage {
    /// The model.
    pub model: String,
    /// Requests made.
    pub requests: u64,
    /// Tokens sent.
    pub input_tokens: u64,
    /// Tokens received.
    pub output_tokens: u64,
    /// What it cost, in US dollars, where a price is known.
    pub usd: Option<f64>,
}

impl ModelUsage {
    /// Adds what another call to the model used.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.usd = match (self.usd, other.usd) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
    }
}

/// What another system says is left of its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateHint {
    /// Requests left.
    pub requests: Option<RateLeft>,
    /// Tokens left.
    pub tokens: Option<RateLeft>,
}

/// What is left of one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLeft {
    /// How many.
    pub count: u64,
    /// How long until the limit is whole again, where that is said.
    pub reset: Option<Duration>,
}

/// Counts what calls use. The engine's goes into the report, the metrics and the limits.
pub trait Meter: Send + Sync {
    /// A model was used.
    fn model_usage(&self, usage: &ModelUsage) {
        let _ = usage;
    }

    /// The other system said what is left of its limits.
    fn rate_hint(&self, hint: RateHint) {
        let _ = hint;
    }

    /// A request to the other system ended: what it did, under a name of its own such as
    /// `POST /embeddings`, how long it took, and whether well. An attempt, which the engine
    /// counts, may be several requests, or none.
    fn call(&self, operation: &str, duration: Duration, ok: bool) {
        let _ = (operation, duration, ok);
    }

    /// Something is worth knowing though it failed nothing, such as what a source passes by: a
    /// sentence without a full stop. The report of the run has the first few.
    fn warn(&self, warning: &str) {
        let _ = warning;
    }

    /// A source could not look at what is at a key, or below it, when it was asked for its partitions,
    /// as behind a link that leads to nothing. What an incremental run has read of that before is not
    /// taken for gone.
    fn unlisted(&self, key: &str) {
        let _ = key;
    }
}

/// Counts nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMeter;

impl Meter for NoMeter {}
