//! The nodes of a graph.

use std::collections::BTreeMap;

use serde_json::Value;

use super::reader::Reader;
use crate::compiler::diagnostic::{Diagnostic, code};
use crate::compiler::json::{Json, Member, Shape, join, shown};
use crate::graph::{
    ActionNode, BranchNode, ConnectionUse, FanInNode, FanOutNode, Node, NodeBody, Policies, Route, SinkNode,
    SourceNode, SpillPolicy,
};
use crate::suggest::did_you_mean;

impl Reader {
    pub(super) fn node(&mut self, json: &Json, path: &str) -> Option<Node> {
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
        let known = ["type"].iter().chain(fields).chain(Policies::FIELDS).copied();
        self.unknown(path, members, known, &format!("a node of type \"{kind}\""));
        let policies = members.iter().filter(|member| Policies::FIELDS.contains(&member.key.as_str()));
        let policies = self.fields(policies, path);
        Some(Node { body: self.body(&kind, &get, path), policies })
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
                    .map(|json| self.names(json, &join(path, "best_effort")))
                    .unwrap_or_default(),
                spill: get("spill").map(|json| self.spill(json, path)).unwrap_or_default(),
            }
            .into(),
            _ => FanInNode { inputs: self.inputs(get("inputs"), path, true) }.into(),
        }
    }

    fn spill(&mut self, json: &Json, path: &str) -> BTreeMap<String, SpillPolicy> {
        let path = join(path, "spill");
        let members = self.object(json, &path, "an object, from reader to { \"memory\", \"disk\" }");
        let policy = |Member { key, value, .. }: &Member| {
            let path = join(&path, key);
            let policy = self.typed(&value.to_value(), &path);
            if policy.is_none() {
                self.unread(path);
            }
            (key.clone(), policy.unwrap_or_default())
        };
        members.into_iter().flatten().map(policy).collect()
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

    pub(super) fn connection(&mut self, json: &Json, path: &str) -> Option<ConnectionUse> {
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
            Some(json) => self.names(json, &join(path, "inputs")),
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
                // The name of a route is known even where its expression is none.
                let route = |Member { key, value, .. }: &Member| {
                    let when = self.string(value, &join(&path, key), "an expression");
                    Route::new(key, when.unwrap_or_default())
                };
                members.iter().map(route).collect()
            }
            Shape::Array(items) => {
                let route = |(i, item): (usize, &Json)| self.route(item, &format!("{path}[{i}]"));
                let routes: Vec<Route> = items.iter().enumerate().filter_map(route).collect();
                if routes.len() < items.len() {
                    self.unread(path);
                }
                routes
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
        self.unknown(path, members, ["route", "when"], "a route");
        let (mut name, mut when) = (None, None);
        for Member { key, value, .. } in members {
            match key.as_str() {
                "route" => name = Some(self.string(value, &join(path, "route"), "the name of a route")?),
                "when" => when = Some(self.string(value, &join(path, "when"), "an expression")?),
                _ => {}
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
