//! Runs that stop half way, and go on.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use nvisy_core::checkpoint::{Changes, Checkpoint, CheckpointStore, Checkpoints};
use nvisy_core::prelude::*;
use nvisy_core::testing::faulty::{Fault, FaultKind, Script, Site};
use nvisy_core::testing::memory::{Form, MemoryStore as Place};
use nvisy_core::{Error, ErrorKind};
use nvisy_runtime::Engine;
use nvisy_runtime::checkpoint::MemoryStore;
use nvisy_runtime::engine::{CheckpointReport, RunReport, RunState, RunStatus};
use nvisy_runtime::graph::Graph;
use serde_json::json;

use crate::fixture::*;
use crate::model::Dice;
use crate::torture::Torture;

const ITEMS: u64 = 600;

fn checkpoint(report: &RunReport) -> &CheckpointReport {
    report.checkpoint.as_ref().unwrap()
}

fn engine_with(store: &MemoryStore) -> Engine {
    builder().checkpoints(store.clone()).build().unwrap()
}

/// Items in three partitions, each batch of which takes a millisecond, into an upserting sink.
fn slow(out: &str, seen: &Arc<AtomicU64>) -> Graph {
    let seen = seen.clone();
    let work = act(Form::Batch, "in", move |items: Vec<Item>, _| {
        let seen = seen.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            seen.fetch_add(items.len() as u64, Ordering::Relaxed);
            Ok(items.into_iter().map(Outcome::emit).collect())
        })
    });
    document(json!({
        "settings": { "checkpoint": { "every": "5ms", "uncommitted_items": 60 } },
        "nodes": {
            "in": with(batches(ITEMS, 6), json!({ "config": { "partitions": 3 } })),
            "work": with(work, json!({ "config": { "items": 6 } })),
            "out": sink(out, "work"),
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
fn whenever_it_is_killed_nothing_is_lost_and_little_is_done_again() {
    let mut torture = Torture::of("resume", 40, 1);
    let repeated = torture.each(|seed| {
        let mut dice = Dice(seed);
        let (goes_back, longest) = (dice.once_in(2), dice.of(&[4, 10, 30]));
        let (store, out, seen) = (MemoryStore::new(), unique("out"), Arc::default());
        let graph = slow(&out, &seen);
        let (mut kills, mut resumed) = (0, 0);
        let report = loop {
            let life = Duration::from_millis(3 + dice.roll(longest) + kills / 8);
            match run_until(&engine_with(&store), &graph, life) {
                Some(report) => break report,
                None => kills += 1,
            }
            assert!(kills < 1_000, "seed {seed}: it never ends");
            resumed += u64::from(goes_back && kills % 2 == 0 && store.go_back("test"));
        };
        assert_eq!(report.status, RunStatus::Success, "seed {seed}: {report}");
        assert_eq!(written(&out), all(ITEMS), "seed {seed}");
        assert_eq!(settled_items(&report), ITEMS, "seed {seed}: {report}");
        assert!(checkpoint(&report).finished && checkpoint(&report).resumed == (kills > 0));
        // What no checkpoint has when it is killed: the span, and a batch; as much again where the
        // store forgets one.
        let most = ITEMS + (kills + resumed) * (60 + 6);
        let seen = seen.load(Ordering::Relaxed);
        assert!(seen <= most, "seed {seed}: {seen} of {most}, {kills} kills");
        Place::remove(&out);
        seen - ITEMS
    });
    torture.tell_well(repeated);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_drained_goes_on_and_one_that_finished_begins_anew() {
    let (store, out, seen) = (MemoryStore::new(), unique("out"), Arc::default());
    let (engine, graph) = (engine_with(&store), slow(&out, &seen));
    let handle = engine.start(&graph).await.unwrap();
    let first = handle.id();
    tokio::time::sleep(Duration::from_millis(20)).await;
    handle.drain(Duration::from_secs(60));
    let report = handle.wait().await.unwrap();
    let read = settled_items(&report);
    assert!(report.drained && 0 < read && read < ITEMS, "{report}");
    assert!(!checkpoint(&report).finished && !checkpoint(&report).resumed);

    let report = run_on(&engine, &graph).await;
    assert_eq!((report.run, report.status), (first, RunStatus::Success), "one run in two parts");
    assert_eq!(checkpoint(&report).resumed_items, read);
    assert_eq!(node(&report, "in").received, ITEMS - read, "nothing is read twice: {report}");
    assert_eq!(written(&out), all(ITEMS));

    let report = run_on(&engine, &graph).await;
    assert_ne!(report.run, first);
    assert_eq!(node(&report, "in").received, ITEMS, "{report}");
}

/// What a run of 0.1 remembered that was stopped half way.
const GOLDEN: &str = include_str!("../golden/run-1.json");

#[tokio::test(start_paused = true)]
async fn a_run_of_0_1_goes_on_forever() {
    let even = json!({ "type": "action", "use": "filter", "inputs": ["in"], "config": { "when": "raw.n % 2 == 0" } });
    let nodes = json!({
        "in": with(batches(12, 3), json!({ "config": { "partitions": 2 } })), "even": even,
        "out": sink("golden-run", "even"),
    });
    let (store, graph) = (MemoryStore::new(), graph(nodes));
    let mut open = store.open("test").await.unwrap();
    let entries: std::collections::BTreeMap<String, String> = serde_json::from_str(GOLDEN).unwrap();
    open.commit(entries.into_iter().map(|(key, value)| (key, Some(value.into()))).collect()).await.unwrap();
    drop(open);

    let report = run_on(&engine_with(&store), &graph).await;
    assert_eq!((report.status, checkpoint(&report).resumed), (RunStatus::Success, true), "{report}");
    assert_eq!((checkpoint(&report).resumed_items, node(&report, "in").received), (9, 3), "{report}");
    assert_eq!(written("golden-run"), [6, 8, 10]);
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_read_again_when_the_run_goes_on() {
    let (store, out) = (MemoryStore::new(), unique("out"));
    let sick = Arc::new(AtomicBool::new(true));
    let is_sick = sick.clone();
    let work = each(Form::Transform, "in", move |item| match n(&item) {
        300 if is_sick.load(Ordering::Relaxed) => Err(Error::new(ErrorKind::Permission, "not today")),
        _ => Ok(Outcome::emit(item)),
    });
    let graph = graph(json!({ "in": batches(ITEMS, 6), "work": work, "out": sink(&out, "work") }));
    let engine = engine_with(&store);
    let report = run_on(&engine, &graph).await;
    assert_ne!(report.status, RunStatus::Success, "{report}");
    assert_eq!(settled_items(&report), 300);

    sick.store(false, Ordering::Relaxed);
    let report = run_on(&engine, &graph).await;
    assert_eq!((report.status, node(&report, "in").received), (RunStatus::Success, ITEMS - 300), "{report}");
    assert_eq!(written(&out), all(ITEMS));
}

#[tokio::test(start_paused = true)]
async fn a_graph_that_changed_goes_on_only_if_that_is_accepted() {
    let (store, out, seen) = (MemoryStore::new(), unique("out"), Arc::default());
    let graph = slow(&out, &seen);
    let handle = engine_with(&store).start(&graph).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    handle.drain(Duration::from_secs(60));
    handle.wait().await.unwrap();

    let mut policies = graph.clone();
    policies.settings.concurrency = std::num::NonZeroUsize::new(3);
    policies.nodes.get_mut("out").unwrap().policies.timeout = Some(Duration::from_secs(5));
    let mut changed = policies.clone();
    let pair = json!({ "beside": numbers(3), "more": sink(&out, "beside") });
    for (name, node) in crate::fixture::graph(pair).nodes.iter() {
        changed.nodes.insert(name, node.clone());
    }
    let error = engine_with(&store).start(&changed).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("node \"more\" is new"), "{error}");
    assert!(error.message().contains("Engine::accepting"), "{error}");

    // How it works may change: what it makes is the same.
    let handle = engine_with(&store).start(&policies).await.unwrap();
    handle.drain(Duration::from_secs(60));
    handle.wait().await.unwrap();

    let mut other = graph.clone();
    let nvisy_runtime::graph::NodeBody::Source(source) = &mut other.nodes.get_mut("in").unwrap().body else {
        panic!("it is a source");
    };
    source.config["batch_items"] = json!(4);
    let error = engine_with(&store).start(&other).await.map(drop).unwrap_err();
    assert!(error.message().contains("node \"in\" is another one"), "{error}");
    let accepting = engine_with(&store).accepting(["in"]);
    let report = run_on(&accepting, &other).await;
    assert_eq!((report.status, written(&out)), (RunStatus::Success, all(ITEMS)), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_graph_may_change_whose_run_failed_before_anything_was_done_with() {
    let (store, out) = (MemoryStore::new(), unique("out"));
    let when = |when: &str| {
        let keep = json!({ "type": "action", "use": "filter", "inputs": ["in"], "config": { "when": when } });
        graph(json!({ "in": batches(20, 4), "keep": keep, "out": sink(&out, "keep") }))
    };
    let report = run_on(&engine_with(&store), &when("raw.m % 2 == 0")).await;
    assert!(!report.is_success() && settled_items(&report) == 0, "{report}");
    let report = run_on(&engine_with(&store), &when("raw.n % 2 == 0")).await;
    assert_eq!((report.status, checkpoint(&report).resumed), (RunStatus::Success, false), "{report}");
    assert_eq!(written(&out).len(), 10);
}

#[tokio::test(start_paused = true)]
async fn of_two_runs_of_a_graph_one_is_refused_and_touches_nothing() {
    let (store, out, seen) = (MemoryStore::new(), unique("out"), Arc::default());
    let graph = slow(&out, &seen);
    let engine = engine_with(&store);
    let handle = engine.start(&graph).await.unwrap();
    let error = engine.start(&graph).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(Place::named(&out).tally().opens, 1);
    assert_eq!(handle.wait().await.unwrap().status, RunStatus::Success);
}

#[tokio::test(start_paused = true)]
async fn what_remembers_in_files_is_refused_where_there_is_no_place_for_them() {
    let graph = graph(json!({
        "in": numbers(3),
        "once": { "type": "action", "use": "deduplicate", "inputs": ["in"] },
        "out": sink(&unique("out"), "once"),
    }));
    let error = engine_with(&MemoryStore::new()).start(&graph).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.message().contains("deduplicate"), "{error}");
    assert!(error.message().contains("`EngineBuilder::state`"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_holds_back_what_it_writes_is_flushed_for_checkpoints() {
    const MANY: u64 = 150_000;
    let out = unique("out");
    let to = with(sink(&out, "in"), json!({ "config": { "buffers": true } }));
    let report =
        run_on(&engine_with(&MemoryStore::new()), &graph(json!({ "in": batches(MANY, 1_000), "out": to })))
            .await;
    assert_eq!((report.status, settled_items(&report)), (RunStatus::Success, MANY), "{report}");
    assert!(Place::named(&out).tally().flushes >= 2, "{report}");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_checkpoint_that_will_not_come() {
    let (here, there) = (unique("here"), unique("there"));
    let work = each(Form::Transform, "bad", move |item| match n(&item) {
        3 => Err(Error::new(ErrorKind::Permission, "not today")),
        _ => Ok(Outcome::emit(item)),
    });
    let graph = document(json!({
        "settings": { "checkpoint": { "every": "5ms", "uncommitted_items": 60 } },
        "nodes": {
            "bad": batches(6, 1), "work": work, "here": sink(&here, "work"),
            "good": batches(ITEMS, 6),
            "there": with(sink(&there, "good"), json!({ "config": { "staging": true } })),
        },
    }));
    let report = run_on(&engine_with(&MemoryStore::new()), &graph).await;
    assert_eq!(node(&report, "good").received, ITEMS, "{report}");
}

/// Commits so often, and then no more.
#[derive(Clone, Debug)]
struct Full(MemoryStore, Arc<AtomicU64>);

#[derive(Debug)]
struct FullOpen(Box<dyn Checkpoints>, Arc<AtomicU64>);

impl CheckpointStore for Full {
    fn open<'a>(&'a self, graph: &'a str) -> BoxFuture<'a, nvisy_core::Result<Box<dyn Checkpoints>>> {
        Box::pin(async move {
            Ok(Box::new(FullOpen(self.0.open(graph).await?, self.1.clone())) as Box<dyn Checkpoints>)
        })
    }
}

impl Checkpoints for FullOpen {
    fn last(&self) -> &Checkpoint {
        self.0.last()
    }

    fn commit(&mut self, changes: Changes) -> BoxFuture<'_, nvisy_core::Result<u64>> {
        if self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
            let full = Error::new(ErrorKind::Permission, "no space is left");
            return Box::pin(std::future::ready(Err(full)));
        }
        self.0.commit(changes)
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_checkpoints_cannot_be_kept_fails_and_goes_on_from_the_last() {
    let (store, out, seen) = (MemoryStore::new(), unique("out"), Arc::default());
    let graph = slow(&out, &seen);
    let full = Full(store.clone(), Arc::new(AtomicU64::new(3)));
    let engine = builder().checkpoints(full).build().unwrap();
    let report = within(engine.run(&graph)).await.unwrap();
    assert_eq!(report.status, RunStatus::Failure, "{report}");
    assert!(report.failure.as_ref().unwrap().message.contains("no space is left"), "{report}");
    assert!(node(&report, "in").received < ITEMS, "it stops: {report}");

    let report = run_on(&engine_with(&store), &graph).await;
    assert!(checkpoint(&report).resumed && node(&report, "in").received < ITEMS, "{report}");
    assert_eq!(written(&out), all(ITEMS));
}

/// A source, an action, and two sinks: one replaces by id, the other stages.
fn staged(script: &str, [by_id, staged]: [&str; 2]) -> Graph {
    let items: Vec<_> = (0..12).map(|n| json!({ "n": n })).collect();
    let retry = json!({ "timeout": "5s", "retry": { "max_attempts": 2, "initial": "10ms" } });
    let source = json!({ "items": items, "batch_items": 3 });
    let to = |store: &str, staging: bool| {
        let sink = json!({ "name": store, "batch_items": 4, "staging": staging });
        let config = json!({ "script": script, "sink": sink });
        with(
            json!({ "type": "sink", "use": "faulty/sink", "inputs": ["copies"], "config": config }),
            retry.clone(),
        )
    };
    document(json!({
        "settings": { "checkpoint": { "every": "1s", "uncommitted_items": 6 } },
        "nodes": {
            "in": with(
                json!({ "type": "source", "use": "faulty/source", "config": { "script": script, "source": source } }),
                retry.clone(),
            ),
            "copies": { "type": "fan_out", "inputs": ["in"] },
            "by_id": to(by_id, false),
            "staged": to(staged, true),
        },
    }))
}

#[tokio::test(start_paused = true)]
async fn whatever_call_fails_the_runs_after_it_make_it_whole() {
    let places = || ["by id", "staged"].map(unique);
    let (script, names) = (unique("script"), places());
    let report = run_on(&engine_with(&MemoryStore::new()), &staged(&script, [&names[0], &names[1]])).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert!(checkpoint(&report).generation >= 4, "{report}");
    let mut fired = HashSet::new();
    for (site, calls) in Script::named(&script).all_calls() {
        for (call, kind) in (1..=calls).flat_map(|call| FaultKind::ALL.map(|kind| (call, kind))) {
            let (script, names, store) = (unique("script"), places(), MemoryStore::new());
            let what = format!("{kind:?} at {site:?} call {call}");
            Script::named(&script).add(Fault::new(site, call, kind).with_delay(Duration::from_secs(2)));
            let graph = staged(&script, [&names[0], &names[1]]);
            let mut runs = 0;
            let whole = |name: &str| written(name) == all(12);
            loop {
                runs += 1;
                let ended = within(engine_with(&store).run(&graph)).await;
                let shown = written(&names[1]);
                assert!(
                    shown.windows(2).all(|pair| pair[0] < pair[1]),
                    "{what}: {shown:?} after {runs} runs"
                );
                if ended.is_ok_and(|report| report.status == RunStatus::Success) {
                    break;
                }
                assert!(runs < 4, "{what}: it never gets done");
            }
            assert!(
                whole(&names[0]) && whole(&names[1]),
                "{what}: {:?} {:?}",
                written(&names[0]),
                written(&names[1])
            );
            fired.extend(Script::named(&script).fired().iter().map(|met| (met.site, met.kind)));
            Script::remove(&script);
            names.iter().for_each(|name| Place::remove(name));
        }
    }
    for site in
        [Site::Partitions, Site::Read, Site::Open, Site::Write, Site::Flush, Site::Publish, Site::Close]
    {
        for kind in FaultKind::ALL {
            assert!(fired.contains(&(site, kind)), "{kind:?} at {site:?} never fired");
        }
    }
}

/// Two sources beside each other, and whether items of both were on their way at once.
fn beside(outs: &[String; 2], now: &Arc<[AtomicU64; 2]>, both: &Arc<AtomicBool>) -> Graph {
    let work = |at: usize| {
        let (now, both) = (now.clone(), both.clone());
        let work = act(Form::Batch, ["a", "b"][at], move |items: Vec<Item>, _| {
            let (now, both) = (now.clone(), both.clone());
            Box::pin(async move {
                now[at].fetch_add(1, Ordering::Relaxed);
                both.fetch_or(now[1 - at].load(Ordering::Relaxed) > 0, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
                now[at].fetch_sub(1, Ordering::Relaxed);
                Ok(items.into_iter().map(Outcome::emit).collect())
            })
        });
        with(work, json!({ "config": { "items": 6 } }))
    };
    document(json!({
        "settings": { "checkpoint": { "every": "5ms", "uncommitted_items": 60 } },
        "nodes": {
            "a": with(batches(100, 6), json!({ "config": { "partitions": 2 } })),
            "work_a": work(0),
            "out_a": sink(&outs[0], "work_a"),
            "b": batches(100, 6),
            "work_b": work(1),
            "out_b": with(sink(&outs[1], "work_b"), json!({ "config": { "buffers": true } })),
        },
    }))
}

#[test]
fn after_a_kill_one_group_is_on_its_way_in_the_whole_graph() {
    let (store, outs) = (MemoryStore::new(), [unique("a"), unique("b")]);
    let (now, both) = (Arc::default(), Arc::<AtomicBool>::default());
    let graph = beside(&outs, &now, &both);
    assert!(run_until(&engine_with(&store), &graph, Duration::from_millis(5)).is_none());
    assert!(both.load(Ordering::Relaxed), "they are read side by side");
    assert!(RunState::of("test", &store.peek("test").unwrap()).unwrap().running);

    let (now, both) = (Arc::default(), Arc::<AtomicBool>::default());
    let work = beside(&outs, &now, &both);
    let accepting = builder().checkpoints(store).build().unwrap().accepting(["work_a", "work_b"]);
    let report = run_until(&accepting, &work, PATIENCE).unwrap();
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert!(!both.load(Ordering::Relaxed), "{report}");
    assert_eq!(checkpoint(&report).careful + checkpoint(&report).resumed_items, 200, "{report}");
    assert!(report.to_string().contains("replayed carefully"), "{report}");
    assert_eq!(outs.map(|out| written(&out)), [all(100), all(100)]);
}

#[tokio::test(start_paused = true)]
async fn what_ends_in_an_orderly_way_is_replayed_as_usual() {
    for how in ["drained", "cancelled", "failed"] {
        let (store, out, seen) = (MemoryStore::new(), unique("out"), Arc::default());
        let mut graph = slow(&out, &seen);
        if how == "failed" {
            graph.settings.timeout = Some(Duration::from_millis(20));
        }
        let handle = engine_with(&store).start(&graph).await.unwrap();
        if how != "failed" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        match how {
            "drained" => handle.drain(PATIENCE),
            "cancelled" => handle.cancel(),
            _ => {}
        }
        assert_ne!(handle.wait().await.unwrap().status, RunStatus::PartialFailure);
        assert!(!RunState::of("test", &store.peek("test").unwrap()).unwrap().running, "{how}");
        graph.settings.timeout = None;
        let report = run_on(&engine_with(&store), &graph).await;
        assert_eq!((report.status, checkpoint(&report).careful), (RunStatus::Success, 0), "{how}: {report}");
        assert_eq!(written(&out), all(ITEMS), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_time_ends_while_it_is_made_ready_has_ended_in_an_orderly_way() {
    let (store, script) = (MemoryStore::new(), unique("script"));
    Script::named(&script).inject(Site::Open, 1, FaultKind::Hang);
    let graph = document(json!({
        "settings": { "timeout": "5s" },
        "nodes": {
            "in": numbers(5),
            "out": { "type": "sink", "use": "faulty/sink", "inputs": ["in"],
                     "config": { "script": script, "sink": { "name": unique("out") } } },
        },
    }));
    let error = within(engine_with(&store).run(&graph)).await.unwrap_err();
    assert_eq!(error.message(), "the run took longer than its timeout of 5s");
    assert!(!RunState::of("test", &store.peek("test").unwrap()).unwrap().running);
}

#[test]
fn a_run_that_was_stopped_while_it_was_careful_is_careful_when_it_goes_on() {
    let (store, out, seen) = (MemoryStore::new(), unique("out"), Arc::default());
    let graph = slow(&out, &seen);
    assert!(run_until(&engine_with(&store), &graph, Duration::from_millis(8)).is_none());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let report = runtime.block_on(async {
        let handle = engine_with(&store).start(&graph).await.unwrap();
        tokio::time::sleep(Duration::from_millis(4)).await;
        handle.drain(PATIENCE);
        handle.wait().await.unwrap()
    });
    let first = checkpoint(&report).careful;
    assert!(0 < first && first < 120, "{report}");
    let report = run_until(&engine_with(&store), &graph, PATIENCE).unwrap();
    assert!((110..=130).contains(&(first + checkpoint(&report).careful)), "twice the span in all: {report}");
    assert_eq!((report.status, written(&out)), (RunStatus::Success, all(ITEMS)));
}

#[test]
fn a_source_has_its_time_while_a_group_is_on_its_way_after_a_kill() {
    let (store, out) = (MemoryStore::new(), unique("out"));
    let wait = || Step::Sleep(Duration::from_secs(2));
    let script = vec![vec![Step::Give(0..1)], vec![wait(), wait(), Step::Give(1..2)]];
    let patient = json!({ "timeout": "5s", "retry": { "max_attempts": 1 }, "concurrency": 2 });
    let slowly = act(Form::Transform, "in", |items, _| async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        Ok(items.into_iter().map(Outcome::emit).collect())
    });
    let graph = graph(json!({
        "in": with(scripted(script), patient), "slowly": slowly, "out": sink(&out, "slowly"),
    }));
    assert!(run_until(&engine_with(&store), &graph, Duration::from_secs(1)).is_none(), "killed");
    let report = run_until(&engine_with(&store), &graph, PATIENCE).unwrap();
    assert!(report.is_success() && checkpoint(&report).careful == 2, "{report}");
    assert_eq!(written(&out), [0, 1]);
}
