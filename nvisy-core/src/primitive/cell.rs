//! One value of a column: borrowed, typed, whatever array it is kept in.

mod at;
mod decimal;
mod nested;

pub use arrow::datatypes::TimeUnit;
use chrono::{DateTime, NaiveDate};

pub use self::at::cell_at;
pub(crate) use self::at::resolve;
pub use self::decimal::Decimal;
pub use self::nested::{ListCell, MapCell, StructCell};
use crate::metadata::Timestamp;

/// One value of a column, borrowed from its array.
///
/// Many Arrow types read alike: every width of integer, text, list; a dictionary, a run-end
/// encoded array and a union read as the value that they stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Cell<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A signed integer of any width.
    Int(i64),
    /// An unsigned integer of any width.
    UInt(u64),
    /// A floating-point number of 16 or 32 bits.
    Float32(f32),
    /// A floating-point number of 64 bits.
    Float(f64),
    /// A decimal number of any width.
    Decimal(Decimal),
    /// A text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A day, counted from 1970-01-01.
    Date(i32),
    /// A time of day.
    Time {
        /// How much of the unit has passed since midnight.
        ticks: i64,
        /// The unit.
        unit: TimeUnit,
    },
    /// A moment in time where there is a zone, a wall clock's reading where there is none.
    Timestamp {
        /// How much of the unit has passed since 1970.
        ticks: i64,
        /// The unit.
        unit: TimeUnit,
        /// The time zone: the ticks count in UTC, and are shown in it.
        zone: Option<&'a str>,
    },
    /// A length of time.
    Duration {
        /// How much of the unit it lasts.
        ticks: i64,
        /// The unit.
        unit: TimeUnit,
    },
    /// A length of time as calendars count it.
    Interval {
        /// Months.
        months: i32,
        /// Days.
        days: i32,
        /// Nanoseconds.
        nanoseconds: i64,
    },
    /// Values of one type.
    List(ListCell<'a>),
    /// Keys and values.
    Map(MapCell<'a>),
    /// Named values.
    Struct(StructCell<'a>),
}

impl<'a> Cell<'a> {
    /// Returns whether there is nothing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Returns the truth value.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the integer, if it fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::UInt(value) => i64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// Returns the integer, if it fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(value) => u64::try_from(*value).ok(),
            Self::UInt(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the number, be it an integer, a decimal or a floating-point number, as the
    /// nearest one of 64 bits.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::UInt(value) => Some(*value as f64),
            Self::Float32(value) => Some(f64::from(*value)),
            Self::Float(value) => Some(*value),
            Self::Decimal(value) => value.to_string().parse().ok(),
            _ => None,
        }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the bytes; of a text, those of its UTF-8 form.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(value) => Some(value),
            Self::Text(value) => Some(value.as_bytes()),
            _ => None,
        }
    }

    /// Returns the day, if calendars reach it.
    #[must_use]
    pub fn as_date(&self) -> Option<NaiveDate> {
        match self {
            Self::Date(days) => NaiveDate::from_epoch_days(*days),
            _ => None,
        }
    }

    /// Returns the moment, if calendars reach it. A timestamp without a zone is taken for UTC.
    #[must_use]
    pub fn as_timestamp(&self) -> Option<Timestamp> {
        match self {
            Self::Timestamp { ticks, unit, .. } => match unit {
                TimeUnit::Second => DateTime::from_timestamp(*ticks, 0),
                TimeUnit::Millisecond => DateTime::from_timestamp_millis(*ticks),
                TimeUnit::Microsecond => DateTime::from_timestamp_micros(*ticks),
                TimeUnit::Nanosecond => Some(DateTime::from_timestamp_nanos(*ticks)),
            },
            _ => None,
        }
    }
}
