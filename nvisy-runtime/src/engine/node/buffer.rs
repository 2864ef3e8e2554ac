//! A reader of a fan-out that takes its time: what comes is kept, and let go of as it has room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nvisy_core::token::{Settlement, Token, Tokens};
use nvisy_core::{Error, ErrorKind, Result};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Ended, Inbox};
use crate::actions::buffer::Buffer;
use crate::engine::checkpoint::{Memory, Phase};
use crate::engine::edge::{Parcel, Pulse};
use crate::engine::ledger::NodeMeter;
use crate::engine::outlet::Outlets;
use crate::engine::source::follow;
use crate::engine::tracker::Asks;

/// A buffer that is ready to work: to what is before it a sink, to what is behind it a source.
pub(in crate::engine) struct Buffering {
    pub(in crate::engine) memory: Arc<Memory>,
    pub(in crate::engine) buffer: Buffer,
    pub(in crate::engine) asks: Asks,
    /// What is asked of it for a checkpoint.
    pub(in crate::engine) phase: watch::Receiver<Phase>,
    /// Says that the user wants the run to stop reading.
    pub(in crate::engine) drain: CancellationToken,
    /// Whether what it has is there for the next run.
    pub(in crate::engine) kept: bool,
}

/// What taking and letting go say to each other.
#[derive(Default)]
struct Between {
    /// There is something to let go of, or nothing will come any more.
    filled: Notify,
    /// All of the input has come.
    all: AtomicBool,
}

impl Buffering {
    /// Takes what comes and lets go of it, neither of which waits for the other but at the bound.
    pub(super) async fn run(
        &self,
        inbox: &mut Inbox,
        outlets: &Outlets,
        meter: &Arc<NodeMeter>,
    ) -> Result<Ended> {
        let between = Between::default();
        meter.buffered.set(self.buffer.all());
        let work = async {
            tokio::try_join!(
                self.take(inbox, outlets, meter, &between),
                self.let_go(outlets, meter, &between)
            )
        };
        let worked = tokio::select! {
            biased;
            worked = work => worked,
            never = follow(self.phase.clone(), outlets) => match never {},
            failed = self.measure_on() => Err(failed),
        };
        self.memory.full.send_replace(false);
        let ((), all_gone) = worked?;
        // What a drained run has left is in the last checkpoint, and the next one goes on from there.
        let goes_on = self.kept && self.drain.is_cancelled();
        Ok(if all_gone || goes_on { inbox.ended() } else { Ended::Stopped })
    }

    async fn take(
        &self,
        inbox: &mut Inbox,
        outlets: &Outlets,
        meter: &NodeMeter,
        between: &Between,
    ) -> Result<()> {
        loop {
            self.room().await?;
            let parcel = tokio::select! {
                biased;
                () = self.memory.stop.cancelled(), if !self.kept => return Err(broken("")),
                parcel = inbox.next() => parcel,
            };
            match parcel {
                None => break,
                Some(Parcel::Batch(mut batch)) => {
                    let (items, tokens) = (batch.len() as u64, batch.take_tokens());
                    if let Err(error) = self.buffer.push(batch).await {
                        tokens.settle(Settlement::Failed);
                        return Err(error);
                    }
                    meter.absorbed.add(items);
                    meter.buffered.set(self.buffer.all());
                    meter.spilled.set(self.buffer.spilled());
                    self.measure().await?;
                    tokens.settle(Settlement::Absorbed);
                    between.filled.notify_one();
                }
                Some(Parcel::Pulse(pulse)) => outlets.pulse(pulse),
                Some(Parcel::End(_)) => {}
            }
            tokio::task::consume_budget().await;
        }
        between.all.store(true, Ordering::Release);
        between.filled.notify_one();
        Ok(())
    }

    /// Says whether there is room.
    async fn measure(&self) -> Result<()> {
        let full = !self.buffer.has_room().await?;
        self.memory.full.send_if_modified(|was| std::mem::replace(was, full) != full);
        Ok(())
    }

