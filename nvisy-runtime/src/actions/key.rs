//! Keys: values as bytes that sort as the values do, and are equal where they are.

use std::ops::Range;

use arrow::array::{Array, AsArray, BinaryArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use chrono::{DateTime, TimeDelta};
use nvisy_core::{Batch, Error, Result};

use crate::expression::{EvaluatedColumn, Expression, Type, Value};

/// How one value of a key is ordered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Direction {
    pub(super) descending: bool,
    pub(super) nulls_first: bool,
}

/// A key an item, one behind the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn get(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.bytes[start..self.ends[index] as usize]
    }

    pub(super) fn push(&mut self, key: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(key);
        self.end()
    }

    /// Ends a key, whose bytes are there.
    fn end(&mut self) -> Result<()> {
        let end = u32::try_from(self.bytes.len());
        self.ends.push(end.map_err(|_| Error::internal("the keys of a part take more than 4 GiB"))?);
        Ok(())
    }

    /// Adds the key that some values of an item make, behind what it begins with.
    pub(super) fn push_values(
        &mut self,
        beginning: &[u8],
        values: &[Values],
        index: usize,
        direction: Direction,
    ) -> Result<()> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(beginning);
        let mut values = values.iter();
        let made = values.try_for_each(|values| values.encode(index, direction, &mut self.bytes));
        if made.is_err() {
            self.bytes.truncate(start);
        }
        made.and_then(|()| self.end())
    }

    /// Adds the keys that some values make of items side by side.
    pub(super) fn push_range(
        &mut self,
        values: &[Values],
        mut items: Range<usize>,
        direction: Direction,
    ) -> Result<()> {
        match values {
            [Values::Ints(of)] if of.null_count() == 0 && !direction.descending => {
                of.values()[items].iter().try_for_each(|value| {
                    int(*value, &mut self.bytes);
                    self.end()
                })
            }
            _ => items.try_for_each(|index| self.push_values(&[], values, index, direction)),
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    pub(super) fn append(&mut self, other: &Self) -> Result<()> {
        (0..other.len()).try_for_each(|index| self.push(other.get(index)))
    }

    /// Returns the keys of `len` items that have none to tell them apart.
    pub(super) fn none(len: usize) -> Self {
        Self { bytes: Vec::new(), ends: vec![0; len] }
    }

    pub(super) fn select(&self, indices: &[u32]) -> Result<Self> {
        let mut keys = Self::default();
        indices.iter().try_for_each(|index| keys.push(self.get(*index as usize)))?;
        Ok(keys)
    }

    pub(super) fn slice(&self, offset: usize, len: usize) -> Result<Self> {
        let mut keys = Self::default();
        (offset..offset + len).try_for_each(|index| keys.push(self.get(index)))?;
        Ok(keys)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + 4 * self.ends.len()
    }

    /// Returns the keys as a column.
    pub(super) fn to_array(&self) -> Result<BinaryArray> {
        let long = |_| Error::internal("the keys of a batch take more than 2 GiB");
        let ends = self.ends.iter().map(|end| i32::try_from(*end).map_err(long));
        let offsets: Vec<i32> = std::iter::once(Ok(0)).chain(ends).collect::<Result<_>>()?;
        Ok(BinaryArray::new(OffsetBuffer::new(offsets.into()), self.bytes.clone().into(), None))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.bytes());
        bytes.extend((self.ends.len() as u32).to_le_bytes());
        bytes.extend((self.bytes.len() as u32).to_le_bytes());
        if !self.bytes.is_empty() {
            bytes.extend(self.ends.iter().flat_map(|end| end.to_le_bytes()));
            bytes.extend(&self.bytes);
        }
        bytes
    }

    /// Reads keys, and returns what is behind them.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let number = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
        let (len, bytes) = bytes.split_first_chunk()?;
        let (size, bytes) = bytes.split_first_chunk()?;
        let (len, size) = (number(len) as usize, number(size) as usize);
        if size == 0 {
            return Some((Self::none(len), bytes));
        }
        let (ends, bytes) = bytes.split_at_checked(len.checked_mul(4)?)?;
        let ends: Vec<u32> = ends.as_chunks().0.iter().map(number).collect();
        let (keys, bytes) = bytes.split_at_checked(size)?;
        let whole = ends.is_sorted() && ends.last().copied() == Some(size as u32);
        whole.then(|| (Self { bytes: keys.to_vec(), ends }, bytes))
    }
}

/// The values of an expression on a batch, as they are where they are a plain column.
pub(super) enum Values {
    Ints(arrow::array::Int64Array),
    UInts(arrow::array::UInt64Array),
    Doubles(arrow::array::Float64Array),
    Texts(arrow::array::StringArray),
    /// The same for every item.
    One(Value),
    Each(Vec<Result<Value>>),
}

