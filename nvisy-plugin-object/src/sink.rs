//! Sinks: batches into files that show under their names when they are complete.

pub(crate) mod bytes;
#[cfg(feature = "csv")]
pub(crate) mod csv;
mod file;
#[cfg(feature = "ipc")]
pub(crate) mod ipc;
#[cfg(feature = "jsonl")]
pub(crate) mod jsonl;
pub(crate) mod name;
pub(crate) mod owners;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
mod rows;
mod stage;
pub(crate) mod text;

use nvisy_core::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::ObjectClient;
use crate::upload::Upload;

pub(crate) use self::file::{FileFormat, FileSink, Written};

/// What a sink does where an object of the name is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExisting {
    /// It fails with `conflict` before it writes, and again when it finishes: nothing that is
    /// there is ever lost.
    #[default]
    Fail,
    /// It replaces what is there, at once and whole: also what an earlier run wrote under the
    /// name, unless there is `{run}` or `{date}` in the path. The files of one run have different
    /// names, through whatever connections they are written: two sinks of one path are refused, and
    /// what rolls passes over a name that another sink has. Only what `object/bytes` and
    /// `object/text` write without replacing, and what was written before a stop, is not known so.
    /// One that is resumed from a checkpoint replaces nothing that it wrote before; without
    /// checkpoints a run that is started again begins with the first name. Where a run makes fewer
    /// files than the one before, the rest of those stays: put `{run}` in the path where files roll,
    /// and where there is a state directory, as checkpoints begin new files.
    Replace,
    /// It takes the next number that is free.
    Number,
}

/// How many names are tried for one that is free.
const MAX_NUMBERS: u32 = 100_000;

/// Puts an object under its name, or under the `next` that is free where it is to be numbered.
///
/// Blocks.
fn publish(
    client: &ObjectClient,
    mut upload: Upload,
    on_existing: OnExisting,
    mut next: impl FnMut() -> Result<String>,
) -> Result<()> {
    let first = upload.key().to_owned();
    for _ in 0..MAX_NUMBERS {
        match upload.publish(on_existing == OnExisting::Replace) {
            Ok(()) => return Ok(()),
            Err((Some(again), _)) if on_existing == OnExisting::Number => {
                upload = again;
                client.rename(&mut upload, &next()?)?;
            }
            Err((_, error)) => return Err(error),
        }
    }
    Err(all_taken(&first))
}

fn all_taken(key: &str) -> Error {
    let message = format!("\"{key}\" and {MAX_NUMBERS} numbers of it are taken: put {{run}} in the path");
    Error::new(ErrorKind::Conflict, message)
}

/// Writes the settings that every sink of rolling files has.
macro_rules! rolls {
    ($name:ident) => {
        impl $name {
            /// Writes to `path`: see [`path`](Self#structfield.path).
            #[must_use]
            pub fn path(path: impl Into<String>) -> Self {
                Self { path: path.into(), ..Self::default() }
            }

            /// Sets what happens where the name is taken.
            #[must_use]
            pub fn on_existing(mut self, on_existing: $crate::OnExisting) -> Self {
                self.on_existing = Some(on_existing);
                self
            }

            /// Begins a new file after so many items.
            #[must_use]
            pub fn roll_rows(mut self, rows: u64) -> Self {
                self.roll_rows = Some(rows);
                self
            }

            /// Begins a new file after about so many bytes.
            #[must_use]
            pub fn roll_bytes(mut self, bytes: u64) -> Self {
                self.roll_bytes = Some(bytes);
                self
            }

            fn rolling(&self) -> $crate::sink::Rolling {
                $crate::sink::Rolling {
                    path: self.path.clone(),
                    on_existing: self.on_existing.unwrap_or_default(),
                    rows: self.roll_rows,
                    bytes: self.roll_bytes,
                }
            }
        }
    };
}

pub(crate) use rolls;

/// Makes a public sink of the private [`FileSink`] in it.
macro_rules! delegates {
    ($name:ident) => {
        impl nvisy_core::Sink for $name {
            async fn write(
                &self,
                batch: &nvisy_core::Batch,
                context: &nvisy_core::Context,
            ) -> nvisy_core::Result<nvisy_core::WriteReport> {
                nvisy_core::Sink::write(&self.0, batch, context).await
            }

            async fn flush(&self, context: &nvisy_core::Context) -> nvisy_core::Result<()> {
                nvisy_core::Sink::flush(&self.0, context).await
            }

            async fn stage(&self, context: &nvisy_core::Context) -> nvisy_core::Result<Option<bytes::Bytes>> {
                nvisy_core::Sink::stage(&self.0, context).await
            }

            async fn publish(
                &self,
                staged: &bytes::Bytes,
                context: &nvisy_core::Context,
            ) -> nvisy_core::Result<()> {
                nvisy_core::Sink::publish(&self.0, staged, context).await
            }
        }
    };
}

pub(crate) use delegates;

const TWICE: &str = "what is replayed is there twice, in a file of its own";

/// Where files go, and when a new one begins.
#[derive(Clone, Debug)]
pub(crate) struct Rolling {
    pub(crate) path: String,
    pub(crate) on_existing: OnExisting,
    pub(crate) rows: Option<u64>,
    pub(crate) bytes: Option<u64>,
}

impl Rolling {
    /// Returns what becomes of items that a later run writes again.
    pub(crate) fn replayed(&self) -> String {
        let again = if name::has(&self.path, &["date"]) { "a second run of one day" } else { "a second run" };
        match self.on_existing {
            _ if name::has(&self.path, &["run"]) => TWICE.to_owned(),
            OnExisting::Number => TWICE.to_owned(),
            OnExisting::Replace => format!("{again} replaces the files of the same names"),
            OnExisting::Fail => format!(
                "{again} finds the name taken and stops with `conflict`: put {{run}} in the path, or say `on_existing`"
            ),
        }
    }

    /// Returns what is wrong with the settings.
    pub(crate) fn problems(&self) -> Vec<nvisy_core::config::Problem> {
        use nvisy_core::config::Problem;
        let mut problems = name::problems(&self.path, name::FILE);
        for (setting, value) in [("roll_rows", self.rows), ("roll_bytes", self.bytes)] {
            if value == Some(0) {
                let problem = Problem::new(setting, format!("`{setting}` is zero"));
                problems.push(problem.with_help("leave it out for one file"));
            }
        }
        problems
    }
}

/// Rows and texts are written best in batches of about this size; what a source reads in one
/// go is not worth joining.
pub(crate) const OPTIMUM: nvisy_core::BatchLimits =
    nvisy_core::BatchLimits::items(16_384).with_bytes(1 << 20);
