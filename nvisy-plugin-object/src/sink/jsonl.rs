//! JSON Lines out: an object a line.

use std::io::Write;

use nvisy_core::config::Problem;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::{Any, Batch, BatchLimits, Error, Guarantee, OpenContext, Payload, Result, SinkConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::file::Output;
use super::{FileFormat, FileSink, OPTIMUM, OnExisting, Rolling, Written, delegates, rolls};
use crate::client::ObjectClient;
use crate::compression::{Compression, Compressor};
use crate::encode::JsonRows;
use crate::error::from_io;

/// Writes JSON Lines: rows as plain JSON objects, other kinds as their payload's JSON.
///
/// Dates and times are ISO 8601, bytes base64, decimals text, and what JSON has no number for
/// is null. A path that ends in `.gz` or `.zst` is compressed.
///
/// A file shows under its name when it is complete and durable: at a flush, at the close, or
/// when it rolls. Without items there is no file. Writing an item again writes it twice.
///
/// # Checkpoints
///
/// In a run with checkpoints a file shows when a checkpoint has it, and not before: each item is
/// there once then, whenever the process is killed. Each checkpoint ends the file under way, so
/// that one without `roll_rows` and `roll_bytes` is in as many parts as there were checkpoints;
/// a run that is resumed goes on with the number of the next.
///
/// Until then files lie under temporary names, which begin with a dot and hold the run and a hash of
/// the graph's and the node's name, in the first directory of `path` that is the same in every run
/// (`out` of `out/{date}/{part}.jsonl`): the directories of the files have to be on the same
/// file system. What a killed process left there goes when the run goes on; what a run left that is
/// begun anew instead stays, as another state directory may go on with it: remove it by hand. A file
/// that is moved away when it shows is not written again.
///
/// A name that another sink of the run has is passed over: the part takes the next number.
///
/// A name that somebody else takes between the two is a `conflict` where `on_existing` is `fail`:
/// nothing is lost, and the run goes on when the name is free. Where it is `number`, the file
/// gets a number more.
///
/// # Errors
///
/// `permission` if the path leads out of the store, the directory is read-only or the disk is
/// full; `conflict` if the name is taken and `on_existing` is `fail`.
///
/// # Examples
///
/// ```
/// let others = nvisy_plugin_object::JsonlSink::path("other/{run}.jsonl.gz").lineage(true);
/// # let _ = others;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JsonlSink {
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
    /// Whether to add where items come from: `nvisy.id`, `nvisy.root` (the source item's id),
    /// `nvisy.source`, `nvisy.position` and `nvisy.run`. Default no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lineage: bool,
}

rolls!(JsonlSink);

impl JsonlSink {
    /// Sets whether to add where items come from.
    #[must_use]
    pub fn lineage(mut self, lineage: bool) -> Self {
        self.lineage = lineage;
        self
    }
}

impl SinkConfig for JsonlSink {
    const NAME: &'static str = "object/jsonl";
    type Input = Any;
    type Client = ObjectClient;
    type Sink = JsonlFiles;

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
        self.rolling().problems()
    }

    async fn open(&self, context: &OpenContext<ObjectClient>) -> Result<JsonlFiles> {
        let rolling: Rolling = self.rolling();
        let lines = Lines { lineage: self.lineage, compression: Compression::of(&rolling.path) };
        Ok(JsonlFiles(FileSink::open(lines, rolling, context).await?))
    }
}

/// Open files of JSON Lines.
#[derive(Debug)]
pub struct JsonlFiles(FileSink<Lines>);

delegates!(JsonlFiles);

struct Lines {
    lineage: bool,
    compression: Compression,
}

/// A file of lines under way, and the buffer that they are put together in.
struct Writer {
    output: Compressor<Output>,
    lines: Vec<u8>,
}

impl FileFormat for Lines {
    type Writer = Writer;

