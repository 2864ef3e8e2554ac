//! What incremental runs keep to when their calls and their checkpoints overlap, and when something
//! fails in between: files and sinks in memory, on a paused clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use futures::Stream;
use futures::future::BoxFuture;
use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::{
    Changes, Checkpoint, CheckpointStore, Checkpoints, ErrorKind, Increments, Origin, ReplaceSet,
};
use nvisy_runtime::Engine;
use nvisy_runtime::checkpoint::MemoryStore;
use nvisy_runtime::engine::{EngineBuilder, RunReport, RunState, RunStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::fixture::{
    Step, builder, document, node, number, run_on, scripted, sink, unique, with, within, written,
};

// --- files ---

/// What is in a folder: each file's version, and its numbers.
type Folder = BTreeMap<&'static str, (u64, Vec<u64>)>;

static FOLDERS: LazyLock<Mutex<HashMap<String, Folder>>> = LazyLock::new(Mutex::default);

fn put(folder: &str, file: &'static str, version: u64, numbers: &[u64]) {
    let mut folders = FOLDERS.lock().unwrap();
    folders.entry(folder.to_owned()).or_default().insert(file, (version, numbers.to_vec()));
}

fn remove(folder: &str, file: &str) {
    FOLDERS.lock().unwrap().get_mut(folder).unwrap().remove(file);
}

fn look(folder: &str) -> Folder {
    FOLDERS.lock().unwrap().get(folder).cloned().unwrap_or_default()
}

/// Reads the files of a folder, each in one batch.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Files {
    folder: String,
    /// How many milliseconds it takes to list them.
    #[serde(default)]
    listing: u64,
}

impl Source for Files {
    const NAME: &'static str = "test/files";
    type Output = Raw;
    type Client = NoClient;

    fn identity(&self, _: &NoClient) -> SourceIdentity {
        SourceIdentity::new(self.folder.as_str())
    }

    fn increments(&self) -> Result<Increments, &'static str> {
        Ok(Increments::Versions)
    }

    async fn partitions(&self, _: &OpenContext) -> Result<Vec<Partition>> {
        sleep(Duration::from_millis(self.listing)).await;
        let partition = |(file, (version, _)): (&'static str, (u64, _))| {
            Partition::new(file).with_version(version.to_string())
        };
        Ok(look(&self.folder).into_iter().map(partition).collect())
    }

    fn read(
        &self,
        partition: &Partition,
        after: Option<Position>,
        context: &ReadContext,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        let numbers = look(&self.folder).remove(&*partition.id).map(|(_, numbers)| numbers);
        let object = partition.id.clone();
        let context = context.clone();
        async_stream::try_stream! {
            let numbers = numbers.filter(|numbers| after.is_none() && !numbers.is_empty());
            if let Some(numbers) = numbers {
                let after = Position::Marker { object: object.clone(), offset: numbers.len() as u64 - 1 };
                let items = numbers.into_iter().map(|n| Raw::Json(json!({ "n": n })));
                yield context.items(items, Positions::rows(object, 0), after)?;
            }
        }
    }
}

fn files(folder: &str) -> Value {
    json!({ "type": "source", "use": "test/files", "incremental": true, "config": { "folder": folder } })
}

// --- sinks ---

/// What a sink has, and what becomes of its calls.
#[derive(Default)]
struct Shelf {
    items: HashMap<PrimitiveId, (Option<Origin>, u64, u64)>,
    /// The number that cannot be written.
    refuses: Option<u64>,
}

static SHELVES: LazyLock<Mutex<HashMap<String, Shelf>>> = LazyLock::new(Mutex::default);

fn on_shelf<T>(name: &str, f: impl FnOnce(&mut Shelf) -> T) -> T {
    f(SHELVES.lock().unwrap().entry(name.to_owned()).or_default())
}

/// The numbers that are on a shelf, in order.
fn kept(name: &str) -> Vec<u64> {
    let mut numbers: Vec<u64> =
        on_shelf(name, |shelf| shelf.items.values().map(|(_, _, number)| *number).collect());
    numbers.sort_unstable();
    numbers
}

/// Keeps items on a shelf, and deletes what is stale.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Kept {
    shelf: String,
    /// How many milliseconds it takes to delete.
    #[serde(default)]
    deleting: u64,
}

impl SinkConfig for Kept {
    const NAME: &'static str = "test/kept";
    type Input = Any;
    type Client = NoClient;
    type Sink = Self;

    fn guarantee(&self) -> Guarantee {
        Guarantee::Upsert
    }

    fn optimum(&self) -> BatchLimits {
        BatchLimits::items(1)
    }

    fn replaces(&self) -> bool {
        true
    }

    async fn open(&self, _: &OpenContext) -> Result<Self> {
        Ok(self.clone())
    }
}

