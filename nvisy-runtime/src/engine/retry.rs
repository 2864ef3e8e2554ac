//! When a call that failed is tried again: a plain schedule.

use std::time::Duration;

use nvisy_core::{Error, ErrorKind, RetryClass};

use super::rate_limit::LONGEST_ASKED;
use crate::graph::policy::{Backoff, Retry};

/// Returns how long to wait before the attempt after `attempt` (from one), or none if there
/// is to be none. `draw` is a number in `[0, 1)`: the jitter.
pub(super) fn wait(retry: &Retry, error: &Error, attempt: u32, draw: f64) -> Option<Duration> {
    if attempt >= retry.max_attempts.get() || !may_retry(retry, error) {
        return None;
    }
    let scheduled = match retry.backoff {
        Backoff::Fixed => retry.initial,
        Backoff::Exponential => {
            let doubled = retry.initial.checked_mul(1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX));
            doubled.unwrap_or(retry.max)
        }
    };
    let scheduled = scheduled.min(retry.max);
    let scheduled = if retry.jitter { scheduled.mul_f64(draw.clamp(0.0, 1.0)) } else { scheduled };
    // What the other side asks for wins over the schedule, within reason.
    Some(error.retry_after().map_or(scheduled, |asked| asked.min(LONGEST_ASKED)))
}

/// Returns whether an error of this kind is tried again at all.
pub(super) fn may_retry(retry: &Retry, error: &Error) -> bool {
    if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::TooLarge) {
        return false;
    }
    match &retry.on {
        Some(kinds) => kinds.contains(&error.kind()) && error.retry_class() != RetryClass::Exhausted,
        None => error.retry_class() == RetryClass::Transient,
    }
}

/// How many retries a connection may make: a fifth of its calls, and ten a second, so that a
/// sick service is not stormed. A plain value; time is given.
#[derive(Debug)]
pub(super) struct RetryBudget {
    tokens: f64,
    at: Duration,
}

impl RetryBudget {
    const SHARE: f64 = 0.2;
    const PER_SECOND: f64 = 10.0;
    const MOST: f64 = 100.0;

    pub(super) fn new() -> Self {
        Self { tokens: Self::PER_SECOND, at: Duration::ZERO }
    }

    /// A call is made: a part of a retry is earned.
    pub(super) fn earn(&mut self) {
        self.tokens = (self.tokens + Self::SHARE).min(Self::MOST);
    }

    /// Takes a retry, and returns how long to wait for it.
    pub(super) fn take(&mut self, now: Duration) -> Duration {
        let elapsed = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + elapsed * Self::PER_SECOND).min(Self::MOST);
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(-self.tokens / Self::PER_SECOND)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transient() -> Error {
        Error::new(ErrorKind::Connection, "gone")
    }

    fn waits(retry: &Retry, error: &Error) -> Vec<Option<u64>> {
        (1..=5).map(|attempt| wait(retry, error, attempt, 0.5).map(|d| d.as_millis() as u64)).collect()
    }

    #[test]
    fn waits_double_up_to_the_longest_and_end_with_the_attempts() {
        let retry = Retry::exponential(5).max(Duration::from_millis(500)).without_jitter();
        assert_eq!(waits(&retry, &transient()), [Some(200), Some(400), Some(500), Some(500), None]);
    }

    #[test]
    fn a_fixed_wait_stays_and_jitter_draws_from_nothing_to_all_of_it() {
        let fixed = Retry::fixed(3, Duration::from_millis(70));
        assert_eq!(waits(&fixed, &transient()), [Some(70), Some(70), None, None, None]);
        assert_eq!(waits(&Retry::exponential(3), &transient())[..2], [Some(100), Some(200)]);
    }

    #[test]
    fn what_the_other_side_asks_for_wins() {
        let error = transient().with_retry_after(Duration::from_secs(90));
        assert_eq!(wait(&Retry::default(), &error, 1, 0.5), Some(Duration::from_secs(90)));
        let error = transient().with_retry_after(Duration::MAX);
        assert_eq!(wait(&Retry::default(), &error, 1, 0.5), Some(LONGEST_ASKED));
    }

    #[test]
    fn only_what_is_allowed_is_tried_again() {
        let permanent = Error::new(ErrorKind::Validation, "bad");
        assert_eq!(wait(&Retry::default(), &permanent, 1, 0.5), None);
        let only = Retry::default().on([ErrorKind::RateLimited]);
        assert_eq!(wait(&only, &transient(), 1, 0.5), None);
        assert!(wait(&only, &Error::new(ErrorKind::RateLimited, "slow"), 1, 0.5).is_some());
        let also = Retry::default().on([ErrorKind::Validation]);
        assert!(wait(&also, &permanent, 1, 0.5).is_some());
    }

    #[test]
    fn a_budget_lets_ten_retries_a_second_through() {
        let mut budget = RetryBudget::new();
        let now = Duration::from_secs(1);
        budget.take(now);
        let waits: Vec<_> = (0..30).map(|_| budget.take(now)).collect();
        assert!(waits[5].is_zero());
        assert!(waits[29] >= Duration::from_secs(1), "{:?}", waits[29]);
    }
}
