//! Nodes and edges with properties: a knowledge graph, or a piece of one.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::raw::json_size;
use super::validated::validated;
use crate::error::{Error, Result};
use crate::hash::{Content, ContentHasher};

/// The fields of a [`Graph`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphFields {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The edges between them.
    #[serde(default)]
    pub edges: Vec<Edge>,
}

/// One node of a [`Graph`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Names it within its graph.
    pub id: String,
    /// What it is: `Person`, `Company`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// What is known about it.
    #[serde(default, with = "crate::metadata::json_map")]
    pub properties: BTreeMap<String, Value>,
}

/// One edge of a [`Graph`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// The id of the node that it starts at.
    pub from: String,
    /// The id of the node that it ends at.
    pub to: String,
    /// What it means: `WORKS_FOR`.
    #[serde(default)]
    pub label: String,
    /// What is known about it.
    #[serde(default, with = "crate::metadata::json_map")]
    pub properties: BTreeMap<String, Value>,
}

impl GraphFields {
    fn check(&self) -> Result<()> {
        let mut ids = HashSet::with_capacity(self.nodes.len());
        for (at, node) in self.nodes.iter().enumerate() {
            if node.id.is_empty() {
                return Err(Error::invalid(format!("graph.nodes[{at}].id"), "is empty"));
            }
            if !ids.insert(node.id.as_str()) {
                let field = format!("graph.nodes[{at}].id");
                return Err(Error::invalid(field, "is taken by another node").with_detail(&node.id));
            }
        }
        for (at, edge) in self.edges.iter().enumerate() {
            for (end, id) in [("from", &edge.from), ("to", &edge.to)] {
                if !ids.contains(id.as_str()) {
                    let field = format!("graph.edges[{at}].{end}");
                    return Err(Error::invalid(field, "names a node that is not there").with_detail(id));
                }
            }
        }
        Ok(())
    }
}

validated! {
    /// Nodes and edges with properties. Edges name nodes that exist.
    Graph(GraphFields)
}

impl Graph {
    /// Makes a graph of its nodes and edges.
    ///
    /// # Errors
    ///
    /// `validation` if two nodes have one id, or an edge names a node that is not there.
    pub fn new(nodes: Vec<Node>, edges: Vec<Edge>) -> Result<Self> {
        GraphFields { nodes, edges }.try_into()
    }

    /// Returns the node of that id.
    #[must_use]
    pub fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    pub(crate) fn size(&self) -> usize {
        let properties =
            |map: &BTreeMap<String, Value>| map.iter().map(|(k, v)| k.len() + json_size(v)).sum::<usize>();
        let labels =
            |labels: &[String]| labels.iter().map(|label| size_of::<String>() + label.len()).sum::<usize>();
        let node = |n: &Node| size_of::<Node>() + n.id.len() + labels(&n.labels) + properties(&n.properties);
        let edge = |e: &Edge| {
            size_of::<Edge>() + e.from.len() + e.to.len() + e.label.len() + properties(&e.properties)
        };
        let nodes: usize = self.nodes.iter().map(node).sum();
        size_of::<Self>() + nodes + self.edges.iter().map(edge).sum::<usize>()
    }

    pub(crate) fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("nodes", &self.nodes);
        hasher.field("edges", &self.edges);
    }
}

impl Content for Node {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("id", &self.id);
        hasher.field("labels", &self.labels);
        hasher.field("properties", &self.properties);
        hasher.end();
    }
}

impl Content for Edge {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("from", &self.from);
        hasher.field("to", &self.to);
        hasher.field("label", &self.label);
        hasher.field("properties", &self.properties);
        hasher.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str) -> Node {
        Node { id: id.into(), ..Default::default() }
    }

    #[test]
    fn an_edge_names_nodes_that_exist() {
        let edge = |to: &str| Edge { from: "a".into(), to: to.into(), ..Default::default() };
        assert!(Graph::new(vec![node("a"), node("b")], vec![edge("b")]).is_ok());
        let error = Graph::new(vec![node("a")], vec![edge("a"), edge("b")]).unwrap_err();
        assert_eq!(error.to_string(), "`graph.edges[1].to`: names a node that is not there");
    }

    #[test]
    fn ids_are_not_shared() {
        let error = Graph::new(vec![node("a"), node("a")], vec![]).unwrap_err();
        assert_eq!(error.context().field.as_deref(), Some("graph.nodes[1].id"));
    }
}
