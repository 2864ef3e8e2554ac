//! What a checkpoint tells of its run, to whoever looks at it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use nvisy_core::{Checkpoint, Result, RunId};
use serde::{Deserialize, Serialize};

use super::careful::Replay;
use super::entries::{Cursor, of_read_key, read, read_header, read_key};
use super::feed::{Known, Name};
use super::memory;
use crate::compiler::number;
use crate::engine::report::{PartitionReport, count};

/// Where a run stands, as its last checkpoint says: also of a run that goes on, or that was
/// killed.
///
/// # Examples
///
/// ```no_run
/// use nvisy_runtime::checkpoint::DirectoryStore;
/// use nvisy_runtime::engine::RunState;
///
/// # async fn look() -> nvisy_core::Result<()> {
/// if let Some(checkpoint) = DirectoryStore::new("state").peek("tickets").await? {
///     println!("{}", RunState::of("tickets", &checkpoint)?);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RunState {
    /// The graph's name.
    pub graph: Arc<str>,
    /// The run. None before the first one.
    pub run: Option<RunId>,
    /// How many checkpoints there have been of the graph.
    pub generation: u64,
    /// Whether it has done everything: the next run begins anew.
    pub finished: bool,
    /// How far each partition of each source is done with.
    pub partitions: Vec<PartitionReport>,
    /// How many of those are done with to their end.
    pub ended: usize,
    /// The sinks that have files which a checkpoint has.
    pub staged: Vec<Arc<str>>,
    /// What nodes remember.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remembered: Vec<NodeMemory>,
    /// Whether the run goes on. If no process has it, it ended half way, and the next run replays
    /// carefully what has no checkpoint.
    pub running: bool,
    /// What is on its way while that is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub begun: Vec<Begun>,
    /// Whether the next run of one that is finished reads only what has changed since.
    #[serde(default)]
    pub incremental: bool,
}

/// How much a checkpoint has of what a node remembers. What it keeps in files beside is not counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeMemory {
    /// The node.
    pub node: Arc<str>,
    /// How many entries.
    pub entries: u64,
    /// How many bytes in them.
    pub bytes: u64,
}

/// Items that were noted before they were sent into the graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Begun {
    /// The source node.
    pub source: Arc<str>,
    /// The partition.
    pub partition: Arc<str>,
    /// How many items of the partition stand before them.
    pub from: u64,
    /// How many they are.
    pub items: u64,
    /// How often the process has ended before with nothing but this one on its way.
    pub times: u32,
}

impl RunState {
    /// Reads what a checkpoint of `graph` tells.
    ///
    /// # Errors
    ///
    /// `conflict` if a newer version has made it, `validation` if it cannot be read.
    pub fn of(graph: &str, checkpoint: &Checkpoint) -> Result<Self> {
        let header = checkpoint.entries.get("run").map(|bytes| read_header(graph, bytes)).transpose()?;
        let running = header.as_ref().is_some_and(|header| header.running);
        let mut state = Self {
            graph: graph.into(),
            run: header.as_ref().map(|header| header.run),
            generation: checkpoint.generation,
            finished: header.is_some_and(|header| header.finished),
            partitions: Vec::new(),
            ended: 0,
            staged: Vec::new(),
            remembered: Vec::new(),
            running,
            begun: Vec::new(),
            incremental: checkpoint.entries.keys().any(|key| key.starts_with("past/")),
        };
        let mut feeds: HashMap<&str, Arc<str>> = HashMap::new();
        for (key, bytes) in checkpoint.entries.iter().filter(|(key, _)| key.starts_with("feed/")) {
            feeds.insert(&key["feed/".len()..], read::<Name>(graph, bytes)?.node.into());
        }
        for (key, bytes) in &checkpoint.entries {
            let past = key.strip_prefix("past/").and_then(|key| key.split_once('/'));
            let cursor = match past.map(|(feed, partition)| (feeds.get(feed), partition)) {
                _ if key.starts_with("read/") => Some(of_read_key(graph, key)?),
                Some((Some(source), partition)) => Some((&**source, partition)),
                _ => None,
            };
            if let Some((source, partition)) = cursor {
                let Cursor { position, items, ended, .. } = read(graph, bytes)?;
                state.ended += usize::from(ended);
                let (source, partition) = (source.into(), partition.into());
                state.partitions.push(PartitionReport { source, partition, position, items });
            } else if let Some((feed, partition)) =
                key.strip_prefix("done/").and_then(|key| key.split_once('/'))
            {
                let (Some(known), Some(source)) = (Known::read(bytes), feeds.get(feed)) else { continue };
                // What is read of it now is told of where that stands.
                if checkpoint.entries.contains_key(&read_key(source, partition)) {
                    continue;
                }
                state.incremental = true;
                state.ended += usize::from(known.is_done());
                let (source, partition, items) = (source.clone(), partition.into(), known.items);
                state.partitions.push(PartitionReport { source, partition, position: None, items });
            } else if let Some(sink) = key.strip_prefix("staged/") {
                state.staged.push(sink.into());
            } else if let Some(node) = memory::node_of(key) {
                // The entries of a node stand together.
                if state.remembered.last().is_none_or(|last| *last.node != *node) {
                    state.remembered.push(NodeMemory { node: node.into(), entries: 0, bytes: 0 });
                }
                if let Some(last) = state.remembered.last_mut() {
                    last.entries += 1;
                    last.bytes += bytes.len() as u64;
                }
            }
        }
        if let Some(bytes) = checkpoint.entries.get("careful") {
            state.begun = read::<Replay>(graph, bytes)?.open();
        }
        Ok(state)
    }

    /// Returns how many items of its sources are done with.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.items).sum()
    }
}

/// How many partitions are named.
const NAMED: usize = 10;

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(run) = &self.run else { return writeln!(f, "no run of \"{}\" has begun", self.graph) };
        let how = match (self.finished, self.incremental) {
            (true, true) => "finished: the next one reads what has changed",
            (true, false) => "finished: the next one begins anew",
            (false, _) => "to be resumed",
        };
        writeln!(f, "run {run} of \"{}\", checkpoint {}: {how}", self.graph, number(self.generation))?;
        let parts = count(self.partitions.len() as u64, "partition");
        let (items, ended) = (count(self.items(), "item"), number(self.ended as u64));
        writeln!(f, "  {items} done with in {parts}, {ended} of them to the end")?;
        for PartitionReport { source, partition, position, items } in self.partitions.iter().take(NAMED) {
            let behind =
                position.as_ref().map_or_else(String::new, |position| format!(", behind {position}"));
            writeln!(f, "  {source} {partition}: {}{behind}", count(*items, "item"))?;
        }
        if self.partitions.len() > NAMED {
            writeln!(f, "  and {} more", count((self.partitions.len() - NAMED) as u64, "partition"))?;
        }
        for sink in &self.staged {
            writeln!(f, "  {sink}: its files are those of the checkpoint")?;
        }
        for NodeMemory { node, entries, bytes } in &self.remembered {
            let (entries, bytes) = (number(*entries), number(*bytes));
            writeln!(f, "  {node}: remembers {entries} entries of {bytes} bytes")?;
        }
        if self.running {
            writeln!(f, "  it goes on, or its process ended half way")?;
        }
        for Begun { source, partition, from, items, times } in self.begun.iter().take(NAMED) {
            let first = number(from + 1);
            let what = match items {
                1 => format!("item {first}"),
                _ => format!("items {first} to {}", number(from + items)),
            };
            write!(f, "  {source} {partition}: {what} begun")?;
            if *times > 0 {
                write!(f, ", which ended the process {} before", count(u64::from(*times), "time"))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
