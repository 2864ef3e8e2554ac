//! The document: read, written, refused.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use nvisy_core::ErrorKind;
use nvisy_runtime::compiler::code;
use nvisy_runtime::graph::{
    ActionNode, Backoff, BatchPolicy, BranchNode, CheckpointSettings, ConnectionSpec, ConnectionUse,
    DeadLetterLimit, FanInNode, FanOutNode, Graph, Named, Node, NodeBody, OnError, Policies, RateLimit,
    Retry, Route, Settings, SinkNode, SourceNode, SpillPolicy,
};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::sample::TICKETS;

fn name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9_-]{0,8}"
}

fn config() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(Value::Null),
        Just(json!({ "secret": "NAME" })),
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[a-z_]{1,8}", value, 0..4)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

fn time() -> impl Strategy<Value = Duration> {
    (0_u64..10_000_000_000).prop_map(Duration::from_micros)
}

fn rate_limit() -> impl Strategy<Value = RateLimit> {
    (any::<u32>(), any::<u32>())
        .prop_map(|(r, t)| RateLimit::default().requests_per_minute(r.into()).tokens_per_minute(t.into()))
}

fn retry() -> impl Strategy<Value = Retry> {
    let kinds = vec(prop::sample::select(ErrorKind::ALL.to_vec()), 0..3);
    (1_u32..20, any::<bool>(), time(), time(), any::<bool>(), of(kinds)).prop_map(
        |(attempts, fixed, initial, max, jitter, on)| Retry {
            max_attempts: NonZeroU32::new(attempts).unwrap(),
            backoff: if fixed { Backoff::Fixed } else { Backoff::Exponential },
            initial,
            max,
            jitter,
            on,
        },
    )
}

fn policies() -> impl Strategy<Value = Policies> {
    let on_error = prop::sample::select(vec![OnError::Fail, OnError::DeadLetter, OnError::Drop]);
    let batch =
        (any::<u16>(), any::<u16>(), any::<u16>(), of(time())).prop_map(|(items, bytes, tokens, linger)| {
            BatchPolicy {
                items: NonZeroUsize::new(items.into()),
                bytes: NonZeroUsize::new(bytes.into()),
                tokens: NonZeroU64::new(tokens.into()),
                linger,
            }
        });
    (
        of(retry()),
        of(time()),
        of(time()),
        any::<u8>(),
        of(rate_limit()),
        of(on_error),
        of(batch),
        of(any::<bool>()),
        of(any::<bool>()),
        of(any::<bool>()),
    )
        .prop_map(
            |(
                retry,
                timeout,
                deadline,
                concurrency,
                rate_limit,
                on_error,
                batch,
                memo,
                incremental,
                allow_empty,
            )| {
                Policies {
                    retry,
                    timeout,
                    deadline,
                    concurrency: NonZeroUsize::new(concurrency.into()),
                    rate_limit,
                    on_error,
                    batch,
                    memo,
                    incremental,
                    allow_empty,
                }
            },
        )
}

fn spec() -> impl Strategy<Value = ConnectionSpec> {
    (name(), config(), of(rate_limit())).prop_map(|(uses, config, rate_limit)| ConnectionSpec {
        uses,
        config,
        rate_limit,
    })
}

fn spill() -> impl Strategy<Value = SpillPolicy> {
    (of(any::<u64>()), of(any::<u64>())).prop_map(|(memory, disk)| SpillPolicy { memory, disk })
}

