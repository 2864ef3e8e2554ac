//! What became of each input of an action: the one thing that the ledger, lineage, retry,
//! dead letters and resume are read off.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use crate::batch::Batch;
use crate::error::{Error, ErrorKind, Result};
use crate::lineage::{Lineage, Step};
use crate::primitive::{Any, Item, Kind, Primitive};

/// Why an item was dropped: a short stable text, counted in the report.
pub type Reason = Cow<'static, str>;

/// What an action made of one input.
#[derive(Clone, Debug)]
pub enum Outcome<K: Kind = Any> {
    /// One item: an edit of the input, or derived from it.
    Emit(Item<K>),
    /// Any number of items; each derived one with an ordinal of its own.
    EmitAll(Vec<Item<K>>),
    /// Nothing, on purpose.
    Drop(Reason),
    /// It failed.
    Fail(Error),
}

impl<K: Kind> Outcome<K> {
    /// Emits one item.
    #[must_use]
    pub fn emit(item: Item<K>) -> Self {
        Self::Emit(item)
    }

    /// Emits any number of items.
    #[must_use]
    pub fn emit_all(items: impl IntoIterator<Item = Item<K>>) -> Self {
        Self::EmitAll(items.into_iter().collect())
    }

    /// Derives any number of items from `parent`, numbered in order.
    #[must_use]
    pub fn expand<P: Kind>(parent: &Item<P>, salt: &str, payloads: impl IntoIterator<Item = K>) -> Self {
        let items =
            payloads.into_iter().zip(0..).map(|(payload, ordinal)| parent.derive(salt, ordinal, payload));
        Self::emit_all(items)
    }

    /// Drops the item.
    #[must_use]
    pub fn drop(reason: impl Into<Reason>) -> Self {
        Self::Drop(reason.into())
    }

    /// Fails the item.
    #[must_use]
    pub fn fail(error: Error) -> Self {
        Self::Fail(error)
    }

    /// Forgets the kind.
    #[must_use]
    pub fn into_any(self) -> Outcome<Any> {
        match self {
            Self::Emit(item) => Outcome::Emit(item.into_any()),
            Self::EmitAll(items) => Outcome::EmitAll(items.into_iter().map(Item::into_any).collect()),
            Self::Drop(reason) => Outcome::Drop(reason),
            Self::Fail(error) => Outcome::Fail(error),
        }
    }
}

/// Which input each emitted item comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// Item for item: every input became one output.
    Same,
    /// For each output the index of its input.
    Each(Vec<u32>),
}

impl Attribution {
    /// Returns the input of the output at `index`.
    ///
    /// # Panics
    ///
    /// If there is no such output.
    #[must_use]
    pub fn of(&self, index: usize) -> u32 {
        match self {
            Self::Same => index as u32,
            Self::Each(each) => each[index],
        }
    }
}

/// The cause of an error that says that an action or a sink is wrong as a whole: it did not
/// account for its items, and no part of the batch can tell which of them are to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breach;

impl Breach {
    /// Returns the error that says what is wrong.
    pub(crate) fn of(message: impl Into<Arc<str>>) -> Error {
        Error::internal(message).with_source(Self)
    }

    /// Returns the error that says that there are not as many outcomes as inputs.
    pub(crate) fn of_count(have: usize, want: usize) -> Error {
        Self::of(format!(
            "the action returned {have} outcomes for {want} inputs: return exactly one an input"
        ))
    }

    /// Returns whether an error comes from a breach.
    #[must_use]
    pub fn caused(error: &Error) -> bool {
        std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<Self>)
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it breaks its contract")
    }
}

impl std::error::Error for Breach {}

/// What an action made of a batch: one outcome an input, as columns.
///
/// Each input is in exactly one place: it is an input of something emitted, it failed, it was
/// dropped, or absorbed. [`check`](Self::check) holds an action to that.
#[derive(Debug)]
pub struct Outcomes {
    /// What was emitted, lineage included; without tokens.
    pub emitted: Batch,
    /// Which input each emitted item comes from; inputs in ascending order.
    pub attribution: Attribution,
    /// How many inputs were dropped, by reason.
    pub dropped: Vec<(Reason, u64)>,
    /// How many inputs became part of the memory of a [`Stateful`](crate::Stateful) action.
    pub absorbed: u64,
    /// Which inputs failed, in ascending order.
    pub failed: Vec<(u32, Error)>,
}

impl Outcomes {
    /// Every input became one output.
    #[must_use]
    pub fn same(emitted: Batch) -> Self {
        Self { emitted, attribution: Attribution::Same, dropped: Vec::new(), absorbed: 0, failed: Vec::new() }
    }

