//! Pictures of graphs and plans, as Mermaid and DOT.

use std::fmt::Write;

use super::explain::type_name;
use super::plan::{ExecutionPlan, Port};
use crate::graph::{Graph, PortRef};

impl Graph {
    /// Returns a picture of the graph for [Mermaid](https://mermaid.js.org), whether or not it
    /// compiles.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        Picture::of_graph(self).mermaid()
    }

    /// Returns a picture of the graph for [Graphviz](https://graphviz.org), whether or not it
    /// compiles.
    #[must_use]
    pub fn to_dot(&self) -> String {
        Picture::of_graph(self).dot()
    }
}

impl ExecutionPlan {
    /// Returns a picture of the plan for [Mermaid](https://mermaid.js.org).
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        Picture::of_plan(self).mermaid()
    }

    /// Returns a picture of the plan for [Graphviz](https://graphviz.org).
    #[must_use]
    pub fn to_dot(&self) -> String {
        Picture::of_plan(self).dot()
    }
}

struct Picture<'a> {
    name: &'a str,
    nodes: Vec<Node<'a>>,
    edges: Vec<Edge<'a>>,
}

struct Node<'a> {
    name: &'a str,
    type_name: &'static str,
    operation: &'a str,
}

struct Edge<'a> {
    from: usize,
    port: Option<&'a str>,
    to: usize,
}

impl<'a> Picture<'a> {
    fn of_graph(graph: &'a Graph) -> Self {
        let nodes = graph.nodes.iter().map(|(name, node)| {
            let type_name = node.body.type_name();
            Node { name, type_name, operation: node.uses().unwrap_or(type_name) }
        });
        let mut edges = Vec::new();
        for (to, (_, node)) in graph.nodes.iter().enumerate() {
            for input in node.inputs() {
                let PortRef { node, port } = PortRef::parse(input);
                edges.extend(graph.nodes.index_of(node).map(|from| Edge { from, port, to }));
            }
        }
        Self { name: &graph.name, nodes: nodes.collect(), edges }
    }

    fn of_plan(plan: &'a ExecutionPlan) -> Self {
        let parts = &*plan.0;
        let nodes = parts.nodes.iter().map(|node| Node {
            name: &node.name,
            type_name: type_name(&node.work),
            operation: &node.operation,
        });
        let edges = parts.edges.iter().map(|edge| Edge {
            from: edge.from,
            port: match &edge.port {
                Port::Out => None,
                Port::Route(route) => Some(route),
                Port::DeadLetter => Some(PortRef::DEAD_LETTER),
            },
            to: edge.to,
        });
        Self { name: &parts.graph.name, nodes: nodes.collect(), edges: edges.collect() }
    }

    fn mermaid(&self) -> String {
        let escaped = |text: &str| text.replace('"', "#quot;").replace(['\n', '\r'], " ");
        let mut out = String::from("flowchart LR\n");
        for (i, node) in self.nodes.iter().enumerate() {
            let (open, close) = match node.type_name {
                "source" => ("([", "])"),
                "sink" => ("[(", ")]"),
                "branch" => ("{", "}"),
                "fan_out" | "fan_in" => ("((", "))"),
                _ => ("[", "]"),
            };
            let label = format!("{}<br/>{}", escaped(node.name), escaped(node.operation));
            let _ = writeln!(out, "    n{i}{open}\"{label}\"{close}");
        }
        for Edge { from, port, to } in &self.edges {
            let _ = match port {
                None => writeln!(out, "    n{from} --> n{to}"),
                Some(PortRef::DEAD_LETTER) => writeln!(out, "    n{from} -. dead_letter .-> n{to}"),
                Some(port) => writeln!(out, "    n{from} -- \"{}\" --> n{to}", escaped(port)),
            };
        }
        out
    }

    fn dot(&self) -> String {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let mut out = format!("digraph \"{}\" {{\n    rankdir=LR;\n", escaped(self.name));
        for (i, node) in self.nodes.iter().enumerate() {
            let shape = match node.type_name {
                "source" => "oval",
                "sink" => "cylinder",
                "branch" => "diamond",
                "fan_out" | "fan_in" => "circle",
                _ => "box",
            };
            let _ = writeln!(
                out,
                "    n{i} [label=\"{}\\n{}\", shape={shape}];",
                escaped(node.name),
                escaped(node.operation)
            );
        }
        for Edge { from, port, to } in &self.edges {
            let _ = match port {
                None => writeln!(out, "    n{from} -> n{to};"),
                Some(PortRef::DEAD_LETTER) => {
                    writeln!(out, "    n{from} -> n{to} [label=\"dead_letter\", style=dashed];")
                }
                Some(port) => writeln!(out, "    n{from} -> n{to} [label=\"{}\"];", escaped(port)),
            };
        }
        out.push_str("}\n");
        out
    }
}
