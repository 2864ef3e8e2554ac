//! Where everything that was written comes from, and what became of everything that was read.
//!
//! Where an engine has a state directory ([`EngineBuilder::state`]), its runs keep a log of
//! lineage in the directory `lineage` below it; [`EngineBuilder::lineage`] keeps it elsewhere, with
//! or without state, and [`EngineBuilder::without_lineage`] keeps none. For every item that a sink
//! has written the log says from which source item it comes: source, object, offset, byte range
//! and number of the chunk where the item has them, and the nodes on the way. It holds ids, names
//! and positions, and nothing of what items hold, but for the keys that are positions in a
//! database.
//!
//! - [`trace_back`] asks where an item in a destination comes from;
//! - [`trace_forward`] asks what was made of a source item, or of a whole object: sink by sink the
//!   ids, as one needs them to delete it all;
//! - [`Trace::from_fields`] answers the first from what sinks write beside an item, where there is
//!   no log; [`Trace::comes_from`] answers the second then, row by row.
//!
//! # How to think of it
//!
//! The log is a directory of Parquet files, which other programs may read too: a row is an item,
//! or several items of one batch that were written as they were read. A file shows under its name
//! when it is whole and durable, and before the checkpoint is made that covers its items, so that
//! a process may be killed at any time: what a checkpoint has is in the log. It may be there
//! twice, for what is done again is logged again; whoever asks is told once. It may also hold what
//! a sink took and then could not make durable: that is read and written again when the run goes
//! on.
//!
//! Nothing is ever deleted from it but small files that were made one. The files that are no
//! longer wanted may be deleted at any time, also while a run goes on; what they said is gone
//! then. Files whose names end with `.part` are being written, or were when a process was killed.
//!
//! Of items that were made from others one is found by its id without reading more than the ends
//! of the files that do not have it. Items that were written as they were read are logged by
//! position, and an id is compared with those that follow from the positions: that takes about
//! as long as computing them does.
//!
//! # Examples
//!
//! ```
//! # #[cfg(all(feature = "object", feature = "vector", feature = "ai"))]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> nvisy_runtime::nvisy_core::Result<()> {
//! use nvisy_runtime::lineage::{trace_back, trace_forward};
//! use nvisy_runtime::plugins::{ai, object, vector};
//! use nvisy_runtime::prelude::*;
//!
//! # let place = tempfile::tempdir().unwrap();
//! # let place = place.path();
//! # let db = place.join("index.db").display().to_string();
//! std::fs::write(place.join("guide.txt"), "Water them weekly. Feed them in spring.").unwrap();
//! let graph = Graph::builder("passages");
//! let files = graph.connect("files", object::Local::at(place));
//! let index = graph.connect("index", vector::Sqlite::at(db).create());
//! graph
//!     .source("read", object::Text::all().glob("*.txt").on(&files))
//!     .then("chunk", ai::Chunk::sentences(1).overlap(0))
//!     .then("embed", ai::Embed::model(ai::Local::HASH).on(ai::Local::new()))
//!     .sink("store", vector::SqliteSink::collection("passages").create().on(&index));
//! let state = place.join("state");
//! let report = Engine::builder().state(&state).build()?.run(&graph.build()?).await?;
//! # assert!(report.is_success(), "{report}");
//!
//! let all = trace_forward(&state, "guide.txt")?;
//! let ids = &all.sinks["store"];
//! assert!(ids.len() > 1);
//!
//! let id = *ids.iter().next().unwrap();
//! let trace = &trace_back(&state, id)?.traces[0];
//! assert_eq!(trace.object.as_deref(), Some("guide.txt"));
//! let range = trace.byte_range.clone().unwrap();
//! assert!(range.end <= 39);
//! let nodes: Vec<_> = trace.steps.iter().map(|hop| hop.node.as_str()).collect();
//! assert_eq!(nodes, ["read", "chunk", "embed"]);
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "object", feature = "vector", feature = "ai")))]
//! # fn main() {}
//! ```
//!
//! [`EngineBuilder::state`]: crate::engine::EngineBuilder::state
//! [`EngineBuilder::lineage`]: crate::engine::EngineBuilder::lineage
//! [`EngineBuilder::without_lineage`]: crate::engine::EngineBuilder::without_lineage

