//! A tracker that several share: who opens slots and waits for room, and who makes checkpoints.

use std::sync::{Arc, PoisonError};
#[cfg(not(nvisy_loom))]
use std::sync::{Mutex, MutexGuard};

#[cfg(nvisy_loom)]
use loom::sync::{Mutex, MutexGuard};
use nvisy_core::Position;
use nvisy_core::token::{Settlement, SlotWatch};

use super::notify::{Notified, Notify};
use super::{Committed, Tracker};
use crate::engine::checkpoint::{self, Request};
use crate::engine::edge::Pulse;
use crate::engine::outlet::Outlets;

/// How what opens slots asks for room where it has none.
#[derive(Clone)]
pub(in crate::engine) struct Asks {
    /// Asks for a checkpoint, where one has to come before there can be more slots.
    pub(in crate::engine) request: Option<Arc<Request>>,
    /// Whether sinks become durable by checkpoints alone.
    pub(in crate::engine) staged: bool,
}

impl Asks {
    /// Returns which pulse helps, where there is no room; none where there is.
    pub(in crate::engine) fn lacking(&self, tracker: &Tracker) -> Option<Pulse> {
        if tracker.may_read() {
            return None;
        }
        let durable = tracker.wants_durability();
        // Where a sink flushes when it is told to, or something is just on its way, none helps.
        if let Some(request) = &self.request
            && (tracker.lacks_saving() || tracker.lacks_quiet() || durable && self.staged)
        {
            request.at_once();
        }
        Some(if durable && !self.staged { Pulse::Durable } else { Pulse::Gathered })
    }

    /// Asks for a checkpoint before there is no room.
    pub(in crate::engine) fn early(&self, tracker: &Tracker) {
        let Some(request) = &self.request else { return };
        if tracker.wants_saving() {
            request.at_once();
        } else if tracker.news_bytes() >= checkpoint::BYTES {
            request.soon();
        }
    }
}

/// The tracker of a source, and who waits for it.
pub(in crate::engine) struct SharedTracker {
    tracker: Mutex<Tracker>,
    /// For who opens slots, and waits for room.
    changed: Notify,
    /// For whoever makes checkpoints.
    settled: Notify,
}

impl SharedTracker {
    pub(in crate::engine) fn new(tracker: Tracker) -> Self {
        Self { tracker: Mutex::new(tracker), changed: Notify::new(), settled: Notify::new() }
    }

    pub(in crate::engine) fn lock(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::engine) fn committed(&self) -> Vec<Committed> {
        self.lock().committed()
    }

    /// Returns how many items are done with.
    pub(in crate::engine) fn committed_items(&self) -> u64 {
        self.lock().committed_items()
    }

    pub(in crate::engine) fn open_slots(&self) -> usize {
        self.lock().open_slots()
    }

    /// Returns how far each partition is done with that has moved, for a checkpoint.
    pub(in crate::engine) fn checkpointed(&self) -> Vec<Committed> {
        self.lock().checkpoint()
    }

    /// Lets the source open no slot, or lets it again.
    pub(in crate::engine) fn hold(&self, held: bool) {
        self.lock().hold(held);
        self.changed.notify_one();
    }

    /// The checkpoint is durable.
    pub(in crate::engine) fn saved(&self) {
        // Who waits for more than that asks again when something has moved.
        if self.lock().saved() {
            self.changed.notify_one();
        }
    }

    /// Returns whether all is read that there was.
    pub(in crate::engine) fn is_complete(&self) -> bool {
        self.lock().is_complete()
    }

    pub(in crate::engine) fn is_still(&self) -> bool {
        self.lock().is_still()
    }

    pub(in crate::engine) fn is_settled(&self) -> bool {
        self.lock().open_slots() == 0
    }

    pub(in crate::engine) fn has_news(&self) -> bool {
        self.lock().has_news()
    }

    pub(in crate::engine) fn has_failed(&self) -> bool {
        self.lock().has_failed()
    }

    /// Waits until it is so.
    pub(in crate::engine) async fn until(&self, is: fn(&Self) -> bool) {
        loop {
            let settled = self.settled.notified();
            let mut settled = std::pin::pin!(settled);
            // What happens from here on is not missed.
            settled.as_mut().enable();
            if is(self) {
                return;
            }
            settled.await;
        }
    }

