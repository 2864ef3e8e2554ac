//! The rules of a sink.

use std::collections::HashSet;

use futures::future::join_all;

use super::SinkHarness;
use super::writing::{applied, batch, close, error_of, flush, write};
use crate::batch::Batch;
use crate::context::Context;
use crate::error::RetryClass;
use crate::primitive::Payload;
use crate::sink::{Guarantee, Staging, WriteStatus};
use crate::testing::conformance::compare::{nothing_else, same, same_or_more_often};
use crate::testing::conformance::examiner::{Finding, Seen, failed};
use crate::testing::conformance::polls::{MAX_POLLS, polled};

pub(super) async fn writes_every_item(harness: &SinkHarness, seen: &Seen) -> Finding {
    let target = harness.target(seen).await?;
    let batches = [harness.batch(0, 5)?, harness.batch(5, 3)?, harness.batch(8, 1)?];
    target.write_all(&batches, seen).await?;
    let expected: Vec<_> = batches.iter().flat_map(|batch| harness.shown(batch)).collect();
    same(&target.found(seen).await?, &expected)?;
    Ok(None)
}

pub(super) async fn is_durable_after_a_flush(harness: &SinkHarness, seen: &Seen) -> Finding {
    let target = harness.target(seen).await?;
    let sink = target.open(seen).await?;
    let (first, second) = (harness.batch(0, 3)?, harness.batch(3, 2)?);
    let mut expected = harness.shown(&first);
    applied(&*sink, &first, seen).await?;
    if target.config.buffers() {
        flush(&*sink, seen).await?;
    }
    same(&target.found(seen).await?, &expected)?;
    applied(&*sink, &second, seen).await?;
    flush(&*sink, seen).await?;
    flush(&*sink, seen).await?;
    expected.extend(harness.shown(&second));
    same(&target.found(seen).await?, &expected)?;
    close(&*sink, seen).await?;
    same(&target.found(seen).await?, &expected)?;
    Ok(None)
}

pub(super) async fn writes_no_item_and_one_item(harness: &SinkHarness, seen: &Seen) -> Finding {
    let target = harness.target(seen).await?;
    target.write_all(&[], seen).await.map_err(|found| format!("nothing written: {found}"))?;
    target
        .write_all(&[harness.batch(0, 0)?], seen)
        .await
        .map_err(|found| format!("an empty batch: {found}"))?;
    same(&target.found(seen).await.unwrap_or_default(), &[])?;
    let one = harness.batch(0, 1)?;
    let expected = harness.shown(&one);
    target.write_all(&[one], seen).await.map_err(|found| format!("one item: {found}"))?;
    same(&target.found(seen).await?, &expected)?;
    Ok(None)
}

pub(super) async fn writes_more_than_its_optimum(harness: &SinkHarness, seen: &Seen) -> Finding {
    let target = harness.target(seen).await?;
    let optimum = target.config.optimum();
    let over = optimum.items.saturating_add(1);
    let batch = harness.batch(0, over.min(harness.most))?;
    let expected = harness.shown(&batch);
    target.write_all(&[batch], seen).await?;
    same(&target.found(seen).await?, &expected)?;
    Ok((over > harness.most).then_some("its optimum is above what the harness writes: `with_at_most`"))
}

pub(super) async fn writes_rows_and_items_alike(harness: &SinkHarness, seen: &Seen) -> Finding {
    let items = harness.batch(0, 4)?;
    let Ok(rows) = items.to_rows() else { return Ok(Some("its items are no rows of one schema")) };
    let expected = harness.shown(&items);
    let rows = items.without_tokens().with_rows((*rows).clone()).map_err(|error| error.to_string())?;
    for (layout, batch) in [("items", items), ("rows", rows)] {
        let target = harness.target(seen).await?;
        target.write_all(&[batch], seen).await.map_err(|found| format!("as {layout}: {found}"))?;
        same(&target.found(seen).await?, &expected).map_err(|found| format!("as {layout}: {found}"))?;
    }
    Ok(None)
}

