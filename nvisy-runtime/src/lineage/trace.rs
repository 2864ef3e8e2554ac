//! One way from a source item to what a sink has written.

use std::fmt;
use std::ops::Range;

use nvisy_core::lineage::{Inputs, Record};
use nvisy_core::{Error, ErrorKind, Position, PrimitiveId, Result, RunId};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Subject;
use super::scan::Found;

/// One way from a source item to what a sink has written: as much of it as is known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trace {
    /// The id of what was written.
    pub id: PrimitiveId,
    /// The id of the source item.
    pub root: PrimitiveId,
    /// The source's identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The object in it, where the source reads objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Where in that: the offset of a byte, the number of a row, or a count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The item's position in the source, where that is something else: a key, a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// Which bytes of the source document it is, where it was cut from one. Of a document that is
    /// a file these are the file's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub byte_range: Option<Range<u64>>,
    /// The how many-th piece of it, from zero.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<u64>,
    /// What was done, from the source on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Hop>,
    /// The node that wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// Its graph.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graph: Option<String>,
    /// Its run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

/// What one node did on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// The node's name.
    pub node: String,
    /// The name of its type.
    pub operation: String,
}

impl Trace {
    pub(super) fn from_log(found: &Found<'_>) -> Self {
        let steps: Vec<[String; 2]> = serde_json::from_str(found.steps).unwrap_or_default();
        let position = found.position.map(|json| match serde_json::from_str::<Position>(json) {
            Ok(position) => position.to_string(),
            Err(_) => json.to_owned(),
        });
        Self {
            id: found.id,
            root: found.root.unwrap_or(found.id),
            source: Some(found.source.to_owned()),
            object: found.object.map(str::to_owned),
            offset: found.offset,
            position,
            byte_range: found.byte_range.clone(),
            chunk: found.chunk,
            steps: steps.into_iter().map(|[node, operation]| Hop { node, operation }).collect(),
            sink: Some(found.sink.to_owned()),
            graph: Some(found.graph.to_owned()),
            run: Some(found.run),
        }
    }

