//! Three graphs, stopped at every point, and with every call meeting every fault.

use std::collections::BTreeSet;
use std::time::Duration;

use nvisy_core::DeadLetter;
use nvisy_core::prelude::*;
use nvisy_core::testing::faulty::{Fault, FaultKind, Script, Site};
use nvisy_core::testing::memory::MemoryStore;
use nvisy_runtime::engine::{RunReport, RunStatus};
use serde_json::{Value, json};

use crate::fixture::*;
use crate::model::Dice;
use crate::torture::Torture;

const ITEMS: u64 = 12;
const GRAPHS: usize = 3;
/// Nothing is published or replaced but in a run with checkpoints: the tests of those have sweeps too.
const ELSEWHERE: [Site; 2] = [Site::Publish, Site::Replace];

/// One of the graphs, with the stores that every item has to be in one of.
fn sample(which: usize, script: &str) -> (Value, Vec<Vec<String>>) {
    let [out, other, aside] = ["out", "other", "aside"].map(unique);
    let retry = json!({ "timeout": "5s", "retry": { "max_attempts": 3, "initial": "10ms" } });
    let source = |partitions: u64| {
        let values: Vec<Value> = (0..ITEMS).map(|n| json!({ "n": n })).collect();
        let config = json!({ "items": values, "batch_items": 3, "partitions": partitions, "yields": 1 });
        with(
            json!({ "type": "source", "use": "faulty/source", "config": { "script": script, "source": config } }),
            retry.clone(),
        )
    };
    let action = |input: &str, form: &str, calls: &str| {
        let config = json!({ "script": script, "action": { "form": form, "calls": calls, "yields": 1 } });
        let action = json!({ "type": "action", "use": "faulty/action", "inputs": [input], "config": config });
        // What has memory, and what changes streams, tries nothing again.
        with(
            action,
            if matches!(form, "stateful" | "pipe") { json!({ "timeout": "5s" }) } else { retry.clone() },
        )
    };
    let to = |store: &str, input: &str, buffers: bool| {
        let config = json!({ "name": store, "buffers": buffers, "batch_items": 4, "yields": 1 });
        with(
            json!({ "type": "sink", "use": "faulty/sink", "inputs": [input], "config": { "script": script, "sink": config } }),
            retry.clone(),
        )
    };
    match which {
        0 => (
            json!({ "nodes": {
                "in": source(1), "act": action("in", "transform", "idempotent"), "out": to(&out, "act", false),
            } }),
            vec![vec![out]],
        ),
        1 => (
            json!({ "settings": { "checkpoint": { "uncommitted_items": 6 } }, "nodes": {
                "in": source(2), "act": action("in", "batch", "paid"),
                "by": { "type": "branch", "inputs": ["act"], "routes": { "small": "raw.n < 5" }, "default": "large" },
                "out": to(&out, "by.small", true), "other": to(&other, "by.large", false),
                "aside": sink(&aside, "act.dead_letter"),
            } }),
            vec![vec![out, other, aside]],
        ),
        _ => (
            json!({ "nodes": {
                "in": source(1), "copies": { "type": "fan_out", "inputs": ["in"] },
                "a": action("copies", "stateful", "none"), "b": action("copies", "columnar", "none"),
                "all": { "type": "fan_in", "inputs": ["a", "b"] },
                "c": { "type": "fan_out", "inputs": ["all"] },
                "d": action("c", "pipe", "none"), "out": to(&out, "d", true), "other": to(&other, "c", false),
            } }),
            vec![vec![out], vec![other]],
        ),
    }
}

fn in_stores(stores: &[String]) -> BTreeSet<u64> {
    let items = stores.iter().flat_map(|store| MemoryStore::named(store).items());
    items
        .map(|item| {
            DeadLetter::from_primitive(&item)
                .map_or_else(|_| number(&item), |letter| number(&letter.primitive))
        })
        .collect()
}

/// Whatever is acknowledged is where it has to be.
fn check(report: &RunReport, places: &[Vec<String>], what: &str) {
    assert!(report.imbalances.is_empty(), "{what}: {report}");
    let partitions = report.nodes.iter().find(|node| &*node.name == "by").map_or(1, |_| 2);
    for mark in &report.partitions {
        let Some(Position::Offset(last)) = mark.position else { continue };
        let first = mark.partition.parse::<u64>().unwrap_or(0);
        for place in places {
            let there = in_stores(place);
            for n in (first..=last).step_by(partitions) {
                assert!(there.contains(&n), "{what}: {n} is acknowledged and not there\n{report}");
            }
        }
    }
}

#[test]
fn a_run_that_is_stopped_anywhere_acknowledges_nothing_that_is_not_written() {
    // The test's own future is polled after every poll of a task.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).event_interval(1).build().unwrap();
    runtime.block_on(stop_everywhere());
}

