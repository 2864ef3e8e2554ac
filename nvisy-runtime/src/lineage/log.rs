//! The log of a run that goes on: rows are gathered in memory, and written by other threads.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use nvisy_core::{Batch, Error, Result, RunId};
use tokio::sync::Mutex as AsyncMutex;

use super::files::Files;
use super::rows::Rows;
use crate::checkpoint::blocking;

/// How many rows are gathered before they are written.
const ROWS: usize = 1 << 16;
/// How many bytes of them, about.
const BYTES: usize = 8 << 20;

/// Writes down what sinks have written.
pub(crate) struct Log {
    noted: Mutex<Noted>,
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
        Ok(Self { noted: Mutex::default(), files: Arc::new(AsyncMutex::new(files)) })
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a sink has written.
    ///
    /// # Cancellation
    ///
    /// Dropped, it has noted all.
    pub(crate) async fn note(&self, sink: &str, batch: &Batch) {
        let full = {
            let mut noted = self.noted();
            noted.add(sink, batch);
            noted.is_full()
        };
        if !full {
            return;
        }
        let mut files = self.files.clone().lock_owned().await;
        // From here on nothing waits: what is taken out is written.
        let taken = std::mem::take(&mut *self.noted());
        drop(tokio::task::spawn_blocking(move || match taken.into_rows() {
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
        let taken = std::mem::take(&mut *self.noted());
        blocking(move || {
            let rows = taken.into_rows().map_err(unwritable)?;
            files.seal(&rows)
        })
        .await
    }
}

/// What is noted, and not written.
#[derive(Default)]
struct Noted {
    rows: Rows,
    /// What sinks have written, without payloads: who writes it looks at each item, not who notes it.
    batches: Vec<(Arc<str>, Batch)>,
    /// How many bytes those take, about.
    bytes: usize,
}

impl Noted {
    fn add(&mut self, sink: &str, batch: &Batch) {
        // Payloads say something of items, and nothing of rows.
        let bare = || Some((size_of_stretches(batch)?, without_columns(batch, batch.as_rows()?).ok()?));
        let Some((bytes, bare)) = bare() else { return self.rows.push(sink, batch) };
        let sink = match self.batches.last() {
            Some((last, _)) if **last == *sink => last.clone(),
            _ => sink.into(),
        };
        self.bytes += bytes;
        self.batches.push((sink, bare));
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= ROWS || self.rows.bytes() + self.bytes >= BYTES
    }

    fn into_rows(mut self) -> Result<RecordBatch, ArrowError> {
        for (sink, batch) in &self.batches {
            self.rows.push(sink, batch);
        }
        self.rows.take()
    }
}

/// Returns about how many bytes a batch takes until it is written, if its stretches take a row each:
/// where items take one each, they count when they are noted.
fn size_of_stretches(batch: &Batch) -> Option<usize> {
    let mut bytes = 0;
    for (items, origin) in batch.source_items() {
        let (_, mut offsets) = origin.as_ref()?.offsets()?;
        let (first, last) = (offsets.next(), offsets.next_back());
        // Where they follow one another as the source had them, no number is kept for each.
        let whole =
            first.zip(last).is_none_or(|(first, last)| last.wrapping_sub(first) == items.len() as u64 - 1);
        bytes += 256 + if whole { 0 } else { 4 * items.len() };
    }
    Some(bytes)
}

/// Returns the rows of a batch as they are known by their ids and lineage alone.
fn without_columns(batch: &Batch, rows: &RecordBatch) -> Result<Batch> {
    let none = rows.project(&[]).map_err(unwritable)?;
    batch.without_tokens().with_rows(none)
}

fn unwritable(error: ArrowError) -> Error {
    Error::internal("rows of the log of lineage do not fit together").with_source(error)
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
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

    #[test]
    fn rows_under_ids_of_their_own_count_one_by_one_and_others_by_the_stretch() {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
        let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let (source, metadata) = (SourceIdentity::new("db"), Arc::new(Metadata::default()));
        let batch = Batch::read_rows(rows, Positions::from(0), &source, step("in"), metadata).unwrap();
        let own = (0..100).map(|n| source.id_of_key(&[n])).collect();
        let mut noted = Noted::default();
        noted.add("out", &batch);
        assert_eq!((noted.rows.len(), noted.batches.len(), noted.bytes), (0, 1, 256));
        noted.add("out", &batch.clone().with_ids(own).unwrap());
        assert_eq!((noted.rows.len(), noted.batches.len(), noted.bytes), (100, 1, 256));
        assert_eq!(noted.into_rows().unwrap().num_rows(), 101);
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
