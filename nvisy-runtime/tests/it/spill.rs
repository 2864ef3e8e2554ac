//! Readers of a fan-out that take their time, and have a buffer for it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nvisy_core::prelude::*;
use nvisy_core::testing::memory::{Form, MemoryStore as Place};
use nvisy_core::{Error, ErrorKind};
use nvisy_runtime::Engine;
use nvisy_runtime::engine::{RunReport, RunStatus};
use nvisy_runtime::graph::Graph;
use serde_json::{Value, json};

use crate::fixture::*;

const ITEMS: u64 = 120;

fn engine_in(folder: &Path) -> Engine {
    builder().state(folder).build().unwrap()
}

/// What two readers got: one takes a second an item, the other no time at all.
#[derive(Default)]
struct Race {
    slow: Mutex<Vec<u64>>,
    fast: AtomicU64,
    /// How many more the fast one had, at the most.
    lead: AtomicU64,
    /// How many the slow one had when the fast one had all.
    behind: AtomicU64,
}

impl Race {
    fn graph(self: &Arc<Self>, spill: Value) -> Graph {
        let (race, other) = (self.clone(), self.clone());
        let slow = write("copies", move |items: Vec<Primitive>| {
            let race = race.clone();
            async move {
                tokio::time::sleep(Duration::from_secs(items.len() as u64)).await;
                race.slow.lock().unwrap().extend(items.iter().map(number));
                Ok(WriteReport::applied(items.len()))
            }
        });
        let fast = write("copies", move |items: Vec<Primitive>| {
            let (race, items) = (other.clone(), items.len());
            async move {
                let fast = race.fast.fetch_add(items as u64, Ordering::Relaxed) + items as u64;
                let slow = race.slow.lock().unwrap().len() as u64;
                race.lead.fetch_max(fast - slow, Ordering::Relaxed);
                if fast == ITEMS {
                    race.behind.store(slow, Ordering::Relaxed);
                }
                Ok(WriteReport::applied(items))
            }
        });
        document(json!({
            "settings": { "checkpoint": { "uncommitted_items": 20 } },
            "nodes": {
                "in": batches(ITEMS, 5),
                "copies": { "type": "fan_out", "inputs": ["in"], "spill": spill },
                "slow": with(slow, json!({ "config": { "items": 1 } })),
                "fast": with(fast, json!({ "config": { "items": 5 } })),
            },
        }))
    }

    async fn run(spill: Value, engine: &Engine) -> (Arc<Self>, RunReport) {
        let race = Arc::new(Self::default());
        let report = run_on(engine, &race.graph(spill)).await;
        assert_eq!(report.status, RunStatus::Success, "{report}");
        assert_eq!(race.fast.load(Ordering::Relaxed), ITEMS);
        assert_eq!(*race.slow.lock().unwrap(), all(ITEMS), "in order, each once");
        (race, report)
    }

