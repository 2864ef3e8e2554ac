//! Where a node's items go: onward, aside, or nowhere; and what becomes of their tokens.

use std::sync::{Arc, Mutex, PoisonError};

use nvisy_core::error::RetryClass;
use nvisy_core::observability::{field, metric};
use nvisy_core::token::{Settlement, Tokens};
use nvisy_core::{Batch, Context, DeadLetter, Error, Primitive, PrimitiveId, Result};

use super::call::{Failure, Settled};
use super::edge::{End, Pulse, Sender};
use super::flood::Flood;
use super::ledger::NodeMeter;
use crate::graph::policy::OnError;

/// The edges that a node feeds.
pub(super) struct Outlets {
    /// Where what it emits goes. A fan-out has several, a branch one for each route.
    pub(super) out: Vec<Outlet>,
    pub(super) dead_letter: Option<Sender>,
    pub(super) on_error: OnError,
    /// Whether an item that fails fails the node.
    pub(super) strict: bool,
    pub(super) meter: Arc<NodeMeter>,
    pub(super) context: Context,
    pub(super) flood: Mutex<Flood>,
}

/// One of the edges that a node feeds.
pub(super) struct Outlet {
    pub(super) sender: Sender,
    pub(super) best_effort: bool,
}

/// An item that failed: itself, or where in its batch it is.
pub(super) struct Failed<T = Primitive> {
    /// Its place among those that came with it.
    pub(super) number: u64,
    pub(super) id: PrimitiveId,
    pub(super) item: T,
    pub(super) error: Error,
    /// How often it was tried.
    pub(super) attempts: u32,
}

impl Outlets {
    /// Sends a batch with its tokens to the first outlet.
    pub(super) async fn send(&self, batch: Batch) {
        self.send_to(0, batch).await;
    }

    /// Sends a batch with its tokens to one outlet.
    pub(super) async fn send_to(&self, at: usize, mut batch: Batch) {
        if batch.is_empty() {
            batch.take_tokens().settle(Settlement::Delivered);
            return;
        }
        let items = batch.len() as u64;
        match self.out.get(at) {
            Some(outlet) if outlet.best_effort => match outlet.sender.try_send(batch.without_tokens()) {
                Ok(()) => {
                    self.meter.emitted.add(items);
                    batch.take_tokens().settle(Settlement::Delivered);
                }
                Err(_) => {
                    self.meter.missed.add(items);
                    batch.take_tokens().settle(Settlement::Delivered);
                }
            },
            Some(outlet) => match outlet.sender.send(batch).await {
                Ok(()) => self.meter.emitted.add(items),
                Err(mut batch) => batch.take_tokens().settle(Settlement::Failed),
            },
            // The compiler leaves no port open but those whose items are meant to end here.
            None => batch.take_tokens().settle(Settlement::Dropped),
        }
    }

    /// Passes a pulse on.
    pub(super) fn pulse(&self, pulse: Pulse) {
        for outlet in &self.out {
            outlet.sender.pulse(pulse);
        }
        if let Some(sender) = &self.dead_letter {
            sender.pulse(pulse);
        }
    }

    /// Says that there is no more.
    pub(super) fn end(self, end: End) {
        for outlet in self.out {
            outlet.sender.end(end);
        }
        if let Some(sender) = self.dead_letter {
            sender.end(end);
        }
    }

    /// Counts and sends on what became of a batch.
    ///
    /// The tokens are split once for each fate: what passed takes its part along, what failed
    /// goes with its own to the dead letters or is settled by the policy, and what is left in
    /// `tokens` stands for what was dropped or absorbed. Each part is settled by whoever has it.
    ///
    /// # Errors
    ///
    /// If an item failed and the policy is that then the node fails. Everything else has been
    /// sent on.
    pub(super) async fn settle(&self, input: &Batch, tokens: Tokens, settled: Settled) -> Result<()> {
        let Settled { emitted, attribution, dropped, absorbed, failed } = settled;
        let lost: u64 = dropped.iter().map(|(_, n)| n).sum();
        self.meter.emitted_from.add(input.len() as u64 - lost - absorbed - failed.len() as u64);
        self.meter.absorbed.add(absorbed);
        for (reason, count) in &dropped {
            self.meter.count_dropped(reason, *count);
        }
        if lost == 0
            && absorbed == 0
            && failed.is_empty()
            && attribution == nvisy_core::outcome::Attribution::Same
        {
            self.passed(input.len());
            self.send(emitted.with_tokens(tokens)).await;
            return Ok(());
        }
        let passed = (0..emitted.len()).map(|at| attribution.of(at));
        let passed = tokens.split_for(passed);
        let result = self.set_aside(input, &tokens, failed).await;
        tokens.settle(match (lost, absorbed) {
            (0, 0) => Settlement::Delivered,
            (_, 0) => Settlement::Dropped,
            _ => Settlement::Absorbed,
        });
        self.send(emitted.with_tokens(passed)).await;
        result
    }

