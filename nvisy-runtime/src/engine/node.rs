//! The work of one node, from its first batch to the end of its inputs.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::Array;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::{FuturesOrdered, SelectAll, StreamExt};
use nvisy_core::action::{Calls, ErasedBatch, ErasedPipe, ErasedStateful};
use nvisy_core::observability::field;
use nvisy_core::plugin::ErasedSink;
use nvisy_core::token::{Settlement, Token, Tokens};
use nvisy_core::{Action, Batch, Error, Guarantee, Result};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::call::{Caller, Failure, Settled};
use super::edge::{End, Parcel, Pulse, Receiver};
use super::gather::{Cut, Gatherer, Ready};
use super::ledger::NodeMeter;
use super::outlet::Outlets;
use super::report::NodeStatus;
use super::source::SourceWork;
use crate::expression::{Expression, Mask};

/// A node that is ready to run.
pub(super) struct Node {
    pub(super) meter: Arc<NodeMeter>,
    pub(super) cancel: CancellationToken,
    pub(super) deadline: Option<Instant>,
    pub(super) inputs: Vec<Receiver>,
    pub(super) outlets: Outlets,
    pub(super) work: Built,
}

/// What a node does, built.
pub(super) enum Built {
    Source(Box<SourceWork>),
    Action {
        action: Action,
        caller: Caller,
        gather: Gatherer,
        concurrency: usize,
    },
    Sink {
        sink: Arc<dyn ErasedSink>,
        caller: Caller,
        gather: Gatherer,
        concurrency: usize,
        guarantee: Guarantee,
        buffers: bool,
        /// Whether nothing comes but dead letters.
        letters: bool,
    },
    Branch {
        routes: Vec<Expression>,
        default: bool,
    },
    FanOut,
    FanIn,
}

/// How the work of a node ended, but for failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With what came, which ended so.
    With(End),
    Cancelled,
}

impl Node {
    /// Runs the node to its end. Returns whether it failed.
    pub(super) async fn run(self, failed: impl FnOnce()) {
        let Self { meter, cancel, deadline, inputs, outlets, work } = self;
        meter.set_status(NodeStatus::Running);
        let mut inbox = Inbox::new(inputs, meter.clone());
        let worked = {
            let work = AssertUnwindSafe(drive(work, &mut inbox, &outlets, &meter, &cancel)).catch_unwind();
            let work = work.map(|worked| worked.unwrap_or_else(|panic| Err(Error::from_panic(&*panic))));
            let work = async {
                match deadline {
                    None => work.await,
                    Some(deadline) => tokio::time::timeout_at(deadline, work).await.unwrap_or_else(|_| {
                        Err(Error::new(
                            nvisy_core::ErrorKind::Timeout,
                            "the node worked longer than its deadline allows",
                        ))
                    }),
                }
            };
            tokio::select! {
                biased;
                () = cancel.cancelled() => Ok(Ended::Cancelled),
                worked = work => worked,
            }
        };
        match worked {
            Ok(Ended::With(end)) => {
                outlets.end(end);
                let broken = end == End::Broken;
                meter.set_status(if broken { NodeStatus::Skipped } else { NodeStatus::Completed });
            }
            Ok(Ended::Cancelled) => {
                outlets.end(End::Broken);
                meter.set_status(NodeStatus::Cancelled);
            }
            Err(error) => {
                let error = error.at_node(meter.node.clone());
                tracing::warn!({ field::NODE } = %meter.node, { field::ERROR } = error.tag(), %error, "the node failed");
                meter.fail(error);
                // What was on its way inside the node when it failed has failed with it.
                meter.failed.add(meter.in_flight());
                outlets.end(End::Broken);
                failed();
                // Whatever still comes fails too, so that nodes before this one are not held
                // up where they have other work to do.
                inbox.refuse(&cancel).await;
            }
        }
    }
}

