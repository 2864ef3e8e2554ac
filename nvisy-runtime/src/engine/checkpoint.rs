//! Checkpoints of a run: what it has to remember in order to go on where it stopped.
//!
//! The order is: sinks and dead letters durable, then the log of lineage, then the checkpoint, then
//! what sinks have staged shows, and the checkpoint says so. Where no sink stages, the cursors of the
//! sources are committed as they stand: what is read again after a crash is written again by its id.
//! Where one does, or an action remembers what it has seen, all sources are held for a moment, until
//! nothing is on its way: a cut through the graph on one side of which everything is written or
//! remembered, and on the other side nothing. What actions remember is part of the checkpoint, and
//! goes back with the cursors.

mod by_partition;
mod careful;
mod entries;
mod feed;
mod fingerprint;
mod journal;
mod memory;
mod recalling;
mod stage;
mod state;

use std::sync::Arc;
use std::time::Duration;

use nvisy_core::{Changes, Result};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(super) use self::careful::{Careful, GROUP_BYTES, Part, TIMES};
pub(super) use self::entries::{Cursors, rehearsable};
pub(super) use self::feed::{Feed, Replacing};
pub(super) use self::journal::{Journal, Outcome};
pub(super) use self::memory::{Memory, clear};
pub(super) use self::recalling::Recalling;
pub(super) use self::stage::Stage;
pub use self::state::{Begun, NodeMemory, RunState};
use super::report::CheckpointReport;
use super::run::RunParts;
use super::tracker::{Notify, SharedTracker};

/// How often a checkpoint is made unless the graph says otherwise.
const EVERY: Duration = Duration::from_secs(1);
/// The same where a sink makes a new file for each.
const EVERY_FILE: Duration = Duration::from_secs(60);
const SOONEST: Duration = Duration::from_millis(1);
/// After how many bytes one is made sooner.
pub(super) const BYTES: u64 = 64 << 20;

/// How a checkpoint is asked for.
#[derive(Debug, Default)]
pub(super) struct Request {
    pub(super) at_once: Notify,
    soon: Notify,
}

impl Request {
    /// Somebody waits for one.
    pub(super) fn at_once(&self) {
        self.at_once.notify_one();
    }

    /// Much has been read since the last one.
    pub(super) fn soon(&self) {
        self.soon.notify_one();
    }

    /// Waits until one is due: after `every`, or when it is asked for. However fast sources are, they
    /// have no more than four in that time for what they have read.
    async fn due(&self, every: Duration) {
        let earliest = Instant::now() + every / 4;
        let soon = async {
            self.soon.notified().await;
            tokio::time::sleep_until(earliest).await;
        };
        tokio::select! {
            () = self.at_once.notified() => {}
            () = tokio::time::sleep(every) => {}
            () = soon => {}
        }
    }
}

/// What the sources of a run are asked to do for a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Read on.
    Read,
    /// Have everything let go that is gathered.
    Settle,
    /// Have sinks stage what they have written.
    Stage,
}

/// Makes the checkpoints of a run.
pub(super) struct Checkpointer {
    journal: Journal,
    stages: Vec<Arc<Stage>>,
    recalling: Vec<Arc<Recalling>>,
    memories: Vec<Arc<Memory>>,
    every: Duration,
    phase: watch::Sender<Phase>,
    /// Asks for a checkpoint before its time.
    request: Arc<Request>,
}

impl Checkpointer {
    pub(super) fn new(
        journal: Journal,
        (stages, recalling): (Vec<Arc<Stage>>, Vec<Arc<Recalling>>),
        memories: Vec<Arc<Memory>>,
        every: Option<Duration>,
        phase: watch::Sender<Phase>,
        request: Arc<Request>,
    ) -> Self {
        let every = every.map(|every| every.max(SOONEST)).unwrap_or(if stages.is_empty() {
            EVERY
        } else {
            EVERY_FILE
        });
        Self { journal, stages, recalling, memories, every, phase, request }
    }

