//! Working on batches: gathered, side by side, delivered in the order in which they came.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesOrdered, StreamExt};
use nvisy_core::action::ErasedBatch;
use nvisy_core::token::{Settlement, Tokens};
use nvisy_core::{Batch, Result};
use tokio::time::Instant;

use super::{Ended, Inbox};
use crate::engine::call::{Caller, Settled};
use crate::engine::edge::{End, Parcel, Pulse};
use crate::engine::gather::{Cut, Gatherer, Ready};
use crate::engine::ledger::NodeMeter;
use crate::engine::outlet::Outlets;

/// What is done with each batch, and then with what became of it.
pub(super) trait Worker: Sync {
    /// Does the work. What it borrows outlives the node's run.
    fn work<'a>(&'a self, batch: &'a Batch, weights: Option<Vec<u64>>) -> BoxFuture<'a, Result<Settled>>;

    /// Sends on what became of a batch, in the order in which batches came.
    fn deliver<'a>(
        &'a self,
        outlets: &'a Outlets,
        input: Batch,
        tokens: Tokens,
        settled: Settled,
    ) -> BoxFuture<'a, Result<()>>;

    /// A pulse has come, and everything before it is delivered.
    fn pulse<'a>(&'a self, outlets: &'a Outlets, pulse: Pulse) -> BoxFuture<'a, Result<()>>;

    /// Everything is delivered, and what came ended so. Returns how the work did.
    fn end<'a>(&'a self, outlets: &'a Outlets, end: End) -> BoxFuture<'a, Result<End>>;

    /// Returns how batches are cut.
    fn cut(&self) -> CallerCut<'_>;
}

/// A batch's way through a worker: what is in flight, in the order in which it came.
#[expect(clippy::large_enum_variant, reason = "pulses are rare")]
enum Passing {
    Settled { input: Batch, tokens: Tokens, settled: Result<Settled> },
    Pulse(Pulse),
}

/// Waits for what comes next and lets the gatherer have it. Returns what is to be done now,
/// and whether that is all there will be.
pub(super) async fn next_gathered(
    gather: &mut Gatherer,
    inbox: &mut Inbox,
    cut: &dyn Cut,
) -> (Vec<Ready>, bool) {
    next_gathered_of(gather, inbox, cut, |_, _| {}).await
}

/// The same, and tells over which edge a batch comes, before the gatherer has it.
pub(super) async fn next_gathered_of(
    gather: &mut Gatherer,
    inbox: &mut Inbox,
    cut: &dyn Cut,
    comes: impl FnOnce(&mut Gatherer, usize),
) -> (Vec<Ready>, bool) {
    let due = gather.due();
    let parcel = tokio::select! {
        biased;
        parcel = inbox.next() => parcel,
        () = sleep_until(due), if due.is_some() => return (gather.flush(cut), false),
    };
    match parcel {
        Some(Parcel::Batch(batch)) => {
            comes(gather, inbox.from);
            (gather.push(batch, cut), false)
        }
        Some(Parcel::Pulse(pulse)) => {
            let mut out = gather.flush(cut);
            out.push(Ready::Pulse(pulse));
            (out, false)
        }
        // The inbox keeps the ends of its edges to itself.
        Some(Parcel::End(_)) => (Vec::new(), false),
        None => (gather.flush(cut), true),
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Several batches at once, delivered in the order in which they came: for calls to others.
///
/// Delivering waits for room downstream; calls go on meanwhile, so that back-pressure never
/// looks like a slow answer.
///
/// A node holds at most `concurrency` batches that are worked on or done, two more that are
/// being delivered or are next, and what the gatherer holds or has just cut, which is less than
/// its limit and one batch.
pub(super) async fn concurrent(
    worker: &dyn Worker,
    mut gather: Gatherer,
    concurrency: usize,
    inbox: &mut Inbox,
    outlets: &Outlets,
    meter: &Arc<NodeMeter>,
) -> Result<Ended> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Passing>(1);
    let deliver = async move {
        while let Some(passing) = receiver.recv().await {
            match passing {
                Passing::Settled { input, tokens, settled: Ok(settled) } => {
                    worker.deliver(outlets, input, tokens, settled).await?;
                }
                Passing::Settled { tokens, settled: Err(error), .. } => {
                    tokens.settle(Settlement::Failed);
                    return Err(error);
                }
                Passing::Pulse(pulse) => worker.pulse(outlets, pulse).await?,
            }
        }
        Ok(())
    };
    let work = async {
        let mut waiting: VecDeque<Ready> = VecDeque::new();
        let mut working: FuturesOrdered<BoxFuture<'_, Passing>> = FuturesOrdered::new();
        let mut done: VecDeque<Passing> = VecDeque::new();
        let mut ended = false;
        let cut = worker.cut();
        loop {
            while working.len() + done.len() < concurrency
                && let Some(ready) = waiting.pop_front()
            {
                working.push_back(match ready {
                    Ready::Batch(batch, weights) => pass(worker, batch, weights, meter.clone()).boxed(),
                    Ready::Pulse(pulse) => std::future::ready(Passing::Pulse(pulse)).boxed(),
                });
            }
            if ended && waiting.is_empty() && working.is_empty() && done.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                Some(passing) = working.next(), if !working.is_empty() => done.push_back(passing),
                permit = sender.reserve(), if !done.is_empty() => match (permit, done.pop_front()) {
                    (Ok(permit), Some(passing)) => permit.send(passing),
                    // Delivery has failed; its error is the node's.
                    _ => break,
                },
                (ready, all) = next_gathered(&mut gather, inbox, &cut), if waiting.is_empty() && !ended => {
                    waiting.extend(ready);
                    ended = all;
                }
            }
        }
        drop(sender);
    };
    // The first error ends both; what is dropped with them counts as failed.
    futures::future::try_join(work.map(Ok), deliver).await?;
    worker.end(outlets, inbox.end).await.map(Ended::With)
}

async fn pass(
    worker: &dyn Worker,
    mut batch: Batch,
    weights: Option<Vec<u64>>,
    meter: Arc<NodeMeter>,
) -> Passing {
    let tokens = batch.take_tokens();
    let began = Instant::now();
    let settled = worker.work(&batch, weights).await;
    meter.busy.add_time(began.elapsed());
    Passing::Settled { input: batch, tokens, settled }
}

/// Cuts batches to what a call takes now, and weighs items if they have a weight.
pub(super) struct CallerCut<'a> {
    pub(super) caller: &'a Caller,
    pub(super) weigher: Option<&'a dyn ErasedBatch>,
}

impl Cut for CallerCut<'_> {
    fn size(&self) -> usize {
        self.caller.size.get()
    }

    fn weigh(&self, batch: &Batch) -> Option<Vec<u64>> {
        self.weigher.map(|weigher| batch.iter().map(|item| weigher.weigh(&item)).collect())
    }
}
