//! What actions that keep items have in common: bounds of memory, work off the event loop.

use nvisy_core::config::Problem;
use nvisy_core::outcome::Attribution;
use nvisy_core::prelude::*;

use super::key::{Direction, Keys, Values};
use super::sorter::Sorter;
use crate::checkpoint::blocking;
use crate::expression::Expression;

/// How much is kept in memory where nothing says otherwise.
const MEMORY: u64 = 256_000_000;

pub(super) fn memory(memory: Option<u64>) -> u64 {
    memory.unwrap_or(MEMORY)
}

pub(super) fn memory_problem(memory: Option<u64>) -> Option<Problem> {
    let problem = (memory == Some(0)).then(|| Problem::new("memory", "is 0, so no item could be kept"));
    problem.map(|problem| problem.with_help("give a size such as \"256MB\""))
}

/// Does something that may take long, or wait for a disk, on a thread that may block. What it is
/// done with is lost if it panics, or if nobody waits for it any more.
pub(super) async fn apart<S: Send + 'static, T: Send + 'static>(
    slot: &mut Option<S>,
    work: impl FnOnce(&mut S) -> Result<T> + Send + 'static,
) -> Result<T> {
    let mut state = taken(slot)?;
    let (state, done) = blocking(move || {
        let done = work(&mut state);
        Ok((state, done))
    })
    .await?;
    *slot = Some(state);
    done
}

/// Takes out what is kept: it is lost unless it is put back.
pub(super) fn taken<S>(slot: &mut Option<S>) -> Result<S> {
    slot.take().ok_or_else(lost)
}

/// What is kept, to be looked at in place.
pub(super) fn here<S>(slot: &mut Option<S>) -> Result<&mut S> {
    slot.as_mut().ok_or_else(lost)
}

fn lost() -> Error {
    Error::internal("what the node kept was lost in a call that did not end")
}

/// All inputs but those that failed were absorbed.
pub(super) fn absorbed(inputs: usize, failed: Vec<(u32, Error)>) -> Outcomes {
    Outcomes {
        emitted: Batch::empty(),
        attribution: Attribution::Each(Vec::new()),
        dropped: Vec::new(),
        absorbed: inputs.saturating_sub(failed.len()) as u64,
        failed,
    }
}

/// The keys of the items of a batch, and which of them have none.
pub(super) fn keys(by: &[(Expression, Direction)], batch: &Batch) -> Result<(Keys, Vec<(u32, Error)>)> {
    if by.is_empty() {
        return Ok((Keys::none(batch.len()), Vec::new()));
    }
    let values: Vec<_> = by.iter().map(|(expression, _)| Values::of(expression, batch)).collect();
    let (mut keys, mut failed, mut key) = (Keys::default(), Vec::new(), Vec::new());
    for index in 0..batch.len() {
        key.clear();
        let mut parts = values.iter().zip(by);
        match parts.try_for_each(|(values, (_, direction))| values.encode(index, *direction, &mut key)) {
            Ok(()) => keys.push(&key)?,
            Err(error) => failed.push((index as u32, error.at_item(batch.id(index)))),
        }
    }
    Ok((keys, failed))
}

/// Keeps items, and lets go of them in the order of their keys when the input has ended.
pub(super) struct Holding {
    by: Vec<(Expression, Direction)>,
    sorter: Option<Sorter>,
}

impl Holding {
    pub(super) fn new(by: Vec<(Expression, Direction)>, sorter: Sorter) -> Self {
        Self { by, sorter: Some(sorter) }
    }
}

impl Stateful for Holding {
    async fn apply(&mut self, batch: Batch, _: usize, _: &Context) -> Result<Outcomes> {
        let inputs = batch.len();
        let (keys, failed) = keys(&self.by, &batch)?;
        let (batch, _) = super::without(batch, &failed);
        let sorter = here(&mut self.sorter)?;
        if !batch.is_empty() {
            sorter.push(batch, &keys)?;
        }
        if sorter.is_full() {
            apart(&mut self.sorter, Sorter::spill).await?;
        }
        Ok(absorbed(inputs, failed))
    }

    async fn release(&mut self, ended: bool, context: &Context) -> Result<Option<Batch>> {
        if !ended {
            return Ok(None);
        }
        let sorted = apart(&mut self.sorter, Sorter::next).await?;
        Ok(sorted.map(|sorted| sorted.batch.edited(&context.step())))
    }

    async fn save(&mut self) -> Result<Changes> {
        apart(&mut self.sorter, |sorter| {
            let mut changes = Changes::default();
            sorter.save(&mut changes)?;
            Ok(changes)
        })
        .await
    }

    async fn saved(&mut self) -> Result<()> {
        apart(&mut self.sorter, |sorter| {
            sorter.saved();
            Ok(())
        })
        .await
    }

    async fn restore(&mut self, saved: Entries) -> Result<()> {
        apart(&mut self.sorter, move |sorter| sorter.restore(&saved)).await
    }
}
