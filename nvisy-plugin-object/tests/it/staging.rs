//! Files in a run with checkpoints: what is in a checkpoint shows once, whenever it is killed.

use bytes::Bytes;
use nvisy_core::prelude::*;
use nvisy_core::primitive::row::Row;
use nvisy_core::{ErrorKind, OpenContext, RunId};
use nvisy_plugin_object::{
    CsvSink, IpcSink, Jsonl, JsonlSink, Memory, ObjectClient, OnExisting, Parquet, ParquetSink,
};
use serde_json::{Value, json};

use crate::support::{Store, batch, read};

fn rows(n: std::ops::Range<i64>) -> Batch {
    batch(n.map(|n| Row::from_json(json!({"n": n}).as_object().unwrap(), None).unwrap()))
}

fn context() -> Context {
    Context::new("graph", "node", "object/files")
}

async fn open<S: SinkConfig<Client = ObjectClient>>(
    store: &Store,
    sink: &S,
    staged: Option<&Bytes>,
) -> Result<S::Sink> {
    let context = OpenContext::new(context(), store.client().await);
    sink.open(&context.with_staging(Staging::On(staged.cloned()))).await
}

async fn write(sink: &impl Sink, n: std::ops::Range<i64>) {
    assert!(sink.write(&rows(n), &context()).await.unwrap().is_applied());
}

async fn stage(sink: &impl Sink) -> Bytes {
    sink.stage(&context()).await.unwrap().unwrap()
}

async fn publish(sink: &impl Sink, staged: &Bytes) {
    sink.publish(staged, &context()).await.unwrap();
}

/// The files that show, and those that do not.
fn shown(store: &Store) -> (Vec<String>, Vec<String>) {
    store.files().into_iter().partition(|file| !file.ends_with(".nvisy-tmp"))
}

/// Where a run is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    Opened,
    Written,
    Staged,
    Committed,
    HalfShown,
    Published,
    Closed,
}

const POINTS: [Point; 7] = [
    Point::Opened,
    Point::Written,
    Point::Staged,
    Point::Committed,
    Point::HalfShown,
    Point::Published,
    Point::Closed,
];

/// What a run goes on from: what the engine commits at once.
#[derive(Clone, Debug, Default)]
struct Checkpoint {
    staged: Option<Bytes>,
    next: i64,
}

/// Goes on from a checkpoint for two rounds, and is killed at a point of the second.
async fn run<S: SinkConfig<Client = ObjectClient>>(
    store: &Store,
    sink: &S,
    checkpoint: &mut Checkpoint,
    kill: Point,
) {
    let open = open(store, sink, checkpoint.staged.as_ref()).await.unwrap();
    for round in 0..2 {
        let at = |point| round == 1 && kill == point;
        if at(Point::Opened) {
            return std::mem::forget(open);
        }
        let next = checkpoint.next;
        write(&open, next..next + 3).await;
        write(&open, next + 3..next + 5).await;
        if at(Point::Written) {
            return std::mem::forget(open);
        }
        let staged = stage(&open).await;
        if at(Point::Staged) {
            return std::mem::forget(open);
        }
        *checkpoint = Checkpoint { staged: Some(staged.clone()), next: next + 5 };
        if at(Point::Committed) {
            return std::mem::forget(open);
        }
        if at(Point::HalfShown) {
            // The link is there, and the temporary is not yet gone.
            let held: Value = serde_json::from_slice(&staged).unwrap();
            let file = &held["files"][0];
            let path = |name: &str| store.path(file[name].as_str().unwrap());
            std::fs::create_dir_all(path("key").parent().unwrap()).unwrap();
            std::fs::hard_link(path("temporary"), path("key")).unwrap();
            return std::mem::forget(open);
        }
        publish(&open, &staged).await;
    }
    if kill == Point::Published {
        return std::mem::forget(open);
    }
    open.close(&context()).await.unwrap();
}

