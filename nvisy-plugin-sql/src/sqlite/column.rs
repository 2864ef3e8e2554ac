//! A column of a batch: how its type is found, and how values enter it.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder, TimestampNanosecondBuilder,
};
use arrow::datatypes::{DataType, Field, TimeUnit};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value::{Value, exact_float};

/// The type of a column of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SqliteColumnType")]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// 0 and 1.
    Boolean,
    /// Integers.
    Int64,
    /// Numbers.
    Float64,
    /// Texts; numbers as SQLite writes them.
    Utf8,
    /// Blobs; texts as their UTF-8 bytes.
    Binary,
    /// Days, as ISO 8601 texts.
    Date,
    /// Wall-clock readings to the microsecond, as ISO 8601 texts without a zone. What has more digits
    /// is set aside.
    Timestamp,
    /// Moments in UTC to the microsecond, as ISO 8601 texts; those without a zone are in UTC. What has
    /// more digits is set aside.
    TimestampUtc,
    /// Wall-clock readings to the nanosecond, from 1677 to 2262.
    TimestampNanos,
    /// Moments in UTC to the nanosecond, from 1677 to 2262.
    TimestampUtcNanos,
}

impl ColumnType {
    /// Finds the type of a column from what is declared and from sampled values.
    pub(crate) fn infer(declared: &str, sample: &Sample) -> Self {
        let wanted = Declared::of(declared);
        match wanted {
            Declared::Boolean if sample.fits(sample.booleans) => Self::Boolean,
            Declared::Date if sample.fits(sample.dates) => Self::Date,
            Declared::Timestamp if sample.fits(sample.timestamps) => sample.timestamp(),
            Declared::Integer if sample.reals > 0 && sample.inexact == 0 => Self::Float64,
            Declared::Integer if sample.fits(sample.integers) => Self::Int64,
            Declared::Real if sample.fits(sample.integers + sample.reals) && sample.inexact == 0 => {
                Self::Float64
            }
            Declared::Text if sample.fits(sample.texts) => Self::Utf8,
            Declared::Blob if sample.fits(sample.blobs) => Self::Binary,
            _ => sample.widest(),
        }
    }

    pub(crate) fn data_type(self) -> DataType {
        let utc = || Some(Arc::from("UTC"));
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Utf8 => DataType::Utf8,
            Self::Binary => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampUtc => DataType::Timestamp(TimeUnit::Microsecond, utc()),
            Self::TimestampNanos => DataType::Timestamp(TimeUnit::Nanosecond, None),
            Self::TimestampUtcNanos => DataType::Timestamp(TimeUnit::Nanosecond, utc()),
        }
    }

    /// The name in configs and messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::Utf8 => "utf8",
            Self::Binary => "binary",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::TimestampUtc => "timestamp_utc",
            Self::TimestampNanos => "timestamp_nanos",
            Self::TimestampUtcNanos => "timestamp_utc_nanos",
        }
    }

    /// Returns the value as this type holds it, if it does.
    pub(crate) fn take<'a>(self, value: Value<'a>) -> Option<Taken<'a>> {
        Some(match (self, value) {
            (_, Value::Null) => Taken::Null,
            (Self::Boolean, Value::Int(value @ (0 | 1))) => Taken::Bool(value == 1),
            (Self::Int64, Value::Int(value)) => Taken::Int(value),
            (Self::Float64, Value::Real(value)) => Taken::Float(value),
            (Self::Float64, Value::Int(value)) => Taken::Float(exact_float(value)?),
            (Self::Utf8, Value::Text(text)) => Taken::Text(text),
            (Self::Utf8, Value::Int(value)) => Taken::Owned(value.to_string()),
            (Self::Utf8, Value::Real(value)) => Taken::Owned(written(value)),
            (Self::Binary, Value::Blob(bytes) | Value::Broken(bytes)) => Taken::Bytes(bytes),
            (Self::Binary, Value::Text(text)) => Taken::Bytes(text.as_bytes()),
            (Self::Date, Value::Text(text)) => Taken::Days(days(text)?),
            (Self::Timestamp, Value::Text(text)) if !is_finer(text, MICROS) => {
                Taken::Int(wall_clock(text)?.and_utc().timestamp_micros())
            }
            (Self::TimestampNanos, Value::Text(text)) if !is_finer(text, NANOS) => {
                Taken::Int(wall_clock(text)?.and_utc().timestamp_nanos_opt()?)
            }
            (Self::TimestampUtc, Value::Text(text)) if !is_finer(text, MICROS) => {
                Taken::Int(moment(text)?.timestamp_micros())
            }
            (Self::TimestampUtcNanos, Value::Text(text)) if !is_finer(text, NANOS) => {
                Taken::Int(moment(text)?.timestamp_nanos_opt()?)
            }
            _ => return None,
        })
    }
}