mod files;
mod log;
mod rows;
mod scan;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nvisy_core::{PrimitiveId, Result};
use serde::Serialize;

pub(crate) use self::log::Log;
use self::scan::{Wanted, scan};
pub use self::trace::{Hop, Trace};

/// What [`trace_back`] has found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Back {
    /// Each way from a source item to the item, by sink. None if the log does not know the id.
    pub traces: Vec<Trace>,
    /// The files that could not be read, and why: what they say is missing.
    pub skipped: Vec<String>,
}

/// What [`trace_forward`] has found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Forward {
    /// The ids under which each sink, by the name of its node, has written what was made of it.
    pub sinks: BTreeMap<String, BTreeSet<PrimitiveId>>,
    /// The files that could not be read, and why: what they say is missing.
    pub skipped: Vec<String>,
}

/// What is to be followed forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One source item.
    Item(PrimitiveId),
    /// All items of an object, by its path in its store.
    Object(String),
}

impl From<PrimitiveId> for Subject {
    fn from(id: PrimitiveId) -> Self {
        Self::Item(id)
    }
}

/// What reads as an id is one; anything else is a path.
impl From<&str> for Subject {
    fn from(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Object(text.to_owned()), Self::Item)
    }
}

/// Returns where what was written under an id comes from. Blocks: it reads files.
///
/// `directory` is a state directory, or one that [`EngineBuilder::lineage`] names.
///
/// # Errors
///
/// `not_found` if there is no such directory, `permission` or `connection` if it cannot be read.
/// A file that cannot be read is no error: it is [named](Back::skipped).
///
/// [`EngineBuilder::lineage`]: crate::engine::EngineBuilder::lineage
pub fn trace_back(directory: impl AsRef<Path>, id: PrimitiveId) -> Result<Back> {
    let mut traces: Vec<Trace> = Vec::new();
    let skipped = scan(&log_in(directory.as_ref()), Wanted::Written(id), |found| {
        let trace = Trace::from_log(found);
        // Done again, it was logged again; the newest run stands last.
        match traces.iter_mut().find(|known| known.is_the_way_of(&trace)) {
            Some(known) => *known = trace,
            None => traces.push(trace),
        }
    })?;
    Ok(Back { traces, skipped })
}

/// Returns what was made of a source item, or of all items of an object: sink by sink the ids.
/// Blocks: it reads files.
///
/// `directory` is a state directory, or one that [`EngineBuilder::lineage`] names. Where several
/// sources have an object of that path, what was made of either is there.
///
/// # Errors
///
/// `not_found` if there is no such directory, `permission` or `connection` if it cannot be read.
/// A file that cannot be read is no error: it is [named](Forward::skipped). Where something is to
/// be deleted, look there first.
///
/// [`EngineBuilder::lineage`]: crate::engine::EngineBuilder::lineage
pub fn trace_forward(directory: impl AsRef<Path>, from: impl Into<Subject>) -> Result<Forward> {
    let from = from.into();
    let wanted = match &from {
        Subject::Item(id) => Wanted::From(*id),
        Subject::Object(object) => Wanted::Object(object),
    };
    let mut sinks: BTreeMap<String, BTreeSet<PrimitiveId>> = BTreeMap::new();
    let skipped = scan(&log_in(directory.as_ref()), wanted, |found| {
        match sinks.get_mut(found.sink) {
            Some(ids) => ids.insert(found.id),
            None => sinks.entry(found.sink.to_owned()).or_default().insert(found.id),
        };
    })?;
    Ok(Forward { sinks, skipped })
}

/// The directory of the log in a state directory.
pub(crate) const DIRECTORY: &str = "lineage";

fn log_in(directory: &Path) -> PathBuf {
    let below = directory.join(DIRECTORY);
    if below.is_dir() { below } else { directory.to_owned() }
}
