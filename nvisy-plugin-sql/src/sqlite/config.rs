//! The connection to a SQLite database file.

use nvisy_sqlite::{Content, Database, File};
use schemars::JsonSchema;

use super::client::SqliteClient;

/// A SQLite database file: `sql/sqlite`.
///
/// One connection writes, several read. A source never writes: its connections are read-only
/// to SQLite itself. Its settings are those of every [`File`].
///
/// # Examples
///
/// ```
/// use nvisy_plugin_sql::Sqlite;
///
/// let tickets = Sqlite::at("tickets.db").create();
/// assert_eq!(serde_json::to_string(&tickets).unwrap(), r#"{"path":"tickets.db","create":true}"#);
/// ```
pub type Sqlite = File<Tables>;

/// What a [`Sqlite`] file holds: tables and views.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(rename = "SqliteConnection")]
pub struct Tables;

impl Content for Tables {
    type Client = SqliteClient;
    const NOUN: &'static str = "database";

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
        assert_eq!(Sqlite::NAME, "sql/sqlite");
        assert_eq!(schemars::schema_for!(Sqlite).get("title").unwrap(), "SqliteConnection");
    }
}