    /// Returns whether there will be no room in this run: something that failed is kept for the next
    /// one with all that came behind it, and nothing is on its way whose end could make room. Not
    /// while what comes is taken in anyhow.
    fn is_stuck(&self) -> bool {
        let Memory { tracker, full, .. } = &*self.memory;
        let kept = self.memory.lags() && *full.borrow() && tracker.has_failed();
        let waits = *self.phase.borrow() == Phase::Read && !self.drain.is_cancelled();
        kept && waits && self.buffer.waiting() == 0 && tracker.is_settled()
    }

    /// Says so again whenever something that it let go of has arrived. Returns why there will be no
    /// room any more.
    async fn measure_on(&self) -> Error {
        let mut phase = self.phase.clone();
        loop {
            let settles = self.memory.tracker.settles();
            let mut settles = std::pin::pin!(settles);
            // What happens from here on is not missed.
            settles.as_mut().enable();
            if let Err(error) = self.measure().await {
                return error;
            }
            phase.mark_unchanged();
            if self.is_stuck() {
                return broken(AT_THE_BOUND);
            }
            tokio::select! {
                () = settles => {}
                // Who makes checkpoints may be gone: then none is made.
                Ok(()) = phase.changed() => {}
            }
        }
    }

    /// Waits until there is room. What is on its way when a checkpoint is made or the run is
    /// drained is taken in anyhow: that waits for it, and after a checkpoint sources wait for room.
    async fn room(&self) -> Result<()> {
        let (mut phase, mut full) = (self.phase.clone(), self.memory.full.subscribe());
        loop {
            let held = *phase.borrow_and_update() != Phase::Read;
            if held || self.drain.is_cancelled() || !*full.borrow_and_update() {
                return Ok(());
            }
            if self.memory.stop.is_cancelled() {
                return Err(broken(AT_THE_BOUND));
            }
            tokio::select! {
                Ok(()) = full.changed() => {}
                () = self.drain.cancelled() => {}
                () = self.memory.stop.cancelled() => {}
                // Who makes checkpoints may be gone: then none is made.
                Ok(()) = phase.changed() => {}
            }
        }
    }

    /// Returns whether all is let go of: not where nothing behind it works any more, and in a run
    /// that is drained and whose state is kept.
    async fn let_go(&self, outlets: &Outlets, meter: &NodeMeter, between: &Between) -> Result<bool> {
        let Memory { node, tracker, stop, .. } = &*self.memory;
        loop {
            if stop.is_cancelled() {
                return Ok(false);
            }
            let all = between.all.load(Ordering::Acquire);
            if self.buffer.waiting() == 0 {
                if all {
                    return Ok(true);
                }
                // What is gathered, and what only a flush makes durable, is what there is to wait for.
                let flush = self.memory.lags() && *self.memory.full.borrow();
                outlets.pulse(if flush { Pulse::Durable } else { Pulse::Gathered });
                tokio::select! {
                    () = between.filled.notified() => {}
                    () = stop.cancelled() => {}
                }
                continue;
            }
            let slot = tokio::select! {
                biased;
                () = stop.cancelled() => continue,
                slot = tracker.reserve(node, &self.asks, |pulse| outlets.pulse(pulse)) => slot,
            };
            let Some(slot) = slot else {
                tokio::select! {
                    () = tracker.until_free() => {}
                    () = stop.cancelled() => {}
                }
                continue;
            };
            let token = Token::open(slot, tracker.clone());
            match self.buffer.next().await {
                Ok(None) => token.settle(Settlement::Delivered),
                Ok(Some(batch)) => {
                    let items = batch.len() as u64;
                    tracker.fill(slot, items, batch.bytes() as u64, &self.asks);
                    meter.released.add(items);
                    outlets.send(batch.with_tokens(Tokens::one(token))).await;
                    tracker.let_go_if_held(outlets);
                }
                Err(error) => {
                    token.settle(Settlement::Failed);
                    return Err(error);
                }
            }
            tokio::task::consume_budget().await;
        }
    }
}

const AT_THE_BOUND: &str = ", and the bound of its buffer is reached";

fn broken(why: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("what reads from it has failed{why}"))
}
