//! The rule of a sink that remembers what it has written in a run.

use std::sync::Arc;

use super::writing::{applied, close};
use super::{SinkHarness, Target};
use crate::context::Context;
use crate::id::RunId;
use crate::plugin::ErasedSink;
use crate::sink::Staging;
use crate::testing::conformance::compare::same;
use crate::testing::conformance::examiner::{Finding, Seen};

impl Target {
    async fn open_in(&self, run: RunId, seen: &Seen) -> Result<Arc<dyn ErasedSink>, String> {
        let context = Context::new("conformance", "sink", "sink").in_run(run);
        let opened = self.config.open(context, &self.client, Staging::Remember).await;
        opened.map_err(|error| seen.unexpected("it does not open", &error))
    }
}

pub(super) async fn adds_once_what_comes_again_in_a_run(harness: &SinkHarness, seen: &Seen) -> Finding {
    let target = harness.target(seen).await?;
    if !target.config.remembers() {
        return Ok(Some("it does not remember"));
    }
    let (first, more) = (harness.batch(0, 5)?, harness.batch(5, 3)?);
    let mut expected = harness.shown(&first);
    let (run, other) = (RunId::new(), RunId::new());
    for (when, run) in [
        ("twice", run),
        ("when the run goes on", run),
        ("when the run goes on whose beginning was lost", other),
        ("when that goes on", other),
    ] {
        // Dropped, which is what comes closest to a process that is killed.
        let sink = target.open_in(run, seen).await?;
        for _ in 0..2 {
            applied(&*sink, &first, seen).await.map_err(|found| format!("{when}: {found}"))?;
        }
        same(&target.found(seen).await?, &expected).map_err(|found| format!("{when}: {found}"))?;
    }
    expected.extend(harness.shown(&more));
    for when in ["with more", "when it goes on though it was closed"] {
        let sink = target.open_in(other, seen).await?;
        applied(&*sink, &more, seen).await.map_err(|found| format!("{when}: {found}"))?;
        close(&*sink, seen).await?;
        same(&target.found(seen).await?, &expected).map_err(|found| format!("{when}: {found}"))?;
    }
    let sink = target.open_in(RunId::new(), seen).await?;
    applied(&*sink, &first, seen).await?;
    close(&*sink, seen).await?;
    expected.extend(harness.shown(&first));
    same(&target.found(seen).await?, &expected).map_err(|found| format!("in the next run: {found}"))?;
    Ok(None)
}
