//! `validate`: fails items that do not obey a JSON Schema.

mod bounds;

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
use crate::allowance;

/// The largest program of a pattern, in bytes.
const MAX_PATTERN: usize = 1 << 20;
/// What the patterns of a stranger are tried with first, so that small ones count for little.
const SMALL_PATTERN: usize = 64 << 10;

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
/// In the graph of a stranger (`EngineBuilder::untrusted`) the schema must be one that takes a
/// bounded time, whatever the item: `schema.unbounded` refuses one of which references lead to
/// one value by very many ways, or to schemas that are not below `#`.
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

    fn validator(&self, pattern: usize) -> Result<Validator, Box<ValidationError<'static>>> {
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex().size_limit(pattern));
        options.build(&self.schema).map_err(Box::new)
    }

    /// Reads the schema of a stranger, within what is left to him.
    fn check_of_a_stranger(&self) -> Vec<Problem> {
        if let Some(problem) = bounds::check(&self.schema) {
            return vec![problem];
        }
        let patterns = bounds::patterns(&self.schema);
        for size in [SMALL_PATTERN, MAX_PATTERN] {
            if let Err(exhausted) = allowance::take_patterns(patterns, size) {
                return vec![Problem::new("schema", exhausted.to_string()).with_code("schema.invalid")];
            }
            match self.validator(size) {
                Ok(_) => return Vec::new(),
                Err(error) if patterns == 0 || size == MAX_PATTERN => return vec![problem(&error)],
                Err(_) => allowance::return_patterns(patterns, size),
            }
        }
        Vec::new()
    }
}

/// The schema is none.
fn problem(error: &ValidationError<'_>) -> Problem {
    let path = error.instance_path().to_string().replace('/', ".");
    Problem::new(format!("schema{path}"), format!("is no JSON Schema: {error}")).with_code("schema.invalid")
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
        if allowance::is_of_a_stranger() {
            return self.check_of_a_stranger();
        }
        self.validator(MAX_PATTERN).err().map(|error| problem(&error)).into_iter().collect()
    }

    async fn build(&self, _: &OpenContext) -> Result<Action> {
        let validator = self.validator(MAX_PATTERN).map_err(|error| {
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
        let mut failed = Vec::new();
        for index in 0..batch.len() {
            if let Err(error) = self.check(&batch.payload(index)) {
                failed.push((index as u32, error.at_item(batch.id(index))));
            }
            // Between two items the run may be cancelled.
            tokio::task::consume_budget().await;
        }
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
