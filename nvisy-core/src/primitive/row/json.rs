//! A cell as plain JSON: what people see in a JSON lines file.

use arrow::array::Array;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::format::SecondsFormat;
use chrono::{DateTime, FixedOffset, NaiveTime};
use serde_json::{Map, Value};

use super::super::cell::{Cell, TimeUnit, cell_at};

/// Returns the value of an array at `index` as plain JSON: see [`Cell::to_json`].
#[must_use]
pub fn json_at(array: &dyn Array, index: usize) -> Value {
    cell_at(array, index).to_json()
}

/// Returns what a value is, for messages, which tell nothing of what it says.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "this number",
        Value::String(_) => "this text",
        Value::Array(_) => "this array",
        Value::Object(_) => "this object",
    }
}

impl Cell<'_> {
    /// Returns the value as plain JSON.
    ///
    /// Dates and times are ISO 8601 (a timestamp with a named zone is shown in UTC), bytes
    /// base64, decimals text, so that no digit is lost. What JSON has no number for (not a
    /// number, infinite) is null.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match *self {
            Self::Null => Value::Null,
            Self::Bool(value) => value.into(),
            Self::Int(value) => value.into(),
            Self::UInt(value) => value.into(),
            // The shortest digits that tell the number, as of one of 32 bits.
            Self::Float32(value) => value.to_string().parse::<f64>().map_or(Value::Null, Value::from),
            Self::Float(value) => value.into(),
            Self::Decimal(value) => value.to_string().into(),
            Self::Text(value) => value.into(),
            Self::Bytes(value) => STANDARD.encode(value).into(),
            Self::Date(days) => self.as_date().map_or_else(|| days.into(), |date| date.to_string().into()),
            Self::Time { ticks, unit } => time_text(ticks, unit).map_or_else(|| ticks.into(), Value::from),
            Self::Timestamp { ticks, zone, .. } => {
                self.timestamp_text(zone).map_or_else(|| ticks.into(), Value::from)
            }
            Self::Duration { ticks, unit } => iso_duration(0, 0, nanoseconds(ticks, unit)).into(),
            Self::Interval { months, days, nanoseconds } => {
                iso_duration(months, days, nanoseconds.into()).into()
            }
            Self::List(list) => list.iter().map(|cell| cell.to_json()).collect(),
            Self::Map(map) => {
                let key = |cell: Cell<'_>| match cell.to_json() {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                Value::Object(map.iter().map(|(k, v)| (key(k), v.to_json())).collect())
            }
            Self::Struct(fields) => {
                Value::Object(fields.iter().map(|(k, v)| (k.to_owned(), v.to_json())).collect::<Map<_, _>>())
            }
        }
    }

    fn timestamp_text(&self, zone: Option<&str>) -> Option<String> {
        let moment = self.as_timestamp()?;
        Some(match zone {
            None => moment.naive_utc().format("%Y-%m-%dT%H:%M:%S%.f").to_string(),
            Some(zone) => match offset(zone) {
                Some(offset) => moment.with_timezone(&offset).to_rfc3339_opts(SecondsFormat::AutoSi, true),
                None => moment.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            },
        })
    }
}

fn offset(zone: &str) -> Option<FixedOffset> {
    let moment = DateTime::parse_from_rfc3339(&format!("1970-01-01T00:00:00{zone}")).ok()?;
    Some(*moment.offset())
}

fn nanoseconds(ticks: i64, unit: TimeUnit) -> i128 {
    i128::from(ticks)
        * match unit {
            TimeUnit::Second => 1_000_000_000,
            TimeUnit::Millisecond => 1_000_000,
            TimeUnit::Microsecond => 1_000,
            TimeUnit::Nanosecond => 1,
        }
}

fn time_text(ticks: i64, unit: TimeUnit) -> Option<String> {
    let nanoseconds = nanoseconds(ticks, unit);
    let seconds = u32::try_from(nanoseconds / 1_000_000_000).ok()?;
    let rest = u32::try_from(nanoseconds % 1_000_000_000).ok()?;
    Some(NaiveTime::from_num_seconds_from_midnight_opt(seconds, rest)?.format("%H:%M:%S%.f").to_string())
}

fn iso_duration(months: i32, days: i32, nanoseconds: i128) -> String {
    let mut text = String::from("P");
    if months != 0 {
        text += &format!("{months}M");
    }
    if days != 0 {
        text += &format!("{days}D");
    }
    if nanoseconds != 0 || text.len() == 1 {
        let sign = if nanoseconds < 0 { "-" } else { "" };
        let (seconds, rest) = (nanoseconds.abs() / 1_000_000_000, nanoseconds.abs() % 1_000_000_000);
        let digits = format!("{rest:09}");
        let digits = digits.trim_end_matches('0');
        let point = if digits.is_empty() { "" } else { "." };
        text += &format!("T{sign}{seconds}{point}{digits}S");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cell: &Cell<'_>, text: &str) {
        assert_eq!(cell.to_json().to_string(), text);
    }

    #[test]
    fn times_are_written_as_people_write_them() {
        let (ticks, unit) = (1_700_000_000_123, TimeUnit::Millisecond);
        check(&Cell::Timestamp { ticks, unit, zone: None }, r#""2023-11-14T22:13:20.123""#);
        check(&Cell::Timestamp { ticks, unit, zone: Some("UTC") }, r#""2023-11-14T22:13:20.123Z""#);
        check(&Cell::Timestamp { ticks, unit, zone: Some("+02:00") }, r#""2023-11-15T00:13:20.123+02:00""#);
        check(&Cell::Date(19_000), r#""2022-01-08""#);
        check(&Cell::Time { ticks: 3_661, unit: TimeUnit::Second }, r#""01:01:01""#);
        check(&Cell::Duration { ticks: -1_500, unit: TimeUnit::Millisecond }, r#""PT-1.5S""#);
        check(&Cell::Interval { months: 14, days: -3, nanoseconds: 0 }, r#""P14M-3D""#);
    }

    #[test]
    fn numbers_keep_their_shortest_digits() {
        check(&Cell::Float32(0.1), "0.1");
        check(&Cell::Float(f64::NAN), "null");
        check(&Cell::UInt(u64::MAX), "18446744073709551615");
    }
}
