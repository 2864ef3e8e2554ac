//! Rows: CSV → Parquet, filter and project, JSONL → filter → project → JSONL.

use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Datum, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;
use arrow::compute::kernels::boolean::and_kleene;
use arrow::compute::kernels::cmp::{eq, gt};
use futures::{Stream, StreamExt, stream};
use nvisy_core::prelude::*;
use nvisy_core::primitive::row::Row;
use nvisy_runtime::Engine;
use nvisy_runtime::engine::EngineBuilder;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;

use crate::measure::{Target, in_turns, peak_memory_of, print_peak_memory, print_targets};

/// How large the files are, in MB; `NVISY_BENCH_MB` says otherwise.
pub(crate) fn megabytes() -> usize {
    std::env::var("NVISY_BENCH_MB").ok().and_then(|mb| mb.parse().ok()).unwrap_or(500)
}

const ROUNDS: usize = 3;

// --- CSV to Parquet -----------------------------------------------------------------------

pub(crate) fn write_csv(path: &Path, megabytes: usize) {
    let mut out = BufWriter::new(File::create(path).unwrap());
    writeln!(out, "id,when,city,kind,price,amount,rate,open,note,code").unwrap();
    let (mut written, mut n) = (0, 0_u64);
    while written < megabytes << 20 {
        let line = format!(
            "{n},2024-{:02}-{:02}T{:02}:{:02}:00Z,\"City, {}\",{},{}.{:02},{},{:.6},{},note number {} of the day,Z{:05}\n",
            n % 12 + 1,
            n % 28 + 1,
            n % 24,
            n % 60,
            n % 977,
            ["retail", "whole", "online"][(n % 3) as usize],
            n % 10_000,
            n % 100,
            n % 17,
            (n % 1_000) as f64 / 7.0,
            n % 2 == 0,
            n % 365,
            n % 99_999,
        );
        out.write_all(line.as_bytes()).unwrap();
        written += line.len();
        n += 1;
    }
    out.flush().unwrap();
}

pub(crate) fn run_graph(runtime: &tokio::runtime::Runtime, engine: &Engine, graph: &serde_json::Value) {
    let plan = engine.compile_json(&graph.to_string()).unwrap();
    runtime.block_on(async {
        let report = engine.start_plan(&plan).await.unwrap().wait().await.unwrap();
        assert!(report.is_success(), "{report}");
    });
}

pub(crate) fn csv_to_parquet_graph(dir: &Path) -> serde_json::Value {
    json!({
        "version": 1,
        "name": "csv-to-parquet",
        "connections": { "here": { "use": "object/local", "config": { "root": dir } } },
        "nodes": {
            "csv": { "type": "source", "use": "object/csv", "connection": "here", "config": { "path": "in.csv" } },
            "parquet": { "type": "sink", "use": "object/parquet", "connection": "here", "inputs": ["csv"],
                         "config": { "path": "ours.parquet", "on_existing": "replace" } }
        }
    })
}

/// Reads and writes in a thread each.
fn csv_to_parquet_by_hand(dir: &Path) {
    let format = arrow::csv::reader::Format::default().with_header(true);
    let (schema, _) = format.infer_schema(File::open(dir.join("in.csv")).unwrap(), Some(1_000)).unwrap();
    let schema = Arc::new(schema);
    let file = File::open(dir.join("in.csv")).unwrap();
    let reader = arrow::csv::ReaderBuilder::new(schema.clone())
        .with_format(format)
        .with_batch_size(8_192)
        .build(file)
        .unwrap();
    let (sender, receiver) = std::sync::mpsc::sync_channel(4);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for batch in reader {
                sender.send(batch.unwrap()).unwrap();
            }
        });
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let out = File::create(dir.join("hand.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new(out, schema, Some(properties)).unwrap();
        for batch in receiver {
            writer.write(&batch).unwrap();
        }
        writer.close().unwrap();
    });
    File::open(dir.join("hand.parquet")).unwrap().sync_all().unwrap();
}

