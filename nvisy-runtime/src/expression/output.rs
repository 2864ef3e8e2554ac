//! What an expression gives on a batch, as an Arrow column.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DurationMicrosecondArray, Float64Array, Int64Array,
    StringArray, TimestampMicrosecondArray, UInt64Array, make_array, new_null_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, TimeUnit};
use nvisy_core::primitive::row::Row;
use nvisy_core::{Error, ErrorKind, Result};

use super::columnar::Column;
use super::types::Type;
use super::value::{Literal, Value};
use super::{EvaluatedColumn, shown};

/// The column's values, and the rows that have a fault instead.
pub(super) fn of_column(column: Column<'_>, len: usize) -> Option<(ArrayRef, Option<BooleanBuffer>)> {
    let (array, faults): (ArrayRef, _) = match column {
        Column::Array(array, faults) => (array, faults),
        Column::Bits(bits, faults) => (Arc::new(BooleanArray::new(bits, None)), faults),
        Column::Fault => (new_null_array(&DataType::Null, len), Some(BooleanBuffer::new_set(len))),
        Column::Const(literal) => {
            let value = match literal {
                Literal::Null => Value::Null,
                Literal::Bool(value) => Value::Bool(*value),
                Literal::Int(value) => Value::Int(*value),
                Literal::UInt(value) => Value::UInt(*value),
                Literal::Double(value) => Value::Double(*value),
                Literal::Text(value) => Value::Text(value.to_string()),
                Literal::Bytes(value) => Value::Bytes(value.to_vec()),
            };
            let values = of_values(vec![Ok(value); len], None, "").values;
            (values, None)
        }
    };
    let Some(faulty) = faults else { return Some((array, None)) };
    if *array.data_type() == DataType::Null {
        return Some((array, Some(faulty)));
    }
    // A value that is none is null.
    let sound = NullBuffer::new(!&faulty);
    let nulls = NullBuffer::union(array.nulls(), Some(&sound));
    let builder = array.to_data().into_builder().nulls(nulls);
    Some((make_array(builder.build().ok()?), Some(faulty)))
}

/// The type of a column of such values.
pub(super) fn data_type(result: Type) -> Option<DataType> {
    Some(match result {
        Type::Bool => DataType::Boolean,
        Type::Int => DataType::Int64,
        Type::UInt => DataType::UInt64,
        Type::Double => DataType::Float64,
        Type::Text => DataType::Utf8,
        Type::Bytes => DataType::Binary,
        Type::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Type::Duration => DataType::Duration(TimeUnit::Microsecond),
        Type::Any | Type::Null | Type::List | Type::Map => return None,
    })
}

fn type_of(value: &Value) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::UInt(_) => Type::UInt,
        Value::Double(_) => Type::Double,
        Value::Text(_) => Type::Text,
        Value::Bytes(_) => Type::Bytes,
        Value::Timestamp(_) => Type::Timestamp,
        Value::Duration(_) => Type::Duration,
        Value::List(_) => Type::List,
        Value::Map(_) => Type::Map,
    }
}

/// The type that holds both.
fn unify(left: Type, right: Type) -> Option<Type> {
    match (left, right) {
        (Type::Null, other) | (other, Type::Null) => Some(other),
        (left, right) if left == right => Some(left),
        (left, right) if left.is_number() && right.is_number() => Some(Type::Double),
        _ => None,
    }
}

/// Gathers values into a column; `known` is its type where no value shows it.
pub(super) fn of_values(values: Vec<Result<Value>>, known: Option<DataType>, text: &str) -> EvaluatedColumn {
    let mut faults = Vec::new();
    let mut common = Type::Null;
    let values: Vec<Value> = (0..)
        .zip(values)
        .map(|(index, value)| {
            let value = value.and_then(|value| match unify(common, type_of(&value)) {
                Some(unified) => {
                    common = unified;
                    Ok(value)
                }
                None => Err(mismatch(text, type_of(&value), common)),
            });
            value.unwrap_or_else(|error| {
                faults.push((index, error));
                Value::Null
            })
        })
        .collect();
    let array = match (data_type(common), known) {
        (Some(data_type), _) => scalars(&values, &data_type),
        (None, Some(known)) if common == Type::Null => new_null_array(&known, values.len()),
        (None, _) if common == Type::Null => new_null_array(&DataType::Null, values.len()),
        (None, _) => nested(&values, &mut faults, text),
    };
    faults.sort_by_key(|(index, _)| *index);
    EvaluatedColumn { values: array, faults }
}

