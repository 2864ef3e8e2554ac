//! What each node counted, and whether it adds up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use nvisy_core::Error;
use nvisy_core::observability::{Meter, ModelUsage, RateHint, field, metric};
use nvisy_core::outcome::Reason;

use super::connection::ConnectionState;
use super::report::{IncrementReport, Latency, NodeStatus};

/// How many errors a node keeps in full; the others are counted.
const KEPT_ERRORS: usize = 5;
/// How many different warnings of a node's type are kept.
const KEPT_WARNINGS: usize = 5;
/// How many different reasons for dropping are counted apart.
const KEPT_REASONS: usize = 64;

/// The counters of one node. Every input ends in exactly one of `emitted_from`, `absorbed`,
/// `dropped`, `dead_lettered` and `failed`.
#[derive(Debug)]
pub(super) struct NodeMeter {
    pub(super) graph: Arc<str>,
    pub(super) node: Arc<str>,
    pub(super) connection: Option<Arc<ConnectionState>>,
    pub(super) received: Counter,
    pub(super) emitted_from: Counter,
    pub(super) emitted: Counter,
    pub(super) dropped: Counter,
    /// Items that became part of the node's memory.
    pub(super) absorbed: Counter,
    /// Items that it let go of what it had absorbed.
    pub(super) released: Counter,
    /// Items that were in its buffer, with those of a run before.
    pub(super) buffered: Counter,
    /// Bytes of its buffer that were written to files.
    pub(super) spilled: Counter,
    pub(super) dead_lettered: Counter,
    pub(super) failed: Counter,
    /// Copies that a best-effort branch did not take.
    pub(super) missed: Counter,
    pub(super) batches: Counter,
    /// Bytes that a source read; what comes over edges is counted there.
    pub(super) bytes: Counter,
    pub(super) calls: Counter,
    pub(super) failed_calls: Counter,
    pub(super) retries: Counter,
    /// Items whose result was known.
    pub(super) memo_hits: Counter,
    /// Stale items that a sink deleted.
    pub(super) deleted: Counter,
    /// What an incremental source found.
    pub(super) increment: OnceLock<IncrementReport>,
    /// Partitions that are left for the next run.
    pub(super) left: Counter,
    /// Whether a source found no partition, and no run before had one.
    pub(super) found_nothing: AtomicBool,
    pub(super) busy: Counter,
    pub(super) rate_limit_wait: Counter,
    pub(super) permit_wait: Counter,
    /// How many items there are in all, if a source can tell.
    pub(super) expected: Counter,
    status: AtomicU8,
    latency: Histogram,
    words: Mutex<Words>,
}

#[derive(Debug, Default)]
struct Words {
    reasons: BTreeMap<String, u64>,
    models: BTreeMap<String, ModelUsage>,
    /// What models did not have to be used for.
    saved: BTreeMap<String, ModelUsage>,
    memo_error: Option<Error>,
    /// What the node's type says is worth knowing, each once.
    warnings: Vec<String>,
    /// What a source could not look at.
    unlisted: BTreeSet<String>,
    errors: Vec<Error>,
    failure: Option<Error>,
    /// Whether not all is let go of that was absorbed.
    withholding: bool,
}

/// A count that many may add to.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        if n > 0 {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }

    pub(super) fn add_time(&self, time: Duration) {
        self.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn time(&self) -> Duration {
        Duration::from_nanos(self.get())
    }
}

impl NodeMeter {
    pub(super) fn new(graph: Arc<str>, node: Arc<str>, connection: Option<Arc<ConnectionState>>) -> Self {
        let counter = Counter::default;
        Self {
            graph,
            node,
            connection,
            received: counter(),
            emitted_from: counter(),
            emitted: counter(),
            dropped: counter(),
            absorbed: counter(),
            released: counter(),
            buffered: counter(),
            spilled: counter(),
            dead_lettered: counter(),
            failed: counter(),
            missed: counter(),
            batches: counter(),
            bytes: counter(),
            calls: counter(),
            failed_calls: counter(),
            retries: counter(),
            memo_hits: counter(),
            deleted: counter(),
            left: counter(),
            found_nothing: AtomicBool::new(false),
            increment: OnceLock::new(),
            busy: counter(),
            rate_limit_wait: counter(),
            permit_wait: counter(),
            expected: counter(),
            status: AtomicU8::new(NodeStatus::Waiting as u8),
            latency: Histogram::default(),
            words: Mutex::default(),
        }
    }

    fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Inputs whose fate is not known yet.
    pub(super) fn in_flight(&self) -> u64 {
        self.received.get().saturating_sub(self.settled())
    }

    fn settled(&self) -> u64 {
        let kept = self.emitted_from.get() + self.absorbed.get();
        kept + self.dropped.get() + self.dead_lettered.get() + self.failed.get()
    }

    /// Returns what is wrong with the count of a node that is done, if anything is.
    pub(super) fn imbalance(&self) -> Option<String> {
        let (received, settled) = (self.received.get(), self.settled());
        (received != settled).then(|| {
            let node = &self.node;
            format!("node \"{node}\" received {received} items and accounts for {settled}")
        })
    }

    pub(super) fn count_dropped(&self, reason: &Reason, items: u64) {
        if items == 0 {
            return;
        }
        self.dropped.add(items);
        let mut words = self.words();
        match words.reasons.get_mut(&**reason) {
            Some(count) => *count += items,
            None => {
                let reason =
                    if words.reasons.len() < KEPT_REASONS { reason.to_string() } else { "other".to_owned() };
                *words.reasons.entry(reason).or_default() += items;
            }
        }
    }

    /// Not all that was absorbed is let go of.
    pub(super) fn withhold(&self) {
        self.words().withholding = true;
    }

    pub(super) fn is_withholding(&self) -> bool {
        self.words().withholding
    }

    /// Returns what the node's type said is worth knowing.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.words().warnings.clone()
    }

    /// Takes out the keys at or below which a source could not look.
    pub(super) fn take_unlisted(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.words().unlisted)
    }

    /// Keeps an item's error, as one of the first few.
    pub(super) fn note_error(&self, error: &Error) {
        let mut words = self.words();
        if words.errors.len() < KEPT_ERRORS {
            words.errors.push(error.clone());
        }
    }

    /// The node failed for good. The first reason stands.
    pub(super) fn fail(&self, error: Error) {
        self.words().failure.get_or_insert(error);
        self.set_status(NodeStatus::Failed);
    }

    pub(super) fn failure(&self) -> Option<Error> {
        self.words().failure.clone()
    }

    pub(super) fn errors(&self) -> Vec<Error> {
        self.words().errors.clone()
    }

    pub(super) fn reasons(&self) -> BTreeMap<String, u64> {
        self.words().reasons.clone()
    }

    pub(super) fn models(&self) -> Vec<ModelUsage> {
        self.words().models.values().cloned().collect()
    }

    pub(super) fn saved(&self) -> Vec<ModelUsage> {
        self.words().saved.values().cloned().collect()
    }

    /// So many items need no call, which saves what was used for them once.
    pub(super) fn count_memo_hits(&self, items: u64, saved: &[ModelUsage]) {
        if items == 0 {
            return;
        }
        self.memo_hits.add(items);
        metrics::counter!(metric::MEMO_HITS, &self.labels()).increment(items);
        let mut words = self.words();
        saved.iter().for_each(|usage| add(&mut words.saved, usage));
    }

    /// The memo could not be read, or written. The first reason stands.
    pub(super) fn note_memo_error(&self, error: Error) {
        self.words().memo_error.get_or_insert(error);
    }

    pub(super) fn memo_error(&self) -> Option<Error> {
        self.words().memo_error.clone()
    }

    pub(super) fn status(&self) -> NodeStatus {
        NodeStatus::from_u8(self.status.load(Ordering::Acquire))
    }

    /// Sets the status; a failure stays.
    pub(super) fn set_status(&self, status: NodeStatus) {
        let set = |now: u8| (NodeStatus::from_u8(now) != NodeStatus::Failed).then_some(status as u8);
        // The status stays as it is if it is a failure: that is the point.
        _ = self.status.fetch_update(Ordering::AcqRel, Ordering::Acquire, set);
    }

    /// An attempt of a call ended.
    pub(super) fn count_call(&self, operation: &str, duration: Duration, ok: bool) {
        self.calls.add(1);
        self.failed_calls.add(u64::from(!ok));
        self.latency.record(duration);
        self.call(operation, duration, ok);
    }

    /// A call waited so long for a rate limit.
    pub(super) fn count_rate_limit_wait(&self, wait: Duration) {
        self.rate_limit_wait.add_time(wait);
        metrics::histogram!(metric::RATE_LIMIT_WAIT, &self.labels()).record(wait.as_secs_f64());
    }

    /// A call waited so long for its permits.
    pub(super) fn count_permit_wait(&self, wait: Duration) {
        self.permit_wait.add_time(wait);
        metrics::histogram!(metric::PERMIT_WAIT, &self.labels()).record(wait.as_secs_f64());
    }

    /// A call is tried again.
    pub(super) fn count_retry(&self) {
        self.retries.add(1);
        metrics::counter!(metric::RETRIES, &self.labels()).increment(1);
    }

    fn labels(&self) -> [(&'static str, Arc<str>); 2] {
        [("graph", self.graph.clone()), ("node", self.node.clone())]
    }

    pub(super) fn latency(&self) -> Option<Latency> {
        self.latency.summary()
    }
}