// --- filter and project -------------------------------------------------------------------

const ROWS: usize = 8_192;
pub(crate) const BATCHES: u64 = 5_000;

fn rows() -> RecordBatch {
    let n = 0..ROWS as i64;
    let column = |name: &str, array: ArrayRef| (name.to_owned(), array);
    RecordBatch::try_from_iter([
        column("id", Arc::new(Int64Array::from_iter_values(n.clone()))),
        column(
            "score",
            Arc::new(Float64Array::from_iter_values(n.clone().map(|n| (n * 7_919 % 1_000) as f64))),
        ),
        column(
            "kind",
            Arc::new(StringArray::from_iter_values(n.clone().map(|n| ["a", "b", "c"][n as usize % 3]))),
        ),
        column(
            "text",
            Arc::new(StringArray::from_iter_values(n.clone().map(|n| format!("text number {n}")))),
        ),
        column("other", Arc::new(Int64Array::from_iter_values(n.map(|n| n * 3)))),
    ])
    .unwrap()
}

/// The same rows again and again.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
struct Repeat {
    batches: u64,
}

impl Source for Repeat {
    const NAME: &'static str = "bench/repeat";
    type Output = Row;
    type Client = NoClient;

    fn identity(&self, _: &NoClient) -> SourceIdentity {
        SourceIdentity::new("bench/repeat")
    }

    fn read(
        &self,
        _: &Partition,
        _: Option<Position>,
        context: &ReadContext,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        let rows = rows();
        stream::iter(0..self.batches).map(move |n| {
            let first = n * ROWS as u64;
            context.rows(rows.clone(), Positions::from(first), Position::Offset(first + ROWS as u64 - 1))
        })
    }
}

/// Takes rows, and counts them.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub(crate) struct Discard {}

impl SinkConfig for Discard {
    const NAME: &'static str = "bench/discard";
    type Input = Row;
    type Client = NoClient;
    type Sink = Self;

    fn guarantee(&self) -> Guarantee {
        Guarantee::Upsert
    }

    async fn open(&self, _: &OpenContext) -> Result<Self> {
        Ok(Self {})
    }
}

impl Sink for Discard {
    async fn write(&self, batch: &Batch, _: &Context) -> Result<WriteReport> {
        black_box(batch.as_rows());
        Ok(WriteReport::applied(batch.len()))
    }
}

pub(crate) fn filter_graph(batches: u64) -> serde_json::Value {
    json!({
        "version": 1,
        "name": "filter-and-project",
        "nodes": {
            "rows": { "type": "source", "use": "bench/repeat", "config": { "batches": batches } },
            "kept": { "type": "action", "use": "filter", "inputs": ["rows"], "config": { "when": "row.score > 500.0 && row.kind == 'a'" } },
            "slim": { "type": "action", "use": "map", "inputs": ["kept"], "config": { "project": ["id", "text"] } },
            "sink": { "type": "sink", "use": "bench/discard", "inputs": ["slim"], "config": {} }
        }
    })
}

fn filter_by_hand() {
    let rows = rows();
    let (limit, kind) = (Float64Array::new_scalar(500.0), StringArray::new_scalar("a"));
    let column = |name: &str| rows.column_by_name(name).unwrap();
    for _ in 0..BATCHES {
        let high = gt(&column("score") as &dyn Datum, &limit).unwrap();
        let right = eq(&column("kind") as &dyn Datum, &kind).unwrap();
        let kept = filter_record_batch(&rows, &and_kleene(&high, &right).unwrap()).unwrap();
        black_box(kept.project(&[0, 3]).unwrap());
    }
}

// --- JSONL --------------------------------------------------------------------------------

