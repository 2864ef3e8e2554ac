//! How rows of a schema enter a table: which columns take what, and what is refused.

use arrow::datatypes::{DataType, Schema};
use nvisy_core::primitive::row::{Cell, cell_at};
use nvisy_core::{Error, Result};
use nvisy_sqlite::translate;
use sqlx::{AssertSqlSafe, Executor, SqliteConnection};

use super::schema::describe;
use super::statement::{declaration, extra_declaration, holds, is_real};
use super::write::{Target, Write, Writer};
use super::{SqliteClient, Table, quoted};
use crate::sqlite::sink::Drift;
use crate::sqlite::value::{Bound, exact_float};

/// The remedy where the rows have other columns than the table.
const OTHER_COLUMNS: &str = "set `drift` to `widen` or `dead_letter`, or map the rows to the table's columns";

/// How rows of one schema enter the table.
pub(super) struct Plan {
    /// The row's columns that are written.
    columns: Vec<Column>,
    /// The row's columns that the table cannot hold, and why: an item with a value there is refused.
    refused: Vec<(usize, String)>,
}

/// A column that is written.
struct Column {
    /// Its place in the row.
    index: usize,
    /// Its name in the table.
    name: String,
    /// Whether SQLite makes real numbers of integers there.
    is_real: bool,
    /// Whether null would become the column's default: so SQLite replaces a row.
    defaults: bool,
}

impl Column {
    fn new(index: usize, name: &str, table: &Table, target: &Target) -> Option<Self> {
        let column = table.column(name)?;
        // The row id numbers itself where it is null.
        let defaults = target.write == Write::Replace && column.not_null && !table.is_rowid(name);
        Some(Self { index, name: column.name.clone(), is_real: is_real(&column.declared), defaults })
    }

    /// Returns what the cell is stored as.
    fn bound<'a>(&self, cell: Cell<'a>) -> Result<Bound<'a>> {
        let path = || format!("row.{}", self.name);
        let value = Bound::of(cell, &path())?;
        match value {
            Bound::Int(value) if self.is_real && exact_float(value).is_none() => {
                let message = format!(
                    "{value} has more digits than a real number holds, which the column is declared to be: declare it \
                     INTEGER"
                );
                Err(Error::invalid(path(), message))
            }
            value => Ok(value),
        }
    }
}

impl SqliteClient {
    /// Plans how rows of a schema enter the table.
    pub(super) async fn plan(
        &self,
        connection: &mut SqliteConnection,
        target: &Target,
        table: &mut Table,
        schema: &Schema,
    ) -> Result<Plan> {
        let place = format!("{}: table \"{}\"", self.database.place(), target.table);
        let mut plan = Plan { columns: Vec::new(), refused: Vec::new() };
        for (index, field) in schema.fields().iter().enumerate() {
            let name = field.name();
            if target.extra.iter().any(|extra| extra.eq_ignore_ascii_case(name)) {
                continue;
            }
            let twin = schema.fields()[..index].iter().find(|twin| twin.name().eq_ignore_ascii_case(name));
            if let Some(twin) = twin {
                let twin = twin.name();
                let message = format!("the rows have \"{twin}\", too, and SQLite does not look at case");
                plan.refuse(target, &place, (index, name), message, "rename one of the two with `map`")?;
                continue;
            }
            match table.column(name) {
                Some(column)
                    if holds(&column.declared, field.data_type()) || target.drift == Drift::Widen =>
                {
                    plan.columns.extend(Column::new(index, name, table, target));
                }
                Some(column) => {
                    let declared = &column.declared;
                    let message =
                        format!("the column is declared {declared}, the rows hold {}", field.data_type());
                    plan.refuse(target, &place, (index, name), message, OTHER_COLUMNS)?;
                }
                None if *field.data_type() == DataType::Null => {}
                None if target.drift == Drift::Widen => {
                    *table = widen(connection, target, &place, name, declaration(field.data_type())).await?;
                    plan.columns.extend(Column::new(index, name, table, target));
                }
                None => {
                    let message = "the table has no such column".to_owned();
                    plan.refuse(target, &place, (index, name), message, OTHER_COLUMNS)?;
                }
            }
        }
        for name in &target.extra {
            if table.column(name).is_some() {
                continue;
            }
            if target.drift != Drift::Widen {
                let declared = extra_declaration(name);
                let message = format!(
                    "{place} has no column \"{name}\": add it, declared {declared}, or set `drift` to `widen`"
                );
                return Err(Error::configuration(message));
            }
            *table = widen(connection, target, &place, name, extra_declaration(name)).await?;
        }
        Ok(plan)
    }
}

impl Plan {
    /// The names of the columns that are written, in the table.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.columns.iter().map(|column| column.name.as_str())
    }

    fn refuse(
        &mut self,
        target: &Target,
        place: &str,
        (index, name): (usize, &str),
        message: String,
        help: &str,
    ) -> Result<()> {
        if target.drift == Drift::DeadLetter {
            self.refused.push((index, message));
            return Ok(());
        }
        Err(Error::configuration(format!("{place}: column \"{name}\": {message}: {help}")))
    }

    pub(super) fn values<'a>(&self, target: &Target, item: &'a Writer<'_>) -> Result<Vec<Bound<'a>>> {
        let fields = item.row.schema().fields();
        let cell = |index: usize| cell_at(item.row.batch().column(index), item.row.index());
        for (index, message) in &self.refused {
            if !cell(*index).is_null() {
                return Err(Error::invalid(format!("row.{}", fields[*index].name()), message));
            }
        }
        let mut values = Vec::with_capacity(self.columns.len() + item.extra.len());
        for column in &self.columns {
            values.push(column.bound(cell(column.index))?);
        }
        values.extend(item.extra.iter().map(Bound::borrowed));
        if target.write != Write::Insert {
            let names = self.names().chain(target.extra.iter().copied());
            for key in &target.key {
                let at = names.clone().position(|name| name.eq_ignore_ascii_case(key));
                if at.is_none_or(|at| values[at] == Bound::Null) {
                    let message = "is null or missing, and is part of the key: give it a value, or leave it out of `key`";
                    return Err(Error::invalid(format!("row.{key}"), message));
                }
            }
        }
        let mut filled = self.columns.iter().zip(&values);
        if let Some((column, _)) = filled.find(|(column, value)| column.defaults && **value == Bound::Null) {
            let message = "is null, which the column is declared not to be: give it a value, or leave it out";
            return Err(Error::invalid(format!("row.{}", column.name), message));
        }
        Ok(values)
    }
}

/// Adds a column to the table, and describes it as it is then.
async fn widen(
    connection: &mut SqliteConnection,
    target: &Target,
    place: &str,
    name: &str,
    declared: &str,
) -> Result<Table> {
    let failed = |error| translate(place, error);
    let sql = format!("ALTER TABLE {} ADD COLUMN {} {declared}", quoted(&target.table), quoted(name));
    connection.execute(AssertSqlSafe(sql)).await.map_err(failed)?;
    let widened = describe(connection, &target.table).await.map_err(failed)?;
    widened.ok_or_else(|| Error::internal(format!("{place} is not there after it was widened")))
}
