//! JSON: an array of objects, or one object after the other.

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

use super::jsonl::{Checked, json_format, json_settings, push};
use crate::block::{Block, Split};
use crate::client::ObjectClient;
use crate::error::broken;
use crate::json::JsonColumns;
use crate::partition::partitions;
use crate::rows::{self, Decode, MAX_RECORD, Records, SAMPLE, TextFormat};
use crate::schema::{ColumnType, Drift, SchemaColumn, Shape, given};
use crate::selection::{Selection, selects};
use crate::version::versions;

/// Reads JSON: objects that hold an array of objects, or one object, or several one after the
/// other, as rows.
///
/// Schema, drift, compression and batches are those of [`Jsonl`](crate::Jsonl). The array is
/// read in a stream: only one element has to fit the limit. An element that is no object or
/// does not fit the schema is rejected; an array that does not end fails its object. The
/// position of an item is the byte at which its element begins.
///
/// # Examples
///
/// ```
/// let movies = nvisy_plugin_object::Json::path("movies.json");
/// # let _ = movies;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Json {
    /// The one object to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What the keys of the objects to read begin with. Default nothing: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Which objects below the prefix's directory to read, as `**/*.json`. Default those that
    /// end in `.json`, compressed or not.
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
    /// How many bytes an element may have. Default 16 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_record: Option<usize>,
}

selects!(Json, &[".json"]);
json_settings!(Json);

impl Source for Json {
    const NAME: &'static str = "object/json";
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

impl TextFormat for Json {
    json_format!();

    fn split(&self, _: &str) -> Box<dyn Split> {
        Box::new(Elements::start())
    }

    fn sample(&self, _: &str, blocks: Vec<Block>, columns: &mut Shape, most: usize) -> usize {
        let mut scanner = Elements::start();
        let mut seen = 0;
        for block in blocks {
            scanner.array = scanner.array.or(block.array);
            let mut at = 0;
            while let Some(span) = scanner.element(&block.text, &mut at) {
                if seen == most {
                    return seen;
                }
                if let Ok(shape @ Shape::Object(_)) = serde_json::from_slice(&block.text[span]) {
                    columns.widen(shape);
                    seen += 1;
                }
            }
        }
        seen
    }

    fn decoder(&self, key: &str, schema: SchemaRef, first: &mut Block) -> Result<Option<Arc<dyn Decode>>> {
        if first.oversize.is_some() {
            return Ok(None);
        }
        let start = first.text.iter().position(|byte| !byte.is_ascii_whitespace());
        let array = match (first.array, start) {
            // The array's bracket stood before a record that was too long.
            (Some(array), _) => array,
            (None, Some(start)) if first.text[start] == b'[' => {
                first.advance(start + 1);
                true
            }
            (None, _) => false,
        };
        let (drift, max_record) = (self.drift.unwrap_or_default(), self.max_record());
        Ok(Some(Arc::new(ElementDecoder { key: key.to_owned(), schema, drift, max_record, array })))
    }
}

/// Finds the elements of an array, or the values that stand one after the other.
#[derive(Clone, Debug)]
struct Elements {
    place: Place,
    /// Whether the values are an array's elements, once that is known.
    array: Option<bool>,
    /// How many brackets are open within the element.
    depth: u32,
    /// Whether no element has ended yet.
    first: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Between elements.
    Between,
    /// In an object or list, outside a string.
    Within,
    /// In a string within an object or list, or in one that is an element.
    Text,
    /// Behind a backslash.
    Escape,
    /// In a number or word that is an element.
    Word,
    /// Behind the array.
    End,
}

impl Elements {
    fn start() -> Self {
        Self { place: Place::Between, array: None, depth: 0, first: true }
    }

    fn within(array: bool) -> Self {
        Self { array: Some(array), first: false, ..Self::start() }
    }

