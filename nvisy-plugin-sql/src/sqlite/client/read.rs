//! Reading: one page of a table or query after another, in the order of a unique key.

mod page;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use futures::TryStreamExt;
use nvisy_core::position::KeyValue;
use nvisy_core::{BatchLimits, Error, ErrorKind, Position, Result};
use serde_json::Value as Json;
use sqlx::sqlite::{SqliteArguments, SqliteRow, SqliteStatement};
use sqlx::{Arguments, AssertSqlSafe, Column as _, Executor, SqlSafeStr, Statement, TypeInfo};

use self::page::{Page, PageBuilder};
use super::{SqliteClient, Table, quoted};
use crate::sqlite::column::{ColumnType, Sample, field};
use crate::sqlite::value::{Value, bind_json, bind_key, exact_float};

/// How many rows show what types the columns have.
const SAMPLE_ROWS: i64 = 1_000;
/// How many bytes of them, at the most.
const SAMPLE_BYTES: usize = 16 << 20;

/// What to read from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From<'a> {
    /// A table or view.
    Table(&'a str),
    /// A query.
    Query(&'a str),
}

/// What to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selection<'a> {
    pub(crate) from: From<'a>,
    /// The columns; empty for all.
    pub(crate) columns: &'a [String],
    pub(crate) filter: Option<&'a str>,
    pub(crate) parameters: &'a [Json],
    /// The columns of the key; empty to find one.
    pub(crate) key: &'a [String],
    pub(crate) types: &'a BTreeMap<String, ColumnType>,
}

#[derive(Debug)]
struct Column {
    name: String,
    /// How it is written in a query.
    expression: String,
    declared: String,
    not_null: bool,
}

/// A source that is ready to be read.
#[derive(Debug)]
pub(crate) struct Reader {
    /// What is read, for messages.
    what: String,
    columns: Vec<(String, ColumnType, bool)>,
    schema: SchemaRef,
    key: Vec<String>,
    parameters: Vec<Json>,
    /// The first and the last key.
    range: Option<(i64, i64)>,
    first: Arc<str>,
    next: Arc<str>,
}

/// The parts of the queries of a selection.
#[derive(Debug)]
struct Parts {
    what: String,
    from: String,
    columns: Vec<Column>,
    /// The key's columns by name, and how they are written in a query.
    key: Vec<(String, String)>,
    filter: Option<String>,
    /// Whether the key is the row id alone, whose ranges are cheap.
    is_rowid: bool,
}

impl Parts {
    /// Writes a query over the columns and the key, in the order of the key. The parameters of
    /// the filter come first, so that their numbers stay.
    fn query(&self, parameters: usize, range: bool, after: bool) -> String {
        let mut number = parameters;
        let mut next = || {
            number += 1;
            format!("?{number}")
        };
        let mut conditions: Vec<String> = self.filter.iter().map(|filter| format!("({filter}\n)")).collect();
        let keys: Vec<&str> = self.key.iter().map(|(_, expression)| expression.as_str()).collect();
        if range {
            conditions.push(format!("{key} >= {} AND {key} <= {}", next(), next(), key = keys[0]));
        }
        // A collation may take texts for equal that a unique index, or whoever wrote the query,
        // tells apart: their bytes decide then, so that none is skipped.
        let order: Vec<String> = match keys.as_slice() {
            [key] if self.is_rowid => vec![(*key).to_owned()],
            keys => {
                keys.iter().flat_map(|key| [(*key).to_owned(), format!("{key} COLLATE BINARY")]).collect()
            }
        };
        if after {
            let values: Vec<String> = keys.iter().map(|_| next()).collect();
            let times = order.len() / keys.len();
            let values: Vec<&str> =
                values.iter().flat_map(|value| std::iter::repeat_n(value.as_str(), times)).collect();
            conditions.push(match order.as_slice() {
                [key] => format!("{key} > {}", values[0]),
                order => format!("({}) > ({})", order.join(", "), values.join(", ")),
            });
        }
        let limit = next();
        let columns: Vec<&str> = self
            .columns
            .iter()
            .map(|column| column.expression.as_str())
            .chain(keys.iter().copied())
            .collect();
        let mut sql = format!("SELECT {} FROM {}", columns.join(", "), self.from);
        if !conditions.is_empty() {
            sql.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
        }
        sql.push_str(&format!(" ORDER BY {} LIMIT {limit}", order.join(", ")));
        sql
    }
}

impl SqliteClient {
    async fn parts(&self, selection: &Selection<'_>) -> Result<Parts> {
        match selection.from {
            From::Table(name) => match self.describe(name).await? {
                Some(table) => self.parts_of_table(selection, &table),
                None => Err(self.no_such_table(name).await),
            },
            From::Query(query) => self.parts_of_query(selection, query).await,
        }
    }

