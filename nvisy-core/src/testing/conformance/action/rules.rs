//! The rules of an action.

use std::collections::HashSet;

use super::applying::{Became, applied, apply, batch, piped};
use super::{ActionHarness, Expected};
use crate::action::Action;
use crate::batch::Batch;
use crate::context::Context;
use crate::error::ErrorKind;
use crate::primitive::raw::Raw;
use crate::primitive::{Kind, KindId, Kinds, Payload};
use crate::testing::conformance::examiner::{Finding, Seen, failed};
use crate::testing::conformance::polls::{MAX_POLLS, polled};

/// Why rules about single inputs say nothing about a pipe.
const PIPE: &str = "it is a pipe: all that comes out belongs to all that went in";

async fn is_pipe(harness: &ActionHarness, seen: &Seen) -> Result<bool, String> {
    Ok(matches!(harness.built(seen).await?, Action::Pipe(_)))
}

pub(super) async fn gives_one_outcome_an_input(harness: &ActionHarness, seen: &Seen) -> Finding {
    if is_pipe(harness, seen).await? {
        return Ok(Some(PIPE));
    }
    harness.became(&harness.batch()?, seen).await?;
    Ok(None)
}

pub(super) async fn makes_what_is_expected(harness: &ActionHarness, seen: &Seen) -> Finding {
    let batch = harness.batch()?;
    let action = harness.built(seen).await?;
    let epoch = piped(&action, vec![batch.without_tokens()], &Context::detached()).await;
    if let Some(items) = epoch.map_err(|error| seen.unexpected("it does not apply", &error))? {
        let found: Vec<_> = items.iter().map(|item| harness.shown(item)).collect();
        let expected = harness.expected.iter().flat_map(|expected| match expected {
            Expected::Emit(items) => items.clone(),
            _ => Vec::new(),
        });
        let expected: Vec<_> = expected.collect();
        if found != expected && !harness.expected.contains(&Expected::Anything) {
            return Err(format!("expected {expected:?}, found {found:?}"));
        }
        return Ok(None);
    }
    for (index, (became, expected)) in
        harness.became(&batch, seen).await?.iter().zip(&harness.expected).enumerate()
    {
        let fits = match (expected, became) {
            (Expected::Anything, _) | (Expected::Drop, Became::Dropped) => true,
            (Expected::Emit(expected), Became::Items(items)) => {
                items.iter().map(|(_, value)| value).eq(expected)
            }
            (Expected::Emit(expected), Became::Dropped) => expected.is_empty(),
            (Expected::Fail(kind), Became::Failed(error)) => kind == error,
            _ => false,
        };
        if !fits {
            return Err(format!("input {index}: expected {expected:?}, found {became:?}"));
        }
    }
    Ok(None)
}

pub(super) async fn makes_the_same_again(harness: &ActionHarness, seen: &Seen) -> Finding {
    if is_pipe(harness, seen).await? {
        return Ok(Some(PIPE));
    }
    let batch = harness.batch()?;
    let (first, second) = (harness.became(&batch, seen).await?, harness.became(&batch, seen).await?);
    differ(&first, &second, "the first time", "the second time")
}

pub(super) async fn gives_ids_that_do_not_depend_on_the_node(
    harness: &ActionHarness,
    seen: &Seen,
) -> Finding {
    if is_pipe(harness, seen).await? {
        return Ok(Some(PIPE));
    }
    let batch = harness.batch()?;
    let mut both = Vec::new();
    for (graph, node) in [("first", "one"), ("second", "two")] {
        let context = Context::new(graph, node, "apply");
        let built = harness.opened(seen).await?.build(&context).await;
        let action = built.map_err(|error| seen.unexpected("it is not built", &error))?;
        let outcomes = applied(&action, &batch, &context, seen).await?;
        both.push(harness.by_input(batch.len(), &outcomes));
    }
    differ(&both[0], &both[1], "as node \"one\"", "as node \"two\"")
}

fn differ(first: &[Became], second: &[Became], here: &str, there: &str) -> Finding {
    match first.iter().zip(second).enumerate().find(|(_, (a, b))| a != b) {
        Some((index, (a, b))) => Err(format!("input {index} became {a:?} {here}, and {b:?} {there}")),
        None => Ok(None),
    }
}