/// Kills a run at every point, lets it go on, and looks whether everything is there once.
async fn check<K, S>(sink: impl Fn(OnExisting) -> K, source: S)
where
    K: SinkConfig<Client = ObjectClient>,
    S: Source<Client = ObjectClient>,
{
    for on_existing in [OnExisting::Fail, OnExisting::Replace, OnExisting::Number] {
        for kill in POINTS {
            let (store, sink) = (Store::new(), sink(on_existing));
            let mut checkpoint = Checkpoint::default();
            run(&store, &sink, &mut checkpoint, kill).await;
            run(&store, &sink, &mut checkpoint, kill).await;
            run(&store, &sink, &mut checkpoint, Point::Closed).await;
            let (files, temporaries) = shown(&store);
            assert!(temporaries.is_empty(), "{on_existing:?}, {kill:?}: {temporaries:?} of {files:?}");
            let read = read(&source, store.client().await, BatchLimits::default()).await.unwrap();
            assert!(read.error.is_none() && read.rejected.is_empty(), "{on_existing:?}, {kill:?}: {read:?}");
            let mut found: Vec<i64> = read.items.iter().map(|item| item["n"].as_i64().unwrap()).collect();
            found.sort_unstable();
            let expected: Vec<i64> = (0..checkpoint.next).collect();
            assert_eq!(found, expected, "{on_existing:?}, {kill:?}: {files:?}");
        }
    }
}

#[tokio::test]
async fn json_lines_show_once_wherever_a_run_is_killed() {
    check(|on_existing| JsonlSink::path("a.jsonl").on_existing(on_existing), Jsonl::all()).await;
    let parts =
        |on_existing| JsonlSink::path("out/{date}/{part}.jsonl.gz").on_existing(on_existing).roll_rows(2);
    check(parts, Jsonl::all().glob("**")).await;
}

#[tokio::test]
async fn tables_show_once_wherever_a_run_is_killed() {
    let parts = |on_existing| ParquetSink::path("out/{part}/a.parquet").on_existing(on_existing).roll_rows(3);
    check(parts, Parquet::all().glob("**")).await;
    check(|on_existing| ParquetSink::path("a.parquet").on_existing(on_existing), Parquet::all()).await;
    check(
        |on_existing| IpcSink::path("a.arrow").on_existing(on_existing).roll_rows(2),
        nvisy_plugin_object::Ipc::all(),
    )
    .await;
    let csv = nvisy_plugin_object::Csv::all().column("n", nvisy_plugin_object::ColumnType::Int);
    check(|on_existing| CsvSink::path("a.csv").on_existing(on_existing).roll_bytes(4), csv).await;
}

#[tokio::test]
async fn nothing_shows_that_is_not_published_also_when_it_rolls_flushes_or_closes() {
    let store = Store::new();
    let sink = open(&store, &JsonlSink::path("o/{part}.jsonl").roll_rows(2), None).await.unwrap();
    assert_eq!(sink.stage(&context()).await.unwrap(), None);
    write(&sink, 0..5).await;
    sink.flush(&context()).await.unwrap();
    assert_eq!(shown(&store).0, [""; 0]);
    assert_eq!(shown(&store).1.len(), 3);
    let staged = stage(&sink).await;
    assert_eq!(stage(&sink).await, staged);
    assert_eq!(shown(&store).0, [""; 0]);
    write(&sink, 5..8).await;
    sink.close(&context()).await.unwrap();
    drop(sink);
    let held: Value = serde_json::from_slice(&staged).unwrap();
    assert_eq!((&held["version"], &held["next"]), (&json!(1), &json!(3)));
    let mut staged: Vec<_> =
        held["files"].as_array().unwrap().iter().map(|file| file["temporary"].as_str().unwrap()).collect();
    staged.sort_unstable();
    let (files, temporaries) = shown(&store);
    assert_eq!((files, temporaries), (vec![], staged.into_iter().map(str::to_owned).collect()));
}

#[tokio::test]
async fn what_was_staged_and_not_published_is_staged_again_with_what_follows() {
    let store = Store::new();
    let config = JsonlSink::path("a.jsonl");
    let sink = open(&store, &config, None).await.unwrap();
    write(&sink, 0..1).await;
    // This one does not come into a checkpoint, and the run goes on.
    stage(&sink).await;
    write(&sink, 1..2).await;
    let staged = stage(&sink).await;
    drop(sink);
    let sink = open(&store, &config, Some(&staged)).await.unwrap();
    assert_eq!(store.files(), ["a-1.jsonl", "a.jsonl"]);
    assert_eq!(stage(&sink).await, staged, "the number of the next part stays known");
    write(&sink, 2..3).await;
    let staged = stage(&sink).await;
    let held: Value = serde_json::from_slice(&staged).unwrap();
    assert_eq!(held["files"].as_array().unwrap().len(), 1, "{held}");
    publish(&sink, &staged).await;
    assert_eq!(store.files(), ["a-1.jsonl", "a-2.jsonl", "a.jsonl"]);
}

