//! JSON that obeys a schema.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::raw::json_size;
use super::validated::validated;
use crate::error::{Error, Result};
use crate::hash::ContentHasher;

/// The fields of a [`StructuredOutput`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StructuredOutputFields {
    /// The value.
    #[serde(with = "crate::metadata::json_value")]
    pub value: Value,
    /// The JSON Schema that it obeys. References into the schema itself are followed, others
    /// are not.
    #[serde(with = "crate::metadata::json_value_arc")]
    pub schema: Arc<Value>,
    /// The model that made it.
    #[serde(default)]
    pub model: Option<String>,
    /// How often it was sent back to be mended.
    #[serde(default)]
    pub repair_attempts: u32,
}

impl StructuredOutputFields {
    fn check(&self) -> Result<()> {
        let validator = jsonschema::validator_for(&self.schema)
            .map_err(|error| Error::invalid("structured_output.schema", format!("is no schema: {error}")))?;
        validator.validate(&self.value).map_err(|error| {
            let field = format!("structured_output.value{}", error.instance_path());
            Error::invalid(field, error.masked()).with_detail(&error)
        })
    }
}

validated! {
    /// JSON that obeys a schema, as a model was made to write it.
    StructuredOutput(StructuredOutputFields)
}

impl StructuredOutput {
    /// Makes a structured output of a value and its schema.
    ///
    /// # Errors
    ///
    /// `validation` if the schema is none, or the value does not obey it: names the path.
    pub fn new(value: Value, schema: impl Into<Arc<Value>>) -> Result<Self> {
        StructuredOutputFields { value, schema: schema.into(), ..Default::default() }.try_into()
    }

    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + json_size(&self.value) + self.model.as_ref().map_or(0, String::len)
    }

    pub(crate) fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("value", &self.value);
        hasher.field("schema", &*self.schema);
        hasher.field("model", &self.model);
        hasher.field("repair_attempts", &self.repair_attempts);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_value_obeys_the_schema() {
        let schema = Arc::new(json!({"properties": {"age": {"type": "integer", "minimum": 0}}}));
        assert!(StructuredOutput::new(json!({"age": 7}), schema.clone()).is_ok());
        let error = StructuredOutput::new(json!({"age": -1}), schema).unwrap_err();
        assert_eq!(error.to_string(), "`structured_output.value/age`: value is less than the minimum of 0");
    }

    #[test]
    fn a_schema_is_never_fetched() {
        for reference in ["https://example.com/schema.json", "file:///etc/passwd"] {
            let error = StructuredOutput::new(json!(1), json!({"$ref": reference})).unwrap_err();
            assert_eq!(error.context().field.as_deref(), Some("structured_output.schema"));
        }
        let own = json!({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}});
        assert!(StructuredOutput::new(json!(1), own).is_ok());
    }
}