async fn drive(
    work: Built,
    inbox: &mut Inbox,
    outlets: &Outlets,
    meter: &Arc<NodeMeter>,
    cancel: &CancellationToken,
) -> Result<Ended> {
    match work {
        Built::Source(source) => source.run(outlets, cancel).await,
        Built::Action { action: Action::Stateful(make), caller, gather, .. } => {
            stateful(make(), &caller, gather, inbox, outlets, meter).await
        }
        Built::Action { action: Action::Pipe(pipe), caller, gather, .. } => {
            piped(&*pipe, &caller, gather, inbox, outlets, meter).await
        }
        Built::Action { action, caller, gather, concurrency } => {
            // What calls nobody takes no permits: its batches side by side are all there may be.
            let items = if caller.calls == Calls::None { 1 } else { concurrency };
            let worker = ActionWorker { action, caller, items };
            if worker.caller.calls == Calls::None && matches!(worker.action, Action::Batch(_)) {
                inline(&worker, gather, inbox, outlets, meter).await
            } else {
                concurrent(&worker, gather, concurrency, inbox, outlets, meter).await
            }
        }
        Built::Sink { sink, caller, gather, concurrency, guarantee, buffers, letters } => {
            let worker = SinkWorker { sink, caller, guarantee, buffers, letters, held: Mutex::default() };
            concurrent(&worker, gather, concurrency, inbox, outlets, meter).await
        }
        Built::Branch { routes, default } => branch(&routes, default, inbox, outlets).await,
        Built::FanOut => fan_out(inbox, outlets).await,
        Built::FanIn => fan_in(inbox, outlets).await,
    }
}

/// What comes into a node, over all its edges.
pub(super) struct Inbox {
    edges: SelectAll<Receiver>,
    /// The worst end of an edge so far.
    end: End,
    meter: Arc<NodeMeter>,
}

impl Inbox {
    fn new(edges: Vec<Receiver>, meter: Arc<NodeMeter>) -> Self {
        Self { edges: futures::stream::select_all(edges), end: End::Complete, meter }
    }

    /// Returns what comes next; none when all edges have ended.
    async fn next(&mut self) -> Option<Parcel> {
        loop {
            let parcel = self.edges.next().await?;
            match &parcel {
                Parcel::Batch(batch) => {
                    self.meter.received.add(batch.len() as u64);
                    self.meter.batches.add(1);
                }
                Parcel::Pulse(_) => {}
                Parcel::End(end) => {
                    self.end = self.end.max(*end);
                    continue;
                }
            }
            return Some(parcel);
        }
    }

    fn ended(&self) -> Ended {
        Ended::With(self.end)
    }

    /// Takes in and fails whatever still comes.
    async fn refuse(&mut self, cancel: &CancellationToken) {
        loop {
            let parcel = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                parcel = self.next() => parcel,
            };
            match parcel {
                None => return,
                Some(Parcel::Batch(mut batch)) => {
                    self.meter.failed.add(batch.len() as u64);
                    batch.take_tokens().settle(Settlement::Failed);
                }
                Some(_) => {}
            }
        }
    }
}

/// What is done with each batch, and then with what became of it.
trait Worker: Sync {
    /// Does the work. What it borrows outlives the node's run.
    fn work<'a>(&'a self, batch: &'a Batch, weights: Option<Vec<u64>>) -> BoxFuture<'a, Result<Settled>>;

    /// Sends on what became of a batch, in the order in which batches came.
    fn deliver<'a>(
        &'a self,
        outlets: &'a Outlets,
        input: Batch,
        tokens: Tokens,
        settled: Settled,
    ) -> BoxFuture<'a, Result<()>>;

    /// A pulse has come, and everything before it is delivered.
    fn pulse<'a>(&'a self, outlets: &'a Outlets, pulse: Pulse) -> BoxFuture<'a, Result<()>>;

    /// Everything is delivered, and what came ended so. Returns how the work did.
    fn end<'a>(&'a self, outlets: &'a Outlets, end: End) -> BoxFuture<'a, Result<End>>;

    /// Returns how batches are cut.
    fn cut(&self) -> CallerCut<'_>;
}

