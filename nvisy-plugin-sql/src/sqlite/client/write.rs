//! Writing: one transaction a batch, in which a bad item stays alone.

use std::collections::{HashMap, HashSet};

use arrow::datatypes::Schema;
use nvisy_core::primitive::row::Row;
use nvisy_core::{Error, ErrorKind, PrimitiveId, Result};
use nvisy_sqlite::{is_about_the_item, translate, translate_commit};
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Connection, Executor, SqliteConnection};

use super::memory::{self, Memory};
use super::plan::Plan;
use super::schema::{Seen, describe, version};
use super::statement::{create, insert};
use super::{SqliteClient, Table};
use crate::sqlite::sink::Drift;
use crate::sqlite::value::Bound;

/// How many parameters a statement of SQLite takes.
const MAX_PARAMETERS: usize = 32_766;
/// How many rows one statement inserts: more gain nothing.
const MAX_ROWS: usize = 64;

/// How a row is put into a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Insert,
    Upsert,
    Replace,
}

/// Where and how to write.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) table: String,
    pub(crate) write: Write,
    /// The columns that decide which row an item replaces; empty where none does.
    pub(crate) key: Vec<String>,
    pub(crate) create: bool,
    pub(crate) drift: Drift,
    /// The names of the columns that come from the item rather than from its row.
    pub(crate) extra: Vec<&'static str>,
    /// Where what is written is remembered, if it is.
    pub(crate) memory: Option<Memory>,
}

/// The values of [`Target::extra`], in order.
pub(crate) type Extra = Vec<Bound<'static>>;

/// An item to write.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) row: &'a Row,
    pub(crate) extra: Extra,
    /// What it is remembered by.
    pub(crate) item: PrimitiveId,
}

/// What became of an item that the database took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Now,
    /// The run has written it before.
    Before,
}

/// What became of the items of a batch that was written together.
enum Together {
    Done(Vec<Result<Taken>>),
    /// Something rolled the transaction back: each item has to be tried alone.
    Torn,
}

/// An item's values, in the order of a shape's columns.
struct Values<'a> {
    shape: usize,
    values: Vec<Bound<'a>>,
}

/// The columns that some items fill, and the statement for them.
struct Shape {
    columns: Vec<String>,
    statements: HashMap<usize, String>,
}

impl Shape {
    /// How many rows one statement inserts. What fills no column is inserted alone: there is no
    /// statement for several of it.
    fn rows(&self) -> usize {
        match self.columns.len() {
            0 => 1,
            columns => (MAX_PARAMETERS / columns).clamp(1, MAX_ROWS),
        }
    }

    fn statement(&mut self, target: &Target, rows: usize) -> &str {
        let columns = &self.columns;
        self.statements.entry(rows).or_insert_with(|| insert(target, columns, rows))
    }
}

