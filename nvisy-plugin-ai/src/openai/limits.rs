//! What a service says is left of its limits.

use std::time::Duration;

use nvisy_core::observability::{RateHint, RateLeft};
use reqwest::header::HeaderMap;

/// Reads the `x-ratelimit-*` headers, if there is one that counts.
pub(crate) fn hint(headers: &HeaderMap) -> Option<RateHint> {
    let left = |what: &str| {
        let count = text(headers, &format!("x-ratelimit-remaining-{what}"))?.trim().parse().ok()?;
        Some(RateLeft { count, reset: reset_of(headers, what) })
    };
    let (requests, tokens) = (left("requests"), left("tokens"));
    (requests.is_some() || tokens.is_some()).then_some(RateHint { requests, tokens })
}

/// Returns when what a refused call lacked is there again: requests, where none is left; else
/// tokens, of which there may be too few though some are left.
pub(crate) fn reset(headers: &HeaderMap) -> Option<Duration> {
    let RateHint { requests, tokens } = hint(headers).unwrap_or_default();
    let used_up = [requests, tokens].into_iter().flatten().filter(|left| left.count == 0);
    let uncounted = || if requests.is_none() { reset_of(headers, "requests") } else { None };
    used_up.filter_map(|left| left.reset).max().or_else(|| reset_of(headers, "tokens")).or_else(uncounted)
}

fn reset_of(headers: &HeaderMap, what: &str) -> Option<Duration> {
    duration(text(headers, &format!("x-ratelimit-reset-{what}"))?)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
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
    use reqwest::header::{HeaderName, HeaderValue};

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

    /// The headers of an answer, by what of their names tells them apart.
    fn headers(of: &[(&str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&str, &str)| {
            (format!("x-ratelimit-{name}").parse().unwrap(), value.parse().unwrap())
        };
        of.iter().map(header).collect::<Vec<(HeaderName, HeaderValue)>>().into_iter().collect()
    }

    #[test]
    fn each_limit_has_its_own_reset() {
        assert_eq!(hint(&HeaderMap::new()), None);
        let headers = headers(&[
            ("remaining-requests", "0"),
            ("remaining-tokens", "149984"),
            ("reset-requests", "1s"),
            ("reset-tokens", "6m0s"),
        ]);
        let left = |count, seconds| Some(RateLeft { count, reset: Some(Duration::from_secs(seconds)) });
        assert_eq!(hint(&headers), Some(RateHint { requests: left(0, 1), tokens: left(149_984, 360) }));
    }

    #[test]
    fn a_refused_call_waits_for_what_it_lacked() {
        let resets = [("reset-requests", "1s"), ("reset-tokens", "6m0s")];
        let check = |counts: &[(&str, &str)], seconds| {
            let all: Vec<_> = counts.iter().chain(&resets).copied().collect();
            assert_eq!(reset(&headers(&all)), Some(Duration::from_secs(seconds)), "{counts:?}");
        };
        check(&[("remaining-requests", "0"), ("remaining-tokens", "9")], 1);
        check(&[("remaining-requests", "9"), ("remaining-tokens", "0")], 360);
        check(&[("remaining-requests", "0"), ("remaining-tokens", "0")], 360);
        check(&[("remaining-requests", "9"), ("remaining-tokens", "9")], 360);
        check(&[], 360);
        assert_eq!(reset(&headers(&resets[..1])), Some(Duration::from_secs(1)));
        assert_eq!(reset(&HeaderMap::new()), None);
    }
}
