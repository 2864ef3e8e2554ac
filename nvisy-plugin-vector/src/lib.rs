//! Vector stores as sources and sinks of Nvisy Runtime, and search in them.
//!
//! | name in graphs | type | what it is |
//! |---|---|---|
//! | `vector/sqlite` (connection) | [`Sqlite`] | a SQLite file with sqlite-vec and FTS5 |
//! | `vector/sqlite` (source) | [`SqliteSource`] | the embeddings of a collection |
//! | `vector/sqlite` (sink) | [`SqliteSink`] | a collection: upsert by id |
//!
//! [`Search`] finds what is in a collection: by vector, by full text, or by both.

#[cfg(feature = "sqlite")]
mod filter;
#[cfg(feature = "sqlite")]
mod point;
#[cfg(feature = "sqlite")]
pub mod search;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use nvisy_core::Plugin;

#[cfg(feature = "sqlite")]
pub use self::filter::{Field, Filter};
#[cfg(feature = "sqlite")]
pub use self::search::{Hit, Search};
#[cfg(feature = "sqlite")]
pub use self::sqlite::{Collection, Sqlite, SqliteClient, SqliteSink, SqliteSource};

/// Returns the connections, sources and sinks of this crate.
#[must_use]
pub fn plugin() -> Plugin {
    let plugin = Plugin::new("vector");
    #[cfg(feature = "sqlite")]
    let plugin = plugin.connection::<Sqlite>().source::<SqliteSource>().sink::<SqliteSink>();
    plugin
}
