//! What was set aside: an item in full, why, where and when.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use chrono::{DateTime, SecondsFormat};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, ErrorReport, Result};
use crate::metadata::{Timestamp, Tried};
use crate::primitive::raw::Raw;
use crate::primitive::row::{Cell, Row};
use crate::primitive::{Payload, Primitive};

/// An item that was set aside, with what is needed to understand it and to try again.
///
/// On a dead-letter port it travels as a `raw` JSON payload under the item's own id, so that
/// any sink takes it; [`to_row`](Self::to_row) is for those that take rows alone.
/// [`from_primitive`](Self::from_primitive) reads back both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The item as it was when it failed.
    pub primitive: Primitive,
    /// Why, with the detail that reports and logs leave out.
    pub error: ErrorReport,
    /// The node that it failed at.
    pub node: Arc<str>,
    /// How often that node tried, in the runs before too if it was [replayed](Self::replay).
    pub attempts: u32,
    /// When it was set aside.
    pub time: Timestamp,
    /// Where it stands in its source, for people.
    pub position: Option<String>,
}

impl DeadLetter {
    /// Puts an item aside.
    #[must_use]
    pub fn new(primitive: Primitive, error: &Error, node: Arc<str>, attempts: u32, time: Timestamp) -> Self {
        let position = primitive.root().map(|root| format!("{} at {}", root.source.name(), root.position));
        let error = ErrorReport { detail: error.detail().map(str::to_owned), ..error.to_report() };
        let tried = &primitive.metadata().tried;
        let before = if tried.node.as_ref() == Some(&node) { tried.attempts } else { 0 };
        let attempts = before.saturating_add(attempts);
        Self { primitive, error, node, attempts, time, position }
    }

    /// Returns the item as it was, to be tried again: same id, envelope and lineage. Should it
    /// fail at the same node again, the attempts add up.
    #[must_use]
    pub fn replay(self) -> Primitive {
        let tried = Tried { node: Some(self.node), attempts: self.attempts };
        self.primitive.edit_metadata(|metadata| metadata.tried = tried)
    }

    /// Returns the primitive that travels on a dead-letter port.
    ///
    /// # Errors
    ///
    /// `internal` if the item does not serialize.
    pub fn to_primitive(&self) -> Result<Primitive> {
        let json = serde_json::to_value(self).map_err(unwritable)?;
        Ok(self.primitive.clone().with_payload(Raw::Json(json)))
    }

    /// Returns it as a row, for sinks that take nothing else: `node`, `tag` (the error's),
    /// `attempts`, `time`, `position`, and `error` and `primitive` as JSON text.
    ///
    /// # Errors
    ///
    /// `internal` if the item does not serialize.
    pub fn to_row(&self) -> Result<Row> {
        let columns: [(&str, ArrayRef); 7] = [
            ("node", text(Some(&self.node))),
            ("tag", text(Some(&self.error.tag))),
            ("attempts", Arc::new(Int64Array::from(vec![i64::from(self.attempts)]))),
            ("time", text(Some(&self.time.to_rfc3339_opts(SecondsFormat::AutoSi, true)))),
            ("position", text(self.position.as_deref())),
            ("error", text(Some(&serde_json::to_string(&self.error).map_err(unwritable)?))),
            ("primitive", text(Some(&serde_json::to_string(&self.primitive).map_err(unwritable)?))),
        ];
        let columns = columns.into_iter().map(|(name, column)| (name, column, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).map_err(unwritable)?;
        Row::new(Arc::new(batch), 0)
    }

    /// Reads a dead letter from what travelled on a dead-letter port, or from a row.
    ///
    /// Of a row, the columns `primitive` and `error` are JSON text: as [`to_row`](Self::to_row)
    /// has them, and as a source reads them that is told to take those columns for text. A row
    /// whose columns were inferred is refused, for it no longer tells what the item held.
    ///
    /// # Errors
    ///
    /// `validation` if it is none.
    pub fn from_primitive(primitive: &Primitive) -> Result<Self> {
        let letter = match primitive.payload() {
            Payload::Raw(raw) => match &**raw {
                Raw::Json(json) => serde_json::from_value(json.clone())
                    .map_err(|e| not("its JSON is not that of one").with_detail(e)),
                Raw::Bytes(_) => Err(not("it is bytes")),
            },
            Payload::Row(row) => Self::from_row(row),
            other => Err(not(&format!("it is a {}", other.kind()))),
        };
        letter.map_err(|error| error.at_item(primitive.id()))
    }

    fn from_row(row: &Row) -> Result<Self> {
        fn json<T: DeserializeOwned>(row: &Row, name: &str) -> Result<T> {
            serde_json::from_str(required(row, name)?)
                .map_err(|e| not(&format!("column `{name}` is not as one has it")).with_detail(e))
        }
        let attempts = match row.get("attempts") {
            Some(Cell::Text(attempts)) => attempts.parse().ok(),
            attempts => attempts.and_then(|attempts| attempts.as_u64()).and_then(|n| u32::try_from(n).ok()),
        };
        let time = match row.get("time") {
            Some(Cell::Text(time)) => DateTime::parse_from_rfc3339(time).ok().map(|time| time.to_utc()),
            time => time.and_then(|time| time.as_timestamp()),
        };
        Ok(Self {
            primitive: json(row, "primitive")?,
            error: json(row, "error")?,
            node: required(row, "node")?.into(),
            attempts: attempts.ok_or_else(|| not("column `attempts` is no count"))?,
            time: time.ok_or_else(|| not("column `time` is no moment"))?,
            position: row.get_str("position").map(str::to_owned),
        })
    }
}

fn text(value: Option<&str>) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

fn required<'a>(row: &'a Row, name: &str) -> Result<&'a str> {
    row.get_str(name).ok_or_else(|| {
        not(&format!(
            "column `{name}` is missing or no text: have the source read it as text, as with `schema`"
        ))
    })
}

fn not(why: &str) -> Error {
    Error::new(ErrorKind::Validation, format!("the item is no dead letter: {why}"))
}

fn unwritable(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("a dead letter does not serialize").with_source(error)
}
