//! Slots and tokens: the proof that everything a source batch became has ended.
//!
//! A *slot* is one source batch. A [`Token`] is the right to finish a part of it. Tokens are
//! linear: there is no `Clone`; they are split before the first send and merged when batches
//! merge, and a token that is dropped without being settled is [`Settlement::Abandoned`],
//! never an acknowledgement. A panic, a cancellation or a bug therefore means replay.

use std::fmt;

#[cfg(not(nvisy_loom))]
use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU32, Ordering},
};

#[cfg(nvisy_loom)]
use loom::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU32, Ordering},
};

use serde::{Deserialize, Serialize};

/// How a part of a slot ended, from best to worst. Of several, the worst stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Settlement {
    /// Every sink has it.
    Delivered = 0,
    /// A node that the user named dropped it.
    Dropped = 1,
    /// It is part of a node's state, which commits with the cursor.
    Absorbed = 2,
    /// It is in the dead letters.
    DeadLettered = 3,
    /// It failed.
    Failed = 4,
    /// Nobody said how it ended.
    Abandoned = 5,
}

impl Settlement {
    /// Returns whether the source may be told that the slot is done with.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Failed | Self::Abandoned)
    }

    const fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Delivered,
            1 => Self::Dropped,
            2 => Self::Absorbed,
            3 => Self::DeadLettered,
            4 => Self::Failed,
            _ => Self::Abandoned,
        }
    }
}

/// Who is told what becomes of a slot. The engine's tracker is one.
pub trait SlotWatch: Send + Sync {
    /// No part of the slot is on its way any more: all are settled, or written and waiting to
    /// become durable. Called once, before or with [`resolved`](Self::resolved).
    fn landed(&self, slot: u64);

    /// Every part of the slot is settled; the worst is `worst`. Called once.
    fn resolved(&self, slot: u64, worst: Settlement);
}

struct Slot {
    number: u64,
    pending: AtomicU32,
    moving: AtomicU32,
    worst: AtomicU8,
    watch: std::sync::Arc<dyn SlotWatch>,
}

/// The right to finish a part of a slot.
///
/// # Contract
///
/// 1. A slot resolves exactly once: when its last token is settled or dropped.
/// 2. The worst settlement of all its tokens, and of all [`note`](Self::note)s, stands.
/// 3. A dropped token counts as [`Settlement::Abandoned`].
#[must_use = "a token that is dropped counts as abandoned"]
pub struct Token {
    slot: Arc<Slot>,
    /// Whether this part is still on its way; a part that has landed waits to become durable.
    moving: bool,
    /// Whether this part is unsettled.
    open: bool,
}

impl Token {
    /// Opens a slot and returns its first token.
    pub fn open(number: u64, watch: std::sync::Arc<dyn SlotWatch>) -> Self {
        let slot = Arc::new(Slot {
            number,
            pending: AtomicU32::new(1),
            moving: AtomicU32::new(1),
            worst: AtomicU8::new(Settlement::Delivered as u8),
            watch,
        });
        Self { slot, moving: true, open: true }
    }

    /// Splits off another token of the same slot.
    pub fn split(&self) -> Self {
        self.slot.pending.fetch_add(1, Ordering::Relaxed);
        if self.moving {
            self.slot.moving.fetch_add(1, Ordering::Relaxed);
        }
        Self { slot: self.slot.clone(), moving: self.moving, open: true }
    }

    /// Takes in another token of the same slot.
    ///
    /// # Errors
    ///
    /// Gives the other token back if it is of another slot.
    pub fn merge(&mut self, mut other: Self) -> Result<(), Self> {
        if !self.same_slot(&other) {
            return Err(other);
        }
        // The merged part moves while either does.
        if other.moving && !self.moving {
            self.moving = true;
            other.moving = false;
        }
        other.settle(Settlement::Delivered);
        Ok(())
    }

    /// Returns whether both are of one slot.
    #[must_use]
    pub fn same_slot(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.slot, &other.slot)
    }

    /// Returns the slot's number.
    #[must_use]
    pub fn slot(&self) -> u64 {
        self.slot.number
    }

    /// Notes how some items of this part ended while others of it go on.
    pub fn note(&self, settlement: Settlement) {
        self.slot.worst.fetch_max(settlement as u8, Ordering::AcqRel);
    }

    /// Says that this part is written and waits only to become durable: its credit returns.
    pub fn land(&mut self) {
        if std::mem::replace(&mut self.moving, false) && self.slot.moving.fetch_sub(1, Ordering::AcqRel) == 1
        {
            self.slot.watch.landed(self.slot.number);
        }
    }

    /// Finishes this part.
    pub fn settle(mut self, settlement: Settlement) {
        self.finish(settlement);
    }

    fn finish(&mut self, settlement: Settlement) {
        if !std::mem::replace(&mut self.open, false) {
            return;
        }
        self.note(settlement);
        self.land();
        if self.slot.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            let worst = Settlement::from_u8(self.slot.worst.load(Ordering::Acquire));
            self.slot.watch.resolved(self.slot.number, worst);
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.finish(Settlement::Abandoned);
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("slot", &self.slot.number).field("moving", &self.moving).finish()
    }
}

