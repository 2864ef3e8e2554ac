//! Sources in memory keep the contract; broken ones are caught.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::Stream;
use nvisy_core::prelude::*;
use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::{KindId, Kinds};
use nvisy_core::source::Rejected;
use nvisy_core::testing::conformance::{self, OpenSource, SOURCE_RULES, SourceHarness, samples};
use nvisy_core::testing::memory::{MemorySource, MemoryStore};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

fn memory<K: Kind>(source: MemorySource<K>, expected: impl IntoIterator<Item = Value>) -> SourceHarness {
    SourceHarness::new(
        move || {
            let source = source.clone();
            async { Ok(OpenSource::new(source, NoClient)) }
        },
        expected,
    )
}

/// What is left out of a source that does not tell what has changed.
const VERSIONS: &str = "has_versions_of_objects";

#[tokio::test(start_paused = true)]
async fn a_source_in_memory_keeps_the_contract() {
    let documents: Vec<String> = samples::texts().into_iter().filter(|text| !text.is_empty()).collect();
    let expected = documents.iter().map(|text| json!({ "text": text }));
    let source = MemorySource::documents(documents.clone()).in_partitions(3).yielding(2);
    memory(source, expected).assert().await;

    let objects = samples::objects_with_nulls();
    memory(MemorySource::rows(objects.clone()), objects.clone()).assert().await;
    memory(MemorySource::rows(objects.clone()).in_partitions(2), objects).assert().await;

    let numbers: Vec<Value> = (0..20).map(Value::from).collect();
    let good = numbers.iter().filter(|n| **n != json!(3) && **n != json!(19)).cloned();
    let rejecting = MemorySource::raw(numbers.clone()).rejecting([3, 19]).in_partitions(2).with_batches_of(4);
    memory(rejecting, good).rejecting(2).assert().await;
    memory(MemorySource::raw([]), []).assert().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_of_a_store_is_lazy_and_passes_every_rule() {
    let store = MemoryStore::named("a lazy source");
    store.put((0..20).map(|n| Raw::Json(n.into())));
    let numbers = (0..20).filter(|n| *n != 7).map(Value::from);
    let report = memory(MemorySource::named("a lazy source").rejecting([7]), numbers)
        .rejecting(1)
        .counting(move || store.tally().reads)
        .with_empty(|| async { Ok(OpenSource::new(MemorySource::named("an empty store"), NoClient)) })
        .with_single(
            || async { Ok(OpenSource::new(MemorySource::documents(["one"]), NoClient)) },
            json!({"text": "one"}),
        )
        .failing("a secret that is not set", ErrorKind::Authentication, || async {
            ConnectContext::detached().secret(&SecretRef::new("KEY"))?;
            Ok(OpenSource::new(MemorySource::named("an empty store"), NoClient))
        })
        .with_secret("canary", ["Debug of the connection".to_owned()]);
    let report = conformance::source(&report).await;
    report.assert_passed_except(&[VERSIONS]);
    assert_eq!(report.checks().len(), SOURCE_RULES.len());
}

trait Assert {
    async fn assert(self);
}

impl Assert for SourceHarness {
    async fn assert(self) {
        conformance::source(&self).await.assert_passed();
    }
}

/// What is wrong with a [`Broken`] source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Flaw {
    #[default]
    Nothing,
    SkipsAnItem,
    ReadsAnItemTwice,
    ReadsBackwardsNowAndThen,
    GivesOnePositionTwice,
    NamesItemsByTheNode,
    DeclaresOtherKinds,
    RenamesPartitions,
    HasPositionsThatDoNotReadBack,
    ResumesWithTheItemItself,
    ResumesOneTooLate,
    SaysThatTheBatchEndsEarlier,
    SaysThatTheBatchEndsLater,
    ReadsEverythingAtOnce,
    KnowsNoLimits,
    FailsForOneRecord,
    RejectsForAWhile,
    LosesWhatItRejects,
    StaysBusyWhenItIsDropped,
    NeverEndsWhenThereIsNothing,
    FindsSomethingWhereNothingIs,
    MistakesTheError,
    TellsTheSecret,
    Panics,
    HasNoVersions,
    HasAnotherVersionEachTime,
    StandsInNoObject,
}

