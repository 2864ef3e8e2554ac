//! The rule of a sink that replaces: what is stale of an origin goes, and nothing else.

use super::{SinkHarness, Target};
use crate::batch::Batch;
use crate::context::Context;
use crate::id::SourceIdentity;
use crate::plugin::ErasedSink;
use crate::position::Positions;
use crate::replace::{Origin, ReplaceSet};
use crate::sink::Staging;
use crate::testing::conformance::compare::same;
use crate::testing::conformance::examiner::{Finding, Seen};

fn context(generation: u64) -> Context {
    Context::new("conformance", "read", "conformance").in_generation(generation)
}

fn source() -> SourceIdentity {
    SourceIdentity::new("conformance")
}

/// Returns the items from `first` on, as they stand in an object.
fn batch(harness: &SinkHarness, object: &str, first: u64, len: usize) -> Result<Batch, String> {
    let payloads = (first..).take(len).map(|n| (harness.item)(n)).collect();
    let (step, metadata) = (context(0).step(), context(0).metadata());
    let batch = Batch::read(payloads, Positions::rows(object, first), &source(), step, metadata);
    batch.map_err(|error| error.to_string())
}

async fn write(sink: &dyn ErasedSink, batch: &Batch, generation: u64, seen: &Seen) -> Result<(), String> {
    write_in(sink, batch, &context(generation), seen).await
}

async fn write_in(
    sink: &dyn ErasedSink,
    batch: &Batch,
    context: &Context,
    seen: &Seen,
) -> Result<(), String> {
    let written = sink.write(batch, context).await;
    let report = written.map_err(|error| seen.unexpected("it does not write", &error))?;
    report.is_applied().then_some(()).ok_or_else(|| "not every item is written".to_owned())?;
    sink.flush(context).await.map_err(|error| seen.unexpected("it does not flush", &error))
}

async fn replace(sink: &dyn ErasedSink, object: &str, generation: u64, seen: &Seen) -> Result<u64, String> {
    let origin = Origin::new("conformance", "read", &source(), object);
    let replaced = sink.replace(&[ReplaceSet { origin, generation }], &context(generation)).await;
    replaced.map_err(|error| seen.unexpected("it does not replace", &error))
}

async fn open(
    target: &Target,
    generation: u64,
    seen: &Seen,
) -> Result<std::sync::Arc<dyn ErasedSink>, String> {
    let opened = target.config.open(context(generation), &target.client, Staging::Off).await;
    opened.map_err(|error| seen.unexpected("it does not open", &error))
}

pub(super) async fn deletes_just_what_is_stale_of_an_origin(harness: &SinkHarness, seen: &Seen) -> Finding {
    let target = harness.target(seen).await?;
    if !target.config.replaces() {
        return Ok(Some("it does not replace"));
    }
    let sink = open(&target, 1, seen).await?;
    if replace(&*sink, "a", 1, seen).await? != 0 {
        return Err("it holds nothing, and deleted something".to_owned());
    }
    let (a, b) = (batch(harness, "a", 0, 5)?, batch(harness, "b", 5, 3)?);
    write(&*sink, &a, 1, seen).await?;
    write(&*sink, &b, 1, seen).await?;
    let all = [harness.shown(&a), harness.shown(&b)].concat();
    let holds = async |expected: &[serde_json::Value], when: &str| {
        same(&target.found(seen).await?, expected).map_err(|found| format!("{when}: {found}"))
    };
    if replace(&*sink, "a", 1, seen).await? != 0 {
        return Err("it deleted what its own generation has written".to_owned());
    }
    holds(&all, "nothing is stale").await?;

    let sink = open(&target, 2, seen).await?;
    let again = batch(harness, "a", 0, 2)?;
    write(&*sink, &again, 2, seen).await?;
    holds(&all, "before it replaces").await?;
    let deleted = replace(&*sink, "a", 2, seen).await?;
    let left = [harness.shown(&again), harness.shown(&b)].concat();
    holds(&left, "two of five came again").await?;
    if deleted != 3 {
        return Err(format!("it says that it deleted {deleted} items instead of 3"));
    }
    if replace(&*sink, "a", 2, seen).await? != 0 {
        return Err("it deleted something the second time".to_owned());
    }
    replace(&*sink, "c", 3, seen).await?;
    holds(&left, "of another origin").await?;
    // As a replay of dead letters does, while an incremental run is on its way.
    let beside = Context::new("conformance", "read", "conformance");
    let opened = target.config.open(beside.clone(), &target.client, Staging::Off).await;
    let sink = opened.map_err(|error| seen.unexpected("it does not open without a generation", &error))?;
    let replayed = batch(harness, "a", 10, 1)?;
    write_in(&*sink, &replayed, &beside, seen).await?;
    replace(&*sink, "a", 3, seen).await?;
    let left = [harness.shown(&b), harness.shown(&replayed)].concat();
    holds(&left, "the object is gone but for what was written beside the run").await?;
    Ok(None)
}
