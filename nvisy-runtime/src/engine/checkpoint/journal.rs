//! What checkpoints hold, in the words of the engine.
//!
//! | key | value |
//! |---|---|
//! | `run` | which run it is, of which graph, and how it stands |
//! | `read/…` | how far one partition of one source is done with |
//! | `complete/NODE` | that a source has read all there was, where an action behind it remembers |
//! | `staged/NODE` | what a sink has staged |
//! | `shown/NODE` | a hash of what it has staged and shown |
//! | `state/NODE/…` | what an action remembers, in its own words |
//! | `careful` | what is replayed carefully, and what is on its way then |
//! | `feed/…`, `done/…`, `past/…` | what incremental sources have read: see [`super::feed`] |

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use nvisy_core::checkpoint::{Changes, Checkpoint, Checkpoints, Entries};
use nvisy_core::observability::field;
use nvisy_core::{
    Error, ErrorKind, Increments, Position, ReplaceSet, Result, RunId, SourceIdentity, Staging,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::careful::{Careful, Replay};
use super::feed::{self, Feed, Name, Replacing};
use super::{Stage, fingerprint, memory};
use crate::compiler::plan::PlanParts;
use crate::engine::report::CheckpointReport;
use crate::engine::run::RunParts;
use crate::engine::tracker::{Committed, SharedTracker};
use crate::registry::Registry;

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
    /// Whether it goes on. One that is found so has not ended in an orderly way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) running: bool,
    nodes: BTreeMap<String, String>,
    /// Grows from start to start, also where the state is lost: it is the time, or one more.
    #[serde(default)]
    generation: u64,
    /// How often a run has begun of a graph that had changed since the one before finished.
    #[serde(default)]
    epoch: u64,
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
    /// Of an incremental source: in which generation it began to be read, in which version.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) since: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) version: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Cursor {
    pub(super) fn of(source: &str, committed: &Committed) -> Self {
        Self {
            source: source.to_owned(),
            partition: committed.partition.to_string(),
            position: committed.position.clone(),
            items: committed.items,
            ended: committed.ended,
            since: 0,
            version: String::new(),
        }
    }

    pub(super) fn committed(self) -> Committed {
        let Self { partition, position, items, ended, .. } = self;
        Committed { partition: partition.into(), position, items, ended }
    }
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
    /// Where the partitions of each source stand, until that takes them up.
    cursors: HashMap<String, Cursors>,
    careful: Arc<Careful>,
    graph: Arc<str>,
    /// What the sources read, incremental or not.
    reads: Vec<Name>,
    /// What incremental sources read, and the sinks that delete what is stale of it.
    feeds: Vec<Arc<Feed>>,
    replacing: Vec<Arc<Replacing>>,
    /// What is stale when the next checkpoint is made, and what that says when it is deleted.
    stale: Vec<ReplaceSet>,
    done: Changes,
    /// Whether no partition counts as read to its end any more.
    held: bool,
}

