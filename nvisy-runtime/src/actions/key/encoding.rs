//! A value as bytes that sort as values do.

pub(super) mod decimal;

use chrono::{DateTime, TimeDelta};
use nvisy_core::Result;

use super::Direction;
use crate::expression::{Type, Value};

/// Reads a value that was [encoded](super::Values::encode) as it is first in a key, whose values are of a
/// type, and takes it off: numbers as that type has them. Lists and maps are read as what numbers
/// are whose types are not known: only how long they are is certain.
pub(in crate::actions) fn decode(key: &mut &[u8], known: Type) -> Option<Value> {
    let (tag, rest) = key.split_first()?;
    *key = rest;
    Some(match *tag {
        0 | NULL | 0xff => Value::Null,
        BOOL => Value::Bool(take::<1>(key)? == [1]),
        NUMBER => {
            let (nearest, rest) = decode_number(key)?;
            decimal::skip(key)?;
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

pub(super) fn null(direction: Direction, key: &mut Vec<u8>) -> Result<()> {
    key.push(if direction.nulls_first { 0 } else { 0xff });
    Ok(())
}

const NULL: u8 = 0x08;
const BOOL: u8 = 0x10;
const NUMBER: u8 = 0x20;
pub(super) const TEXT: u8 = 0x30;
const BYTES: u8 = 0x40;
const TIMESTAMP: u8 = 0x50;
const DURATION: u8 = 0x60;
const LIST: u8 = 0x70;
const MAP: u8 = 0x78;

/// Writes a value so that the bytes of two values compare as the values do: numbers by what they
/// stand for, whatever their types; values of different types by type. Nothing that is written is
/// the beginning of something else. Part of ids: it never changes.
pub(in crate::actions) fn encode(value: &Value, key: &mut Vec<u8>) {
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
pub(super) type Number = [u8; NUMBER_LEN];

pub(super) const NUMBER_LEN: usize = 11;

pub(super) fn of_int(value: i64) -> Number {
    // Most are doubles themselves.
    if value.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS {
        number(value as f64, 0)
    } else {
        integer(value.into())
    }
}

pub(super) fn integer(value: i128) -> Number {
    let nearest = value as f64;
    number(nearest, (value - nearest as i128) as i16)
}

pub(super) fn double(value: f64) -> Number {
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

pub(super) fn octets(octets: &[u8], key: &mut Vec<u8>) {
    let mut parts = octets.split(|byte| *byte == 0);
    key.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        key.extend_from_slice(&[0, 0xff]);
        key.extend_from_slice(part);
    }
    key.extend_from_slice(&[0, 0]);
}
