//! CSV and TSV.

mod header;
mod scan;

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use futures::Stream;
use nvisy_core::config::Problem;
use nvisy_core::primitive::row::Row;
use nvisy_core::{
    Error, OpenContext, Partition, Position, ReadContext, Result, Source, SourceBatch, SourceIdentity,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::scan::{Dialect, Fields, Quotes};
use crate::block::{Block, Split};
use crate::client::ObjectClient;
use crate::column::{Column, Values};
use crate::compression::Compression;
use crate::error::broken;
use crate::partition::partitions;
use crate::rows::{self, Decode, MAX_RECORD, Records, SAMPLE, TextFormat};
use crate::schema::{ColumnType, Drift, SchemaColumn, Shape, given};
use crate::selection::{Selection, selects};
use crate::version::versions;

/// Reads CSV and TSV, as rows.
///
/// Fields are quoted as RFC 4180 says: a quote opens a field only where the field begins, two
/// stand for one, and a quoted field may hold delimiters and new lines. A field that is empty
/// is null; a quoted empty one is an empty text in a column of text. Blank lines are passed
/// over, and so is a byte order mark.
///
/// The schema is given, or inferred from a [sample](Self::sample) of the objects in the order
/// of their keys, by these widening rules:
///
/// - `true` and `false` in any case are bool; digits are int unless they have leading zeros
///   (`00501` is an id, which stays text) or do not fit 64 bits; digits with a point or an
///   exponent are float, also `.046` and `5.`; `2024-02-29` is a date, `2024-02-29T13:14:15` or with
///   a space a timestamp, with `Z` or an offset a timestamp in UTC; all else is text;
/// - null and a type give the type, int and float give float, date and timestamp give
///   timestamp, anything else gives text; a column that is null throughout is text.
///
/// All objects are read with that one schema, by the names in their headers: a column that an
/// object does not have is null; one that the schema lacks fails the object, or is left out if
/// [`Drift::Ignore`] says so.
///
/// Without a header a given schema says what the fields are, in its order, and of those that a record
/// has more [`Drift::Ignore`] leaves out; else a record has as many as most of the object's first.
///
/// A record with more or fewer fields than that, with a field that does not fit its
/// column, a stray quote, that is not UTF-8 or too long is rejected with object, line and byte.
/// A header with a stray quote, or too long, fails its object: it would misname all columns.
/// Names that end in `.gz` or `.zst` are decompressed. The position of an item is the byte at
/// which its record begins in the (decompressed) object.
///
/// Batches are bounded by bytes of text first: by default they hold up to 1 MiB or 16,384
/// rows, more than 1,024. A limit below 1,024 items is kept to.
///
/// # Examples
///
/// ```
/// use nvisy_plugin_object::{ColumnType, Csv};
///
/// let sales = Csv::prefix("sales/2024-").delimiter(';');
/// let typed = Csv::path("zips.csv").column("zip", ColumnType::Text).column("city", ColumnType::Text);
/// # let _ = (sales, typed);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Csv {
    /// The one object to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What the keys of the objects to read begin with. Default nothing: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Which objects below the prefix's directory to read, as `**/*.csv`. Default those that
    /// end in `.csv` or `.tsv`, compressed or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// Whether the object, or the directory of the prefix, may be missing: there is nothing to read
    /// then. Default no: it is an error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_missing: bool,
    /// What stands between fields. Default a tab in objects that end in `.tsv`, else a comma.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<char>,
    /// What stands around fields that hold delimiters. Default `"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quote: Option<char>,
    /// Whether the first record names the columns. Default yes; else they are `column_1` and
    /// so on, or those of the given schema in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<bool>,
    /// The columns. Default inferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Vec<SchemaColumn>>,
    /// How many records the schema is inferred from. Default 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<usize>,
    /// What becomes of an object with a column that the schema lacks and, where there is no header, of
    /// a record with more fields than it has columns. Default `reject`. One with fewer fields is always
    /// rejected: it may be torn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// How many bytes a record may have. Default 16 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_record: Option<usize>,
}

selects!(Csv, &[".csv", ".tsv"]);

