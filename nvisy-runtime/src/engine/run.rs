//! A run that is going on: its progress, its end.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::Stream;
use nvisy_core::metadata::Timestamp;
use nvisy_core::{Error, Result, RunId};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::checkpoint::{Memory, Outcome};
use super::edge::EdgeCount;
use super::ledger::NodeMeter;
use super::lineage::LineageLog;
use super::report::{
    NodeProgress, NodeReport, NodeStatus, PartitionReport, Progress, RunReport, RunStatus, count,
};
use super::tracker::SharedTracker;
use crate::compiler::plan::{Delivery, DeliveryGuarantee, PlanNode, PlanParts, Port, Work};
use crate::compiler::{ExecutionPlan, number};

/// What the tasks of a run, its supervisor and its handle share.
pub(super) struct RunParts {
    pub(super) run: RunId,
    pub(super) plan: ExecutionPlan,
    pub(super) meters: Vec<Arc<NodeMeter>>,
    pub(super) sources: Vec<(usize, Arc<SharedTracker>, CancellationToken)>,
    /// What remembers, by node.
    pub(super) memories: Vec<(usize, Arc<Memory>)>,
    pub(super) cancel: CancellationToken,
    pub(super) drain: CancellationToken,
    pub(super) lineage: LineageLog,
    edges: Vec<EdgeCount>,
    started_at: Timestamp,
    began: Instant,
    done: CancellationToken,
    failure: Mutex<Option<Error>>,
}

impl RunParts {
    pub(super) fn new(
        run: RunId,
        plan: ExecutionPlan,
        meters: Vec<Arc<NodeMeter>>,
        edges: Vec<EdgeCount>,
        sources: Vec<(usize, Arc<SharedTracker>, CancellationToken)>,
        cancel: CancellationToken,
        drain: CancellationToken,
    ) -> Self {
        Self {
            run,
            plan,
            meters,
            sources,
            memories: Vec::new(),
            cancel,
            drain,
            lineage: LineageLog::default(),
            edges,
            started_at: chrono::Utc::now(),
            began: Instant::now(),
            done: CancellationToken::new(),
            failure: Mutex::new(None),
        }
    }

    /// Adds what remembers.
    pub(super) fn remembering(self, memories: Vec<(usize, Arc<Memory>)>) -> Self {
        Self { memories, ..self }
    }

    /// The run as a whole failed.
    pub(super) fn fail(&self, error: &Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
    }

    /// Logs what sinks write.
    pub(super) fn with_lineage(mut self, lineage: LineageLog) -> Self {
        self.lineage = lineage;
        self
    }

    /// Returns the trackers of all that opens slots: sources, and what remembers.
    pub(super) fn trackers(&self) -> impl Iterator<Item = &SharedTracker> {
        let memories = self.memories.iter().map(|(_, memory)| &*memory.tracker);
        self.sources.iter().map(|(_, tracker, _)| &**tracker).chain(memories)
    }

    /// Returns those of them that a cut waits for.
    pub(super) fn cut_trackers(&self) -> impl Iterator<Item = &SharedTracker> {
        let memories = self.memories.iter().filter(|(_, memory)| !memory.lags());
        let memories = memories.map(|(_, memory)| &*memory.tracker);
        self.sources.iter().map(|(_, tracker, _)| &**tracker).chain(memories)
    }

    /// Returns whether something has failed that no checkpoint may pass over. What is withheld of
    /// best-effort copies is not.
    pub(super) fn has_failed(&self) -> bool {
        let binding = self.memories.iter().filter(|(_, memory)| memory.required && !memory.lags());
        let memories = binding.map(|(_, memory)| &memory.tracker);
        self.sources.iter().map(|(_, tracker, _)| tracker).chain(memories).any(|tracker| tracker.has_failed())
    }

    /// Returns how the run has ended, for the one after it.
    pub(super) fn outcome(&self, status: RunStatus) -> Outcome {
        let broken = |meter: &Arc<NodeMeter>| meter.status() != NodeStatus::Completed;
        match status {
            _ if self.cancel.is_cancelled() => Outcome::Broken,
            RunStatus::Success if !self.drain.is_cancelled() => Outcome::Finished,
            RunStatus::Success => Outcome::Stopped,
            _ if self.meters.iter().any(broken) => Outcome::Broken,
            _ => Outcome::Stopped,
        }
    }