    fn parts_of_table(&self, selection: &Selection<'_>, table: &Table) -> Result<Parts> {
        let what = format!("{}: table \"{}\"", self.database.place(), table.name);
        // Names are written with their table: SQLite takes a quoted name that it does not know for a text.
        let expression = |name: &str| format!("{}.{}", quoted(&table.name), quoted(name));
        let find = |name: &String| {
            table.column(name).ok_or_else(|| {
                let there: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
                Error::configuration(format!("{what} has no column \"{name}\"; it has {}", there.join(", ")))
            })
        };
        let chosen = if selection.columns.is_empty() {
            table.columns.iter().collect()
        } else {
            selection.columns.iter().map(find).collect::<Result<Vec<_>>>()?
        };
        let columns = chosen.into_iter().map(|column| Column {
            name: column.name.clone(),
            expression: expression(&column.name),
            declared: column.declared.clone(),
            not_null: column.not_null,
        });
        let columns = columns.collect();

        let mut names: Vec<String> = if selection.key.is_empty() {
            table.primary_key()
        } else {
            selection.key.iter().map(|name| find(name).map(|c| c.name.clone())).collect::<Result<_>>()?
        };
        if names.is_empty() || !table.is_unique(&names) {
            // The row id tells apart what the key does not.
            names.extend(table.rowid.map(str::to_owned));
        }
        if names.is_empty() {
            let message =
                format!("{what} is a view, which has no key: name columns that are unique with `key`");
            return Err(Error::configuration(message));
        }
        let is_rowid = match names.as_slice() {
            [only] => table.rowid == Some(only.as_str()) || table.is_rowid(only),
            _ => false,
        };
        let key = names.into_iter().map(|name| (name.clone(), expression(&name))).collect();
        let filter = selection.filter.map(str::to_owned);
        Ok(Parts { what, from: quoted(&table.name), columns, key, filter, is_rowid })
    }