/// The tokens of a batch: which slots its items come from, at two bytes an item where there
/// are several.
#[derive(Debug, Default)]
pub struct Tokens {
    tokens: Vec<Token>,
    /// For each item the index of its token; empty where every token serves every item.
    of: Vec<u16>,
}

impl Tokens {
    /// No tokens: for batches outside a run, and for what a run already accounts for.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// One token for every item.
    #[must_use]
    pub fn one(token: Token) -> Self {
        Self { tokens: vec![token], of: Vec::new() }
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Returns how many slots are behind the batch. One may be counted more than once.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Splits a second set off, for a copy of the whole batch.
    #[must_use]
    pub fn split(&self) -> Self {
        Self { tokens: self.tokens.iter().map(Token::split).collect(), of: self.of.clone() }
    }

    /// Splits a set off that serves every item of another batch: all that came out of these
    /// items belongs to all of them.
    #[must_use]
    pub fn split_all(&self) -> Self {
        let mut all = self.split();
        all.of = Vec::new();
        all
    }

    /// Splits off the tokens for a part of the batch: for the items at `indices`, in their
    /// order. Items may repeat (an expansion) or be left out.
    #[must_use]
    pub fn split_for(&self, mut indices: impl Iterator<Item = u32>) -> Self {
        if self.tokens.is_empty() {
            return Self::none();
        }
        if self.of.is_empty() {
            return if indices.next().is_none() { Self::none() } else { self.split() };
        }
        let mut place = vec![u16::MAX; self.tokens.len()];
        let mut part = Self::none();
        for index in indices {
            let from = self.of.get(index as usize).map_or(0, |of| usize::from(*of));
            if place[from] == u16::MAX {
                place[from] = part.tokens.len() as u16;
                part.tokens.push(self.tokens[from].split());
            }
            part.of.push(place[from]);
        }
        if part.tokens.len() == 1 {
            part.of = Vec::new();
        }
        part
    }

    /// Appends the tokens of a batch of `other_len` items behind those of a batch of `len`.
    /// Gives the other set back where a batch cannot hold so many slots (65,535).
    ///
    /// # Errors
    ///
    /// Gives the other set back, untouched.
    pub fn append(&mut self, len: usize, mut other: Self, other_len: usize) -> Result<(), Self> {
        if self.tokens.len() + other.tokens.len() >= usize::from(u16::MAX) {
            return Err(other);
        }
        // Items that come without a token ride along with the first one.
        if other.tokens.is_empty() {
            if !self.of.is_empty() {
                self.of.resize(len + other_len, 0);
            }
            return Ok(());
        }
        if self.tokens.is_empty() {
            if !other.of.is_empty() {
                other.of.splice(0..0, std::iter::repeat_n(0, len));
            }
            *self = other;
            return Ok(());
        }
        // Where each of several tokens serves every item of one side, no item of the other
        // side may settle without them: then all serve all.
        let all = self.serves_all() || other.serves_all();
        if self.of.is_empty() {
            self.of.resize(len, 0);
        }
        let place: Vec<u16> = other.tokens.into_iter().map(|token| self.place(token)).collect();
        if all || self.tokens.len() == 1 {
            self.of = Vec::new();
        } else if other.of.is_empty() {
            self.of.extend(std::iter::repeat_n(place[0], other_len));
        } else {
            self.of.extend(other.of.iter().map(|of| place[usize::from(*of)]));
        }
        Ok(())
    }

    fn serves_all(&self) -> bool {
        self.tokens.len() > 1 && self.of.is_empty()
    }

    /// Takes a token in and returns where it is. Merges it with one of the same slot, if that
    /// is near: batches of one slot travel close to each other, and two tokens of one slot in
    /// one set do no harm.
    fn place(&mut self, token: Token) -> u16 {
        const NEAR: usize = 16;
        let from = self.tokens.len().saturating_sub(NEAR);
        if let Some(near) = self.tokens[from..].iter().rposition(|mine| mine.same_slot(&token)) {
            match self.tokens[from + near].merge(token) {
                Ok(()) => return (from + near) as u16,
                // Never: the slot is the same.
                Err(token) => self.tokens.push(token),
            }
        } else {
            self.tokens.push(token);
        }
        (self.tokens.len() - 1) as u16
    }

    /// Returns the tokens one by one, without the items that they serve.
    #[must_use = "a token that is dropped counts as abandoned"]
    pub fn into_tokens(self) -> Vec<Token> {
        self.tokens
    }

    /// Notes how some items ended while others of the same slots go on.
    pub fn note(&self, settlement: Settlement) {
        for token in &self.tokens {
            token.note(settlement);
        }
    }

    /// Says that everything here is written and waits only to become durable.
    pub fn land(&mut self) {
        for token in &mut self.tokens {
            token.land();
        }
    }

    /// Finishes every token in the same way.
    pub fn settle(self, settlement: Settlement) {
        for token in self.tokens {
            token.settle(settlement);
        }
    }
}

#[cfg(test)]
#[cfg(not(nvisy_loom))]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Log(Mutex<Vec<(u64, Option<Settlement>)>>);