    fn begin(&self, output: Output, _: &Batch) -> Result<Writer> {
        let key = output.get_ref().key().to_owned();
        let output = self.compression.writer(output).map_err(|error| from_io(error, "write", &key))?;
        Ok(Writer { output, lines: Vec::new() })
    }

    fn write(&self, writer: &mut Writer, batch: &Batch) -> Result<Written> {
        let mut written = Written::default();
        let lines = &mut writer.lines;
        lines.clear();
        if let Some(rows) = batch.as_rows() {
            let encoder = JsonRows::new(rows);
            for row in 0..rows.num_rows() {
                encoder.write(row, lines);
                if self.lineage {
                    add(lines, &lineage(batch, row));
                }
                lines.push(b'\n');
            }
        } else {
            for index in 0..batch.len() {
                let before = lines.len();
                match item(&batch.payload(index), lines) {
                    Ok(()) => {
                        if self.lineage {
                            if lines[before] != b'{' {
                                lines.splice(before..before, *b"{\"value\":");
                                lines.push(b'}');
                            }
                            add(lines, &lineage(batch, index));
                        }
                        lines.push(b'\n');
                    }
                    Err(error) => {
                        lines.truncate(before);
                        let error = Error::invalid("payload", "it has no JSON form").with_source(error);
                        written.rejected.push((index as u32, error));
                    }
                }
            }
        }
        writer.output.write_all(lines).map_err(|error| {
            let key = writer.output.output().get_ref().key().to_owned();
            from_io(error, "write", &key)
        })?;
        // One batch of long texts must not hold its memory for the rest of the run.
        lines.shrink_to(4 << 20);
        Ok(written)
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

/// Writes a payload that is no row of a record batch.
fn item(payload: &Payload, lines: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    match payload {
        Payload::Row(row) => {
            JsonRows::new(row.batch()).write(row.index(), lines);
            Ok(())
        }
        Payload::Raw(raw) => match &**raw {
            Raw::Json(value) => serde_json::to_writer(lines, value),
            raw @ Raw::Bytes(_) => serde_json::to_writer(lines, raw),
        },
        Payload::Document(payload) => serde_json::to_writer(lines, payload),
        Payload::Object(payload) => serde_json::to_writer(lines, payload),
        Payload::Message(payload) => serde_json::to_writer(lines, payload),
        Payload::Graph(payload) => serde_json::to_writer(lines, payload),
        Payload::Embedding(payload) => serde_json::to_writer(lines, payload),
        Payload::Completion(payload) => serde_json::to_writer(lines, payload),
        Payload::StructuredOutput(payload) => serde_json::to_writer(lines, payload),
        Payload::ToolCallTrace(payload) => serde_json::to_writer(lines, payload),
        Payload::Image(payload) => serde_json::to_writer(lines, payload),
        Payload::Audio(payload) => serde_json::to_writer(lines, payload),
        Payload::FineTuneSample(payload) => serde_json::to_writer(lines, payload),
        Payload::Custom(payload) => serde_json::to_writer(lines, payload),
        other => {
            let message = format!("a {} is of a kind that this version does not know", other.kind());
            Err(serde::ser::Error::custom(message))
        }
    }
}

fn lineage(batch: &Batch, index: usize) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("nvisy.id".into(), batch.id(index).to_string().into());
    if let Some(root) = batch.lineage(index).root() {
        fields.insert("nvisy.root".into(), root.id.to_string().into());
        fields.insert("nvisy.source".into(), root.source.name().into());
        fields.insert("nvisy.position".into(), root.position.to_string().into());
    }
    if let Some(run) = batch.metadata(index).run {
        fields.insert("nvisy.run".into(), run.to_string().into());
    }
    fields
}

/// Adds fields to the object at the end of `lines`.
fn add(lines: &mut Vec<u8>, fields: &Map<String, Value>) {
    let Ok(text) = serde_json::to_vec(fields) else { return };
    if lines.last() == Some(&b'}') {
        lines.pop();
        if lines.last() != Some(&b'{') {
            lines.push(b',');
        }
        lines.extend_from_slice(&text[1..]);
    }
}
