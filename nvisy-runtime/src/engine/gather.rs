//! Joining batches up to what a node finds best, and cutting them down to it.

use std::time::Duration;

use nvisy_core::{Batch, BatchLimits};
use tokio::time::Instant;

use super::edge::Pulse;
use crate::compiler::plan::Gather;

/// What a node is to do next.
pub(super) enum Ready {
    /// A batch to work on, with the weights of its items where it was cut by them.
    Batch(Batch, Option<Vec<u64>>),
    /// Everything before it is worked on first.
    Pulse(Pulse),
}

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
    pub(super) fn push(&mut self, batch: Batch, cut: &dyn Cut) -> Vec<Ready> {
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
    pub(super) fn flush(&mut self, cut: &dyn Cut) -> Vec<Ready> {
        self.items = 0;
        self.bytes = 0;
        self.since = None;
        let held = std::mem::take(&mut self.held);
        let joined = if held.len() > 1 { Batch::concat(held) } else { held };
        joined.into_iter().flat_map(|batch| self.cut(batch, cut)).collect()
    }

    fn cut(&self, mut batch: Batch, cut: &dyn Cut) -> Vec<Ready> {
        let items = self.limits.items.min(cut.size()).max(1);
        let tokens = self.limits.tokens;
        let small = batch.len() <= items && (batch.len() <= 1 || batch.bytes() <= self.limits.bytes);
        let weights = if tokens.is_some() && batch.len() > 1 { cut.weigh(&batch) } else { None };
        let light = match (&weights, tokens) {
            (Some(weights), Some(most)) => {
                weights.iter().fold(0, |sum: u64, weight| sum.saturating_add(*weight)) <= most
            }
            _ => true,
        };
        if small && light {
            return vec![Ready::Batch(batch, weights)];
        }
        let part = |from: usize, to: usize| {
            let weights = weights.as_ref().map(|weights| weights[from..to].to_vec());
            Ready::Batch(batch.slice(from, to - from), weights)
        };
        let mut parts = Vec::new();
        if let (Some(rows), None) = (batch.as_rows(), &weights) {
            // Rows share their memory: an even part each is near enough.
            let each = batch.bytes().div_ceil(rows.num_rows()).max(1);
            let items = items.min(self.limits.bytes / each).max(1);
            parts.extend((0..batch.len()).step_by(items).map(|at| part(at, batch.len().min(at + items))));
            batch.take_tokens().settle(nvisy_core::token::Settlement::Delivered);
            return parts;
        }
        let (mut start, mut bytes, mut weight) = (0, 0, 0_u64);
        for at in 0..batch.len() {
            let size = batch.payload(at).size();
            let heavy = weights.as_ref().map_or(0, |weights| weights[at]);
            let full = at - start >= items
                || bytes + size > self.limits.bytes
                || tokens.is_some_and(|most| weight.saturating_add(heavy) > most);
            if full && at > start {
                parts.push(part(start, at));
                (start, bytes, weight) = (at, 0, 0);
            }
            bytes += size;
            weight = weight.saturating_add(heavy);
        }
        parts.push(part(start, batch.len()));
        // The parts have tokens of their own.
        batch.take_tokens().settle(nvisy_core::token::Settlement::Delivered);
        parts
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use nvisy_core::Item;
    use nvisy_core::primitive::raw::Raw;

    use super::*;

    /// Each item weighs three.
    #[derive(Default)]
    struct Threes(AtomicUsize);

    impl Cut for Threes {
        fn size(&self) -> usize {
            100
        }

        fn weigh(&self, batch: &Batch) -> Option<Vec<u64>> {
            self.0.fetch_add(batch.len(), Ordering::Relaxed);
            Some(vec![3; batch.len()])
        }
    }

    #[test]
    fn what_is_weighed_to_be_cut_keeps_its_weights() {
        let batch: Batch = (0..10).map(|n| Item::detached(&n.to_string(), Raw::Json(n.into()))).collect();
        for tokens in [7, 1_000] {
            let threes = Threes::default();
            let mut gatherer = Gatherer::new(BatchLimits::items(100).with_tokens(tokens), None);
            let mut items = 0;
            for ready in gatherer.push(batch.without_tokens(), &threes) {
                let Ready::Batch(part, weights) = ready else { panic!("no pulse came") };
                assert_eq!(weights, Some(vec![3; part.len()]));
                items += part.len();
            }
            assert_eq!((items, threes.0.into_inner()), (10, 10), "each once");
        }
    }
}
