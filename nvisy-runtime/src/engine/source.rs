//! Reading a source: partition by partition, within its credit, each batch a slot.

mod careful;
mod places;

use std::collections::{HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::FutureExt;
use futures::stream::{BoxStream, FuturesUnordered, StreamExt};
use nvisy_core::observability::field;
use nvisy_core::plugin::{AnyClient, ErasedSource};
use nvisy_core::token::{Settlement, Token, Tokens};
use nvisy_core::{
    Batch, BatchLimits, Context, Error, ErrorKind, Increments, Partition, Position, Primitive, PrimitiveId,
    Rejected, Result, SourceBatch, SourceIdentity,
};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::careful::Group;
use self::places::Places;
use super::call::Caller;
use super::checkpoint::{Careful, Cursors, Feed, Phase};
use super::edge::{End, Pulse};
use super::ledger::Counter;
use super::node::Ended;
use super::outlet::{Failed, Outlets};
use super::tracker::{Asks, Committed, SharedTracker};
use crate::expression::{Expression, Value};

/// A source that is ready to be read.
pub(super) struct SourceWork {
    pub(super) config: Arc<dyn ErasedSource>,
    pub(super) key: Option<Expression>,
    pub(super) client: AnyClient,
    pub(super) identity: SourceIdentity,
    pub(super) context: Context,
    pub(super) limits: BatchLimits,
    /// How many partitions are read at once.
    pub(super) concurrency: usize,
    pub(super) caller: Caller,
    pub(super) tracker: Arc<SharedTracker>,
    /// Stops reading; what is on its way goes on.
    pub(super) stop: CancellationToken,
    /// Says that it is the user who wants that: then nothing is missing downstream.
    pub(super) drain: CancellationToken,
    /// Where a run before stopped.
    pub(super) cursors: Cursors,
    /// What is asked of it for a checkpoint.
    pub(super) phase: watch::Receiver<Phase>,
    /// How it asks for room.
    pub(super) asks: Asks,
    /// How many items it may read ahead.
    pub(super) span: u64,
    /// What is replayed carefully, in a run with checkpoints.
    pub(super) careful: Option<Arc<Careful>>,
    /// What it has read before, where it reads only what has changed.
    pub(super) feed: Option<Arc<Feed>>,
    /// Whether an action behind it remembers what it has read.
    pub(super) remembered: bool,
    /// Whether the run that goes on had read all there was, and such an action may have let go of
    /// what it made of all that: nothing more may come to it.
    pub(super) complete: bool,
    /// How long nobody asked its partitions for more, because a group was on its way: no time of
    /// theirs.
    pub(super) paused: Counter,
    /// Whether nothing may be left of what it has read before.
    pub(super) allow_empty: bool,
    /// Whether the user has accepted that it has changed since the last run.
    pub(super) is_accepted: bool,
    /// Where its partitions have given items.
    pub(super) places: Mutex<Places>,
}

/// How long a source may be silent before the graph is told to let go of what it gathers.
const IDLE: Duration = Duration::from_millis(100);

/// One partition, being read.
struct Reading {
    partition: Partition,
    stream: BoxStream<'static, Result<SourceBatch>>,
    after: Option<Position>,
    /// How many items stand before what comes next.
    at: u64,
    limits: BatchLimits,
    attempt: u32,
}

/// What one turn of reading gave.
#[expect(clippy::large_enum_variant, reason = "most are the large one, and none is kept")]
enum Turn {
    Read(SourceBatch),
    Failed(Error),
    Ended,
}

impl SourceWork {
    /// Reads everything, or until told to stop.
    ///
    /// A partition that cannot be read does not keep the others from being read; its error is
    /// the node's when all are done.
    pub(super) async fn run(mut self, outlets: &Outlets, cancel: &CancellationToken) -> Result<Ended> {
        let (phase, cursors) = (self.phase.clone(), std::mem::take(&mut self.cursors));
        tokio::select! {
            biased;
            ended = self.read_all(cursors, outlets, cancel) => ended,
            never = follow(phase, outlets) => match never {},
        }
    }

    async fn read_all(
        &self,
        cursors: Cursors,
        outlets: &Outlets,
        cancel: &CancellationToken,
    ) -> Result<Ended> {
        let (config, client) = (&self.config, &self.client);
        let partitions = self.caller.plain(|context| config.partitions(context, client)).await?;
        let mut failure: Option<Error> = None;
        let expected = |items: Option<u64>| outlets.meter.expected.add(items.unwrap_or(0));
        let open = match &self.feed {
            Some(feed) if feed.increments == Increments::Versions => {
                let open = self.changed(feed, partitions, outlets, cancel).await?;
                expected(counted(open.iter().map(|(partition, ..)| partition)));
                open
            }
            // How many there are says nothing of how many are new.
            Some(_) => self.resume(partitions, cursors, outlets, &mut failure),
            None => {
                expected(counted(&partitions));
                self.resume(partitions, cursors, outlets, &mut failure)
            }
        };
        if let Some(careful) = self.careful.as_ref().filter(|careful| careful.is_on()) {
            // What a run before had begun of others is done with, or gone.
            let open: HashSet<&str> = open.iter().map(|(partition, ..)| &*partition.id).collect();
            careful.leave(&outlets.meter.node, |partition| !open.contains(partition));
        }
        let mut waiting = open.into_iter();
        let mut reading = FuturesUnordered::new();
        reading.extend(
            waiting
                .by_ref()
                .take(self.concurrency.max(1))
                .map(|(partition, after, at)| self.turn(self.open(partition, after, at, outlets))),
        );
        let mut group = Group::default();
        let mut arrived = VecDeque::new();
        let (mut idle, mut complete) = (false, false);
        loop {
            let turn = tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                () = self.stop.cancelled() => break,
                turn = std::future::ready(arrived.pop_front()), if !arrived.is_empty() => turn,
                turn = reading.next() => turn,
                () = tokio::time::sleep(IDLE), if !group.is_empty() => {
                    if !self.send_group(&mut group, outlets, cancel).await? {
                        break;
                    }
                    continue;
                }
                () = tokio::time::sleep(IDLE), if !idle => {
                    outlets.pulse(Pulse::Gathered);
                    idle = true;
                    continue;
                }
            };
            idle = false;
            let Some((mut open, turn)) = turn else {
                complete = group.is_empty();
                if complete || !self.send_group(&mut group, outlets, cancel).await? {
                    break;
                }
                continue;
            };
            match turn {
                Turn::Read(read) if !group.is_empty() || self.is_careful() => {
                    let at = open.at;
                    open.at += (read.batch.len() + read.rejected.len()) as u64;
                    let gathered = (open.partition.clone(), at, read);
                    if !self.gather(&mut group, gathered, outlets, cancel).await? {
                        break;
                    }
                    reading.push(self.turn(self.paced(open, outlets)));
                }
                Turn::Read(read) => {
                    open.at += (read.batch.len() + read.rejected.len()) as u64;
                    let emitted = async {
                        self.emit(&open.partition, read, false, outlets).await?;
                        Ok::<_, Error>(self.wait_for_credit(outlets, cancel).await)
                    };
                    if !meanwhile(emitted, &mut reading, &mut arrived).await? {
                        break;
                    }
                    reading.push(self.turn(self.paced(open, outlets)));
                }
                Turn::Ended => {
                    // What is gathered of it has to be on its way first.
                    match group.is_empty() {
                        true => self.end(&open.partition.id, outlets),
                        false => group.end(open.partition.id),
                    }
                    let next = waiting.next();
                    reading
                        .extend(next.map(|(next, after, at)| self.turn(self.open(next, after, at, outlets))))
                }
                Turn::Failed(error) => {
                    let error = self.caller.final_error(error, open.attempt).at_item(&open.partition.id);
                    tracing::warn!({ field::NODE } = %outlets.meter.node, { field::ERROR } = error.tag(), %error, partition = %open.partition.id, "a partition cannot be read");
                    outlets.meter.note_error(&error);
                    failure.get_or_insert(error);
                    let next = waiting.next();
                    reading
                        .extend(next.map(|(next, after, at)| self.turn(self.open(next, after, at, outlets))));
                }
            }
        }
        if let Some(careful) = &self.careful {
            careful.leave(&outlets.meter.node, |_| true);
        }
        let stopped = self.stop.is_cancelled() && !self.drain.is_cancelled();
        let failed = failure.is_some();
        if complete && !failed && self.remembered {
            // Before its end is sent: no checkpoint has what is made of all that without this.
            self.tracker.lock().complete();
        }
        if let Some(error) = failure {
            // What was read goes on: the nodes after this one complete.
            outlets.meter.fail(error.at_node(outlets.meter.node.clone()));
        }
        Ok(match (stopped, failed) {
            (true, _) => Ended::Stopped,
            (false, true) => Ended::With(End::Short),
            (false, false) => Ended::With(End::Complete),
        })
    }

    /// Returns what there is to read, after which position and how many items; what a run before has
    /// done with is left out. What it was reading and is gone is a failure: the rest of it is lost, or, of
    /// ranges of one whole, would come again.
    fn resume(
        &self,
        partitions: Vec<Partition>,
        mut known: Cursors,
        outlets: &Outlets,
        failure: &mut Option<Error>,
    ) -> Vec<(Partition, Option<Position>, u64)> {
        let mut open = Vec::with_capacity(partitions.len());
        let mut left = 0;
        let nothing = partitions.is_empty() && known.iter().next().is_none();
        outlets.meter.found_nothing.store(nothing, Ordering::Relaxed);
        let ranges = partitions.iter().any(|partition| partition.range);
        for partition in partitions {
            let (after, at) = match known.take(&partition.id) {
                Some(cursor) => {
                    let ended = cursor.ended || self.complete;
                    let (after, at) = (cursor.position.clone(), cursor.items);
                    self.tracker.lock().resume(cursor);
                    if ended {
                        continue;
                    }
                    (after, at)
                }
                None if self.complete => {
                    left += 1;
                    continue;
                }
                None => (None, 0),
            };
            open.push((partition, after, at));
        }
        if left > 0 {
            outlets.meter.left.add(left);
            tracing::warn!({ field::NODE } = %outlets.meter.node, partitions = left, "partitions that are new are left for the next run");
        }
        let fails = self.feed.is_none() && !self.complete && !self.is_accepted;
        let node = &outlets.meter.node;
        let begun = |cursor: &Committed| cursor.items > 0 || cursor.position.is_some();
        if ranges
            && fails
            && let Some((partition, cursor)) = known.iter().find(|(_, cursor)| begun(cursor))
        {
            // What is in it is in others now.
            let message = format!(
                "the whole is cut into other ranges than when the run stopped, which had read {} items of \"{partition}\": \
                 they would be read again: accept that with `Engine::accepting([\"{node}\"])`, as where sinks write by id, or \
                 begin anew without the run's state",
                cursor.items
            );
            let error = Error::new(ErrorKind::Conflict, message).at_node(node.clone());
            outlets.meter.note_error(&error);
            failure.get_or_insert(error);
            return Vec::new();
        }
        for (partition, cursor) in known.iter().filter(|(_, cursor)| !cursor.ended) {
            let message = format!(
                "partition \"{partition}\" is gone, of which {} items were read: there may have been more: put it back, \
                 accept that with `Engine::accepting([\"{node}\"])`, or begin anew without the run's state",
                cursor.items
            );
            let error = Error::new(ErrorKind::NotFound, message).at_node(node.clone());
            tracing::warn!({ field::NODE } = %node, { field::ERROR } = error.tag(), %error, "a partition is gone");
            outlets.meter.note_error(&error);
            // What only grows is read on at its end: what is gone of it was read.
            if fails && begun(cursor) {
                failure.get_or_insert(error);
            }
        }
        open
    }

    /// Returns what is new or has changed, and after which position to read it, when a checkpoint
    /// knows of it; nothing if the source is to stop before.
    async fn changed(
        &self,
        feed: &Feed,
        partitions: Vec<Partition>,
        outlets: &Outlets,
        cancel: &CancellationToken,
    ) -> Result<Vec<(Partition, Option<Position>, u64)>> {
        if partitions.is_empty() && !self.allow_empty {
            feed.refuse_empty()?;
        }
        let (config, client, doubtful) = (&self.config, &self.client, feed.doubtful(&partitions));
        let same = match doubtful.is_empty() {
            true => Vec::new(),
            false => {
                let asked = &doubtful;
                self.caller.plain(|context| config.unchanged(asked, context, client)).await?
            }
        };
        let same = doubtful.into_iter().zip(same).filter(|(_, same)| *same);
        let same: Vec<Partition> = same.map(|((partition, _), _)| partition).collect();
        let (open, report) = feed.sort(partitions, &same, &outlets.meter.take_unlisted());
        outlets.meter.increment.get_or_init(|| report);
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Ok(Vec::new()),
            () = self.stop.cancelled() => return Ok(Vec::new()),
            () = feed.announced(self.asks.request.as_deref()) => {}
        }
        let mut tracker = self.tracker.lock();
        let open = open.into_iter().map(|(partition, committed)| {
            let after = committed.as_ref().and_then(|committed| committed.position.clone());
            let at = committed.as_ref().map_or(0, |committed| committed.items);
            if let Some(committed) = committed {
                tracker.resume(committed);
            }
            (partition, after, at)
        });
        Ok(open.collect())
    }

    fn open(&self, partition: Partition, after: Option<Position>, at: u64, outlets: &Outlets) -> Reading {
        let limits = self.limits(&partition, at, outlets);
        self.open_with(partition, after, at, limits)
    }

    /// Returns how much is to be read in one go.
    fn limits(&self, partition: &Partition, at: u64, outlets: &Outlets) -> BatchLimits {
        match &self.careful {
            Some(careful) => careful.limits(&outlets.meter.node, &partition.id, at, self.limits),
            None => self.limits,
        }
    }

    /// Reads on, in batches of another size where that is called for.
    fn paced(&self, reading: Reading, outlets: &Outlets) -> Reading {
        let limits = self.limits(&reading.partition, reading.at, outlets);
        if limits == reading.limits {
            return reading;
        }
        self.open_with(reading.partition, reading.after, reading.at, limits)
    }

    fn open_with(
        &self,
        partition: Partition,
        after: Option<Position>,
        at: u64,
        limits: BatchLimits,
    ) -> Reading {
        let stream = self.config.clone().read(
            partition.clone(),
            after.clone(),
            self.context.clone(),
            self.client.clone(),
            limits,
        );
        Reading { partition, stream, after, at, limits, attempt: 1 }
    }

    /// Polls a partition for its next batch; reads on after the last one where that fails and
    /// may be tried again.
    async fn turn(&self, mut reading: Reading) -> (Reading, Turn) {
        loop {
            let next = AssertUnwindSafe(reading.stream.next()).catch_unwind();
            let next = self.caller.reading(next, &self.paused).await;
            let error = match next {
                Ok(Ok(Some(Ok(read)))) => {
                    reading.attempt = 1;
                    reading.after = Some(read.after.clone());
                    return (reading, Turn::Read(read));
                }
                Ok(Ok(None)) => return (reading, Turn::Ended),
                Ok(Ok(Some(Err(error)))) | Err(error) => error,
                Ok(Err(panic)) => Error::from_panic(&*panic),
            };
            if !self.caller.back_off(&error, reading.attempt).await {
                return (reading, Turn::Failed(error));
            }
            let attempt = reading.attempt + 1;
            let Reading { partition, after, at, limits, .. } = reading;
            reading = Reading { attempt, ..self.open_with(partition, after, at, limits) };
        }
    }

    /// Opens a slot for what was read, and sends it on, or aside what is `condemned`.
    async fn emit(
        &self,
        partition: &Partition,
        read: SourceBatch,
        condemned: bool,
        outlets: &Outlets,
    ) -> Result<()> {
        let SourceBatch { batch, after, rejected } = read;
        if let (Some(feed), false) = (&self.feed, batch.is_empty()) {
            let first = batch.lineage(0).root().map(|root| root.position);
            feed.check(partition, first.as_ref())?;
        }
        if self.key.is_none() {
            self.places.lock().unwrap_or_else(PoisonError::into_inner).note(&partition.id, &batch)?;
        }
        let (all, bytes) = (batch.len() + rejected.len(), batch.bytes() as u64);
        outlets.meter.received.add(all as u64);
        outlets.meter.batches.add(1);
        outlets.meter.bytes.add(bytes);
        // An empty batch is a slot too: it moves the position on.
        let slot = self.tracker.open(&partition.id, after, all as u64, bytes).await;
        self.asks.early(&self.tracker.lock());
        let tokens = Tokens::one(Token::open(slot, self.tracker.clone()));
        let (batch, unnamed) = match &self.key {
            None => (batch, Vec::new()),
            Some(key) => self.name(key, batch)?,
        };
        let (batch, failed) = part(batch, rejected, unnamed);
        if failed.is_empty() {
            outlets.passed(all);
        } else if let Err(error) = outlets.aside(failed, std::convert::identity, all, tokens.split()).await {
            // The good items of the batch are refused with the bad.
            outlets.meter.failed.add(batch.len() as u64);
            tokens.settle(Settlement::Failed);
            return Err(error);
        }
        if condemned {
            return self.condemn(&batch, tokens, outlets).await;
        }
        outlets.meter.emitted_from.add(batch.len() as u64);
        if batch.is_empty() {
            tokens.settle(Settlement::Delivered);
        } else {
            outlets.send(batch.with_tokens(tokens)).await;
            self.tracker.let_go_if_held(outlets);
        }
        Ok(())
    }

    /// Gives items the ids that the user's key says.
    fn name(&self, key: &Expression, batch: Batch) -> Result<(Batch, Vec<(u32, Error)>)> {
        let mut failed = Vec::new();
        let ids: Vec<PrimitiveId> = batch
            .iter()
            .zip(0..)
            .map(|(item, index)| match natural_key(key, &item) {
                Ok(key) => self.identity.id_of_key(key.as_bytes()),
                Err(error) => {
                    failed.push((index, error));
                    item.id()
                }
            })
            .collect();
        Ok((batch.with_ids(ids)?, failed))
    }

    /// Waits until more may be read. Returns whether reading goes on.
    async fn wait_for_credit(&self, outlets: &Outlets, cancel: &CancellationToken) -> bool {
        tokio::select! {
            biased;
            () = self.tracker.room(&self.asks, |pulse| outlets.pulse(pulse)) => true,
            () = cancel.cancelled() => false,
            () = self.stop.cancelled() => false,
        }
    }
}

