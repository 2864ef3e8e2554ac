//! The log of a run that goes on: rows are gathered in memory, and written by other threads.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nvisy_core::{Batch, Error, Result, RunId};
use tokio::sync::Mutex as AsyncMutex;

use super::files::Files;
use super::rows::Rows;
use crate::disk::blocking;

/// How many rows are gathered before they are written.
const ROWS: usize = 1 << 16;
/// How many bytes of them, about: few, so that little is left to do when a run ends.
const BYTES: usize = 1 << 20;

/// Writes down what sinks have written.
pub(crate) struct Log {
    rows: Mutex<Rows>,
    /// One thread at a time writes; who is next waits, so that no more is gathered meanwhile.
    files: Arc<AsyncMutex<Files>>,
}

impl Log {
    /// Opens the log of a run in a directory, which is made.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(crate) async fn open(directory: PathBuf, run: RunId, graph: String) -> Result<Self> {
        let files = blocking(move || Files::open(&directory, run, &graph)).await?;
        Ok(Self { rows: Mutex::default(), files: Arc::new(AsyncMutex::new(files)) })
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a sink has written.
    ///
    /// # Cancellation
    ///
    /// Dropped, it has noted all.
    pub(crate) async fn note(&self, sink: &str, batch: &Batch) {
        let full = {
            let mut rows = self.rows();
            rows.push(sink, batch);
            rows.len() >= ROWS || rows.bytes() >= BYTES
        };
        if !full {
            return;
        }
        let mut files = self.files.clone().lock_owned().await;
        // From here on nothing waits: rows that are taken out are written.
        let taken = self.rows().take();
        drop(tokio::task::spawn_blocking(move || match taken {
            Ok(rows) => files.write(&rows),
            Err(error) => files.fail(unwritable(error)),
        }));
    }

    /// Makes durable what was noted before.
    ///
    /// # Errors
    ///
    /// If that, or anything since the log was opened, could not be written.
    pub(crate) async fn durable(&self) -> Result<()> {
        let mut files = self.files.clone().lock_owned().await;
        let taken = self.rows().take();
        blocking(move || {
            let rows = taken.map_err(unwritable)?;
            files.seal(&rows)
        })
        .await
    }
}

