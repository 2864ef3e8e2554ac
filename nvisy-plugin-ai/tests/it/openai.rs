//! `ai/openai`, against a service that behaves and against services that do not.

use std::sync::Arc;
use std::time::Duration;

use nvisy_core::connection::Connection;
use nvisy_core::observability::{ModelUsage, RateHint, RateLeft};
use nvisy_core::{Context, ErrorKind, RetryClass};
use nvisy_plugin_ai::openai::EncodingFormat;
use nvisy_plugin_ai::{Embed, EmbedRequest};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::service::{CANARY, Counts, answering, config, context, faithful, refused};

fn status(code: u16) -> ResponseTemplate {
    ResponseTemplate::new(code)
}

fn data(data: &serde_json::Value) -> ResponseTemplate {
    status(200).set_body_json(json!({ "object": "list", "data": data, "model": "small" }))
}

#[tokio::test]
async fn vectors_come_in_the_order_of_the_texts_and_are_counted() {
    let limits = |request: &Request| {
        faithful(request)
            .insert_header("x-ratelimit-remaining-requests", "59")
            .insert_header("x-ratelimit-remaining-tokens", "1000")
            .insert_header("x-ratelimit-reset-tokens", "1m2s")
    };
    let (_server, client) = answering(limits).await;
    let counts = Arc::new(Counts::default());
    let context = Context::detached().with_meter(counts.clone());
    let request = EmbedRequest::new("small", &["a", "four", "to"]);
    let vectors = client.request(request, &context).await.unwrap();
    assert_eq!(vectors, [[1.0, -0.5, -1.0], [4.0, -0.5, -1.0], [2.0, -0.5, -1.0]]);
    let usage = ModelUsage { model: "small".into(), requests: 1, input_tokens: 7, ..ModelUsage::default() };
    assert_eq!(*counts.usage.lock().unwrap(), [usage]);
    let tokens = RateLeft { count: 1_000, reset: Some(Duration::from_secs(62)) };
    let hint = RateHint { requests: Some(RateLeft { count: 59, reset: None }), tokens: Some(tokens) };
    assert_eq!(*counts.hints.lock().unwrap(), [hint]);
    assert_eq!(*counts.calls.lock().unwrap(), [("POST /embeddings".to_owned(), true)]);
}

#[tokio::test]
async fn numbers_are_read_where_base64_is_not_known_or_not_asked_for() {
    let numbers = json!([{ "index": 1, "embedding": [0.25, 1] }, { "index": 0, "embedding": [1e-3, -2.5] }]);
    let (_server, client) = answering(data(&numbers)).await;
    assert_eq!(client.embed("small", &["a", "b"]).await.unwrap(), [[0.001, -2.5], [0.25, 1.0]]);

    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(faithful).mount(&server).await;
    let client =
        config(&server.uri()).encoding_format(EncodingFormat::Float).connect(&context()).await.unwrap();
    assert_eq!(client.embed("small", &["abc"]).await.unwrap(), [[3.0, -0.5, -1.0]]);
}

#[tokio::test]
async fn dimensions_and_normalization_are_as_asked_for() {
    let (_server, client) = answering(faithful).await;
    let vectors = Embed::model("small").dimensions(8).normalize().vectors(&client, &["abc"]).await.unwrap();
    let length: f32 = vectors[0].iter().map(|x| x * x).sum();
    assert_eq!(vectors[0].len(), 8);
    assert!((length - 1.0).abs() < 1e-6);
}

#[tokio::test]
async fn no_text_makes_no_call() {
    let (server, client) = answering(faithful).await;
    assert!(client.embed("small", &[]).await.unwrap().is_empty());
    assert!(server.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_wrong_key_is_an_authentication_error_that_names_the_secret() {
    let message = format!("Incorrect API key provided: {CANARY}. See {}", &CANARY[..14]);
    let body = json!({ "error": { "message": message, "code": "invalid_api_key" } });
    let (_server, client) = answering(status(401).set_body_json(body)).await;
    let error = refused(&client, &["a"]).await;
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Authentication, RetryClass::Permanent));
    assert!(error.message().contains("\"KEY\"") && error.message().contains("/v1/embeddings"), "{error}");
}