/// A batch's way through a worker: what is in flight, in the order in which it came.
#[expect(clippy::large_enum_variant, reason = "pulses are rare")]
enum Passing {
    Settled { input: Batch, tokens: Tokens, settled: Result<Settled> },
    Pulse(Pulse),
}

/// One batch after the other, in place: for actions that compute.
async fn inline(
    worker: &ActionWorker,
    mut gather: Gatherer,
    inbox: &mut Inbox,
    outlets: &Outlets,
    meter: &Arc<NodeMeter>,
) -> Result<Ended> {
    let lone = worker.keeps_nothing(outlets);
    loop {
        let (ready, ended) = next_gathered(&mut gather, inbox, &worker.cut()).await;
        for ready in ready {
            match ready {
                Ready::Batch(mut batch, weights) => {
                    let tokens = batch.take_tokens();
                    let began = Instant::now();
                    let settled = match lone {
                        Some(action) => worker.caller.hand_over(action, batch.take_payloads()).await,
                        None => worker.work(&batch, weights).await,
                    };
                    meter.busy.add_time(began.elapsed());
                    match settled {
                        Ok(settled) => outlets.settle(&batch, tokens, settled).await?,
                        Err(error) => {
                            tokens.settle(Settlement::Failed);
                            return Err(error);
                        }
                    }
                }
                Ready::Pulse(pulse) => outlets.pulse(pulse),
            }
        }
        if ended {
            return Ok(inbox.ended());
        }
        tokio::task::consume_budget().await;
    }
}