    impl SlotWatch for Log {
        fn landed(&self, slot: u64) {
            self.0.lock().unwrap().push((slot, None));
        }

        fn resolved(&self, slot: u64, worst: Settlement) {
            self.0.lock().unwrap().push((slot, Some(worst)));
        }
    }

    impl Log {
        fn take(&self) -> Vec<(u64, Option<Settlement>)> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    #[test]
    fn a_slot_resolves_with_its_last_token_and_the_worst_settlement() {
        let log = Arc::new(Log::default());
        let first = Token::open(7, log.clone());
        let second = first.split();
        first.settle(Settlement::DeadLettered);
        assert_eq!(log.take(), []);
        second.settle(Settlement::Delivered);
        assert_eq!(log.take(), [(7, None), (7, Some(Settlement::DeadLettered))]);
    }

    #[test]
    fn a_dropped_token_is_abandoned() {
        let log = Arc::new(Log::default());
        drop(Token::open(1, log.clone()));
        assert_eq!(log.take(), [(1, None), (1, Some(Settlement::Abandoned))]);
    }

    #[test]
    fn credit_returns_when_all_has_landed_and_the_slot_stays_open() {
        let log = Arc::new(Log::default());
        let mut first = Token::open(1, log.clone());
        let mut second = first.split();
        first.land();
        second.land();
        assert_eq!(log.take(), [(1, None)]);
        assert!(first.merge(second).is_ok());
        first.settle(Settlement::Delivered);
        assert_eq!(log.take(), [(1, Some(Settlement::Delivered))]);
    }

    #[test]
    fn parts_of_a_mixed_batch_carry_only_the_slots_they_come_from() {
        let log = Arc::new(Log::default());
        let mut tokens = Tokens::one(Token::open(1, log.clone()));
        tokens.append(2, Tokens::one(Token::open(2, log.clone())), 2).unwrap();
        let part = tokens.split_for([2, 3, 3].into_iter());
        assert_eq!(part.len(), 1);
        tokens.settle(Settlement::Delivered);
        assert_eq!(log.take(), [(1, None), (1, Some(Settlement::Delivered))]);
        part.settle(Settlement::Dropped);
        assert_eq!(log.take(), [(2, None), (2, Some(Settlement::Dropped))]);
    }

    #[test]
    fn what_belongs_to_all_slots_keeps_all_of_them_open() {
        let log = Arc::new(Log::default());
        let mut tokens = Tokens::one(Token::open(1, log.clone()));
        tokens.append(1, Tokens::one(Token::open(2, log.clone())), 1).unwrap();
        let mut all = tokens.split_all();
        tokens.settle(Settlement::Delivered);
        all.append(5, Tokens::one(Token::open(3, log.clone())), 1).unwrap();
        let part = all.split_for([4].into_iter());
        all.settle(Settlement::Delivered);
        assert_eq!(log.take(), [], "an item of the part may come from any of the slots");
        part.settle(Settlement::Delivered);
        assert_eq!(log.take().len(), 6);
    }