/// Passes on what is asked of the source for checkpoints.
pub(super) async fn follow(mut phase: watch::Receiver<Phase>, outlets: &Outlets) -> std::convert::Infallible {
    while phase.changed().await.is_ok() {
        match *phase.borrow_and_update() {
            Phase::Read => {}
            Phase::Settle => outlets.pulse(Pulse::Gathered),
            Phase::Stage => outlets.pulse(Pulse::Durable),
        }
    }
    std::future::pending().await
}

/// Does something while what is being read goes on being read: a wait for room downstream is
/// not to look like a slow source. A partition is at most one batch ahead.
async fn meanwhile<T>(
    work: impl Future<Output = T>,
    reading: &mut FuturesUnordered<impl Future<Output = (Reading, Turn)>>,
    arrived: &mut VecDeque<(Reading, Turn)>,
) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            Some(turn) = reading.next(), if !reading.is_empty() => arrived.push_back(turn),
        }
    }
}

/// Returns how many items all partitions have, if each of them says so.
fn counted<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> Option<u64> {
    partitions.into_iter().try_fold(0, |sum: u64, partition| Some(sum.saturating_add(partition.items?)))
}

/// The item's natural key, as the user's expression says: its value as JSON.
fn natural_key(key: &Expression, item: &Primitive) -> Result<String> {
    match key.evaluate(item)? {
        Value::Null => {
            let message = format!("the key `{}` is null: name one that every item has", key.text());
            Err(Error::new(ErrorKind::Validation, message).at_item(item.id()))
        }
        value => Ok(value.to_json().to_string()),
    }
}

