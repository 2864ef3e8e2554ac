//! JSON to a graph: every problem that can be found without a registry, each with its place.

use std::collections::HashSet;

use nvisy_core::config::{Problem, parse};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::diagnostic::{Diagnostic, Diagnostics, code};
use super::json::{Json, Member, Shape, join, lines_and_columns, shown};
use super::suggest::{did_you_mean, known_fields};
use crate::graph::{
    ActionNode, BranchNode, ConnectionSpec, ConnectionUse, FanInNode, FanOutNode, Graph, Named, Node,
    NodeBody, Policies, Route, Settings, SinkNode, SourceNode,
};

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
    /// The nodes and connections that are there but could not be read: nothing is known of them.
    pub(super) broken: Broken,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// The names of what could not be read.
#[derive(Debug, Default)]
pub(super) struct Broken {
    pub(super) nodes: HashSet<String>,
    pub(super) connections: HashSet<String>,
}

impl Draft {
    pub(super) fn read(json: &Json) -> Self {
        let mut reader = Reader::default();
        let mut graph = Graph::new("");
        let mut broken = Broken::default();
        reader.graph(json, &mut graph, &mut broken);
        Self { graph, broken, diagnostics: reader.diagnostics }
    }
}

#[derive(Default)]
struct Reader {
    diagnostics: Vec<Diagnostic>,
}

