//! What nodes do: their types, configs and expressions.

use std::sync::Arc;

use nvisy_core::config::Problem;
use nvisy_core::plugin::TypeEntry;

use super::{Check, did_you_mean, join, quoted};
use crate::compiler::diagnostic::{Diagnostic, code};
use crate::compiler::json::shown;
use crate::compiler::plan::Work;
use crate::expression::{Expression, ExpressionError};
use crate::graph::{ActionNode, BranchNode, FanOutNode, Function, NodeBody, SinkNode, SourceNode};
use crate::suggest::known_fields;

impl<'g> Check<'g> {
    pub(super) fn types(&mut self) {
        for node in 0..self.nodes.len() {
            let work = match &self.nodes[node].node.body {
                NodeBody::Source(source) => self.source(node, source),
                NodeBody::Action(action) => self.action(node, action),
                NodeBody::Sink(sink) => self.sink(node, sink),
                NodeBody::Branch(branch) => self.branch(node, branch),
                NodeBody::FanOut(fan_out) => self.fan_out(node, fan_out),
                NodeBody::FanIn(_) => Some(Work::FanIn),
            };
            self.nodes[node].work = work;
        }
    }

    fn source(&mut self, node: usize, source: &'g SourceNode) -> Option<Work> {
        let key = source
            .key
            .as_ref()
            .map(|key| self.expression(&self.nodes[node].field("key"), Expression::compile(key)));
        let Some(entry) = self.registry.find_source(&source.uses) else {
            self.unknown_type(node, "source", &source.uses);
            return None;
        };
        let config = self.config(node, entry, &source.config)?;
        match key {
            None => Some(Work::Source { config, key: None }),
            Some(key) => Some(Work::Source { config, key: Some(key?) }),
        }
    }

    fn action(&mut self, node: usize, action: &'g ActionNode) -> Option<Work> {
        if let Some(name) = action.uses.strip_prefix(Function::PREFIX) {
            return self.function(node, name, action);
        }
        let Some(entry) = self.registry.find_action(&action.uses) else {
            self.unknown_type(node, "action", &action.uses);
            return None;
        };
        Some(Work::Action(self.config(node, entry, &action.config)?))
    }

    fn function(&mut self, node: usize, name: &str, action: &ActionNode) -> Option<Work> {
        if action.config.as_object().is_some_and(|config| !config.is_empty()) {
            let message = format!("the function \"{}\" has no config", shown(name));
            let help = "a type that implements `Transform` has one".to_owned();
            self.say_with(code::CONFIG_INVALID, self.nodes[node].field("config"), message, help);
        }
        let Some(function) = self.graph.function(name).or_else(|| self.registry.find_function(name)) else {
            let name = shown(name);
            let message =
                format!("the function \"{name}\" is not registered: a graph holds its name, not its code");
            let help = match self.nearest(&name, self.registry.functions()) {
                Some(near) => did_you_mean(&format!("{}{near}", Function::PREFIX)),
                None => format!(
                    "register it: `Engine::builder().function(\"{name}\", |item: Item<Document>| ..)`"
                ),
            };
            self.say_with(code::FUNCTION_UNREGISTERED, self.nodes[node].field("use"), message, help);
            return None;
        };
        self.nodes[node].function_kinds = Some((function.input_kinds(), function.output_kinds()));
        Some(Work::Function(function.action().clone()))
    }

    fn sink(&mut self, node: usize, sink: &'g SinkNode) -> Option<Work> {
        let Some(entry) = self.registry.find_sink(&sink.uses) else {
            self.unknown_type(node, "sink", &sink.uses);
            return None;
        };
        Some(Work::Sink(self.config(node, entry, &sink.config)?))
    }

    fn branch(&mut self, node: usize, branch: &'g BranchNode) -> Option<Work> {
        let path = self.nodes[node].field("routes");
        if branch.routes.is_empty() && !self.broken.has(&path) {
            let name = self.nodes[node].name;
            let help = "\"routes\": { \"english\": \"document.language == 'en'\" }".to_owned();
            self.say_with(code::BRANCH_ROUTES, &path, format!("branch \"{name}\" has no routes"), help);
        }
        let names = branch.routes.iter().map(|route| &route.name).chain(&branch.default);
        let names: Vec<_> = names.collect();
        let mut seen = std::collections::HashSet::new();
        for name in names {
            if !seen.insert(name) {
                let message = format!("two routes have the name \"{}\"", shown(name));
                self.say(code::BRANCH_ROUTES, join(&path, name), message);
            }
        }
        let mut routes = Vec::with_capacity(branch.routes.len());
        for route in &branch.routes {
            let path = join(&path, &route.name);
            let when = (!self.broken.has(&path))
                .then(|| self.expression(&path, Expression::condition(&route.when)))
                .flatten();
            routes.push(when.map(|when| (Arc::from(route.name.as_str()), when)));
        }
        let default = branch.default.as_deref().map(Arc::from);
        Some(Work::Branch { routes: routes.into_iter().collect::<Option<_>>()?, default })
    }

