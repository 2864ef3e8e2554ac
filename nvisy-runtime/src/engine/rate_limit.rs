//! How often a connection is called: token buckets, as plain values; time is given.

use std::time::Duration;

use nvisy_core::config::duration::LONGEST;
use nvisy_core::observability::RateHint;

use crate::graph::policy::RateLimit;

/// The longest that a call waits because another system says so, before it asks again.
pub(super) const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);

/// The limits of one connection or node.
#[derive(Debug)]
pub(super) struct RateLimiter {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    blocked_until: Duration,
}

/// A level that refills with time, a second's worth at the most. It may go into debt, so that
/// a call larger than it is delayed, not split.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    burst: f64,
    level: f64,
    at: Duration,
}

impl Bucket {
    fn per_minute(amount: u64) -> Self {
        let per_second = amount as f64 / 60.0;
        let burst = per_second.max(1.0);
        Self { per_second, burst, level: burst, at: Duration::ZERO }
    }

    fn refill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.level = (self.level + elapsed * self.per_second).min(self.burst);
    }

    /// How long until `amount` may go.
    fn wait(&mut self, amount: f64, now: Duration) -> Duration {
        self.refill(now);
        let missing = amount.min(self.burst) - self.level;
        if missing <= f64::EPSILON {
            Duration::ZERO
        } else {
            Duration::try_from_secs_f64(missing / self.per_second).unwrap_or(LONGEST)
        }
    }

    fn take(&mut self, amount: f64) {
        self.level -= amount;
    }
}

impl RateLimiter {
    pub(super) fn new(limit: Option<RateLimit>) -> Self {
        let limit = limit.unwrap_or_default();
        Self {
            requests: limit.requests_per_minute.map(|n| Bucket::per_minute(n.get())),
            tokens: limit.tokens_per_minute.map(|n| Bucket::per_minute(n.get())),
            blocked_until: Duration::ZERO,
        }
    }

    /// Takes one request of `tokens` model tokens if it may go now; else says how long to wait
    /// before asking again.
    pub(super) fn take(&mut self, tokens: u64, now: Duration) -> Result<(), Duration> {
        let mut wait = self.blocked_until.saturating_sub(now);
        if let Some(bucket) = &mut self.requests {
            wait = wait.max(bucket.wait(1.0, now));
        }
        if let Some(bucket) = &mut self.tokens {
            wait = wait.max(bucket.wait(tokens as f64, now));
        }
        if !wait.is_zero() {
            return Err(wait);
        }
        if let Some(bucket) = &mut self.requests {
            bucket.take(1.0);
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.take(tokens as f64);
        }
        Ok(())
    }

    /// Obeys what the other side says is left.
    pub(super) fn hint(&mut self, hint: RateHint, now: Duration) {
        let used_up = [hint.requests, hint.tokens].into_iter().flatten().filter(|left| left.count == 0);
        if let Some(reset) = used_up.filter_map(|left| left.reset).max() {
            self.blocked_until = self.blocked_until.max(now + reset.min(LONGEST_ASKED));
        }
    }
}

/// Opens when a connection fails half of its last calls, so that a sick service gets rest.
#[derive(Debug)]
pub(super) struct CircuitBreaker {
    last: std::collections::VecDeque<bool>,
    state: BreakerState,
    rest: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum BreakerState {
    Closed,
    Open {
        until: Duration,
    },
    /// One call is on its way to find out.
    Probing,
}

impl CircuitBreaker {
    const WINDOW: usize = 20;
    const FIRST_REST: Duration = Duration::from_secs(1);
    const LONGEST_REST: Duration = Duration::from_secs(30);

    pub(super) fn new() -> Self {
        Self { last: [].into(), state: BreakerState::Closed, rest: Self::FIRST_REST }
    }

    /// Lets a call go now, and returns whether it is the probe; else says how long to wait
    /// before asking again.
    pub(super) fn admit(&mut self, now: Duration) -> Result<bool, Duration> {
        match self.state {
            BreakerState::Closed => Ok(false),
            BreakerState::Open { until } if now >= until => {
                self.state = BreakerState::Probing;
                Ok(true)
            }
            BreakerState::Open { until } => Err(until - now),
            BreakerState::Probing => Err(Self::FIRST_REST),
        }
    }

