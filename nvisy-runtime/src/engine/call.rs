//! One call of user code or of another system, with everything that the policies say about it.

mod batch;
mod part;
mod write;

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use nvisy_core::action::Calls;
use nvisy_core::observability::{field, span};
use nvisy_core::outcome::Breach;
use nvisy_core::{Context, Error, ErrorKind, Result, RetryClass};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::Instrument;

use self::part::Part;
pub(super) use self::part::{AdaptiveSize, Failure, Settled};
use super::connection::ConnectionState;
use super::ledger::NodeMeter;
use super::memo::Memo;
use super::retry;
use crate::graph::policy::Retry;

/// Makes the calls of one node.
pub(super) struct Caller {
    pub(super) meter: Arc<NodeMeter>,
    pub(super) context: Context,
    pub(super) calls: Calls,
    pub(super) retry: Retry,
    pub(super) timeout: Option<Duration>,
    /// The node's own permits, then the run's: held around one call only.
    pub(super) permits: [Arc<Semaphore>; 2],
    pub(super) connection: Option<Arc<ConnectionState>>,
    /// The node's own rate limit.
    pub(super) own_limit: Option<ConnectionState>,
    /// How many items a call may take: halved when one is refused as too large.
    pub(super) size: AdaptiveSize,
    /// What it is known that calls give.
    pub(super) memo: Option<Memo>,
}

/// What an attempt of a call is told apart by.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    number: u32,
    /// Model tokens that it weighs.
    tokens: u64,
    /// Whether it does harm to make the call again that was broken off.
    harms: bool,
}

impl Attempt {
    fn number(number: u32) -> Self {
        Self { number, tokens: 0, harms: false }
    }

    fn weighing(self, tokens: u64) -> Self {
        Self { tokens, ..self }
    }

    fn doing_harm_twice(self, harms: bool) -> Self {
        Self { harms, ..self }
    }
}

impl Caller {
    /// Makes one attempt of a call.
    async fn attempt<T, F>(&self, attempt: Attempt, call: impl FnOnce(Context) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let context = self.context.clone().with_attempt(attempt.number);
        if self.calls == Calls::None {
            return self.bounded(call(context)).await;
        }
        let admission = match &self.connection {
            None => None,
            Some(connection) => Some(Admission::ask(connection).await),
        };
        self.wait_for_rate(attempt.tokens).await;
        let asked = Instant::now();
        let [own, shared] = &self.permits;
        let closed = |_| Error::cancelled();
        let _own = own.acquire().await.map_err(closed)?;
        let _shared = shared.acquire().await.map_err(closed)?;
        self.meter.count_permit_wait(asked.elapsed());
        let began = Instant::now();
        let operation = context.operation().clone();
        let span = tracing::info_span!(
            span::CALL,
            otel.name = %operation,
            { field::NODE } = %context.node(),
            { field::CONNECTION } = admission.as_ref().map(|admission| &*admission.connection.name),
            { field::OPERATION } = %operation,
            { field::ATTEMPT } = attempt.number,
            { field::ERROR } = tracing::field::Empty
        );
        let result = match self.unbroken(call(context)).instrument(span.clone()).await {
            Ok(result) => result,
            Err(broken) if attempt.harms => {
                let message = format!("{}: nobody knows whether it was done", broken.message());
                Err(Error::new(ErrorKind::Ambiguous, message))
            }
            Err(broken) => Err(broken),
        };
        if let Err(error) = &result {
            span.record(field::ERROR, error.tag());
        }
        if let Some(admission) = admission {
            admission.record(result.as_ref().err().map(Error::kind));
        }
        self.meter.count_call(&operation, began.elapsed(), result.is_ok());
        result
    }

    /// Waits until a call of `tokens` model tokens may go, as the limits of the connection and of
    /// the node say.
    pub(super) async fn wait_for_rate(&self, tokens: u64) {
        for limit in self.connection.as_deref().into_iter().chain(&self.own_limit) {
            self.meter.count_rate_limit_wait(limit.wait_for_rate(tokens).await);
        }
    }