/// Reads twelve numbers, one of them not; twelve requests take a page each.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
struct Broken {
    flaw: Flaw,
    len: u64,
}

#[derive(Default)]
struct Probe {
    requests: Arc<AtomicU64>,
    reads: AtomicU64,
    busy: AtomicBool,
}

impl Client for Probe {
    const FAMILY: &'static str = "probe";
}

/// The record that cannot be read.
const BAD: u64 = 7;

impl Source for Broken {
    const NAME: &'static str = "test/broken";
    type Output = Raw;
    type Client = Probe;

    fn identity(&self, _: &Probe) -> SourceIdentity {
        SourceIdentity::new("broken")
    }

    fn output_kinds(&self) -> Kinds {
        Kinds::of(if self.flaw == Flaw::DeclaresOtherKinds { KindId::Document } else { KindId::Raw })
    }

    async fn partitions(&self, context: &OpenContext<Probe>) -> Result<Vec<Partition>> {
        if self.flaw == Flaw::RenamesPartitions {
            let read = context.client().requests.fetch_add(1, Ordering::Relaxed);
            return Ok(vec![Partition::new(format!("partition {read}"))]);
        }
        let all = Partition::whole();
        Ok(vec![match self.flaw {
            Flaw::HasAnotherVersionEachTime => {
                let listed = context.client().requests.fetch_add(1, Ordering::Relaxed);
                all.with_version(listed.to_string())
            }
            Flaw::StandsInNoObject => all.with_version("1"),
            _ => all,
        }])
    }

    fn increments(&self) -> Result<Increments, &'static str> {
        match self.flaw {
            Flaw::HasNoVersions | Flaw::HasAnotherVersionEachTime | Flaw::StandsInNoObject => {
                Ok(Increments::Versions)
            }
            _ => Err("it is broken otherwise"),
        }
    }

    fn read(
        &self,
        _: &Partition,
        after: Option<Position>,
        context: &ReadContext<Probe>,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        let (flaw, len) = (self.flaw, self.len);
        async_stream::try_stream! {
            let probe = context.client();
            match flaw {
                Flaw::Panics => panic!("the source panics"),
                Flaw::TellsTheSecret | Flaw::MistakesTheError if len == 0 => {
                    let secret = if flaw == Flaw::TellsTheSecret { "canary" } else { "***" };
                    let kind = if flaw == Flaw::MistakesTheError { ErrorKind::Internal } else { ErrorKind::Authentication };
                    Err(Error::new(kind, format!("the password is wrong: {secret}")))?;
                }
                Flaw::StaysBusyWhenItIsDropped if probe.busy.swap(true, Ordering::AcqRel) => {
                    Err(Error::new(ErrorKind::Conflict, "somebody else reads"))?;
                }
                Flaw::NeverEndsWhenThereIsNothing if len == 0 => std::future::pending::<()>().await,
                Flaw::FindsSomethingWhereNothingIs if len == 0 => {
                    yield context.items([Raw::Json(0.into())], Positions::from(0), Position::Offset(0))?;
                }
                _ => {}
            }
            let mut next = match after {
                Some(Position::Offset(last)) => match flaw {
                    Flaw::ResumesWithTheItemItself => last,
                    Flaw::ResumesOneTooLate => last + 2,
                    _ => last + 1,
                },
                // The position that does not read back.
                Some(_) => 6,
                None => 0,
            };
            let mut limit = context.limits().items as u64;
            if flaw == Flaw::KnowsNoLimits {
                limit = 1_000;
            }
            if flaw == Flaw::ReadsEverythingAtOnce {
                probe.requests.fetch_add(len, Ordering::Relaxed);
            }
            let reads = probe.reads.fetch_add(1, Ordering::Relaxed);
            while next < len {
                if flaw != Flaw::ReadsEverythingAtOnce {
                    probe.requests.fetch_add(1, Ordering::Relaxed);
                }
                let end = (next + limit).min(len);
                yield batch(flaw, next, end, reads, context)?;
                next = end;
            }
            probe.busy.store(false, Ordering::Release);
        }
    }
}

