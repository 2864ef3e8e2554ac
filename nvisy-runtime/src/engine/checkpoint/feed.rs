//! What incremental sources have read, from run to run.
//!
//! A feed is what one source node reads from one system. The checkpoint remembers of it:
//!
//! | key | value |
//! |---|---|
//! | `feed/FEED` | which node and which system it is |
//! | `done/FEED/PARTITION` | `SINCE ITEMS EPOCH VERSION`: what was read of it to the end; without a version while it is read |
//! | `past/FEED/PARTITION` | the cursor of a partition that only grows |
//!
//! A partition stands there, without a version, before anything of it is read, so that whatever a
//! run leaves that is killed is found and replaced. It is done with when everything of it is durable and what is
//! stale of it is deleted. `SINCE` is the generation that began to read this version: what was
//! written before is stale.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use nvisy_core::checkpoint::Changes;
use nvisy_core::plugin::ErasedSink;
use nvisy_core::{
    Error, ErrorKind, Increments, Origin, Partition, Position, ReplaceSet, Result, SourceIdentity,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::Request;
use super::by_partition::ByPartition;
use super::entries::{Cursor, Cursors, json, read_key};
use crate::engine::call::Caller;
use crate::engine::report::{IncrementReport, NodeStatus};
use crate::engine::tracker::Committed;

/// How many origins a sink is told of at once.
const SETS: usize = 1_024;

/// What names a feed, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Name {
    pub(super) node: String,
    pub(super) source: String,
}

impl Name {
    pub(super) fn new(node: &str, identity: &SourceIdentity) -> Self {
        Self { node: node.to_owned(), source: identity.name().to_owned() }
    }

    /// Returns the name in keys: short, for there may be a million of them.
    pub(super) fn key(&self) -> String {
        let hash = Sha256::digest(format!("{}:{}{}", self.node.len(), self.node, self.source));
        hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What is remembered of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known<'a> {
    /// The generation that began to read this version; zero if none has ended.
    pub(super) since: u64,
    pub(super) items: u64,
    /// How often the graph had changed, and the partition's version; empty if none was read.
    version: &'a str,
}

impl<'a> Known<'a> {
    pub(super) fn read(bytes: &'a Bytes) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut parts = text.splitn(3, ' ');
        let (since, items) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Self { since, items, version: parts.next().unwrap_or_default() })
    }

    fn write(self) -> Bytes {
        format!("{} {} {}", self.since, self.items, self.version).into()
    }

    fn epoch_and_version(self) -> Option<(u64, &'a str)> {
        let (epoch, version) = self.version.split_once(' ')?;
        Some((epoch.parse().ok()?, version))
    }

    /// Returns whether it has been read to its end, and is not being read again.
    pub(super) fn is_done(self) -> bool {
        self.since > 0 && !self.version.is_empty()
    }
}

/// A partition that is read in this run.
struct Opened {
    since: u64,
    version: String,
}

#[derive(Default)]
struct State {
    /// What runs before have read, until the source has listed what there is.
    known: ByPartition<Bytes>,
    /// Where the run before stopped half way.
    cursors: HashMap<Arc<str>, Cursor>,
    opened: HashMap<Arc<str>, Opened>,
    /// What is about to be read from its beginning: a checkpoint has to say so before.
    announced: Vec<(Arc<str>, Bytes)>,
    vanished: Vec<Arc<str>>,
    /// Unchanged partitions whose version reads otherwise now.
    renewed: Vec<(Arc<str>, Bytes)>,
}

/// What an incremental source reads, and has read.
pub(in crate::engine) struct Feed {
    pub(super) source: usize,
    pub(super) name: Name,
    key: String,
    graph: Arc<str>,
    identity: SourceIdentity,
    pub(in crate::engine) increments: Increments,
    generation: u64,
    /// How often the graph had changed: what another one has made is made again.
    epoch: u64,
    state: Mutex<State>,
    saved: Notify,
}

