//! The rules of a sink that stages: what is in a checkpoint shows once, and nothing else shows.
//!
//! To drop a sink without closing it is what comes closest to a process that is killed.

use super::writing::{applied, close, flush, publish, stage};
use super::{SinkHarness, Target};
use crate::context::Context;
use crate::sink::Staging;
use crate::testing::conformance::compare::same;
use crate::testing::conformance::examiner::{Finding, Seen};

const LEFT_OUT: Finding = Ok(Some("it does not stage"));

async fn staging(harness: &SinkHarness, seen: &Seen) -> Result<Option<Target>, String> {
    let target = harness.target(seen).await?;
    Ok(target.config.stages().then_some(target))
}

pub(super) async fn hides_what_is_staged_until_it_is_published(
    harness: &SinkHarness,
    seen: &Seen,
) -> Finding {
    let Some(target) = staging(harness, seen).await? else { return LEFT_OUT };
    let hidden = async |when: &str| {
        same(&target.found(seen).await.unwrap_or_default(), &[]).map_err(|found| format!("{when}: {found}"))
    };
    let sink = target.open_staging(Staging::On(None), seen).await?;
    let nothing = sink.stage(&Context::detached()).await;
    if nothing.map_err(|error| seen.unexpected("it does not stage nothing", &error))?.is_some() {
        return Err("it has written nothing, and staged something".to_owned());
    }
    let batch = harness.batch(0, 5)?;
    applied(&*sink, &batch, seen).await?;
    hidden("written").await?;
    flush(&*sink, seen).await?;
    hidden("flushed").await?;
    let staged = stage(&*sink, seen).await?;
    hidden("staged").await?;
    if stage(&*sink, seen).await? != staged {
        return Err("nothing was written since, and it staged something else".to_owned());
    }
    for when in ["published", "published twice"] {
        publish(&*sink, &staged, seen).await.map_err(|found| format!("{when}: {found}"))?;
        same(&target.found(seen).await?, &harness.shown(&batch))
            .map_err(|found| format!("{when}: {found}"))?;
    }
    let lost = harness.batch(5, 3)?;
    applied(&*sink, &lost, seen).await?;
    close(&*sink, seen).await?;
    same(&target.found(seen).await?, &harness.shown(&batch))
        .map_err(|found| format!("closed with something that is not staged: {found}"))?;
    Ok(None)
}

pub(super) async fn shows_what_a_checkpoint_has_when_it_opens(harness: &SinkHarness, seen: &Seen) -> Finding {
    let Some(target) = staging(harness, seen).await? else { return LEFT_OUT };
    let sink = target.open_staging(Staging::On(None), seen).await?;
    let batch = harness.batch(0, 5)?;
    let expected = harness.shown(&batch);
    applied(&*sink, &batch, seen).await?;
    let staged = stage(&*sink, seen).await?;
    drop(sink);
    same(&target.found(seen).await.unwrap_or_default(), &[]).map_err(|found| format!("dropped: {found}"))?;
    for when in ["opened", "opened again"] {
        let sink = target.open_staging(Staging::On(Some(staged.clone())), seen).await?;
        same(&target.found(seen).await?, &expected).map_err(|found| format!("{when}: {found}"))?;
        publish(&*sink, &staged, seen).await?;
        same(&target.found(seen).await?, &expected)
            .map_err(|found| format!("{when}, then published: {found}"))?;
    }
    Ok(None)
}

