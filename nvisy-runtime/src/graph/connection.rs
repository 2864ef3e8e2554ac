//! Connections as a graph writes them: shared under a name, or inline in a node.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::policy::RateLimit;

/// A connection: its type, its config, how often it may be called.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ConnectionSpec {
    /// The name of its type, such as `object/local`.
    #[serde(rename = "use")]
    pub uses: String,
    /// The config of that type. Default empty.
    #[serde(skip_serializing_if = "is_empty_config")]
    #[schemars(default = "empty_config", with = "Map<String, Value>")]
    pub config: Value,
    /// How often all its nodes together may call. Default no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
}

impl ConnectionSpec {
    /// The fields, as JSON writes them.
    pub(crate) const FIELDS: &[&str] = &["use", "config", "rate_limit"];

    /// Makes a connection of a type, with an empty config.
    #[must_use]
    pub fn new(uses: impl Into<String>) -> Self {
        Self { uses: uses.into(), config: empty_config(), rate_limit: None }
    }

    /// Sets the config.
    #[must_use]
    pub fn with_config(mut self, config: Value) -> Self {
        self.config = config;
        self
    }
}

/// The connection of a node.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ConnectionUse {
    /// The shared one of this name.
    Shared(String),
    /// Its own.
    Inline(ConnectionSpec),
}

pub(crate) fn empty_config() -> Value {
    Value::Object(Map::new())
}

pub(crate) fn is_empty_config(config: &Value) -> bool {
    config.as_object().is_some_and(Map::is_empty)
}
