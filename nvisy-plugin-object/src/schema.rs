//! Columns that a user gives, and the widening of types that a sample shows.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text;

/// The type of a column of a text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// True or false.
    Bool,
    /// An integer of 64 bits.
    Int,
    /// A floating-point number of 64 bits.
    Float,
    /// A text. Of JSON it takes every value: what is no text keeps its JSON form.
    Text,
    /// A day, as `2024-02-29`.
    Date,
    /// A wall clock's reading, as `2024-02-29T13:14:15`, to the microsecond.
    Timestamp,
    /// A moment in time, as `2024-02-29T13:14:15Z` or with an offset, to the microsecond.
    TimestampUtc,
}

impl ColumnType {
    fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampUtc => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

/// A column of a given schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaColumn {
    /// The column's name.
    pub name: String,
    /// The column's type.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
}

/// How many columns an inferred schema has at the most, those within columns included.
pub(crate) const MAX_COLUMNS: usize = 10_000;

/// Returns the schema that a user gives.
pub(crate) fn given(columns: &[SchemaColumn]) -> SchemaRef {
    let fields = columns.iter().map(|column| Field::new(&column.name, column.column_type.data_type(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// What becomes of a record that has a column which the schema does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// It is set aside as a bad record: nothing is lost unnoticed.
    #[default]
    Reject,
    /// The column is left out.
    Ignore,
}

/// The type that the values of a column have shown so far.
///
/// The widening rules: null and `T` give `T`; int and float give float; date and timestamp
/// give timestamp; objects are joined column by column, lists by their items; anything else
/// gives text. A column that is null throughout is text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Shape {
    #[default]
    Null,
    Bool,
    Int,
    Float,
    Date,
    Timestamp,
    TimestampUtc,
    Text,
    List(Box<Self>),
    Object(Vec<(String, Self)>),
}

impl Shape {
    /// The shape of a field of a text format, which says nothing of its type.
    pub(crate) fn of_text(field: &[u8]) -> Self {
        match field.first() {
            None => return Self::Null,
            Some(b'0'..=b'9' | b'-' | b'.' | b'N' | b'i' | b't' | b'f' | b'T' | b'F') => {}
            Some(_) => return Self::Text,
        }
        if text::int(field).is_some() {
            return Self::Int;
        }
        // Digits alone that are no integer are an id, or too large for one: exact only as text.
        let digits = field.strip_prefix(b"-").unwrap_or(field);
        if digits.iter().all(u8::is_ascii_digit) && digits != b"0" {
            return Self::Text;
        }
        if text::float(field).is_some() {
            return Self::Float;
        }
        if text::bool(field).is_some() {
            return Self::Bool;
        }
        if text::date(field).is_some() {
            return Self::Date;
        }
        match text::moment(field) {
            Some((_, true)) => Self::TimestampUtc,
            Some((_, false)) => Self::Timestamp,
            None => Self::Text,
        }
    }

    /// Takes in what another value showed.
    pub(crate) fn widen(&mut self, other: Self) {
        let mine = std::mem::take(self);
        *self = match (mine, other) {
            (Self::Null, other) => other,
            (mine, Self::Null) => mine,
            (Self::List(mut mine), Self::List(other)) => {
                mine.widen(*other);
                Self::List(mine)
            }
            (Self::Object(mut mine), Self::Object(other)) => {
                for (at, (name, shape)) in other.into_iter().enumerate() {
                    // Most records have the same names in the same places.
                    let place = match mine.get(at) {
                        Some((known, _)) if *known == name => Some(at),
                        _ => mine.iter().position(|(known, _)| *known == name),
                    };
                    match place {
                        Some(place) => mine[place].1.widen(shape),
                        // One too many is enough to tell.
                        None if mine.len() > MAX_COLUMNS => {}
                        None => mine.push((name, shape)),
                    }
                }
                Self::Object(mine)
            }
            (mine, other) if mine == other => mine,
            (Self::Int | Self::Float, Self::Int | Self::Float) => Self::Float,
            (Self::Date | Self::Timestamp, Self::Date | Self::Timestamp) => Self::Timestamp,
            _ => Self::Text,
        };
    }

    /// Returns how many columns this is, those within it included.
    pub(crate) fn columns(&self) -> usize {
        match self {
            Self::List(item) => item.columns(),
            Self::Object(columns) => columns.iter().map(|(_, shape)| shape.columns()).sum::<usize>().max(1),
            _ => 1,
        }
    }

    /// Returns the type for columns of this shape.
    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampUtc => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Null | Self::Text => DataType::Utf8,
            // Some formats know no object without columns: its JSON form says as much.
            Self::Object(columns) if columns.is_empty() => DataType::Utf8,
            Self::List(item) => DataType::new_list(item.data_type(), true),
            Self::Object(columns) => DataType::Struct(fields(columns)),
        }
    }
}

