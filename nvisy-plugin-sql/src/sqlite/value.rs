//! A value as SQLite stores it: what is read from a row, and what is bound to a statement.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nvisy_core::position::KeyValue;
use nvisy_core::primitive::row::Cell;
use nvisy_core::{Error, Result};
use serde_json::Value as Json;
use sqlx::sqlite::{SqliteArguments, SqliteRow, SqliteValueRef};
use sqlx::{Arguments, Decode, Row, TypeInfo, ValueRef};

/// A value, by its storage class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Int(i64),
    Real(f64),
    Text(&'a str),
    Blob(&'a [u8]),
    /// A text that is not UTF-8: SQLite does not check.
    Broken(&'a [u8]),
}

impl<'a> Value<'a> {
    /// Reads the value of a row's column.
    pub(crate) fn of(row: &'a SqliteRow, index: usize) -> Result<Self, sqlx::Error> {
        let raw: SqliteValueRef<'a> = row.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Self::Null);
        }
        let class = raw.type_info();
        let decoded = match class.name() {
            "INTEGER" => <i64 as Decode<sqlx::Sqlite>>::decode(raw).map(Self::Int),
            "REAL" => <f64 as Decode<sqlx::Sqlite>>::decode(raw).map(Self::Real),
            "BLOB" => <&[u8] as Decode<sqlx::Sqlite>>::decode(raw).map(Self::Blob),
            _ => <&[u8] as Decode<sqlx::Sqlite>>::decode(raw)
                .map(|bytes| std::str::from_utf8(bytes).map_or(Self::Broken(bytes), Self::Text)),
        };
        decoded.map_err(sqlx::Error::Decode)
    }

    /// What it is, for messages.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Int(_) => "an integer",
            Self::Real(value) if value.is_infinite() => "an infinite number",
            Self::Real(_) => "a real number",
            Self::Text(_) => "a text",
            Self::Blob(_) => "a blob",
            Self::Broken(_) => "a text that is not UTF-8",
        }
    }

    /// About how many bytes it holds.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Null => 1,
            Self::Int(_) | Self::Real(_) => 8,
            Self::Text(text) => text.len() + 4,
            Self::Blob(bytes) | Self::Broken(bytes) => bytes.len() + 4,
        }
    }

    /// Returns the value of a key column, unless it is null or infinite, or a text that is none: a
    /// position could not be written down then.
    pub(crate) fn to_key(self) -> Option<KeyValue> {
        Some(match self {
            Self::Int(value) => KeyValue::Int(value),
            Self::Real(value) if value.is_finite() => KeyValue::Float(value),
            Self::Text(text) => KeyValue::Text(text.into()),
            Self::Blob(bytes) => KeyValue::Bytes(bytes.to_vec().into()),
            Self::Null | Self::Real(_) | Self::Broken(_) => return None,
        })
    }

    /// Returns the value as JSON, for a record that is set aside. Bytes are in base64.
    pub(crate) fn to_json(self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Int(value) => value.into(),
            Self::Real(value) => serde_json::Number::from_f64(value)
                .map_or_else(|| Json::from(value.to_string()), Json::Number),
            Self::Text(text) => text.into(),
            Self::Blob(bytes) | Self::Broken(bytes) => STANDARD.encode(bytes).into(),
        }
    }
}

