//! Sinks: batches written, and acknowledged when what is written is durable.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, FutureExt};
use nvisy_core::plugin::ErasedSink;
use nvisy_core::token::{Settlement, Token, Tokens};
use nvisy_core::{Batch, Result};

use super::work::{CallerCut, Worker};
use crate::engine::call::{Caller, Failure, Settled};
use crate::engine::checkpoint::{Replacing, Stage};
use crate::engine::edge::{End, Pulse};
use crate::engine::lineage::LineageLog;
use crate::engine::outlet::Outlets;

pub(super) struct SinkWorker {
    pub(super) sink: Arc<dyn ErasedSink>,
    pub(super) caller: Caller,
    pub(super) appends: bool,
    pub(super) buffers: bool,
    pub(super) letters: bool,
    /// Whether it is closed when the run has finished, and not before.
    pub(super) remembers: bool,
    pub(super) held: Mutex<Held>,
    /// Where what it writes is kept out of sight until a checkpoint has it.
    pub(super) stage: Option<Arc<Stage>>,
    pub(super) lineage: LineageLog,
    /// What keeps it open for what is stale at the end.
    pub(super) replacing: Option<Arc<Replacing>>,
}

/// What is written and waits to become durable: one token a slot of each source.
#[derive(Default)]
pub(super) struct Held {
    slots: HashMap<u64, Vec<Token>>,
    items: u64,
}

impl Held {
    fn take_in(&mut self, tokens: Tokens, items: u64) {
        self.items += items;
        for token in tokens.into_tokens() {
            let same = self.slots.entry(token.slot()).or_default();
            match same.iter().position(|held| held.same_slot(&token)) {
                None => same.push(token),
                // Never refused: the slot is the same.
                Some(at) => {
                    let refused = same[at].merge(token).err();
                    same.extend(refused);
                }
            }
        }
    }
}

impl SinkWorker {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes durable what was written.
    async fn flush(&self) -> Result<()> {
        match &self.stage {
            Some(stage) => stage.stage().await,
            None => self.caller.plain(|context| async move { self.sink.flush(&context).await }).await,
        }
    }

    /// Settles what was waiting to become durable.
    fn release(&self, outlets: &Outlets, settlement: Settlement) {
        let held = std::mem::take(&mut *self.held());
        for token in held.slots.into_values().flatten() {
            token.settle(settlement);
        }
        let counter = if settlement.is_final() { &outlets.meter.emitted_from } else { &outlets.meter.failed };
        counter.add(held.items);
    }

    /// Makes durable what was written, by a flush or a close that ended so, or fails it.
    fn made_durable(&self, outlets: &Outlets, result: Result<()>) -> Result<()> {
        self.release(outlets, if result.is_ok() { Settlement::Delivered } else { Settlement::Failed });
        result
    }
}

impl Worker for SinkWorker {
    fn work<'a>(&'a self, batch: &'a Batch, _: Option<Vec<u64>>) -> BoxFuture<'a, Result<Settled>> {
        self.caller.write(&*self.sink, self.appends, batch).boxed()
    }

    fn deliver<'a>(
        &'a self,
        outlets: &'a Outlets,
        input: Batch,
        tokens: Tokens,
        settled: Settled,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let failed = settled.failed;
            // Before it settles: no checkpoint is to have what the log has not.
            self.lineage.note(&outlets.meter.node, &input, &failed).await;
            let passed = input.len() as u64 - failed.len() as u64;
            let (mut tokens, result) = if failed.is_empty() {
                outlets.passed(input.len());
                (tokens, Ok(()))
            } else {
                let good = tokens.split_for(others(input.len(), &failed).into_iter());
                let result = outlets.set_aside(&input, &tokens, failed).await;
                tokens.settle(Settlement::Delivered);
                (good, result)
            };
            if self.buffers {
                tokens.land();
                self.held().take_in(tokens, passed);
            } else {
                outlets.meter.emitted_from.add(passed);
                tokens.settle(Settlement::Delivered);
            }
            result
        }
        .boxed()
    }

    fn pulse<'a>(&'a self, outlets: &'a Outlets, pulse: Pulse) -> BoxFuture<'a, Result<()>> {
        async move {
            outlets.pulse(pulse);
            if pulse == Pulse::Durable && self.buffers {
                let flushed = self.flush().await;
                self.made_durable(outlets, flushed)?;
            }
            Ok(())
        }
        .boxed()
    }

    /// What a sink holds back until it closes shows whole or not at all: where some of it never
    /// came, the sink is dropped instead, and leaves what was there before as it is. Dead letters
    /// say what went wrong, and are kept also then.
    fn end<'a>(&'a self, outlets: &'a Outlets, end: End) -> BoxFuture<'a, Result<End>> {
        async move {
            if self.buffers && !self.letters && end != End::Complete {
                self.release(outlets, Settlement::Failed);
                if let Some(stage) = &self.stage {
                    stage.withhold();
                }
                return Ok(End::Broken);
            }
            let closed = match (&self.stage, &self.replacing) {
                // It is closed when the last checkpoint is made.
                (Some(stage), _) => stage.stage().await,
                (None, Some(replacing)) => {
                    let flushed = self.flush().await;
                    replacing.ended.store(flushed.is_ok(), Ordering::Release);
                    flushed
                }
                (None, None) if self.remembers => self.flush().await,
                (None, None) => {
                    self.caller.plain(|context| async move { self.sink.close(&context).await }).await
                }
            };
            self.made_durable(outlets, closed).map(|()| end)
        }
        .boxed()
    }

    fn cut(&self) -> CallerCut<'_> {
        CallerCut { caller: &self.caller, weigher: None }
    }
}

/// The items that are not among those that failed, which stand in ascending order.
fn others(len: usize, failed: &[Failure]) -> Vec<u32> {
    let mut bad = failed.iter().map(|failure| failure.index).peekable();
    (0..len as u32).filter(|at| bad.next_if_eq(at).is_none()).collect()
}
