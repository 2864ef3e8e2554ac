//! A sink that writes into memory.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::store::{MemoryStore, Write};
use crate::batch::{Batch, BatchLimits};
use crate::connection::NoClient;
use crate::context::{Context, OpenContext};
use crate::error::{Error, Result};
use crate::primitive::{Any, Kind, KindId, Primitive};
use crate::sink::{Guarantee, Sink, SinkConfig, Staging, WriteReport, WriteStatus};
use crate::testing::yields::yields;

/// Writes into a [`MemoryStore`]: `memory/sink`.
///
/// # Examples
///
/// ```
/// use nvisy_core::testing::memory::{MemorySink, Mode};
///
/// let sink = MemorySink::named("letters").with_mode(Mode::Append).buffered();
/// assert_eq!(
///     serde_json::to_value(&sink).unwrap(),
///     serde_json::json!({"name": "letters", "mode": "append", "buffers": true}),
/// );
/// ```
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound = "")]
#[schemars(rename = "MemorySink", bound = "")]
pub struct MemorySink<K: Kind = Any> {
    /// The name of the store to write into.
    name: String,
    /// What happens to an item that is there already. Default `upsert`.
    #[serde(default, skip_serializing_if = "Mode::is_upsert")]
    mode: Mode,
    /// Whether what is written is there only after a flush. Default no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    buffers: bool,
    /// Whether it stages what it writes in a run with checkpoints; it appends then, whatever the
    /// mode. Default no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    staging: bool,
    /// How many items a batch best holds at the most. Default 1,024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch_items: Option<NonZeroUsize>,
    /// How many writes may run at once. Default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrency: Option<NonZeroUsize>,
    /// Items of these kinds are rejected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    refuses: Vec<KindId>,
    /// Whether it only counts, and keeps neither items nor writes. Default no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    counts_only: bool,
    /// How often each write lets others go first before it happens. Default never.
    #[serde(default, skip_serializing_if = "is_zero")]
    yields: u32,
    #[serde(skip)]
    input: PhantomData<fn() -> K>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// What a memory sink does with an item that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Puts it in the other's place.
    #[default]
    Upsert,
    /// Adds it: it is there twice.
    Append,
}

impl Mode {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_upsert(&self) -> bool {
        *self == Self::Upsert
    }
}

impl MemorySink {
    /// Writes into the store of that name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            mode: Mode::Upsert,
            buffers: false,
            staging: false,
            batch_items: None,
            concurrency: None,
            refuses: Vec::new(),
            counts_only: false,
            yields: 0,
            input: PhantomData,
        }
    }
}

impl<K: Kind> MemorySink<K> {
    /// Says what kind of items it takes, so that rustc knows too.
    #[must_use]
    pub fn typed<T: Kind>(self) -> MemorySink<T> {
        MemorySink {
            name: self.name,
            mode: self.mode,
            buffers: self.buffers,
            staging: self.staging,
            batch_items: self.batch_items,
            concurrency: self.concurrency,
            refuses: self.refuses,
            counts_only: self.counts_only,
            yields: self.yields,
            input: PhantomData,
        }
    }

    /// Says what happens to an item that is there already. Default [`Mode::Upsert`].
    #[must_use]
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Holds what is written back until a flush. What was not flushed when the sink is
    /// dropped is lost.
    #[must_use]
    pub fn buffered(mut self) -> Self {
        self.buffers = true;
        self
    }

    /// Stages what it writes in a run with checkpoints, and appends, whatever the mode. What is
    /// staged stays in the store when the sink is dropped, as a file would.
    #[must_use]
    pub fn staging(mut self) -> Self {
        self.staging = true;
        self
    }

    /// Says how many items a batch best holds at the most. Default 1,024.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn with_batches_of(mut self, items: usize) -> Self {
        assert!(items > 0, "a batch holds at least one item");
        self.batch_items = NonZeroUsize::new(items);
        self
    }

    /// Says how many writes may run at once. Default one.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn with_concurrency(mut self, writes: usize) -> Self {
        assert!(writes > 0, "at least one write runs at once");
        self.concurrency = NonZeroUsize::new(writes);
        self
    }

    /// Rejects items of a kind.
    #[must_use]
    pub fn refusing(mut self, kind: KindId) -> Self {
        self.refuses.push(kind);
        self
    }

    /// Only counts, and keeps neither items nor writes: for benches.
    #[must_use]
    pub fn counting_only(mut self) -> Self {
        self.counts_only = true;
        self
    }

    /// Lets others go first so many times before each write. Default never.
    #[must_use]
    pub fn yielding(mut self, times: u32) -> Self {
        self.yields = times;
        self
    }

    fn mode(&self) -> Mode {
        if self.staging { Mode::Append } else { self.mode }
    }
}

impl<K: Kind> SinkConfig for MemorySink<K> {
    const NAME: &'static str = "memory/sink";
    type Input = K;
    type Client = NoClient;
    type Sink = OpenMemorySink;

    fn guarantee(&self) -> Guarantee {
        match self.mode() {
            Mode::Upsert => Guarantee::Upsert,
            Mode::Append => Guarantee::Append,
        }
    }

    fn optimum(&self) -> BatchLimits {
        let default = BatchLimits::default();
        BatchLimits { items: self.batch_items.map_or(default.items, NonZeroUsize::get), ..default }
    }

    fn concurrency(&self) -> usize {
        self.concurrency.map_or(1, NonZeroUsize::get)
    }

    fn buffers(&self) -> bool {
        self.buffers
    }

    fn stages(&self) -> bool {
        self.staging
    }

