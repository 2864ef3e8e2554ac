//! Lists and maps as a column: each by its JSON, in one type that holds all of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use nvisy_core::primitive::row::{column_from_json, json_at, unify};
use nvisy_core::{Error, ErrorKind};
use serde_json::Value as Json;

use super::shown;
use super::value::{Val, Value};

/// How many nulls a column may have for keys that its maps do not have: those of 8,192 maps of
/// one key each, 512 different ones together.
const MOST_GAPS: usize = 1 << 22;

/// Returns the column, if its maps have enough keys in common.
pub(super) fn column(values: &[Value]) -> Option<ArrayRef> {
    let keys = |value: &Value| if let Value::Map(entries) = value { entries.len() } else { 0 };
    let most = MOST_GAPS + values.iter().map(keys).sum::<usize>();
    let mut data_type = DataType::Null;
    for value in values {
        data_type = unify(data_type, shape(value));
        // So that it is known early of maps that have nothing in common.
        if matches!(&data_type, DataType::Struct(fields) if fields.len() * values.len() > most) {
            return None;
        }
    }
    let json: Vec<Json> = values.iter().map(Value::to_json).collect();
    let mut left = MOST_GAPS;
    json.iter().try_for_each(|value| gaps(value, &data_type, &mut left))?;
    column_from_json(&data_type, &json).ok()
}

/// Returns the values as the texts of their JSON.
pub(super) fn texts(values: &[Value]) -> ArrayRef {
    let text = |value: &Value| (!matches!(value, Value::Null)).then(|| value.to_json().to_string());
    Arc::new(values.iter().map(text).collect::<StringArray>())
}

/// Says of a value that it makes no column with the others.
pub(super) fn sparse(text: &str) -> Error {
    let message = format!(
        "expression `{}`: gives maps of too many different keys for one column: give lists of keys and values",
        shown(text)
    );
    Error::new(ErrorKind::Validation, message)
}

/// Returns the values that are the same in another type, and nulls for the others.
pub(super) fn fitting(values: &ArrayRef, data_type: &DataType) -> ArrayRef {
    let mut json: Vec<Json> = (0..values.len()).map(|index| json_at(values, index)).collect();
    json.iter_mut().for_each(|value| drop_nulls(value, data_type));
    let mut left = MOST_GAPS;
    let few = json.iter().try_for_each(|value| gaps(value, data_type, &mut left)).is_some();
    // A cast knows what JSON does not tell, such as a length of time.
    if few
        && let Ok(fits) = cast(values, data_type)
        && (0..).zip(&json).all(|(index, value)| same(value, &json_at(&fits, index)))
    {
        return fits;
    }
    read_as(json, data_type)
}

/// Reads values into a type: those that it does not hold as nulls.
pub(super) fn column_as(values: &[Value], data_type: &DataType) -> ArrayRef {
    read_as(values.iter().map(Value::to_json).collect(), data_type)
}

fn read_as(mut json: Vec<Json>, data_type: &DataType) -> ArrayRef {
    let mut left = MOST_GAPS;
    for value in &mut json {
        drop_nulls(value, data_type);
        let alone = column_from_json(data_type, std::slice::from_ref(value));
        let fits = alone.is_ok_and(|alone| same(value, &json_at(&alone, 0)));
        if !fits || gaps(value, data_type, &mut left).is_none() {
            *value = Json::Null;
        }
    }
    column_from_json(data_type, &json).unwrap_or_else(|_| new_null_array(data_type, json.len()))
}

/// The type that a value alone is read into.
pub(super) fn shape(value: &Value) -> DataType {
    match value {
        Value::Null => DataType::Null,
        Value::Bool(_) => DataType::Boolean,
        Value::Int(_) => DataType::Int64,
        Value::UInt(_) => DataType::UInt64,
        Value::Double(_) => DataType::Float64,
        Value::Text(_) | Value::Bytes(_) | Value::Timestamp(_) | Value::Duration(_) => DataType::Utf8,
        Value::List(values) => {
            DataType::new_list(values.iter().map(shape).reduce(unify).unwrap_or(DataType::Null), true)
        }
        Value::Map(entries) => {
            let entries = entries.iter().map(|(key, value)| (key.to_key(), shape(value)));
            let fields: BTreeMap<String, DataType> = entries.collect();
            DataType::Struct(fields.into_iter().map(|(name, of)| Field::new(name, of, true)).collect())
        }
    }
}

/// Takes off how many nulls stand for keys that the maps of a value do not have; none if that is
/// too many.
fn gaps(value: &Json, data_type: &DataType, left: &mut usize) -> Option<()> {
    match (value, data_type) {
        (Json::Array(items), DataType::List(item) | DataType::LargeList(item)) => {
            items.iter().try_for_each(|value| gaps(value, item.data_type(), left))
        }
        (Json::Object(values), DataType::Struct(fields)) => {
            fields.iter().try_for_each(|field| match values.get(field.name()) {
                Some(value) => gaps(value, field.data_type(), left),
                None => gap(field.data_type(), left),
            })
        }
        (Json::Null, DataType::Struct(_)) => gap(data_type, left),
        _ => Some(()),
    }
}

fn gap(data_type: &DataType, left: &mut usize) -> Option<()> {
    if let DataType::Struct(fields) = data_type {
        return fields.iter().try_for_each(|field| gap(field.data_type(), left));
    }
    *left = left.checked_sub(1)?;
    Some(())
}

/// Takes away the nulls of keys that a struct does not have: other values of a batch had them.
fn drop_nulls(value: &mut Json, data_type: &DataType) {
    match (value, data_type) {
        (Json::Array(items), DataType::List(item) | DataType::LargeList(item)) => {
            items.iter_mut().for_each(|value| drop_nulls(value, item.data_type()));
        }
        (Json::Object(values), DataType::Struct(fields)) => values.retain(|key, value| {
            let field = fields.find(key);
            field.iter().for_each(|(_, field)| drop_nulls(value, field.data_type()));
            field.is_some() || !value.is_null()
        }),
        _ => {}
    }
}

/// Whether what was read of a value says the same: a key that is not there is null, and what is
/// read as a text is its JSON.
fn same(value: &Json, read: &Json) -> bool {
    match (value, read) {
        (Json::Number(_), Json::Number(_)) => {
            Val::of_json(value).equals(&Val::of_json(read), &mut u64::MAX.clone())
        }
        (Json::Array(values), Json::Array(read)) => {
            values.len() == read.len() && values.iter().zip(read).all(|(value, read)| same(value, read))
        }
        (Json::Object(values), Json::Object(read)) => {
            values.keys().all(|key| read.contains_key(key))
                && read.iter().all(|(key, read)| same(values.get(key).unwrap_or(&Json::Null), read))
        }
        (Json::Null | Json::String(_), _) => value == read,
        (_, Json::String(read)) => {
            let text = value.to_string();
            *read == text
        }
        _ => value == read,
    }
}
