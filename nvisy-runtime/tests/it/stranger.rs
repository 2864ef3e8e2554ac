//! What the graph of a stranger may take of the process that compiles and runs it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nvisy_core::plugin::{ActionType, AnyClient};
use nvisy_core::primitive::raw::Raw;
use nvisy_core::testing::memory::Form;
use nvisy_core::{Action, Batch, Context, Item, Outcome, Spill};
use nvisy_runtime::actions::Validate;
use nvisy_runtime::compiler::{CompileOptions, Diagnostics, compile_json};
use nvisy_runtime::engine::RunStatus;
use nvisy_runtime::registry::Registry;
use serde_json::{Value, json};

use crate::fixture::{act, batches, node, numbers, run, sink, unique, with};

/// Compiles a graph of actions, one behind the other.
fn compile(actions: &[(&str, Value)], options: CompileOptions) -> Result<(), Diagnostics> {
    let mut nodes = json!({
        "in": { "type": "source", "use": "memory/source", "config": { "items": [1], "kind": "raw" } },
    });
    let mut last = "in".to_owned();
    for (index, (uses, config)) in actions.iter().enumerate() {
        let name = format!("a{index:02}");
        nodes[&name] = json!({ "type": "action", "use": uses, "inputs": [last], "config": config });
        last = name;
    }
    nodes["out"] =
        json!({ "type": "sink", "use": "memory/sink", "inputs": [last], "config": { "name": "out" } });
    let graph = json!({ "version": 1, "name": "theirs", "nodes": nodes }).to_string();
    let registry = Registry::enabled().plugin(&nvisy_core::testing::plugin());
    compile_json(&graph, &registry, &options).map(drop)
}

fn schema(schema: &Value) -> Vec<(&'static str, Value)> {
    vec![("validate", json!({ "schema": schema }))]
}

/// The path and the message of the one problem that a schema has in the graph of a stranger.
fn refused(theirs: &Value) -> (String, String) {
    let found = compile(&schema(theirs), CompileOptions::untrusted()).unwrap_err();
    let [problem] = found.as_slice() else { panic!("{theirs}: {found}") };
    assert_eq!(problem.code, "schema.unbounded", "{problem}");
    assert!(problem.help.is_some(), "{problem}");
    (problem.path.clone(), problem.message.clone())
}

/// Definitions each of which refers twice to the next.
fn ladder(rungs: usize, twice: impl Fn(Value) -> Value) -> Value {
    let rung = |n: usize| (format!("d{n}"), twice(json!({ "$ref": format!("#/$defs/d{}", n + 1) })));
    let mut definitions: serde_json::Map<String, Value> = (0..rungs).map(rung).collect();
    definitions.insert(format!("d{rungs}"), json!({ "type": "integer" }));
    json!({ "$ref": "#/$defs/d0", "$defs": definitions })
}