impl Feed {
    /// Takes up what a checkpoint remembers; what stopped half way only of a run that goes on.
    pub(super) fn new(
        (graph, source): (Arc<str>, usize),
        (node, identity): (&str, SourceIdentity),
        increments: Increments,
        (generation, epoch): (u64, u64),
        entries: &BTreeMap<String, Bytes>,
        cursors: HashMap<Arc<str>, Cursor>,
    ) -> Self {
        let name = Name::new(node, &identity);
        let key = name.key();
        let known = below(entries, &format!("done/{key}/")).map(|(id, bytes)| (id.into(), bytes.clone()));
        let state = State { known: known.collect(), cursors, ..State::default() };
        let (state, saved) = (Mutex::new(state), Notify::new());
        Self { source, name, key, graph, identity, increments, generation, epoch, state, saved }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self, partition: &str) -> String {
        format!("done/{}/{partition}", self.key)
    }

    fn read(&self, partition: &str) -> String {
        read_key(&self.name.node, partition)
    }

    /// Returns the key and the value that name it.
    pub(super) fn naming(&self) -> Result<(String, Bytes)> {
        Ok((format!("feed/{}", self.key), json(&self.name)?))
    }

    /// Returns a version as it is remembered.
    fn version(&self, version: Option<&str>) -> String {
        version.map_or_else(String::new, |version| format!("{} {version}", self.epoch))
    }

    /// Returns whether a partition was read to its end in the version that it has.
    fn is_as_it_was(&self, known: Known<'_>, partition: &Partition) -> bool {
        let same = |(epoch, version)| epoch == self.epoch && Some(version) == partition.version.as_deref();
        known.is_done() && known.epoch_and_version().is_some_and(same)
    }

    /// Returns the partitions that are not what they were, each with the version that they had,
    /// where the source may still find them unchanged.
    pub(in crate::engine) fn doubtful(&self, partitions: &[Partition]) -> Vec<(Partition, Arc<str>)> {
        let known = &mut self.state().known;
        let doubtful = partitions.iter().filter_map(|partition| {
            let known = known.get(&partition.id).and_then(Known::read)?;
            let (epoch, version) = known.epoch_and_version()?;
            let other = Some(version) != partition.version.as_deref();
            (known.is_done() && other && epoch == self.epoch).then(|| (partition.clone(), version.into()))
        });
        doubtful.collect()
    }

