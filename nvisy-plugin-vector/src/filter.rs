//! Which embeddings count: conditions on what is known about them.

use nvisy_core::config::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How deep conditions may be nested.
const MAX_DEPTH: usize = 16;
/// How many conditions a filter may have.
const MAX_CONDITIONS: usize = 256;

/// A condition on an embedding's document, attributes, tags or origin.
///
/// A field is one of `id`, `title`, `source_uri`, `language`, `mime_type`, `chunk`, `model`,
/// `run`, `root`; or `attributes.NAME`, `tags.NAME` or `custom.NAME`. Any other name is an
/// attribute's. In `attributes./a/b` the name is a JSON pointer, to what is nested.
///
/// # Examples
///
/// ```
/// use nvisy_plugin_vector::Filter;
///
/// let recent = Filter::eq("language", "en").and(Filter::at_least("year", 2020));
/// assert_eq!(
///     serde_json::to_string(&recent).unwrap(),
///     r#"{"all":[{"eq":{"field":"language","value":"en"}},{"range":{"field":"year","min":2020}}]}"#
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "VectorFilter")]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The field is there and has this value. An attribute that is null equals null.
    Eq {
        /// The field.
        field: String,
        /// The value: a text, a number, a truth value or null.
        value: Value,
    },
    /// The field is there and has one of these values.
    In {
        /// The field.
        field: String,
        /// The values.
        values: Vec<Value>,
    },
    /// The field is a number or a text between two others of its type, or at one of them.
    Range {
        /// The field.
        field: String,
        /// The least value. Default no bound.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        min: Value,
        /// The greatest value. Default no bound.
        #[serde(default, skip_serializing_if = "Value::is_null")]
        max: Value,
    },
    /// Every one of these holds.
    All(Vec<Self>),
    /// At least one of these holds.
    Any(Vec<Self>),
    /// This does not hold.
    Not(Box<Self>),
}

impl Filter {
    /// The field has this value.
    #[must_use]
    pub fn eq(field: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Eq { field: field.into(), value: value.into() }
    }

    /// The field has one of these values.
    #[must_use]
    pub fn is_in<T: Into<Value>>(field: impl Into<String>, values: impl IntoIterator<Item = T>) -> Self {
        Self::In { field: field.into(), values: values.into_iter().map(Into::into).collect() }
    }

    /// The field lies between two values, or at one of them.
    #[must_use]
    pub fn between(field: impl Into<String>, min: impl Into<Value>, max: impl Into<Value>) -> Self {
        Self::Range { field: field.into(), min: min.into(), max: max.into() }
    }

    /// The field is not less than a value.
    #[must_use]
    pub fn at_least(field: impl Into<String>, min: impl Into<Value>) -> Self {
        Self::Range { field: field.into(), min: min.into(), max: Value::Null }
    }

    /// The field is not greater than a value.
    #[must_use]
    pub fn at_most(field: impl Into<String>, max: impl Into<Value>) -> Self {
        Self::Range { field: field.into(), min: Value::Null, max: max.into() }
    }