impl Csv {
    /// Sets what stands between fields.
    #[must_use]
    pub fn delimiter(mut self, delimiter: char) -> Self {
        self.delimiter = Some(delimiter);
        self
    }

    /// Sets what stands around fields that hold delimiters.
    #[must_use]
    pub fn quote(mut self, quote: char) -> Self {
        self.quote = Some(quote);
        self
    }

    /// Sets whether the first record names the columns.
    #[must_use]
    pub fn header(mut self, header: bool) -> Self {
        self.header = Some(header);
        self
    }

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

    /// Sets what becomes of an object with a column that the schema lacks: see [`drift`](Self#structfield.drift).
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

    fn dialect(&self, key: &str) -> Dialect {
        let tabs = Compression::strip(key).to_ascii_lowercase().ends_with(".tsv");
        let delimiter = self.delimiter.unwrap_or(if tabs { '\t' } else { ',' });
        // Both were checked to be ASCII.
        Dialect { delimiter: delimiter as u8, quote: self.quote.unwrap_or('"') as u8 }
    }
}

impl Source for Csv {
    const NAME: &'static str = "object/csv";
    type Output = Row;
    type Client = ObjectClient;

    fn identity(&self, client: &ObjectClient) -> SourceIdentity {
        client.identity().clone()
    }

    fn validate(&self) -> Vec<Problem> {
        let mut problems = self.selection_problems();
        problems.extend(rows::problems(self.schema.as_deref(), self.sample, self.max_record));
        for (name, char) in [("delimiter", self.delimiter), ("quote", self.quote)] {
            if char.is_some_and(|char| !char.is_ascii() || char == '\n' || char == '\r') {
                let problem = Problem::new(name, format!("`{name}` is no single ASCII character"));
                problems.push(problem.with_help("take a comma, a semicolon, a tab, a pipe"));
            }
        }
        if self.delimiter.is_some_and(|delimiter| delimiter == self.quote.unwrap_or('"')) {
            problems.push(Problem::new("delimiter", "delimiter and quote are the same character"));
        }
        problems
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

impl TextFormat for Csv {
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

    fn split(&self, key: &str) -> Box<dyn Split> {
        Box::new(Quotes::new(self.dialect(key)))
    }

    fn sample(&self, key: &str, mut blocks: Vec<Block>, columns: &mut Shape, most: usize) -> usize {
        let dialect = self.dialect(key);
        let names = blocks.iter_mut().find_map(|block| self.names(key, dialect, block).transpose());
        // An object without a header fails where it is read.
        let Some(Ok(names)) = names else { return 0 };
        let mut shapes = vec![Shape::Null; names.len()];
        let mut fields = Fields::default();
        let mut seen = 0;
        'sample: for block in &blocks {
            let mut scanner = dialect.scan(&block.text);
            while let Some(record) = scanner.record(&mut fields) {
                if seen == most {
                    break 'sample;
                }
                if record.fault.is_none() && fields.list.len() == names.len() {
                    for (shape, field) in shapes.iter_mut().zip(&fields.list) {
                        shape.widen(Shape::of_text(&dialect.value(&block.text, field)));
                    }
                    seen += 1;
                }
            }
        }
        columns.widen(Shape::Object(names.into_iter().zip(shapes).collect()));
        seen
    }

    fn decoder(&self, key: &str, schema: SchemaRef, first: &mut Block) -> Result<Option<Arc<dyn Decode>>> {
        let dialect = self.dialect(key);
        let Some(names) = self.names(key, dialect, first)? else { return Ok(None) };
        let mut places = Vec::with_capacity(names.len());
        let drift = self.drift.unwrap_or_default();
        for name in &names {
            let place = schema.index_of(name).ok();
            if place.is_none() && drift == Drift::Reject {
                let remedy = "give a schema with it, raise `sample`, or set `drift` to \"ignore\"";
                return Err(broken(key, format_args!("the schema has no column `{name}`: {remedy}")));
            }
            places.push(place);
        }
        Ok(Some(Arc::new(CsvDecoder {
            key: key.to_owned(),
            schema,
            dialect,
            names,
            width: self.width(),
            takes_more: self.has_order() && drift == Drift::Ignore,
            places,
            max_record: self.max_record(),
        })))
    }
}

struct CsvDecoder {
    key: String,
    schema: SchemaRef,
    dialect: Dialect,
    names: Vec<String>,
    /// What says how many fields a record has.
    width: &'static str,
    /// Whether a record may have more.
    takes_more: bool,
    /// Which column of the schema each field is.
    places: Vec<Option<usize>>,
    max_record: usize,
}

impl CsvDecoder {
    fn columns(&self) -> Result<Vec<Column>> {
        self.schema.fields().iter().map(|field| Column::new(field.data_type())).collect()
    }

