//! The payloads of a batch: items or rows.

use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, BooleanBufferBuilder, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, interleave_record_batch, take_record_batch};
use arrow::datatypes::Schema;
use arrow::error::ArrowError;

use crate::primitive::Payload;
use crate::primitive::row::Row;

/// The payloads, in one of the layouts.
#[derive(Clone)]
pub(super) enum Content {
    Items(Arc<Items>),
    Rows(Table),
    /// So many payloads, which somebody else has now.
    Gone(usize),
}

/// Payloads, and how many bytes they hold once somebody asked.
pub(super) struct Items {
    pub(super) payloads: Vec<Payload>,
    bytes: OnceLock<usize>,
}

impl Items {
    pub(super) fn shared(payloads: Vec<Payload>) -> Arc<Self> {
        Arc::new(Self { payloads, bytes: OnceLock::new() })
    }

    pub(super) fn bytes(&self) -> usize {
        *self.bytes.get_or_init(|| self.payloads.iter().map(Payload::size).sum())
    }
}

/// Rows, and how many bytes they hold once somebody asked.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) rows: Arc<RecordBatch>,
    bytes: OnceLock<usize>,
}

impl From<Arc<RecordBatch>> for Table {
    fn from(rows: Arc<RecordBatch>) -> Self {
        Self { rows, bytes: OnceLock::new() }
    }
}

impl From<RecordBatch> for Table {
    fn from(rows: RecordBatch) -> Self {
        Arc::new(rows).into()
    }
}

impl Table {
    pub(super) fn bytes(&self) -> usize {
        let size = |column: &ArrayRef| {
            column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
        };
        *self.bytes.get_or_init(|| self.rows.columns().iter().map(size).sum())
    }

    pub(super) fn take(&self, indices: &[u32]) -> Result<RecordBatch, ArrowError> {
        if self.rows.num_columns() == 0 {
            return Ok(blank(indices.len()));
        }
        if indices.is_sorted_by(|a, b| a < b) && indices.len() > self.rows.num_rows() / 16 {
            let mut mask = BooleanBufferBuilder::new(self.rows.num_rows());
            mask.append_n(self.rows.num_rows(), false);
            indices.iter().for_each(|index| mask.set_bit(*index as usize, true));
            return filter_record_batch(&self.rows, &mask.finish().into());
        }
        take_record_batch(&self.rows, &UInt32Array::from(indices.to_vec()))
    }
}

impl Content {
    #[inline]
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Items(items) => items.payloads.len(),
            Self::Rows(table) => table.rows.num_rows(),
            Self::Gone(len) => *len,
        }
    }

    /// Returns rows without columns.
    pub(super) fn blank(len: usize) -> Self {
        Self::Rows(blank(len).into())
    }

    pub(super) fn take(&self, indices: &[u32]) -> Self {
        match self {
            Self::Items(items) => Self::Items(Items::shared(
                indices.iter().map(|i| items.payloads[*i as usize].clone()).collect(),
            )),
            Self::Rows(table) => match table.take(indices) {
                Ok(rows) => Self::Rows(rows.into()),
                // A column that grows too long for its type: the rows stay where they are.
                Err(_) => Self::views(&table.rows, indices),
            },
            Self::Gone(_) => Self::Gone(indices.len()),
        }
    }

    /// Returns the payloads at `indices` as items. Views of rows need no kernel, and so cannot
    /// fail where one does: where the texts of a column outgrow what its offsets can say.
    pub(super) fn views(rows: &Arc<RecordBatch>, indices: &[u32]) -> Self {
        Self::Items(Items::shared(indices.iter().map(|index| view(rows, *index)).collect()))
    }

    pub(super) fn slice(&self, offset: usize, len: usize) -> Self {
        match self {
            Self::Items(items) => Self::Items(Items::shared(items.payloads[offset..offset + len].to_vec())),
            Self::Rows(table) => Self::Rows(table.rows.slice(offset, len).into()),
            Self::Gone(_) => Self::Gone(len),
        }
    }

    #[inline]
    pub(super) fn payload(&self, index: usize) -> Payload {
        match self {
            Self::Items(items) => items.payloads[index].clone(),
            Self::Rows(table) => view(&table.rows, index as u32),
            Self::Gone(_) => unreachable!("a payload that was handed over"),
        }
    }
}

/// Rows without columns.
fn blank(len: usize) -> RecordBatch {
    let options = RecordBatchOptions::new().with_row_count(Some(len));
    let rows = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options);
    rows.unwrap_or_else(|_| unreachable!("no column has another length"))
}

/// A view of one row.
fn view(rows: &Arc<RecordBatch>, index: u32) -> Payload {
    match Row::new(rows.clone(), index) {
        Ok(row) => Payload::Row(row),
        Err(_) => unreachable!("a row behind the end of its batch"),
    }
}

/// Rows of one record batch become rows again; everything else stays items.
pub(super) fn gather(payloads: Vec<Payload>) -> Content {
    let Some(Payload::Row(first)) = payloads.first() else {
        return Content::Items(Items::shared(payloads));
    };
    let batch = first.batch().clone();
    let mut indices = Vec::with_capacity(payloads.len());
    for payload in &payloads {
        match payload {
            Payload::Row(row) if Arc::ptr_eq(row.batch(), &batch) => indices.push(row.index() as u32),
            _ => return Content::Items(Items::shared(payloads)),
        }
    }
    if indices.len() == batch.num_rows() && indices.iter().enumerate().all(|(i, at)| i == *at as usize) {
        return Content::Rows(batch.into());
    }
    Content::Rows(batch.into()).take(&indices)
}

/// Joins payloads: rows of one schema stay rows.
pub(super) fn join<'a>(contents: impl Iterator<Item = &'a Content> + Clone) -> Content {
    if let Some(rows) = rows_of_one_schema(contents.clone())
        && let Some(first) = rows.first()
        && let Ok(joined) = concat_batches(&first.schema(), rows)
    {
        return Content::Rows(joined.into());
    }
    Content::Items(Items::shared(
        contents.flat_map(|content| (0..content.len()).map(|index| content.payload(index))).collect(),
    ))
}

/// Gathers payloads of several, each of one of them and of an item there: rows of one schema stay
/// rows.
pub(super) fn interleave(contents: &[&Content], picks: &[(usize, usize)]) -> Content {
    if let Some(rows) = rows_of_one_schema(contents.iter().copied())
        && !rows.is_empty()
        && let Ok(gathered) = interleave_record_batch(&rows, picks)
    {
        return Content::Rows(gathered.into());
    }
    Content::Items(Items::shared(picks.iter().map(|(of, index)| contents[*of].payload(*index)).collect()))
}

fn rows_of_one_schema<'a>(contents: impl Iterator<Item = &'a Content>) -> Option<Vec<&'a RecordBatch>> {
    let mut all: Vec<&RecordBatch> = Vec::new();
    for content in contents {
        let Content::Rows(Table { rows, .. }) = content else { return None };
        if all.first().is_some_and(|first| first.schema_ref() != rows.schema_ref()) {
            return None;
        }
        all.push(rows);
    }
    Some(all)
}
