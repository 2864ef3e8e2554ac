//! Names of columns, each once.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use arrow::error::ArrowError;

/// Returns names of which none stands twice: to one that does, the number of its column is added. The
/// first of a name has it.
pub(crate) fn unique<'a>(names: impl IntoIterator<Item = Cow<'a, str>>) -> Vec<String> {
    let mut names: Vec<String> = names.into_iter().map(Cow::into_owned).collect();
    let mut taken = HashSet::new();
    let again: Vec<usize> = (0..names.len()).filter(|at| !taken.insert(names[*at].clone())).collect();
    for at in again {
        let mut name = names[at].clone();
        while !taken.insert(name.clone()) {
            name = format!("{name}_{}", at + 1);
        }
        names[at] = name;
    }
    names
}

/// Returns the names of a schema that an object brings, [each once](unique).
pub(crate) fn unique_in(schema: &Schema) -> Vec<String> {
    unique(schema.fields().iter().map(|field| Cow::Borrowed(field.name().as_str())))
}

/// Gives the columns of a batch other names.
pub(crate) fn renamed(rows: RecordBatch, names: &[String]) -> Result<RecordBatch, ArrowError> {
    let schema = rows.schema();
    let fields = || schema.fields().iter().zip(names);
    if fields().all(|(field, name)| field.name() == name) {
        return Ok(rows);
    }
    let fields: Vec<Field> = fields().map(|(field, name)| field.as_ref().clone().with_name(name)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let schema = Schema::new(fields).with_metadata(schema.metadata().clone());
    RecordBatch::try_new_with_options(Arc::new(schema), rows.columns().to_vec(), &options)
}
