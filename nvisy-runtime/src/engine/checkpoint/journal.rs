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

use super::by_partition::ByPartition;
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

/// How far a partition is done with. Which one it is, its key says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// None where there is nothing behind it.
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
    pub(super) fn of(committed: &Committed) -> Self {
        let Committed { items, ended, .. } = *committed;
        Self { position: committed.position.clone(), items, ended, since: 0, version: String::new() }
    }

    pub(super) fn committed(self, partition: Arc<str>) -> Committed {
        let Self { position, items, ended, .. } = self;
        Committed { partition, position, items, ended }
    }
}

/// Where the partitions of one source stand, by name.
pub(in crate::engine) type Cursors = ByPartition<Committed>;

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
            Some(bytes) => Some(read_header(&graph.name, bytes)?),
            None => None,
        };
        let (generation, mut epoch) =
            before.as_ref().map_or((0, 0), |header| (header.generation, header.epoch));
        let changed = |header: &Header| !fingerprint::changes(&header.nodes, &nodes, accepted).is_empty();
        // Where a run ended before anything of it was done with, another graph goes back on nothing.
        let is_nothing = || !last.entries.iter().any(|(key, bytes)| is_progress(key, bytes));
        let over = |header: &Header| header.finished || !header.running && changed(header) && is_nothing();
        epoch += u64::from(before.as_ref().is_some_and(|header| changed(header) && over(header)));
        let now = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or(0);
        let generation = now.max(generation + 1);
        let before = before.filter(|header| !over(header));
        let resumed = before.is_some();
        let mut cursors = HashMap::new();
        let mut replay = Replay::default();
        if let Some(header) = &before {
            let changes = fingerprint::changes(&header.nodes, &nodes, accepted);
            if !changes.is_empty() {
                let (name, changes) = (&graph.name, changes.join("; "));
                let message = format!(
                    "the graph \"{name}\" is not the one whose run stopped half way: {changes}: run the graph as it was to its end, accept the nodes by their names (`EngineBuilder::accept_changes`), or begin anew with another state directory"
                );
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            cursors = cursors_in(&graph.name, last)?;
            if let Some(bytes) = last.entries.get("careful") {
                replay = read(&graph.name, bytes)?;
            }
            let cursor = |source: &str, partition: &str| cursors.get_mut(source)?.get(partition).cloned();
            replay = replay.resume(!header.running, uncommitted, cursor);
        }
        let run = before.map_or_else(RunId::new, |header| header.run);
        let header =
            Header { version: VERSION, run, finished: false, running: false, nodes, generation, epoch };
        let resumed_items =
            cursors.values().flat_map(Cursors::iter).map(|(_, committed)| committed.items).sum();
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
        for partition in self.cursors.remove(node).unwrap_or_default().into_names() {
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
        self.store(changes).await?;
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
        self.store(changes).await
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
        self.store(changes).await
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
        self.store(changes).await?;
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
        self.store(changes).await?;
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
        self.store(changes).await
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
            self.store(changes).await?;
        }
        parts.trackers().for_each(SharedTracker::saved);
        Ok(())
    }

    /// Makes changes durable, but for removals of what is not there; nothing where there are none.
    async fn store(&mut self, mut changes: Changes) -> Result<()> {
        let entries = &self.checkpoints.last().entries;
        changes.retain(|key, value| value.is_some() || entries.contains_key(key));
        if changes.is_empty() { Ok(()) } else { self.checkpoints.commit(changes).await.map(drop) }
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
                    None => {
                        if committed.ended {
                            committed.position = None;
                        }
                        json(&Cursor::of(&committed)).map(|cursor| {
                            changes.put(read_key(source, &committed.partition), cursor);
                            None
                        })
                    }
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
                let header = Header { running: false, ..read_header(graph, value)? };
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
    let entries = checkpoint.entries.range("read/".to_owned()..);
    let entries = entries.take_while(|(key, _)| key.starts_with("read/"));
    let mut entries = entries.map(|(key, bytes)| read_cursor(graph, key, bytes)).peekable();
    // Those of a source stand together.
    while let Some(first) = entries.next() {
        let (source, first) = first?;
        let same = |entry: &Result<(&str, Committed)>| entry.as_ref().is_ok_and(|(of, _)| *of == source);
        let more = std::iter::from_fn(|| entries.next_if(same)?.ok().map(|(_, cursor)| cursor));
        let all = std::iter::once(first).chain(more);
        cursors.insert(source.to_owned(), all.map(|cursor| (cursor.partition.clone(), cursor)).collect());
    }
    Ok(cursors)
}

/// Returns of which source the entry is, and how far which of its partitions is done with.
fn read_cursor<'a>(graph: &str, key: &'a str, bytes: &Bytes) -> Result<(&'a str, Committed)> {
    let (source, partition) = of_read_key(graph, key)?;
    let cursor: Cursor = read(graph, bytes)?;
    Ok((source, cursor.committed(partition.into())))
}

/// Returns whether an entry says that something of a run is done with.
fn is_progress(key: &str, bytes: &Bytes) -> bool {
    if key.starts_with("read/") {
        let cursor = serde_json::from_slice::<Cursor>(bytes);
        return cursor.map_or(true, |cursor| cursor.ended || cursor.items > 0 || cursor.position.is_some());
    }
    ["staged/", "complete/", "careful", memory::KEYS].iter().any(|kind| key.starts_with(kind))
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

/// Returns the source and the partition of such a key.
///
/// # Errors
///
/// `validation` if it is none.
pub(super) fn of_read_key<'a>(graph: &str, key: &'a str) -> Result<(&'a str, &'a str)> {
    let parts = || {
        let (len, rest) = key.strip_prefix("read/")?.split_once('/')?;
        let (source, partition) = rest.split_at_checked(len.parse().ok()?)?;
        Some((source, partition.strip_prefix('/')?))
    };
    parts().ok_or_else(|| unreadable(graph))
}

pub(super) fn json(value: &impl Serialize) -> Result<Bytes> {
    let json = serde_json::to_vec(value);
    json.map(Bytes::from).map_err(|error| Error::internal("a checkpoint is JSON").with_source(error))
}

/// Reads what a checkpoint has as JSON.
///
/// # Errors
///
/// `conflict` if a newer version has written it, `validation` if it cannot be read.
pub(super) fn read<T: DeserializeOwned>(graph: &str, bytes: &Bytes) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let version = serde_json::from_slice(bytes).map_or(VERSION, |Version { version }| version);
        newer(graph, version).err().unwrap_or_else(|| unreadable(graph).with_source(error))
    })
}

/// Reads how a run stands.
///
/// # Errors
///
/// As [`read`].
pub(super) fn read_header(graph: &str, bytes: &Bytes) -> Result<Header> {
    let header: Header = read(graph, bytes)?;
    newer(graph, header.version).map(|()| header)
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

fn newer(graph: &str, version: u32) -> Result<()> {
    if version <= VERSION {
        return Ok(());
    }
    let message = format!(
        "the state of the graph \"{graph}\" was written by a newer version: run it with that, or remove its directory to begin anew"
    );
    Err(Error::new(ErrorKind::Conflict, message))
}

fn unreadable(graph: &str) -> Error {
    let message =
        format!("the state of the graph \"{graph}\" cannot be read: remove its directory to begin anew");
    Error::new(ErrorKind::Validation, message)
}