pub(super) async fn gives_every_item_its_own_id(harness: &ActionHarness, seen: &Seen) -> Finding {
    let batch = harness.batch()?;
    let action = harness.built(seen).await?;
    let epoch = piped(&action, vec![batch.without_tokens()], &Context::detached()).await;
    let items = match epoch.map_err(|error| seen.unexpected("it does not apply", &error))? {
        Some(items) => items,
        None => applied(&action, &batch, &Context::detached(), seen).await?.emitted.into_primitives(),
    };
    let mut ids = HashSet::new();
    match items.iter().find(|item| !ids.insert(item.id())) {
        Some(item) => Err(format!("two items have the id {}; one is {}", item.id(), harness.shown(item))),
        None => Ok(None),
    }
}

pub(super) async fn writes_the_lineage(harness: &ActionHarness, seen: &Seen) -> Finding {
    if is_pipe(harness, seen).await? {
        return Ok(Some(PIPE));
    }
    let batch = harness.batch()?;
    let context = Context::new("conformance", "the node", "apply");
    let built = harness.opened(seen).await?.build(&context).await;
    let action = built.map_err(|error| seen.unexpected("it is not built", &error))?;
    let outcomes = applied(&action, &batch, &context, seen).await?;
    for (index, item) in outcomes.emitted.iter().enumerate() {
        let input = batch.primitive(outcomes.attribution.of(index) as usize);
        let root = input.root();
        if !item.lineage().roots().iter().any(|found| Some(found) == root.as_ref()) {
            return Err(format!("item {} does not lead back to its input {}", item.id(), input.id()));
        }
        let records = item.lineage().records();
        if records.last().is_none_or(|record| &*record.node != "the node") {
            return Err(format!("the last record of item {} does not name the node", item.id()));
        }
        let edited = records.last().is_some_and(|record| record.inputs == crate::lineage::Inputs::Same);
        if edited != (item.id() == input.id()) {
            let what =
                if edited { "an edit, and its id is another" } else { "derived, and has its input's id" };
            return Err(format!("by its lineage item {} is {what}", item.id()));
        }
    }
    Ok(None)
}

pub(super) async fn gives_the_kinds_that_it_declares(harness: &ActionHarness, seen: &Seen) -> Finding {
    let batch = harness.batch()?;
    let open = harness.opened(seen).await?;
    let taken = open.config.input_kinds();
    let given: Kinds = batch.kinds().iter().filter(|kind| taken.contains(*kind)).collect();
    let declared = open.config.output_kinds(given);
    let action = harness.built(seen).await?;
    let epoch = piped(&action, vec![batch.without_tokens()], &Context::detached()).await;
    let kinds: Kinds = match epoch.map_err(|error| seen.unexpected("it does not apply", &error))? {
        Some(items) => items.iter().map(crate::primitive::Primitive::kind).collect(),
        None => applied(&action, &batch, &Context::detached(), seen).await?.emitted.kinds(),
    };
    if declared.contains_all(kinds) {
        Ok(None)
    } else {
        Err(format!("it declares {declared} and gives {kinds}"))
    }
}

pub(super) async fn treats_every_item_alone(harness: &ActionHarness, seen: &Seen) -> Finding {
    if is_pipe(harness, seen).await? {
        return Ok(Some(PIPE));
    }
    if harness.remembers || matches!(harness.built(seen).await?, Action::Stateful(_)) {
        return Ok(Some("what becomes of an item depends on those before it"));
    }
    let batch = harness.batch()?;
    let together = harness.became(&batch, seen).await?;
    let mut alone = Vec::with_capacity(batch.len());
    for index in 0..batch.len() {
        alone.extend(harness.became(&batch.slice(index, 1), seen).await?);
    }
    differ(&together, &alone, "among the others", "alone")?;
    let backwards: Vec<u32> = (0..batch.len() as u32).rev().collect();
    let mut reversed = harness.became(&batch.select(&backwards), seen).await?;
    reversed.reverse();
    differ(&together, &reversed, "in order", "in reverse")
}

pub(super) async fn treats_rows_and_items_alike(harness: &ActionHarness, seen: &Seen) -> Finding {
    let items = harness.batch()?;
    let Ok(rows) = items.to_rows() else { return Ok(Some("its inputs are no rows of one schema")) };
    if is_pipe(harness, seen).await? {
        return Ok(Some(PIPE));
    }
    let rows = items.without_tokens().with_rows((*rows).clone()).map_err(|error| error.to_string())?;
    differ(&harness.became(&items, seen).await?, &harness.became(&rows, seen).await?, "as items", "as rows")
}

