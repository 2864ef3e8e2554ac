//! What of a graph has to be the same for a run of it to go on.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

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
