//! What a run tells when it ends, and while it goes on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use nvisy_core::config::duration;
use nvisy_core::error::ErrorReport;
use nvisy_core::metadata::Timestamp;
use nvisy_core::observability::ModelUsage;
use nvisy_core::{Position, RunId};
use serde::{Deserialize, Serialize};

use crate::compiler::number;
use crate::compiler::plan::DeliveryGuarantee;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Every node did its work.
    Success,
    /// Something failed, and some sink did its work: whatever reached it is written.
    PartialFailure,
    /// Something failed, and no sink did its work on anything; or the ledger does not balance.
    Failure,
    /// It was cancelled.
    Cancelled,
}

impl RunStatus {
    /// Returns the stable tag for machines, as JSON and the labels of metrics have it.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::PartialFailure => "partial_failure",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PartialFailure => "partial failure",
            other => other.tag(),
        })
    }
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
#[non_exhaustive]
pub enum NodeStatus {
    /// Nothing has come yet.
    Waiting = 0,
    /// It works.
    Running = 1,
    /// It did all its work.
    Completed = 2,
    /// It failed for good.
    Failed = 3,
    /// A node before it failed: it did what it could with what came.
    Skipped = 4,
    /// The run was cancelled.
    Cancelled = 5,
    /// A source that was stopped: the nodes behind it failed, and nothing that it read could
    /// arrive any more.
    Stopped = 6,
}

impl NodeStatus {
    pub(super) fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Waiting,
            1 => Self::Running,
            2 => Self::Completed,
            3 => Self::Failed,
            4 => Self::Skipped,
            5 => Self::Cancelled,
            _ => Self::Stopped,
        }
    }
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Stopped => "stopped",
        })
    }
}

/// How long calls took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Latency {
    /// Half of the calls were faster, about.
    #[serde(with = "duration")]
    pub p50: Duration,
    /// Nineteen of twenty were faster, about.
    #[serde(with = "duration")]
    pub p95: Duration,
    /// Ninety-nine of a hundred were faster, about.
    #[serde(with = "duration")]
    pub p99: Duration,
}

/// The line of the ledger of one node, and what it took.
///
/// `received = emitted_from + absorbed + dropped + dead_lettered + failed + in_flight`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeReport {
    /// The node's name.
    pub name: Arc<str>,
    /// The name of its type.
    pub operation: Arc<str>,
    /// How it ended.
    pub status: NodeStatus,
    /// Items that came in; for a source, that it read.
    pub received: u64,
    /// Of those: that something was emitted from; for a sink, that are written.
    pub emitted_from: u64,
    /// Of those: that became part of the node's memory.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub absorbed: u64,
    /// Items that went out of that memory again, or were made of it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub released: u64,
    /// Items that are in its buffer: those that a run that goes on has to let go of.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waiting: u64,
    /// Bytes of its buffer that were written to files.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spilled: u64,
    /// Of those that came in: dropped on purpose.
    pub dropped: u64,
    /// Dropped items by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dropped_because: BTreeMap<String, u64>,
    /// Of those: set aside.
    pub dead_lettered: u64,
    /// Of those: failed.
    pub failed: u64,
    /// Of those: not settled when the run ended. Zero unless the run was cancelled.
    pub in_flight: u64,
    /// Items that went out; an expansion makes more of them than came in.
    pub emitted: u64,
    /// Copies that a best-effort branch did not take.
    pub missed: u64,
    /// Batches that came in.
    pub batches: u64,
    /// Bytes that came in, in memory.
    pub bytes: u64,
    /// Calls to another system, attempts included.
    pub calls: u64,
    /// Of those: that failed.
    pub failed_calls: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Items whose result was kept by an earlier call, and cost none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub memo_hits: u64,
    /// What models had been used for those results, and were not used again. The requests are not
    /// known: how many it would have taken depends on the batches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memo_saved: Vec<ModelUsage>,
    /// What an incremental source found, partition by partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub increment: Option<IncrementReport>,
    /// Stale items that a sink deleted: of files that have changed, or are gone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deleted: u64,
    /// How long it worked, waiting for answers included.
    #[serde(with = "duration")]
    pub busy: Duration,
    /// How long it waited for rate limits.
    #[serde(with = "duration")]
    pub rate_limit_wait: Duration,
    /// How long it waited for permits.
    #[serde(with = "duration")]
    pub permit_wait: Duration,
    /// How long calls took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// What models were used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelUsage>,
    /// The first few errors of items.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorReport>,
    /// Why the node failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ErrorReport>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What an incremental source found, against what runs before had read to the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncrementReport {
    /// Partitions that are new, and are read.
    pub new: u64,
    /// Partitions that are other than they were, and are read again.
    pub changed: u64,
    /// Partitions that are as they were, and are passed over.
    pub unchanged: u64,
    /// Partitions that are there no more.
    pub vanished: u64,
}