    fn lead(&self) -> u64 {
        self.lead.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_spills_does_not_hold_up_the_others() {
    let (without, _) = Race::run(json!({}), &engine()).await;
    assert!(without.lead() < 60, "{}", without.lead());

    let (race, report) = Race::run(json!({ "slow": {} }), &engine()).await;
    let behind = race.behind.load(Ordering::Relaxed);
    assert!(behind < 5, "the slow one had {behind} when the fast one had all");
    let buffer = node(&report, "copies.slow");
    assert_eq!((buffer.absorbed, buffer.released, buffer.waiting, buffer.spilled), (ITEMS, ITEMS, 0, 0));
    assert_eq!(node(&report, "slow").received, ITEMS);
}

#[tokio::test(start_paused = true)]
async fn nor_do_its_checkpoints() {
    let folder = tempfile::tempdir().unwrap();
    let (race, report) = Race::run(json!({ "slow": {} }), &engine_in(folder.path())).await;
    let behind = race.behind.load(Ordering::Relaxed);
    assert!(behind < 30, "the slow one had {behind} when the fast one had all: {report}");
    let left = walk(folder.path()).into_iter().filter(|file| file.contains(".run")).count();
    assert_eq!(left, 0, "files of a run that has finished");
}

fn walk(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => files.extend(walk(&path)),
            path => files.push(path.display().to_string()),
        }
    }
    files
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_memory_waits_in_files() {
    let (race, report) = Race::run(json!({ "slow": { "memory": "1B" } }), &engine()).await;
    assert!(race.behind.load(Ordering::Relaxed) < 5, "{report}");
    assert!(node(&report, "copies.slow").spilled > 10 * ITEMS, "{report}");
    assert!(report.to_string().contains("of it went to files"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn at_its_bound_the_fan_out_waits() {
    for folder in [None, Some(tempfile::tempdir().unwrap())] {
        let engine = folder.as_ref().map_or_else(engine, |folder| engine_in(folder.path()));
        let (race, report) = Race::run(json!({ "slow": { "memory": "2KB", "disk": "4KB" } }), &engine).await;
        assert!((25..90).contains(&race.lead()), "{} {report}", race.lead());
    }
}

/// Two upserting sinks, behind one of which an action takes its time.
fn durable(slow: &str, fast: &str, spill: Value, behind: Value) -> Graph {
    let slowly = act(Form::Batch, "copies", |items: Vec<Item>, _| async move {
        tokio::time::sleep(Duration::from_millis(items.len() as u64)).await;
        Ok(items.into_iter().map(Outcome::emit).collect())
    });
    let nodes = json!({
        "in": with(batches(120, 6), json!({ "config": { "partitions": 2 } })),
        "copies": { "type": "fan_out", "inputs": ["in"], "spill": { "slowly": spill } },
        "slowly": with(slowly, json!({ "config": { "items": 2 }, "concurrency": 2 })),
        "fast": sink(fast, "copies"),
        "slow": sink(slow, "slowly"),
    });
    document(json!({
        "settings": { "checkpoint": { "every": "4ms", "uncommitted_items": 24 } },
        "nodes": with(nodes, behind),
    }))
}

/// Runs for some virtual time, and then is gone, as if killed; until a run ends.
fn run_through_kills(seed: u64, graph: &Graph) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let mut kills = 0;
    loop {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let life = Duration::from_millis(3 + (kills * 7 + seed * 3) % 29 + kills / 4);
        let engine = engine_in(folder.path());
        let report = runtime.block_on(async { tokio::time::timeout(life, engine.run(graph)).await });
        drop(engine);
        runtime.shutdown_timeout(Duration::from_secs(60));
        match report {
            Ok(report) => {
                let report = report.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
                assert_eq!(report.status, RunStatus::Success, "seed {seed}: {report}");
                assert!(report.imbalances.is_empty(), "seed {seed}: {report}");
                return kills;
            }
            Err(_) => kills += 1,
        }
        assert!(kills < 1_000, "seed {seed}: it never ends");
    }
}

#[test]
fn whenever_it_is_killed_every_reader_has_everything_once() {
    let sort = |slow: &str| {
        json!({
            "sort": { "type": "action", "use": "sort", "inputs": ["slowly"],
                      "config": { "by": [{ "value": "raw.n" }], "memory": "1KB" } },
            "slow": sink(slow, "sort"),
        })
    };
    for seed in 0..6 {
        let [slow, fast] = ["slow", "fast"].map(unique);
        let spill = [json!({ "memory": "1B" }), json!({}), json!({ "memory": "1KB", "disk": "2KB" })];
        // What remembers behind the buffer must not be given again what it has.
        let behind = if seed < 3 { json!({}) } else { sort(&slow) };
        let graph = durable(&slow, &fast, spill[seed as usize % 3].clone(), behind);
        let kills = run_through_kills(seed, &graph);
        assert!(kills > 0, "seed {seed}");
        assert_eq!(written(&slow), all(120), "seed {seed}");
        assert_eq!(written(&fast), all(120), "seed {seed}");
    }
}

#[test]
fn files_behind_it_hold_each_item_once_too() {
    for seed in 0..3 {
        let [slow, fast] = ["slow", "fast"].map(unique);
        let staging = json!({ "config": { "mode": "append", "staging": true } });
        let stages = json!({ "slow": with(sink(&slow, "slowly"), staging) });
        let kills = run_through_kills(seed, &durable(&slow, &fast, json!({ "memory": "1B" }), stages));
        assert!(kills > 0, "seed {seed}");
        assert_eq!(written(&slow), all(120), "seed {seed}");
        assert_eq!(written(&fast), all(120), "seed {seed}");
    }
}

/// A fast sink, and one that refuses the number 50 while it is `broken`.
fn breaking(fast: &str, slow: &str, broken: &Arc<AtomicBool>, spill: Value) -> Graph {
    let broken = broken.clone();
    let fails = act(Form::Batch, "copies", move |items: Vec<Item>, _| {
        let refuses = broken.load(Ordering::Relaxed) && items.iter().any(|item| n(item) == 50);
        async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            match refuses {
                true => Err(Error::new(ErrorKind::Permission, "not this one")),
                false => Ok(items.into_iter().map(Outcome::emit).collect()),
            }
        }
    });
    graph(json!({
        "in": batches(200, 5),
        "copies": { "type": "fan_out", "inputs": ["in"], "spill": { "fails": spill } },
        "fast": sink(fast, "copies"),
        "fails": with(fails, json!({ "config": { "items": 5 }, "concurrency": 1 })),
        "slow": sink(slow, "fails"),
    }))
}

#[tokio::test(start_paused = true)]
async fn what_a_reader_failed_to_take_is_there_for_the_next_run_and_the_others_are_done() {
    let (folder, broken) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(true)));
    let [slow, fast] = ["slow", "fast"].map(unique);
    let graph = breaking(&fast, &slow, &broken, json!({}));
    let report = run_on(&engine_in(folder.path()), &graph).await;
    assert_eq!(report.status, RunStatus::PartialFailure, "{report}");
    assert_eq!(written(&fast), all(200), "{report}");
    assert_eq!(written(&slow), all(50), "{report}");
    assert_eq!(node(&report, "copies.fails").waiting, 150, "{report}");

