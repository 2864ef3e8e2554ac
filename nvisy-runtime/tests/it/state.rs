//! Actions that remember: what they absorb, let go of, and take up again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use nvisy_core::ErrorKind;
use nvisy_core::checkpoint::{Changes, Checkpoint, CheckpointStore, Checkpoints};
use nvisy_core::prelude::*;
use nvisy_core::testing::conformance::{self, ActionHarness, Expected, OpenAction, samples};
use nvisy_core::testing::memory::{Form, MemoryStore as Place};
use nvisy_runtime::Engine;
use nvisy_runtime::actions::Deduplicate;
use nvisy_runtime::checkpoint::MemoryStore;
use nvisy_runtime::engine::{NodeStatus, RunReport, RunState, RunStatus};
use nvisy_runtime::graph::Graph;
use serde_json::{Value, json};

use crate::fixture::*;

const ITEMS: u64 = 240;

fn engine_with(store: &MemoryStore) -> Engine {
    builder().checkpoints(store.clone()).build().unwrap()
}

/// A node that keeps so many items to itself and lets go of the rest, three at once.
fn hoard(input: &str, keep: usize) -> Value {
    json!({ "type": "action", "use": "memory/hoard", "inputs": [input], "config": { "keep": keep, "batch_items": 3 } })
}

/// An action that takes a millisecond a batch.
fn slowly(input: &str) -> Value {
    let work = act(Form::Batch, input, |items: Vec<Item>, _| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(items.into_iter().map(Outcome::emit).collect())
    });
    with(work, json!({ "config": { "items": 6 } }))
}

/// Items that take their time, two that remember one behind the other, and a sink.
fn slow(to: Value) -> Graph {
    document(json!({
        "settings": { "checkpoint": { "every": "5ms", "uncommitted_items": 60 } },
        "nodes": {
            "in": with(batches(ITEMS, 6), json!({ "config": { "partitions": 3 } })),
            "work": slowly("in"),
            "some": hoard("work", 20),
            "again": slowly("some"),
            "all": hoard("again", usize::MAX),
            "last": slowly("all"),
            "out": to,
        },
    }))
}

/// Runs for some virtual time, and then is gone, as if killed: nothing more is polled.
fn run_until(engine: &Engine, graph: &Graph, killed_after: Duration) -> Option<RunReport> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let report = runtime.block_on(async { tokio::time::timeout(killed_after, engine.run(graph)).await });
    runtime.shutdown_background();
    report.ok().map(|report| report.unwrap_or_else(|error| panic!("{error:?}")))
}

