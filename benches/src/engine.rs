//! Five million small items, source → map → filter (half) → sink.
#![expect(clippy::disallowed_methods, reason = "the chains by hand spawn a task a stage")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use futures::{Stream, StreamExt, stream};
use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::row::Row;
use nvisy_runtime::Engine;
use nvisy_runtime::compiler::ExecutionPlan;
use nvisy_runtime::engine::EngineBuilder;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::measure::{Target, in_turns, nanoseconds_each, peak_memory_of, print_peak_memory, print_targets};

const ITEMS: u64 = 5_000_000;
const BATCH: usize = 1_024;

/// Counts up to a number.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
struct Count {
    to: u64,
}

impl Source for Count {
    const NAME: &'static str = "bench/count";
    type Output = Raw;
    type Client = NoClient;

    fn identity(&self, _: &NoClient) -> SourceIdentity {
        SourceIdentity::new("bench/count")
    }

    fn read(
        &self,
        _: &Partition,
        after: Option<Position>,
        context: &ReadContext,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        let start = match after {
            Some(Position::Offset(last)) => last + 1,
            _ => 0,
        };
        let size = context.limits().items as u64;
        stream::iter((start..self.to).step_by(size as usize)).map(move |first| {
            let end = (first + size).min(self.to);
            let numbers = (first..end).map(|n| Raw::Json(n.into()));
            context.items(numbers, Positions::from(first), Position::Offset(end - 1))
        })
    }
}

/// The same numbers as rows of one column.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
struct CountRows {
    to: u64,
}

impl Source for CountRows {
    const NAME: &'static str = "bench/count_rows";
    type Output = Row;
    type Client = NoClient;

    fn identity(&self, _: &NoClient) -> SourceIdentity {
        SourceIdentity::new("bench/count_rows")
    }

    fn read(
        &self,
        _: &Partition,
        _: Option<Position>,
        context: &ReadContext,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        let size = context.limits().items as u64;
        stream::iter((0..self.to).step_by(size as usize)).map(move |first| {
            let end = (first + size).min(self.to);
            let values: ArrayRef = Arc::new(Int64Array::from_iter_values(first as i64..end as i64));
            let rows = RecordBatch::try_from_iter([("value", values)])
                .map_err(|error| Error::internal("the rows do not fit").with_source(error))?;
            context.rows(rows, Positions::from(first), Position::Offset(end - 1))
        })
    }
}

/// Takes everything, and looks at every id: as a sink that upserts would.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
struct Discard {}

impl SinkConfig for Discard {
    const NAME: &'static str = "bench/discard";
    type Input = Any;
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
        for index in 0..batch.len() {
            black_box(batch.id(index));
        }
        Ok(WriteReport::applied(batch.len()))
    }
}

fn number(raw: &Raw) -> u64 {
    raw.as_json().and_then(Value::as_u64).unwrap_or_default()
}

fn engine() -> Engine {
    builder().build().unwrap()
}

pub(crate) fn builder() -> EngineBuilder {
    Engine::builder()
        .without_plugins()
        .source::<Count>()
        .source::<CountRows>()
        .sink::<Discard>()
        .function("map", |item: Item<Raw>| {
            let mapped = Raw::Json((number(&item) * 3 + 1).into());
            Ok(Outcome::emit(item.with(mapped)))
        })
        .function("keep", |item: Item<Raw>| {
            Ok(if number(&item).is_multiple_of(2) { Outcome::emit(item) } else { Outcome::drop("odd") })
        })
}

pub(crate) fn plan(engine: &Engine, items: u64, nodes: usize) -> ExecutionPlan {
    let mut graph = json!({
        "version": 1,
        "name": "bench",
        "nodes": {
            "count": { "type": "source", "use": "bench/count", "config": { "to": items } },
        }
    });
    let graph_nodes = graph["nodes"].as_object_mut().unwrap();
    let mut last = "count".to_owned();
    for at in 0..nodes {
        let name = format!("map{at}");
        graph_nodes.insert(name.clone(), json!({ "type": "action", "use": "fn/map", "inputs": [last] }));
        last = name;
    }
    graph_nodes.insert("keep".into(), json!({ "type": "action", "use": "fn/keep", "inputs": [last] }));
    graph_nodes.insert(
        "sink".into(),
        json!({ "type": "sink", "use": "bench/discard", "inputs": ["keep"], "config": {} }),
    );
    engine.compile_json(&graph.to_string()).unwrap()
}

