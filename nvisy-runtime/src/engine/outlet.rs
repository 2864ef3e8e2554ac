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
        let Some(first) = failed.first() else {
            self.passed(input.len());
            return Ok(());
        };
        let first = first.error.clone().at_item(input.id(first.index as usize));
        let part = tokens.split_for(failed.iter().map(|failure| failure.index));
        self.note(failed.iter().map(|failure| (input.id(failure.index as usize), &failure.error)));
        let Some(sender) = self.letter_box() else { return self.give_up(failed.len() as u64, part, first) };
        let indices = failed.iter().map(|failure| u64::from(failure.index));
        if self.flood().rises(input.len() as u64, indices) {
            return self.flooded(failed.len() as u64, part, failed.last().map_or(&first, |last| &last.error));
        }
        let letters = failed.into_iter().map(|failure| {
            let primitive = input.primitive(failure.index as usize);
            (primitive, failure.error, failure.attempts)
        });
        self.send_letters(sender, letters.collect(), part).await
    }

    /// Does with items that failed what the policy says. They stood somewhere among `all` that came
    /// with them.
    ///
    /// # Errors
    ///
    /// If the policy is that then the node fails; if too many items go to dead letters.
    pub(super) async fn aside(
        &self,
        items: Vec<(Primitive, Error, u32)>,
        all: u64,
        tokens: Tokens,
        first: Error,
    ) -> Result<()> {
        let failed = items.len() as u64;
        self.note(items.iter().map(|(primitive, error, _)| (primitive.id(), error)));
        match self.letter_box() {
            Some(_) if self.flood().rises(all, (0..failed).map(|nth| nth * all / failed)) => {
                self.flooded(failed, tokens, items.last().map_or(&first, |(_, last, _)| last))
            }
            Some(sender) => self.send_letters(sender, items, tokens).await,
            None => self.give_up(failed, tokens, first),
        }
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
    fn note<'a>(&self, failed: impl Iterator<Item = (PrimitiveId, &'a Error)>) {
        for (id, error) in failed.take(8) {
            let error = error.clone().at_node(self.context.node().clone()).at_item(id);
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

    async fn send_letters(
        &self,
        sender: &Sender,
        items: Vec<(Primitive, Error, u32)>,
        tokens: Tokens,
    ) -> Result<()> {
        let count = items.len() as u64;
        for (_, error, _) in &items {
            metrics::counter!(
                metric::DEAD_LETTERS,
                "graph" => self.context.graph().to_string(),
                "node" => self.context.node().to_string(),
                "tag" => error.tag()
            )
            .increment(1);
        }
        let (now, node) = (self.context.now(), self.context.node());
        let letters: Result<Vec<Primitive>> = items
            .into_iter()
            .map(|(primitive, error, attempts)| {
                let error = error.at_node(node.clone()).at_item(primitive.id());
                DeadLetter::new(primitive, &error, node.clone(), attempts, now).to_primitive()
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