impl fmt::Display for IncrementReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { new, changed, unchanged, vanished } = *self;
        let all = count(new + changed + unchanged, "partition");
        let (new, changed, unchanged) = (number(new), number(changed), number(unchanged));
        write!(f, "{all}: {new} new, {changed} changed, {unchanged} unchanged; {} gone", number(vanished))
    }
}

/// How far a partition of a source is done with: everything up to there is settled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PartitionReport {
    /// The source node.
    pub source: Arc<str>,
    /// The partition.
    pub partition: Arc<str>,
    /// The position up to which everything is settled; none if nothing is.
    pub position: Option<Position>,
    /// Items up to there.
    pub items: u64,
}

/// What a run did: the ledger, checked, and what it took. Serializes, and reads well printed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunReport {
    /// The run.
    pub run: RunId,
    /// The graph's name.
    pub graph: Arc<str>,
    /// How it ended.
    pub status: RunStatus,
    /// Whether it was asked to stop reading before the end.
    pub drained: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    #[serde(with = "duration")]
    pub duration: Duration,
    /// The weakest guarantee of its paths.
    pub guarantee: Option<DeliveryGuarantee>,
    /// The ledger, a line a node, in the order of the plan.
    pub nodes: Vec<NodeReport>,
    /// How far each partition of each source is done with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<PartitionReport>,
    /// What checkpoints there are of it, where it has a store for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointReport>,
    /// Why the run failed where no node did: its timeout, or a checkpoint or the log of lineage that
    /// could not be made durable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<ErrorReport>,
    /// What does not add up. Empty, or the run failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imbalances: Vec<String>,
    /// What is worth knowing though it failed nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The checkpoints of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CheckpointReport {
    /// How many there have been of the graph.
    pub generation: u64,
    /// Whether the run went on where one before it had stopped.
    pub resumed: bool,
    /// How many items of its sources that one was done with.
    pub resumed_items: u64,
    /// Whether the run has done everything: the next one begins anew, but for what incremental
    /// sources have read.
    pub finished: bool,
    /// Items that were replayed carefully, because the process had ended half way.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub careful: u64,
    /// Of those: items that had ended the process three times, and were set aside.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub killed: u64,
    /// What of the store was damaged, and what was done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<String>,
}

impl fmt::Display for CheckpointReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "checkpoint {}", number(self.generation))?;
        if self.resumed {
            write!(f, ", resumed behind {}", count(self.resumed_items, "item"))?;
        }
        f.write_str(if self.finished { ", finished" } else { ", to be resumed" })?;
        if self.careful > 0 {
            write!(
                f,
                "; the process had ended half way: {} replayed carefully",
                count(self.careful, "item")
            )?;
        }
        if self.killed > 0 {
            write!(f, ", {} that ended it set aside", number(self.killed))?;
        }
        match &self.recovery {
            Some(recovery) => write!(f, "; {recovery}"),
            None => Ok(()),
        }
    }
}