    /// Gathers one outcome an input, and completes ids and lineage of what is emitted.
    ///
    /// # Errors
    ///
    /// `internal` if there are not as many outcomes as inputs; `validation` if one input
    /// emits two items with one id (the item fails, unless it is the only way to say so).
    pub fn collect<K: Kind>(input: &Batch, step: &Arc<Step>, outcomes: Vec<Outcome<K>>) -> Result<Self> {
        if outcomes.len() != input.len() {
            return Err(Breach::of_count(outcomes.len(), input.len()));
        }
        let mut emitted: Vec<Primitive> = Vec::with_capacity(outcomes.len());
        let mut each = Vec::new();
        let mut dropped: Vec<(Reason, u64)> = Vec::new();
        let mut failed = Vec::new();
        let mut derived = false;
        let mut seen = HashSet::new();
        for (index, outcome) in (0..).zip(outcomes) {
            match outcome {
                Outcome::Emit(item) => {
                    derived |= item.primitive().is_derived_from(input, index as usize);
                    emitted.push(item.into_primitive());
                    each.push(index);
                }
                Outcome::EmitAll(items) if items.is_empty() => {
                    count(&mut dropped, Cow::Borrowed("nothing emitted"))
                }
                Outcome::EmitAll(items) => {
                    seen.clear();
                    if let Some(twice) = items.iter().find(|item| !seen.insert(item.id())) {
                        let message = format!(
                            "one input emitted two items with the id {}: give siblings ordinals",
                            twice.id()
                        );
                        failed.push((
                            index,
                            Error::new(ErrorKind::Validation, message).at_item(input.id(index as usize)),
                        ));
                        continue;
                    }
                    for item in items {
                        derived |= item.primitive().is_derived_from(input, index as usize);
                        emitted.push(item.into_primitive());
                        each.push(index);
                    }
                }
                Outcome::Drop(reason) => count(&mut dropped, reason),
                Outcome::Fail(error) => failed.push((index, error)),
            }
        }
        let attribution = if each.len() == input.len() && each.iter().zip(0..).all(|(a, b)| *a == b) {
            Attribution::Same
        } else {
            Attribution::Each(each)
        };
        let emitted = if derived {
            complete(input, step, &attribution, emitted)
        } else {
            Batch::from_primitives(emitted).edited(step)
        };
        Ok(Self { emitted, attribution, dropped, absorbed: 0, failed })
    }

    /// Checks that every one of `inputs` is accounted for exactly once.
    ///
    /// # Errors
    ///
    /// `internal` if not, caused by a [`Breach`]: it says what is missing or doubled.
    pub fn check(&self, inputs: usize) -> Result<()> {
        if let Attribution::Each(each) = &self.attribution
            && each.len() != self.emitted.len()
        {
            let (have, want) = (each.len(), self.emitted.len());
            return Err(Breach::of(format!(
                "the action attributes {have} of the {want} items that it emitted"
            )));
        }
        let emitting = match &self.attribution {
            // The common case, at the speed of memory.
            Attribution::Each(each) if self.failed.is_empty() && ascends(each, inputs) => each.len() as u64,
            _ => self.check_emitted(inputs)?,
        };
        let mut last = None;
        for (of, _) in &self.failed {
            if last >= Some(*of) || *of as usize >= inputs {
                return Err(Breach::of(format!(
                    "the action failed input {of} of {inputs} twice, or not in ascending order"
                )));
            }
            last = Some(*of);
        }
        let dropped: u64 = self.dropped.iter().map(|(_, n)| n).sum();
        let sum = emitting + dropped + self.absorbed + self.failed.len() as u64;
        if sum != inputs as u64 {
            return Err(Breach::of(format!(
                "the action accounts for {sum} of {inputs} inputs: return exactly one outcome an input"
            )));
        }
        Ok(())
    }

    /// Checks what was emitted, and returns how many inputs emitted it.
    fn check_emitted(&self, inputs: usize) -> Result<u64> {
        let mut emitting = 0;
        let mut failed = self.failed.iter().map(|(of, _)| *of).peekable();
        let mut last = None;
        for index in 0..self.emitted.len() {
            let of = self.attribution.of(index);
            if last == Some(of) {
                continue;
            }
            if of as usize >= inputs {
                return Err(Breach::of(format!("the action emitted an item for input {of} of {inputs}")));
            }
            if last > Some(of) {
                return Err(Breach::of(format!(
                    "the action emitted an item for input {of} behind one for a later input"
                )));
            }
            while failed.next_if(|failed| *failed < of).is_some() {}
            if failed.peek() == Some(&of) {
                return Err(Breach::of(format!("the action failed input {of}, and emitted it too")));
            }
            emitting += 1;
            last = Some(of);
        }
        Ok(emitting)
    }

    /// Returns how many inputs emitted something.
    #[must_use]
    pub fn emitting(&self, inputs: usize) -> u64 {
        let dropped: u64 = self.dropped.iter().map(|(_, n)| n).sum();
        (inputs as u64).saturating_sub(dropped + self.absorbed + self.failed.len() as u64)
    }
}

/// Returns whether each input is named once, in order.
fn ascends(each: &[u32], inputs: usize) -> bool {
    let bounded = each.last().is_none_or(|last| (*last as usize) < inputs);
    bounded && each.windows(2).fold(true, |ascends, pair| ascends & (pair[0] < pair[1]))
}

fn count(dropped: &mut Vec<(Reason, u64)>, reason: Reason) {
    match dropped.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, n)) => *n += 1,
        None => dropped.push((reason, 1)),
    }
}

/// Writes derivations into the lineage: one link for the batch where all are derived.
fn complete(input: &Batch, step: &Arc<Step>, attribution: &Attribution, emitted: Vec<Primitive>) -> Batch {
    let parents: Vec<u32> = (0..emitted.len()).map(|index| attribution.of(index)).collect();
    let all = emitted.iter().zip(&parents).all(|(item, of)| item.is_derived_from(input, *of as usize));
    if all {
        return Batch::from_primitives(emitted).derived_from(input, step, &parents);
    }
    let complete = emitted.into_iter().zip(parents).map(|(item, of)| {
        let lineage = if item.is_derived_from(input, of as usize) {
            Lineage::derived(step.clone(), [(input.id(of as usize), input.lineage(of as usize))])
        } else {
            item.lineage().edited(step.clone())
        };
        item.with_lineage(lineage)
    });
    complete.collect()
}
