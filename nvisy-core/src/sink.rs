//! Where items go.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batch::{Batch, BatchLimits};
use crate::config::{Config, Problem};
use crate::connection::Client;
use crate::context::{Context, OpenContext};
use crate::error::{Error, Result};
use crate::outcome::Breach;
use crate::primitive::{Kind, Kinds};
use crate::replace::ReplaceSet;

/// What a sink promises about writing the same item twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Guarantee {
    /// It is there twice.
    Append,
    /// It is there once: writing replaces by id.
    Upsert,
}

/// What became of one item.
#[derive(Clone, Debug)]
pub enum WriteStatus {
    /// It is written.
    Applied,
    /// It was there already.
    AlreadyApplied,
    /// The system will never take it.
    Rejected(Error),
    /// The system did not take it; it may later.
    Retryable(Error),
    /// Nobody knows whether it is written.
    Ambiguous(Error),
}

/// What became of each item of a batch.
#[derive(Clone, Debug)]
pub struct WriteReport {
    len: usize,
    /// Those that did not simply apply, by index in ascending order.
    others: Vec<(u32, WriteStatus)>,
}

impl WriteReport {
    /// All `len` items are written.
    #[must_use]
    pub fn applied(len: usize) -> Self {
        Self { len, others: Vec::new() }
    }

    /// Says what became of each item.
    #[must_use]
    pub fn new(statuses: impl IntoIterator<Item = WriteStatus>) -> Self {
        let mut report = Self::applied(0);
        for status in statuses {
            if !matches!(status, WriteStatus::Applied) {
                report.others.push((report.len as u32, status));
            }
            report.len += 1;
        }
        report
    }

    /// Says what became of the item at `index`, where it did not simply apply. What is said
    /// last of an item stands.
    #[must_use]
    pub fn with(mut self, index: u32, status: WriteStatus) -> Self {
        match self.others.binary_search_by_key(&index, |(i, _)| *i) {
            Ok(at) => self.others[at].1 = status,
            Err(at) => self.others.insert(at, (index, status)),
        }
        self
    }

    /// Checks that it speaks of just the `items` that were to be written.
    ///
    /// # Errors
    ///
    /// `internal` if not, caused by a [`Breach`]: it says of how many items, or of which one.
    pub fn check(&self, items: usize) -> Result<()> {
        if self.len != items {
            let spoken = self.len;
            return Err(Breach::of(format!(
                "the sink reported on {spoken} of {items} items: report on each one"
            )));
        }
        match self.others.last() {
            Some((index, _)) if *index as usize >= items => {
                Err(Breach::of(format!("the sink reported on item {index} of {items}, counted from zero")))
            }
            _ => Ok(()),
        }
    }

    /// Returns how many items it speaks of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether it speaks of none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether every item is written.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        self.others.iter().all(|(_, status)| matches!(status, WriteStatus::AlreadyApplied))
    }

    /// Returns what did not simply apply, by index in ascending order.
    #[must_use]
    pub fn others(&self) -> &[(u32, WriteStatus)] {
        &self.others
    }

    /// Returns what became of the item at `index`.
    #[must_use]
    pub fn status(&self, index: u32) -> &WriteStatus {
        match self.others.binary_search_by_key(&index, |(i, _)| *i) {
            Ok(at) => &self.others[at].1,
            Err(_) => &WriteStatus::Applied,
        }
    }
}

/// Describes a sink node, and opens it.
pub trait SinkConfig: Config {
    /// The name that graphs use, such as `vector/sqlite`.
    const NAME: &'static str;
    /// What it takes.
    type Input: Kind;
    /// The client that it writes through.
    type Client: Client;
    /// What it opens.
    type Sink: Sink;

    /// Returns the kinds that it takes, where the config decides.
    fn input_kinds(&self) -> Kinds {
        Self::Input::KINDS
    }

    /// Returns what it promises about writing the same item twice.
    fn guarantee(&self) -> Guarantee;

    /// Returns in words what becomes of items that a later run writes again, where the guarantee
    /// does not say it all: such as that a name is taken. Default what the guarantee says.
    fn replayed(&self) -> Option<String> {
        None
    }

    /// Returns how large batches are best. Default 1,024 items or 1 MiB.
    fn optimum(&self) -> BatchLimits {
        BatchLimits::default()
    }

    /// Returns how many writes may run at once. Default one.
    fn concurrency(&self) -> usize {
        1
    }

    /// Returns whether a write is durable only after [`Sink::flush`]. Default no.
    fn buffers(&self) -> bool {
        false
    }

