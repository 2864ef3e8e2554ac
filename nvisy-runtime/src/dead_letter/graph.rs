//! The graph that replays dead letters into the node where they failed.

use std::collections::HashSet;

use nvisy_core::{ActionConfig, Error, Result};
use serde_json::json;

use super::Replay;
use crate::actions::{Aggregate, Sort};
use crate::graph::{ActionNode, ConnectionUse, Graph, Named, Node, NodeBody, PortRef, SourceNode};

/// Returns the graph that replays dead letters into the node where they failed.
///
/// It has that node and all behind it, under their names and with their configs and policies,
/// and the sink of `settings.dead_letter`; before them a source `letters`, which is to read what
/// a sink kept, and a [`Replay`] of the node's letters, `replay`. A fan-in that is left with one
/// input is left out. The graph's name is `NAME-replay-NODE`, so that its checkpoints are its
/// own. All of it is plain data, to be changed where that is not what is wanted: have it set
/// aside what fails again in another place than the one that it reads.
///
/// # What depends on other items
///
/// A replay sees the letters, and nothing else of the run in which they failed. An action that
/// makes its result of many items would make one of the letters alone, and a sink might put that
/// in place of the right one: so nothing is replayed where the node, or one behind it, is an
/// `aggregate`, a `sort` with a `limit`, or an action of several inputs such as `join`. Mend why
/// the items failed then, and run the whole graph again.
///
/// `materialize` and a `sort` of all items are harmless: the letters come behind what is written,
/// in an order of their own. `deduplicate` begins with nothing seen: a letter passes that is like
/// an item of the run, and is there twice, or takes its place in a sink that upserts by what makes
/// them alike. What other actions of a program remember is not known here.
///
/// # Errors
///
/// `configuration` if there is no such node, or nothing that it sets aside can be replayed into
/// it: a source reads, what it could not read is to be mended where it stands; or if what is
/// behind it depends on other items.
///
/// # Examples
///
/// ```
/// use nvisy_runtime::dead_letter::replay_graph;
/// use nvisy_runtime::graph::{Graph, SourceNode};
/// use serde_json::json;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let graph = Graph::from_json(r#"{ "version": 1, "name": "orders", "nodes": {
///     "orders": { "type": "source", "use": "memory/source", "config": { "name": "orders" } },
///     "valid": { "type": "action", "use": "validate", "inputs": ["orders"],
///         "config": { "schema": { "required": ["id"] } } },
///     "out": { "type": "sink", "use": "memory/sink", "inputs": ["valid"], "config": { "name": "out" } },
///     "aside": { "type": "sink", "use": "memory/sink", "inputs": ["valid.dead_letter"],
///         "config": { "name": "aside" } }
/// } }"#)?;
/// let letters = SourceNode::new("memory/source", json!({ "name": "kept" }));
/// let replay = replay_graph(&graph, "valid", letters)?;
/// let names: Vec<&str> = replay.nodes.names().collect();
/// assert_eq!(names, ["letters", "replay", "valid", "out", "aside"]);
/// # Ok(())
/// # }
/// ```
pub fn replay_graph(graph: &Graph, node: &str, letters: SourceNode) -> Result<Graph> {
    let failed = graph.nodes.get(node).ok_or_else(|| {
        Error::configuration(format!("graph \"{}\" has no node \"{node}\" to replay into", graph.name))
    })?;
    let why = match failed.body {
        NodeBody::Source(_) => {
            Some("it is a source, and takes no items: mend what it could not read, and run the graph")
        }
        NodeBody::FanOut(_) | NodeBody::FanIn(_) => Some("it sets nothing aside"),
        NodeBody::Action(_) | NodeBody::Sink(_) | NodeBody::Branch(_) => None,
    };
    if let Some(why) = why {
        return Err(Error::configuration(format!("nothing is replayed into node \"{node}\": {why}")));
    }
    let kept = behind(graph, node);
    let mut replayed_into = graph.nodes.iter().filter(|(name, _)| kept.contains(name));
    if let Some((name, action)) = replayed_into.find_map(|(name, node)| Some((name, of_many_items(node)?))) {
        return Err(Error::configuration(format!(
            "nothing is replayed into node \"{node}\": action \"{name}\" ({action}) makes its result of all \
             items of a run, and would make one of the letters alone: mend why they failed, and run the whole \
             graph again"
        )));
    }
    let (source, replay) = (free_name(graph, "letters"), free_name(graph, "replay"));
    let config = json!({ "node": node });
    let mut nodes = Named::new();
    nodes.insert(&source, Node::from(letters));
    nodes.insert(&replay, Node::from(ActionNode::new(Replay::NAME, config, source.as_str())));
    for (name, kept_node) in graph.nodes.iter().filter(|(name, _)| kept.contains(name)) {
        let mut copy = kept_node.clone();
        if let Some(inputs) = copy.inputs_mut() {
            inputs.retain(|input| kept.contains(PortRef::parse(input).node));
            if name == node {
                *inputs = vec![replay.clone()];
            }
        }
        nodes.insert(name, copy);
    }
    while let Some((fan_in, input)) = lone_fan_in(&nodes) {
        bridge(&mut nodes, &fan_in, &input);
    }
    let mut replayed = graph.clone();
    replayed.name = format!("{}-replay-{node}", graph.name);
    replayed.connections = Named::new();
    for (name, spec) in graph.connections.iter() {
        let uses =
            |node: &Node| matches!(node.connection(), Some(ConnectionUse::Shared(used)) if used == name);
        if nodes.iter().any(|(_, node)| uses(node)) {
            replayed.connections.insert(name, spec.clone());
        }
    }
    replayed.nodes = nodes;
    Ok(replayed)
}

