//! What comes out of an aggregate: groups as rows.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, ListArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Schema};
use nvisy_core::SourceIdentity;
use nvisy_core::lineage::{MergeBatch, Merges, Step};
use nvisy_core::prelude::*;
use serde_json::json;

use super::accumulator::Accumulator;
use super::aggregating::Aggregating;
use super::column::Column;
use super::origins::Origins;
use super::part::Part;
use super::state::State;
use super::window::start_of;
use super::{Aggregation, WINDOW};
use crate::actions::key::decode;
use crate::expression::{Type, Value, column_of};

impl Aggregating {
    /// Makes rows of groups.
    pub(super) fn rows(&self, part: &Part, origins: &Origins, context: &Context) -> Result<Batch> {
        let (len, by) = (part.len(), self.group_by.len());
        let mut keys: Vec<&[u8]> = (0..len).map(|group| part.keys.get(group)).collect();
        let mut starts = Vec::new();
        if self.window.is_some() {
            for key in &mut keys {
                starts.push(start_of(key).unwrap_or_default());
                *key = key.get(8..).unwrap_or_default();
            }
        }
        let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
        for (at, name) in self.names[..by].iter().enumerate() {
            columns.push((name, key_column(&mut keys, &part.values[at], self.types[at])?));
        }
        if let Some((_, clock, _)) = &self.window {
            let ends = starts.iter().map(|start| clock.end(*start)).collect();
            for (name, moments) in WINDOW.into_iter().zip([starts, ends]) {
                columns.push((name, Arc::new(TimestampMicrosecondArray::from(moments).with_timezone("UTC"))));
            }
        }
        for (at, (aggregation, _)) in self.aggregations.iter().enumerate() {
            let name = &self.names[by + at];
            let mut fits = true;
            let column = column(aggregation, self.types[by + at], &part.columns[at], &part.items, &mut fits)?;
            if !fits {
                let told = format!("a sum \"{name}\" does not fit 64 bits, and is null: sum doubles");
                context.meter().warn(&told);
            }
            columns.push((name, column));
        }
        let fields: Vec<_> = columns
            .iter()
            .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
            .collect();
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(len));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
            .map_err(|error| Error::internal("the columns of the groups make no rows").with_source(error))?;
        let source = SourceIdentity::new(format!("aggregate:{}/{}", context.graph(), context.node()));
        Batch::merged(
            rows,
            (source, part.keys.to_array()?),
            merges(part, origins, &context.step()),
            context.metadata(),
        )
    }
}

/// Names the first items of each group, and how many there were where these are not all.
fn merges(part: &Part, origins: &Origins, step: &Arc<Step>) -> Merges {
    let mut merges = Merges::default();
    let mut batches: Vec<Option<MergeBatch>> = vec![None; origins.len()];
    let mut steps: HashMap<u64, Arc<Step>> = HashMap::new();
    for (group, items) in part.items.iter().enumerate() {
        let parents = part.parents_of(group);
        for number in parents {
            let Some(at) = origins.find(*number) else { continue };
            let (first, batch) = origins.get(at);
            let of = *batches[at].get_or_insert_with(|| merges.batch(batch));
            merges.input(batch, of, (number - first) as usize);
        }
        if *items > parents.len() as u64 {
            let counted = || Arc::new(Step::clone(step).with_parameters(Arc::new(json!({ "items": items }))));
            merges.end(steps.entry(*items).or_insert_with(counted));
        } else {
            merges.end(step);
        }
    }
    merges
}

/// Reads the values of a column off the keys, but for those that they do not say.
fn key_column(keys: &mut [&[u8]], kept: &[Value], known: Type) -> Result<ArrayRef> {
    let damaged = || Error::internal("the key of a group does not read");
    let mut decoded = keys.iter_mut().map(|key| decode(key, known).ok_or_else(damaged));
    if known == Type::Int {
        let integer = |value| Ok(if let Value::Int(value) = value? { Some(value) } else { None });
        return Ok(Arc::new(decoded.map(integer).collect::<Result<Int64Array>>()?));
    }
    if !kept.is_empty() {
        decoded.try_for_each(|value| value.map(drop))?;
        let mut values = kept.to_vec();
        values.resize(keys.len(), Value::Null);
        return column_of(values, known);
    }
    column_of(decoded.collect::<Result<_>>()?, known)
}

/// Returns the column of an aggregate; `fits` is no more where a sum is too large for its type.
fn column(
    aggregation: &Aggregation,
    known: Type,
    of: &Accumulator,
    items: &[u64],
    fits: &mut bool,
) -> Result<ArrayRef> {
    let counts = |nulls: &Column<u64>| -> Vec<u64> {
        items.iter().enumerate().map(|(group, items)| items - nulls.get(group)).collect()
    };
    match of {
        Accumulator::Count { nulls } => {
            Ok(Arc::new(Int64Array::from_iter_values(counts(nulls).into_iter().map(|count| count as i64))))
        }
        Accumulator::Sum { nulls, integers, doubles } => {
            let total = |group: usize| match integers.get(group) {
                0 => doubles.value(group as u32),
                integers => doubles.with_integer(group as u32, *integers),
            };
            let counts = counts(nulls);
            let sums = counts.iter().enumerate();
            if let Aggregation::Mean(_) = aggregation {
                let mean = |(group, count): (usize, &u64)| (*count > 0).then(|| total(group) / *count as f64);
                return Ok(Arc::new(sums.map(mean).collect::<Float64Array>()));
            }
            if known == Type::Double {
                let sum = |(group, count): (usize, &u64)| (*count > 0).then(|| total(group));
                return Ok(Arc::new(sums.map(sum).collect::<Float64Array>()));
            }
            let sum = |(group, count): (usize, &u64)| {
                let sum = (*count > 0).then(|| integer(known, *integers.get(group)));
                *fits &= sum.as_ref().is_none_or(|sum| !matches!(sum, Value::Null));
                sum.unwrap_or(Value::Null)
            };
            column_of(sums.map(sum).collect(), known)
        }
        Accumulator::Values { states, .. } if matches!(aggregation, Aggregation::Collect(_)) => {
            lists(known, states.iter())
        }
        Accumulator::Values { states, .. } => {
            let value = |state: &State| match state {
                State::Least(value) | State::Greatest(value) => value.clone().unwrap_or(Value::Null),
                State::First(value) | State::Last(value) => {
                    value.as_ref().map_or(Value::Null, |(_, value)| value.clone())
                }
                State::All(_) => Value::Null,
            };
            column_of(states.iter().map(value).collect(), known)
        }
    }
}

/// The sum of integers as a value of their type: null where it does not fit, as an error would come
/// again whenever the groups come out.
fn integer(known: Type, sum: i128) -> Value {
    let value = match known {
        Type::UInt => u64::try_from(sum).ok().map(Value::UInt),
        _ => i64::try_from(sum).ok().map(Value::Int),
    };
    value.unwrap_or(Value::Null)
}

fn lists<'a>(known: Type, states: impl Iterator<Item = &'a State>) -> Result<ArrayRef> {
    let (mut lengths, mut values) = (Vec::new(), Vec::new());
    for state in states {
        let State::All(all) = state else { continue };
        lengths.push(all.len());
        values.extend(all.iter().map(|(_, value)| value.clone()));
    }
    let values = column_of(values, known)?;
    let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
    let lists = ListArray::try_new(field, OffsetBuffer::from_lengths(lengths), values, None);
    Ok(Arc::new(lists.map_err(|error| Error::internal("values make no lists").with_source(error))?))
}
