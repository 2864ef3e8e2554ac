//! A service that answers like OpenAI's embeddings API: what is not in the API is an error.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nvisy_core::connection::{ConnectContext, Connection, SecretResolver};
use nvisy_core::observability::{Meter, ModelUsage, RateHint};
use nvisy_core::{Context, Error, Secret, SecretRef};
use nvisy_plugin_ai::{EmbedRequest, ModelClient, OpenAi};
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate};

/// The API key: it must show nowhere.
pub(crate) const CANARY: &str = "sk-canary-Zq8XvT3mN0pL";

struct Key;

impl SecretResolver for Key {
    fn resolve(&self, reference: &SecretRef) -> nvisy_core::Result<Option<Secret>> {
        Ok((reference.name() == "KEY").then(|| Secret::new(CANARY)))
    }
}

pub(crate) fn context() -> ConnectContext {
    ConnectContext::new("model", Arc::new(Key))
}

pub(crate) fn config(url: &str) -> OpenAi {
    OpenAi::at(format!("{url}/v1")).api_key(SecretRef::new("KEY"))
}

/// Connects to a server that answers every embedding with `respond`.
pub(crate) async fn answering(respond: impl Respond + 'static) -> (MockServer, ModelClient) {
    let server = MockServer::start().await;
    Mock::given(method("POST")).and(path("/v1/embeddings")).respond_with(respond).mount(&server).await;
    let client = config(&server.uri()).connect(&context()).await.unwrap();
    (server, client)
}

/// Answers as the API says: base64 if asked for, three dimensions unless asked for others.
/// The vector of a text begins with its length.
pub(crate) fn faithful(request: &Request) -> ResponseTemplate {
    match answer(request) {
        Ok(answer) => ResponseTemplate::new(200).set_body_json(answer),
        Err(message) => {
            let error =
                json!({ "error": { "message": message, "type": "invalid_request_error", "code": null } });
            ResponseTemplate::new(400).set_body_json(error)
        }
    }
}

fn answer(request: &Request) -> Result<Value, String> {
    let authorization = request.headers.get("authorization").and_then(|value| value.to_str().ok());
    if authorization != Some(&format!("Bearer {CANARY}")) {
        return Err("no bearer token".into());
    }
    let body: Value = request.body_json().map_err(|error| error.to_string())?;
    let fields = body.as_object().ok_or("no object")?;
    let known = ["model", "input", "encoding_format", "dimensions", "user"];
    if let Some(unknown) = fields.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("unknown field {unknown}"));
    }
    let texts = body["input"].as_array().ok_or("`input` is no list")?;
    if texts.is_empty()
        || texts.len() > 2_048
        || texts.iter().any(|text| text.as_str().is_none_or(str::is_empty))
    {
        return Err("`input` is empty, too long or holds something empty".into());
    }
    let dimensions = body["dimensions"].as_u64().unwrap_or(3) as usize;
    let base64 = match body["encoding_format"].as_str() {
        Some("base64") => true,
        None | Some("float") => false,
        Some(other) => return Err(format!("no encoding_format {other}")),
    };
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .map(|(index, text)| json!({ "object": "embedding", "index": index, "embedding": vector(text, dimensions, base64) }))
        .collect();
    let tokens = texts.iter().map(|text| text.as_str().map_or(0, str::len)).sum::<usize>();
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    Ok(json!({ "object": "list", "data": data, "model": body["model"], "usage": usage }))
}

fn vector(text: &Value, dimensions: usize, base64: bool) -> Value {
    let length = text.as_str().map_or(0, str::len) as f32;
    let numbers: Vec<f32> = (0..dimensions).map(|i| if i == 0 { length } else { -0.5 * i as f32 }).collect();
    if base64 {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        json!(STANDARD.encode(bytes))
    } else {
        json!(numbers)
    }
}

/// Embeds and expects an error. Whatever it is, it shows no key.
pub(crate) async fn refused(client: &ModelClient, texts: &[&str]) -> Error {
    let error = client.request(EmbedRequest::new("small", texts), &Context::detached()).await.unwrap_err();
    let record = serde_json::to_string(&error.to_report()).unwrap();
    for shown in [format!("{error}"), format!("{error:?}"), record, format!("{client:?}")] {
        assert!(!shown.contains("canary") && !shown.contains("Zq8XvT"), "{shown}");
    }
    error
}

/// Keeps what was counted.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) usage: Mutex<Vec<ModelUsage>>,
    pub(crate) hints: Mutex<Vec<RateHint>>,
    pub(crate) calls: Mutex<Vec<(String, bool)>>,
}

impl Meter for Counts {
    fn model_usage(&self, usage: &ModelUsage) {
        self.usage.lock().unwrap().push(usage.clone());
    }

    fn rate_hint(&self, hint: RateHint) {
        self.hints.lock().unwrap().push(hint);
    }

    fn call(&self, operation: &str, _: std::time::Duration, ok: bool) {
        self.calls.lock().unwrap().push((operation.to_owned(), ok));
    }
}
