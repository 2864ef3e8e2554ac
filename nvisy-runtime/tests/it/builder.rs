//! The builder gives the document that one would write by hand.

use std::time::Duration;

use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::row::Row;
use nvisy_runtime::actions::{Convert, Filter};
use nvisy_runtime::compiler::{CompileOptions, code, compile};
use nvisy_runtime::graph::SpillPolicy;
use nvisy_runtime::prelude::*;

use crate::sample::{Chunk, Embed, Index, Lines, Model, Store, TICKETS, Tickets, registry};

fn tickets() -> Graph {
    let graph = Graph::builder("tickets");
    let lake = graph.connect("lake", Store { root: "lake".to_owned() });
    let model = graph
        .connect("model", Model::from_env())
        .rate_limit(RateLimit::default().requests_per_minute(3_000).tokens_per_minute(1_000_000));

    let docs = graph
        .source("tickets", Tickets::prefix("tickets/").on(&lake))
        .key("row.id")
        .then("open", Filter::when("row.state == 'open'"))
        .then("docs", Convert::to_document("body").title("subject"));

    let [english, other] = docs.branch("lang", [("english", "document.language == 'en'")], "other");

    let vectors = english
        .then("chunks", Chunk { size: 512 })
        .then("vectors", Embed::model("small").on(&model))
        .retry(Retry::exponential(5))
        .timeout(Duration::from_secs(60))
        .concurrency(8)
        .on_error(OnError::DeadLetter);
    let failed = vectors.dead_letter();
    vectors.sink("store", Index::collection("tickets").on(Store { root: "index".to_owned() }));
    other.sink("others", Lines::path("other/{run}.jsonl"));
    failed.sink("failed", Lines::path("failed/{run}.jsonl"));

    graph.settings(|settings| {
        settings.concurrency = std::num::NonZeroUsize::new(10);
        settings.checkpoint = Some(nvisy_runtime::graph::CheckpointSettings {
            directory: None,
            uncommitted_items: std::num::NonZeroU64::new(65_536),
            every: Some(std::time::Duration::from_secs(1)),
        });
    });
    graph.build().unwrap()
}

#[test]
fn the_builder_and_the_json_give_the_same_graph() {
    let graph = tickets();
    assert_eq!(graph, Graph::from_json(TICKETS).unwrap());
    assert_eq!(Graph::from_json(&graph.to_json()).unwrap(), graph);
}

#[test]
fn a_connection_behind_a_node_is_the_same_as_one_on_its_config() {
    let build = |late: bool| {
        let graph = Graph::builder("late");
        let lake = graph.connect("lake", Store { root: "lake".to_owned() });
        let flow = match late {
            true => graph.source("tickets", Tickets::prefix("a")).on(&lake),
            false => graph.source("tickets", Tickets::prefix("a").on(&lake)),
        };
        flow.sink("lines", Lines::path("b"));
        graph.build().unwrap()
    };
    assert_eq!(build(true), build(false));
    assert!(compile(&build(true), &registry(), &CompileOptions::default()).is_ok());
}