    /// Bounds a future in time, and turns a panic into an error.
    pub(super) async fn bounded<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        self.unbroken(future).await.unwrap_or_else(Err)
    }

    /// Bounds a future in time and catches a panic.
    ///
    /// # Errors
    ///
    /// `timeout` or `panic` if the future was broken off, and had no say in it.
    async fn unbroken<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        let caught = AssertUnwindSafe(future).catch_unwind();
        let result = match self.timeout {
            None => caught.await,
            Some(timeout) => match tokio::time::timeout(timeout, caught).await {
                Ok(result) => result,
                Err(_) => {
                    let timeout = humantime::format_duration(timeout);
                    let message = format!("the call took longer than its timeout of {timeout}");
                    return Err(Error::new(ErrorKind::Timeout, message));
                }
            },
        };
        result.map_err(|panic| Error::from_panic(&*panic))
    }

    /// Waits until the next attempt may be made. Returns whether there is one.
    pub(super) async fn back_off(&self, error: &Error, attempt: u32) -> bool {
        let draw = RandomState::new().hash_one(attempt) as f64 / u64::MAX as f64;
        let Some(wait) = retry::wait(&self.retry, error, attempt, draw) else { return false };
        let budget = self.connection.as_ref().map_or(Duration::ZERO, |connection| connection.take_retry());
        tracing::debug!({ field::NODE } = %self.context.node(), { field::ATTEMPT } = attempt, wait = ?wait, error = %error, "trying again");
        self.meter.count_retry();
        tokio::time::sleep(wait.max(budget)).await;
        true
    }

    /// Decides about items of a part that failed: returns the part to call with again, when the
    /// longest wait that any of them asks for is over; the others have failed.
    async fn go_again(
        &self,
        part: &Part,
        unsettled: Vec<(u32, Error)>,
        failed: &mut Vec<Failure>,
    ) -> Option<Part> {
        let may = |error: &Error| {
            part.attempt < self.retry.max_attempts.get() && retry::may_retry(&self.retry, error)
        };
        let (again, over): (Vec<_>, Vec<_>) = unsettled.into_iter().partition(|(_, error)| may(error));
        failed.extend(over.into_iter().map(|(at, error)| self.give_up(part, at, error)));
        let (_, longest) = again.iter().max_by_key(|(_, error)| error.retry_after())?;
        if self.back_off(longest, part.attempt).await {
            let again: Vec<u32> = again.into_iter().map(|(at, _)| at).collect();
            return Some(part.only(&again, part.attempt + 1));
        }
        failed.extend(again.into_iter().map(|(at, error)| self.give_up(part, at, error)));
        None
    }

    /// Decides about a part of `len` items that failed as a whole: returns the parts to call with
    /// next, after a wait if it is tried again; of none of them, all have failed.
    ///
    /// # Errors
    ///
    /// If the node cannot go on.
    async fn remedy(
        &self,
        part: Part,
        len: usize,
        error: Error,
        failed: &mut Vec<Failure>,
    ) -> Result<Vec<Part>> {
        // Halves come off the end of what is to be done, the first one first.
        let halves = |part: Part| part.halves(len).into_iter().rev().collect();
        match error.kind() {
            _ if Breach::caused(&error) => Err(self.final_error(error, part.attempt)),
            ErrorKind::TooLarge if len > 1 => {
                self.size.change(|_| len as f64 / 2.0);
                Ok(halves(part))
            }
            _ if self.back_off(&error, part.attempt).await => {
                Ok(vec![Part { attempt: part.attempt + 1, ..part }])
            }
            ErrorKind::Validation | ErrorKind::Panic | ErrorKind::Internal if len > 1 => Ok(halves(part)),
            _ => {
                failed.extend(self.give_up_all(&part, len, &error));
                Ok(Vec::new())
            }
        }
    }

    fn give_up(&self, part: &Part, at: u32, error: Error) -> Failure {
        let error = self.final_error(error, part.attempt);
        Failure { index: part.index(at), error, attempts: part.attempt }
    }

    fn give_up_all(&self, part: &Part, len: usize, error: &Error) -> Vec<Failure> {
        (0..len as u32).map(|at| self.give_up(part, at, error.clone())).collect()
    }

    pub(super) fn final_error(&self, error: Error, attempts: u32) -> Error {
        let error = error.at_node(self.context.node().clone()).during(self.context.operation().clone());
        if attempts > 1 && error.retry_class() == RetryClass::Transient {
            error.with_retry_class(RetryClass::Exhausted)
        } else {
            error
        }
    }

    /// Makes a call that is never tried again.
    pub(super) async fn once<T, F>(&self, call: impl FnOnce(Context) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.attempt(Attempt::number(1), call).await.map_err(|error| self.final_error(error, 1))
    }

    /// Makes a call that speaks of no items, such as a flush, with the node's retries.
    pub(super) async fn plain<T, F>(&self, call: impl Fn(Context) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut attempt = 1;
        loop {
            match self.attempt(Attempt::number(attempt), &call).await {
                Ok(value) => return Ok(value),
                Err(error) => {
                    if !self.back_off(&error, attempt).await {
                        return Err(self.final_error(error, attempt));
                    }
                    attempt += 1;
                }
            }
        }
    }
}

/// The breaker's leave to make a call. Tells it how the call ended, also if that is dropped
/// before it does, or before it began.
struct Admission<'a> {
    connection: &'a ConnectionState,
    is_probe: bool,
    told: bool,
}

impl<'a> Admission<'a> {
    async fn ask(connection: &'a ConnectionState) -> Self {
        Self { connection, is_probe: connection.admit().await, told: false }
    }

    fn record(mut self, error: Option<ErrorKind>) {
        self.told = true;
        self.connection.record(error, self.is_probe);
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.is_probe && !self.told {
            self.connection.forget();
        }
    }
}
