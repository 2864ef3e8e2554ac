//! JSON Lines: an object a line.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use futures::Stream;
use nvisy_core::config::Problem;
use nvisy_core::primitive::row::Row;
use nvisy_core::{
    OpenContext, Partition, Position, ReadContext, Result, Source, SourceBatch, SourceIdentity,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::block::{Block, Lines, Split};
use crate::client::ObjectClient;
use crate::json::JsonColumns;
use crate::partition::partitions;
use crate::rows::{self, Decode, MAX_RECORD, Records, SAMPLE, TextFormat};
use crate::schema::{ColumnType, Drift, SchemaColumn, Shape, given};
use crate::selection::{Selection, selects};
use crate::version::versions;

/// Reads JSON Lines: one JSON object a line, as rows.
///
/// The schema is given, or inferred from a [sample](Self::sample) of the objects in the order
/// of their keys: int and float widen to float, objects column by column, lists by their items,
/// anything else to text, which keeps a value's JSON form. A text stays a text, also where it
/// looks like a date. A column that is null throughout the sample is text. All objects are
/// read with that one schema; see [`Drift`] for what it does not foresee.
///
/// A line that is no object, does not fit the schema, is not UTF-8 or is too long is rejected
/// with object, line and byte; blank lines and a byte order mark are passed over. Names that
/// end in `.gz` or `.zst` are decompressed. The position of an item is the byte at which its
/// line begins in the (decompressed) object.
///
/// Batches are bounded by bytes of text first: by default they hold up to 1 MiB or 16,384
/// rows, more than 1,024. A limit below 1,024 items is kept to.
///
/// # Examples
///
/// ```
/// use nvisy_plugin_object::{ColumnType, Jsonl};
///
/// let tickets = Jsonl::prefix("tickets/").glob("**/*.jsonl.gz");
/// let typed = Jsonl::path("tickets.jsonl").column("id", ColumnType::Int).column("body", ColumnType::Text);
/// # let _ = (tickets, typed);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jsonl {
    /// The one object to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What the keys of the objects to read begin with. Default nothing: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Which objects below the prefix's directory to read, as `**/*.jsonl`. Default those that
    /// end in `.jsonl` or `.ndjson`, compressed or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// Whether the object, or the directory of the prefix, may be missing: there is nothing to read
    /// then. Default no: it is an error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_missing: bool,
    /// The columns. Default inferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Vec<SchemaColumn>>,
    /// How many records the schema is inferred from. Default 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<usize>,
    /// What becomes of a record with a column that the schema lacks. Default `reject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// How many bytes a line may have. Default 16 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_record: Option<usize>,
}

selects!(Jsonl, &[".jsonl", ".ndjson"]);
json_settings!(Jsonl);

impl Source for Jsonl {
    const NAME: &'static str = "object/jsonl";
    type Output = Row;
    type Client = ObjectClient;

    fn identity(&self, client: &ObjectClient) -> SourceIdentity {
        client.identity().clone()
    }

    fn validate(&self) -> Vec<Problem> {
        self.problems()
    }

    async fn partitions(&self, context: &OpenContext<ObjectClient>) -> Result<Vec<Partition>> {
        partitions(context, &self.selection()).await
    }

    versions!();

    fn read(
        &self,
        partition: &Partition,
        after: Option<Position>,
        context: &ReadContext<ObjectClient>,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        rows::read(self, partition, after, context)
    }
}

impl TextFormat for Jsonl {
    json_format!();

    fn split(&self, _: &str) -> Box<dyn Split> {
        Box::new(Lines)
    }

    fn sample(&self, _: &str, blocks: Vec<Block>, columns: &mut Shape, most: usize) -> usize {
        let mut seen = 0;
        for line in blocks.iter().flat_map(|block| block.text.split(|byte| *byte == b'\n')) {
            if seen == most {
                break;
            }
            if let Ok(shape @ Shape::Object(_)) = serde_json::from_slice(line) {
                columns.widen(shape);
                seen += 1;
            }
        }
        seen
    }

    fn decoder(&self, key: &str, schema: SchemaRef, _: &mut Block) -> Result<Option<Arc<dyn Decode>>> {
        let (drift, max_record) = (self.drift.unwrap_or_default(), self.max_record());
        Ok(Some(Arc::new(LineDecoder { key: key.to_owned(), schema, drift, max_record })))
    }
}

struct LineDecoder {
    key: String,
    schema: SchemaRef,
    drift: Drift,
    max_record: usize,
}