/// Waits for what comes next and lets the gatherer have it. Returns what is to be done now,
/// and whether that is all there will be.
async fn next_gathered(gather: &mut Gatherer, inbox: &mut Inbox, cut: &dyn Cut) -> (Vec<Ready>, bool) {
    let due = gather.due();
    let parcel = tokio::select! {
        biased;
        parcel = inbox.next() => parcel,
        () = sleep_until(due), if due.is_some() => return (gather.flush(cut), false),
    };
    match parcel {
        Some(Parcel::Batch(batch)) => (gather.push(batch, cut), false),
        Some(Parcel::Pulse(pulse)) => {
            let mut out = gather.flush(cut);
            out.push(Ready::Pulse(pulse));
            (out, false)
        }
        // The inbox keeps the ends of its edges to itself.
        Some(Parcel::End(_)) => (Vec::new(), false),
        None => (gather.flush(cut), true),
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Several batches at once, delivered in the order in which they came: for calls to others.
///
/// Delivering waits for room downstream; calls go on meanwhile, so that back-pressure never
/// looks like a slow answer.
///
/// A node holds at most `concurrency` batches that are worked on or done, two more that are
/// being delivered or are next, and what the gatherer holds or has just cut, which is less than
/// its limit and one batch.
async fn concurrent(
    worker: &dyn Worker,
    mut gather: Gatherer,
    concurrency: usize,
    inbox: &mut Inbox,
    outlets: &Outlets,
    meter: &Arc<NodeMeter>,
) -> Result<Ended> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Passing>(1);
    let deliver = async move {
        while let Some(passing) = receiver.recv().await {
            match passing {
                Passing::Settled { input, tokens, settled: Ok(settled) } => {
                    worker.deliver(outlets, input, tokens, settled).await?;
                }
                Passing::Settled { tokens, settled: Err(error), .. } => {
                    tokens.settle(Settlement::Failed);
                    return Err(error);
                }
                Passing::Pulse(pulse) => worker.pulse(outlets, pulse).await?,
            }
        }
        Ok(())
    };
    let work = async {
        let mut waiting: VecDeque<Ready> = VecDeque::new();
        let mut working: FuturesOrdered<BoxFuture<'_, Passing>> = FuturesOrdered::new();
        let mut done: VecDeque<Passing> = VecDeque::new();
        let mut ended = false;
        let cut = worker.cut();
        loop {
            while working.len() + done.len() < concurrency
                && let Some(ready) = waiting.pop_front()
            {
                working.push_back(match ready {
                    Ready::Batch(batch, weights) => pass(worker, batch, weights, meter.clone()).boxed(),
                    Ready::Pulse(pulse) => std::future::ready(Passing::Pulse(pulse)).boxed(),
                });
            }
            if ended && waiting.is_empty() && working.is_empty() && done.is_empty() {
                break;
            }
            tokio::select! {
                biased;
                Some(passing) = working.next(), if !working.is_empty() => done.push_back(passing),
                permit = sender.reserve(), if !done.is_empty() => match (permit, done.pop_front()) {
                    (Ok(permit), Some(passing)) => permit.send(passing),
                    // Delivery has failed; its error is the node's.
                    _ => break,
                },
                (ready, all) = next_gathered(&mut gather, inbox, &cut), if waiting.is_empty() && !ended => {
                    waiting.extend(ready);
                    ended = all;
                }
            }
        }
        drop(sender);
    };
    // The first error ends both; what is dropped with them counts as failed.
    futures::future::try_join(work.map(Ok), deliver).await?;
    worker.end(outlets, inbox.end).await.map(Ended::With)
}

async fn pass(
    worker: &dyn Worker,
    mut batch: Batch,
    weights: Option<Vec<u64>>,
    meter: Arc<NodeMeter>,
) -> Passing {
    let tokens = batch.take_tokens();
    let began = Instant::now();
    let settled = worker.work(&batch, weights).await;
    meter.busy.add_time(began.elapsed());
    Passing::Settled { input: batch, tokens, settled }
}

struct ActionWorker {
    action: Action,
    caller: Caller,
    /// How many items of a batch are worked on at once.
    items: usize,
}

impl ActionWorker {
    /// Returns the action if its inputs are not asked for again once it was called: it fails
    /// item by item, nothing is tried again, and nothing goes to dead letters.
    fn keeps_nothing(&self, outlets: &Outlets) -> Option<&dyn ErasedBatch> {
        match &self.action {
            Action::Batch(action) => {
                let once = self.caller.retry.max_attempts.get() == 1 && outlets.letter_box().is_none();
                (action.isolates() && once).then_some(&**action)
            }
            _ => None,
        }
    }
}

impl Worker for ActionWorker {
    fn work<'a>(&'a self, batch: &'a Batch, weights: Option<Vec<u64>>) -> BoxFuture<'a, Result<Settled>> {
        match &self.action {
            Action::Transform(transform) => self.caller.transform(&**transform, batch, self.items).boxed(),
            Action::Batch(action) => self.caller.batch(&**action, batch, weights).boxed(),
            Action::Stateful(_) | Action::Pipe(_) => {
                std::future::ready(Err(Error::internal("the action has a loop of its own"))).boxed()
            }
        }
    }

    fn deliver<'a>(
        &'a self,
        outlets: &'a Outlets,
        input: Batch,
        tokens: Tokens,
        settled: Settled,
    ) -> BoxFuture<'a, Result<()>> {
        async move { outlets.settle(&input, tokens, settled).await }.boxed()
    }

    fn pulse<'a>(&'a self, outlets: &'a Outlets, pulse: Pulse) -> BoxFuture<'a, Result<()>> {
        outlets.pulse(pulse);
        std::future::ready(Ok(())).boxed()
    }

    fn end<'a>(&'a self, _: &'a Outlets, end: End) -> BoxFuture<'a, Result<End>> {
        std::future::ready(Ok(end)).boxed()
    }

    fn cut(&self) -> CallerCut<'_> {
        let weigher = match &self.action {
            Action::Batch(action) if action.weighs() => Some(&**action),
            _ => None,
        };
        CallerCut { caller: &self.caller, weigher }
    }
}

/// Cuts batches to what a call takes now, and weighs items if they have a weight.
struct CallerCut<'a> {
    caller: &'a Caller,
    weigher: Option<&'a dyn ErasedBatch>,
}

