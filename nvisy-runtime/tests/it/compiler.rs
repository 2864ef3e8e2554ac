//! What compiles, what does not and why, and what the plan says.

use std::collections::BTreeSet;

use nvisy_core::prelude::*;
use nvisy_runtime::Engine;
use nvisy_runtime::compiler::{CompileOptions, Diagnostics, code, compile, compile_json};
use nvisy_runtime::graph::Graph;
use nvisy_runtime::registry::Registry;
use serde_json::{Value, json};

use crate::sample::{Lines, TICKETS, registry};

fn plan(text: &str) -> nvisy_runtime::compiler::ExecutionPlan {
    compile_json(text, &registry(), &CompileOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn a_plan_explains_itself() {
    expect_test::expect![[r#"
        graph "tickets": 9 nodes, 8 edges, at most 10 calls at once
        a source reads at most 65,536 items ahead of what is settled

        tickets: source acme/tickets on lake
          gives row
          key: row.id
          makes batches of 96 items or 1 MiB

        open: action filter from tickets
          row → row, in columns

        docs: action convert from open
          row → document, item by item

        lang: branch from docs
          document, item by item
          english: document.language == 'en'
          other: what is left

        chunks: action acme/chunk from lang.english
          document → document, item by item

        vectors: action acme/embed on model from chunks
          document → embedding, item by item
          joins batches up to 96 items or 1 MiB or 8,000 tokens
          pays for its calls
          at most 8 calls at once
          tries 5 times, after 200ms, doubled up to 30s, with jitter
          an attempt takes at most 1m
          sets aside what fails

        failed: sink acme/lines from vectors.dead_letter
          takes raw
          joins batches up to 1,024 items or 1 MiB

        store: sink acme/index on store from vectors
          takes embedding
          joins batches up to 1,024 items or 1 MiB

        others: sink acme/lines from lang.other
          takes document
          joins batches up to 1,024 items or 1 MiB

        connections
          lake: acme/store
          model: acme/model, at most 3,000 requests and 1,000,000 tokens a minute
          store: acme/store

        what arrives
          tickets → failed: at least once: the sink appends: what is replayed is there twice; of dead letters only
          tickets → store: exactly once in effect: ids are deterministic, and the sink replaces by id
          tickets → others: at least once: the sink appends: what is replayed is there twice
    "#]].assert_eq(&plan(TICKETS).explain());
}

#[test]
fn a_plan_is_drawn() {
    expect_test::expect![[r#"
        flowchart LR
            n0(["tickets<br/>acme/tickets"])
            n1["open<br/>filter"]
            n2["docs<br/>convert"]
            n3{"lang<br/>branch"}
            n4["chunks<br/>acme/chunk"]
            n5["vectors<br/>acme/embed"]
            n6[("failed<br/>acme/lines")]
            n7[("store<br/>acme/index")]
            n8[("others<br/>acme/lines")]
            n0 --> n1
            n1 --> n2
            n2 --> n3
            n3 -- "english" --> n4
            n4 --> n5
            n5 --> n7
            n3 -- "other" --> n8
            n5 -. dead_letter .-> n6
    "#]]
    .assert_eq(&plan(TICKETS).to_mermaid());
    expect_test::expect![[r#"
        digraph "tickets" {
            rankdir=LR;
            n0 [label="tickets\nacme/tickets", shape=oval];
            n1 [label="open\nfilter", shape=box];
            n2 [label="docs\nconvert", shape=box];
            n3 [label="lang\nbranch", shape=diamond];
            n4 [label="chunks\nacme/chunk", shape=box];
            n5 [label="vectors\nacme/embed", shape=box];
            n6 [label="failed\nacme/lines", shape=cylinder];
            n7 [label="store\nacme/index", shape=cylinder];
            n8 [label="others\nacme/lines", shape=cylinder];
            n0 -> n1;
            n1 -> n2;
            n2 -> n3;
            n3 -> n4 [label="english"];
            n4 -> n5;
            n5 -> n7;
            n3 -> n8 [label="other"];
            n5 -> n6 [label="dead_letter", style=dashed];
        }
    "#]]
    .assert_eq(&plan(TICKETS).to_dot());
    let graph = Graph::from_json(TICKETS).unwrap();
    assert!(graph.to_mermaid().contains("tickets<br/>acme/tickets"));
    assert!(graph.to_dot().contains("style=dashed"));
}

#[test]
fn the_dead_letters_of_all_meet_in_one_sink() {
    let text = r#"{ "version": 1, "name": "n", "nodes": {
        "in": { "type": "source", "use": "acme/tickets", "connection": { "use": "acme/store", "config": { "root": "a" } },
                "config": { "prefix": "a" }, "batch": { "items": 10 } },
        "copies": { "type": "fan_out", "inputs": ["in"], "best_effort": ["seen"], "spill": { "open": { "disk": "1GB" } } },
        "seen": { "type": "sink", "use": "acme/lines", "inputs": ["copies"], "config": { "path": "seen" }, "on_error": "drop" },
        "open": { "type": "branch", "inputs": ["copies"], "routes": [{ "route": "z", "when": "row.z" }, { "route": "a", "when": "row.a" }] },
        "all": { "type": "fan_in", "inputs": ["open.z", "open.a"] },
        "large": { "type": "action", "use": "batch", "inputs": ["all"], "config": { "items": 5000, "linger": "2s" } },
        "kept": { "type": "sink", "use": "acme/lines", "inputs": ["large"], "config": { "path": "kept" },
                  "batch": { "items": 100, "linger": "1s" }, "deadline": "1h", "rate_limit": { "requests_per_minute": 60 } },
        "failed": { "type": "sink", "use": "acme/lines", "config": { "path": "failed" } }
    }, "settings": { "dead_letter": "failed", "timeout": "2h" } }"#;
    expect_test::expect![[r#"
        graph "n": 9 nodes, 12 edges, at most 10 calls at once, for at most 2h

        in: source acme/tickets on in
          gives row
          makes batches of 10 items or 1 MiB
          sets aside what fails

        copies: fan_out from in
          row to seen (best effort), open (spill)

        copies.open: spill from copies
          row to open
          keeps what open has yet to take: 64MB in memory, 1GB on disk

        open: branch from copies.open
          row, in columns
          z: row.z
          a: row.a
          drops what is left
          sets aside what fails

        all: fan_in from open.z, open.a
          row

        large: action batch from all
          row → row, in columns
          joins batches up to 5,000 items or 1 MiB, waits 2s for them
          sets aside what fails

        kept: sink acme/lines from large
          takes row
          joins batches up to 100 items or 1 MiB, waits 1s for them
          works for at most 1h
          at most 60 requests a minute
          sets aside what fails

        failed: sink acme/lines from in.dead_letter, open.dead_letter, large.dead_letter, kept.dead_letter
          takes raw
          joins batches up to 1,024 items or 1 MiB

        seen: sink acme/lines from copies
          takes row
          joins batches up to 1,024 items or 1 MiB
          drops what fails

        connections
          in: acme/store

        what arrives
          in → kept: at least once: the sink appends: what is replayed is there twice
          in → failed: at least once: the sink appends: what is replayed is there twice; of dead letters only
          in → seen: at most once: a way there is a fan-out's best-effort branch
    "#]]
    .assert_eq(&plan(text).explain());
}

#[test]
fn a_plan_does_not_depend_on_the_order_of_nodes() {
    let sorted = serde_json::from_str::<Value>(TICKETS).unwrap().to_string();
    assert_eq!(plan(&sorted).explain(), plan(TICKETS).explain());
}

#[test]
fn every_mistake_of_a_file_is_found_at_once() {
    let text = r#"{
  "version": 1,
  "name": "mistakes",
  "connections": {
    "lake": { "use": "acme/store", "config": { "root": 7 } },
    "modle": { "use": "acme/model", "config": { "api_key": "hunter2" } },
    "spare": { "use": "acme/stroe" }
  },
  "nodes": {
    "tickets": { "type": "source", "use": "acme/tickets", "connection": "lake", "config": { "prefx": "tickets/" } },
    "open": { "type": "action", "use": "filter", "inputs": ["ticktes"], "config": { "when": "row.state == " } },
    "chunks": { "type": "action", "use": "acme/chunk", "inputs": ["tickets"], "config": { "size": 512 } },
    "vectors": { "type": "action", "use": "acme/embed", "connection": "model", "inputs": ["chunks"], "config": { "model": "m" } },
    "a": { "type": "action", "use": "filter", "inputs": ["c"], "config": { "when": "true" } },
    "b": { "type": "action", "use": "filter", "inputs": ["a"], "config": { "when": "true" } },
    "c": { "type": "action", "use": "filter", "inputs": ["b"], "config": { "when": "true" }, "retyr": {} },
    "store": { "type": "sink", "use": "acme/tickets", "connection": "lake", "inputs": ["vectors", "open"], "config": {} }
  }
}"#;
    let found = compile_json(text, &registry(), &CompileOptions::default()).unwrap_err();
    expect_test::expect![[r#"
        the graph does not compile, for 13 reasons:
        config.invalid: connections.lake.config.root (line 5, column 56): invalid type: integer `7`, expected a string
        secret.literal: connections.modle.config.api_key (line 6, column 60): a secret is written as a literal: put it into the environment and write {"secret": "NAME"}
        connection.unused: connections.spare (line 7, column 5): no node works through the connection "spare"
          help: name it in a node, "connection": "spare", or remove it
        use.unknown: connections.spare.use (line 7, column 23): there is no type of connection "acme/stroe"
          help: did you mean "acme/store"?
        config.invalid: nodes.tickets.config (line 10, column 81): missing field `prefix`
        config.unknown_field: nodes.tickets.config.prefx (line 10, column 102): there is no field `prefx` here
          help: did you mean "prefix"?
        input.unknown: nodes.open.inputs[0] (line 11, column 61): node "open" reads from "ticktes", which does not exist
          help: did you mean "tickets"?
        expression.invalid: nodes.open.config.when (line 11, column 93): column 14: expected a value, found the end
        connection.unknown: nodes.vectors.connection (line 13, column 71): node "vectors": there is no connection "model"
          help: did you mean "modle"?
        graph.cycle: nodes.a.inputs (line 14, column 47): nodes feed each other in a circle: a → b → c → a
          help: take one of these edges out: what flows in a graph never comes back
        graph.unknown_field: nodes.c.retyr (line 16, column 94): a node of type "action" has no field `retyr`
          help: did you mean "retry"?
        use.wrong_type: nodes.store.use (line 17, column 39): "acme/tickets" is no sink, but a source
          help: write "type": "source"
        input.count: nodes.store.inputs (line 17, column 77): node "store" has 2 inputs, and takes one
          help: let them flow together first, "store_in": { "type": "fan_in", "inputs": ["vectors", "open"] }, and read from "store_in""#]].assert_eq(&found.to_string());
    assert!(!found.to_string().contains("hunter2"));
}

#[test]
fn an_expression_over_another_kind_says_what_there_is_to_read() {
    let text = r#"{ "version": 1, "name": "kinds", "nodes": {
    "in": { "type": "source", "use": "memory/source", "config": { "kind": "row", "items": [] } },
    "open": { "type": "action", "use": "filter", "inputs": ["in"], "config": { "when": "document.text != ''" } },
    "out": { "type": "sink", "use": "memory/sink", "inputs": ["open"], "config": { "name": "kinds" } }
} }"#;
    let found = crate::fixture::engine().compile_json(text).unwrap_err();
    expect_test::expect![[r#"
        the graph does not compile:
        kind.mismatch: nodes.open.inputs[0] (line 3, column 61): node "open" reads document, but "in" gives row
          help: read `row` in its expressions, or put a convert in between: { "type": "action", "use": "convert", "inputs": ["in"], "config": { "to": "document" } }"#]].assert_eq(&found.to_string());
}

#[test]
fn a_part_that_cannot_be_read_hides_nothing_else() {
    let text = r#"{
  "version": 1,
  "name": "shapes",
  "connections": { "lake": { "use": "acme/stroe", "rate_limit": 7 } },
  "nodes": {
    "tickets": { "type": "source", "use": "acme/tickets", "connection": "lake", "config": {}, "key": 7 },
    "open": { "type": "action", "use": "filtr", "inputs": ["tickets", "nowhere", 7], "timout": "1s" },
    "kept": { "type": "action", "use": "filter", "inputs": ["open", "open"], "timeout": 5, "retry": { "max_attempts": 0 } },
    "lost": { "type": "action", "use": "filter", "inputs": ["nobody"], "on_error": "dead-letter", "concurrency": 0,
              "config": { "when": "row.a ==" } },
    "b": { "type": "branch", "inputs": ["a"], "routes": { "x": 7, "y": "row.b ==" }, "default": 7 },
    "a": { "type": "action", "use": "filter", "inputs": ["b.x"], "config": { "when": "true" }, "on_error": "later" },
    "store": { "type": "sink", "use": "acme/index", "conection": "lake", "inputs": ["kept"], "retry": { "initial": "10s", "max": "1s" } },
    "other": { "type": "sink", "use": "acme/lines", "inputs": ["b.z"], "config": 7, "batch": { "items": 0 } }
  },
  "settings": { "concurrency": 100000, "timeout": "soon" }
}"#;
    let found = compile_json(text, &registry(), &CompileOptions::default()).unwrap_err();
    expect_test::expect![[r#"
        the graph does not compile, for 28 reasons:
        use.unknown: connections.lake.use (line 4, column 37): there is no type of connection "acme/stroe"
          help: did you mean "acme/store"?
        graph.invalid: connections.lake.rate_limit (line 4, column 65): invalid type: integer `7`, expected an object such as { "requests_per_minute": 60 }
        config.invalid: nodes.tickets.config (line 6, column 81): missing field `prefix`
        graph.invalid: nodes.tickets.key (line 6, column 102): expected an expression, found a number
        use.unknown: nodes.open.use (line 7, column 40): there is no action "filtr"
          help: did you mean "filter"?
        input.unknown: nodes.open.inputs[1] (line 7, column 71): node "open" reads from "nowhere", which does not exist
          help: the nodes are "tickets", "open", "kept", "lost", "b", "a", "store", "other"
        graph.invalid: nodes.open.inputs[2] (line 7, column 82): expected a name, found a number
        graph.unknown_field: nodes.open.timout (line 7, column 96): a node of type "action" has no field `timout`
          help: did you mean "timeout"?
        config.invalid: nodes.kept.config (line 8, column 5): missing field `when`
        input.duplicate: nodes.kept.inputs[1] (line 8, column 69): node "kept" names the input "open" twice
          help: remove one
        graph.invalid: nodes.kept.timeout (line 8, column 89): invalid type: integer `5`, expected a duration such as "200ms" or "1m 30s"
        graph.invalid: nodes.kept.retry.max_attempts (line 8, column 119): expected at least 1, found 0
        input.unknown: nodes.lost.inputs[0] (line 9, column 61): node "lost" reads from "nobody", which does not exist
          help: the nodes are "tickets", "open", "kept", "lost", "b", "a", "store", "other"
        graph.invalid: nodes.lost.on_error (line 9, column 84): there is no `dead-letter` here
          help: did you mean "dead_letter"?
        graph.invalid: nodes.lost.concurrency (line 9, column 114): expected at least 1, found 0
        expression.invalid: nodes.lost.config.when (line 10, column 35): column 9: expected a value, found the end
        graph.invalid: nodes.b.routes.x (line 11, column 64): expected an expression, found a number
        expression.invalid: nodes.b.routes.y (line 11, column 72): column 9: expected a value, found the end
        graph.invalid: nodes.b.default (line 11, column 97): expected the name of a route, found a number
        graph.cycle: nodes.a.inputs (line 12, column 47): nodes feed each other in a circle: a → b → a
          help: take one of these edges out: what flows in a graph never comes back
        graph.invalid: nodes.a.on_error (line 12, column 108): there is no `later` here
          help: write one of fail, dead_letter, drop
        config.invalid: nodes.store.config (line 13, column 5): missing field `collection`
        graph.unknown_field: nodes.store.conection (line 13, column 66): a node of type "sink" has no field `conection`
          help: did you mean "connection"?
        policy.invalid: nodes.store.retry (line 13, column 94): node "store": the first wait is longer than the longest
          help: let `initial` be at most `max`
        graph.invalid: nodes.other.config (line 14, column 82): expected a config, which is an object, found a number
        graph.invalid: nodes.other.batch.items (line 14, column 105): expected at least 1, found 0
        policy.invalid: settings.concurrency (line 16, column 32): no more than 1024 calls run at once
        graph.invalid: settings.timeout (line 16, column 51): `soon` is not a duration such as "200ms" or "1m 30s": expected number at 0"#]].assert_eq(&found.to_string());
}

#[test]
fn a_part_that_cannot_be_read_is_complained_of_once() {
    fn rename(graph: &mut Value, pointer: &str, to: &str) {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = graph.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        let value = parent.remove(key).unwrap();
        parent.insert(to.to_owned(), value);
    }
    let paths = [
        "/name",
        "/nodes",
        "/nodes/tickets/type",
        "/nodes/tickets/use",
        "/nodes/tickets/config",
        "/nodes/tickets/connection",
        "/nodes/open/inputs",
        "/nodes/open/inputs/0",
        "/nodes/lang/routes",
        "/nodes/lang/routes/english",
        "/nodes/lang/default",
        "/nodes/vectors/config",
        "/nodes/vectors/connection",
        "/nodes/vectors/on_error",
        "/nodes/store/connection/use",
        "/nodes/store/connection/config",
        "/nodes/store/inputs",
        "/connections",
        "/connections/lake",
        "/connections/lake/use",
        "/connections/lake/config",
        "/settings",
        "/settings/checkpoint",
        "/settings/dead_letter",
    ];
    for path in paths {
        let mut graph: Value = serde_json::from_str(TICKETS).unwrap();
        if path == "/settings/dead_letter" {
            remove(&mut graph, "/nodes/failed/inputs");
            set(&mut graph, path, json!("failed"));
            compile_json(&graph.to_string(), &registry(), &CompileOptions::default()).unwrap();
        }
        let key = path.rsplit_once('/').unwrap().1;
        let mut wrong = graph.clone();
        match path {
            "/nodes/open/inputs/0" => *wrong.pointer_mut(path).unwrap() = json!(7),
            _ => set(&mut wrong, path, json!(7)),
        }
        let mut misspelt = graph.clone();
        if key != "0" && key != "english" && key != "lake" {
            rename(&mut misspelt, path, &format!("{key}x"));
        } else {
            misspelt = wrong.clone();
        }
        for graph in [wrong, misspelt] {
            let found =
                compile_json(&graph.to_string(), &registry(), &CompileOptions::default()).unwrap_err();
            assert_eq!(found.as_slice().len(), 1, "{path}: {found}");
        }
    }
}

/// A change of the sample, and the code of what is then wrong with it.
type Case = (&'static str, fn(&mut Value));

fn set(graph: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    graph.pointer_mut(parent).unwrap()[key] = value;
}

fn remove(graph: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    graph.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
}

const CASES: &[Case] = &[
    (code::GRAPH_VERSION, |g| set(g, "/version", json!(7))),
    (code::GRAPH_INVALID, |g| set(g, "/nodes/open/inputs", json!(7))),
    (code::GRAPH_UNKNOWN_FIELD, |g| set(g, "/nodes/open/conection", json!("lake"))),
    (code::GRAPH_EMPTY, |g| set(g, "/nodes", json!({}))),
    (code::GRAPH_NO_SOURCE, |g| remove(g, "/nodes/tickets")),
    (code::GRAPH_NO_SINK, |g| {
        for sink in ["store", "others", "failed"] {
            remove(g, &format!("/nodes/{sink}"));
        }
    }),
    (code::GRAPH_CYCLE, |g| set(g, "/nodes/open/inputs", json!(["chunks"]))),
    (code::NODE_UNREACHABLE, |g| {
        set(
            g,
            "/nodes/a",
            json!({ "type": "action", "use": "filter", "inputs": ["b"], "config": { "when": "true" } }),
        );
        set(g, "/nodes/b", json!({ "type": "fan_out", "inputs": ["a"] }));
        set(
            g,
            "/nodes/after",
            json!({ "type": "sink", "use": "acme/lines", "inputs": ["b"], "config": { "path": "b" } }),
        );
    }),
    (code::NAME_INVALID, |g| set(g, "/nodes/lang/default", json!("dead_letter"))),
    (code::USE_UNKNOWN, |g| set(g, "/nodes/chunks/use", json!("acme/chunks"))),
    (code::USE_WRONG_TYPE, |g| set(g, "/nodes/chunks/use", json!("acme/lines"))),
    (code::FUNCTION_UNREGISTERED, |g| set(g, "/nodes/open/use", json!("fn/open"))),
    (code::INPUT_UNKNOWN, |g| set(g, "/nodes/open/inputs", json!(["ticket"]))),
    (code::INPUT_UNKNOWN_PORT, |g| set(g, "/nodes/chunks/inputs", json!(["lang.englsh"]))),
    (code::INPUT_COUNT, |g| set(g, "/nodes/open/inputs", json!([]))),
    (code::INPUT_DUPLICATE, |g| set(g, "/nodes/open/inputs", json!(["tickets", "tickets"]))),
    (code::OUTPUT_SECOND_READER, |g| {
        set(
            g,
            "/nodes/copy",
            json!({ "type": "sink", "use": "acme/lines", "inputs": ["open"], "config": { "path": "b" } }),
        );
    }),
    (code::OUTPUT_UNREAD, |g| remove(g, "/nodes/others")),
    (code::KIND_MISMATCH, |g| set(g, "/nodes/store/inputs", json!(["chunks"]))),
    (code::CONFIG_INVALID, |g| set(g, "/nodes/tickets/config", json!({ "prefix": "../x", "page": 0 }))),
    (code::CONFIG_UNKNOWN_FIELD, |g| set(g, "/nodes/tickets/config/prefx", json!("x"))),
    (code::SECRET_LITERAL, |g| set(g, "/connections/model/config/api_key", json!("hunter2"))),
    (code::EXPRESSION_INVALID, |g| set(g, "/nodes/lang/routes/english", json!("document.language =="))),
    (code::BRANCH_ROUTES, |g| set(g, "/nodes/lang/default", json!("english"))),
    (code::FAN_OUT_BEST_EFFORT, |g| {
        set(g, "/nodes/copies", json!({ "type": "fan_out", "inputs": ["tickets"], "best_effort": ["opne"] }));
        set(g, "/nodes/open/inputs", json!(["copies"]));
    }),
    (code::FAN_OUT_SPILL, |g| {
        set(
            g,
            "/nodes/copies",
            json!({
                "type": "fan_out", "inputs": ["tickets"], "best_effort": ["open"],
                "spill": { "open": { "memory": 0 }, "opne": {} },
            }),
        );
        set(g, "/nodes/open/inputs", json!(["copies"]));
    }),
    (code::CONNECTION_UNKNOWN, |g| set(g, "/nodes/tickets/connection", json!("lak"))),
    (code::CONNECTION_UNUSED, |g| {
        set(g, "/connections/spare", json!({ "use": "acme/store", "config": { "root": "x" } }))
    }),
    (code::CONNECTION_MISSING, |g| remove(g, "/nodes/vectors/connection")),
    (code::CONNECTION_NOT_NEEDED, |g| set(g, "/nodes/others/connection", json!("lake"))),
    (code::CONNECTION_WRONG_FAMILY, |g| set(g, "/nodes/vectors/connection", json!("lake"))),
    (code::DEAD_LETTER_UNREAD, |g| set(g, "/nodes/chunks/on_error", json!("dead_letter"))),
    (code::DEAD_LETTER_NEVER, |g| set(g, "/nodes/vectors/on_error", json!("fail"))),
    (code::DEAD_LETTER_NO_SINK, |g| set(g, "/settings/dead_letter", json!("chunks"))),
    (code::POLICY_NOT_APPLICABLE, |g| set(g, "/nodes/lang/retry", json!({ "max_attempts": 3 }))),
    (code::POLICY_INVALID, |g| set(g, "/nodes/vectors/retry", json!({ "initial": "10s", "max": "1s" }))),
    (code::BATCH_EXCEEDS_SPAN, |g| set(g, "/nodes/store/batch", json!({ "items": 100_000 }))),
];

/// The codes that stand for what a change of the sample cannot bring about, and where they are tested.
const ELSEWHERE: &[&str] = &[
    code::JSON_SYNTAX,        // graph.rs
    code::JSON_TOO_LARGE,     // graph.rs
    code::JSON_TOO_DEEP,      // graph.rs
    code::JSON_DUPLICATE_KEY, // graph.rs
    code::GRAPH_TOO_LARGE,    // graph.rs
    code::NAME_DUPLICATE,     // builder.rs
    code::INCREMENTAL_SINK,   // incremental.rs
    code::REACH_FILES,        // a_stranger_reaches_nothing_private
    code::REACH_NETWORK,      // a_stranger_reaches_nothing_private
    code::REACH_SECRET,       // a_stranger_reaches_nothing_private
];

#[test]
fn every_code_is_found() {
    let mut golden = String::new();
    let mut seen: BTreeSet<&str> = ELSEWHERE.iter().copied().collect();
    for (expected, change) in CASES {
        let mut graph: Value = serde_json::from_str(TICKETS).unwrap();
        change(&mut graph);
        let text = serde_json::to_string_pretty(&graph).unwrap();
        let found = compile_json(&text, &registry(), &CompileOptions::default());
        let found = found.err().unwrap_or_else(|| panic!("{expected}: it compiles"));
        assert!(found.iter().any(|d| d.code == *expected), "{expected}: {found}");
        assert!(found.iter().all(|d| d.line.is_some() && d.column.is_some()), "{expected}: {found}");
        golden.push_str(&format!("## {expected}\n\n"));
        for diagnostic in &found {
            golden.push_str(&format!("{diagnostic}\n"));
        }
        golden.push('\n');
        seen.insert(expected);
    }
    assert_eq!(seen, code::ALL.iter().copied().collect::<BTreeSet<_>>());
    expect_test::expect_file!["../golden/diagnostics.txt"].assert_eq(&golden);
}

#[test]
fn a_stranger_reaches_nothing_private() {
    let mut graph: Value = serde_json::from_str(TICKETS).unwrap();
    set(&mut graph, "/connections/model/config/host", json!("0x7f.1"));
    let found = compile_json(&graph.to_string(), &registry(), &CompileOptions::untrusted()).unwrap_err();
    let codes: BTreeSet<_> = found.iter().map(|d| (d.code, d.path.as_str())).collect();
    let expected = [
        (code::REACH_FILES, "connections.lake.config.root"),
        (code::REACH_FILES, "nodes.store.connection.config.root"),
        (code::REACH_NETWORK, "connections.model.config.host"),
        (code::REACH_SECRET, "connections.model.config.api_key"),
    ];
    assert_eq!(codes, expected.into_iter().collect());
    let secret = found.iter().find(|d| d.code == code::REACH_SECRET).unwrap();
    assert!(secret.help.as_ref().is_some_and(|help| help.contains(".secrets(")), "{secret}");
    let given = CompileOptions { untrusted: true, ..CompileOptions::default() };
    let found = compile_json(&graph.to_string(), &registry(), &given).unwrap_err();
    assert!(found.iter().all(|d| d.code != code::REACH_SECRET), "{found}");
    assert!(compile_json(&graph.to_string(), &registry(), &CompileOptions::default()).is_ok());
}

#[cfg(feature = "ai")]
#[test]
fn the_connection_says_what_calls_cost_and_not_the_name_of_the_model() {
    let registry = Registry::enabled().plugin(&nvisy_core::testing::plugin());
    let explained = |connection: Value| {
        let graph = json!({ "version": 1, "name": "local", "nodes": {
            "in": { "type": "source", "use": "memory/source", "config": { "items": ["a"], "kind": "document" } },
            "embed": { "type": "action", "use": "ai/embed", "inputs": ["in"], "connection": connection,
                       "config": { "model": "local/hash" } },
            "out": { "type": "sink", "use": "memory/sink", "inputs": ["embed"], "config": { "name": "out" } },
        } });
        compile_json(&graph.to_string(), &registry, &CompileOptions::default()).unwrap().explain()
    };
    let elsewhere = json!({ "use": "ai/openai", "config": { "base_url": "http://models.example/v1" } });
    assert!(explained(elsewhere).contains("pays for its calls"));
    assert!(!explained(json!({ "use": "ai/local" })).contains("pays for its calls"));
}

#[test]
fn diagnostics_are_data() {
    let mut graph: Value = serde_json::from_str(TICKETS).unwrap();
    set(&mut graph, "/nodes/open/inputs", json!(["ticket"]));
    let graph: Graph = serde_json::from_value(graph).unwrap();
    let found: Diagnostics = compile(&graph, &registry(), &CompileOptions::default()).unwrap_err();
    let expected = json!([{
        "code": "input.unknown",
        "path": "nodes.open.inputs[0]",
        "message": "node \"open\" reads from \"ticket\", which does not exist",
        "help": "did you mean \"tickets\"?"
    }]);
    assert_eq!(serde_json::to_value(&found).unwrap(), expected);
}

#[tokio::test]
async fn a_main_that_returns_them_shows_each_diagnostic_once() {
    let text = TICKETS.replace("acme/chunk\"", "acme/chunks\"");
    let found = compile_json(&text, &registry(), &CompileOptions::default()).unwrap_err();
    let said = "there is no action \"acme/chunks\"";
    assert!(found.to_string().contains(said), "{found}");
    assert_eq!(format!("{found:?}"), found.to_string());

    let engine = Engine::builder().without_plugins().plugin(&crate::sample::plugin()).build().unwrap();
    let error = engine.run(&Graph::from_json(&text).unwrap()).await.unwrap_err();
    let shown = format!("{:?}", Box::<dyn std::error::Error>::from(error));
    assert_eq!(shown.matches(said).count(), 1, "{shown}");
}

#[test]
fn a_strangers_mistakes_are_bounded() {
    let nodes: Vec<_> = (0..9_000)
        .map(|i| format!("\"n{i}\": {{ \"type\": \"action\", \"use\": \"x\", \"inputs\": [\"m{i}\"] }}"))
        .collect();
    let text = format!("{{ \"version\": 1, \"name\": \"n\", \"nodes\": {{ {} }} }}", nodes.join(","));
    let found = compile_json(&text, &registry(), &CompileOptions::default()).unwrap_err();
    assert_eq!(found.as_slice().len(), 1_001);
    assert!(found.iter().any(|d| d.code == code::GRAPH_TOO_LARGE));
}

#[test]
fn a_long_chain_compiles() {
    let mut nodes = vec![
        r#""n0": { "type": "source", "use": "acme/tickets", "connection": { "use": "acme/store", "config": { "root": "a" } }, "config": { "prefix": "a" } }"#.to_owned(),
    ];
    for i in 1..9_999 {
        let before = i - 1;
        nodes.push(format!(r#""n{i}": {{ "type": "action", "use": "filter", "inputs": ["n{before}"], "config": {{ "when": "row.a" }} }}"#));
    }
    nodes.push(
        r#""end": { "type": "sink", "use": "acme/lines", "inputs": ["n9998"], "config": { "path": "b" } }"#
            .to_owned(),
    );
    let text = format!("{{ \"version\": 1, \"name\": \"n\", \"nodes\": {{ {} }} }}", nodes.join(","));
    plan(&text);
    let circle = text.replace(
        r#""n1": { "type": "action", "use": "filter", "inputs": ["n0"]"#,
        r#""n1": { "type": "action", "use": "filter", "inputs": ["n9998"]"#,
    );
    let found = compile_json(&circle, &registry(), &CompileOptions::default()).unwrap_err();
    assert!(found.iter().any(|d| d.code == code::GRAPH_CYCLE && d.message.contains("n1 → n2 → n3")));
}

#[test]
fn a_name_that_is_registered_twice_is_an_error() {
    let registry = Registry::builtin().sink::<Lines>().sink::<Lines>();
    assert!(registry.check().unwrap_err().to_string().contains("sink \"acme/lines\""));
    let function = |item: Item<Any>| Ok(Outcome::emit(item));
    let registry = Registry::builtin().function("same", function).function("same", function);
    assert!(registry.check().unwrap_err().to_string().contains("function \"same\""));
}

#[test]
fn the_schema_of_what_is_built_in_is_stable() {
    let schema = serde_json::to_string_pretty(&Registry::builtin().schema()).unwrap();
    expect_test::expect_file!["../golden/graph.schema.json"].assert_eq(&format!("{schema}\n"));
}

#[test]
fn a_graph_that_compiles_is_one_of_the_schema() {
    let schema = registry().schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let graph: Value = serde_json::from_str(TICKETS).unwrap();
    let errors: Vec<_> = validator.iter_errors(&graph).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}");

    let not: &[fn(&mut Value)] = &[
        |g| set(g, "/nodes/open/conection", json!("lake")),
        |g| set(g, "/nodes/chunks/config/size", json!("large")),
        |g| set(g, "/nodes/tickets/config/prefx", json!("tickets/")),
        |g| set(g, "/nodes/chunks/use", json!("acme/lines")),
        |g| set(g, "/nodes/lang/retry", json!({})),
        |g| set(g, "/connections/model/config/api_key", json!("hunter2")),
        |g| remove(g, "/nodes/vectors/connection"),
    ];
    for change in not {
        let mut graph = graph.clone();
        change(&mut graph);
        assert!(!validator.is_valid(&graph), "{graph}");
    }
}

#[test]
fn every_plugin_that_is_on_is_in_the_schema() {
    let registry = Registry::enabled();
    registry.check().unwrap();
    let schema = registry.schema();
    jsonschema::validator_for(&schema).unwrap();
    let text = schema.to_string();
    let names = registry.sources().map(|e| e.name()).chain(registry.sinks().map(|e| e.name()));
    for name in
        names.chain(registry.actions().map(|e| e.name())).chain(registry.connections().map(|e| e.name()))
    {
        assert!(text.contains(&format!("{{\"const\":\"{name}\"}}")), "{name}");
    }
}
