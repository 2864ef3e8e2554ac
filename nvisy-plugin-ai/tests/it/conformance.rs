//! Both actions against the contract of actions.

use nvisy_core::ErrorKind;
use nvisy_core::connection::Connection;
use nvisy_core::hash::ContentHash;
use nvisy_core::primitive::Payload;
use nvisy_core::primitive::document::{Document, DocumentFields};
use nvisy_core::primitive::embedding::{Embedding, EmbeddingFields, Metric};
use nvisy_core::testing::conformance::{self, ActionHarness, Expected, OpenAction};
use nvisy_core::testing::plain;
use nvisy_plugin_ai::{Chunk, Embed, Local, ModelClient};
use serde_json::json;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::service::{CANARY, config, context, faithful};

/// They remember nothing.
const NO_MEMORY: [&str; 2] = ["goes_on_from_what_it_saved", "lets_go_of_what_it_absorbed"];
/// Both take documents alone, so rows never reach them.
const NO_ROWS: &str = "treats_rows_and_items_alike";

fn document(text: &str) -> Payload {
    let fields = DocumentFields { text: text.into(), allow_empty: true, ..DocumentFields::default() };
    Document::try_from(fields).unwrap().into()
}

#[tokio::test]
async fn chunk_keeps_the_contract() {
    let chunk = |ordinal: u64, text: &str, start: usize| json!({ "text": text, "chunk": ordinal, "byte_range": { "start": start, "end": start + text.len() } });
    let cases = [
        (
            document("One fish. Two fish."),
            Expected::Emit(vec![chunk(0, "One fish.", 0), chunk(1, "Two fish.", 10)]),
        ),
        (document("  Größe 漢字  "), Expected::Emit(vec![chunk(0, "Größe 漢字", 2)])),
        (document(""), Expected::Drop),
        (document(" \n "), Expected::Drop),
    ];
    let open = || async { Ok(OpenAction::new(Chunk::characters(12), nvisy_core::NoClient)) };
    // It calls nobody: there is no best batch, nothing that can fail, and no secret.
    let skipped = [NO_ROWS, "takes_more_than_its_optimum", "fails_with_the_right_kind", "shows_no_secret"];
    let skipped = [&skipped[..], &NO_MEMORY].concat();
    conformance::action(&ActionHarness::new(open, cases)).await.assert_passed_except(&skipped);
}

fn embedded(text: &str, model: &str, vector: Vec<f32>) -> Expected {
    let Payload::Document(document) = document(text) else { unreachable!() };
    let fields = EmbeddingFields {
        vector,
        model: model.into(),
        document: Some(document),
        content_hash: Some(ContentHash::of_bytes(text.as_bytes()).to_string()),
        metric: Some(Metric::Cosine),
    };
    Expected::Emit(vec![plain(&Embedding::try_from(fields).unwrap().into())])
}

#[tokio::test]
async fn embed_keeps_the_contract_with_a_local_model() {
    let client = ModelClient::from(Local::new());
    let embed = Embed::model(Local::HASH).dimensions(16);
    let mut cases = vec![(document(""), Expected::Drop), (document("\u{2003}\n"), Expected::Drop)];
    for text in ["a red fish", "漢字", "!!!"] {
        let vector = embed.vectors(&client, &[text]).await.unwrap().remove(0);
        cases.push((document(text), embedded(text, Local::HASH, vector)));
    }
    let open = move || {
        let embed = embed.clone();
        async move { Ok(OpenAction::new(embed, ModelClient::from(Local::new()))) }
    };
    let unknown =
        || async { Ok(OpenAction::new(Embed::model("local/other"), ModelClient::from(Local::new()))) };
    let harness =
        ActionHarness::new(open, cases).failing("a model that is not there", ErrorKind::NotFound, unknown);
    conformance::action(&harness)
        .await
        .assert_passed_except(&[&[NO_ROWS, "shows_no_secret"][..], &NO_MEMORY].concat());
}

#[tokio::test]
async fn embed_keeps_the_contract_with_a_service() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(faithful).mount(&server).await;
    let closed = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(401)).mount(&closed).await;
    let cases = [
        (document("abc"), embedded("abc", "small", vec![3.0, -0.5, -1.0])),
        (document(" "), Expected::Drop),
        (document("Größe"), embedded("Größe", "small", vec![7.0, -0.5, -1.0])),
    ];
    let opening = |url: String| {
        move || {
            let config = config(&url);
            async move {
                Ok(OpenAction::new(Embed::model("small").batch_items(2), config.connect(&context()).await?))
            }
        }
    };
    let shown = [format!("{:?}", config(&server.uri()))];
    let harness = ActionHarness::new(opening(server.uri()), cases)
        .failing("a wrong key", ErrorKind::Authentication, opening(closed.uri()))
        .with_secret(CANARY, shown);
    conformance::action(&harness).await.assert_passed_except(&[&[NO_ROWS][..], &NO_MEMORY].concat());
}
