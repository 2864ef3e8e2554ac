//! Nodes as a graph writes them.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::connection::{ConnectionUse, empty_config, is_empty_config};
use super::policy::{Policies, SpillPolicy};

/// A node: what it is, and the policies that go for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Node {
    /// What it is.
    #[serde(flatten)]
    pub body: NodeBody,
    /// How it behaves.
    #[serde(flatten)]
    pub policies: Policies,
}

impl Node {
    /// Returns the names in its `inputs`.
    #[must_use]
    pub fn inputs(&self) -> &[String] {
        match &self.body {
            NodeBody::Source(_) => &[],
            NodeBody::Action(node) => &node.inputs,
            NodeBody::Sink(node) => &node.inputs,
            NodeBody::Branch(node) => &node.inputs,
            NodeBody::FanOut(node) => &node.inputs,
            NodeBody::FanIn(node) => &node.inputs,
        }
    }

    /// Returns the names in its `inputs`, to be changed; none of a source.
    pub fn inputs_mut(&mut self) -> Option<&mut Vec<String>> {
        match &mut self.body {
            NodeBody::Source(_) => None,
            NodeBody::Action(node) => Some(&mut node.inputs),
            NodeBody::Sink(node) => Some(&mut node.inputs),
            NodeBody::Branch(node) => Some(&mut node.inputs),
            NodeBody::FanOut(node) => Some(&mut node.inputs),
            NodeBody::FanIn(node) => Some(&mut node.inputs),
        }
    }

    /// Returns the name of its type where a plugin or program gives that, such as `ai/embed`.
    #[must_use]
    pub fn uses(&self) -> Option<&str> {
        match &self.body {
            NodeBody::Source(node) => Some(&node.uses),
            NodeBody::Action(node) => Some(&node.uses),
            NodeBody::Sink(node) => Some(&node.uses),
            NodeBody::Branch(_) | NodeBody::FanOut(_) | NodeBody::FanIn(_) => None,
        }
    }

    /// Returns its config, where its type has one.
    #[must_use]
    pub fn config(&self) -> Option<&Value> {
        match &self.body {
            NodeBody::Source(node) => Some(&node.config),
            NodeBody::Action(node) => Some(&node.config),
            NodeBody::Sink(node) => Some(&node.config),
            NodeBody::Branch(_) | NodeBody::FanOut(_) | NodeBody::FanIn(_) => None,
        }
    }

    /// Returns its config, to be changed, where its type has one.
    pub fn config_mut(&mut self) -> Option<&mut Value> {
        match &mut self.body {
            NodeBody::Source(node) => Some(&mut node.config),
            NodeBody::Action(node) => Some(&mut node.config),
            NodeBody::Sink(node) => Some(&mut node.config),
            NodeBody::Branch(_) | NodeBody::FanOut(_) | NodeBody::FanIn(_) => None,
        }
    }

    /// Returns its connection, if it names or holds one.
    #[must_use]
    pub fn connection(&self) -> Option<&ConnectionUse> {
        match &self.body {
            NodeBody::Source(node) => node.connection.as_ref(),
            NodeBody::Action(node) => node.connection.as_ref(),
            NodeBody::Sink(node) => node.connection.as_ref(),
            NodeBody::Branch(_) | NodeBody::FanOut(_) | NodeBody::FanIn(_) => None,
        }
    }
}

impl<T: Into<NodeBody>> From<T> for Node {
    fn from(body: T) -> Self {
        Self { body: body.into(), policies: Policies::default() }
    }
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum NodeBody {
    /// Items come from a system.
    Source(SourceNode),
    /// Items are changed.
    Action(ActionNode),
    /// Items go to a system.
    Sink(SinkNode),
    /// Each item takes the first route that fits it.
    Branch(BranchNode),
    /// Every reader gets every item.
    FanOut(FanOutNode),
    /// Items of several nodes flow together.
    FanIn(FanInNode),
}

impl NodeBody {
    /// The names of the types, as JSON writes them.
    pub(crate) const TYPES: &[&str] = &["source", "action", "sink", "branch", "fan_out", "fan_in"];

    /// Returns the name of the type, as JSON writes it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Action(_) => "action",
            Self::Sink(_) => "sink",
            Self::Branch(_) => "branch",
            Self::FanOut(_) => "fan_out",
            Self::FanIn(_) => "fan_in",
        }
    }
}

macro_rules! bodies {
    ($($body:ident => $variant:ident: $fields:expr;)*) => {$(
        impl $body {
            /// The fields, as JSON writes them.
            pub(crate) const FIELDS: &[&str] = $fields;
        }

        impl From<$body> for NodeBody {
            fn from(body: $body) -> Self {
                Self::$variant(body)
            }
        }
    )*};
}

bodies! {
    SourceNode => Source: &["use", "connection", "config", "key"];
    ActionNode => Action: &["use", "connection", "inputs", "config"];
    SinkNode => Sink: &["use", "connection", "inputs", "config"];
    BranchNode => Branch: &["inputs", "routes", "default"];
    FanOutNode => FanOut: &["inputs", "best_effort", "spill"];
    FanInNode => FanIn: &["inputs"];
}

