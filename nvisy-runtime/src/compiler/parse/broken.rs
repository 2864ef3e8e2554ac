//! What is there in a graph but could not be read.

use std::collections::HashSet;

/// What is there but could not be read: it has been complained of.
#[derive(Debug, Default)]
pub(in crate::compiler) struct Broken {
    /// The names of nodes of which nothing is known.
    pub(in crate::compiler) nodes: HashSet<String>,
    /// The names of connections of which nothing is known.
    pub(in crate::compiler) connections: HashSet<String>,
    /// The paths of the fields of which nothing is known, or not all.
    fields: HashSet<String>,
    /// Whether the inputs of a node are among them, and whether its connection is.
    inputs: bool,
    connection: bool,
}

impl Broken {
    /// Returns whether a field is there but was not read, or not all of it.
    pub(in crate::compiler) fn has(&self, path: &str) -> bool {
        self.fields.contains(path)
    }

    /// Returns whether a node may read from others than those that are known.
    pub(in crate::compiler) fn hides_inputs(&self) -> bool {
        !self.nodes.is_empty() || self.inputs
    }

    /// Returns whether a node may work through others than the connections that are known.
    pub(in crate::compiler) fn hides_connections(&self) -> bool {
        !self.nodes.is_empty() || self.connection
    }

    pub(super) fn insert(&mut self, path: String) {
        let field = path.rsplit('.').next();
        self.inputs |= field == Some("inputs");
        self.connection |= field == Some("connection");
        self.fields.insert(path);
    }
}
