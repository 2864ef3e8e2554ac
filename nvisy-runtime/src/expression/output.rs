//! What an expression gives on a batch, as an Arrow column.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, DurationMicrosecondArray, Float64Array, Int64Array,
    StringArray, TimestampMicrosecondArray, UInt64Array, make_array, new_null_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{cast, nullif};
use arrow::datatypes::{DataType, Schema, TimeUnit};
use nvisy_core::{Error, ErrorKind, KindId, Result};

use super::ast::{Expr, Node, Root};
use super::columnar::{self, Column};
use super::nested;
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
            let values = of_values(vec![Ok(value); len], Type::Any, None, "").values;
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

impl Type {
    /// The type of a value.
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Bool,
            Value::Int(_) => Self::Int,
            Value::UInt(_) => Self::UInt,
            Value::Double(_) => Self::Double,
            Value::Text(_) => Self::Text,
            Value::Bytes(_) => Self::Bytes,
            Value::Timestamp(_) => Self::Timestamp,
            Value::Duration(_) => Self::Duration,
            Value::List(_) => Self::List,
            Value::Map(_) => Self::Map,
        }
    }

    /// The type that holds values of both, if there is one.
    pub(crate) fn unified(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Null, other) | (other, Self::Null) => Some(other),
            (left, right) if left == right => Some(left),
            (left, right) if left.is_number() && right.is_number() => Some(Self::Double),
            _ => None,
        }
    }
}

/// Gathers values, all of a type that is known, into a column: lists and maps that make none as
/// the texts of their JSON.
pub(crate) fn column_of(values: Vec<Value>, known: Type) -> Result<ArrayRef> {
    if matches!(known, Type::List | Type::Map) {
        return Ok(nested::column(&values).unwrap_or_else(|| nested::texts(&values)));
    }
    let column = of_values(values.into_iter().map(Ok).collect(), known, None, "");
    match column.faults.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(column.values),
    }
}

/// The type of an expression on rows of a schema: the same however rows are cut into batches.
/// Where neither text nor schema says it, what the values show counts.
pub(super) fn type_on(node: &Node, schema: &Schema) -> Type {
    let on = |node: &Node| type_on(node, schema);
    match &node.expr {
        Expr::Literal(literal) => literal.type_of(),
        Expr::Field { of, name } if matches!(of.expr, Expr::Root(Root::Kind(KindId::Row))) => {
            schema.field_with_name(name).map_or(Type::Any, |field| columnar::type_of(field.data_type()))
        }
        Expr::Conditional(parts) => match (on(&parts[1]), on(&parts[2])) {
            (Type::Any, _) | (_, Type::Any) => Type::Any,
            (left, right) => left.unified(right).unwrap_or(Type::Any),
        },
        Expr::Arithmetic(op, sides) => {
            Type::arithmetic(*op, on(&sides[0]), on(&sides[1])).unwrap_or(Type::Any)
        }
        Expr::Negate(of) => on(of),
        Expr::Call(function, _) => function.result(),
        Expr::Not(_) | Expr::And(_) | Expr::Or(_) | Expr::Compare(..) => Type::Bool,
        Expr::Has { .. } | Expr::In(_) | Expr::Matches(..) => Type::Bool,
        _ => Type::Any,
    }
}

/// Gathers values into a column; `known` is its type as far as it is known without them, `before`
/// that which it had before.
pub(super) fn of_values(
    values: Vec<Result<Value>>,
    known: Type,
    before: Option<&DataType>,
    text: &str,
) -> EvaluatedColumn {
    let mut faults = Vec::new();
    let mut common = if known == Type::Any { Type::Null } else { known };
    let values: Vec<Value> = (0..)
        .zip(values)
        .map(|(index, value)| {
            let value = value.and_then(|value| match common.unified(Type::of(&value)) {
                Some(unified) => {
                    common = unified;
                    Ok(value)
                }
                None => Err(mismatch(text, Type::of(&value), common)),
            });
            value.unwrap_or_else(|error| {
                faults.push((index, error));
                Value::Null
            })
        })
        .collect();
    let array = match data_type(common) {
        Some(data_type) => scalars(&values, &data_type),
        None if common == Type::Null => new_null_array(&DataType::Null, values.len()),
        None => {
            let held = || (0..).zip(&values).filter(|(_, value)| !matches!(value, Value::Null));
            match before.filter(|before| before.is_nested()) {
                Some(before) => {
                    let fits = nested::column_as(&values, before);
                    let lost = held().filter(|(index, _)| fits.is_null(*index as usize));
                    let lost =
                        lost.map(|(index, value)| (index, unlike(text, &nested::shape(value), before)));
                    faults.extend(lost);
                    fits
                }
                None => nested::column(&values).unwrap_or_else(|| {
                    faults.extend(held().map(|(index, _)| (index, nested::sparse(text))));
                    new_null_array(&DataType::Null, values.len())
                }),
            }
        }
    };
    faults.sort_by_key(|(index, _)| *index);
    EvaluatedColumn { values: array, faults }
}

impl EvaluatedColumn {
    /// Gives the column a type: that which it had before. Numbers become other numbers where
    /// nothing is lost, and texts other texts; so do those in lists and structs. A value that does
    /// not fit is a fault.
    pub(crate) fn with_type(self, data_type: &DataType, text: &str) -> Self {
        let Self { values, mut faults } = self;
        let found = values.data_type().clone();
        if found == *data_type {
            return Self { values, faults };
        }
        if found == DataType::Null {
            return Self { values: new_null_array(data_type, values.len()), faults };
        }
        let fits = fitting(&values, data_type);
        let missing = |index: &usize| values.is_valid(*index) && fits.is_null(*index);
        for index in (0..values.len()).filter(missing) {
            let index = index as u32;
            if faults.iter().all(|(known, _)| *known != index) {
                faults.push((index, unlike(text, &found, data_type)));
            }
        }
        faults.sort_by_key(|(index, _)| *index);
        Self { values: fits, faults }
    }
}

/// The values that are the same in another type, and nulls for the others.
fn fitting(values: &ArrayRef, data_type: &DataType) -> ArrayRef {
    let none = || new_null_array(data_type, values.len());
    let found = values.data_type();
    let texts = |of: &DataType| columnar::type_of(of) == Type::Text;
    if found.is_nested() && data_type.is_nested() {
        return nested::fitting(values, data_type);
    }
    if !(found.is_numeric() && data_type.is_numeric() || texts(found) && texts(data_type)) {
        return none();
    }
    let fits = || {
        let fits = cast(values, data_type).ok()?;
        let lost = distinct(&cast(&fits, found).ok()?, values).ok()?;
        nullif(&fits, &lost).ok()
    };
    fits().unwrap_or_else(none)
}

fn unlike(text: &str, found: &DataType, before: &DataType) -> Error {
    let message = format!(
        "expression `{}`: gives {found} here, and {before} before: a column has one type",
        shown(text)
    );
    Error::new(ErrorKind::Validation, message)
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
