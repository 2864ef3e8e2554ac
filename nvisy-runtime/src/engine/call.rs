//! One call of user code or of another system, with everything that the policies say about it.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use nvisy_core::action::{Calls, ErasedBatch, ErasedTransform};
use nvisy_core::outcome::{Attribution, Outcome};
use nvisy_core::plugin::ErasedSink;
use nvisy_core::{
    Any, Batch, BatchLimits, Context, Error, ErrorKind, Guarantee, Outcomes, Primitive, Result, RetryClass,
    WriteStatus,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::Instrument;

use super::connection::ConnectionState;
use super::ledger::NodeMeter;
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
}

/// An item that failed for good.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) index: u32,
    pub(super) error: Error,
    pub(super) attempts: u32,
}

/// What became of a batch: one outcome an input.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) emitted: Batch,
    pub(super) attribution: Attribution,
    pub(super) dropped: Vec<(nvisy_core::outcome::Reason, u64)>,
    pub(super) failed: Vec<Failure>,
}

impl From<Outcomes> for Settled {
    fn from(outcomes: Outcomes) -> Self {
        let Outcomes { emitted, attribution, dropped, failed } = outcomes;
        let failed = failed.into_iter().map(|(index, error)| Failure { index, error, attempts: 1 });
        Self { emitted, attribution, dropped, failed: failed.collect() }
    }
}

/// The number of items a call may take: it halves when a call is too large, and grows by a
/// tenth with each that is not.
#[derive(Debug)]
pub(super) struct AdaptiveSize {
    most: usize,
    now: std::sync::Mutex<f64>,
}

impl AdaptiveSize {
    pub(super) fn new(limits: BatchLimits) -> Self {
        Self { most: limits.items, now: std::sync::Mutex::new(limits.items as f64) }
    }

    fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now = change(*now).clamp(1.0, self.most.max(1) as f64);
    }

    pub(super) fn get(&self) -> usize {
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner) as usize
    }
}

/// A part of a batch that is still to be called with.
struct Part {
    /// Its items, as indices into the batch; none for all of them.
    items: Option<Vec<u32>>,
    attempt: u32,
}

impl Part {
    fn all() -> Self {
        Self { items: None, attempt: 1 }
    }

    fn of(&self, batch: &Batch) -> Batch {
        match &self.items {
            None => batch.without_tokens(),
            Some(items) => batch.select(items),
        }
    }

    fn index(&self, at: u32) -> u32 {
        self.items.as_ref().map_or(at, |items| items[at as usize])
    }

    fn only(&self, at: &[u32], attempt: u32) -> Self {
        Self { items: Some(at.iter().map(|at| self.index(*at)).collect()), attempt }
    }

    fn halves(&self, len: usize) -> [Self; 2] {
        let all: Vec<u32> = (0..len as u32).map(|at| self.index(at)).collect();
        let (first, second) = all.split_at(len / 2);
        [first, second].map(|half| Self { items: Some(half.to_vec()), attempt: self.attempt })
    }
}

/// What to do about a call that failed as a whole.
enum Remedy {
    /// Try all of it again.
    Again,
    /// Try each half on its own.
    Halve,
    /// Nothing.
    GiveUp,
    /// The node cannot go on.
    Fatal,
}

impl Caller {
    /// Makes one attempt of a call that weighs `tokens` model tokens.
    async fn attempt<T, F>(&self, attempt: u32, tokens: u64, call: impl FnOnce(Context) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let context = self.context.clone().with_attempt(attempt);
        if self.calls == Calls::None {
            return self.bounded(call(context)).await;
        }
        let admission = match &self.connection {
            None => None,
            Some(connection) => {
                let admission = Admission::ask(connection).map_err(|wait| {
                    let name = &connection.name;
                    let message = format!("connection \"{name}\" fails too often and gets a rest");
                    Error::new(ErrorKind::Connection, message).with_retry_after(wait)
                })?;
                self.meter.rate_limit_wait.add_time(connection.wait_for_rate(tokens).await);
                Some(admission)
            }
        };
        if let Some(limit) = &self.own_limit {
            self.meter.rate_limit_wait.add_time(limit.wait_for_rate(tokens).await);
        }
        let asked = Instant::now();
        let [own, shared] = &self.permits;
        let closed = |_| Error::cancelled();
        let _own = own.acquire().await.map_err(closed)?;
        let _shared = shared.acquire().await.map_err(closed)?;
        self.meter.permit_wait.add_time(asked.elapsed());
        let began = Instant::now();
        let operation = context.operation().clone();
        let span = tracing::info_span!(
            "call",
            otel.name = %operation,
            nvisy.node = %context.node(),
            nvisy.attempt = attempt,
            nvisy.error = tracing::field::Empty
        );
        let result = self.bounded(call(context)).instrument(span.clone()).await;
        if let Err(error) = &result {
            span.record("nvisy.error", error.tag());
        }
        if let Some(admission) = admission {
            admission.record(result.as_ref().err().map(Error::kind));
        }
        self.meter.count_call(&operation, began.elapsed(), result.is_ok());
        result
    }