    /// The readers that are best effort become indices once the edges are known.
    fn fan_out(&mut self, _: usize, _: &FanOutNode) -> Option<Work> {
        Some(Work::FanOut { best_effort: Vec::new(), spill: Vec::new() })
    }

    fn expression(
        &mut self,
        path: &str,
        compiled: Result<Expression, ExpressionError>,
    ) -> Option<Expression> {
        if let Err(error) = &compiled {
            self.say(code::EXPRESSION_INVALID, path, error.to_string());
        }
        compiled.ok()
    }

    fn config<T: ?Sized>(
        &mut self,
        node: usize,
        entry: &TypeEntry<T>,
        config: &serde_json::Value,
    ) -> Option<Arc<T>> {
        self.nodes[node].client = Some(entry.client());
        let prefix = self.nodes[node].field("config");
        if self.broken.has(&prefix) {
            return None;
        }
        match entry.parse(config) {
            Ok(config) => Some(config),
            Err(problems) => {
                self.problems(problems, &prefix, entry.name());
                None
            }
        }
    }

    pub(super) fn problems(&mut self, problems: Vec<Problem>, prefix: &str, of: &str) {
        for problem in problems {
            let mut diagnostic = Diagnostic::of(problem, prefix);
            if diagnostic.help.is_none() {
                diagnostic.help = self.help_for_field(&diagnostic, of);
            }
            self.said.push(diagnostic);
        }
    }

    /// Returns which field was probably meant, where one is unknown.
    fn help_for_field(&self, diagnostic: &Diagnostic, of: &str) -> Option<String> {
        if diagnostic.code != code::CONFIG_UNKNOWN_FIELD {
            return None;
        }
        let unknown = diagnostic.path.rsplit('.').next()?;
        let known = known_fields(&diagnostic.message)
            .filter(|known| !known.is_empty())
            .unwrap_or_else(|| self.schema_fields(of));
        match self.nearest(unknown, known.iter().map(String::as_str)) {
            Some(near) => Some(did_you_mean(near)),
            None if known.is_empty() => None,
            None => Some(format!("the fields are {}", quoted(known.iter().map(String::as_str)))),
        }
    }

    /// Returns the fields of a registered config, as its schema names them.
    fn schema_fields(&self, of: &str) -> Vec<String> {
        let mut generator = schemars::SchemaGenerator::default();
        let schema = (self.registry.find_source(of).map(|e| e.schema(&mut generator)))
            .or_else(|| self.registry.find_action(of).map(|e| e.schema(&mut generator)))
            .or_else(|| self.registry.find_sink(of).map(|e| e.schema(&mut generator)))
            .or_else(|| self.registry.find_connection(of).map(|e| e.schema(&mut generator)));
        let Some(schema) = schema else { return Vec::new() };
        let mut schema = schema.to_value();
        if let Some(reference) =
            schema.get("$ref").and_then(|r| r.as_str()).and_then(|r| r.rsplit('/').next())
        {
            schema = generator.definitions().get(reference).cloned().unwrap_or_default();
        }
        schema
            .get("properties")
            .and_then(|p| p.as_object())
            .map_or_else(Vec::new, |p| p.keys().cloned().collect())
    }

    fn unknown_type(&mut self, node: usize, what: &'static str, uses: &str) {
        const PLUGINS: &[&str] = &["sql", "object", "vector", "ai"];
        let path = self.nodes[node].field("use");
        if self.broken.has(&path) {
            return;
        }
        let registry = self.registry;
        let others = [
            ("source", "a source", registry.find_source(uses).is_some()),
            ("action", "an action", registry.find_action(uses).is_some()),
            ("sink", "a sink", registry.find_sink(uses).is_some()),
        ];
        if let Some((other, it, _)) = others.into_iter().find(|(.., found)| *found) {
            let message = format!("\"{uses}\" is no {what}, but {it}");
            self.say_with(code::USE_WRONG_TYPE, path, message, format!("write \"type\": \"{other}\""));
            return;
        }
        let names: Vec<&str> = match what {
            "source" => registry.sources().map(TypeEntry::name).collect(),
            "action" => registry.actions().map(TypeEntry::name).collect(),
            _ => registry.sinks().map(TypeEntry::name).collect(),
        };
        let family = uses.split_once('/').map(|(family, _)| family);
        let registered =
            |family: &str| names.iter().any(|name| name.split_once('/').is_some_and(|(f, _)| f == family));
        let help = match (self.nearest(uses, names.iter().copied()), family) {
            (Some(near), _) => did_you_mean(near),
            (None, Some(family)) if PLUGINS.contains(&family) && !registered(family) => {
                format!("turn on the feature \"{family}\" of nvisy-runtime, or register the plugin")
            }
            (None, _) if names.is_empty() => {
                format!("no {what} is registered: register a plugin or a type of your own")
            }
            (None, _) => format!("the {what}s that are registered are {}", quoted(names.iter().copied())),
        };
        self.say_with(code::USE_UNKNOWN, path, format!("there is no {what} \"{}\"", shown(uses)), help);
    }
}
