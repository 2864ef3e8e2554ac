//! The envelope: who made an item, when, in which run, and what users say about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::id::RunId;

/// A moment in time, in UTC.
pub type Timestamp = DateTime<Utc>;

/// The envelope of a [`Primitive`](crate::Primitive). One serves a whole batch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Metadata {
    /// When the item was made.
    pub created_at: Timestamp,
    /// The source or action that made it.
    pub node: Arc<str>,
    /// The graph it was made in.
    pub graph: Arc<str>,
    /// The run it was made in.
    #[serde(default)]
    pub run: Option<RunId>,
    /// What users say about it, as text.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// What users say about it, as JSON.
    #[serde(default, with = "json_map")]
    pub custom: BTreeMap<String, Value>,
    /// What runs before have tried, of an item that is a [dead letter](crate::DeadLetter) no
    /// longer.
    #[serde(skip)]
    pub tried: Tried,
}

/// How often a node has tried an item in runs before. It is neither written nor compared: the
/// item is the same.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// The node; none of an item that was never set aside.
    pub node: Option<Arc<str>>,
    /// How often it tried.
    pub attempts: u32,
}

impl PartialEq for Tried {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Metadata {
    /// Makes an envelope for what `node` of `graph` makes at `created_at`.
    #[must_use]
    pub fn new(graph: impl Into<Arc<str>>, node: impl Into<Arc<str>>, created_at: Timestamp) -> Self {
        Self {
            created_at,
            node: node.into(),
            graph: graph.into(),
            run: None,
            tags: BTreeMap::new(),
            custom: BTreeMap::new(),
            tried: Tried::default(),
        }
    }

    /// Names the run.
    #[must_use]
    pub fn in_run(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }
}

/// What is not set is left out of JSON; formats that do not name their fields need them all.
impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct JsonMap<'a>(#[serde(serialize_with = "json_map::serialize")] &'a BTreeMap<String, Value>);

        let all = !serializer.is_human_readable();
        let mut fields = serializer.serialize_struct("Metadata", 6)?;
        fields.serialize_field("created_at", &self.created_at)?;
        fields.serialize_field("node", &self.node)?;
        fields.serialize_field("graph", &self.graph)?;
        if all || self.run.is_some() {
            fields.serialize_field("run", &self.run)?;
        }
        if all || !self.tags.is_empty() {
            fields.serialize_field("tags", &self.tags)?;
        }
        if all || !self.custom.is_empty() {
            fields.serialize_field("custom", &JsonMap(&self.custom))?;
        }
        fields.end()
    }
}

impl Default for Metadata {
    /// An envelope of nobody at the beginning of time: for items made outside a run.
    fn default() -> Self {
        Self::new("", "", DateTime::UNIX_EPOCH)
    }
}

/// JSON values are written as text in formats that do not describe themselves.
pub(crate) mod json_map {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub(crate) fn serialize<S: Serializer>(map: &BTreeMap<String, Value>, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            map.serialize(s)
        } else {
            serde_json::to_string(map).map_err(serde::ser::Error::custom)?.serialize(s)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, Value>, D::Error> {
        if d.is_human_readable() {
            BTreeMap::deserialize(d)
        } else {
            serde_json::from_str(&String::deserialize(d)?).map_err(serde::de::Error::custom)
        }
    }
}

/// One JSON value, written as text in formats that do not describe themselves.
pub(crate) mod json_value {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    pub(crate) fn serialize<S: Serializer>(value: &Value, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { value.serialize(s) } else { value.to_string().serialize(s) }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Value, D::Error> {
        if d.is_human_readable() {
            Value::deserialize(d)
        } else {
            serde_json::from_str(&String::deserialize(d)?).map_err(serde::de::Error::custom)
        }
    }
}

/// The same, shared.
pub(crate) mod json_value_arc {
    use std::sync::Arc;

    use serde::{Deserializer, Serializer};
    use serde_json::Value;

    use super::json_value;

    pub(crate) fn serialize<S: Serializer>(value: &Arc<Value>, s: S) -> Result<S::Ok, S::Error> {
        json_value::serialize(value, s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Arc<Value>, D::Error> {
        json_value::deserialize(d).map(Arc::new)
    }
}