impl Journal {
    /// Takes up what the checkpoints of a graph hold. `uncommitted` is how many items a run may have
    /// read that they do not.
    ///
    /// # Errors
    ///
    /// `conflict` if they are of a graph that has changed, or of a newer version.
    pub(in crate::engine) fn open(
        checkpoints: Box<dyn Checkpoints>,
        plan: &PlanParts,
        registry: &Registry,
        accepted: &[String],
        uncommitted: u64,
    ) -> Result<Self> {
        let (graph, nodes) = (&plan.graph, fingerprint::of(plan, registry));
        let last = checkpoints.last();
        let before: Option<Header> = match last.entries.get("run") {
            Some(bytes) => Some(read(&graph.name, bytes)?),
            None => None,
        };
        let (generation, mut epoch) =
            before.as_ref().map_or((0, 0), |header| (header.generation, header.epoch));
        let changed = |header: &Header| !fingerprint::changes(&header.nodes, &nodes, accepted).is_empty();
        epoch += u64::from(before.as_ref().is_some_and(|header| header.finished && changed(header)));
        let now = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or(0);
        let generation = now.max(generation + 1);
        let before = before.filter(|header| !header.finished);
        let resumed = before.is_some();
        let mut cursors = HashMap::new();
        let mut replay = Replay::default();
        if let Some(header) = &before {
            let changes = fingerprint::changes(&header.nodes, &nodes, accepted);
            if !changes.is_empty() {
                let (name, changes) = (&graph.name, changes.join("; "));
                let message = format!(
                    "the graph \"{name}\" is not the one whose run stopped half way: {changes}: run the graph as it was to its end, accept the nodes by their names (`EngineBuilder::accept_changes`), or begin anew without its state"
                );
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            cursors = cursors_in(&graph.name, last)?;
            if let Some(bytes) = last.entries.get("careful") {
                replay = read(&graph.name, bytes)?;
            }
            replay = replay.resume(!header.running, uncommitted, |source| cursors.get(source));
        }
        let run = before.map_or_else(RunId::new, |header| header.run);
        let header =
            Header { version: VERSION, run, finished: false, running: false, nodes, generation, epoch };
        let resumed_items = cursors.values().flat_map(HashMap::values).map(|committed| committed.items).sum();
        Ok(Self {
            checkpoints,
            header,
            resumed,
            resumed_items,
            cursors,
            careful: Arc::new(Careful::new(replay)),
            graph: graph.name.as_str().into(),
            reads: Vec::new(),
            feeds: Vec::new(),
            replacing: Vec::new(),
            stale: Vec::new(),
            done: Changes::default(),
            held: false,
        })
    }

    /// Returns the number of this start of the graph.
    pub(in crate::engine) fn generation(&self) -> u64 {
        self.header.generation
    }

    /// Says which system a source reads, incremental or not.
    pub(in crate::engine) fn reads(&mut self, node: &str, identity: &SourceIdentity) {
        self.reads.push(Name::new(node, identity));
    }

    /// Returns whether incremental sources have left something, of this graph or of what it was.
    pub(in crate::engine) fn has_fed(&self) -> bool {
        let entries = &self.checkpoints.last().entries;
        entries.range("feed/".to_owned()..).next().is_some_and(|(key, _)| key.starts_with("feed/"))
    }

    /// Takes up what an incremental source has read.
    pub(in crate::engine) fn feed(
        &mut self,
        (index, node): (usize, &str),
        identity: SourceIdentity,
        increments: Increments,
    ) -> Arc<Feed> {
        let entries = &self.checkpoints.last().entries;
        let mut half_way = HashMap::new();
        // What stopped half way is its own to sort out.
        for partition in self.cursors.remove(node).unwrap_or_default().into_keys() {
            let bytes = entries.get(&read_key(node, &partition));
            if let Some(cursor) = bytes.and_then(|bytes| serde_json::from_slice(bytes).ok()) {
                half_way.insert(partition, cursor);
            }
        }
        let generation = (self.header.generation, self.header.epoch);
        let graph = (self.graph.clone(), index);
        let feed = Feed::new(graph, (node, identity), increments, generation, entries, half_way);
        self.cursors.insert(node.to_owned(), feed.past(entries));
        let feed = Arc::new(feed);
        self.feeds.push(feed.clone());
        feed
    }

    /// Has a sink delete what is stale, before each checkpoint.
    pub(in crate::engine) fn replacing(&mut self, sink: Arc<Replacing>) {
        self.replacing.push(sink);
    }

    /// Says that no partition counts as read to its end any more: sinks may be gone.
    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    /// Has a checkpoint know what incremental sources are about to read.
    ///
    /// # Errors
    ///
    /// If that cannot be made durable.
    pub(super) async fn announce(&mut self) -> Result<()> {
        let mut changes = Changes::default();
        let announced: Vec<usize> = self.feeds.iter().map(|feed| feed.announce(&mut changes)).collect();
        if changes.is_empty() {
            return Ok(());
        }
        self.checkpoints.commit(changes).await?;
        self.feeds.iter().zip(announced).for_each(|(feed, partitions)| feed.is_announced(partitions));
        Ok(())
    }

    /// Closes the sinks that have been open for what was stale at the end.
    ///
    /// # Errors
    ///
    /// If one cannot be closed.
    pub(super) async fn close(&self) -> Result<()> {
        for sink in &self.replacing {
            sink.close().await?;
        }
        Ok(())
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
            // What incremental sources have read is what the next run begins with.
            let stays = |key: &str| ["feed/", "done/", "past/"].iter().any(|kind| key.starts_with(kind));
            for key in self.checkpoints.last().entries.keys().filter(|key| !stays(key)) {
                changes.remove(key.clone());
            }
        }
        self.header.running = true;
        changes.put("run", json(&self.header)?);
        self.note_careful(&mut changes)?;
        self.checkpoints.commit(changes).await.map(drop)
    }

    /// Says which sources read what has changed.
    ///
    /// # Errors
    ///
    /// If that cannot be made durable.
    pub(in crate::engine) async fn name_feeds(&mut self) -> Result<()> {
        let mut changes = Changes::default();
        for feed in &self.feeds {
            let (key, name) = feed.naming()?;
            if self.checkpoints.last().entries.get(&key) != Some(&name) {
                changes.put(key, name);
            }
        }
        if changes.is_empty() { Ok(()) } else { self.checkpoints.commit(changes).await.map(drop) }
    }

