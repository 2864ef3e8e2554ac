//! SQLite as a vector store: sqlite-vec for vectors, FTS5 for texts, in one file.
//!
//! Search by vector is exact: every vector is compared. Search by text is BM25 over titles and
//! texts, stemmed by Porter's rules and with diacritics removed.

mod client;
mod config;
#[expect(unsafe_code, reason = "SQLite takes extensions as C functions")]
mod extension;
mod sink;
mod source;

pub use self::client::{Collection, SqliteClient};
pub use self::config::{Collections, Sqlite};
pub use self::sink::{OpenSqliteSink, SqliteSink};
pub use self::source::SqliteSource;