    #[test]
    fn items_without_a_token_do_not_shift_those_with_one() {
        let log = Arc::new(Log::default());
        let mut tokens = Tokens::none();
        tokens.append(2, Tokens::one(Token::open(1, log.clone())), 1).unwrap();
        let same = tokens.split();
        tokens.append(3, same, 1).unwrap();
        tokens.append(4, Tokens::one(Token::open(2, log.clone())), 2).unwrap();
        let last = tokens.split_for([4, 5].into_iter());
        tokens.settle(Settlement::Delivered);
        assert_eq!(log.take(), [(1, None), (1, Some(Settlement::Delivered))]);
        last.settle(Settlement::Delivered);
        assert_eq!(log.take(), [(2, None), (2, Some(Settlement::Delivered))]);
    }
}

/// Every interleaving of a few threads: `cargo xtask test` runs these models.
#[cfg(test)]
#[cfg(nvisy_loom)]
mod models {
    use std::sync::{Arc as StdArc, Mutex, atomic::AtomicU64};

    use loom::thread;

    use super::*;

    /// What was told, in order: landed is none.
    #[derive(Default)]
    struct Log(Mutex<Vec<Option<Settlement>>>);

    impl SlotWatch for Log {
        fn landed(&self, _: u64) {
            self.0.lock().unwrap().push(None);
        }

        fn resolved(&self, _: u64, worst: Settlement) {
            self.0.lock().unwrap().push(Some(worst));
        }
    }

    /// Runs `model` under every interleaving, and says how many those are. By its end the slot has
    /// landed once, then resolved once, as `worst`.
    fn check(worst: Settlement, model: impl Fn(Token) + Send + Sync + 'static) {
        let explored = StdArc::new(AtomicU64::new(0));
        let counted = explored.clone();
        loom::model(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            let log = StdArc::new(Log::default());
            model(Token::open(1, log.clone()));
            assert_eq!(*log.0.lock().unwrap(), [None, Some(worst)]);
        });
        println!("loom: {} interleavings", explored.load(Ordering::Relaxed));
    }

    #[test]
    fn token_parts_settle_side_by_side_and_the_worst_wins() {
        check(Settlement::Failed, |token| {
            let (second, third) = (token.split(), token.split());
            let one = thread::spawn(move || token.settle(Settlement::Delivered));
            let two = thread::spawn(move || second.settle(Settlement::Failed));
            third.settle(Settlement::Dropped);
            one.join().unwrap();
            two.join().unwrap();
        });
    }

    #[test]
    fn token_parts_split_while_others_settle() {
        check(Settlement::DeadLettered, |token| {
            let second = token.split();
            let one = thread::spawn(move || {
                let third = token.split();
                token.settle(Settlement::Delivered);
                third.settle(Settlement::DeadLettered);
            });
            second.settle(Settlement::Delivered);
            one.join().unwrap();
        });
    }

    #[test]
    fn token_parts_that_are_dropped_are_abandoned() {
        check(Settlement::Abandoned, |token| {
            let second = token.split();
            let one = thread::spawn(move || drop(second));
            token.settle(Settlement::Delivered);
            one.join().unwrap();
        });
    }

    #[test]
    fn token_parts_land_before_the_slot_resolves() {
        check(Settlement::Delivered, |token| {
            let mut second = token.split();
            let one = thread::spawn(move || {
                second.land();
                second.settle(Settlement::Delivered);
            });
            let mut token = token;
            token.land();
            token.settle(Settlement::Delivered);
            one.join().unwrap();
        });
    }

    #[test]
    fn token_parts_merge_while_others_settle() {
        check(Settlement::Absorbed, |token| {
            let (mut second, mut third) = (token.split(), token.split());
            second.land();
            let one = thread::spawn(move || {
                assert!(second.merge(third.split()).is_ok());
                third.land();
                second.settle(Settlement::Absorbed);
                third.settle(Settlement::Delivered);
            });
            token.settle(Settlement::Delivered);
            one.join().unwrap();
        });
    }

    #[test]
    fn token_notes_count_whenever_they_come() {
        check(Settlement::DeadLettered, |token| {
            let second = token.split();
            let one = thread::spawn(move || {
                second.note(Settlement::DeadLettered);
                second.settle(Settlement::Delivered);
            });
            token.settle(Settlement::Dropped);
            one.join().unwrap();
        });
    }

    #[test]
    fn token_sets_split_on_their_way_and_resolve_once() {
        check(Settlement::Dropped, |token| {
            let tokens = Tokens::one(token);
            let copy = tokens.split();
            let one = thread::spawn(move || {
                let part = copy.split_for([0, 2].into_iter());
                copy.settle(Settlement::Dropped);
                part.settle(Settlement::Delivered);
            });
            tokens.settle(Settlement::Delivered);
            one.join().unwrap();
        });
    }
}