fn body() -> impl Strategy<Value = NodeBody> {
    let connection =
        || of(prop_oneof![name().prop_map(ConnectionUse::Shared), spec().prop_map(ConnectionUse::Inline)]);
    let inputs = || vec("[a-z]{1,4}(\\.[a-z]{1,4})?", 0..3);
    prop_oneof![
        (name(), connection(), config(), of(".{0,12}"))
            .prop_map(|(uses, connection, config, key)| SourceNode { uses, connection, config, key }.into()),
        (name(), connection(), inputs(), config()).prop_map(|(uses, connection, inputs, config)| {
            ActionNode { uses, connection, inputs, config }.into()
        }),
        (name(), connection(), inputs(), config()).prop_map(|(uses, connection, inputs, config)| SinkNode {
            uses,
            connection,
            inputs,
            config
        }
        .into()),
        (inputs(), vec((name(), ".{0,12}"), 0..4), of(name())).prop_map(|(inputs, routes, default)| {
            let mut routes: Vec<_> = routes.into_iter().map(|(name, when)| Route { name, when }).collect();
            let mut seen = std::collections::HashSet::new();
            routes.retain(|route| seen.insert(route.name.clone()));
            BranchNode { inputs, routes, default }.into()
        }),
        (inputs(), vec(name(), 0..3), btree_map(name(), spill(), 0..3))
            .prop_map(|(inputs, best_effort, spill)| FanOutNode { inputs, best_effort, spill }.into()),
        inputs().prop_map(|inputs| FanInNode { inputs }.into()),
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    (any::<u8>(), of(time()), of(name()), of(any::<u32>())).prop_map(
        |(concurrency, timeout, dead_letter, items)| Settings {
            concurrency: NonZeroUsize::new(concurrency.into()),
            timeout,
            dead_letter,
            dead_letter_limit: items
                .map(|items| DeadLetterLimit::share(f64::from(items % 101) / 100.0).of(items)),
            checkpoint: items.map(|items| CheckpointSettings {
                directory: (items % 2 == 0).then(|| format!("state/{items}")),
                uncommitted_items: NonZeroU64::new(items.into()),
                every: (items % 3 == 0).then(|| Duration::from_millis(u64::from(items) + 1)),
            }),
        },
    )
}

fn graph() -> impl Strategy<Value = Graph> {
    let node = (body(), policies()).prop_map(|(body, policies)| Node { body, policies });
    (".{1,12}", vec((name(), spec()), 0..4), vec((name(), node), 0..8), settings()).prop_map(
        |(name, connections, nodes, settings)| {
            let mut graph = Graph::new(name);
            graph.connections = connections.into_iter().collect::<Named<_>>();
            graph.nodes = nodes.into_iter().collect::<Named<_>>();
            graph.settings = settings;
            graph
        },
    )
}

proptest! {
    #[test]
    fn any_graph_is_lossless_through_json(graph in graph()) {
        prop_assert_eq!(&Graph::from_json(&graph.to_json()).unwrap(), &graph);
        prop_assert_eq!(&serde_json::from_str::<Graph>(&serde_json::to_string(&graph).unwrap()).unwrap(), &graph);
        // A store that sorts keys loses nothing either.
        let sorted = serde_json::to_value(&graph).unwrap();
        prop_assert_eq!(&serde_json::from_value::<Graph>(sorted).unwrap(), &graph);
    }

    #[test]
    fn a_text_that_is_cut_or_changed_is_refused_or_read(at in 0_usize..3_000, byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = TICKETS.as_bytes().to_vec();
        let at = at % bytes.len();
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let Ok(text) = String::from_utf8(bytes) else { return Ok(()) };
        let read = Graph::from_json(&text);
        if serde_json::from_str::<Value>(&text).is_err() {
            let error = read.unwrap_err();
            prop_assert_eq!(error.as_slice().len(), 1);
            prop_assert!(error.as_slice()[0].line.is_some());
        }
    }

    #[test]
    fn any_text_is_json_exactly_if_it_is_json(text in "[\\[\\]{},:\"\\\\a-f0-9eE+. \nturlsn-]{0,40}") {
        let ours = Graph::from_json(&text);
        let syntax = ours.as_ref().is_err_and(|e| e.iter().any(|d| d.code == code::JSON_SYNTAX));
        let twice = ours.as_ref().is_err_and(|e| e.iter().any(|d| d.code == code::JSON_DUPLICATE_KEY));
        if !twice {
            prop_assert_eq!(syntax, serde_json::from_str::<Value>(&text).is_err(), "{:?}", ours);
        }
    }
}

#[test]
fn the_order_of_keys_means_nothing() {
    let graph = Graph::from_json(TICKETS).unwrap();
    let sorted = serde_json::from_str::<Value>(TICKETS).unwrap().to_string();
    assert_eq!(Graph::from_json(&sorted).unwrap(), graph);
    assert_eq!(Graph::from_json(&graph.to_json()).unwrap().to_json(), graph.to_json());
}

#[test]
fn routes_are_tried_in_their_order_whatever_carries_them() {
    let text = r#"{ "version": 1, "name": "n", "nodes": { "b": {
        "type": "branch", "inputs": ["a"], "routes": { "second": "true", "first": "false" } } } }"#;
    let graph = Graph::from_json(text).unwrap();
    let NodeBody::Branch(branch) = &graph.nodes.get("b").unwrap().body else { panic!("no branch") };
    assert_eq!(branch.routes[0].name, "second");
    let written = serde_json::to_value(&graph).unwrap();
    let routes = json!([{ "route": "second", "when": "true" }, { "route": "first", "when": "false" }]);
    assert_eq!(written.pointer("/nodes/b/routes"), Some(&routes));
}