    /// Says that the run has ended in an orderly way, if that is not said.
    ///
    /// # Errors
    ///
    /// If that cannot be made durable: the next run is careful then.
    pub(super) async fn rest(&mut self) -> Result<()> {
        if !self.header.running {
            return Ok(());
        }
        self.careful.rest();
        let header = Header { running: false, ..self.header.clone() };
        let mut changes = Changes::default();
        changes.put("run", json(&header)?);
        self.note_careful(&mut changes)?;
        self.checkpoints.commit(changes).await?;
        self.header = header;
        Ok(())
    }

    /// Says that the run has ended in an orderly way though no checkpoint could be made, if that
    /// at least can be: where not, the next run is careful.
    pub(in crate::engine) async fn leave(&mut self) {
        if let Err(error) = self.rest().await {
            tracing::debug!({ field::ERROR } = error.tag(), %error, "the end of the run was not noted");
        }
    }

    /// Makes durable what is about to be on its way, if that was asked for.
    ///
    /// # Errors
    ///
    /// If it cannot.
    pub(super) async fn note(&mut self) -> Result<()> {
        let Some(ticket) = self.careful.asked() else { return Ok(()) };
        let mut changes = Changes::default();
        self.note_careful(&mut changes)?;
        if !changes.is_empty() {
            self.checkpoints.commit(changes).await?;
        }
        self.careful.durable(ticket);
        Ok(())
    }

    /// Adds what is replayed carefully, where it is not what the checkpoint has.
    fn note_careful(&self, changes: &mut Changes) -> Result<()> {
        let now = self.careful.replay().map(|replay| json(&replay)).transpose()?;
        if self.checkpoints.last().entries.get("careful") != now.as_ref() {
            match now {
                Some(now) => changes.put("careful", now),
                None => changes.remove("careful"),
            };
        }
        Ok(())
    }

    pub(in crate::engine) fn careful(&self) -> Arc<Careful> {
        self.careful.clone()
    }

    pub(in crate::engine) fn run(&self) -> RunId {
        self.header.run
    }

    /// Takes out where the partitions of a source stand.
    pub(in crate::engine) fn cursors(&mut self, source: &str) -> Cursors {
        self.cursors.remove(source).unwrap_or_default()
    }

    /// Returns whether a source had read all there was, so that actions behind it may have let go of
    /// what they made of it.
    pub(in crate::engine) fn is_complete(&self, source: &str) -> bool {
        self.resumed && self.checkpoints.last().entries.contains_key(&complete_key(source))
    }

    /// Returns what a sink had staged.
    pub(in crate::engine) fn staged(&self, node: &str) -> Option<Bytes> {
        let before = self.checkpoints.last().entries.get(&format!("staged/{node}"));
        before.filter(|_| self.resumed).cloned()
    }

    /// Returns what a sink is to do that had staged something.
    pub(in crate::engine) fn staging(&self, node: &str) -> Staging {
        let shown = self.checkpoints.last().entries.get(&format!("shown/{node}"));
        match self.staged(node) {
            Some(staged) if shown == Some(&digest(&staged)) => Staging::Shown(staged),
            staged => Staging::On(staged),
        }
    }

