//! What makes items alike, as 128 bits.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use nvisy_core::prelude::*;
use nvisy_core::{Error, ErrorKind};
use sha2::{Digest, Sha256};

use crate::expression::{Expression, Value};

/// The keys of a batch; those of items that failed mean nothing.
pub(super) struct Keys {
    pub(super) keys: Vec<u128>,
    pub(super) failed: Vec<(u32, Error)>,
}

/// Returns the key of each item: of its content, or of what an expression gives.
pub(super) fn of(batch: &Batch, key: Option<&Expression>) -> Keys {
    let Some(key) = key else {
        let keys = (0..batch.len()).map(|index| cut(batch.payload(index).content_hash().as_bytes()));
        return Keys { keys: keys.collect(), failed: Vec::new() };
    };
    of_column(batch, key).unwrap_or_else(|| each(batch, key))
}

/// Evaluates the expression item by item.
fn each(batch: &Batch, key: &Expression) -> Keys {
    let mut failed = Vec::new();
    let keys = key.evaluate_batch(batch).into_iter().zip(0..).map(|(value, index)| {
        let error = match value {
            Ok(Value::Null) => is_null(key),
            Ok(value) => {
                let mut hasher = Sha256::new();
                feed(&value, &mut hasher);
                return cut(&hasher.finalize());
            }
            Err(error) => error,
        };
        failed.push((index, error.at_item(batch.id(index as usize))));
        0
    });
    Keys { keys: keys.collect(), failed }
}

/// Hashes a column as it is, where the expression names one of a type that is often a key.
fn of_column(batch: &Batch, key: &Expression) -> Option<Keys> {
    let [reference] = key.references() else { return None };
    let name = reference.column()?;
    if key.text().trim() != format!("row.{name}") {
        return None;
    }
    let column = batch.as_rows()?.column_by_name(name)?;
    let keys = hashes(column)?;
    let failed = column.nulls().into_iter().flat_map(|nulls| {
        let null = (0..nulls.len()).filter(|index| nulls.is_null(*index));
        null.map(|index| (index as u32, is_null(key).at_item(batch.id(index))))
    });
    Some(Keys { keys, failed: failed.collect() })
}

fn hashes(column: &ArrayRef) -> Option<Vec<u128>> {
    macro_rules! numbers {
        ($($data:pat => $of:ty),*; $($other:pat => $hashes:expr),*) => {
            match column.data_type() {
                $($data => column.as_primitive::<$of>().values().iter().map(|value| int(i128::from(*value))).collect(),)*
                $($other => $hashes,)*
                _ => return None,
            }
        };
    }
    let len = column.len();
    let mut room = Vec::new();
    Some(numbers! {
        DataType::Int8 => Int8Type, DataType::Int16 => Int16Type,
        DataType::Int32 => Int32Type, DataType::Int64 => Int64Type,
        DataType::UInt8 => UInt8Type, DataType::UInt16 => UInt16Type,
        DataType::UInt32 => UInt32Type, DataType::UInt64 => UInt64Type;
        DataType::Float64 => column.as_primitive::<Float64Type>().values().iter().map(|value| double(*value)).collect(),
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            (0..len).map(|at| tagged(4, texts.value(at).as_bytes(), &mut room)).collect()
        },
        DataType::LargeUtf8 => {
            let texts = column.as_string::<i64>();
            (0..len).map(|at| tagged(4, texts.value(at).as_bytes(), &mut room)).collect()
        },
        DataType::Utf8View => {
            let texts = column.as_string_view();
            (0..len).map(|at| tagged(4, texts.value(at).as_bytes(), &mut room)).collect()
        }
    })
}

fn int(value: i128) -> u128 {
    let mut bytes = [0; 25];
    bytes[0] = 2;
    bytes[1..9].copy_from_slice(&16_u64.to_be_bytes());
    bytes[9..].copy_from_slice(&value.to_be_bytes());
    cut(&Sha256::digest(bytes))
}

fn double(value: f64) -> u128 {
    match whole(value) {
        Some(value) => int(value),
        None => tagged(3, &value.to_bits().to_be_bytes(), &mut Vec::new()),
    }
}

/// Returns the number if it is an integer: it is one with integers that are alike.
fn whole(value: f64) -> Option<i128> {
    (value.fract() == 0.0 && value.abs() < 1e20).then_some(value as i128)
}

/// Hashes what [`feed`] feeds.
fn tagged(tag: u8, bytes: &[u8], room: &mut Vec<u8>) -> u128 {
    room.clear();
    room.push(tag);
    room.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    room.extend_from_slice(bytes);
    cut(&Sha256::digest(&*room))
}

fn is_null(key: &Expression) -> Error {
    let message = format!("the key `{key}` is null: say what is alike then, as in `has(row.x) ? row.x : id`");
    Error::new(ErrorKind::Validation, message)
}