    /// Returns what, dropped, says that the run is over: on every way out, for whoever follows
    /// its progress waits for that.
    pub(super) fn finish_on_drop(&self) -> DropGuard {
        self.done.clone().drop_guard()
    }

    fn progress(&self) -> Progress {
        let elapsed = self.began.elapsed();
        let mut expected = Some(0);
        let mut read = 0;
        let nodes = self.plan.0.nodes.iter().zip(&self.meters).map(|(node, meter)| {
            let is_source = matches!(node.work, Work::Source { .. });
            let size = Some(meter.expected.get()).filter(|n| *n > 0);
            if is_source {
                read += meter.received.get();
                expected = expected.zip(size).map(|(a, b): (u64, u64)| a.saturating_add(b));
            }
            NodeProgress {
                name: node.name.clone(),
                status: meter.status(),
                received: meter.received.get(),
                emitted: meter.emitted.get(),
                dropped: meter.dropped.get(),
                absorbed: meter.absorbed.get(),
                dead_lettered: meter.dead_lettered.get(),
                failed: meter.failed.get(),
                retries: meter.retries.get(),
                in_flight: meter.in_flight(),
                expected: if is_source { size } else { None },
            }
        });
        let nodes = nodes.collect();
        let seconds = elapsed.as_secs_f64();
        let rate = if seconds > 0.0 { read as f64 / seconds } else { 0.0 };
        let left = expected.map(|expected| expected.saturating_sub(read) as f64);
        let eta = left.filter(|_| rate > 0.0).and_then(|left| Duration::try_from_secs_f64(left / rate).ok());
        Progress { elapsed, nodes, rate, expected, eta, done: self.done.is_cancelled() }
    }

    /// Adds everything up, and checks it.
    pub(super) fn report(&self) -> RunReport {
        let plan = &*self.plan.0;
        let imbalances = self.imbalances(plan);
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut warnings = Vec::new();
        let required = required(plan);
        let mut failed = failure.is_some();
        for (index, meter) in self.meters.iter().enumerate() {
            let bad = meter.status() == NodeStatus::Failed || meter.failed.get() > 0;
            if bad && required[index] {
                failed = true;
            } else if bad {
                warnings.push(format!("node \"{}\" failed behind a best-effort branch", meter.node));
            }
            if meter.missed.get() > 0 {
                let missed = meter.missed.get();
                warnings.push(format!(
                    "{missed} copies of fan-out \"{}\" were missed by best-effort branches",
                    meter.node
                ));
            }
        }
        for meter in self.meters.iter().filter(|meter| meter.is_withholding()) {
            let (absorbed, released) = (meter.absorbed.get(), meter.released.get());
            warnings.push(format!(
                "node \"{}\" absorbed {} and let go of {}: the rest waits for all of its input, of which not all came",
                meter.node,
                count(absorbed, "item"),
                number(released)
            ));
        }
        for meter in self.meters.iter().filter(|meter| meter.left.get() > 0) {
            let left = count(meter.left.get(), "new partition");
            warnings.push(format!(
                "source \"{}\" left {left} for the next run: this one goes on behind all that there was, and nodes behind it may have made their results of that",
                meter.node
            ));
        }
        for meter in self.meters.iter().filter(|meter| meter.found_nothing.load(Ordering::Relaxed)) {
            warnings.push(format!(
                "source \"{}\" found nothing to read: check what its config selects",
                meter.node
            ));
        }
        for meter in &self.meters {
            warnings
                .extend(meter.warnings().into_iter().map(|told| format!("node \"{}\": {told}", meter.node)));
        }
        for (meter, error) in self.meters.iter().filter_map(|meter| Some((meter, meter.memo_error()?))) {
            warnings
                .push(format!("the memo of node \"{}\" was of no use to some calls: {error}", meter.node));
        }
        let delivered = plan.nodes.iter().zip(&self.meters).any(|(node, meter)| {
            let complete = meter.status() == NodeStatus::Completed && meter.emitted_from.get() > 0;
            matches!(node.work, Work::Sink(_)) && complete
        });
        let status = if !imbalances.is_empty() {
            RunStatus::Failure
        } else if self.cancel.is_cancelled() && failure.is_none() {
            RunStatus::Cancelled
        } else if !failed {
            RunStatus::Success
        } else if delivered {
            RunStatus::PartialFailure
        } else {
            RunStatus::Failure
        };
        RunReport {
            run: self.run,
            graph: plan.graph.name.as_str().into(),
            status,
            drained: self.drain.is_cancelled(),
            started_at: self.started_at,
            duration: self.began.elapsed(),
            guarantee: self.guarantee(false),
            nodes: plan.nodes.iter().zip(&self.meters).map(|(node, meter)| self.line(node, meter)).collect(),
            partitions: self.partitions(plan),
            checkpoint: None,
            failure: failure.as_ref().map(Error::to_report),
            imbalances,
            warnings,
        }
    }

