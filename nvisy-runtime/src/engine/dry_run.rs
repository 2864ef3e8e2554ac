//! What a run would do, found out by sending a sample through the graph that writes nothing.

mod rehearsal;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use nvisy_core::{Checkpoint, CheckpointStore, Result, Spill};
use serde::{Deserialize, Serialize};

use self::rehearsal::{Sample, rehearsed};
use super::checkpoint::{RunState, rehearsable};
use super::report::{IncrementReport, RunReport, RunStatus, count};
use super::{Engine, executor, prepare};
use crate::checkpoint::MemoryStore;
use crate::compiler::plan::Work;
use crate::compiler::{ExecutionPlan, number};

/// How many items of a source are looked at.
const ITEMS: u64 = 1_000;
/// In how many of its partitions.
const PARTITIONS: u64 = 32;

/// What a run would do: see [`Engine::dry_run`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DryRun {
    /// The graph's name.
    pub graph: Arc<str>,
    /// Where the run stands that it would go on with. None where it would begin anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumes: Option<RunState>,
    /// What does not exist yet, and a run would create: to the dry run it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub creates: Vec<Creation>,
    /// What there is to read.
    pub sources: Vec<SourceForecast>,
    /// What would come to the other nodes.
    pub nodes: Vec<NodeForecast>,
    /// What became of the sample, node by node.
    pub sample: RunReport,
}

/// What a connection would create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Creation {
    /// The connection.
    pub connection: Arc<str>,
    /// What: such as `database "index.db"`.
    pub what: String,
}

/// What there is to read of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourceForecast {
    /// The node.
    pub name: Arc<str>,
    /// How many partitions there are.
    pub partitions: u64,
    /// How many of those are to be read: the others are done with, or unchanged.
    pub open: u64,
    /// What is new, changed and gone, of a source that reads incrementally.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub increment: Option<IncrementReport>,
    /// How many items are to be read.
    pub items: Forecast,
    /// How many bytes they take in memory.
    pub bytes: Forecast,
    /// How many items were looked at.
    pub sampled: u64,
}

/// What would come to a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeForecast {
    /// The node.
    pub name: Arc<str>,
    /// The name of its type.
    pub operation: Arc<str>,
    /// How many items it would get. None behind calls that were not made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Forecast>,
    /// What its calls would be for, if it calls another system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<CallsForecast>,
}

/// What the calls of a node would be for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CallsForecast {
    /// Items that it would be called with.
    pub items: Forecast,
    /// Model tokens that they weigh, where the node weighs them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Forecast>,
    /// Items whose result the memo has.
    pub remembered: Forecast,
}

/// A number that is to be expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Forecast {
    /// Counted.
    Exactly(u64),
    /// Taken from a sample.
    About(u64),
    /// Counted, and there is more.
    MoreThan(u64),
}

impl Forecast {
    /// Returns the number.
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            Self::Exactly(n) | Self::About(n) | Self::MoreThan(n) => n,
        }
    }

    /// Returns the forecast of a part of what this one is of: `part` of `sampled`.
    fn of(self, part: u64, sampled: u64) -> Self {
        let scaled = |n: u64| {
            if sampled == 0 { 0 } else { (n as f64 * part as f64 / sampled as f64).round() as u64 }
        };
        match self {
            Self::Exactly(n) if n == sampled => Self::Exactly(part),
            Self::Exactly(n) | Self::About(n) => Self::About(scaled(n)),
            Self::MoreThan(n) => Self::MoreThan(scaled(n)),
        }
    }

    fn plus(self, other: Self) -> Self {
        let sum = self.number().saturating_add(other.number());
        match (self, other) {
            (Self::MoreThan(_), _) | (_, Self::MoreThan(_)) => Self::MoreThan(sum),
            (Self::About(_), _) | (_, Self::About(_)) => Self::About(sum),
            (Self::Exactly(_), Self::Exactly(_)) => Self::Exactly(sum),
        }
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(n) => f.pad(&number(*n)),
            Self::About(n) => f.pad(&format!("about {}", number(*n))),
            Self::MoreThan(n) => f.pad(&format!("more than {}", number(*n))),
        }
    }
}

