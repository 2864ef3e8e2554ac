//! Actions that see more than one batch: with memory, and as a stream.

use std::sync::Arc;

use futures::stream::StreamExt;
use nvisy_core::action::ErasedPipe;
use nvisy_core::token::{Settlement, Token, Tokens};
use nvisy_core::{Batch, Result};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::work::{CallerCut, next_gathered, next_gathered_of};
use super::{Ended, Inbox};
use crate::engine::call::{Caller, Failure, Settled};
use crate::engine::checkpoint::{Memory, Phase};
use crate::engine::edge::End;
use crate::engine::gather::{Cut, Gatherer, Ready};
use crate::engine::ledger::NodeMeter;
use crate::engine::outlet::Outlets;
use crate::engine::source::follow;
use crate::engine::tracker::Asks;

/// An action with memory that is ready to work.
pub(in crate::engine) struct Remembering {
    pub(in crate::engine) memory: Arc<Memory>,
    pub(in crate::engine) caller: Caller,
    pub(in crate::engine) asks: Asks,
    /// What is asked of it for a checkpoint.
    pub(in crate::engine) phase: watch::Receiver<Phase>,
    /// Says that the user wants the run to stop reading.
    pub(in crate::engine) drain: CancellationToken,
    /// Whether what it remembers is there for the next run.
    pub(in crate::engine) kept: bool,
}

impl Remembering {
    /// One batch after the other, never tried again; and what is let go of in between.
    pub(super) async fn run(
        self: Box<Self>,
        gather: Gatherer,
        inbox: &mut Inbox,
        outlets: &Outlets,
        meter: &Arc<NodeMeter>,
    ) -> Result<Ended> {
        let phase = self.phase.clone();
        tokio::select! {
            biased;
            ended = self.work(gather, inbox, outlets, meter) => ended,
            never = follow(phase, outlets) => match never {},
        }
    }

    /// Takes in what comes, and lets go of what the action gives back.
    ///
    /// While a checkpoint holds the tracker nothing is let go of, and what is on its way comes in
    /// all the same: the checkpoint waits for that.
    async fn work(
        &self,
        gather: Gatherer,
        inbox: &mut Inbox,
        outlets: &Outlets,
        meter: &Arc<NodeMeter>,
    ) -> Result<Ended> {
        let tracker = self.memory.tracker.clone();
        let mut inputs = Inputs { gather, from: 0 };
        // A run before may have stopped before all was let go of.
        let (mut pending, mut ended) = (true, false);
        let cut = CallerCut { caller: &self.caller, weigher: None };
        loop {
            if ended && let Some(ended) = self.ended(inbox, meter).await {
                return Ok(ended);
            }
            if pending {
                match self.reserve(outlets, ended).await {
                    Reserved::Slot(slot) => {
                        pending = self.release(slot, ended, outlets, meter).await?;
                        if ended && !pending {
                            return Ok(inbox.ended());
                        }
                        continue;
                    }
                    Reserved::Stopped => continue,
                    Reserved::Held if ended => {
                        // The input ended behind the pulse of the checkpoint, which waits for what
                        // was sent on since.
                        tracker.let_go_if_held(outlets);
                        tokio::select! {
                            () = tracker.until_free() => {}
                            () = self.memory.stop.cancelled() => {}
                        }
                        continue;
                    }
                    Reserved::Held => {}
                }
            }
            let (ready, all) = tokio::select! {
                biased;
                () = tracker.until_free(), if pending => continue,
                ready = inputs.next(inbox, &cut) => ready,
            };
            for (from, ready) in ready {
                match ready {
                    Ready::Batch(batch, _) => {
                        self.apply(batch, from, outlets, meter).await?;
                        pending = true;
                    }
                    Ready::Pulse(pulse) => outlets.pulse(pulse),
                }
            }
            ended = all;
            pending |= all;
        }
    }

    /// Returns how the work ends before all is let go of, if it does.
    ///
    /// What came is let go of as all there is only where it is: the sum of a part is wrong.
    async fn ended(&self, inbox: &Inbox, meter: &NodeMeter) -> Option<Ended> {
        // In this order: what is drained is stopped, too.
        let stopped = self.memory.stop.is_cancelled();
        let drained = self.drain.is_cancelled();
        let holding = self.memory.lock().await.is_holding();
        let lacking = holding.unwrap_or_else(|| meter.absorbed.get() > meter.released.get());
        match inbox.end {
            // What it has is in the last checkpoint, and the run goes on from there.
            End::Complete if drained && self.kept => Some(inbox.ended()),
            End::Complete if drained && lacking => {
                meter.withhold();
                Some(Ended::With(End::Short))
            }
            End::Complete if drained => Some(inbox.ended()),
            End::Complete if stopped => Some(Ended::Stopped),
            End::Complete => None,
            End::Short | End::Broken if lacking => {
                meter.withhold();
                Some(Ended::With(End::Broken))
            }
            End::Short | End::Broken => Some(inbox.ended()),
        }
    }