impl Cut for CallerCut<'_> {
    fn size(&self) -> usize {
        self.caller.size.get()
    }

    fn weigh(&self, batch: &Batch) -> Option<Vec<u64>> {
        self.weigher.map(|weigher| batch.iter().map(|item| weigher.weigh(&item)).collect())
    }
}

/// The items that are not among those that failed, which stand in ascending order.
fn others(len: usize, failed: &[Failure]) -> Vec<u32> {
    let mut bad = failed.iter().map(|failure| failure.index).peekable();
    (0..len as u32).filter(|at| bad.next_if_eq(at).is_none()).collect()
}

struct SinkWorker {
    sink: Arc<dyn ErasedSink>,
    caller: Caller,
    guarantee: Guarantee,
    buffers: bool,
    letters: bool,
    held: Mutex<Held>,
}

/// What is written and waits to become durable: one token a slot of each source.
#[derive(Default)]
struct Held {
    slots: HashMap<u64, Vec<Token>>,
    items: u64,
}

impl Held {
    fn take_in(&mut self, tokens: Tokens, items: u64) {
        self.items += items;
        for token in tokens.into_tokens() {
            let same = self.slots.entry(token.slot()).or_default();
            match same.iter().position(|held| held.same_slot(&token)) {
                None => same.push(token),
                // Never refused: the slot is the same.
                Some(at) => {
                    let refused = same[at].merge(token).err();
                    same.extend(refused);
                }
            }
        }
    }
}

impl SinkWorker {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settles what was waiting to become durable.
    fn release(&self, outlets: &Outlets, settlement: Settlement) {
        let held = std::mem::take(&mut *self.held());
        for token in held.slots.into_values().flatten() {
            token.settle(settlement);
        }
        let counter = if settlement.is_final() { &outlets.meter.emitted_from } else { &outlets.meter.failed };
        counter.add(held.items);
    }

    /// Makes durable what was written, by a flush or a close that ended so, or fails it.
    fn made_durable(&self, outlets: &Outlets, result: Result<()>) -> Result<()> {
        self.release(outlets, if result.is_ok() { Settlement::Delivered } else { Settlement::Failed });
        result
    }
}

impl Worker for SinkWorker {
    fn work<'a>(&'a self, batch: &'a Batch, _: Option<Vec<u64>>) -> BoxFuture<'a, Result<Settled>> {
        self.caller.write(&*self.sink, self.guarantee, batch).boxed()
    }

    fn deliver<'a>(
        &'a self,
        outlets: &'a Outlets,
        input: Batch,
        tokens: Tokens,
        settled: Settled,
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let failed = settled.failed;
            let passed = input.len() as u64 - failed.len() as u64;
            let (mut tokens, result) = if failed.is_empty() {
                (tokens, Ok(()))
            } else {
                let good = tokens.split_for(others(input.len(), &failed).into_iter());
                let result = outlets.set_aside(&input, &tokens, failed).await;
                tokens.settle(Settlement::Delivered);
                (good, result)
            };
            if self.buffers {
                tokens.land();
                self.held().take_in(tokens, passed);
            } else {
                outlets.meter.emitted_from.add(passed);
                tokens.settle(Settlement::Delivered);
            }
            result
        }
        .boxed()
    }

    fn pulse<'a>(&'a self, outlets: &'a Outlets, pulse: Pulse) -> BoxFuture<'a, Result<()>> {
        async move {
            outlets.pulse(pulse);
            if pulse == Pulse::Durable && self.buffers {
                let flushed =
                    self.caller.plain(|context| async move { self.sink.flush(&context).await }).await;
                self.made_durable(outlets, flushed)?;
            }
            Ok(())
        }
        .boxed()
    }

    /// What a sink holds back until it closes shows whole or not at all: where some of it never
    /// came, the sink is dropped instead, and leaves what was there before as it is. Dead letters
    /// say what went wrong, and are kept also then.
    fn end<'a>(&'a self, outlets: &'a Outlets, end: End) -> BoxFuture<'a, Result<End>> {
        async move {
            if self.buffers && !self.letters && end != End::Complete {
                self.release(outlets, Settlement::Failed);
                return Ok(End::Broken);
            }
            let closed = self.caller.plain(|context| async move { self.sink.close(&context).await }).await;
            self.made_durable(outlets, closed).map(|()| end)
        }
        .boxed()
    }

    fn cut(&self) -> CallerCut<'_> {
        CallerCut { caller: &self.caller, weigher: None }
    }
}