    /// Makes checkpoints until `stop`.
    ///
    /// # Errors
    ///
    /// If one cannot be made: the run must not go on as if it could be resumed.
    pub(super) async fn run(&mut self, parts: &RunParts, stop: &CancellationToken) -> Result<()> {
        // What the run before had staged shows since its sinks are open.
        self.journal.shown(&self.stages).await?;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = self.request.due(self.every) => {}
                never = self.free_sources(parts) => match never {},
            }
            self.journal.note().await?;
            self.journal.announce().await?;
            if self.cuts() {
                self.cut(parts, stop).await?;
            } else {
                let changes = self.journal.gather(parts, &[]);
                self.journal.commit(parts, changes).await?;
            }
        }
    }

    /// Lets sources read again that a cut has left held, as soon as no buffer has more than it is
    /// meant to: a cut has taken in what was on its way, and that must not be so again and again.
    async fn free_sources(&self, parts: &RunParts) -> std::convert::Infallible {
        let room = async {
            for memory in &self.memories {
                memory.until_room().await;
            }
        };
        tokio::select! {
            () = room => {}
            // They read no more, and what they have at hand is taken in.
            () = parts.drain.cancelled() => {}
        }
        let held = parts.sources.iter().filter(|(_, tracker, _)| tracker.is_held());
        held.for_each(|(_, tracker, _)| tracker.hold(false));
        std::future::pending().await
    }

    /// Returns whether nothing may be on its way when a checkpoint is made.
    fn cuts(&self) -> bool {
        !self.stages.is_empty() || !self.memories.is_empty()
    }

    /// Holds the sources until all that they have read is written, and makes a checkpoint of that.
    async fn cut(&mut self, parts: &RunParts, stop: &CancellationToken) -> Result<()> {
        if parts.trackers().all(|tracker| !tracker.has_news()) {
            return Ok(());
        }
        let Self { journal, stages, memories, phase, .. } = self;
        let held = Held::all(parts, phase);
        phase.send_replace(Phase::Settle);
        if !quiet(parts, stop, SharedTracker::is_still).await {
            return Ok(());
        }
        phase.send_replace(Phase::Stage);
        if !quiet(parts, stop, SharedTracker::is_settled).await {
            return Ok(());
        }
        // What failed is to be read again, and with it what came after it, which is staged: no
        // checkpoint can have one without the other.
        if parts.has_failed() {
            parts.cut_trackers().for_each(SharedTracker::forsake);
            return Ok(());
        }
        let changes = gather(journal, parts, stages, memories).await?;
        drop(held);
        self.commit(parts, changes).await?;
        self.publish().await
    }

    /// Returns whether a run that was not cancelled has all in its sinks but what its buffers have.
    fn lags(&self, parts: &RunParts) -> bool {
        let lags = self.stages.is_empty() && self.memories.iter().all(|memory| memory.lags());
        lags && !parts.cancel.is_cancelled() && parts.cut_trackers().all(SharedTracker::is_settled)
    }

    async fn commit(&mut self, parts: &RunParts, changes: Changes) -> Result<()> {
        self.journal.commit(parts, changes).await?;
        for memory in &self.memories {
            memory.saved().await?;
        }
        Ok(())
    }

    async fn publish(&mut self) -> Result<()> {
        for stage in &self.stages {
            stage.publish().await?;
        }
        self.journal.shown(&self.stages).await
    }

    /// Makes the last checkpoint of a run whose nodes have all ended, lets the sinks show and close
    /// what they have, and says that the run has ended in an orderly way, however it did.
    ///
    /// # Errors
    ///
    /// If that is not possible: what was read since the checkpoint before is read again.
    pub(super) async fn finish(&mut self, parts: &RunParts, outcome: Outcome) -> Result<()> {
        if outcome == Outcome::Broken {
            self.journal.hold();
        }
        let mut result = self.last(parts, outcome).await;
        if result.is_ok() && outcome != Outcome::Broken {
            result = self.journal.close().await;
        }
        let rested = self.journal.rest().await;
        result.and(rested)
    }

    async fn last(&mut self, parts: &RunParts, outcome: Outcome) -> Result<()> {
        if !self.cuts() {
            let changes = self.journal.gather(parts, &[]);
            return match outcome {
                Outcome::Finished => {
                    self.close_recalling().await?;
                    self.journal.finish(parts, changes).await
                }
                Outcome::Stopped | Outcome::Broken => self.journal.commit(parts, changes).await,
            };
        }
        let failed = parts.has_failed();
        let outcome = match outcome {
            // What failed is in a buffer, which has it for the next run; all else is settled.
            Outcome::Broken if self.lags(parts) && !failed => Outcome::Stopped,
            // Of what is staged, a run shows all that came or, since the last checkpoint, nothing;
            // and what is remembered goes back to where the cursors are.
            Outcome::Broken => return Ok(()),
            Outcome::Stopped if parts.drain.is_cancelled() && failed => return Ok(()),
            // All that is required is there: what is withheld is a best-effort copy.
            Outcome::Finished => outcome,
            Outcome::Stopped if self.stages.iter().any(|stage| stage.is_withheld()) => return Ok(()),
            Outcome::Stopped if failed && self.stages.is_empty() => return Ok(()),
            // What could not be read is counted; a run that reads it again would double the rest.
            Outcome::Stopped if failed => Outcome::Finished,
            Outcome::Stopped => outcome,
        };
        let changes = gather(&mut self.journal, parts, &self.stages, &self.memories).await?;
        self.commit(parts, changes).await?;
        self.publish().await?;
        for stage in &self.stages {
            stage.close().await?;
        }
        if outcome == Outcome::Finished {
            self.close_recalling().await?;
            // Not before all of it shows: a run that has finished is not taken up again.
            self.journal.finish(parts, Changes::default()).await?;
            self.memories.iter().for_each(|memory| memory.forget());
        }
        Ok(())
    }

    /// Tells sinks that recall what they have written that the run is over: before the checkpoint
    /// says so, for what is taken up again is the same run to them.
    async fn close_recalling(&self) -> Result<()> {
        for sink in &self.recalling {
            sink.close().await?;
        }
        Ok(())
    }

    /// Says that the run has ended in an orderly way though no checkpoint could be made.
    pub(super) async fn rest(&mut self) {
        self.journal.leave().await;
    }

    pub(super) fn report(&self) -> CheckpointReport {
        self.journal.report()
    }
}

