//! Documents, of whatever holds a text.

use std::collections::BTreeMap;
use std::sync::Arc;

use nvisy_core::error::{Error, Result};
use nvisy_core::primitive::document::{Document, DocumentFields};
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::row::{Cell, Row};
use nvisy_core::primitive::{KindId, Payload};
use serde_json::{Map, Value};

use super::{Options, impossible, object_bytes};

impl Options {
    /// Makes a document.
    pub(super) fn document(&self, payload: Payload) -> Result<Payload> {
        let fields = match payload {
            Payload::Document(_) => return Ok(payload),
            Payload::Embedding(embedding) => {
                let document = embedding.document.clone();
                let absent = || Error::invalid("embedding.document", "is not there: keep it when embedding");
                return Ok(Payload::Document(document.ok_or_else(absent)?));
            }
            Payload::Row(row) => self.of_row(&row)?,
            Payload::Raw(raw) => match &*raw {
                Raw::Json(Value::Object(object)) => self.of_object(object)?,
                Raw::Json(Value::String(text)) => DocumentFields { text: text.clone(), ..Default::default() },
                Raw::Json(_) => return Err(Error::invalid("raw", "is neither a JSON object nor a text")),
                Raw::Bytes(bytes) => DocumentFields { text: utf8(bytes, "raw")?, ..Default::default() },
            },
            Payload::Object(object) => DocumentFields {
                text: utf8(object_bytes(&object)?, "object.bytes")?,
                source_uri: Some(object.key.clone()),
                mime_type: object.mime_type.clone(),
                ..Default::default()
            },
            Payload::Message(message) => {
                let headers = message.headers.iter().filter_map(|header| {
                    Some((header.name.clone(), std::str::from_utf8(&header.value).ok()?.into()))
                });
                DocumentFields {
                    text: utf8(&message.body, "message.body")?,
                    source_uri: message.topic.clone(),
                    attributes: headers.collect(),
                    ..Default::default()
                }
            }
            Payload::Completion(completion) => DocumentFields {
                text: completion.answer.clone(),
                attributes: BTreeMap::from([("model".to_owned(), completion.model.clone().into())]),
                ..Default::default()
            },
            Payload::Image(image) => DocumentFields {
                text: said(image.caption.as_ref(), "image.caption")?,
                source_uri: image.uri.clone(),
                ..Default::default()
            },
            Payload::Audio(audio) => DocumentFields {
                text: said(audio.transcript.as_ref(), "audio.transcript")?,
                source_uri: audio.uri.clone(),
                ..Default::default()
            },
            other => return Err(impossible(other.kind(), KindId::Document)),
        };
        Ok(Payload::Document(Arc::new(Document::try_from(fields)?)))
    }

    fn text_name(&self) -> &str {
        self.text.as_deref().unwrap_or("text")
    }

    fn is_named(&self, name: &str) -> bool {
        let named = [&self.title, &self.language, &self.mime_type, &self.source_uri];
        name == self.text_name() || named.into_iter().flatten().any(|named| named == name)
    }

    fn is_attribute(&self, name: &str) -> bool {
        match &self.attributes {
            Some(names) => names.iter().any(|wanted| wanted == name),
            None => !self.is_named(name),
        }
    }

    fn of_row(&self, row: &Row) -> Result<DocumentFields> {
        let optional = |name: &Option<String>| -> Result<Option<String>> {
            let Some(name) = name else { return Ok(None) };
            text(row.get(name), &format!("row.{name}"))
        };
        let name = format!("row.{}", self.text_name());
        let text = text(row.get(self.text_name()), &name)?.ok_or_else(|| Error::invalid(name, "is null"))?;
        if let Some(absent) = self.attributes.iter().flatten().find(|name| row.get(name).is_none()) {
            return Err(Error::invalid(format!("row.{absent}"), "is not there, and `attributes` names it"));
        }
        let attributes = row.columns().filter(|(name, cell)| !cell.is_null() && self.is_attribute(name));
        Ok(DocumentFields {
            text,
            title: optional(&self.title)?,
            language: optional(&self.language)?,
            mime_type: optional(&self.mime_type)?,
            source_uri: optional(&self.source_uri)?,
            attributes: attributes.map(|(name, cell)| (name.to_owned(), cell.to_json())).collect(),
            ..Default::default()
        })
    }

    fn of_object(&self, object: &Map<String, Value>) -> Result<DocumentFields> {
        let text = |name: &str| -> Result<Option<String>> {
            match object.get(name) {
                Some(Value::String(text)) => Ok(Some(text.clone())),
                None | Some(Value::Null) => Ok(None),
                Some(_) => Err(Error::invalid(format!("raw.{name}"), "is no text")),
            }
        };
        let optional = |name: &Option<String>| name.as_ref().map_or(Ok(None), |name| text(name));
        let name = self.text_name();
        let attributes = object.iter().filter(|(name, value)| !value.is_null() && self.is_attribute(name));
        Ok(DocumentFields {
            text: text(name)?.ok_or_else(|| Error::invalid(format!("raw.{name}"), "is not there"))?,
            title: optional(&self.title)?,
            language: optional(&self.language)?,
            mime_type: optional(&self.mime_type)?,
            source_uri: optional(&self.source_uri)?,
            attributes: attributes.map(|(name, value)| (name.clone(), value.clone())).collect(),
            ..Default::default()
        })
    }
}

fn text(cell: Option<Cell<'_>>, name: &str) -> Result<Option<String>> {
    match cell {
        Some(Cell::Text(text)) => Ok(Some(text.to_owned())),
        Some(Cell::Null) => Ok(None),
        Some(_) => Err(Error::invalid(name, "is no text: make it one with `map` and `string(..)`")),
        None => Err(Error::invalid(name, "is not there: the row has no such column")),
    }
}

fn utf8(bytes: &[u8], name: &str) -> Result<String> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Error::invalid(name, format!("is not UTF-8 from byte {} on", error.valid_up_to()))
    })?;
    Ok(text.to_owned())
}

fn said(text: Option<&String>, name: &str) -> Result<String> {
    text.cloned().ok_or_else(|| Error::invalid(name, "is not there: make one first"))
}
