//! Rows, of what has fields: all of a batch in one record batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, ListArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Schema};
use nvisy_core::error::{Error, Result};
use nvisy_core::primitive::completion::Completion;
use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::embedding::Embedding;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::row::Row;
use nvisy_core::primitive::{KindId, Payload};
use serde_json::{Map, Value};

use super::{impossible, object_of};

/// Makes a row of each payload; those of one kind share a record batch.
pub(super) fn of(payloads: impl Iterator<Item = Payload>) -> Vec<Result<Payload>> {
    let payloads: Vec<Payload> = payloads.collect();
    let mut results: Vec<Option<Result<Payload>>> = payloads.iter().map(|_| None).collect();
    let (mut documents, mut embeddings, mut completions, mut objects) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (index, payload) in payloads.iter().enumerate() {
        match payload {
            Payload::Row(row) => results[index] = Some(Ok(Payload::Row(row.clone()))),
            Payload::Document(document) => documents.push((index, &**document)),
            Payload::Embedding(embedding) => embeddings.push((index, &**embedding)),
            Payload::Completion(completion) => completions.push((index, &**completion)),
            Payload::StructuredOutput(output) => match object_of(&output.value) {
                Ok(object) => objects.push((index, object)),
                Err(error) => results[index] = Some(Err(error)),
            },
            Payload::Raw(raw) => match &**raw {
                Raw::Json(value) => match object_of(value) {
                    Ok(object) => objects.push((index, object)),
                    Err(error) => results[index] = Some(Err(error)),
                },
                Raw::Bytes(_) => {
                    results[index] = Some(Err(Error::invalid("raw", "is bytes, which have no columns")))
                }
            },
            other => results[index] = Some(Err(impossible(other.kind(), KindId::Row))),
        }
    }
    gather(documents, document_columns, &mut results);
    gather(embeddings, embedding_columns, &mut results);
    gather(completions, completion_columns, &mut results);
    of_objects(&objects, &mut results);
    let lost = || Err(Error::internal("a payload became no row"));
    results.into_iter().map(|result| result.unwrap_or_else(lost)).collect()
}

type Results = [Option<Result<Payload>>];

fn gather<T>(
    items: Vec<(usize, &T)>,
    columns: impl Fn(&[&T]) -> Vec<(&'static str, ArrayRef)>,
    results: &mut Results,
) {
    if items.is_empty() {
        return;
    }
    let (indices, items): (Vec<_>, Vec<_>) = items.into_iter().unzip();
    let columns = columns(&items).into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns)
        .map_err(|error| Error::internal("the columns make no record batch").with_source(error));
    spread(&indices, batch, results);
}

