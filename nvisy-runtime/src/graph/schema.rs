//! The JSON Schema of a graph, whatever types it may name.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::{
    ActionNode, BranchNode, ConnectionSpec, FanInNode, FanOutNode, Graph, Named, Node, NodeBody, Policies,
    Route, Settings, SinkNode, SourceNode,
};

/// Returns the policies that nodes of a type have.
pub(crate) fn applicable_policies(body_type: &str) -> &'static [&'static str] {
    match body_type {
        // Only sources are read incrementally, the first two, and only actions have a memo, the last.
        "action" => &Policies::FIELDS[2..],
        "source" => &Policies::FIELDS[..Policies::FIELDS.len() - 1],
        "sink" => &Policies::FIELDS[2..Policies::FIELDS.len() - 1],
        "branch" => &["on_error"],
        _ => &[],
    }
}

impl JsonSchema for Graph {
    fn schema_name() -> Cow<'static, str> {
        "Graph".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A graph: nodes, connections and settings.",
            "type": "object",
            "properties": {
                "version": { "description": "The version of the format.", "const": Self::VERSION },
                "name": { "description": "The name: reports, envelopes and spans show it.", "type": "string", "minLength": 1 },
                "connections": generator.subschema_for::<Named<ConnectionSpec>>(),
                "nodes": generator.subschema_for::<Named<Node>>(),
                "settings": generator.subschema_for::<Settings>(),
            },
            "required": ["version", "name", "nodes"],
            "additionalProperties": false,
        })
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": { "pattern": "^[\\p{L}\\p{N}_-]{1,128}$" },
            "additionalProperties": generator.subschema_for::<T>(),
        })
    }
}

impl JsonSchema for Node {
    fn schema_name() -> Cow<'static, str> {
        "Node".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let types = NodeBody::TYPES.iter().map(|body_type| node_schema(generator, body_type));
        let types: Vec<Schema> = types.collect();
        json_schema!({ "description": "A node.", "oneOf": types })
    }
}

impl JsonSchema for BranchNode {
    fn schema_name() -> Cow<'static, str> {
        "BranchNode".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Each item takes the first route that fits it.",
            "type": "object",
            "properties": {
                "inputs": { "description": "What feeds it: one node or port.", "type": "array", "items": { "type": "string" } },
                "routes": {
                    "description": "The routes, in the order in which they are tried: name to expression, or an array where the text may lose its order.",
                    "anyOf": [
                        { "type": "object", "additionalProperties": { "type": "string" } },
                        { "type": "array", "items": generator.subschema_for::<Route>() },
                    ],
                },
                "default": { "description": "The port of what fits no route. Default none: such items are dropped.", "type": "string" },
            },
            "required": ["inputs", "routes"],
        })
    }
}

/// Returns the schema of a node of a type: its own fields, and the policies that it has.
pub(crate) fn node_schema(generator: &mut SchemaGenerator, body_type: &str) -> Schema {
    let body = match body_type {
        "source" => SourceNode::json_schema(generator),
        "action" => ActionNode::json_schema(generator),
        "sink" => SinkNode::json_schema(generator),
        "branch" => BranchNode::json_schema(generator),
        "fan_out" => FanOutNode::json_schema(generator),
        _ => FanInNode::json_schema(generator),
    };
    let mut body = body.to_value();
    let policies = Policies::json_schema(generator).to_value();
    let mut properties = Map::new();
    properties.insert("type".to_owned(), json!({ "const": body_type }));
    if let Some(own) = body.get_mut("properties").and_then(Value::as_object_mut) {
        properties.append(own);
    }
    let all = policies.get("properties").and_then(Value::as_object);
    for policy in applicable_policies(body_type) {
        if let Some(schema) = all.and_then(|all| all.get(*policy)) {
            properties.insert((*policy).to_owned(), schema.clone());
        }
    }
    let mut required = vec![json!("type")];
    required.extend(body.get("required").and_then(Value::as_array).cloned().unwrap_or_default());
    json_schema!({
        "description": body.get("description").cloned().unwrap_or_default(),
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}
