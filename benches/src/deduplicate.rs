//! `deduplicate` with durable state against `sort -u` with the same memory.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow::array::{RecordBatch, StringBuilder};
use futures::{Stream, stream};
use nvisy_core::prelude::*;
use nvisy_core::primitive::row::Row;
use nvisy_runtime::Engine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;

use crate::measure::{Target, in_turns, peak_memory_of, print_peak_memory, print_targets};
use crate::rows::{Discard, runtime};

const ROUNDS: usize = 3;
const ROWS: u64 = 8_192;
const MEMORY: &str = "256MiB";

/// How many keys there are, each twice; `NVISY_BENCH_KEYS` says otherwise.
fn keys() -> u64 {
    std::env::var("NVISY_BENCH_KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(20_000_000)
}

/// Writes the key at a place: half as many different ones as places, in no order.
fn key(at: u64, keys: u64, out: &mut String) {
    // Odd and no divisor of a round number: it goes through all places before it comes back.
    let number = at * 7_368_787 % keys % (keys / 2);
    let mixed = (number ^ (number >> 7)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    write!(out, "key-{mixed:016x}").unwrap();
}

fn write_keys(path: &Path, keys: u64) {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    let mut line = String::new();
    for at in 0..keys {
        line.clear();
        key(at, keys, &mut line);
        line.push('\n');
        out.write_all(line.as_bytes()).unwrap();
    }
    out.flush().unwrap();
}

/// Rows of one column `key`.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
struct Keys {
    keys: u64,
}

impl Source for Keys {
    const NAME: &'static str = "bench/keys";
    type Output = Row;
    type Client = NoClient;

    fn identity(&self, _: &NoClient) -> SourceIdentity {
        SourceIdentity::new("bench/keys")
    }

    fn read(
        &self,
        _: &Partition,
        after: Option<Position>,
        context: &ReadContext,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        let first = match after {
            Some(Position::Offset(last)) => last + 1,
            _ => 0,
        };
        let keys = self.keys;
        stream::iter((first..keys).step_by(ROWS as usize).map(move |first| {
            let last = (first + ROWS).min(keys) - 1;
            let mut column = StringBuilder::with_capacity(ROWS as usize, 20 * ROWS as usize);
            let mut text = String::new();
            for at in first..=last {
                text.clear();
                key(at, keys, &mut text);
                column.append_value(&text);
            }
            let rows = RecordBatch::try_from_iter([("key", Arc::new(column.finish()) as _)]).unwrap();
            context.rows(rows, Positions::from(first), Position::Offset(last))
        }))
    }
}

/// Runs the graph with durable state, and checks that each key came once.
fn ours(runtime: &tokio::runtime::Runtime, keys: u64, memory: &str) {
    let state = TempDir::new().unwrap();
    let engine = Engine::builder().state(state.path()).source::<Keys>().sink::<Discard>().build().unwrap();
    let graph = json!({
        "version": 1,
        "name": "deduplicate",
        "nodes": {
            "keys": { "type": "source", "use": "bench/keys", "config": { "keys": keys } },
            "once": { "type": "action", "use": "deduplicate", "inputs": ["keys"],
                      "config": { "key": "row.key", "memory": memory } },
            "sink": { "type": "sink", "use": "bench/discard", "inputs": ["once"], "config": {} }
        }
    });
    let plan = engine.compile_json(&graph.to_string()).unwrap();
    runtime.block_on(async {
        let report = engine.start_plan(&plan).await.unwrap().wait().await.unwrap();
        assert!(report.is_success(), "{report}");
        assert_eq!(report.node("sink").unwrap().received, keys / 2, "{report}");
    });
}

fn sort(path: &Path) {
    let mut sort = Command::new("sort");
    sort.args(["-u", "-S", "256M", "--parallel=2"]).arg(path).env("LC_ALL", "C").stdout(Stdio::null());
    let ended = sort.status().unwrap();
    assert!(ended.success(), "sort: {ended}");
}

/// One run of the graph, for its peak memory.
pub(crate) fn alone(memory: Option<&str>) -> bool {
    ours(&runtime(), keys(), memory.unwrap_or(MEMORY));
    print_peak_memory();
    true
}

pub(crate) fn run() -> bool {
    let (runtime, keys) = (runtime(), keys());
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("keys.txt");
    write_keys(&path, keys);
    println!("deduplicate, {:.1} million keys, each twice, state durable", keys as f64 / 1e6);
    let row = |what: &str, time: std::time::Duration| {
        let seconds = time.as_secs_f64();
        println!("{what:<46} {seconds:>7.2} s {:>8.2} M/s", keys as f64 / seconds / 1e6);
    };
    let [graph, spilled, sorted] = in_turns(
        ROUNDS,
        [&mut || ours(&runtime, keys, MEMORY), &mut || ours(&runtime, keys, "64MiB"), &mut || sort(&path)],
    );
    row("a graph, 256 MiB", graph);
    row("a graph, 64 MiB, the rest in files", spilled);
    row("sort -u -S 256M --parallel=2", sorted);
    let peak = peak_memory_of(&["deduplicate-alone", MEMORY]);
    println!("peak memory {peak:.0} MB");
    print_targets(&[
        Target::new("deduplicate against sort -u", sorted.as_secs_f64() / graph.as_secs_f64(), 2.0),
        Target::new("400 MB against peak memory of deduplicate", 400.0 / peak, 1.0),
    ])
}
