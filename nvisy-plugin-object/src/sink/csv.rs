//! CSV and TSV out.

use std::io::Write;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float16Type, Float32Type, SchemaRef};
use nvisy_core::config::Problem;
use nvisy_core::primitive::row::{Row, json_at};
use nvisy_core::{Batch, BatchLimits, Error, Guarantee, OpenContext, Result, SinkConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::file::Output;
use super::rows::{rows_of, schema_of};
use super::{FileFormat, FileSink, OPTIMUM, OnExisting, Written, delegates, rolls};
use crate::client::ObjectClient;
use crate::compression::{Compression, Compressor};
use crate::encode::{Cells, put};
use crate::error::from_io;

/// Writes rows as CSV, or as TSV where the path ends in `.tsv`.
///
/// The first record names the columns. A null is an empty field, an empty text a quoted empty
/// one, so that [`Csv`](crate::Csv) reads both back; but in a table of one column, where an empty
/// field alone would be a blank line, which is no record: there a null is a quoted empty one, too,
/// and reads back as an empty text where the column is text. Floats that are no number are `NaN`,
/// `inf` and `-inf`. Dates and times are ISO 8601; lists and structs are their JSON. A path that ends in
/// `.gz` or `.zst` is compressed.
///
/// The first item of a file decides its columns; one that differs is rejected. Files, names
/// and errors are those of [`JsonlSink`](crate::JsonlSink).
///
/// # Examples
///
/// ```
/// let table = nvisy_plugin_object::CsvSink::path("out/{date}-{part}.csv").roll_rows(100_000);
/// # let _ = table;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CsvSink {
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
    /// What stands between fields. Default a tab where the path ends in `.tsv`, else a comma.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// Whether the first record names the columns. Default yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
}

rolls!(CsvSink);

impl CsvSink {
    /// Sets what stands between fields.
    #[must_use]
    pub fn delimiter(mut self, delimiter: char) -> Self {
        self.delimiter = Some(delimiter);
        self
    }

    /// Sets whether the first record names the columns.
    #[must_use]
    pub fn header(mut self, header: bool) -> Self {
        self.header = Some(header);
        self
    }
}

impl SinkConfig for CsvSink {
    const NAME: &'static str = "object/csv";
    type Input = Row;
    type Client = ObjectClient;
    type Sink = CsvFiles;

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
        if self.delimiter.is_some_and(|char| !char.is_ascii() || matches!(char, '\n' | '\r' | '"')) {
            let problem = Problem::new("delimiter", "`delimiter` is no single ASCII character");
            problems.push(problem.with_help("take a comma, a semicolon, a tab, a pipe"));
        }
        problems
    }

    async fn open(&self, context: &OpenContext<ObjectClient>) -> Result<CsvFiles> {
        let tabs = Compression::strip(&self.path).to_ascii_lowercase().ends_with(".tsv");
        let delimiter = self.delimiter.unwrap_or(if tabs { '\t' } else { ',' });
        let table = Table {
            compression: Compression::of(&self.path),
            delimiter: delimiter as u8,
            header: self.header.unwrap_or(true),
        };
        Ok(CsvFiles(FileSink::open(table, self.rolling(), context).await?))
    }
}

/// Open files of CSV.
#[derive(Debug)]
pub struct CsvFiles(FileSink<Table>);

delegates!(CsvFiles);

struct Table {
    compression: Compression,
    delimiter: u8,
    header: bool,
}

struct Writer {
    output: Compressor<Output>,
    schema: SchemaRef,
    lines: Vec<u8>,
}

impl Writer {
    fn put_lines(&mut self) -> Result<()> {
        self.output.write_all(&self.lines).map_err(|error| {
            let key = self.output.output().get_ref().key().to_owned();
            from_io(error, "write", &key)
        })?;
        self.lines.clear();
        self.lines.shrink_to(4 << 20);
        Ok(())
    }
}

impl FileFormat for Table {
    type Writer = Writer;

    fn refuse(&self, batch: &Batch) -> Option<Error> {
        schema_of(batch).err()
    }

