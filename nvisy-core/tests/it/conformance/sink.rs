//! Sinks in memory keep the contract; broken ones are caught.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::{KindId, Kinds};
use nvisy_core::testing::conformance::{self, SINK_RULES, SinkHarness, Target, samples};
use nvisy_core::testing::memory::{MemorySink, MemoryStore, Mode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A harness over new memory stores, each under a name of its own.
fn memory(name: &'static str, config: impl Fn(MemorySink) -> MemorySink + 'static) -> SinkHarness {
    let fresh = AtomicU64::new(0);
    let rows =
        samples::rows(&(0..2_000).map(|n| json!({"id": n, "text": format!("row {n}")})).collect::<Vec<_>>());
    SinkHarness::new(
        move || {
            let name = format!("{name} {}", fresh.fetch_add(1, Ordering::Relaxed));
            let (sink, store) = (config(MemorySink::named(&name)), MemoryStore::named(&name));
            async move {
                Ok(Target::new(sink, NoClient, move || {
                    let found = store.plain();
                    async { Ok(found) }
                }))
            }
        },
        move |n| rows[n as usize].clone(),
    )
    .with_extremes(samples::documents())
    .with_nulls(samples::rows(&samples::objects_with_nulls()))
    .with_newer(|n| Raw::Json(json!({"id": n, "newer": true})).into_payload())
    .failing("a secret that is not set", ErrorKind::Authentication, || async {
        ConnectContext::detached().secret(&SecretRef::new("KEY"))?;
        Ok(Target::new(MemorySink::named("nowhere"), NoClient, || async { Ok(Vec::new()) }))
    })
    .with_secret("canary", [])
}

/// What is left out of a sink that neither stages, nor remembers, nor replaces.
const STAGING_RULES: [&str; 7] = [
    "hides_what_is_staged_until_it_is_published",
    "shows_what_a_checkpoint_has_when_it_opens",
    "forgets_what_no_checkpoint_has",
    "goes_on_behind_what_a_checkpoint_has",
    "goes_on_behind_what_was_shown",
    MEMORY_RULE,
    STALE,
];
/// What is left out of one that does not remember: `memory.rs` has one that does.
const MEMORY_RULE: &str = "adds_once_what_comes_again_in_a_run";

const STALE: &str = "deletes_just_what_is_stale_of_an_origin";

#[tokio::test(start_paused = true)]
async fn a_sink_in_memory_keeps_the_contract() {
    let refused = || [Raw::Json(1.into()).into_payload()];
    let upserts = memory("upserts", |sink| sink.with_concurrency(4).yielding(3));
    conformance::sink(&upserts)
        .await
        .assert_passed_except(&[&["rejects_single_items"][..], &STAGING_RULES].concat());
    let refuses = memory("refuses", |sink| sink.refusing(KindId::Raw).buffered().with_batches_of(7))
        .refusing(refused())
        .with_newer(|n| samples::rows(&[json!({"id": n, "newer": true})]).remove(0));
    conformance::sink(&refuses)
        .await
        .assert_passed_except(&[&["writes_concurrently"][..], &STAGING_RULES].concat());
    let appends = memory("appends", |sink| sink.with_mode(Mode::Append).with_concurrency(2));
    let skipped = ["rejects_single_items", "replaces_what_came_again_in_a_newer_version"];
    conformance::sink(&appends).await.assert_passed_except(&[&skipped[..], &STAGING_RULES].concat());
    let stages = memory("stages", |sink| sink.staging().with_concurrency(2));
    conformance::sink(&stages).await.assert_passed_except(&[&skipped[..], &[MEMORY_RULE, STALE]].concat());
}

/// What is wrong with a [`Broken`] sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Flaw {
    #[default]
    Nothing,
    LosesTheLastItem,
    ReportsOneTooFew,
    WritesOnlyWhenItIsClosed,
    ChokesOnNothing,
    RefusesTooMany,
    ReadsNoRows,
    WritesAgainWhatIsThere,
    KeepsTheOlderVersion,
    FailsTheWholeBatch,
    TakesWhatItShouldRefuse,
    RejectsForAWhile,
    CutsTexts,
    TakesNullForEmpty,
    WritesOneAtATime,
    LeavesHalfAnItem,
    LeavesALock,
    ClosesOnlyOnce,
    DeclaresOtherKinds,
    MistakesTheError,
    TellsTheSecret,
    ShowsWhatIsStaged,
    ShowsWhatIsClosed,
    PublishesTwice,
    ForgetsWhatIsStaged,
    KeepsWhatIsLeft,
    BeginsAnew,
    LooksForWhatWasShown,
    KeepsWhatIsStale,
    DeletesWhatCameAgain,
    DeletesOtherOrigins,
    TakesReplaysForStale,
}