pub(super) async fn forgets_what_no_checkpoint_has(harness: &SinkHarness, seen: &Seen) -> Finding {
    let Some(target) = staging(harness, seen).await? else { return LEFT_OUT };
    let lost = harness.batch(0, 2)?;
    let sink = target.open_staging(Staging::On(None), seen).await?;
    applied(&*sink, &lost, seen).await?;
    stage(&*sink, seen).await?;
    drop(sink);

    let first = harness.batch(0, 5)?;
    let sink = target.open_staging(Staging::On(None), seen).await?;
    same(&target.found(seen).await.unwrap_or_default(), &[])
        .map_err(|found| format!("before the first checkpoint: {found}"))?;
    applied(&*sink, &first, seen).await?;
    let staged = stage(&*sink, seen).await?;
    publish(&*sink, &staged, seen).await?;
    let (second, third) = (harness.batch(5, 3)?, harness.batch(8, 2)?);
    applied(&*sink, &second, seen).await?;
    stage(&*sink, seen).await?;
    applied(&*sink, &third, seen).await?;
    drop(sink);

    let mut expected = harness.shown(&first);
    let sink = target.open_staging(Staging::On(Some(staged)), seen).await?;
    same(&target.found(seen).await?, &expected).map_err(|found| format!("before the second: {found}"))?;
    applied(&*sink, &second, seen).await?;
    let staged = stage(&*sink, seen).await?;
    publish(&*sink, &staged, seen).await?;
    close(&*sink, seen).await?;
    expected.extend(harness.shown(&second));
    same(&target.found(seen).await?, &expected).map_err(|found| format!("written again: {found}"))?;
    Ok(None)
}

pub(super) async fn goes_on_behind_what_a_checkpoint_has(harness: &SinkHarness, seen: &Seen) -> Finding {
    let Some(target) = staging(harness, seen).await? else { return LEFT_OUT };
    let (mut last, mut expected) = (None, Vec::new());
    for round in 0..3 {
        let sink = target.open_staging(Staging::On(last.take()), seen).await?;
        // The second time it is dropped before it shows anything.
        for time in 0..2 {
            let batch = harness.batch(round * 10 + time * 5, 3)?;
            applied(&*sink, &batch, seen).await?;
            expected.extend(harness.shown(&batch));
            let staged = stage(&*sink, seen).await?;
            if time == 0 {
                publish(&*sink, &staged, seen).await?;
                same(&target.found(seen).await?, &expected)
                    .map_err(|found| format!("in round {round}: {found}"))?;
            }
            last = Some(staged);
        }
    }
    let sink = target.open_staging(Staging::On(last), seen).await?;
    same(&target.found(seen).await?, &expected)?;
    close(&*sink, seen).await?;
    same(&target.found(seen).await?, &expected)?;
    Ok(None)
}

pub(super) async fn goes_on_behind_what_was_shown(harness: &SinkHarness, seen: &Seen) -> Finding {
    let Some(target) = staging(harness, seen).await? else { return LEFT_OUT };
    let (first, second, third) = (harness.batch(0, 5)?, harness.batch(5, 3)?, harness.batch(8, 2)?);
    let mut expected = harness.shown(&first);
    let sink = target.open_staging(Staging::On(None), seen).await?;
    applied(&*sink, &first, seen).await?;
    let shown = stage(&*sink, seen).await?;
    publish(&*sink, &shown, seen).await?;
    // Of this no checkpoint knows.
    applied(&*sink, &second, seen).await?;
    stage(&*sink, seen).await?;
    drop(sink);

    let sink = target.open_staging(Staging::Shown(shown), seen).await?;
    same(&target.found(seen).await?, &expected).map_err(|found| format!("opened: {found}"))?;
    applied(&*sink, &second, seen).await?;
    let shown = stage(&*sink, seen).await?;
    publish(&*sink, &shown, seen).await?;
    close(&*sink, seen).await?;
    expected.extend(harness.shown(&second));
    same(&target.found(seen).await?, &expected).map_err(|found| format!("gone on: {found}"))?;

    // Somebody has taken away what was shown: here is a place where it is not.
    let target = harness.target(seen).await?;
    let sink = target.open_staging(Staging::Shown(shown), seen).await?;
    applied(&*sink, &third, seen).await?;
    let staged = stage(&*sink, seen).await?;
    publish(&*sink, &staged, seen).await?;
    close(&*sink, seen).await?;
    same(&target.found(seen).await?, &harness.shown(&third))
        .map_err(|found| format!("what was shown is taken away: {found}"))?;
    Ok(None)
}