fn batch(flaw: Flaw, first: u64, end: u64, reads: u64, context: &ReadContext<Probe>) -> Result<SourceBatch> {
    let mut numbers: Vec<u64> = (first..end).filter(|n| *n != BAD).collect();
    let has_bad = (first..end).contains(&BAD);
    match flaw {
        Flaw::SkipsAnItem => numbers.retain(|n| *n != 5),
        Flaw::ReadsAnItemTwice if numbers.contains(&5) => numbers.push(5),
        Flaw::ReadsBackwardsNowAndThen if reads % 2 == 1 => numbers.reverse(),
        Flaw::FailsForOneRecord if has_bad => {
            return Err(Error::new(ErrorKind::Validation, "record 7 cannot be read"));
        }
        _ => {}
    }
    let position = |n: &u64| match flaw {
        Flaw::GivesOnePositionTwice if *n == 4 => Position::Offset(3),
        Flaw::HasPositionsThatDoNotReadBack if *n == 5 => {
            Position::Keyset([nvisy_core::position::KeyValue::Float(f64::NAN)].into())
        }
        _ => Position::Offset(*n),
    };
    let positions: Vec<Position> = numbers.iter().map(position).collect();
    let after = Position::Offset(match flaw {
        Flaw::SaysThatTheBatchEndsEarlier if end < 12 => end - 2,
        Flaw::SaysThatTheBatchEndsLater => end,
        _ => end - 1,
    });
    let mut rejected: Vec<Rejected> = Vec::new();
    if has_bad && flaw != Flaw::LosesWhatItRejects {
        let kind = if flaw == Flaw::RejectsForAWhile { ErrorKind::Timeout } else { ErrorKind::Validation };
        let error = Error::new(kind, "record 7 cannot be read");
        rejected.push(context.reject(Raw::Json(BAD.into()), Position::Offset(BAD), error)?);
    }
    if flaw == Flaw::NamesItemsByTheNode {
        let open = OpenContext::new(context.context().clone(), context.client().clone());
        let identity = SourceIdentity::new(format!("broken {}", context.context().node()));
        let context = ReadContext::new(open, identity, context.limits());
        let read = context.items(
            numbers.into_iter().map(|n| Raw::Json(n.into())),
            Positions::each(positions),
            after,
        )?;
        return Ok(read.with_rejected(rejected));
    }
    let read =
        context.items(numbers.into_iter().map(|n| Raw::Json(n.into())), Positions::each(positions), after)?;
    Ok(read.with_rejected(rejected))
}

fn harness(flaw: Flaw) -> SourceHarness {
    let requests: Arc<AtomicU64> = Arc::default();
    // One system for all connections: what one leaves behind the next one finds.
    let busy = Arc::new(AtomicU64::new(0));
    let counted = requests.clone();
    let open = move |len: u64| {
        let (requests, reads) = (requests.clone(), busy.fetch_add(1, Ordering::Relaxed));
        let probe = Probe { requests, reads: AtomicU64::new(reads), busy: AtomicBool::new(false) };
        async move { Ok(OpenSource::new(Broken { flaw, len }, probe)) }
    };
    let (whole, empty, single, failing) = (open.clone(), open.clone(), open.clone(), open);
    SourceHarness::new(move || whole(12), (0..12).filter(|n| *n != BAD).map(Value::from))
        .rejecting(1)
        .counting(move || counted.load(Ordering::Relaxed))
        .with_empty(move || empty(0))
        .with_single(move || single(1), json!(0))
        .failing("a wrong password", ErrorKind::Authentication, move || {
            let open = failing(0);
            async move {
                if matches!(flaw, Flaw::TellsTheSecret | Flaw::MistakesTheError) {
                    return open.await;
                }
                Err(Error::new(ErrorKind::Authentication, "the password is wrong"))
            }
        })
        .with_secret("canary", [])
}

