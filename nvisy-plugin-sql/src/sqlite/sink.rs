//! A table that rows are written to.

use futures::lock::Mutex;
use nvisy_core::config::Problem;
use nvisy_core::prelude::*;
use nvisy_core::primitive::row::Row;
use nvisy_core::{BatchLimits, Payload, PrimitiveId, Staging};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::client::{Extra, Seen, SqliteClient, Taken, Target, Write, Writer};
use super::value::Bound;

/// The column of an item's id.
const ID: &str = "nvisy_id";
/// The column of the run that wrote an item.
const RUN: &str = "nvisy_run";
/// The column of the id of the source item that an item derives from.
const ROOT: &str = "nvisy_root";

/// The column of the object that an item comes from.
pub(super) const ORIGIN: &str = "nvisy_origin";
/// The column of the generation that wrote an item last.
pub(super) const GENERATION: &str = "nvisy_generation";

/// How a row is put into a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SqliteMode")]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Adds a row: written again, it is there twice.
    Insert,
    /// Adds a row, or changes the written columns of the one with the same key.
    #[default]
    Upsert,
    /// Adds a row in place of those that it conflicts with.
    Replace,
}

/// What happens to rows that have other columns than the table.
///
/// A column is another one, too, where SQLite would make a number of its texts, or texts of its
/// numbers. Of columns that are declared as decimals, dates or truth values it still makes numbers of
/// texts that are written as such: `"007"` in a `NUMERIC` column is 7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SqliteDrift")]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// The write fails: nothing of the batch is written.
    #[default]
    Fail,
    /// The table gets the column. A column of another type takes the values all the same.
    Widen,
    /// The rows that have a value in the column are rejected, the others written.
    DeadLetter,
}

/// Writes rows to a table: `sql/sqlite`.
///
/// One transaction a batch. A row that violates a constraint is rejected alone.
///
/// | mode | guarantee |
/// |---|---|
/// | `insert` | append: a row that is written again is there twice, or conflicts; in a run with checkpoints once |
/// | `upsert` (default) | upsert by `key`, which is the item's id unless set |
/// | `replace` | upsert by `key`; columns that the row does not have fall back to their defaults, and null does not |
///
/// In a run with checkpoints `insert` keeps, in the transaction that adds the rows, which items they
/// are: in the tables `nvisy_writing` and `nvisy_written`, with an id an item until the run after the
/// next begins. What a run that is resumed reads again is not added again then, also where the
/// checkpoints have lost their newest; the next run adds rows of its own. An item that comes by two
/// ways is added once. A run that was stopped, that failed or that was killed has not come to its end:
/// who begins anew without its checkpoints empties the table, too, or goes on where it stopped. What
/// it has added is not added again then, which the report says in a warning; nor does it add what the
/// other has added, when it goes on after all. One that goes on when two others have finished is
/// refused: what it has added is no longer known then.
///
/// In an incremental run, `upsert` and `replace` keep in the columns `nvisy_origin` and
/// `nvisy_generation` where a row comes from and when it was last written, and delete what is
/// stale. A row's key is not to come from two objects, nor from two graphs or two sources of one
/// graph that read the same object: the one that writes it last has it, and where that one has the
/// object no more it is deleted for both. Give each graph a table of its own.
///
/// # Examples
///
/// ```
/// use nvisy_plugin_sql::{Drift, SqliteSink};
///
/// let tickets = SqliteSink::table("tickets").upsert(["id"]).create().drift(Drift::Widen);
/// assert_eq!(
///     serde_json::to_string(&tickets).unwrap(),
///     r#"{"table":"tickets","key":["id"],"create":true,"drift":"widen"}"#
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SqliteSink")]
#[serde(deny_unknown_fields)]
pub struct SqliteSink {
    /// The table.
    pub table: String,
    /// How a row is put into it. Default `upsert`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// The columns that tell which row to change or replace. Default `nvisy_id`, the item's id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<String>,
    /// Whether the table is created from the first batch if it does not exist. Default no.
    #[serde(default, skip_serializing_if = "is_default")]
    pub create: bool,
    /// What happens to rows that have other columns than the table. Default `fail`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub drift: Drift,
    /// Whether the columns `nvisy_id`, `nvisy_run` and `nvisy_root` are written: the item's id,
    /// the run, and the id of the source item that it derives from. Default no.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lineage: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl SqliteSink {
    /// Writes to a table: upserts by the item's id, unless told otherwise.
    #[must_use]
    pub fn table(table: impl Into<String>) -> Self {
        Self {
            table: table.into(),
            mode: Mode::default(),
            key: Vec::new(),
            create: false,
            drift: Drift::default(),
            lineage: false,
        }
    }

