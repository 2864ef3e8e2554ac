//! Actions without memory: in place where they compute, side by side where they call others.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt};
use nvisy_core::action::ErasedBatch;
use nvisy_core::token::{Settlement, Tokens};
use nvisy_core::{Action, Batch, Error, Result};
use tokio::time::Instant;

use super::work::{CallerCut, Worker, next_gathered};
use super::{Ended, Inbox};
use crate::engine::call::{Caller, Settled};
use crate::engine::edge::{End, Pulse};
use crate::engine::gather::{Gatherer, Ready};
use crate::engine::ledger::NodeMeter;
use crate::engine::outlet::Outlets;

/// One batch after the other, in place: for actions that compute.
pub(super) async fn inline(
    worker: &ActionWorker,
    mut gather: Gatherer,
    inbox: &mut Inbox,
    outlets: &Outlets,
    meter: &Arc<NodeMeter>,
) -> Result<Ended> {
    let lone = worker.keeps_nothing(outlets);
    loop {
        let (ready, ended) = next_gathered(&mut gather, inbox, &worker.cut()).await;
        for ready in ready {
            match ready {
                Ready::Batch(mut batch, weights) => {
                    let tokens = batch.take_tokens();
                    let began = Instant::now();
                    let settled = match lone {
                        Some(action) => worker.caller.hand_over(action, batch.take_payloads()).await,
                        None => worker.work(&batch, weights).await,
                    };
                    meter.busy.add_time(began.elapsed());
                    match settled {
                        Ok(settled) => outlets.settle(&batch, tokens, settled).await?,
                        Err(error) => {
                            tokens.settle(Settlement::Failed);
                            return Err(error);
                        }
                    }
                }
                Ready::Pulse(pulse) => outlets.pulse(pulse),
            }
        }
        if ended {
            return Ok(inbox.ended());
        }
        tokio::task::consume_budget().await;
    }
}

pub(super) struct ActionWorker {
    pub(super) action: Action,
    pub(super) caller: Caller,
    /// How many items of a batch are worked on at once.
    pub(super) items: usize,
}

impl ActionWorker {
    /// Returns the action if its inputs are not asked for again once it was called: it fails
    /// item by item, nothing is tried again, and nothing goes to dead letters.
    fn keeps_nothing(&self, outlets: &Outlets) -> Option<&dyn ErasedBatch> {
        match &self.action {
            Action::Batch(action) => {
                let once = self.caller.retry.max_attempts.get() == 1 && outlets.letter_box().is_none();
                (action.isolates() && once).then_some(&**action)
            }
            _ => None,
        }
    }
}

impl Worker for ActionWorker {
    fn work<'a>(&'a self, batch: &'a Batch, weights: Option<Vec<u64>>) -> BoxFuture<'a, Result<Settled>> {
        match &self.action {
            Action::Transform(transform) => self.caller.transform(&**transform, batch, self.items).boxed(),
            Action::Batch(action) => self.caller.batch(&**action, batch, weights).boxed(),
            Action::Stateful(_) | Action::Pipe(_) => {
                std::future::ready(Err(Error::internal("the action has a loop of its own"))).boxed()
            }
        }
    }

    fn deliver<'a>(
        &'a self,
        outlets: &'a Outlets,
        input: Batch,
        tokens: Tokens,
        settled: Settled,
    ) -> BoxFuture<'a, Result<()>> {
        async move { outlets.settle(&input, tokens, settled).await }.boxed()
    }

    fn pulse<'a>(&'a self, outlets: &'a Outlets, pulse: Pulse) -> BoxFuture<'a, Result<()>> {
        outlets.pulse(pulse);
        std::future::ready(Ok(())).boxed()
    }

    fn end<'a>(&'a self, _: &'a Outlets, end: End) -> BoxFuture<'a, Result<End>> {
        std::future::ready(Ok(end)).boxed()
    }

    fn cut(&self) -> CallerCut<'_> {
        let weigher = match &self.action {
            Action::Batch(action) if action.weighs() => Some(&**action),
            _ => None,
        };
        CallerCut { caller: &self.caller, weigher }
    }
}