    /// Returns the weakest guarantee of the run's paths.
    pub(super) fn guarantee(&self, checkpointed: bool) -> Option<DeliveryGuarantee> {
        let of = |delivery: &Delivery| match checkpointed && delivery.stages {
            true => DeliveryGuarantee::ExactlyOnceEffect,
            false => delivery.guarantee,
        };
        self.plan.0.deliveries.iter().map(of).min()
    }

    fn line(&self, node: &PlanNode, meter: &NodeMeter) -> NodeReport {
        let came: u64 = node.inputs.iter().map(|edge| self.edges[*edge].received_bytes()).sum();
        NodeReport {
            name: node.name.clone(),
            operation: node.operation.clone(),
            status: meter.status(),
            received: meter.received.get(),
            emitted_from: meter.emitted_from.get(),
            absorbed: meter.absorbed.get(),
            released: meter.released.get(),
            waiting: self.waiting(meter),
            spilled: meter.spilled.get(),
            dropped: meter.dropped.get(),
            dropped_because: meter.reasons(),
            dead_lettered: meter.dead_lettered.get(),
            failed: meter.failed.get(),
            in_flight: meter.in_flight(),
            emitted: meter.emitted.get(),
            missed: meter.missed.get(),
            batches: meter.batches.get(),
            bytes: came + meter.bytes.get(),
            calls: meter.calls.get(),
            failed_calls: meter.failed_calls.get(),
            retries: meter.retries.get(),
            memo_hits: meter.memo_hits.get(),
            memo_saved: meter.saved(),
            increment: meter.increment.get().copied(),
            deleted: meter.deleted.get(),
            busy: meter.busy.time(),
            rate_limit_wait: meter.rate_limit_wait.time(),
            permit_wait: meter.permit_wait.time(),
            latency: meter.latency(),
            models: meter.models(),
            errors: meter.errors().iter().map(Error::to_report).collect(),
            failure: meter.failure().map(|error| error.to_report()),
        }
    }

    /// Returns how many items are left in the buffer of a node.
    fn waiting(&self, meter: &NodeMeter) -> u64 {
        let lags = self.memories.iter().find(|(_, memory)| memory.node == meter.node && memory.lags());
        let done = lags.map(|(_, memory)| memory.tracker.committed_items());
        meter.buffered.get().saturating_sub(done.unwrap_or_else(|| meter.released.get()))
    }

    /// Everything that does not add up. A run that was cancelled leaves items on their way.
    fn imbalances(&self, plan: &PlanParts) -> Vec<String> {
        let status = |index: usize| self.meters[index].status();
        let settled =
            |index| matches!(status(index), NodeStatus::Completed | NodeStatus::Skipped | NodeStatus::Failed);
        let mut wrong: Vec<String> = self
            .meters
            .iter()
            .enumerate()
            .filter(|(index, _)| settled(*index))
            .filter_map(|(_, meter)| meter.imbalance())
            .collect();
        for (edge, count) in plan.edges.iter().zip(&self.edges) {
            let [sent, received, abandoned] = count.items();
            // What comes to a failed node it takes in and fails, until the run is cancelled.
            let refused = self.cancel.is_cancelled() && status(edge.to) == NodeStatus::Failed;
            let taken = if refused { received + abandoned } else { received };
            if sent != taken && settled(edge.from) && settled(edge.to) {
                let (from, to) = (&plan.nodes[edge.from].name, &plan.nodes[edge.to].name);
                wrong.push(format!(
                    "the edge from \"{from}\" to \"{to}\" was given {sent} items and gave {received}"
                ));
            }
        }
        if wrong.is_empty() && !self.cancel.is_cancelled() {
            let open: usize = self.trackers().map(SharedTracker::open_slots).sum();
            if open > 0 {
                wrong.push(format!("{open} source slots were never resolved"));
            }
            let abandoned: u64 = self.trackers().map(SharedTracker::abandoned_slots).sum();
            let complete = self.meters.iter().all(|meter| meter.status() == NodeStatus::Completed);
            if abandoned > 0 && complete {
                wrong.push(format!("{abandoned} source slots were abandoned though every node did its work"));
            }
        }
        wrong
    }