fn refused(text: &str, expected: &expect_test::Expect) {
    expected.assert_eq(&Graph::from_json(text).unwrap_err().to_string());
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    refused(
        "",
        &expect_test::expect![[r#"
        the graph does not compile:
        json.syntax: (line 1, column 1): expected a value, but the text ends here"#]],
    );
    refused(
        "{\n  \"version\": 1,\n  \"nodes\": { \"a\": { \"type\": \"sour",
        &expect_test::expect![[r#"
        the graph does not compile:
        json.syntax: nodes.a.type (line 3, column 34): expected the end of the string, but the text ends here"#]],
    );
    refused(
        "{ \"name\": \"a\", \"name\": \"b\" }",
        &expect_test::expect![[r#"
        the graph does not compile:
        json.duplicate_key: name (line 1, column 16): the key "name" stands here twice"#]],
    );
    refused(
        "{ \"name\": 1e999 }",
        &expect_test::expect![[r#"
        the graph does not compile:
        json.syntax: name (line 1, column 11): `1e999` is no number, or too large for one"#]],
    );
    refused(
        "{} []",
        &expect_test::expect![[r#"
        the graph does not compile:
        json.syntax: (line 1, column 4): expected the end of the text, but this is '['"#]],
    );
}

#[test]
fn what_is_beyond_the_bounds_is_refused() {
    let deep = format!("{{ \"nodes\": {}{} }}", "[".repeat(100_000), "]".repeat(100_000));
    refused(
        &deep,
        &expect_test::expect![[r#"
        the graph does not compile:
        json.too_deep: nodes[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0][0] (line 1, column 75): objects and arrays lie more than 64 deep in each other"#]],
    );
    let long = format!("{{ \"name\": \"{}\" }}", "x".repeat(2 << 20));
    refused(
        &long,
        &expect_test::expect![[r#"
        the graph does not compile:
        json.too_large: name (line 1, column 11): the string has more than 1048576 bytes"#]],
    );
    refused(
        &format!("{{ \"version\": {} }}", "1".repeat(100)),
        &expect_test::expect![[r#"
        the graph does not compile:
        json.too_large: version (line 1, column 14): the number has more than 64 characters"#]],
    );
    refused(
        &format!("{{ \"{}\": 1 }}", "k".repeat(2_000)),
        &expect_test::expect![[r#"
        the graph does not compile:
        json.too_large: (line 1, column 3): the key has more than 1024 bytes"#]],
    );
    refused(
        &" ".repeat(5 << 20),
        &expect_test::expect![[r#"
        the graph does not compile:
        json.too_large: the text has 5242880 bytes, more than 4194304"#]],
    );
    refused(
        &format!("[{}0]", "0,".repeat(600_000)),
        &expect_test::expect![[r#"
        the graph does not compile:
        json.too_large: [499999] (line 1, column 1000000): there are more than 500000 values"#]],
    );
    let nodes: Vec<_> = (0..10_001).map(|i| format!("\"n{i}\": {{}}")).collect();
    let many = format!("{{ \"version\": 1, \"name\": \"n\", \"nodes\": {{ {} }} }}", nodes.join(","));
    refused(
        &many,
        &expect_test::expect![[r#"
        the graph does not compile:
        graph.too_large: nodes (line 1, column 30): there are 10001 nodes, more than 10000"#]],
    );
}

#[test]
fn wrong_types_and_unknown_fields_are_all_found_at_once() {
    let text = r#"{
  "version": 2,
  "nmae": "tickets",
  "connections": { "lake": { "use": 7, "confg": {} } },
  "nodes": {
    "tickets": { "type": "sourse", "use": "x" },
    "open": { "type": "action", "use": "filter", "input": ["tickets"], "timeout": "soon", "concurrency": 0 },
    "lang": { "type": "branch", "inputs": "open", "routes": ["a"] },
    "store": { "type": "sink", "use": "x", "inputs": ["open"], "config": [], "retry": { "max_attempts": 2, "jiter": true } },
    "nothing": 5
  },
  "settings": { "concurency": 10 }
}"#;
    refused(
        text,
        &expect_test::expect![[r#"
            the graph does not compile, for 14 reasons:
            graph.version: version (line 2, column 14): this is no version that can be read: 2
              help: write "version": 1
            graph.unknown_field: nmae (line 3, column 11): a graph has no field `nmae`
              help: did you mean "name"?
            graph.invalid: connections.lake.use (line 4, column 37): expected the name of a type, found a number
            graph.unknown_field: connections.lake.confg (line 4, column 40): a connection has no field `confg`
              help: did you mean "config"?
            graph.invalid: nodes.tickets.type (line 6, column 26): there is no type of node "sourse"
              help: did you mean "source"?
            graph.unknown_field: nodes.open.input (line 7, column 50): a node of type "action" has no field `input`
              help: did you mean "inputs"?
            graph.invalid: nodes.open.timeout (line 7, column 83): `soon` is not a duration such as "200ms" or "1m 30s": expected number at 0
            graph.invalid: nodes.open.concurrency (line 7, column 106): expected at least 1, found 0
            graph.invalid: nodes.lang.inputs (line 8, column 43): expected an array of names, found a string
            graph.invalid: nodes.lang.routes[0] (line 8, column 62): expected a route: {"route": NAME, "when": EXPRESSION}, found a string
            graph.invalid: nodes.store.config (line 9, column 64): expected a config, which is an object, found an array
            graph.unknown_field: nodes.store.retry.jiter (line 9, column 117): there is no field `jiter` here
              help: did you mean "jitter"?
            graph.invalid: nodes.nothing (line 10, column 16): expected a node, which is an object, found a number
            graph.unknown_field: settings.concurency (line 12, column 31): there is no field `concurency` here
              help: did you mean "concurrency"?"#]],
    );
}

#[test]
fn an_error_of_serde_says_the_same() {
    let error = serde_json::from_str::<Graph>(r#"{ "version": 1, "name": "n", "nodes": [] }"#).unwrap_err();
    assert!(error.to_string().contains("graph.invalid: nodes: expected an object"), "{error}");
}
