//! Stopped after every poll.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nvisy_core::testing::faulty::Script;
use nvisy_runtime::engine::RunStatus;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::graphs::ALL;
use super::{Found, Place, STRIDE, engine, new_runtime, read_by};
use crate::fixture::{state_of, within};
use crate::torture::Torture;

/// Counts how often the tasks and the calls of a run are polled: each poll enters a span.
#[derive(Clone)]
struct Polls(Arc<(AtomicU64, u64, Notify)>);

impl Polls {
    /// Rings after so many.
    fn until(end: u64) -> Self {
        Self(Arc::new((AtomicU64::new(0), end, Notify::new())))
    }

    fn count(&self) -> u64 {
        self.0.0.load(Ordering::Relaxed)
    }
}

impl Subscriber for Polls {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {
        let (count, end, reached) = &*self.0;
        if count.fetch_add(1, Ordering::Relaxed) + 1 == *end {
            reached.notify_one();
        }
    }

    fn exit(&self, _: &Id) {}
}

/// How a run is stopped.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Cancel,
    Drop,
}

#[test]
fn wherever_it_is_stopped_the_runs_after_it_make_it_whole() {
    let places: Vec<Place<'_>> = ALL.iter().map(Place::new).collect();
    let mut cases = Vec::new();
    let mut clean = Vec::new();
    for (example, place) in places.iter().enumerate() {
        let polls = Polls::until(0);
        let counted = tracing::subscriber::set_default(polls.clone());
        clean.push(new_runtime().block_on(async {
            place.prepare().await;
            let before = polls.count();
            let (found, read) = place.undisturbed(&Script::new()).await;
            cases.extend(
                (1..=polls.count() - before)
                    .flat_map(|at| [(example, at, Stop::Cancel), (example, at, Stop::Drop)]),
            );
            (found, read)
        }));
        drop(counted);
    }
    let mut torture = Torture::of("examples", 60, 1);
    torture.cases = torture.cases.min(cases.len() as u64);
    let (mut done, mut stopped) = (0_u64, 0);
    let repeated = torture.each(|seed| {
        let (example, at, how) = cases[(seed.wrapping_mul(STRIDE) % cases.len() as u64) as usize];
        let (found, read) = &clean[example];
        done += 1;
        stop(&places[example], at, how, found, *read, &mut stopped)
    });
    torture.tell_well(repeated);
    assert!(done < 20 || stopped > done / 2, "{stopped} of {done} runs were stopped");
}

/// Stops a run after so many polls, runs again until it ends as it should, and looks what is there.
/// Returns how many items were read more than once.
fn stop(place: &Place<'_>, at: u64, how: Stop, clean: &Found, read: u64, stopped: &mut u64) -> u64 {
    let what = format!("{}: {how:?} after {at} polls", place.example.name);
    let state = place.dir.path().join("state");
    let runtime = new_runtime();
    let mut again = runtime.block_on(async {
        place.prepare().await;
        let polls = Polls::until(at);
        let _counted = tracing::subscriber::set_default(polls.clone());
        let run = engine(place.dir.path(), &Script::new()).start(&place.graph).await.unwrap();
        let tasks = || Handle::current().metrics().num_alive_tasks();
        while polls.count() < at && tasks() > 0 {
            let moment = tokio::time::sleep(Duration::from_millis(1));
            tokio::select! { biased; () = polls.0.2.notified() => break, () = moment => {} }
        }
        *stopped += u64::from(tasks() > 0);
        match how {
            Stop::Cancel => {
                run.cancel();
                let report = within(run.wait()).await.unwrap();
                assert!(report.imbalances.is_empty(), "{what}: {report}");
                read_by(&report, &place.document)
            }
            Stop::Drop => {
                drop(run);
                within(async {
                    while tasks() > 0 {
                        tokio::task::yield_now().await;
                    }
                })
                .await;
                0
            }
        }
    });
    // What was called may block, and does so to its end.
    runtime.shutdown_timeout(Duration::from_secs(60));
    new_runtime().block_on(async {
        let finished = state_of(&state, &place.graph.name).await.is_some_and(|state| state.finished);
        if place.example.ends != RunStatus::Success || !finished {
            again += place.finish(&what).await;
        }
        place.check(clean, &what).await;
    });
    again.saturating_sub(read)
}