#[test]
fn schemas_of_exponential_time_are_refused_before_anything_runs() {
    let both = |a: Value, b: Value| json!({ "allOf": [a, b] });
    let recursive = both(json!({ "$ref": "#" }), json!({ "$ref": "#" }));
    let unbounded = [
        // Every member is looked at twice for every time its parent is.
        json!({ "additionalProperties": recursive }),
        json!({ "items": recursive }),
        json!({ "properties": { "next": { "$ref": "#" } }, "patternProperties": { "n": { "$ref": "#" } } }),
        json!({ "items": { "$ref": "#" }, "contains": { "$ref": "#" } }),
        json!({ "allOf": [{ "properties": { "next": { "$ref": "#" } } }], "unevaluatedProperties": false }),
        json!({ "if": { "items": { "$ref": "#" } }, "then": { "items": { "$ref": "#" } } }),
        json!({ "dependentSchemas": { "a": { "properties": { "b": { "$ref": "#" } } } },
                "properties": { "b": { "$ref": "#" } } }),
        // The same without recursion.
        ladder(40, |next| json!({ "allOf": [next, next] })),
        ladder(40, |next| json!({ "items": { "anyOf": [next, next] } })),
        ladder(40, |next| json!({ "not": next, "dependencies": { "a": next } })),
        // Recursion within recursion within recursion.
        json!({ "$ref": "#/$defs/a", "$defs": {
            "a": { "items": { "allOf": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/b" }] } },
            "b": { "items": { "allOf": [{ "$ref": "#/$defs/b" }, { "$ref": "#/$defs/c" }] } },
            "c": { "items": { "allOf": [{ "$ref": "#/$defs/c" }, { "$ref": "#/$defs/d" }] } },
            "d": { "items": { "$ref": "#/$defs/d" } },
        } }),
    ];
    for theirs in &unbounded {
        let (path, message) = refused(theirs);
        assert_eq!(path, "nodes.a00.config.schema");
        assert!(message.contains("too many ways through the references"), "{theirs}: {message}");
        assert!(compile(&schema(theirs), CompileOptions::default()).is_ok(), "the host trusts itself");
    }
}

#[test]
fn references_that_cannot_be_followed_beforehand_are_refused() {
    let cases = [
        (json!({ "items": { "$dynamicRef": "#x" }, "$dynamicAnchor": "x" }), ".items", "$dynamicRef"),
        (json!({ "$defs": { "a": { "$anchor": "a" } }, "items": { "$ref": "#a" } }), ".items", "plain path"),
        (json!({ "items": { "$id": "urn:x", "type": "string" } }), ".items", "schema of its own"),
        (
            json!({ "x": { "$id": "urn:x", "y": { "type": "string" } }, "items": { "$ref": "#/x/y" } }),
            ".items",
            "plain path",
        ),
        (
            json!({ "$defs": { "a": { "anyOf": [{ "$ref": "#/$defs/a" }] } }, "$ref": "#/$defs/a" }),
            "",
            "without going into the item",
        ),
        (ladder(1_100, |next| json!({ "not": next })), "", "lie in each other"),
    ];
    for (theirs, path, message) in cases {
        let (found, said) = refused(&theirs);
        assert_eq!(found, format!("nodes.a00.config.schema{path}"), "{theirs}");
        assert!(said.contains(message), "{said}");
    }
}

/// Runs a schema of a stranger over items, and returns how many obey it.
async fn obey(theirs: &Value, items: Vec<Value>) -> usize {
    assert!(compile(&schema(theirs), CompileOptions::untrusted()).is_ok(), "{theirs}");
    let entry = ActionType::of::<Validate>().parse(&json!({ "schema": theirs })).unwrap();
    let Action::Batch(action) =
        entry.build(Context::detached(), &AnyClient::none(), Spill::temporary()).await.unwrap()
    else {
        panic!("another form")
    };
    action.call(batch(items), &Context::detached()).await.unwrap().emitted.len()
}

fn batch(items: Vec<Value>) -> Batch {
    items.into_iter().enumerate().map(|(n, item)| Item::detached(&n.to_string(), Raw::from(item))).collect()
}

/// A value within a value, and so on.
fn nested(depth: usize, outer: impl Fn(Value) -> Value) -> Value {
    (0..depth).fold(json!(1), |inner, _| outer(inner))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[expect(clippy::disallowed_methods, reason = "the stack of a worker is that of a run")]
async fn what_a_stranger_may_ask_is_answered_on_the_deepest_items() {
    let tree = json!({ "properties": { "left": { "$ref": "#" }, "right": { "$ref": "#" } } });
    let any = json!({ "anyOf": [
        { "type": "integer" },
        { "type": "array", "items": { "$ref": "#" } },
        { "type": "object", "additionalProperties": { "$ref": "#/anyOf/1" } },
    ] });
    // As many references from one value to the next one as may be.
    let stacked = {
        let mut stacked = ladder(3, |next| json!({ "allOf": [next] }));
        stacked["$defs"]["d3"] = json!({ "items": { "$ref": "#/$defs/d1" } });
        stacked
    };
    let answered = tokio::spawn(async move {
        let lists = |depth| nested(depth, |inner| json!([inner]));
        let left = |depth| nested(depth, |inner| json!({ "left": inner, "right": 1 }));
        [
            obey(&tree, vec![left(120), json!(1)]).await,
            obey(&any, vec![lists(120), json!({ "a": [1] }), json!({ "a": 1 }), json!("no")]).await,
            obey(&stacked, vec![lists(120)]).await,
            obey(&json!({ "pattern": "^[a-z]+$", "minLength": 2 }), vec![json!("ab"), json!("1")]).await,
        ]
    });
    assert_eq!(answered.await.unwrap(), [2, 2, 1, 1]);
}

/// A random schema of references, forwards and backwards.
fn random(random: &mut impl FnMut(usize) -> usize) -> Value {
    const SAME: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "if", "then", "dependentSchemas"];
    const BELOW: [&str; 8] = [
        "properties",
        "additionalProperties",
        "patternProperties",
        "items",
        "prefixItems",
        "contains",
        "unevaluatedProperties",
        "unevaluatedItems",
    ];
    let definitions = 1 + random(12);
    let mut all = serde_json::Map::new();
    for n in 0..definitions {
        let mut schema = serde_json::Map::new();
        for _ in 0..=random(3) {
            // Below the item anything may be referred to, beside it only what comes later.
            let below = random(2) == 0;
            let to = |random: usize| match (below, n + 1 < definitions) {
                (true, _) => json!({ "$ref": format!("#/$defs/d{}", random % definitions) }),
                (_, true) => {
                    json!({ "$ref": format!("#/$defs/d{}", n + 1 + random % (definitions - n - 1)) })
                }
                _ => json!({ "type": ["array", "object"] }),
            };
            let (one, other) = (to(random(100)), to(random(100)));
            let keyword = if below { BELOW[random(BELOW.len())] } else { SAME[random(SAME.len())] };
            let value = match keyword {
                "allOf" | "anyOf" | "oneOf" | "prefixItems" => json!([one, other]),
                "properties" | "dependentSchemas" | "patternProperties" => json!({ "a": one, "b": other }),
                _ => one,
            };
            schema.insert(keyword.to_owned(), value);
        }
        all.insert(format!("d{n}"), Value::Object(schema));
    }
    json!({ "$ref": "#/$defs/d0", "$defs": all })
}

#[tokio::test]
async fn every_schema_that_a_stranger_may_use_is_quick() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed_u64);
    println!("SEED={seed}");
    let mut state = seed;
    let mut below = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let items = [
        nested(100, |inner| json!({ "a": inner })),
        nested(100, |inner| json!([inner])),
        nested(100, |inner| if inner.is_array() { json!({ "a": inner, "b": 1 }) } else { json!([inner, 1]) }),
    ];
    let (mut used, mut refused) = (0, 0);
    for _ in 0..400 {
        let theirs = random(&mut below);
        if compile(&schema(&theirs), CompileOptions::untrusted()).is_err() {
            refused += 1;
            continue;
        }
        used += 1;
        let began = std::time::Instant::now();
        obey(&theirs, items.to_vec()).await;
        assert!(began.elapsed().as_secs() < 5, "{:?}: {theirs}", began.elapsed());
    }
    assert!(used > 50 && refused > 50, "{used} used, {refused} refused");
}