    /// Returns what is woken when a slot has landed or ended.
    pub(in crate::engine) fn settles(&self) -> Notified<'_> {
        self.settled.notified()
    }

    /// No checkpoint will have what is read from here on.
    pub(in crate::engine) fn forsake(&self) {
        self.lock().forsake();
        self.changed.notify_one();
    }

    pub(in crate::engine) fn is_held(&self) -> bool {
        self.lock().is_held()
    }

    /// Waits until slots may be opened again.
    pub(in crate::engine) async fn until_free(&self) {
        loop {
            let changed = self.changed.notified();
            if !self.is_held() {
                return;
            }
            changed.await;
        }
    }

    /// Waits until more may be read. Asks for what has to happen before.
    pub(in crate::engine) async fn room(&self, asks: &Asks, pulse: impl Fn(Pulse)) {
        self.take(pulse, |tracker| asks.lacking(tracker).map_or(Ok(()), Err)).await;
    }

    /// Opens a slot for what is not known yet, when there is credit for more. None as soon as no
    /// slot may be opened. Asks for what has to happen before.
    pub(in crate::engine) async fn reserve(
        &self,
        partition: &Arc<str>,
        asks: &Asks,
        pulse: impl Fn(Pulse),
    ) -> Option<u64> {
        let open = |tracker: &mut Tracker| {
            if tracker.is_held() {
                return Ok(None);
            }
            match asks.lacking(tracker) {
                None => Ok(Some(tracker.open(partition, Position::Offset(0), 0, 0))),
                Some(lacking) => Err(lacking),
            }
        };
        self.take(pulse, open).await
    }

    /// Takes something as soon as it is there; until then, sends the pulse that helps.
    ///
    /// One that asks for durability it sends again when nothing is on its way any more: sinks may have
    /// got the first one before the last items, where a node that failed kept that to itself which came
    /// behind them.
    async fn take<T>(
        &self,
        pulse: impl Fn(Pulse),
        mut take: impl FnMut(&mut Tracker) -> Result<T, Pulse>,
    ) -> T {
        let mut asked = None;
        loop {
            let changed = self.changed.notified();
            let (taken, still) = {
                let mut tracker = self.lock();
                (take(&mut tracker), tracker.is_still())
            };
            let lacking = match taken {
                Ok(taken) => return taken,
                Err(lacking) => lacking,
            };
            let asks = (lacking, lacking == Pulse::Durable && still);
            if asked.replace(asks) != Some(asks) {
                pulse(lacking);
            }
            changed.await;
        }
    }

    /// Has nothing held back on its way that was sent behind the pulse of a checkpoint.
    pub(in crate::engine) fn let_go_if_held(&self, outlets: &Outlets) {
        if self.is_held() {
            outlets.pulse(Pulse::Gathered);
        }
    }

    /// Says how much is in a slot that was reserved.
    pub(in crate::engine) fn fill(&self, slot: u64, items: u64, bytes: u64, asks: &Asks) {
        let mut tracker = self.lock();
        tracker.fill(slot, items, bytes);
        asks.early(&tracker);
    }

    /// Opens a slot, when the source may.
    pub(in crate::engine) async fn open(
        &self,
        partition: &Arc<str>,
        after: Position,
        items: u64,
        bytes: u64,
    ) -> u64 {
        loop {
            let changed = self.changed.notified();
            {
                let mut tracker = self.lock();
                if !tracker.is_held() {
                    return tracker.open(partition, after, items, bytes);
                }
            }
            changed.await;
        }
    }

    pub(in crate::engine) fn abandoned_slots(&self) -> u64 {
        self.lock().abandoned_slots()
    }
}

impl SlotWatch for SharedTracker {
    fn landed(&self, slot: u64) {
        self.lock().landed(slot);
        self.changed.notify_one();
        self.settled.notify_waiters();
    }

    fn resolved(&self, slot: u64, worst: Settlement) {
        self.lock().resolved(slot, worst);
        self.changed.notify_one();
        self.settled.notify_waiters();
    }
}

#[cfg(all(test, not(nvisy_loom)))]
mod tests {
    use std::cell::RefCell;

    use futures::FutureExt;

    use super::super::Bounds;
    use super::*;

    #[test]
    fn durability_is_asked_for_again_when_nothing_is_on_its_way() {
        let bounds = Bounds { items: 10, bytes: 1_000, span: 2, durable: true, saved: false, unsaved: None };
        let tracker = SharedTracker::new(Tracker::new(bounds));
        let (all, asks) = ("all".into(), Asks { request: None, staged: false });
        let slot = tracker.lock().open(&all, Position::Offset(2), 2, 2);
        let asked = RefCell::new(Vec::new());
        let mut waits = Box::pin(tracker.reserve(&all, &asks, |pulse| asked.borrow_mut().push(pulse)));
        assert!(waits.as_mut().now_or_never().is_none());
        assert_eq!(*asked.borrow(), [Pulse::Durable]);
        // Whoever took that to the sinks came before the items, or has failed.
        tracker.landed(slot);
        for _ in 0..2 {
            assert!(waits.as_mut().now_or_never().is_none());
            assert_eq!(*asked.borrow(), [Pulse::Durable, Pulse::Durable]);
        }
        tracker.resolved(slot, Settlement::Delivered);
        assert!(waits.now_or_never().flatten().is_some());
    }
}