fn unwritable(error: arrow::error::ArrowError) -> Error {
    Error::internal("rows of the log of lineage do not fit together").with_source(error)
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use nvisy_core::lineage::{Lineage, Step};
    use nvisy_core::metadata::Metadata;
    use nvisy_core::position::KeyValue;
    use nvisy_core::{Batch, Position, Positions, Primitive, PrimitiveId, SourceIdentity};
    use serde_json::json;

    use super::*;
    use crate::lineage::{trace_back, trace_forward};

    fn step(node: &str) -> Arc<Step> {
        Arc::new(Step::new(node, "test/node", chrono::Utc::now()))
    }

    async fn logged(batches: &[Batch]) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        let log = Log::open(place.path().to_owned(), RunId::new(), "test".to_owned()).await.unwrap();
        for batch in batches {
            log.note("out", batch).await;
        }
        log.durable().await.unwrap();
        place
    }

    fn payload(n: u64) -> nvisy_core::Payload {
        nvisy_core::primitive::raw::Raw::Json(json!(n)).into()
    }

    #[tokio::test]
    async fn an_item_of_several_sources_traces_to_each_of_them_once() {
        let source = SourceIdentity::new("memory");
        let roots = [3, 9, 3].map(|n| (Position::Offset(n), source.id(&Position::Offset(n))));
        let inputs =
            roots.clone().map(|(position, id)| (id, Lineage::origin(step("in"), source.clone(), position)));
        let id = PrimitiveId::merge(roots.iter().map(|(_, id)| *id), "join", 0);
        let lineage = Lineage::derived(step("join"), inputs).edited(step("edit"));
        let joined = Primitive::new(id, payload(1), Arc::new(Metadata::default()), lineage);
        let place = logged(&[Batch::from_primitives(vec![joined])]).await;

        let traces = trace_back(&place, id).unwrap().traces;
        assert_eq!(traces.iter().map(|trace| trace.offset).collect::<Vec<_>>(), [Some(3), Some(9)]);
        assert!(traces.iter().all(|trace| trace.steps.len() == 3), "{traces:?}");
        for (_, root) in roots {
            assert_eq!(trace_forward(&place, root).unwrap().sinks["out"], [id].into());
        }
    }

    #[tokio::test]
    async fn keys_of_databases_and_of_users_are_found() {
        let keys: Vec<_> = (0..4)
            .map(|n| Position::Keyset([KeyValue::Int(n), KeyValue::Text("a:b".into())].into()))
            .collect();
        let read = |positions| {
            let (source, metadata) = (SourceIdentity::new("db"), Arc::new(Metadata::default()));
            Batch::read((0..4).map(payload).collect(), positions, &source, step("in"), metadata).unwrap()
        };
        let by_key = read(Positions::each(keys));
        let own: Vec<_> = (0..4).map(|n| SourceIdentity::new("db").id_of_key(&[n])).collect();
        let by_user = read(Positions::rows("a.csv", 7)).with_ids(own.clone()).unwrap();
        let place = logged(&[by_key.edited(&step("map")), by_user.edited(&step("map"))]).await;

        let id = SourceIdentity::new("db")
            .id(&Position::Keyset([KeyValue::Int(2), KeyValue::Text("a:b".into())].into()));
        let [trace] = &trace_back(&place, id).unwrap().traces[..] else { panic!("one way") };
        assert_eq!((trace.position.as_deref(), trace.root), (Some("2,a:b"), id));
        let [trace] = &trace_back(&place, own[3]).unwrap().traces[..] else { panic!("one way") };
        assert_eq!((trace.object.as_deref(), trace.offset, trace.root), (Some("a.csv"), Some(10), own[3]));
        assert_eq!(trace_forward(&place, own[1]).unwrap().sinks["out"], [own[1]].into());
        assert_eq!(trace_forward(&place, "a.csv").unwrap().sinks["out"].len(), 4);
    }

    #[tokio::test]
    async fn many_checkpoints_leave_few_files_and_all_that_they_said() {
        let source = SourceIdentity::new("memory");
        let place = tempfile::tempdir().unwrap();
        let run = RunId::new();
        let mut ids = Vec::new();
        // Twice, as a run does that goes on after it was killed.
        for part in 0..2 {
            std::fs::write(place.path().join(format!("{run}-000000.part")), "not whole").unwrap();
            let log = Log::open(place.path().to_owned(), run, "test".to_owned()).await.unwrap();
            for n in 0..60 {
                let positions = Positions::from((part * 60 + n) * 3);
                let payloads = (0..3).map(payload).collect();
                let metadata = Arc::new(Metadata::default());
                let batch = Batch::read(payloads, positions, &source, step("in"), metadata).unwrap();
                ids.extend(batch.ids());
                log.note("out", &batch).await;
                log.durable().await.unwrap();
                log.durable().await.unwrap();
            }
        }
        let files: Vec<_> =
            std::fs::read_dir(place.path()).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(files.len() <= 32, "{} files for 120 checkpoints", files.len());
        assert!(files.iter().all(|file| file.extension().unwrap() == "parquet"), "{files:?}");
        for (n, id) in ids.into_iter().enumerate().step_by(5) {
            let found = trace_back(&place, id).unwrap();
            assert_eq!((found.traces.len(), found.skipped.len()), (1, 0));
            assert_eq!((found.traces[0].offset, found.traces[0].run), (Some(n as u64), Some(run)));
        }
    }

    #[tokio::test]
    async fn what_is_in_one_of_several_row_groups_is_found() {
        let source = SourceIdentity::new("memory");
        let read = |n: u64| {
            let positions = Positions::from(n * 50_000);
            let payloads = vec![payload(0); 50_000];
            Batch::read(payloads, positions, &source, step("in"), Arc::new(Metadata::default())).unwrap()
        };
        let place = tempfile::tempdir().unwrap();
        let log = Log::open(place.path().to_owned(), RunId::new(), "test".to_owned()).await.unwrap();
        let mut some = Vec::new();
        for n in 0..6 {
            let batch = read(n);
            let ids = batch.ids();
            some.push((ids[n as usize * 7], n * 50_000 + n * 7));
            // Under ids of somebody's choice, each has a row.
            log.note("out", &batch.with_ids(ids).unwrap()).await;
        }
        log.durable().await.unwrap();
        for (id, offset) in some {
            assert_eq!(trace_back(&place, id).unwrap().traces[0].offset, Some(offset));
        }
    }
}