impl SqliteClient {
    /// Writes items in one transaction; says of each whether it was taken. An error means that
    /// nothing was written.
    pub(crate) async fn write(
        &self,
        target: &Target,
        known: &mut Option<Seen>,
        items: &[Writer<'_>],
    ) -> Result<Vec<Result<Taken>>> {
        let mut connection = self.database.writer().await?;
        // What is seen of the table counts once it is committed: a write may end anywhere.
        let mut seen = known.take();
        let written = match self.write_together(&mut connection, target, &mut seen, items).await {
            Ok(Together::Done(results)) => Ok(results),
            Ok(Together::Torn) => {
                drop(connection);
                seen = None;
                self.write_alone(target, items).await
            }
            Err(error) => Err(error),
        };
        if written.is_ok() {
            *known = seen;
        }
        written
    }

    async fn write_together(
        &self,
        connection: &mut SqliteConnection,
        target: &Target,
        known: &mut Option<Seen>,
        items: &[Writer<'_>],
    ) -> Result<Together> {
        let place = format!("{}: table \"{}\"", self.database.place(), target.table);
        let failed = |error| translate(&place, error);
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let before = before(&mut transaction, target, items).await.map_err(failed)?;
        let (mut shapes, prepared) = self.prepare(&mut transaction, target, known, items).await?;
        let mut results: Vec<Result<Taken>> = Vec::with_capacity(items.len());
        let mut written = Written { remembers: target.memory.is_some(), items: before };
        let mut start = 0;
        while start < prepared.len() {
            if written.has(items[start].item) {
                results.push(Ok(Taken::Before));
                start += 1;
                continue;
            }
            let Ok(first) = &prepared[start] else {
                results.push(prepared[start].as_ref().map(|_| Taken::Now).map_err(Clone::clone));
                start += 1;
                continue;
            };
            let shape = &mut shapes[first.shape];
            let same = prepared[start..].iter().zip(&items[start..]).take(shape.rows());
            let mut chunk: Vec<&Values<'_>> = Vec::new();
            let mut inside = HashSet::new();
            for (values, item) in same {
                let values = values.as_ref().ok().filter(|values| values.shape == first.shape);
                // A second copy waits for what becomes of the first.
                let again = written.remembers && !inside.insert(item.item);
                let Some(values) = values.filter(|_| !again && !written.has(item.item)) else { break };
                chunk.push(values);
            }
            let sql = shape.statement(target, chunk.len());
            match attempt(&mut transaction, sql, &chunk).await.map_err(failed)? {
                Attempt::Written => results.extend(chunk.iter().map(|_| Ok(Taken::Now))),
                Attempt::Torn => return Ok(Together::Torn),
                Attempt::Refused(error) if chunk.len() == 1 => results.push(Err(failed(error))),
                Attempt::Refused(_) => {
                    let sql = shape.statement(target, 1);
                    for values in &chunk {
                        match attempt(&mut transaction, sql, &[values]).await.map_err(failed)? {
                            Attempt::Written => results.push(Ok(Taken::Now)),
                            Attempt::Refused(error) => results.push(Err(failed(error))),
                            Attempt::Torn => return Ok(Together::Torn),
                        }
                    }
                }
            }
            let end = start + chunk.len();
            written.take_in(&items[start..end], &results[start..end]);
            start = end;
        }
        if let Some(memory) = target.memory {
            let taken = items.iter().zip(&results).filter(|(_, result)| matches!(result, Ok(Taken::Now)));
            let taken: Vec<_> = taken.map(|(item, _)| item.item).collect();
            memory::keep(&mut transaction, memory, &taken).await.map_err(failed)?;
        }
        match transaction.commit().await {
            Ok(()) => Ok(Together::Done(results)),
            // A deferred constraint speaks up only now.
            Err(error) if is_about_the_item(&error) => Ok(Together::Torn),
            Err(error) => Err(translate_commit(&place, error)),
        }
    }

    /// Writes each item in a transaction of its own. Of a commit that may have been done or not, the
    /// one item is `ambiguous`, and those behind it are worth another try.
    async fn write_alone(&self, target: &Target, items: &[Writer<'_>]) -> Result<Vec<Result<Taken>>> {
        let place = format!("{}: table \"{}\"", self.database.place(), target.table);
        let mut results: Vec<Result<Taken>> = Vec::with_capacity(items.len());
        for index in 0..items.len() {
            let written = match self.database.writer().await {
                Ok(mut connection) => {
                    self.write_one(&mut connection, target, &items[index..=index], &place).await
                }
                Err(error) => Err(error),
            };
            match written {
                Ok(result) => results.push(result),
                Err(error) if error.kind() == ErrorKind::Ambiguous => {
                    results.push(Err(error));
                    let message = format!(
                        "{place}: the item was not tried, since the commit before it failed: try it again"
                    );
                    let untried = Error::new(ErrorKind::Connection, message);
                    results.resize_with(items.len(), || Err(untried.clone()));
                    break;
                }
                Err(error) if results.iter().all(Result::is_err) => return Err(error),
                Err(error) => {
                    results.resize_with(items.len(), || Err(error.clone()));
                    break;
                }
            }
        }
        Ok(results)
    }

    async fn write_one(
        &self,
        connection: &mut SqliteConnection,
        target: &Target,
        item: &[Writer<'_>],
        place: &str,
    ) -> Result<Result<Taken>> {
        let failed = |error| translate(place, error);
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        if !before(&mut transaction, target, item).await.map_err(failed)?.is_empty() {
            return Ok(Ok(Taken::Before));
        }
        let (mut shapes, prepared) = self.prepare(&mut transaction, target, &mut None, item).await?;
        let values = match prepared.into_iter().next() {
            Some(Ok(values)) => values,
            Some(Err(error)) => return Ok(Err(error)),
            None => return Err(Error::internal("an item was prepared, and is not there")),
        };
        let sql = shapes[values.shape].statement(target, 1);
        match execute(&mut transaction, sql, &[&values]).await {
            Ok(()) => {}
            Err(error) if is_about_the_item(&error) => return Ok(Err(failed(error))),
            Err(error) => return Err(failed(error)),
        }
        if let (Some(memory), [item]) = (target.memory, item) {
            memory::keep(&mut transaction, memory, &[item.item]).await.map_err(failed)?;
        }
        match transaction.commit().await {
            Ok(()) => Ok(Ok(Taken::Now)),
            Err(error) if is_about_the_item(&error) => Ok(Err(failed(error))),
            Err(error) => Err(translate_commit(place, error)),
        }
    }

    /// Brings the table and the items together: creates or widens the table where asked to, and
    /// finds each item's values.
    async fn prepare<'a>(
        &self,
        connection: &mut SqliteConnection,
        target: &Target,
        known: &mut Option<Seen>,
        items: &'a [Writer<'_>],
    ) -> Result<(Vec<Shape>, Vec<Result<Values<'a>>>)> {
        let version = version(connection).await.map_err(|error| self.database.error(error))?;
        let mut table = match known.take() {
            Some(seen) if seen.version == version => seen.table,
            // Another sink, or another program, may have changed it since.
            _ => self.table(connection, target, items).await?,
        };
        let mut shapes: Vec<Shape> = Vec::new();
        let mut plans: Vec<(&Schema, Plan)> = Vec::new();
        let mut prepared = Vec::with_capacity(items.len());
        for item in items {
            let schema: &Schema = item.row.schema();
            let found = plans.iter().rposition(|(other, _)| std::ptr::eq(*other, schema) || *other == schema);
            let at = match found {
                Some(at) => at,
                None => {
                    let plan = self.plan(connection, target, &mut table, schema).await?;
                    let columns = plan.names().map(str::to_owned);
                    let columns = columns.chain(target.extra.iter().map(|name| (*name).to_owned()));
                    shapes.push(Shape { columns: columns.collect(), statements: HashMap::new() });
                    plans.push((schema, plan));
                    plans.len() - 1
                }
            };
            let values = plans[at].1.values(target, item);
            prepared.push(values.map(|values| Values { shape: at, values }));
        }
        // Where this has widened it, the next write describes it again.
        *known = Some(Seen { table, version });
        Ok((shapes, prepared))
    }

    /// Describes the table, and creates it where it is missing and that is asked for.
    async fn table(
        &self,
        connection: &mut SqliteConnection,
        target: &Target,
        items: &[Writer<'_>],
    ) -> Result<Table> {
        let place = format!("{}: table \"{}\"", self.database.place(), target.table);
        let failed = |error| translate(&place, error);
        let table = match describe(connection, &target.table).await.map_err(failed)? {
            Some(table) => table,
            None if !target.create => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("{place} does not exist: check the name, or set `create`"),
                ));
            }
            None => {
                let sql = create(target, items);
                connection.execute(AssertSqlSafe(sql)).await.map_err(failed)?;
                let table = describe(connection, &target.table).await.map_err(failed)?;
                table.ok_or_else(|| Error::internal(format!("{place} is not there after it was created")))?
            }
        };
        self.check_key(target, &table)?;
        Ok(table)
    }

