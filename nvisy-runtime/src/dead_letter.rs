//! Dead letters read back: what was set aside is tried again.
//!
//! Any sink keeps [dead letters](nvisy_core::DeadLetter). What reads them back is any source,
//! the action [`Replay`] behind it, and then the node where they failed with what is behind that:
//! [`replay_graph`] makes such a graph of the one in which they failed.
//!
//! - What is replayed is the item as it failed: same id, envelope and lineage. Sinks that upsert
//!   by id hold the same after two replays as after one. What an action makes of many items it
//!   would make of the letters alone: [`replay_graph`] says which do.
//! - The report says how many letters the replay took up (`in` of the node `replay`), how many
//!   of them the filter dropped, how many passed at the node where they had failed, and how many
//!   were set aside again. The attempts of those add up.
//! - Letters that are done with are not removed. A run with
//!   [checkpoints](crate::checkpoint) under the name of the replay graph goes on behind those
//!   that one before it has settled; without, name the files by run (`failed/{run}.jsonl`) and
//!   replay those of one run.
//! - Dead letters of a replay go to other places than those that it reads: a sink that replaces
//!   the file that the letters come from loses those that the filter drops.
//!
//! Letters travel as `raw` JSON. A source of JSON Lines reads their columns as text, for a
//! column that is inferred joins what the items hold:
//!
//! ```
//! # use nvisy_runtime::graph::Graph;
//! # fn main() -> Result<(), nvisy_runtime::compiler::Diagnostics> {
//! let graph = Graph::from_json(r#"{
//!     "version": 1,
//!     "name": "again",
//!     "connections": { "out": { "use": "object/local", "config": { "root": "out" } } },
//!     "nodes": {
//!         "letters": { "type": "source", "use": "object/jsonl", "connection": "out",
//!             "config": { "path": "failed.jsonl", "schema": [
//!                 { "name": "primitive", "type": "text" }, { "name": "error", "type": "text" },
//!                 { "name": "node", "type": "text" }, { "name": "attempts", "type": "int" },
//!                 { "name": "time", "type": "text" }, { "name": "position", "type": "text" } ] } },
//!         "replay": { "type": "action", "use": "dead_letter/replay", "inputs": ["letters"],
//!             "config": { "node": "vectors", "kind": "timeout" } },
//!         "vectors": { "type": "action", "use": "ai/embed", "connection": { "use": "ai/local" },
//!             "inputs": ["replay"], "config": { "model": "local/hash" } },
//!         "store": { "type": "sink", "use": "vector/sqlite", "inputs": ["vectors"],
//!             "connection": { "use": "vector/sqlite", "config": { "path": "index.db" } },
//!             "config": { "collection": "passages" } }
//!     }
//! }"#)?;
//! # assert_eq!(graph.nodes.len(), 4);
//! # Ok(())
//! # }
//! ```
//!
//! A sink that takes rows alone, such as `sql/sqlite`, keeps them behind [`Tabulate`]; its table
//! is read back as it is.
//!
//! How many items may go aside before a run fails is said by
//! [`settings.dead_letter_limit`](crate::graph::DeadLetterLimit).

mod graph;
mod replay;
mod tabulate;

pub use self::graph::replay_graph;
pub use self::replay::Replay;
pub use self::tabulate::Tabulate;
