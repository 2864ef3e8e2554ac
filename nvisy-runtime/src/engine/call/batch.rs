//! Calls of actions: a batch at once, or item by item.

use futures::StreamExt;
use nvisy_core::action::{Calls, ErasedBatch, ErasedTransform};
use nvisy_core::outcome::{Attribution, Outcome};
use nvisy_core::{Any, Batch, Context, Outcomes, Primitive, Result};

use super::part::{Failure, Part, Settled};
use super::{Attempt, Caller};
use crate::engine::memo::Heard;

impl Caller {
    /// Calls a batch action, until every input has its outcome. `weights` are those of the
    /// items, where they are known.
    ///
    /// # Errors
    ///
    /// If the node cannot go on: the action is wrong as a whole.
    pub(in crate::engine) async fn batch(
        &self,
        action: &dyn ErasedBatch,
        input: &Batch,
        weights: Option<Vec<u64>>,
    ) -> Result<Settled> {
        let weights = match weights {
            Some(weights) => weights,
            None if action.weighs() && self.calls != Calls::None => {
                input.iter().map(|item| action.weigh(&item)).collect()
            }
            None => Vec::new(),
        };
        let (mut todo, mut pieces) = self.known(input).await?;
        let mut failed = Vec::new();
        while let Some(part) = todo.pop() {
            let batch = part.of(input);
            let len = batch.len();
            let attempt = Attempt::number(part.attempt).weighing(part.weigh(&weights));
            let mut heard = None;
            let call = |context: Context| async move { action.call(batch, &context).await };
            let called = self.attempt(attempt, |context| self.hear(&mut heard, context, call)).await;
            match called.and_then(|outcomes| outcomes.check(len).map(|()| outcomes)) {
                Ok(mut outcomes) => {
                    if let (Some(memo), Some(heard)) = (&self.memo, heard) {
                        memo.keep(&part.of(input), &outcomes, &self.context.step(), &heard).await;
                    }
                    self.size.change(|size| size * 1.1);
                    let unsettled = std::mem::take(&mut outcomes.failed);
                    todo.extend(self.go_again(&part, unsettled, &mut failed).await);
                    pieces.push((part, outcomes));
                }
                Err(error) => todo.extend(self.remedy(part, len, error, &mut failed).await?),
            }
        }
        failed.sort_by_key(|failure| failure.index);
        Ok(assemble(pieces, failed))
    }

    /// Makes a call, and hears what it does if there is a memo to keep it.
    async fn hear<T, F: Future<Output = T>>(
        &self,
        heard: &mut Option<Heard>,
        context: Context,
        call: impl FnOnce(Context) -> F,
    ) -> T {
        let Some(memo) = &self.memo else { return call(context).await };
        let (called, what) = memo.hear(context, call).await;
        *heard = Some(what);
        called
    }

