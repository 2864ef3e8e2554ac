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
    len: usize,
    /// How long each is, as long as they are of one length.
    width: usize,
    /// Where each ends, if they are not.
    ends: Vec<u32>,
    /// The key that is being made: used again and again.
    made: Vec<u8>,
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns how long each key is, if all are of one length.
    pub(super) fn width(&self) -> Option<usize> {
        self.ends.is_empty().then_some(self.width)
    }

    fn start(&self, index: usize) -> usize {
        match index.checked_sub(1) {
            None => 0,
            Some(_) if self.ends.is_empty() => index * self.width,
            Some(before) => self.ends[before] as usize,
        }
    }

    pub(super) fn get(&self, index: usize) -> &[u8] {
        &self.bytes[self.start(index)..self.start(index + 1)]
    }

    pub(super) fn push(&mut self, key: &[u8]) -> Result<()> {
        if self.len == 0 {
            self.width = key.len();
        } else if self.ends.is_empty() && key.len() != self.width {
            self.ends = (1..=self.len).map(|len| (len * self.width) as u32).collect();
        }
        self.bytes.extend_from_slice(key);
        let end = self.end()?;
        if !self.ends.is_empty() {
            self.ends.push(end);
        }
        self.len += 1;
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
        let mut key = std::mem::take(&mut self.made);
        key.clear();
        key.extend_from_slice(beginning);
        let made = values.iter().try_for_each(|values| values.encode(index, direction, &mut key));
        let pushed = made.and_then(|()| self.push(&key));
        self.made = key;
        pushed
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
                of.values()[items].iter().try_for_each(|value| self.push(&of_int(*value)))
            }
            _ => items.try_for_each(|index| self.push_values(&[], values, index, direction)),
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        (self.len, self.width) = (0, 0);
    }

    /// Returns the keys as a column.
    pub(super) fn to_array(&self) -> Result<BinaryArray> {
        let long = |_| Error::internal("the keys of a batch take more than 2 GiB");
        let offsets = (0..=self.len).map(|index| i32::try_from(self.start(index)).map_err(long));
        let offsets: Vec<i32> = offsets.collect::<Result<_>>()?;
        Ok(BinaryArray::new(OffsetBuffer::new(offsets.into()), self.bytes.clone().into(), None))
    }

    fn end(&self) -> Result<u32> {
        let end = u32::try_from(self.bytes.len());
        end.map_err(|_| Error::internal("the keys of a part take more than 4 GiB"))
    }

    pub(super) fn append(&mut self, other: &Self) -> Result<()> {
        self.extend(other, 0..other.len)
    }

    fn extend(&mut self, other: &Self, part: Range<usize>) -> Result<()> {
        if self.ends.is_empty() && other.ends.is_empty() && (self.len == 0 || self.width == other.width) {
            self.bytes.extend_from_slice(&other.bytes[other.start(part.start)..other.start(part.end)]);
            (self.width, self.len) = (other.width, self.len + part.len());
            return self.end().map(drop);
        }
        part.into_iter().try_for_each(|index| self.push(other.get(index)))
    }

    /// Returns the keys of `len` items that have none to tell them apart.
    pub(super) fn none(len: usize) -> Self {
        Self { len, ..Self::default() }
    }

    pub(super) fn select(&self, indices: &[u32]) -> Result<Self> {
        let mut keys = Self { bytes: Vec::with_capacity(indices.len() * self.width), ..Self::default() };
        indices.iter().try_for_each(|index| keys.push(self.get(*index as usize)))?;
        Ok(keys)
    }

    pub(super) fn slice(&self, offset: usize, len: usize) -> Result<Self> {
        let mut keys = Self::default();
        keys.extend(self, offset..offset + len)?;
        Ok(keys)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.len() + 4 * self.ends.len()
    }

    /// Returns in which bytes the keys differ, if they are of one length.
    pub(super) fn places(&self) -> Option<Vec<usize>> {
        let (width, first) = (self.width()?, self.bytes.get(..self.width)?);
        let mut differ = vec![0; width];
        let keys = self.bytes.chunks_exact(width.max(1));
        match (first.first_chunk::<16>(), first.last_chunk::<16>()) {
            // Two words, which have some bytes both.
            (Some(head), Some(tail)) if width <= 32 => {
                let [head, tail] = [head, tail].map(|bytes| u128::from_ne_bytes(*bytes));
                let (mut heads, mut tails) = (0, 0);
                for key in keys {
                    if let (Some(key_head), Some(key_tail)) = (key.first_chunk(), key.last_chunk()) {
                        heads |= u128::from_ne_bytes(*key_head) ^ head;
                        tails |= u128::from_ne_bytes(*key_tail) ^ tail;
                    }
                }
                differ[..16].copy_from_slice(&heads.to_ne_bytes());
                differ[width - 16..]
                    .iter_mut()
                    .zip(tails.to_ne_bytes())
                    .for_each(|(byte, tail)| *byte |= tail);
            }
            _ => {
                for key in keys {
                    let bytes = differ.iter_mut().zip(key.iter().zip(first));
                    bytes.for_each(|(differ, (byte, first))| *differ |= byte ^ first);
                }
            }
        }
        Some((0..width).filter(|place| differ[*place] != 0).collect())
    }

    /// Writes the keys: bytes that are the same in all stand once.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 + self.bytes() + 5 * self.width);
        let mut numbers = |numbers: &[usize]| {
            numbers.iter().for_each(|number| bytes.extend_from_slice(&(*number as u32).to_le_bytes()));
        };
        let Some(places) = self.places() else {
            numbers(&[self.len, self.bytes.len(), self.ends.len(), 0]);
            bytes.extend(self.ends.iter().flat_map(|end| end.to_le_bytes()));
            bytes.extend_from_slice(&self.bytes);
            return bytes;
        };
        numbers(&[self.len, self.width, 0, places.len()]);
        numbers(&places);
        bytes.extend_from_slice(&self.bytes[..self.width]);
        for place in places {
            bytes.extend(self.bytes.chunks_exact(self.width).map(|key| key[place]));
        }
        bytes
    }

    /// Reads keys, and returns what is behind them.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<(Self, &[u8])> {
        fn numbers(bytes: &[u8], many: usize) -> Option<(Vec<usize>, &[u8])> {
            let (numbers, bytes) = bytes.split_at_checked(many.checked_mul(4)?)?;
            let number = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes) as usize;
            Some((numbers.as_chunks().0.iter().map(number).collect(), bytes))
        }
        let (head, bytes) = numbers(bytes, 4)?;
        let [len, size, ends, places] = head[..] else { return None };
        if ends > 0 {
            let (ends, bytes) = numbers(bytes, ends)?;
            let (keys, bytes) = bytes.split_at_checked(size)?;
            let whole = ends.len() == len && ends.is_sorted() && ends.last() == Some(&size);
            let ends = ends.into_iter().map(|end| end as u32).collect();
            return whole.then(|| (Self { bytes: keys.to_vec(), len, ends, ..Self::default() }, bytes));
        }
        let (places, bytes) = numbers(bytes, places)?;
        let (first, bytes) = bytes.split_at_checked(size)?;
        let (columns, rest) = bytes.split_at_checked(places.len().checked_mul(len)?)?;
        if places.iter().any(|place| *place >= size) {
            return None;
        }
        let mut keys = Self { bytes: first.repeat(len), len, width: size, ..Self::default() };
        for (place, column) in places.into_iter().zip(columns.chunks_exact(len.max(1))) {
            let of_keys = keys.bytes.chunks_exact_mut(size);
            of_keys.zip(column).for_each(|(key, byte)| key[place] = *byte);
        }
        Some((keys, rest))
    }

    /// Encodes the values of several expressions, one key an item, if they are all numbers: then
    /// each is as long as the others.
    pub(super) fn of_numbers(values: &[(Values, Direction)], len: usize) -> Result<Option<Self>> {
        let are = values.iter().all(|(values, _)| values.are_numbers());
        if !are || values.is_empty() || len == 0 {
            return Ok(None);
        }
        let width = NUMBER_LEN * values.len();
        let mut bytes = vec![0; width * len];
        for (at, (values, direction)) in values.iter().enumerate() {
            let mut places = bytes[at * NUMBER_LEN..].chunks_mut(width);
            let mut put = |mut number: Number| {
                if direction.descending {
                    number.iter_mut().for_each(|byte| *byte = !*byte);
                }
                if let Some(place) = places.next().and_then(|place| place.first_chunk_mut()) {
                    *place = number;
                }
            };
            match values {
                Values::Ints(of) => of.values().iter().for_each(|value| put(of_int(*value))),
                Values::UInts(of) => of.values().iter().for_each(|value| put(integer((*value).into()))),
                Values::Doubles(of) => of.values().iter().for_each(|value| put(double(*value))),
                _ => {}
            }
        }
        let keys = Self { bytes, len, width, ..Self::default() };
        keys.end()?;
        Ok(Some(keys))
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
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                Self::UInts(cast(&column, &DataType::UInt64).ok()?.as_primitive::<UInt64Type>().clone())
            }
            DataType::Float64 => Self::Doubles(column.as_primitive::<Float64Type>().clone()),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Self::Texts(cast(&column, &DataType::Utf8).ok()?.as_string::<i32>().clone())
            }
            _ => return None,
        })
    }

    /// Returns whether all are plain numbers.
    fn are_numbers(&self) -> bool {
        match self {
            Self::Ints(of) => of.null_count() == 0,
            Self::UInts(of) => of.null_count() == 0,
            Self::Doubles(of) => of.null_count() == 0,
            _ => false,
        }
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
            Self::Ints(of) if of.is_valid(index) => key.extend(of_int(of.value(index))),
            Self::UInts(of) if of.is_valid(index) => key.extend(integer(of.value(index).into())),
            Self::Doubles(of) if of.is_valid(index) => key.extend(double(of.value(index))),
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
        Value::Int(value) => key.extend(of_int(*value)),
        Value::UInt(value) => key.extend(integer((*value).into())),
        Value::Double(value) => key.extend(double(*value)),
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

/// A number as bytes: its tag, the nearest double, and how far it is from there, so that integers
/// and doubles compare exactly.
type Number = [u8; NUMBER_LEN];

const NUMBER_LEN: usize = 11;

fn of_int(value: i64) -> Number {
    // Most are doubles themselves.
    if value.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS {
        number(value as f64, 0)
    } else {
        integer(value.into())
    }
}

fn integer(value: i128) -> Number {
    let nearest = value as f64;
    number(nearest, (value - nearest as i128) as i16)
}

fn double(value: f64) -> Number {
    // Adding zero turns -0.0 into 0.0; there is one number that is none, behind all others.
    number(if value.is_nan() { f64::NAN } else { value + 0.0 }, 0)
}

fn number(value: f64, rest: i16) -> Number {
    let bits = value.to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    let mut number = [NUMBER; NUMBER_LEN];
    number[1..9].copy_from_slice(&ordered.to_be_bytes());
    number[9..].copy_from_slice(&(rest as u16 ^ 0x8000).to_be_bytes());
    number
}

fn time(seconds: i64, nanos: u32, key: &mut Vec<u8>) {
    key.extend((seconds as u64 ^ 1 << 63).to_be_bytes());
    key.extend(nanos.to_be_bytes());
}

fn octets(octets: &[u8], key: &mut Vec<u8>) {
    let mut parts = octets.split(|byte| *byte == 0);
    key.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        key.extend_from_slice(&[0, 0xff]);
        key.extend_from_slice(part);
    }
    key.extend_from_slice(&[0, 0]);
}

#[cfg(test)]
pub(super) mod tests;
