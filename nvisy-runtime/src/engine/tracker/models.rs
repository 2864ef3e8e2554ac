//! Every interleaving of a few threads that share a tracker: `cargo xtask test` runs these models, and
//! `cargo xtask torture --kind loom` explores them deeper.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake};

use loom::sync::{Condvar, Mutex};
use loom::thread;
use nvisy_core::Position;
use nvisy_core::token::{Settlement, Token};

use super::{Asks, Bounds, Committed, SharedTracker, Tracker};
use crate::engine::checkpoint::Request;

const BOUNDS: Bounds =
    Bounds { items: 100, bytes: 1_000, span: 100, durable: true, saved: true, unsaved: None };

/// Who never asks for a checkpoint.
const NOBODY: Asks = Asks { request: None, staged: false };

/// Runs `model` under every interleaving, and says how many those are.
fn check(bounds: Bounds, model: impl Fn(Arc<SharedTracker>, Arc<str>) + Send + Sync + 'static) {
    let explored = Arc::new(AtomicU64::new(0));
    let counted = explored.clone();
    loom::model(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model(Arc::new(SharedTracker::new(Tracker::new(bounds))), "all".into());
    });
    println!("loom: {} interleavings", explored.load(Ordering::Relaxed));
}

/// Whether somebody was woken.
#[derive(Default)]
struct Woken(Mutex<bool>, Condvar);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.1.notify_one();
    }
}

/// Waits for a future on a thread of a model.
///
/// `loom::future::block_on` would let other threads go first wherever its waker is cloned, and tokio
/// does that under a lock that loom does not know.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let woken = Arc::new(Woken(Mutex::new(false), Condvar::new()));
    let waker = woken.clone().into();
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
        let mut is = woken.0.lock().unwrap();
        while !std::mem::replace(&mut *is, false) {
            is = woken.1.wait(is).unwrap();
        }
    }
}

/// Opens a slot of one item, which ends at an offset.
fn open(tracker: &Arc<SharedTracker>, partition: &Arc<str>, at: u64) -> Token {
    let slot = block_on(tracker.open(partition, Position::Offset(at), 1, 1));
    Token::open(slot, tracker.clone())
}

/// Returns how far a checkpoint is, of one partition.
fn offset(checkpoint: &[Committed]) -> Option<u64> {
    match checkpoint.first()?.position.as_ref()? {
        Position::Offset(at) => Some(*at),
        _ => None,
    }
}

#[test]
fn who_waits_until_nothing_is_on_its_way_is_woken() {
    check(BOUNDS, |tracker, all| {
        let (mut first, second) = (open(&tracker, &all, 1), open(&tracker, &all, 2));
        let one = thread::spawn(move || {
            first.land();
            first.settle(Settlement::Delivered);
        });
        let two = thread::spawn(move || second.settle(Settlement::Delivered));
        block_on(tracker.until(SharedTracker::is_still));
        block_on(tracker.until(SharedTracker::is_settled));
        assert_eq!(offset(&tracker.checkpointed()), Some(2));
        one.join().unwrap();
        two.join().unwrap();
    });
}

#[test]
fn who_waits_for_room_gets_it_when_a_slot_settles() {
    check(Bounds { items: 1, ..BOUNDS }, |tracker, all| {
        let first = open(&tracker, &all, 1);
        let one = thread::spawn(move || first.settle(Settlement::Delivered));
        let slot = block_on(tracker.reserve(&all, &NOBODY, |_| {}));
        tracker.fill(slot.unwrap(), 1, 1, &NOBODY);
        assert!(!tracker.lock().may_read());
        one.join().unwrap();
    });
}

#[test]
fn who_is_held_goes_on_when_let_go_of_and_when_there_is_room() {
    check(Bounds { items: 1, ..BOUNDS }, |tracker, all| {
        let first = open(&tracker, &all, 1);
        let held = tracker.clone();
        let one = thread::spawn(move || first.settle(Settlement::Delivered));
        let two = thread::spawn(move || {
            held.hold(true);
            block_on(held.until(SharedTracker::is_settled));
            held.hold(false);
        });
        let slot = loop {
            match block_on(tracker.reserve(&all, &NOBODY, |_| {})) {
                Some(slot) => break slot,
                None => block_on(tracker.until_free()),
            }
        };
        Token::open(slot, tracker.clone()).settle(Settlement::Delivered);
        one.join().unwrap();
        two.join().unwrap();
    });
}