    /// Returns the error of a source that has nothing left of what it had.
    pub(in crate::engine) fn refuse_empty(&self) -> Result<()> {
        let known = self.state().known.len();
        if known == 0 {
            return Ok(());
        }
        let (of, place) = (if known == 1 { "partition" } else { "partitions" }, self.identity.name());
        Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "nothing is left of the {known} {of} that were read of \"{place}\", and all that derived from them would be deleted: \
                 look whether the place is mounted and the prefix or glob the right one, or say `allow_empty` on the source"
            ),
        ))
    }

    /// Sorts out what there is: returns what is to be read, and after which position. `same` are
    /// those doubtful ones that are what they were; what is at or below a key that is `unlisted` may
    /// still be there.
    pub(in crate::engine) fn sort(
        &self,
        partitions: Vec<Partition>,
        same: &[Partition],
        unlisted: &BTreeSet<String>,
    ) -> (Vec<(Partition, Option<Committed>)>, IncrementReport) {
        let same: std::collections::HashSet<&str> = same.iter().map(|partition| &*partition.id).collect();
        let mut state = self.state();
        let mut report = IncrementReport::default();
        let mut open = Vec::new();
        let mut gone = std::mem::take(&mut state.known);
        for partition in partitions {
            let before = gone.take(&partition.id);
            let known = before.as_ref().and_then(Known::read).filter(|known| known.since > 0);
            if known.is_some_and(|known| self.is_as_it_was(known, &partition)) {
                report.unchanged += 1;
                continue;
            }
            let version = self.version(partition.version.as_deref());
            match known {
                Some(known) if same.contains(&*partition.id) => {
                    report.unchanged += 1;
                    let known = Known { version: &version, ..known };
                    state.renewed.push((partition.id, known.write()));
                    continue;
                }
                Some(_) => report.changed += 1,
                None => report.new += 1,
            }
            let cursor = state.cursors.remove(&partition.id);
            let cursor = cursor.filter(|cursor| !version.is_empty() && cursor.version == version);
            let since = cursor.as_ref().map_or(self.generation, |cursor| cursor.since);
            if cursor.is_none() {
                let read = Known { version: "", ..known.unwrap_or_default() };
                state.announced.push((partition.id.clone(), read.write()));
            }
            state.opened.insert(partition.id.clone(), Opened { since, version });
            // It is read to its end again, which may be where it stopped.
            let committed =
                cursor.map(|cursor| Committed { ended: false, ..cursor.committed(partition.id.clone()) });
            open.push((partition, committed));
        }
        state.vanished = gone.into_names().filter(|name| !is_below(name, unlisted)).collect();
        report.vanished = state.vanished.len() as u64;
        (open, report)
    }

    /// Waits until a checkpoint has what is about to be read.
    pub(in crate::engine) async fn announced(&self, request: Option<&Request>) {
        loop {
            let saved = self.saved.notified();
            if self.state().announced.is_empty() {
                return;
            }
            if let Some(request) = request {
                request.at_once();
            }
            saved.await;
        }
    }

    /// Adds what is about to be read and no checkpoint has. Returns how many partitions those are.
    pub(super) fn announce(&self, changes: &mut Changes) -> usize {
        let state = self.state();
        for (partition, read) in &state.announced {
            changes.put(self.done(partition), read.clone()).remove(self.read(partition));
        }
        state.announced.len()
    }

    /// A checkpoint has so many partitions that are about to be read. What was listed while it was
    /// being made stands behind them, and waits for the next.
    pub(super) fn is_announced(&self, partitions: usize) {
        let mut state = self.state();
        state.announced.drain(..partitions);
        if state.announced.is_empty() {
            self.saved.notify_one();
        }
    }

    /// Adds what has become of a partition to the next checkpoint: to what it says when what is stale
    /// is deleted, where the partition has ended. Returns what that is.
    pub(super) fn moved(
        &self,
        committed: &Committed,
        changes: &mut Changes,
        done: &mut Changes,
    ) -> Result<Option<ReplaceSet>> {
        let partition = &committed.partition;
        if self.increments == Increments::Appends {
            let version = self.epoch.to_string();
            let cursor = Cursor { version, ended: false, ..Cursor::of(committed) };
            changes.put(format!("past/{}/{partition}", self.key), json(&cursor)?);
            return Ok(None);
        }
        let mut state = self.state();
        let Some(Opened { since, version }) = state.opened.get(partition) else { return Ok(None) };
        let (since, version) = (*since, version.clone());
        if !committed.ended {
            let cursor = Cursor { since, version, ..Cursor::of(committed) };
            changes.put(self.read(partition), json(&cursor)?);
            return Ok(None);
        }
        state.opened.remove(partition);
        let known = Known { since, items: committed.items, version: &version };
        done.put(self.done(partition), known.write()).remove(self.read(partition));
        Ok(Some(self.stale(partition, since)))
    }

    fn stale(&self, partition: &str, generation: u64) -> ReplaceSet {
        let origin = Origin::new(&self.graph, &self.name.node, &self.identity, partition);
        ReplaceSet { origin, generation }
    }

    /// Adds what listing has shown to the next checkpoint: what is gone to what it says when that is
    /// deleted. Returns what is stale.
    pub(super) fn listed(&self, changes: &mut Changes, done: &mut Changes) -> Vec<ReplaceSet> {
        let mut state = self.state();
        for (partition, known) in std::mem::take(&mut state.renewed) {
            changes.put(self.done(&partition), known);
        }
        let vanished = std::mem::take(&mut state.vanished);
        let stale = vanished.into_iter().map(|partition| {
            done.remove(self.done(&partition)).remove(self.read(&partition));
            self.stale(&partition, self.generation)
        });
        stale.collect()
    }

    /// Returns where the partitions of a source that only grows stand, by name.
    pub(super) fn past(&self, entries: &BTreeMap<String, Bytes>) -> Cursors {
        let past = below(entries, &format!("past/{}/", self.key));
        let cursors =
            past.filter_map(|(id, bytes)| Some((id, serde_json::from_slice::<Cursor>(bytes).ok()?)));
        let same = cursors.filter(|(_, cursor)| cursor.version == self.epoch.to_string());
        let ids = same.map(|(id, cursor)| (Arc::<str>::from(id), cursor));
        ids.map(|(id, cursor)| (id.clone(), cursor.committed(id))).collect()
    }

    /// Returns the error of a batch that does not stand where its partition is.
    pub(in crate::engine) fn check(&self, partition: &Partition, first: Option<&Position>) -> Result<()> {
        let inside = match first {
            Some(Position::Marker { object, .. }) => *object == partition.id,
            Some(_) => false,
            None => true,
        };
        if inside || self.increments == Increments::Appends {
            return Ok(());
        }
        let id = &partition.id;
        Err(Error::internal(format!(
            "the source tells what has changed by versions, and an item of partition \"{id}\" has no position in the object of that name"
        )))
    }
}

