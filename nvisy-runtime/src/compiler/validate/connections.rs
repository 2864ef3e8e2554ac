//! Connections: that each is there, used, of the right family, and within reach.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nvisy_core::SecretRef;
use nvisy_core::plugin::{ClientType, TypeEntry};
use serde_json::Value;

use super::{Check, did_you_mean, join, quoted};
use crate::compiler::diagnostic::code;
use crate::compiler::json::{join_path, shown};
use crate::compiler::plan::PlanConnection;
use crate::compiler::reach;
use crate::graph::{ConnectionSpec, ConnectionUse};

/// A shared connection: its place among the connections, unless it is wrong; its client.
#[derive(Clone, Copy)]
struct Shared {
    index: Option<usize>,
    client: Option<ClientType>,
}

impl<'g> Check<'g> {
    pub(super) fn connections(&mut self) {
        let mut shared: HashMap<&'g str, Shared> = HashMap::new();
        for (name, spec) in self.graph.connections.iter() {
            let connection = self.connection(name, spec, &join("connections", name));
            shared.insert(name, connection);
        }
        let mut used: HashSet<&str> = HashSet::new();
        for node in 0..self.nodes.len() {
            if let Some(ConnectionUse::Shared(name)) = self.nodes[node].node.connection() {
                used.insert(name.as_str());
            }
            self.connect(node, &shared);
        }
        if self.broken.hides_connections() || self.nodes.is_empty() {
            return;
        }
        for name in self.graph.connections.names().filter(|name| !used.contains(name)) {
            if self.meant.contains(name) {
                continue;
            }
            let help = format!("name it in a node, \"connection\": \"{name}\", or remove it");
            let message = format!("no node works through the connection \"{name}\"");
            self.say_with(code::CONNECTION_UNUSED, join("connections", name), message, help);
        }
    }

    fn connect(&mut self, node: usize, shared: &HashMap<&'g str, Shared>) {
        let (name, given, client) =
            (self.nodes[node].name, self.nodes[node].node.connection(), self.nodes[node].client);
        let path = self.nodes[node].field("connection");
        // What a connection gives is looked at even where nobody knows what the node needs.
        let found = match given {
            None if self.broken.has(&path) => return,
            None => None,
            Some(ConnectionUse::Shared(wanted)) => match shared.get(wanted.as_str()) {
                Some(found) => Some(*found),
                None if self.broken.connections.contains(wanted) || self.broken.has("connections") => return,
                None => {
                    let help = match self.nearest(wanted, shared.keys().copied()) {
                        Some(near) => {
                            self.meant.insert(near);
                            did_you_mean(near)
                        }
                        None if shared.is_empty() => "add it to \"connections\"".to_owned(),
                        None => format!("there are {}", quoted(self.graph.connections.names())),
                    };
                    let message = format!("node \"{name}\": there is no connection \"{}\"", shown(wanted));
                    self.say_with(code::CONNECTION_UNKNOWN, path, message, help);
                    return;
                }
            },
            Some(ConnectionUse::Inline(spec)) => Some(self.connection(name, spec, &path)),
        };
        let Some(needs) = client else {
            if given.is_some() && self.nodes[node].function_kinds.is_some() {
                self.not_needed(node, &path);
            }
            return;
        };
        match found {
            None if needs.is_none() => {}
            None => {
                let message =
                    format!("node \"{name}\" works through a connection of the family {}", needs.family());
                let help = self.help_for_missing(needs, shared);
                self.say_with(code::CONNECTION_MISSING, self.nodes[node].path(), message, help);
            }
            Some(_) if needs.is_none() => self.not_needed(node, &path),
            Some(Shared { client: Some(gives), .. }) if gives != needs => {
                let message = format!(
                    "node \"{name}\" works through a connection of the family {}, this one is of the family {}",
                    needs.family(),
                    gives.family()
                );
                let help = self.help_for_missing(needs, shared);
                self.say_with(code::CONNECTION_WRONG_FAMILY, path, message, help);
            }
            Some(Shared { index, .. }) => self.nodes[node].connection = index,
        }
    }

