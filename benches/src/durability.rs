//! What durability costs: runs with a state directory, which have checkpoints and the log of
//! lineage, against the same runs without.

use std::path::Path;
use std::time::Duration;

use nvisy_runtime::engine::EngineBuilder;
use serde_json::Value;

use crate::measure::{Target, in_turns, print_targets, size_of_folder};
use crate::{engine, rows};

/// How many items and rows go through the engine.
const ITEMS: u64 = 5_000_000;
const ROWS: u64 = 20_000_000;
/// How many batches are filtered: for about as long as the others take, so that the cost is not that
/// of beginning and ending.
const BATCHES: u64 = 10 * rows::BATCHES;
const ROUNDS: usize = 9;
/// Rounds of what reads and writes files.
const FILE_ROUNDS: usize = 5;

/// Times a graph with and without state in a folder.
fn cost(
    what: &str,
    rounds: usize,
    builder: impl Fn() -> EngineBuilder,
    state: &Path,
    run: impl Fn(&nvisy_runtime::Engine),
) -> Target {
    let (durable, forgetful) = (builder().state(state).build().unwrap(), builder().build().unwrap());
    let [with, without] = in_turns(rounds, [&mut || run(&durable), &mut || run(&forgetful)]);
    let seconds = Duration::as_secs_f64;
    println!("{what:<46} {:>7.3} s with state {:>7.3} s without", seconds(&with), seconds(&without));
    Target::new(
        format!("{what}: the time without state against that with it"),
        seconds(&without) / seconds(&with),
        0.95,
    )
}

pub(crate) fn run() -> bool {
    let runtime = engine::runtime();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut targets = Vec::new();

    let items = dir.join("items");
    targets.push(cost("engine, items", ROUNDS, engine::builder, &items, |on| {
        _ = engine::through_the_engine(&runtime, on, &engine::plan(on, ITEMS, 1));
    }));
    // Each run has a log of its own.
    let bytes = size_of_folder(&items) / (ROUNDS as u64 * ITEMS / 1_000_000);
    println!("{:<46} {:>7.2} MB a million items", "the state directory", bytes as f64 / 1e6);
    targets.push(cost("engine, rows", ROUNDS, engine::builder, &dir.join("rows"), |on| {
        _ = engine::through_the_engine(&runtime, on, &engine::rows_plan(on, ROWS));
    }));

    let mut graph = |what, rounds, graph: Value| {
        let state = dir.join("graph");
        targets.push(cost(what, rounds, rows::builder, &state, |on| rows::run_graph(&runtime, on, &graph)));
        std::fs::remove_dir_all(state).unwrap();
    };
    graph("filter and project", ROUNDS, rows::filter_graph(BATCHES));
    rows::write_csv(&dir.join("in.csv"), rows::megabytes());
    graph("CSV to Parquet", FILE_ROUNDS, rows::csv_to_parquet_graph(dir));
    rows::write_jsonl(&dir.join("in.jsonl"), rows::megabytes());
    graph("JSONL to JSONL", FILE_ROUNDS, rows::jsonl_graph(dir));
    print_targets(&targets)
}