impl RunReport {
    /// Returns whether every node did its work.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status == RunStatus::Success
    }

    /// Returns the line of one node.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeReport> {
        self.nodes.iter().find(|node| &*node.name == name)
    }

    /// Returns what models were used by the whole run.
    #[must_use]
    pub fn models(&self) -> Vec<ModelUsage> {
        let mut models: BTreeMap<&str, ModelUsage> = BTreeMap::new();
        for usage in self.nodes.iter().flat_map(|node| &node.models) {
            let total = models
                .entry(&usage.model)
                .or_insert_with(|| ModelUsage { model: usage.model.clone(), ..Default::default() });
            total.requests += usage.requests;
            total.input_tokens += usage.input_tokens;
            total.output_tokens += usage.output_tokens;
            total.usd = usage.usd.map(|usd| total.usd.unwrap_or(0.0) + usd).or(total.usd);
        }
        models.into_values().collect()
    }
}

/// A number and what it counts.
pub(super) fn count(n: u64, what: &str) -> String {
    match (n, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (n, Some(stem)) => format!("{} {stem}ies", number(n)),
        (n, None) => format!("{} {what}s", number(n)),
    }
}

fn seconds(duration: Duration) -> String {
    let s = duration.as_secs_f64();
    match s {
        s if s < 0.001 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.0} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s => format!("{:.0} min {:.0} s", (s / 60.0).floor(), s % 60.0),
    }
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, graph, status, duration, .. } = self;
        write!(f, "run {run} of \"{graph}\": {status} in {}", seconds(*duration))?;
        if self.drained {
            f.write_str(", drained")?;
        }
        writeln!(f)?;
        let width = self.nodes.iter().map(|node| node.name.chars().count()).max().unwrap_or(0).max(4);
        writeln!(
            f,
            "  {:width$}  {:>9}  {:>11} {:>11} {:>11} {:>11} {:>11} {:>11}  {:>8}",
            "node", "status", "in", "passed", "dropped", "set aside", "failed", "out", "busy"
        )?;
        for node in &self.nodes {
            writeln!(
                f,
                "  {:width$}  {:>9}  {:>11} {:>11} {:>11} {:>11} {:>11} {:>11}  {:>8}",
                node.name,
                node.status,
                number(node.received),
                number(node.emitted_from),
                number(node.dropped),
                number(node.dead_lettered),
                number(node.failed),
                number(node.emitted),
                seconds(node.busy),
            )?;
        }
        let settled = if self.imbalances.is_empty() { "balances" } else { "DOES NOT BALANCE" };
        let in_flight: u64 = self.nodes.iter().map(|node| node.in_flight).sum();
        let absorbs = self.nodes.iter().any(|node| node.absorbed > 0);
        let absorbed = if absorbs { " + absorbed" } else { "" };
        writeln!(
            f,
            "  ledger {settled}: in = passed{absorbed} + dropped + set aside + failed + {in_flight} in flight"
        )?;
        for imbalance in &self.imbalances {
            writeln!(f, "    {imbalance}")?;
        }
        if let Some(checkpoint) = &self.checkpoint {
            writeln!(f, "  {checkpoint}")?;
        }
        for node in &self.nodes {
            if node.absorbed + node.released > 0 {
                let (absorbed, released) = (count(node.absorbed, "item"), number(node.released));
                writeln!(f, "  {}: absorbed {absorbed}, let go of {released}", node.name)?;
            }
            if node.waiting + node.spilled > 0 {
                let (waiting, spilled) = (count(node.waiting, "item"), count(node.spilled, "byte"));
                writeln!(f, "  {}: {waiting} wait in its buffer, {spilled} of it went to files", node.name)?;
            }
            for (reason, count) in &node.dropped_because {
                writeln!(f, "  {}: dropped {} because {reason}", node.name, number(*count))?;
            }
            // Asking a limit that has room takes some microseconds, which say nothing.
            let waited = node.rate_limit_wait >= Duration::from_millis(1);
            if node.retries > 0 || waited {
                write!(
                    f,
                    "  {}: {}, {}",
                    node.name,
                    count(node.calls, "call"),
                    count(node.retries, "retry")
                )?;
                if waited {
                    write!(f, ", {} waiting for rate limits", seconds(node.rate_limit_wait))?;
                }
                writeln!(f)?;
            }
            if node.memo_hits > 0 {
                write!(f, "  {}: {} known from the memo", node.name, count(node.memo_hits, "item"))?;
                for ModelUsage { model, input_tokens, output_tokens, usd, .. } in &node.memo_saved {
                    let (input, output) = (number(*input_tokens), number(*output_tokens));
                    write!(f, ", saves {model} {input} tokens in, {output} out")?;
                    if let Some(usd) = usd {
                        write!(f, ", ${usd:.4}")?;
                    }
                }
                writeln!(f)?;
            }
            if let Some(increment) = &node.increment {
                writeln!(f, "  {}: {increment}", node.name)?;
            }
            if node.deleted > 0 {
                writeln!(f, "  {}: {} deleted", node.name, count(node.deleted, "stale item"))?;
            }
            if let Some(failure) = &node.failure {
                write_failure(f, &node.name, failure)?;
            }
            for errors in node.errors.chunk_by(|a, b| a.message == b.message && a.tag == b.tag) {
                write!(f, "  {}: {} [{}]", node.name, errors[0].message, errors[0].tag)?;
                if errors.len() > 1 {
                    f.write_str(", more than once")?;
                }
                writeln!(f)?;
            }
        }
        for usage in self.models() {
            let ModelUsage { model, requests, input_tokens, output_tokens, usd } = usage;
            write!(f, "  model {model}: {}", count(requests, "request"))?;
            if input_tokens + output_tokens > 0 {
                write!(f, ", {} tokens in, {} out", number(input_tokens), number(output_tokens))?;
            }
            if let Some(usd) = usd {
                write!(f, ", ${usd:.4}")?;
            }
            writeln!(f)?;
        }
        if let Some(failure) = &self.failure {
            write_failure(f, "the run", failure)?;
        }
        for warning in &self.warnings {
            writeln!(f, "  warning: {warning}")?;
        }
        Ok(())
    }
}