#[test]
fn whenever_it_is_killed_what_is_remembered_goes_back_with_the_cursors() {
    for (seed, goes_back) in (1..4_u64).flat_map(|seed| [(seed, false), (seed, true)]) {
        for staging in [false, true] {
            let (store, out) = (MemoryStore::new(), unique("out"));
            let graph = slow(with(sink(&out, "last"), json!({ "config": { "staging": staging } })));
            let mut kills = 0;
            let report = loop {
                let life = Duration::from_millis(seed + (kills * 7 + seed * 3) % 13 + kills / 8);
                match run_until(&engine_with(&store), &graph, life) {
                    Some(report) => break report,
                    None => kills += 1,
                }
                assert!(kills < 1_000, "seed {seed}: it never ends");
                // What is staged shows for good: a store that forgets it is not the sink's to mend.
                if goes_back && !staging && kills % 2 == 0 {
                    store.go_back("test");
                }
            };
            let what = format!("seed {seed}, staging {staging}, {kills} kills: {report}");
            assert_eq!((report.status, written(&out)), (RunStatus::Success, all(ITEMS)), "{what}");
            assert_eq!(settled_items(&report), ITEMS, "{what}");
            assert!(report.imbalances.is_empty(), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_absorbed_stays_when_a_run_is_drained_and_goes_on_in_the_next() {
    let (store, out) = (MemoryStore::new(), unique("out"));
    let (engine, graph) = (engine_with(&store), slow(sink(&out, "last")));
    let mut drained = 0;
    let report = loop {
        let handle = engine.start(&graph).await.unwrap();
        tokio::time::sleep(Duration::from_millis(9)).await;
        handle.drain(Duration::from_secs(60));
        let report = within(handle.wait()).await.unwrap();
        assert!(report.imbalances.is_empty() && report.warnings.is_empty(), "{report}");
        if report.checkpoint.as_ref().unwrap().finished {
            break report;
        }
        assert_eq!(report.status, RunStatus::Success, "{report}");
        drained += 1;
        if settled_items(&report) < ITEMS {
            assert_eq!(written(&out), Vec::<u64>::new(), "not all has come: {report}");
            let checkpoints = store.open("test").await.unwrap();
            let state = RunState::of("test", checkpoints.last()).unwrap();
            let held: Vec<_> =
                state.remembered.iter().map(|memory| (&*memory.node, memory.entries)).collect();
            let [("all", whole), ("some", some)] = held[..] else { panic!("{held:?}") };
            // Each has an entry beside its items.
            assert_eq!(whole - 1 + some - 1, settled_items(&report), "{report}");
            assert!(state.to_string().contains("all: remembers"), "{state}");
        }
        assert!(drained < 100, "it never ends");
    };
    assert!(drained > 2, "{report}");
    assert_eq!(written(&out), all(ITEMS));
    let tally = Place::named(&out).tally();
    assert_eq!(tally.written, ITEMS, "nothing is written twice: {tally:?}");
    let checkpoints = store.open("test").await.unwrap();
    assert!(!checkpoints.last().entries.keys().any(|key| key.starts_with("state/")), "{report}");
}

#[tokio::test(start_paused = true)]
async fn what_a_node_remembers_that_is_gone_is_not_forgotten_though_that_is_accepted() {
    let (store, out) = (MemoryStore::new(), unique("out"));
    let graph = slow(sink(&out, "last"));
    let handle = engine_with(&store).start(&graph).await.unwrap();
    tokio::time::sleep(Duration::from_millis(9)).await;
    handle.drain(Duration::from_secs(60));
    within(handle.wait()).await.unwrap();

    let mut renamed: Value = serde_json::to_value(&graph).unwrap();
    let nodes = renamed["nodes"].as_object_mut().unwrap();
    let some = nodes.remove("some").unwrap();
    nodes.insert("several".into(), some);
    nodes["again"]["inputs"] = json!(["several"]);
    let renamed = Graph::from_json(&renamed.to_string()).unwrap();
    let accepting = engine_with(&store).accepting(["some", "several", "again"]);
    let error = accepting.start(&renamed).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.message().contains("node \"some\" is gone, or does other work"), "{error}");

    let mut other: Value = serde_json::to_value(&graph).unwrap();
    other["nodes"]["some"] = json!({ "type": "action", "use": "materialize", "inputs": ["work"] });
    let other = Graph::from_json(&other.to_string()).unwrap();
    let error = engine_with(&store).accepting(["some"]).start(&other).await.map(drop).unwrap_err();
    assert!(error.message().contains("node \"some\" is gone, or does other work"), "{error}");

    let mut checkpoints = store.open("test").await.unwrap();
    let mut changes = Changes::default();
    changes.put("staged/files", "some files");
    checkpoints.commit(changes).await.unwrap();
    drop(checkpoints);
    let error = engine_with(&store).start(&graph).await.map(drop).unwrap_err();
    assert!(error.message().contains("has files that have yet to show"), "{error}");

    let mut checkpoints = store.open("test").await.unwrap();
    let mut changes = Changes::default();
    changes.remove("staged/files");
    checkpoints.commit(changes).await.unwrap();
    drop(checkpoints);
    let report = run_on(&engine_with(&store), &graph).await;
    assert_eq!((report.status, written(&out)), (RunStatus::Success, all(ITEMS)), "{report}");
}

#[tokio::test(start_paused = true)]
async fn what_a_best_effort_copy_remembers_and_cannot_deliver_stops_no_checkpoint() {
    let (store, [out, seen]) = (MemoryStore::new(), ["out", "seen"].map(unique));
    let refuses = write("some", |items| async move {
        let no = || nvisy_core::WriteStatus::Rejected(Error::new(ErrorKind::Permission, "no"));
        Ok(WriteReport::applied(items.len()).with(0, no()))
    });
    let graph = document(json!({
        "settings": { "checkpoint": { "every": "5ms", "uncommitted_items": 60 } },
        "nodes": {
            "in": batches(ITEMS, 6),
            "work": slowly("in"),
            "copies": { "type": "fan_out", "inputs": ["work"], "best_effort": ["some"] },
            "some": hoard("copies", 3),
            "seen": with(refuses, json!({ "on_error": "fail" })),
            "out": sink(&out, "copies"),
        },
    }));
    let handle = engine_with(&store).start(&graph).await.unwrap();
    tokio::time::sleep(Duration::from_millis(6)).await;
    handle.drain(Duration::from_secs(60));
    let report = within(handle.wait()).await.unwrap();
    assert!(node(&report, "seen").failed > 0, "{report}");
    let before = written(&out).len() as u64;
    assert!(0 < before && before < ITEMS, "{report}");
    let report = run_on(&engine_with(&store), &graph).await;
    assert_eq!(report.checkpoint.as_ref().unwrap().resumed_items, before, "{report}");
    assert_eq!(written(&out), all(ITEMS), "{report} {seen}");
}

#[tokio::test(start_paused = true)]
async fn without_checkpoints_a_drained_run_says_that_windows_were_open() {
    let out = unique("out");
    let items: Vec<_> = (0..ITEMS)
        .map(|n| json!({ "n": n, "at": format!("2026-01-01T00:{:02}:{:02}Z", n / 30, n % 30 * 2) }))
        .collect();
    // Each is in four windows, of which the next is in two: more groups come out than items go in.
    let nodes = json!({
        "in": { "type": "source", "use": "memory/source", "config": { "items": items, "batch_items": 6 } },
        "work": slowly("in"),
        "pairs": { "type": "action", "use": "aggregate", "inputs": ["work"],
                   "config": { "aggregates": { "n": { "count": "raw.n" } },
                               "window": { "time": "timestamp(raw.at)", "size": "4s", "every": "1s" } } },
        "out": sink(&out, "pairs"),
    });
    let handle = engine().start(&graph(nodes)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    handle.drain(Duration::from_secs(60));
    let report = within(handle.wait()).await.unwrap();
    let pairs = node(&report, "pairs");
    assert!(pairs.released > pairs.absorbed, "{report}");
    assert!(report.warnings.iter().any(|told| told.contains("\"pairs\" absorbed")), "{report}");
}

#[tokio::test(start_paused = true)]
async fn without_checkpoints_a_drained_run_says_what_it_did_not_let_go_of() {
    let out = unique("out");
    let nodes = json!({
        "in": batches(ITEMS, 6), "work": slowly("in"), "all": hoard("work", 10), "out": sink(&out, "all"),
    });
    let handle = engine().start(&graph(nodes)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    handle.drain(Duration::from_secs(60));
    let report = within(handle.wait()).await.unwrap();
    let all = node(&report, "all");
    assert_eq!(all.absorbed, all.received, "{report}");
    assert!(0 < all.released && all.released < all.absorbed, "{report}");
    assert_eq!(written(&out).len() as u64, all.released);
    let warning = format!("\"all\" absorbed {} items and let go of {}", all.absorbed, all.released);
    assert!(report.warnings.iter().any(|told| told.contains(&warning)), "{report}");
    assert!(report.to_string().contains("passed + absorbed"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn what_is_absorbed_of_a_broken_input_is_not_let_go_of() {
    for (broken, status) in [("source", NodeStatus::Skipped), ("node", NodeStatus::Skipped)] {
        let out = unique("out");
        let fails = Step::fail(9, Error::new(ErrorKind::Permission, "not that one"));
        let source = if broken == "source" {
            scripted(vec![vec![Step::Give(0..20), fails]])
        } else {
            scripted(vec![vec![Step::Give(0..20), Step::Give(20..40)]])
        };
        let work = each(Form::Transform, "in", move |item| match n(&item) {
            30 => Err(Error::new(ErrorKind::Permission, "not today")),
            _ => Ok(Outcome::emit(item)),
        });
        let report = run(
            json!({ "in": source, "work": work, "all": hoard("work", usize::MAX), "out": sink(&out, "all") }),
        )
        .await;
        assert_ne!(report.status, RunStatus::Success, "{report}");
        assert_eq!((node(&report, "all").status, written(&out)), (status, vec![]), "{broken}: {report}");
        assert!(node(&report, "all").absorbed > 0, "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_failed_behind_a_node_that_let_go_of_it_comes_again_when_the_run_goes_on() {
    let (store, out) = (MemoryStore::new(), unique("out"));
    let sick = Arc::new(AtomicBool::new(true));
    let is_sick = sick.clone();
    let work = each(Form::Transform, "all", move |item| match n(&item) {
        200 if is_sick.load(Ordering::Relaxed) => Err(Error::new(ErrorKind::Permission, "not today")),
        _ => Ok(Outcome::emit(item)),
    });
    let graph = document(json!({
        "settings": { "checkpoint": { "every": "5ms", "uncommitted_items": 30 } },
        "nodes": {
            "in": batches(ITEMS, 6), "slow": slowly("in"), "all": hoard("slow", usize::MAX),
            "work": work, "out": sink(&out, "work"),
        },
    }));
    let report = run_on(&engine_with(&store), &graph).await;
    assert_eq!(node(&report, "work").status, NodeStatus::Failed, "{report}");
    assert!(node(&report, "all").released < ITEMS, "nobody is left to have the rest: {report}");

    sick.store(false, Ordering::Relaxed);
    let report = run_on(&engine_with(&store), &graph).await;
    assert_eq!((report.status, written(&out)), (RunStatus::Success, all(ITEMS)), "{report}");
    assert_eq!(node(&report, "in").received, 0, "it was all absorbed: {report}");
}

#[tokio::test(start_paused = true)]
async fn what_is_let_go_of_keeps_to_the_span_and_never_waits_for_ever() {
    for (seed, staging) in (1..12_u64).flat_map(|seed| [(seed, false), (seed, true)]) {
        let out = unique("out");
        let graph = document(json!({
            "settings": { "checkpoint": { "every": format!("{seed}ms"), "uncommitted_items": seed } },
            "nodes": {
                "in": with(batches(60, seed as usize), json!({ "config": { "partitions": 2 } })),
                "beside": with(batches(60, 1), json!({ "config": { "partitions": 1 } })),
                "work": with(slowly("in"), json!({ "config": { "items": 4 } })),
                "some": hoard("work", seed as usize),
                "again": with(slowly("some"), json!({ "config": { "items": 7 } })),
                "both": { "type": "fan_in", "inputs": ["again", "beside"] },
                "all": hoard("both", usize::MAX),
                "last": with(slowly("all"), json!({ "config": { "items": 5 } })),
                "out": with(sink(&out, "last"), json!({ "config": { "staging": staging, "buffers": !staging } })),
            },
        }));
        let report = run_on(&engine_with(&MemoryStore::new()), &graph).await;
        assert_eq!(report.status, RunStatus::Success, "seed {seed}: {report}");
        assert_eq!(node(&report, "all").released, 120, "seed {seed}: {report}");
        let mut numbers = written(&out);
        numbers.dedup();
        assert_eq!((node(&report, "out").received, numbers), (120, all(60)), "seed {seed}: {report}");
    }
}

#[tokio::test(start_paused = true)]
async fn deduplicate_keeps_the_contract_of_what_remembers() {
    let payloads = samples::documents().into_iter().chain(samples::documents());
    let cases = payloads.map(|payload| (payload, Expected::Anything));
    let open = || async { Ok(OpenAction::new(Deduplicate::by_content(), NoClient)) };
    let report = conformance::action(&ActionHarness::new(open, cases)).await;
    report.assert_passed();
    assert!(!report.skipped().contains(&"goes_on_from_what_it_saved"), "{report}");
}

/// A node that drops items whose number has the same remainder as one before.
fn once(input: &str, of: u64) -> Value {
    let key = format!("raw.n % {of}");
    json!({ "type": "action", "use": "deduplicate", "inputs": [input], "config": { "key": key } })
}

#[test]
fn whenever_it_is_killed_the_same_items_are_dropped_as_before() {
    for (seed, partitions) in (1..7_u64).flat_map(|seed| [(seed, 1), (seed, 3)]) {
        let (store, out, place) = (MemoryStore::new(), unique("out"), tempfile::tempdir().unwrap());
        let engine = || builder().state(place.path()).checkpoints(store.clone()).build().unwrap();
        // Of several partitions each may come first: then only what is staged is there once.
        let staging = partitions > 1;
        let graph = document(json!({
            "settings": { "checkpoint": { "every": "5ms", "uncommitted_items": 30 } },
            "nodes": {
                "in": with(batches(ITEMS, 6), json!({ "config": { "partitions": partitions } })),
                "once": once("in", ITEMS / 2),
                "work": slowly("once"),
                "out": with(sink(&out, "work"), json!({ "config": { "staging": staging } })),
            },
        }));
        let mut kills = 0;
        let report = loop {
            let life = Duration::from_millis(seed + (kills * 7 + seed * 3) % 13 + kills / 8);
            match run_until(&engine(), &graph, life) {
                Some(report) => break report,
                None => kills += 1,
            }
            assert!(kills < 1_000, "seed {seed}: it never ends");
            if !staging && kills % 2 == 0 {
                store.go_back("test");
            }
        };
        assert_eq!(report.status, RunStatus::Success, "seed {seed}: {report}");
        let mut remainders: Vec<u64> = written(&out).into_iter().map(|n| n % (ITEMS / 2)).collect();
        remainders.sort_unstable();
        assert_eq!(remainders, all(ITEMS / 2), "seed {seed}, {kills} kills: {report}");
        let left = std::fs::read_dir(place.path().join("spill/graph-test")).unwrap().count();
        assert_eq!(left, 0, "a run that has finished leaves nothing behind");
    }
}

#[test]
fn a_duplicate_is_not_done_with_before_the_first_of_its_like() {
    let (store, out, place) = (MemoryStore::new(), unique("out"), tempfile::tempdir().unwrap());
    let engine = || builder().state(place.path()).checkpoints(store.clone()).build().unwrap();
    let work = act(Form::Transform, "once", |items: Vec<Item>, _| async move {
        if items.iter().any(|item| n(item) == 0) {
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        Ok(items.into_iter().map(Outcome::emit).collect())
    });
    let graph = document(json!({
        "settings": { "checkpoint": { "every": "1ms" } },
        "nodes": { "in": batches(40, 1), "once": once("in", 20), "work": work, "out": sink(&out, "work") },
    }));
    assert!(run_until(&engine(), &graph, Duration::from_secs(5)).is_none());
    let report = run_until(&engine(), &graph, PATIENCE).unwrap();
    assert_eq!(report.checkpoint.as_ref().unwrap().resumed_items, 0, "the first was not written: {report}");
    assert_eq!((written(&out), node(&report, "once").dropped), (all(20), 20), "{report}");
}

/// Holds each commit to have as many keys as items.
#[derive(Debug)]
struct Exact(MemoryStore, Arc<AtomicU64>);

#[derive(Debug)]
struct ExactOpen(Box<dyn Checkpoints>, Arc<AtomicU64>);

impl CheckpointStore for Exact {
    fn open<'a>(&'a self, graph: &'a str) -> BoxFuture<'a, nvisy_core::Result<Box<dyn Checkpoints>>> {
        Box::pin(async move {
            Ok(Box::new(ExactOpen(self.0.open(graph).await?, self.1.clone())) as Box<dyn Checkpoints>)
        })
    }
}

impl Checkpoints for ExactOpen {
    fn last(&self) -> &Checkpoint {
        self.0.last()
    }

    fn commit(&mut self, changes: Changes) -> BoxFuture<'_, nvisy_core::Result<u64>> {
        let mut next = self.0.last().clone();
        next.apply(changes.clone());
        let items = RunState::of("test", &next).unwrap().items();
        let log = next.entries.get("state/once/log");
        let keys =
            log.map_or(0, |log| serde_json::from_slice::<Value>(log).unwrap()["keys"].as_u64().unwrap());
        if next.entries.contains_key("state/once/log") {
            assert_eq!(items, keys, "a checkpoint has other keys than items");
            self.1.fetch_max(items, Ordering::Relaxed);
        }
        self.0.commit(changes)
    }
}

#[tokio::test(start_paused = true)]
async fn every_checkpoint_has_just_the_keys_of_what_it_is_done_with() {
    let (most, place, out) = (Arc::default(), tempfile::tempdir().unwrap(), unique("out"));
    let exact = Exact(MemoryStore::new(), Arc::clone(&most));
    let engine = builder().state(place.path()).checkpoints(exact).build().unwrap();
    let graph = document(json!({
        "settings": { "checkpoint": { "every": "2ms", "uncommitted_items": 30 } },
        "nodes": { "in": batches(ITEMS, 6), "once": once("in", ITEMS), "work": slowly("once"), "out": sink(&out, "work") },
    }));
    let report = run_on(&engine, &graph).await;
    assert_eq!((report.status, written(&out)), (RunStatus::Success, all(ITEMS)), "{report}");
    assert!(report.checkpoint.unwrap().generation > 5);
    assert_eq!(most.load(Ordering::Relaxed), ITEMS);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_cut_or_flipped_is_refused_by_its_name_or_does_no_harm() {
    let place = tempfile::tempdir().unwrap();
    let (out, store) = (unique("out"), MemoryStore::new());
    let graph = document(json!({
        "settings": { "checkpoint": { "every": "5ms", "uncommitted_items": 30 } },
        "nodes": { "in": batches(ITEMS, 6), "once": once("in", ITEMS), "work": slowly("once"), "out": sink(&out, "work") },
    }));
    let engine = builder().state(place.path()).checkpoints(store.clone()).build().unwrap();
    let handle = engine.start(&graph).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    handle.drain(Duration::from_secs(60));
    let report = handle.wait().await.unwrap();
    assert!(0 < settled_items(&report) && settled_items(&report) < ITEMS, "{report}");

    let log = place.path().join("spill/graph-test/node-once/keys");
    let whole = std::fs::read(&log).unwrap();
    let damages: Vec<Option<Vec<u8>>> = (0..whole.len())
        .step_by(37)
        .flat_map(|at| {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            [flipped, whole[..at].to_vec()].map(Some)
        })
        .chain([None])
        .collect();
    assert!(damages.len() > 10, "{}", whole.len());
    for damaged in damages {
        match &damaged {
            Some(bytes) => std::fs::write(&log, bytes).unwrap(),
            None => std::fs::remove_file(&log).unwrap(),
        }
        let error = engine.start(&graph).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation, "{error}");
        assert!(error.message().contains("node-once/keys"), "{error}");
    }
    // What is behind what the checkpoint names was never part of it.
    std::fs::write(&log, [&whole[..], b"half a block"].concat()).unwrap();
    let report = run_on(&engine, &graph).await;
    assert_eq!((report.status, written(&out)), (RunStatus::Success, all(ITEMS)), "{report}");
}
