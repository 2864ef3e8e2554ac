//! Regular expressions: in linear time, and of a bounded size.

use regex::{Error, Regex, RegexBuilder};

use crate::allowance;

/// The largest program of a pattern, in bytes.
const MAX_SIZE: usize = 1 << 20;
/// What the patterns of a stranger are tried with first, so that small ones count for little.
const SMALL_SIZE: usize = 64 << 10;

/// Compiles a pattern.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    if allowance::is_of_a_stranger() {
        match within(pattern, SMALL_SIZE) {
            Err(Refused::TooLarge(_)) => allowance::return_patterns(1, SMALL_SIZE),
            other => return other.map_err(Refused::message),
        }
    }
    within(pattern, MAX_SIZE).map_err(Refused::message)
}

enum Refused {
    TooLarge(Error),
    Other(String),
}

impl Refused {
    fn message(self) -> String {
        match self {
            Self::TooLarge(error) => said(&error),
            Self::Other(message) => message,
        }
    }
}

fn said(error: &Error) -> String {
    let error = error.to_string();
    let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
    format!("the pattern is no regular expression: {reason}")
}

fn within(pattern: &str, size: usize) -> Result<Regex, Refused> {
    allowance::take_patterns(1, size).map_err(|exhausted| Refused::Other(exhausted.to_string()))?;
    RegexBuilder::new(pattern).size_limit(size).build().map_err(|error| match error {
        Error::CompiledTooBig(_) => Refused::TooLarge(error),
        other => Refused::Other(said(&other)),
    })
}