impl Decode for LineDecoder {
    fn decode(&self, block: &Block, records: &mut Records) -> Result<()> {
        let mut columns = JsonColumns::new(self.schema.clone(), self.drift)?;
        let mut text = Checked::new(&block.text);
        let mut start = 0;
        while start < block.text.len() {
            let end = memchr::memchr(b'\n', &block.text[start..]).map_or(block.text.len(), |at| start + at);
            let span = start..end;
            start = end + 1;
            if block.text[span.clone()].trim_ascii().is_empty() {
                continue;
            }
            push(&self.key, block, &mut text, span, self.max_record, &mut columns, records)?;
            if records.stops_at(start.min(block.text.len())) {
                break;
            }
        }
        records.chunk(columns.finish()?);
        Ok(())
    }
}

/// The text of a block, checked to be UTF-8: all of it at once where it is, else a record at a
/// time.
pub(crate) struct Checked<'a> {
    bytes: &'a [u8],
    whole: Option<&'a str>,
}

impl<'a> Checked<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, whole: std::str::from_utf8(bytes).ok() }
    }

    /// Returns a part, or the byte in it where it is no UTF-8.
    pub(crate) fn get(&self, span: std::ops::Range<usize>) -> Result<&'a str, usize> {
        match self.whole.and_then(|text| text.get(span.clone())) {
            Some(text) => Ok(text),
            None => std::str::from_utf8(&self.bytes[span]).map_err(|error| error.valid_up_to()),
        }
    }
}

/// Adds the record at `span` of a block, good or bad.
pub(crate) fn push(
    key: &str,
    block: &Block,
    text: &mut Checked<'_>,
    span: std::ops::Range<usize>,
    max_record: usize,
    columns: &mut JsonColumns,
    records: &mut Records,
) -> Result<()> {
    let offset = block.offset + span.start as u64;
    if records.is_past(offset) {
        return Ok(());
    }
    let (len, span_end) = (span.len(), span.end);
    if len > max_record {
        let message = format!("the record is longer than {max_record} bytes: raise `max_record`");
        if records.bad(key, block, span, (0, &message)) {
            records.chunk(columns.finish()?);
        }
        return Ok(());
    }
    let pushed = match text.get(span.clone()) {
        Ok(record) => columns.push(record),
        Err(at) => Err((at, "the text is not UTF-8".to_owned())),
    };
    let full = match pushed {
        Ok(()) => {
            let full = records.good(offset, len);
            if let Some(times) = records.forecast(text.bytes.len() - span_end).filter(|_| !full) {
                columns.grow(times);
            }
            full
        }
        Err((at, message)) => records.bad(key, block, span, (at, &message)),
    };
    if full {
        records.chunk(columns.finish()?);
    }
    Ok(())
}

/// Writes the setters and checks that both JSON formats have.
macro_rules! json_settings {
    ($name:ident) => {
        impl $name {
            /// Adds a column to the schema, which is then given, not inferred.
            #[must_use]
            pub fn column(mut self, name: impl Into<String>, column_type: ColumnType) -> Self {
                self.schema.get_or_insert_default().push(SchemaColumn { name: name.into(), column_type });
                self
            }

            /// Sets how many records the schema is inferred from.
            #[must_use]
            pub fn sample(mut self, records: usize) -> Self {
                self.sample = Some(records);
                self
            }

            /// Sets what becomes of a record with a column that the schema lacks.
            #[must_use]
            pub fn drift(mut self, drift: Drift) -> Self {
                self.drift = Some(drift);
                self
            }

            /// Sets how many bytes a record may have.
            #[must_use]
            pub fn max_record(mut self, bytes: usize) -> Self {
                self.max_record = Some(bytes);
                self
            }

            fn problems(&self) -> Vec<Problem> {
                let mut problems = self.selection_problems();
                problems.extend($crate::rows::problems(self.schema.as_deref(), self.sample, self.max_record));
                problems
            }
        }
    };
}

/// Writes the settings of a [`TextFormat`] that both JSON formats have.
macro_rules! json_format {
    () => {
        fn selection(&self) -> Selection {
            Self::selection(self)
        }

        fn max_record(&self) -> usize {
            self.max_record.unwrap_or(MAX_RECORD)
        }

        fn sample_size(&self) -> usize {
            self.sample.unwrap_or(SAMPLE)
        }

        fn given_schema(&self) -> Option<SchemaRef> {
            self.schema.as_deref().map(given)
        }

        fn question(&self) -> String {
            format!("{} {self:?}", Self::NAME)
        }
    };
}

pub(crate) use {json_format, json_settings};