    /// Both hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match self {
            Self::All(mut all) => {
                all.push(other);
                Self::All(all)
            }
            first => Self::All(vec![first, other]),
        }
    }

    /// At least one of both holds.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match self {
            Self::Any(mut any) => {
                any.push(other);
                Self::Any(any)
            }
            first => Self::Any(vec![first, other]),
        }
    }

    /// This does not hold.
    #[must_use]
    pub fn negate(self) -> Self {
        Self::Not(Box::new(self))
    }

    /// Returns what is wrong with it, below a path in a config.
    #[must_use]
    pub fn validate(&self, path: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut conditions = 0;
        self.check(path, 0, &mut conditions, &mut problems);
        if conditions > MAX_CONDITIONS {
            problems.push(Problem::new(path, format!("more than {MAX_CONDITIONS} conditions")));
        }
        problems
    }

    fn check(&self, path: &str, depth: usize, conditions: &mut usize, problems: &mut Vec<Problem>) {
        *conditions += 1;
        if depth > MAX_DEPTH {
            problems.push(Problem::new(path, format!("is nested more than {MAX_DEPTH} deep")));
            return;
        }
        let mut scalar = |value: &Value, path: String| {
            if value.is_array() || value.is_object() {
                problems.push(Problem::new(path, "is no text, number, truth value or null"));
            }
        };
        match self {
            Self::Eq { value, .. } => scalar(value, format!("{path}.eq.value")),
            Self::In { values, .. } => {
                values
                    .iter()
                    .enumerate()
                    .for_each(|(i, value)| scalar(value, format!("{path}.in.values[{i}]")));
                *conditions += values.len();
            }
            Self::Range { min, max, .. } => {
                let of = |value: &Value| value.is_number() || value.is_string() || value.is_null();
                let alike = min.is_null() || max.is_null() || min.is_number() == max.is_number();
                if !of(min) || !of(max) || !alike {
                    problems.push(Problem::new(
                        format!("{path}.range"),
                        "its ends are not two numbers or two texts",
                    ));
                } else if min.is_null() && max.is_null() {
                    problems.push(Problem::new(format!("{path}.range"), "has neither `min` nor `max`"));
                }
            }
            Self::All(all) | Self::Any(all) => {
                for (index, filter) in all.iter().enumerate() {
                    filter.check(&format!("{path}[{index}]"), depth + 1, conditions, problems);
                }
            }
            Self::Not(filter) => filter.check(&format!("{path}.not"), depth + 1, conditions, problems),
        }
    }
}

/// What a condition is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// The id.
    Id,
    /// The document's title.
    Title,
    /// Where the document was found.
    SourceUri,
    /// The document's language.
    Language,
    /// The document's MIME type.
    MimeType,
    /// Which part of its parent the document is.
    Chunk,
    /// The model that made the vector.
    Model,
    /// The run that wrote it.
    Run,
    /// The id of the source item that it derives from.
    Root,
    /// An attribute of the document, by its path.
    Attribute(Vec<String>),
    /// A tag of the envelope.
    Tag(Vec<String>),
    /// A custom value of the envelope, by its path.
    Custom(Vec<String>),
}

impl Field {
    /// Reads a field's name.
    #[must_use]
    pub fn parse(name: &str) -> Self {
        match name {
            "id" => Self::Id,
            "title" => Self::Title,
            "source_uri" => Self::SourceUri,
            "language" => Self::Language,
            "mime_type" => Self::MimeType,
            "chunk" => Self::Chunk,
            "model" => Self::Model,
            "run" => Self::Run,
            "root" => Self::Root,
            _ => match name.split_once('.') {
                Some(("attributes", rest)) => Self::Attribute(path(rest)),
                Some(("tags", rest)) => Self::Tag(vec![rest.to_owned()]),
                Some(("custom", rest)) => Self::Custom(path(rest)),
                _ => Self::Attribute(vec![name.to_owned()]),
            },
        }
    }
}

/// Reads a key, or a JSON pointer to what is nested.
fn path(name: &str) -> Vec<String> {
    match name.strip_prefix('/') {
        Some(pointer) => {
            // At most as deep as anything that is looked up in earnest.
            pointer.splitn(MAX_DEPTH, '/').map(|key| key.replace("~1", "/").replace("~0", "~")).collect()
        }
        None => vec![name.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_fields() {
        let attribute = |keys: &[&str]| Field::Attribute(keys.iter().map(ToString::to_string).collect());
        assert_eq!(Field::parse("title"), Field::Title);
        assert_eq!(Field::parse("year"), attribute(&["year"]));
        assert_eq!(Field::parse("attributes.title"), attribute(&["title"]));
        assert_eq!(Field::parse("attributes./a/b~1c"), attribute(&["a", "b/c"]));
        assert_eq!(Field::parse("a.b"), attribute(&["a.b"]));
        assert_eq!(Field::parse("tags.x.y"), Field::Tag(vec!["x.y".into()]));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        let filter = Filter::between("a", 1, "b")
            .and(Filter::eq("c", Value::Array(vec![])))
            .and(Filter::In { field: "d".into(), values: vec![Value::Null, serde_json::json!({})] });
        let paths: Vec<_> = filter.validate("filter").into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["filter[0].range", "filter[1].eq.value", "filter[2].in.values[1]"]);
        let deep = (0..20).fold(Filter::eq("a", 1), |filter, _| filter.negate());
        assert_eq!(deep.validate("filter").len(), 1);
    }
}
