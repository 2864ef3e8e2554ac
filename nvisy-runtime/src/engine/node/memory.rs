//! Actions that see more than one batch: with memory, and as a stream.

use std::sync::Arc;

use futures::stream::StreamExt;
use nvisy_core::action::{ErasedPipe, ErasedStateful};
use nvisy_core::token::{Settlement, Tokens};
use nvisy_core::{Batch, Result};
use tokio::time::Instant;

use super::work::{CallerCut, next_gathered};
use super::{Ended, Inbox};
use crate::engine::call::{Caller, Failure, Settled};
use crate::engine::gather::{Gatherer, Ready};
use crate::engine::ledger::NodeMeter;
use crate::engine::outlet::Outlets;

/// One batch after the other, with memory: never tried again.
pub(super) async fn stateful(
    mut state: Box<dyn ErasedStateful>,
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
                    let called = caller.once(|context| {
                        let (state, batch) = (&mut state, batch.without_tokens());
                        async move { state.call(batch, 0, &context).await }
                    });
                    let checked =
                        called.await.and_then(|outcomes| outcomes.check(batch.len()).map(|()| outcomes));
                    meter.busy.add_time(began.elapsed());
                    match checked {
                        Ok(outcomes) => outlets.settle(&batch, tokens, Settled::from(outcomes)).await?,
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
