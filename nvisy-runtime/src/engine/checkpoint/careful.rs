//! What is replayed carefully after the process ended half way: an item that ends it each time
//! is found, and goes aside.
//!
//! A run that ends in an orderly way says so in its checkpoint. Where one did not, what it may have
//! read without a checkpoint is read again in groups, one at a time: before each a durable note of
//! what is in it, behind each a checkpoint. A group whose note is found open has ended the
//! process: its items come in smaller groups then, and at last alone. What did so three times
//! while it alone was on its way is not sent into the graph again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nvisy_core::{BatchLimits, Partition};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};

use super::Request;
use super::state::Begun;
use crate::engine::tracker::Committed;

/// How many items are begun at once: at first, and after the process ended with such a group on
/// its way.
const SIZES: [u64; 3] = [1_024, 32, 1];
/// How many bytes are begun at once.
pub(in crate::engine) const GROUP_BYTES: u64 = 8 << 20;
/// How often an item may end the process while it alone is on its way.
pub(in crate::engine) const TIMES: u32 = 3;

/// A stretch of one partition that is on its way, or was when the process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) struct Part {
    pub(in crate::engine) source: Arc<str>,
    pub(in crate::engine) partition: Arc<str>,
    /// The version of the partition, where it has one: another one has other items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::engine) version: Option<Arc<str>>,
    /// How many items of the partition stand before it.
    pub(in crate::engine) from: u64,
    pub(in crate::engine) items: u64,
    /// How many items were begun with it at the most; of what ended the process, how many may be
    /// from now on.
    pub(in crate::engine) size: u64,
    /// How often it ended the process while it alone was on its way.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(in crate::engine) times: u32,
    /// Whether this run has read it.
    #[serde(skip)]
    passed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(times: &u32) -> bool {
    *times == 0
}

impl Part {
    pub(in crate::engine) fn new(source: Arc<str>, partition: &Partition, from: u64, items: u64) -> Self {
        let (version, partition) = (partition.version.clone(), partition.id.clone());
        Self { source, partition, version, from, items, size: 0, times: 0, passed: false }
    }

    /// Says how many items go with it at the most.
    pub(in crate::engine) fn begun_with(self, size: u64) -> Self {
        Self { size, ..self }
    }

    fn end(&self) -> u64 {
        self.from + self.items
    }

    fn is_in(&self, source: &str, partition: &str) -> bool {
        *self.source == *source && *self.partition == *partition
    }

    fn is_same(&self, other: &Self) -> bool {
        let here = (&self.version, self.from, self.items);
        self.is_in(&other.source, &other.partition) && here == (&other.version, other.from, other.items)
    }
}

/// What a checkpoint has of it. What has passed is forgotten when the checkpoint is taken up;
/// each end of the process adds no more than one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) struct Replay {
    /// How many items are still to be read carefully.
    left: u64,
    /// How many there were, for the next time.
    length: u64,
    /// The group that is on its way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    begun: Vec<Part>,
    /// What ended the process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    suspects: Vec<Part>,
}

impl Replay {
    /// Takes up what a checkpoint has, of a run that ended in an orderly way or did not.
    ///
    /// `length` is how much a run may have read that no checkpoint has. Items may come in another
    /// order, or from far behind one that failed, and the process end where nothing is careful
    /// any more: then twice as much is, each time.
    pub(super) fn resume(
        mut self,
        orderly: bool,
        length: u64,
        mut cursor: impl FnMut(&str, &str) -> Option<Committed>,
    ) -> Self {
        let mut is_open = |part: &Part| {
            let cursor = cursor(&part.source, &part.partition);
            cursor.is_none_or(|cursor| !cursor.ended && cursor.items < part.end())
        };
        self.suspects.retain(&mut is_open);
        let mut begun = std::mem::take(&mut self.begun);
        begun.retain(&mut is_open);
        if orderly {
            return self;
        }
        if begun.is_empty() && self.left == 0 {
            self.length = length.max(self.length.saturating_mul(2));
            self.left = self.length;
        }
        begun.into_iter().for_each(|part| self.suspect(part));
        self
    }

    /// The process ended while this was on its way.
    fn suspect(&mut self, mut part: Part) {
        let known = self.suspects.iter().position(|suspect| suspect.is_same(&part));
        part.times = known.map_or(0, |at| self.suspects[at].times) + u32::from(part.size <= 1);
        part.size = SIZES.into_iter().find(|size| *size < part.size).unwrap_or(1);
        match known {
            Some(at) => self.suspects[at] = part,
            None => self.suspects.push(part),
        }
    }

