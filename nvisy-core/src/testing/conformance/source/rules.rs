//! The rules of a source.

use std::collections::HashSet;

use futures::StreamExt;

use super::reading::{Reading, some};
use super::{OpenSource, SourceHarness};
use crate::batch::BatchLimits;
use crate::context::Context;
use crate::error::{Result, RetryClass};
use crate::position::Position;
use crate::source::Increments;
use crate::testing::conformance::compare::same;
use crate::testing::conformance::examiner::{Finding, Seen, failed};
use crate::testing::conformance::polls::{MAX_POLLS, polled};

/// So small that a handful of items makes several batches.
const SMALL: BatchLimits = BatchLimits::items(3);

pub(super) async fn reads_every_item_once(harness: &SourceHarness, seen: &Seen) -> Finding {
    let open = harness.opened(seen).await?;
    for limits in [BatchLimits::default(), SMALL] {
        same(&values(harness, &open, limits, seen).await?, &harness.expected)?;
    }
    Ok(None)
}

async fn values(
    harness: &SourceHarness,
    open: &OpenSource,
    limits: BatchLimits,
    seen: &Seen,
) -> Result<Vec<serde_json::Value>, String> {
    let all =
        harness.read_all(open, limits).await.map_err(|error| seen.unexpected("it does not read", &error))?;
    Ok(all.iter().flat_map(|(_, reading)| reading.values()).collect())
}

async fn all(harness: &SourceHarness, limits: BatchLimits, seen: &Seen) -> Result<Vec<Reading>, String> {
    let open = harness.opened(seen).await?;
    let all =
        harness.read_all(&open, limits).await.map_err(|error| seen.unexpected("it does not read", &error))?;
    Ok(all.into_iter().map(|(_, reading)| reading).collect())
}

pub(super) async fn reads_the_same_again(harness: &SourceHarness, seen: &Seen) -> Finding {
    let (first, second) = (all(harness, SMALL, seen).await?, all(harness, SMALL, seen).await?);
    let other_size = all(harness, BatchLimits::items(5), seen).await?;
    for again in [&second, &other_size] {
        for (partition, (one, two)) in first.iter().zip(again).enumerate() {
            let both = one.items.iter().zip(&two.items).enumerate();
            let changed =
                both.filter(|(_, (a, b))| (a.id, &a.position, &a.value) != (b.id, &b.position, &b.value));
            if let Some((index, (a, b))) = changed.into_iter().next() {
                return Err(format!("item {index} of partition {partition} was {a:?}, then {b:?}"));
            }
            if one.items.len() != two.items.len() {
                let (a, b) = (one.items.len(), two.items.len());
                return Err(format!("partition {partition} had {a} items, then {b}"));
            }
            let positions =
                |reading: &Reading| reading.rejected.iter().map(|(p, _)| p.clone()).collect::<Vec<_>>();
            if positions(one) != positions(two) {
                return Err(format!("partition {partition} rejected other records the second time"));
            }
        }
    }
    Ok(None)
}

pub(super) async fn gives_every_item_its_own_id(harness: &SourceHarness, seen: &Seen) -> Finding {
    let mut ids = HashSet::new();
    for reading in all(harness, SMALL, seen).await? {
        for item in &reading.items {
            if !ids.insert(item.id) {
                return Err(format!("two items have the id {}; one is {}", item.id, item.value));
            }
            if item.position.is_none() {
                return Err(format!("the lineage of item {} does not begin with its position", item.id));
            }
        }
        let places = reading
            .items
            .iter()
            .flat_map(|item| &item.position)
            .chain(reading.rejected.iter().map(|(p, _)| p));
        let places: Vec<String> = places.map(|position| format!("{position:?}")).collect();
        let mut distinct = HashSet::new();
        if let Some(twice) = places.iter().find(|place| !distinct.insert(*place)) {
            return Err(format!("two records of one partition have the position {twice}"));
        }
    }
    Ok(None)
}

pub(super) async fn gives_ids_that_do_not_depend_on_the_node(
    harness: &SourceHarness,
    seen: &Seen,
) -> Finding {
    let open = harness.opened(seen).await?;
    let partitions =
        open.partitions().await.map_err(|error| seen.unexpected("it lists no partitions", &error))?;
    for partition in partitions {
        let mut both = Vec::new();
        for (graph, node) in [("first", "one"), ("second", "two")] {
            let mut stream = open.stream(&partition, None, SMALL, Context::new(graph, node, "read"));
            let mut ids = Vec::new();
            while let Some(read) = stream.next().await {
                let read = read.map_err(|error| seen.unexpected("it does not read", &error))?;
                let named = read.batch.iter().find(|item| item.root().is_none_or(|root| &*root.node != node));
                if let Some(item) = named {
                    return Err(format!("the lineage of item {} does not name the node {node}", item.id()));
                }
                ids.extend(read.batch.ids());
            }
            both.push(ids);
        }
        if both[0] != both[1] {
            return Err(format!("under another node partition \"{}\" has other ids", partition.id));
        }
    }
    Ok(None)
}

