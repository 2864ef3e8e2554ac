//! One page of what is read.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use nvisy_core::position::KeyValue;
use nvisy_core::{Error, Position, Result};
use serde_json::{Map, Value as Json};
use sqlx::sqlite::SqliteRow;

use super::Reader;
use crate::sqlite::column::{ColumnBuilder, Taken};
use crate::sqlite::value::Value;

/// One page of rows.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) rows: RecordBatch,
    pub(crate) positions: Vec<Position>,
    /// The position of the page's last row, whether it could be read or not.
    pub(crate) after: Option<Position>,
    pub(crate) rejected: Vec<(Json, Position, Error)>,
    /// Whether this is the last page.
    pub(crate) is_last: bool,
}

/// A page while it is read.
pub(super) struct PageBuilder<'a> {
    reader: &'a Reader,
    builders: Vec<ColumnBuilder>,
    positions: Vec<Position>,
    rejected: Vec<(Json, Position, Error)>,
    pub(super) last: Option<Arc<[KeyValue]>>,
    pub(super) len: usize,
    pub(super) bytes: usize,
}

impl<'a> PageBuilder<'a> {
    pub(super) fn new(reader: &'a Reader) -> Self {
        let builders = reader.columns.iter().map(|(_, column, _)| ColumnBuilder::new(*column)).collect();
        Self { reader, builders, positions: Vec::new(), rejected: Vec::new(), last: None, len: 0, bytes: 0 }
    }

    pub(super) fn push(&mut self, row: &SqliteRow, key: Arc<[KeyValue]>) -> Result<(), sqlx::Error> {
        let columns = &self.reader.columns;
        let mut taken: Vec<Taken<'_>> = Vec::with_capacity(columns.len());
        let mut misfit = None;
        for (index, (name, column, _)) in columns.iter().enumerate() {
            let value = Value::of(row, index)?;
            self.bytes += value.size();
            match column.take(value) {
                Some(value) => taken.push(value),
                None => {
                    misfit = Some((name, *column, value));
                    break;
                }
            }
        }
        let position = Position::Keyset(key.clone());
        match misfit {
            None => {
                self.builders.iter_mut().zip(taken).for_each(|(builder, value)| builder.append(value));
                self.positions.push(position);
            }
            Some((name, column, value)) => {
                let (column, class) = (column.name(), value.class());
                let what = &self.reader.what;
                let message = format!(
                    "{what}: row {position} holds {class} that is no {column}: set the column's type with `types`"
                );
                let error = Error::invalid(format!("row.{name}"), message);
                self.rejected.push((self.raw(row)?, position, error));
            }
        }
        self.last = Some(key);
        self.len += 1;
        Ok(())
    }

    fn raw(&self, row: &SqliteRow) -> Result<Json, sqlx::Error> {
        let mut object = Map::new();
        for (index, (name, _, _)) in self.reader.columns.iter().enumerate() {
            object.insert(name.clone(), Value::of(row, index)?.to_json());
        }
        Ok(object.into())
    }

    pub(super) fn finish(self, is_last: bool) -> Result<Page> {
        let columns = self.builders.into_iter().map(ColumnBuilder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.positions.len()));
        let rows = RecordBatch::try_new_with_options(self.reader.schema.clone(), columns, &options).map_err(
            |e| {
                Error::internal(format!("{}: the page does not fit its schema", self.reader.what))
                    .with_source(e)
            },
        )?;
        let after = self.last.map(Position::Keyset);
        Ok(Page { rows, positions: self.positions, after, rejected: self.rejected, is_last })
    }
}