pub(super) async fn takes_no_item(harness: &ActionHarness, seen: &Seen) -> Finding {
    let action = harness.built(seen).await?;
    let context = Context::detached();
    for batches in [vec![], vec![Batch::empty()]] {
        piped(&action, batches, &context).await.map_err(|error| seen.unexpected("nothing", &error))?;
    }
    if let Action::Pipe(_) = action {
        return Ok(None);
    }
    let nothing = applied(&action, &Batch::empty(), &context, seen).await?;
    if nothing.emitted.is_empty() { Ok(None) } else { Err("it made something of nothing".to_owned()) }
}

pub(super) async fn takes_more_than_its_optimum(harness: &ActionHarness, seen: &Seen) -> Finding {
    const MOST: usize = 20_000;
    let Some(optimum) = harness.opened(seen).await?.config.optimum() else {
        return Ok(Some("it has no optimum"));
    };
    if harness.inputs.is_empty() || optimum.items >= MOST || is_pipe(harness, seen).await? {
        return Ok(Some("there is no input, its optimum is huge, or it is a pipe"));
    }
    let many = batch(harness.inputs.iter().cycle().take(optimum.items + 1).cloned().collect())?;
    let became = harness.became(&many, seen).await?;
    if became.len() == many.len() { Ok(None) } else { Err(format!("{} of {}", became.len(), many.len())) }
}

pub(super) async fn fails_items_of_another_kind_alone(harness: &ActionHarness, seen: &Seen) -> Finding {
    let taken = harness.opened(seen).await?.config.input_kinds();
    if is_pipe(harness, seen).await? {
        return Ok(Some(PIPE));
    }
    let Some(other) = stranger(taken) else { return Ok(Some("it takes every kind")) };
    let alone = harness.became(&harness.batch()?, seen).await?;
    let mut payloads = harness.inputs.clone();
    payloads.push(other);
    let mut among = harness.became(&batch(payloads)?, seen).await?;
    match among.pop() {
        Some(Became::Failed(ErrorKind::Validation)) => {}
        became => return Err(format!("an item of another kind should fail, and became {became:?}")),
    }
    differ(&alone, &among, "among its own kind", "beside an item of another")
}

/// Returns a payload of a kind that is not taken.
fn stranger(taken: Kinds) -> Option<Payload> {
    if !taken.contains(KindId::Raw) {
        return Some(Raw::Json("a stranger".into()).into_payload());
    }
    let document = crate::primitive::document::Document::new("a stranger").ok()?;
    (!taken.contains(KindId::Document)).then(|| document.into_payload())
}

pub(super) async fn can_be_dropped_at_any_poll(harness: &ActionHarness, seen: &Seen) -> Finding {
    if is_pipe(harness, seen).await? {
        return Ok(Some(PIPE));
    }
    let batch = harness.batch()?;
    let expected = harness.became(&batch, seen).await?;
    for polls in 1..=MAX_POLLS {
        let action = harness.built(seen).await?;
        let context = Context::detached();
        let whole = polled(apply(&action, batch.without_tokens(), &context), polls).await.is_some();
        // The same action goes on after a call was dropped, but for one that remembers: that
        // is made anew.
        let again = match &action {
            Action::Stateful(_) => harness.became(&batch, seen).await?,
            _ => harness.by_input(batch.len(), &applied(&action, &batch, &context, seen).await?),
        };
        differ(&expected, &again, "undisturbed", &format!("after a call was dropped at poll {polls}"))?;
        if whole {
            break;
        }
    }
    Ok(None)
}

pub(super) async fn fails_with_the_right_kind(harness: &ActionHarness, seen: &Seen) -> Finding {
    for failing in &harness.failing {
        let context = Context::detached();
        let batch = harness.batch()?;
        let attempt = async {
            let action = (failing.open)().await?.build(&context).await?;
            if let Some(items) = piped(&action, vec![batch.without_tokens()], &context).await? {
                return Ok(items.len());
            }
            let outcomes = apply(&action, batch.without_tokens(), &context).await?;
            match outcomes.failed.into_iter().next() {
                Some((_, error)) => Err(error),
                None => Ok(outcomes.emitted.len()),
            }
        };
        failed(seen, &failing.what, failing.kind, attempt.await)?;
    }
    Ok(harness.failing.is_empty().then_some("the harness has nothing that fails: `failing`"))
}