pub(super) async fn gives_the_kinds_that_it_declares(harness: &SourceHarness, seen: &Seen) -> Finding {
    let open = harness.opened(seen).await?;
    let declared = open.source.output_kinds();
    let partitions =
        open.partitions().await.map_err(|error| seen.unexpected("it lists no partitions", &error))?;
    for partition in partitions {
        let mut stream = open.stream(&partition, None, BatchLimits::default(), Context::detached());
        while let Some(read) = stream.next().await {
            let read = read.map_err(|error| seen.unexpected("it does not read", &error))?;
            let kinds = read.batch.kinds();
            if !read.batch.is_empty() && !declared.contains_all(kinds) {
                return Err(format!("it declares {declared} and gives {kinds}"));
            }
        }
    }
    Ok(None)
}

pub(super) async fn has_stable_partitions(harness: &SourceHarness, seen: &Seen) -> Finding {
    let mut both = Vec::new();
    for _ in 0..2 {
        let open = harness.opened(seen).await?;
        both.push(
            open.partitions().await.map_err(|error| seen.unexpected("it lists no partitions", &error))?,
        );
    }
    let ids = |n: usize| both[n].iter().map(|partition| partition.id.clone()).collect::<Vec<_>>();
    let distinct: HashSet<_> = ids(0).into_iter().collect();
    match () {
        () if ids(0) != ids(1) => Err(format!("the partitions were {:?}, then {:?}", ids(0), ids(1))),
        () if distinct.len() != both[0].len() => Err(format!("two partitions have one name: {:?}", ids(0))),
        () if ids(0).is_empty() && !harness.expected.is_empty() => Err("there is no partition".to_owned()),
        () => Ok(None),
    }
}

pub(super) async fn has_versions_of_objects(harness: &SourceHarness, seen: &Seen) -> Finding {
    let open = harness.opened(seen).await?;
    if open.source.increments() != Ok(Increments::Versions) {
        return Ok(Some("it does not tell what has changed by versions"));
    }
    let context = || Context::detached().in_generation(1);
    let list = async || {
        let listed = open.source.partitions(context(), &open.client).await;
        listed.map_err(|error| seen.unexpected("it lists no partitions", &error))
    };
    let (before, after) = (list().await?, list().await?);
    let mut doubtful = Vec::new();
    for (one, two) in before.iter().zip(&after) {
        let Some(version) = &one.version else {
            return Err(format!("partition \"{}\" has no version", one.id));
        };
        if one.version != two.version {
            doubtful.push((two.clone(), version.clone()));
        }
    }
    let same = open.source.unchanged(&doubtful, context(), &open.client).await;
    let same = same.map_err(|error| seen.unexpected("it does not say what is unchanged", &error))?;
    if let Some(((partition, _), _)) = doubtful.iter().zip(same).find(|(_, same)| !same) {
        return Err(format!("partition \"{}\" is another version the second time", partition.id));
    }
    for partition in before {
        let mut stream = open.stream(&partition, None, BatchLimits::default(), context());
        while let Some(read) = stream.next().await {
            let read = read.map_err(|error| seen.unexpected("it does not read", &error))?;
            for item in read.batch.iter() {
                let position = item.root().map(|root| root.position);
                if !matches!(&position, Some(Position::Marker { object, .. }) if *object == partition.id) {
                    return Err(format!(
                        "item {} has no position in the object \"{}\"",
                        item.id(),
                        partition.id
                    ));
                }
            }
        }
    }
    Ok(None)
}

pub(super) async fn has_positions_that_read_back(harness: &SourceHarness, seen: &Seen) -> Finding {
    for reading in all(harness, SMALL, seen).await? {
        let afters = reading.batches.iter().map(|batch| &batch.after);
        for position in reading.items.iter().flat_map(|item| &item.position).chain(afters) {
            let json = serde_json::to_string(position).map_err(|error| error.to_string())?;
            let bytes = postcard::to_allocvec(position).map_err(|error| error.to_string())?;
            let from_json = serde_json::from_str::<Position>(&json).ok();
            let from_bytes = postcard::from_bytes::<Position>(&bytes).ok();
            if from_json.as_ref() != Some(position) || from_bytes.as_ref() != Some(position) {
                return Err(format!("the position {position:?} does not read back from {json}"));
            }
        }
    }
    Ok(None)
}