pub(crate) fn write_jsonl(path: &Path, megabytes: usize) {
    let mut out = BufWriter::new(File::create(path).unwrap());
    let (mut written, mut n) = (0, 0_u64);
    while written < megabytes << 20 {
        let line = format!(
            "{{\"id\":{n},\"state\":\"{}\",\"title\":\"Ticket number {n}\",\"body\":\"It happened on day {} that the {} of the machine \\\"{}\\\" did not do what {} said it would, again and again.\",\"votes\":{},\"score\":{:.3}}}\n",
            ["open", "closed"][(n % 2) as usize],
            n % 365,
            ["door", "wheel", "screen"][(n % 3) as usize],
            n % 977,
            ["Ann", "Bob", "Cid"][(n % 3) as usize],
            n % 50,
            (n % 1_000) as f64 / 3.0,
        );
        out.write_all(line.as_bytes()).unwrap();
        written += line.len();
        n += 1;
    }
    out.flush().unwrap();
}

pub(crate) fn jsonl_graph(dir: &Path) -> serde_json::Value {
    json!({
        "version": 1,
        "name": "jsonl",
        "connections": { "here": { "use": "object/local", "config": { "root": dir } } },
        "nodes": {
            "in": { "type": "source", "use": "object/jsonl", "connection": "here", "config": { "path": "in.jsonl" } },
            "open": { "type": "action", "use": "filter", "inputs": ["in"], "config": { "when": "row.state == 'open' && row.votes > 10" } },
            "slim": { "type": "action", "use": "map", "inputs": ["open"], "config": { "project": ["id", "title", "body"] } },
            "out": { "type": "sink", "use": "object/jsonl", "connection": "here", "inputs": ["slim"],
                     "config": { "path": "ours.jsonl", "on_existing": "replace" } }
        }
    })
}

#[derive(Deserialize)]
struct Ticket {
    id: i64,
    state: String,
    title: String,
    body: String,
    votes: i64,
    #[expect(dead_code, reason = "it is in the data, and has to be checked")]
    score: f64,
}

#[derive(Serialize)]
struct Slim<'a> {
    id: i64,
    title: &'a str,
    body: &'a str,
}

fn jsonl_by_hand(input: &[u8], mut out: impl Write) {
    for line in input.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let ticket: Ticket = serde_json::from_slice(line).unwrap();
        if ticket.state == "open" && ticket.votes > 10 {
            serde_json::to_writer(
                &mut out,
                &Slim { id: ticket.id, title: &ticket.title, body: &ticket.body },
            )
            .unwrap();
            out.write_all(b"\n").unwrap();
        }
    }
}

fn jsonl_in_one_thread(dir: &Path) {
    let mut input = BufReader::with_capacity(1 << 20, File::open(dir.join("in.jsonl")).unwrap());
    let mut out = BufWriter::with_capacity(1 << 20, File::create(dir.join("hand.jsonl")).unwrap());
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line).unwrap() > 0 {
        jsonl_by_hand(&line, &mut out);
        line.clear();
    }
    out.into_inner().unwrap().sync_all().unwrap();
}

/// Each half of the file in a thread of its own, joined at the end.
fn jsonl_in_two_threads(dir: &Path) {
    let input = std::fs::read(dir.join("in.jsonl")).unwrap();
    let middle = input.len() / 2;
    let middle = middle + input[middle..].iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let (first, second) = input.split_at(middle);
    let [first, second] = std::thread::scope(|scope| {
        [first, second]
            .map(|half| {
                scope.spawn(move || {
                    let mut out = Vec::with_capacity(half.len());
                    jsonl_by_hand(half, &mut out);
                    out
                })
            })
            .map(|thread| thread.join().unwrap())
    });
    let mut out = File::create(dir.join("hand2.jsonl")).unwrap();
    out.write_all(&first).unwrap();
    out.write_all(&second).unwrap();
    out.sync_all().unwrap();
}

// --- all of it ----------------------------------------------------------------------------

pub(crate) fn builder() -> EngineBuilder {
    Engine::builder().source::<Repeat>().sink::<Discard>()
}

