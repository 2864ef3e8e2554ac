//! The one place that spawns: a task for each node, and one that looks after them.
#![expect(clippy::disallowed_methods, reason = "the one place that spawns tasks")]

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use nvisy_core::action::Calls;
use nvisy_core::observability::{field, metric, span};
use nvisy_core::{Error, ErrorKind};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::checkpoint::Checkpointer;
use super::ledger::NodeMeter;
use super::node::Node;
use super::prepare::{Connections, Prepared};
use super::report::{NodeStatus, RunReport};
use super::run::{RunHandle, RunParts};
use crate::compiler::plan::{PlanParts, Port, Work};

/// How often counts go to the metrics recorder.
const PUBLISH: Duration = Duration::from_secs(1);

/// Starts a run.
pub(super) fn start(prepared: Prepared) -> RunHandle {
    let Prepared {
        run,
        plan,
        nodes,
        meters,
        edges,
        sources,
        memories,
        connections,
        checkpointer,
        lineage,
        cancel,
        drain,
        began,
    } = prepared;
    let (deadline, deadline_seen) = watch::channel(None);
    let parts = RunParts::new(run, plan, meters, edges, sources, cancel, drain);
    let parts = Arc::new(parts.remembering(memories).with_lineage(lineage));
    let span = tracing::info_span!(
        span::RUN,
        otel.name = %parts.plan.0.graph.name,
        { field::RUN } = %run,
        { field::GRAPH } = %parts.plan.0.graph.name
    );
    let supervised = parts.clone();
    let supervise = async move {
        let _finished = supervised.finish_on_drop();
        let report = match checkpointer {
            None => {
                supervise(&supervised, nodes, deadline_seen, began).await;
                supervised.report()
            }
            Some(checkpointer) => checkpointed(&supervised, nodes, deadline_seen, began, checkpointer).await,
        };
        connections.disconnect().await;
        let (graph, status) = (report.graph.to_string(), report.status.tag());
        metrics::histogram!(metric::RUN_DURATION, "graph" => graph, "status" => status)
            .record(report.duration.as_secs_f64());
        tracing::info!({ field::RUN } = %report.run, status = %report.status, duration = ?report.duration, "the run ended");
        report
    };
    let task = tokio::spawn(supervise.instrument(span));
    RunHandle::new(parts, deadline, task)
}

/// Runs every node to its end, with checkpoints on the way and at the end.
async fn checkpointed(
    parts: &Arc<RunParts>,
    nodes: Vec<Node>,
    deadline: watch::Receiver<Option<Instant>>,
    began: Instant,
    mut checkpointer: Checkpointer,
) -> RunReport {
    let ended = CancellationToken::new();
    let nodes_end = async {
        supervise(parts, nodes, deadline, began).await;
        ended.cancel();
    };
    let checkpoints_end = async {
        let result = checkpointer.run(parts, &ended).await;
        if let Err(error) = &result {
            // What is read from here on could not be taken up again.
            parts.fail(error);
            parts.cancel.cancel();
        }
        result
    };
    let ((), result) = tokio::join!(nodes_end, checkpoints_end);
    if result.is_ok() {
        let outcome = parts.outcome(parts.report().status);
        if let Err(error) = checkpointer.finish(parts, outcome).await {
            tracing::warn!({ field::ERROR } = error.tag(), %error, "the last checkpoint was not made");
            parts.fail(&error);
        }
    } else {
        checkpointer.rest().await;
    }
    let mut report = parts.report();
    report.guarantee = parts.guarantee(true);
    report.checkpoint = Some(checkpointer.report());
    report
}

/// Runs every node to its end.
async fn supervise(
    parts: &Arc<RunParts>,
    nodes: Vec<Node>,
    mut deadline: watch::Receiver<Option<Instant>>,
    began: Instant,
) {
    let plan = &parts.plan.0;
    let (failed, mut failures) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    let mut indices = HashMap::new();
    for group in tasks_of(nodes, plan) {
        let members: Vec<usize> = group.iter().map(|(index, _)| *index).collect();
        let work = group.into_iter().map(|(index, node)| {
            let span = tracing::info_span!(
                span::NODE,
                otel.name = %plan.nodes[index].name,
                { field::NODE } = %plan.nodes[index].name,
                { field::OPERATION } = %plan.nodes[index].operation
            );
            let failed = failed.clone();
            // The receiver lives as long as any task, so that telling it cannot fail.
            let tell = move || _ = failed.send(index);
            node.run(tell).instrument(span)
        });
        let task = tasks.spawn(join_all(work));
        indices.insert(task.id(), members);
    }
    let run_ends = plan.timeout.map(|timeout| super::moment::after(began, timeout));
    let mut publish = tokio::time::interval(PUBLISH);
    let mut published: Vec<Published> = plan.nodes.iter().map(|_| Published::default()).collect();
    let mut timed_out = false;
    loop {
        let drain_ends = *deadline.borrow();
        tokio::select! {
            biased;
            joined = tasks.join_next_with_id() => match joined {
                None => break,
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    for index in indices.get(&error.id()).into_iter().flatten() {
                        let meter = &parts.meters[*index];
                        meter.fail(Error::internal(format!("the node's task ended: {error}")));
                        meter.failed.add(meter.in_flight());
                    }
                    stop_sources(parts, plan);
                }
            },
            Some(_) = failures.recv() => stop_sources(parts, plan),
            () = until(run_ends), if !timed_out => {
                timed_out = true;
                parts.time_out();
            }
            () = until(drain_ends), if !parts.cancel.is_cancelled() => parts.cancel.cancel(),
            Ok(()) = deadline.changed() => {}
            _ = publish.tick() => publish_counts(&parts.meters, &mut published),
        }
    }
    publish_counts(&parts.meters, &mut published);
    // Also where no checkpoint follows.
    if let Err(error) = parts.lineage.durable().await {
        parts.fail(&error);
    }
}

