//! Binary formats as streams of record batches: the next batch is decoded while the last one
//! is on its way.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use futures::Stream;
use nvisy_core::{Error, ErrorKind, Position, Positions, ReadContext, Result, SourceBatch};

use crate::client::{Content, ObjectClient};
use crate::error::from_join;
use crate::partition::offset_of;
use crate::task::{Blocking, blocking};

/// Decodes an object batch by batch. Blocks.
pub(crate) trait RowReader: Iterator<Item = Result<RecordBatch>> + Send {}

impl<T: Iterator<Item = Result<RecordBatch>> + Send> RowReader for T {}

/// Reads the object at `key`, whose items' positions are the numbers of their rows.
pub(crate) fn read<F>(
    key: Arc<str>,
    after: Option<Position>,
    context: ReadContext<ObjectClient>,
    open: F,
) -> impl Stream<Item = Result<SourceBatch>> + Send
where
    F: FnOnce(&str, Content, u64) -> Result<Box<dyn RowReader>> + Send + 'static,
{
    async_stream::try_stream! {
        let mut row = offset_of(after, &key)?.map_or(0, |row| row.saturating_add(1));
        let content = context.client().open(&key).await?.content;
        let name = key.clone();
        let opened = blocking(move || open(&name, content, row)).await.map_err(|error| from_join(error, "read", &key))?;
        let mut reading = Some(next(opened?));
        while let Some(task) = reading.take() {
            let (reader, rows) = task.await.map_err(|error| from_join(error, "read", &key))?;
            let Some(rows) = rows else { break };
            let rows = rows?;
            reading = Some(next(reader));
            let size = piece(&rows, context.limits().bytes);
            for at in (0..rows.num_rows()).step_by(size) {
                let piece = rows.slice(at, size.min(rows.num_rows() - at));
                let first = row;
                row += piece.num_rows() as u64;
                let last = Position::Marker { object: key.clone(), offset: row - 1 };
                yield context.rows(piece, Positions::rows(key.clone(), first), last)?;
            }
        }
    }
}

/// The error of an object that does not have so many rows as were read of it.
pub(crate) fn replaced(key: &str, rows: u64) -> Error {
    let message = format!(
        "object \"{key}\" has no row {}, up to which it was read before: it was cut short or replaced: put it back as it was, or begin anew without the run's state",
        rows - 1
    );
    Error::new(ErrorKind::Conflict, message)
}

/// Returns how many rows of a batch make about so many bytes.
fn piece(rows: &RecordBatch, bytes: usize) -> usize {
    let size: usize = rows
        .columns()
        .iter()
        .map(|column| {
            column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
        })
        .sum();
    if size <= bytes.saturating_add(bytes / 4) {
        rows.num_rows().max(1)
    } else {
        (rows.num_rows() * bytes / size).max(1)
    }
}

type Decoded = (Box<dyn RowReader>, Option<Result<RecordBatch>>);

fn next(mut reader: Box<dyn RowReader>) -> Blocking<Decoded> {
    blocking(move || {
        let rows = reader.next();
        (reader, rows)
    })
}