/// Items come from a system.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SourceNode {
    /// The name of its type, such as `object/jsonl`.
    #[serde(rename = "use")]
    pub uses: String,
    /// The connection that it reads through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionUse>,
    /// The config of its type. Default empty.
    #[serde(skip_serializing_if = "is_empty_config")]
    #[schemars(default = "empty_config", with = "Map<String, Value>")]
    pub config: Value,
    /// An expression that gives an item's natural key, such as `row.ticket_id`: half of its
    /// id. Items with the same key are one item to sinks that replace by id: the last one stays, and
    /// the report counts each. Default the connector's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl SourceNode {
    /// Makes a source of a type.
    #[must_use]
    pub fn new(uses: impl Into<String>, config: Value) -> Self {
        Self { uses: uses.into(), connection: None, config, key: None }
    }
}

/// Items are changed.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ActionNode {
    /// The name of its type, such as `ai/embed`; `fn/NAME` is a function of the program's.
    #[serde(rename = "use")]
    pub uses: String,
    /// The connection that it works through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionUse>,
    /// What feeds it: one node or port; two of an action that has two inputs, the left one first.
    pub inputs: Vec<String>,
    /// The config of its type. Default empty.
    #[serde(skip_serializing_if = "is_empty_config")]
    #[schemars(default = "empty_config", with = "Map<String, Value>")]
    pub config: Value,
}

impl ActionNode {
    /// Makes an action of a type that reads from a node or port.
    #[must_use]
    pub fn new(uses: impl Into<String>, config: Value, input: impl Into<String>) -> Self {
        Self { uses: uses.into(), connection: None, inputs: vec![input.into()], config }
    }
}

/// Items go to a system.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SinkNode {
    /// The name of its type, such as `vector/sqlite`.
    #[serde(rename = "use")]
    pub uses: String,
    /// The connection that it writes through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionUse>,
    /// What feeds it: one node or port. The sink of `settings.dead_letter` needs none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub inputs: Vec<String>,
    /// The config of its type. Default empty.
    #[serde(skip_serializing_if = "is_empty_config")]
    #[schemars(default = "empty_config", with = "Map<String, Value>")]
    pub config: Value,
}

impl SinkNode {
    /// Makes a sink of a type that reads from a node or port.
    #[must_use]
    pub fn new(uses: impl Into<String>, config: Value, input: impl Into<String>) -> Self {
        Self { uses: uses.into(), connection: None, inputs: vec![input.into()], config }
    }
}

/// Each item takes the first route that fits it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BranchNode {
    /// What feeds it: one node or port.
    pub inputs: Vec<String>,
    /// The routes, in the order in which they are tried. Their names are ports.
    ///
    /// In JSON an object, name to expression, whose order counts: the one place where the
    /// order of keys means something. What has been through a store that sorts keys does not
    /// remember it, so where the order is not that of the names, routes are written as an
    /// array of `{"route": NAME, "when": EXPRESSION}`, and both forms are read.
    #[serde(serialize_with = "write_routes")]
    pub routes: Vec<Route>,
    /// The port of what fits no route. Default none: such items are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// A way out of a branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Route {
    /// The name: a port of the branch.
    #[serde(rename = "route")]
    pub name: String,
    /// The expression that says whether an item takes it.
    pub when: String,
}

impl Route {
    /// Makes a route.
    #[must_use]
    pub fn new(name: impl Into<String>, when: impl Into<String>) -> Self {
        Self { name: name.into(), when: when.into() }
    }
}

fn write_routes<S: Serializer>(routes: &[Route], serializer: S) -> Result<S::Ok, S::Error> {
    if routes.is_sorted_by(|a, b| a.name < b.name) {
        serializer.collect_map(routes.iter().map(|route| (&route.name, &route.when)))
    } else {
        serializer.collect_seq(routes)
    }
}

/// Every reader gets every item.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FanOutNode {
    /// What feeds it: one node or port.
    pub inputs: Vec<String>,
    /// The readers, by name, that may fail or lag without holding up the others. Default none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub best_effort: Vec<String>,
    /// The readers, by name, that hold up the others only when so much waits for them: what they
    /// have yet to take is kept in memory and in files, durably where the run keeps its state.
    /// Default none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(default)]
    pub spill: BTreeMap<String, SpillPolicy>,
}

/// Items of several nodes flow together.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FanInNode {
    /// What feeds it: two nodes or ports, or more.
    pub inputs: Vec<String>,
}

/// A node or one of its ports, as `inputs` names it: `NODE` or `NODE.PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRef<'a> {
    /// The node.
    pub node: &'a str,
    /// The port: a route of a branch, or `dead_letter`.
    pub port: Option<&'a str>,
}

impl<'a> PortRef<'a> {
    /// The port of what a node sets aside.
    pub const DEAD_LETTER: &'static str = "dead_letter";

    /// Reads a name in `inputs`.
    #[must_use]
    pub fn parse(input: &'a str) -> Self {
        match input.split_once('.') {
            Some((node, port)) => Self { node, port: Some(port) },
            None => Self { node: input, port: None },
        }
    }
}

impl fmt::Display for PortRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.node)?;
        match self.port {
            Some(port) => write!(f, ".{port}"),
            None => Ok(()),
        }
    }
}
