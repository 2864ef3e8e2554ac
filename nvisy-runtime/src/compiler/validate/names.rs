//! Names and numbers: what even a graph that nobody wrote as JSON has to keep to.

use super::{Check, join};
use crate::compiler::diagnostic::code;
use crate::compiler::json::shown;
use crate::compiler::parse::{MAX_EDGES, MAX_NODES};
use crate::graph::{NodeBody, PortRef};

/// The longest name, in bytes.
const MAX_NAME: usize = 128;

impl Check<'_> {
    pub(super) fn sizes_and_names(&mut self) {
        let (nodes, connections) = (self.graph.nodes.len(), self.graph.connections.len());
        let edges: usize = self.graph.nodes.iter().map(|(_, node)| node.inputs().len()).sum();
        for (have, most, what) in [
            (nodes, MAX_NODES, "nodes"),
            (connections, MAX_NODES, "connections"),
            (edges, MAX_EDGES, "inputs"),
        ] {
            if have > most {
                self.say(
                    code::GRAPH_TOO_LARGE,
                    "nodes",
                    format!("there are {have} {what}, more than {most}"),
                );
            }
        }
        let whole = self.broken.nodes.is_empty() && !self.broken.has("nodes");
        if nodes == 0 && whole {
            let help = "add a source and a sink that reads from it".to_owned();
            self.say_with(code::GRAPH_EMPTY, "nodes", "the graph has no nodes", help);
        } else if whole {
            let has = |type_name| self.graph.nodes.iter().any(|(_, node)| node.body.type_name() == type_name);
            let (source, sink) = (has("source"), has("sink"));
            if !source {
                let help = "add a node of type \"source\": nothing flows without one".to_owned();
                self.say_with(code::GRAPH_NO_SOURCE, "nodes", "no node is a source", help);
            }
            if !sink {
                let help = "add a node of type \"sink\": nothing arrives without one".to_owned();
                self.say_with(code::GRAPH_NO_SINK, "nodes", "no node is a sink", help);
            }
        }
        let named = (1..=MAX_NAME).contains(&self.graph.name.len()) || self.broken.has("name");
        if !named {
            self.say(code::NAME_INVALID, "name", format!("the name of a graph has 1 to {MAX_NAME} bytes"));
        }
        for name in self.graph.connections.names() {
            self.name("connection", &join("connections", name), name);
        }
        for (name, node) in self.graph.nodes.iter() {
            let path = join("nodes", name);
            self.name("node", &path, name);
            if let NodeBody::Branch(branch) = &node.body {
                for route in &branch.routes {
                    self.name("route", &join(&join(&path, "routes"), &route.name), &route.name);
                }
                if let Some(default) = &branch.default {
                    self.name("route", &join(&path, "default"), default);
                }
            }
        }
    }

    fn name(&mut self, what: &str, path: &str, name: &str) {
        let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
            let help = format!("a name has 1 to {MAX_NAME} bytes of letters, digits, `_` and `-`");
            self.say_with(
                code::NAME_INVALID,
                path,
                format!("\"{}\" is no name for a {what}", shown(name)),
                help,
            );
        } else if what == "route" && name == PortRef::DEAD_LETTER {
            let help = "every node has a port of that name already: choose another one".to_owned();
            self.say_with(code::NAME_INVALID, path, format!("\"{name}\" is no name for a route"), help);
        }
    }
}