    /// Returns what is on its way.
    pub(super) fn open(&self) -> Vec<Begun> {
        let times = |part: &Part| {
            let known = self.suspects.iter().find(|suspect| suspect.is_same(part));
            known.map_or(0, |suspect| suspect.times)
        };
        let begun = self.begun.iter().map(|part| Begun {
            source: part.source.clone(),
            partition: part.partition.clone(),
            from: part.from,
            items: part.items,
            times: times(part),
        });
        begun.collect()
    }

    fn is_on(&self) -> bool {
        self.left > 0 || self.suspects.iter().any(|suspect| !suspect.passed)
    }

    /// Returns what an item may be begun with: as many as the smallest group that it was in when
    /// the process ended says.
    fn size(&self, source: &str, partition: &str, at: u64) -> u64 {
        let of = self.suspects.iter().filter(|part| part.is_in(source, partition));
        let of = of.filter(|part| part.from <= at && at < part.end()).map(|part| part.size);
        of.min().unwrap_or(SIZES[0])
    }

    /// Returns how many items may be read in one go from there on.
    fn limit(&self, source: &str, partition: &str, at: u64) -> u64 {
        let ahead = self.suspects.iter().filter(|part| part.is_in(source, partition) && part.from > at);
        let next = ahead.map(|part| part.from - at).min().unwrap_or(u64::MAX);
        // A batch of the usual size is a group.
        let size = self.size(source, partition, at);
        next.min(if size == SIZES[0] { u64::MAX } else { size })
    }
}

/// What the sources of a run and its checkpoints share of it.
pub(in crate::engine) struct Careful {
    state: Mutex<State>,
    /// Held while a group is on its way: one in the whole graph.
    pub(in crate::engine) gate: Semaphore,
    noted: Notify,
}

#[derive(Default)]
struct State {
    replay: Replay,
    /// How often a note was asked for, and which of them is durable.
    asked: u64,
    durable: u64,
    replayed: u64,
    aside: u64,
}

