//! What users may say about how a node, a connection or a run behaves.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use nvisy_core::ErrorKind;
use nvisy_core::action::{Action, Calls};
use nvisy_core::config::{bytes, duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The policies of one node. What is not said has a default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policies {
    /// How a call that failed is tried again. Default: not at all for nodes that call nobody,
    /// three attempts for those that do. Actions with memory of what came before, and those
    /// that change whole streams, try nothing again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// How long one attempt may take. Default no bound.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::option")]
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Duration>,
    /// How long the node may work in all. Default no bound.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::option")]
    #[schemars(with = "Option<String>")]
    pub deadline: Option<Duration>,
    /// How many calls of this node may run at once. Default one; four for nodes that call
    /// others. Actions with memory, those that change whole streams, and those that compute
    /// whole batches work on one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<NonZeroUsize>,
    /// How often this node may call, where it calls others. Default no bound but the
    /// connection's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// What becomes of an item that fails. Default: dead letters where they lead somewhere,
    /// else the node fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// How large the batches are that the node gets. Default what its type finds best.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchPolicy>,
    /// Whether results of paid calls are kept, in the memo of the engine, and not paid for again.
    /// For actions whose result follows from the item's payload and the config alone. Default no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memo: Option<bool>,
    /// Whether a source reads only what is new or has changed since the last run, where the engine
    /// keeps state. What sinks have of files that changed or vanished is replaced or deleted;
    /// of tables only the rows behind the last key are read. Default no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incremental: Option<bool>,
    /// Whether a source that is read incrementally may have nothing left of what it had: all that
    /// derived from it is deleted then. Default no: the run fails, for a folder that is empty all of a
    /// sudden may not be mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_empty: Option<bool>,
}

impl Policies {
    /// The fields, as JSON writes them.
    pub(crate) const FIELDS: &[&str] = &[
        "incremental",
        "allow_empty",
        "retry",
        "timeout",
        "deadline",
        "concurrency",
        "rate_limit",
        "on_error",
        "batch",
        "memo",
    ];

    /// Returns whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the policies that are said and would do nothing, each with the reason. What says
    /// no more than what is so anyway is none: one attempt, one call at once.
    pub(crate) fn idle(&self, ways: Ways) -> Vec<(&'static str, &'static str)> {
        const UNWEIGHED: &str = "nothing is weighed in model tokens there";
        let tokens = self.rate_limit.is_some_and(|limit| limit.tokens_per_minute.is_some());
        let retry = self.retry.as_ref().is_some_and(|retry| retry.max_attempts.get() > 1);
        let concurrency = self.concurrency.is_some_and(|concurrency| concurrency.get() > 1);
        let weighed = self.batch.is_some_and(|batch| batch.tokens.is_some());
        let memo = self.memo == Some(true);
        let said = [
            (self.rate_limit.is_some() && !ways.calls, "rate_limit", "it calls nobody"),
            (tokens && ways.calls && !ways.weighs, "rate_limit.tokens_per_minute", UNWEIGHED),
            (retry && !ways.retries, "retry", "nothing is tried again there"),
            (concurrency && !ways.side_by_side, "concurrency", "it works on one batch after the other"),
            (weighed && !ways.weighs, "batch.tokens", UNWEIGHED),
            (memo && !ways.keeps, "memo", "it makes no paid calls whose results could be kept"),
        ];
        said.into_iter().filter(|(idle, ..)| *idle).map(|(_, policy, why)| (policy, why)).collect()
    }
}

/// How a node works: what policies have a hold on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ways {
    /// It calls another system.
    pub(crate) calls: bool,
    /// It works on several batches or items at once.
    pub(crate) side_by_side: bool,
    /// What failed may be tried again.
    pub(crate) retries: bool,
    /// Its items have a weight in model tokens.
    pub(crate) weighs: bool,
    /// It pays for its calls, and what they give for an item may be kept.
    pub(crate) keeps: bool,
}

