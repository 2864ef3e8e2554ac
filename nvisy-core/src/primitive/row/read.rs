//! JSON into values of a known type, and the type that JSON shows.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::scalar::{Scalar, scalar_at};

/// Reads a value of a type from JSON: as a primitive is written, or as people write it (dates
/// and times as ISO 8601, structs and maps as objects).
pub(super) fn read<'a>(data_type: &DataType, value: &'a Value) -> Result<Scalar<'a>, String> {
    use DataType as T;
    let mismatch = || format!("{} is no {data_type}", super::json::kind_of(value));
    if value.is_null() && !matches!(data_type, T::Union(_, _)) {
        return Ok(Scalar::Null);
    }
    let scalar = match data_type {
        T::Boolean => value.as_bool().map(Scalar::Bool),
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => {
            integer(value)
        }
        T::Float16 | T::Float32 | T::Float64 => float(value),
        T::Decimal32(_, _) | T::Decimal64(_, _) | T::Decimal128(_, _) | T::Decimal256(_, _) => match value {
            Value::String(text) => Some(Scalar::Decimal(text.clone())),
            Value::Number(number) => Some(Scalar::Decimal(number.to_string())),
            _ => None,
        },
        T::Utf8 | T::LargeUtf8 | T::Utf8View => Some(match value {
            Value::String(text) => Scalar::Text(text.into()),
            other => Scalar::Text(Cow::Owned(other.to_string())),
        }),
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => value
            .as_str()
            .and_then(|text| STANDARD.decode(text).ok())
            .map(|bytes| Scalar::Bytes(bytes.into())),
        T::Date32 | T::Date64 | T::Time32(_) | T::Time64(_) | T::Timestamp(_, _) | T::Duration(_) => {
            match value {
                Value::String(text) => time(data_type, text),
                other => integer(other),
            }
        }
        T::Interval(_) => {
            value.as_array().and_then(|parts| parts.iter().map(integer).collect()).map(Scalar::List)
        }
        T::List(item)
        | T::LargeList(item)
        | T::ListView(item)
        | T::LargeListView(item)
        | T::FixedSizeList(item, _) => {
            let Value::Array(values) = value else { return Err(mismatch()) };
            Some(Scalar::List(values.iter().map(|v| read(item.data_type(), v)).collect::<Result<_, _>>()?))
        }
        T::Struct(fields) => match value {
            Value::Array(parts) if parts.len() == fields.len() => {
                let parts = fields.iter().zip(parts).map(|(field, part)| read(field.data_type(), part));
                Some(Scalar::List(parts.collect::<Result<_, _>>()?))
            }
            Value::Object(parts) => Some(Scalar::List(read_fields(fields, parts)?)),
            _ => None,
        },
        T::Map(entries, _) => match value {
            Value::Array(pairs) => {
                let pairs = pairs.iter().map(|pair| read(entries.data_type(), pair));
                Some(Scalar::List(pairs.collect::<Result<_, _>>()?))
            }
            Value::Object(parts) => Some(Scalar::List(read_map(entries, parts)?)),
            _ => None,
        },
        T::Union(fields, _) => {
            let Some([id, value]) = value.as_array().map(Vec::as_slice) else { return Err(mismatch()) };
            let id = id.as_i64().and_then(|id| i8::try_from(id).ok()).ok_or_else(mismatch)?;
            let (_, field) = fields.find_by_type_id(id).ok_or_else(mismatch)?;
            Some(Scalar::Union(id, Box::new(read(field.data_type(), value)?)))
        }
        T::Dictionary(_, values) => return read(values, value),
        T::RunEndEncoded(_, values) => return read(values.data_type(), value),
        T::Null => None,
    };
    scalar.ok_or_else(mismatch)
}

/// Reads the fields of an object in the order of a schema. A field that is not there is null;
/// one that the schema does not know is an error.
pub(super) fn read_fields<'a>(
    fields: &Fields,
    object: &'a Map<String, Value>,
) -> Result<Vec<Scalar<'a>>, String> {
    if let Some(name) = object.keys().find(|name| fields.find(name).is_none()) {
        return Err(format!("there is no column `{name}`"));
    }
    let values = fields.iter().map(|field| match object.get(field.name()) {
        Some(value) => {
            read(field.data_type(), value).map_err(|error| format!("column `{}`: {error}", field.name()))
        }
        None => Ok(Scalar::Null),
    });
    values.collect()
}