/// Writes objects under their ids.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
struct Broken {
    flaw: Flaw,
}

/// The other system.
#[derive(Clone, Default)]
struct Table(
    Arc<Mutex<HashMap<String, Value>>>,
    Arc<AtomicBool>,
    bool,
    Arc<Mutex<Vec<Staged>>>,
    Arc<Mutex<HashMap<String, Kept>>>,
);

/// Where an item comes from, and in which generation it was written.
type Kept = (Option<Origin>, u64);

/// What is staged, and under which number.
type Staged = (u64, Vec<(String, Value)>);

impl Client for Table {
    const FAMILY: &'static str = "table";
}

struct Opened {
    flaw: Flaw,
    table: Table,
    held: Mutex<Vec<(String, Value)>>,
    writing: AtomicBool,
    closed: AtomicBool,
    staging: bool,
    last: AtomicU64,
}

impl SinkConfig for Broken {
    const NAME: &'static str = "test/broken";
    type Input = Any;
    type Client = Table;
    type Sink = Opened;

    fn input_kinds(&self) -> Kinds {
        if self.flaw == Flaw::DeclaresOtherKinds { Kinds::of(KindId::Image) } else { Kinds::ANY }
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::Upsert
    }

    fn optimum(&self) -> BatchLimits {
        BatchLimits::items(10)
    }

    fn concurrency(&self) -> usize {
        2
    }

    fn stages(&self) -> bool {
        true
    }

    fn replaces(&self) -> bool {
        true
    }

    async fn open(&self, context: &OpenContext<Table>) -> Result<Opened> {
        let table = (**context.client()).clone();
        if table.2 {
            let secret = if self.flaw == Flaw::TellsTheSecret { "canary" } else { "***" };
            let wrong = self.flaw == Flaw::MistakesTheError;
            let kind = if wrong { ErrorKind::Internal } else { ErrorKind::Authentication };
            return Err(Error::new(kind, format!("the password is wrong: {secret}")));
        }
        let (held, writing, closed) = Default::default();
        let staging = *context.staging() != Staging::Off;
        let last = match context.staging() {
            Staging::On(Some(staged)) | Staging::Shown(staged) => number(staged),
            _ => 0,
        };
        if self.flaw == Flaw::LooksForWhatWasShown && last > 0 && table.0.lock().unwrap().is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "what was shown is gone"));
        }
        let opened =
            Opened { flaw: self.flaw, table, held, writing, closed, staging, last: AtomicU64::new(last) };
        if staging {
            match self.flaw {
                Flaw::ForgetsWhatIsStaged => {}
                Flaw::KeepsWhatIsLeft => opened.show(u64::MAX),
                Flaw::BeginsAnew => {
                    opened.table.0.lock().unwrap().clear();
                    opened.show(last);
                }
                _ => opened.show(last),
            }
            opened.table.3.lock().unwrap().clear();
        }
        Ok(opened)
    }
}

fn number(staged: &bytes::Bytes) -> u64 {
    std::str::from_utf8(staged).unwrap().parse().unwrap()
}

impl Opened {
    /// Shows what was staged up to a number.
    fn show(&self, last: u64) {
        let mut staged = self.table.3.lock().unwrap();
        for (_, items) in staged.iter().filter(|(number, _)| *number <= last) {
            items.iter().for_each(|(id, value)| self.put(id.clone(), value.clone()));
        }
        if self.flaw != Flaw::PublishesTwice {
            staged.retain(|(number, _)| *number > last);
        }
    }

    /// Keeps where an item comes from, and in which generation it was written.
    fn note(&self, id: &str, from: Kept) {
        let mut origins = self.table.4.lock().unwrap();
        if self.flaw != Flaw::DeletesWhatCameAgain || !origins.contains_key(id) {
            origins.insert(id.to_owned(), from);
        }
    }

    fn value(&self, payload: &Payload) -> Value {
        let mut value = nvisy_core::testing::plain(payload);
        match (self.flaw, value["text"].as_str()) {
            (Flaw::CutsTexts, Some(text)) if text.chars().count() > 100 => {
                value["text"] = text.chars().take(100).collect::<String>().into();
            }
            (Flaw::TakesNullForEmpty, None) => value["text"] = "".into(),
            _ => {}
        }
        value
    }

