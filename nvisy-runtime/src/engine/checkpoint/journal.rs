//! The open checkpoints of a run: what the next one has, and that it is durable.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use nvisy_core::checkpoint::{Changes, Checkpoints, Entries};
use nvisy_core::observability::field;
use nvisy_core::{Error, ErrorKind, Increments, ReplaceSet, Result, RunId, SourceIdentity, Staging};

use super::careful::{Careful, Replay};
use super::entries::{
    Cursor, Cursors, Header, VERSION, complete_key, cursors_in, digest, is_progress, json, read, read_header,
    read_key,
};
use super::feed::{self, Feed, Name, Replacing};
use super::{Stage, fingerprint, memory};
use crate::compiler::plan::{PlanNode, PlanParts, Work};
use crate::engine::report::CheckpointReport;
use crate::engine::run::RunParts;
use crate::engine::tracker::SharedTracker;
use crate::registry::Registry;

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
        let (graph, nodes, works) = (&plan.graph, fingerprint::of(plan, registry), fingerprint::works(plan));
        let last = checkpoints.last();
        let before: Option<Header> = match last.entries.get("run") {
            Some(bytes) => Some(read_header(&graph.name, bytes)?),
            None => None,
        };
        let (generation, mut epoch) =
            before.as_ref().map_or((0, 0), |header| (header.generation, header.epoch));
        let changes =
            |header: &Header, accepted: &[String]| fingerprint::changes(&header.nodes, &nodes, accepted);
        let changed = |header: &Header| !changes(header, accepted).is_empty();
        // Where a run ended before anything of it was done with, another graph goes back on nothing;
        // but a sink that remembers what it has written has that from before, whatever was done with.
        let remembers = |node: &PlanNode| matches!(&node.work, Work::Sink(sink) if sink.remembers());
        let is_nothing = || {
            let progress = last.entries.iter().any(|(key, bytes)| is_progress(key, bytes));
            !progress && !plan.nodes.iter().any(remembers)
        };
        let over = |header: &Header| header.finished || !header.running && changed(header) && is_nothing();
        // Whoever accepts a change has a run go on: one that begins makes everything again.
        let differs = |header: &Header| !changes(header, &[]).is_empty();
        epoch += u64::from(before.as_ref().is_some_and(|header| over(header) && differs(header)));
        let now = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or(0);
        let generation = now.max(generation + 1);
        let before = before.filter(|header| !over(header));
        let resumed = before.is_some();
        let mut cursors = HashMap::new();
        let mut replay = Replay::default();
        if let Some(header) = &before {
            let toggled = header.works.as_ref().map(|before| fingerprint::toggled(before, &works, accepted));
            let changes = [changes(header, accepted), toggled.unwrap_or_default()].concat().join("; ");
            let name = &graph.name;
            if !changes.is_empty() {
                let message = format!(
                    "the graph \"{name}\" is not the one whose run stopped half way: {changes}: run the graph as it was to its end, accept the nodes by their names (`Engine::accepting`), or begin anew without its state, as in another state directory"
                );
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            let before = header.works.as_ref().unwrap_or(&works);
            let orphaned = fingerprint::orphaned(plan, before, &last.entries).join("; ");
            if !orphaned.is_empty() {
                let message = format!(
                    "the run of the graph \"{name}\" that stopped half way cannot go on, and that cannot be accepted: {orphaned}: run the graph with these nodes as they were to its end, or begin anew without its state, as in another state directory"
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
        let (version, finished, running) = (VERSION, false, false);
        let works = Some(works);
        let header = Header { version, run, finished, running, nodes, works, generation, epoch };
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
