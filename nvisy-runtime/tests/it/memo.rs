//! The memo of paid calls: what it saves, and that what it gives is what a call would have given.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use nvisy_core::connection::SecretResolver;
use nvisy_core::hash::ContentHash;
use nvisy_core::metadata::Timestamp;
use nvisy_core::observability::ModelUsage;
use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::testing::memory::{Form, MemoryStore as Place};
use nvisy_core::{Error, ErrorKind, Secret, SecretRef};
use nvisy_runtime::Engine;
use nvisy_runtime::compiler::code;
use nvisy_runtime::engine::RunReport;
use nvisy_runtime::graph::Graph;
use nvisy_runtime::memo::{DirectoryStore, MemoStore, MemoryStore};
use serde_json::{Value, json};

use crate::fixture::*;

const FORMS: [Form; 3] = [Form::Transform, Form::Batch, Form::Columnar];

fn engine_with(memo: impl MemoStore) -> Engine {
    builder().memo(memo).build().unwrap()
}

/// How many items an action was called with.
#[derive(Clone, Default)]
struct Called(Arc<AtomicU64>);

impl Called {
    fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn emit(n: u64) -> Raw {
    Raw::Json(json!({ "n": n }))
}

/// A paid action that adds 100, and uses three tokens and two cents an item.
fn pay(form: Form, called: &Called) -> Value {
    pay_for(form, called, |item| Ok(Outcome::emit(item.clone().with(emit(n(&item) + 100)).into_any())))
}

fn pay_for(
    form: Form,
    called: &Called,
    work: impl Fn(Item) -> Result<Outcome> + Clone + Send + Sync + 'static,
) -> Value {
    let called = called.clone();
    let act = act(form, "in", move |items: Vec<Item>, context| {
        called.0.fetch_add(items.len() as u64, Ordering::Relaxed);
        let work = work.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let (model, input_tokens) = ("m".to_owned(), items.len() as u64 * 3);
            let usd = Some(items.len() as f64 * 0.02);
            context.meter().model_usage(&ModelUsage {
                model,
                requests: 1,
                input_tokens,
                output_tokens: 0,
                usd,
            });
            Ok(items.into_iter().map(|item| work(item).unwrap_or_else(Outcome::fail)).collect())
        }
    });
    with(act, json!({ "memo": true, "config": { "calls": "paid", "items": 8 } }))
}

fn items_of(numbers: impl IntoIterator<Item = u64>) -> Value {
    let items: Vec<_> = numbers.into_iter().map(|n| json!({ "n": n })).collect();
    json!({ "type": "source", "use": "memory/source", "config": { "items": items, "batch_items": 5 } })
}

fn through(source: Value, work: &Value, out: &str) -> Graph {
    graph(json!({ "in": source, "pay": work, "out": sink(out, "pay") }))
}

