//! Conversions from type to type.

use super::Cause;
use super::arithmetic::as_double;
use crate::expression::functions::Function;
use crate::expression::value::{Octets, Text, Val, duration_text, parse_duration, timestamp_text};

/// What a function that is named for a type makes of a value.
pub(super) fn convert<'a>(function: Function, value: &Val<'a>) -> Result<Val<'a>, Cause> {
    use Function as F;
    let found = |text: &str| Cause::Convert(function, value.type_of(), crate::expression::shown(text).into());
    let refused = || match value {
        Val::Text(text) => found(&format!("{:?}", &**text)),
        Val::Int(value) => found(&value.to_string()),
        Val::UInt(value) => found(&value.to_string()),
        Val::Double(value) => found(&value.to_string()),
        other => found(other.type_of().name()),
    };
    // The bounds are exact as doubles; 2^63 and 2^64 themselves are past the end.
    let within = |double: f64, low: f64, high: f64| double > low && double < high;
    let converted = match (function, value) {
        (F::Int, Val::Int(_)) | (F::UInt, Val::UInt(_)) | (F::Double, Val::Double(_)) => Some(value.clone()),
        (F::String, Val::Text(_)) | (F::Bool, Val::Bool(_)) | (F::Bytes, Val::Bytes(_)) => {
            Some(value.clone())
        }
        (F::Timestamp, Val::Timestamp(_)) | (F::Duration, Val::Duration(_)) => Some(value.clone()),
        (F::Int, Val::UInt(value)) => i64::try_from(*value).ok().map(Val::Int),
        (F::Int, Val::Double(value)) => {
            within(*value, -9_223_372_036_854_775_808.0, 9_223_372_036_854_775_808.0)
                .then_some(Val::Int(*value as i64))
        }
        (F::Int, Val::Text(text)) => text.parse().ok().map(Val::Int),
        (F::Int, Val::Timestamp(value)) => Some(Val::Int(value.timestamp())),
        (F::UInt, Val::Int(value)) => u64::try_from(*value).ok().map(Val::UInt),
        (F::UInt, Val::Double(value)) => {
            within(*value, -1.0, 18_446_744_073_709_551_616.0).then_some(Val::UInt(*value as u64))
        }
        (F::UInt, Val::Text(text)) => text.parse().ok().map(Val::UInt),
        (F::Double, Val::Text(text)) => text.parse().ok().map(Val::Double),
        (F::Double, value) => as_double(value).map(Val::Double),
        (F::String, Val::Int(value)) => Some(Val::text(value.to_string())),
        (F::String, Val::UInt(value)) => Some(Val::text(value.to_string())),
        (F::String, Val::Double(value)) => Some(Val::text(value.to_string())),
        (F::String, Val::Bool(value)) => Some(Val::of_text(if *value { "true" } else { "false" })),
        (F::String, Val::Bytes(bytes)) => std::str::from_utf8(bytes).ok().map(Val::text),
        (F::String, Val::Timestamp(value)) => Some(Val::text(timestamp_text(value))),
        (F::String, Val::Duration(value)) => Some(Val::text(duration_text(value))),
        (F::Bool, Val::Text(text)) => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Some(Val::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Some(Val::Bool(false)),
            _ => None,
        },
        (F::Bytes, Val::Text(text)) => Some(match text {
            Text::Ref(text) => Val::Bytes(Octets::Ref(text.as_bytes())),
            Text::Own(text) => Val::Bytes(Octets::Own(text.as_bytes().into())),
        }),
        (F::Timestamp, Val::Text(text)) => {
            chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| Val::Timestamp(time.to_utc()))
        }
        (F::Timestamp, Val::Int(value)) => chrono::DateTime::from_timestamp(*value, 0).map(Val::Timestamp),
        (F::Duration, Val::Text(text)) => parse_duration(text).map(Val::Duration),
        _ => None,
    };
    converted.ok_or_else(refused)
}
