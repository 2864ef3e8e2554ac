//! Batches in parts: what is still to be called with, and what became of the rest.

use nvisy_core::outcome::Attribution;
use nvisy_core::{Batch, BatchLimits, Error, Outcomes};

/// An item that failed for good.
#[derive(Debug)]
pub(in crate::engine) struct Failure {
    pub(in crate::engine) index: u32,
    pub(in crate::engine) error: Error,
    pub(in crate::engine) attempts: u32,
}

/// What became of a batch: one outcome an input.
#[derive(Debug)]
pub(in crate::engine) struct Settled {
    pub(in crate::engine) emitted: Batch,
    pub(in crate::engine) attribution: Attribution,
    pub(in crate::engine) dropped: Vec<(nvisy_core::outcome::Reason, u64)>,
    /// How many became part of the memory of the action.
    pub(in crate::engine) absorbed: u64,
    pub(in crate::engine) failed: Vec<Failure>,
}

impl From<Outcomes> for Settled {
    fn from(outcomes: Outcomes) -> Self {
        let Outcomes { emitted, attribution, dropped, absorbed, failed } = outcomes;
        let failed = failed.into_iter().map(|(index, error)| Failure { index, error, attempts: 1 });
        Self { emitted, attribution, dropped, absorbed, failed: failed.collect() }
    }
}

/// The number of items a call may take: it halves when a call is too large, and grows by a
/// tenth with each that is not.
#[derive(Debug)]
pub(in crate::engine) struct AdaptiveSize {
    most: usize,
    now: std::sync::Mutex<f64>,
}

impl AdaptiveSize {
    pub(in crate::engine) fn new(limits: BatchLimits) -> Self {
        Self { most: limits.items, now: std::sync::Mutex::new(limits.items as f64) }
    }

    pub(super) fn change(&self, change: impl FnOnce(f64) -> f64) {
        let mut now = self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *now = change(*now).clamp(1.0, self.most.max(1) as f64);
    }

    pub(in crate::engine) fn get(&self) -> usize {
        *self.now.lock().unwrap_or_else(std::sync::PoisonError::into_inner) as usize
    }
}

/// A part of a batch that is still to be called with.
pub(super) struct Part {
    /// Its items, as indices into the batch; none for all of them.
    pub(super) items: Option<Vec<u32>>,
    pub(super) attempt: u32,
}

impl Part {
    pub(super) fn all() -> Self {
        Self { items: None, attempt: 1 }
    }

    pub(super) fn of(&self, batch: &Batch) -> Batch {
        match &self.items {
            None => batch.without_tokens(),
            Some(items) => batch.select(items),
        }
    }

    pub(super) fn index(&self, at: u32) -> u32 {
        self.items.as_ref().map_or(at, |items| items[at as usize])
    }

    /// Returns what its items weigh, where `weights` are those of the batch, or none.
    pub(super) fn weigh(&self, weights: &[u64]) -> u64 {
        let add = |sum: u64, weight: &u64| sum.saturating_add(*weight);
        match &self.items {
            None => weights.iter().fold(0, add),
            Some(items) => items.iter().filter_map(|at| weights.get(*at as usize)).fold(0, add),
        }
    }

    pub(super) fn only(&self, at: &[u32], attempt: u32) -> Self {
        Self { items: Some(at.iter().map(|at| self.index(*at)).collect()), attempt }
    }

    pub(super) fn halves(&self, len: usize) -> [Self; 2] {
        let all: Vec<u32> = (0..len as u32).map(|at| self.index(at)).collect();
        let (first, second) = all.split_at(len / 2);
        [first, second].map(|half| Self { items: Some(half.to_vec()), attempt: self.attempt })
    }
}