pub(super) async fn keeps_its_guarantee_when_items_come_again(harness: &SinkHarness, seen: &Seen) -> Finding {
    let target = harness.target(seen).await?;
    let batch = harness.batch(0, 5)?;
    let expected = harness.shown(&batch);
    let sink = target.open(seen).await?;
    applied(&*sink, &batch, seen).await?;
    applied(&*sink, &batch, seen).await.map_err(|found| format!("again through the same sink: {found}"))?;
    close(&*sink, seen).await?;
    let part = batch.slice(1, 3);
    target.write_all(&[part], seen).await.map_err(|found| format!("again through a new sink: {found}"))?;
    let found = target.found(seen).await?;
    match target.config.guarantee() {
        Guarantee::Upsert => same(&found, &expected)?,
        Guarantee::Append => same_or_more_often(&found, &expected)?,
    }
    Ok(None)
}

pub(super) async fn replaces_what_came_again_in_a_newer_version(
    harness: &SinkHarness,
    seen: &Seen,
) -> Finding {
    let target = harness.target(seen).await?;
    if target.config.guarantee() != Guarantee::Upsert {
        return Ok(Some("it does not promise to upsert"));
    }
    let Some(newer) = &harness.newer else {
        return Ok(Some("the harness has no newer version of an item: `with_newer`"));
    };
    let before = harness.batch(0, 4)?;
    let after = batch((0..4).map(newer).collect(), 0)?;
    if harness.shown(&before) == harness.shown(&after) {
        return Err("the newer versions look like the old ones: `with_newer`".to_owned());
    }
    target.write_all(&[before], seen).await?;
    target.write_all(std::slice::from_ref(&after), seen).await?;
    same(&target.found(seen).await?, &harness.shown(&after))?;
    Ok(None)
}

pub(super) async fn rejects_single_items(harness: &SinkHarness, seen: &Seen) -> Finding {
    if harness.refused.is_empty() {
        return Ok(Some("the harness has no item that is refused: `refusing`"));
    }
    for (n, refused) in harness.refused.iter().enumerate() {
        let target = harness.target(seen).await?;
        let sink = target.open(seen).await?;
        let payloads = vec![(harness.item)(0), refused.clone(), (harness.item)(2)];
        let batch = batch(payloads, 0)?;
        let report = write(&*sink, &batch, seen).await?;
        match report.status(1) {
            WriteStatus::Rejected(error) if error.retry_class() == RetryClass::Permanent => {}
            status => return Err(format!("refused item {n} should be rejected for good, and is {status:?}")),
        }
        for neighbour in [0, 2] {
            if let Some(error) = error_of(report.status(neighbour)) {
                return Err(
                    seen.unexpected(&format!("the neighbour of refused item {n} is not written"), error)
                );
            }
        }
        close(&*sink, seen).await?;
        let good = batch.select(&[0, 2]);
        same(&target.found(seen).await?, &harness.shown(&good))?;
    }
    Ok(None)
}

pub(super) async fn keeps_extreme_values(harness: &SinkHarness, seen: &Seen) -> Finding {
    if harness.extremes.is_empty() {
        return Ok(Some("the harness has no extreme values: `with_extremes`"));
    }
    keeps(harness, &harness.extremes, seen).await
}

pub(super) async fn keeps_nulls(harness: &SinkHarness, seen: &Seen) -> Finding {
    if harness.nulls.is_empty() {
        return Ok(Some("the harness has no nulls: `with_nulls`"));
    }
    keeps(harness, &harness.nulls, seen).await
}

async fn keeps(harness: &SinkHarness, payloads: &[Payload], seen: &Seen) -> Finding {
    let target = harness.target(seen).await?;
    let batch = batch(payloads.to_vec(), 0)?;
    let expected = harness.shown(&batch);
    target.write_all(&[batch], seen).await?;
    same(&target.found(seen).await?, &expected)?;
    Ok(None)
}

