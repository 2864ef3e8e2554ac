//! All that is wrong with a graph at once, and what is known of it when nothing is.

mod connections;
mod edges;
mod incremental;
mod kinds;
mod names;
mod order;
mod policies;
mod types;

use std::collections::{HashMap, HashSet};

use nvisy_core::Kinds;
use nvisy_core::plugin::ClientType;

use super::CompileOptions;
use super::diagnostic::Diagnostic;
use super::json::join;
use super::parse::Broken;
use super::plan::{PlanConnection, Port, Work};
use crate::allowance;
use crate::graph::{Graph, Node, OnError};
use crate::registry::Registry;

/// What is known of a graph on its way to a plan.
pub(super) struct Draft<'g> {
    /// The nodes, in the order in which they were written.
    pub(super) nodes: Vec<DraftNode<'g>>,
    pub(super) edges: Vec<DraftEdge>,
    pub(super) connections: Vec<PlanConnection>,
    /// The nodes, each behind those that feed it.
    pub(super) order: Vec<usize>,
}

pub(super) struct DraftNode<'g> {
    pub(super) name: &'g str,
    pub(super) node: &'g Node,
    /// What it does, unless that could not be found out.
    pub(super) work: Option<Work>,
    /// What its function takes and makes, if it is one.
    pub(super) function_kinds: Option<(Kinds, Kinds)>,
    pub(super) client: Option<ClientType>,
    /// Its connection, as an index into the draft's.
    pub(super) connection: Option<usize>,
    /// The edges that feed it, in the order of its inputs.
    pub(super) inputs: Vec<usize>,
    /// The edges that it feeds.
    pub(super) outputs: Vec<usize>,
    /// Whether all its inputs were found.
    pub(super) fed: bool,
    /// What comes in and goes out, where that is known.
    pub(super) input_kinds: Option<Kinds>,
    pub(super) output_kinds: Option<Kinds>,
    pub(super) on_error: OnError,
}

pub(super) struct DraftEdge {
    pub(super) from: usize,
    pub(super) port: Port,
    pub(super) to: usize,
    /// Which of the inputs it is that the node names; none where a setting made the edge.
    pub(super) input: Option<usize>,
}

/// Checks a graph. What is `broken` is there but unknown, and no reason for further complaints.
///
/// Returns the draft unless the order of its nodes could not be found.
pub(super) fn validate<'g>(
    graph: &'g Graph,
    registry: &'g Registry,
    options: &CompileOptions,
    broken: &'g Broken,
) -> (Option<Draft<'g>>, Vec<Diagnostic>) {
    let mut check = Check {
        graph,
        registry,
        options: *options,
        broken,
        said: Vec::new(),
        index: graph.nodes.names().enumerate().map(|(i, name)| (name, i)).collect(),
        nodes: graph.nodes.iter().map(|(name, node)| DraftNode::new(name, node)).collect(),
        edges: Vec::new(),
        connections: Vec::new(),
        missed: HashSet::new(),
        meant: HashSet::new(),
    };
    check.sizes_and_names();
    if options.untrusted {
        allowance::of_a_stranger(|| check.types());
    } else {
        check.types();
    }
    check.connections();
    check.edges();
    check.dead_letters();
    let order = check.order();
    if let Some(order) = &order {
        check.kinds(order);
        check.spans(order);
    }
    check.policies();
    check.incremental();
    let Check { nodes, edges, connections, said, .. } = check;
    (order.map(|order| Draft { nodes, edges, connections, order }), said)
}

impl<'g> DraftNode<'g> {
    fn new(name: &'g str, node: &'g Node) -> Self {
        Self {
            name,
            node,
            work: None,
            function_kinds: None,
            client: None,
            connection: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            fed: true,
            input_kinds: None,
            output_kinds: None,
            on_error: OnError::Fail,
        }
    }

    /// Returns the path of the node.
    fn path(&self) -> String {
        join("nodes", self.name)
    }

    /// Returns the path of one of its fields.
    fn field(&self, field: &str) -> String {
        join(&self.path(), field)
    }

    /// Returns the path of one of its inputs.
    fn input(&self, index: usize) -> String {
        format!("{}[{index}]", self.field("inputs"))
    }
}

struct Check<'g> {
    graph: &'g Graph,
    registry: &'g Registry,
    options: CompileOptions,
    broken: &'g Broken,
    said: Vec<Diagnostic>,
    index: HashMap<&'g str, usize>,
    nodes: Vec<DraftNode<'g>>,
    edges: Vec<DraftEdge>,
    connections: Vec<PlanConnection>,
    /// What inputs that exist nowhere were probably meant to name: not unread, in all likelihood.
    missed: HashSet<usize>,
    /// The connections that nodes were probably meant to name.
    meant: HashSet<&'g str>,
}

/// How many problems are worth a suggestion: looking for near names is not cheap.
const MAX_SUGGESTIONS: usize = 50;

impl<'g> Check<'g> {
    fn say(
        &mut self,
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.said.push(Diagnostic::new(code, path, message));
        let last = self.said.len() - 1;
        &mut self.said[last]
    }

    /// Says what is wrong and what to do about it.
    fn say_with(
        &mut self,
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<Option<String>>,
    ) {
        self.say(code, path, message).help = help.into();
    }

    /// Returns the candidate that a word was probably meant to be.
    fn nearest<'c>(&self, word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
        (self.said.len() < MAX_SUGGESTIONS).then(|| crate::suggest::nearest(word, candidates))?
    }
}

fn did_you_mean(name: &str) -> String {
    format!("did you mean \"{name}\"?")
}

/// Joins names for people: `"a", "b"`.
fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MAX: usize = 12;
    let mut names = names.into_iter();
    let mut text: Vec<_> = names.by_ref().take(MAX).map(|name| format!("\"{name}\"")).collect();
    if names.next().is_some() {
        text.push("…".to_owned());
    }
    text.join(", ")
}