impl Values {
    pub(super) fn of(expression: &Expression, batch: &Batch) -> Self {
        if expression.references().is_empty()
            && !batch.is_empty()
            && let Ok(value) = expression.evaluate(&batch.primitive(0))
        {
            return Self::One(value);
        }
        Self::plain(expression, batch).unwrap_or_else(|| Self::Each(expression.evaluate_batch(batch)))
    }

    /// The values as a column, where they are one without faults.
    fn plain(expression: &Expression, batch: &Batch) -> Option<Self> {
        let rows = batch.as_rows()?;
        let column = match expression.references() {
            [reference] if reference.path == expression.text().trim() => {
                rows.column_by_name(reference.column()?)?.clone()
            }
            _ if expression.is_columnar() => {
                let EvaluatedColumn { values, faults } = expression.evaluate_column(batch);
                faults.is_empty().then_some(values)?
            }
            _ => return None,
        };
        Some(match column.data_type() {
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                Self::Ints(cast(&column, &DataType::Int64).ok()?.as_primitive::<Int64Type>().clone())
            }
            DataType::UInt64 => Self::UInts(column.as_primitive::<UInt64Type>().clone()),
            DataType::Float64 => Self::Doubles(column.as_primitive::<Float64Type>().clone()),
            DataType::Utf8 => Self::Texts(column.as_string::<i32>().clone()),
            _ => return None,
        })
    }

    pub(super) fn get(&self, index: usize) -> Result<Value> {
        Ok(match self {
            Self::Ints(of) if of.is_valid(index) => Value::Int(of.value(index)),
            Self::UInts(of) if of.is_valid(index) => Value::UInt(of.value(index)),
            Self::Doubles(of) if of.is_valid(index) => Value::Double(of.value(index)),
            Self::Texts(of) if of.is_valid(index) => Value::Text(of.value(index).to_owned()),
            Self::One(value) => value.clone(),
            Self::Each(each) => return each[index].clone(),
            _ => Value::Null,
        })
    }

    /// Returns whether an item may have no value or a null.
    pub(super) fn has_nulls(&self) -> bool {
        match self {
            Self::Ints(of) => of.null_count() > 0,
            Self::UInts(of) => of.null_count() > 0,
            Self::Doubles(of) => of.null_count() > 0,
            Self::Texts(of) => of.null_count() > 0,
            Self::One(value) => matches!(value, Value::Null),
            Self::Each(_) => true,
        }
    }

    pub(super) fn is_null(&self, index: usize) -> bool {
        self.type_at(index) == Type::Null
    }

    /// Returns the type of all values but the nulls, if none of them has a fault.
    pub(super) fn type_of_all(&self) -> Option<Type> {
        let of = |array: &dyn Array, of: Type| if array.null_count() < array.len() { of } else { Type::Null };
        Some(match self {
            Self::Ints(array) => of(array, Type::Int),
            Self::UInts(array) => of(array, Type::UInt),
            Self::Doubles(array) => of(array, Type::Double),
            Self::Texts(array) => of(array, Type::Text),
            Self::One(value) => Type::of(value),
            Self::Each(_) => return None,
        })
    }

    /// Returns the fault of an item, if it has one instead of a value.
    pub(super) fn fault(&self, index: usize) -> Result<()> {
        match self {
            Self::Each(each) => each[index].as_ref().map(drop).map_err(Error::clone),
            _ => Ok(()),
        }
    }

    /// Returns the type of the value of an item; of one that has a fault null.
    pub(super) fn type_at(&self, index: usize) -> Type {
        match self {
            Self::Ints(of) if of.is_valid(index) => Type::Int,
            Self::UInts(of) if of.is_valid(index) => Type::UInt,
            Self::Doubles(of) if of.is_valid(index) => Type::Double,
            Self::Texts(of) if of.is_valid(index) => Type::Text,
            Self::One(value) => Type::of(value),
            Self::Each(each) => each[index].as_ref().map_or(Type::Null, Type::of),
            _ => Type::Null,
        }
    }

    /// Writes the value of an item behind a key; what has a fault has none.
    pub(super) fn encode(&self, index: usize, direction: Direction, key: &mut Vec<u8>) -> Result<()> {
        let start = key.len();
        match self {
            Self::Ints(of) if of.is_valid(index) => int(of.value(index), key),
            Self::UInts(of) if of.is_valid(index) => integer(of.value(index).into(), key),
            Self::Doubles(of) if of.is_valid(index) => double(of.value(index), key),
            Self::Texts(of) if of.is_valid(index) => {
                key.push(TEXT);
                octets(of.value(index).as_bytes(), key);
            }
            Self::One(Value::Null) => return null(direction, key),
            Self::One(value) => encode(value, key),
            Self::Each(each) => match &each[index] {
                Ok(Value::Null) => return null(direction, key),
                Ok(value) => encode(value, key),
                Err(error) => return Err(error.clone()),
            },
            _ => return null(direction, key),
        }
        if direction.descending {
            key[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
        Ok(())
    }
}

/// Reads a value that was [encoded](Values::encode) as it is first in a key, whose values are of a
/// type, and takes it off: numbers as that type has them. Lists and maps are read as what numbers
/// are whose types are not known: only how long they are is certain.
pub(super) fn decode(key: &mut &[u8], known: Type) -> Option<Value> {
    let (tag, rest) = key.split_first()?;
    *key = rest;
    Some(match *tag {
        0 | NULL | 0xff => Value::Null,
        BOOL => Value::Bool(take::<1>(key)? == [1]),
        NUMBER => {
            let (nearest, rest) = decode_number(key)?;
            match known {
                Type::Int => Value::Int((nearest as i128 + i128::from(rest)) as i64),
                Type::UInt => Value::UInt((nearest as i128 + i128::from(rest)) as u64),
                _ => Value::Double(nearest),
            }
        }
        TEXT => Value::Text(String::from_utf8(decode_octets(key)?).ok()?),
        BYTES => Value::Bytes(decode_octets(key)?),
        TIMESTAMP => {
            let (seconds, nanos) = decode_time(key)?;
            Value::Timestamp(DateTime::from_timestamp(seconds, nanos)?)
        }
        DURATION => {
            let (seconds, nanos) = decode_time(key)?;
            Value::Duration(TimeDelta::new(seconds, nanos)?)
        }
        tag @ (LIST | MAP) => {
            let mut values = Vec::new();
            while *key.first()? != 0 {
                values.push(decode(key, Type::Any)?);
            }
            *key = &key[1..];
            match tag {
                LIST => Value::List(values),
                _ => Value::Map(
                    values.as_chunks().0.iter().map(|[name, value]| (name.clone(), value.clone())).collect(),
                ),
            }
        }
        _ => return None,
    })
}

fn take<const N: usize>(key: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, rest) = key.split_first_chunk()?;
    *key = rest;
    Some(*bytes)
}