#[tokio::test]
async fn between_two_items_a_check_can_be_cancelled() {
    let entry = ActionType::of::<Validate>().parse(&json!({ "schema": { "type": "integer" } })).unwrap();
    let built = entry.build(Context::detached(), &AnyClient::none(), Spill::temporary()).await.unwrap();
    let Action::Batch(action) = built else { panic!("another form") };
    let context = Context::detached();
    let mut work = action.call(batch(vec![json!(1); 1_000]), &context);
    assert!(futures::poll!(&mut work).is_pending(), "1,000 items are not one piece of work");
    assert_eq!(work.await.unwrap().emitted.len(), 1_000);
}

/// A condition that takes some bytes.
fn large(n: usize) -> Value {
    json!({ "when": format!("raw.matches('^\\\\w{{4}}{n}')") })
}

#[test]
fn the_patterns_of_the_graph_of_a_stranger_have_one_budget() {
    let filters: Vec<_> = (0..100).map(|n| ("filter", large(n))).collect();
    assert!(compile(&filters, CompileOptions::default()).is_ok());
    let found = compile(&filters, CompileOptions::untrusted()).unwrap_err();
    let first = found.iter().next().unwrap();
    assert_eq!(first.code, "expression.invalid");
    assert!(first.message.contains("the patterns of the graph take more than 64 MiB"), "{first}");
    // The first that goes beyond it, and all behind it.
    let at = 100 - found.as_slice().len();
    assert!((20..90).contains(&at), "{at}");
    assert_eq!(first.path, format!("nodes.a{at:02}.config.when"));
    assert!(compile(&filters[..at], CompileOptions::untrusted()).is_ok());
    // Graphs do not share it, and small patterns count for little.
    let small = json!({ "when": "raw.matches('^[a-z]+$')" });
    let small: Vec<_> = (0..150).map(|_| ("filter", small.clone())).collect();
    assert!(compile(&small, CompileOptions::untrusted()).is_ok());
}

