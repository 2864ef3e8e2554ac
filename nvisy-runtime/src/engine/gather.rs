//! Joining batches up to what a node finds best, and cutting them down to it.

use std::time::Duration;

use nvisy_core::{Batch, BatchLimits};
use tokio::time::Instant;

use super::edge::Parcel;
use crate::compiler::plan::Gather;

/// What says how batches are cut.
pub(super) trait Cut: Sync {
    /// Items at the most, now.
    fn size(&self) -> usize;

    /// Returns the weight of each item in model tokens, if items have one.
    fn weigh(&self, batch: &Batch) -> Option<Vec<u64>>;
}

/// Holds back what is too little and cuts what is too much.
pub(super) struct Gatherer {
    limits: BatchLimits,
    /// None: what comes goes, but for being cut.
    gather: Option<Gather>,
    held: Vec<Batch>,
    items: usize,
    bytes: usize,
    since: Option<Instant>,
}

impl Gatherer {
    pub(super) fn new(limits: BatchLimits, gather: Option<Gather>) -> Self {
        Self { limits, gather, held: Vec::new(), items: 0, bytes: 0, since: None }
    }

    /// Returns when what is held has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        let linger: Duration = self.gather.and_then(|gather| gather.linger)?;
        self.since.map(|since| super::moment::after(since, linger))
    }

    /// Takes a batch in, and returns what is to be worked on now.
    pub(super) fn push(&mut self, batch: Batch, cut: &dyn Cut) -> Vec<Parcel> {
        // What fills half of the room is not worth holding back.
        let most = self.limits.items.min(cut.size());
        let enough = || batch.len() * 2 >= most || batch.bytes() * 2 >= self.limits.bytes;
        if self.gather.is_none() || (self.held.is_empty() && enough()) {
            return self.cut(batch, cut);
        }
        self.items += batch.len();
        self.bytes += batch.bytes();
        self.since.get_or_insert_with(Instant::now);
        self.held.push(batch);
        if self.items < most && self.bytes < self.limits.bytes {
            return Vec::new();
        }
        self.flush(cut)
    }

    /// Returns everything that is held.
    pub(super) fn flush(&mut self, cut: &dyn Cut) -> Vec<Parcel> {
        self.items = 0;
        self.bytes = 0;
        self.since = None;
        let held = std::mem::take(&mut self.held);
        let joined = if held.len() > 1 { Batch::concat(held) } else { held };
        joined.into_iter().flat_map(|batch| self.cut(batch, cut)).collect()
    }

    fn cut(&self, mut batch: Batch, cut: &dyn Cut) -> Vec<Parcel> {
        let items = self.limits.items.min(cut.size()).max(1);
        let tokens = self.limits.tokens;
        let small = batch.len() <= items && (batch.len() <= 1 || batch.bytes() <= self.limits.bytes);
        let weights = if tokens.is_some() && batch.len() > 1 { cut.weigh(&batch) } else { None };
        let light = match (&weights, tokens) {
            (Some(weights), Some(most)) => weights.iter().sum::<u64>() <= most,
            _ => true,
        };
        if small && light {
            return vec![Parcel::Batch(batch)];
        }
        let mut parcels = Vec::new();
        if let (Some(rows), None) = (batch.as_rows(), &weights) {
            // Rows share their memory: an even part each is near enough.
            let each = batch.bytes().div_ceil(rows.num_rows()).max(1);
            let items = items.min(self.limits.bytes / each).max(1);
            let starts = (0..batch.len()).step_by(items);
            let pieces = starts.map(|at| Parcel::Batch(batch.slice(at, items.min(batch.len() - at))));
            parcels.extend(pieces);
            batch.take_tokens().settle(nvisy_core::token::Settlement::Delivered);
            return parcels;
        }
        let (mut start, mut bytes, mut weight) = (0, 0, 0);
        for at in 0..batch.len() {
            let size = batch.payload(at).size();
            let heavy = weights.as_ref().map_or(0, |weights| weights[at]);
            let full = at - start >= items
                || bytes + size > self.limits.bytes
                || tokens.is_some_and(|most| weight + heavy > most);
            if full && at > start {
                parcels.push(Parcel::Batch(batch.slice(start, at - start)));
                (start, bytes, weight) = (at, 0, 0);
            }
            bytes += size;
            weight += heavy;
        }
        parcels.push(Parcel::Batch(batch.slice(start, batch.len() - start)));
        // The parts have tokens of their own.
        batch.take_tokens().settle(nvisy_core::token::Settlement::Delivered);
        parcels
    }
}
