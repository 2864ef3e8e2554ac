//! Edges: that each input is there, each node has as many as it takes, each output one reader.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Check, DraftEdge, did_you_mean, join, quoted};
use crate::compiler::diagnostic::code;
use crate::compiler::json::shown;
use crate::compiler::plan::{Port, Work};
use crate::graph::{NodeBody, PortRef};

impl<'g> Check<'g> {
    pub(super) fn edges(&mut self) {
        for node in 0..self.nodes.len() {
            let inputs: &'g [String] = self.nodes[node].node.inputs();
            let mut seen = HashSet::new();
            for (index, input) in inputs.iter().enumerate() {
                if self.broken.has(&self.nodes[node].input(index)) {
                    continue;
                }
                if seen.insert(input) {
                    self.edge(node, index, input);
                } else {
                    let message = format!(
                        "node \"{}\" names the input \"{}\" twice",
                        self.nodes[node].name,
                        shown(input)
                    );
                    self.say_with(
                        code::INPUT_DUPLICATE,
                        self.nodes[node].input(index),
                        message,
                        "remove one".to_owned(),
                    );
                }
            }
            // One that is named twice is a mistake of its own.
            self.arity(node, inputs, seen.len());
        }
        self.second_readers();
        self.copies();
        self.unread();
    }

    fn edge(&mut self, to: usize, index: usize, input: &'g str) {
        let reference = PortRef::parse(input);
        let path = self.nodes[to].input(index);
        let Some(&from) = self.index.get(reference.node) else {
            self.nodes[to].fed = false;
            if self.broken.nodes.contains(reference.node) || self.broken.has("nodes") {
                return;
            }
            let near = self.nearest(reference.node, self.graph.nodes.names());
            if let Some(near) = near {
                self.missed.extend(self.index.get(near));
            }
            let help = match near {
                Some(near) => Some(did_you_mean(&PortRef { node: near, ..reference }.to_string())),
                None if self.graph.nodes.is_empty() => None,
                None => Some(format!("the nodes are {}", quoted(self.graph.nodes.names()))),
            };
            let message = format!(
                "node \"{}\" reads from \"{}\", which does not exist",
                self.nodes[to].name,
                shown(reference.node)
            );
            self.say_with(code::INPUT_UNKNOWN, path, message, help);
            return;
        };
        let Some(port) = self.port(from, reference, &path) else {
            self.nodes[to].fed = false;
            self.missed.insert(from);
            return;
        };
        self.link(from, port, to, Some(index));
    }

    pub(super) fn link(&mut self, from: usize, port: Port, to: usize, input: Option<usize>) {
        let edge = self.edges.len();
        self.edges.push(DraftEdge { from, port, to, input });
        self.nodes[from].outputs.push(edge);
        self.nodes[to].inputs.push(edge);
    }

    fn port(&mut self, from: usize, reference: PortRef<'_>, path: &str) -> Option<Port> {
        let name = self.nodes[from].name;
        let body: &'g NodeBody = &self.nodes[from].node.body;
        let routes: Vec<&str> = match body {
            NodeBody::Branch(branch) => {
                branch.routes.iter().map(|r| r.name.as_str()).chain(branch.default.as_deref()).collect()
            }
            _ => Vec::new(),
        };
        match (reference.port, body) {
            (Some(PortRef::DEAD_LETTER), NodeBody::FanOut(_) | NodeBody::FanIn(_)) => {
                let message = format!("node \"{name}\" is a {} and sets nothing aside", body.type_name());
                let help = "read the dead letters of the nodes around it".to_owned();
                self.say_with(code::DEAD_LETTER_NEVER, path, message, help);
                None
            }
            (Some(PortRef::DEAD_LETTER), _) => Some(Port::DeadLetter),
            (None, NodeBody::Branch(_)) => {
                let message = format!("branch \"{name}\" gives nothing but through its routes");
                let ports: Vec<_> = routes.iter().map(|route| format!("{name}.{route}")).collect();
                let help = (!ports.is_empty())
                    .then(|| format!("read from {}", quoted(ports.iter().map(String::as_str))));
                self.say_with(code::INPUT_UNKNOWN_PORT, path, message, help);
                None
            }
            (None, NodeBody::Sink(_)) => {
                let message = format!("sink \"{name}\" gives nothing but its dead letters");
                let help = format!("read from \"{name}.dead_letter\", or put a fan_out before the sink");
                self.say_with(code::INPUT_UNKNOWN_PORT, path, message, help);
                None
            }
            (None, _) => Some(Port::Out),
            (Some(port), NodeBody::Branch(_)) if routes.contains(&port) => Some(Port::Route(Arc::from(port))),
            // It may be one of those that could not be read.
            (Some(_), NodeBody::Branch(_))
                if ["routes", "default"].iter().any(|f| self.broken.has(&self.nodes[from].field(f))) =>
            {
                None
            }
            (Some(port), _) => {
                let message = format!("node \"{name}\" has no port \"{}\"", shown(port));
                let help = match self.nearest(port, routes.iter().copied().chain([PortRef::DEAD_LETTER])) {
                    Some(near) => did_you_mean(&format!("{name}.{near}")),
                    None if routes.is_empty() => format!("it gives \"{name}\" and \"{name}.dead_letter\""),
                    None => format!("its routes are {}", quoted(routes)),
                };
                self.say_with(code::INPUT_UNKNOWN_PORT, path, message, help);
                None
            }
        }
    }