/// The node, all that it feeds, and the sink of all dead letters.
fn behind<'a>(graph: &'a Graph, node: &'a str) -> HashSet<&'a str> {
    let mut kept: HashSet<&str> = HashSet::from([node]);
    kept.extend(graph.settings.dead_letter.as_deref());
    loop {
        let fed = graph.nodes.iter().filter(|(name, node)| {
            !kept.contains(name)
                && node.inputs().iter().any(|input| kept.contains(PortRef::parse(input).node))
        });
        let fed: Vec<&str> = fed.map(|(name, _)| name).collect();
        if fed.is_empty() {
            return kept;
        }
        kept.extend(fed);
    }
}

/// Returns the name of the action if what it makes of an item depends on the others.
fn of_many_items(node: &Node) -> Option<&str> {
    let NodeBody::Action(action) = &node.body else { return None };
    let is_limited = || action.config.get("limit").is_some_and(|limit| !limit.is_null());
    let depends = action.inputs.len() > 1
        || action.uses == Aggregate::NAME
        || (action.uses == Sort::NAME && is_limited());
    depends.then_some(&*action.uses)
}

fn free_name(graph: &Graph, name: &str) -> String {
    let numbered = (2..).map(|n| format!("{name}_{n}"));
    let mut names = std::iter::once(name.to_owned()).chain(numbered);
    names.find(|name| !graph.nodes.contains(name)).unwrap_or_default()
}

/// A fan-in with one input, and that input.
fn lone_fan_in(nodes: &Named<Node>) -> Option<(String, String)> {
    nodes.iter().find_map(|(name, node)| match (&node.body, node.inputs()) {
        (NodeBody::FanIn(_), [input]) => Some((name.to_owned(), input.clone())),
        _ => None,
    })
}

/// Takes a fan-in out: what reads from it reads from its input.
fn bridge(nodes: &mut Named<Node>, fan_in: &str, input: &str) {
    nodes.remove(fan_in);
    let names: Vec<String> = nodes.names().map(str::to_owned).collect();
    let mut reader = None;
    for name in names {
        let Some(inputs) = nodes.get_mut(&name).and_then(Node::inputs_mut) else { continue };
        for read in inputs.iter_mut().filter(|read| *read == fan_in) {
            input.clone_into(read);
            reader = Some(name.clone());
        }
    }
    let from = nodes.get_mut(PortRef::parse(input).node).map(|node| &mut node.body);
    if let (Some(NodeBody::FanOut(from)), Some(reader)) = (from, reader) {
        for name in from.best_effort.iter_mut().filter(|name| *name == fan_in) {
            name.clone_from(&reader);
        }
        if let Some(policy) = from.spill.remove(fan_in) {
            from.spill.insert(reader, policy);
        }
    }
}