/// Gives each item its row of the batch.
fn spread(indices: &[usize], batch: Result<RecordBatch>, results: &mut Results) {
    match batch {
        Ok(batch) => {
            let batch = Arc::new(batch);
            for (row, index) in indices.iter().enumerate() {
                results[*index] = Some(Row::new(batch.clone(), row as u32).map(Payload::Row));
            }
        }
        Err(error) => {
            for index in indices {
                results[*index] = Some(Err(error.clone()));
            }
        }
    }
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn json_texts(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn attributes(document: &Document) -> Option<String> {
    if document.attributes.is_empty() { None } else { serde_json::to_string(&document.attributes).ok() }
}

fn document_columns(documents: &[&Document]) -> Vec<(&'static str, ArrayRef)> {
    let each = || documents.iter();
    let range = |end: bool| -> ArrayRef {
        let bound =
            |d: &&Document| d.byte_range.as_ref().map(|range| if end { range.end } else { range.start });
        Arc::new(each().map(bound).collect::<UInt64Array>())
    };
    vec![
        ("text", texts(each().map(|d| Some(d.text.as_str())))),
        ("title", texts(each().map(|d| d.title.as_deref()))),
        ("language", texts(each().map(|d| d.language.as_deref()))),
        ("mime_type", texts(each().map(|d| d.mime_type.as_deref()))),
        ("source_uri", texts(each().map(|d| d.source_uri.as_deref()))),
        ("byte_start", range(false)),
        ("byte_end", range(true)),
        ("chunk", Arc::new(each().map(|d| d.chunk).collect::<UInt64Array>())),
        ("attributes", json_texts(each().map(|d| attributes(d)))),
    ]
}

fn embedding_columns(embeddings: &[&Embedding]) -> Vec<(&'static str, ArrayRef)> {
    let each = || embeddings.iter();
    let documents = || embeddings.iter().map(|e| e.document.as_deref());
    let vectors = each().map(|e| Some(e.vector.iter().map(|x| Some(*x))));
    vec![
        ("vector", Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(vectors))),
        ("dimensions", Arc::new(each().map(|e| Some(e.dimensions() as u32)).collect::<UInt32Array>())),
        ("model", texts(each().map(|e| Some(e.model.as_str())))),
        ("content_hash", texts(each().map(|e| e.content_hash.as_deref()))),
        ("text", texts(documents().map(|d| d.map(|d| d.text.as_str())))),
        ("title", texts(documents().map(|d| d.and_then(|d| d.title.as_deref())))),
        ("source_uri", texts(documents().map(|d| d.and_then(|d| d.source_uri.as_deref())))),
        ("chunk", Arc::new(documents().map(|d| d.and_then(|d| d.chunk)).collect::<UInt64Array>())),
        ("attributes", json_texts(documents().map(|d| d.and_then(attributes)))),
    ]
}

fn completion_columns(completions: &[&Completion]) -> Vec<(&'static str, ArrayRef)> {
    let each = || completions.iter();
    let finish = |c: &&Completion| match serde_json::to_value(c.finish_reason.as_ref()?).ok()? {
        Value::String(reason) => Some(reason),
        // What else a vendor says.
        Value::Object(other) => {
            other.into_iter().next().and_then(|(_, said)| said.as_str().map(str::to_owned))
        }
        _ => None,
    };
    let latency = |c: &&Completion| c.latency.map(|latency| latency.as_secs_f64() * 1e3);
    vec![
        ("answer", texts(each().map(|c| Some(c.answer.as_str())))),
        ("model", texts(each().map(|c| Some(c.model.as_str())))),
        ("finish_reason", json_texts(each().map(finish))),
        ("input_tokens", Arc::new(each().map(|c| c.usage.map(|u| u.input_tokens)).collect::<UInt64Array>())),
        (
            "output_tokens",
            Arc::new(each().map(|c| c.usage.map(|u| u.output_tokens)).collect::<UInt64Array>()),
        ),
        ("latency_ms", Arc::new(each().map(latency).collect::<Float64Array>())),
        ("cost_usd", Arc::new(each().map(|c| c.cost_usd).collect::<Float64Array>())),
    ]
}

/// JSON objects: with the columns of them all where their types agree, else each its own.
fn of_objects(objects: &[(usize, &Map<String, Value>)], results: &mut Results) {
    if objects.is_empty() {
        return;
    }
    let mut single = Vec::with_capacity(objects.len());
    for (index, object) in objects {
        match Row::from_json(object, None) {
            Ok(row) => single.push((*index, *object, row)),
            Err(error) => results[*index] = Some(Err(error)),
        }
    }
    let Some(schema) = join(single.iter().map(|(_, _, row)| row.schema())) else {
        for (index, _, row) in single {
            results[index] = Some(Ok(Payload::Row(row)));
        }
        return;
    };
    let schema = Arc::new(schema);
    let (mut indices, mut parts) = (Vec::new(), Vec::new());
    for (index, object, _) in &single {
        match Row::from_json(object, Some(schema.clone())) {
            Ok(row) => {
                indices.push(*index);
                parts.push(row.batch().slice(row.index(), 1));
            }
            Err(error) => results[*index] = Some(Err(error)),
        }
    }
    let batch = concat_batches(&schema, &parts)
        .map_err(|error| Error::internal("the rows make no record batch").with_source(error));
    spread(&indices, batch, results);
}

/// The columns of all schemas, in the order of their first occurrence; none if types differ.
fn join<'a>(schemas: impl Iterator<Item = &'a Arc<Schema>>) -> Option<Schema> {
    let mut fields: Vec<FieldRef> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for schema in schemas {
        for field in schema.fields() {
            let place = *places.entry(field.name().clone()).or_insert_with(|| {
                fields.push(field.clone());
                fields.len() - 1
            });
            let joined = join_types(fields[place].data_type(), field.data_type())?;
            if joined != *fields[place].data_type() {
                fields[place] = Arc::new(Field::new(field.name(), joined, true));
            }
        }
    }
    Some(Schema::new(fields))
}

fn join_types(left: &DataType, right: &DataType) -> Option<DataType> {
    Some(match (left, right) {
        (left, right) if left == right => left.clone(),
        (DataType::Null, other) | (other, DataType::Null) => other.clone(),
        (
            DataType::Int64 | DataType::Float64 | DataType::UInt64,
            DataType::Int64 | DataType::Float64 | DataType::UInt64,
        ) => DataType::Float64,
        (DataType::List(left), DataType::List(right)) => {
            let items = join_types(left.data_type(), right.data_type())?;
            DataType::List(Arc::new(Field::new(left.name(), items, true)))
        }
        (DataType::Struct(left), DataType::Struct(right)) => {
            let mut fields: Vec<FieldRef> = left.iter().cloned().collect();
            for field in right {
                match fields.iter_mut().find(|known| known.name() == field.name()) {
                    Some(known) => {
                        let joined = join_types(known.data_type(), field.data_type())?;
                        *known = Arc::new(Field::new(field.name(), joined, true));
                    }
                    None => fields.push(field.clone()),
                }
            }
            DataType::Struct(fields.into())
        }
        _ => return None,
    })
}
