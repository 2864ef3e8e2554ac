//! The JSON Schema of a graph with every registered config in its place.

use nvisy_core::plugin::TypeEntry;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

use super::Registry;
use crate::graph::Graph;
use crate::graph::schema::node_schema;

impl Registry {
    /// Returns the JSON Schema (draft 2020-12) of a graph, with the config of every registered
    /// type in its place: what an editor needs to check and complete.
    #[must_use]
    pub fn schema(&self) -> Value {
        let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
        let mut root = Graph::json_schema(&mut generator).to_value();
        let connection = self.connection_schema(&mut generator);
        let node = self.node_schema(&mut generator);
        let definitions = generator.definitions_mut();
        definitions.insert("ConnectionSpec".to_owned(), connection);
        definitions.insert("Node".to_owned(), node);
        let mut definitions = generator.take_definitions(true);
        definitions.sort_keys();
        if let Some(root) = root.as_object_mut() {
            root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
            root.insert("title".to_owned(), json!("Graph"));
            root.insert("$defs".to_owned(), Value::Object(definitions));
        }
        root
    }

    fn connection_schema(&self, generator: &mut SchemaGenerator) -> Value {
        let base = crate::graph::ConnectionSpec::json_schema(generator).to_value();
        let each = self.connections().map(|entry| entry_schema(&base, entry, generator));
        let each: Vec<_> = each.collect();
        // An empty choice is no schema: nothing fits, and so says `false`.
        if each.is_empty() { json!(false) } else { json!({ "description": "A connection.", "oneOf": each }) }
    }

    fn node_schema(&self, generator: &mut SchemaGenerator) -> Value {
        let mut each = Vec::new();
        let base = node_schema(generator, "source").to_value();
        each.extend(self.sources().map(|entry| entry_schema(&base, entry, generator)));
        let base = node_schema(generator, "action").to_value();
        each.extend(self.actions().map(|entry| entry_schema(&base, entry, generator)));
        each.push(function_schema(&base));
        let base = node_schema(generator, "sink").to_value();
        each.extend(self.sinks().map(|entry| entry_schema(&base, entry, generator)));
        for body_type in ["branch", "fan_out", "fan_in"] {
            each.push(node_schema(generator, body_type).to_value());
        }
        json!({ "description": "A node: what it is, and the policies that go for it.", "oneOf": each })
    }
}

/// Returns the schema of a node or connection that uses one registered type.
fn entry_schema<T: ?Sized>(base: &Value, entry: &TypeEntry<T>, generator: &mut SchemaGenerator) -> Value {
    let mut config = entry.schema(generator).to_value();
    let reference = config.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    let definition = reference.and_then(|name| generator.definitions_mut().get_mut(name));
    let resolved = definition.map(|definition| {
        close(definition);
        definition.clone()
    });
    close(&mut config);
    let needs = resolved
        .as_ref()
        .unwrap_or(&config)
        .get("required")
        .and_then(Value::as_array)
        .is_some_and(|r| !r.is_empty());
    let mut schema = base.clone();
    let Some(object) = schema.as_object_mut() else { return schema };
    if let Some(description) = resolved.as_ref().unwrap_or(&config).get("description") {
        object.insert("description".to_owned(), description.clone());
    }
    if let Some(properties) = object.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("use".to_owned(), json!({ "const": entry.name() }));
        properties.insert("config".to_owned(), config);
        if entry.client().is_none() {
            properties.remove("connection");
        }
    }
    if let Some(required) = object.get_mut("required").and_then(Value::as_array_mut) {
        if needs {
            required.push(json!("config"));
        }
        if !entry.client().is_none() && base.pointer("/properties/connection").is_some() {
            required.push(json!("connection"));
        }
    }
    schema
}

/// Says that a config has no other fields: they are refused, whether or not its type says so.
fn close(config: &mut Value) {
    let Some(object) = config.as_object_mut().filter(|object| object.contains_key("properties")) else {
        return;
    };
    if !object.contains_key("unevaluatedProperties") {
        object.entry("additionalProperties").or_insert(json!(false));
    }
}

/// Returns the schema of a node whose action is a function.
fn function_schema(action: &Value) -> Value {
    let mut schema = action.clone();
    if let Some(object) = schema.as_object_mut() {
        object.insert("description".to_owned(), json!("A function of the program's, by its name."));
    }
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("use".to_owned(), json!({ "type": "string", "pattern": "^fn/" }));
        properties.remove("config");
        properties.remove("connection");
    }
    schema
}
