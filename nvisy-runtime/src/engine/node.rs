//! The work of one node, from its first batch to the end of its inputs.

mod action;
mod buffer;
mod memory;
mod routes;
mod sink;
mod work;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::future::FutureExt;
use futures::stream::{SelectAll, Stream, StreamExt};
use nvisy_core::action::Calls;
use nvisy_core::observability::field;
use nvisy_core::plugin::ErasedSink;
use nvisy_core::token::Settlement;
use nvisy_core::{Action, Error, Result};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::action::{ActionWorker, inline};
pub(super) use self::buffer::Buffering;
pub(super) use self::memory::Remembering;
use self::memory::piped;
use self::routes::{branch, fan_in, fan_out};
use self::sink::SinkWorker;
use self::work::concurrent;
use super::call::Caller;
use super::checkpoint::{Replacing, Stage};
use super::edge::{End, Parcel, Pulse, Receiver};
use super::gather::Gatherer;
use super::ledger::NodeMeter;
use super::lineage::LineageLog;
use super::outlet::Outlets;
use super::report::NodeStatus;
use super::source::SourceWork;
use crate::expression::Expression;

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
    Stateful {
        work: Box<Remembering>,
        gather: Gatherer,
    },
    Buffer(Box<Buffering>),
    Sink {
        sink: Arc<dyn ErasedSink>,
        caller: Caller,
        gather: Gatherer,
        concurrency: usize,
        /// Whether an item that is written again may be there twice.
        appends: bool,
        buffers: bool,
        /// Whether nothing comes but dead letters.
        letters: bool,
        /// Whether it is closed when the run has finished, and not before.
        remembers: bool,
        /// Where what it writes is kept out of sight until a checkpoint has it.
        stage: Option<Arc<Stage>>,
        /// Where what it has written is logged.
        lineage: LineageLog,
        /// What keeps it open for what is stale at the end.
        replacing: Option<Arc<Replacing>>,
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
    /// Nothing that it reads could arrive any more.
    Stopped,
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
            Ok(Ended::Stopped) => {
                outlets.end(End::Broken);
                meter.set_status(NodeStatus::Stopped);
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
        Built::Stateful { work, gather } => work.run(gather, inbox, outlets, meter).await,
        Built::Buffer(work) => work.run(inbox, outlets, meter).await,
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
        Built::Sink {
            sink,
            caller,
            gather,
            concurrency,
            appends,
            buffers,
            letters,
            remembers,
            stage,
            replacing,
            lineage,
        } => {
            let held = Mutex::default();
            let worker = SinkWorker {
                sink,
                caller,
                appends,
                buffers,
                letters,
                remembers,
                held,
                stage,
                replacing,
                lineage,
            };
            concurrent(&worker, gather, concurrency, inbox, outlets, meter).await
        }
        Built::Branch { routes, default } => branch(&routes, default, inbox, outlets).await,
        Built::FanOut => fan_out(inbox, outlets).await,
        Built::FanIn => fan_in(inbox, outlets).await,
    }
}

/// One of the edges into a node.
struct Edge {
    from: usize,
    receiver: Receiver,
}

impl Stream for Edge {
    type Item = (usize, Parcel);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let from = self.from;
        self.receiver.poll_next_unpin(cx).map(|parcel| parcel.map(|parcel| (from, parcel)))
    }
}

/// What comes into a node, over all its edges.
pub(super) struct Inbox {
    edges: SelectAll<Edge>,
    /// Over which of them the last parcel came.
    from: usize,
    /// How many of them have not ended.
    open: usize,
    /// The worst end of an edge so far.
    end: End,
    meter: Arc<NodeMeter>,
}

impl Inbox {
    fn new(edges: Vec<Receiver>, meter: Arc<NodeMeter>) -> Self {
        let open = edges.len();
        let edges = edges.into_iter().enumerate().map(|(from, receiver)| Edge { from, receiver });
        Self { edges: futures::stream::select_all(edges), from: 0, open, end: End::Complete, meter }
    }

    /// Returns what comes next; none when all edges have ended.
    ///
    /// Where one ends and others do not, nobody is left who could ask for what came over it and is
    /// gathered: its end is a pulse.
    async fn next(&mut self) -> Option<Parcel> {
        loop {
            let (from, parcel) = self.edges.next().await?;
            self.from = from;
            match &parcel {
                Parcel::Batch(batch) => {
                    self.meter.received.add(batch.len() as u64);
                    self.meter.batches.add(1);
                }
                Parcel::Pulse(_) => {}
                Parcel::End(end) => {
                    self.end = self.end.max(*end);
                    self.open -= 1;
                    if self.open > 0 {
                        return Some(Parcel::Pulse(Pulse::Gathered));
                    }
                    continue;
                }
            }
            return Some(parcel);
        }
    }

    fn ended(&self) -> Ended {
        Ended::With(self.end)
    }

    /// Takes in and fails whatever still comes, and what waits when the run is cancelled: a node
    /// before this one may have ended, and its edge is to balance.
    async fn refuse(&mut self, cancel: &CancellationToken) {
        loop {
            let parcel = tokio::select! {
                biased;
                parcel = self.next() => parcel,
                () = cancel.cancelled() => return,
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
