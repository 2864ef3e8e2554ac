//! What runs remember survives what happens to machines.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nvisy_core::testing::conformance;
use nvisy_core::{Changes, Checkpoint, CheckpointStore, Checkpoints, ErrorKind, Result};
use nvisy_runtime::checkpoint::{DirectoryStore, MemoryStore};

/// Where a child process finds its store.
const CHILD: &str = "NVISY_TEST_CHECKPOINTS";

fn changes(n: u64) -> Changes {
    let mut changes = Changes::default();
    changes.put("position", format!("after item {n}")).put(format!("partition {}", n % 3), vec![n as u8; 3]);
    if n.is_multiple_of(4) {
        changes.remove("partition 1");
    }
    changes
}

fn state(commits: u64) -> Checkpoint {
    let mut checkpoint = Checkpoint::default();
    (1..=commits).for_each(|n| checkpoint.apply(changes(n)));
    checkpoint
}

async fn commit(checkpoints: &mut dyn Checkpoints) -> Result<u64> {
    checkpoints.commit(changes(checkpoints.last().generation + 1)).await
}

/// Runs a test of this binary in a process of its own, as the child of that test.
fn child(test: &str, store: &Path) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, store);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// The store that the parent process named, if this is a child.
fn parents() -> Option<DirectoryStore> {
    std::env::var_os(CHILD).map(DirectoryStore::new)
}

#[tokio::test]
async fn checkpoints_in_memory_keep_the_contract() {
    conformance::checkpoints(&MemoryStore::new()).await.assert_passed_except(&[]);
}

#[tokio::test]
async fn checkpoints_in_a_directory_keep_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(directory.path().join("made/when/needed"));
    conformance::checkpoints(&store).await.assert_passed_except(&[]);
}

#[tokio::test]
async fn a_store_in_memory_goes_back_as_far_as_it_remembers() {
    let store = MemoryStore::new();
    assert!(!store.go_back("tickets"));
    let mut open = store.open("tickets").await.unwrap();
    for _ in 0..10 {
        commit(&mut *open).await.unwrap();
    }
    for back in 1..=8 {
        assert!(store.go_back("tickets"));
        assert_eq!(store.peek("tickets"), Some(state(10 - back)));
    }
    assert!(!store.go_back("tickets"), "it remembers eight");
    assert_eq!(commit(&mut *open).await.unwrap_err().kind(), ErrorKind::Conflict);
    drop(open);
    assert_eq!(*store.open("tickets").await.unwrap().last(), state(2));
}

#[tokio::test]
async fn two_stores_on_one_directory_exclude_each_other_and_anyone_may_look() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (DirectoryStore::new(directory.path()), DirectoryStore::new(directory.path()));
    assert_eq!(second.peek("tickets").await.unwrap(), None);
    let mut open = first.open("tickets").await.unwrap();
    commit(&mut *open).await.unwrap();
    let error = second.open("tickets").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("in use by another run of this process: wait until"), "{error}");
    commit(&mut *open).await.unwrap();
    assert_eq!(second.peek("tickets").await.unwrap(), Some(state(2)));
    drop(open);
    assert_eq!(*second.open("tickets").await.unwrap().last(), state(2));
}

#[tokio::test]
async fn two_processes_on_one_directory_exclude_each_other() {
    if let Some(store) = parents() {
        let mut open = store.open("tickets").await.unwrap();
        commit(&mut *open).await.unwrap();
        println!("committed");
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(directory.path());
    let mut child = child("checkpoint::two_processes_on_one_directory_exclude_each_other", directory.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("committed")));

    let error = store.open("tickets").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains(&format!("in use by process {}", child.id())), "{error}");
    assert_eq!(store.peek("tickets").await.unwrap(), Some(state(1)));

    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(child.wait().unwrap().success());
    let mut open = store.open("tickets").await.unwrap();
    assert_eq!(*open.last(), state(1));
    assert_eq!(commit(&mut *open).await.unwrap(), 2);
}