/// Returns whether a key is one of those, or below one.
fn is_below(key: &str, of: &BTreeSet<String>) -> bool {
    let parents = key.match_indices('/').map(|(at, _)| &key[..at]);
    !of.is_empty() && parents.chain([key]).any(|parent| of.contains(parent))
}

/// Returns the entries whose keys begin with `prefix`, by what follows.
fn below<'a>(
    entries: &'a BTreeMap<String, Bytes>,
    prefix: &str,
) -> impl Iterator<Item = (&'a str, &'a Bytes)> + use<'a> {
    let (from, prefix) = (entries.range(prefix.to_owned()..), prefix.to_owned());
    from.map_while(move |(key, value)| Some((key.strip_prefix(&prefix)?, value)))
}

/// Adds to the last checkpoint of a run that feeds which no source reads any more are forgotten.
/// Returns what is stale then.
pub(super) fn forget(
    graph: &str,
    (generation, is_over): (u64, impl Fn(&Name) -> bool),
    entries: &BTreeMap<String, Bytes>,
    changes: &mut Changes,
) -> Vec<ReplaceSet> {
    let mut stale = Vec::new();
    for (key, name) in below(entries, "feed/") {
        let Ok(name) = serde_json::from_slice::<Name>(name) else { continue };
        if !is_over(&name) {
            continue;
        }
        let source = SourceIdentity::new(name.source.as_str());
        for (partition, _) in below(entries, &format!("done/{key}/")) {
            changes.remove(format!("done/{key}/{partition}"));
            stale.push(ReplaceSet { origin: Origin::new(graph, &name.node, &source, partition), generation });
        }
        for (partition, _) in below(entries, &format!("past/{key}/")) {
            changes.remove(format!("past/{key}/{partition}"));
        }
        changes.remove(format!("feed/{key}"));
    }
    stale
}

/// A sink that deletes what is stale. It is closed when the last checkpoint is made.
pub(in crate::engine) struct Replacing {
    pub(in crate::engine) node: Arc<str>,
    pub(in crate::engine) sink: Arc<dyn ErasedSink>,
    pub(in crate::engine) caller: Caller,
    /// Whether more than best-effort copies come to it.
    pub(in crate::engine) required: bool,
    /// Whether what comes to it is of a source that tells what has changed; else it has only what such a
    /// source has left that is gone.
    pub(in crate::engine) follows: bool,
    /// Whether all its inputs have ended, and it has flushed.
    pub(in crate::engine) ended: AtomicBool,
}

impl Replacing {
    pub(super) fn has_failed(&self) -> bool {
        self.caller.meter.status() == NodeStatus::Failed
    }

    /// Has the sink delete what is stale. What gets best-effort copies may fail to.
    pub(super) async fn replace(&self, stale: &[ReplaceSet]) -> Result<()> {
        for sets in stale.chunks(SETS) {
            let replace = |context| async move { self.sink.replace(sets, &context).await };
            match self.caller.plain(replace).await {
                Ok(deleted) => self.caller.meter.deleted.add(deleted),
                Err(error) if self.required => return Err(error.at_node(self.node.clone())),
                Err(error) => self.caller.meter.note_error(&error),
            }
        }
        Ok(())
    }