impl Ways {
    /// Nothing is known that a policy would have no hold on.
    pub(crate) const UNKNOWN: Self =
        Self { calls: true, side_by_side: true, retries: true, weighs: true, keeps: true };

    /// Returns how an action works, once it is built.
    pub(crate) fn of(action: &Action, calls: Calls) -> Self {
        let (calls, keeps) = (calls != Calls::None, calls == Calls::Paid);
        match action {
            Action::Transform(_) => Self { calls, weighs: false, keeps, ..Self::UNKNOWN },
            Action::Batch(batch) => {
                Self { calls, side_by_side: calls, retries: true, weighs: batch.weighs(), keeps }
            }
            Action::Stateful(_) | Action::Pipe(_) => {
                Self { calls, side_by_side: false, retries: false, weighs: false, keeps: false }
            }
        }
    }
}

/// How much of what a slow reader of a fan-out has yet to take is kept for it. What is not said
/// has a default.
///
/// At the bound the fan-out waits, as it does for a reader without a buffer. In a run with
/// checkpoints, what is on its way when one is made goes beyond it.
///
/// # Examples
///
/// ```
/// use nvisy_runtime::graph::SpillPolicy;
///
/// let policy = SpillPolicy { memory: Some(1_000_000), ..SpillPolicy::default() };
/// assert_eq!(serde_json::to_string(&policy).unwrap(), r#"{"memory":"1MB"}"#);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object such as { \"disk\": \"10GB\" }")]
pub struct SpillPolicy {
    /// How much is kept in memory: what is beyond goes to files. Default 64MB.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "bytes::option")]
    #[schemars(with = "Option<String>")]
    pub memory: Option<u64>,
    /// How much is kept in files: beyond, the fan-out waits. Default 10GB.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "bytes::option")]
    #[schemars(with = "Option<String>")]
    pub disk: Option<u64>,
}

impl SpillPolicy {
    /// Returns how many bytes are kept in memory.
    pub(crate) fn memory(&self) -> u64 {
        self.memory.unwrap_or(64_000_000)
    }

    /// Returns how many bytes are kept in files.
    pub(crate) fn disk(&self) -> u64 {
        self.disk.unwrap_or(10_000_000_000)
    }

    /// Returns how many bytes are kept in all.
    pub(crate) fn bytes(&self) -> u64 {
        self.memory().saturating_add(self.disk())
    }
}

/// How a call that failed is tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object such as { \"max_attempts\": 3 }")]
pub struct Retry {
    /// Attempts in all, the first one included. Default 3.
    #[serde(default = "Retry::default_attempts")]
    pub max_attempts: NonZeroU32,
    /// How the wait grows. Default exponential.
    #[serde(default)]
    pub backoff: Backoff,
    /// The first wait. Default 200 ms.
    #[serde(default = "Retry::default_initial", with = "duration")]
    #[schemars(with = "String")]
    pub initial: Duration,
    /// The longest wait. Default 30 s. A `Retry-After` may be longer, up to an hour.
    #[serde(default = "Retry::default_max", with = "duration")]
    #[schemars(with = "String")]
    pub max: Duration,
    /// Whether each wait is drawn between zero and what the schedule says. Default yes.
    #[serde(default = "Retry::default_jitter")]
    pub jitter: bool,
    /// The kinds of error that are tried again. Default all whose retry class is transient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Vec<ErrorKind>>,
}

/// How the wait between attempts grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// It does not.
    Fixed,
    /// It doubles.
    #[default]
    Exponential,
}

impl Retry {
    fn default_attempts() -> NonZeroU32 {
        const { NonZeroU32::new(3).unwrap() }
    }

    fn default_initial() -> Duration {
        Duration::from_millis(200)
    }

    fn default_max() -> Duration {
        Duration::from_secs(30)
    }

    fn default_jitter() -> bool {
        true
    }

    /// Never tries again.
    #[must_use]
    pub fn none() -> Self {
        Self { max_attempts: NonZeroU32::MIN, ..Self::default() }
    }