    fn not_needed(&mut self, node: usize, path: &str) {
        let message = format!("node \"{}\" works without a connection", self.nodes[node].name);
        self.say_with(code::CONNECTION_NOT_NEEDED, path, message, "remove it".to_owned());
    }

    fn help_for_missing(&mut self, needs: ClientType, shared: &HashMap<&'g str, Shared>) -> String {
        let fits = |name: &&str| shared.get(name).is_some_and(|c| c.client == Some(needs));
        let there: Vec<_> = self.graph.connections.names().filter(fits).collect();
        self.meant.extend(&there);
        if let [first, ..] = there[..] {
            return match there.len() {
                1 => format!("write \"connection\": \"{first}\""),
                _ => format!("name one of {}", quoted(there)),
            };
        }
        let types: Vec<_> =
            self.registry.connections().filter(|c| c.client() == needs).map(TypeEntry::name).collect();
        match types[..] {
            [] => "register a plugin that has such connections".to_owned(),
            [only] => format!(
                "write \"connection\": {{ \"use\": \"{only}\", \"config\": {{ .. }} }}, or share one under \"connections\""
            ),
            _ => format!("add a connection that uses one of {}", quoted(types)),
        }
    }

    fn connection(&mut self, name: &str, spec: &ConnectionSpec, path: &str) -> Shared {
        if spec
            .rate_limit
            .is_some_and(|limit| limit.requests_per_minute.is_none() && limit.tokens_per_minute.is_none())
        {
            let help = "say \"requests_per_minute\" or \"tokens_per_minute\"".to_owned();
            self.say_with(
                code::POLICY_INVALID,
                join(path, "rate_limit"),
                "the rate limit limits nothing",
                help,
            );
        }
        let uses = join(path, "use");
        if self.broken.has(&uses) {
            return Shared { index: None, client: None };
        }
        let Some(entry) = self.registry.find_connection(&spec.uses) else {
            let names: Vec<_> = self.registry.connections().map(TypeEntry::name).collect();
            let help = match self.nearest(&spec.uses, names.iter().copied()) {
                Some(near) => did_you_mean(near),
                None if names.is_empty() => {
                    "no type of connection is registered: register a plugin".to_owned()
                }
                None => format!("the types of connection that are registered are {}", quoted(names)),
            };
            let message = format!("there is no type of connection \"{}\"", shown(&spec.uses));
            self.say_with(code::USE_UNKNOWN, uses, message, help);
            return Shared { index: None, client: None };
        };
        let prefix = join(path, "config");
        let client = Some(entry.client());
        if self.broken.has(&prefix) {
            return Shared { index: None, client };
        }
        let config = match entry.parse(&spec.config) {
            Ok(config) => config,
            Err(problems) => {
                self.problems(problems, &prefix, entry.name());
                return Shared { index: None, client };
            }
        };
        if self.options.untrusted {
            for reach in config.reach() {
                self.said.extend(reach::refuse(&reach, name, &prefix));
            }
        }
        if self.options.without_secrets {
            for secret in config.secrets() {
                let path = join_path(&prefix, &path_of(&secret, &spec.config).unwrap_or_default());
                self.said.push(reach::refuse_secret(&secret, name, path));
            }
        }
        self.connections.push(PlanConnection {
            name: name.into(),
            operation: entry.name().into(),
            config_json: Arc::new(spec.config.clone()),
            config,
            rate_limit: spec.rate_limit,
        });
        Shared { index: Some(self.connections.len() - 1), client }
    }
}

/// Returns where in a config a secret is named.
fn path_of(secret: &SecretRef, config: &Value) -> Option<String> {
    match config {
        Value::Object(fields) if fields.get("secret").and_then(Value::as_str) == Some(secret.name()) => {
            Some(String::new())
        }
        Value::Object(fields) => {
            fields.iter().find_map(|(key, value)| Some(join_path(&join("", key), &path_of(secret, value)?)))
        }
        Value::Array(values) => (values.iter().enumerate())
            .find_map(|(at, value)| Some(join_path(&format!("[{at}]"), &path_of(secret, value)?))),
        _ => None,
    }
}