    async fn open(&self, context: &OpenContext) -> Result<OpenMemorySink> {
        let store = MemoryStore::named(&self.name);
        store.count(|tally| tally.opens += 1);
        let staged = match context.staging() {
            Staging::On(staged) if self.staging => Some(staged.as_ref()),
            Staging::Shown(staged) if self.staging => Some(Some(staged)),
            _ => None,
        };
        let stage = match staged {
            Some(staged) => {
                let owner = format!("{}/{}", context.context().graph(), context.context().node());
                let stage = Stage { owner, last: AtomicU64::new(staged.map_or(Ok(0), time)?) };
                store.show(&stage.owner, stage.last.load(Ordering::Acquire));
                store.forget(&stage.owner);
                Some(stage)
            }
            None => None,
        };
        Ok(OpenMemorySink {
            store,
            stage,
            mode: self.mode(),
            buffers: self.buffers,
            refuses: self.refuses.clone(),
            counts_only: self.counts_only,
            yields: self.yields,
            buffered: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }
}

impl<K: Kind> Clone for MemorySink<K> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            mode: self.mode,
            buffers: self.buffers,
            staging: self.staging,
            batch_items: self.batch_items,
            concurrency: self.concurrency,
            refuses: self.refuses.clone(),
            counts_only: self.counts_only,
            yields: self.yields,
            input: PhantomData,
        }
    }
}

impl<K: Kind> fmt::Debug for MemorySink<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySink")
            .field("name", &self.name)
            .field("mode", &self.mode)
            .field("buffers", &self.buffers)
            .finish_non_exhaustive()
    }
}

/// Whose what is staged is, and how often it was.
#[derive(Debug)]
struct Stage {
    owner: String,
    last: AtomicU64,
}

/// Returns the time that bytes of a checkpoint name.
fn time(staged: &Bytes) -> Result<u64> {
    serde_json::from_slice(staged)
        .map_err(|error| Error::invalid("staged", "it is no number").with_source(error))
}

/// An open [`MemorySink`].
#[derive(Debug)]
pub struct OpenMemorySink {
    store: MemoryStore,
    stage: Option<Stage>,
    mode: Mode,
    buffers: bool,
    refuses: Vec<KindId>,
    counts_only: bool,
    yields: u32,
    buffered: Mutex<Vec<Primitive>>,
    closed: AtomicBool,
}

impl OpenMemorySink {
    fn keep(&self, items: Vec<Primitive>) -> Vec<bool> {
        match self.mode {
            Mode::Upsert => self.store.upsert(items),
            Mode::Append => {
                let new = vec![false; items.len()];
                self.store.append(items);
                new
            }
        }
    }

    fn still_open(&self) -> Result<()> {
        if !self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.store.count(|tally| tally.after_close += 1);
        Err(Error::internal("the sink is closed"))
    }

    fn take_buffered(&self) -> Vec<Primitive> {
        std::mem::take(&mut *self.buffered.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn let_go(&self) {
        // What is not staged does not show.
        if self.stage.is_none() {
            self.keep(self.take_buffered());
        }
    }

    fn refusal(&self, kind: KindId) -> Option<WriteStatus> {
        let refused = self.refuses.contains(&kind);
        refused.then(|| WriteStatus::Rejected(Error::invalid("kind", format!("the sink takes no {kind}"))))
    }
}

impl Sink for OpenMemorySink {
    async fn write(&self, batch: &Batch, _: &Context) -> Result<WriteReport> {
        self.still_open()?;
        yields(self.yields).await;
        let mut report = WriteReport::applied(batch.len());
        if self.counts_only {
            self.store.count(|tally| {
                tally.writes += 1;
                tally.written += batch.len() as u64;
            });
            return Ok(report);
        }
        let (mut taken, mut items) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for (index, item) in (0..).zip(batch.iter()) {
            match self.refusal(item.kind()) {
                Some(refusal) => report = report.with(index, refusal),
                None => {
                    taken.push(index);
                    items.push(item);
                }
            }
        }
        self.store.record(Write { ids: batch.ids(), bytes: batch.bytes(), rows: batch.as_rows().is_some() });
        self.store.count(|tally| {
            tally.writes += 1;
            tally.written += batch.len() as u64;
            tally.refused += (batch.len() - items.len()) as u64;
        });
        if self.buffers || self.stage.is_some() {
            self.buffered.lock().unwrap_or_else(PoisonError::into_inner).extend(items);
            return Ok(report);
        }
        for (index, same) in taken.into_iter().zip(self.keep(items)) {
            if same {
                report = report.with(index, WriteStatus::AlreadyApplied);
            }
        }
        Ok(report)
    }

    async fn flush(&self, _: &Context) -> Result<()> {
        self.still_open()?;
        self.store.count(|tally| tally.flushes += 1);
        self.let_go();
        Ok(())
    }

    async fn stage(&self, _: &Context) -> Result<Option<Bytes>> {
        self.still_open()?;
        self.store.count(|tally| tally.stages += 1);
        let Some(stage) = &self.stage else {
            self.let_go();
            return Ok(None);
        };
        let (items, mut last) = (self.take_buffered(), stage.last.load(Ordering::Acquire));
        if !items.is_empty() {
            last += 1;
            self.store.stage(&stage.owner, last, items);
            stage.last.store(last, Ordering::Release);
        }
        Ok((last > 0).then(|| last.to_string().into()))
    }

    async fn publish(&self, staged: &Bytes, _: &Context) -> Result<()> {
        self.still_open()?;
        self.store.count(|tally| tally.publishes += 1);
        if let Some(stage) = &self.stage {
            self.store.show(&stage.owner, time(staged)?);
        }
        Ok(())
    }

    async fn close(&self, _: &Context) -> Result<()> {
        self.store.count(|tally| tally.closes += 1);
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.let_go();
        }
        Ok(())
    }
}
