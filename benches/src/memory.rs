//! Sorting and grouping more than fits into memory, against DuckDB with the same limit: Parquet in,
//! Parquet out, two threads each.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use nvisy_runtime::Engine;
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::measure::{Target, in_turns, print_targets};

/// One kind of work, as a node of ours and as a query.
pub(crate) struct Work {
    name: &'static str,
    node: fn() -> Value,
    query: &'static str,
}

pub(crate) const SORT: Work = Work {
    name: "sort",
    node: || {
        json!({ "type": "action", "use": "sort", "inputs": ["in"],
                "config": { "by": [{ "value": "row.key" }, { "value": "row.id" }], "memory": MEMORY } })
    },
    query: "SELECT * FROM 'in.parquet' ORDER BY key, id",
};

pub(crate) const AGGREGATE: Work = Work {
    name: "aggregate",
    node: || {
        json!({ "type": "action", "use": "aggregate", "inputs": ["in"],
                "config": { "group_by": { "key": "row.key" }, "memory": MEMORY,
                            "aggregates": { "items": { "count": "true" }, "total": { "sum": "row.value" } } } })
    },
    query: "SELECT key, count(*) AS items, sum(value) AS total FROM 'in.parquet' GROUP BY key",
};

const MEMORY: &str = "256MB";
const ROUNDS: usize = 2;
/// Of ten rows one has a key of its own.
const ROWS_A_KEY: u64 = 10;

/// How many rows there are; `NVISY_BENCH_ROWS` says otherwise.
fn rows() -> u64 {
    std::env::var("NVISY_BENCH_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(20_000_000)
}

fn write_input(path: &Path, rows: u64) {
    const BATCH: u64 = 65_536;
    let batch = |first: u64| {
        let numbers = || first..(first + BATCH).min(rows);
        // What looks random, and is the same each time.
        let mixed = |n: u64| {
            (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n >> 7).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11
        };
        let keys = numbers().map(|n| (mixed(n) % (rows / ROWS_A_KEY).max(1)) as i64);
        let columns: [(&str, ArrayRef); 3] = [
            ("id", Arc::new(Int64Array::from_iter_values(numbers().map(|n| n as i64)))),
            ("key", Arc::new(Int64Array::from_iter_values(keys))),
            (
                "value",
                Arc::new(Float64Array::from_iter_values(
                    numbers().map(|n| (mixed(n) % 10_000) as f64 / 100.0),
                )),
            ),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch(0).schema(), None).unwrap();
    for first in (0..rows).step_by(BATCH as usize) {
        writer.write(&batch(first)).unwrap();
    }
    writer.close().unwrap();
}

fn run_graph(runtime: &tokio::runtime::Runtime, work: &Work, dir: &Path) {
    let graph = json!({
        "version": 1,
        "name": work.name,
        "connections": { "here": { "use": "object/local", "config": { "root": dir } } },
        "nodes": {
            "in": { "type": "source", "use": "object/parquet", "connection": "here", "config": { "path": "in.parquet" } },
            "work": (work.node)(),
            "out": { "type": "sink", "use": "object/parquet", "connection": "here", "inputs": ["work"],
                     "config": { "path": "ours.parquet", "on_existing": "replace" } }
        }
    });
    let engine = Engine::builder().build().unwrap();
    let plan = engine.compile_json(&graph.to_string()).unwrap();
    runtime.block_on(async {
        let report = engine.start_plan(&plan).await.unwrap().wait().await.unwrap();
        assert!(report.is_success(), "{report}");
    });
}

/// Runs the query in the Python that `cargo xtask bench` has prepared.
fn run_duckdb(python: &str, work: &Work, dir: &Path) {
    let script = format!(
        "import duckdb\n\
         duckdb.execute(\"SET memory_limit='{MEMORY}'; SET threads=2; SET temp_directory='spill'\")\n\
         duckdb.execute(\"COPY ({}) TO 'duckdb.parquet' (FORMAT parquet)\")\n",
        work.query,
    );
    let status = Command::new(python).args(["-c", &script]).current_dir(dir).status().unwrap();
    assert!(status.success(), "DuckDB failed");
}

pub(crate) fn run(work: &Work) -> bool {
    let Ok(python) = std::env::var("NVISY_BENCH_PYTHON") else {
        println!("no Python with the package `duckdb`: run this as `cargo xtask bench {}`", work.name);
        return false;
    };
    let rows = rows();
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    write_input(&dir.join("in.parquet"), rows);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("{} of {rows} rows in {MEMORY}, Parquet in and out", work.name);
    let [ours, duckdb] =
        in_turns(ROUNDS, [&mut || run_graph(&runtime, work, dir), &mut || run_duckdb(&python, work, dir)]);
    for (what, time) in [("a graph", ours), ("DuckDB", duckdb)] {
        let millions = rows as f64 / 1e6 / time.as_secs_f64();
        println!("{what:<20} {:>7.3} s {millions:>8.2} M rows/s", time.as_secs_f64());
    }
    let ratio = duckdb.as_secs_f64() / ours.as_secs_f64();
    print_targets(&[Target::new(format!("{} against DuckDB", work.name), ratio, 0.7)])
}
