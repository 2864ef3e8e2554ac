//! What checkpoints hold, in the words of the engine.
//!
//! | key | value |
//! |---|---|
//! | `run` | which run it is, of which graph, and how it stands |
//! | `read/…` | how far one partition of one source is done with |
//! | `staged/NODE` | what a sink has staged |
//! | `state/NODE/…` | what an action remembers, in its own words |

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use nvisy_core::checkpoint::{Changes, Checkpoints, Entries};
use nvisy_core::{Error, ErrorKind, Position, Result, RunId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Stage, fingerprint, memory};
use crate::engine::report::CheckpointReport;
use crate::engine::run::RunParts;
use crate::engine::source::SharedTracker;
use crate::engine::tracker::Committed;
use crate::graph::Graph;

/// The version of what stands in a checkpoint.
const VERSION: u32 = 1;

/// How a run ended, for the one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Outcome {
    /// Everything is read and written: the next run begins anew.
    Finished,
    /// It was told to stop, or some items failed: the next run goes on.
    Stopped,
    /// A node failed, or the run was cancelled.
    Broken,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    version: u32,
    pub(super) run: RunId,
    pub(super) finished: bool,
    nodes: BTreeMap<String, String>,
}

/// How far a partition is done with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cursor {
    pub(super) source: String,
    pub(super) partition: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) position: Option<Position>,
    /// Items up to there.
    pub(super) items: u64,
    /// Whether there is nothing behind it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) ended: bool,
}

/// Where the partitions of one source stand, by name.
pub(in crate::engine) type Cursors = HashMap<Arc<str>, Committed>;

/// The open checkpoints of a run.
pub(in crate::engine) struct Journal {
    checkpoints: Box<dyn Checkpoints>,
    header: Header,
    /// Whether the run goes on where one before it stopped.
    resumed: bool,
    resumed_items: u64,
    cursors: HashMap<(Arc<str>, Arc<str>), Committed>,
}