    /// Bounds a future in time, and turns a panic into an error.
    pub(super) async fn bounded<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
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
        result.unwrap_or_else(|panic| Err(Error::from_panic(&*panic)))
    }

    /// Waits until the next attempt may be made. Returns whether there is one.
    pub(super) async fn back_off(&self, error: &Error, attempt: u32) -> bool {
        let draw = RandomState::new().hash_one(attempt) as f64 / u64::MAX as f64;
        let Some(wait) = retry::wait(&self.retry, error, attempt, draw) else { return false };
        let budget = self.connection.as_ref().map_or(Duration::ZERO, |connection| connection.take_retry());
        tracing::debug!(nvisy.node = %self.context.node(), nvisy.attempt = attempt, wait = ?wait, error = %error, "trying again");
        self.meter.retries.add(1);
        metrics::counter!(
            nvisy_core::observability::metric::RETRIES,
            "graph" => self.context.graph().to_string(),
            "node" => self.context.node().to_string()
        )
        .increment(1);
        tokio::time::sleep(wait.max(budget)).await;
        true
    }

    /// Decides about a call of `len` items that failed as a whole. Waits if it is tried again.
    async fn remedy(&self, error: &Error, attempt: u32, len: usize) -> Remedy {
        match error.kind() {
            ErrorKind::TooLarge if len > 1 => {
                self.size.change(|_| len as f64 / 2.0);
                Remedy::Halve
            }
            ErrorKind::Internal if len > 1 => Remedy::Fatal,
            _ if self.back_off(error, attempt).await => Remedy::Again,
            ErrorKind::Validation | ErrorKind::Panic if len > 1 => Remedy::Halve,
            _ => Remedy::GiveUp,
        }
    }

    pub(super) fn final_error(&self, error: Error, attempts: u32) -> Error {
        let error = error.at_node(self.context.node().clone()).during(self.context.operation().clone());
        if attempts > 1 && error.retry_class() == RetryClass::Transient {
            error.with_retry_class(RetryClass::Exhausted)
        } else {
            error
        }
    }

    /// Calls a batch action, until every input has its outcome.
    ///
    /// # Errors
    ///
    /// If the node cannot go on: the action is wrong as a whole.
    pub(super) async fn batch(&self, action: &dyn ErasedBatch, input: &Batch) -> Result<Settled> {
        let mut todo = vec![Part::all()];
        let mut pieces = Vec::new();
        let mut failed = Vec::new();
        while let Some(part) = todo.pop() {
            let batch = part.of(input);
            let len = batch.len();
            let tokens = if action.weighs() && self.calls != Calls::None { weigh(action, &batch) } else { 0 };
            let called = self
                .attempt(part.attempt, tokens, |context| async move { action.call(batch, &context).await });
            let checked = called.await.and_then(|outcomes| outcomes.check(len).map(|()| outcomes));
            match checked {
                Ok(mut outcomes) => {
                    self.size.change(|size| size * 1.1);
                    let mut again = Vec::new();
                    let mut worst = None;
                    for (at, error) in std::mem::take(&mut outcomes.failed) {
                        if retry::may_retry(&self.retry, &error)
                            && part.attempt < self.retry.max_attempts.get()
                        {
                            again.push(at);
                            worst = Some(error);
                        } else {
                            let index = part.index(at);
                            failed.push(Failure {
                                index,
                                error: self.final_error(error, part.attempt),
                                attempts: part.attempt,
                            });
                        }
                    }
                    if let Some(error) = worst {
                        if self.back_off(&error, part.attempt).await {
                            todo.push(part.only(&again, part.attempt + 1));
                        } else {
                            let error = self.final_error(error, part.attempt);
                            failed.extend(again.iter().map(|at| Failure {
                                index: part.index(*at),
                                error: error.clone(),
                                attempts: part.attempt,
                            }));
                        }
                    }
                    pieces.push((part, outcomes));
                }
                Err(error) => match self.remedy(&error, part.attempt, len).await {
                    Remedy::Again => todo.push(Part { attempt: part.attempt + 1, ..part }),
                    Remedy::Halve => todo.extend(part.halves(len).into_iter().rev()),
                    Remedy::Fatal => return Err(self.final_error(error, part.attempt)),
                    Remedy::GiveUp => {
                        let error = self.final_error(error, part.attempt);
                        failed.extend((0..len as u32).map(|at| Failure {
                            index: part.index(at),
                            error: error.clone(),
                            attempts: part.attempt,
                        }));
                    }
                },
            }
        }
        failed.sort_by_key(|failure| failure.index);
        Ok(assemble(pieces, failed))
    }

    /// Calls an action that [isolates](ErasedBatch::isolates) its failures with a batch that
    /// nobody keeps.
    ///
    /// # Errors
    ///
    /// If the node cannot go on: the action is wrong as a whole.
    pub(super) async fn hand_over(&self, action: &dyn ErasedBatch, batch: Batch) -> Result<Settled> {
        let len = batch.len();
        let called = self.attempt(1, 0, |context| async move { action.call(batch, &context).await }).await;
        let checked = called.and_then(|outcomes| outcomes.check(len).map(|()| outcomes));
        let outcomes = checked.map_err(|error| self.final_error(error, 1))?;
        let Outcomes { emitted, attribution, dropped, failed } = outcomes;
        let failed = failed.into_iter().map(|(index, error)| Failure {
            index,
            error: self.final_error(error, 1),
            attempts: 1,
        });
        Ok(Settled { emitted, attribution, dropped, failed: failed.collect() })
    }

    /// Calls a transform for each item, so many at once, until every input has its outcome.
    ///
    /// # Errors
    ///
    /// If the outcomes do not fit the inputs, which would be a bug.
    pub(super) async fn transform(
        &self,
        transform: &dyn ErasedTransform,
        input: &Batch,
        concurrency: usize,
    ) -> Result<Settled> {
        use futures::StreamExt;
        let items = futures::stream::iter(input.iter());
        let called = items.map(|item| self.item(transform, item)).buffered(concurrency.max(1));
        let (outcomes, attempts): (Vec<_>, Vec<_>) = called.collect::<Vec<_>>().await.into_iter().unzip();
        let outcomes = Outcomes::collect(input, &self.context.step(), outcomes)?;
        outcomes.check(input.len())?;
        let Outcomes { emitted, attribution, dropped, failed } = outcomes;
        let failed = failed.into_iter().map(|(index, error)| {
            let attempts = attempts[index as usize];
            Failure { index, error: self.final_error(error, attempts), attempts }
        });
        Ok(Settled { emitted, attribution, dropped, failed: failed.collect() })
    }

    async fn item(&self, transform: &dyn ErasedTransform, item: Primitive) -> (Outcome<Any>, u32) {
        let mut attempt = 1;
        loop {
            let again = item.clone();
            let called = self
                .attempt(attempt, 0, |context| async move { transform.call(again, &context).await })
                .await;
            let error = match called {
                Ok(Outcome::Fail(error)) | Err(error) => error,
                Ok(outcome) => return (outcome, attempt),
            };
            if !self.back_off(&error, attempt).await {
                return (Outcome::Fail(error), attempt);
            }
            attempt += 1;
        }
    }

    /// Writes a batch, until every item is written or failed for good.
    ///
    /// # Errors
    ///
    /// If the node cannot go on: the sink is wrong as a whole.
    pub(super) async fn write(
        &self,
        sink: &dyn ErasedSink,
        guarantee: Guarantee,
        input: &Batch,
    ) -> Result<Settled> {
        let mut todo = vec![Part::all()];
        let mut failed: Vec<Failure> = Vec::new();
        while let Some(part) = todo.pop() {
            let batch = part.of(input);
            let len = batch.len();
            let written = self.attempt(part.attempt, 0, |context| {
                let batch = &batch;
                async move { sink.write(batch, &context).await }
            });
            let checked = written.await.and_then(|report| {
                let spoken = report.len();
                (spoken == len).then_some(report).ok_or_else(|| {
                    Error::internal(format!(
                        "the sink reported on {spoken} of {len} items: report on each one"
                    ))
                })
            });
            let give_up = |at: u32, error: Error| Failure {
                index: part.index(at),
                error: self.final_error(error, part.attempt),
                attempts: part.attempt,
            };
            match checked {
                Ok(report) => {
                    self.size.change(|size| size * 1.1);
                    let mut again = Vec::new();
                    let mut worst = None;
                    for (at, status) in report.others() {
                        match status {
                            WriteStatus::Applied | WriteStatus::AlreadyApplied => {}
                            WriteStatus::Rejected(error) => failed.push(give_up(*at, error.clone())),
                            WriteStatus::Retryable(error) => {
                                again.push(*at);
                                worst = Some(error.clone().with_retry_class(RetryClass::Transient));
                            }
                            WriteStatus::Ambiguous(error) if guarantee == Guarantee::Append => {
                                failed.push(give_up(*at, error.clone()));
                            }
                            WriteStatus::Ambiguous(error) => {
                                again.push(*at);
                                worst = Some(error.clone());
                            }
                        }
                    }
                    if let Some(error) = worst {
                        if self.back_off(&error, part.attempt).await {
                            todo.push(part.only(&again, part.attempt + 1));
                        } else {
                            failed.extend(again.iter().map(|at| give_up(*at, error.clone())));
                        }
                    }
                }
                Err(error) => {
                    let ambiguous = error.kind() == ErrorKind::Ambiguous && guarantee == Guarantee::Append;
                    // A timeout and a panic leave open whether it was written, which an append
                    // must not repeat.
                    let unknown = matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Panic)
                        && guarantee == Guarantee::Append;
                    let remedy = if ambiguous || unknown {
                        Remedy::GiveUp
                    } else {
                        self.remedy(&error, part.attempt, len).await
                    };
                    match remedy {
                        Remedy::Again => todo.push(Part { attempt: part.attempt + 1, ..part }),
                        Remedy::Halve => todo.extend(part.halves(len).into_iter().rev()),
                        Remedy::Fatal => return Err(self.final_error(error, part.attempt)),
                        Remedy::GiveUp => failed.extend((0..len as u32).map(|at| give_up(at, error.clone()))),
                    }
                }
            }
        }
        failed.sort_by_key(|failure| failure.index);
        Ok(Settled {
            emitted: Batch::empty(),
            attribution: Attribution::Each(Vec::new()),
            dropped: Vec::new(),
            failed,
        })
    }

    /// Makes a call that is never tried again.
    pub(super) async fn once<T, F>(&self, call: impl FnOnce(Context) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.attempt(1, 0, call).await.map_err(|error| self.final_error(error, 1))
    }

    /// Makes a call that speaks of no items, such as a flush, with the node's retries.
    pub(super) async fn plain<T, F>(&self, call: impl Fn(Context) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut attempt = 1;
        loop {
            match self.attempt(attempt, 0, &call).await {
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
    fn ask(connection: &'a ConnectionState) -> Result<Self, Duration> {
        let is_probe = connection.admit()?;
        Ok(Self { connection, is_probe, told: false })
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

fn weigh(action: &dyn ErasedBatch, batch: &Batch) -> u64 {
    batch.iter().map(|item| action.weigh(&item)).sum()
}

/// Puts the outcomes of the parts of a batch together, in the order of its inputs.
fn assemble(mut pieces: Vec<(Part, Outcomes)>, failed: Vec<Failure>) -> Settled {
    if pieces.len() == 1
        && let Some((Part { items: None, .. }, outcomes)) = pieces.pop_if(|(part, _)| part.items.is_none())
    {
        let Outcomes { emitted, attribution, dropped, failed: _ } = outcomes;
        return Settled { emitted, attribution, dropped, failed };
    }
    let mut batches = Vec::new();
    let mut of = Vec::new();
    let mut dropped: Vec<(nvisy_core::outcome::Reason, u64)> = Vec::new();
    for (part, outcomes) in pieces {
        of.extend((0..outcomes.emitted.len()).map(|at| part.index(outcomes.attribution.of(at))));
        batches.push(outcomes.emitted);
        for (reason, count) in outcomes.dropped {
            match dropped.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, n)) => *n += count,
                None => dropped.push((reason, count)),
            }
        }
    }
    // Batches without tokens always join into one.
    let joined = Batch::concat(batches).pop().unwrap_or_else(Batch::empty);
    let mut order: Vec<u32> = (0..of.len() as u32).collect();
    order.sort_by_key(|at| of[*at as usize]);
    let attribution = Attribution::Each(order.iter().map(|at| of[*at as usize]).collect());
    Settled { emitted: joined.select(&order), attribution, dropped, failed }
}