/// Collects what the next checkpoint has, while nothing is on its way.
async fn gather(
    journal: &mut Journal,
    parts: &RunParts,
    stages: &[Arc<Stage>],
    memories: &[Arc<Memory>],
) -> Result<Changes> {
    let mut changes = journal.gather(parts, stages);
    for memory in memories {
        memory.save(&mut changes).await?;
    }
    Ok(changes)
}

/// Sources that read nothing while this is held.
struct Held<'a> {
    parts: &'a RunParts,
    phase: &'a watch::Sender<Phase>,
}

impl<'a> Held<'a> {
    fn all(parts: &'a RunParts, phase: &'a watch::Sender<Phase>) -> Self {
        parts.cut_trackers().for_each(|tracker| tracker.hold(true));
        Self { parts, phase }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Read);
        let full = self.parts.memories.iter().any(|(_, memory)| memory.is_full());
        let full = full && !self.parts.drain.is_cancelled();
        let is_source = |tracker: &SharedTracker| {
            self.parts.sources.iter().any(|(_, source, _)| std::ptr::eq(&**source, tracker))
        };
        let freed = self.parts.cut_trackers().filter(|tracker| !full || !is_source(tracker));
        freed.for_each(|tracker| tracker.hold(false));
    }
}

/// Waits until all trackers are so, but those of buffers, which keep what is on its way. Returns
/// whether they are, before `stop`.
async fn quiet(parts: &RunParts, stop: &CancellationToken, is: fn(&SharedTracker) -> bool) -> bool {
    for tracker in parts.cut_trackers() {
        tokio::select! {
            biased;
            () = stop.cancelled() => return false,
            () = tracker.until(is) => {}
        }
    }
    true
}