fn write_failure(f: &mut fmt::Formatter<'_>, who: &str, failure: &ErrorReport) -> fmt::Result {
    writeln!(f, "  {who}: failed: {} [{}]", failure.message, failure.tag)?;
    failure.causes.iter().try_for_each(|cause| writeln!(f, "    because {cause}"))
}

/// How a run stands: what [`RunHandle::progress`](super::RunHandle::progress) gives.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// How long the run has been going.
    #[serde(with = "duration")]
    pub elapsed: Duration,
    /// The nodes, in the order of the plan.
    pub nodes: Vec<NodeProgress>,
    /// Items that sources read a second, since the run began.
    pub rate: f64,
    /// How many items the sources hold in all, if they can tell.
    pub expected: Option<u64>,
    /// When it will be done, about, if the sources know their size.
    #[serde(default, with = "duration::option", skip_serializing_if = "Option::is_none")]
    pub eta: Option<Duration>,
    /// Whether this is the last snapshot.
    pub done: bool,
}

/// How a node stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeProgress {
    /// The node's name.
    pub name: Arc<str>,
    /// How it stands.
    pub status: NodeStatus,
    /// Items that came in.
    pub received: u64,
    /// Items that went out.
    pub emitted: u64,
    /// Items dropped.
    pub dropped: u64,
    /// Items that became part of the node's memory.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub absorbed: u64,
    /// Items set aside.
    pub dead_lettered: u64,
    /// Items that failed.
    pub failed: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Items whose fate is not known yet.
    pub in_flight: u64,
    /// Items that are in a source in all, if it can tell.
    pub expected: Option<u64>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", seconds(self.elapsed))?;
        for node in &self.nodes {
            write!(f, " | {} {}", node.name, number(node.received))?;
            if node.dead_lettered + node.failed > 0 {
                write!(f, " ({} set aside or failed)", number(node.dead_lettered + node.failed))?;
            }
        }
        write!(f, " | {}/s", number(self.rate as u64))?;
        if let Some(eta) = self.eta.filter(|eta| !self.done && !eta.is_zero()) {
            write!(f, " | {} left", seconds(eta))?;
        }
        Ok(())
    }
}