#[tokio::test]
async fn a_process_that_is_killed_leaves_what_it_committed() {
    if let Some(store) = parents() {
        let mut open = store.open("tickets").await.unwrap();
        loop {
            println!("committed {}", commit(&mut *open).await.unwrap());
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(directory.path());
    let mut before = 0;
    for kill in 1..=20 {
        let mut child =
            child("checkpoint::a_process_that_is_killed_leaves_what_it_committed", directory.path());
        let mut told = before;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut generations = lines.filter_map(|line| line.split_once("committed ")?.1.parse().ok());
        told = generations.by_ref().nth(kill).unwrap_or(told);
        child.kill().unwrap();
        child.wait().unwrap();
        told = generations.last().unwrap_or(told);
        let open = store.open("tickets").await.unwrap();
        let found = open.last().generation;
        assert!((told..=told + 1).contains(&found), "kill {kill}: told of {told}, found {found}");
        assert!(*open.last() == state(found), "kill {kill}: a state that was never committed");
        assert!(found > before, "kill {kill}: it went on");
        before = found;
    }
}

#[tokio::test]
async fn a_log_begins_anew_when_it_is_large_and_the_one_before_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(directory.path());
    let mut open = store.open("tickets").await.unwrap();
    for n in 0..60_u8 {
        let mut changes = Changes::default();
        changes.put("state", vec![n; 100_000]);
        open.commit(changes).await.unwrap();
    }
    let files = std::fs::read_dir(store.directory("tickets")).unwrap().map(|entry| entry.unwrap());
    let mut logs: Vec<_> = files.filter(|file| file.file_name() != "lock").collect();
    logs.sort_by_key(std::fs::DirEntry::file_name);
    assert_eq!(logs.len(), 2, "{logs:?}");
    assert!(logs.iter().all(|log| log.metadata().unwrap().len() < 1_300_000));
    let last = open.last().clone();
    drop(open);

    let newest = logs[1].path();
    std::fs::write(&newest, "garbage").unwrap();
    let open = store.open("tickets").await.unwrap();
    let recovery = open.recovery().unwrap();
    assert!(recovery.place.ends_with(logs[1].file_name().to_str().unwrap()), "{recovery}");
    assert_eq!(recovery.generation, open.last().generation);
    assert!((1..last.generation).contains(&recovery.generation), "{recovery}");
    drop(open);
    assert_eq!(store.open("tickets").await.unwrap().recovery(), None, "it is told once");
}

#[tokio::test]
async fn a_place_where_nothing_can_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = DirectoryStore::new(&file).open("tickets").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error:?}");
    assert!(error.message().contains(file.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn an_open_store_whose_directory_is_removed_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(directory.path());
    let mut open = store.open("tickets").await.unwrap();
    commit(&mut *open).await.unwrap();
    std::fs::remove_dir_all(store.directory("tickets")).unwrap();
    for _ in 0..2 {
        let error = commit(&mut *open).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("changed or removed by somebody else"), "{error}");
        assert_eq!(*open.last(), state(1));
    }
}

/// The log that the first version wrote for four commits.
const GOLDEN: &[u8] = include_bytes!("../golden/checkpoint-1.log");

#[tokio::test]
async fn a_log_of_format_1_reads_forever() {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(directory.path());
    std::fs::create_dir(store.directory("tickets")).unwrap();
    std::fs::write(store.directory("tickets").join("checkpoint-1.log"), GOLDEN).unwrap();
    let mut open = store.open("tickets").await.unwrap();
    assert_eq!(open.recovery(), None);
    assert_eq!(*open.last(), state(4));
    assert_eq!(open.last().entries.keys().collect::<Vec<_>>(), ["partition 0", "partition 2", "position"]);
    assert_eq!(open.last().entries["position"], "after item 4");
    assert_eq!(commit(&mut *open).await.unwrap(), 5);
}

#[tokio::test]
async fn format_1_is_what_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(directory.path());
    let mut open = store.open("tickets").await.unwrap();
    for _ in 0..4 {
        commit(&mut *open).await.unwrap();
    }
    let written = std::fs::read(store.directory("tickets").join("checkpoint-1.log")).unwrap();
    assert_eq!(written, GOLDEN);
}