    fn arity(&mut self, node: usize, inputs: &[String], have: usize) {
        let (name, body) = (self.nodes[node].name, &self.nodes[node].node.body);
        let takes_dead_letters = self.graph.settings.dead_letter.as_deref() == Some(name);
        let path = self.nodes[node].field("inputs");
        let several = match &self.nodes[node].work {
            Some(Work::Action(config)) => Some(config.inputs()).filter(|takes| *takes > 1),
            _ => None,
        };
        match (body, have) {
            (NodeBody::Source(_), _) => return,
            _ if several == Some(have) => return,
            _ if several.is_some() && !self.broken.has(&path) => {
                let takes = several.unwrap_or_default();
                let message = format!("node \"{name}\" has {have} inputs, and takes {takes} in their order");
                let help = format!("name {takes} nodes or ports in \"inputs\", the left one first");
                self.say_with(code::INPUT_COUNT, path, message, help);
            }
            (NodeBody::FanIn(_), 2..) | (_, 1) => return,
            (NodeBody::Sink(_), 0) if takes_dead_letters => return,
            (NodeBody::Sink(_), 0) if self.broken.has("settings.dead_letter") => {}
            _ if self.broken.has(&path) => {}
            (NodeBody::FanIn(_), _) => {
                let message = format!("fan_in \"{name}\" has {have} inputs, and needs two or more");
                self.say(code::INPUT_COUNT, path, message);
            }
            (_, 0) => {
                let message = format!("node \"{name}\" has no input");
                self.say_with(
                    code::INPUT_COUNT,
                    path,
                    message,
                    "name the node that feeds it in \"inputs\"".to_owned(),
                );
            }
            _ => {
                let message = format!("node \"{name}\" has {have} inputs, and takes one");
                let all = quoted(inputs.iter().map(String::as_str));
                let help = format!(
                    "let them flow together first, \"{name}_in\": {{ \"type\": \"fan_in\", \"inputs\": [{all}] }}, and read from \"{name}_in\""
                );
                self.say_with(code::INPUT_COUNT, path, message, help);
            }
        }
        self.nodes[node].fed = false;
    }

    fn second_readers(&mut self) {
        let mut readers: HashMap<(usize, &Port), Vec<usize>> = HashMap::new();
        for (index, edge) in self.edges.iter().enumerate() {
            let many =
                matches!(self.nodes[edge.from].node.body, NodeBody::FanOut(_)) && edge.port == Port::Out;
            if !many {
                readers.entry((edge.from, &edge.port)).or_default().push(index);
            }
        }
        let mut doubled: Vec<_> = readers.into_values().filter(|edges| edges.len() > 1).collect();
        doubled.sort_unstable();
        for edges in doubled {
            let reader = |edge: usize| self.nodes[self.edges[edge].to].name;
            let edge = &self.edges[edges[1]];
            let from = self.nodes[edge.from].name;
            let output = match &edge.port {
                Port::Out => from.to_owned(),
                Port::Route(route) => format!("{from}.{route}"),
                Port::DeadLetter => format!("{from}.dead_letter"),
            };
            let copies = self.free_name(&format!("{}_copies", output.replace('.', "_")));
            let all = quoted(edges.iter().map(|edge| reader(*edge)));
            let message = format!("\"{output}\" feeds {all}, and an output feeds one node");
            let help = format!(
                "insert \"{copies}\": {{ \"type\": \"fan_out\", \"inputs\": [\"{output}\"] }} and let {all} read from \"{copies}\""
            );
            let path = self.nodes[edge.to].input(edge.input.unwrap_or_default());
            self.say_with(code::OUTPUT_SECOND_READER, path, message, help);
        }
    }