/// One batch after the other, with memory: never tried again.
async fn stateful(
    mut state: Box<dyn ErasedStateful>,
    caller: &Caller,
    mut gather: Gatherer,
    inbox: &mut Inbox,
    outlets: &Outlets,
    meter: &Arc<NodeMeter>,
) -> Result<Ended> {
    let cut = CallerCut { caller, weigher: None };
    loop {
        let (ready, ended) = next_gathered(&mut gather, inbox, &cut).await;
        for ready in ready {
            match ready {
                Ready::Batch(mut batch, _) => {
                    let tokens = batch.take_tokens();
                    let began = Instant::now();
                    let called = caller.once(|context| {
                        let (state, batch) = (&mut state, batch.without_tokens());
                        async move { state.call(batch, &context).await }
                    });
                    let checked =
                        called.await.and_then(|outcomes| outcomes.check(batch.len()).map(|()| outcomes));
                    meter.busy.add_time(began.elapsed());
                    match checked {
                        Ok(outcomes) => outlets.settle(&batch, tokens, Settled::from(outcomes)).await?,
                        Err(error) => {
                            tokens.settle(Settlement::Failed);
                            return Err(error);
                        }
                    }
                }
                Ready::Pulse(pulse) => outlets.pulse(pulse),
            }
        }
        if ended {
            return Ok(inbox.ended());
        }
    }
}

/// One epoch after the other: all that comes out of one belongs to all that went in.
async fn piped(
    pipe: &dyn ErasedPipe,
    caller: &Caller,
    mut gather: Gatherer,
    inbox: &mut Inbox,
    outlets: &Outlets,
    meter: &Arc<NodeMeter>,
) -> Result<Ended> {
    let cut = CallerCut { caller, weigher: None };
    loop {
        let (ready, ended) = next_gathered(&mut gather, inbox, &cut).await;
        for ready in ready {
            match ready {
                Ready::Batch(mut batch, _) => {
                    let tokens = batch.take_tokens();
                    let began = Instant::now();
                    let epoch = futures::stream::iter([batch.without_tokens()]).boxed();
                    let called = caller.once(|context| async move {
                        futures::TryStreamExt::try_collect::<Vec<Batch>>(pipe.call(epoch, &context)).await
                    });
                    let called = called.await;
                    meter.busy.add_time(began.elapsed());
                    epoch_ended(&batch, tokens, called, outlets).await?;
                }
                Ready::Pulse(pulse) => outlets.pulse(pulse),
            }
        }
        if ended {
            return Ok(inbox.ended());
        }
    }
}

async fn epoch_ended(
    input: &Batch,
    tokens: Tokens,
    called: Result<Vec<Batch>>,
    outlets: &Outlets,
) -> Result<()> {
    let items = input.len() as u64;
    match called {
        Ok(batches) if batches.iter().all(Batch::is_empty) => {
            outlets.meter.count_dropped(&"the pipe emitted nothing".into(), items);
            tokens.settle(Settlement::Dropped);
            Ok(())
        }
        Ok(batches) => {
            outlets.meter.emitted_from.add(items);
            for batch in batches {
                outlets.send(batch.with_tokens(tokens.split_all())).await;
            }
            tokens.settle(Settlement::Delivered);
            Ok(())
        }
        Err(error) => {
            let failed =
                (0..input.len() as u32).map(|index| Failure { index, error: error.clone(), attempts: 1 });
            let result = outlets.set_aside(input, &tokens, failed.collect()).await;
            tokens.settle(Settlement::Delivered);
            result
        }
    }
}

