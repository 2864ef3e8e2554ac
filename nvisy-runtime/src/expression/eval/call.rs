//! The functions, on values.

use chrono::{Datelike, Timelike};

use super::Cause;
use super::convert::convert;
use crate::expression::MAX_COST;
use crate::expression::functions::Function;
use crate::expression::value::{List, Val};

/// What a function makes of its arguments.
pub(super) fn call<'a>(function: Function, values: &[Val<'a>]) -> Result<Val<'a>, Cause> {
    use Function as F;
    let value = &values[0];
    for (index, value) in values.iter().enumerate() {
        if !function.takes(index, value.type_of()) {
            return Err(Cause::Argument(function, value.type_of()));
        }
    }
    let texts = || -> Option<(&str, &str, &str)> {
        let text = |index: usize| match values.get(index) {
            Some(Val::Text(text)) => Some(&**text),
            None => Some(""),
            Some(_) => None,
        };
        Some((text(0)?, text(1)?, text(2)?))
    };
    let refused = || Cause::Argument(function, value.type_of());
    Ok(match function {
        F::Size => Val::Int(size(value).ok_or_else(refused)?),
        F::StartsWith => {
            let (text, part, _) = texts().ok_or_else(refused)?;
            Val::Bool(text.starts_with(part))
        }
        F::EndsWith => {
            let (text, part, _) = texts().ok_or_else(refused)?;
            Val::Bool(text.ends_with(part))
        }
        F::Contains => {
            let (text, part, _) = texts().ok_or_else(refused)?;
            Val::Bool(text.contains(part))
        }
        // Read as a node of its own.
        F::Matches => return Err(refused()),
        F::Int | F::UInt | F::Double | F::String | F::Bool | F::Bytes | F::Timestamp | F::Duration => {
            convert(function, value)?
        }
        F::LowerAscii => Val::text(texts().ok_or_else(refused)?.0.to_ascii_lowercase()),
        F::UpperAscii => Val::text(texts().ok_or_else(refused)?.0.to_ascii_uppercase()),
        F::Trim => Val::text(texts().ok_or_else(refused)?.0.trim()),
        F::Replace => {
            let (text, old, new) = texts().ok_or_else(refused)?;
            let most = (text.len() as u64 + 1).saturating_mul(new.len() as u64 + 1);
            if most / 32 > MAX_COST {
                return Err(Cause::Cost);
            }
            Val::text(text.replace(old, new))
        }
        F::Split => {
            let (text, separator, _) = texts().ok_or_else(refused)?;
            let most = MAX_COST as usize;
            let parts: Vec<_> = if separator.is_empty() {
                text.chars().take(most + 1).map(|c| Val::text(c.to_string())).collect()
            } else {
                text.split(separator).take(most + 1).map(Val::text).collect()
            };
            if parts.len() > most {
                return Err(Cause::Cost);
            }
            Val::List(List::Own(parts.into()))
        }
        F::Substring => {
            let Val::Text(text) = value else { return Err(refused()) };
            let bound = |index: usize| match values.get(index) {
                Some(Val::Int(at)) => Some(*at),
                _ => None,
            };
            let len = text.chars().count() as i64;
            let (start, end) = (bound(1).unwrap_or(0), bound(2).unwrap_or(len));
            if start < 0 || end > len || start > end {
                let at = if start < 0 || start > len { start } else { end };
                return Err(Cause::OutOfBounds(at, len as usize));
            }
            Val::text(text.chars().skip(start as usize).take((end - start) as usize).collect::<String>())
        }
        F::Join => {
            let (Val::List(list), separator) = (value, values.get(1)) else { return Err(refused()) };
            let separator = match separator {
                Some(Val::Text(separator)) => &**separator,
                _ => "",
            };
            let mut joined = String::new();
            for (index, item) in list.iter().enumerate() {
                let Val::Text(item) = item else { return Err(Cause::Argument(function, item.type_of())) };
                if (joined.len() + separator.len() + item.len()) as u64 / 32 > MAX_COST {
                    return Err(Cause::Cost);
                }
                if index > 0 {
                    joined += separator;
                }
                joined += &item;
            }
            Val::text(joined)
        }
        F::IndexOf => {
            let (text, part, _) = texts().ok_or_else(refused)?;
            Val::Int(text.find(part).map_or(-1, |at| text[..at].chars().count() as i64))
        }
        _ => Val::Int(part_of_time(function, value).ok_or_else(refused)?),
    })
}

/// How long a text (in characters), bytes, a list or a map is.
fn size(value: &Val<'_>) -> Option<i64> {
    let size = match value {
        Val::Text(text) => text.chars().count(),
        Val::Bytes(bytes) => bytes.len(),
        Val::List(list) => list.len(),
        Val::Map(map) => map.len(),
        _ => return None,
    };
    Some(size as i64)
}

fn part_of_time(function: Function, value: &Val<'_>) -> Option<i64> {
    use Function as F;
    Some(match value {
        Val::Timestamp(time) => match function {
            F::FullYear => time.year().into(),
            F::Month => time.month0().into(),
            F::Date => time.day().into(),
            F::DayOfMonth => time.day0().into(),
            F::DayOfWeek => time.weekday().num_days_from_sunday().into(),
            F::DayOfYear => time.ordinal0().into(),
            F::Hours => time.hour().into(),
            F::Minutes => time.minute().into(),
            F::Seconds => time.second().into(),
            F::Milliseconds => time.timestamp_subsec_millis().into(),
            _ => return None,
        },
        Val::Duration(duration) => match function {
            F::Hours => duration.num_hours(),
            F::Minutes => duration.num_minutes(),
            F::Seconds => duration.num_seconds(),
            F::Milliseconds => duration.num_milliseconds(),
            _ => return None,
        },
        _ => return None,
    })
}
