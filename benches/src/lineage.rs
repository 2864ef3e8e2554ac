//! The log of lineage: what it costs a run, and how long it takes to trace one item of a million.

use std::path::Path;
use std::time::Instant;

use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_runtime::Engine;
use nvisy_runtime::compiler::ExecutionPlan;
use nvisy_runtime::lineage::trace_back;
use serde_json::json;

use crate::engine::{builder, plan, rows_plan, runtime, through_the_engine};
use crate::measure::{Target, in_turns, print_targets};

/// How many items the runs read that are compared; `NVISY_BENCH_ITEMS` says otherwise.
fn items_read() -> u64 {
    std::env::var("NVISY_BENCH_ITEMS").ok().and_then(|items| items.parse().ok()).unwrap_or(2_000_000)
}

const ROUNDS: usize = 5;

/// How many items the log has that is asked.
const LOGGED: u64 = 1_000_000;
/// How many pieces are made of each source item.
const PIECES: u64 = 50;
/// How many of them are traced; the slowest counts.
const TRACES: u64 = 25;

fn engine(log: Option<&Path>) -> Engine {
    let builder = builder().function("pieces", |item: Item<Raw>| {
        let pieces = (0..PIECES).map(|n| item.derive("pieces", n, Raw::Json(n.into())));
        Ok(Outcome::emit_all(pieces.collect::<Vec<_>>()))
    });
    match log {
        Some(log) => builder.lineage(log).build().unwrap(),
        None => builder.build().unwrap(),
    }
}

fn pieces_plan(engine: &Engine) -> ExecutionPlan {
    let graph = json!({
        "version": 1,
        "name": "pieces",
        "nodes": {
            "count": { "type": "source", "use": "bench/count", "config": { "to": LOGGED / PIECES } },
            "pieces": { "type": "action", "use": "fn/pieces", "inputs": ["count"] },
            "sink": { "type": "sink", "use": "bench/discard", "inputs": ["pieces"], "config": {} }
        }
    });
    engine.compile_json(&graph.to_string()).unwrap()
}

pub(crate) fn run() -> bool {
    let runtime = runtime();
    let place = tempfile::tempdir().unwrap();
    let (log, silent) = (engine(Some(&place.path().join("cost"))), engine(None));
    let cost = |read: u64, plan: &ExecutionPlan| {
        let [with, without] = in_turns(
            ROUNDS,
            [&mut || _ = through_the_engine(&runtime, &log, plan), &mut || {
                _ = through_the_engine(&runtime, &silent, plan)
            }],
        );
        println!("{read} items: {with:.0?} with the log, {without:.0?} without");
        without.as_secs_f64() / with.as_secs_f64()
    };
    let read = items_read();
    let items = cost(read, &plan(&silent, read, 1));
    let rows = cost(read * 5, &rows_plan(&silent, read * 5));

    let place = place.path().join("log");
    let engine = engine(Some(&place));
    through_the_engine(&runtime, &engine, &pieces_plan(&engine));
    let source = SourceIdentity::new("bench/count");
    let mut slowest: f64 = 0.0;
    for nth in 0..TRACES {
        let at = nth * (LOGGED / TRACES) + nth;
        let id = source.id(&Position::Offset(at / PIECES)).derive("pieces", at % PIECES);
        let began = Instant::now();
        let found = trace_back(&place, id).unwrap();
        slowest = slowest.max(began.elapsed().as_secs_f64());
        assert_eq!(found.traces[0].offset, Some(at / PIECES));
    }
    let bytes: u64 =
        std::fs::read_dir(&place).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    println!("one of {LOGGED} items ({} MB) traced in {:.1} ms at the most", bytes >> 20, slowest * 1e3);
    print_targets(&[
        Target::new("items: the time without the log against that with it", items, 0.95),
        Target::new("rows: the same", rows, 0.95),
        Target::new("50 ms against tracing one item of a million", 0.05 / slowest, 1.0),
    ])
}