impl Meter for NodeMeter {
    fn warn(&self, warning: &str) {
        tracing::warn!({ field::NODE } = %self.node, "{warning}");
        let mut words = self.words();
        if words.warnings.len() < KEPT_WARNINGS && words.warnings.iter().all(|known| known != warning) {
            words.warnings.push(warning.to_owned());
        }
    }

    fn unlisted(&self, key: &str) {
        self.words().unlisted.insert(key.to_owned());
    }

    fn model_usage(&self, usage: &ModelUsage) {
        let mut words = self.words();
        add(&mut words.models, usage);
        drop(words);
        for (direction, tokens) in [("input", usage.input_tokens), ("output", usage.output_tokens)] {
            let labels = [("model", usage.model.clone()), ("direction", direction.to_owned())];
            metrics::counter!(metric::MODEL_TOKENS, &labels).increment(tokens);
        }
    }

    fn rate_hint(&self, hint: RateHint) {
        if let Some(connection) = &self.connection {
            connection.hint(hint);
        }
    }

    fn call(&self, operation: &str, duration: Duration, ok: bool) {
        let Some(connection) = &self.connection else { return };
        let labels = [
            ("connection", connection.name.clone()),
            ("operation", operation.into()),
            ("outcome", if ok { "ok" } else { "error" }.into()),
        ];
        metrics::counter!(metric::CONNECTOR_CALLS, &labels).increment(1);
        metrics::histogram!(metric::CONNECTOR_CALL_DURATION, &labels[..2]).record(duration.as_secs_f64());
    }
}

fn add(models: &mut BTreeMap<String, ModelUsage>, usage: &ModelUsage) {
    let new = || ModelUsage { model: usage.model.clone(), ..Default::default() };
    models.entry(usage.model.clone()).or_insert_with(new).add(usage);
}

/// Durations in buckets, two an octave of microseconds: exact enough for a report.
#[derive(Debug)]
struct Histogram([AtomicU64; 64]);

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Histogram {
    fn record(&self, duration: Duration) {
        let micros = duration.as_micros().max(1) as f64;
        let bucket = ((micros.log2() * 2.0) as usize).min(63);
        self.0[bucket].fetch_add(1, Ordering::Relaxed);
    }

    fn summary(&self) -> Option<Latency> {
        let counts: Vec<u64> = self.0.iter().map(|n| n.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        let at = |share: f64| {
            let rank = (total as f64 * share).ceil() as u64;
            let mut sum = 0;
            let bucket = counts.iter().position(|n| {
                sum += n;
                sum >= rank
            });
            let micros = (2.0_f64).powf((bucket.unwrap_or(63) as f64 + 0.5) / 2.0);
            Duration::from_secs_f64(micros / 1e6)
        };
        Some(Latency { p50: at(0.50), p95: at(0.95), p99: at(0.99) })
    }
}
