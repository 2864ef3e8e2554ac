//! A sink of files that roll.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use nvisy_core::{
    Batch, Context, Error, OpenContext, Result, RetryClass, Sink, Staging, WriteReport, WriteStatus,
};

use super::owners::Owners;
use super::stage::Stage;
use super::{MAX_NUMBERS, OnExisting, Rolling, all_taken, name};
use crate::client::ObjectClient;
use crate::error::from_join;
use crate::task::blocking;
use crate::temporaries::Temporaries;
use crate::upload::{Upload, taken};

/// How many bytes are gathered before they go to the file.
const BUFFER: usize = 256 << 10;

/// What a format writes to.
pub(crate) type Output = std::io::BufWriter<Upload>;

/// How the items of a file are written.
pub(crate) trait FileFormat: Send + Sync + 'static {
    /// A file under way.
    type Writer: Send;

    /// Begins a file for a batch.
    fn begin(&self, output: Output, batch: &Batch) -> Result<Self::Writer>;

    /// Checks whether a file can be begun for a batch; says what it cannot take.
    fn refuse(&self, batch: &Batch) -> Option<Error> {
        let _ = batch;
        None
    }

    /// Writes a batch.
    fn write(&self, writer: &mut Self::Writer, batch: &Batch) -> Result<Written>;

    /// Returns about how many bytes the file has so far.
    fn size(&self, writer: &Self::Writer) -> u64;

    /// Writes the end of the file.
    fn finish(&self, writer: Self::Writer) -> Result<Output>;
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Items that the file does not take.
    pub(crate) rejected: Vec<(u32, Error)>,
}

/// Writes batches into files, on blocking threads.
///
/// Dropping a call lets it finish on its thread; dropping the sink removes what is not
/// finished, and what is not staged where it is to be.
pub(crate) struct FileSink<F: FileFormat> {
    state: Arc<Mutex<State<F>>>,
    path: String,
}

struct State<F: FileFormat> {
    format: F,
    client: Arc<ObjectClient>,
    rolling: Rolling,
    node: Arc<str>,
    owners: Arc<Owners>,
    part: u64,
    open: Option<Open<F::Writer>>,
    temporaries: Temporaries,
    /// What is finished goes there in a run with checkpoints, and shows otherwise.
    stage: Option<Stage>,
    /// Items went down with a file that could not be written: nothing more can be promised.
    broken: Option<Error>,
}

struct Open<W> {
    writer: W,
    items: u64,
}

impl<F: FileFormat> FileSink<F> {
    /// Opens a sink. No file is begun before the first item.
    pub(crate) async fn open(
        format: F,
        mut rolling: Rolling,
        context: &OpenContext<ObjectClient>,
    ) -> Result<Self> {
        let staging = context.staging().clone();
        let on = staging != Staging::Off;
        let temporaries = Temporaries::new(&rolling.path, context.context());
        let stage = on.then(|| Stage::new(temporaries.clone()));
        rolling.path = name::expand(&rolling.path, context.context());
        let path = rolling.path.clone();
        let client = context.client().clone();
        let (node, owners) = (context.context().node().clone(), client.owners(context.context().run()));
        let mut state = State {
            format,
            client,
            rolling,
            node,
            owners,
            part: 0,
            open: None,
            temporaries,
            stage,
            broken: None,
        };
        let opened = blocking(move || {
            state.claim_first()?;
            state.client.sweep_abandoned(&state.temporaries);
            if let Some(stage) = &mut state.stage {
                state.part = stage.resume(staging, &state.client, state.rolling.on_existing)?;
            }
            // What a run goes on with is named with its first item: by then every sink has its first name.
            if state.part == 0 {
                state.check_free()?;
            }
            Ok(state)
        });
        let state = opened.await.map_err(|error| from_join(error, "write", &path))??;
        Ok(Self { state: Arc::new(Mutex::new(state)), path })
    }

    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut State<F>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let state = self.state.clone();
        let call = blocking(move || {
            // A call that panicked took the open file down with it: nothing more can be promised.
            let gone = |_| Error::internal("a write panicked, and what was in its file is lost");
            call(&mut *state.lock().map_err(gone)?)
        });
        call.await.map_err(|error| from_join(error, "write", &self.path))?
    }
}

impl<F: FileFormat> Sink for FileSink<F> {
    async fn write(&self, batch: &Batch, _: &Context) -> Result<WriteReport> {
        let batch = batch.without_tokens();
        self.call(move |state| state.write(&batch)).await
    }

    async fn flush(&self, _: &Context) -> Result<()> {
        self.call(State::flush).await
    }

    async fn stage(&self, _: &Context) -> Result<Option<Bytes>> {
        self.call(State::stage).await
    }

    async fn publish(&self, staged: &Bytes, _: &Context) -> Result<()> {
        let staged = staged.clone();
        self.call(move |state| state.publish(&staged)).await
    }
}

impl<F: FileFormat> fmt::Debug for FileSink<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSink").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What became of the items that did not simply apply, in order.
#[derive(Default)]
struct Statuses {
    others: Vec<(u32, WriteStatus)>,
}

