//! What a memory source reads, in one of the layouts of a batch.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::primitive::audio::Audio;
use crate::primitive::completion::Completion;
use crate::primitive::custom::Custom;
use crate::primitive::document::Document;
use crate::primitive::embedding::Embedding;
use crate::primitive::fine_tune_sample::FineTuneSample;
use crate::primitive::graph::Graph;
use crate::primitive::image::Image;
use crate::primitive::message::Message;
use crate::primitive::object::Object;
use crate::primitive::raw::Raw;
use crate::primitive::row::Row;
use crate::primitive::structured_output::StructuredOutput;
use crate::primitive::tool_call_trace::ToolCallTrace;
use crate::primitive::{Kind, KindId, Kinds, Payload};

/// What a memory source reads. Cheap to clone.
#[derive(Clone)]
pub(super) enum Input {
    /// Payloads, or what could not be made one.
    Items(Arc<[Result<Payload, Malformed>]>),
    /// Rows.
    Rows(Arc<RecordBatch>),
}

/// JSON that is not what it was said to be.
#[derive(Clone)]
pub(super) struct Malformed {
    pub(super) json: Value,
    pub(super) error: Error,
}

impl Default for Input {
    fn default() -> Self {
        Self::Items(Arc::from([]))
    }
}

impl Input {
    pub(super) fn items(payloads: Vec<Payload>) -> Self {
        Self::Items(payloads.into_iter().map(Ok).collect())
    }

    /// Reads items of a kind from JSON.
    pub(super) fn parse(items: &[Value], kind: KindId) -> Self {
        if kind == KindId::Row
            && let Ok(rows) = rows_of(items)
        {
            return Self::Rows(Arc::new(rows));
        }
        let read =
            |item: &Value| payload(item, kind).map_err(|error| Malformed { json: item.clone(), error });
        Self::Items(items.iter().map(read).collect())
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Items(items) => items.len(),
            Self::Rows(rows) => rows.num_rows(),
        }
    }

    pub(super) fn kinds(&self) -> Kinds {
        match self {
            Self::Items(items) => items.iter().flatten().map(Payload::kind).collect(),
            Self::Rows(_) => Kinds::of(KindId::Row),
        }
    }

    pub(super) fn payload(&self, index: usize) -> Option<Payload> {
        match self {
            Self::Items(items) => items.get(index)?.as_ref().ok().cloned(),
            Self::Rows(rows) => Row::new(rows.clone(), index as u32).ok().map(Payload::Row),
        }
    }

    /// About how many bytes an item holds.
    pub(super) fn size(&self, index: usize) -> usize {
        match self {
            Self::Items(items) => items.get(index).map_or(0, |item| item.as_ref().map_or(0, Payload::size)),
            Self::Rows(rows) => {
                let size = |column: &Arc<dyn Array>| column.to_data().get_slice_memory_size().unwrap_or(0);
                rows.columns().iter().map(size).sum::<usize>() / rows.num_rows().max(1)
            }
        }
    }

    /// Returns the rows at `indices`: a slice where they are consecutive.
    pub(super) fn rows(rows: &RecordBatch, indices: &[usize]) -> Result<RecordBatch> {
        match indices {
            [first, .., last] if last - first + 1 == indices.len() => Ok(rows.slice(*first, indices.len())),
            _ => {
                let indices: UInt32Array = indices.iter().map(|index| *index as u32).collect();
                take_record_batch(rows, &indices)
                    .map_err(|e| Error::internal("rows cannot be taken").with_source(e))
            }
        }
    }
}

fn payload(item: &Value, kind: KindId) -> Result<Payload> {
    match kind {
        KindId::Raw => Ok(Raw::Json(item.clone()).into_payload()),
        KindId::Document => match item {
            Value::String(text) => Ok(Document::new(text.as_str())?.into_payload()),
            fields => read::<Document>(fields, kind),
        },
        KindId::Row => match item {
            Value::Object(object) => Ok(Payload::Row(Row::from_json(object, None)?)),
            other => Err(Error::invalid("row", format!("expected an object, found {other}"))),
        },
        KindId::Object => read::<Object>(item, kind),
        KindId::Message => read::<Message>(item, kind),
        KindId::Graph => read::<Graph>(item, kind),
        KindId::Embedding => read::<Embedding>(item, kind),
        KindId::Completion => read::<Completion>(item, kind),
        KindId::StructuredOutput => read::<StructuredOutput>(item, kind),
        KindId::ToolCallTrace => read::<ToolCallTrace>(item, kind),
        KindId::Image => read::<Image>(item, kind),
        KindId::Audio => read::<Audio>(item, kind),
        KindId::FineTuneSample => read::<FineTuneSample>(item, kind),
        KindId::Custom => read::<Custom>(item, kind),
    }
}

fn read<K: Kind + DeserializeOwned>(item: &Value, kind: KindId) -> Result<Payload> {
    let read: Result<K, _> = serde_json::from_value(item.clone());
    Ok(read.map_err(|error| Error::invalid(kind.name(), error))?.into_payload())
}

/// Reads all items as rows of one schema, which they show together.
pub(crate) fn rows_of(items: &[Value]) -> Result<RecordBatch> {
    let not = || Error::invalid("row", "the items are not objects of one shape");
    if items.is_empty() || !items.iter().all(Value::is_object) {
        return Err(not());
    }
    // One row with a list of them: the reader of rows finds the columns that they share.
    let all = json!({ "rows": items });
    let list = Row::from_json(all.as_object().ok_or_else(not)?, None)?;
    let structs = list.batch().column(0).as_list_opt::<i32>().ok_or_else(not)?.value(0);
    let structs = structs.as_struct_opt().ok_or_else(not)?;
    if structs.null_count() > 0 { Err(not()) } else { Ok(RecordBatch::from(structs)) }
}