    async fn parts_of_query(&self, selection: &Selection<'_>, query: &str) -> Result<Parts> {
        let what = format!("{}: query", self.database.place());
        let query = query.trim_end_matches(|c: char| c.is_whitespace() || c == ';');
        let from = format!("(\n{query}\n) AS q");
        let sql = AssertSqlSafe(format!("SELECT * FROM {from}"));
        let mut connection = self.database.reader().await?;
        let statement = connection
            .prepare(sql.into_sql_str())
            .await
            .map_err(|e| self.database.error(e).during("query"))?;
        match parameters_of(&statement) {
            None | Some(0) => {}
            Some(places) => {
                let message = format!(
                    "{what}: nothing gives a value to its {places} parameters: write the values into it, or put the \
                     condition into `where`, which has `parameters`"
                );
                return Err(Error::configuration(message));
            }
        }
        let expression = |name: &str| format!("q.{}", quoted(name));
        let all: Vec<Column> = statement
            .columns()
            .iter()
            .map(|column| Column {
                name: column.name().to_owned(),
                expression: expression(column.name()),
                declared: Some(column.type_info().name())
                    .filter(|name| *name != "NULL")
                    .unwrap_or_default()
                    .into(),
                not_null: false,
            })
            .collect();
        let find = |name: &String| {
            all.iter().position(|column| column.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
                let there: Vec<&str> = all.iter().map(|column| column.name.as_str()).collect();
                Error::configuration(format!(
                    "{what} gives no column \"{name}\"; it gives {}",
                    there.join(", ")
                ))
            })
        };
        let key = selection.key.iter().map(|name| {
            let column = &all[find(name)?];
            Ok((column.name.clone(), column.expression.clone()))
        });
        let key = key.collect::<Result<Vec<_>>>()?;
        let chosen = selection.columns.iter().map(find).collect::<Result<Vec<_>>>()?;
        let mut all: Vec<Option<Column>> = all.into_iter().map(Some).collect();
        let columns = if chosen.is_empty() {
            all.into_iter().flatten().collect()
        } else {
            chosen.into_iter().filter_map(|at| all[at].take()).collect()
        };
        let filter = selection.filter.map(str::to_owned);
        Ok(Parts { what, from, columns, key, filter, is_rowid: false })
    }

    /// Counts the rows of a selection, where that costs little.
    pub(crate) async fn count(
        &self,
        selection: &Selection<'_>,
        range: Option<(i64, i64)>,
    ) -> Result<Option<u64>> {
        let (From::Table(name), None) = (selection.from, selection.filter) else { return Ok(None) };
        let Some(table) = self.describe(name).await? else { return Err(self.no_such_table(name).await) };
        let mut sql = format!("SELECT count(*) FROM {}", quoted(&table.name));
        let mut arguments = SqliteArguments::default();
        if let Some(range) = range {
            let parts = self.parts_of_table(selection, &table)?;
            let key = &parts.key[0].1;
            sql.push_str(&format!(" WHERE {key} >= ?1 AND {key} <= ?2"));
            bind_range(range, &mut arguments).map_err(|e| self.database.error(e))?;
        }
        let mut connection = self.database.reader().await?;
        let query = sqlx::query_scalar_with(AssertSqlSafe(sql), arguments);
        let count: i64 = query.fetch_one(&mut *connection).await.map_err(|e| self.database.error(e))?;
        Ok(u64::try_from(count).ok())
    }

    /// Returns the first and the last key of a table that has an integer one, unless it is empty.
    pub(crate) async fn key_range(&self, selection: &Selection<'_>) -> Result<Option<(i64, i64)>> {
        let parts = self.parts(selection).await?;
        if !parts.is_rowid {
            return Ok(None);
        }
        let (key, from) = (&parts.key[0].1, &parts.from);
        // Two queries: SQLite answers one end from the index, both from the whole table.
        let sql = format!("SELECT (SELECT min({key}) FROM {from}), (SELECT max({key}) FROM {from})");
        let mut connection = self.database.reader().await?;
        let query = sqlx::query_as(AssertSqlSafe(sql));
        let ends: (Option<i64>, Option<i64>) =
            query.fetch_one(&mut *connection).await.map_err(|e| self.database.error(e))?;
        Ok(ends.0.zip(ends.1))
    }

    /// Makes a selection ready to be read: finds the key and the columns' types.
    pub(crate) async fn open_reader(
        &self,
        selection: &Selection<'_>,
        range: Option<(i64, i64)>,
    ) -> Result<Reader> {
        let parts = self.parts(selection).await?;
        let known = |name: &str| {
            selection
                .types
                .iter()
                .find(|(other, _)| other.eq_ignore_ascii_case(name))
                .map(|(_, column)| *column)
        };
        if let Some(name) = selection
            .types
            .keys()
            .find(|name| !parts.columns.iter().any(|c| c.name.eq_ignore_ascii_case(name)))
        {
            return Err(Error::configuration(format!(
                "{}: `types` names \"{name}\", which is not read",
                parts.what
            )));
        }
        let parameters = selection.parameters.len();
        let first = parts.query(parameters, range.is_some(), false);
        let next = parts.query(parameters, range.is_some(), true);
        self.check_filter(&parts, parameters).await?;

        let mut samples = vec![Sample::default(); parts.columns.len()];
        if parts.columns.iter().any(|column| known(&column.name).is_none()) {
            self.sample(&parts, selection.parameters, &mut samples).await?;
        }
        let columns: Vec<(String, ColumnType, bool)> = parts
            .columns
            .iter()
            .zip(&samples)
            .map(|(column, sample)| {
                let inferred = || ColumnType::infer(&column.declared, sample);
                let nullable = !column.not_null;
                (column.name.clone(), known(&column.name).unwrap_or_else(inferred), nullable)
            })
            .collect();
        let fields: Vec<_> =
            columns.iter().map(|(name, column, nullable)| field(name, *column, *nullable)).collect();
        Ok(Reader {
            what: parts.what,
            columns,
            schema: Arc::new(Schema::new(fields)),
            key: parts.key.into_iter().map(|(name, _)| name).collect(),
            parameters: selection.parameters.to_vec(),
            range,
            first: first.into(),
            next: next.into(),
        })
    }

    /// Checks the filter: its syntax, its columns, and that it has as many places as parameters.
    async fn check_filter(&self, parts: &Parts, want: usize) -> Result<()> {
        let Some(filter) = &parts.filter else { return Ok(()) };
        let sql = AssertSqlSafe(format!("SELECT 1 FROM {} WHERE ({filter}\n)", parts.from));
        let mut connection = self.database.reader().await?;
        let statement = connection
            .prepare(sql.into_sql_str())
            .await
            .map_err(|e| self.database.error(e).during("where"))?;
        match parameters_of(&statement) {
            None => Ok(()),
            Some(have) if have == want => Ok(()),
            Some(have) => {
                let what = &parts.what;
                Err(Error::configuration(format!("{what}: {want} parameters for {have} places in `where`")))
            }
        }
    }

    async fn sample(&self, parts: &Parts, parameters: &[Json], samples: &mut [Sample]) -> Result<()> {
        let mut arguments = SqliteArguments::default();
        bind_all(parameters, None, None, SAMPLE_ROWS, &mut arguments).map_err(|e| self.database.error(e))?;
        let sql = AssertSqlSafe(parts.query(parameters.len(), false, false));
        let mut connection = self.database.reader().await?;
        let mut rows = sqlx::query_with(sql, arguments).fetch(&mut *connection);
        let mut bytes = 0;
        while let Some(row) = rows.try_next().await.map_err(|e| self.database.error(e))? {
            for (index, sample) in samples.iter_mut().enumerate() {
                let value = Value::of(&row, index).map_err(|e| self.database.error(e))?;
                bytes += value.size();
                sample.add(value);
            }
            if bytes > SAMPLE_BYTES {
                break;
            }
        }
        Ok(())
    }

    /// Reads a page: at most so many rows and bytes, after a key.
    pub(crate) async fn page(
        &self,
        reader: &Reader,
        after: Option<&[KeyValue]>,
        limits: BatchLimits,
    ) -> Result<Page> {
        let limit = limits.items.max(1);
        let mut arguments = SqliteArguments::default();
        // One row more shows whether it is the last page, and whether the key is unique.
        let rows = i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1;
        bind_all(&reader.parameters, reader.range, after, rows, &mut arguments)
            .map_err(|e| self.database.error(e))?;
        let sql = if after.is_some() { &reader.next } else { &reader.first };

        let mut page = PageBuilder::new(reader);
        let mut connection = self.database.reader().await?;
        let mut rows = sqlx::query_with(AssertSqlSafe(sql.clone()), arguments).fetch(&mut *connection);
        while let Some(row) = rows.try_next().await.map_err(|e| self.database.error(e))? {
            let key = reader.key_of(&row).map_err(|e| self.database.error(e))??;
            if page.last.as_deref().is_some_and(|last| is_same(last, &key)) {
                return Err(reader.not_unique(&key));
            }
            if page.len >= limit || page.bytes >= limits.bytes {
                return page.finish(false);
            }
            page.push(&row, key).map_err(|e| self.database.error(e))?;
        }
        page.finish(true)
    }
}