impl Journal {
    /// Takes up what the checkpoints of a graph hold.
    ///
    /// # Errors
    ///
    /// `conflict` if they are of a graph that has changed, or of a newer version.
    pub(in crate::engine) fn open(
        checkpoints: Box<dyn Checkpoints>,
        graph: &Graph,
        accepted: &[String],
    ) -> Result<Self> {
        let nodes = fingerprint::of(graph);
        let last = checkpoints.last();
        let before: Option<Header> = match last.entries.get("run") {
            Some(bytes) => Some(read(&graph.name, bytes)?),
            None => None,
        };
        let before = before.filter(|header| !header.finished);
        let resumed = before.is_some();
        let mut cursors = HashMap::new();
        if let Some(header) = &before {
            let changes = fingerprint::changes(&header.nodes, &nodes, accepted);
            if !changes.is_empty() {
                let (name, changes) = (&graph.name, changes.join("; "));
                let message = format!(
                    "the graph \"{name}\" is not the one whose run stopped half way: {changes}: run the graph as it was to its end, accept the nodes by their names (`EngineBuilder::accept_changes`), or begin anew without its state"
                );
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            for bytes in last.entries.iter().filter(|(key, _)| key.starts_with("read/")).map(|(_, v)| v) {
                let Cursor { source, partition, position, items, ended } = read(&graph.name, bytes)?;
                let (source, partition): (Arc<str>, Arc<str>) = (source.into(), partition.into());
                let committed = Committed { partition: partition.clone(), position, items, ended };
                cursors.insert((source, partition), committed);
            }
        }
        let run = before.map_or_else(RunId::new, |header| header.run);
        let header = Header { version: VERSION, run, finished: false, nodes };
        let resumed_items = cursors.values().map(|committed| committed.items).sum();
        Ok(Self { checkpoints, header, resumed, resumed_items, cursors })
    }

    /// Says that the run begins, so that nobody else takes it up, and that what is there of one
    /// that has finished is over.
    ///
    /// # Errors
    ///
    /// If that cannot be made durable.
    pub(in crate::engine) async fn begin(&mut self) -> Result<()> {
        let mut changes = Changes::default();
        if !self.resumed {
            for key in self.checkpoints.last().entries.keys() {
                changes.remove(key.clone());
            }
        }
        changes.put("run", json(&self.header)?);
        self.checkpoints.commit(changes).await.map(drop)
    }

    pub(in crate::engine) fn run(&self) -> RunId {
        self.header.run
    }

    /// Returns where the partitions of a source stand.
    pub(in crate::engine) fn cursors(&self, source: &str) -> Cursors {
        let of = self.cursors.iter().filter(|((node, _), _)| **node == *source);
        of.map(|((_, partition), committed)| (partition.clone(), committed.clone())).collect()
    }

    /// Returns what a sink had staged.
    pub(in crate::engine) fn staged(&self, node: &str) -> Option<Bytes> {
        let before = self.checkpoints.last().entries.get(&format!("staged/{node}"));
        before.filter(|_| self.resumed).cloned()
    }

    /// Returns what an action remembered.
    pub(in crate::engine) fn state(&self, node: &str) -> Entries {
        if self.resumed { memory::entries_of(node, &self.checkpoints.last().entries) } else { Entries::new() }
    }

    /// Returns whether the run goes on where one before it stopped.
    pub(in crate::engine) fn is_resumed(&self) -> bool {
        self.resumed
    }

    /// Collects what the next checkpoint has: how far sources are done with, and then what sinks
    /// have staged, which is settled only after that.
    pub(super) fn gather(&mut self, parts: &RunParts, stages: &[Arc<Stage>]) -> Changes {
        let mut changes = self.moved(parts);
        for stage in stages {
            let key = format!("staged/{}", stage.node);
            if let Some(staged) = stage.gather()
                && self.checkpoints.last().entries.get(&key) != Some(&staged)
            {
                changes.put(key, staged);
            }
        }
        changes
    }

    /// Says that the run has done everything, with the last changes.
    ///
    /// # Errors
    ///
    /// If that cannot be made durable.
    pub(super) async fn finish(&mut self, parts: &RunParts, mut changes: Changes) -> Result<()> {
        self.header.finished = true;
        for key in self.checkpoints.last().entries.keys().filter(|key| key.starts_with(memory::KEYS)) {
            changes.remove(key.clone());
        }
        changes.put("run", json(&self.header)?);
        self.commit(parts, changes).await
    }

    /// Makes a checkpoint of what was gathered; none where nothing has moved.
    ///
    /// # Errors
    ///
    /// If it cannot be made durable.
    pub(super) async fn commit(&mut self, parts: &RunParts, changes: Changes) -> Result<()> {
        if !changes.is_empty() {
            self.checkpoints.commit(changes).await?;
        }
        parts.trackers().for_each(SharedTracker::saved);
        Ok(())
    }

    /// Returns the cursors that have moved since they were asked for last.
    fn moved(&mut self, parts: &RunParts) -> Changes {
        let mut changes = Changes::default();
        for (_, memory) in &parts.memories {
            // Where it stands is in its own words.
            memory.tracker.checkpointed();
        }
        for (index, tracker, _) in &parts.sources {
            let source = &parts.plan.0.nodes[*index].name;
            for committed in tracker.checkpointed() {
                let key = (source.clone(), committed.partition.clone());
                if self.cursors.get(&key) == Some(&committed) {
                    continue;
                }
                let cursor = Cursor {
                    source: source.to_string(),
                    partition: committed.partition.to_string(),
                    position: committed.position.clone(),
                    items: committed.items,
                    ended: committed.ended,
                };
                // Of its own making: it is always JSON.
                if let Ok(cursor) = json(&cursor) {
                    changes.put(format!("read/{}/{source}/{}", source.len(), committed.partition), cursor);
                    self.cursors.insert(key, committed);
                }
            }
        }
        changes
    }

    pub(super) fn report(&self) -> CheckpointReport {
        CheckpointReport {
            generation: self.checkpoints.last().generation,
            resumed: self.resumed,
            resumed_items: self.resumed_items,
            finished: self.header.finished,
            recovery: self.checkpoints.recovery().map(ToString::to_string),
        }
    }
}

fn json(value: &impl Serialize) -> Result<Bytes> {
    let json = serde_json::to_vec(value);
    json.map(Bytes::from).map_err(|error| Error::internal("a checkpoint is JSON").with_source(error))
}

pub(super) fn read<T: DeserializeOwned>(graph: &str, bytes: &Bytes) -> Result<T> {
    #[derive(Deserialize)]
    struct Version {
        version: Option<u32>,
    }
    let found = serde_json::from_slice::<Version>(bytes).ok().and_then(|found| found.version);
    if found.is_some_and(|found| found > VERSION) {
        let message = format!(
            "the state of the graph \"{graph}\" was written by a newer version: run it with that, or remove its directory to begin anew"
        );
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        let message =
            format!("the state of the graph \"{graph}\" cannot be read: remove its directory to begin anew");
        Error::new(ErrorKind::Validation, message).with_source(error)
    })
}