/// Sends each item to the first route whose condition holds.
async fn branch(routes: &[Expression], default: bool, inbox: &mut Inbox, outlets: &Outlets) -> Result<Ended> {
    while let Some(parcel) = inbox.next().await {
        match parcel {
            Parcel::Batch(mut batch) => {
                let tokens = batch.take_tokens();
                let began = Instant::now();
                let (of, failed) = route(routes, default, &batch);
                outlets.meter.busy.add_time(began.elapsed());
                let mut unmatched = 0;
                let mut parts = vec![Vec::new(); routes.len() + usize::from(default)];
                for (index, of) in (0..).zip(&of) {
                    match of {
                        Way::Route(at) => parts[*at].push(index),
                        Way::Nowhere => unmatched += 1,
                        Way::Failed => {}
                    }
                }
                outlets.meter.count_dropped(&"no route matched".into(), unmatched);
                outlets.meter.emitted_from.add(batch.len() as u64 - unmatched - failed.len() as u64);
                let parts: Vec<_> = parts
                    .into_iter()
                    .map(|part| batch.select(&part).with_tokens(tokens.split_for(part.iter().copied())))
                    .collect();
                let result = outlets.set_aside(&batch, &tokens, failed).await;
                tokens.settle(if unmatched > 0 { Settlement::Dropped } else { Settlement::Delivered });
                for (at, part) in parts.into_iter().enumerate() {
                    outlets.send_to(at, part).await;
                }
                result?;
            }
            Parcel::Pulse(pulse) => outlets.pulse(pulse),
            Parcel::End(_) => {}
        }
        tokio::task::consume_budget().await;
    }
    Ok(inbox.ended())
}

#[derive(Clone, Copy)]
enum Way {
    Route(usize),
    Nowhere,
    Failed,
}

fn route(routes: &[Expression], default: bool, batch: &Batch) -> (Vec<Way>, Vec<Failure>) {
    let mut ways: Vec<Option<Way>> = vec![None; batch.len()];
    let mut failed = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        let Mask { bits: mask, faults } = route.filter_mask(batch);
        for (index, error) in faults {
            let way = &mut ways[index as usize];
            if way.is_none() {
                *way = Some(Way::Failed);
                failed.push(Failure { index, error, attempts: 1 });
            }
        }
        for (index, way) in ways.iter_mut().enumerate() {
            if way.is_none() && mask.is_valid(index) && mask.value(index) {
                *way = Some(Way::Route(at));
            }
        }
    }
    failed.sort_by_key(|failure| failure.index);
    let rest = if default { Way::Route(routes.len()) } else { Way::Nowhere };
    (ways.into_iter().map(|way| way.unwrap_or(rest)).collect(), failed)
}

/// Sends a copy of every batch to each outlet.
async fn fan_out(inbox: &mut Inbox, outlets: &Outlets) -> Result<Ended> {
    while let Some(parcel) = inbox.next().await {
        match parcel {
            Parcel::Batch(batch) => {
                outlets.meter.emitted_from.add(batch.len() as u64);
                // All tokens are split before the first copy goes.
                let copies: Vec<Batch> = outlets.out.iter().skip(1).map(|_| batch.clone()).collect();
                for (at, copy) in std::iter::once(batch).chain(copies).enumerate() {
                    outlets.send_to(at, copy).await;
                }
            }
            Parcel::Pulse(pulse) => outlets.pulse(pulse),
            Parcel::End(_) => {}
        }
        tokio::task::consume_budget().await;
    }
    Ok(inbox.ended())
}

/// Passes on what comes over any edge.
async fn fan_in(inbox: &mut Inbox, outlets: &Outlets) -> Result<Ended> {
    while let Some(parcel) = inbox.next().await {
        match parcel {
            Parcel::Batch(batch) => {
                outlets.meter.emitted_from.add(batch.len() as u64);
                outlets.send(batch).await;
            }
            Parcel::Pulse(pulse) => outlets.pulse(pulse),
            Parcel::End(_) => {}
        }
        tokio::task::consume_budget().await;
    }
    Ok(inbox.ended())
}
