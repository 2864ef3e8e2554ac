//! A sink of files that roll.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use nvisy_core::{Batch, Context, Error, OpenContext, Result, Sink, WriteReport, WriteStatus};

use super::{OnExisting, Rolling, name};
use crate::client::ObjectClient;
use crate::error::from_join;
use crate::task::blocking;
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
/// finished.
pub(crate) struct FileSink<F: FileFormat> {
    state: Arc<Mutex<State<F>>>,
    path: String,
}

struct State<F: FileFormat> {
    format: F,
    client: Arc<ObjectClient>,
    rolling: Rolling,
    part: u64,
    open: Option<Open<F::Writer>>,
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
        rolling.path = name::expand(&rolling.path, context.context());
        let path = rolling.path.clone();
        let client = context.client().clone();
        let state = State { format, client, rolling, part: 0, open: None, broken: None };
        let checked = blocking(move || state.check_free().map(|()| state));
        let state = checked.await.map_err(|error| from_join(error, "write", &path))??;
        Ok(Self { state: Arc::new(Mutex::new(state)), path })
    }

    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut State<F>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let state = self.state.clone();
        let call = blocking(move || call(&mut state.lock().unwrap_or_else(PoisonError::into_inner)));
        call.await.map_err(|error| from_join(error, "write", &self.path))?
    }
}

impl<F: FileFormat> Sink for FileSink<F> {
    async fn write(&self, batch: &Batch, _: &Context) -> Result<WriteReport> {
        let batch = batch.without_tokens();
        self.call(move |state| state.write(&batch)).await
    }

    async fn flush(&self, _: &Context) -> Result<()> {
        self.call(State::finish).await
    }
}

impl<F: FileFormat> fmt::Debug for FileSink<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSink").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<F: FileFormat> State<F> {
    fn key(&self) -> String {
        name::part(&self.rolling.path, self.part)
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
        let mut report = WriteReport::applied(batch.len());
        let mut at = 0;
        while at < batch.len() {
            let written = self.open.as_ref().map_or(0, |open| open.items);
            let room = self.rolling.rows.map_or(u64::MAX, |most| most.saturating_sub(written).max(1));
            let len = usize::try_from(room).unwrap_or(usize::MAX).min(batch.len() - at);
            let piece = if len == batch.len() { None } else { Some(batch.slice(at, len)) };
            // What is in an open file, or in one that this batch began, goes down with it.
            let lost = written > 0 || at > 0;
            let result = self.write_piece(piece.as_ref().unwrap_or(batch));
            let rejected = result.inspect_err(|error| self.fail(lost, error))?;
            for (index, error) in rejected {
                report = report.with(at as u32 + index, WriteStatus::Rejected(error));
            }
            at += len;
        }
        Ok(report)
    }

    /// Writes a batch that fits into the file, and rolls.
    fn write_piece(&mut self, batch: &Batch) -> Result<Vec<(u32, Error)>> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                if let Some(error) = self.format.refuse(batch) {
                    return Ok((0..batch.len() as u32).map(|index| (index, error.clone())).collect());
                }
                self.check_free()?;
                let upload = self.client.create(&self.key())?;
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

    /// Puts the file under its name.
    fn finish(&mut self) -> Result<()> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let Some(open) = self.open.take() else { return Ok(()) };
        let published = self.publish(open);
        if let Err(error) = &published {
            self.broken = Some(error.clone());
        }
        published
    }

    fn publish(&mut self, open: Open<F::Writer>) -> Result<()> {
        let mut output = self.format.finish(open.writer)?;
        let key = self.key();
        output.flush().map_err(|error| crate::error::from_io(error, "write", &key))?;
        let (mut upload, _) = output.into_parts();
        let replace = self.rolling.on_existing == OnExisting::Replace;
        loop {
            match upload.publish(replace) {
                Ok(()) => break,
                Err((Some(again), _)) if self.rolling.on_existing == OnExisting::Number => {
                    upload = again;
                    self.part += 1;
                    upload.rename(&self.key())?;
                }
                Err((_, error)) => return Err(error),
            }
        }
        self.part += 1;
        Ok(())
    }
}