    /// Does with failed items what the policy says; `tokens` are split, not taken.
    ///
    /// # Errors
    ///
    /// If the policy is that then the node fails: the first item's error. If too many items go
    /// to dead letters.
    pub(super) async fn set_aside(&self, input: &Batch, tokens: &Tokens, failed: Vec<Failure>) -> Result<()> {
        if failed.is_empty() {
            self.passed(input.len());
            return Ok(());
        }
        let part = tokens.split_for(failed.iter().map(|failure| failure.index));
        let failed = failed.into_iter().map(|Failure { index, error, attempts }| Failed {
            number: u64::from(index),
            id: input.id(index as usize),
            item: index,
            error,
            attempts,
        });
        // Only what is kept is taken out of its batch.
        let item = |index| input.primitive(index as usize);
        self.aside(failed.collect(), item, input.len(), part).await
    }

    /// Does with items that failed, of `all` that came together, what the policy says.
    ///
    /// # Errors
    ///
    /// As of [`set_aside`](Self::set_aside).
    pub(super) async fn aside<T>(
        &self,
        failed: Vec<Failed<T>>,
        item: impl Fn(T) -> Primitive,
        all: usize,
        tokens: Tokens,
    ) -> Result<()> {
        let (Some(first), Some(last)) = (failed.first(), failed.last()) else {
            tokens.settle(Settlement::Delivered);
            return Ok(());
        };
        let count = failed.len() as u64;
        self.note(&failed);
        let Some(sender) = self.letter_box() else {
            return self.give_up(count, tokens, first.error.clone().at_item(first.id));
        };
        if self.flood().rises(all as u64, failed.iter().map(|failed| failed.number)) {
            return self.flooded(count, tokens, &last.error);
        }
        self.send_letters(sender, failed, item, tokens).await
    }

    fn flood(&self) -> std::sync::MutexGuard<'_, Flood> {
        self.flood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts items of which none goes aside.
    pub(super) fn passed(&self, items: usize) {
        if self.letter_box().is_some() {
            self.flood().rises(items as u64, []);
        }
    }

    /// Fails the node, for too many items go to dead letters.
    fn flooded(&self, count: u64, tokens: Tokens, last: &Error) -> Result<()> {
        self.meter.failed.add(count);
        tokens.settle(Settlement::Failed);
        let limit = self.flood().limit;
        let (most, of, share) = (limit.most().unwrap_or_default(), limit.of, limit.share);
        let message = format!(
            "more than {most} of its last {of} items failed, and no more may go to the dead letters (a share of {share}), the last one for: {}: {}: see whether they share a cause, or raise `settings.dead_letter_limit`",
            last.tag(),
            last.message()
        );
        let error = Error::new(last.kind(), message).with_retry_class(RetryClass::Permanent);
        Err(error.with_source(last.clone()).at_node(self.context.node().clone()))
    }

    /// Returns where failed items go, if the policy is to keep them.
    pub(super) fn letter_box(&self) -> Option<&Sender> {
        self.dead_letter.as_ref().filter(|_| self.on_error == OnError::DeadLetter)
    }

    /// Tells of the first few items that failed.
    fn note<T>(&self, failed: &[Failed<T>]) {
        for Failed { id, error, .. } in failed.iter().take(8) {
            let error = error.clone().at_node(self.context.node().clone()).at_item(*id);
            tracing::debug!({ field::NODE } = %self.context.node(), { field::ERROR } = error.tag(), %error, "an item failed");
            self.meter.note_error(&error);
        }
    }

    /// Counts items that failed and go nowhere.
    fn give_up(&self, count: u64, tokens: Tokens, first: Error) -> Result<()> {
        if self.on_error == OnError::Drop {
            self.meter.count_dropped(&format!("it failed: {}", first.tag()).into(), count);
            tokens.settle(Settlement::Dropped);
            return Ok(());
        }
        self.meter.failed.add(count);
        tokens.settle(Settlement::Failed);
        if self.strict { Err(first.at_node(self.context.node().clone())) } else { Ok(()) }
    }

    async fn send_letters<T>(
        &self,
        sender: &Sender,
        failed: Vec<Failed<T>>,
        item: impl Fn(T) -> Primitive,
        tokens: Tokens,
    ) -> Result<()> {
        let count = failed.len() as u64;
        for Failed { error, .. } in &failed {
            metrics::counter!(
                metric::DEAD_LETTERS,
                "graph" => self.context.graph().to_string(),
                "node" => self.context.node().to_string(),
                "tag" => error.tag()
            )
            .increment(1);
        }
        let (now, node) = (self.context.now(), self.context.node());
        let letters: Result<Vec<Primitive>> = failed
            .into_iter()
            .map(|Failed { id, item: of, error, attempts, .. }| {
                let error = error.at_node(node.clone()).at_item(id);
                DeadLetter::new(item(of), &error, node.clone(), attempts, now).to_primitive()
            })
            .collect();
        let letters = match letters {
            Ok(letters) => letters,
            Err(error) => {
                self.meter.failed.add(count);
                tokens.settle(Settlement::Failed);
                return Err(error);
            }
        };
        tokens.note(Settlement::DeadLettered);
        self.meter.dead_lettered.add(count);
        if let Err(mut batch) = sender.send(Batch::from_primitives(letters).with_tokens(tokens)).await {
            batch.take_tokens().settle(Settlement::Failed);
        }
        Ok(())
    }
}
