//! The fields of documents, embeddings, objects and envelopes.

use std::rc::Rc;

use nvisy_core::Metadata;
use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::embedding::{Embedding, Metric};
use nvisy_core::primitive::object::Object;

use super::{List, Map, Octets, Val};

pub(super) fn document_field<'a>(document: &'a Document, name: &str) -> Option<Val<'a>> {
    Some(match name {
        "text" => Val::of_text(&document.text),
        "title" => Val::optional(document.title.as_ref()),
        "language" => Val::optional(document.language.as_ref()),
        "mime_type" => Val::optional(document.mime_type.as_ref()),
        "source_uri" => Val::optional(document.source_uri.as_ref()),
        "byte_range" => document.byte_range.as_ref().map_or(Val::Null, |range| {
            let bound = |name, at| (Val::of_text(name), integer(at));
            Val::Map(Map::Own(Rc::new([bound("start", range.start), bound("end", range.end)])))
        }),
        "chunk" => document.chunk.map_or(Val::Null, integer),
        "attributes" => Val::Map(Map::Custom(&document.attributes)),
        _ => return None,
    })
}

pub(super) fn embedding_field<'a>(embedding: &'a Embedding, name: &str) -> Option<Val<'a>> {
    Some(match name {
        "vector" => Val::List(List::Floats(&embedding.vector)),
        "dimensions" => integer(embedding.dimensions() as u64),
        "model" => Val::of_text(&embedding.model),
        "document" => {
            embedding.document.as_ref().map_or(Val::Null, |document| Val::Map(Map::Document(document)))
        }
        "content_hash" => Val::optional(embedding.content_hash.as_ref()),
        "metric" => embedding.metric.map_or(Val::Null, |metric| {
            Val::of_text(match metric {
                Metric::Cosine => "cosine",
                Metric::Dot => "dot",
                Metric::L2 => "l2",
            })
        }),
        _ => return None,
    })
}

pub(super) fn object_field<'a>(object: &'a Object, name: &str) -> Option<Val<'a>> {
    Some(match name {
        "key" => Val::of_text(&object.key),
        "size" => integer(ObjectSize::of(object)),
        "mime_type" => Val::optional(object.mime_type.as_ref()),
        "etag" => Val::optional(object.etag.as_ref()),
        "last_modified" => object.last_modified.map_or(Val::Null, Val::Timestamp),
        "bytes" => object.bytes.as_ref().map_or(Val::Null, |bytes| Val::Bytes(Octets::Ref(bytes))),
        _ => return None,
    })
}

/// The field, not the method of the same name.
struct ObjectSize;

impl ObjectSize {
    fn of(object: &Object) -> u64 {
        let fields: &nvisy_core::primitive::object::ObjectFields = object;
        fields.size
    }
}

pub(super) fn meta_field<'a>(metadata: &'a Metadata, name: &str) -> Option<Val<'a>> {
    Some(match name {
        "tags" => Val::Map(Map::Tags(&metadata.tags)),
        "custom" => Val::Map(Map::Custom(&metadata.custom)),
        "node" => Val::of_text(&metadata.node),
        "graph" => Val::of_text(&metadata.graph),
        "created_at" => Val::Timestamp(metadata.created_at),
        _ => return None,
    })
}

fn integer(value: u64) -> Val<'static> {
    i64::try_from(value).map_or(Val::UInt(value), Val::Int)
}