    /// Passes one byte. Returns whether an element ends before it or with it.
    #[inline]
    fn step(&mut self, byte: u8) -> Option<Step> {
        match self.place {
            Place::Text => match byte {
                b'"' if self.depth == 0 => {
                    self.place = Place::Between;
                    return Some(Step::EndsWith);
                }
                b'"' => self.place = Place::Within,
                b'\\' => self.place = Place::Escape,
                _ => {}
            },
            Place::Escape => self.place = Place::Text,
            Place::Within => match byte {
                b'"' => self.place = Place::Text,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.place = Place::Between;
                        return Some(Step::EndsWith);
                    }
                }
                _ => {}
            },
            Place::Word => match byte {
                b',' | b' ' | b'\t' | b'\r' | b'\n' => {
                    self.place = Place::Between;
                    return Some(Step::EndsBefore);
                }
                b']' if self.array == Some(true) => {
                    self.place = Place::End;
                    return Some(Step::EndsBefore);
                }
                _ => {}
            },
            Place::Between => match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b',' => {}
                b'[' if self.array.is_none() => self.array = Some(true),
                b']' if self.array == Some(true) => self.place = Place::End,
                byte => {
                    self.array.get_or_insert(false);
                    (self.place, self.depth) = match byte {
                        b'{' | b'[' => (Place::Within, 1),
                        b'"' => (Place::Text, 0),
                        _ => (Place::Word, 0),
                    };
                    return Some(Step::Begins);
                }
            },
            Place::End => {
                if !byte.is_ascii_whitespace() {
                    return Some(Step::Begins);
                }
            }
        }
        None
    }

    /// Returns the next whole element from `at` on, and moves behind it.
    fn element(&mut self, text: &[u8], at: &mut usize) -> Option<std::ops::Range<usize>> {
        let mut begin = *at;
        while let Some(byte) = text.get(*at) {
            let step = self.step(*byte);
            *at += 1;
            match step {
                Some(Step::Begins) => begin = *at - 1,
                Some(Step::EndsBefore) => return Some(begin..*at - 1),
                Some(Step::EndsWith) => return Some(begin..*at),
                None => {}
            }
        }
        None
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Begins,
    EndsBefore,
    EndsWith,
}

impl Split for Elements {
    fn feed(&mut self, piece: &[u8]) -> Option<(usize, usize)> {
        let mut ends: Option<(usize, usize)> = None;
        for (at, byte) in piece.iter().enumerate() {
            let end = match self.step(*byte) {
                Some(Step::EndsWith) => at + 1,
                Some(Step::EndsBefore) => at,
                _ => continue,
            };
            self.first = false;
            ends = Some((ends.map_or(end, |(first, _)| first), end));
        }
        ends
    }

    fn array(&self) -> Option<bool> {
        self.array.map(|array| array && self.place != Place::End)
    }

    fn lead(&self, text: &[u8]) -> usize {
        let between = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
        let lead = text.iter().take_while(|byte| between(byte)).count();
        // The array's own bracket stands before its first element.
        match text.get(lead) {
            Some(b'[') if self.array == Some(true) && self.first => {
                lead + 1 + text[lead + 1..].iter().take_while(|byte| between(byte)).count()
            }
            _ => lead,
        }
    }

    fn restart(&mut self) {
        // The rest of the element is over; what follows was not seen yet.
        *self = Self::within(self.array.unwrap_or(false));
    }
}

struct ElementDecoder {
    key: String,
    schema: SchemaRef,
    drift: Drift,
    max_record: usize,
    array: bool,
}

impl Decode for ElementDecoder {
    fn decode(&self, block: &Block, records: &mut Records) -> Result<()> {
        let mut columns = JsonColumns::new(self.schema.clone(), self.drift)?;
        let mut text = Checked::new(&block.text);
        let mut scanner = Elements::within(self.array);
        let (mut at, mut end) = (0, 0);
        while let Some(span) = scanner.element(&block.text, &mut at) {
            end = span.end;
            push(&self.key, block, &mut text, span, self.max_record, &mut columns, records)?;
            if scanner.place == Place::End {
                break;
            }
            if records.stops_at(at) {
                records.chunk(columns.finish()?);
                return Ok(());
            }
        }
        let rest = block.text[end..].trim_ascii();
        let (fault, whole) = match scanner.place {
            Place::Between => ("the array does not end: it is cut off", !self.array),
            Place::End => {
                let behind = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii();
                ("there is something behind the array", behind.is_empty() || behind == b"]")
            }
            _ => ("its last value does not end: it is cut off", false),
        };
        records.chunk(columns.finish()?);
        if block.last && !whole {
            let place = block.offset + block.text.len() as u64;
            records.fail(broken(&self.key, format_args!("{fault} at byte {place}")));
        }
        Ok(())
    }
}
