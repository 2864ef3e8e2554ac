//! Actions with memory in runs of the engine.

use std::time::Duration;

use nvisy_core::prelude::*;
use nvisy_core::primitive::row::Row;
use nvisy_core::testing::memory::{MemorySink, MemorySource, MemoryStore as Place};
use nvisy_runtime::Engine;
use nvisy_runtime::actions::Join;
use nvisy_runtime::engine::RunStatus;
use nvisy_runtime::graph::Graph;
use nvisy_runtime::prelude::Flow;
use serde_json::{Value, json};

use crate::fixture::*;

fn engine_in(folder: &std::path::Path) -> Engine {
    builder().state(folder).build().unwrap()
}

/// Items as rows, six in a batch, each batch with a millisecond's work before it.
fn rows(name: &str, items: &[Value]) -> Value {
    let slowly = act(
        nvisy_core::testing::memory::Form::Batch,
        &format!("{name}_in"),
        |items: Vec<Item>, _| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(items.into_iter().map(Outcome::emit).collect())
        },
    );
    json!({
        format!("{name}_in"): { "type": "source", "use": "memory/source", "config": { "items": items, "batch_items": 6 } },
        format!("{name}_slow"): with(slowly, json!({ "config": { "items": 6 }, "concurrency": 1 })),
        name: { "type": "action", "use": "convert", "inputs": [format!("{name}_slow")], "config": { "to": "row" } },
    })
}

fn graph_of(nodes: Vec<Value>) -> Graph {
    let nodes = nodes.into_iter().fold(json!({}), with);
    document(
        json!({ "settings": { "checkpoint": { "every": "4ms", "uncommitted_items": 60 } }, "nodes": nodes }),
    )
}

/// Runs for some virtual time, and then is gone, as if killed; until a run ends.
fn run_through_kills(seed: u64, graph: &Graph) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let mut kills = 0;
    loop {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let life = Duration::from_millis(3 + (kills * 7 + seed * 3) % 19 + kills / 4);
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

fn shown(store: &str) -> Vec<Value> {
    Place::named(store).plain().into_iter().collect()
}

#[test]
fn whenever_it_is_killed_what_comes_out_in_the_end_is_the_same() {
    let orders: Vec<Value> =
        (0..90).map(|n| json!({ "n": n, "user": n * 7 % 11, "amount": n % 5 })).collect();
    let users: Vec<Value> = (0..8).map(|id| json!({ "id": id, "name": format!("user {id}") })).collect();
    for seed in 0..3 {
        let [sorted, summed, joined] = ["sorted", "summed", "joined"].map(unique);
        let graph = graph_of(vec![
            rows("orders", &orders),
            rows("users", &users),
            json!({
                "copies": { "type": "fan_out", "inputs": ["orders"] },
                "sort": { "type": "action", "use": "sort", "inputs": ["copies"],
                          "config": { "by": [{ "value": "row.amount", "order": "desc" }], "memory": "3KB" } },
                "sums": { "type": "action", "use": "aggregate", "inputs": ["copies"],
                          "config": { "group_by": { "amount": "row.amount" }, "memory": "1KB",
                                      "aggregates": { "n": { "sum": "row.n" }, "items": { "count": "true" } } } },
                "all": { "type": "action", "use": "materialize", "inputs": ["copies"], "config": { "memory": "1KB" } },
                "join": { "type": "action", "use": "join", "inputs": ["all", "users"],
                          "config": { "left": "row.user", "right": "row.id", "unmatched": "keep", "memory": "8KB" } },
                "sorted": sink(&sorted, "sort"), "summed": sink(&summed, "sums"), "joined": sink(&joined, "join"),
            }),
        ]);
        let kills = run_through_kills(seed, &graph);
        assert!(kills > 0, "seed {seed}");

        let numbers = |store: &str| {
            let mut numbers: Vec<i64> = shown(store).iter().filter_map(|row| row["n"].as_i64()).collect();
            numbers.sort_unstable();
            numbers
        };
        assert_eq!(numbers(&sorted), (0..90).collect::<Vec<_>>(), "seed {seed}");
        let mut sums = shown(&summed);
        sums.sort_by_key(|row| row["amount"].as_i64());
        let expected = |amount: i64| {
            let of: Vec<i64> = (0..90).filter(|n| n % 5 == amount).collect();
            json!({ "amount": amount, "items": of.len(), "n": of.iter().sum::<i64>() })
        };
        assert_eq!(sums, (0..5).map(expected).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(numbers(&joined), (0..90).collect::<Vec<_>>(), "seed {seed}");
        for row in shown(&joined) {
            let user = row["n"].as_i64().unwrap() * 7 % 11;
            let name = if user < 8 { json!(format!("user {user}")) } else { Value::Null };
            assert_eq!(row["name"], name, "seed {seed}: {row}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_of_checkpoints_without_a_folder_is_refused_before_anything_is_read() {
    let out = unique("out");
    let graph = document(json!({ "nodes": {
        "in": numbers(3), "all": { "type": "action", "use": "materialize", "inputs": ["in"] }, "out": sink(&out, "all"),
    } }));
    let engine = builder().checkpoints(nvisy_runtime::checkpoint::MemoryStore::new()).build().unwrap();
    let error = engine.run(&graph).await.unwrap_err();
    assert!(error.message().contains("`EngineBuilder::state`"), "{error}");
}

#[test]
fn a_join_has_two_inputs_in_their_order_and_says_so() {
    let join = |inputs: Value| {
        let join = json!({ "type": "action", "use": "join", "inputs": inputs,
                           "config": { "left": "row.user", "right": "row.id" } });
        graph_of(vec![
            rows("orders", &[]),
            rows("users", &[]),
            rows("more", &[]),
            json!({ "join": join, "out": sink("out", "join") }),
        ])
    };
    let engine = engine();
    let plan = engine.compile(&join(json!(["users", "orders"]))).map(|plan| plan.explain());
    let said = plan.err().map(|errors| errors.to_string()).unwrap_or_default();
    assert!(said.contains("\"more\" feeds nothing") && !said.contains("input.count"), "{said}");
    for (inputs, have) in [(json!(["orders"]), 1), (json!(["orders", "users", "more"]), 3), (json!([]), 0)] {
        let said = engine.compile(&join(inputs)).unwrap_err().to_string();
        let expected = format!("node \"join\" has {have} inputs, and takes 2 in their order");
        assert!(said.contains("input.count: nodes.join.inputs") && said.contains(&expected), "{said}");
        assert!(said.contains("help: name 2 nodes or ports in \"inputs\", the left one first"), "{said}");
    }
}

#[test]
fn a_join_of_the_builder_is_that_of_the_json() {
    let graph = Graph::builder("joins");
    let side = |name: &str| -> Flow<Row> { graph.source(name, MemorySource::rows([json!({ "id": 1 })])) };
    let (orders, users) = (side("orders"), side("users"));
    orders
        .join("join", users, Join::on("row.user", "row.id").keep_unmatched())
        .sink("out", MemorySink::named("out").typed::<Row>());
    let built = graph.build().unwrap();
    let json = serde_json::to_value(&built).unwrap();
    assert_eq!(
        json["nodes"]["join"],
        json!({ "type": "action", "use": "join", "inputs": ["orders", "users"],
                "config": { "left": "row.user", "right": "row.id", "unmatched": "keep" } }),
    );
    let plan = engine().compile(&built).unwrap().explain();
    assert!(plan.contains("join: action join from orders, users"), "{plan}");
}
