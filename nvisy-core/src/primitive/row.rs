//! One relational record: a view into a batch of them.

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::error::{Error, Result};

/// One relational record: a record batch and an index. Cheap to clone; the batch is shared.
#[derive(Clone, Debug)]
pub struct Row {
    batch: Arc<RecordBatch>,
    index: u32,
}

impl Row {
    /// Views one record of a batch.
    ///
    /// # Errors
    ///
    /// `validation` if the batch has no record at `index`.
    pub fn new(batch: Arc<RecordBatch>, index: u32) -> Result<Self> {
        if index as usize >= batch.num_rows() {
            let rows = batch.num_rows();
            return Err(Error::invalid("row.index", format!("is {index}, the batch has {rows} rows")));
        }
        Ok(Self { batch, index })
    }

    /// Returns the batch that the record is in.
    #[must_use]
    pub fn batch(&self) -> &Arc<RecordBatch> {
        &self.batch
    }

    /// Returns the record's index in its batch.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index as usize
    }

    /// About its share of the batch's memory.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.batch.get_array_memory_size() / self.batch.num_rows().max(1)
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.batch.schema() == other.batch.schema()
            && self.batch.slice(self.index(), 1) == other.batch.slice(other.index(), 1)
    }
}
