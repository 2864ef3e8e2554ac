//! How long it takes to go on: a run that has read a million objects and is stopped, and one that
//! reads what has changed of a million, which is nothing.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::{Stream, stream};
use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::{Increments, ReplaceSet};
use nvisy_runtime::Engine;
use nvisy_runtime::engine::{RunReport, RunStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::engine::runtime;
use crate::measure::{Target, print_targets, size_of_folder};

/// How many objects there are; `NVISY_BENCH_ITEMS` says otherwise.
fn objects() -> u64 {
    std::env::var("NVISY_BENCH_ITEMS").ok().and_then(|items| items.parse().ok()).unwrap_or(1_000_000)
}

const ROUNDS: u32 = 3;

/// Whether the last object cannot be read.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// Objects of one item each.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
struct Objects {
    objects: u64,
}

impl Source for Objects {
    const NAME: &'static str = "bench/objects";
    type Output = Raw;
    type Client = NoClient;

    fn identity(&self, _: &NoClient) -> SourceIdentity {
        SourceIdentity::new("bench/objects")
    }

    fn increments(&self) -> Result<Increments, &'static str> {
        Ok(Increments::Versions)
    }

    async fn partitions(&self, _: &OpenContext) -> Result<Vec<Partition>> {
        let version = "2026-01-01T00:00:00.000000Z-4096";
        let object = |n| Partition::new(format!("reports/2026/object-{n:07}.md")).with_version(version);
        Ok((0..self.objects).map(object).collect())
    }

    fn read(
        &self,
        partition: &Partition,
        after: Option<Position>,
        context: &ReadContext,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        let last = partition.id.ends_with(&format!("-{:07}.md", self.objects - 1));
        let read = match after {
            Some(_) => None,
            None if last && BROKEN.load(Ordering::Relaxed) => {
                Some(Err(Error::new(ErrorKind::Permission, "the object cannot be read")))
            }
            None => {
                let object = Some(partition.id.clone());
                let after = Position::Marker { object: partition.id.clone(), offset: 0 };
                Some(context.items([Raw::Json(1.into())], Positions::Sequence { object, start: 0 }, after))
            }
        };
        stream::iter(read)
    }
}

/// Takes everything, and has nothing to delete.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
struct Take {}

impl SinkConfig for Take {
    const NAME: &'static str = "bench/take";
    type Input = Any;
    type Client = NoClient;
    type Sink = Self;

    fn guarantee(&self) -> Guarantee {
        Guarantee::Upsert
    }

    fn replaces(&self) -> bool {
        true
    }

    async fn open(&self, _: &OpenContext) -> Result<Self> {
        Ok(Self {})
    }
}

impl Sink for Take {
    async fn write(&self, batch: &Batch, _: &Context) -> Result<WriteReport> {
        Ok(WriteReport::applied(batch.len()))
    }

    async fn replace(&self, _: &[ReplaceSet], _: &Context) -> Result<u64> {
        Ok(0)
    }
}

/// Runs the graph from scratch, in an engine of its own, as a new process would.
fn timed(runtime: &tokio::runtime::Runtime, state: &Path, incremental: bool) -> (Duration, RunReport) {
    let began = Instant::now();
    let engine = Engine::builder().source::<Objects>().sink::<Take>().state(state).build().unwrap();
    let graph = json!({
        "version": 1,
        "name": "objects",
        "nodes": {
            "in": { "type": "source", "use": "bench/objects", "incremental": incremental,
                    "config": { "objects": objects() }, "concurrency": 16 },
            "out": { "type": "sink", "use": "bench/take", "inputs": ["in"], "config": {} }
        }
    });
    let plan = engine.compile_json(&graph.to_string()).unwrap();
    let report = runtime.block_on(async { engine.start_plan(&plan).await.unwrap().wait().await.unwrap() });
    (began.elapsed(), report)
}

pub(crate) fn run() -> bool {
    let (runtime, objects) = (runtime(), objects());
    let place = tempfile::tempdir().unwrap();
    let line = |what: &str, time: Duration| println!("{what:<64} {:>7.3} s", time.as_secs_f64());
    let size = |state: &Path| {
        let bytes = size_of_folder(state) as f64 / objects as f64;
        println!("{:<64} {bytes:>7.1} MB a million objects", "the state directory");
    };

    let state = place.path().join("stopped");
    BROKEN.store(true, Ordering::Relaxed);
    let (time, report) = timed(&runtime, &state, false);
    assert_ne!(report.status, RunStatus::Success, "{report}");
    line(&format!("a run that reads {objects} objects but one"), time);
    size(&state);
    // It stays broken: so that each round finds what the one before did.
    let mut goes_on = Duration::MAX;
    for _ in 0..ROUNDS {
        let (time, report) = timed(&runtime, &state, false);
        assert_eq!(report.node("in").unwrap().received, 0, "{report}");
        goes_on = goes_on.min(time);
    }
    line("it goes on, for the one", goes_on);

    BROKEN.store(false, Ordering::Relaxed);
    let state = place.path().join("incremental");
    let (time, report) = timed(&runtime, &state, true);
    assert_eq!((report.status, report.node("in").unwrap().received), (RunStatus::Success, objects));
    line(&format!("an incremental run that reads {objects} objects"), time);
    size(&state);
    let mut unchanged = Duration::MAX;
    for _ in 0..ROUNDS {
        let (time, report) = timed(&runtime, &state, true);
        assert_eq!((report.status, report.node("in").unwrap().received), (RunStatus::Success, 0));
        unchanged = unchanged.min(time);
    }
    line("the next one, which finds them unchanged", unchanged);
    print_targets(&[
        Target::new("2 s against going on with a run of a million objects", 2.0 / goes_on.as_secs_f64(), 1.0),
        Target::new("2 s against a million objects that are unchanged", 2.0 / unchanged.as_secs_f64(), 1.0),
    ])
}
