//! Rows of a record batch as text, cell by cell, without a value in between.

use std::io::Write;

use arrow::array::{
    Array, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, LargeStringArray, RecordBatch,
    StringArray, StringViewArray,
};
use arrow::datatypes::DataType;
#[cfg(feature = "jsonl")]
use nvisy_core::primitive::row::json_at;

/// A column, by what its cells are written as.
pub(crate) enum Cells<'a> {
    Bool(&'a BooleanArray),
    Int(&'a Int64Array),
    Int32(&'a Int32Array),
    Float(&'a Float64Array),
    Text(&'a StringArray),
    LargeText(&'a LargeStringArray),
    TextView(&'a StringViewArray),
    Other(&'a dyn Array),
}

impl<'a> Cells<'a> {
    pub(crate) fn new(array: &'a dyn Array) -> Self {
        match array.data_type() {
            DataType::Boolean => Self::Bool(array.as_boolean()),
            DataType::Int64 => Self::Int(array.as_primitive()),
            DataType::Int32 => Self::Int32(array.as_primitive()),
            DataType::Float64 => Self::Float(array.as_primitive()),
            DataType::Utf8 => Self::Text(array.as_string()),
            DataType::LargeUtf8 => Self::LargeText(array.as_string()),
            DataType::Utf8View => Self::TextView(array.as_string_view()),
            _ => Self::Other(array),
        }
    }

    #[inline]
    pub(crate) fn array(&self) -> &'a dyn Array {
        match self {
            Self::Bool(array) => *array,
            Self::Int(array) => *array,
            Self::Int32(array) => *array,
            Self::Float(array) => *array,
            Self::Text(array) => *array,
            Self::LargeText(array) => *array,
            Self::TextView(array) => *array,
            Self::Other(array) => *array,
        }
    }

    #[inline]
    pub(crate) fn text(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Text(array) => Some(array.value(row)),
            Self::LargeText(array) => Some(array.value(row)),
            Self::TextView(array) => Some(array.value(row)),
            _ => None,
        }
    }
}

/// Writes a value that cannot fail to a buffer in memory.
#[inline]
pub(crate) fn put<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    // Numbers and texts always have a JSON form, and a vector takes every byte.
    let _ = serde_json::to_writer(out.by_ref(), value);
}

/// Writes rows as JSON objects, like [`Row::to_json`](nvisy_core::primitive::row::Row::to_json).
#[cfg(feature = "jsonl")]
pub(crate) struct JsonRows<'a> {
    /// Each with its name and what stands before it.
    columns: Vec<(Vec<u8>, Cells<'a>)>,
}

#[cfg(feature = "jsonl")]
impl<'a> JsonRows<'a> {
    pub(crate) fn new(rows: &'a RecordBatch) -> Self {
        let fields = rows.schema_ref().fields().iter().zip(rows.columns());
        let columns = fields.enumerate().map(|(at, (field, column))| {
            let mut name = vec![if at == 0 { b'{' } else { b',' }];
            put(field.name(), &mut name);
            name.push(b':');
            (name, Cells::new(&**column))
        });
        Self { columns: columns.collect() }
    }

    pub(crate) fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.columns.is_empty() {
            out.push(b'{');
        }
        for (name, cells) in &self.columns {
            out.extend_from_slice(name);
            if !matches!(cells, Cells::Other(_)) && cells.array().is_null(row) {
                out.extend_from_slice(b"null");
                continue;
            }
            match cells {
                Cells::Bool(array) => put(&array.value(row), out),
                Cells::Int(array) => put(&array.value(row), out),
                Cells::Int32(array) => put(&array.value(row), out),
                Cells::Float(array) => put(&array.value(row), out),
                Cells::Other(array) => put(&json_at(*array, row), out),
                texts => {
                    let text = texts.text(row).unwrap_or_default();
                    if crate::json::end_of_plain(text.as_bytes()).is_none() {
                        out.push(b'"');
                        out.extend_from_slice(text.as_bytes());
                        out.push(b'"');
                    } else {
                        put(text, out);
                    }
                }
            }
        }
        out.push(b'}');
    }
}
