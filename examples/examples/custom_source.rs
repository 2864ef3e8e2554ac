//! A source of one's own: what it reads, what it is called in ids, and a stream of batches, each
//! item with its position. It can be read on from every one of them.
//!
//! ```sh
//! cargo run --release --example custom_source
//! ```
#![expect(clippy::print_stdout, reason = "examples print")]

use futures::{Stream, stream};
use nvisy_runtime::actions::Filter;
use nvisy_runtime::{plugins::object, prelude::*};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The prime numbers below a bound.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
struct Primes {
    below: u64,
}

impl Source for Primes {
    const NAME: &'static str = "acme/primes";
    type Output = Raw;
    type Client = NoClient;

    fn identity(&self, _: &NoClient) -> SourceIdentity {
        SourceIdentity::new("primes")
    }

    fn read(
        &self,
        _: &Partition,
        after: Option<Position>,
        context: &ReadContext,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        let first = if let Some(Position::Offset(last)) = after { last + 1 } else { 2 };
        let primes: Vec<u64> = (first..self.below).filter(|n| (2..*n).all(|d| n % d != 0)).collect();
        let batches = primes.chunks(context.limits().items).map(|chunk| {
            let numbers = chunk.iter().map(|n| Raw::Json((*n).into()));
            let positions: Vec<_> = chunk.iter().map(|n| Position::Offset(*n)).collect();
            context.items(numbers, Positions::each(positions), Position::Offset(chunk[chunk.len() - 1]))
        });
        stream::iter(batches.collect::<Vec<_>>())
    }
}

/// The same graph as the builder makes.
const JSON: &str = r#"{
    "version": 1,
    "name": "primes",
    "nodes": {
        "primes": { "type": "source", "use": "acme/primes", "config": { "below": 100 } },
        "large":  { "type": "action", "use": "filter", "inputs": ["primes"], "config": { "when": "raw > 50" } },
        "file":   { "type": "sink", "use": "object/jsonl", "inputs": ["large"], "config": { "path": "primes.jsonl" },
                    "connection": { "use": "object/local", "config": { "root": "target/examples/custom_source" } } }
    }
}"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    std::env::set_current_dir(examples::root())?;
    let folder = examples::output("custom_source")?;

    let file = object::JsonlSink::path("primes.jsonl").on(object::Local::at("target/examples/custom_source"));
    let graph = Graph::builder("primes");
    graph.source("primes", Primes { below: 100 }).then("large", Filter::when("raw > 50")).sink("file", file);
    let graph = graph.build()?;
    assert_eq!(graph, Graph::from_json(JSON)?);

    let report = Engine::builder().source::<Primes>().build()?.run(&graph).await?;
    println!("{report}");
    println!("{}", std::fs::read_to_string(folder.join("primes.jsonl"))?.replace('\n', " "));
    Ok(())
}
