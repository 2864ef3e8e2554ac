//! What a table declares: columns, keys, row ids.

use nvisy_core::{Error, Result};
use sqlx::{Row, SqliteConnection};

use super::SqliteClient;

const COLUMNS: &str =
    "SELECT name, type, \"notnull\", pk FROM pragma_table_xinfo(?) WHERE hidden <> 1 ORDER BY cid";
const KIND: &str = "SELECT type, wr FROM pragma_table_list WHERE schema = 'main' AND name = ? COLLATE NOCASE";
const UNIQUE: &str = "SELECT l.name, i.name FROM pragma_index_list(?) AS l, pragma_index_info(l.name) AS i \
                      WHERE l.\"unique\" = 1 AND l.partial = 0 ORDER BY l.seq, i.seqno";
const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' \
                      ESCAPE '\\' ORDER BY name LIMIT 11";

/// A number that grows with every change of what the file declares.
const VERSION: &str = "PRAGMA schema_version";

/// A table or view, as it is declared.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<TableColumn>,
    /// The name that reaches the row id, where there is one and no column hides it.
    pub(crate) rowid: Option<&'static str>,
    /// The sets of columns that are unique.
    unique: Vec<Vec<String>>,
}

/// A table as it was seen, and when.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) table: Table,
    /// What [`version`] said: while it says so, the table is as it was.
    pub(crate) version: i64,
}

/// A column, as it is declared.
#[derive(Clone, Debug)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) declared: String,
    pub(crate) not_null: bool,
    /// Its place in the primary key, from one; zero if it is not in it.
    pub(crate) key: i64,
}

impl Table {
    /// Returns the column of a name, whatever its case.
    pub(crate) fn column(&self, name: &str) -> Option<&TableColumn> {
        self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// Returns the names of the primary key's columns, in its order.
    pub(crate) fn primary_key(&self) -> Vec<String> {
        let mut key: Vec<_> = self.columns.iter().filter(|column| column.key > 0).collect();
        key.sort_by_key(|column| column.key);
        key.into_iter().map(|column| column.name.clone()).collect()
    }

    /// Returns whether no two rows have the same values in these columns.
    pub(crate) fn is_unique(&self, columns: &[String]) -> bool {
        self.unique.iter().any(|unique| unique.iter().all(|name| has(columns, name)))
    }

    /// Returns whether these columns are unique together, and no fewer of them: what `ON CONFLICT` takes.
    pub(crate) fn is_key(&self, columns: &[String]) -> bool {
        self.unique.iter().any(|unique| {
            unique.iter().all(|name| has(columns, name)) && columns.iter().all(|name| has(unique, name))
        })
    }

    /// Returns whether the column is another name of the row id.
    pub(crate) fn is_rowid(&self, name: &str) -> bool {
        let key = self.primary_key();
        self.rowid.is_some()
            && matches!(key.as_slice(), [only] if only.eq_ignore_ascii_case(name))
            && self.column(name).is_some_and(|column| column.declared.eq_ignore_ascii_case("INTEGER"))
    }
}

fn has(names: &[String], name: &str) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

impl SqliteClient {
    /// Describes a table.
    pub(crate) async fn describe(&self, name: &str) -> Result<Option<Table>> {
        let mut connection = self.database.reader().await?;
        describe(&mut connection, name).await.map_err(|e| self.database.error(e))
    }

    /// The error of a table that is not there: names those that are.
    pub(crate) async fn no_such_table(&self, name: &str) -> Error {
        let tables: Vec<String> = match self.database.reader().await {
            Ok(mut connection) => {
                sqlx::query_scalar(TABLES).fetch_all(&mut *connection).await.unwrap_or_default()
            }
            Err(error) => return error,
        };
        self.database.no_such("table", name, &tables)
    }
}

/// Returns which version of its declarations the file is at.
pub(crate) async fn version(connection: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(VERSION).fetch_one(connection).await
}

pub(crate) async fn describe(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Option<Table>, sqlx::Error> {
    let rows = sqlx::query(COLUMNS).bind(name).fetch_all(&mut *connection).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut columns = Vec::with_capacity(rows.len());
    for row in rows {
        columns.push(TableColumn {
            name: row.try_get(0)?,
            declared: row.try_get::<Option<String>, _>(1)?.unwrap_or_default(),
            not_null: row.try_get::<i64, _>(2)? != 0,
            key: row.try_get(3)?,
        });
    }
    let kind = sqlx::query(KIND).bind(name).fetch_optional(&mut *connection).await?;
    let has_rowid = match kind {
        Some(row) => row.try_get::<String, _>(0)? != "view" && row.try_get::<i64, _>(1)? == 0,
        None => false,
    };
    let free =
        |name: &&str| !columns.iter().any(|column: &TableColumn| column.name.eq_ignore_ascii_case(name));
    let rowid = if has_rowid { ["rowid", "_rowid_", "oid"].into_iter().find(free) } else { None };

    let mut unique: Vec<(String, Vec<Option<String>>)> = Vec::new();
    for row in sqlx::query(UNIQUE).bind(name).fetch_all(&mut *connection).await? {
        let (index, column): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
        match unique.last_mut() {
            Some((last, columns)) if *last == index => columns.push(column),
            _ => unique.push((index, vec![column])),
        }
    }
    // An index over expressions has columns without names: it says nothing about columns.
    let unique =
        unique.into_iter().filter_map(|(_, columns)| columns.into_iter().collect::<Option<Vec<_>>>());
    let mut table = Table { name: name.to_owned(), columns, rowid, unique: unique.collect() };
    let key = table.primary_key();
    if !key.is_empty() {
        table.unique.push(key);
    }
    Ok(Some(table))
}