/// Returns how many parameters a statement has, where the driver says that.
fn parameters_of(statement: &SqliteStatement) -> Option<usize> {
    statement.parameters().map(|parameters| parameters.map_left(<[_]>::len).into_inner())
}

impl Reader {
    fn key_of(&self, row: &SqliteRow) -> Result<Result<Arc<[KeyValue]>>, sqlx::Error> {
        let mut key = Vec::with_capacity(self.key.len());
        for (index, name) in self.key.iter().enumerate() {
            let value = Value::of(row, self.columns.len() + index)?;
            match value.to_key() {
                Some(value) => key.push(value),
                None => {
                    let (what, class) = (&self.what, value.class());
                    let message = format!(
                        "{what}: a row has {class} in the key column \"{name}\": name columns with `key` that always hold a finite value"
                    );
                    return Ok(Err(Error::new(ErrorKind::Validation, message)));
                }
            }
        }
        Ok(Ok(key.into()))
    }

    fn not_unique(&self, key: &Arc<[KeyValue]>) -> Error {
        let (what, names) = (&self.what, self.key.join(", "));
        let position = Position::Keyset(key.clone());
        let message = format!(
            "{what}: the key ({names}) is not unique, {position} is there twice: add a column to `key`"
        );
        Error::new(ErrorKind::Configuration, message)
    }

    /// Returns how many values a position has.
    pub(crate) fn key_len(&self) -> usize {
        self.key.len()
    }
}

/// Returns whether SQLite takes two keys for one: numbers are equal by value.
fn is_same(left: &[KeyValue], right: &[KeyValue]) -> bool {
    left.iter().zip(right).all(|pair| match pair {
        (KeyValue::Int(int), KeyValue::Float(float)) | (KeyValue::Float(float), KeyValue::Int(int)) => {
            exact_float(*int) == Some(*float)
        }
        (left, right) => left == right,
    })
}

fn bind_range((first, last): (i64, i64), arguments: &mut SqliteArguments) -> Result<(), sqlx::Error> {
    arguments.add(first).and_then(|()| arguments.add(last)).map_err(sqlx::Error::Encode)
}

fn bind_all(
    parameters: &[Json],
    range: Option<(i64, i64)>,
    after: Option<&[KeyValue]>,
    limit: i64,
    arguments: &mut SqliteArguments,
) -> Result<(), sqlx::Error> {
    parameters.iter().try_for_each(|value| bind_json(value, arguments))?;
    if let Some(range) = range {
        bind_range(range, arguments)?;
    }
    after.into_iter().flatten().try_for_each(|value| bind_key(value, arguments))?;
    arguments.add(limit).map_err(sqlx::Error::Encode)
}