    /// A call ended. Only errors that speak of the service's health count as bad.
    pub(super) fn record(&mut self, ok: bool, is_probe: bool, now: Duration) {
        if is_probe {
            if ok {
                *self = Self::new();
            } else {
                self.rest = (self.rest * 2).min(Self::LONGEST_REST);
                self.state = BreakerState::Open { until: now + self.rest };
            }
            return;
        }
        if self.state != BreakerState::Closed {
            // It was on its way before the breaker opened, and tells nothing new.
            return;
        }
        self.last.push_back(ok);
        if self.last.len() > Self::WINDOW {
            self.last.pop_front();
        }
        let bad = self.last.iter().filter(|ok| !**ok).count();
        if self.last.len() == Self::WINDOW && bad * 2 >= Self::WINDOW {
            self.last.clear();
            self.state = BreakerState::Open { until: now + self.rest };
        }
    }

    /// A probe was dropped before it ended: the next call finds out.
    pub(super) fn forget_probe(&mut self, now: Duration) {
        if self.state == BreakerState::Probing {
            self.state = BreakerState::Open { until: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use nvisy_core::observability::RateLeft;

    use super::*;

    fn secs(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    /// How many calls of `tokens` go through in `seconds` if each waits as it is told.
    fn through(limiter: &mut RateLimiter, tokens: u64, seconds: f64) -> u64 {
        let (mut now, mut done) = (Duration::ZERO, 0);
        while now < secs(seconds) {
            match limiter.take(tokens, now) {
                Ok(()) => done += 1,
                Err(wait) => now += wait.max(Duration::from_micros(1)),
            }
        }
        done
    }

    #[test]
    fn a_minute_lets_its_requests_through_and_hardly_more() {
        let mut limiter = RateLimiter::new(Some(RateLimit::default().requests_per_minute(120)));
        let done = through(&mut limiter, 0, 60.0);
        assert!((118..=123).contains(&done), "{done}");
    }

    #[test]
    fn a_call_larger_than_the_bucket_is_delayed_and_not_split() {
        let mut limiter = RateLimiter::new(Some(RateLimit::default().tokens_per_minute(600)));
        assert_eq!(limiter.take(100, Duration::ZERO), Ok(()));
        let wait = limiter.take(100, Duration::ZERO).unwrap_err();
        assert!(wait >= secs(9.9), "{wait:?}");
        assert_eq!(
            through(&mut RateLimiter::new(Some(RateLimit::default().tokens_per_minute(600))), 100, 60.0),
            6
        );
    }

    #[test]
    fn what_the_other_side_says_is_obeyed() {
        let mut limiter = RateLimiter::new(None);
        let left = |count, reset| Some(RateLeft { count, reset: Some(reset) });
        let hint = RateHint { requests: left(0, secs(3.0)), tokens: left(9, secs(60.0)) };
        limiter.hint(hint, secs(1.0));
        assert_eq!(limiter.take(0, secs(2.0)), Err(secs(2.0)));
        assert_eq!(limiter.take(0, secs(4.0)), Ok(()));
    }

    #[test]
    fn what_the_other_side_says_is_obeyed_for_an_hour_at_the_most() {
        let mut limiter = RateLimiter::new(None);
        let never = RateLeft { count: 0, reset: Some(Duration::MAX) };
        limiter.hint(RateHint { requests: Some(never), tokens: None }, secs(1.0));
        assert_eq!(limiter.take(0, secs(1.0)), Err(LONGEST_ASKED));
    }

    #[test]
    fn no_weight_is_too_heavy_to_wait_for() {
        let mut limiter = RateLimiter::new(Some(RateLimit::default().tokens_per_minute(1)));
        assert_eq!(limiter.take(u64::MAX, Duration::ZERO), Ok(()));
        assert_eq!(limiter.take(1, Duration::ZERO), Err(LONGEST));
    }

    #[test]
    fn a_breaker_opens_on_half_failures_and_closes_after_a_good_probe() {
        let mut breaker = CircuitBreaker::new();
        for i in 0..20 {
            assert_eq!(breaker.admit(Duration::ZERO), Ok(false));
            breaker.record(i % 2 == 0, false, Duration::ZERO);
        }
        assert_eq!(breaker.admit(Duration::ZERO), Err(secs(1.0)));
        breaker.record(true, false, Duration::ZERO);
        assert_eq!(breaker.admit(secs(1.0)), Ok(true));
        assert!(breaker.admit(secs(1.0)).is_err(), "one probe at a time");
        breaker.record(true, false, secs(1.0));
        assert!(breaker.admit(secs(1.0)).is_err(), "only the probe's answer counts");
        breaker.record(false, true, secs(1.0));
        assert_eq!(breaker.admit(secs(1.0)), Err(secs(2.0)));
        assert_eq!(breaker.admit(secs(3.0)), Ok(true));
        breaker.forget_probe(secs(3.0));
        assert_eq!(breaker.admit(secs(3.0)), Ok(true), "another call finds out");
        breaker.record(true, true, secs(3.0));
        assert_eq!(breaker.admit(secs(3.0)), Ok(false));
    }
}