#[test]
fn copies_flow_together_again() {
    let graph = Graph::builder("copies");
    let lake = graph.connect("lake", Store { root: "lake".to_owned() });
    let [kept, looked_at, read] = graph.source("tickets", Tickets::prefix("a").on(&lake)).fan_out("copies");
    looked_at.best_effort().sink("seen", Lines::path("seen"));
    let read: Flow<Row> = read.then("open", Filter::when("row.open"));
    let kept = kept.spill(SpillPolicy { disk: Some(1_000_000_000), ..SpillPolicy::default() });
    Flow::fan_in("all", [kept, read]).sink("kept", Lines::path("kept")).retry(Retry::none());
    graph.dead_letters("failed", Lines::path("failed"));
    let graph = graph.build().unwrap();
    expect_test::expect![[r#"
        {
          "version": 1,
          "name": "copies",
          "connections": {
            "lake": {
              "use": "acme/store",
              "config": {
                "root": "lake"
              }
            }
          },
          "nodes": {
            "tickets": {
              "type": "source",
              "use": "acme/tickets",
              "connection": "lake",
              "config": {
                "prefix": "a"
              }
            },
            "copies": {
              "type": "fan_out",
              "inputs": [
                "tickets"
              ],
              "best_effort": [
                "seen"
              ],
              "spill": {
                "all": {
                  "disk": "1GB"
                }
              }
            },
            "seen": {
              "type": "sink",
              "use": "acme/lines",
              "inputs": [
                "copies"
              ],
              "config": {
                "path": "seen"
              }
            },
            "open": {
              "type": "action",
              "use": "filter",
              "inputs": [
                "copies"
              ],
              "config": {
                "when": "row.open"
              }
            },
            "all": {
              "type": "fan_in",
              "inputs": [
                "copies",
                "open"
              ]
            },
            "kept": {
              "type": "sink",
              "use": "acme/lines",
              "inputs": [
                "all"
              ],
              "config": {
                "path": "kept"
              },
              "retry": {
                "max_attempts": 1,
                "backoff": "exponential",
                "initial": "200ms",
                "max": "30s",
                "jitter": true
              }
            },
            "failed": {
              "type": "sink",
              "use": "acme/lines",
              "config": {
                "path": "failed"
              }
            }
          },
          "settings": {
            "dead_letter": "failed"
          }
        }"#]]
    .assert_eq(&graph.to_json());
    assert!(compile(&graph, &registry(), &CompileOptions::default()).is_ok());
}

#[test]
fn a_function_runs_from_the_builder_and_is_missed_elsewhere() {
    let graph = Graph::builder("function");
    let lake = graph.connect("lake", Store { root: "lake".to_owned() });
    graph
        .source("tickets", Tickets::prefix("a").on(&lake))
        .then("docs", Convert::to_document("body"))
        .then_fn("upper", |item: Item<Document>| {
            Ok(Outcome::emit(item.map_text(|text| text.to_uppercase())?))
        })
        .sink("lines", Lines::path("b"));
    let graph = graph.build().unwrap();
    assert_eq!(graph.nodes.get("upper").unwrap().uses(), Some("fn/upper"));
    assert!(compile(&graph, &registry(), &CompileOptions::default()).is_ok());

    let loaded = Graph::from_json(&graph.to_json()).unwrap();
    assert_eq!(loaded, graph);
    let missed = compile(&loaded, &registry(), &CompileOptions::default()).unwrap_err();
    expect_test::expect![[r#"
        the graph does not compile:
        function.unregistered: nodes.upper.use: the function "upper" is not registered: a graph holds its name, not its code
          help: register it: `Engine::builder().function("upper", |item: Item<Document>| ..)`"#]].assert_eq(&missed.to_string());

    let registry = registry().function("upper", |item: Item<Document>| Ok(Outcome::emit(item)));
    assert!(compile(&loaded, &registry, &CompileOptions::default()).is_ok());
}

#[test]
fn a_node_without_a_reader_is_found_when_the_graph_compiles() {
    let graph = Graph::builder("unread");
    let lake = graph.connect("lake", Store { root: "lake".to_owned() });
    let [some, _others] = graph.source("tickets", Tickets::prefix("a").on(&lake)).branch(
        "split",
        [("open", "row.open")],
        "closed",
    );
    some.sink("lines", Lines::path("b"));
    let unread = compile(&graph.build().unwrap(), &registry(), &CompileOptions::default()).unwrap_err();
    assert_eq!(unread.as_slice().len(), 1, "{unread}");
    assert_eq!(unread.as_slice()[0].code, code::OUTPUT_UNREAD);
}

#[test]
fn what_no_graph_can_hold_is_found_when_it_is_built() {
    let graph = Graph::builder("twice");
    let lake = graph.connect("lake", Store { root: "lake".to_owned() });
    let again = graph.connect("lake", Store { root: "pond".to_owned() });
    assert_eq!(again.name(), "lake");
    graph
        .source("tickets", Tickets::prefix("a").on(&lake))
        .best_effort()
        .spill(SpillPolicy::default())
        .sink("tickets", Lines::path("b"));
    let problems = graph.build().unwrap_err();
    let codes: Vec<_> = problems.iter().map(|p| (p.code, p.path.as_str())).collect();
    assert_eq!(
        codes,
        [
            (code::NAME_DUPLICATE, "connections.lake"),
            (code::POLICY_NOT_APPLICABLE, "nodes.tickets.best_effort"),
            (code::POLICY_NOT_APPLICABLE, "nodes.tickets.spill"),
            (code::NAME_DUPLICATE, "nodes.tickets"),
        ]
    );
}

#[test]
fn wrong_edges_do_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
