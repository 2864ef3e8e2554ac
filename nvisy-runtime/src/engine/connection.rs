//! What the nodes of a connection share: its limits, its breaker, its retry budget.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nvisy_core::ErrorKind;
use nvisy_core::observability::{RateHint, field};
use tokio::time::Instant;

use super::rate_limit::{CircuitBreaker, RateLimiter};
use super::retry::RetryBudget;
use crate::graph::policy::RateLimit;

/// The shared state of one connection, for all its nodes and all runs of an engine.
#[derive(Debug)]
pub(super) struct ConnectionState {
    pub(super) name: Arc<str>,
    epoch: Instant,
    limits: Mutex<Limits>,
}

#[derive(Debug)]
struct Limits {
    rate: RateLimiter,
    breaker: CircuitBreaker,
    budget: RetryBudget,
}

impl ConnectionState {
    pub(super) fn new(name: Arc<str>, limit: Option<RateLimit>) -> Self {
        let limits = Limits {
            rate: RateLimiter::new(limit),
            breaker: CircuitBreaker::new(),
            budget: RetryBudget::new(),
        };
        Self { name, epoch: Instant::now(), limits: Mutex::new(limits) }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a request of `tokens` model tokens may go. Returns how long that took.
    pub(super) async fn wait_for_rate(&self, tokens: u64) -> Duration {
        let began = Instant::now();
        loop {
            let taken = self.limits().rate.take(tokens, self.now());
            match taken {
                Ok(()) => return began.elapsed(),
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    /// Waits until the breaker lets a call through. Returns whether the call is its probe.
    ///
    /// The wait is no attempt: nobody is called, and what waits has lost nothing by it.
    pub(super) async fn admit(&self) -> bool {
        loop {
            let admitted = self.limits().breaker.admit(self.now());
            match admitted {
                Ok(is_probe) => {
                    self.limits().budget.earn();
                    return is_probe;
                }
                Err(wait) => {
                    tracing::debug!({ field::CONNECTION } = %self.name, ?wait, "the connection fails too often and gets a rest");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// A call ended, with an error of this kind or none.
    pub(super) fn record(&self, error: Option<ErrorKind>, is_probe: bool) {
        let sick = matches!(error, Some(ErrorKind::Connection | ErrorKind::Timeout | ErrorKind::Ambiguous));
        self.limits().breaker.record(!sick, is_probe, self.now());
    }

    /// The breaker's probe was dropped before it ended.
    pub(super) fn forget(&self) {
        self.limits().breaker.forget_probe(self.now());
    }

    /// Takes a retry from the budget. Returns how long to wait for it.
    pub(super) fn take_retry(&self) -> Duration {
        self.limits().budget.take(self.now())
    }

    pub(super) fn hint(&self, hint: RateHint) {
        self.limits().rate.hint(hint, self.now());
    }
}