    fn put(&self, id: String, value: Value) {
        let mut table = self.table.0.lock().unwrap();
        let key = match self.flaw {
            Flaw::WritesAgainWhatIsThere | Flaw::PublishesTwice => format!("{id} {}", table.len()),
            _ => id,
        };
        if self.flaw != Flaw::KeepsTheOlderVersion || !table.contains_key(&key) {
            table.insert(key, value);
        }
    }
}

impl Sink for Opened {
    async fn write(&self, batch: &Batch, context: &Context) -> Result<WriteReport> {
        let mut report = WriteReport::applied(batch.len());
        match self.flaw {
            Flaw::ChokesOnNothing if batch.is_empty() => return Err(Error::internal("there is nothing")),
            Flaw::RefusesTooMany if batch.len() > 10 => {
                return Err(Error::new(ErrorKind::TooLarge, "more than ten items"));
            }
            Flaw::ReadsNoRows if batch.as_rows().is_some() => return Ok(report),
            Flaw::WritesOneAtATime if self.writing.swap(true, Ordering::AcqRel) => {
                return Err(Error::new(ErrorKind::Conflict, "somebody else writes"));
            }
            Flaw::LeavesALock if self.table.1.swap(true, Ordering::AcqRel) => {
                return Err(Error::new(ErrorKind::Conflict, "the table is locked"));
            }
            Flaw::ReportsOneTooFew => report = WriteReport::applied(batch.len().saturating_sub(1)),
            _ => {}
        }
        for (index, item) in (0..).zip(batch.iter()) {
            let id = item.id().to_string();
            let generation = match self.flaw {
                Flaw::TakesReplaysForStale => context.generation().unwrap_or(0),
                _ => context.generation_or_now(),
            };
            let from = (Origin::of(batch, index as usize), generation);
            self.note(&id, from);
            let refused = item.kind() == KindId::Message;
            let value = if refused { Value::Null } else { self.value(item.payload()) };
            if self.flaw == Flaw::LeavesHalfAnItem {
                self.put(id.clone(), json!("half an item"));
            }
            tokio::task::yield_now().await;
            if refused {
                let error = |kind| Error::new(kind, "messages are not taken");
                match self.flaw {
                    Flaw::FailsTheWholeBatch => return Err(error(ErrorKind::Validation)),
                    Flaw::TakesWhatItShouldRefuse => {}
                    Flaw::RejectsForAWhile => {
                        report = report.with(index, WriteStatus::Retryable(error(ErrorKind::Timeout)));
                    }
                    _ => report = report.with(index, WriteStatus::Rejected(error(ErrorKind::Validation))),
                }
            } else if self.staging || self.flaw == Flaw::WritesOnlyWhenItIsClosed {
                self.held.lock().unwrap().push((id, value));
            } else if self.flaw != Flaw::LosesTheLastItem || index + 1 < batch.len() as u32 {
                self.put(id, value);
            }
        }
        self.writing.store(false, Ordering::Release);
        self.table.1.store(false, Ordering::Release);
        Ok(report)
    }

    async fn close(&self, _: &Context) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) && self.flaw == Flaw::ClosesOnlyOnce {
            return Err(Error::internal("it is closed"));
        }
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        if !self.staging || self.flaw == Flaw::ShowsWhatIsClosed {
            held.into_iter().for_each(|(id, value)| self.put(id, value));
        }
        Ok(())
    }

    async fn stage(&self, _: &Context) -> Result<Option<bytes::Bytes>> {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        let mut last = self.last.load(Ordering::Acquire);
        if !held.is_empty() {
            last += 1;
            self.last.store(last, Ordering::Release);
            self.table.3.lock().unwrap().push((last, held));
        }
        if self.flaw == Flaw::ShowsWhatIsStaged {
            self.show(last);
        }
        Ok((last > 0).then(|| last.to_string().into()))
    }

    async fn replace(&self, sets: &[ReplaceSet], _: &Context) -> Result<u64> {
        let mut origins = self.table.4.lock().unwrap();
        let before = origins.len();
        origins.retain(|id, (origin, generation)| {
            let mut stale = |set: &ReplaceSet| {
                let any = self.flaw == Flaw::DeletesOtherOrigins;
                (any || *origin == Some(set.origin)) && *generation < set.generation
            };
            let goes = self.flaw != Flaw::KeepsWhatIsStale && sets.iter().any(&mut stale);
            if goes {
                self.table.0.lock().unwrap().remove(id);
            }
            !goes
        });
        Ok((before - origins.len()) as u64)
    }

    async fn publish(&self, staged: &bytes::Bytes, _: &Context) -> Result<()> {
        self.show(number(staged));
        Ok(())
    }
}