/// The shape of a JSON value. A JSON text stays text, whatever it says.
#[cfg(feature = "jsonl")]
impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

#[cfg(feature = "jsonl")]
struct ShapeVisitor;

#[cfg(feature = "jsonl")]
impl<'de> serde::de::Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Int)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        // Beyond 64 bits a float would not be exact.
        Ok(if i64::try_from(value).is_ok() { Shape::Int } else { Shape::Text })
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Float)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut values: A) -> Result<Shape, A::Error> {
        let mut item = Shape::Null;
        while let Some(shape) = values.next_element()? {
            item.widen(shape);
        }
        Ok(Shape::List(Box::new(item)))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<Shape, A::Error> {
        let mut columns: Vec<(String, Shape)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        while let Some((name, shape)) = entries.next_entry::<String, Shape>()? {
            match places.get(&name) {
                Some(place) => {
                    let (_, known): &mut (String, Shape) = &mut columns[*place];
                    known.widen(shape);
                }
                None if columns.len() > MAX_COLUMNS => {}
                None => {
                    places.insert(name.clone(), columns.len());
                    columns.push((name, shape));
                }
            }
        }
        Ok(Shape::Object(columns))
    }
}

fn fields(columns: &[(String, Shape)]) -> arrow::datatypes::Fields {
    columns.iter().map(|(name, shape)| Field::new(name, shape.data_type(), true)).collect()
}

/// Returns the schema of records whose columns have these shapes.
pub(crate) fn inferred(columns: &[(String, Shape)]) -> SchemaRef {
    Arc::new(Schema::new(fields(columns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&str], expected: &Shape) {
        let mut shape = Shape::Null;
        values.iter().for_each(|value| shape.widen(Shape::of_text(value.as_bytes())));
        assert_eq!(shape, *expected, "{values:?}");
    }

    #[test]
    fn types_widen_as_written_down() {
        check(&["", ""], &Shape::Null);
        check(&["1", "", "2"], &Shape::Int);
        check(&["1", ".046"], &Shape::Float);
        check(&["1", "00501"], &Shape::Text);
        check(&["-0", "1"], &Shape::Float);
        check(&["9223372036854775808"], &Shape::Text);
        check(&["true", "FALSE"], &Shape::Bool);
        check(&["true", "1"], &Shape::Text);
        check(&["2024-01-01", ""], &Shape::Date);
        check(&["2024-01-01", "2024-01-01T00:00:00"], &Shape::Timestamp);
        check(&["2024-01-01T00:00:00Z"], &Shape::TimestampUtc);
        check(&["2024-01-01T00:00:00Z", "2024-01-01T00:00:00"], &Shape::Text);
        check(&["1", "x"], &Shape::Text);
    }

    #[cfg(feature = "jsonl")]
    #[test]
    fn objects_join_column_by_column() {
        let read = |json| serde_json::from_str::<Shape>(json).unwrap();
        let mut shape = read(r#"{"a": 1, "b": {"c": [null, 1]}}"#);
        shape.widen(read(r#"{"b": {"c": [2.5], "d": "x"}, "a": null}"#));
        let list = Shape::List(Box::new(Shape::Float));
        let inner = Shape::Object(vec![("c".into(), list), ("d".into(), Shape::Text)]);
        assert_eq!(shape, Shape::Object(vec![("a".into(), Shape::Int), ("b".into(), inner)]));
    }
}
