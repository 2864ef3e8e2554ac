//! Windows of event time, and the watermark that closes them.

use std::time::Duration;

use chrono::DateTime;
use nvisy_core::config::{Problem, duration};
use nvisy_core::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::expression::{Expression, Value};

/// Windows of the time at which things happened.
///
/// They begin at multiples of `every` since 1970 in UTC, and are `size` long: they tumble where
/// both are the same, and slide where `every` is shorter. What closes them is the *watermark*, the
/// greatest time seen so far less `lateness`: a window is closed, and comes out, when the watermark
/// has reached its end. An item that belongs to closed windows alone is late.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// When an item happened: an expression that gives a moment. An item without one fails.
    pub time: String,
    /// How long a window is, such as `"1h"`.
    #[serde(with = "duration")]
    #[schemars(with = "String")]
    pub size: Duration,
    /// How far the beginnings of two windows are apart. Default the size.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::option")]
    #[schemars(with = "Option<String>")]
    pub every: Option<Duration>,
    /// How much later than others an item may come. Default no time at all.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::option")]
    #[schemars(with = "Option<String>")]
    pub lateness: Option<Duration>,
    /// What becomes of items that are late. Default they fail.
    #[serde(default, skip_serializing_if = "Late::is_fail")]
    pub late: Late,
}

/// What becomes of items that are late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// They fail, and go where what fails goes.
    #[default]
    Fail,
    /// They are dropped, and count under the reason `late`.
    Drop,
}

impl Late {
    fn is_fail(&self) -> bool {
        *self == Self::Fail
    }
}

/// An item counts in so many windows at the most.
const MOST: u128 = 1_000;

impl Window {
    /// Windows of this size, one behind the other, of the moment that an expression gives.
    #[must_use]
    pub fn tumbling(time: impl Into<String>, size: Duration) -> Self {
        Self { time: time.into(), size, every: None, lateness: None, late: Late::Fail }
    }

    /// Windows of this size that begin `every` so often.
    #[must_use]
    pub fn sliding(time: impl Into<String>, size: Duration, every: Duration) -> Self {
        Self { every: Some(every), ..Self::tumbling(time, size) }
    }

    /// Sets how much later than others an item may come. Default no time at all.
    #[must_use]
    pub fn lateness(mut self, lateness: Duration) -> Self {
        self.lateness = Some(lateness);
        self
    }

    /// Drops items that are late. Default they fail.
    #[must_use]
    pub fn drop_late(mut self) -> Self {
        self.late = Late::Drop;
        self
    }

    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<_> =
            crate::actions::problem_of("window.time", Expression::compile(&self.time)).into_iter().collect();
        let every = self.every.unwrap_or(self.size);
        for (path, length) in [("window.size", self.size), ("window.every", every)] {
            if length < Duration::from_millis(1) || length.subsec_nanos() % 1_000 != 0 {
                problems.push(Problem::new(
                    path,
                    "is less than a millisecond, or no whole number of microseconds",
                ));
            } else if length > duration::LONGEST {
                problems.push(Problem::new(path, "is longer than ten years"));
            }
        }
        if self.lateness.is_some_and(|lateness| lateness > duration::LONGEST) {
            problems.push(Problem::new("window.lateness", "is longer than ten years"));
        }
        if every > self.size {
            let problem = Problem::new(
                "window.every",
                "is longer than `size`: what is between two windows would count nowhere",
            );
            problems.push(problem.with_help("make `size` as long as `every`, or `every` shorter"));
        } else if self.size.as_micros() > MOST * every.as_micros().max(1) {
            let problem = Problem::new(
                "window.every",
                format!("is so short that an item would count in more than {MOST} windows"),
            );
            problems.push(problem);
        }
        problems
    }

    pub(super) fn clock(&self) -> Clock {
        let micros = |length: Duration| i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
        Clock {
            size: micros(self.size),
            every: micros(self.every.unwrap_or(self.size)).max(1),
            lateness: micros(self.lateness.unwrap_or_default()),
            watermark: None,
        }
    }
}

/// How far event time has come, in microseconds.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    size: i64,
    every: i64,
    lateness: i64,
    pub(super) watermark: Option<i64>,
}

impl Clock {
    /// Gives the beginnings of the open windows that an item belongs to, the earliest first.
    /// None if it is late.
    pub(super) fn windows(&mut self, time: i64, starts: &mut Vec<i64>) {
        let seen = time.saturating_sub(self.lateness);
        self.watermark = Some(self.watermark.map_or(seen, |watermark| watermark.max(seen)));
        let last = time.div_euclid(self.every).saturating_mul(self.every);
        starts.clear();
        let mut start = last;
        while time.saturating_sub(start) < self.size && !self.is_closed(start) {
            starts.push(start);
            let Some(before) = start.checked_sub(self.every) else { break };
            start = before;
        }
        starts.reverse();
    }

    fn is_closed(&self, start: i64) -> bool {
        self.watermark.is_some_and(|watermark| start.saturating_add(self.size) <= watermark)
    }

    /// Returns the beginning of the first window that is open: all before it are closed.
    pub(super) fn first_open(&self) -> Option<i64> {
        Some(self.watermark?.saturating_sub(self.size).saturating_add(1))
    }

    pub(super) fn end(&self, start: i64) -> i64 {
        start.saturating_add(self.size)
    }
}

/// Returns the moment of an item in microseconds.
pub(super) fn moment(value: Result<Value>, expression: &Expression) -> Result<i64> {
    let what = match value? {
        Value::Timestamp(moment) => return Ok(moment.timestamp_micros()),
        Value::Null => "null",
        Value::Text(_) => "a text: write `timestamp(..)` around it",
        _ => "no moment in time",
    };
    let message = format!("the time of the item, `{expression}`, is {what}");
    Err(Error::new(ErrorKind::Validation, message))
}

/// Returns the error of an item that is late.
pub(super) fn late(time: i64, clock: &Clock) -> Error {
    let text = |micros| {
        DateTime::from_timestamp_micros(micros).map_or_else(|| micros.to_string(), |at| at.to_rfc3339())
    };
    let (time, mark) = (text(time), text(clock.watermark.unwrap_or_default()));
    let message =
        format!("late: it is of {time}, and the windows up to {mark} are closed: allow a greater `lateness`");
    Error::new(ErrorKind::Validation, message)
}

/// How a window stands at the beginning of a key.
pub(super) fn mark(start: i64) -> [u8; 8] {
    (start as u64 ^ 1 << 63).to_be_bytes()
}

/// Reads what [`mark`] has written.
pub(super) fn start_of(key: &[u8]) -> Option<i64> {
    let (mark, _) = key.split_first_chunk()?;
    Some((u64::from_be_bytes(*mark) ^ 1 << 63) as i64)
}
