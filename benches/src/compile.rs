//! A graph of fifty nodes, from JSON to plan.

use std::hint::black_box;

use nvisy_runtime::Engine;
use serde_json::json;

use crate::measure::{Target, in_turns, print_targets};

pub(crate) fn run() -> bool {
    let engine = Engine::builder().build().unwrap();
    let mut nodes = serde_json::Map::new();
    let lake = json!({ "use": "object/local", "config": { "root": "data" } });
    nodes.insert("in".into(), json!({ "type": "source", "use": "object/jsonl", "connection": "lake", "config": { "prefix": "in/" } }));
    let mut last = "in".to_owned();
    for at in 0..48 {
        let name = format!("filter{at}");
        let when = format!("row.state == 'open' && (row.votes > {at} || row.title.startsWith('a'))");
        nodes.insert(
            name.clone(),
            json!({ "type": "action", "use": "filter", "inputs": [last], "config": { "when": when } }),
        );
        last = name;
    }
    nodes.insert("out".into(), json!({ "type": "sink", "use": "object/jsonl", "connection": "lake", "inputs": [last], "config": { "path": "out.jsonl" } }));
    let text =
        json!({ "version": 1, "name": "fifty", "connections": { "lake": lake }, "nodes": nodes }).to_string();
    let [time] = in_turns(50, [&mut || drop(black_box(engine.compile_json(&text).unwrap()))]);
    println!("50 nodes from JSON ({} KB) to plan: {:.2} ms", text.len() / 1_000, time.as_secs_f64() * 1e3);
    print_targets(&[Target::new("5 ms against the time to compile", 0.005 / time.as_secs_f64(), 1.0)])
}