/// The first half of a hash.
fn cut(hash: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash).for_each(|(byte, hash)| *byte = *hash);
    u128::from_be_bytes(bytes)
}

/// Feeds a value so that equal values feed alike: numbers by value.
fn feed(value: &Value, hasher: &mut Sha256) {
    let mut tagged = |tag: u8, bytes: &[u8]| {
        hasher.update([tag]);
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    match value {
        Value::Null => tagged(0, &[]),
        Value::Bool(value) => tagged(1, &[u8::from(*value)]),
        Value::Int(value) => tagged(2, &i128::from(*value).to_be_bytes()),
        Value::UInt(value) => tagged(2, &i128::from(*value).to_be_bytes()),
        Value::Double(value) => match whole(*value) {
            Some(value) => tagged(2, &value.to_be_bytes()),
            None => tagged(3, &value.to_bits().to_be_bytes()),
        },
        Value::Text(value) => tagged(4, value.as_bytes()),
        Value::Bytes(value) => tagged(5, value),
        Value::Timestamp(value) => {
            tagged(
                6,
                &(i128::from(value.timestamp()) * 1_000_000_000 + i128::from(value.timestamp_subsec_nanos()))
                    .to_be_bytes(),
            );
        }
        Value::Duration(value) => {
            tagged(
                7,
                &(i128::from(value.num_seconds()) * 1_000_000_000 + i128::from(value.subsec_nanos()))
                    .to_be_bytes(),
            );
        }
        Value::List(values) => {
            tagged(8, &(values.len() as u64).to_be_bytes());
            values.iter().for_each(|value| feed(value, hasher));
        }
        Value::Map(entries) => {
            tagged(9, &(entries.len() as u64).to_be_bytes());
            // The order of keys means nothing.
            let mut hashes: Vec<_> = entries
                .iter()
                .map(|(key, value)| {
                    let mut hasher = Sha256::new();
                    feed(key, &mut hasher);
                    feed(value, &mut hasher);
                    hasher.finalize()
                })
                .collect();
            hashes.sort_unstable();
            hashes.iter().for_each(|hash| hasher.update(hash));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Float64Array, Int8Array, Int64Array, LargeStringArray, RecordBatch, StringArray,
        StringViewArray, UInt64Array,
    };
    use nvisy_core::primitive::raw::Raw;

    use super::*;

    #[test]
    fn columns_hash_like_the_values_in_them() {
        let texts = || [Some("a"), None, Some(""), Some("a much longer text than the others are"), Some("1")];
        let columns: [(&str, ArrayRef); 8] = [
            ("small", Arc::new(Int8Array::from(vec![Some(-1), None, Some(0), Some(127), Some(-128)]))),
            (
                "int",
                Arc::new(Int64Array::from(vec![Some(-1), None, Some(0), Some(i64::MAX), Some(i64::MIN)])),
            ),
            ("uint", Arc::new(UInt64Array::from(vec![Some(1), None, Some(0), Some(u64::MAX), Some(7)]))),
            (
                "double",
                Arc::new(Float64Array::from(vec![Some(-0.0), None, Some(1.5), Some(f64::NAN), Some(1e30)])),
            ),
            ("text", Arc::new(StringArray::from_iter(texts()))),
            ("large", Arc::new(LargeStringArray::from_iter(texts()))),
            ("view", Arc::new(StringViewArray::from_iter(texts()))),
            ("truth", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true), None]))),
        ];
        let rows = RecordBatch::try_from_iter(columns.clone()).unwrap();
        let items = (0..5_u64).map(|n| Item::detached(&n.to_string(), Raw::Json(n.into())).into_primitive());
        let batch = Batch::from_primitives(items.collect()).with_rows(rows).unwrap();
        for (name, _) in columns {
            let key = Expression::compile(&format!(" row.{name} ")).unwrap();
            let slow = each(&batch, &key);
            let quick = of_column(&batch, &key);
            assert_eq!(quick.is_none(), name == "truth", "{name}");
            let quick = quick.unwrap_or_else(|| of(&batch, Some(&key)));
            let errors = |keys: &Keys| {
                keys.failed.iter().map(|(index, error)| (*index, error.to_string())).collect::<Vec<_>>()
            };
            assert_eq!(errors(&quick), errors(&slow), "{name}");
            for index in [0, 2, 3, 4].into_iter().filter(|index| !(name == "truth" && *index == 4)) {
                assert_eq!(quick.keys[index], slow.keys[index], "{name} {index}");
            }
        }
        let computed = Expression::compile("row.int + 1").unwrap();
        assert!(of_column(&batch, &computed).is_none(), "it is no column");
    }
}
