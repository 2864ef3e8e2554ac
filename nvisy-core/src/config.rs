//! Typed configs: what one chains in Rust is what serializes.

pub mod bytes;
pub mod duration;

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What the config of a node or connection can do: read and write itself as JSON, and
/// describe its shape. Implemented for every type that can.
pub trait Config:
    Serialize + DeserializeOwned + JsonSchema + Clone + fmt::Debug + Send + Sync + 'static
{
}

impl<T: Serialize + DeserializeOwned + JsonSchema + Clone + fmt::Debug + Send + Sync + 'static> Config for T {}

/// Something wrong with a config: where in it, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The path in the config, such as `columns[2].name`; empty for the whole.
    pub path: String,
    /// A stable code, such as `config.invalid`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it, if there is something to say.
    pub help: Option<String>,
}

impl Problem {
    /// The code of whatever does not fit its type.
    pub const INVALID: &'static str = "config.invalid";
    /// The code of a field that does not exist.
    pub const UNKNOWN_FIELD: &'static str = "config.unknown_field";
    /// The code of a secret that is written out.
    pub const LITERAL_SECRET: &'static str = "secret.literal";

    /// A config value that is not what it has to be.
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), code: Self::INVALID, message: message.into(), help: None }
    }

    /// Sets the code.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = code;
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Reads a config from JSON. Unknown fields are refused, whatever the type itself says.
///
/// # Errors
///
/// All problems that can be found at once: either the unknown fields, or the first value that
/// does not fit its type, each with its path.
pub fn parse<T: DeserializeOwned>(value: &Value) -> Result<T, Vec<Problem>> {
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
    let config = serde_path_to_error::deserialize(serde_ignored::Deserializer::new(value, &mut note));
    let mut problems: Vec<Problem> = unknown
        .into_iter()
        .map(|path| {
            Problem::new(path.clone(), format!("there is no field `{path}` here"))
                .with_code(Problem::UNKNOWN_FIELD)
        })
        .collect();
    match config {
        Ok(config) if problems.is_empty() => Ok(config),
        Ok(_) => Err(problems),
        Err(error) => {
            let path = error.path().to_string();
            let message = error.into_inner().to_string();
            let code = if message.contains("written as a literal") {
                Problem::LITERAL_SECRET
            } else if message.starts_with("unknown field") {
                Problem::UNKNOWN_FIELD
            } else {
                Problem::INVALID
            };
            let path = if path == "." { String::new() } else { path };
            // What serde says of zero where a `NonZero` is wanted speaks to programmers.
            let message = match message.starts_with("invalid value: integer `0`, expected a nonzero") {
                true => "expected at least 1, found 0".to_owned(),
                false => message,
            };
            problems.push(Problem::new(path, message).with_code(code));
            Err(problems)
        }
    }
}