#[tokio::test]
async fn a_key_that_is_echoed_is_hidden_whatever_the_status() {
    for code in [400, 403, 404, 413, 422, 429, 500, 503] {
        let body = format!("you sent Bearer {CANARY} and {}", &CANARY[4..18]);
        let (_server, client) = answering(status(code).set_body_string(body)).await;
        refused(&client, &["a"]).await;
    }
    let (_server, client) = answering(status(200).set_body_json(json!({ "data": CANARY }))).await;
    refused(&client, &["a"]).await;
}

#[tokio::test]
async fn a_missing_secret_is_named_before_anything_is_sent() {
    let secret = nvisy_core::SecretRef::new("ELSEWHERE");
    let error = config("http://127.0.0.1:9").api_key(secret).connect(&context()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.message().contains("ELSEWHERE"), "{error}");
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back_in_seconds_or_by_date() {
    let (_server, client) = answering(status(429).insert_header("retry-after", "7")).await;
    let error = refused(&client, &["a"]).await;
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::RateLimited, RetryClass::Transient));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));

    let date = (chrono::Utc::now() + chrono::TimeDelta::seconds(90)).to_rfc2822().replace("+0000", "GMT");
    let (_server, client) = answering(status(429).insert_header("retry-after", &*date)).await;
    let after = refused(&client, &["a"]).await.retry_after().unwrap();
    assert!((60..=90).contains(&after.as_secs()), "{after:?}");
}

#[tokio::test]
async fn a_used_up_quota_is_not_worth_another_try() {
    let body =
        json!({ "error": { "message": "You exceeded your current quota", "code": "insufficient_quota" } });
    let (_server, client) =
        answering(status(429).insert_header("retry-after", "1").set_body_json(body)).await;
    let error = refused(&client, &["a"]).await;
    assert_eq!((error.retry_class(), error.retry_after()), (RetryClass::Permanent, None));
}

#[tokio::test]
async fn a_service_in_trouble_is_worth_another_try() {
    for code in [500, 502, 503, 529] {
        let (_server, client) = answering(status(code)).await;
        let error = refused(&client, &["a"]).await;
        assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Connection, RetryClass::Transient));
    }
}

#[tokio::test]
async fn a_slow_service_times_out() {
    let server = MockServer::start().await;
    let slow = status(200).set_delay(Duration::from_secs(60));
    Mock::given(method("POST")).respond_with(slow).mount(&server).await;
    let config = config(&server.uri()).timeout(Duration::from_millis(100));
    let error = refused(&config.connect(&context()).await.unwrap(), &["a"]).await;
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Timeout, RetryClass::Transient));
    assert!(error.message().contains("100ms"), "{error}");
}

/// Reads a request, then answers with `answer` and hangs up.
async fn hanging_up(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "a server of a test")]
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        }
    });
    url
}

#[tokio::test]
async fn a_connection_cut_behind_the_request_is_ambiguous() {
    let cuts: [&[u8]; 3] = [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"data\":[",
    ];
    for cut in cuts {
        let client = config(&hanging_up(cut).await).connect(&context()).await.unwrap();
        let error = refused(&client, &["a"]).await;
        assert_eq!(
            (error.kind(), error.retry_class()),
            (ErrorKind::Ambiguous, RetryClass::Transient),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_a_connection_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = config(&url).connect(&context()).await.unwrap();
    let error = refused(&client, &["a"]).await;
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Connection, RetryClass::Transient));
    assert!(error.message().contains(&url), "{error}");
}

#[tokio::test]
async fn a_request_that_is_too_large_says_so() {
    let length = json!({ "error": { "message": "This model's maximum context length is 8192 tokens, however you requested 9000", "code": null } });
    for answer in [status(413).set_body_string("<html>nginx</html>"), status(400).set_body_json(length)] {
        let (_server, client) = answering(answer).await;
        let text = "word ".repeat(100_000);
        let error = refused(&client, &[text.as_str(); 20]).await;
        assert_eq!((error.kind(), error.retry_class()), (ErrorKind::TooLarge, RetryClass::Permanent));
        assert!(error.message().len() < 700);
    }
}

