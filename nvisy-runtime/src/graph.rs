//! The document that says what flows where: nodes, connections, settings.

pub mod connection;
pub mod function;
pub mod named;
pub mod node;
pub mod policy;
pub(crate) mod schema;

use serde::{Serialize, Serializer};

pub use self::connection::{ConnectionSpec, ConnectionUse};
pub use self::function::Function;
pub use self::named::Named;
pub use self::node::{
    ActionNode, BranchNode, FanInNode, FanOutNode, Node, NodeBody, PortRef, Route, SinkNode, SourceNode,
};
pub use self::policy::{
    Backoff, BatchPolicy, CheckpointSettings, DeadLetterLimit, OnError, Policies, RateLimit, Retry, Settings,
    SpillPolicy,
};

use self::function::Functions;

/// A graph: plain data that is stored, compared, sent, and read back without loss.
///
/// Two graphs are equal whatever the order of their nodes and connections. Inline functions
/// take no part in that: the document holds their names, the value carries the code.
///
/// # Examples
///
/// ```
/// use nvisy_runtime::graph::Graph;
///
/// # fn main() -> Result<(), nvisy_runtime::compiler::Diagnostics> {
/// let text = r#"{
///     "version": 1,
///     "name": "copy",
///     "nodes": {
///         "in":  { "type": "source", "use": "object/jsonl", "config": { "prefix": "in/" } },
///         "out": { "type": "sink", "use": "object/jsonl", "inputs": ["in"], "config": { "path": "out.jsonl" } }
///     }
/// }"#;
/// let graph = Graph::from_json(text)?;
/// assert_eq!(graph.nodes.len(), 2);
/// assert_eq!(Graph::from_json(&graph.to_json())?, graph);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// The name: reports, envelopes and spans show it.
    pub name: String,
    /// The shared connections.
    pub connections: Named<ConnectionSpec>,
    /// The nodes.
    pub nodes: Named<Node>,
    /// What goes for the whole run.
    pub settings: Settings,
    functions: Functions,
}

impl Graph {
    /// The version of the format.
    pub const VERSION: u64 = 1;

    /// Makes a graph without nodes.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            connections: Named::new(),
            nodes: Named::new(),
            settings: Settings::default(),
            functions: Functions::default(),
        }
    }

    /// Returns the graph as indented JSON. Nodes stand in the order in which they were written.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Every part serializes: its keys are strings, its numbers finite.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Gives the graph the code of a function that a node uses as `fn/NAME`.
    #[must_use]
    pub fn with_function(mut self, name: impl Into<String>, function: Function) -> Self {
        self.functions.insert(name.into(), function);
        self
    }

    pub(crate) fn add_function(&mut self, name: &str, function: Function) {
        self.functions.insert(name.to_owned(), function);
    }

    /// Returns the code of a function that the graph carries.
    #[must_use]
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name)
    }
}

impl Serialize for Graph {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", &Self::VERSION)?;
        map.serialize_entry("name", &self.name)?;
        if !self.connections.is_empty() {
            map.serialize_entry("connections", &self.connections)?;
        }
        map.serialize_entry("nodes", &self.nodes)?;
        if !self.settings.is_empty() {
            map.serialize_entry("settings", &self.settings)?;
        }
        map.end()
    }
}
