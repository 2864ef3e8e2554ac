//! Parquet out.

use arrow::datatypes::SchemaRef;
use nvisy_core::config::Problem;
use nvisy_core::primitive::row::Row;
use nvisy_core::{Batch, BatchLimits, Error, ErrorKind, Guarantee, OpenContext, Result, SinkConfig};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file::Output;
use super::rows::{rows_of, schema_of};
use super::{FileFormat, FileSink, OPTIMUM, OnExisting, Written, delegates, rolls};
use crate::client::ObjectClient;
use crate::compression::Compression as Suffix;
use crate::error::from_io;

/// How the pages of a Parquet file are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParquetCompression {
    /// Not at all.
    None,
    /// With Snappy: fast.
    #[default]
    Snappy,
    /// With zstd: small.
    Zstd,
}

/// Writes rows as Parquet: Arrow columns straight into column chunks.
///
/// The first item of a file decides its columns; one that differs is rejected. Files, names
/// and errors are those of [`JsonlSink`](crate::JsonlSink).
///
/// # Examples
///
/// ```
/// use nvisy_plugin_object::{ParquetCompression, ParquetSink};
///
/// let table = ParquetSink::path("out/{run}.parquet").compression(ParquetCompression::Zstd);
/// # let _ = table;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParquetSink {
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
    /// How pages are compressed. Default `snappy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<ParquetCompression>,
    /// How many rows a row group has: what is held in memory, encoded. Default 1,048,576, or
    /// fewer where they take 64 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_group_rows: Option<usize>,
}

rolls!(ParquetSink);

/// How many rows a row group has unless the config says otherwise. A dictionary is begun anew
/// in each.
const ROW_GROUP_ROWS: usize = 1 << 20;
/// How many bytes a row group takes unless the config says how many rows it has.
const ROW_GROUP_BYTES: usize = 64 << 20;

impl ParquetSink {
    /// Sets how pages are compressed.
    #[must_use]
    pub fn compression(mut self, compression: ParquetCompression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Sets how many rows a row group has.
    #[must_use]
    pub fn row_group_rows(mut self, rows: usize) -> Self {
        self.row_group_rows = Some(rows);
        self
    }

    fn properties(&self) -> WriterProperties {
        let compression = match self.compression.unwrap_or_default() {
            ParquetCompression::None => Compression::UNCOMPRESSED,
            ParquetCompression::Snappy => Compression::SNAPPY,
            ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
        };
        WriterProperties::builder()
            .set_compression(compression)
            .set_max_row_group_row_count(Some(self.row_group_rows.unwrap_or(ROW_GROUP_ROWS)))
            .set_max_row_group_bytes(self.row_group_rows.is_none().then_some(ROW_GROUP_BYTES))
            .set_created_by("nvisy".to_owned())
            .build()
    }
}

impl SinkConfig for ParquetSink {
    const NAME: &'static str = "object/parquet";
    type Input = Row;
    type Client = ObjectClient;
    type Sink = ParquetFiles;

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
        if self.row_group_rows == Some(0) {
            problems
                .push(Problem::new("row_group_rows", "`row_group_rows` is zero").with_help("leave it out"));
        }
        if Suffix::of(&self.path) != Suffix::None {
            let problem = Problem::new("path", "a Parquet file is compressed within, not as a whole");
            problems.push(problem.with_help("set `compression`, and let the path end in `.parquet`"));
        }
        problems
    }

    async fn open(&self, context: &OpenContext<ObjectClient>) -> Result<ParquetFiles> {
        let table = Table { properties: self.properties() };
        Ok(ParquetFiles(FileSink::open(table, self.rolling(), context).await?))
    }
}

/// Open files of Parquet.
#[derive(Debug)]
pub struct ParquetFiles(FileSink<Table>);

delegates!(ParquetFiles);

struct Table {
    properties: WriterProperties,
}

struct Writer {
    key: String,
    schema: SchemaRef,
    rows: ArrowWriter<Output>,
}

impl FileFormat for Table {
    type Writer = Writer;

    fn refuse(&self, batch: &Batch) -> Option<Error> {
        let schema = match schema_of(batch) {
            Ok(schema) => schema,
            Err(error) => return Some(error),
        };
        let error = ArrowSchemaConverter::new().convert(&schema).err()?;
        Some(
            Error::new(ErrorKind::Validation, "the row has a column that Parquet cannot hold")
                .with_source(error),
        )
    }

    fn begin(&self, output: Output, batch: &Batch) -> Result<Writer> {
        let schema = schema_of(batch)?;
        let key = output.get_ref().key().to_owned();
        let rows = ArrowWriter::try_new(output, schema.clone(), Some(self.properties.clone()))
            .map_err(|error| failed(error, &key))?;
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
        (writer.rows.bytes_written() + writer.rows.in_progress_size()) as u64
    }

    fn finish(&self, writer: Writer) -> Result<Output> {
        writer.rows.into_inner().map_err(|error| failed(error, &writer.key))
    }
}

fn failed(error: ParquetError, key: &str) -> Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<std::io::Error>() {
            Ok(io) => from_io(*io, "write", key),
            Err(other) => Error::internal(format!("cannot write \"{key}\": {other}")),
        },
        other => Error::internal(format!("cannot write \"{key}\" as Parquet")).with_source(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_group_is_limited_by_its_bytes_unless_its_rows_are_given() {
        let limits = |sink: ParquetSink| {
            let properties = sink.properties();
            (properties.max_row_group_row_count(), properties.max_row_group_bytes())
        };
        assert_eq!(limits(ParquetSink::path("a.parquet")), (Some(ROW_GROUP_ROWS), Some(ROW_GROUP_BYTES)));
        assert_eq!(limits(ParquetSink::path("a.parquet").row_group_rows(5)), (Some(5), None));
    }
}
