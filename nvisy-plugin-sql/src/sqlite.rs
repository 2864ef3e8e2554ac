//! SQLite, embedded: tables and queries as sources, tables as sinks.
//!
//! # How values become columns
//!
//! SQLite types values, not columns. A column of a batch gets its type from what the table
//! declares, and from a sample: the first 1,000 rows in the order of the key.
//!
//! | declared | read as, as long as any sampled value fits |
//! |---|---|
//! | contains `INT` | `Int64`; `Float64` if the sample holds fractions |
//! | contains `CHAR`, `CLOB`, `TEXT` | `Utf8` |
//! | contains `BLOB` | `Binary` |
//! | contains `REAL`, `FLOA`, `DOUB`, or a decimal with a scale | `Float64` |
//! | `BOOL`, `BOOLEAN` | `Boolean`: 0 and 1 |
//! | `DATE` | `Date32`: ISO 8601 texts |
//! | `DATETIME`, `TIMESTAMP…` | `Timestamp`: ISO 8601 texts; in UTC where they name a zone |
//! | anything else, or nothing | what the sample holds: `Int64`, `Float64`, `Utf8` or `Binary`; a mixture is `Utf8` |
//!
//! [`SqliteSource::column_type`] overrides it. A value that does not fit its column's type is
//! rejected with its row; the others arrive. NULL stays NULL, apart from the empty text.

mod checkpoint;
mod client;
mod column;
mod config;
mod sink;
mod source;
mod value;

pub use self::checkpoint::SqliteCheckpoints;
pub use self::client::SqliteClient;
pub use self::column::ColumnType;
pub use self::config::{Sqlite, Tables};
pub use self::sink::{Drift, Mode, OpenSqliteSink, SqliteSink};
pub use self::source::SqliteSource;