    /// Adds rows.
    #[must_use]
    pub fn insert(mut self) -> Self {
        self.mode = Mode::Insert;
        self
    }

    /// Adds rows, or changes those with the same values in the key columns.
    #[must_use]
    pub fn upsert<T: Into<String>>(mut self, key: impl IntoIterator<Item = T>) -> Self {
        self.mode = Mode::Upsert;
        self.key = key.into_iter().map(Into::into).collect();
        self
    }

    /// Adds rows in place of those with the same values in the key columns.
    #[must_use]
    pub fn replace<T: Into<String>>(mut self, key: impl IntoIterator<Item = T>) -> Self {
        self.mode = Mode::Replace;
        self.key = key.into_iter().map(Into::into).collect();
        self
    }

    /// Creates the table from the first batch if it does not exist.
    #[must_use]
    pub fn create(mut self) -> Self {
        self.create = true;
        self
    }

    /// Says what happens to rows that have other columns than the table. Default they fail.
    #[must_use]
    pub fn drift(mut self, drift: Drift) -> Self {
        self.drift = drift;
        self
    }

    /// Writes the columns `nvisy_id`, `nvisy_run` and `nvisy_root` too.
    #[must_use]
    pub fn with_lineage(mut self) -> Self {
        self.lineage = true;
        self
    }

    fn target(&self) -> Target {
        let write = match self.mode {
            Mode::Insert => Write::Insert,
            Mode::Upsert => Write::Upsert,
            Mode::Replace => Write::Replace,
        };
        let by_id = write != Write::Insert && self.key.is_empty();
        let key = if by_id { vec![ID.to_owned()] } else { self.key.clone() };
        let names_id = key.iter().any(|name| name.eq_ignore_ascii_case(ID));
        let extra = if self.lineage {
            vec![ID, RUN, ROOT]
        } else if by_id || names_id {
            vec![ID]
        } else {
            Vec::new()
        };
        Target {
            table: self.table.clone(),
            write,
            key,
            create: self.create,
            drift: self.drift,
            extra,
            memory: None,
        }
    }
}

impl SinkConfig for SqliteSink {
    const NAME: &'static str = "sql/sqlite";
    type Input = Row;
    type Client = SqliteClient;
    type Sink = OpenSqliteSink;

    fn guarantee(&self) -> Guarantee {
        match self.mode {
            Mode::Insert => Guarantee::Append,
            Mode::Upsert | Mode::Replace => Guarantee::Upsert,
        }
    }

    fn remembers(&self) -> bool {
        self.mode == Mode::Insert
    }

    fn optimum(&self) -> BatchLimits {
        // A commit waits for the disk: large batches share it.
        BatchLimits::items(4_096).with_bytes(8 << 20)
    }

    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.table.is_empty() {
            problems.push(Problem::new("table", "is empty"));
        }
        if self.table.to_ascii_lowercase().starts_with("sqlite_") {
            problems.push(Problem::new("table", "names that begin with `sqlite_` are SQLite's own"));
        }
        if self.mode == Mode::Insert && !self.key.is_empty() {
            let problem = Problem::new("key", "an insert looks at no key");
            problems.push(problem.with_help("leave it out, or use the mode `upsert` or `replace`"));
        }
        problems
    }

    fn replaces(&self) -> bool {
        self.mode != Mode::Insert
    }

    async fn open(&self, context: &OpenContext<SqliteClient>) -> Result<OpenSqliteSink> {
        let (client, mut target) = (context.client().clone(), self.target());
        let table = client.describe(&target.table).await?;
        match &table {
            Some(table) => client.check_key(&target, table)?,
            None if target.create => {}
            None => return Err(client.no_such_table(&target.table).await),
        }
        if *context.staging() == Staging::Remember && self.remembers() {
            target.memory = Some(client.remember(context.context(), &target.table).await?);
        }
        let kept = table.is_some_and(|table| table.column(ORIGIN).is_some());
        if self.replaces() && (kept || context.context().generation().is_some()) {
            target.extra.extend([ORIGIN, GENERATION]);
        }
        Ok(OpenSqliteSink { client, target, known: Mutex::new(None) })
    }
}