async fn stop_everywhere() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    for which in 0..GRAPHS {
        let mut stops = 0;
        for polls in 0.. {
            let engine = engine();
            let (graph, places) = sample(which, &unique("script"));
            let run = engine.start(&document(graph.clone())).await.unwrap();
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
            run.cancel();
            let report = within(run.wait()).await.unwrap();
            check(&report, &places, &format!("graph {which} after {polls} polls"));

            let (graph, _) = sample(which, &unique("script"));
            let run = engine.start(&document(graph)).await.unwrap();
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
            drop(run);
            within(async {
                while tasks() > 0 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            stops += u64::from(report.status == RunStatus::Cancelled);
            if report.status == RunStatus::Success {
                assert_eq!(settled_items(&report), ITEMS);
                break;
            }
        }
        assert!(stops > 10, "graph {which} was stopped at {stops} points");
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_may_meet_every_fault() {
    let mut fired = BTreeSet::new();
    for which in 0..GRAPHS {
        let script = unique("script");
        let (graph, places) = sample(which, &script);
        let report = run_graph(&document(graph)).await;
        assert_eq!((report.status, settled_items(&report)), (RunStatus::Success, ITEMS), "{report}");
        check(&report, &places, "no fault");
        for (site, calls) in Script::named(&script).all_calls() {
            for call in 1..=calls {
                for kind in FaultKind::ALL {
                    let script = unique("script");
                    let what = format!("graph {which}, {kind:?} at {site:?} call {call}");
                    Script::named(&script)
                        .add(Fault::new(site, call, kind).with_delay(Duration::from_secs(2)));
                    let (graph, places) = sample(which, &script);
                    let started = within(engine().run(&document(graph))).await;
                    let met = Script::named(&script).fired();
                    assert_eq!(
                        met.first().map(|met| (met.site, met.call, met.kind)),
                        Some((site, call, kind)),
                        "{what}"
                    );
                    fired.insert((site, kind));
                    let report = match started {
                        Ok(report) => report,
                        Err(error) => {
                            assert!(matches!(site, Site::Build | Site::Open), "{what}: {error:?}");
                            assert!(places.iter().all(|place| in_stores(place).is_empty()), "{what}");
                            Script::remove(&script);
                            continue;
                        }
                    };
                    check(&report, &places, &what);
                    let harmless = match site {
                        Site::Apply => which == 0 && matches!(kind, FaultKind::Retryable | FaultKind::Hang),
                        Site::Build => false,
                        _ => kind != FaultKind::Terminal && kind != FaultKind::Panic,
                    };
                    if harmless || kind == FaultKind::Slow {
                        assert_eq!(
                            (report.status, settled_items(&report)),
                            (RunStatus::Success, ITEMS),
                            "{what}: {report}"
                        );
                    }
                    Script::remove(&script);
                    places.iter().flatten().for_each(|store| MemoryStore::remove(store));
                }
            }
        }
    }
    for site in Site::ALL.into_iter().filter(|site| !ELSEWHERE.contains(site)) {
        for kind in FaultKind::ALL {
            assert!(fired.contains(&(site, kind)), "{kind:?} at {site:?} never fired");
        }
    }
}

#[test]
fn two_calls_may_meet_faults() {
    let mut torture = Torture::of("sweep", 60, 1);
    let (mut done, mut met) = (0, 0);
    let run_one = |graph: Value| {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(within(engine().run(&document(graph))))
    };
    let calls: Vec<Vec<(Site, u64)>> = (0..GRAPHS)
        .map(|which| {
            let script = unique("script");
            assert!(run_one(sample(which, &script).0).unwrap().is_success());
            Script::named(&script).all_calls().into_iter().collect()
        })
        .collect();
    torture.each(|seed| {
        let mut dice = Dice(seed);
        let (which, script) = (dice.roll(GRAPHS as u64) as usize, unique("script"));
        for _ in 0..2 {
            let (site, calls) = dice.of(&calls[which]);
            let fault = Fault::new(site, 1 + dice.roll(calls), dice.of(&FaultKind::ALL));
            Script::named(&script).add(fault.with_delay(Duration::from_secs(2)));
        }
        let (graph, places) = sample(which, &script);
        let started = run_one(graph);
        let fired = Script::named(&script).fired();
        let what = format!("{fired:?}");
        (done, met) = (done + 1, met + u32::from(!fired.is_empty()));
        match started {
            Ok(report) => check(&report, &places, &what),
            Err(_) => assert!(places.iter().all(|place| in_stores(place).is_empty()), "{what}"),
        }
        Script::remove(&script);
        places.iter().flatten().for_each(|store| MemoryStore::remove(store));
        0
    });
    assert!(met > done / 2, "of {done} runs only {met} met a fault");
    torture.tell_well(0);
}
