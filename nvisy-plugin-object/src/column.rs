//! Arrow columns under construction, from which the last record can be taken back.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float64Array, Int64Array, ListArray, NullBufferBuilder, StringArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;
use nvisy_core::{Error, Result};

use crate::text;

/// A column under construction.
#[derive(Debug)]
pub(crate) struct Column {
    nulls: NullBufferBuilder,
    pub(crate) values: Values,
}

/// The values of a [`Column`], nulls included.
#[derive(Debug)]
pub(crate) enum Values {
    Bool(Vec<bool>),
    Int(Vec<i64>),
    Float(Vec<f64>),
    Text { bytes: Vec<u8>, ends: Vec<i32> },
    Date(Vec<i32>),
    Timestamp { ticks: Vec<i64>, utc: bool },
    List { ends: Vec<i32>, item: Box<Column>, field: FieldRef },
    Struct { len: usize, fields: Fields, columns: Vec<Column> },
}

impl Column {
    /// An empty column of a type.
    pub(crate) fn new(data_type: &DataType) -> Result<Self> {
        let values = match data_type {
            DataType::Boolean => Values::Bool(Vec::new()),
            DataType::Int64 => Values::Int(Vec::new()),
            DataType::Float64 => Values::Float(Vec::new()),
            DataType::Utf8 => Values::Text { bytes: Vec::new(), ends: vec![0] },
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                Values::Timestamp { ticks: Vec::new(), utc: zone.is_some() }
            }
            DataType::List(field) => Values::List {
                ends: vec![0],
                item: Box::new(Self::new(field.data_type())?),
                field: field.clone(),
            },
            DataType::Struct(fields) => Values::Struct {
                len: 0,
                fields: fields.clone(),
                columns: fields.iter().map(|field| Self::new(field.data_type())).collect::<Result<_>>()?,
            },
            other => return Err(Error::internal(format!("no text is read as {other}"))),
        };
        Ok(Self { nulls: NullBufferBuilder::new(0), values })
    }

    /// Makes room for so many times what is there.
    pub(crate) fn grow(&mut self, times: usize) {
        match &mut self.values {
            Values::Bool(values) => values.reserve(values.len() * times),
            Values::Int(values) => values.reserve(values.len() * times),
            Values::Float(values) => values.reserve(values.len() * times),
            Values::Date(values) => values.reserve(values.len() * times),
            Values::Timestamp { ticks, .. } => ticks.reserve(ticks.len() * times),
            Values::Text { bytes, ends } => {
                bytes.reserve(bytes.len() * times);
                ends.reserve(ends.len() * times);
            }
            Values::List { ends, item, .. } => {
                ends.reserve(ends.len() * times);
                item.grow(times);
            }
            Values::Struct { columns, .. } => columns.iter_mut().for_each(|column| column.grow(times)),
        }
    }

    /// Returns how many values there are.
    pub(crate) fn len(&self) -> usize {
        match &self.values {
            Values::Bool(values) => values.len(),
            Values::Int(values) => values.len(),
            Values::Float(values) => values.len(),
            Values::Date(values) => values.len(),
            Values::Timestamp { ticks, .. } => ticks.len(),
            Values::Text { ends, .. } | Values::List { ends, .. } => ends.len() - 1,
            Values::Struct { len, .. } => *len,
        }
    }

    /// Keeps the first `len` values.
    pub(crate) fn truncate(&mut self, len: usize) {
        // A value may be there already while its validity is not.
        if self.nulls.len() > len {
            self.nulls.truncate(len);
        }
        match &mut self.values {
            Values::Bool(values) => values.truncate(len),
            Values::Int(values) => values.truncate(len),
            Values::Float(values) => values.truncate(len),
            Values::Date(values) => values.truncate(len),
            Values::Timestamp { ticks, .. } => ticks.truncate(len),
            Values::Text { bytes, ends } => {
                ends.truncate(len + 1);
                bytes.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            Values::List { ends, item, .. } => {
                ends.truncate(len + 1);
                item.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            Values::Struct { len: mine, columns, .. } => {
                *mine = (*mine).min(len);
                columns.iter_mut().for_each(|column| column.truncate(len));
            }
        }
    }

    /// Notes that the value that was just added is one.
    pub(crate) fn valid(&mut self) {
        self.nulls.append_non_null();
    }

    /// Adds a null.
    pub(crate) fn push_null(&mut self) {
        self.nulls.append_null();
        match &mut self.values {
            Values::Bool(values) => values.push(false),
            Values::Int(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Date(values) => values.push(0),
            Values::Timestamp { ticks, .. } => ticks.push(0),
            Values::Text { ends, .. } | Values::List { ends, .. } => {
                ends.push(ends.last().copied().unwrap_or(0))
            }
            Values::Struct { len, columns, .. } => {
                *len += 1;
                columns.iter_mut().for_each(Self::push_null);
            }
        }
    }

    /// Adds a text as it is, if the column is text and can hold so much.
    pub(crate) fn push_text(&mut self, text: &[u8]) -> bool {
        let Values::Text { bytes, ends } = &mut self.values else { return false };
        let Ok(end) = i32::try_from(bytes.len() + text.len()) else { return false };
        bytes.extend_from_slice(text);
        ends.push(end);
        self.nulls.append_non_null();
        true
    }

    /// Adds what a text says, by the grammar of [`text`]. Returns whether it says such a value.
    #[inline]
    pub(crate) fn parse(&mut self, text: &[u8]) -> bool {
        match &mut self.values {
            Values::Text { .. } => return self.push_text(text),
            Values::Int(values) => match text::int(text) {
                Some(value) => values.push(value),
                None => return false,
            },
            Values::Float(values) => match text::float(text) {
                Some(value) => values.push(value),
                None => return false,
            },
            Values::Bool(values) => match text::bool(text) {
                Some(value) => values.push(value),
                None => return false,
            },
            Values::Date(values) => match text::date(text) {
                Some(value) => values.push(value),
                None => return false,
            },
            Values::Timestamp { ticks, utc } => match text::moment(text) {
                Some((value, zoned)) if zoned == *utc => ticks.push(value),
                _ => return false,
            },
            Values::List { .. } | Values::Struct { .. } => return false,
        }
        self.nulls.append_non_null();
        true
    }

    /// Names the type, for messages.
    pub(crate) fn type_name(&self) -> &'static str {
        match &self.values {
            Values::Bool(_) => "bool",
            Values::Int(_) => "int",
            Values::Float(_) => "float",
            Values::Text { .. } => "text",
            Values::Date(_) => "date",
            Values::Timestamp { utc: true, .. } => "timestamp_utc",
            Values::Timestamp { .. } => "timestamp",
            Values::List { .. } => "list",
            Values::Struct { .. } => "object",
        }
    }

    /// Returns the array, and begins anew.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        use std::mem::take;
        let nulls = self.nulls.finish();
        Ok(match &mut self.values {
            Values::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(take(values)), nulls)),
            Values::Int(values) => Arc::new(Int64Array::try_new(take(values).into(), nulls)?),
            Values::Float(values) => Arc::new(Float64Array::try_new(take(values).into(), nulls)?),
            Values::Date(values) => Arc::new(Date32Array::try_new(take(values).into(), nulls)?),
            Values::Timestamp { ticks, utc } => {
                let array = TimestampMicrosecondArray::try_new(take(ticks).into(), nulls)?;
                Arc::new(if *utc { array.with_timezone("UTC") } else { array })
            }
            Values::Text { bytes, ends } => {
                let ends = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(ends, vec![0])));
                Arc::new(StringArray::try_new(ends, Buffer::from_vec(take(bytes)), nulls)?)
            }
            Values::List { ends, item, field } => {
                let ends = OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(ends, vec![0])));
                Arc::new(ListArray::try_new(field.clone(), ends, item.finish()?, nulls)?)
            }
            Values::Struct { len, fields, columns } => {
                let arrays = columns.iter_mut().map(Self::finish).collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, take(len))?)
            }
        })
    }
}