pub(super) async fn resumes_after_every_item(harness: &SourceHarness, seen: &Seen) -> Finding {
    let open = harness.opened(seen).await?;
    let all =
        harness.read_all(&open, SMALL).await.map_err(|error| seen.unexpected("it does not read", &error))?;
    for (partition, whole) in &all {
        for index in some(whole.items.len()) {
            let item = &whole.items[index];
            let Some(position) = item.position.clone() else { continue };
            let rest = harness
                .read(&open, partition, Some(position.clone()), SMALL)
                .await
                .map_err(|error| seen.unexpected(&format!("it does not read after {position:?}"), &error))?;
            continues(whole, &rest, index + 1, &position)?;
            let due: Vec<_> = whole.rejected.iter().filter(|(_, batch)| *batch > item.batch).collect();
            if let Some((missing, _)) =
                due.into_iter().find(|(p, _)| !rest.rejected.iter().any(|(r, _)| r == p))
            {
                return Err(format!("after {position:?} the rejected record at {missing:?} is missing"));
            }
        }
    }
    Ok(None)
}

pub(super) async fn resumes_after_every_batch(harness: &SourceHarness, seen: &Seen) -> Finding {
    let open = harness.opened(seen).await?;
    let all =
        harness.read_all(&open, SMALL).await.map_err(|error| seen.unexpected("it does not read", &error))?;
    for (partition, whole) in &all {
        for index in some(whole.batches.len()) {
            let cut = &whole.batches[index];
            let rest =
                harness.read(&open, partition, Some(cut.after.clone()), SMALL).await.map_err(|error| {
                    seen.unexpected(&format!("it does not read after {:?}", cut.after), &error)
                })?;
            continues(whole, &rest, cut.items, &cut.after)?;
            let due = whole.rejected.iter().filter(|(_, batch)| *batch > index).map(|(p, _)| p);
            if !due.eq(rest.rejected.iter().map(|(p, _)| p)) {
                return Err(format!("after {:?} it rejects other records than before", cut.after));
            }
        }
    }
    Ok(None)
}

fn continues(whole: &Reading, rest: &Reading, from: usize, after: &Position) -> Result<(), String> {
    let expected = whole.ids().split_off(from);
    if rest.ids() == expected {
        return Ok(());
    }
    let (have, want) = (rest.items.len(), expected.len());
    let first = |n: usize| whole.items.get(n).map_or("the end".to_owned(), |item| item.value.to_string());
    let found = rest.items.first().map_or("the end".to_owned(), |item| item.value.to_string());
    Err(format!(
        "after {after:?} there are {have} items and not {want}; the next is {found} and not {}",
        first(from)
    ))
}

pub(super) async fn is_lazy(harness: &SourceHarness, seen: &Seen) -> Finding {
    let Some(requests) = &harness.requests else {
        return Ok(Some("the harness counts no requests: `counting`"));
    };
    let open = harness.opened(seen).await?;
    let partitions =
        open.partitions().await.map_err(|error| seen.unexpected("it lists no partitions", &error))?;
    let Some(partition) = partitions.first() else { return Ok(Some("there is no partition")) };
    let one = BatchLimits::items(1);
    let before = requests();
    harness
        .read(&open, partition, None, one)
        .await
        .map_err(|error| seen.unexpected("it does not read", &error))?;
    let whole = requests() - before;
    if whole == 0 {
        return Err("a full read made no request: `counting` counts something else".to_owned());
    }
    let before = requests();
    let mut stream = open.stream(partition, None, one, Context::detached());
    // Whoever runs ahead by itself gets the chance.
    crate::testing::yields::yields(16).await;
    if requests() != before {
        return Err(format!("{} requests before the first poll", requests() - before));
    }
    let _ = stream.next().await;
    crate::testing::yields::yields(16).await;
    let first = requests() - before;
    drop(stream);
    if whole > 3 && first >= whole {
        return Err(format!("the first batch took {first} requests, and all of them take {whole}"));
    }
    Ok(None)
}

pub(super) async fn keeps_batches_within_limits(harness: &SourceHarness, seen: &Seen) -> Finding {
    let mut largest = 0;
    for items in [1, 2, 7] {
        let readings = all(harness, BatchLimits::items(items), seen).await?;
        for cut in readings.iter().flat_map(|reading| &reading.batches) {
            largest = largest.max(cut.bytes);
            if cut.len > items {
                return Err(format!("a batch of {} items where {items} are the limit", cut.len));
            }
        }
    }
    // What a batch holds in memory is an estimate: twice the limit is still well meant.
    let bytes = (largest / 2).max(1);
    for cut in
        all(harness, BatchLimits::default().with_bytes(bytes), seen).await?.iter().flat_map(|r| &r.batches)
    {
        if cut.len > 1 && cut.bytes > bytes.saturating_mul(2).saturating_add(1_024) {
            return Err(format!(
                "a batch of {} bytes in {} items where {bytes} are the limit",
                cut.bytes, cut.len
            ));
        }
    }
    Ok(None)
}