/// What SQLite's rules make of a declaration. See <https://www.sqlite.org/datatype3.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Declared {
    Boolean,
    Date,
    Timestamp,
    Integer,
    Real,
    Text,
    Blob,
    Anything,
}

impl Declared {
    fn of(declared: &str) -> Self {
        let upper = declared.trim().to_ascii_uppercase();
        let word = upper.split(['(', ' ']).next().unwrap_or_default();
        let has = |part: &str| upper.contains(part);
        match word {
            "BOOL" | "BOOLEAN" => return Self::Boolean,
            "DATE" => return Self::Date,
            "DECIMAL" | "NUMERIC" => {
                let scale = upper.split_once(',').and_then(|(_, rest)| rest.split(')').next());
                let scale = scale.and_then(|scale| scale.trim().parse::<i32>().ok()).unwrap_or(0);
                return if scale > 0 { Self::Real } else { Self::Anything };
            }
            _ if word.starts_with("DATETIME") || word.starts_with("TIMESTAMP") => return Self::Timestamp,
            _ => {}
        }
        if has("INT") {
            Self::Integer
        } else if has("CHAR") || has("CLOB") || has("TEXT") {
            Self::Text
        } else if has("BLOB") {
            Self::Blob
        } else if has("REAL") || has("FLOA") || has("DOUB") {
            Self::Real
        } else {
            Self::Anything
        }
    }
}

/// What a sample of a column holds, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    values: u64,
    integers: u64,
    reals: u64,
    texts: u64,
    blobs: u64,
    /// Integers that are 0 or 1.
    booleans: u64,
    /// Integers that a 64-bit float cannot hold.
    inexact: u64,
    dates: u64,
    timestamps: u64,
    zoned: u64,
    nanos: u64,
}

impl Sample {
    /// Counts a value.
    pub(crate) fn add(&mut self, value: Value<'_>) {
        self.values += u64::from(value != Value::Null);
        match value {
            Value::Null => {}
            Value::Int(value) => {
                self.integers += 1;
                self.booleans += u64::from(matches!(value, 0 | 1));
                self.inexact += u64::from(exact_float(value).is_none());
            }
            Value::Real(_) => self.reals += 1,
            Value::Blob(_) | Value::Broken(_) => self.blobs += 1,
            Value::Text(text) => {
                self.texts += 1;
                // A long text is no date: sampling stays cheap.
                if text.len() <= 40 {
                    self.dates += u64::from(days(text).is_some());
                    if let Some(moment) = moment(text) {
                        self.timestamps += 1;
                        self.zoned += u64::from(wall_clock(text).is_none());
                        self.nanos += u64::from(moment.timestamp_subsec_nanos() % 1_000 != 0);
                    }
                }
            }
        }
    }

    /// Returns whether a declared type stands: some value fits it, or there is none.
    fn fits(&self, fitting: u64) -> bool {
        fitting > 0 || self.values == 0
    }

    fn timestamp(&self) -> ColumnType {
        match (self.zoned > 0, self.nanos > 0) {
            (false, false) => ColumnType::Timestamp,
            (true, false) => ColumnType::TimestampUtc,
            (false, true) => ColumnType::TimestampNanos,
            (true, true) => ColumnType::TimestampUtcNanos,
        }
    }

    /// Returns the type that holds the most of the sample.
    fn widest(&self) -> ColumnType {
        let numbers = self.integers + self.reals;
        match (numbers, self.texts, self.blobs) {
            (0, 0, 1..) => ColumnType::Binary,
            (1.., 0, 0) if self.reals == 0 => ColumnType::Int64,
            (1.., 0, 0) if self.inexact == 0 => ColumnType::Float64,
            _ => ColumnType::Utf8,
        }
    }
}

