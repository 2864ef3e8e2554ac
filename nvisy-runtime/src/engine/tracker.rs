//! Which slots of a source are open, and how far each partition is done with: a plain value.

#[cfg(all(test, nvisy_loom))]
mod models;
mod notify;
mod shared;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use nvisy_core::Position;
use nvisy_core::token::Settlement;

pub(super) use self::notify::Notify;
pub(super) use self::shared::{Asks, SharedTracker};

/// How much a source may have on its way, and how far it may run ahead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Items on their way at the most.
    pub(super) items: u64,
    /// Bytes on their way at the most.
    pub(super) bytes: u64,
    /// The span: items from the oldest open slot to the newest, at the most.
    pub(super) span: u64,
    /// Whether what is written and waits to become durable holds the span up, so that sinks
    /// have to flush: where the user says how much may be uncommitted. Else what such a sink
    /// has may wait for its end, and only what is still on its way counts.
    pub(super) durable: bool,
    /// Whether there are checkpoints.
    pub(super) saved: bool,
    /// How many items may be read that no checkpoint has, which is what a crash repeats: where the
    /// user says so. Else that is what is read from one to the next.
    pub(super) unsaved: Option<u64>,
}

/// The slots of one source, in order, partition by partition.
///
/// Only the contiguous prefix that ended well is committed; a slot that failed or was
/// abandoned pins its partition for the rest of the run.
#[derive(Debug)]
pub(super) struct Tracker {
    bounds: Bounds,
    next: u64,
    /// Of which partition each open slot is.
    open: HashMap<u64, usize>,
    /// The slots that hold the span up, each with how many items were read before it.
    holding: BTreeMap<u64, u64>,
    partitions: Vec<PartitionSlots>,
    names: HashMap<Arc<str>, usize>,
    /// The partitions that have moved since the last checkpoint.
    moved: Vec<usize>,
    moving: Amount,
    /// Slots that are still on their way.
    moving_slots: u64,
    read: u64,
    abandoned: u64,
    /// Slots that ended otherwise than well.
    failed: u64,
    /// Whether no slot may be opened.
    held: bool,
    /// Whether a checkpoint has to have everything before reading goes on.
    careful: bool,
    /// Whether all is read that there was.
    complete: bool,
    /// What was opened since the last checkpoint.
    news: Amount,
    /// Items that a run before was done with.
    before: u64,
    /// Items that are done with.
    committed: u64,
    /// Items that the next checkpoint has.
    gathered: u64,
    /// Items that a checkpoint has.
    saved: u64,
}

#[derive(Debug, Default)]
struct PartitionSlots {
    id: Arc<str>,
    slots: VecDeque<Slot>,
    committed: Option<Position>,
    committed_items: u64,
    /// The first slot that ended otherwise than well: nothing behind it will be committed.
    failed: Option<u64>,
    /// How many slots were settled since those of no more use were taken out.
    settled: usize,
    /// Whether all of it is read.
    ended: bool,
    /// Whether it has moved since the last checkpoint.
    moved: bool,
}

impl PartitionSlots {
    fn new(id: Arc<str>) -> Self {
        Self { id, ..Self::default() }
    }

    /// Commits the contiguous prefix that ended well. Returns how many items that are, if it is
    /// anything at all.
    fn commit(&mut self) -> Option<u64> {
        let (mut any, before) = (false, self.committed_items);
        while let Some(slot) = self.slots.front() {
            match slot.ended {
                Some(ended) if ended.is_final() => {
                    self.committed = Some(slot.after.clone());
                    self.committed_items += slot.amount.items;
                    self.slots.pop_front();
                    any = true;
                }
                _ => break,
            }
        }
        any.then_some(self.committed_items - before)
    }

    /// Returns whether everything of it is done with.
    fn is_done(&self) -> bool {
        self.ended && self.failed.is_none() && self.slots.is_empty()
    }

    fn committed(&self) -> Committed {
        Committed {
            partition: self.id.clone(),
            position: self.committed.clone(),
            items: self.committed_items,
            ended: self.is_done(),
        }
    }

