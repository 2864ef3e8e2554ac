//! Vectors that are not as they have to be: they are paid for once.

use nvisy_core::connection::Reach;
use nvisy_core::observability::ModelUsage;
use nvisy_core::prelude::*;
use nvisy_core::testing::memory::MemoryStore;
use nvisy_runtime::engine::{RunReport, RunStatus};
use nvisy_runtime::plugins::ai::{EmbedRequest, Embedder, ModelClient};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::fixture::*;

/// A model whose vectors are so long, whatever is asked for, and that counts what it is paid: a
/// token for each text.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
struct Careless {
    /// How long the vectors of a call are; the last one goes for all calls behind it.
    lengths: Vec<usize>,
    /// The texts whose vector holds something other than numbers.
    #[serde(default)]
    spoiled: Vec<String>,
}

impl Connection for Careless {
    const NAME: &'static str = "test/careless";
    type Client = ModelClient;

    fn reach(&self) -> Vec<Reach> {
        Vec::new()
    }

    async fn connect(&self, _: &ConnectContext) -> Result<ModelClient> {
        Ok(ModelClient::new(Model { of: self.clone(), calls: std::sync::atomic::AtomicUsize::new(0) }))
    }

    async fn verify(&self, _: &ModelClient) -> Result<()> {
        Ok(())
    }
}

struct Model {
    of: Careless,
    calls: std::sync::atomic::AtomicUsize,
}

impl Embedder for Model {
    async fn embed(&self, request: EmbedRequest<'_>, context: &Context) -> Result<Vec<Vec<f32>>> {
        let call = self.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        context.meter().model_usage(&ModelUsage {
            model: request.model.to_owned(),
            requests: 1,
            input_tokens: request.texts.len() as u64,
            ..ModelUsage::default()
        });
        let length = self.of.lengths[call.min(self.of.lengths.len() - 1)];
        let vector = |text: &&str| {
            let spoiled = self.of.spoiled.iter().any(|spoiled| spoiled == text);
            vec![if spoiled { f32::NAN } else { 3.0 }; length]
        };
        Ok(request.texts.iter().map(vector).collect())
    }
}

/// Embeds 512 documents in two calls, with what `embed` says of them more.
async fn embed(model: &Value, embed: Value, [out, aside]: [&str; 2]) -> RunReport {
    let items: Vec<String> = (0..512).map(|n| format!("text {n}")).collect();
    let engine = builder().connection::<Careless>().build().unwrap();
    let embed = json!({ "type": "action", "use": "ai/embed", "inputs": ["in"], "concurrency": 1,
        "connection": { "use": "test/careless", "config": model },
        "config": with(json!({ "model": "m", "batch_items": 256 }), embed) });
    let mut nodes = json!({
        "in": { "type": "source", "use": "memory/source",
            "config": { "items": items, "kind": "document", "batch_items": 256 } },
        "embed": embed, "out": sink(out, "embed"),
    });
    if !aside.is_empty() {
        nodes["aside"] = sink(aside, "embed.dead_letter");
    }
    run_on(&engine, &graph(nodes)).await
}

/// How many calls were made, and how many tokens were paid.
fn paid(report: &RunReport) -> (u64, u64) {
    let models = report.models();
    (models[0].requests, models[0].input_tokens)
}

#[tokio::test(start_paused = true)]
async fn vectors_of_another_length_than_asked_for_fail_the_node_and_are_paid_for_once() {
    // Whether there are dead letters or not: they would be paid for again.
    for aside in [String::new(), unique("aside")] {
        let out = unique("out");
        let report = embed(&json!({ "lengths": [3] }), json!({ "dimensions": 4 }), [&out, &aside]).await;
        assert_eq!(paid(&report), (1, 256), "{report}");
        assert_ne!(report.status, RunStatus::Success);
        let failure = node(&report, "embed").failure.as_ref().unwrap();
        assert_eq!(&*failure.tag, "graph.configuration");
        assert!(failure.message.contains("set `dimensions` to 3, or leave it out"), "{failure:?}");
        assert!(MemoryStore::named(&out).items().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn vectors_of_another_length_than_before_fail_the_node_and_are_paid_for_once() {
    let out = unique("out");
    let report = embed(&json!({ "lengths": [3, 4] }), json!({}), [&out, ""]).await;
    assert_eq!(paid(&report), (2, 512), "{report}");
    let failure = node(&report, "embed").failure.as_ref().unwrap();
    assert_eq!(&*failure.tag, "graph.configuration");
    assert!(failure.message.contains("4 dimensions, and with 3 before"), "{failure:?}");
    assert_eq!(MemoryStore::named(&out).items().len(), 256, "what came before is kept");
}

#[tokio::test(start_paused = true)]
async fn a_vector_that_holds_no_numbers_fails_alone_and_the_others_of_its_call_are_kept() {
    for normalize in [false, true] {
        let [out, aside] = ["out", "aside"].map(unique);
        let model = json!({ "lengths": [4], "spoiled": ["text 7", "text 300"] });
        let report = embed(&model, json!({ "normalize": normalize }), [&out, &aside]).await;
        assert_eq!(paid(&report), (2, 512), "{report}");
        assert_eq!(report.status, RunStatus::Success, "{report}");
        let written = MemoryStore::named(&out).items();
        assert_eq!(written.len(), 510);
        let Payload::Embedding(embedding) = written[0].payload() else { panic!("no embedding") };
        assert_eq!(embedding.vector, vec![if normalize { 0.5 } else { 3.0 }; 4]);
        let letters = MemoryStore::named(&aside).plain();
        assert_eq!(letters.len(), 2, "{letters:?}");
        let said = letters[0].to_string();
        assert!(said.contains("item.validation") && said.contains("something other than numbers"), "{said}");
    }
}
