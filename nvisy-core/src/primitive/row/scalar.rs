//! One value, apart from its array: what is written, read and hashed.

use std::borrow::Cow;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Date64Type};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::cell::{Cell, cell_at, resolve};
use super::super::depth::nested;
use crate::hash::ContentHasher;

/// One value. With its column's type it is exact.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    /// With exactly as many digits behind the point as the type has.
    Decimal(String),
    Text(#[serde(borrow)] Cow<'a, str>),
    Bytes(#[serde(borrow)] Cow<'a, [u8]>),
    /// The items of a list, the fields of a struct in order, the pairs of a map, the parts of
    /// an interval.
    List(#[serde(borrow, deserialize_with = "nested")] Vec<Self>),
    /// The value of a union, and which of its types that is.
    Union(i8, #[serde(borrow, deserialize_with = "nested")] Box<Self>),
}

/// Takes the value of an array at `index`.
pub(super) fn scalar_at(array: &dyn Array, index: usize) -> Scalar<'_> {
    let Some((array, index)) = resolve(array, index) else { return Scalar::Null };
    match array.data_type() {
        DataType::Union(_, _) => {
            let union = array.as_union();
            let id = union.type_id(index);
            Scalar::Union(id, Box::new(scalar_at(union.child(id), union.value_offset(index))))
        }
        DataType::Date64 if array.is_valid(index) => {
            Scalar::Int(array.as_primitive::<Date64Type>().value(index))
        }
        _ => of(cell_at(array, index)),
    }
}

fn of(cell: Cell<'_>) -> Scalar<'_> {
    match cell {
        Cell::Null => Scalar::Null,
        Cell::Bool(value) => Scalar::Bool(value),
        Cell::Int(value) => Scalar::Int(value),
        Cell::UInt(value) => Scalar::UInt(value),
        Cell::Float32(value) => Scalar::Float(value.into()),
        Cell::Float(value) => Scalar::Float(value),
        Cell::Decimal(value) => Scalar::Decimal(value.to_string()),
        Cell::Text(value) => Scalar::Text(value.into()),
        Cell::Bytes(value) => Scalar::Bytes(value.into()),
        Cell::Date(days) => Scalar::Int(days.into()),
        Cell::Time { ticks, .. } | Cell::Timestamp { ticks, .. } | Cell::Duration { ticks, .. } => {
            Scalar::Int(ticks)
        }
        Cell::Interval { months, days, nanoseconds } => {
            Scalar::List(vec![Scalar::Int(months.into()), Scalar::Int(days.into()), Scalar::Int(nanoseconds)])
        }
        Cell::List(list) => {
            let (values, range) = list.parts();
            Scalar::List(range.map(|at| scalar_at(values, at)).collect())
        }
        Cell::Map(map) => {
            let ((keys, range), (values, _)) = (map.keys().parts(), map.values().parts());
            let pair = |at| Scalar::List(vec![scalar_at(keys, at), scalar_at(values, at)]);
            Scalar::List(range.map(pair).collect())
        }
        Cell::Struct(fields) => {
            let (array, index) = fields.parts();
            Scalar::List(array.columns().iter().map(|column| scalar_at(column, index)).collect())
        }
    }
}

impl Scalar<'_> {
    /// Writes the value as JSON that reads back exactly where the type is known.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::UInt(value) => (*value).into(),
            Self::Float(value) if value.is_finite() => (*value).into(),
            // "NaN", "inf" and "-inf".
            Self::Float(value) => value.to_string().into(),
            Self::Decimal(value) => value.as_str().into(),
            Self::Text(value) => (&**value).into(),
            Self::Bytes(value) => STANDARD.encode(value).into(),
            Self::List(values) => values.iter().map(Self::to_json).collect(),
            Self::Union(id, value) => Value::Array(vec![(*id).into(), value.to_json()]),
        }
    }

    pub(super) fn feed(&self, hasher: &mut ContentHasher) {
        match self {
            Self::Null => hasher.null(),
            Self::Bool(value) => hasher.bool(*value),
            Self::Int(value) => hasher.int(*value),
            Self::UInt(value) => hasher.uint(*value),
            Self::Float(value) => hasher.float(*value),
            Self::Decimal(value) => hasher.text(value),
            Self::Text(value) => hasher.text(value),
            Self::Bytes(value) => hasher.bytes(value),
            Self::List(values) => {
                hasher.list(values.len());
                values.iter().for_each(|value| value.feed(hasher));
            }
            Self::Union(id, value) => {
                hasher.list(2);
                hasher.int((*id).into());
                value.feed(hasher);
            }
        }
    }
}

impl PartialEq for Scalar<'_> {
    /// Every value equals itself: one that is not a number is like any other such.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::UInt(a), Self::UInt(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Self::Decimal(a), Self::Decimal(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Union(a, x), Self::Union(b, y)) => a == b && x == y,
            _ => false,
        }
    }
}