/// Rehearses a run of a plan: on a copy of what its checkpoint has, in memory.
pub(super) async fn dry_run(engine: &Engine, plan: &ExecutionPlan) -> Result<DryRun> {
    let name = &plan.0.graph.name;
    let engine = &engine.keeping(plan)?;
    let spill = Spill::temporary();
    let (copy, checkpoint) = match &engine.0.checkpoints {
        None => (None, Checkpoint::default()),
        Some(store) => {
            let checkpoint = store.peek(name).await?.unwrap_or_default();
            let copy = MemoryStore::new();
            copy.open(name).await?.commit(rehearsable(name, &checkpoint)?).await?;
            (Some(Arc::new(copy) as Arc<dyn CheckpointStore>), checkpoint)
        }
    };
    let state = RunState::of(name, &checkpoint)?;
    let resumes = Some(state).filter(|state| state.run.is_some() && !state.finished);
    let (plan, samples, tallies) = rehearsed(plan);
    let (creates, sample) = {
        let engine = engine.rehearsing(copy, spill.path()?.to_owned());
        let mut prepared = prepare::prepare(&engine, &plan).await?;
        let missing = std::mem::take(&mut prepared.connections.missing).into_iter();
        let creates = missing.map(|(connection, what)| Creation { connection, what }).collect();
        (creates, executor::start(prepared).wait().await?)
    };
    let mut sources = Vec::new();
    let mut forecasts: Vec<Option<(Forecast, u64)>> = Vec::new();
    let mut nodes = Vec::new();
    for (index, node) in plan.0.nodes.iter().enumerate() {
        if let Some(seen) = &samples[index] {
            let increment = sample.nodes.get(index).and_then(|report| report.increment);
            let forecast = seen.forecast(&node.name, increment);
            forecasts.push(Some((forecast.items, forecast.sampled)));
            sources.push(forecast);
            continue;
        }
        // What comes of a source grows as the source does.
        let before = node.inputs.iter().map(|edge| plan.0.edges[*edge].from);
        let before: Option<Vec<(Forecast, u64)>> =
            before.map(|from| forecasts[from].filter(|_| tallies[from].is_none())).collect();
        let scale = before.and_then(|before| {
            before
                .into_iter()
                .reduce(|(a, n), (b, m)| if (a, n) == (b, m) { (a, n) } else { (a.plus(b), n + m) })
        });
        forecasts.push(scale);
        let report = sample.nodes.get(index);
        let received = report.map_or(0, |report| report.received);
        let calls = tallies[index].as_ref().zip(scale).map(|(tally, (all, sampled))| {
            let tally = *tally.lock().unwrap_or_else(PoisonError::into_inner);
            CallsForecast {
                items: all.of(tally.items, sampled),
                tokens: tally.tokens.map(|tokens| all.of(tokens, sampled)),
                remembered: all.of(received.saturating_sub(tally.items), sampled),
            }
        });
        nodes.push(NodeForecast {
            name: node.name.clone(),
            operation: node.operation.clone(),
            items: scale.map(|(all, sampled)| all.of(received, sampled)),
            calls,
        });
    }
    Ok(DryRun { graph: name.as_str().into(), resumes, creates, sources, nodes, sample })
}

/// What a node would be called with.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    items: u64,
    tokens: Option<u64>,
}

type Tallies = Vec<Option<Arc<Mutex<Tally>>>>;
type Samples = Vec<Option<Arc<Sample>>>;

impl DryRun {
    /// Returns whether the sample went through without a failure.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.sample.status == RunStatus::Success
    }
}

impl fmt::Display for DryRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "dry run of \"{}\": nothing was written, and nobody was called", self.graph)?;
        match &self.resumes {
            Some(state) => write!(f, "  a run would go on with this one: {state}")?,
            None => writeln!(f, "  a run would begin anew")?,
        }
        for Creation { connection, what } in &self.creates {
            writeln!(f, "  a run would create the {what} (connection \"{connection}\")")?;
        }
        for source in &self.sources {
            let SourceForecast { name, partitions, open, increment, items, bytes, sampled } = source;
            write!(f, "  {name}: {items} items in {}", count(*open, "partition"))?;
            match increment {
                Some(increment) => write!(f, " ({increment})")?,
                None if open < partitions => write!(f, " of {}", number(*partitions))?,
                None => {}
            }
            writeln!(f, ", {bytes} bytes in memory ({} looked at)", count(*sampled, "item"))?;
        }
        for node in &self.nodes {
            match &node.items {
                Some(items) => write!(f, "  {} ({}): {items} items", node.name, node.operation)?,
                None => write!(f, "  {} ({}): what the calls before it give", node.name, node.operation)?,
            }
            if let Some(CallsForecast { items, tokens, remembered }) = &node.calls {
                write!(f, "; it would be called with {items}")?;
                if let Some(tokens) = tokens {
                    write!(f, " of {tokens} tokens")?;
                }
                if remembered.number() > 0 {
                    write!(f, ", the memo has {remembered}")?;
                }
            }
            writeln!(f)?;
        }
        if !self.is_success() {
            write!(f, "the sample failed: {}", self.sample)?;
        }
        Ok(())
    }
}