impl Reader {
    fn say(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn invalid(&mut self, path: &str, message: impl Into<String>) {
        self.say(Diagnostic::new(code::GRAPH_INVALID, path, message));
    }

    fn missing(&mut self, path: &str, field: &str) {
        let missing = Diagnostic::new(code::GRAPH_INVALID, path, format!("the field `{field}` is missing"));
        self.say(match field {
            "version" => missing.with_help(format!("write \"version\": {}", Graph::VERSION)),
            "type" => missing.with_help(format!("the types are {}", NodeBody::TYPES.join(", "))),
            _ => missing,
        });
    }

    /// Returns the members of an object.
    fn object<'j>(&mut self, json: &'j Json, path: &str, what: &str) -> Option<&'j [Member]> {
        if let Shape::Object(members) = &json.shape {
            return Some(members);
        }
        self.invalid(path, format!("expected {what}, found {}", json.describe()));
        None
    }

    fn string(&mut self, json: &Json, path: &str, what: &str) -> Option<String> {
        if let Shape::String(string) = &json.shape {
            return Some(string.clone());
        }
        self.invalid(path, format!("expected {what}, found {}", json.describe()));
        None
    }

    fn strings(&mut self, json: &Json, path: &str, what: &str) -> Option<Vec<String>> {
        let Shape::Array(items) = &json.shape else {
            self.invalid(path, format!("expected an array of {what}s, found {}", json.describe()));
            return None;
        };
        let mut strings = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            match &item.shape {
                Shape::String(string) => strings.push(string.clone()),
                _ => self.invalid(
                    &format!("{path}[{i}]"),
                    format!("expected a {what}, found {}", item.describe()),
                ),
            }
        }
        (strings.len() == items.len()).then_some(strings)
    }

    fn unknown<'k>(&mut self, path: &str, key: &str, known: impl IntoIterator<Item = &'k str>, of: &str) {
        let known: Vec<_> = known.into_iter().collect();
        let help = did_you_mean(key, known.iter().copied())
            .unwrap_or_else(|| format!("{of} has the fields {}", known.join(", ")));
        let message = format!("{of} has no field `{}`", shown(key));
        self.say(Diagnostic::new(code::GRAPH_UNKNOWN_FIELD, join(path, key), message).with_help(help));
    }

    /// Reads one of the small values with a type of their own.
    fn typed<T: DeserializeOwned>(&mut self, value: &Value, path: &str) -> Option<T> {
        match parse(value) {
            Ok(value) => Some(value),
            Err(problems) => {
                for problem in problems {
                    self.problem(problem, path);
                }
                None
            }
        }
    }

    fn problem(&mut self, problem: Problem, path: &str) {
        if problem.code != Problem::UNKNOWN_FIELD {
            return self.say(Diagnostic::of(problem.with_code(code::GRAPH_INVALID), path));
        }
        let mut diagnostic = Diagnostic::of(problem.with_code(code::GRAPH_UNKNOWN_FIELD), path);
        if let (Some(field), Some(known)) =
            (diagnostic.path.rsplit('.').next(), known_fields(&diagnostic.message))
        {
            let message = format!("there is no field `{}` here", shown(field));
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let help = did_you_mean(field, known.iter().copied())
                .unwrap_or_else(|| format!("the fields are {}", known.join(", ")));
            diagnostic = Diagnostic { message, help: Some(help), ..diagnostic };
        }
        self.say(diagnostic);
    }

    fn graph(&mut self, json: &Json, graph: &mut Graph, broken: &mut Broken) {
        const FIELDS: &[&str] = &["version", "name", "connections", "nodes", "settings"];
        let Some(members) = self.object(json, "", "a graph, which is an object") else { return };
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
                    let read = Self::connection_spec;
                    (graph.connections, broken.connections) = self.named(value, "connections", read);
                }
                "nodes" => {
                    (graph.nodes, broken.nodes) = self.named(value, "nodes", Self::node);
                    let edges: usize = graph.nodes.iter().map(|(_, node)| node.inputs().len()).sum();
                    if edges > MAX_EDGES {
                        let message =
                            format!("the nodes have {edges} inputs on the whole, more than {MAX_EDGES}");
                        self.say(Diagnostic::new(code::GRAPH_TOO_LARGE, "nodes", message));
                        graph.nodes = Named::new();
                    }
                }
                "settings" => {
                    if let Some(settings) = self.typed::<Settings>(&value.to_value(), "settings") {
                        graph.settings = settings;
                    }
                }
                other => self.unknown("", other, FIELDS.iter().copied(), "a graph"),
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
            let message = format!("there are {} {path}, more than {MAX_NODES}", members.len());
            self.say(Diagnostic::new(code::GRAPH_TOO_LARGE, path, message));
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
        let before = self.diagnostics.len();
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
        for member in members.iter().filter(|m| !ConnectionSpec::FIELDS.contains(&m.key.as_str())) {
            self.unknown(path, &member.key, ConnectionSpec::FIELDS.iter().copied(), "a connection");
        }
        (self.diagnostics.len() == before).then_some(spec)
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

    fn node(&mut self, json: &Json, path: &str) -> Option<Node> {
        let members = self.object(json, path, "a node, which is an object")?;
        let get = |field: &str| {
            let member = members.iter().find(|m| m.key == field)?;
            (member.value.shape != Shape::Null).then_some(&member.value)
        };
        let Some(kind) = get("type") else {
            self.missing(path, "type");
            return None;
        };
        let kind = self.string(kind, &join(path, "type"), "the type of a node")?;
        let fields = match kind.as_str() {
            "source" => SourceNode::FIELDS,
            "action" => ActionNode::FIELDS,
            "sink" => SinkNode::FIELDS,
            "branch" => BranchNode::FIELDS,
            "fan_out" => FanOutNode::FIELDS,
            "fan_in" => FanInNode::FIELDS,
            other => {
                let help = did_you_mean(other, NodeBody::TYPES.iter().copied())
                    .unwrap_or_else(|| format!("the types are {}", NodeBody::TYPES.join(", ")));
                let message = format!("there is no type of node \"{}\"", shown(other));
                self.say(Diagnostic::new(code::GRAPH_INVALID, join(path, "type"), message).with_help(help));
                return None;
            }
        };
        let before = self.diagnostics.len();
        let policies = self.policies(members, path);
        for Member { key, .. } in members {
            let key = key.as_str();
            if key != "type" && !fields.contains(&key) && !Policies::FIELDS.contains(&key) {
                let known = fields.iter().chain(Policies::FIELDS).copied();
                self.unknown(path, key, known, &format!("a node of type \"{kind}\""));
            }
        }
        let body = self.body(&kind, &get, path);
        (self.diagnostics.len() == before).then_some(Node { body, policies })
    }

    fn policies(&mut self, members: &[Member], path: &str) -> Policies {
        let mut policies = Policies::default();
        for Member { key, value, .. } in members {
            if !Policies::FIELDS.contains(&key.as_str()) {
                continue;
            }
            let one = Value::Object([(key.clone(), value.to_value())].into_iter().collect());
            let Some(one) = self.typed::<Policies>(&one, path) else { continue };
            policies = Policies {
                retry: policies.retry.or(one.retry),
                timeout: policies.timeout.or(one.timeout),
                deadline: policies.deadline.or(one.deadline),
                concurrency: policies.concurrency.or(one.concurrency),
                rate_limit: policies.rate_limit.or(one.rate_limit),
                on_error: policies.on_error.or(one.on_error),
                batch: policies.batch.or(one.batch),
                memo: policies.memo.or(one.memo),
            };
        }
        policies
    }

    fn body<'j>(&mut self, kind: &str, get: &impl Fn(&str) -> Option<&'j Json>, path: &str) -> NodeBody {
        match kind {
            "source" => SourceNode {
                uses: self.uses(get("use"), path),
                connection: get("connection").and_then(|json| self.connection(json, path)),
                config: self.config_of(get("config"), path),
                key: get("key").and_then(|json| self.string(json, &join(path, "key"), "an expression")),
            }
            .into(),
            "action" => ActionNode {
                uses: self.uses(get("use"), path),
                connection: get("connection").and_then(|json| self.connection(json, path)),
                inputs: self.inputs(get("inputs"), path, true),
                config: self.config_of(get("config"), path),
            }
            .into(),
            "sink" => SinkNode {
                uses: self.uses(get("use"), path),
                connection: get("connection").and_then(|json| self.connection(json, path)),
                inputs: self.inputs(get("inputs"), path, false),
                config: self.config_of(get("config"), path),
            }
            .into(),
            "branch" => BranchNode {
                inputs: self.inputs(get("inputs"), path, true),
                routes: self.routes(get("routes"), path),
                default: get("default")
                    .and_then(|json| self.string(json, &join(path, "default"), "the name of a route")),
            }
            .into(),
            "fan_out" => FanOutNode {
                inputs: self.inputs(get("inputs"), path, true),
                best_effort: get("best_effort")
                    .and_then(|json| self.strings(json, &join(path, "best_effort"), "name"))
                    .unwrap_or_default(),
            }
            .into(),
            _ => FanInNode { inputs: self.inputs(get("inputs"), path, true) }.into(),
        }
    }

    fn uses(&mut self, json: Option<&Json>, path: &str) -> String {
        match json {
            Some(json) => self.string(json, &join(path, "use"), "the name of a type").unwrap_or_default(),
            None => {
                self.missing(path, "use");
                String::new()
            }
        }
    }

    fn config_of(&mut self, json: Option<&Json>, path: &str) -> Value {
        json.map_or_else(crate::graph::connection::empty_config, |json| {
            self.config(json, &join(path, "config"))
        })
    }

    fn connection(&mut self, json: &Json, path: &str) -> Option<ConnectionUse> {
        let path = join(path, "connection");
        match &json.shape {
            Shape::String(name) => Some(ConnectionUse::Shared(name.clone())),
            Shape::Object(_) => self.connection_spec(json, &path).map(ConnectionUse::Inline),
            _ => {
                self.invalid(
                    &path,
                    format!("expected the name of a connection, or a connection, found {}", json.describe()),
                );
                None
            }
        }
    }

    fn inputs(&mut self, json: Option<&Json>, path: &str, required: bool) -> Vec<String> {
        match json {
            Some(json) => self.strings(json, &join(path, "inputs"), "name").unwrap_or_default(),
            None => {
                if required {
                    self.missing(path, "inputs");
                }
                Vec::new()
            }
        }
    }

    fn routes(&mut self, json: Option<&Json>, path: &str) -> Vec<Route> {
        let Some(json) = json else {
            self.missing(path, "routes");
            return Vec::new();
        };
        let path = join(path, "routes");
        match &json.shape {
            Shape::Object(members) => {
                let route = |m: &Member| {
                    Some(Route::new(&*m.key, self.string(&m.value, &join(&path, &m.key), "an expression")?))
                };
                members.iter().filter_map(route).collect()
            }
            Shape::Array(items) => {
                let route = |(i, item): (usize, &Json)| self.route(item, &format!("{path}[{i}]"));
                items.iter().enumerate().filter_map(route).collect()
            }
            _ => {
                self.invalid(
                    &path,
                    format!("expected an object, from route to expression, found {}", json.describe()),
                );
                Vec::new()
            }
        }
    }

    fn route(&mut self, json: &Json, path: &str) -> Option<Route> {
        let members = self.object(json, path, "a route: {\"route\": NAME, \"when\": EXPRESSION}")?;
        let (mut name, mut when) = (None, None);
        for Member { key, value, .. } in members {
            match key.as_str() {
                "route" => name = Some(self.string(value, &join(path, "route"), "the name of a route")?),
                "when" => when = Some(self.string(value, &join(path, "when"), "an expression")?),
                other => self.unknown(path, other, ["route", "when"], "a route"),
            }
        }
        if name.is_none() {
            self.missing(path, "route");
        }
        if when.is_none() {
            self.missing(path, "when");
        }
        Some(Route::new(name?, when?))
    }
}
