//! The connection to a SQLite file that holds vectors.

use nvisy_core::Result;
use nvisy_sqlite::{Content, Database, File};
use schemars::JsonSchema;

use super::client::SqliteClient;
use super::extension;

/// A SQLite file with collections of vectors: `vector/sqlite`.
///
/// One connection writes, several read. What reads or searches never writes: its connections are
/// read-only to SQLite itself. Its settings are those of every [`File`].
///
/// # Examples
///
/// ```
/// use nvisy_plugin_vector::Sqlite;
///
/// let index = Sqlite::at("index.db").create();
/// assert_eq!(serde_json::to_string(&index).unwrap(), r#"{"path":"index.db","create":true}"#);
/// ```
pub type Sqlite = File<Collections>;

/// What a [`Sqlite`] file holds: collections of vectors.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "VectorSqliteConnection")]
pub struct Collections;

impl Content for Collections {
    type Client = SqliteClient;
    const NOUN: &'static str = "index";

    fn prepare() -> Result<()> {
        extension::register()
    }

    fn client(database: Database) -> SqliteClient {
        SqliteClient { database }
    }

    fn database(client: &SqliteClient) -> &Database {
        &client.database
    }
}

#[cfg(test)]
mod tests {
    use nvisy_core::Connection;

    use super::*;

    #[test]
    fn graphs_and_schemas_know_it_by_name() {
        assert_eq!(Sqlite::NAME, "vector/sqlite");
        assert_eq!(schemars::schema_for!(Sqlite).get("title").unwrap(), "VectorSqliteConnection");
    }
}
