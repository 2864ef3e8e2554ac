//! What a service says is left of its limits.

use std::time::Duration;

use nvisy_core::observability::RateHint;
use reqwest::header::HeaderMap;

/// Reads the `x-ratelimit-*` headers, if there is one.
pub(crate) fn hint(headers: &HeaderMap) -> Option<RateHint> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse().ok();
    let requests = number("x-ratelimit-remaining-requests");
    let tokens = number("x-ratelimit-remaining-tokens");
    let reset = reset(headers);
    (requests.is_some() || tokens.is_some()).then_some(RateHint { requests, tokens, reset })
}

/// Returns when the limits are whole again: the later of both.
pub(crate) fn reset(headers: &HeaderMap) -> Option<Duration> {
    let names = ["x-ratelimit-reset-requests", "x-ratelimit-reset-tokens"];
    names.iter().filter_map(|name| duration(headers.get(*name)?.to_str().ok()?)).max()
}

/// Reads a duration such as `6m0s`, `1.5s` or `20ms`, or a number of seconds.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let mut sum = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let seconds = match unit {
            "d" => 86_400.0,
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let part = number.parse::<f64>().ok()? * seconds;
        sum = sum.checked_add(Duration::try_from_secs_f64(part).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_come_in_several_units() {
        assert_eq!(duration("6m0s"), Some(Duration::from_secs(360)));
        assert_eq!(duration("1h2m3.5s"), Some(Duration::from_millis(3_723_500)));
        assert_eq!(duration("20ms"), Some(Duration::from_millis(20)));
        assert_eq!(duration("7"), Some(Duration::from_secs(7)));
        for wrong in ["", "soon", "1x", "s", "..s", "-1s", "1e999s", "99999999999999999999999s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_later_reset_counts() {
        let mut headers = HeaderMap::new();
        assert_eq!(hint(&headers), None);
        for (name, value) in [
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let expected =
            RateHint { requests: Some(59), tokens: Some(149_984), reset: Some(Duration::from_secs(360)) };
        assert_eq!(hint(&headers), Some(expected));
    }
}