/// An open [`SqliteSink`].
#[derive(Debug)]
pub struct OpenSqliteSink {
    client: Arc<SqliteClient>,
    target: Target,
    /// The table as it was last seen.
    known: Mutex<Option<Seen>>,
}

impl OpenSqliteSink {
    fn extra(&self, batch: &Batch, index: usize, context: &Context) -> Extra {
        let text = |text: Option<String>| text.map_or(Bound::Null, Bound::Owned);
        let value = |name: &&str| match *name {
            ID => Bound::Owned(batch.id(index).to_string()),
            RUN => text(context.run().map(|run| run.to_string())),
            ORIGIN => text(Origin::of(batch, index).map(|origin| origin.to_string())),
            // A number, so that it compares as one in a column of any type.
            GENERATION => Bound::Int(context.generation_or_now() as i64),
            _ => text(batch.lineage(index).root().map(|root| root.id.to_string())),
        };
        self.target.extra.iter().map(value).collect()
    }
}

/// What an item is remembered by: where it came from, too, for keys of the user's own may collide.
fn remembered(batch: &Batch, index: usize) -> PrimitiveId {
    let origin = batch.lineage(index).root().map(|root| root.source.id(&root.position));
    PrimitiveId::merge(std::iter::once(batch.id(index)).chain(origin), "written", 0)
}

impl Sink for OpenSqliteSink {
    async fn write(&self, batch: &Batch, context: &Context) -> Result<WriteReport> {
        let mut statuses = vec![WriteStatus::Applied; batch.len()];
        let mut rows: Vec<(usize, Row)> = Vec::with_capacity(batch.len());
        for (index, status) in statuses.iter_mut().enumerate() {
            match batch.payload(index) {
                Payload::Row(row) => rows.push((index, row)),
                other => {
                    let kind = other.kind();
                    let message = format!("expected a row, found a {kind}: put a `convert` in between");
                    *status = WriteStatus::Rejected(Error::new(ErrorKind::Validation, message));
                }
            }
        }
        if rows.is_empty() {
            return Ok(WriteReport::new(statuses));
        }
        let items: Vec<Writer<'_>> = rows
            .iter()
            .map(|(index, row)| Writer {
                row,
                extra: self.extra(batch, *index, context),
                item: remembered(batch, *index),
            })
            .collect();
        let mut known = self.known.lock().await;
        let results = self.client.write(&self.target, &mut known, &items).await?;
        for ((index, _), result) in rows.iter().zip(results) {
            match result {
                Ok(Taken::Now) => {}
                Ok(Taken::Before) => statuses[*index] = WriteStatus::AlreadyApplied,
                Err(error) => {
                    let error = error.at_item(batch.id(*index));
                    statuses[*index] = match (error.kind(), error.retry_class()) {
                        (ErrorKind::Ambiguous, _) => WriteStatus::Ambiguous(error),
                        (_, RetryClass::Transient) => WriteStatus::Retryable(error),
                        _ => WriteStatus::Rejected(error),
                    };
                }
            }
        }
        Ok(WriteReport::new(statuses))
    }

    async fn close(&self, _: &Context) -> Result<()> {
        match self.target.memory {
            Some(memory) => self.client.complete(memory).await,
            None => Ok(()),
        }
    }

    async fn replace(&self, sets: &[ReplaceSet], _: &Context) -> Result<u64> {
        self.client.replace(&self.target.table, sets).await
    }
}
