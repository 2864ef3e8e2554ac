//! JSON to a graph: every problem that can be found without a registry, each with its place.

mod broken;
mod node;
mod reader;

use std::collections::HashSet;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub(super) use self::broken::Broken;
use self::reader::Reader;
use super::diagnostic::{Diagnostic, Diagnostics, code};
use super::json::{Json, Member, Shape, join, lines_and_columns, shown};
use crate::graph::{ConnectionSpec, Graph, Named, Settings};

/// The most nodes, connections and, on the whole, inputs that a graph may have.
pub(super) const MAX_NODES: usize = 10_000;
/// The most inputs of all nodes together.
pub(super) const MAX_EDGES: usize = 40_000;

impl Graph {
    /// Reads a graph from JSON.
    ///
    /// # Errors
    ///
    /// All that is wrong with the text: what is no JSON or beyond the bounds (4 MiB, 64 deep,
    /// 10,000 nodes), fields that do not exist, values of the wrong type; each with its path,
    /// line and column. What needs to know the types of nodes is found when it compiles.
    pub fn from_json(text: &str) -> Result<Self, Diagnostics> {
        let json = Json::parse(text).map_err(|diagnostic| Diagnostics::new(vec![*diagnostic]))?;
        let mut draft = Draft::read(&json);
        if draft.diagnostics.is_empty() {
            return Ok(draft.graph);
        }
        locate(&mut draft.diagnostics, &json, text);
        Err(Diagnostics::new(draft.diagnostics))
    }
}

impl<'de> Deserialize<'de> for Graph {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let draft = Draft::read(&Json::deserialize(deserializer)?);
        if draft.diagnostics.is_empty() {
            Ok(draft.graph)
        } else {
            Err(serde::de::Error::custom(Diagnostics::new(draft.diagnostics)))
        }
    }
}

/// Adds line and column to what is found in a text, and sorts by them.
pub(super) fn locate(diagnostics: &mut [Diagnostic], json: &Json, text: &str) {
    diagnostics.sort_by_cached_key(|diagnostic| json.locate(&diagnostic.path));
    let places: Vec<usize> = diagnostics.iter().map(|diagnostic| json.locate(&diagnostic.path)).collect();
    for (diagnostic, (line, column)) in diagnostics.iter_mut().zip(lines_and_columns(text, &places)) {
        diagnostic.line = Some(line);
        diagnostic.column = Some(column);
    }
}

/// What could be read of a graph, and what could not.
pub(super) struct Draft {
    pub(super) graph: Graph,
    pub(super) broken: Broken,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Draft {
    pub(super) fn read(json: &Json) -> Self {
        let mut reader = Reader::default();
        let mut graph = Graph::new("");
        reader.graph(json, &mut graph);
        Self { graph, broken: reader.broken, diagnostics: reader.diagnostics }
    }
}

impl Reader {
    fn graph(&mut self, json: &Json, graph: &mut Graph) {
        const FIELDS: &[&str] = &["version", "name", "connections", "nodes", "settings"];
        let Some(members) = self.object(json, "", "a graph, which is an object") else { return };
        self.unknown("", members, FIELDS.iter().copied(), "a graph");
        for field in ["version", "name", "nodes"] {
            if !members.iter().any(|m| m.key == field) {
                self.missing("", field);
            }
        }
        for Member { key, value, .. } in members {
            match key.as_str() {
                "version" => self.version(value),
                "name" => {
                    graph.name = self.string(value, "name", "the name of the graph").unwrap_or_default()
                }
                "connections" => {
                    (graph.connections, self.broken.connections) =
                        self.named(value, "connections", Self::connection_spec);
                }
                "nodes" => {
                    (graph.nodes, self.broken.nodes) = self.named(value, "nodes", Self::node);
                    let edges: usize = graph.nodes.iter().map(|(_, node)| node.inputs().len()).sum();
                    if edges > MAX_EDGES {
                        let message =
                            format!("the nodes have {edges} inputs on the whole, more than {MAX_EDGES}");
                        self.too_large("nodes", message);
                        graph.nodes = Named::new();
                    }
                }
                "settings" => graph.settings = self.settings(value),
                _ => {}
            }
        }
    }

    fn too_large(&mut self, path: &str, message: String) {
        self.unread(path);
        self.say(Diagnostic::new(code::GRAPH_TOO_LARGE, path, message));
    }

    fn settings(&mut self, json: &Json) -> Settings {
        match self.object(json, "settings", "settings, which are an object") {
            Some(members) => self.fields(members, "settings"),
            None => {
                self.unread("settings.dead_letter");
                Settings::default()
            }
        }
    }

    fn version(&mut self, value: &Json) {
        let this = matches!(&value.shape, Shape::Number(n) if n.as_u64() == Some(Graph::VERSION));
        if !this {
            let message =
                format!("this is no version that can be read: {}", shown(&value.to_value().to_string()));
            let help = format!("write \"version\": {}", Graph::VERSION);
            self.say(Diagnostic::new(code::GRAPH_VERSION, "version", message).with_help(help));
        }
    }

    fn named<T>(
        &mut self,
        json: &Json,
        path: &str,
        read: impl Fn(&mut Self, &Json, &str) -> Option<T>,
    ) -> (Named<T>, HashSet<String>) {
        let mut named = Named::new();
        let mut broken = HashSet::new();
        let Some(members) = self.object(json, path, "an object, from name to thing") else {
            return (named, broken);
        };
        if members.len() > MAX_NODES {
            self.too_large(path, format!("there are {} {path}, more than {MAX_NODES}", members.len()));
            return (named, broken);
        }
        for Member { key, value, .. } in members {
            match read(self, value, &join(path, key)) {
                Some(thing) => drop(named.insert(key, thing)),
                None => drop(broken.insert(key.clone())),
            }
        }
        (named, broken)
    }

    fn connection_spec(&mut self, json: &Json, path: &str) -> Option<ConnectionSpec> {
        let members = self.object(json, path, "a connection, which is an object")?;
        self.unknown(path, members, ConnectionSpec::FIELDS.iter().copied(), "a connection");
        let mut spec = ConnectionSpec::new("");
        if !members.iter().any(|m| m.key == "use") {
            self.missing(path, "use");
        }
        for Member { key, value, .. } in members {
            let path = join(path, key);
            match key.as_str() {
                "use" => spec.uses = self.string(value, &path, "the name of a type").unwrap_or_default(),
                "config" => spec.config = self.config(value, &path),
                "rate_limit" => spec.rate_limit = self.typed(&value.to_value(), &path),
                _ => {}
            }
        }
        Some(spec)
    }

    fn config(&mut self, json: &Json, path: &str) -> Value {
        match &json.shape {
            Shape::Null => {}
            Shape::Object(_) => return json.to_value(),
            _ => self
                .invalid(path, format!("expected a config, which is an object, found {}", json.describe())),
        }
        crate::graph::connection::empty_config()
    }
}