    /// Returns whether it can keep what it writes out of sight until a checkpoint has it:
    /// [`Sink::stage`] and [`Sink::publish`]. Default no.
    ///
    /// In a run with checkpoints what it writes is there once then, though it only appends.
    fn stages(&self) -> bool {
        false
    }

    /// Returns whether it can keep which items it has written, in the transaction that writes them, so
    /// that what comes again in the same run is not added again. Default no.
    ///
    /// In a run with checkpoints what it writes is there once then, though it only appends, and though
    /// the checkpoint store has lost its newest.
    fn remembers(&self) -> bool {
        false
    }

    /// Returns whether it keeps the origin of what it writes, and can delete what is stale of one:
    /// [`Sink::replace`]. Default no.
    fn replaces(&self) -> bool {
        false
    }

    /// Returns what is wrong with the config that its types do not say. Pure.
    fn validate(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// Opens the sink.
    fn open(&self, context: &OpenContext<Self::Client>) -> impl Future<Output = Result<Self::Sink>> + Send;
}

/// What a run with checkpoints asks of a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Staging {
    /// Nothing: what is flushed shows.
    #[default]
    Off,
    /// To stage what it writes. Where a run is resumed, with what the last checkpoint has of it: all of that is
    /// to be shown when the sink opens, in case that was not done, and what else the run before
    /// left is to be removed.
    On(Option<Bytes>),
    /// As [`On`](Self::On), with what the last checkpoint has: all of that was shown already. It need
    /// not be there any more.
    Shown(Bytes),
    /// To remember what it has written in this run ([`SinkConfig::remembers`]), until it is closed and
    /// another run begins. It is closed when the run has finished, and dropped where that was stopped or
    /// has failed: the run goes on when the sink opens again then, also under another
    /// [`RunId`](crate::RunId), for the store may have lost that it began.
    Remember,
}

/// An open sink.
///
/// # Contract
///
/// 1. [`write`](Self::write) reports on every item, in order. An error means that nothing of
///    the batch was written, unless it is of kind `ambiguous`.
/// 2. After [`flush`](Self::flush) everything that was written is durable.
/// 3. [`close`](Self::close) flushes and lets go; a second one does nothing.
/// 4. A sink that is dropped without being closed, or whose calls are dropped half way, leaves
///    nothing half-written under its final name.
/// 5. If it promises [`Guarantee::Upsert`], writing an item again changes nothing.
/// 6. If it [replaces](SinkConfig::replaces), it keeps the [origin](crate::Origin) and the
///    [generation](Context::generation_or_now) in which an item was written last, and
///    [`replace`](Self::replace) deletes just what is older of an origin.
pub trait Sink: Send + Sync + 'static {
    /// Writes a batch.
    fn write(&self, batch: &Batch, context: &Context) -> impl Future<Output = Result<WriteReport>> + Send;

    /// Makes durable what was written. Default nothing to do.
    fn flush(&self, context: &Context) -> impl Future<Output = Result<()>> + Send {
        let _ = context;
        async { Ok(()) }
    }

    /// Makes durable what was written, and keeps it out of sight. Returns what
    /// [`publish`](Self::publish) has to know in order to show it, and the sink in order to go on
    /// behind it; none if it has never written anything.
    ///
    /// Asked of a sink that [stages](SinkConfig::stages) and was opened with [`Staging::On`] or [`Staging::Shown`],
    /// instead of `flush`. Default `flush`, and nothing to show.
    ///
    /// # Errors
    ///
    /// If what was written cannot be made durable: nothing of it is acknowledged then.
    fn stage(&self, context: &Context) -> impl Future<Output = Result<Option<Bytes>>> + Send {
        async { self.flush(context).await.map(|()| None) }
    }

    /// Shows what was staged, which a checkpoint has now. To do so again changes nothing.
    fn publish(&self, staged: &Bytes, context: &Context) -> impl Future<Output = Result<()>> + Send {
        let _ = (staged, context);
        async { Ok(()) }
    }

    /// Deletes what is stale of some origins, and returns how many items those were. All of it or
    /// nothing, and durable when it returns; to do so again changes nothing. Asked of a sink that
    /// [replaces](SinkConfig::replaces), when all that is new is durable. Default nothing.
    ///
    /// # Errors
    ///
    /// If it cannot: nothing is deleted then, unless the error is `ambiguous`.
    fn replace(&self, sets: &[ReplaceSet], context: &Context) -> impl Future<Output = Result<u64>> + Send {
        let _ = (sets, context);
        async { Ok(0) }
    }

    /// Flushes and lets go. Default [`flush`](Self::flush).
    fn close(&self, context: &Context) -> impl Future<Output = Result<()>> + Send {
        self.flush(context)
    }
}