    /// Takes out what has ended behind the first failure, once that is worth a look at all.
    fn compact(&mut self) {
        let Some(failed) = self.failed else { return };
        self.settled += 1;
        if self.settled * 2 >= self.slots.len() {
            self.slots.retain(|slot| slot.ended.is_none() || slot.number <= failed);
            self.settled = 0;
        }
    }
}

#[derive(Debug)]
struct Slot {
    number: u64,
    after: Position,
    amount: Amount,
    landed: bool,
    ended: Option<Settlement>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    items: u64,
    bytes: u64,
}

/// How far a partition is done with: its commit point.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Committed {
    pub(super) partition: Arc<str>,
    pub(super) position: Option<Position>,
    pub(super) items: u64,
    /// Whether there is nothing behind it.
    pub(super) ended: bool,
}

impl Tracker {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            next: 0,
            open: HashMap::new(),
            holding: BTreeMap::new(),
            partitions: Vec::new(),
            names: HashMap::new(),
            moved: Vec::new(),
            moving: Amount::default(),
            moving_slots: 0,
            read: 0,
            abandoned: 0,
            failed: 0,
            held: false,
            careful: false,
            complete: false,
            news: Amount::default(),
            before: 0,
            committed: 0,
            gathered: 0,
            saved: 0,
        }
    }

    /// Takes a partition up where a run before was done with it.
    pub(super) fn resume(&mut self, from: Committed) {
        let mut partition = PartitionSlots::new(from.partition);
        partition.committed = from.position;
        partition.committed_items = from.items;
        partition.ended = from.ended;
        self.before += from.items;
        self.committed += from.items;
        self.saved += from.items;
        // A checkpoint has it as it is, and of what has ended nothing more comes.
        if !from.ended {
            self.names.insert(partition.id.clone(), self.partitions.len());
        }
        self.partitions.push(partition);
    }

    /// All of a partition is read.
    pub(super) fn end(&mut self, partition: &Arc<str>) {
        let at = self.partition(partition);
        self.partitions[at].ended = true;
        // Where something of it is on its way, it moves when that is done with.
        if self.partitions[at].is_done() {
            self.note(at);
        }
    }

    /// Returns the number of a partition. One that is new has moved.
    fn partition(&mut self, id: &Arc<str>) -> usize {
        if let Some(at) = self.names.get(id) {
            return *at;
        }
        let at = self.partitions.len();
        self.partitions.push(PartitionSlots::new(id.clone()));
        self.names.insert(id.clone(), at);
        self.note(at);
        at
    }

    /// The next checkpoint has to have a partition.
    fn note(&mut self, at: usize) {
        if !std::mem::replace(&mut self.partitions[at].moved, true) {
            self.moved.push(at);
        }
    }

    /// All is read that there was when it was listed.
    pub(super) fn complete(&mut self) {
        self.complete = true;
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Lets no slot be opened, or lets them be again.
    pub(super) fn hold(&mut self, held: bool) {
        self.held = held;
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Lets reading go on only when a checkpoint has everything, or as usual again.
    pub(super) fn be_careful(&mut self, careful: bool) {
        self.careful = careful;
    }

    /// Returns whether reading waits for a checkpoint of everything.
    pub(super) fn lacks_quiet(&self) -> bool {
        self.careful && (!self.open.is_empty() || self.unsaved() > 0)
    }

    /// Returns whether nothing is on its way.
    pub(super) fn is_still(&self) -> bool {
        self.moving_slots == 0
    }

    /// Returns whether a slot was opened or settled since the last checkpoint.
    pub(super) fn has_news(&self) -> bool {
        self.news.items > 0 || !self.moved.is_empty() || !self.open.is_empty()
    }

    /// Returns how many bytes were read since the last checkpoint.
    pub(super) fn news_bytes(&self) -> u64 {
        self.news.bytes
    }

    /// Returns whether a slot ended otherwise than well.
    pub(super) fn has_failed(&self) -> bool {
        self.failed > 0
    }

    /// Returns how far each partition is done with that has moved since the last checkpoint, for the
    /// next one: what that costs follows from what has moved, and not from how many there are.
    pub(super) fn checkpoint(&mut self) -> Vec<Committed> {
        self.news = Amount::default();
        self.gathered = self.committed;
        let moved = std::mem::take(&mut self.moved).into_iter();
        let moved = moved.map(|at| {
            let partition = &mut self.partitions[at];
            partition.moved = false;
            let committed = partition.committed();
            if committed.ended {
                // Nothing more comes of it: what is left is for the report.
                partition.slots = VecDeque::new();
                self.names.remove(&committed.partition);
            }
            committed
        });
        moved.collect()
    }

    /// The checkpoint is durable. Returns whether it has more than the one before.
    pub(super) fn saved(&mut self) -> bool {
        std::mem::replace(&mut self.saved, self.gathered) != self.gathered
    }

    /// Returns how many items were read that no checkpoint has. After a failure none counts:
    /// no checkpoint will have what is behind it.
    fn unsaved(&self) -> u64 {
        if self.bounds.saved && self.failed == 0 { self.before + self.read - self.saved } else { 0 }
    }

    /// Returns whether a checkpoint has to come for reading to go on.
    pub(super) fn lacks_saving(&self) -> bool {
        self.bounds.unsaved.is_some_and(|most| self.unsaved() >= most)
    }

    /// Returns whether a checkpoint should come soon, before reading has to wait for it.
    pub(super) fn wants_saving(&self) -> bool {
        self.bounds.unsaved.is_some_and(|most| self.unsaved() >= most / 2)
    }

    /// Returns whether the source may read on. One batch always may be on its way.
    pub(super) fn may_read(&self) -> bool {
        !self.lacks_credit() && !self.lacks_span() && !self.lacks_saving() && !self.lacks_quiet()
    }

    /// Returns whether too much is on its way.
    pub(super) fn lacks_credit(&self) -> bool {
        self.moving.items >= self.bounds.items || self.moving.bytes >= self.bounds.bytes
    }

    /// Returns whether reading is too far ahead of the oldest slot that is open. One item that
    /// waits long holds up no more than the span, however fast the others are.
    pub(super) fn lacks_span(&self) -> bool {
        let oldest = self.holding.first_key_value();
        oldest.is_some_and(|(_, before)| self.read - before >= self.bounds.span)
    }

    /// Returns whether sinks have to flush for reading to go on.
    pub(super) fn wants_durability(&self) -> bool {
        self.bounds.durable && self.lacks_span() || self.lacks_quiet()
    }

    /// Opens a slot for what was just read, and returns its number.
    pub(super) fn open(&mut self, partition: &Arc<str>, after: Position, items: u64, bytes: u64) -> u64 {
        let number = self.next;
        self.next += 1;
        let at = self.partition(partition);
        let amount = Amount { items, bytes };
        self.moving_slots += 1;
        self.news.items += items.max(1);
        self.news.bytes += bytes;
        self.moving.items += items;
        self.moving.bytes += bytes;
        self.open.insert(number, at);
        self.holding.insert(number, self.read);
        self.read += items;
        self.partitions[at].slots.push_back(Slot { number, after, amount, landed: false, ended: None });
        number
    }

    /// Says how much is in a slot that was opened before that was known.
    pub(super) fn fill(&mut self, number: u64, items: u64, bytes: u64) {
        let Some((partition, at)) = self.slot(number) else { return };
        self.partitions[partition].slots[at].amount = Amount { items, bytes };
        self.news.items += items;
        self.news.bytes += bytes;
        self.moving.items += items;
        self.moving.bytes += bytes;
        self.read += items;
    }

    /// No checkpoint will have what is read from here on: reading does not wait for one.
    pub(super) fn forsake(&mut self) {
        self.bounds.saved = false;
    }

    fn slot(&mut self, number: u64) -> Option<(usize, usize)> {
        let partition = *self.open.get(&number)?;
        let slots = &self.partitions[partition].slots;
        slots.binary_search_by_key(&number, |slot| slot.number).ok().map(|at| (partition, at))
    }

    /// Nothing of the slot is on its way any more: its credit returns.
    pub(super) fn landed(&mut self, number: u64) {
        if let Some((partition, at)) = self.slot(number) {
            let slot = &mut self.partitions[partition].slots[at];
            if !std::mem::replace(&mut slot.landed, true) {
                self.moving.items -= slot.amount.items;
                self.moving.bytes -= slot.amount.bytes;
                self.moving_slots -= 1;
                if !self.bounds.durable {
                    self.holding.remove(&number);
                }
            }
        }
    }

    /// Everything of the slot is settled. Commits what can be.
    pub(super) fn resolved(&mut self, number: u64, worst: Settlement) {
        self.landed(number);
        let Some((partition, at)) = self.slot(number) else { return };
        self.open.remove(&number);
        self.holding.remove(&number);
        self.abandoned += u64::from(worst == Settlement::Abandoned);
        self.failed += u64::from(!worst.is_final());
        let (at_partition, partition) = (partition, &mut self.partitions[partition]);
        partition.slots[at].ended = Some(worst);
        if !worst.is_final() {
            partition.failed = Some(partition.failed.map_or(number, |failed| failed.min(number)));
        }
        let moved = partition.commit();
        partition.compact();
        if let Some(items) = moved {
            self.committed += items;
            self.note(at_partition);
        }
    }

    /// Returns how far each partition is done with.
    pub(super) fn committed(&self) -> Vec<Committed> {
        self.partitions.iter().map(PartitionSlots::committed).collect()
    }

    /// Returns how many items are done with.
    pub(super) fn committed_items(&self) -> u64 {
        self.committed
    }

    /// Returns how many slots nobody said the end of.
    pub(super) fn abandoned_slots(&self) -> u64 {
        self.abandoned
    }

    /// Returns how many slots are open.
    pub(super) fn open_slots(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { items: 10, bytes: 1_000, span: 20, durable: true, saved: false, unsaved: None };

    fn tracker() -> (Tracker, Arc<str>) {
        (Tracker::new(BOUNDS), "all".into())
    }

    fn committed(tracker: &Tracker) -> Option<Position> {
        tracker.committed().first().and_then(|committed| committed.position.clone())
    }

    #[test]
    fn only_the_contiguous_prefix_commits() {
        let (mut tracker, all) = tracker();
        let slots: Vec<u64> = (0..3).map(|i| tracker.open(&all, Position::Offset(i), 1, 1)).collect();
        tracker.resolved(slots[1], Settlement::Delivered);
        assert_eq!(committed(&tracker), None);
        tracker.resolved(slots[0], Settlement::Dropped);
        assert_eq!(committed(&tracker), Some(Position::Offset(1)));
        tracker.resolved(slots[2], Settlement::DeadLettered);
        assert_eq!(committed(&tracker), Some(Position::Offset(2)));
        assert_eq!(tracker.open_slots(), 0);
    }

    #[test]
    fn a_failed_slot_pins_what_is_behind_it() {
        let (mut tracker, all) = tracker();
        let slots: Vec<u64> = (0..4).map(|i| tracker.open(&all, Position::Offset(i), 1, 1)).collect();
        tracker.resolved(slots[0], Settlement::Delivered);
        tracker.resolved(slots[2], Settlement::Delivered);
        tracker.resolved(slots[1], Settlement::Failed);
        tracker.resolved(slots[3], Settlement::Delivered);
        assert_eq!(committed(&tracker), Some(Position::Offset(0)));
        assert_eq!(tracker.open_slots(), 0);
        assert!(tracker.may_read(), "a pinned slot does not hold credit");
    }

    #[test]
    fn a_slot_that_failed_behind_an_open_one_pins_too() {
        let (mut tracker, all) = tracker();
        let slots: Vec<u64> = (0..4).map(|i| tracker.open(&all, Position::Offset(i), 1, 1)).collect();
        tracker.resolved(slots[1], Settlement::Delivered);
        tracker.resolved(slots[2], Settlement::Failed);
        tracker.resolved(slots[3], Settlement::Delivered);
        tracker.resolved(slots[0], Settlement::Delivered);
        assert_eq!(committed(&tracker), Some(Position::Offset(1)));
    }

    #[test]
    fn what_is_settled_behind_a_failure_costs_neither_time_nor_memory() {
        const SLOTS: usize = 100_000;
        type Order = fn(usize) -> usize;
        let every: [(&str, Order, Settlement); 4] = [
            ("in order", |i| i, Settlement::Delivered),
            ("backwards", |i| SLOTS - 1 - i, Settlement::Delivered),
            ("here and there", |i| i * 77_773 % SLOTS, Settlement::Delivered),
            ("all failing, backwards", |i| SLOTS - 1 - i, Settlement::Failed),
        ];
        for (name, order, worst) in every {
            let (mut tracker, all) = tracker();
            let first = tracker.open(&all, Position::Offset(0), 1, 1);
            let slots: Vec<u64> =
                (0..SLOTS as u64).map(|i| tracker.open(&all, Position::Offset(i), 1, 1)).collect();
            let began = std::time::Instant::now();
            tracker.resolved(first, Settlement::Failed);
            for i in 0..SLOTS - 1 {
                tracker.resolved(slots[order(i)], worst);
            }
            // A look at every slot for every other one takes minutes.
            assert!(began.elapsed().as_secs() < 10, "{name}: {:?}", began.elapsed());
            assert!(tracker.partitions[0].slots.len() < 10, "{name}: {}", tracker.partitions[0].slots.len());
            assert_eq!((tracker.open_slots(), committed(&tracker)), (1, None), "{name}");
        }
    }

    #[test]
    fn a_checkpoint_has_what_has_moved_since_the_last_one_and_nothing_else() {
        const PARTITIONS: u64 = 200_000;
        let mut tracker = Tracker::new(Bounds { saved: true, unsaved: Some(BOUNDS.span), ..BOUNDS });
        let (long, mut had) = ("long".into(), 0);
        for n in 0..PARTITIONS {
            let id: Arc<str> = n.to_string().into();
            let slot = tracker.open(&id, Position::Offset(0), 1, 1);
            tracker.resolved(slot, Settlement::Delivered);
            tracker.end(&id);
            if n % 1_000 == 999 {
                let slot = tracker.open(&long, Position::Offset(n), 1, 1);
                tracker.resolved(slot, Settlement::Delivered);
                let moved = tracker.checkpoint();
                assert_eq!(moved.iter().filter(|committed| committed.ended).count(), 1_000);
                had += moved.len() as u64;
                tracker.saved();
                assert_eq!(tracker.names.len(), 1, "what has ended is not looked for again");
            }
        }
        assert_eq!(had, PARTITIONS + PARTITIONS / 1_000);
        assert_eq!(tracker.checkpoint(), [], "nothing has moved");
        assert_eq!(tracker.committed_items(), PARTITIONS + PARTITIONS / 1_000);
        let all: u64 = tracker.committed().iter().map(|committed| committed.items).sum();
        assert_eq!((all, tracker.committed().len() as u64), (tracker.committed_items(), PARTITIONS + 1));
    }

    #[test]
    fn what_moves_while_a_checkpoint_is_made_or_ends_later_is_in_the_next() {
        let (mut tracker, all) = tracker();
        let from = Committed { partition: all.clone(), position: None, items: 7, ended: false };
        tracker.resume(from);
        assert_eq!(tracker.checkpoint(), [], "a checkpoint has it already");
        let slot = tracker.open(&all, Position::Offset(1), 2, 1);
        tracker.end(&all);
        assert_eq!(tracker.checkpoint(), [], "it is read, and not done with");
        tracker.resolved(slot, Settlement::Delivered);
        tracker.saved();
        let last = Committed { partition: all, position: Some(Position::Offset(1)), items: 9, ended: true };
        assert_eq!(tracker.checkpoint(), [last]);
        assert_eq!((tracker.checkpoint(), tracker.committed_items()), (Vec::new(), 9));
    }

    #[test]
    fn an_abandoned_slot_is_never_committed() {
        let (mut tracker, all) = tracker();
        let slot = tracker.open(&all, Position::Offset(0), 1, 1);
        tracker.resolved(slot, Settlement::Abandoned);
        assert_eq!(committed(&tracker), None);
    }

    #[test]
    fn credit_returns_when_a_slot_has_landed_and_span_when_it_is_settled() {
        let (mut tracker, all) = tracker();
        let first = tracker.open(&all, Position::Offset(0), 10, 1);
        assert!(tracker.lacks_credit() && !tracker.lacks_span());
        tracker.landed(first);
        assert!(tracker.may_read());
        let second = tracker.open(&all, Position::Offset(1), 10, 1);
        tracker.landed(second);
        assert!(!tracker.lacks_credit() && tracker.lacks_span());
        tracker.resolved(first, Settlement::Delivered);
        assert!(tracker.may_read());
    }

    #[test]
    fn partitions_commit_apart() {
        let mut tracker = Tracker::new(BOUNDS);
        let (a, b) = ("a".into(), "b".into());
        let first = tracker.open(&a, Position::Offset(1), 1, 1);
        let second = tracker.open(&b, Position::Offset(2), 1, 1);
        tracker.resolved(second, Settlement::Delivered);
        let committed = tracker.committed();
        assert_eq!(committed[0].position, None);
        assert_eq!(committed[1].position, Some(Position::Offset(2)));
        tracker.resolved(first, Settlement::Failed);
        assert_eq!(tracker.committed()[0].position, None);
    }

    #[test]
    fn one_slot_that_stays_open_holds_reading_up_however_many_others_settle() {
        for durable in [true, false] {
            let (mut tracker, all) = (Tracker::new(Bounds { durable, ..BOUNDS }), "all".into());
            let other = "other".into();
            let held = tracker.open(&all, Position::Offset(0), 1, 1);
            let mut read = 1;
            while tracker.may_read() {
                let slot =
                    tracker.open(if read % 2 == 0 { &all } else { &other }, Position::Offset(read), 1, 1);
                tracker.resolved(slot, Settlement::Delivered);
                read += 1;
            }
            assert_eq!(read, 20, "the span, from the oldest open slot to the newest");
            tracker.resolved(held, Settlement::Delivered);
            assert!(tracker.may_read());
            assert_eq!(tracker.partitions.iter().map(|partition| partition.slots.len()).sum::<usize>(), 0);
        }
    }

    #[test]
    fn what_no_checkpoint_has_holds_reading_up_until_one_has_it_or_something_failed() {
        let (mut tracker, all) =
            (Tracker::new(Bounds { saved: true, unsaved: Some(BOUNDS.span), ..BOUNDS }), "all".into());
        let from = Committed { partition: "all".into(), position: None, items: 7, ended: false };
        tracker.resume(from);
        for i in 0..20 {
            assert!(tracker.may_read());
            assert_eq!(tracker.wants_saving(), i >= 10);
            let slot = tracker.open(&all, Position::Offset(i), 1, 1);
            tracker.resolved(slot, Settlement::Delivered);
        }
        assert!(!tracker.may_read() && tracker.lacks_saving());
        assert_eq!(tracker.checkpoint()[0].items, 27);
        assert!(!tracker.may_read(), "it is not durable yet");
        tracker.saved();
        assert!(tracker.may_read() && !tracker.wants_saving());
        for i in 20..60 {
            let slot = tracker.open(&all, Position::Offset(i), 1, 1);
            tracker.resolved(slot, if i == 20 { Settlement::Failed } else { Settlement::Delivered });
        }
        assert!(tracker.may_read());
    }

    #[test]
    fn what_settles_behind_a_checkpoint_is_news_for_the_next() {
        let (mut tracker, all) = tracker();
        let slot = tracker.open(&all, Position::Offset(0), 1, 1);
        tracker.checkpoint();
        tracker.resolved(slot, Settlement::Delivered);
        assert!(tracker.has_news());
        tracker.checkpoint();
        assert!(!tracker.has_news());
    }

    #[test]
    fn what_waits_for_the_end_of_its_sink_holds_nothing_up_unless_the_user_says_so() {
        for durable in [true, false] {
            let (mut tracker, all) = (Tracker::new(Bounds { durable, ..BOUNDS }), "all".into());
            for i in 0..20 {
                let slot = tracker.open(&all, Position::Offset(i), 1, 1);
                tracker.landed(slot);
            }
            assert_eq!((tracker.may_read(), tracker.wants_durability()), (!durable, durable));
        }
    }
}
