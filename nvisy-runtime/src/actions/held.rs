//! What actions that keep items have in common: bounds of memory, work off the event loop.

use std::collections::VecDeque;

use nvisy_core::config::Problem;
use nvisy_core::outcome::Attribution;
use nvisy_core::prelude::*;
use tokio::task::JoinHandle;

use super::key::{Direction, Keys, Values};
use super::sorter::Sorter;
use super::spill::Written;
use crate::disk::blocking;
use crate::expression::Expression;

/// How many runs are being written at once.
const WRITTEN_AT_ONCE: usize = 2;
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
    let of = |(expression, direction): &(Expression, _)| (Values::of(expression, batch), *direction);
    let values: Vec<_> = by.iter().map(of).collect();
    if let Some(keys) = Keys::of_numbers(&values, batch.len())? {
        return Ok((keys, Vec::new()));
    }
    let (mut keys, mut failed, mut key) = (Keys::default(), Vec::new(), Vec::new());
    for index in 0..batch.len() {
        key.clear();
        let mut parts = values.iter();
        match parts.try_for_each(|(values, direction)| values.encode(index, *direction, &mut key)) {
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
    /// What is being written while more comes in, in order.
    writing: VecDeque<JoinHandle<Result<Written>>>,
}

impl Holding {
    pub(super) fn new(by: Vec<(Expression, Direction)>, sorter: Sorter) -> Self {
        Self { by, sorter: Some(sorter), writing: VecDeque::new() }
    }

    /// Begins to write what is held, as soon as not too much is being written.
    async fn spill(&mut self) -> Result<()> {
        let most = if here(&mut self.sorter)?.is_due() { 0 } else { WRITTEN_AT_ONCE - 1 };
        self.settle(most).await?;
        if let Some(spilling) = here(&mut self.sorter)?.begin_spill()? {
            self.writing.push_back(tokio::task::spawn_blocking(move || spilling.write()));
        }
        Ok(())
    }

    /// Waits until no more than so many runs are being written.
    async fn settle(&mut self, most: usize) -> Result<()> {
        while self.writing.len() > most
            && let Some(first) = self.writing.front_mut()
        {
            let written = first.await.map_err(|_| lost())?;
            self.writing.pop_front();
            let written = written?;
            apart(&mut self.sorter, move |sorter| sorter.add(written)).await?;
        }
        Ok(())
    }
}

impl Stateful for Holding {
    async fn apply(&mut self, batch: Batch, _: usize, context: &Context) -> Result<Outcomes> {
        let inputs = batch.len();
        let (keys, failed) = keys(&self.by, &batch)?;
        let (batch, _) = super::without(batch, &failed);
        let sorter = here(&mut self.sorter)?;
        if !batch.is_empty() {
            // What comes out has items of all batches: here they still share their lineage.
            sorter.push(batch.edited(&context.step()), &keys)?;
        }
        if sorter.is_full() {
            self.spill().await?;
        }
        Ok(absorbed(inputs, failed))
    }

    async fn release(&mut self, ended: bool, _: &Context) -> Result<Option<Batch>> {
        if !ended {
            return Ok(None);
        }
        self.settle(0).await?;
        apart(&mut self.sorter, Sorter::next_batch).await
    }

    async fn save(&mut self) -> Result<Changes> {
        self.settle(0).await?;
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