#[test]
fn a_cut_has_all_that_was_opened_before_it_and_the_next_one_the_rest() {
    check(BOUNDS, |tracker, all| {
        let cutting = tracker.clone();
        let one = thread::spawn(move || {
            cutting.hold(true);
            block_on(cutting.until(SharedTracker::is_still));
            block_on(cutting.until(SharedTracker::is_settled));
            let (cut, opened) = (offset(&cutting.checkpointed()), cutting.committed_items());
            cutting.hold(false);
            cutting.saved();
            (cut, opened)
        });
        for at in 1..=2 {
            open(&tracker, &all, at).settle(Settlement::Delivered);
        }
        let (cut, opened) = one.join().unwrap();
        assert_eq!(cut.unwrap_or(0), opened);
        assert_eq!(offset(&tracker.checkpointed()), (opened < 2).then_some(2));
    });
}

#[test]
fn no_checkpoint_passes_what_is_open_or_failed_and_the_next_has_what_was_missing() {
    check(BOUNDS, |tracker, all| {
        let [first, second, third] = [1, 2, 3].map(|at| open(&tracker, &all, at));
        let ended = Arc::new(AtomicU64::new(0));
        let noted = ended.clone();
        let one = thread::spawn(move || {
            noted.store(1, Ordering::Relaxed);
            first.settle(Settlement::Delivered);
            third.settle(Settlement::Failed);
        });
        let two = thread::spawn(move || second.settle(Settlement::Dropped));
        let before = offset(&tracker.checkpointed());
        assert!(before.is_none() || ended.load(Ordering::Relaxed) == 1, "it passes an open slot");
        tracker.saved();
        one.join().unwrap();
        two.join().unwrap();
        assert!(tracker.has_failed() && before <= Some(2), "{before:?}");
        let missing = (before != Some(2)).then_some(2);
        assert_eq!(offset(&tracker.checkpointed()), missing);
        assert_eq!((offset(&tracker.committed()), tracker.committed_items()), (Some(2), 2));
    });
}

/// One reads on when a checkpoint has what was read, and one makes those that it asks for.
fn saves(careful: bool) {
    check(Bounds { unsaved: Some(1), ..BOUNDS }, move |tracker, all| {
        let first = open(&tracker, &all, 1);
        tracker.lock().be_careful(careful);
        let request = Arc::new(Request::default());
        let (saving, asked) = (tracker.clone(), request.clone());
        let one = thread::spawn(move || first.settle(Settlement::Delivered));
        let two = thread::spawn(move || {
            let mut made = None;
            while made.is_none() {
                block_on(asked.at_once.notified());
                made = offset(&saving.checkpointed());
                saving.saved();
            }
            made
        });
        block_on(tracker.room(&Asks { request: Some(request), staged: false }, |_| {}));
        assert_eq!(two.join().unwrap(), Some(1));
        one.join().unwrap();
    });
}

#[test]
fn who_waits_for_a_checkpoint_gets_one_that_has_what_was_read() {
    saves(false);
}

#[test]
fn who_reads_carefully_waits_until_a_checkpoint_has_everything() {
    saves(true);
}

/// A pulse is on its way when it is asked for, and never before: else nobody would settle.
#[test]
fn what_waits_to_become_durable_is_asked_for_when_it_holds_reading_up() {
    check(Bounds { span: 1, saved: false, ..BOUNDS }, |tracker, all| {
        let mut first = open(&tracker, &all, 1);
        first.land();
        let flush = Arc::new(super::Notify::new());
        let asked = flush.clone();
        let one = thread::spawn(move || {
            block_on(asked.notified());
            first.settle(Settlement::Delivered);
        });
        block_on(tracker.room(&NOBODY, |_| flush.notify_one()));
        assert!(tracker.is_settled());
        one.join().unwrap();
    });
}