    fn begin(&self, output: Output, batch: &Batch) -> Result<Writer> {
        let schema = schema_of(batch)?;
        let key = output.get_ref().key().to_owned();
        let output = self.compression.writer(output).map_err(|error| from_io(error, "write", &key))?;
        let mut writer = Writer { output, schema, lines: Vec::new() };
        if self.header {
            let Writer { schema, lines, .. } = &mut writer;
            for (at, field) in schema.fields().iter().enumerate() {
                if at > 0 {
                    lines.push(self.delimiter);
                }
                self.text(field.name(), lines);
            }
            lines.push(b'\n');
            writer.put_lines()?;
        }
        Ok(writer)
    }

    fn write(&self, writer: &mut Writer, batch: &Batch) -> Result<Written> {
        let (rows, rejected) = rows_of(batch, &writer.schema)?;
        if let Some(rows) = rows {
            let columns: Vec<Cells<'_>> = rows.columns().iter().map(|column| Cells::new(&**column)).collect();
            for row in 0..rows.num_rows() {
                for (at, cells) in columns.iter().enumerate() {
                    if at > 0 {
                        writer.lines.push(self.delimiter);
                    }
                    self.cell(cells, row, &mut writer.lines);
                }
                // A lone null would be a blank line, which is no record.
                if columns.len() == 1 && writer.lines.last().is_none_or(|byte| *byte == b'\n') {
                    writer.lines.extend_from_slice(b"\"\"");
                }
                writer.lines.push(b'\n');
            }
            writer.put_lines()?;
        }
        Ok(Written { rejected })
    }

    fn size(&self, writer: &Writer) -> u64 {
        let output = writer.output.output();
        output.get_ref().written() + output.buffer().len() as u64
    }

    fn finish(&self, writer: Writer) -> Result<Output> {
        let key = writer.output.output().get_ref().key().to_owned();
        writer.output.finish().map_err(|error| from_io(error, "write", &key))
    }
}

/// Returns the value of a column of short floats, unless it is null.
fn float_at(array: &dyn Array, row: usize) -> Option<f32> {
    match array.data_type() {
        _ if array.is_null(row) => None,
        DataType::Float32 => Some(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float16 => Some(array.as_primitive::<Float16Type>().value(row).to_f32()),
        _ => None,
    }
}

impl Table {
    fn cell(&self, cells: &Cells<'_>, row: usize, lines: &mut Vec<u8>) {
        match cells {
            Cells::Other(array) => match json_at(*array, row) {
                Value::Null => {
                    // Of a float that JSON has no number for, there is a text all the same.
                    let text = float_at(*array, row).map(|value| value.to_string());
                    lines.extend_from_slice(text.unwrap_or_default().as_bytes());
                }
                Value::String(text) => self.text(&text, lines),
                value @ (Value::Array(_) | Value::Object(_)) => self.text(&value.to_string(), lines),
                value => put(&value, lines),
            },
            cells if cells.array().is_null(row) => {}
            Cells::Bool(array) => put(&array.value(row), lines),
            Cells::Int(array) => put(&array.value(row), lines),
            Cells::Int32(array) => put(&array.value(row), lines),
            Cells::Float(array) => {
                let value = array.value(row);
                if value.is_finite() {
                    put(&value, lines);
                } else {
                    lines.extend_from_slice(value.to_string().as_bytes());
                }
            }
            texts => self.text(texts.text(row).unwrap_or_default(), lines),
        }
    }

    fn text(&self, text: &str, lines: &mut Vec<u8>) {
        let special = |byte: &u8| *byte == self.delimiter || matches!(byte, b'"' | b'\n' | b'\r');
        if !text.is_empty() && !text.as_bytes().iter().any(special) {
            lines.extend_from_slice(text.as_bytes());
            return;
        }
        lines.push(b'"');
        for byte in text.bytes() {
            if byte == b'"' {
                lines.push(b'"');
            }
            lines.push(byte);
        }
        lines.push(b'"');
    }
}