    /// Doubles the wait, with full jitter.
    #[must_use]
    pub fn exponential(max_attempts: u32) -> Self {
        Self { max_attempts: NonZeroU32::new(max_attempts).unwrap_or(NonZeroU32::MIN), ..Self::default() }
    }

    /// Always waits the same time.
    #[must_use]
    pub fn fixed(max_attempts: u32, wait: Duration) -> Self {
        Self { backoff: Backoff::Fixed, initial: wait, jitter: false, ..Self::exponential(max_attempts) }
    }

    /// Sets the first wait.
    #[must_use]
    pub fn initial(mut self, initial: Duration) -> Self {
        self.initial = initial;
        self
    }

    /// Sets the longest wait.
    #[must_use]
    pub fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// Waits exactly what the schedule says.
    #[must_use]
    pub fn without_jitter(mut self) -> Self {
        self.jitter = false;
        self
    }

    /// Tries again only after errors of these kinds.
    #[must_use]
    pub fn on(mut self, kinds: impl IntoIterator<Item = ErrorKind>) -> Self {
        self.on = Some(kinds.into_iter().collect());
        self
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: Self::default_attempts(),
            backoff: Backoff::default(),
            initial: Self::default_initial(),
            max: Self::default_max(),
            jitter: Self::default_jitter(),
            on: None,
        }
    }
}

/// How often something may be called. A batch that would exceed it waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object such as { \"requests_per_minute\": 60 }")]
pub struct RateLimit {
    /// Requests a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<NonZeroU64>,
    /// Model tokens a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<NonZeroU64>,
}

impl RateLimit {
    /// So many requests a minute; zero says nothing.
    #[must_use]
    pub fn requests_per_minute(mut self, requests: u64) -> Self {
        self.requests_per_minute = NonZeroU64::new(requests);
        self
    }

    /// So many model tokens a minute; zero says nothing.
    #[must_use]
    pub fn tokens_per_minute(mut self, tokens: u64) -> Self {
        self.tokens_per_minute = NonZeroU64::new(tokens);
        self
    }
}

/// What becomes of an item that fails for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The node fails, and what is downstream of it is skipped.
    Fail,
    /// It goes out of the node's `dead_letter` port.
    DeadLetter,
    /// It is dropped, and counted.
    Drop,
}

/// How large the batches are that a node gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object such as { \"items\": 64 }")]
pub struct BatchPolicy {
    /// Items at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<NonZeroUsize>,
    /// Bytes at the most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<NonZeroUsize>,
    /// Model tokens at the most, where items are weighed: by actions that take many at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<NonZeroU64>,
    /// How long the node waits for a batch to fill up, counted from its first item. Default no
    /// bound: what is gathered goes on when the batch is full, when the source has given nothing
    /// for 100 ms or may not read further, and when it ends. With a `linger` it goes on then, too.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::option")]
    #[schemars(with = "Option<String>")]
    pub linger: Option<Duration>,
}

impl BatchPolicy {
    /// At most so many items.
    #[must_use]
    pub fn items(items: usize) -> Self {
        Self { items: NonZeroUsize::new(items), ..Self::default() }
    }

    /// Waits so long for a batch to fill up.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = Some(linger);
        self
    }
}

/// What goes for the whole run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How many calls of all nodes may run at once. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<NonZeroUsize>,
    /// How long the run may take, connecting included. Default no bound.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::option")]
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Duration>,
    /// The sink that takes the dead letters of every node whose port leads nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
    /// How many items may go to dead letters before the node that sends them fails. Default 5 %
    /// of the last 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_limit: Option<DeadLetterLimit>,
    /// Where the run keeps what it needs to go on, and how far reading may run ahead of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointSettings>,
}

