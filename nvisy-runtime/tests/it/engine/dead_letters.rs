//! Too many dead letters fail a run; those that were kept are replayed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use nvisy_core::prelude::*;
use nvisy_core::testing::memory::{Form, MemoryStore};
use nvisy_core::{DeadLetter, KindId, Payload, Primitive};
use nvisy_runtime::dead_letter::replay_graph;
use nvisy_runtime::engine::{NodeStatus, RunReport, RunStatus};
use nvisy_runtime::graph::{Graph, SourceNode};
use serde_json::{Value, json};

use crate::fixture::*;

/// A switch that a test turns.
#[derive(Clone, Default)]
struct Broken(Arc<AtomicBool>);

impl Broken {
    fn set(&self, broken: bool) {
        self.0.store(broken, Ordering::Relaxed);
    }

    /// An action that times out while it is broken, for the items that a test names.
    fn act(&self, input: &str, which: impl Fn(&Item) -> bool + Send + Sync + 'static) -> Value {
        let broken = self.0.clone();
        let act = each(Form::Batch, input, move |item| {
            if broken.load(Ordering::Relaxed) && which(&item) {
                return Err(Error::new(ErrorKind::Timeout, "too late").with_detail("of the item"));
            }
            Ok(Outcome::emit(item))
        });
        with(act, json!({ "retry": { "max_attempts": 2, "initial": "1ms" } }))
    }
}

/// Puts what a sink wrote before a source.
fn hand_over(from: &str, to: &str) {
    let letters = MemoryStore::named(from).items();
    MemoryStore::named(to).put(letters.iter().map(|letter| letter.payload().clone()));
}

fn memory(name: &str) -> SourceNode {
    SourceNode::new("memory/source", json!({ "name": name }))
}

fn letters(store: &str) -> Vec<DeadLetter> {
    let items = MemoryStore::named(store).items();
    items.iter().map(|item| DeadLetter::from_primitive(item).unwrap()).collect()
}

/// What may not change of an item on its way aside and back.
fn essence(store: &str) -> Vec<String> {
    let of = |item: &Primitive| format!("{} {} {:?}", item.id(), item.content_hash(), item.root());
    let mut items: Vec<String> = MemoryStore::named(store).items().iter().map(of).collect();
    items.sort();
    items
}

async fn flood(items: u64, limit: Value, fails: fn(u64) -> bool) -> (RunReport, usize) {
    let [out, aside] = ["out", "aside"].map(unique);
    let act = each(Form::Batch, "in", move |item| {
        if fails(n(&item)) {
            Err(Error::new(ErrorKind::Permission, "go away"))
        } else {
            Ok(Outcome::emit(item))
        }
    });
    let graph = document(json!({
        "nodes": {
            "in": batches(items, 10), "act": act,
            "out": sink(&out, "act"), "aside": sink(&aside, "act.dead_letter"),
        },
        "settings": limit,
    }));
    let report = run_graph(&graph).await;
    (report, MemoryStore::named(&aside).items().len())
}

#[tokio::test(start_paused = true)]
async fn a_node_that_sets_too_much_aside_fails_and_keeps_what_went_aside_before() {
    let (report, aside) = flood(400, json!({}), |n| n >= 100).await;

    assert_eq!(report.status, RunStatus::Failure, "{report}");
    let act = node(&report, "act");
    assert_eq!((act.status, act.dead_lettered, aside), (NodeStatus::Failed, 50, 50), "{report}");
    assert_eq!(settled_items(&report), 150, "what went aside is done with, what tipped the scales is not");
    let failure = act.failure.as_ref().unwrap();
    assert_eq!((&*failure.tag, failure.context.node.as_deref()), ("connector.permission", Some("act")));
    assert_eq!(
        failure.message,
        "more than 50 of its last 1000 items failed, and no more may go to the dead letters (a share of 0.05), the last one for: connector.permission: go away: see whether they share a cause, or raise `settings.dead_letter_limit`"
    );
}