    /// Returns the part of a batch to call with, and what the memo knows of the rest.
    async fn known(&self, input: &Batch) -> Result<(Vec<Part>, Vec<(Part, Outcomes)>)> {
        let Some(memo) = &self.memo else { return Ok((vec![Part::all()], Vec::new())) };
        let (mut hits, mut misses, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        for (index, known) in (0..).zip(memo.recall(input).await) {
            match known {
                Some(outcome) => {
                    hits.push(index);
                    outcomes.push(outcome);
                }
                None => misses.push(index),
            }
        }
        if hits.is_empty() {
            return Ok((vec![Part::all()], Vec::new()));
        }
        let outcomes = Outcomes::collect(&input.select(&hits), &self.context.step(), outcomes)?;
        let todo = if misses.is_empty() { Vec::new() } else { vec![Part::all().only(&misses, 1)] };
        Ok((todo, vec![(Part::all().only(&hits, 1), outcomes)]))
    }

    /// Calls an action that [isolates](ErasedBatch::isolates) its failures with a batch that
    /// nobody keeps.
    ///
    /// # Errors
    ///
    /// If the node cannot go on: the action is wrong as a whole.
    pub(in crate::engine) async fn hand_over(
        &self,
        action: &dyn ErasedBatch,
        batch: Batch,
    ) -> Result<Settled> {
        let len = batch.len();
        let called = self
            .attempt(Attempt::number(1), |context| async move { action.call(batch, &context).await })
            .await;
        let checked = called.and_then(|outcomes| outcomes.check(len).map(|()| outcomes));
        let outcomes = checked.map_err(|error| self.final_error(error, 1))?;
        let Outcomes { emitted, attribution, dropped, absorbed, failed } = outcomes;
        let failed = failed.into_iter().map(|(index, error)| Failure {
            index,
            error: self.final_error(error, 1),
            attempts: 1,
        });
        Ok(Settled { emitted, attribution, dropped, absorbed, failed: failed.collect() })
    }

    /// Calls a transform for each item, so many at once, until every input has its outcome.
    ///
    /// # Errors
    ///
    /// If the outcomes do not fit the inputs, which would be a bug.
    pub(in crate::engine) async fn transform(
        &self,
        transform: &dyn ErasedTransform,
        input: &Batch,
        concurrency: usize,
    ) -> Result<Settled> {
        let known = match &self.memo {
            None => Vec::new(),
            Some(memo) => memo.recall(input).await,
        };
        let known = known.into_iter().chain(std::iter::repeat_with(|| None));
        let items = futures::stream::iter(input.iter().zip(known));
        let called = items.map(|(item, known)| async move {
            match known {
                Some(outcome) => (outcome, 1),
                None => self.item(transform, item).await,
            }
        });
        let called = called.buffered(concurrency.max(1));
        let (outcomes, attempts): (Vec<_>, Vec<_>) = called.collect::<Vec<_>>().await.into_iter().unzip();
        let outcomes = Outcomes::collect(input, &self.context.step(), outcomes)?;
        outcomes.check(input.len())?;
        let Outcomes { emitted, attribution, dropped, absorbed, failed } = outcomes;
        let failed = failed.into_iter().map(|(index, error)| {
            let attempts = attempts[index as usize];
            Failure { index, error: self.final_error(error, attempts), attempts }
        });
        Ok(Settled { emitted, attribution, dropped, absorbed, failed: failed.collect() })
    }

    async fn item(&self, transform: &dyn ErasedTransform, item: Primitive) -> (Outcome<Any>, u32) {
        let mut attempt = 1;
        loop {
            let again = item.clone();
            let number = Attempt::number(attempt);
            let mut heard = None;
            let call = |context: Context| async move { transform.call(again, &context).await };
            let called = self.attempt(number, |context| self.hear(&mut heard, context, call)).await;
            let error = match called {
                Ok(Outcome::Fail(error)) | Err(error) => error,
                Ok(outcome) => {
                    if let (Some(memo), Some(heard)) = (&self.memo, heard) {
                        memo.keep_one(item, &outcome, &self.context.step(), &heard).await;
                    }
                    return (outcome, attempt);
                }
            };
            if !self.back_off(&error, attempt).await {
                return (Outcome::Fail(error), attempt);
            }
            attempt += 1;
        }
    }
}

/// Puts the outcomes of the parts of a batch together, in the order of its inputs.
fn assemble(mut pieces: Vec<(Part, Outcomes)>, failed: Vec<Failure>) -> Settled {
    if pieces.len() == 1
        && let Some((Part { items: None, .. }, outcomes)) = pieces.pop_if(|(part, _)| part.items.is_none())
    {
        let Outcomes { emitted, attribution, dropped, absorbed, failed: _ } = outcomes;
        return Settled { emitted, attribution, dropped, absorbed, failed };
    }
    let mut batches = Vec::new();
    let mut of = Vec::new();
    let mut dropped: Vec<(nvisy_core::outcome::Reason, u64)> = Vec::new();
    for (part, outcomes) in pieces {
        of.extend((0..outcomes.emitted.len()).map(|at| part.index(outcomes.attribution.of(at))));
        batches.push(outcomes.emitted);
        for (reason, count) in outcomes.dropped {
            match dropped.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, n)) => *n += count,
                None => dropped.push((reason, count)),
            }
        }
    }
    // Batches without tokens always join into one.
    let joined = Batch::concat(batches).pop().unwrap_or_else(Batch::empty);
    let mut order: Vec<u32> = (0..of.len() as u32).collect();
    order.sort_by_key(|at| of[*at as usize]);
    let attribution = Attribution::Each(order.iter().map(|at| of[*at as usize]).collect());
    Settled { emitted: joined.select(&order), attribution, dropped, absorbed: 0, failed }
}