fn harness(flaw: Flaw) -> SinkHarness {
    let target = move |locked| {
        let table = Table(Arc::default(), Arc::default(), locked, Arc::default(), Arc::default());
        let look = table.clone();
        Target::new(Broken { flaw }, table, move || {
            let found = look.0.lock().unwrap().values().cloned().collect();
            async { Ok(found) }
        })
    };
    let row = |n: u64, version: &str| {
        samples::rows(&[json!({"id": n, "text": format!("{version} {n}")})]).remove(0)
    };
    let message = nvisy_core::primitive::message::Message::try_from(
        nvisy_core::primitive::message::MessageFields::default(),
    );
    SinkHarness::new(move || async move { Ok(target(false)) }, move |n| row(n, "old"))
        .with_newer(move |n| row(n, "new"))
        .with_extremes(samples::documents())
        .with_nulls(samples::rows(&samples::objects_with_nulls()))
        .refusing([message.unwrap().into_payload()])
        .failing("a wrong password", ErrorKind::Authentication, move || async move { Ok(target(true)) })
        .with_secret("canary", [])
}

#[tokio::test(start_paused = true)]
async fn every_rule_of_a_sink_can_fail() {
    let cases = [
        (Flaw::LosesTheLastItem, "writes_every_item"),
        (Flaw::ReportsOneTooFew, "writes_every_item"),
        (Flaw::WritesOnlyWhenItIsClosed, "is_durable_after_a_flush"),
        (Flaw::ChokesOnNothing, "writes_no_item_and_one_item"),
        (Flaw::RefusesTooMany, "writes_more_than_its_optimum"),
        (Flaw::ReadsNoRows, "writes_rows_and_items_alike"),
        (Flaw::WritesAgainWhatIsThere, "keeps_its_guarantee_when_items_come_again"),
        (Flaw::KeepsTheOlderVersion, "replaces_what_came_again_in_a_newer_version"),
        (Flaw::FailsTheWholeBatch, "rejects_single_items"),
        (Flaw::TakesWhatItShouldRefuse, "rejects_single_items"),
        (Flaw::RejectsForAWhile, "rejects_single_items"),
        (Flaw::CutsTexts, "keeps_extreme_values"),
        (Flaw::TakesNullForEmpty, "keeps_nulls"),
        (Flaw::WritesOneAtATime, "writes_concurrently"),
        (Flaw::LeavesHalfAnItem, "can_be_dropped_at_any_poll"),
        (Flaw::LeavesALock, "can_be_dropped_at_any_poll"),
        (Flaw::WritesAgainWhatIsThere, "can_be_dropped_at_any_poll"),
        (Flaw::LosesTheLastItem, "can_be_dropped_without_closing"),
        (Flaw::ClosesOnlyOnce, "closes_twice"),
        (Flaw::ShowsWhatIsStaged, "hides_what_is_staged_until_it_is_published"),
        (Flaw::ShowsWhatIsClosed, "hides_what_is_staged_until_it_is_published"),
        (Flaw::PublishesTwice, "hides_what_is_staged_until_it_is_published"),
        (Flaw::ForgetsWhatIsStaged, "shows_what_a_checkpoint_has_when_it_opens"),
        (Flaw::KeepsWhatIsLeft, "forgets_what_no_checkpoint_has"),
        (Flaw::BeginsAnew, "goes_on_behind_what_a_checkpoint_has"),
        (Flaw::LooksForWhatWasShown, "goes_on_behind_what_was_shown"),
        (Flaw::KeepsWhatIsStale, STALE),
        (Flaw::DeletesWhatCameAgain, STALE),
        (Flaw::DeletesOtherOrigins, STALE),
        (Flaw::TakesReplaysForStale, STALE),
        (Flaw::DeclaresOtherKinds, "takes_every_kind_that_it_declares"),
        (Flaw::MistakesTheError, "fails_with_the_right_kind"),
        (Flaw::TellsTheSecret, "shows_no_secret"),
    ];
    conformance::sink(&harness(Flaw::Nothing)).await.assert_passed_except(&[MEMORY_RULE]);
    for (flaw, rule) in cases {
        let report = conformance::sink(&harness(flaw)).await;
        assert!(report.failed().contains(&rule), "{flaw:?} should break {rule}\n{report}");
    }
    for rule in SINK_RULES.into_iter().filter(|rule| *rule != MEMORY_RULE) {
        assert!(cases.iter().any(|(_, broken)| *broken == rule), "nothing breaks {rule}");
    }
}