impl Statuses {
    fn fail(&mut self, items: std::ops::Range<usize>, error: &Error) {
        let status = match error.retry_class() {
            RetryClass::Transient => WriteStatus::Retryable,
            RetryClass::Permanent | RetryClass::Exhausted => WriteStatus::Rejected,
        };
        self.others.extend(items.map(|index| (index as u32, status(error.clone()))));
    }

    fn finish(self, len: usize) -> WriteReport {
        if self.others.is_empty() {
            return WriteReport::applied(len);
        }
        let mut others = self.others.into_iter().peekable();
        WriteReport::new((0..len as u32).map(|index| match others.next_if(|(at, _)| *at == index) {
            Some((_, status)) => status,
            None => WriteStatus::Applied,
        }))
    }
}

impl<F: FileFormat> State<F> {
    fn key(&self) -> String {
        name::part(&self.rolling.path, self.part)
    }

    /// Takes the first name, which no other sink of the run may have, unless names are numbered.
    fn claim_first(&self) -> Result<()> {
        if self.rolling.on_existing == OnExisting::Number {
            return Ok(());
        }
        let key = name::part(&self.rolling.path, 0);
        self.owners.claim_first(&key, &self.client.real(&key)?, &self.node)
    }

    /// Goes on to the next part whose name is no other sink's of the run, and takes it.
    fn claim(&mut self) -> Result<()> {
        for _ in 0..MAX_NUMBERS {
            let key = self.key();
            if self.owners.claim_part(&key, &self.client.real(&key)?, &self.node)? {
                return Ok(());
            }
            self.part += 1;
        }
        Err(all_taken(&self.rolling.path))
    }

    /// Checks that the next name is within the store, and free if it must be.
    fn check_free(&self) -> Result<()> {
        let key = self.key();
        if self.client.exists(&key)? && self.rolling.on_existing == OnExisting::Fail {
            return Err(taken(&key));
        }
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> Result<WriteReport> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let mut report = Statuses::default();
        let mut at = 0;
        while at < batch.len() {
            let written = self.open.as_ref().map_or(0, |open| open.items);
            let room = self.rolling.rows.map_or(u64::MAX, |most| most.saturating_sub(written).max(1));
            let len = usize::try_from(room).unwrap_or(usize::MAX).min(batch.len() - at);
            let piece = if len == batch.len() { None } else { Some(batch.slice(at, len)) };
            let rejected = match self.write_piece(piece.as_ref().unwrap_or(batch)) {
                Ok(rejected) => rejected,
                Err(error) => {
                    // What was in the open file goes down with it.
                    self.fail(written > 0, &error);
                    if at == 0 {
                        return Err(error);
                    }
                    // What stands before is in a file already: only the rest failed.
                    report.fail(at..batch.len(), &error);
                    break;
                }
            };
            for (index, error) in rejected {
                report.others.push((at as u32 + index, WriteStatus::Rejected(error)));
            }
            at += len;
        }
        Ok(report.finish(batch.len()))
    }

