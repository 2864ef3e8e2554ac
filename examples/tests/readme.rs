//! The README holds what the examples run, to the letter.
#![cfg(test)]

use std::fs;

use nvisy_runtime::compiler::code;
use nvisy_runtime::plugins::object;
use nvisy_runtime::prelude::*;

#[allow(dead_code)]
#[path = "../examples/quickstart.rs"]
mod quickstart;

fn read(path: &str) -> String {
    fs::read_to_string(examples::root().join(path)).unwrap()
}

/// Returns the blocks of a language in the README, in their order.
fn blocks(language: &str) -> Vec<String> {
    let readme = read("README.md");
    let begin = format!("\n```{language}\n");
    readme.split(&begin).skip(1).map(|rest| rest.split("\n```").next().unwrap().to_owned()).collect()
}

/// Returns what stands between the marks of an example's listing.
fn listing(example: &str) -> String {
    let code = read(&format!("examples/examples/{example}.rs"));
    let (_, rest) = code.split_once("// [listing]\n").unwrap();
    rest.split_once("\n// [/listing]").unwrap().0.to_owned()
}

#[test]
fn the_listings_are_the_code_of_the_examples() {
    assert_eq!(blocks("rust,no_run"), [listing("quickstart"), listing("custom_transform")]);
}

#[test]
fn the_lines_between_the_listings_are_code_too() {
    let readme = read("README.md");
    let (_, section) = readme.split_once("\n## An action of your own\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let prose: String = section.split("\n```").step_by(2).collect();
    let lines =
        prose.split('`').filter(|code| code.starts_with(".then") || code.starts_with("Engine::builder()"));
    let code = read("examples/examples/custom_transform.rs") + &read("examples/tests/readme.rs");
    let missing: Vec<_> = lines.clone().filter(|line| !code.contains(line.trim_end_matches("..)"))).collect();
    assert!(lines.count() >= 4 && missing.is_empty(), "{missing:?}");
}

#[test]
fn a_closure_is_a_node_that_json_names_where_the_engine_has_it() {
    let read = || object::Text::all().on(object::Local::at("examples/data/letters"));
    let write = || object::TextSink::path("{key}").on(object::Local::at("target/examples/upper"));
    let graph = Graph::builder("upper");
    graph
        .source("read", read())
        .then_fn("upper", |item: Item<Document>| Ok(Outcome::emit(item.map_text(str::to_uppercase)?)))
        .sink("write", write());
    let json = graph.build().unwrap().to_json();
    assert!(json.contains("\"fn/upper\""), "{json}");

    let without = Engine::builder().build().unwrap();
    assert_eq!(without.compile_json(&json).unwrap_err().as_slice()[0].code, code::FUNCTION_UNREGISTERED);
    let upper = |item: Item<Document>| Ok(Outcome::emit(item.map_text(str::to_uppercase)?));
    let with = Engine::builder().function("upper", upper).build().unwrap();
    assert!(with.compile_json(&json).is_ok());
}

#[test]
fn the_json_is_the_graph_of_the_listing() {
    let [json] = &blocks("json")[..] else { panic!("one block of JSON") };
    assert_eq!(json.trim(), read("examples/graphs/quickstart.json").trim());
    assert_eq!(Graph::from_json(json).unwrap(), quickstart::written().unwrap());
}

#[test]
fn the_picture_is_that_of_the_graph() {
    let plan =
        Engine::builder().build().unwrap().compile_json(&read("examples/graphs/tickets.json")).unwrap();
    assert_eq!(blocks("mermaid"), [plan.to_mermaid().trim()]);
}

#[test]
fn the_diagnostics_are_those_of_the_broken_graph() {
    let broken = read("examples/graphs/broken.json");
    let diagnostics = Engine::builder().build().unwrap().compile_json(&broken).unwrap_err();
    let printed = format!("examples/graphs/broken.json: {diagnostics}");
    assert!(blocks("text").contains(&printed), "{printed}");
}

#[test]
fn every_type_that_graphs_may_name_is_in_the_tables() {
    let (readme, engine) = (read("README.md"), Engine::builder().build().unwrap());
    let registry = engine.registry();
    let connections = registry.connections().map(|entry| entry.name().to_owned());
    let sources = registry.sources().map(|entry| entry.name().to_owned());
    let actions = registry.actions().map(|entry| entry.name().to_owned());
    let sinks = registry.sinks().map(|entry| entry.name().to_owned());
    let names = connections.chain(sources).chain(actions).chain(sinks);
    let missing: Vec<String> = names.filter(|name| !readme.contains(&format!("`{name}`"))).collect();
    assert_eq!(missing, [""; 0]);
}