pub(super) async fn writes_concurrently(harness: &SinkHarness, seen: &Seen) -> Finding {
    let target = harness.target(seen).await?;
    let writes = target.config.concurrency();
    if writes < 2 {
        return Ok(Some("it takes one write at a time"));
    }
    let sink = target.open(seen).await?;
    let first = |n: usize| (n * 3) as u64;
    let batches: Vec<Batch> =
        (0..writes.min(8)).map(|n| harness.batch(first(n), 3)).collect::<Result<_, _>>()?;
    let written = join_all(batches.iter().map(|batch| applied(&*sink, batch, seen))).await;
    written.into_iter().collect::<Result<(), _>>()?;
    close(&*sink, seen).await?;
    let expected: Vec<_> = batches.iter().flat_map(|batch| harness.shown(batch)).collect();
    same(&target.found(seen).await?, &expected)?;
    Ok(None)
}

pub(super) async fn can_be_dropped_at_any_poll(harness: &SinkHarness, seen: &Seen) -> Finding {
    let batch = harness.batch(0, 5)?;
    let expected = harness.shown(&batch);
    for polls in 1..=MAX_POLLS {
        let target = harness.target(seen).await?;
        let context = Context::detached();
        let whole = {
            let sink = target.open(seen).await?;
            let attempt = async {
                sink.write(&batch, &context).await?;
                sink.flush(&context).await
            };
            polled(attempt, polls).await.is_some()
        };
        let found = target.found(seen).await.unwrap_or_default();
        nothing_else(&found, &expected).map_err(|found| format!("dropped after {polls} polls: {found}"))?;
        target.write_all(std::slice::from_ref(&batch), seen).await?;
        let found = target.found(seen).await?;
        let again = match target.config.guarantee() {
            Guarantee::Upsert => same(&found, &expected),
            Guarantee::Append => same_or_more_often(&found, &expected),
        };
        again.map_err(|found| format!("dropped after {polls} polls, then written again: {found}"))?;
        if whole {
            break;
        }
    }
    Ok(None)
}

pub(super) async fn can_be_dropped_without_closing(harness: &SinkHarness, seen: &Seen) -> Finding {
    let target = harness.target(seen).await?;
    let batch = harness.batch(0, 5)?;
    let expected = harness.shown(&batch);
    let sink = target.open(seen).await?;
    applied(&*sink, &batch, seen).await?;
    drop(sink);
    nothing_else(&target.found(seen).await.unwrap_or_default(), &expected)?;
    target.write_all(std::slice::from_ref(&batch), seen).await?;
    same_or_more_often(&target.found(seen).await?, &expected)?;
    Ok(None)
}

pub(super) async fn closes_twice(harness: &SinkHarness, seen: &Seen) -> Finding {
    let target = harness.target(seen).await?;
    let sink = target.open(seen).await?;
    let batch = harness.batch(0, 2)?;
    applied(&*sink, &batch, seen).await?;
    close(&*sink, seen).await?;
    close(&*sink, seen).await.map_err(|found| format!("the second time: {found}"))?;
    same(&target.found(seen).await?, &harness.shown(&batch))?;
    Ok(None)
}

pub(super) async fn takes_every_kind_that_it_declares(harness: &SinkHarness, seen: &Seen) -> Finding {
    let target = harness.target(seen).await?;
    let declared = target.config.input_kinds();
    let payloads = harness.extremes.iter().chain(&harness.nulls).cloned().chain([(harness.item)(0)]);
    let kinds: HashSet<_> = payloads.map(|payload| payload.kind()).collect();
    match kinds.into_iter().find(|kind| !declared.contains(*kind)) {
        Some(kind) => Err(format!("it declares {declared}, and the harness has items of kind {kind}")),
        None => Ok(None),
    }
}

pub(super) async fn fails_with_the_right_kind(harness: &SinkHarness, seen: &Seen) -> Finding {
    for failing in &harness.failing {
        let context = Context::detached();
        let one = harness.batch(0, 1)?;
        let attempt = async {
            let target = (failing.open)().await?;
            let sink = target.config.open(context.clone(), &target.client, Staging::Off).await?;
            let report = sink.write(&one, &context).await?;
            if let Some(error) = error_of(report.status(0)) {
                return Err(error.clone());
            }
            sink.close(&context).await
        };
        failed(seen, &failing.what, failing.kind, attempt.await)?;
    }
    Ok(harness.failing.is_empty().then_some("the harness has nothing that fails: `failing`"))
}