fn read_map<'a>(entries: &FieldRef, object: &'a Map<String, Value>) -> Result<Vec<Scalar<'a>>, String> {
    let DataType::Struct(pair) = entries.data_type() else { return Err("a map of no pairs".into()) };
    let [key, value] = &**pair else { return Err("a map of no pairs".into()) };
    let pairs = object.iter().map(|(k, v)| {
        let name = match key.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Scalar::Text(k.into()),
            other => owned(read(other, &serde_json::from_str(k).unwrap_or_else(|_| Value::from(&**k)))?),
        };
        Ok(Scalar::List(vec![name, read(value.data_type(), v)?]))
    });
    pairs.collect()
}

/// A key is a number, a date, a text: nothing that holds others.
fn owned(scalar: Scalar<'_>) -> Scalar<'static> {
    match scalar {
        Scalar::Bool(value) => Scalar::Bool(value),
        Scalar::Int(value) => Scalar::Int(value),
        Scalar::UInt(value) => Scalar::UInt(value),
        Scalar::Float(value) => Scalar::Float(value),
        Scalar::Decimal(value) => Scalar::Decimal(value),
        Scalar::Text(value) => Scalar::Text(Cow::Owned(value.into_owned())),
        Scalar::Bytes(value) => Scalar::Bytes(Cow::Owned(value.into_owned())),
        Scalar::Null | Scalar::List(_) | Scalar::Union(_, _) => Scalar::Null,
    }
}

fn integer<'a>(value: &Value) -> Option<Scalar<'a>> {
    value.as_i64().map(Scalar::Int).or_else(|| value.as_u64().map(Scalar::UInt))
}

fn float<'a>(value: &Value) -> Option<Scalar<'a>> {
    match value {
        Value::String(text) => match text.as_str() {
            "NaN" => Some(Scalar::Float(f64::NAN)),
            "inf" => Some(Scalar::Float(f64::INFINITY)),
            "-inf" => Some(Scalar::Float(f64::NEG_INFINITY)),
            _ => None,
        },
        other => other.as_f64().map(Scalar::Float),
    }
}

fn time<'a>(data_type: &DataType, text: &str) -> Option<Scalar<'a>> {
    // A text names its offset or means UTC; the zone is only what the column is shown in.
    let target = match data_type {
        DataType::Timestamp(unit, Some(_)) => DataType::Timestamp(*unit, Some("+00:00".into())),
        other => other.clone(),
    };
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let array: ArrayRef = cast_with_options(&StringArray::from(vec![text]), &target, &options).ok()?;
    match scalar_at(&array, 0) {
        Scalar::Int(ticks) => Some(Scalar::Int(ticks)),
        _ => None,
    }
}

/// Returns the columns that an object shows.
pub(super) fn infer(object: &Map<String, Value>) -> Fields {
    object.iter().map(|(name, value)| Field::new(name, type_of(value), true)).collect()
}

fn type_of(value: &Value) -> DataType {
    match value {
        Value::Null => DataType::Null,
        Value::Bool(_) => DataType::Boolean,
        Value::Number(number) if number.is_i64() => DataType::Int64,
        Value::Number(number) if number.is_u64() => DataType::UInt64,
        Value::Number(_) => DataType::Float64,
        Value::String(_) => DataType::Utf8,
        Value::Array(values) => {
            let item = values.iter().map(type_of).reduce(unify).unwrap_or(DataType::Null);
            DataType::new_list(item, true)
        }
        Value::Object(fields) => DataType::Struct(infer(fields)),
    }
}

/// Returns the type that values of two types are read into, which JSON has shown: nulls are of the
/// other one, integers and other numbers doubles, lists of what their items are, structs have the
/// fields of both. Of any other two it is text: each value then is its JSON.
#[doc(hidden)]
#[must_use]
pub fn unify(a: DataType, b: DataType) -> DataType {
    use DataType as T;
    match (a, b) {
        (a, b) if a == b => a,
        (T::Null, other) | (other, T::Null) => other,
        (T::Int64 | T::UInt64 | T::Float64, T::Int64 | T::UInt64 | T::Float64) => T::Float64,
        (T::List(a), T::List(b)) => T::new_list(unify(a.data_type().clone(), b.data_type().clone()), true),
        (T::Struct(a), T::Struct(b)) => {
            let own = a.iter().map(|field| match b.find(field.name()) {
                Some((_, other)) if other != field => {
                    let both = unify(field.data_type().clone(), other.data_type().clone());
                    Arc::new(Field::new(field.name(), both, true))
                }
                _ => field.clone(),
            });
            let more = b.iter().filter(|field| a.find(field.name()).is_none());
            T::Struct(own.chain(more.cloned()).collect())
        }
        _ => T::Utf8,
    }
}