async fn run_memo(memo: &MemoryStore, graph: &Graph) -> RunReport {
    let report = run_on(&engine_with(memo.clone()), graph).await;
    assert!(report.is_success() && report.warnings.is_empty(), "{report}");
    report
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_second_run_makes_no_call_and_says_what_it_saved() {
    for form in FORMS {
        let (memo, out, called) = (MemoryStore::new(), unique("out"), Called::default());
        let graph = through(items_of(0..40), &pay(form, &called), &out);
        let report = run_memo(&memo, &graph).await;
        assert_eq!((called.take(), node(&report, "pay").memo_hits, memo.len()), (40, 0, 40), "{form:?}");
        Place::named(&out).clear();

        let report = run_memo(&memo, &graph).await;
        let pay = node(&report, "pay");
        assert_eq!((called.take(), pay.calls, pay.memo_hits), (0, 0, 40), "{form:?}: {report}");
        assert_eq!(written(&out), (100..140).collect::<Vec<_>>(), "{form:?}");
        assert!(pay.models.is_empty());
        let [saved] = &pay.memo_saved[..] else { panic!("{report}") };
        assert_eq!((saved.input_tokens, saved.output_tokens), (120, 0));
        assert!((saved.usd.unwrap() - 0.8).abs() < 1e-9);
        let printed = report.to_string();
        assert!(
            printed.contains("pay: 40 items known from the memo, saves m 120 tokens in, 0 out, $0.8000"),
            "{printed}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_new_is_called_for_and_everything_is_if_a_parameter_changes() {
    for form in FORMS {
        let (memo, out, called) = (MemoryStore::new(), unique("out"), Called::default());
        let work = pay(form, &called);
        run_memo(&memo, &through(items_of(0..40), &work, &out)).await;
        assert_eq!(called.take(), 40);
        Place::named(&out).clear();

        let changed = (0..40).rev().map(|n| if n % 10 == 3 { n + 1_000 } else { n });
        let report = run_memo(&memo, &through(items_of(changed), &work, &out)).await;
        assert_eq!((called.take(), node(&report, "pay").memo_hits), (4, 36), "{form:?}: {report}");
        assert_eq!(written(&out).len(), 40);

        let work = with(work, json!({ "config": { "items": 9 } }));
        run_memo(&memo, &through(items_of(0..40), &work, &out)).await;
        assert_eq!(called.take(), 40, "{form:?}");

        let work = with(work, json!({ "memo": false }));
        run_memo(&memo, &through(items_of(0..40), &work, &out)).await;
        assert_eq!(called.take(), 40, "{form:?}");
    }
}

/// Edits, derives one and several, derives twice over, drops, and does what cannot be kept.
fn all_sorts(item: Item) -> Result<Outcome> {
    let number = n(&item);
    Ok(match number % 8 {
        0 => Outcome::emit(item.with(emit(number)).into_any()),
        1 => Outcome::emit(item.derive("half", 7, emit(number)).into_any()),
        2 => Outcome::expand(&item, "two", [emit(number), emit(number + 1)]).into_any(),
        3 => Outcome::emit(item.derive("a", 0, emit(0)).derive("b", 1, emit(number)).into_any()),
        4 => Outcome::drop("four"),
        5 => Outcome::emit_all([item.derive("x", 0, emit(number)).into_any(), item]),
        6 => Outcome::emit(item.with_tag("kept", "not")),
        _ => return Err(Error::new(ErrorKind::Validation, "seven")),
    })
}

/// What a sink got, without what no two runs share.
fn got(out: &str) -> Vec<(String, String, String, String)> {
    let mut got: Vec<_> = Place::named(out)
        .items()
        .iter()
        .map(|item| {
            let mut records = item.lineage().records();
            records.iter_mut().for_each(|record| record.time = Timestamp::UNIX_EPOCH);
            let tags = format!("{:?}", (&item.metadata().tags, &item.metadata().node));
            (item.id().to_string(), format!("{:?}", item.payload()), tags, format!("{records:?}"))
        })
        .collect();
    got.sort();
    got
}

#[tokio::test(start_paused = true)]
async fn ids_and_lineage_from_a_hit_are_those_from_a_call() {
    for form in FORMS {
        let (memo, called) = (MemoryStore::new(), Called::default());
        let work = with(
            pay_for(form, &called, all_sorts),
            json!({ "on_error": "drop", "retry": { "max_attempts": 1 } }),
        );
        run_memo(&memo, &through(items_of(0..40), &work, &unique("out"))).await;
        // Of each eight: a drop, a tag and a failure are not kept.
        assert_eq!(memo.len(), 25, "{form:?}");
        called.take();

        // The same contents under other ids, with new ones in between.
        let other = || items_of((0..40).rev().chain(200..207).collect::<Vec<_>>());
        let (hit, out) = (unique("hit"), unique("called"));
        let report = run_memo(&memo, &through(other(), &work, &hit)).await;
        assert_eq!(node(&report, "pay").memo_hits, 25, "{form:?}: {report}");
        assert!(called.take() < 47 + 40, "{form:?}");
        run_memo(&memo, &through(other(), &with(work, json!({ "memo": false })), &out)).await;
        assert_eq!(got(&hit), got(&out), "{form:?}");
        assert_eq!(got(&hit).len(), 48, "{form:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_not_kept_and_its_neighbours_are() {
    for form in FORMS {
        let (memo, out, called) = (MemoryStore::new(), unique("out"), Called::default());
        let sick = Arc::new(std::sync::atomic::AtomicBool::new(true));
        let is_sick = sick.clone();
        let work = pay_for(form, &called, move |item| match n(&item) {
            3 | 17 if is_sick.load(Ordering::Relaxed) => Err(Error::new(ErrorKind::Permission, "not today")),
            _ => Ok(Outcome::emit(item)),
        });
        let graph = through(items_of(0..20), &with(work, json!({ "on_error": "drop" })), &out);
        run_memo(&memo, &graph).await;
        assert_eq!((called.take(), memo.len()), (20, 18), "{form:?}");
        sick.store(false, Ordering::Relaxed);
        let report = run_memo(&memo, &graph).await;
        assert_eq!((called.take(), node(&report, "pay").memo_hits), (2, 18), "{form:?}");
        assert_eq!(written(&out), all(20));
    }
}

#[test]
fn what_was_kept_before_a_kill_is_not_paid_for_again() {
    for killed_after in [3, 9, 14] {
        let (place, out, called) = (tempfile::tempdir().unwrap(), unique("out"), Called::default());
        let work = with(pay(Form::Batch, &called), json!({ "config": { "items": 4 }, "concurrency": 2 }));
        let graph = through(items_of(0..200), &work, &out);
        let run = |life: Duration| {
            let engine = builder().state(place.path()).build().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .unwrap();
            let report = runtime.block_on(async { tokio::time::timeout(life, engine.run(&graph)).await });
            runtime.shutdown_background();
            report.ok().map(Result::unwrap)
        };
        assert!(run(Duration::from_millis(killed_after)).is_none());
        let first = called.take();
        assert!((8..200).contains(&first), "{first}");
        // All that is kept beforehand and read again, or was written.
        let report = run(Duration::from_secs(60)).unwrap();
        assert!(report.is_success(), "{report}");
        let second = called.take();
        assert!((200..=200 + 2 * 4).contains(&(first + second)), "{killed_after}: {first} and {second}");
        let third = run(Duration::from_secs(60)).unwrap();
        assert_eq!((called.take(), node(&third, "pay").memo_hits), (0, 200), "{third}");
    }
}

fn key(n: u64) -> ContentHash {
    ContentHash::of_bytes(&n.to_be_bytes())
}

fn value(n: u64, len: usize) -> Bytes {
    n.to_be_bytes().into_iter().cycle().take(len).collect::<Vec<_>>().into()
}

async fn put(store: &DirectoryStore, numbers: std::ops::Range<u64>, len: usize) {
    store.put(numbers.map(|n| (key(n), value(n, len))).collect()).await.unwrap();
}

/// Asks for entries, none of which may be wrong, and returns which are known.
async fn known(store: &DirectoryStore, numbers: std::ops::Range<u64>, len: usize) -> Vec<u64> {
    let keys: Vec<_> = numbers.clone().map(key).collect();
    let found = store.get(&keys).await.unwrap();
    assert_eq!(found.len(), keys.len());
    let found = numbers.zip(found).filter_map(|(n, found)| Some((n, found?)));
    found.inspect(|(n, found)| assert_eq!(*found, value(*n, len), "{n}")).map(|(n, _)| n).collect()
}

fn files(path: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_damaged_store_forgets_and_never_lies() {
    let place = tempfile::tempdir().unwrap();
    put(&DirectoryStore::new(place.path()), 0..30, 100).await;
    let [file] = &files(place.path())[..] else { panic!("one file") };
    let whole = std::fs::read(file).unwrap();
    for at in (0..whole.len()).step_by(crate::torture::step(23)) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        let cut = whole[..at].to_vec();
        for damaged in [damaged, cut] {
            std::fs::write(file, damaged).unwrap();
            let store = DirectoryStore::new(place.path());
            assert!(known(&store, 0..30, 100).await.len() < 30, "{at}");
            if at % 5 == 0 {
                put(&store, 0..30, 100).await;
                assert_eq!(known(&store, 0..30, 100).await.len(), 30, "{at}");
                drop(store);
                assert_eq!(known(&DirectoryStore::new(place.path()), 0..30, 100).await.len(), 30, "{at}");
                files(place.path())
                    .iter()
                    .filter(|other| *other != file)
                    .for_each(|other| std::fs::remove_file(other).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn the_oldest_go_first_and_the_bound_holds() {
    let place = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(place.path()).max_bytes(64 << 10);
    let taken = || files(place.path()).iter().map(|file| file.metadata().unwrap().len()).sum::<u64>();
    for n in 0..50 {
        put(&store, n * 6..n * 6 + 6, 1_000).await;
        assert!(taken() <= 64 << 10, "{n}: {}", taken());
    }
    let known = known(&store, 0..300, 1_000).await;
    assert!(known.len() > 40, "{known:?}");
    assert_eq!(known, (300 - known.len() as u64..300).collect::<Vec<_>>(), "the newest, all of them");

    let memory = MemoryStore::new().max_bytes(10_000);
    memory.put((0..30).map(|n| (key(n), value(n, 1_000))).collect()).await.unwrap();
    assert_eq!(memory.len(), 10);
    assert_eq!(memory.get(&[key(0), key(29)]).await.unwrap(), [None, Some(value(29, 1_000))]);
}

#[tokio::test]
async fn several_may_have_one_directory_open() {
    let place = tempfile::tempdir().unwrap();
    let (one, other) = (DirectoryStore::new(place.path()), DirectoryStore::new(place.path()));
    for n in 0..10 {
        put(&one, n * 10..n * 10 + 5, 50).await;
        put(&other, n * 10 + 5..n * 10 + 10, 50).await;
    }
    assert_eq!(files(place.path()).len(), 2, "each writes to its own");
    let third = DirectoryStore::new(place.path());
    assert_eq!(known(&third, 0..100, 50).await.len(), 100);
    drop((one, other));
    put(&third, 100..110, 50).await;
    assert_eq!(files(place.path()).len(), 2, "what is nobody's is written on");
    assert_eq!(known(&DirectoryStore::new(place.path()), 0..110, 50).await.len(), 110);
}

/// A store that is damaged in a way that it does not see, or broken.
#[derive(Clone)]
struct Bad(MemoryStore, bool);

impl MemoStore for Bad {
    fn get<'a>(&'a self, keys: &'a [ContentHash]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>>> {
        async move {
            if self.1 {
                return Err(Error::new(ErrorKind::Internal, "the disk is gone"));
            }
            // Another item's entry, or one with a bit more.
            let entries = self.0.entries();
            let wrong = |n: usize| {
                let mut bytes = entries.get(n)?.1.to_vec();
                let at = n * 5 % bytes.len();
                bytes[at] ^= u8::from(n.is_multiple_of(2));
                Some(bytes.into())
            };
            Ok(keys
                .iter()
                .enumerate()
                .map(|(n, key)| {
                    wrong(n).filter(|_| entries.get(n).is_some_and(|(k, _)| k != key || n % 2 == 0))
                })
                .collect())
        }
        .boxed()
    }

    fn put(&self, entries: Vec<(ContentHash, Bytes)>) -> BoxFuture<'_, Result<()>> {
        self.0.put(entries)
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_store_costs_the_calls_and_nothing_else() {
    for broken in [false, true] {
        let (memo, out, called) = (MemoryStore::new(), unique("out"), Called::default());
        let graph = through(items_of(0..20), &pay(Form::Batch, &called), &out);
        run_memo(&memo, &graph).await;
        assert_eq!(called.take(), 20);
        Place::named(&out).clear();
        let report = run_on(&engine_with(Bad(memo, broken)), &graph).await;
        assert_eq!((called.take(), node(&report, "pay").memo_hits), (20, 0), "{report}");
        assert!(report.is_success(), "{report}");
        assert_eq!(written(&out), (100..120).collect::<Vec<_>>());
        assert_eq!(
            report.warnings.iter().any(|warning| warning.contains("the disk is gone")),
            broken,
            "{report}"
        );
    }
}

struct Vault;

impl SecretResolver for Vault {
    fn resolve(&self, _: &SecretRef) -> Result<Option<Secret>> {
        Ok(Some(Secret::new("hunter2")))
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_counts_and_its_secrets_do_not() {
    let (memo, out, called) = (MemoryStore::new(), unique("out"), Called::default());
    let engine = builder().memo(memo.clone()).secrets(Vault).build().unwrap();
    let work = with(pay(Form::Batch, &called), json!({ "use": "test/far_act", "connection": "far" }));
    let on = |log: &str, token: &str| {
        let far = with(far(log), json!({ "config": { "token": { "secret": token } } }));
        let nodes = json!({ "in": items_of(0..20), "pay": work, "out": sink(&out, "pay") });
        document(json!({ "connections": { "far": far }, "nodes": nodes }))
    };
    let (here, there) = (unique("here"), unique("there"));
    let mut calls = Vec::new();
    for (log, token) in [(&here, "KEY"), (&here, "OTHER_KEY"), (&there, "KEY")] {
        let report = run_on(&engine, &on(log, token)).await;
        assert!(report.is_success(), "{report}");
        calls.push(called.take());
    }
    assert_eq!(calls, [20, 0, 20]);
    for (_, value) in memo.entries() {
        for secret in [&b"hunter2"[..], b"KEY"] {
            assert!(!value.windows(secret.len()).any(|part| part == secret));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_memo_that_would_do_nothing_is_refused() {
    let called = Called::default();
    let (out, paid) = (unique("out"), pay(Form::Batch, &called));
    let refused = |graph: &Graph, path: &str| {
        let diagnostics = engine().compile(graph).unwrap_err();
        let said: Vec<_> = diagnostics.iter().map(|said| (said.code, said.path.as_str())).collect();
        assert_eq!(said, [(code::POLICY_NOT_APPLICABLE, path)], "{diagnostics}");
    };
    let free = with(paid.clone(), json!({ "config": { "calls": "idempotent" } }));
    refused(&through(items_of(0..1), &free, &out), "nodes.pay.memo");
    refused(&through(with(items_of(0..1), json!({ "memo": true })), &paid, &out), "nodes.in.memo");
    let off = with(free, json!({ "memo": false }));
    assert!(engine().compile(&through(items_of(0..1), &off, &out)).is_ok());

    let stateful = with(paid.clone(), json!({ "config": { "form": "stateful" } }));
    let memo = MemoryStore::new();
    let error = engine_with(memo).start(&through(items_of(0..1), &stateful, &out)).await.unwrap_err();
    assert!(error.to_string().contains("`memo` of `test/act` would do nothing"), "{error}");

    let error = engine().start(&through(items_of(0..1), &paid, &out)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("EngineBuilder::state"), "{error}");
}
