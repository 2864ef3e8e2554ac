//! What of a graph has to be the same for a run of it to go on.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use nvisy_core::checkpoint::Entries;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::entries::digest;
use super::memory;
use crate::compiler::plan::{PlanNode, PlanParts, Work};
use crate::graph::{ConnectionUse, Function};
use crate::registry::Registry;

/// The nodes of a graph, each with the hash of what it does, in which version of its code, and
/// where it reads from. Policies and settings are not part of it: they change how a run works, and
/// not what it makes.
pub(super) fn of(plan: &PlanParts, registry: &Registry) -> BTreeMap<String, String> {
    let graph = &plan.graph;
    let versions: HashMap<&str, String> =
        plan.nodes.iter().filter_map(|node| Some((&*node.name, version(node, registry)?))).collect();
    graph
        .nodes
        .iter()
        .map(|(name, node)| {
            let connection = match node.connection() {
                Some(ConnectionUse::Shared(name)) => graph.connections.get(name),
                _ => None,
            };
            let mut body = json!(node.body);
            // Who has a buffer is part of it, and not how large that may be.
            if let Some(spill) = body.get_mut("spill").and_then(Value::as_object_mut) {
                spill.values_mut().for_each(|policy| *policy = Value::Null);
            }
            let connection = connection.map(|shared| (&shared.uses, &shared.config));
            let what = match versions.get(name) {
                None => json!([body, connection]),
                Some(version) => json!([body, connection, version]),
            };
            (name.to_owned(), hash(&what))
        })
        .collect()
}

/// Returns the version of the code of a node, if it has one.
fn version(node: &PlanNode, registry: &Registry) -> Option<String> {
    match &node.work {
        Work::Action(config) => Some(config.version().to_owned()).filter(|version| !version.is_empty()),
        Work::Function(_) => {
            let name = node.operation.strip_prefix(Function::PREFIX)?;
            registry.find_function_version(name).map(|version| version.to_string())
        }
        _ => None,
    }
}

fn hash(value: &Value) -> String {
    // Maps of JSON are sorted: the order in which a config is written says nothing.
    Sha256::digest(value.to_string()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Says what is different, node by node; what is `accepted` by its name is not.
pub(super) fn changes(
    before: &BTreeMap<String, String>,
    now: &BTreeMap<String, String>,
    accepted: &[String],
) -> Vec<String> {
    let open = |name: &&String| !accepted.contains(name);
    let gone = before.keys().filter(|name| !now.contains_key(*name)).filter(open);
    let gone = gone.map(|name| format!("node \"{name}\" is gone"));
    let other = now.iter().filter(|(name, _)| open(name)).filter_map(|(name, hash)| match before.get(name) {
        None => Some(format!("node \"{name}\" is new")),
        Some(known) if known != hash => Some(format!("node \"{name}\" is another one")),
        Some(_) => None,
    });
    gone.chain(other).collect()
}

/// Returns the sources that are read incrementally.
pub(super) fn incremental(plan: &PlanParts) -> BTreeSet<String> {
    let sources = plan.nodes.iter().filter(|node| node.incremental.is_some());
    sources.map(|node| node.name.to_string()).collect()
}

/// Says which sources would begin anew in the middle of a run, because they keep where they are in
/// another way; what is `accepted` by its name is not.
pub(super) fn toggled(
    before: &BTreeSet<String>,
    now: &BTreeSet<String>,
    nodes: &BTreeMap<String, String>,
    accepted: &[String],
) -> Vec<String> {
    let toggled = before.symmetric_difference(now);
    let toggled = toggled.filter(|name| nodes.contains_key(*name) && !accepted.contains(name));
    let says = toggled.map(|name| match now.contains(name) {
        true => format!("source \"{name}\" is read incrementally now, and all of it again"),
        false => format!("source \"{name}\" is not read incrementally any more, and all of it again"),
    });
    says.collect()
}

/// Says in which nodes something was left that has yet to go on, and that nobody would take up: they
/// are gone, have another name or do other work.
pub(super) fn orphaned(plan: &PlanParts, entries: &Entries) -> Vec<String> {
    let is = |name: &str, is: fn(&Work) -> bool| {
        plan.nodes.iter().any(|node| *node.name == *name && is(&node.work))
    };
    let remembers: BTreeSet<&str> = entries.keys().filter_map(|key| memory::node_of(key)).collect();
    let forgotten = remembers
        .into_iter()
        .filter(|name| !is(name, |work| matches!(work, Work::Action(_) | Work::Spill(_))));
    let forgotten = forgotten.map(|name| format!("\"{name}\", which is gone, remembers what has come to it"));
    let staged = entries.iter().filter_map(|(key, staged)| Some((key.strip_prefix("staged/")?, staged)));
    let hidden = staged.filter(|(name, staged)| {
        let shown = entries.get(&format!("shown/{name}"));
        shown != Some(&digest(staged)) && !is(name, |work| matches!(work, Work::Sink(sink) if sink.stages()))
    });
    let hidden =
        hidden.map(|(name, _)| format!("\"{name}\", which is gone, has files that have yet to show"));
    forgotten.chain(hidden).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_keeps_where_it_is_in_another_way_is_named_unless_it_is_accepted_or_gone() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let nodes = ["in", "other"].map(|name| (name.to_owned(), String::new())).into();
        let check = |before: &[&str], now: &[&str], accepted: &[&str]| {
            let accepted: Vec<_> = accepted.iter().map(ToString::to_string).collect();
            toggled(&names(before), &names(now), &nodes, &accepted).join("; ")
        };
        assert!(check(&[], &["in"], &[]).contains("source \"in\" is read incrementally now"));
        assert!(check(&["in"], &[], &[]).contains("source \"in\" is not read incrementally any more"));
        assert_eq!(check(&["in"], &["in"], &[]) + &check(&["in"], &[], &["in"]), "");
        assert_eq!(check(&["gone"], &["in"], &["in"]), "", "that is told as what it is");
    }
}