#[tokio::test]
async fn only_what_this_node_left_is_removed() {
    let store = Store::new();
    let other = Context::new("graph", "other", "object/jsonl");
    let config = JsonlSink::path("out/{node}.jsonl");
    let opening = OpenContext::new(other.clone(), store.client().await).with_staging(Staging::On(None));
    let neighbour = config.open(&opening).await.unwrap();
    write(&neighbour, 0..1).await;
    let unstaged = store.open(&config).await.unwrap();
    write(&unstaged, 0..1).await;
    store.put("out/.mine.nvisy-tmp", "mine").put("out/notes.txt", "mine");
    let before = store.files();
    let sink = open(&store, &config, None).await.unwrap();
    write(&sink, 0..2).await;
    stage(&sink).await;
    write(&sink, 2..3).await;
    std::mem::forget(sink);
    assert_eq!(store.files().len(), before.len() + 2);
    let sink = open(&store, &config, None).await.unwrap();
    assert_eq!(store.files(), before);
    drop((neighbour, unstaged, sink));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_cannot_be_moved_to_its_name_is_not_begun() {
    let store = Store::new();
    // `/proc` is a file system of its own everywhere.
    std::os::unix::fs::symlink("/proc", store.path("00000")).unwrap();
    let path = store.path("{part}/a.jsonl").display().to_string();
    let config = JsonlSink::path(path.trim_start_matches('/'));
    let client = nvisy_plugin_object::Local::at("/").connect(&ConnectContext::detached()).await.unwrap();
    let opening = OpenContext::new(context(), std::sync::Arc::new(client));
    let sink = config.open(&opening.with_staging(Staging::On(None))).await.unwrap();
    let error = sink.write(&rows(0..1), &context()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.message().contains("lies on another file system"), "{error}");
    assert_eq!(store.files(), ["00000"]);
}

#[tokio::test]
async fn what_another_run_of_the_node_has_staged_stays() {
    let store = Store::new();
    let config = JsonlSink::path("{run}.jsonl");
    let open = async |run: u64, staged: Option<&Bytes>| {
        let context = OpenContext::new(context().in_run(RunId::from_parts(run, 0)), store.client().await);
        config.open(&context.with_staging(Staging::On(staged.cloned()))).await.unwrap()
    };
    let first = open(1, None).await;
    write(&first, 0..1).await;
    let staged = stage(&first).await;
    write(&first, 1..2).await;
    std::mem::forget(first);
    assert_eq!(shown(&store).1.len(), 2);
    // Of another state directory, which knows nothing of the first.
    let second = open(2, None).await;
    assert_eq!(shown(&store).1.len(), 2);
    drop(open(1, Some(&staged)).await);
    let expected = format!("{}.jsonl", RunId::from_parts(1, 0));
    assert_eq!(shown(&store), (vec![expected], vec![]), "what the checkpoint lacks goes");
    drop(second);
}

#[tokio::test]
async fn what_a_checkpoint_held_is_lost_where_another_file_has_its_name() {
    let store = Store::new();
    let config = JsonlSink::path("a.jsonl").on_existing(OnExisting::Replace);
    // The file of last night's run.
    store.put("a.jsonl", "last night");
    let sink = open(&store, &config, None).await.unwrap();
    write(&sink, 0..3).await;
    let staged = stage(&sink).await;
    std::mem::forget(sink);
    let mut held: Value = serde_json::from_slice(&staged).unwrap();
    let kept = store.path(held["files"][0]["temporary"].as_str().unwrap());
    let bytes = std::fs::read(&kept).unwrap();
    assert_eq!(held["files"][0]["bytes"], bytes.len());
    std::fs::remove_file(kept).unwrap();
    let error = open(&store, &config, Some(&staged)).await.map(drop).unwrap_err();
    assert!(error.message().contains("what was to be shown as \"a.jsonl\" is gone"), "{error}");
    for there in [bytes, Vec::new()] {
        store.put("a.jsonl", there);
        open(&store, &config, Some(&staged)).await.unwrap();
    }
    // A checkpoint of an older version does not say how large the file is.
    held["files"][0].as_object_mut().unwrap().remove("bytes");
    store.put("a.jsonl", "of some size");
    let staged = Bytes::from(held.to_string());
    open(&store, &config, Some(&staged)).await.unwrap();
}

#[tokio::test]
async fn a_run_that_begins_anew_meets_the_names_of_the_one_before() {
    for (on_existing, files) in [
        (OnExisting::Replace, vec!["a.jsonl"]),
        (OnExisting::Number, vec!["a-1.jsonl", "a.jsonl"]),
        (OnExisting::Fail, vec!["a.jsonl"]),
    ] {
        let store = Store::new();
        let config = JsonlSink::path("a.jsonl").on_existing(on_existing);
        store.put("a.jsonl", "before");
        let sink = match open(&store, &config, None).await {
            Ok(sink) => sink,
            Err(error) => {
                assert_eq!((on_existing, error.kind()), (OnExisting::Fail, ErrorKind::Conflict));
                continue;
            }
        };
        write(&sink, 0..1).await;
        let staged = stage(&sink).await;
        assert_eq!(store.get("a.jsonl"), "before", "until it is published");
        publish(&sink, &staged).await;
        assert_eq!(store.files(), files);
        assert_eq!(store.get(files[0]), "{\"n\":0}\n");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_between_staging_and_publishing_is_never_lost() {
    for on_existing in [OnExisting::Fail, OnExisting::Number] {
        let store = Store::new();
        let config = JsonlSink::path("a.jsonl").on_existing(on_existing);
        let sink = open(&store, &config, None).await.unwrap();
        write(&sink, 0..1).await;
        let staged = stage(&sink).await;
        store.put("a.jsonl", "theirs");
        let published = sink.publish(&staged, &context()).await;
        if on_existing == OnExisting::Fail {
            assert_eq!(published.unwrap_err().kind(), ErrorKind::Conflict);
            drop(sink);
            assert_eq!(open(&store, &config, Some(&staged)).await.unwrap_err().kind(), ErrorKind::Conflict);
            std::fs::remove_file(store.path("a.jsonl")).unwrap();
            open(&store, &config, Some(&staged)).await.unwrap();
            assert_eq!(store.files(), ["a.jsonl"]);
        } else {
            published.unwrap();
            publish(&sink, &staged).await;
            assert_eq!(store.get("a.jsonl"), "theirs");
            assert_eq!(store.files(), ["a-1.jsonl", "a.jsonl"]);
        }
    }
}

#[tokio::test]
async fn a_name_that_is_taken_while_a_file_is_written_is_a_conflict_or_numbered() {
    for on_existing in [OnExisting::Fail, OnExisting::Number] {
        let store = Store::new();
        let config = JsonlSink::path("{part}.jsonl").on_existing(on_existing);
        let sink = open(&store, &config, None).await.unwrap();
        write(&sink, 0..1).await;
        store.put("00000.jsonl", "theirs");
        if on_existing == OnExisting::Fail {
            assert_eq!(sink.stage(&context()).await.unwrap_err().kind(), ErrorKind::Conflict);
            assert!(sink.flush(&context()).await.is_err(), "what was lost is never promised");
            assert_eq!(store.files(), ["00000.jsonl"]);
        } else {
            let staged = stage(&sink).await;
            publish(&sink, &staged).await;
            assert_eq!(store.files(), ["00000.jsonl", "00001.jsonl"]);
        }
    }
}

#[tokio::test]
async fn what_is_lost_between_staging_and_publishing_is_an_error_and_not_a_success() {
    for on_existing in [OnExisting::Fail, OnExisting::Replace, OnExisting::Number] {
        let store = Store::new();
        let config = JsonlSink::path("a.jsonl").on_existing(on_existing);
        let sink = open(&store, &config, None).await.unwrap();
        write(&sink, 0..3).await;
        let staged = stage(&sink).await;
        let held: Value = serde_json::from_slice(&staged).unwrap();
        let kept = store.path(held["files"][0]["temporary"].as_str().unwrap());
        let bytes = std::fs::read(&kept).unwrap();
        std::fs::remove_file(&kept).unwrap();
        for there in [None, Some("theirs")] {
            there.into_iter().for_each(|there| _ = store.put("a.jsonl", there));
            let error = sink.publish(&staged, &context()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NotFound, "{on_existing:?}, {there:?}: {error}");
            assert!(error.message().contains("what was to be shown as \"a.jsonl\" is gone"), "{error}");
        }
        std::fs::remove_file(store.path("a.jsonl")).unwrap();
        let error = open(&store, &config, Some(&staged)).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{on_existing:?}: {error}");
        // Somebody else has shown it.
        store.put("a.jsonl", bytes);
        publish(&sink, &staged).await;
        open(&store, &config, Some(&staged)).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_shown_and_moved_away_is_not_written_again() {
    let store = Store::new();
    let config = JsonlSink::path("a.jsonl");
    let sink = open(&store, &config, None).await.unwrap();
    write(&sink, 0..1).await;
    let staged = stage(&sink).await;
    publish(&sink, &staged).await;
    std::fs::remove_file(store.path("a.jsonl")).unwrap();
    publish(&sink, &staged).await;
    drop(sink);
    let error = open(&store, &config, Some(&staged)).await.map(drop).unwrap_err();
    assert!(error.message().contains("leave an empty file of that name"), "{error}");
    // The engine knows that it was shown.
    let context = OpenContext::new(context(), store.client().await);
    let sink = config.open(&context.with_staging(Staging::Shown(staged))).await.unwrap();
    write(&sink, 1..2).await;
    let staged = stage(&sink).await;
    publish(&sink, &staged).await;
    assert_eq!(store.files(), ["a-1.jsonl"]);
}

#[tokio::test]
async fn a_run_that_is_resumed_may_have_another_name() {
    let store = Store::new();
    let config = JsonlSink::path("{run}/{part}.jsonl");
    let mut staged = None;
    for run in 1..4 {
        let context = context().in_run(RunId::from_parts(run, 0));
        let opening = OpenContext::new(context, store.client().await);
        let sink = config.open(&opening.with_staging(Staging::On(staged.take()))).await.unwrap();
        write(&sink, 0..1).await;
        staged = Some(stage(&sink).await);
        write(&sink, 1..2).await;
        std::mem::forget(sink);
    }
    open(&store, &config, staged.as_ref()).await.unwrap();
    let expected = (1..4).map(|run| format!("{}/{:05}.jsonl", RunId::from_parts(run, 0), run - 1));
    assert_eq!(shown(&store).0, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn what_no_checkpoint_of_this_version_holds_is_a_clear_error() {
    let store = Store::new();
    for (staged, kind, says) in [
        ("no JSON", ErrorKind::Validation, "damaged"),
        (r#"{"version":2,"files":[],"next":1}"#, ErrorKind::Configuration, "format 2"),
        (
            r#"{"version":1,"files":[{"temporary":"../a","key":"b"}],"next":1}"#,
            ErrorKind::Permission,
            "leads out",
        ),
    ] {
        let staged = Bytes::from_static(staged.as_bytes());
        let error = open(&store, &JsonlSink::path("a.jsonl"), Some(&staged)).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(error.message().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_store_in_memory_stages_too() {
    let connection = Memory::new();
    let client = std::sync::Arc::new(connection.connect(&ConnectContext::detached()).await.unwrap());
    let opening = |staged: Option<&Bytes>| {
        OpenContext::new(context(), client.clone()).with_staging(Staging::On(staged.cloned()))
    };
    let found = async || {
        let read = read(&Jsonl::prefix("out/"), client.clone(), BatchLimits::default()).await.unwrap();
        read.items.iter().map(number).collect::<Vec<_>>()
    };
    let config = JsonlSink::path("out/a.jsonl");
    let sink = config.open(&opening(None)).await.unwrap();
    write(&sink, 0..2).await;
    let staged = stage(&sink).await;
    assert_eq!(found().await, [0; 0]);
    drop(sink);
    let sink = config.open(&opening(Some(&staged))).await.unwrap();
    assert_eq!(found().await, [0, 1]);
    publish(&sink, &staged).await;
    write(&sink, 2..3).await;
    stage(&sink).await;
    drop(sink);
    let sink = config.open(&opening(Some(&staged))).await.unwrap();
    write(&sink, 2..3).await;
    let staged = stage(&sink).await;
    publish(&sink, &staged).await;
    let mut found = found().await;
    found.sort_unstable();
    assert_eq!(found, [0, 1, 2]);
}

fn number(item: &Value) -> i64 {
    item["n"].as_i64().unwrap()
}