#[tokio::test(start_paused = true)]
async fn a_few_items_of_a_small_run_go_aside() {
    let (report, aside) = flood(10, json!({}), |n| n == 3).await;
    assert_eq!((report.status, aside), (RunStatus::Success, 1), "{report}");
    let (report, aside) = flood(3_000, json!({}), |n| n % 20 == 0).await;
    assert_eq!((report.status, aside), (RunStatus::Success, 150), "{report}");
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_set_or_turned_off() {
    let none = json!({ "dead_letter_limit": { "share": 1 } });
    let (report, aside) = flood(300, none, |_| true).await;
    assert_eq!((report.status, aside), (RunStatus::Success, 300), "{report}");
    let strict = json!({ "dead_letter_limit": { "share": 0 } });
    let (report, aside) = flood(300, strict, |n| n == 77).await;
    assert_eq!((report.status, aside, settled_items(&report)), (RunStatus::Failure, 0, 70), "{report}");
}

#[tokio::test(start_paused = true)]
async fn sources_and_sinks_that_set_too_much_aside_fail_too() {
    let strict = json!({ "dead_letter_limit": { "share": 0.1, "of": 10 } });
    let [out, aside] = ["out", "aside"].map(unique);
    for refused in [1, 2] {
        let source =
            with(batches(30, 10), json!({ "config": { "rejected": (0..refused).collect::<Vec<_>>() } }));
        let graph = document(json!({
            "nodes": { "in": source, "out": sink(&out, "in"), "aside": sink(&aside, "in.dead_letter") },
            "settings": strict,
        }));
        let report = run_graph(&graph).await;
        assert_eq!(node(&report, "in").failure.is_some(), refused > 1, "{report}");

        let store = write("in", move |items| async move {
            let no = || nvisy_core::WriteStatus::Rejected(Error::new(ErrorKind::Permission, "no"));
            let report = WriteReport::applied(items.len());
            Ok((0..refused).fold(report, |report, index| report.with(index, no())))
        });
        let graph = document(json!({
            "nodes": { "in": batches(10, 10), "out": store, "aside": sink(&aside, "out.dead_letter") },
            "settings": strict,
        }));
        let report = run_graph(&graph).await;
        assert_eq!(node(&report, "out").failure.is_some(), refused > 1, "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_source_rejects_counts_among_all_that_came_with_it() {
    for (every, too_many) in [(80, false), (19, true)] {
        let [out, aside] = ["out", "aside"].map(unique);
        let rejected: Vec<u64> = (0..10_000).step_by(every).collect();
        let source = with(batches(10_000, 5_000), json!({ "config": { "rejected": rejected } }));
        let graph =
            graph(json!({ "in": source, "out": sink(&out, "in"), "aside": sink(&aside, "in.dead_letter") }));
        let report = run_graph(&graph).await;
        assert_eq!(node(&report, "in").failure.is_some(), too_many, "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_rejected_and_what_has_no_key_are_counted_together() {
    let strict = json!({ "dead_letter_limit": { "share": 0.1, "of": 10 } });
    for (without, too_many) in [(None, false), (Some(9), true)] {
        let [out, aside] = ["out", "aside"].map(unique);
        let items: Vec<_> =
            (0..10).map(|n| json!({ "n": n, "k": (Some(n) != without).then_some(n) })).collect();
        let source = json!({ "type": "source", "use": "memory/source", "key": "raw.k",
                             "config": { "items": items, "rejected": [0] } });
        let graph = document(json!({
            "nodes": { "in": source, "out": sink(&out, "in"), "aside": sink(&aside, "in.dead_letter") },
            "settings": strict,
        }));
        let report = run_graph(&graph).await;
        assert_eq!(node(&report, "in").failure.is_some(), too_many, "{report}");
        assert!(report.imbalances.is_empty(), "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_fails_at_two_nodes_has_a_row_for_each() {
    let [rows, first, second] = ["rows", "first", "second"].map(unique);
    let broken = Broken::default();
    broken.set(true);
    let report = run_graph(&graph(json!({
        "in": numbers(3),
        "copies": { "type": "fan_out", "inputs": ["in"] },
        "one": broken.act("copies", |_| true),
        "other": broken.act("copies", |_| true),
        "first": sink(&first, "one"),
        "second": sink(&second, "other"),
        "aside": { "type": "fan_in", "inputs": ["one.dead_letter", "other.dead_letter"] },
        "rows": { "type": "action", "use": "dead_letter/tabulate", "inputs": ["aside"] },
        "kept": sink(&rows, "rows"),
    })))
    .await;
    assert_eq!(node(&report, "kept").received, 6, "{report}");
    let mut letters: Vec<_> =
        letters(&rows).into_iter().map(|letter| (letter.primitive.id(), letter.node)).collect();
    letters.sort();
    letters.dedup();
    assert_eq!(letters.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn replaying_twice_changes_nothing_and_what_fails_again_adds_up() {
    let [out, aside, kept] = ["out", "aside", "kept"].map(unique);
    let broken = Broken::default();
    broken.set(true);
    let still = Arc::new(AtomicU32::new(0));
    let fails = still.clone();
    let graph = graph(json!({
        "in": numbers(12),
        "act": broken.act("in", move |item| n(item) >= 4 && n(item) >= u64::from(fails.load(Ordering::Relaxed))),
        "out": sink(&out, "act"),
        "aside": sink(&aside, "act.dead_letter"),
    }));
    let report = run_graph(&graph).await;
    assert_eq!((report.status, written(&out)), (RunStatus::Success, all(4)), "{report}");
    assert_eq!(letters(&aside).iter().map(|letter| letter.attempts).collect::<Vec<_>>(), [2; 8]);
    hand_over(&aside, &kept);
    let replay = replay_graph(&graph, "act", memory(&kept)).unwrap();

    still.store(10, Ordering::Relaxed);
    let report = run_graph(&replay).await;
    assert_eq!((report.status, written(&out)), (RunStatus::Success, all(10)), "{report}");
    let (taken, act) = (node(&report, "replay"), node(&report, "act"));
    assert_eq!((taken.received, taken.emitted_from), (8, 8), "{report}");
    assert_eq!((act.received, act.emitted_from, act.dead_lettered), (8, 6, 2), "{report}");
    let again = letters(&aside);
    let again = again.iter().filter(|letter| number(&letter.primitive) >= 10);
    assert_eq!(again.map(|letter| letter.attempts).collect::<Vec<_>>(), [4, 4]);

    broken.set(false);
    for _ in 0..2 {
        let report = run_graph(&replay).await;
        assert_eq!((report.status, written(&out)), (RunStatus::Success, all(12)), "{report}");
    }
    run_graph(&graph).await;
    assert_eq!(written(&out), all(12), "an item has one id, whichever way it came");
}

#[tokio::test(start_paused = true)]
async fn letters_are_replayed_by_node_kind_and_time() {
    let [out, aside, kept] = ["out", "aside", "kept"].map(unique);
    let broken = Broken::default();
    broken.set(true);
    let late = broken.act("in", |item| n(item) == 1);
    let wrong = each(Form::Batch, "late", |item| match n(&item) {
        2 => Err(Error::new(ErrorKind::Validation, "no")),
        _ => Ok(Outcome::emit(item)),
    });
    let report = run_graph(&document(json!({
        "nodes": { "in": numbers(4), "late": late, "wrong": wrong, "out": sink(&out, "wrong"),
                   "aside": { "type": "sink", "use": "memory/sink", "config": { "name": aside } } },
        "settings": { "dead_letter": "aside" },
    })))
    .await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    hand_over(&aside, &kept);
    let cases = [
        (json!({}), vec![1, 2]),
        (json!({ "node": "late" }), vec![1]),
        (json!({ "kind": "validation" }), vec![2]),
        (json!({ "node": "late", "kind": "validation" }), vec![]),
        (json!({ "since": "2000-01-01T00:00:00Z" }), vec![1, 2]),
        (json!({ "until": "2000-01-01T00:00:00Z" }), vec![]),
    ];
    for (filter, expected) in cases {
        let out = unique("out");
        let report = run(json!({
            "letters": { "type": "source", "use": "memory/source", "config": { "name": kept } },
            "replay": { "type": "action", "use": "dead_letter/replay", "inputs": ["letters"], "config": filter },
            "out": sink(&out, "replay"),
        }))
        .await;
        assert_eq!(
            (report.status, written(&out)),
            (RunStatus::Success, expected.clone()),
            "{filter}: {report}"
        );
        assert_eq!(node(&report, "replay").dropped, 2 - expected.len() as u64, "{filter}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_letter_fails_alone() {
    let [out, aside, kept] = ["out", "aside", "kept"].map(unique);
    MemoryStore::named(&kept).put([Payload::from(nvisy_core::primitive::raw::Raw::Json(json!({ "n": 1 })))]);
    let report = run(json!({
        "letters": { "type": "source", "use": "memory/source", "config": { "name": kept } },
        "replay": { "type": "action", "use": "dead_letter/replay", "inputs": ["letters"] },
        "out": sink(&out, "replay"), "aside": sink(&aside, "replay.dead_letter"),
    }))
    .await;
    assert_eq!(node(&report, "replay").dead_lettered, 1, "{report}");
    assert_eq!(letters(&aside)[0].error.tag, "item.validation");
}

#[test]
fn a_replay_has_what_is_behind_the_node_and_nothing_else() {
    let graph = document(json!({
        "connections": {
            "near": { "use": "test/far", "config": { "log": "a" } },
            "unused": { "use": "test/far", "config": { "log": "b" } },
        },
        "nodes": {
            "in": numbers(1), "letters": numbers(1),
            "split": { "type": "fan_out", "inputs": ["in"] },
            "left": { "type": "action", "use": "filter", "inputs": ["split"], "config": { "when": "true" } },
            "right": { "type": "action", "use": "test/far_act", "connection": "near", "inputs": ["split"],
                       "config": { "work": "x" }, "timeout": "1s" },
            "join": { "type": "fan_in", "inputs": ["left", "right", "letters"] },
            "last": { "type": "branch", "inputs": ["join"], "routes": { "big": "raw.n > 1" }, "default": "small" },
            "big": sink("b", "last.big"), "small": sink("s", "last.small"),
            "aside": { "type": "sink", "use": "memory/sink", "config": { "name": "a" } },
        },
        "settings": { "dead_letter": "aside" },
    }));
    let replay = replay_graph(&graph, "right", memory("kept")).unwrap();

    assert_eq!(replay.name, "test-replay-right");
    let names: Vec<&str> = replay.nodes.names().collect();
    assert_eq!(names, ["letters_2", "replay", "aside", "big", "last", "right", "small"]);
    assert_eq!(replay.connections.names().collect::<Vec<_>>(), ["near"]);
    assert_eq!(replay.nodes.get("right").unwrap().inputs(), ["replay"]);
    assert_eq!(replay.nodes.get("right").unwrap().policies, graph.nodes.get("right").unwrap().policies);
    assert_eq!(replay.nodes.get("last").unwrap().inputs(), ["right"]);
    assert_eq!(Graph::from_json(&replay.to_json()).unwrap(), replay);
    engine().compile(&replay).unwrap();
    for node in ["in", "split", "join", "gone"] {
        let error = replay_graph(&graph, node, memory("kept")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{node}");
    }
}

/// A graph whose `act` sets items aside, with `behind` reading from it.
fn with_behind(behind: Value) -> Graph {
    let nodes = json!({ "in": numbers(3), "act": each(Form::Batch, "in", |item| Ok(Outcome::emit(item))),
                        "aside": sink("aside", "act.dead_letter") });
    graph(with(nodes, behind))
}

#[test]
fn letters_are_not_replayed_into_what_makes_its_result_of_all_items() {
    let action = |name: &str, input: &str, config: Value| json!({ "type": "action", "use": name, "inputs": [input], "config": config });
    let total = action("aggregate", "act", json!({ "aggregates": { "n": { "count": "true" } } }));
    let top = action("sort", "act", json!({ "by": [{ "value": "raw.n" }], "limit": 2 }));
    let both = json!({
        "copies": { "type": "fan_out", "inputs": ["act"] },
        "one": action("map", "copies", json!({ "set": {} })),
        "node": { "type": "action", "use": "join", "inputs": ["copies", "one"],
                  "config": { "left": "row.n", "right": "row.n" } },
        "out": sink("out", "node"),
    });
    let cases = [
        (json!({ "node": total, "out": sink("out", "node") }), "\"node\" (aggregate)"),
        (json!({ "node": top, "out": sink("out", "node") }), "\"node\" (sort)"),
        (both, "\"node\" (join)"),
    ];
    for (behind, named) in cases {
        let graph = with_behind(behind);
        for into in ["act", "node"] {
            let error = replay_graph(&graph, into, memory("kept")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
            for said in [format!("into node \"{into}\"").as_str(), named, "run the whole graph again"] {
                assert!(error.message().contains(said), "{said}: {error}");
            }
        }
        assert!(replay_graph(&graph, "out", memory("kept")).is_ok(), "it has nothing of the kind behind it");
    }
}

#[test]
fn letters_are_replayed_into_what_only_keeps_orders_or_drops_items() {
    let cases = [
        ("sort", json!({ "by": [{ "value": "raw.n" }] })),
        ("materialize", json!({})),
        ("deduplicate", json!({})),
    ];
    for (name, config) in cases {
        let node = json!({ "type": "action", "use": name, "inputs": ["act"], "config": config });
        let graph = with_behind(json!({ "node": node, "out": sink("out", "node") }));
        let replay = replay_graph(&graph, "act", memory("kept")).unwrap();
        engine().compile(&replay).unwrap_or_else(|problems| panic!("{name}: {problems}"));
    }
}

/// One item of every kind, with all that it can hold.
fn every_kind() -> Vec<Payload> {
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../nvisy-core/tests/golden/0.1");
    let kinds = nvisy_core::Kinds::ANY.iter().map(|kind| golden.join(format!("{kind}.json")));
    let read = |path: PathBuf| serde_json::from_slice::<Primitive>(&std::fs::read(path).unwrap()).unwrap();
    kinds.map(read).map(|item| item.payload().clone()).collect()
}

/// Sets items of every kind aside and replays them, from letters as they are or as rows.
async fn there_and_back(rows: bool) {
    let [out, input, kept, letters] = ["out", "in", "kept", "letters"].map(unique);
    let payloads = every_kind();
    assert_eq!(payloads.len(), 14);
    MemoryStore::named(&input).put(payloads);
    let broken = Broken::default();
    let mut nodes = json!({
        "in": { "type": "source", "use": "memory/source", "config": { "name": input } },
        "act": broken.act("in", |_| true),
        "out": sink(&out, "act"),
        "kept": sink(&kept, if rows { "rows" } else { "act.dead_letter" }),
    });
    if rows {
        nodes["rows"] =
            json!({ "type": "action", "use": "dead_letter/tabulate", "inputs": ["act.dead_letter"] });
    }
    let graph = graph(nodes);
    run_graph(&graph).await;
    let expected = essence(&out);
    assert_eq!(expected.len(), 14);
    MemoryStore::remove(&out);

    broken.set(true);
    let report = run_graph(&graph).await;
    assert_eq!((node(&report, "act").dead_lettered, report.status), (14, RunStatus::Success), "{report}");
    assert!(essence(&out).is_empty());
    let as_rows = MemoryStore::named(&kept).items().iter().all(|letter| letter.kind() == KindId::Row);
    assert_eq!(as_rows, rows);
    hand_over(&kept, &letters);

    broken.set(false);
    let replay = replay_graph(&graph, "act", memory(&letters)).unwrap();
    for _ in 0..2 {
        let report = run_graph(&replay).await;
        assert_eq!(report.status, RunStatus::Success, "{report}");
        assert_eq!(essence(&out), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_comes_back_from_letters() {
    there_and_back(false).await;
}

#[tokio::test(start_paused = true)]
async fn every_kind_comes_back_from_rows() {
    there_and_back(true).await;
}
