//! SQL databases as sources and sinks of Nvisy Runtime.
//!
//! | name in graphs | type | what it is |
//! |---|---|---|
//! | `sql/sqlite` (connection) | [`Sqlite`] | a SQLite database file |
//! | `sql/sqlite` (source) | [`SqliteSource`] | the rows of a table or a query |
//! | `sql/sqlite` (sink) | [`SqliteSink`] | a table: insert, upsert or replace |
//!
//! [`SqliteCheckpoints`] keeps what runs need in order to go on.
//!
//! Identifiers are quoted and values bound, everywhere.

#[cfg(feature = "sqlite")]
pub mod sqlite;

use nvisy_core::Plugin;

#[cfg(feature = "sqlite")]
pub use self::sqlite::{
    ColumnType, Drift, Mode, Sqlite, SqliteCheckpoints, SqliteClient, SqliteSink, SqliteSource,
};

/// Returns the connections, sources and sinks of this crate.
#[must_use]
pub fn plugin() -> Plugin {
    let plugin = Plugin::new("sql");
    #[cfg(feature = "sqlite")]
    let plugin = plugin.connection::<Sqlite>().source::<SqliteSource>().sink::<SqliteSink>();
    plugin
}
