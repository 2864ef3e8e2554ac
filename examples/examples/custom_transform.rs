//! An action of one's own: what it takes and makes, and one function. It is a node at once, in
//! the builder and in JSON.
//!
//! ```sh
//! cargo run --release --example custom_transform
//! ```
#![expect(clippy::print_stdout, reason = "examples print")]

use nvisy_runtime::plugins::object;
// [listing]
use nvisy_runtime::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Masks e-mail addresses.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
struct Mask {
    with: String,
}

impl Transform for Mask {
    const NAME: &'static str = "acme/mask";
    type Input = Document;
    type Output = Document;

    async fn transform(&self, document: Item<Document>, _: &Context) -> Result<Outcome<Document>> {
        let mask = |word: &str| if word.contains('@') { self.with.clone() } else { word.to_owned() };
        let masked = document.map_text(|text| text.split(' ').map(mask).collect::<Vec<_>>().join(" "))?;
        Ok(Outcome::emit(masked))
    }
}
// [/listing]

/// The same graph as the builder makes.
const JSON: &str = r#"{
    "version": 1,
    "name": "masked",
    "nodes": {
        "letters": { "type": "source", "use": "object/text", "config": {},
                     "connection": { "use": "object/local", "config": { "root": "examples/data/letters" } } },
        "mask":    { "type": "action", "use": "acme/mask", "inputs": ["letters"], "config": { "with": "[e-mail]" } },
        "masked":  { "type": "sink", "use": "object/text", "inputs": ["mask"], "config": { "path": "{key}" },
                     "connection": { "use": "object/local", "config": { "root": "target/examples/custom_transform" } } }
    }
}"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    std::env::set_current_dir(examples::root())?;
    let folder = examples::output("custom_transform")?;

    let letters = object::Text::all().on(object::Local::at("examples/data/letters"));
    let masked = object::TextSink::path("{key}").on(object::Local::at("target/examples/custom_transform"));
    let graph = Graph::builder("masked");
    graph
        .source("letters", letters)
        .then("mask", Mask { with: "[e-mail]".to_owned() })
        .sink("masked", masked);
    let graph = graph.build()?;
    assert_eq!(graph, Graph::from_json(JSON)?);

    let report = Engine::builder().action::<Mask>().build()?.run(&graph).await?;
    println!("{report}");
    println!("{}", std::fs::read_to_string(folder.join("order.txt"))?);
    Ok(())
}