    /// Checks that the key of an upsert or replacement is one of the table's.
    pub(crate) fn check_key(&self, target: &Target, table: &Table) -> Result<()> {
        if target.write == Write::Insert || table.is_key(&target.key) {
            return Ok(());
        }
        let (place, key) = (self.database.place(), target.key.join(", "));
        let message = format!(
            "{place}: table \"{}\" has no primary key or unique index over ({key}): name its key columns with `key`, \
             or use the mode `insert`",
            target.table
        );
        Err(Error::configuration(message))
    }
}

/// Returns which of the items the run has written in batches before.
async fn before(
    connection: &mut SqliteConnection,
    target: &Target,
    items: &[Writer<'_>],
) -> Result<HashSet<PrimitiveId>, sqlx::Error> {
    let Some(memory) = target.memory else { return Ok(HashSet::new()) };
    let all: Vec<_> = items.iter().map(|item| item.item).collect();
    memory::written(connection, memory, &all).await
}

/// What the run has written, with what it has of this batch.
struct Written {
    remembers: bool,
    items: HashSet<PrimitiveId>,
}

impl Written {
    fn has(&self, item: PrimitiveId) -> bool {
        self.items.contains(&item)
    }

    /// Takes in what was written just now: what was refused may come again.
    fn take_in(&mut self, items: &[Writer<'_>], results: &[Result<Taken>]) {
        if self.remembers {
            let written = items.iter().zip(results).filter(|(_, result)| result.is_ok());
            self.items.extend(written.map(|(item, _)| item.item));
        }
    }
}

async fn execute(
    connection: &mut SqliteConnection,
    sql: &str,
    rows: &[&Values<'_>],
) -> Result<(), sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    for row in rows {
        row.values.iter().try_for_each(|value| value.clone().bind(&mut arguments))?;
    }
    sqlx::query_with(AssertSqlSafe(sql), arguments).execute(connection).await.map(drop)
}

/// What became of a statement within a transaction.
enum Attempt {
    Written,
    /// It is undone as a whole.
    Refused(sqlx::Error),
    /// It took the whole transaction with it, as a trigger may.
    Torn,
}

async fn attempt(
    connection: &mut SqliteConnection,
    sql: &str,
    rows: &[&Values<'_>],
) -> Result<Attempt, sqlx::Error> {
    connection.execute("SAVEPOINT nvisy_rows").await?;
    match execute(connection, sql, rows).await {
        Ok(()) => connection.execute("RELEASE nvisy_rows").await.map(|_| Attempt::Written),
        Err(error) if is_about_the_item(&error) => {
            // A trigger may leave a part of the statement, or nothing of the transaction.
            let undone = connection.execute("ROLLBACK TO nvisy_rows").await.is_ok()
                && connection.execute("RELEASE nvisy_rows").await.is_ok();
            Ok(if undone { Attempt::Refused(error) } else { Attempt::Torn })
        }
        Err(error) => Err(error),
    }
}
