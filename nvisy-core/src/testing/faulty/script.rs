//! Which call meets which fault.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Where a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Site {
    /// A source lists its partitions.
    Partitions,
    /// A source gives its next batch. The call that finds that there is none counts too.
    Read,
    /// An action is built.
    Build,
    /// An action is applied: to an item, a batch or an epoch, as its form is.
    Apply,
    /// A sink is opened.
    Open,
    /// A sink writes a batch.
    Write,
    /// A sink flushes, or stages what it has written.
    Flush,
    /// A sink shows what it has staged.
    Publish,
    /// A sink deletes what is stale.
    Replace,
    /// A sink closes.
    Close,
}

impl Site {
    /// Every site, in order.
    pub const ALL: [Self; 10] = [
        Self::Partitions,
        Self::Read,
        Self::Build,
        Self::Apply,
        Self::Open,
        Self::Write,
        Self::Flush,
        Self::Publish,
        Self::Replace,
        Self::Close,
    ];
}

/// What a call meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A transient `connection` error; nothing was done.
    Retryable,
    /// A permanent `permission` error; nothing was done.
    Terminal,
    /// Half of it is done. A sink and a batch action do every second item, and the others,
    /// the first of them ahead, come back as retryable; a source gives the first half of its
    /// batch and then a transient error. Where there are no halves it is as `retryable`.
    Partial,
    /// It is done, and the answer is an `ambiguous` error. A source loses the batch: it comes
    /// again when it is read again.
    AmbiguousApplied,
    /// Nothing is done, and the answer is an `ambiguous` error.
    AmbiguousNotApplied,
    /// It never returns.
    Hang,
    /// It panics.
    Panic,
    /// It is done after a sleep: a minute unless the fault says otherwise.
    Slow,
}

impl FaultKind {
    /// Every kind, in order.
    pub const ALL: [Self; 8] = [
        Self::Retryable,
        Self::Terminal,
        Self::Partial,
        Self::AmbiguousApplied,
        Self::AmbiguousNotApplied,
        Self::Hang,
        Self::Panic,
        Self::Slow,
    ];
}

/// A fault at a chosen call.
#[derive(Clone, Debug)]
pub struct Fault {
    site: Site,
    call: u64,
    calls: u64,
    kind: FaultKind,
    delay: Duration,
    error: Option<Error>,
}

impl Fault {
    /// The `call`-th call at `site`, counted from one, meets a fault.
    #[must_use]
    pub fn new(site: Site, call: u64, kind: FaultKind) -> Self {
        Self { site, call, calls: 1, kind, delay: Duration::from_secs(60), error: None }
    }

    /// So many calls on end meet it. Default one.
    #[must_use]
    pub fn for_calls(mut self, calls: u64) -> Self {
        self.calls = calls;
        self
    }

    /// Sets how long a slow call sleeps. Default one minute.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sets the error. Default one that fits the kind of fault. In a partial write a permanent
    /// one rejects the items, an ambiguous one leaves them in doubt.
    #[must_use]
    pub fn with_error(mut self, error: Error) -> Self {
        self.error = Some(error);
        self
    }

    fn meets(&self, site: Site, call: u64) -> bool {
        self.site == site && call >= self.call && call - self.call < self.calls
    }

    fn error(&self, call: u64) -> Error {
        let kind = match self.kind {
            FaultKind::Terminal => ErrorKind::Permission,
            FaultKind::AmbiguousApplied | FaultKind::AmbiguousNotApplied => ErrorKind::Ambiguous,
            _ => ErrorKind::Connection,
        };
        let (site, fault) = (self.site, self.kind);
        let default = || Error::new(kind, format!("injected: {fault:?} at {site:?} call {call}"));
        self.error.clone().unwrap_or_else(default)
    }
}

/// A fault that fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fired {
    /// Where.
    pub site: Site,
    /// At which call, counted from one.
    pub call: u64,
    /// What the call met.
    pub kind: FaultKind,
}

/// Says which calls meet which faults, counts calls, remembers what fired. A clone is the
/// same script: whatever shares one shares its numbers.
#[derive(Clone, Default)]
pub struct Script(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    faults: Vec<Fault>,
    calls: BTreeMap<Site, u64>,
    fired: Vec<Fired>,
}

static SCRIPTS: LazyLock<Mutex<HashMap<String, Script>>> = LazyLock::new(Mutex::default);

impl Script {
    /// Makes a script without faults: it only counts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the script of that name, and makes it if there is none. It lives as long as the
    /// process.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let mut scripts = SCRIPTS.lock().unwrap_or_else(PoisonError::into_inner);
        scripts.entry(name.to_owned()).or_default().clone()
    }

    /// Forgets the script of that name. Those who hold it keep it.
    pub fn remove(name: &str) {
        SCRIPTS.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the `call`-th call at `site`, counted from one, meet a fault.
    pub fn inject(&self, site: Site, call: u64, kind: FaultKind) {
        self.add(Fault::new(site, call, kind));
    }

    /// Adds a fault.
    pub fn add(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Returns how many calls there were at a site.
    #[must_use]
    pub fn calls(&self, site: Site) -> u64 {
        self.state().calls.get(&site).copied().unwrap_or(0)
    }

    /// Returns how many calls there were at each site that had some.
    #[must_use]
    pub fn all_calls(&self) -> BTreeMap<Site, u64> {
        self.state().calls.clone()
    }

    /// Returns what fired, in order.
    #[must_use]
    pub fn fired(&self) -> Vec<Fired> {
        self.state().fired.clone()
    }

    /// Forgets faults, calls and what fired.
    pub fn reset(&self) {
        *self.state() = State::default();
    }

    /// Counts a call and returns what it meets.
    fn strike(&self, site: Site) -> Option<(Fault, u64)> {
        let state = &mut *self.state();
        let calls = state.calls.entry(site).or_insert(0);
        *calls += 1;
        let call = *calls;
        let fault = state.faults.iter().find(|fault| fault.meets(site, call))?.clone();
        state.fired.push(Fired { site, call, kind: fault.kind });
        Some((fault, call))
    }

    /// Counts a call, lets it meet its fault, and says how it goes on.
    pub(super) async fn meet(&self, site: Site) -> Result<Course> {
        let Some((fault, call)) = self.strike(site) else { return Ok(Course::Whole) };
        let error = fault.error(call);
        match fault.kind {
            FaultKind::Retryable | FaultKind::Terminal | FaultKind::AmbiguousNotApplied => Err(error),
            FaultKind::Partial => Ok(Course::Half(error)),
            FaultKind::AmbiguousApplied => Ok(Course::ThenFail(error)),
            FaultKind::Hang => std::future::pending().await,
            #[expect(clippy::panic, reason = "what was asked for")]
            FaultKind::Panic => panic!("{}", error.message()),
            FaultKind::Slow => {
                tokio::time::sleep(fault.delay).await;
                Ok(Course::Whole)
            }
        }
    }

    /// As [`meet`](Self::meet), for calls that have no halves.
    pub(super) async fn around<T>(&self, site: Site, call: impl Future<Output = Result<T>>) -> Result<T> {
        match self.meet(site).await? {
            Course::Whole => call.await,
            Course::Half(error) => Err(error),
            Course::ThenFail(error) => {
                call.await?;
                Err(error)
            }
        }
    }
}

/// How a call goes on.
pub(super) enum Course {
    /// As if nothing were.
    Whole,
    /// Half of it is done.
    Half(Error),
    /// It is done, and then it fails.
    ThenFail(Error),
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Script")
            .field("faults", &state.faults.len())
            .field("calls", &state.calls)
            .field("fired", &state.fired)
            .finish()
    }
}