    /// Returns what the fields say that sinks write beside an item, without any log.
    ///
    /// | field | says |
    /// |---|---|
    /// | `nvisy.id`, `nvisy_id`, `id` | the item's id |
    /// | `nvisy.root`, `nvisy_root` | the source item's |
    /// | `nvisy.source`, `nvisy.position` | where that is |
    /// | `nvisy.run`, `nvisy_run` | the run |
    /// | `nvisy_lineage` | the records of the lineage: source, position, nodes |
    /// | `byte_start`, `byte_end`, `byte_range`, `chunk` | which part of it |
    ///
    /// `object/jsonl` writes the first form where its `lineage` is set, `sql/sqlite` columns of
    /// the second, and `vector/sqlite` has the last rows in its table of points.
    ///
    /// # Errors
    ///
    /// `validation` if there is no id, or one of the fields cannot be read.
    ///
    /// # Examples
    ///
    /// ```
    /// use nvisy_runtime::lineage::Trace;
    /// use serde_json::json;
    ///
    /// # fn main() -> nvisy_runtime::nvisy_core::Result<()> {
    /// let line = json!({
    ///     "title": "The lights are out",
    ///     "nvisy.id": "54c507e2-d35b-829c-9fe1-3b3024beee4e",
    ///     "nvisy.root": "3baf5d72-72b5-84de-8e5e-22c86faf26f5",
    ///     "nvisy.source": "file:///tickets",
    ///     "nvisy.position": "march.jsonl:1042",
    /// });
    /// let trace = Trace::from_fields(line.as_object().unwrap())?;
    /// assert_eq!((trace.object.as_deref(), trace.offset), (Some("march.jsonl"), Some(1042)));
    /// assert!(trace.comes_from(&"march.jsonl".into()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_fields(fields: &Map<String, Value>) -> Result<Self> {
        let text = |names: &[&str]| names.iter().find_map(|name| fields.get(*name)?.as_str());
        let number = |name: &str| fields.get(name).and_then(Value::as_u64);
        let Some(id) = text(&["nvisy.id", "nvisy_id", "id"]) else {
            let message = "no field says the item's id: expected `nvisy.id`, `nvisy_id` or `id`";
            return Err(Error::new(ErrorKind::Validation, message));
        };
        let id: PrimitiveId = id.parse()?;
        let root = text(&["nvisy.root", "nvisy_root"]).map(str::parse).transpose()?;
        let range = fields
            .get("byte_range")
            .and_then(|range| Some(range.get("start")?.as_u64()?..range.get("end")?.as_u64()?));
        let mut trace = Self {
            id,
            root: root.unwrap_or(id),
            source: text(&["nvisy.source"]).map(str::to_owned),
            object: None,
            offset: None,
            position: None,
            byte_range: range.or(number("byte_start").zip(number("byte_end")).map(|(start, end)| start..end)),
            chunk: number("chunk"),
            steps: Vec::new(),
            sink: None,
            graph: None,
            run: text(&["nvisy.run", "nvisy_run"]).map(str::parse).transpose()?,
        };
        match text(&["nvisy.position"]) {
            None => {}
            Some(position) => match (position.parse(), position.rsplit_once(':')) {
                (Ok(offset), _) => trace.offset = Some(offset),
                (_, Some((object, offset))) if offset.parse::<u64>().is_ok() => {
                    trace.object = Some(object.to_owned());
                    trace.offset = offset.parse().ok();
                }
                _ => trace.position = Some(position.to_owned()),
            },
        }
        if let Some(lineage) = fields.get("nvisy_lineage").or_else(|| fields.get("nvisy.lineage")) {
            trace.add(records(lineage)?);
        }
        Ok(trace)
    }

    /// Adds what the records of a lineage say.
    fn add(&mut self, records: Vec<Record>) {
        for record in records {
            let (node, operation) = (record.node.to_string(), record.operation.to_string());
            self.steps.push(Hop { node, operation });
            let Inputs::Source { source, position, .. } = record.inputs else { continue };
            // Copied from store to store, an item has several sources: the first is the root's.
            if self.source.is_some() {
                continue;
            }
            self.source = Some(source.to_string());
            match position {
                Position::Marker { object, offset } => {
                    self.object = Some(object.to_string());
                    self.offset = Some(offset);
                }
                Position::Offset(offset) => self.offset = Some(offset),
                other => self.position = Some(other.to_string()),
            }
        }
    }

    /// Returns whether it was made of this.
    #[must_use]
    pub fn comes_from(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Item(id) => self.root == *id,
            Subject::Object(object) => self.object.as_deref() == Some(object),
        }
    }

    /// Returns whether both tell of the same source item, item and sink, of whatever run.
    pub(super) fn is_the_way_of(&self, other: &Self) -> bool {
        (self.id, self.root, &self.sink, &self.graph, &self.steps)
            == (other.id, other.root, &other.sink, &other.graph, &other.steps)
    }
}

fn records(lineage: &Value) -> Result<Vec<Record>> {
    let read = match lineage {
        Value::String(text) => serde_json::from_str(text),
        other => serde_json::from_value(other.clone()),
    };
    read.map_err(|error| Error::invalid("nvisy_lineage", "is no list of records").with_source(error))
}

/// Three lines for people.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        if let Some(sink) = &self.sink {
            write!(f, " written by \"{sink}\"")?;
        }
        if let Some(graph) = &self.graph {
            write!(f, " of \"{graph}\"")?;
        }
        if let Some(run) = &self.run {
            write!(f, " in run {run}")?;
        }
        write!(f, "\n  from ")?;
        match (&self.object, self.offset, &self.position) {
            (Some(object), Some(offset), _) => write!(f, "{object}:{offset}")?,
            (None, Some(offset), _) => write!(f, "item {offset}")?,
            (_, None, Some(position)) => write!(f, "{position}")?,
            (_, None, None) => write!(f, "its source item")?,
        }
        if let Some(source) = &self.source {
            write!(f, " of {source}")?;
        }
        if let Some(range) = &self.byte_range {
            write!(f, ", bytes {}..{}", range.start, range.end)?;
        }
        if let Some(chunk) = self.chunk {
            write!(f, ", chunk {chunk}")?;
        }
        if self.root != self.id {
            write!(f, ", source item {}", self.root)?;
        }
        if !self.steps.is_empty() {
            let steps: Vec<String> =
                self.steps.iter().map(|hop| format!("{} ({})", hop.node, hop.operation)).collect();
            write!(f, "\n  {}", steps.join(" → "))?;
        }
        Ok(())
    }
}