/// A value to bind, which owns what it cannot borrow.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Bound<'a> {
    Null,
    Int(i64),
    Real(f64),
    Text(&'a str),
    Owned(String),
    Blob(&'a [u8]),
}

impl<'a> Bound<'a> {
    /// Returns what a cell is stored as. `column` is for messages.
    pub(crate) fn of(cell: Cell<'a>, column: &str) -> Result<Self> {
        Ok(match cell {
            Cell::Null => Self::Null,
            Cell::Bool(value) => Self::Int(value.into()),
            Cell::Int(value) => Self::Int(value),
            Cell::UInt(value) => Self::Int(i64::try_from(value).map_err(|_| {
                Error::invalid(column, format!("{value} is larger than a SQLite integer: convert it to text"))
            })?),
            Cell::Float32(value) => Self::real(value.into(), column)?,
            Cell::Float(value) => Self::real(value, column)?,
            Cell::Text(text) => Self::Text(text),
            Cell::Bytes(bytes) => Self::Blob(bytes),
            other => match other.to_json() {
                Json::String(text) => Self::Owned(text),
                json => Self::Owned(json.to_string()),
            },
        })
    }

    fn real(value: f64, column: &str) -> Result<Self> {
        if value.is_nan() {
            // SQLite would store NULL in its place.
            return Err(Error::invalid(column, "is not a number (NaN), which SQLite cannot store"));
        }
        Ok(Self::Real(value))
    }

    /// Returns the value without copying its text.
    pub(crate) fn borrowed(&self) -> Bound<'_> {
        match self {
            Self::Owned(text) => Bound::Text(text),
            other => other.clone(),
        }
    }

    /// Adds the value to the arguments of a statement.
    pub(crate) fn bind(self, arguments: &mut SqliteArguments) -> Result<(), sqlx::Error> {
        match self {
            Self::Null => arguments.add(None::<i64>),
            Self::Int(value) => arguments.add(value),
            Self::Real(value) => arguments.add(value),
            Self::Text(text) => arguments.add(text),
            Self::Owned(text) => arguments.add(text),
            Self::Blob(bytes) => arguments.add(bytes),
        }
        .map_err(sqlx::Error::Encode)
    }
}

/// Adds the value of a key to the arguments of a statement.
pub(crate) fn bind_key(key: &KeyValue, arguments: &mut SqliteArguments) -> Result<(), sqlx::Error> {
    match key {
        KeyValue::Int(value) => arguments.add(*value),
        KeyValue::Float(value) => arguments.add(*value),
        KeyValue::Text(text) => arguments.add(&**text),
        KeyValue::Bytes(bytes) => arguments.add(&**bytes),
    }
    .map_err(sqlx::Error::Encode)
}

/// Adds a parameter of the config to the arguments of a statement.
pub(crate) fn bind_json(value: &Json, arguments: &mut SqliteArguments) -> Result<(), sqlx::Error> {
    match value {
        Json::Null => arguments.add(None::<i64>),
        Json::Bool(value) => arguments.add(*value),
        Json::Number(number) => match number.as_i64() {
            Some(value) => arguments.add(value),
            None => arguments.add(number.as_f64()),
        },
        Json::String(text) => arguments.add(text.as_str()),
        other => arguments.add(other.to_string()),
    }
    .map_err(sqlx::Error::Encode)
}

/// Returns the integer that a real number is, if it is one and no digit is lost.
pub(crate) fn exact_float(value: i64) -> Option<f64> {
    let float = value as f64;
    let same = (-(1_i64 << 53)..=1 << 53).contains(&value)
        || matches!((float as i128).cmp(&i128::from(value)), Ordering::Equal);
    same.then_some(float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integer_that_a_float_cannot_hold_is_told_apart() {
        assert_eq!(exact_float(1 << 53), Some(9_007_199_254_740_992.0));
        assert_eq!(exact_float((1 << 53) + 1), None);
        assert_eq!(exact_float(i64::MIN), Some(i64::MIN as f64));
        assert_eq!(exact_float(i64::MAX), None);
    }

    #[test]
    fn what_sqlite_cannot_store_is_refused() {
        assert!(Bound::of(Cell::Float(f64::NAN), "x").is_err());
        assert!(Bound::of(Cell::UInt(u64::MAX), "x").is_err());
        assert_eq!(Bound::of(Cell::UInt(7), "x").unwrap(), Bound::Int(7));
        assert_eq!(Bound::of(Cell::Date(0), "x").unwrap(), Bound::Owned("1970-01-01".into()));
    }
}
