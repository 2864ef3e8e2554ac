//! The README holds what the examples run, to the letter.
#![cfg(test)]

use std::fs;

use nvisy_runtime::Engine;
use nvisy_runtime::graph::Graph;

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
