//! What an expression sees of an item.

use std::cell::OnceCell;

use nvisy_core::primitive::raw::Raw;
use nvisy_core::{Batch, KindId, Metadata, Payload, Primitive};
use serde_json::Value as Json;

use super::ast::Root;
use super::value::{Map, Octets, Val};

/// An item, seen by an expression: everything is looked up when it is asked for.
pub(super) struct Scope<'a> {
    payload: &'a Payload,
    metadata: &'a Metadata,
    identity: Identity<'a>,
    /// The payload as JSON, for the kinds that are read so.
    json: OnceCell<Option<Json>>,
}

enum Identity<'a> {
    Primitive(&'a Primitive),
    Batch(&'a Batch, usize),
}

impl<'a> Scope<'a> {
    pub(super) fn of(primitive: &'a Primitive) -> Self {
        let (payload, metadata) = (primitive.payload(), primitive.metadata());
        Self { payload, metadata, identity: Identity::Primitive(primitive), json: OnceCell::new() }
    }

    /// The item of a batch at `index`; `payload` is its payload.
    pub(super) fn at(batch: &'a Batch, index: usize, payload: &'a Payload) -> Self {
        let metadata = batch.metadata(index);
        Self { payload, metadata, identity: Identity::Batch(batch, index), json: OnceCell::new() }
    }

    pub(super) fn kind(&self) -> KindId {
        self.payload.kind()
    }

    /// What the name stands for; none if the payload is of another kind.
    pub(super) fn root(&'a self, root: Root) -> Option<Val<'a>> {
        let kind = match root {
            Root::Meta => return Some(Val::Map(Map::Meta(self.metadata))),
            Root::KindName => return Some(Val::of_text(self.kind().name())),
            Root::Id => {
                let id = match self.identity {
                    Identity::Primitive(primitive) => primitive.id(),
                    Identity::Batch(batch, index) => batch.id(index),
                };
                return Some(Val::text(id.to_string()));
            }
            Root::Kind(kind) => kind,
        };
        if kind != self.kind() {
            return None;
        }
        Some(match self.payload {
            Payload::Row(row) => Val::Map(Map::Row(row)),
            Payload::Document(document) => Val::Map(Map::Document(document)),
            Payload::Embedding(embedding) => Val::Map(Map::Embedding(embedding)),
            Payload::Object(object) => Val::Map(Map::Object(object)),
            Payload::Raw(raw) => match &**raw {
                Raw::Json(json) => Val::of_json(json),
                Raw::Bytes(bytes) => Val::Bytes(Octets::Ref(bytes)),
            },
            other => {
                Val::of_json(self.json.get_or_init(|| crate::actions::json::of_payload(other).ok()).as_ref()?)
            }
        })
    }
}