#[tokio::test]
async fn an_unknown_model_is_not_found() {
    let body =
        json!({ "error": { "message": "The model `small` does not exist", "code": "model_not_found" } });
    let (_server, client) = answering(status(404).set_body_json(body)).await;
    let error = refused(&client, &["a"]).await;
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("no model \"small\""), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_not_the_apis_is_an_error_that_names_the_endpoint() {
    let one = json!({ "index": 0, "embedding": [1.0] });
    let cases = [
        (status(200).set_body_string("<html>Sign in</html>"), "not JSON"),
        (status(200).set_body_string("{\"data\":[{\"index\":0,\"embed"), "not JSON"),
        (status(200).set_body_json(json!({ "result": 1 })), "missing field `data`"),
        (data(&json!([one])), "1 vectors for 2 texts"),
        (data(&json!([one, one, one])), "two vectors with the index 0"),
        (
            data(&json!([{ "embedding": [1] }, { "embedding": [1] }, { "embedding": [1] }])),
            "3 vectors for 2 texts",
        ),
        (data(&json!([one, { "index": 9, "embedding": [1] }])), "index 9 among 2"),
        (data(&json!([])), "0 vectors for 2 texts"),
        (status(204), "not JSON"),
    ];
    for (answer, said) in cases {
        let (server, client) = answering(answer).await;
        let error = refused(&client, &["a", "b"]).await;
        assert_eq!(
            (error.kind(), error.retry_class()),
            (ErrorKind::Connection, RetryClass::Transient),
            "{error}"
        );
        assert!(error.message().contains(said) && error.message().contains(&server.uri()), "{error}");
    }
}

#[tokio::test]
async fn vectors_of_the_wrong_length_or_without_numbers_are_refused() {
    let nan = "AADAfw==";
    let cases = [
        (
            json!([{ "embedding": [1, 2] }, { "embedding": [1] }]),
            None,
            ErrorKind::Configuration,
            "of 2 and of 1 dimensions",
        ),
        (
            json!([{ "embedding": [1, 2] }, { "embedding": [1, 2] }]),
            Some(3),
            ErrorKind::Configuration,
            "2 dimensions, not the 3 asked for: set `dimensions` to 2",
        ),
        (json!([{ "embedding": [] }, { "embedding": [] }]), None, ErrorKind::Configuration, "0 dimensions"),
        (json!([{ "embedding": [1] }, { "embedding": nan }]), None, ErrorKind::Validation, "text 1"),
    ];
    for (vectors, dimensions, kind, said) in cases {
        let (_server, client) = answering(data(&vectors)).await;
        let request = EmbedRequest { model: "small", texts: &["a", "b"], dimensions };
        let error = client.request(request, &Context::detached()).await.unwrap_err();
        assert_eq!((error.kind(), error.retry_class()), (kind, RetryClass::Permanent), "{error}");
        assert!(error.message().contains(said), "{error}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let (_server, client) = answering(status(200).set_body_bytes(vec![b' '; 4 << 20])).await;
    let error = refused(&client, &["a"]).await;
    assert!(error.message().contains("longer than"), "{error}");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = MockServer::start().await;
    let redirect = status(307).insert_header("location", format!("{}/v1/embeddings", elsewhere.uri()));
    let (_server, client) = answering(redirect).await;
    let error = refused(&client, &["a"]).await;
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn verifying_takes_servers_that_list_no_models_and_refuses_wrong_keys() {
    for (code, kind) in [
        (200, None),
        (404, None),
        (405, None),
        (501, None),
        (401, Some(ErrorKind::Authentication)),
        (500, Some(ErrorKind::Connection)),
    ] {
        let server = MockServer::start().await;
        Mock::given(method("GET")).and(path("/v1/models")).respond_with(status(code)).mount(&server).await;
        let config = config(&server.uri());
        let client = config.connect(&context()).await.unwrap();
        assert_eq!(config.verify(&client).await.err().map(|error| error.kind()), kind);
    }
}

#[tokio::test]
async fn who_is_billed_is_told() {
    let (server, _) = answering(faithful).await;
    let config = config(&server.uri()).organization("acme").project("search");
    config.connect(&context()).await.unwrap().embed("small", &["a"]).await.unwrap();
    let request = &server.received_requests().await.unwrap()[0];
    assert_eq!(request.headers["openai-organization"], "acme");
    assert_eq!(request.headers["openai-project"], "search");
}
