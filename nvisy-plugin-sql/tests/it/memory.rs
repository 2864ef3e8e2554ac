//! What a sink that only adds rows remembers, where runs of one graph come between each other.

use std::sync::{Arc, Mutex};

use nvisy_core::observability::Meter;
use nvisy_core::prelude::*;
use nvisy_core::{RunId, Staging};
use nvisy_plugin_sql::{SqliteClient, SqliteSink};
use serde_json::{Value, json};

use crate::database::{Database, batch};

#[derive(Default)]
struct Warnings(Mutex<Vec<String>>);

impl Meter for Warnings {
    fn warn(&self, warning: &str) {
        self.0.lock().unwrap().push(warning.to_owned());
    }
}

/// Goes on with a run, or begins it: writes the numbers, and finishes where it is asked to. Returns the
/// warnings.
async fn go_on(
    client: &Arc<SqliteClient>,
    run: RunId,
    numbers: std::ops::Range<u64>,
    finishes: bool,
) -> Result<Vec<String>> {
    let warnings = Arc::new(Warnings::default());
    let context = Context::new("graph", "table", "sql/sqlite").in_run(run).with_meter(warnings.clone());
    let context = OpenContext::new(context, client.clone()).with_staging(Staging::Remember);
    let sink = SqliteSink::table("t").insert().create().open(&context).await?;
    // Items are known by their place in the batch: those before the first are not written.
    let all: Vec<Value> = (0..numbers.end).map(|n| json!({ "n": n })).collect();
    let items = batch(&all).into_primitives().into_iter().skip(numbers.start as usize);
    let report = sink.write(&items.collect(), context.context()).await?;
    assert!(report.others().iter().all(|(_, status)| matches!(status, WriteStatus::AlreadyApplied)));
    if finishes {
        sink.close(context.context()).await?;
    }
    Ok(std::mem::take(&mut warnings.0.lock().unwrap()))
}

async fn assert_each_is_there(database: &Database, times: u64, what: &str) {
    let rows = database.query("SELECT n, count(*) AS times FROM t GROUP BY n ORDER BY n").await;
    let each: Vec<Value> = (0..30).map(|n| json!({ "n": n, "times": times })).collect();
    assert_eq!(rows, each, "{what}");
}

#[tokio::test]
async fn a_run_whose_rows_another_one_has_taken_up_still_knows_them() {
    let database = Database::empty();
    let client = Arc::new(database.client().await);
    let (killed, other) = (RunId::new(), RunId::new());
    assert!(go_on(&client, killed, 0..20, false).await.unwrap().is_empty());
    let warnings = go_on(&client, other, 0..30, true).await.unwrap();
    assert_eq!(
        warnings,
        [format!(
            "table \"t\": run {killed} has not finished, and is taken for this one: what it has added is not \
             added again"
        )]
    );
    assert_each_is_there(&database, 1, "the other run has finished").await;
    for finishes in [false, true] {
        assert!(go_on(&client, killed, 10..30, finishes).await.unwrap().is_empty());
        assert_each_is_there(&database, 1, "the first one has gone on").await;
    }
}

#[tokio::test]
async fn what_two_runs_share_is_over_when_one_of_them_has_finished() {
    let database = Database::empty();
    let client = Arc::new(database.client().await);
    let killed = RunId::new();
    go_on(&client, killed, 0..20, false).await.unwrap();
    go_on(&client, RunId::new(), 0..30, true).await.unwrap();
    go_on(&client, killed, 10..25, false).await.unwrap();
    let warnings = go_on(&client, RunId::new(), 0..30, true).await.unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_each_is_there(&database, 2, "the next run adds rows of its own").await;
}

#[tokio::test]
async fn a_run_whose_rows_are_forgotten_is_refused_when_it_goes_on() {
    let database = Database::empty();
    let client = Arc::new(database.client().await);
    let killed = RunId::new();
    go_on(&client, killed, 0..20, false).await.unwrap();
    for _ in 0..3 {
        go_on(&client, RunId::new(), 0..30, true).await.unwrap();
    }
    assert_each_is_there(&database, 3, "the others have finished").await;
    let error = go_on(&client, killed, 10..30, false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(
        error.message().contains("has not finished, and what it has added is no longer known"),
        "{error}"
    );
    assert_each_is_there(&database, 3, "nothing was added").await;
    // What is kept is bounded, but for who was forgotten.
    let kept = database.query("SELECT count(*) AS n FROM nvisy_written").await;
    assert_eq!(kept, [json!({ "n": 60 })]);
    let kept = database.query("SELECT count(*) AS n FROM nvisy_writing").await;
    assert_eq!(kept, [json!({ "n": 3 })]);
}

#[tokio::test]
async fn who_empties_the_table_begins_anew_for_both() {
    let database = Database::empty();
    let client = Arc::new(database.client().await);
    let killed = RunId::new();
    go_on(&client, killed, 0..20, false).await.unwrap();
    database.execute("DELETE FROM t").await;
    assert!(go_on(&client, RunId::new(), 0..30, true).await.unwrap().is_empty());
    assert_each_is_there(&database, 1, "all is written again").await;
    go_on(&client, killed, 10..30, true).await.unwrap();
    assert_each_is_there(&database, 1, "the first one adds nothing").await;
}

#[tokio::test]
async fn what_an_older_version_has_kept_is_still_known() {
    let database = Database::empty();
    let client = Arc::new(database.client().await);
    let killed = RunId::new();
    go_on(&client, killed, 0..20, false).await.unwrap();
    database
        .execute(
            "ALTER TABLE nvisy_writing DROP COLUMN memory;
             ALTER TABLE nvisy_written RENAME COLUMN memory TO sink",
        )
        .await;
    go_on(&client, killed, 10..30, true).await.unwrap();
    assert_each_is_there(&database, 1, "the run has gone on").await;
    go_on(&client, RunId::new(), 0..30, true).await.unwrap();
    assert_each_is_there(&database, 2, "the next run adds rows of its own").await;
}
