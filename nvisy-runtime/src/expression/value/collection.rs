//! Lists and maps, whatever they are borrowed from.

use super::field::{document_field, embedding_field, meta_field, object_field};
use super::{List, Map, Val};
use crate::expression::types;

impl<'a> List<'a> {
    pub(in crate::expression) fn len(&self) -> usize {
        match self {
            Self::Cells(list) => list.len(),
            Self::Json(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Own(values) => values.len(),
        }
    }

    pub(in crate::expression) fn get(&self, index: usize) -> Option<Val<'a>> {
        match self {
            Self::Cells(list) => list.get(index).map(Val::of_cell),
            Self::Json(values) => values.get(index).map(Val::of_json),
            Self::Floats(values) => values.get(index).map(|value| Val::Double((*value).into())),
            Self::Own(values) => values.get(index).cloned(),
        }
    }

    pub(in crate::expression) fn iter(&self) -> impl Iterator<Item = Val<'a>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<'a> Map<'a> {
    pub(in crate::expression) fn len(&self) -> usize {
        match self {
            Self::Row(row) => row.schema().fields().len(),
            Self::Struct(fields) => fields.iter().len(),
            Self::Cells(map) => map.keys().len(),
            Self::Json(fields) => fields.len(),
            Self::Tags(tags) => tags.len(),
            Self::Custom(custom) => custom.len(),
            Self::Own(entries) => entries.len(),
            Self::Document(_) | Self::Embedding(_) | Self::Object(_) | Self::Meta(_) => self.names().len(),
        }
    }

    /// What looking for a key takes.
    pub(in crate::expression) fn lookup(&self) -> u64 {
        match self {
            Self::Own(_) | Self::Cells(_) => self.len() as u64 / 2,
            Self::Row(_) | Self::Struct(_) => self.len() as u64 / 16,
            _ => 0,
        }
    }

    fn names(&self) -> &'static [&'static str] {
        match self {
            Self::Document(_) => &types::DOCUMENT,
            Self::Embedding(_) => &types::EMBEDDING,
            Self::Object(_) => &types::OBJECT,
            Self::Meta(_) => &types::META,
            _ => &[],
        }
    }

    /// The value of a key, if the key is there.
    pub(in crate::expression) fn get(&self, key: &Val<'_>) -> Option<Val<'a>> {
        match (self, key) {
            (Self::Own(entries), key) => entries.iter().find(|(k, _)| k.is(key)).map(|(_, v)| v.clone()),
            (Self::Cells(map), key) => {
                map.iter().find(|(k, _)| Val::of_cell(*k).is(key)).map(|(_, v)| Val::of_cell(v))
            }
            (_, Val::Text(name)) => self.field(name),
            _ => None,
        }
    }

    /// The value of a field, if the field is there.
    pub(in crate::expression) fn field(&self, name: &str) -> Option<Val<'a>> {
        match self {
            Self::Row(row) => row.get(name).map(Val::of_cell),
            Self::Struct(fields) => fields.get(name).map(Val::of_cell),
            Self::Json(fields) => fields.get(name).map(Val::of_json),
            Self::Tags(tags) => tags.get(name).map(|tag| Val::of_text(tag)),
            Self::Custom(custom) => custom.get(name).map(Val::of_json),
            Self::Document(document) => document_field(document, name),
            Self::Embedding(embedding) => embedding_field(embedding, name),
            Self::Object(object) => object_field(object, name),
            Self::Meta(metadata) => meta_field(metadata, name),
            Self::Own(_) | Self::Cells(_) => self.get(&Val::text(name)),
        }
    }

    /// Whether the key is there: in a row, a struct and a payload null counts as not there.
    pub(in crate::expression) fn has(&self, name: &str) -> bool {
        match (self, self.field(name)) {
            (_, None) => false,
            (Self::Json(_) | Self::Own(_) | Self::Cells(_) | Self::Custom(_), Some(_)) => true,
            (_, Some(value)) => !matches!(value, Val::Null),
        }
    }

    pub(in crate::expression) fn entries(&self) -> Vec<(Val<'a>, Val<'a>)> {
        let named = |(name, cell)| (Val::of_text(name), Val::of_cell(cell));
        match self {
            Self::Row(row) => row.columns().map(named).collect(),
            Self::Struct(fields) => fields.iter().map(named).collect(),
            Self::Cells(map) => map.iter().map(|(k, v)| (Val::of_cell(k), Val::of_cell(v))).collect(),
            Self::Json(fields) => fields.iter().map(|(k, v)| (Val::of_text(k), Val::of_json(v))).collect(),
            Self::Tags(tags) => tags.iter().map(|(k, v)| (Val::of_text(k), Val::of_text(v))).collect(),
            Self::Custom(custom) => custom.iter().map(|(k, v)| (Val::of_text(k), Val::of_json(v))).collect(),
            Self::Own(entries) => entries.to_vec(),
            Self::Document(_) | Self::Embedding(_) | Self::Object(_) | Self::Meta(_) => {
                let value = |name: &'static str| Some((Val::of_text(name), self.field(name)?));
                self.names().iter().filter_map(|name| value(name)).collect()
            }
        }
    }
}
