//! Arrow IPC out.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use nvisy_core::config::Problem;
use nvisy_core::primitive::row::Row;
use nvisy_core::{Batch, BatchLimits, Error, Guarantee, OpenContext, Result, SinkConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file::Output;
use super::rows::{rows_of, schema_of};
use super::{FileFormat, FileSink, OPTIMUM, OnExisting, Written, delegates, rolls};
use crate::client::ObjectClient;
use crate::compression::Compression as Suffix;
use crate::error::from_io;

/// Writes rows as an Arrow IPC file, also called Feather version 2.
///
/// Columns of dictionaries are written as their values: a file has but one dictionary a
/// column, batches have their own. The first item of a file decides its columns; one that
/// differs is rejected. Files, names and errors are those of [`JsonlSink`](crate::JsonlSink).
///
/// # Examples
///
/// ```
/// let table = nvisy_plugin_object::IpcSink::path("out/{run}.arrow");
/// # let _ = table;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IpcSink {
    /// Where to write, relative to the root, with the placeholders `{run}`, `{date}`, `{node}`,
    /// `{graph}` and `{part}`. Without `{part}` the files after the first get `-1`, `-2` and so on
    /// before the suffix.
    pub path: String,
    /// What happens where the name is taken. Default `fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_existing: Option<OnExisting>,
    /// After how many items a new file begins. Default never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll_rows: Option<u64>,
    /// After about how many bytes a new file begins. Default never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll_bytes: Option<u64>,
}

rolls!(IpcSink);

impl SinkConfig for IpcSink {
    const NAME: &'static str = "object/ipc";
    type Input = Row;
    type Client = ObjectClient;
    type Sink = IpcFiles;

    fn guarantee(&self) -> Guarantee {
        Guarantee::Append
    }

    fn replayed(&self) -> Option<String> {
        Some(self.rolling().replayed())
    }

    fn optimum(&self) -> BatchLimits {
        OPTIMUM
    }

    fn buffers(&self) -> bool {
        true
    }

    fn stages(&self) -> bool {
        true
    }

    fn validate(&self) -> Vec<Problem> {
        let mut problems = self.rolling().problems();
        if Suffix::of(&self.path) != Suffix::None {
            let problem = Problem::new("path", "an Arrow IPC file is not compressed as a whole");
            problems.push(problem.with_help("let the path end in `.arrow`"));
        }
        problems
    }

    async fn open(&self, context: &OpenContext<ObjectClient>) -> Result<IpcFiles> {
        Ok(IpcFiles(FileSink::open(Table, self.rolling(), context).await?))
    }
}

/// Open files of Arrow IPC.
#[derive(Debug)]
pub struct IpcFiles(FileSink<Table>);

delegates!(IpcFiles);

struct Table;

struct Writer {
    key: String,
    schema: SchemaRef,
    rows: FileWriter<Output>,
}

fn plain_schema(batch: &Batch) -> Result<SchemaRef> {
    let schema = schema_of(batch)?;
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Dictionary(_, values) => Field::new(field.name(), (**values).clone(), field.is_nullable()),
        _ => field.as_ref().clone(),
    });
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

impl FileFormat for Table {
    type Writer = Writer;

    fn refuse(&self, batch: &Batch) -> Option<Error> {
        schema_of(batch).err()
    }

    fn begin(&self, output: Output, batch: &Batch) -> Result<Writer> {
        let schema = plain_schema(batch)?;
        let key = output.get_ref().key().to_owned();
        let rows = FileWriter::try_new(output, &schema).map_err(|error| failed(error, &key))?;
        Ok(Writer { key, schema, rows })
    }

    fn write(&self, writer: &mut Writer, batch: &Batch) -> Result<Written> {
        let (rows, rejected) = rows_of(batch, &writer.schema)?;
        if let Some(rows) = rows {
            writer.rows.write(&rows).map_err(|error| failed(error, &writer.key))?;
        }
        Ok(Written { rejected })
    }

    fn size(&self, writer: &Writer) -> u64 {
        let output = writer.rows.get_ref();
        output.get_ref().written() + output.buffer().len() as u64
    }

    fn finish(&self, writer: Writer) -> Result<Output> {
        writer.rows.into_inner().map_err(|error| failed(error, &writer.key))
    }
}

fn failed(error: ArrowError, key: &str) -> Error {
    match error {
        ArrowError::IoError(_, io) => from_io(io, "write", key),
        other => Error::internal(format!("cannot write \"{key}\" as Arrow IPC")).with_source(other),
    }
}
