//! A text: a file, a page, a chunk of one.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Item;
use super::validated::validated;
use crate::error::{Error, Result};
use crate::hash::{Content, ContentHasher};

/// The fields of a [`Document`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentFields {
    /// The text. Not empty unless [`allow_empty`](Self::allow_empty) says so.
    pub text: String,
    /// Its title.
    #[serde(default)]
    pub title: Option<String>,
    /// Its language, as a BCP 47 tag.
    #[serde(default)]
    pub language: Option<String>,
    /// Its MIME type.
    #[serde(default)]
    pub mime_type: Option<String>,
    /// Where it was found.
    #[serde(default)]
    pub source_uri: Option<String>,
    /// Which bytes of the source it is.
    #[serde(default)]
    pub byte_range: Option<Range<u64>>,
    /// Which part of its parent it is, from zero, if it is one.
    #[serde(default)]
    pub chunk: Option<u64>,
    /// What else is known about it.
    #[serde(default, with = "crate::metadata::json_map")]
    pub attributes: BTreeMap<String, Value>,
    /// Whether an empty text is meant so.
    #[serde(default)]
    pub allow_empty: bool,
}

impl DocumentFields {
    fn check(&self) -> Result<()> {
        if self.text.is_empty() && !self.allow_empty {
            return Err(Error::invalid("document.text", "is empty; set `allow_empty` if that is meant"));
        }
        if let Some(range) = &self.byte_range
            && range.start > range.end
        {
            let Range { start, end } = range;
            return Err(Error::invalid(
                "document.byte_range",
                format!("starts at {start} behind its end {end}"),
            ));
        }
        Ok(())
    }
}

validated! {
    /// A text with what is known about it: a file, a page, a chunk of one.
    Document(DocumentFields)
}

impl Document {
    /// Makes a document of a text alone.
    ///
    /// # Errors
    ///
    /// `validation` if the text is empty.
    pub fn new(text: impl Into<String>) -> Result<Self> {
        DocumentFields { text: text.into(), ..Default::default() }.try_into()
    }

    pub(crate) fn size(&self) -> usize {
        let texts = [&self.title, &self.language, &self.mime_type, &self.source_uri];
        let attributes: usize = self.attributes.iter().map(|(k, v)| k.len() + super::raw::json_size(v)).sum();
        size_of::<Self>()
            + self.text.len()
            + texts.into_iter().flatten().map(String::len).sum::<usize>()
            + attributes
    }
}

impl Content for Document {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("text", &self.text);
        hasher.field("title", &self.title);
        hasher.field("language", &self.language);
        hasher.field("mime_type", &self.mime_type);
        hasher.field("source_uri", &self.source_uri);
        if let Some(Range { start, end }) = &self.byte_range {
            hasher.field("byte_range", &vec![*start, *end]);
        }
        hasher.field("chunk", &self.chunk);
        hasher.field("attributes", &self.attributes);
        hasher.end();
    }
}

impl Item<Document> {
    /// Returns the item with another text; whatever else it holds stays.
    ///
    /// # Errors
    ///
    /// `validation` if the new text is empty and that is not meant so.
    pub fn map_text<T: Into<String>>(self, map: impl FnOnce(&str) -> T) -> Result<Self> {
        let text = map(&self.text).into();
        let fields = DocumentFields { text, ..(*self).clone().into_fields() };
        Ok(self.with(Document::try_from(fields)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_is_refused_unless_meant() {
        assert!(Document::new("").unwrap_err().to_string().contains("document.text"));
        assert!(Document::try_from(DocumentFields { allow_empty: true, ..Default::default() }).is_ok());
    }

    #[test]
    fn a_range_is_ordered() {
        #[expect(clippy::reversed_empty_ranges, reason = "the point")]
        let fields = DocumentFields { text: "a".into(), byte_range: Some(3..1), ..Default::default() };
        assert!(Document::try_from(fields).is_err());
    }
}
