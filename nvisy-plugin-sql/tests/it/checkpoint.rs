//! Checkpoints in a database.

use std::time::Duration;

use nvisy_core::testing::conformance;
use nvisy_core::{Changes, CheckpointStore, ErrorKind};
use nvisy_plugin_sql::{Sqlite, SqliteCheckpoints};
use serde_json::json;
use sqlx::Connection as _;

use crate::database::Database;

fn put(key: &str, value: &str) -> Changes {
    let mut changes = Changes::default();
    changes.put(key, value.to_owned());
    changes
}

#[tokio::test]
async fn checkpoints_in_sqlite_keep_the_contract() {
    for wal in [true, false] {
        let database = Database::empty();
        let store = SqliteCheckpoints::of(database.config().wal(wal));
        conformance::checkpoints(&store).await.assert_passed_except(&[]);
    }
}

#[tokio::test]
async fn checkpoints_stand_beside_other_tables_as_rows_that_one_can_look_at() {
    let database = Database::with("CREATE TABLE t (id INTEGER)").await;
    let store = SqliteCheckpoints::at(database.path().to_str().unwrap());
    let mut open = store.open("tickets").await.unwrap();
    open.commit(put("a", "1")).await.unwrap();
    open.commit(put("b", "2")).await.unwrap();
    assert_eq!(
        database.query("SELECT * FROM nvisy_checkpoint_generation").await,
        [json!({"graph": "tickets", "generation": 2})]
    );
    assert_eq!(
        database.query("SELECT * FROM nvisy_checkpoint ORDER BY key").await,
        [
            json!({"graph": "tickets", "key": "a", "value": "31"}),
            json!({"graph": "tickets", "key": "b", "value": "32"})
        ]
    );
}

#[tokio::test]
async fn a_commit_that_another_program_forestalls_or_forbids_changes_nothing() {
    let database = Database::empty();
    let store = SqliteCheckpoints::of(database.config());
    let mut open = store.open("tickets").await.unwrap();
    open.commit(put("a", "1")).await.unwrap();
    // What breaks off the transaction after its first changes.
    database
        .execute(
            "CREATE TRIGGER never BEFORE INSERT ON nvisy_checkpoint WHEN new.key = 'z'
             BEGIN SELECT raise(ABORT, 'no'); END",
        )
        .await;
    let mut changes = put("a", "2");
    changes.put("z", "26");
    open.commit(changes).await.unwrap_err();
    assert_eq!((open.last().generation, &open.last().entries["a"][..]), (1, &b"1"[..]));
    assert_eq!(store.open("tickets").await.unwrap().last(), open.last());
    assert_eq!(open.commit(put("a", "2")).await.unwrap(), 2);

    database.execute("UPDATE nvisy_checkpoint_generation SET generation = 9").await;
    let error = open.commit(put("a", "3")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("no longer at generation 2: another run has gone on"), "{error}");
}

#[tokio::test]
async fn a_commit_waits_for_longer_than_one_busy_timeout() {
    for wal in [true, false] {
        let database = Database::empty();
        let busy = Duration::from_millis(500);
        let store = SqliteCheckpoints::of(database.config().wal(wal).busy_timeout(busy));
        let mut open = store.open("tickets").await.unwrap();
        let mut other = database.connection().await;
        let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
        {
            let mut commit = open.commit(put("a", "1"));
            let early = tokio::time::timeout(busy * 2, &mut commit).await;
            assert!(early.is_err(), "wal {wal}: {early:?}");
            lock.rollback().await.unwrap();
            assert_eq!(commit.await.unwrap(), 1, "wal {wal}");
        }
        assert_eq!(store.open("tickets").await.unwrap().last(), open.last());
    }
}

#[tokio::test]
async fn a_commit_gives_up_when_the_lock_stays_and_may_be_tried_again() {
    let database = Database::empty();
    let store = SqliteCheckpoints::of(database.config().busy_timeout(Duration::ZERO));
    let mut open = store.open("tickets").await.unwrap();
    let mut other = database.connection().await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let error = open.commit(put("a", "1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    lock.rollback().await.unwrap();
    assert_eq!(open.commit(put("a", "1")).await.unwrap(), 1);
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_named() {
    let store = SqliteCheckpoints::of(Sqlite::at("no/such.db"));
    let error = store.open("tickets").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("no/such.db"), "{error}");

    let database = Database::empty();
    std::fs::write(database.path(), "this is not a database, however long one looks at it").unwrap();
    let error = SqliteCheckpoints::of(database.config()).open("tickets").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn a_look_at_checkpoints_writes_nothing_and_waits_for_nobody() {
    let database = Database::empty();
    let store = SqliteCheckpoints::of(database.config().busy_timeout(std::time::Duration::from_millis(1)));
    assert_eq!(store.peek("tickets").await.unwrap(), None);
    assert!(!database.path().exists());

    for wal in [false, true] {
        let mode = if wal { "WAL" } else { "DELETE" };
        database.execute(&format!("PRAGMA journal_mode = {mode}; CREATE TABLE t{mode} (id INTEGER)")).await;
        let before = std::fs::read(database.path()).unwrap();
        assert_eq!(store.peek("users").await.unwrap(), None);
        assert!(std::fs::read(database.path()).unwrap() == before, "{mode}");
    }

    let mut open = store.open("tickets").await.unwrap();
    open.commit(put("a", "1")).await.unwrap();
    // Somebody else writes for long.
    let mut other = database.connection().await;
    sqlx::raw_sql("BEGIN IMMEDIATE; INSERT INTO tWAL VALUES (1)").execute(&mut other).await.unwrap();
    assert_eq!(store.peek("tickets").await.unwrap().as_ref(), Some(open.last()));
    assert_eq!(store.peek("users").await.unwrap(), None);
}