/// A value as a column holds it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Taken<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Days(i32),
    Float(f64),
    Text(&'a str),
    Owned(String),
    Bytes(&'a [u8]),
}

/// Builds the array of a column.
#[derive(Debug)]
pub(crate) enum ColumnBuilder {
    Boolean(BooleanBuilder),
    Int64(Int64Builder),
    Float64(Float64Builder),
    Utf8(StringBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    Micros(TimestampMicrosecondBuilder),
    Nanos(TimestampNanosecondBuilder),
}

impl ColumnBuilder {
    pub(crate) fn new(column: ColumnType) -> Self {
        use ColumnType as T;
        match column {
            T::Boolean => Self::Boolean(BooleanBuilder::new()),
            T::Int64 => Self::Int64(Int64Builder::new()),
            T::Float64 => Self::Float64(Float64Builder::new()),
            T::Utf8 => Self::Utf8(StringBuilder::new()),
            T::Binary => Self::Binary(BinaryBuilder::new()),
            T::Date => Self::Date(Date32Builder::new()),
            T::Timestamp | T::TimestampUtc => {
                Self::Micros(TimestampMicrosecondBuilder::new().with_data_type(column.data_type()))
            }
            T::TimestampNanos | T::TimestampUtcNanos => {
                Self::Nanos(TimestampNanosecondBuilder::new().with_data_type(column.data_type()))
            }
        }
    }

    /// Appends a value that the column's type [took](ColumnType::take).
    pub(crate) fn append(&mut self, value: Taken<'_>) {
        match (self, value) {
            (Self::Boolean(array), Taken::Bool(value)) => array.append_value(value),
            (Self::Boolean(array), _) => array.append_null(),
            (Self::Int64(array), Taken::Int(value)) => array.append_value(value),
            (Self::Int64(array), _) => array.append_null(),
            (Self::Float64(array), Taken::Float(value)) => array.append_value(value),
            (Self::Float64(array), _) => array.append_null(),
            (Self::Utf8(array), Taken::Text(text)) => array.append_value(text),
            (Self::Utf8(array), Taken::Owned(text)) => array.append_value(text),
            (Self::Utf8(array), _) => array.append_null(),
            (Self::Binary(array), Taken::Bytes(bytes)) => array.append_value(bytes),
            (Self::Binary(array), _) => array.append_null(),
            (Self::Date(array), Taken::Days(days)) => array.append_value(days),
            (Self::Date(array), _) => array.append_null(),
            (Self::Micros(array), Taken::Int(ticks)) => array.append_value(ticks),
            (Self::Micros(array), _) => array.append_null(),
            (Self::Nanos(array), Taken::Int(ticks)) => array.append_value(ticks),
            (Self::Nanos(array), _) => array.append_null(),
        }
    }

    pub(crate) fn finish(self) -> ArrayRef {
        match self {
            Self::Boolean(mut array) => Arc::new(array.finish()),
            Self::Int64(mut array) => Arc::new(array.finish()),
            Self::Float64(mut array) => Arc::new(array.finish()),
            Self::Utf8(mut array) => Arc::new(array.finish()),
            Self::Binary(mut array) => Arc::new(array.finish()),
            Self::Date(mut array) => Arc::new(array.finish()),
            Self::Micros(mut array) => Arc::new(array.finish()),
            Self::Nanos(mut array) => Arc::new(array.finish()),
        }
    }
}

/// The field of a column.
pub(crate) fn field(name: &str, column: ColumnType, nullable: bool) -> Field {
    Field::new(name, column.data_type(), nullable)
}

/// Writes a real number as SQLite does where it makes a text of one, or more exactly.
fn written(value: f64) -> String {
    if value.is_finite() {
        format!("{value:?}")
    } else if value > 0.0 {
        "Inf".into()
    } else {
        "-Inf".into()
    }
}

fn days(text: &str) -> Option<i32> {
    let date: NaiveDate = text.parse().ok()?;
    Some(date.num_days_from_ce() - EPOCH_DAYS_FROM_CE)
}

/// The days from 0001-01-01 to 1970-01-01, as chrono counts them.
const EPOCH_DAYS_FROM_CE: i32 = 719_163;

/// The digits of a fraction of a second, to the microsecond and to the nanosecond.
const MICROS: usize = 6;
const NANOS: usize = 9;

/// Returns whether a moment has digits of a fraction behind so many that are not zero: they would be
/// cut off.
fn is_finer(text: &str, digits: usize) -> bool {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    fraction.bytes().take_while(u8::is_ascii_digit).skip(digits).any(|digit| digit != b'0')
}

/// Reads a text without a zone.
fn wall_clock(text: &str) -> Option<NaiveDateTime> {
    const FORMATS: [&str; 4] =
        ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
    if text.ends_with(['Z', 'z']) {
        return None;
    }
    FORMATS.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok()).or_else(|| {
        let date: NaiveDate = text.parse().ok()?;
        date.and_hms_opt(0, 0, 0)
    })
}

/// Reads a text with a zone, or one without, which is in UTC.
fn moment(text: &str) -> Option<DateTime<Utc>> {
    const FORMATS: [&str; 2] = ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"];
    if let Some(naive) = wall_clock(text) {
        return Some(naive.and_utc());
    }
    if let Some(bare) = text.strip_suffix(['Z', 'z']) {
        return Some(wall_clock(bare.trim_end())?.and_utc());
    }
    let zoned = FORMATS.iter().find_map(|format| DateTime::parse_from_str(text, format).ok())?;
    Some(zoned.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: &[Value<'_>]) -> Sample {
        let mut sample = Sample::default();
        values.iter().for_each(|value| sample.add(*value));
        sample
    }

    fn check(declared: &str, values: &[Value<'_>], want: ColumnType) {
        assert_eq!(ColumnType::infer(declared, &sample(values)), want, "{declared} {values:?}");
    }

    #[test]
    fn a_declaration_stands_as_long_as_a_value_fits() {
        use Value::{Blob, Int, Real, Text};
        check("INTEGER", &[], ColumnType::Int64);
        check("bigint", &[Int(1), Text("n/a")], ColumnType::Int64);
        check("INTEGER", &[Text("n/a"), Text("x")], ColumnType::Utf8);
        check("INT", &[Int(1), Real(0.5)], ColumnType::Float64);
        check("VARCHAR(20)", &[Text("a"), Blob(b"b")], ColumnType::Utf8);
        check("TEXT", &[Blob(b"b")], ColumnType::Binary);
        check("DOUBLE PRECISION", &[Real(1.5)], ColumnType::Float64);
        check("DECIMAL(10, 2)", &[Int(1)], ColumnType::Float64);
        check("NUMERIC", &[Int(1)], ColumnType::Int64);
        check("BOOLEAN", &[Int(0), Int(1), Value::Null], ColumnType::Boolean);
        check("BOOLEAN", &[Text("yes")], ColumnType::Utf8);
        check("DATE", &[Text("2024-02-29")], ColumnType::Date);
        check("DATE", &[Int(20_240_229)], ColumnType::Int64);
        check("DATETIME", &[Text("2024-02-29 10:00:00")], ColumnType::Timestamp);
        check("TIMESTAMP", &[Text("2024-02-29T10:00:00.5Z")], ColumnType::TimestampUtc);
        check("TIMESTAMP", &[Text("2024-02-29T10:00:00.123456789")], ColumnType::TimestampNanos);
    }

    #[test]
    fn without_a_declaration_the_sample_decides() {
        use Value::{Blob, Int, Null, Real, Text};
        check("", &[Null, Int(1)], ColumnType::Int64);
        check("", &[Real(0.5), Int(1)], ColumnType::Float64);
        check("", &[Real(0.5), Int(i64::MAX)], ColumnType::Utf8);
        check("", &[Text("a"), Int(1)], ColumnType::Utf8);
        check("", &[Blob(b"")], ColumnType::Binary);
        check("", &[Null], ColumnType::Utf8);
    }

    #[test]
    fn what_does_not_fit_is_not_taken() {
        assert_eq!(ColumnType::Int64.take(Value::Text("5")), None);
        assert_eq!(ColumnType::Float64.take(Value::Int((1 << 53) + 1)), None);
        assert_eq!(ColumnType::Utf8.take(Value::Blob(b"x")), None);
        assert_eq!(ColumnType::Utf8.take(Value::Broken(b"\xff")), None);
        assert_eq!(ColumnType::Date.take(Value::Text("2023-02-29")), None);
        assert_eq!(ColumnType::Utf8.take(Value::Text("")), Some(Taken::Text("")));
        assert_eq!(ColumnType::Utf8.take(Value::Null), Some(Taken::Null));
    }

    #[test]
    fn no_digit_of_a_moment_is_cut_off() {
        use ColumnType::{Timestamp, TimestampNanos, TimestampUtc, TimestampUtcNanos};
        for (fraction, micros, nanos) in [
            (".123456", true, true),
            (".123456000", true, true),
            (".1234567", false, true),
            (".000000001", false, true),
            (".123456789000", false, true),
            (".1234567891", false, false),
        ] {
            for (column, zone, taken) in [
                (Timestamp, "", micros),
                (TimestampNanos, "", nanos),
                (TimestampUtc, "Z", micros),
                (TimestampUtc, "+02:00", micros),
                (TimestampUtcNanos, "", nanos),
                (TimestampUtcNanos, "+02:00", nanos),
            ] {
                let text = format!("2024-01-01 12:00:00{fraction}{zone}");
                assert_eq!(column.take(Value::Text(&text)).is_some(), taken, "{column:?} {text}");
            }
        }
    }

    #[test]
    fn days_count_from_1970() {
        assert_eq!(days("1970-01-01"), Some(0));
        assert_eq!(days("1969-12-31"), Some(-1));
        assert_eq!(days("2024-02-30"), None);
    }

    #[test]
    fn moments_are_read_in_their_zone() {
        let noon = moment("2024-01-01T12:00:00Z").unwrap();
        assert_eq!(moment("2024-01-01 14:00:00+02:00"), Some(noon));
        assert_eq!(moment("2024-01-01 12:00"), Some(noon));
        assert_eq!(wall_clock("2024-01-01T12:00:00Z"), None);
    }
}