    broken.store(false, Ordering::Relaxed);
    let report = run_on(&engine_in(folder.path()), &graph).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(node(&report, "fast").received, 0, "{report}");
    assert_eq!(node(&report, "copies.fails").released, 150, "{report}");
    assert_eq!(written(&slow), all(200));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_failed_holds_nobody_up() {
    for (state, spill) in [(false, json!({})), (true, json!({ "memory": "1KB", "disk": "1KB" }))] {
        let (folder, broken) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(true)));
        let [slow, fast] = ["slow", "fast"].map(unique);
        let graph = breaking(&fast, &slow, &broken, spill);
        let engine = || if state { engine_in(folder.path()) } else { engine() };
        let report = run_on(&engine(), &graph).await;
        assert_eq!(report.status, RunStatus::PartialFailure, "{report}");
        assert_eq!(written(&fast), all(200), "{report}");

        broken.store(false, Ordering::Relaxed);
        let report = run_on(&engine(), &graph).await;
        assert_eq!(report.status, RunStatus::Success, "{report}");
        assert_eq!((written(&fast), written(&slow)), (all(200), all(200)));
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_sinks_behind_a_buffer_at_its_bound_one_may_fail_and_the_run_ends() {
    let (folder, broken) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(true)));
    let [slow, fast, beside] = ["slow", "fast", "beside"].map(unique);
    let Value::Object(mut nodes) = json!(breaking(&fast, &slow, &broken, json!({})))["nodes"].take() else {
        panic!("a graph has nodes")
    };
    // More than can be on its way when a checkpoint is made.
    nodes.insert("in".into(), batches(20_000, 100));
    nodes["copies"]["spill"] = json!({ "both": { "memory": "1KB", "disk": "1KB" } });
    nodes.insert("both".into(), json!({ "type": "fan_out", "inputs": ["copies"] }));
    nodes["fails"]["inputs"] = json!(["both"]);
    nodes.insert("beside".into(), sink(&beside, "both"));
    let graph = graph(json!(nodes));
    let report = run_on(&engine_in(folder.path()), &graph).await;
    assert_eq!(report.status, RunStatus::PartialFailure, "{report}");
    assert_eq!(written(&fast), all(20_000), "{report}");
    let failure = node(&report, "copies.both").failure.as_ref().unwrap_or_else(|| panic!("{report}"));
    assert!(failure.message.contains("the bound of its buffer is reached"), "{report}");

    broken.store(false, Ordering::Relaxed);
    let report = run_on(&engine_in(folder.path()), &graph).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    for store in [&fast, &slow, &beside] {
        assert_eq!(written(store), all(20_000), "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_drained_ends_with_what_waits_or_leaves_it_to_the_next() {
    for state in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let [slow, fast] = ["slow", "fast"].map(unique);
        let graph = breaking(&fast, &slow, &Arc::new(AtomicBool::new(false)), json!({ "memory": "1B" }));
        let engine = || if state { engine_in(folder.path()) } else { engine() };
        let run = engine().start(&graph).await.unwrap();
        tokio::time::sleep(Duration::from_millis(450)).await;
        run.drain(Duration::from_secs(60));
        let report = within(run.wait()).await.unwrap();
        assert!(report.drained && report.imbalances.is_empty(), "{report}");
        let waiting = node(&report, "copies.fails").waiting;
        if state {
            assert!(waiting > 100, "{report}");
            let report = run_on(&engine(), &graph).await;
            assert_eq!(report.status, RunStatus::Success, "{report}");
        } else {
            assert_eq!(waiting, 0, "{report}");
        }
        assert_eq!((written(&fast), written(&slow)), (all(200), all(200)), "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_cancelled_counts_what_waited() {
    let [slow, fast] = ["slow", "fast"].map(unique);
    let graph = breaking(&fast, &slow, &Arc::new(AtomicBool::new(false)), json!({}));
    let run = engine().start(&graph).await.unwrap();
    tokio::time::sleep(Duration::from_millis(450)).await;
    run.cancel();
    let report = within(run.wait()).await.unwrap();
    assert_eq!(report.status, RunStatus::Cancelled, "{report}");
    assert!(report.imbalances.is_empty(), "{report}");
    assert!(Place::named(&slow).len() < 50 && node(&report, "copies.fails").absorbed == 200, "{report}");
}

#[tokio::test(start_paused = true)]
async fn how_much_may_wait_may_change_between_runs_and_who_has_a_buffer_may_not() {
    let (folder, broken) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(true)));
    let [slow, fast] = ["slow", "fast"].map(unique);
    let graph = breaking(&fast, &slow, &broken, json!({}));
    run_on(&engine_in(folder.path()), &graph).await;
    broken.store(false, Ordering::Relaxed);

    let with_spill = |spill: Value| {
        let mut graph: Value = serde_json::from_str(&graph.to_json()).unwrap();
        graph["nodes"]["copies"]["spill"] = spill;
        Graph::from_json(&graph.to_string()).unwrap()
    };
    let error = engine_in(folder.path()).run(&with_spill(json!({}))).await.unwrap_err();
    assert!(error.to_string().contains("node \"copies\" is another one"), "{error}");
    let larger = with_spill(json!({ "fails": { "memory": "1MB" } }));
    let report = run_on(&engine_in(folder.path()), &larger).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!(written(&slow), all(200));
}
