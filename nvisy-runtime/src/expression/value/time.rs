//! Moments and durations as texts.

use chrono::TimeDelta;
use nvisy_core::metadata::Timestamp;
use nvisy_core::primitive::row::TimeUnit;

pub(super) fn duration(ticks: i64, unit: TimeUnit) -> Option<TimeDelta> {
    match unit {
        TimeUnit::Second => TimeDelta::try_seconds(ticks),
        TimeUnit::Millisecond => TimeDelta::try_milliseconds(ticks),
        TimeUnit::Microsecond => Some(TimeDelta::microseconds(ticks)),
        TimeUnit::Nanosecond => Some(TimeDelta::nanoseconds(ticks)),
    }
}

/// Writes a moment as RFC 3339, with as many digits as it has.
pub(in crate::expression) fn timestamp_text(timestamp: &Timestamp) -> String {
    timestamp.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// Writes a duration in seconds, as CEL does: `5400s`, `-1.5s`.
pub(in crate::expression) fn duration_text(duration: &TimeDelta) -> String {
    let sign = if *duration < TimeDelta::zero() { "-" } else { "" };
    let (seconds, rest) = (duration.num_seconds().unsigned_abs(), duration.subsec_nanos().unsigned_abs());
    let digits = format!("{rest:09}");
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    format!("{sign}{seconds}{point}{digits}s")
}

/// Reads a duration as CEL does: `1h30m`, `-1.5s`, with `h`, `m`, `s`, `ms`, `us` and `ns`.
pub(in crate::expression) fn parse_duration(text: &str) -> Option<TimeDelta> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    if rest == "0" {
        return Some(TimeDelta::zero());
    }
    let mut nanoseconds: i128 = 0;
    if rest.is_empty() || rest.len() > 64 {
        return None;
    }
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|len| *len > 0)?;
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let unit: i128 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() > 18
            || fraction.len() > 12
            || fraction.contains('.')
            || (whole.is_empty() && fraction.is_empty())
        {
            return None;
        }
        let parse = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
        let scale = 10_i128.pow(fraction.len() as u32);
        nanoseconds += parse(whole)? * unit + parse(fraction)? * unit / scale;
        rest = after;
    }
    i64::try_from(sign * nanoseconds).ok().map(TimeDelta::nanoseconds)
}