/// Parts what may go on from what was rejected by the source and what has no name.
///
/// Rejected items stood somewhere among the others: they count as if they were spread over them.
fn part(batch: Batch, rejected: Vec<Rejected>, unnamed: Vec<(u32, Error)>) -> (Batch, Vec<Failed>) {
    if rejected.is_empty() && unnamed.is_empty() {
        return (batch, Vec::new());
    }
    let (items, bad) = (batch.len() as u64, rejected.len() as u64);
    let spread = |nth: u64, of: u64| nth * (items + bad) / of;
    let rejected = rejected.into_iter().zip(0..).map(|(Rejected { primitive, error }, nth)| Failed {
        number: spread(nth, bad),
        id: primitive.id(),
        item: primitive,
        error,
        attempts: 1,
    });
    let mut bad = unnamed.iter().map(|(index, _)| *index).peekable();
    let good: Vec<u32> = (0..batch.len() as u32).filter(|at| bad.next_if_eq(at).is_none()).collect();
    let unnamed = unnamed.into_iter().map(|(index, error)| Failed {
        number: spread(u64::from(index), items),
        id: batch.id(index as usize),
        item: batch.primitive(index as usize),
        error,
        attempts: 1,
    });
    let mut failed: Vec<Failed> = rejected.chain(unnamed).collect();
    failed.sort_by_key(|failed| failed.number);
    (batch.select(&good), failed)
}

impl Caller {
    /// Waits for a source's next batch: within the timeout, in which what is `paused` meanwhile does
    /// not count, and the rate limits.
    async fn reading<T>(&self, next: impl Future<Output = T>, paused: &Counter) -> Result<T> {
        self.wait_for_rate(0).await;
        let Some(timeout) = self.timeout else { return Ok(next.await) };
        let (began, before) = (Instant::now(), paused.time());
        let mut next = std::pin::pin!(next);
        loop {
            let spent = began.elapsed().saturating_sub(paused.time() - before);
            let Some(left) = timeout.checked_sub(spent).filter(|left| !left.is_zero()) else {
                let timeout = humantime::format_duration(timeout);
                let message = format!("the source gave nothing within its timeout of {timeout}");
                return Err(Error::new(ErrorKind::Timeout, message));
            };
            if let Ok(next) = tokio::time::timeout(left, &mut next).await {
                return Ok(next);
            }
        }
    }
}