impl Sink for Kept {
    async fn write(&self, batch: &Batch, context: &Context) -> Result<WriteReport> {
        for index in 0..batch.len() {
            let number = number(&batch.primitive(index));
            if on_shelf(&self.shelf, |shelf| shelf.refuses == Some(number)) {
                sleep(Duration::from_millis(10)).await;
                return Err(Error::new(ErrorKind::Permission, "not this one"));
            }
            let item = (Origin::of(batch, index), context.generation().unwrap_or(0), number);
            on_shelf(&self.shelf, |shelf| shelf.items.insert(batch.id(index), item));
        }
        Ok(WriteReport::applied(batch.len()))
    }

    async fn replace(&self, sets: &[ReplaceSet], _: &Context) -> Result<u64> {
        sleep(Duration::from_millis(self.deleting)).await;
        Ok(on_shelf(&self.shelf, |shelf| {
            let before = shelf.items.len();
            shelf.items.retain(|_, (origin, generation, _)| {
                !sets.iter().any(|set| *origin == Some(set.origin) && *generation < set.generation)
            });
            (before - shelf.items.len()) as u64
        }))
    }
}

fn keeping(shelf: &str, input: &str) -> Value {
    json!({ "type": "sink", "use": "test/kept", "inputs": [input], "config": { "shelf": shelf } })
}

// --- checkpoints ---

/// Takes its time for each commit, and refuses some.
#[derive(Clone, Debug)]
struct Slow {
    store: MemoryStore,
    time: Duration,
    refuses: fn(&Changes) -> bool,
}

#[derive(Debug)]
struct SlowOpen(Box<dyn Checkpoints>, Slow);

impl CheckpointStore for Slow {
    fn open<'a>(&'a self, graph: &'a str) -> BoxFuture<'a, Result<Box<dyn Checkpoints>>> {
        Box::pin(async move {
            Ok(Box::new(SlowOpen(self.store.open(graph).await?, self.clone())) as Box<dyn Checkpoints>)
        })
    }
}

impl Checkpoints for SlowOpen {
    fn last(&self) -> &Checkpoint {
        self.0.last()
    }

    fn commit(&mut self, changes: Changes) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            sleep(self.1.time).await;
            match (self.1.refuses)(&changes) {
                true => Err(Error::new(ErrorKind::Permission, "no space is left")),
                false => self.0.commit(changes).await,
            }
        })
    }
}

fn slow(store: &MemoryStore, milliseconds: u64) -> Slow {
    Slow { store: store.clone(), time: Duration::from_millis(milliseconds), refuses: |_| false }
}

fn engine_on(store: impl CheckpointStore) -> EngineBuilder {
    builder().source::<Files>().sink::<Kept>().checkpoints(store)
}

fn engine(store: &MemoryStore) -> Engine {
    engine_on(store.clone()).build().unwrap()
}

async fn run(store: &MemoryStore, graph: &nvisy_runtime::graph::Graph) -> RunReport {
    let report = run_on(&engine(store), graph).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    report
}

/// Runs on a paused clock of its own; what is not done when it returns is gone, as if killed.
fn on_a_clock<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

// --- tests ---