    fn finish(&self, columns: &mut [Column], rows: usize) -> Result<RecordBatch> {
        let wrong = |error| Error::internal("decoded CSV makes no batch").with_source(error);
        for column in columns.iter_mut() {
            // A column that the object does not have.
            while column.len() < rows {
                column.push_null();
            }
        }
        let arrays = columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(wrong)
    }

    /// Adds the fields of a record. If one does not fit, says at which byte and why; what was
    /// added is to be taken back.
    fn push(&self, text: &[u8], fields: &Fields, columns: &mut [Column]) -> Result<(), (usize, String)> {
        let (have, want) = (fields.list.len(), self.places.len());
        if have < want || have > want && !self.takes_more {
            let first = fields.list.first().map_or(0, |field| field.start as usize);
            return Err((first, format!("the record has {have} fields, {} {want}", self.width)));
        }
        for (at, (field, place)) in fields.list.iter().zip(&self.places).enumerate() {
            let Some(column) = place.and_then(|place| columns.get_mut(place)) else { continue };
            let raw = &text[field.start as usize..field.end as usize];
            if raw.is_empty() && !(field.quoted && matches!(column.values, Values::Text { .. })) {
                column.push_null();
                continue;
            }
            let fits = if field.escaped {
                column.parse(&self.dialect.value(text, field))
            } else {
                column.parse(raw)
            };
            if !fits {
                let (name, expected) = (&self.names[at], column.type_name());
                let message = format!("column `{name}`: this is no {expected}");
                return Err((field.start as usize, message));
            }
        }
        Ok(())
    }
}

impl Decode for CsvDecoder {
    fn decode(&self, block: &Block, records: &mut Records) -> Result<()> {
        let mut columns = self.columns()?;
        let text = &block.text[..];
        let valid = std::str::from_utf8(text).is_ok();
        let mut fields = Fields::default();
        let mut scanner = self.dialect.scan(text);
        let mut rows = 0;
        while let Some(record) = scanner.record(&mut fields) {
            let span = record.start..record.end;
            let offset = block.offset + record.start as u64;
            if records.is_past(offset) {
                continue;
            }
            let result = if let Some((at, message)) = record.fault {
                Err((at, message.to_owned()))
            } else if span.len() > self.max_record {
                Err((
                    record.start,
                    format!("the record is longer than {} bytes: raise `max_record`", self.max_record),
                ))
            } else {
                match if valid { Ok("") } else { std::str::from_utf8(&text[span.clone()]) } {
                    Ok(_) => self.push(text, &fields, &mut columns),
                    Err(error) => {
                        Err((record.start + error.valid_up_to(), "the text is not UTF-8".to_owned()))
                    }
                }
            };
            let full = match result {
                Ok(()) => {
                    rows += 1;
                    let full = records.good(offset, record.end - record.start);
                    if let Some(times) = records.forecast(text.len() - record.next).filter(|_| !full) {
                        columns.iter_mut().for_each(|column| column.grow(times));
                    }
                    full
                }
                Err((at, message)) => {
                    columns.iter_mut().for_each(|column| column.truncate(rows));
                    records.bad(&self.key, block, span, (at - record.start, &message))
                }
            };
            if full {
                records.chunk(self.finish(&mut columns, rows)?);
                rows = 0;
                if records.stops_at(record.next) {
                    break;
                }
            }
        }
        records.chunk(self.finish(&mut columns, rows)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_characters_are_refused() {
        use nvisy_core::Source as _;
        assert_eq!(Csv::all().delimiter('→').quote('\n').validate().len(), 2);
        assert_eq!(Csv::all().delimiter('"').validate().len(), 1);
    }
}