impl Careful {
    pub(super) fn new(replay: Replay) -> Self {
        let state = State { replay, ..State::default() };
        Self { state: Mutex::new(state), gate: Semaphore::new(1), noted: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether groups are to go one at a time.
    pub(in crate::engine) fn is_on(&self) -> bool {
        self.lock().replay.is_on()
    }

    /// Returns how large a group may be that has the item of that number in it.
    pub(in crate::engine) fn size(&self, source: &str, partition: &str, at: u64) -> u64 {
        self.lock().replay.size(source, partition, at)
    }

    /// Returns how much may be read in one go from that item on.
    pub(in crate::engine) fn limits(
        &self,
        source: &str,
        partition: &str,
        at: u64,
        usual: BatchLimits,
    ) -> BatchLimits {
        let state = self.lock();
        if !state.replay.is_on() {
            return usual;
        }
        let limit = usize::try_from(state.replay.limit(source, partition, at)).unwrap_or(usize::MAX);
        BatchLimits { items: usual.items.min(limit), ..usual }
    }

    /// Returns whether this has ended the process too often to be tried again.
    pub(in crate::engine) fn is_condemned(&self, part: &Part) -> bool {
        let state = self.lock();
        state.replay.suspects.iter().any(|suspect| suspect.times >= TIMES && suspect.is_same(part))
    }

    /// Notes what is about to be on its way, and waits until that is durable.
    pub(in crate::engine) async fn begin(&self, parts: Vec<Part>, request: &Request) {
        let ticket = {
            let mut state = self.lock();
            state.replay.begun = parts;
            state.asked += 1;
            state.asked
        };
        request.at_once();
        loop {
            let mut noted = std::pin::pin!(self.noted.notified());
            // What happens from here on is not missed.
            noted.as_mut().enable();
            if self.lock().durable >= ticket {
                return;
            }
            noted.await;
        }
    }

    /// What was begun is done with, and a checkpoint has it. Returns whether more is to go so.
    pub(in crate::engine) fn done(&self) -> bool {
        let State { replay, replayed, .. } = &mut *self.lock();
        for part in std::mem::take(&mut replay.begun) {
            replay.left = replay.left.saturating_sub(part.items.max(1));
            *replayed += part.items;
            let passed = |suspect: &&mut Part| {
                suspect.is_in(&part.source, &part.partition) && suspect.end() <= part.end()
            };
            replay.suspects.iter_mut().filter(passed).for_each(|suspect| suspect.passed = true);
        }
        replay.is_on()
    }

    /// Nothing more comes of the partitions of a source that `is_over` names.
    pub(in crate::engine) fn leave(&self, source: &str, is_over: impl Fn(&str) -> bool) {
        for suspect in &mut self.lock().replay.suspects {
            suspect.passed |= *suspect.source == *source && is_over(&suspect.partition);
        }
    }

    pub(in crate::engine) fn set_aside(&self, items: u64) {
        self.lock().aside += items;
    }

    /// Returns the number of the newest note that is asked for, if it is not durable.
    pub(super) fn asked(&self) -> Option<u64> {
        let state = self.lock();
        (state.asked > state.durable).then_some(state.asked)
    }

    pub(super) fn durable(&self, ticket: u64) {
        self.lock().durable = ticket;
        self.noted.notify_waiters();
    }

    /// The run ends in an orderly way.
    pub(super) fn rest(&self) {
        let replay = &mut self.lock().replay;
        replay.begun.clear();
        if replay.left == 0 {
            replay.length = 0;
        }
    }

    /// Returns what a checkpoint is to have of it, if anything.
    pub(super) fn replay(&self) -> Option<Replay> {
        let replay = self.lock().replay.clone();
        (replay != Replay::default()).then_some(replay)
    }

    /// Returns how many items were replayed so, and how many of those went aside.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.lock();
        (state.replayed, state.aside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: u64 = 100;

    fn part(from: u64, items: u64, size: u64) -> Part {
        Part { size, ..Part::new("in".into(), &Partition::new("all"), from, items) }
    }

    /// Takes up what a checkpoint has that is done with so many items.
    fn resumed(replay: Replay, orderly: bool, items: u64) -> Replay {
        let committed = |_: &str, partition: &str| {
            Some(Committed { partition: partition.into(), position: None, items, ended: false })
        };
        replay.resume(orderly, SPAN, committed)
    }

    /// The process ends while a group is on its way.
    fn killed(mut replay: Replay, begun: Part, done: u64) -> Replay {
        replay.begun = vec![begun];
        resumed(replay, false, done)
    }

    #[test]
    fn what_ends_the_process_comes_in_ever_smaller_groups_and_three_times_alone() {
        let replay = resumed(Replay::default(), false, 0);
        assert_eq!((replay.left, replay.size("in", "all", 7)), (SPAN, 1_024));
        let replay = killed(replay, part(0, 1_000, 1_024), 0);
        assert_eq!([6, 999, 1_000].map(|n| replay.size("in", "all", n)), [32, 32, 1_024]);
        let replay = killed(replay, part(32, 32, 32), 32);
        assert_eq!([32, 63, 64].map(|n| replay.size("in", "all", n)), [1, 1, 32]);
        let mut replay = killed(replay, part(40, 1, 1), 40);
        for times in 2..=TIMES {
            assert!(!Careful::new(replay.clone()).is_condemned(&part(40, 1, 0)), "{times}");
            replay = killed(replay, part(40, 1, 1), 40);
        }
        let careful = Careful::new(replay);
        assert!(careful.is_condemned(&part(40, 1, 0)));
        assert!(!careful.is_condemned(&part(41, 1, 0)));
        let corrected = Part { version: Some("2".into()), ..part(40, 1, 0) };
        assert!(!careful.is_condemned(&corrected), "what is another one now is innocent");
        careful.leave("in", |partition| partition == "all");
        careful.lock().replay.left = 0;
        assert!(!careful.is_on(), "nothing more comes of it");
    }

    #[test]
    fn a_batch_never_runs_into_what_is_suspect() {
        let replay = killed(Replay::default(), part(50, 10, 32), 0);
        assert_eq!([0, 49, 50, 59].map(|n| replay.limit("in", "all", n)), [50, 1, 1, 1]);
        assert_eq!(replay.limit("in", "all", 60), u64::MAX);
        assert_eq!(replay.limit("in", "other", 55), u64::MAX);
    }

    #[test]
    fn what_a_checkpoint_has_is_not_suspect_and_an_orderly_end_accuses_nobody() {
        let replay = killed(Replay { left: 5, ..Replay::default() }, part(10, 20, 32), 30);
        assert_eq!((replay.suspects.len(), replay.left), (0, 5));
        let mut replay = Replay { left: 5, ..Replay::default() };
        replay.begun = vec![part(10, 20, 32)];
        assert_eq!(resumed(replay, true, 0), Replay { left: 5, ..Replay::default() });
    }

    #[test]
    fn where_it_ends_at_the_usual_speed_twice_as_much_is_careful() {
        let mut replay = Replay::default();
        for expected in [SPAN, 2 * SPAN, 4 * SPAN] {
            replay = resumed(replay, false, 0);
            assert_eq!(replay.left, expected);
            replay.left = 0;
        }
    }
}
