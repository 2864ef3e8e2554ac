//! Batches as rows of one schema: what a tabular file takes.
#![cfg(any(feature = "csv", feature = "parquet", feature = "ipc"))]

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use nvisy_core::{Batch, Error, ErrorKind, Payload, Result};

/// Returns the schema of the first row of a batch, without what only its origin knew.
pub(crate) fn schema_of(batch: &Batch) -> Result<SchemaRef> {
    let schema = match batch.as_rows() {
        Some(rows) => rows.schema(),
        None => match batch.payload(0) {
            Payload::Row(row) => row.schema().clone(),
            other => return Err(no_row(&other)),
        },
    };
    Ok(Arc::new(Schema::new(schema.fields().clone())))
}

fn no_row(payload: &Payload) -> Error {
    let kind = payload.kind();
    Error::new(ErrorKind::Validation, format!("expected a row, found a {kind}: put a `convert` in between"))
}

/// The rows that fit a file, and the items that do not.
pub(crate) type Sorted = (Option<RecordBatch>, Vec<(u32, Error)>);

/// Returns the rows of a batch that fit a schema, and which items do not.
pub(crate) fn rows_of(batch: &Batch, schema: &SchemaRef) -> Result<Sorted> {
    if let Some(rows) = batch.as_rows() {
        return Ok(match fit(rows, schema) {
            Ok(rows) => (Some(rows), Vec::new()),
            Err(error) => (None, (0..batch.len() as u32).map(|index| (index, error.clone())).collect()),
        });
    }
    let mut rejected = Vec::new();
    let mut parts: Vec<RecordBatch> = Vec::new();
    for index in 0..batch.len() {
        let fitted = match batch.payload(index) {
            Payload::Row(row) => fit(&row.batch().slice(row.index(), 1), schema),
            other => Err(no_row(&other)),
        };
        match fitted {
            Ok(row) => parts.push(row),
            Err(error) => rejected.push((index as u32, error)),
        }
    }
    let rows = concat_batches(schema, &parts)
        .map_err(|error| Error::internal("rows of one schema do not join").with_source(error))?;
    Ok((Some(rows), rejected))
}

/// Returns the rows under a schema, if they fit it.
fn fit(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let misfit = |message: String| {
        let remedy = "bring the items to one schema, or write them to a sink of their own";
        Error::new(ErrorKind::Validation, format!("the item does not fit its file: {message}: {remedy}"))
    };
    let (mine, theirs) = (schema.fields(), rows.schema_ref().fields());
    if mine.len() != theirs.len() {
        return Err(misfit(format!("the file has {} columns, the item {}", mine.len(), theirs.len())));
    }
    let mut columns = Vec::with_capacity(mine.len());
    for ((mine, theirs), column) in mine.iter().zip(theirs).zip(rows.columns()) {
        if mine.name() != theirs.name() {
            let message =
                format!("where the file has the column `{}`, the item has `{}`", mine.name(), theirs.name());
            return Err(misfit(message));
        }
        let name = mine.name();
        if !mine.is_nullable() && column.null_count() > 0 {
            return Err(misfit(format!(
                "the column `{name}` is null, which the file's first items never were"
            )));
        }
        let (want, have) = (mine.data_type(), column.data_type());
        if want == have {
            columns.push(column.clone());
        } else if is_dictionary_of(have, want) {
            let plain = arrow::compute::cast(column, want);
            columns.push(
                plain.map_err(|error| {
                    misfit(format!("the column `{name}` does not read")).with_source(error)
                })?,
            );
        } else {
            return Err(misfit(format!("the column `{name}` is {want} in the file, {have} in the item")));
        }
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|error| misfit("its columns make no row".to_owned()).with_source(error))
}

fn is_dictionary_of(data_type: &DataType, values: &DataType) -> bool {
    matches!(data_type, DataType::Dictionary(_, inner) if **inner == *values)
}
