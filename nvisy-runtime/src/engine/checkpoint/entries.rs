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

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use nvisy_core::checkpoint::{Changes, Checkpoint};
use nvisy_core::{Error, ErrorKind, Position, Result, RunId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::by_partition::ByPartition;
use super::memory;
use crate::engine::tracker::Committed;

/// The version of what stands in a checkpoint.
pub(super) const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) run: RunId,
    pub(super) finished: bool,
    /// Whether it goes on. One that is found so has not ended in an orderly way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) running: bool,
    pub(super) nodes: BTreeMap<String, String>,
    /// How the nodes keep what they have: unknown of what an older version wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) works: Option<Works>,
    /// Grows from start to start, also where the state is lost: it is the time, or one more.
    #[serde(default)]
    pub(super) generation: u64,
    /// How often a run has begun of a graph that had changed since the one before finished.
    #[serde(default)]
    pub(super) epoch: u64,
}

/// The nodes that may keep something for the next run, by the way in which they do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Works {
    /// The sources that are read incrementally.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) incremental: BTreeSet<String>,
    /// The operation of each action and each buffer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) operations: BTreeMap<String, String>,
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
pub(super) fn cursors_in(graph: &str, checkpoint: &Checkpoint) -> Result<HashMap<String, Cursors>> {
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
pub(super) fn is_progress(key: &str, bytes: &Bytes) -> bool {
    if key.starts_with("read/") {
        let cursor = serde_json::from_slice::<Cursor>(bytes);
        return cursor.map_or(true, |cursor| cursor.ended || cursor.items > 0 || cursor.position.is_some());
    }
    ["staged/", "complete/", "careful", memory::KEYS].iter().any(|kind| key.starts_with(kind))
}

pub(super) fn complete_key(source: &str) -> String {
    format!("complete/{source}")
}

/// Returns what tells something staged from anything else.
pub(super) fn digest(staged: &Bytes) -> Bytes {
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
        "the state of the graph \"{graph}\" was written by a newer version: run it with that, or begin anew without it (of a state directory, remove the graph's folder)"
    );
    Err(Error::new(ErrorKind::Conflict, message))
}

fn unreadable(graph: &str) -> Error {
    let message = format!(
        "the state of the graph \"{graph}\" cannot be read: begin anew without it (of a state directory, remove the graph's folder)"
    );
    Error::new(ErrorKind::Validation, message)
}