/// Reads what [`number`] has written behind the tag.
fn decode_number(key: &mut &[u8]) -> Option<(f64, i16)> {
    let ordered = u64::from_be_bytes(take(key)?);
    let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
    let rest = (u16::from_be_bytes(take(key)?) ^ 0x8000) as i16;
    Some((f64::from_bits(bits), rest))
}

fn decode_time(key: &mut &[u8]) -> Option<(i64, u32)> {
    let seconds = (u64::from_be_bytes(take(key)?) ^ 1 << 63) as i64;
    Some((seconds, u32::from_be_bytes(take(key)?)))
}

fn decode_octets(key: &mut &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    loop {
        match key {
            [0, 0xff, rest @ ..] => {
                octets.push(0);
                *key = rest;
            }
            [0, 0, rest @ ..] => {
                *key = rest;
                return Some(octets);
            }
            [byte, rest @ ..] => {
                octets.push(*byte);
                *key = rest;
            }
            [] => return None,
        }
    }
}

fn null(direction: Direction, key: &mut Vec<u8>) -> Result<()> {
    key.push(if direction.nulls_first { 0 } else { 0xff });
    Ok(())
}

const NULL: u8 = 0x08;
const BOOL: u8 = 0x10;
const NUMBER: u8 = 0x20;
const TEXT: u8 = 0x30;
const BYTES: u8 = 0x40;
const TIMESTAMP: u8 = 0x50;
const DURATION: u8 = 0x60;
const LIST: u8 = 0x70;
const MAP: u8 = 0x78;