    /// Says that what sinks have staged shows: it need not be there any more when the run goes on.
    ///
    /// # Errors
    ///
    /// If that cannot be made durable.
    pub(super) async fn shown(&mut self, stages: &[Arc<Stage>]) -> Result<()> {
        let mut changes = Changes::default();
        for (stage, shown) in stages.iter().filter_map(|stage| Some((stage, digest(&stage.shown()?)))) {
            let key = format!("shown/{}", stage.node);
            if self.checkpoints.last().entries.get(&key) != Some(&shown) {
                changes.put(key, shown);
            }
        }
        if changes.is_empty() { Ok(()) } else { self.checkpoints.commit(changes).await.map(drop) }
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
        // What a sink that has failed has of a partition, nobody knows.
        self.held |= self.lacks_a_sink();
        let mut changes = self.moved(parts);
        for feed in self.feeds.iter().filter(|_| !self.held) {
            self.stale.extend(feed.listed(&mut changes, &mut self.done));
        }
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

    /// Returns whether a sink has failed that is to delete what is stale.
    fn lacks_a_sink(&self) -> bool {
        self.replacing.iter().any(|sink| sink.follows && sink.required && sink.has_failed())
    }

    /// Says that the run has done everything, with the last changes.
    ///
    /// # Errors
    ///
    /// If that cannot be made durable.
    pub(super) async fn finish(&mut self, parts: &RunParts, mut changes: Changes) -> Result<()> {
        let header = Header { finished: true, running: false, ..self.header.clone() };
        for key in self.checkpoints.last().entries.keys().filter(|key| key.starts_with(memory::KEYS)) {
            changes.remove(key.clone());
        }
        changes.remove("careful");
        changes.put("run", json(&header)?);
        // A feed is over when its node is gone, or reads from another system. One that is read as a
        // whole now goes on when it is incremental again.
        let is_over = (self.header.generation, |name: &Name| !self.reads.contains(name));
        let entries = &self.checkpoints.last().entries;
        let over = feed::forget(&self.graph, is_over, entries, &mut changes);
        for sink in self.replacing.iter().filter(|sink| !over.is_empty() && !sink.has_failed()) {
            sink.replace(&over).await?;
        }
        self.commit(parts, changes).await?;
        self.header = header;
        Ok(())
    }

    /// Makes a checkpoint of what was gathered; none where nothing has moved.
    ///
    /// # Errors
    ///
    /// If it cannot be made durable.
    pub(super) async fn commit(&mut self, parts: &RunParts, mut changes: Changes) -> Result<()> {
        // What is new is durable: what is stale goes, and the checkpoint says so.
        let (stale, done) = (std::mem::take(&mut self.stale), std::mem::take(&mut self.done));
        for sink in self.replacing.iter().filter(|sink| sink.follows && !stale.is_empty()) {
            if !sink.has_failed() {
                sink.replace(&stale).await?;
            } else if sink.required {
                // It has failed since all that was gathered: the next run deletes it.
                self.held = true;
            }
        }
        if stale.is_empty() || !self.held {
            changes.extend(done.iter().map(|(key, value)| (key.to_owned(), value.cloned())));
        }
        if !changes.is_empty() {
            parts.lineage.durable().await?;
            self.checkpoints.commit(changes).await?;
        }
        parts.trackers().for_each(SharedTracker::saved);
        Ok(())
    }

    /// Returns the cursors that have moved since they were asked for last. What is gathered is
    /// committed, or the run ends: nothing is asked for twice.
    fn moved(&mut self, parts: &RunParts) -> Changes {
        let mut changes = Changes::default();
        for (_, memory) in &parts.memories {
            // Where it stands is in its own words.
            memory.tracker.checkpointed();
        }
        for (index, tracker, _) in &parts.sources {
            let source = &parts.plan.0.nodes[*index].name;
            let complete = complete_key(source);
            if tracker.is_complete() && !self.checkpoints.last().entries.contains_key(&complete) {
                changes.put(complete, "");
            }
            let feed = self.feeds.iter().find(|feed| feed.source == *index);
            for mut committed in tracker.checkpointed() {
                committed.ended &= !(self.held && feed.is_some());
                // Of its own making: it is always JSON.
                let moved = match feed {
                    Some(feed) => feed.moved(&committed, &mut changes, &mut self.done),
                    None => json(&Cursor::of(source, &committed)).map(|cursor| {
                        changes.put(read_key(source, &committed.partition), cursor);
                        None
                    }),
                };
                self.stale.extend(moved.ok().flatten());
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
            careful: self.careful.counts().0,
            killed: self.careful.counts().1,
            recovery: self.checkpoints.recovery().map(ToString::to_string),
        }
    }
}

/// Returns what a checkpoint has but for what sinks and actions keep beside it, for a run that
/// changes nothing.
///
/// # Errors
///
/// As [`read`].
pub(in crate::engine) fn rehearsable(graph: &str, checkpoint: &Checkpoint) -> Result<Changes> {
    let mut changes = Changes::default();
    for (key, value) in &checkpoint.entries {
        match key.as_str() {
            "run" => {
                let header = Header { running: false, ..read(graph, value)? };
                changes.put(key.clone(), json(&header)?);
            }
            "careful" => {}
            key if ["staged/", "shown/", memory::KEYS].iter().any(|kind| key.starts_with(kind)) => {}
            _ => _ = changes.put(key.clone(), value.clone()),
        }
    }
    Ok(changes)
}

/// Returns how far each partition of each source is done with, as a checkpoint has it.
///
/// # Errors
///
/// As [`read`].
fn cursors_in(graph: &str, checkpoint: &Checkpoint) -> Result<HashMap<String, Cursors>> {
    let mut cursors: HashMap<String, Cursors> = HashMap::new();
    for bytes in checkpoint.entries.iter().filter(|(key, _)| key.starts_with("read/")).map(|(_, v)| v) {
        let cursor: Cursor = read(graph, bytes)?;
        let (source, committed) = (cursor.source.clone(), cursor.committed());
        cursors.entry(source).or_default().insert(committed.partition.clone(), committed);
    }
    Ok(cursors)
}

fn complete_key(source: &str) -> String {
    format!("complete/{source}")
}

/// Returns what tells something staged from anything else.
fn digest(staged: &Bytes) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(staged)[..16])
}

/// Returns the key of the cursor of a partition.
pub(super) fn read_key(source: &str, partition: &str) -> String {
    format!("read/{}/{source}/{partition}", source.len())
}

pub(super) fn json(value: &impl Serialize) -> Result<Bytes> {
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