#[test]
fn every_pattern_of_a_node_counts_once() {
    let fields = |n: usize| {
        let fields = (0..n).map(|n| (format!("f{n}"), json!("raw.matches('^[a-z]+$')")));
        json!({ "set": fields.collect::<serde_json::Map<_, _>>() })
    };
    assert!(compile(&[("map", fields(200))], CompileOptions::untrusted()).is_ok());
    let found = compile(&[("map", fields(300))], CompileOptions::untrusted()).unwrap_err();
    assert!(found.iter().all(|problem| problem.path.starts_with("nodes.a00.config.set.f")), "{found}");
    let schema = |n: usize| {
        let properties = (0..n).map(|n| (format!("p{n}"), json!({ "pattern": format!("^{n}$") })));
        json!({ "schema": { "properties": properties.collect::<serde_json::Map<_, _>>() } })
    };
    assert!(compile(&[("validate", schema(200))], CompileOptions::untrusted()).is_ok());
    let found = compile(&[("validate", schema(300))], CompileOptions::untrusted()).unwrap_err();
    assert_eq!(found.iter().next().unwrap().path, "nodes.a00.config.schema");
}

/// A text that a map makes of any item: 2 MB.
fn long() -> String {
    format!("'{}'.replace('a', '{}')", "a".repeat(1_000), "b".repeat(2_000))
}

#[tokio::test]
async fn what_a_map_computes_of_many_items_comes_in_parts() {
    let (largest, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (bytes, count) = (largest.clone(), seen.clone());
    let look = act(Form::Batch, "map", move |items: Vec<Item>, _| {
        let batch: Batch = items.into_iter().map(Item::into_primitive).collect();
        bytes.fetch_max(batch.bytes(), Ordering::Relaxed);
        count.fetch_add(batch.len(), Ordering::Relaxed);
        let outcomes = (0..batch.len()).map(|_| Outcome::drop("seen")).collect();
        async move { Ok(outcomes) }
    });
    let sets = [("row", "z"), ("row", "meta.custom.z"), ("raw", "z"), ("raw", "meta.custom.z")];
    for (kind, set) in sets {
        let report = run(json!({
            "in": with(batches(100, 100), json!({ "config": { "kind": kind } })),
            "map": { "type": "action", "use": "map", "inputs": ["in"], "config": { "set": { set: long() } } },
            "look": look,
            "out": sink(&unique("out"), "look"),
        }))
        .await;
        assert_eq!(report.status, RunStatus::Success, "{report}");
    }
    assert_eq!(seen.load(Ordering::Relaxed), 400);
    let largest = largest.load(Ordering::Relaxed);
    assert!((1 << 20..80 << 20).contains(&largest), "{largest}");
}

#[tokio::test]
async fn what_a_map_computes_of_one_item_is_bounded() {
    let sets: serde_json::Map<String, Value> = (0..200).map(|n| (format!("z{n}"), json!(long()))).collect();
    let report = run(json!({
        "in": numbers(1),
        "map": { "type": "action", "use": "map", "inputs": ["in"], "config": { "set": sets }, "on_error": "drop" },
        "out": sink(&unique("out"), "map"),
    }))
    .await;
    assert_eq!((report.status, node(&report, "map").dropped), (RunStatus::Success, 1), "{report}");
    let told = &node(&report, "map").errors[0].message;
    assert!(told.contains("gives more than an item may hold"), "{told}");
}
