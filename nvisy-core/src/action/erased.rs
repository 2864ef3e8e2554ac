//! The forms of action behind one shape each, for the engine: implemented once, here.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};

use super::{BatchTransform, Columnar, Pipe, Stateful, Transform};
use crate::batch::Batch;
use crate::checkpoint::{Changes, Entries};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::outcome::{Breach, Outcome, Outcomes};
use crate::primitive::{Any, Item, Kind, Primitive};

/// A [`Transform`] of any kinds.
pub trait ErasedTransform: Send + Sync {
    /// Changes one item.
    fn call<'a>(&'a self, item: Primitive, context: &'a Context) -> BoxFuture<'a, Result<Outcome<Any>>>;
}

impl<T: Transform> ErasedTransform for T {
    fn call<'a>(&'a self, item: Primitive, context: &'a Context) -> BoxFuture<'a, Result<Outcome<Any>>> {
        Box::pin(async move { Ok(self.transform(item.typed()?, context).await?.into_any()) })
    }
}

/// A [`BatchTransform`] or [`Columnar`] action of any kinds.
pub trait ErasedBatch: Send + Sync {
    /// Changes a batch.
    fn call<'a>(&'a self, batch: Batch, context: &'a Context) -> BoxFuture<'a, Result<Outcomes>>;

    /// Returns how many model tokens an item weighs.
    fn weigh(&self, item: &Primitive) -> u64;

    /// Returns whether items are weighed at all.
    fn weighs(&self) -> bool;

    /// Returns whether it fails item by item and never as a whole, so that nobody has to keep
    /// what it is called with.
    fn isolates(&self) -> bool {
        false
    }
}

pub(super) struct Slices<T>(pub(super) T);

impl<T: BatchTransform> ErasedBatch for Slices<T> {
    fn call<'a>(&'a self, batch: Batch, context: &'a Context) -> BoxFuture<'a, Result<Outcomes>> {
        Box::pin(async move {
            let mut items = Vec::with_capacity(batch.len());
            let mut wrong = Vec::new();
            for (index, primitive) in batch.iter().enumerate() {
                match primitive.typed::<T::Input>() {
                    Ok(item) => items.push(item),
                    Err(error) => wrong.push((index, error)),
                }
            }
            let given = items.len();
            let outcomes = self.0.transform(items, context).await?;
            if outcomes.len() != given {
                return Err(Breach::of_count(outcomes.len(), given));
            }
            let mut outcomes: Vec<_> = outcomes.into_iter().map(Outcome::into_any).collect();
            for (index, error) in wrong {
                outcomes.insert(index, Outcome::Fail(error));
            }
            Outcomes::collect(&batch, &context.step(), outcomes)
        })
    }

    fn weigh(&self, item: &Primitive) -> u64 {
        item.clone().typed().map_or(0, |item| self.0.weigh(&item))
    }

    fn weighs(&self) -> bool {
        true
    }
}

pub(super) struct Columns<T>(pub(super) T);

impl<T: Columnar> ErasedBatch for Columns<T> {
    fn call<'a>(&'a self, batch: Batch, context: &'a Context) -> BoxFuture<'a, Result<Outcomes>> {
        Box::pin(async move {
            let outcomes = self.0.apply(batch, context).await?;
            match outcomes.absorbed {
                0 => Ok(outcomes),
                _ => Err(Breach::of("a columnar action has no memory that could absorb an item")),
            }
        })
    }

    fn weigh(&self, _: &Primitive) -> u64 {
        0
    }

    fn weighs(&self) -> bool {
        false
    }
}

pub(super) struct Function<F, I, O> {
    function: F,
    kinds: PhantomData<fn(I) -> O>,
}

impl<F, I, O> Function<F, I, O> {
    pub(super) fn new(function: F) -> Self {
        Self { function, kinds: PhantomData }
    }
}

impl<F, I: Kind, O: Kind> Function<F, I, O>
where
    F: Fn(Item<I>) -> Result<Outcome<O>> + Send + Sync,
{
    fn one(&self, item: Primitive) -> Outcome<O> {
        let called = catch_unwind(AssertUnwindSafe(|| (self.function)(item.typed()?)));
        match called {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::Fail(error),
            Err(panic) => Outcome::Fail(Error::from_panic(&*panic)),
        }
    }
}

impl<F, I: Kind, O: Kind> ErasedBatch for Function<F, I, O>
where
    F: Fn(Item<I>) -> Result<Outcome<O>> + Send + Sync,
{
    fn call<'a>(&'a self, batch: Batch, context: &'a Context) -> BoxFuture<'a, Result<Outcomes>> {
        Box::pin(async move { batch.call_each(&context.step(), |item| self.one(item)) })
    }

    fn weigh(&self, _: &Primitive) -> u64 {
        0
    }

    fn weighs(&self) -> bool {
        false
    }

    fn isolates(&self) -> bool {
        true
    }
}

/// A [`Stateful`] action.
pub trait ErasedStateful: Send {
    /// Changes a batch of one of its inputs.
    fn call<'a>(
        &'a mut self,
        batch: Batch,
        from: usize,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Outcomes>>;

    /// Lets go of a batch of what it has absorbed.
    fn release<'a>(&'a mut self, ended: bool, context: &'a Context) -> BoxFuture<'a, Result<Option<Batch>>>;

    /// See [`Stateful::is_holding`].
    fn is_holding(&self) -> Option<bool>;

    /// Returns what a checkpoint has to hold of it, as changes since the last time.
    fn save(&mut self) -> BoxFuture<'_, Result<Changes>>;

    /// The checkpoint with what was saved last is durable.
    fn saved(&mut self) -> BoxFuture<'_, Result<()>>;

    /// Takes up what checkpoints hold of it.
    fn restore(&mut self, saved: Entries) -> BoxFuture<'_, Result<()>>;
}

impl<T: Stateful> ErasedStateful for T {
    fn call<'a>(
        &'a mut self,
        batch: Batch,
        from: usize,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Outcomes>> {
        Box::pin(self.apply(batch, from, context))
    }

    fn release<'a>(&'a mut self, ended: bool, context: &'a Context) -> BoxFuture<'a, Result<Option<Batch>>> {
        Box::pin(Stateful::release(self, ended, context))
    }

    fn is_holding(&self) -> Option<bool> {
        Stateful::is_holding(self)
    }

    fn save(&mut self) -> BoxFuture<'_, Result<Changes>> {
        Box::pin(Stateful::save(self))
    }

    fn saved(&mut self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Stateful::saved(self))
    }

    fn restore(&mut self, saved: Entries) -> BoxFuture<'_, Result<()>> {
        Box::pin(Stateful::restore(self, saved))
    }
}

/// A [`Pipe`].
pub trait ErasedPipe: Send + Sync {
    /// Changes a finite stream of batches.
    fn call<'a>(&'a self, input: BoxStream<'a, Batch>, context: &'a Context) -> BoxStream<'a, Result<Batch>>;
}

impl<T: Pipe> ErasedPipe for T {
    fn call<'a>(&'a self, input: BoxStream<'a, Batch>, context: &'a Context) -> BoxStream<'a, Result<Batch>> {
        self.pipe(input, context).boxed()
    }
}