    async fn apply(&self, mut batch: Batch, from: usize, outlets: &Outlets, meter: &NodeMeter) -> Result<()> {
        let tokens = batch.take_tokens();
        let began = Instant::now();
        let called = self.caller.once(|context| {
            let batch = batch.without_tokens();
            async move { self.memory.lock().await.call(batch, from, &context).await }
        });
        let checked = called.await.and_then(|outcomes| outcomes.check(batch.len()).map(|()| outcomes));
        meter.busy.add_time(began.elapsed());
        match checked {
            Ok(outcomes) => outlets.settle(&batch, tokens, Settled::from(outcomes)).await,
            Err(error) => {
                tokens.settle(Settlement::Failed);
                Err(error)
            }
        }
    }

    /// Opens a slot for what the action may let go of: before it is asked, so that at no time
    /// something is neither in its memory nor on its way.
    async fn reserve(&self, outlets: &Outlets, ended: bool) -> Reserved {
        let memory = &self.memory;
        tokio::select! {
            biased;
            () = memory.stop.cancelled(), if ended => Reserved::Stopped,
            slot = memory.tracker.reserve(&memory.node, &self.asks, |pulse| outlets.pulse(pulse)) => match slot {
                Some(slot) => Reserved::Slot(slot),
                None => Reserved::Held,
            },
        }
    }

    /// Has the action let go of a batch. Returns whether there may be more.
    async fn release(&self, slot: u64, ended: bool, outlets: &Outlets, meter: &NodeMeter) -> Result<bool> {
        let memory = &self.memory;
        let token = Token::open(slot, memory.tracker.clone());
        let began = Instant::now();
        let called =
            self.caller.once(|context| async move { memory.lock().await.release(ended, &context).await });
        let released = called.await;
        meter.busy.add_time(began.elapsed());
        match released {
            Ok(None) => {
                token.settle(Settlement::Delivered);
                Ok(false)
            }
            Ok(Some(batch)) => {
                let items = batch.len() as u64;
                memory.tracker.fill(slot, items, batch.bytes() as u64, &self.asks);
                meter.released.add(items);
                outlets.send(batch.with_tokens(Tokens::one(token))).await;
                memory.tracker.let_go_if_held(outlets);
                Ok(true)
            }
            Err(error) => {
                token.settle(Settlement::Failed);
                Err(error)
            }
        }
    }
}

/// Whether something may be let go of.
enum Reserved {
    Slot(u64),
    /// A checkpoint is being made.
    Held,
    /// Nothing that it lets go of could arrive any more, or the user wants it to stop.
    Stopped,
}

/// Gathers the batches of each input apart.
struct Inputs {
    gather: Gatherer,
    /// The input of what is gathered.
    from: usize,
}

impl Inputs {
    /// Returns what is to be done now, each with the input that it is of, and whether that is all
    /// there will be.
    async fn next(&mut self, inbox: &mut Inbox, cut: &dyn Cut) -> (Vec<(usize, Ready)>, bool) {
        let Self { gather, from } = self;
        let before = *from;
        let mut out: Vec<(usize, Ready)> = Vec::new();
        let (ready, ended) = next_gathered_of(gather, inbox, cut, |gather, of| {
            if of != *from {
                out.extend(gather.flush(cut).into_iter().map(|ready| (before, ready)));
                *from = of;
            }
        })
        .await;
        out.extend(ready.into_iter().map(|ready| (*from, ready)));
        (out, ended)
    }
}

/// One epoch after the other: all that comes out of one belongs to all that went in.
pub(super) async fn piped(
    pipe: &dyn ErasedPipe,
    caller: &Caller,
    mut gather: Gatherer,
    inbox: &mut Inbox,
    outlets: &Outlets,
    meter: &Arc<NodeMeter>,
) -> Result<Ended> {
    let cut = CallerCut { caller, weigher: None };
    loop {
        let (ready, ended) = next_gathered(&mut gather, inbox, &cut).await;
        for ready in ready {
            match ready {
                Ready::Batch(mut batch, _) => {
                    let tokens = batch.take_tokens();
                    let began = Instant::now();
                    let epoch = futures::stream::iter([batch.without_tokens()]).boxed();
                    let called = caller.once(|context| async move {
                        futures::TryStreamExt::try_collect::<Vec<Batch>>(pipe.call(epoch, &context)).await
                    });
                    let called = called.await;
                    meter.busy.add_time(began.elapsed());
                    epoch_ended(&batch, tokens, called, outlets).await?;
                }
                Ready::Pulse(pulse) => outlets.pulse(pulse),
            }
        }
        if ended {
            return Ok(inbox.ended());
        }
    }
}