fn mismatch(text: &str, found: Type, before: Type) -> Error {
    let (found, before) = (found.name(), before.name());
    let message = format!(
        "expression `{}`: gives {found} here and {before} before: a column has one type",
        shown(text)
    );
    Error::new(ErrorKind::Validation, message)
}

fn scalars(values: &[Value], data_type: &DataType) -> ArrayRef {
    macro_rules! gather {
        ($array:ty, $($pattern:pat => $value:expr),+) => {
            Arc::new(values.iter().map(|value| match value {
                $($pattern => Some($value),)+
                _ => None,
            }).collect::<$array>())
        };
    }
    match data_type {
        DataType::Boolean => gather!(BooleanArray, Value::Bool(value) => *value),
        DataType::Int64 => gather!(Int64Array, Value::Int(value) => *value),
        DataType::UInt64 => gather!(UInt64Array, Value::UInt(value) => *value),
        DataType::Float64 => gather!(
            Float64Array,
            Value::Double(value) => *value, Value::Int(value) => *value as f64, Value::UInt(value) => *value as f64
        ),
        DataType::Utf8 => gather!(StringArray, Value::Text(value) => value.as_str()),
        DataType::Binary => gather!(BinaryArray, Value::Bytes(value) => value.as_slice()),
        DataType::Duration(_) => gather!(
            DurationMicrosecondArray,
            Value::Duration(value) => value.num_microseconds().unwrap_or(i64::MAX)
        ),
        _ => {
            let moments = values.iter().map(|value| match value {
                Value::Timestamp(value) => Some(value.timestamp_micros()),
                _ => None,
            });
            Arc::new(moments.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
    }
}

/// Lists and maps: each by its JSON, in the type that the first of them shows.
fn nested(values: &[Value], faults: &mut Vec<(u32, Error)>, text: &str) -> ArrayRef {
    let column = |value: &Value| -> Result<ArrayRef> {
        let object = serde_json::Map::from_iter([("value".to_owned(), value.to_json())]);
        Ok(Row::from_json(&object, None)?.batch().column(0).clone())
    };
    let mut parts: Vec<Option<ArrayRef>> = Vec::with_capacity(values.len());
    for (index, value) in (0..).zip(values) {
        let part = if matches!(value, Value::Null) { Ok(None) } else { column(value).map(Some) };
        parts.push(part.unwrap_or_else(|error| {
            faults.push((index, error));
            None
        }));
    }
    let Some(data_type) = parts.iter().flatten().map(|part| part.data_type().clone()).max_by_key(richness)
    else {
        return new_null_array(&DataType::Null, values.len());
    };
    for (index, part) in (0..).zip(&mut parts) {
        let Some(found) = part.take() else { continue };
        match cast_nested(&found, &data_type) {
            Some(fits) => *part = Some(fits),
            None => {
                let message = format!(
                    "expression `{}`: gives {} here, the column is {data_type}",
                    shown(text),
                    found.data_type()
                );
                faults.push((index, Error::new(ErrorKind::Validation, message)));
            }
        }
    }
    let null = new_null_array(&data_type, 1);
    let parts: Vec<&dyn Array> =
        parts.iter().map(|part| part.as_ref().unwrap_or(&null) as &dyn Array).collect();
    concat(&parts).unwrap_or_else(|_| new_null_array(&data_type, values.len()))
}

fn cast_nested(array: &ArrayRef, data_type: &DataType) -> Option<ArrayRef> {
    if array.data_type() == data_type {
        return Some(array.clone());
    }
    let fits = cast(array, data_type).ok()?;
    // A cast that loses something is none.
    (fits.logical_null_count() == array.logical_null_count()).then_some(fits)
}

/// How much a type says: one with fewer nulls in it says more.
fn richness(data_type: &DataType) -> usize {
    match data_type {
        DataType::Null => 0,
        DataType::List(field) => 1 + richness(field.data_type()),
        DataType::Struct(fields) => {
            1 + fields.iter().map(|field| 1 + richness(field.data_type())).sum::<usize>()
        }
        DataType::Float64 => 2,
        _ => 1,
    }
}