#[test]
fn a_source_that_lists_while_another_is_announced_reads_nothing_before_a_checkpoint_knows() {
    let [one, two, left, right] = ["one", "two", "left", "right"].map(unique);
    let store = MemoryStore::new();
    put(&one, "a", 1, &[1]);
    put(&two, "b", 1, &[2]);
    put(&two, "c", 1, &[3]);
    let graph = document(json!({ "settings": { "checkpoint": { "every": "1h" } }, "nodes": {
        "one": files(&one), "left": keeping(&left, "one"),
        "two": with(files(&two), json!({ "config": { "listing": 5 } })), "right": keeping(&right, "two"),
    } }));
    // The second lists its files half way through the commit that announces the first.
    let engine = engine_on(slow(&store, 10)).build().unwrap();
    on_a_clock(async {
        let written = async {
            while !kept(&right).contains(&2) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            biased;
            () = within(written) => {}
            report = engine.run(&graph) => panic!("{report:?}"),
        }
    });
    remove(&two, "b");
    on_a_clock(run(&store, &graph));
    assert_eq!((kept(&left), kept(&right)), (vec![1], vec![3]), "what the killed run has left is gone");
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_could_not_delete_that_failed_meanwhile_is_deleted_by_the_next_run() {
    let (folder, [first, second]) = (unique("folder"), ["first", "second"].map(unique));
    let store = MemoryStore::new();
    let slowly = |shelf: &str| with(keeping(shelf, "copies"), json!({ "config": { "deleting": 20 } }));
    let graph = document(json!({ "settings": { "checkpoint": { "every": "5ms" } }, "nodes": {
        "files": files(&folder), "copies": { "type": "fan_out", "inputs": ["files"] },
        "first": slowly(&first), "second": slowly(&second),
    } }));
    put(&folder, "a", 1, &[1, 2]);
    put(&folder, "gone", 1, &[3]);
    run(&store, &graph).await;
    assert_eq!((kept(&first), kept(&second)), (vec![1, 2, 3], vec![1, 2, 3]));

    // The second fails while the first deletes.
    put(&folder, "a", 2, &[1]);
    put(&folder, "b", 1, &[9]);
    remove(&folder, "gone");
    on_shelf(&second, |shelf| shelf.refuses = Some(9));
    let report = run_on(&engine(&store), &graph).await;
    assert_eq!(report.status, RunStatus::PartialFailure, "{report}");
    assert_eq!((node(&report, "second").deleted, kept(&second)), (0, vec![1, 2, 3]), "{report}");

    on_shelf(&second, |shelf| shelf.refuses = None);
    run(&store, &graph).await;
    assert_eq!((kept(&first), kept(&second)), (vec![1, 9], vec![1, 9]));
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_end_cannot_be_kept_has_not_finished_and_goes_on_in_an_orderly_way() {
    let (folder, shelf) = (unique("folder"), unique("shelf"));
    let store = MemoryStore::new();
    put(&folder, "a", 1, &[1, 2]);
    let graph = document(json!({ "nodes": { "files": files(&folder), "out": keeping(&shelf, "files") } }));
    let ends = |changes: &Changes| {
        let run = changes.iter().find(|(key, _)| *key == "run").and_then(|(_, value)| value.cloned());
        run.is_some_and(|run| serde_json::from_slice::<Value>(&run).unwrap()["finished"] == json!(true))
    };
    let full = Slow { refuses: ends, ..slow(&store, 0) };
    let report = run_on(&engine_on(full).build().unwrap(), &graph).await;
    assert!(!report.checkpoint.as_ref().unwrap().finished, "{report}");
    assert!(report.failure.as_ref().unwrap().message.contains("no space is left"), "{report}");
    let state = RunState::of("test", &store.peek("test").unwrap()).unwrap();
    assert!(!state.finished && !state.running, "it has ended in an orderly way: {state}");

    let report = run(&store, &graph).await;
    let checkpoint = report.checkpoint.as_ref().unwrap();
    assert!(checkpoint.resumed && checkpoint.finished && checkpoint.careful == 0, "{report}");
    assert_eq!(kept(&shelf), [1, 2]);
}

#[test]
fn what_comes_when_all_was_read_and_groups_are_let_go_of_is_left_for_the_next_run() {
    let (folder, sums, other) = (unique("folder"), unique("sums"), unique("other"));
    let place = tempfile::tempdir().unwrap();
    let engine = || builder().source::<Files>().state(place.path()).build().unwrap();
    put(&folder, "a", 1, &[1, 11, 2]);
    put(&folder, "b", 1, &[21]);
    let pause = vec![Step::Give(0..1), Step::Sleep(Duration::from_secs(10)), Step::Give(1..2)];
    let plain = json!({ "type": "source", "use": "test/files", "config": { "folder": folder } });
    let graph = document(json!({ "settings": { "checkpoint": { "every": "10ms" } }, "nodes": {
        "files": plain,
        "rows": { "type": "action", "use": "convert", "inputs": ["files"], "config": { "to": "row" } },
        "sum": { "type": "action", "use": "aggregate", "inputs": ["rows"],
                 "config": { "group_by": { "digit": "row.n % 10" }, "aggregates": { "n": { "sum": "row.n" } } } },
        "sums": sink(&sums, "sum"),
        "other": scripted(vec![pause]), "others": sink(&other, "other"),
    } }));
    // Killed when the sums are written and a checkpoint has that, while another source goes on.
    on_a_clock(async {
        let killed = tokio::time::timeout(Duration::from_secs(5), async { engine().run(&graph).await }).await;
        assert!(killed.is_err(), "{killed:?}");
    });
    assert_eq!(written(&sums), [2, 33]);

    put(&folder, "c", 1, &[101, 3]);
    let report = on_a_clock(run_on(&engine(), &graph));
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert_eq!((written(&sums), written(&other)), (vec![2, 33], vec![0, 1]), "{report}");
    let text = report.to_string();
    assert!(text.contains("source \"files\" left 1 new partition for the next run"), "{text}");

    let report = on_a_clock(run_on(&engine(), &graph));
    assert_eq!((written(&sums), report.warnings.len()), (vec![2, 3, 134], 0), "{report}");
}

/// Changes nothing, in a version that the test says.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
struct Versioned {}

static VERSION: Mutex<&str> = Mutex::new("");

impl Transform for Versioned {
    const NAME: &'static str = "test/versioned";
    type Input = Any;
    type Output = Any;

    async fn transform(&self, item: Item, _: &Context) -> Result<Outcome> {
        Ok(Outcome::emit(item))
    }

    fn version(&self) -> &'static str {
        *VERSION.lock().unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn code_in_another_version_makes_everything_again() {
    let (folder, shelf) = (unique("folder"), unique("shelf"));
    let store = MemoryStore::new();
    put(&folder, "a", 1, &[1]);
    put(&folder, "b", 1, &[2]);
    let graph = document(json!({ "nodes": {
        "files": files(&folder),
        "same": { "type": "action", "use": "test/versioned", "inputs": ["files"] },
        "pass": { "type": "action", "use": "fn/pass", "inputs": ["same"] },
        "out": keeping(&shelf, "pass"),
    } }));
    let read = async |action: &'static str, function: Option<u32>| {
        *VERSION.lock().unwrap() = action;
        let pass = |item: Item<Raw>| Ok(Outcome::emit(item));
        let engine = engine_on(store.clone()).action::<Versioned>().function("pass", pass);
        let engine = match function {
            Some(version) => engine.function_version("pass", version),
            None => engine,
        };
        let report = run_on(&engine.build().unwrap(), &graph).await;
        assert_eq!(report.status, RunStatus::Success, "{report}");
        node(&report, "files").received
    };
    assert_eq!((read("", None).await, read("", None).await), (2, 0));
    assert_eq!((read("1", None).await, read("1", None).await), (2, 0));
    assert_eq!((read("2", None).await, read("2", Some(1)).await), (2, 2));
    assert_eq!((read("2", Some(1)).await, read("2", Some(2)).await), (0, 2));
    assert_eq!(kept(&shelf), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_the_only_incremental_source_has_left_goes_with_it() {
    let ([folder, other, elsewhere], shelf) = (["folder", "other", "elsewhere"].map(unique), unique("shelf"));
    let store = MemoryStore::new();
    put(&folder, "a", 1, &[1, 2]);
    put(&folder, "b", 1, &[3]);
    put(&other, "a", 1, &[4]);
    put(&elsewhere, "a", 1, &[5]);
    let plain = |folder: &str| with(files(folder), json!({ "incremental": null }));
    let graph = |name: &str, source: Value| {
        document(json!({ "nodes": { name: source, "out": keeping(&shelf, name) } }))
    };
    let remembered = || {
        let entries = store.peek("test").unwrap().entries;
        entries.keys().filter(|key| key.starts_with("feed/") || key.starts_with("done/")).count()
    };
    run(&store, &graph("files", files(&folder))).await;
    assert_eq!((kept(&shelf), remembered()), (vec![1, 2, 3], 3));

    // As a whole it is the same source, and goes on when it is incremental again.
    remove(&folder, "b");
    run(&store, &graph("files", plain(&folder))).await;
    assert_eq!((kept(&shelf), remembered()), (vec![1, 2, 3], 3));
    let report = run(&store, &graph("files", files(&folder))).await;
    assert_eq!((kept(&shelf), node(&report, "files").received), (vec![1, 2], 0), "{report}");

    let report = run(&store, &graph("files", plain(&other))).await;
    assert_eq!((kept(&shelf), remembered()), (vec![4], 0), "{report}");
    assert_eq!(node(&report, "out").deleted, 2, "{report}");
    run(&store, &graph("files", files(&other))).await;
    run(&store, &graph("others", plain(&elsewhere))).await;
    assert_eq!((kept(&shelf), remembered()), (vec![5], 0));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_fails_where_nothing_is_incremental_keeps_no_file_from_being_done_with() {
    let ([folder, other], [shelf, sick]) = (["folder", "other"].map(unique), ["shelf", "sick"].map(unique));
    let store = MemoryStore::new();
    put(&folder, "a", 1, &[1]);
    put(&other, "a", 1, &[9]);
    let pause = vec![Step::Sleep(Duration::from_secs(1)), Step::Give(0..1)];
    let graph = document(json!({ "settings": { "checkpoint": { "every": "5ms" } }, "nodes": {
        "files": with(files(&folder), json!({ "config": { "listing": 20 } })), "out": keeping(&shelf, "files"),
        "plain": with(files(&other), json!({ "incremental": null })), "sick": keeping(&sick, "plain"),
        "pause": scripted(vec![pause]), "late": sink(&unique("late"), "pause"),
    } }));
    run(&store, &graph).await;
    put(&folder, "a", 2, &[2]);
    on_shelf(&sick, |shelf| shelf.refuses = Some(9));
    let report = run_on(&engine(&store), &graph).await;
    assert_eq!((report.status, kept(&shelf)), (RunStatus::PartialFailure, vec![2]), "{report}");
    on_shelf(&sick, |shelf| shelf.refuses = None);
    assert_eq!(node(&run(&store, &graph).await, "files").received, 0);
}