async fn epoch_ended(
    input: &Batch,
    tokens: Tokens,
    called: Result<Vec<Batch>>,
    outlets: &Outlets,
) -> Result<()> {
    let items = input.len() as u64;
    match called {
        Ok(batches) if batches.iter().all(Batch::is_empty) => {
            outlets.meter.count_dropped(&"the pipe emitted nothing".into(), items);
            outlets.passed(input.len());
            tokens.settle(Settlement::Dropped);
            Ok(())
        }
        Ok(batches) => {
            outlets.meter.emitted_from.add(items);
            outlets.passed(input.len());
            for batch in batches {
                outlets.send(batch.with_tokens(tokens.split_all())).await;
            }
            tokens.settle(Settlement::Delivered);
            Ok(())
        }
        Err(error) => {
            let failed =
                (0..input.len() as u32).map(|index| Failure { index, error: error.clone(), attempts: 1 });
            let result = outlets.set_aside(input, &tokens, failed.collect()).await;
            tokens.settle(Settlement::Delivered);
            result
        }
    }
}

#[cfg(test)]
mod tests {
    use nvisy_core::primitive::raw::Raw;
    use nvisy_core::{BatchLimits, Item};

    use super::*;
    use crate::compiler::plan::Gather;
    use crate::engine::edge::{Pulse, edge};

    struct Tens;

    impl Cut for Tens {
        fn size(&self) -> usize {
            10
        }

        fn weigh(&self, _: &Batch) -> Option<Vec<u64>> {
            None
        }
    }

    #[tokio::test]
    async fn what_comes_over_two_edges_is_not_gathered_into_one_batch() {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..2).map(|_| edge(100, 1 << 20)).map(|(sender, receiver, _)| (sender, receiver)).unzip();
        let meter = Arc::new(NodeMeter::new("graph".into(), "node".into(), None));
        let mut inbox = Inbox::new(receivers, meter);
        for (from, sender) in senders.into_iter().enumerate() {
            for n in 0..3 {
                let item = Item::detached(&format!("{from} {n}"), Raw::Json(from.into()));
                sender.try_send(Batch::from_primitives(vec![item.into_primitive()])).unwrap();
            }
            sender.end(End::Complete);
        }
        let gather = Gatherer::new(BatchLimits::items(10), Some(Gather { linger: None }));
        let mut inputs = Inputs { gather, from: 0 };
        let mut items = [0, 0];
        loop {
            let (ready, ended) = inputs.next(&mut inbox, &Tens).await;
            for (from, ready) in ready {
                let Ready::Batch(batch, _) = ready else { continue };
                for item in batch.iter() {
                    let nvisy_core::primitive::Payload::Raw(raw) = item.payload() else {
                        panic!("it is raw")
                    };
                    assert_eq!(raw.as_json().and_then(serde_json::Value::as_u64), Some(from as u64));
                }
                items[from] += batch.len();
            }
            if ended {
                break;
            }
        }
        assert_eq!(items, [3, 3]);
    }

    #[tokio::test]
    async fn what_came_over_an_edge_that_ends_is_let_go_of_while_others_are_open() {
        let (first, other) = (edge(100, 1 << 20), edge(100, 1 << 20));
        let meter = Arc::new(NodeMeter::new("graph".into(), "node".into(), None));
        let mut inbox = Inbox::new(vec![first.1, other.1], meter);
        let item = Item::detached("1", Raw::Json(1.into()));
        first.0.try_send(Batch::from_primitives(vec![item.into_primitive()])).unwrap();
        first.0.end(End::Complete);
        let mut gather = Gatherer::new(BatchLimits::items(10), Some(Gather { linger: None }));
        assert!(next_gathered(&mut gather, &mut inbox, &Tens).await.0.is_empty(), "it is gathered");
        let (ready, ended) = next_gathered(&mut gather, &mut inbox, &Tens).await;
        assert!(matches!(ready.as_slice(), [Ready::Batch(..), Ready::Pulse(Pulse::Gathered)]) && !ended);
        other.0.end(End::Complete);
        assert!(next_gathered(&mut gather, &mut inbox, &Tens).await.1);
    }
}