pub(super) async fn rejects_single_records(harness: &SourceHarness, seen: &Seen) -> Finding {
    let open = harness.opened(seen).await?;
    let partitions =
        open.partitions().await.map_err(|error| seen.unexpected("it lists no partitions", &error))?;
    let mut rejected = Vec::new();
    for partition in partitions {
        let mut stream = open.stream(&partition, None, SMALL, Context::detached());
        while let Some(read) = stream.next().await {
            rejected.extend(read.map_err(|error| seen.unexpected("it does not read", &error))?.rejected);
        }
    }
    if rejected.len() != harness.rejected {
        let (have, want) = (rejected.len(), harness.rejected);
        return Err(format!("it rejected {have} records where {want} cannot be read"));
    }
    for record in &rejected {
        let error = &record.error;
        seen.error(error);
        if error.retry_class() != RetryClass::Permanent {
            return Err(format!(
                "a record that cannot be read stays so, but its error is transient: {error:?}"
            ));
        }
        if error.context().item.is_none() || record.primitive.root().is_none() {
            return Err(format!("a rejected record does not say where it stands: {error:?}"));
        }
    }
    Ok((harness.rejected == 0).then_some("the harness has no record that cannot be read: `rejecting`"))
}

pub(super) async fn can_be_dropped_at_any_poll(harness: &SourceHarness, seen: &Seen) -> Finding {
    for polls in 1..=MAX_POLLS {
        let open = harness.opened(seen).await?;
        let Some(listed) = polled(open.partitions(), polls).await else { continue };
        let partitions = listed.map_err(|error| seen.unexpected("it lists no partitions", &error))?;
        let mut whole = true;
        for partition in &partitions {
            let mut stream = open.stream(partition, None, BatchLimits::items(1), Context::detached());
            let drained = async { while stream.next().await.is_some() {} };
            whole &= polled(drained, polls).await.is_some();
            drop(stream);
        }
        let found = values(harness, &open, SMALL, seen).await?;
        same(&found, &harness.expected)
            .map_err(|found| format!("dropped after {polls} polls, then: {found}"))?;
        if whole {
            break;
        }
    }
    // Between two batches it can be dropped too.
    let open = harness.opened(seen).await?;
    let partitions =
        open.partitions().await.map_err(|error| seen.unexpected("it lists no partitions", &error))?;
    for taken in 1..4 {
        for partition in &partitions {
            let stream = open.stream(partition, None, BatchLimits::items(1), Context::detached());
            stream.take(taken).for_each(|_| async {}).await;
        }
        let found = values(harness, &open, SMALL, seen).await?;
        same(&found, &harness.expected)
            .map_err(|found| format!("dropped after {taken} batches, then: {found}"))?;
    }
    Ok(None)
}

pub(super) async fn reads_no_item_and_one_item(harness: &SourceHarness, seen: &Seen) -> Finding {
    if let Some(empty) = &harness.empty {
        let open = empty().await.map_err(|error| seen.unexpected("an empty one does not open", &error))?;
        let found =
            values(harness, &open, SMALL, seen).await.map_err(|found| format!("an empty one: {found}"))?;
        same(&found, &[]).map_err(|found| format!("an empty one: {found}"))?;
    }
    if let Some((single, expected)) = &harness.single {
        let open =
            single().await.map_err(|error| seen.unexpected("one of one item does not open", &error))?;
        let found =
            values(harness, &open, SMALL, seen).await.map_err(|found| format!("one item: {found}"))?;
        same(&found, std::slice::from_ref(expected)).map_err(|found| format!("one item: {found}"))?;
    }
    let both = harness.empty.is_some() && harness.single.is_some();
    Ok((!both).then_some("the harness has no empty source, or none of one item: `with_empty`, `with_single`"))
}

pub(super) async fn fails_with_the_right_kind(harness: &SourceHarness, seen: &Seen) -> Finding {
    for failing in &harness.failing {
        let attempt = async {
            let open = (failing.open)().await?;
            harness.read_all(&open, SMALL).await.map(drop)
        };
        failed(seen, &failing.what, failing.kind, attempt.await)?;
    }
    Ok(harness.failing.is_empty().then_some("the harness has nothing that fails: `failing`"))
}