    fn partitions(&self, plan: &PlanParts) -> Vec<PartitionReport> {
        let of = |(index, tracker, _): &(usize, Arc<SharedTracker>, CancellationToken)| {
            let source = plan.nodes[*index].name.clone();
            tracker.committed().into_iter().map(move |committed| PartitionReport {
                source: source.clone(),
                partition: committed.partition,
                position: committed.position,
                items: committed.items,
            })
        };
        self.sources.iter().flat_map(of).collect()
    }
}

/// Which nodes are fed by more than best-effort copies.
pub(super) fn required(plan: &PlanParts) -> Vec<bool> {
    let mut required: Vec<bool> = plan.nodes.iter().map(|node| node.inputs.is_empty()).collect();
    // The nodes stand behind those that feed them.
    for (index, node) in plan.nodes.iter().enumerate() {
        if !required[index] {
            continue;
        }
        let best_effort: &[usize] = match &node.work {
            Work::FanOut { best_effort, .. } => best_effort,
            _ => &[],
        };
        let mut copies = 0;
        for (port, edge) in &node.outputs {
            let copy = copies;
            copies += usize::from(*port != Port::DeadLetter);
            if *port == Port::DeadLetter || !best_effort.contains(&copy) {
                required[plan.edges[*edge].to] = true;
            }
        }
    }
    required
}

/// A run that is going on.
///
/// # Cancellation
///
/// Dropping it cancels the run: nothing that was not written is acknowledged, connections are
/// let go, and every task ends.
#[derive(Debug)]
#[must_use = "dropping the handle cancels the run"]
pub struct RunHandle {
    parts: Arc<RunParts>,
    deadline: watch::Sender<Option<Instant>>,
    task: JoinHandle<RunReport>,
}

impl RunHandle {
    pub(super) fn new(
        parts: Arc<RunParts>,
        deadline: watch::Sender<Option<Instant>>,
        task: JoinHandle<RunReport>,
    ) -> Self {
        Self { parts, deadline, task }
    }

    /// Returns the run's id.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.parts.run
    }

    /// Returns how the run stands, now and then again every `every`; the last snapshot is
    /// [`done`](Progress::done). The stream holds nothing up and may be dropped.
    pub fn progress(&self, every: Duration) -> impl Stream<Item = Progress> + Send + use<> {
        let parts = self.parts.clone();
        async_stream::stream! {
            let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    biased;
                    () = parts.done.cancelled() => break,
                    _ = ticks.tick() => yield parts.progress(),
                }
            }
            yield parts.progress();
        }
    }

    /// Stops the run at once. What was not written is not acknowledged.
    pub fn cancel(&self) {
        self.parts.cancel.cancel();
    }

    /// Stops reading and finishes what is on its way; what is not finished `within` that time
    /// is cancelled.
    pub fn drain(&self, within: Duration) {
        self.parts.drain.cancel();
        self.deadline.send_replace(Some(super::moment::after(Instant::now(), within)));
    }

    /// Waits for the end of the run.
    ///
    /// # Errors
    ///
    /// `internal` if the run's own task panicked, which would be a bug.
    ///
    /// # Cancellation
    ///
    /// Dropping the future cancels the run.
    pub async fn wait(mut self) -> Result<RunReport> {
        (&mut self.task)
            .await
            .map_err(|error| Error::internal("the run ended without a report").with_source(error))
    }
}

impl Drop for RunHandle {
    fn drop(&mut self) {
        // The tasks end on their own: they see it, let go of connections, and are done.
        self.parts.cancel.cancel();
    }
}

impl std::fmt::Debug for RunParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunParts").field("run", &self.run).finish_non_exhaustive()
    }
}