impl Settings {
    /// Returns whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How many items may go to dead letters: a deployment that is broken must not send everything
/// aside.
///
/// Each node counts for itself. It fails with the first item by which more than `share` × `of`
/// of the last `of` items that it settled are dead letters: by default with the 51st among the
/// last 1,000. There need not have been `of` items: those that were not there count as good, so
/// that a small run with a few bad items goes on. What went aside before stays there; the items
/// of the batch that tipped the scales, and those behind it, are failed and not acknowledged.
///
/// # Examples
///
/// ```
/// use nvisy_runtime::graph::DeadLetterLimit;
///
/// let limit = DeadLetterLimit::share(0.2).of(500);
/// assert_eq!(serde_json::to_string(&limit).unwrap(), r#"{"share":0.2,"of":500}"#);
/// assert_eq!(limit.most(), Some(100));
/// assert_eq!(DeadLetterLimit::default().most(), Some(50));
/// assert_eq!(DeadLetterLimit::none().most(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object such as { \"share\": 0.05, \"of\": 1000 }")]
pub struct DeadLetterLimit {
    /// The share that may go aside, from 0 (none) to 1 (all: no limit). Default 0.05.
    #[serde(default = "DeadLetterLimit::default_share")]
    #[schemars(range(min = 0, max = 1))]
    pub share: f64,
    /// Of how many items. Default 1,000.
    #[serde(default = "DeadLetterLimit::default_of")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub of: NonZeroU32,
}

impl DeadLetterLimit {
    /// The most items that a share may be of.
    pub(crate) const MAX_OF: u32 = 1_000_000;

    fn default_share() -> f64 {
        0.05
    }

    fn default_of() -> NonZeroU32 {
        const { NonZeroU32::new(1_000).unwrap() }
    }

    /// Lets this share go aside, from 0 to 1, of the last 1,000 items.
    #[must_use]
    pub fn share(share: f64) -> Self {
        Self { share, ..Self::default() }
    }

    /// Lets everything go aside.
    #[must_use]
    pub fn none() -> Self {
        Self::share(1.0)
    }

    /// Sets of how many items the share is; zero says nothing.
    #[must_use]
    pub fn of(mut self, items: u32) -> Self {
        self.of = NonZeroU32::new(items).unwrap_or(self.of);
        self
    }

    /// Returns how many of the last `of` items may go aside; none where there is no limit.
    #[must_use]
    pub fn most(&self) -> Option<u32> {
        let of = f64::from(self.of.get());
        // What a decimal share cannot say exactly is not to cost an item.
        (self.share < 1.0).then_some((self.share * of + 1e-6) as u32)
    }
}

impl Default for DeadLetterLimit {
    fn default() -> Self {
        Self { share: Self::default_share(), of: Self::default_of() }
    }
}

/// Where a run keeps what it needs to go on, and how much of it a crash repeats at the most.
///
/// # Examples
///
/// ```
/// use nvisy_runtime::graph::CheckpointSettings;
///
/// let settings = CheckpointSettings { directory: Some("state".to_owned()), ..Default::default() };
/// assert_eq!(serde_json::to_string(&settings).unwrap(), r#"{"directory":"state"}"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSettings {
    /// The directory where runs of this graph keep what they need in order to go on, as
    /// `EngineBuilder::state` keeps it. A relative path starts at the working directory. Default the engine's place, or no checkpoints where it has none;
    /// where it has one, too, the run does not start. Not for graphs from strangers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Items between the first unsettled one and the last one read, a source: sinks that hold back
    /// what they write flush for it. Default 65,536, of which what only waits for such a sink is
    /// not counted. In a run with checkpoints also how many items it reads that none has, which is
    /// what a crash repeats; default what is read from one to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncommitted_items: Option<NonZeroU64>,
    /// How often a checkpoint is made, of a run that has a store for them. Default each second,
    /// or each minute where a sink begins a new file for each; a millisecond at the least. A
    /// quarter of that behind the one before where 64 MiB have been read since, and at once when half of
    /// the uncommitted items are, where it is said how many may be.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "duration::option")]
    #[schemars(with = "Option<String>")]
    pub every: Option<Duration>,
}