    fn free_name(&self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut n = 2;
        while self.graph.nodes.contains(&name) {
            name = format!("{wanted}_{n}");
            n += 1;
        }
        name
    }

    /// Turns the names of readers that a fan-out treats otherwise into the indices of its outputs.
    fn copies(&mut self) {
        for node in 0..self.nodes.len() {
            let NodeBody::FanOut(fan_out) = &self.nodes[node].node.body else { continue };
            let edges = self.nodes[node].outputs.iter().filter(|edge| self.edges[**edge].port == Port::Out);
            let readers: Vec<&str> = edges.map(|edge| self.nodes[self.edges[*edge].to].name).collect();
            let mut best_effort = Vec::new();
            for (i, name) in fan_out.best_effort.iter().enumerate() {
                let path = format!("{}[{i}]", self.nodes[node].field("best_effort"));
                best_effort.extend(self.copy(node, &readers, name, path, code::FAN_OUT_BEST_EFFORT));
            }
            best_effort.sort_unstable();
            best_effort.dedup();
            let mut spill = Vec::new();
            for (name, policy) in &fan_out.spill {
                let path = join(&self.nodes[node].field("spill"), name);
                let Some(copy) = self.copy(node, &readers, name, path.clone(), code::FAN_OUT_SPILL) else {
                    continue;
                };
                spill.push((copy, *policy));
                if best_effort.contains(&copy) {
                    let message = format!(
                        "\"{name}\" is best effort, which misses copies, and spills, which misses none"
                    );
                    let help = "name it in one of \"best_effort\" and \"spill\"".to_owned();
                    self.say_with(code::FAN_OUT_SPILL, path.clone(), message, help);
                }
                for (field, bytes) in [("memory", policy.memory), ("disk", policy.disk)] {
                    if bytes == Some(0) {
                        let message = format!("`{field}` is 0, so nothing could wait for \"{name}\" there");
                        let help = "give a size such as \"64MB\"".to_owned();
                        self.say_with(code::FAN_OUT_SPILL, join(&path, field), message, help);
                    }
                }
            }
            self.nodes[node].work = Some(Work::FanOut { best_effort, spill });
        }
    }

    /// Returns which reader of a fan-out is meant, or says that none is.
    fn copy(
        &mut self,
        node: usize,
        readers: &[&str],
        name: &str,
        path: String,
        code: &'static str,
    ) -> Option<usize> {
        let found = readers.iter().position(|reader| *reader == name);
        let hidden = self.broken.nodes.contains(name)
            || self.broken.has(&path)
            || self.broken.has(&join(&join("nodes", name), "inputs"));
        if found.is_none() && !hidden {
            let help = match self.nearest(name, readers.iter().copied()) {
                Some(near) => did_you_mean(near),
                None => format!("its readers are {}", quoted(readers.iter().copied())),
            };
            let message =
                format!("\"{}\" does not read from the fan_out \"{}\"", shown(name), self.nodes[node].name);
            self.say_with(code, path, message, help);
        }
        found
    }

    fn unread(&mut self) {
        if self.broken.hides_inputs() {
            return;
        }
        for node in 0..self.nodes.len() {
            let name = self.nodes[node].name;
            let read: HashSet<&Port> =
                self.nodes[node].outputs.iter().map(|edge| &self.edges[*edge].port).collect();
            let mut unread = Vec::new();
            match &self.nodes[node].node.body {
                NodeBody::Sink(_) => {}
                NodeBody::Branch(branch) => {
                    let routes = branch
                        .routes
                        .iter()
                        .map(|r| (&r.name, join(&self.nodes[node].field("routes"), &r.name)));
                    let default = branch.default.iter().map(|name| (name, self.nodes[node].field("default")));
                    let missing = routes
                        .chain(default)
                        .filter(|(route, _)| !read.contains(&Port::Route(Arc::from(route.as_str()))));
                    unread.extend(missing.map(|(route, path)| {
                        (format!("route \"{route}\" of \"{name}\" feeds nothing"), path)
                    }));
                }
                _ if read.contains(&Port::Out) => {}
                _ => unread.push((format!("node \"{name}\" feeds nothing"), self.nodes[node].path())),
            }
            if self.missed.contains(&node) {
                continue;
            }
            for (message, path) in unread {
                let help = "let a node read from it, or remove it".to_owned();
                self.say_with(code::OUTPUT_UNREAD, path, message, help);
            }
        }
    }
}