#[tokio::test(start_paused = true)]
async fn every_rule_of_a_source_can_fail() {
    let cases = [
        (Flaw::SkipsAnItem, "reads_every_item_once"),
        (Flaw::ReadsAnItemTwice, "reads_every_item_once"),
        (Flaw::FailsForOneRecord, "reads_every_item_once"),
        (Flaw::Panics, "reads_every_item_once"),
        (Flaw::ReadsBackwardsNowAndThen, "reads_the_same_again"),
        (Flaw::GivesOnePositionTwice, "gives_every_item_its_own_id"),
        (Flaw::NamesItemsByTheNode, "gives_ids_that_do_not_depend_on_the_node"),
        (Flaw::DeclaresOtherKinds, "gives_the_kinds_that_it_declares"),
        (Flaw::RenamesPartitions, "has_stable_partitions"),
        (Flaw::HasNoVersions, VERSIONS),
        (Flaw::HasAnotherVersionEachTime, VERSIONS),
        (Flaw::StandsInNoObject, VERSIONS),
        (Flaw::HasPositionsThatDoNotReadBack, "has_positions_that_read_back"),
        (Flaw::ResumesWithTheItemItself, "resumes_after_every_item"),
        (Flaw::ResumesOneTooLate, "resumes_after_every_item"),
        (Flaw::SaysThatTheBatchEndsEarlier, "resumes_after_every_batch"),
        (Flaw::SaysThatTheBatchEndsLater, "resumes_after_every_batch"),
        (Flaw::ReadsEverythingAtOnce, "is_lazy"),
        (Flaw::KnowsNoLimits, "keeps_batches_within_limits"),
        (Flaw::RejectsForAWhile, "rejects_single_records"),
        (Flaw::LosesWhatItRejects, "rejects_single_records"),
        (Flaw::StaysBusyWhenItIsDropped, "can_be_dropped_at_any_poll"),
        (Flaw::NeverEndsWhenThereIsNothing, "reads_no_item_and_one_item"),
        (Flaw::FindsSomethingWhereNothingIs, "reads_no_item_and_one_item"),
        (Flaw::MistakesTheError, "fails_with_the_right_kind"),
        (Flaw::TellsTheSecret, "shows_no_secret"),
    ];
    conformance::source(&harness(Flaw::Nothing)).await.assert_passed_except(&[VERSIONS]);
    for (flaw, rule) in cases {
        let report = conformance::source(&harness(flaw)).await;
        assert!(report.failed().contains(&rule), "{flaw:?} should break {rule}\n{report}");
    }
    for rule in SOURCE_RULES {
        assert!(cases.iter().any(|(_, broken)| *broken == rule), "nothing breaks {rule}");
    }
}

#[tokio::test]
async fn items_of_a_memory_source_may_be_of_their_kind_or_are_rejected() {
    let source = MemorySource::raw([json!("good"), json!(""), json!({"text": "better", "title": "T"})])
        .typed::<Document>();
    let read: Vec<_> = futures::StreamExt::collect(nvisy_core::stream::read(&source, NoClient.into())).await;
    assert_eq!(read.len(), 2);
    assert_eq!(read[0].as_ref().unwrap().len(), 2);
    let error = read[1].as_ref().unwrap_err();
    assert_eq!((error.kind(), error.context().item.as_deref()), (ErrorKind::Validation, Some("1")));
}

#[tokio::test(start_paused = true)]
async fn a_memory_source_reads_every_kind_from_json() {
    let embeddings = samples::embeddings(3);
    assert_eq!(embeddings.len(), samples::texts().len());
    let store = MemoryStore::named("embeddings");
    store.put(embeddings.clone());
    let plain: Vec<Value> = embeddings.iter().map(nvisy_core::testing::plain).collect();
    memory(MemorySource::named("embeddings"), plain.clone()).assert().await;
    let inline: MemorySource =
        serde_json::from_value(json!({"items": plain, "kind": "embedding", "partitions": 2})).unwrap();
    memory(inline, plain).assert().await;
}