/// Writes a value so that the bytes of two values compare as the values do: numbers by what they
/// stand for, whatever their types; values of different types by type. Nothing that is written is
/// the beginning of something else. Part of ids: it never changes.
pub(super) fn encode(value: &Value, key: &mut Vec<u8>) {
    match value {
        Value::Null => key.push(NULL),
        Value::Bool(value) => key.extend([BOOL, u8::from(*value)]),
        Value::Int(value) => int(*value, key),
        Value::UInt(value) => integer((*value).into(), key),
        Value::Double(value) => double(*value, key),
        Value::Text(value) => {
            key.push(TEXT);
            octets(value.as_bytes(), key);
        }
        Value::Bytes(value) => {
            key.push(BYTES);
            octets(value, key);
        }
        Value::Timestamp(value) => {
            key.push(TIMESTAMP);
            time(value.timestamp(), value.timestamp_subsec_nanos(), key);
        }
        Value::Duration(value) => {
            // What is left of a second has the sign of the whole: the floor of it has not.
            let nanos = i128::from(value.num_seconds()) * 1_000_000_000 + i128::from(value.subsec_nanos());
            key.push(DURATION);
            let (seconds, rest) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
            time(seconds as i64, rest as u32, key);
        }
        Value::List(values) => {
            key.push(LIST);
            values.iter().for_each(|value| encode(value, key));
            key.push(0);
        }
        Value::Map(entries) => {
            // The order of keys means nothing.
            let mut parts: Vec<Vec<u8>> = entries
                .iter()
                .map(|(name, value)| {
                    let mut part = Vec::new();
                    encode(name, &mut part);
                    encode(value, &mut part);
                    part
                })
                .collect();
            parts.sort_unstable();
            key.push(MAP);
            parts.iter().for_each(|part| key.extend(part));
            key.push(0);
        }
    }
}

/// Integers that are doubles, too, need no wide arithmetic.
fn int(value: i64, key: &mut Vec<u8>) {
    if value.unsigned_abs() <= 1 << 53 { number(value as f64, 0, key) } else { integer(value.into(), key) }
}

/// The nearest double, and how far it is from there: so integers and doubles compare exactly.
fn integer(value: i128, key: &mut Vec<u8>) {
    let nearest = value as f64;
    number(nearest, (value - nearest as i128) as i16, key);
}

fn double(value: f64, key: &mut Vec<u8>) {
    // Adding zero turns -0.0 into 0.0; there is one number that is none, behind all others.
    number(if value.is_nan() { f64::NAN } else { value + 0.0 }, 0, key);
}

fn number(value: f64, rest: i16, key: &mut Vec<u8>) {
    let bits = value.to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    let mut bytes = [NUMBER; 11];
    bytes[1..9].copy_from_slice(&ordered.to_be_bytes());
    bytes[9..].copy_from_slice(&(rest as u16 ^ 0x8000).to_be_bytes());
    key.extend_from_slice(&bytes);
}

fn time(seconds: i64, nanos: u32, key: &mut Vec<u8>) {
    key.extend((seconds as u64 ^ 1 << 63).to_be_bytes());
    key.extend(nanos.to_be_bytes());
}

fn octets(octets: &[u8], key: &mut Vec<u8>) {
    for byte in octets {
        key.push(*byte);
        if *byte == 0 {
            key.push(0xff);
        }
    }
    key.extend([0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_what_it_was_made_of() {
        let moment = |seconds, nanos| Value::Timestamp(DateTime::from_timestamp(seconds, nanos).unwrap());
        let pairs = [
            (Type::Bool, vec![Value::Bool(false), Value::Bool(true)]),
            (Type::Int, [i64::MIN, -1, 0, 1 << 53, (1 << 53) + 1, i64::MAX].map(Value::Int).to_vec()),
            (Type::UInt, [0, (1 << 53) + 1, u64::MAX - 1, u64::MAX].map(Value::UInt).to_vec()),
            (Type::Double, [f64::NEG_INFINITY, -1.5, 0.0, 1e300, f64::INFINITY].map(Value::Double).to_vec()),
            (Type::Text, ["", "\0", "a\0b\u{ff}", "z"].map(|text| Value::Text(text.to_owned())).to_vec()),
            (Type::Bytes, vec![Value::Bytes(vec![0, 0xff, 0, 0]), Value::Bytes(vec![1])]),
            (Type::Timestamp, vec![moment(-1, 999_999_999), moment(0, 0), moment(1 << 33, 1)]),
            (Type::Duration, [-1_500, -1, 0, 7_000_000_001].map(|n| Value::Duration(TimeDelta::nanoseconds(n))).to_vec()),
        ];
        let mut all: Vec<(Type, Value)> = vec![(Type::Null, Value::Null)];
        all.extend(pairs.into_iter().flat_map(|(known, values)| values.into_iter().map(move |value| (known, value))));
        for (known, value) in &all {
            let nested = Value::Map(vec![(Value::Text("\0".to_owned()), Value::List(vec![value.clone(), Value::Null]))]);
            let mut key = Vec::new();
            let nulls_first = Direction { descending: false, nulls_first: true };
            for value in [value, &nested, value] {
                Values::One(value.clone()).encode(0, nulls_first, &mut key).unwrap();
            }
            let key = &mut &*key;
            assert_eq!(decode(key, *known).unwrap(), *value);
            assert!(matches!(decode(key, Type::Map), Some(Value::Map(_))));
            assert_eq!(decode(key, *known).unwrap(), *value);
            assert!(key.is_empty() && decode(key, *known).is_none());
        }
    }
}
