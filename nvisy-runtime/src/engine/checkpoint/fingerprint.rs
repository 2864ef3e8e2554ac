//! What of a graph has to be the same for a run of it to go on.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use nvisy_core::checkpoint::Entries;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use nvisy_core::ActionConfig;

use super::entries::{Works, digest};
use super::memory;
use crate::actions::Deduplicate;
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

/// Returns how the nodes keep what they have.
pub(super) fn works(plan: &PlanParts) -> Works {
    let named = |is: fn(&PlanNode) -> bool| plan.nodes.iter().filter(move |node| is(node));
    let incremental = named(|node| node.incremental.is_some()).map(|node| node.name.to_string());
    let operations = named(|node| matches!(node.work, Work::Action(_) | Work::Spill(_)));
    let operations = operations.map(|node| (node.name.to_string(), node.operation.to_string()));
    Works { incremental: incremental.collect(), operations: operations.collect() }
}

/// Says which sources would begin anew in the middle of a run, because they keep where they are in
/// another way; what is `accepted` by its name is not.
pub(super) fn toggled(before: &Works, now: &Works, accepted: &[String]) -> Vec<String> {
    let toggled = before.incremental.symmetric_difference(&now.incremental);
    let says =
        toggled.filter(|name| !accepted.contains(name)).map(|name| match now.incremental.contains(name) {
            true => format!("source \"{name}\" is read incrementally now, and would begin anew"),
            false => format!("source \"{name}\" is not read incrementally any more, and would begin anew"),
        });
    says.collect()
}

/// Says in which nodes something was left that nobody would take up: they are gone, have another name
/// or do other work. What only keeps away what is known may go.
pub(super) fn orphaned(plan: &PlanParts, before: &Works, entries: &Entries) -> Vec<String> {
    let now = works(plan).operations;
    let keeps: BTreeSet<&str> = entries.keys().filter_map(|key| memory::node_of(key)).collect();
    let forgotten = keeps.into_iter().filter(|name| {
        let operation = before.operations.get(*name);
        now.get(*name) != operation && operation.is_none_or(|operation| operation != Deduplicate::NAME)
    });
    let forgotten = forgotten
        .map(|name| format!("node \"{name}\" is gone, or does other work, and keeps what has come to it"));
    let stages = |name: &str| {
        let is = |node: &PlanNode| matches!(&node.work, Work::Sink(sink) if sink.stages());
        plan.nodes.iter().any(|node| *node.name == *name && is(node))
    };
    let staged = entries.iter().filter_map(|(key, staged)| Some((key.strip_prefix("staged/")?, staged)));
    let hidden = staged.filter(|(name, staged)| {
        entries.get(&format!("shown/{name}")) != Some(&digest(staged)) && !stages(name)
    });
    let hidden = hidden.map(|(name, _)| {
        format!("node \"{name}\" is gone, or does other work, and has files that have yet to show")
    });
    forgotten.chain(hidden).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_keeps_where_it_is_in_another_way_is_named_unless_it_is_accepted() {
        let works = |names: &[&str]| {
            let incremental = names.iter().map(ToString::to_string).collect();
            Works { incremental, ..Works::default() }
        };
        let check = |before: &[&str], now: &[&str], accepted: &[&str]| {
            let accepted: Vec<_> = accepted.iter().map(ToString::to_string).collect();
            toggled(&works(before), &works(now), &accepted).join("; ")
        };
        assert!(check(&[], &["in"], &[]).contains("source \"in\" is read incrementally now"));
        assert!(check(&["in"], &[], &[]).contains("source \"in\" is not read incrementally any more"));
        assert_eq!(check(&["in"], &["in"], &[]) + &check(&["in"], &[], &["in"]), "");
    }
}