    pub(super) async fn close(&self) -> Result<()> {
        if !self.ended.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let closed = self.caller.plain(|context| async move { self.sink.close(&context).await }).await;
        closed.map_err(|error| error.at_node(self.node.clone()))
    }
}

#[cfg(test)]
mod tests {
    use nvisy_core::Checkpoint;

    use super::*;

    fn feed(generation: u64, epoch: u64, checkpoint: &Checkpoint) -> Feed {
        let (identity, graph) = (SourceIdentity::new("file:///docs"), ("test".into(), 0));
        let versions = (Increments::Versions, (generation, epoch));
        Feed::new(graph, ("read", identity), versions.0, versions.1, &checkpoint.entries, HashMap::new())
    }

    fn partitions(n: usize, version: &str) -> Vec<Partition> {
        (0..n).map(|n| Partition::new(format!("folder/{n}.md")).with_version(version)).collect()
    }

    /// Reads what there is to its end. Returns what was found, and what is stale.
    fn read(feed: &Feed, listed: Vec<Partition>, checkpoint: &mut Checkpoint) -> (IncrementReport, u64) {
        let (open, report) = feed.sort(listed, &[], &BTreeSet::new());
        let mut changes = Changes::default();
        feed.announce(&mut changes);
        checkpoint.apply(changes);
        let (mut changes, mut done) = (Changes::default(), Changes::default());
        let mut stale = feed.listed(&mut changes, &mut done).len() as u64;
        for (partition, _) in open {
            let committed = Committed { partition: partition.id, position: None, items: 1, ended: true };
            stale += u64::from(feed.moved(&committed, &mut changes, &mut done).unwrap().is_some());
        }
        checkpoint.apply(changes);
        checkpoint.apply(done);
        (report, stale)
    }

    #[test]
    fn a_partition_costs_its_name_and_few_bytes_and_only_what_changes_is_written() {
        const MANY: usize = 20_000;
        let mut checkpoint = Checkpoint::default();
        let version = "4096-1700000000000000000";
        let all = partitions(MANY, version);
        let (found, stale) = read(&feed(1_700_000_000_000, 0, &checkpoint), all.clone(), &mut checkpoint);
        assert_eq!((found.new, stale), (MANY as u64, MANY as u64));
        let bytes: usize = checkpoint.entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        let names: usize = all.iter().map(|partition| partition.id.len() + version.len()).sum();
        assert!(
            bytes <= names + MANY * 40,
            "{} bytes each beside its name and version",
            (bytes - names) / MANY
        );

        let next = feed(1_700_000_000_001, 0, &checkpoint);
        let (open, found) = next.sort(all.clone(), &[], &BTreeSet::new());
        assert_eq!((open.len(), found.unchanged), (0, MANY as u64));
        let mut changes = Changes::default();
        let mut done = Changes::default();
        next.announce(&mut changes);
        assert!(next.listed(&mut changes, &mut done).is_empty(), "nothing is stale");
        assert!(changes.is_empty() && done.is_empty(), "nothing is written");

        let (found, _) = read(&feed(1_700_000_000_002, 1, &checkpoint), all, &mut checkpoint);
        assert_eq!(found.changed, MANY as u64, "another graph");
    }

    #[test]
    fn what_was_about_to_be_read_is_read_again_though_it_is_as_it_was_before() {
        let mut checkpoint = Checkpoint::default();
        read(&feed(1, 0, &checkpoint), partitions(2, "1"), &mut checkpoint);
        // Both have changed, and one is there no more, when the run is killed.
        let killed = feed(2, 0, &checkpoint);
        killed.sort(partitions(2, "2"), &[], &BTreeSet::new());
        let mut changes = Changes::default();
        killed.announce(&mut changes);
        checkpoint.apply(changes);
        let next = feed(3, 0, &checkpoint);
        assert!(next.doubtful(&partitions(1, "1")).is_empty());
        let (open, found) = next.sort(partitions(1, "1"), &[], &BTreeSet::new());
        assert_eq!((open.len(), found.changed, found.vanished), (1, 1, 1));
        let gone = next.listed(&mut Changes::default(), &mut Changes::default());
        assert_eq!(gone, [next.stale("folder/1.md", 3)]);
    }
}
