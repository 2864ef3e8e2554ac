//! `validate`: fails items that do not obey a JSON Schema.

use std::sync::Arc;

use jsonschema::{PatternOptions, ValidationError, Validator};
use nvisy_core::config::Problem;
use nvisy_core::error::{Error, ErrorKind};
use nvisy_core::prelude::*;
use nvisy_core::primitive::Kinds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{json, without};

/// Fails items that do not obey a JSON Schema; the others go on as they are.
///
/// What is checked is the item as JSON: of a row its columns, of raw JSON the value, of a
/// structured output its value, of other kinds their fields (a document's `text`, `title`, …).
/// The error names the path of the first value at fault, and how many more there are; with
/// `on_error` it goes to the dead letters.
///
/// References into the schema itself (`#/$defs/..`) are followed, others are not: nothing is
/// ever fetched. Patterns are those of expressions, without look-around: they run in linear
/// time.
///
/// # Examples
///
/// ```json
/// { "type": "action", "use": "validate", "inputs": ["orders"], "on_error": "dead_letter",
///   "config": { "schema": { "required": ["id"], "properties": { "quantity": { "type": "integer", "minimum": 1 } } } } }
/// ```
///
/// ```
/// use nvisy_runtime::actions::Validate;
/// use serde_json::json;
///
/// let orders = Validate::schema(json!({
///     "required": ["id"],
///     "properties": { "quantity": { "type": "integer", "minimum": 1 } }
/// }));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Validate {
    /// The JSON Schema: of draft 2020-12, unless its `$schema` says otherwise.
    pub schema: Value,
}

impl Validate {
    /// Lets through what obeys the schema.
    #[must_use]
    pub fn schema(schema: Value) -> Self {
        Self { schema }
    }

    fn validator(&self) -> Result<Validator, Box<ValidationError<'static>>> {
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex().size_limit(1 << 20));
        options.build(&self.schema).map_err(Box::new)
    }
}

impl ActionConfig for Validate {
    const NAME: &'static str = "validate";
    type Input = Any;
    type Output<In: Kind> = In;
    type Client = NoClient;

    fn output_kinds(&self, input: Kinds) -> Kinds {
        input
    }

    fn validate(&self) -> Vec<Problem> {
        let Err(error) = self.validator() else { return Vec::new() };
        let path = error.instance_path().to_string().replace('/', ".");
        vec![
            Problem::new(format!("schema{path}"), format!("is no JSON Schema: {error}"))
                .with_code("schema.invalid"),
        ]
    }

    async fn build(&self, _: &OpenContext) -> Result<Action> {
        let validator = self.validator().map_err(|error| {
            Error::configuration(format!(
                "validate: `schema{}` is no JSON Schema: {error}",
                error.instance_path()
            ))
        })?;
        Ok(Action::columnar(Validating { validator: Arc::new(validator) }))
    }
}

struct Validating {
    validator: Arc<Validator>,
}

impl Validating {
    fn check(&self, payload: &Payload) -> Result<()> {
        let written;
        let value = match payload {
            Payload::StructuredOutput(output) => &output.value,
            Payload::Raw(raw) => raw.as_json().ok_or_else(|| {
                Error::invalid("raw", "is bytes, not JSON: there is nothing that a schema could say of it")
            })?,
            other => {
                written = json::of_payload(other)?;
                &written
            }
        };
        let mut errors = self.validator.iter_errors(value);
        let Some(first) = errors.next() else { return Ok(()) };
        let path = first.instance_path().to_string();
        let place = if path.is_empty() { "the item".to_owned() } else { format!("`{path}`") };
        let more = match errors.take(100).count() {
            0 => String::new(),
            100 => "; and 100 more or above".to_owned(),
            more => format!("; and {more} more"),
        };
        let said: String = first.masked().to_string().chars().take(300).collect();
        let error = Error::new(ErrorKind::Validation, format!("schema: {place}: {said}{more}"));
        Err(error.with_detail(first))
    }
}

impl Columnar for Validating {
    async fn apply(&self, batch: Batch, context: &Context) -> Result<Outcomes> {
        let check =
            |index| Some((index as u32, self.check(&batch.payload(index)).err()?.at_item(batch.id(index))));
        let failed: Vec<_> = (0..batch.len()).filter_map(check).collect();
        let (emitted, attribution) = without(batch, &failed);
        Ok(Outcomes {
            emitted: emitted.edited(&context.step()),
            attribution,
            dropped: Vec::new(),
            absorbed: 0,
            failed,
        })
    }
}