pub(crate) fn rows_plan(engine: &Engine, items: u64) -> ExecutionPlan {
    let graph = json!({
        "version": 1,
        "name": "rows",
        "nodes": {
            "count": { "type": "source", "use": "bench/count_rows", "config": { "to": items } },
            "map": { "type": "action", "use": "map", "inputs": ["count"], "config": { "set": { "value": "row.value * 3 + 1" } } },
            "keep": { "type": "action", "use": "filter", "inputs": ["map"], "config": { "when": "row.value % 2 == 0" } },
            "sink": { "type": "sink", "use": "bench/discard", "inputs": ["keep"], "config": {} }
        }
    });
    engine.compile_json(&graph.to_string()).unwrap()
}

pub(crate) fn through_the_engine(
    runtime: &tokio::runtime::Runtime,
    engine: &Engine,
    plan: &ExecutionPlan,
) -> u64 {
    runtime.block_on(async {
        let report = engine.start_plan(plan).await.unwrap().wait().await.unwrap();
        assert!(report.is_success(), "{report}");
        report.node("sink").unwrap().received
    })
}

/// The same by hand: a channel a hop, one value a message.
fn by_hand_single(runtime: &tokio::runtime::Runtime, items: u64) -> u64 {
    runtime.block_on(async {
        let (source, mut mapped) = mpsc::channel::<Raw>(BATCH);
        let (map, mut kept) = mpsc::channel::<Raw>(BATCH);
        let (keep, mut sunk) = mpsc::channel::<Raw>(BATCH);
        tokio::spawn(async move {
            for n in 0..items {
                source.send(Raw::Json(n.into())).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Some(raw) = mapped.recv().await {
                map.send(Raw::Json((number(&raw) * 3 + 1).into())).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Some(raw) = kept.recv().await {
                if number(&raw).is_multiple_of(2) {
                    keep.send(raw).await.unwrap();
                }
            }
        });
        tokio::spawn(async move {
            let mut count = 0;
            while let Some(raw) = sunk.recv().await {
                black_box(raw);
                count += 1;
            }
            count
        })
        .await
        .unwrap()
    })
}

/// The same by hand: JSON objects in batches.
fn by_hand_json(runtime: &tokio::runtime::Runtime, items: u64) -> u64 {
    fn get(value: &Value) -> u64 {
        value["value"].as_u64().unwrap_or_default()
    }
    runtime.block_on(async {
        let (source, mut mapped) = mpsc::channel::<Vec<Value>>(8);
        let (map, mut kept) = mpsc::channel::<Vec<Value>>(8);
        let (keep, mut sunk) = mpsc::channel::<Vec<Value>>(8);
        tokio::spawn(async move {
            for first in (0..items).step_by(BATCH) {
                let end = (first + BATCH as u64).min(items);
                let batch = (first..end).map(|n| json!({ "id": n, "value": n })).collect();
                source.send(batch).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Some(mut batch) = mapped.recv().await {
                for value in &mut batch {
                    value["value"] = (get(value) * 3 + 1).into();
                }
                map.send(batch).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Some(mut batch) = kept.recv().await {
                batch.retain(|value| get(value).is_multiple_of(2));
                keep.send(batch).await.unwrap();
            }
        });
        tokio::spawn(async move {
            let mut count = 0;
            while let Some(batch) = sunk.recv().await {
                count += batch.len() as u64;
                black_box(batch);
            }
            count
        })
        .await
        .unwrap()
    })
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// One run through the engine, for its peak memory; or many short ones, for a profile.
pub(crate) fn alone(what: Option<&str>) -> bool {
    let (runtime, engine) = (runtime(), engine());
    if what == Some("starts") {
        let one = plan(&engine, 1, 1);
        (0..5_000).for_each(|_| _ = black_box(through_the_engine(&runtime, &engine, &one)));
        return true;
    }
    let plan = plan(&engine, ITEMS, 1);
    through_the_engine(&runtime, &engine, &plan);
    print_peak_memory();
    true
}

pub(crate) fn run() -> bool {
    let (runtime, engine) = (runtime(), engine());
    let (five_million, as_rows) = (plan(&engine, ITEMS, 1), rows_plan(&engine, ITEMS));
    println!(
        "{ITEMS} small items, source -> map -> filter (half) -> sink; ids, lineage, ledger and acknowledgement on\n"
    );
    let [ours, rows, single, json] = in_turns(
        5,
        [
            &mut || assert_eq!(through_the_engine(&runtime, &engine, &five_million), ITEMS / 2),
            &mut || assert_eq!(through_the_engine(&runtime, &engine, &as_rows), ITEMS / 2),
            &mut || assert_eq!(by_hand_single(&runtime, ITEMS), ITEMS / 2),
            &mut || assert_eq!(by_hand_json(&runtime, ITEMS), ITEMS / 2),
        ],
    );
    for (what, time) in [
        ("the engine, items through functions", ours),
        ("the engine, rows through expressions", rows),
        ("channels by hand, one value a message", single),
        ("channels by hand, JSON in batches of 1,024", json),
    ] {
        println!(
            "{what:<46} {:>7.3} s {:>8.1} ns an item",
            time.as_secs_f64(),
            nanoseconds_each(time, ITEMS)
        );
    }

    println!("\nby the number of items");
    let mut costs = Vec::new();
    for (items, rounds) in [(10_000, 60), (100_000, 20), (1_000_000, 5), (10_000_000, 2)] {
        let plan = plan(&engine, items, 1);
        let [time] = in_turns(rounds, [&mut || _ = black_box(through_the_engine(&runtime, &engine, &plan))]);
        costs.push(nanoseconds_each(time, items));
        println!("{items:>12} items {:>8.1} ns an item", nanoseconds_each(time, items));
    }

    let one = plan(&engine, 1, 1);
    let [time] = in_turns(200, [&mut || _ = black_box(through_the_engine(&runtime, &engine, &one))]);
    println!("{:>12} item  {:>8.1} us from start to report", 1, nanoseconds_each(time, 1_000));

    println!("\nby the number of nodes between source and sink (1,000,000 items)");
    for nodes in [1, 5, 20, 50] {
        let plan = plan(&engine, 1_000_000, nodes - 1);
        let began = Instant::now();
        through_the_engine(&runtime, &engine, &plan);
        let time: Duration = began.elapsed();
        let each = nanoseconds_each(time, 1_000_000);
        println!(
            "{nodes:>12} nodes {each:>8.1} ns an item, {:>6.1} ns an item and node",
            each / (nodes + 1) as f64
        );
    }

    let memory = peak_memory_of(&["engine-alone"]);
    println!("\npeak memory of the engine's run: {memory:.1} MB");
    let mean = costs.iter().sum::<f64>() / costs.len() as f64;
    let spread = costs.iter().map(|cost| (cost / mean - 1.0).abs()).fold(0.0, f64::max);
    println!("spread of the cost an item: {:.0} %", spread * 100.0);
    let ratio = |time: Duration| time.as_secs_f64() / ours.as_secs_f64();
    println!("rows against channels of single values: {:.1}", single.as_secs_f64() / rows.as_secs_f64());
    print_targets(&[
        Target::new("engine against channels of single values", ratio(single), 1.5),
        Target::new("engine against channels of JSON in batches", ratio(json), 2.0),
        Target::new("100 MB against peak memory", 100.0 / memory, 1.0),
        Target::new("15 % against the spread of the cost an item", 0.15 / spread.max(0.001), 1.0),
    ])
}
