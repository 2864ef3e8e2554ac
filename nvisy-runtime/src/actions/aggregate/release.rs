//! What comes out of an aggregate: groups as rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{Field, Schema};
use nvisy_core::lineage::Step;
use nvisy_core::prelude::*;
use nvisy_core::primitive::row::Row;
use nvisy_core::{Lineage, Primitive, SourceIdentity};
use serde_json::json;

use super::groups::Group;
use super::state::{State, total};
use super::window::start_of;
use super::{Aggregating, Aggregation, WINDOW};
use crate::expression::{Type, Value, column_of};

impl Aggregating {
    /// Makes rows of groups.
    pub(super) fn rows(&self, groups: Vec<(Box<[u8]>, Group)>, context: &Context) -> Result<Batch> {
        let len = groups.len();
        let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
        let by = self.group_by.len();
        for (at, name) in self.names[..by].iter().enumerate() {
            let values = groups.iter().map(|(_, group)| group.values[at].clone()).collect();
            columns.push((name, column_of(values, self.types[at])?));
        }
        if let Some((_, clock, _)) = &self.window {
            let starts: Vec<i64> = groups.iter().map(|(key, _)| start_of(key).unwrap_or_default()).collect();
            let ends = starts.iter().map(|start| clock.end(*start)).collect();
            for (name, moments) in WINDOW.into_iter().zip([starts, ends]) {
                columns.push((name, Arc::new(TimestampMicrosecondArray::from(moments).with_timezone("UTC"))));
            }
        }
        for (at, (aggregation, _)) in self.aggregations.iter().enumerate() {
            let name = &self.names[by + at];
            let states = groups.iter().map(|(_, group)| &group.states[at]);
            columns.push((name, column(name, aggregation, self.types[by + at], states)?));
        }
        let fields: Vec<_> = columns
            .iter()
            .map(|(name, column)| Field::new(*name, column.data_type().clone(), true))
            .collect();
        let columns = columns.into_iter().map(|(_, column)| column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(len));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
            .map_err(|error| Error::internal("the columns of the groups make no rows").with_source(error))?;
        let (rows, step, metadata) = (Arc::new(rows), context.step(), context.metadata());
        let source = SourceIdentity::new(format!("aggregate:{}/{}", context.graph(), context.node()));
        let items = groups.into_iter().enumerate().map(|(index, (key, group))| {
            let row = Row::new(rows.clone(), index as u32)?;
            let lineage = lineage(&step, group);
            Ok(Primitive::new(source.id_of_key(&key), row, metadata.clone(), lineage))
        });
        Ok(Batch::from_primitives(items.collect::<Result<_>>()?))
    }
}

/// Names the first items of a group, and how many there were where these are not all.
fn lineage(step: &Arc<Step>, group: Group) -> Lineage {
    let step = if group.items > group.parents.len() as u64 {
        let parameters = Arc::new(json!({ "items": group.items }));
        Arc::new(Step::clone(step).with_parameters(parameters))
    } else {
        step.clone()
    };
    Lineage::derived(step, group.parents.into_iter().map(|(_, id, lineage)| (id, lineage)))
}

fn column<'a>(
    name: &str,
    aggregation: &Aggregation,
    known: Type,
    states: impl Iterator<Item = &'a State>,
) -> Result<ArrayRef> {
    if let Aggregation::Collect(_) = aggregation {
        return lists(known, states);
    }
    let known = match aggregation {
        Aggregation::Count(_) => Type::Int,
        Aggregation::Mean(_) => Type::Double,
        _ => known,
    };
    let values = states.map(|state| {
        Ok(match state {
            State::Count(count) => Value::Int(*count as i64),
            State::Sum { count: 0, .. } => Value::Null,
            State::Sum { count, integers, doubles } => match aggregation {
                Aggregation::Mean(_) => Value::Double(total(*integers, doubles) / *count as f64),
                _ => sum(name, known, *integers, || total(*integers, doubles))?,
            },
            State::Least(value) | State::Greatest(value) => value.clone().unwrap_or(Value::Null),
            State::First(value) | State::Last(value) => {
                value.as_ref().map_or(Value::Null, |(_, value)| value.clone())
            }
            State::All(_) => Value::Null,
        })
    });
    column_of(values.collect::<Result<_>>()?, known)
}

fn sum(name: &str, known: Type, integers: i128, total: impl FnOnce() -> f64) -> Result<Value> {
    let sum = match known {
        Type::Int => i64::try_from(integers).ok().map(Value::Int),
        Type::UInt => u64::try_from(integers).ok().map(Value::UInt),
        _ => Some(Value::Double(total())),
    };
    sum.ok_or_else(|| {
        let message = format!("the sum {integers} does not fit 64 bits: sum `double(..)` of the values");
        Error::invalid(name, message)
    })
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