    /// Writes a batch that fits into the file, and rolls.
    fn write_piece(&mut self, batch: &Batch) -> Result<Vec<(u32, Error)>> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                if let Some(error) = self.format.refuse(batch) {
                    return Ok((0..batch.len() as u32).map(|index| (index, error.clone())).collect());
                }
                self.claim()?;
                self.check_free()?;
                let key = self.key();
                let upload = match &mut self.stage {
                    Some(stage) => stage.create(&key, &self.client)?,
                    None => self.client.create(&key, &self.temporaries)?,
                };
                let output = Output::with_capacity(BUFFER, upload);
                Open { writer: self.format.begin(output, batch)?, items: 0 }
            }
        };
        let written = self.format.write(&mut open.writer, batch)?;
        open.items += (batch.len() - written.rejected.len()) as u64;
        let full = self.rolling.rows.is_some_and(|most| open.items >= most)
            || self.rolling.bytes.is_some_and(|most| self.format.size(&open.writer) >= most);
        self.open = Some(open);
        if full {
            self.finish()?;
        }
        Ok(written.rejected)
    }

    fn fail(&mut self, lost: bool, error: &Error) {
        // Without a file nothing was lost: the next write may go well.
        self.open = None;
        if lost {
            self.broken.get_or_insert_with(|| error.clone());
        }
    }

    /// Makes durable what shows then. In a run with checkpoints nothing does: see
    /// [`stage`](Self::stage).
    fn flush(&mut self) -> Result<()> {
        match (&self.stage, &self.broken) {
            (Some(_), Some(error)) => Err(error.clone()),
            (Some(_), None) => Ok(()),
            (None, _) => self.finish(),
        }
    }

    fn stage(&mut self) -> Result<Option<Bytes>> {
        self.finish()?;
        let Some(stage) = &mut self.stage else { return Ok(None) };
        let staged = stage.stage(self.part);
        if let Err(error) = &staged {
            self.broken = Some(error.clone());
        }
        staged
    }

    fn publish(&mut self, staged: &Bytes) -> Result<()> {
        match &mut self.stage {
            Some(stage) => stage.publish(staged, &self.client, self.rolling.on_existing),
            None => Ok(()),
        }
    }

    /// Brings the file under way to its end.
    fn finish(&mut self) -> Result<()> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let Some(open) = self.open.take() else { return Ok(()) };
        let ended = self.end(open);
        if let Err(error) = &ended {
            self.broken = Some(error.clone());
        }
        ended
    }

    /// Puts the file under its name, or on the stage.
    fn end(&mut self, open: Open<F::Writer>) -> Result<()> {
        let mut output = self.format.finish(open.writer)?;
        let key = self.key();
        output.flush().map_err(|error| crate::error::from_io(error, "write", &key))?;
        let (upload, _) = output.into_parts();
        if self.stage.is_some() {
            self.take_free()?;
        }
        let key = self.key();
        match &mut self.stage {
            Some(stage) => stage.take(upload, key)?,
            None => {
                let (client, on_existing) = (self.client.clone(), self.rolling.on_existing);
                super::publish(&client, upload, on_existing, || {
                    self.part += 1;
                    self.claim().map(|()| self.key())
                })?;
            }
        }
        self.part += 1;
        Ok(())
    }

    /// Goes on to the next part whose name is free where it is to be numbered.
    fn take_free(&mut self) -> Result<()> {
        for _ in 0..MAX_NUMBERS {
            self.claim()?;
            self.check_free()?;
            if self.rolling.on_existing != OnExisting::Number || !self.client.exists(&self.key())? {
                return Ok(());
            }
            self.part += 1;
        }
        Err(all_taken(&self.rolling.path))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use nvisy_core::primitive::document::Document;
    use nvisy_core::{ConnectContext, Connection, ErrorKind, Item};

    use super::*;
    use crate::Memory;
    use crate::error::from_io;

    /// Takes so many items until the disk is full, and panics on a batch of seven.
    struct Full(u64);

    impl FileFormat for Full {
        type Writer = (Output, u64);

        fn begin(&self, output: Output, _: &Batch) -> Result<Self::Writer> {
            Ok((output, 0))
        }

        fn write(&self, writer: &mut Self::Writer, batch: &Batch) -> Result<Written> {
            assert_ne!(batch.len(), 7, "the format panics");
            writer.1 += batch.len() as u64;
            if writer.1 > self.0 {
                return Err(from_io(io::ErrorKind::StorageFull.into(), "write", "out.txt"));
            }
            Ok(Written::default())
        }

        fn size(&self, writer: &Self::Writer) -> u64 {
            writer.1
        }

        fn finish(&self, writer: Self::Writer) -> Result<Output> {
            Ok(writer.0)
        }
    }

    fn items(n: usize) -> Batch {
        let document =
            |n: usize| Item::detached(&n.to_string(), Document::new("x").unwrap_or_else(|e| panic!("{e}")));
        (0..n).map(|n| document(n).into_primitive()).collect()
    }

    async fn open(store: Memory, room: u64, rows: Option<u64>) -> (Arc<ObjectClient>, FileSink<Full>) {
        let client = Arc::new(store.connect(&ConnectContext::detached()).await.unwrap());
        let rolling = Rolling { path: "out.txt".into(), on_existing: OnExisting::Fail, rows, bytes: None };
        let context = OpenContext::new(Context::detached(), client.clone());
        (client, FileSink::open(Full(room), rolling, &context).await.unwrap())
    }

    #[tokio::test]
    async fn a_full_disk_takes_everything_unfinished_with_it_and_says_so_from_then_on() {
        let (client, sink) = open(Memory::new(), 3, None).await;
        let context = Context::detached();
        assert!(sink.write(&items(2), &context).await.unwrap().is_applied());
        for _ in 0..2 {
            let error = sink.write(&items(2), &context).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Permission);
            assert!(error.message().contains("no space is left"), "{error}");
        }
        assert!(sink.flush(&context).await.is_err(), "what was lost is never promised");
        assert!(client.open("out.txt").await.is_err());
    }

    #[tokio::test]
    async fn a_format_that_panics_takes_its_file_with_it_and_nothing_of_it_is_promised() {
        let (client, sink) = open(Memory::new(), 100, None).await;
        let context = Context::detached();
        assert!(sink.write(&items(2), &context).await.unwrap().is_applied());
        assert!(sink.write(&items(7), &context).await.is_err());
        assert!(sink.write(&items(3), &context).await.is_err());
        assert!(sink.flush(&context).await.is_err(), "what was lost is never promised");
        assert!(client.open("out.txt").await.is_err());
    }

    #[tokio::test]
    async fn a_batch_over_several_files_fails_from_where_it_failed() {
        let (client, sink) = open(Memory::new().with("out-1.txt", "taken"), 2, Some(2)).await;
        let report = sink.write(&items(5), &Context::detached()).await.unwrap();
        let failed: Vec<u32> = report.others().iter().map(|(index, _)| *index).collect();
        assert_eq!(failed, [2, 3, 4]);
        assert!(
            matches!(report.status(2), WriteStatus::Rejected(error) if error.kind() == ErrorKind::Conflict)
        );
        assert!(client.open("out.txt").await.is_ok(), "the first file is whole");
        sink.flush(&Context::detached()).await.unwrap();
    }
}