fn engine() -> Engine {
    builder().build().unwrap()
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// One graph over a directory that is there, for its peak memory.
pub(crate) fn alone(what: &str) -> bool {
    let (what, dir) = what.split_once(':').unwrap_or((what, ""));
    let graph = match what {
        "csv" => csv_to_parquet_graph(Path::new(dir)),
        "filter" => filter_graph(BATCHES),
        _ => jsonl_graph(Path::new(dir)),
    };
    run_graph(&runtime(), &engine(), &graph);
    print_peak_memory();
    true
}

pub(crate) fn run() -> bool {
    let (runtime, engine, megabytes) = (runtime(), engine(), megabytes());
    let dir = TempDir::new().unwrap();
    let dir = dir.path();
    let row = |what: &str, time: std::time::Duration, megabytes: f64| {
        println!("{what:<46} {:>7.3} s {:>8.1} MB/s", time.as_secs_f64(), megabytes / time.as_secs_f64());
    };

    write_csv(&dir.join("in.csv"), megabytes);
    let graph = csv_to_parquet_graph(dir);
    println!("CSV to Parquet, {megabytes} MB, ten mixed columns");
    let [ours, hand] =
        in_turns(ROUNDS, [&mut || run_graph(&runtime, &engine, &graph), &mut || csv_to_parquet_by_hand(dir)]);
    row("a graph", ours, megabytes as f64);
    row("arrow-csv and parquet by hand, two threads", hand, megabytes as f64);
    let csv_memory = peak_memory_of(&["rows-alone", &format!("csv:{}", dir.display())]);
    println!("peak memory {csv_memory:.0} MB");
    let mut targets = vec![
        Target::new("CSV to Parquet against by hand", hand.as_secs_f64() / ours.as_secs_f64(), 0.85),
        Target::new("200 MB against peak memory of CSV to Parquet", 200.0 / csv_memory, 1.0),
    ];
    for name in ["in.csv", "ours.parquet", "hand.parquet"] {
        std::fs::remove_file(dir.join(name)).unwrap();
    }

    let graph = filter_graph(BATCHES);
    println!("\nfilter and project, {} million rows in batches of {ROWS}", BATCHES * ROWS as u64 / 1_000_000);
    let [ours, hand] = in_turns(5, [&mut || run_graph(&runtime, &engine, &graph), &mut filter_by_hand]);
    let size = rows().get_array_memory_size() as f64 * BATCHES as f64 / 1e6;
    row("a graph", ours, size);
    row("the kernels by hand", hand, size);
    targets.push(Target::new(
        "filter and project against kernels by hand",
        hand.as_secs_f64() / ours.as_secs_f64(),
        0.85,
    ));

    write_jsonl(&dir.join("in.jsonl"), megabytes);
    let graph = jsonl_graph(dir);
    println!("\nJSONL, filter, project, JSONL, {megabytes} MB");
    let [ours, one, two] = in_turns(
        ROUNDS,
        [&mut || run_graph(&runtime, &engine, &graph), &mut || jsonl_in_one_thread(dir), &mut || {
            jsonl_in_two_threads(dir)
        }],
    );
    row("a graph", ours, megabytes as f64);
    row("a typed serde_json loop, one thread", one, megabytes as f64);
    row("the same, two threads, all in memory", two, megabytes as f64);
    let jsonl_memory = peak_memory_of(&["rows-alone", &format!("jsonl:{}", dir.display())]);
    println!(
        "peak memory {jsonl_memory:.0} MB; against two threads {:.2}",
        two.as_secs_f64() / ours.as_secs_f64()
    );
    targets.push(Target::new(
        "JSONL against a typed loop in one thread",
        one.as_secs_f64() / ours.as_secs_f64(),
        1.0,
    ));
    targets.push(Target::new("100 MB against peak memory of JSONL", 100.0 / jsonl_memory, 1.0));
    print_targets(&targets)
}