/// How many nodes share a task at the most, so that a long chain still uses every core.
const SHARED: usize = 4;

/// Returns the nodes, each with its index, by the task that they share.
///
/// Neighbours that compute over columns take turns in one task: to wake another thread for a
/// batch costs more than what they do with it.
fn tasks_of(nodes: Vec<Node>, plan: &PlanParts) -> Vec<Vec<(usize, Node)>> {
    let computes = |index: usize| {
        let node = &plan.nodes[index];
        node.calls == Calls::None && matches!(&node.work, Work::Action(config) if config.is_columnar())
    };
    let mut groups: Vec<Vec<(usize, Node)>> = Vec::new();
    for (index, node) in nodes.into_iter().enumerate() {
        let before = match *plan.nodes[index].inputs {
            [edge] if computes(index) => plan.edges[edge].from,
            _ => index,
        };
        let follows = |group: &&mut Vec<(usize, Node)>| {
            let last = group.last().map(|(last, _)| *last);
            last == Some(before) && group.len() < SHARED
        };
        let lone = before == index || !computes(before) || plan.nodes[before].outputs.len() != 1;
        match groups.iter_mut().find(follows).filter(|_| !lone) {
            Some(group) => group.push((index, node)),
            None => groups.push(vec![(index, node)]),
        }
    }
    groups
}

/// Lets go of connections whose owner is gone, if there still is a runtime to do so.
pub(super) fn let_go(connections: Connections) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(connections.disconnect());
    }
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Stops the sources, and what lets go of what it remembers, from which no sink can be reached any more.
fn stop_sources(parts: &RunParts, plan: &PlanParts) {
    for (source, _, stop) in &parts.sources {
        if !reaches_a_sink(*source, parts, plan) {
            stop.cancel();
        }
    }
    for (node, memory) in &parts.memories {
        if !reaches_a_sink(*node, parts, plan) {
            memory.stop.cancel();
        }
    }
}

/// Returns whether items of this node can still get to a sink that is meant to have them: dead
/// letters and best-effort copies are not reason enough to read on.
fn reaches_a_sink(from: usize, parts: &RunParts, plan: &PlanParts) -> bool {
    let mut open = vec![from];
    let mut seen = vec![false; plan.nodes.len()];
    while let Some(index) = open.pop() {
        let node = &plan.nodes[index];
        let failed =
            parts.meters[index].status() == NodeStatus::Failed && !matches!(node.work, Work::Source { .. });
        if failed || std::mem::replace(&mut seen[index], true) {
            continue;
        }
        if matches!(node.work, Work::Sink(_)) {
            return true;
        }
        let best_effort: &[usize] = match &node.work {
            Work::FanOut { best_effort, .. } => best_effort,
            _ => &[],
        };
        let onward = node.outputs.iter().filter(|(port, _)| *port != Port::DeadLetter).enumerate();
        let onward = onward.filter(|(at, _)| !best_effort.contains(at));
        open.extend(onward.map(|(_, (_, edge))| plan.edges[*edge].to));
    }
    false
}

/// What of a node's counts the metrics recorder has already.
#[derive(Default)]
struct Published([u64; 7]);

fn publish_counts(meters: &[Arc<NodeMeter>], published: &mut [Published]) {
    for (meter, published) in meters.iter().zip(published) {
        let counts = [
            ("emitted", meter.emitted.get()),
            ("dropped", meter.dropped.get()),
            ("dead_lettered", meter.dead_lettered.get()),
            ("failed", meter.failed.get()),
            ("received", meter.received.get()),
            ("absorbed", meter.absorbed.get()),
        ];
        for ((outcome, count), last) in counts.into_iter().zip(&mut published.0) {
            if count > *last {
                let labels = [
                    ("graph", meter.graph.to_string()),
                    ("node", meter.node.to_string()),
                    ("outcome", outcome.to_owned()),
                ];
                metrics::counter!(metric::NODE_ITEMS, &labels).increment(count - *last);
                *last = count;
            }
        }
        let batches = meter.batches.get();
        if batches > published.0[6] {
            let labels = [("graph", meter.graph.to_string()), ("node", meter.node.to_string())];
            metrics::counter!(metric::NODE_BATCHES, &labels).increment(batches - published.0[6]);
            published.0[6] = batches;
        }
    }
}

/// The error of a run that takes longer than it may.
pub(super) fn too_long(timeout: Duration) -> Error {
    let timeout = humantime::format_duration(timeout);
    Error::new(ErrorKind::Timeout, format!("the run took longer than its timeout of {timeout}"))
}

impl RunParts {
    /// The run took too long: that is a failure, and everything stops.
    fn time_out(&self) {
        self.fail(&too_long(self.plan.0.timeout.unwrap_or_default()));
        self.cancel.cancel();
    }
}
