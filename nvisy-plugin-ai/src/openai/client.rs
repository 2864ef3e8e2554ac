//! The client: one request, one answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use chrono::Utc;
use nvisy_core::connection::{ConnectContext, is_public};
use nvisy_core::context::Context;
use nvisy_core::error::{Error, ErrorKind, Result};
use nvisy_core::observability::ModelUsage;
use nvisy_core::secret::{Secret, SecretRef};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response, Url, redirect};

use super::address::PublicOnly;
use super::config::{EncodingFormat, OpenAi};
use super::{limits, wire};
use crate::error::{self, AddressRefused, Refusal, no_answer};
use crate::model::{EmbedRequest, Embedder};
use crate::tokens::Encoding;

/// An answer may be so large, and so much larger for each text.
const ANSWER: usize = 1 << 20;
const ANSWER_PER_TEXT: usize = 256 << 10;
/// Of an answer that says no, more is not read.
const REFUSAL: usize = 64 << 10;

const EMBED: &str = "POST /embeddings";

/// A client of an API that speaks like OpenAI's. It has no `Debug`: it holds the key.
pub(super) struct OpenAiClient {
    http: reqwest::Client,
    base_url: Arc<str>,
    embeddings: Arc<str>,
    headers: HeaderMap,
    key: Option<(SecretRef, Secret)>,
    timeout: Duration,
    format: EncodingFormat,
}

impl OpenAiClient {
    /// Makes a client. Nothing is sent.
    pub(super) fn connect(config: &OpenAi, context: &ConnectContext) -> Result<Self> {
        let url = config.url().map_err(|problem| Error::configuration(problem.message))?;
        if context.is_untrusted() {
            refuse_private(&url)?;
        }
        let key = match config.key_name() {
            Some(name) => Some((name.clone(), context.secret(name)?)),
            None => None,
        };
        let base_url: Arc<str> = url.as_str().trim_end_matches('/').into();
        let (connect_timeout, timeout) = config.timeouts();
        Ok(Self {
            http: http(&url, connect_timeout, timeout, context.is_untrusted())?,
            embeddings: format!("{base_url}/embeddings").into(),
            headers: headers(config, key.as_ref())?,
            base_url,
            key,
            timeout,
            format: config.format(),
        })
    }

    /// Sends a request, and returns the answer, be it good or not.
    async fn send(&self, request: RequestBuilder, endpoint: &str) -> Result<Response> {
        let sent = request.headers(self.headers.clone()).send().await;
        sent.map_err(|error| no_answer(error, endpoint, self.timeout))
    }

    /// Reads an answer that says no.
    async fn refusal(&self, mut response: Response, endpoint: &str, model: Option<&str>) -> Error {
        // What it says helps, but is not needed.
        let body = read(&mut response, REFUSAL).await.unwrap_or_default();
        let key = self.key.as_ref().map(|(name, key)| (name, key));
        let (status, headers) = (response.status(), response.headers());
        Refusal { endpoint, model, status, headers, body: &body, key, now: Utc::now() }.into_error()
    }

    async fn call(&self, request: EmbedRequest<'_>, context: &Context) -> Result<Vec<Vec<f32>>> {
        let EmbedRequest { model, texts, dimensions } = request;
        let body = wire::Request { model, input: texts, encoding_format: self.format, dimensions };
        let endpoint = &*self.embeddings;
        let mut response = self.send(self.http.post(endpoint).json(&body), endpoint).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response, endpoint, Some(model)).await);
        }
        if let Some(hint) = limits::hint(response.headers()) {
            context.meter().rate_hint(hint);
        }
        let most = ANSWER + ANSWER_PER_TEXT * texts.len();
        let who = error::name(model, Some(&self.base_url));
        let body = match read(&mut response, most).await {
            Ok(body) => body,
            Err(Unread::Lost(error)) => return Err(no_answer(error, endpoint, self.timeout)),
            Err(Unread::TooLong) => {
                return Err(error::not_the_api(&who, format!("its answer is longer than {most} bytes")));
            }
        };
        let answer = wire::Response::parse(&body).map_err(|why| error::not_the_api(&who, why))?;
        // It is paid for, whatever is in it.
        context.meter().model_usage(&ModelUsage {
            model: model.to_owned(),
            requests: 1,
            input_tokens: tokens_used(&answer, model, texts),
            ..ModelUsage::default()
        });
        answer.into_vectors().map_err(|why| error::not_the_api(&who, why))
    }
}

impl Embedder for OpenAiClient {
    async fn embed(&self, request: EmbedRequest<'_>, context: &Context) -> Result<Vec<Vec<f32>>> {
        let start = Instant::now();
        let result = self.call(request, context).await;
        context.meter().call(EMBED, start.elapsed(), result.is_ok());
        result.map_err(|error| error.during(EMBED))
    }

    async fn verify(&self) -> Result<()> {
        let endpoint = format!("{}/models", self.base_url);
        let asked = self.send(self.http.get(&endpoint), &endpoint).await;
        let response = asked.map_err(|error| error.during("GET /models"))?;
        match response.status().as_u16() {
            // It is there; not every server lists its models.
            200..=299 | 404 | 405 | 501 => Ok(()),
            _ => Err(self.refusal(response, &endpoint, None).await.during("GET /models")),
        }
    }

    fn weigh(&self, model: &str, text: &str) -> u64 {
        Encoding::of_model(model).count(text) as u64
    }

    fn endpoint(&self) -> Option<&str> {
        Some(&self.base_url)
    }
}

/// Returns what the answer says it used, or counts where it does not say.
fn tokens_used(answer: &wire::Response, model: &str, texts: &[&str]) -> u64 {
    let said = answer.usage.as_ref().and_then(|usage| usage.prompt_tokens.or(usage.total_tokens));
    said.unwrap_or_else(|| {
        let encoding = Encoding::of_model(model);
        texts.iter().map(|text| encoding.count(text) as u64).sum()
    })
}

fn http(url: &Url, connect_timeout: Duration, timeout: Duration, untrusted: bool) -> Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder()
        .connect_timeout(connect_timeout)
        .timeout(timeout)
        .redirect(redirect::Policy::none())
        .user_agent(concat!("nvisy/", env!("CARGO_PKG_VERSION")));
    if url.scheme() == "http" {
        // Without TLS there is nothing to look up certificates for, where there may be none.
        builder = builder.tls_certs_only([]);
    }
    if untrusted {
        // A proxy would look names up by itself.
        builder = builder.dns_resolver(Arc::new(PublicOnly)).no_proxy();
    }
    builder.build().map_err(|error| {
        let message = "no HTTP client can be made: check the certificates that this system trusts";
        Error::configuration(message).with_source(error.without_url())
    })
}

fn headers(config: &OpenAi, key: Option<&(SecretRef, Secret)>) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some((name, key)) = key {
        let value = HeaderValue::from_str(&format!("Bearer {}", key.expose().trim()));
        let mut value = value.map_err(|_| {
            let message = format!("the secret \"{}\" holds characters that no API key has", name.name());
            Error::new(ErrorKind::Authentication, message)
        })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    for (name, value) in config.billed() {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    Ok(headers)
}

/// Refuses an address in the URL itself; names are looked at when they are looked up.
fn refuse_private(url: &Url) -> Result<()> {
    let host = url.host_str().unwrap_or_default();
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) if !is_public(address) => {
            let refused = AddressRefused { host: host.to_owned(), address };
            let message = format!("{refused}: a graph that is not trusted may not reach it");
            Err(Error::new(ErrorKind::Permission, message))
        }
        _ => Ok(()),
    }
}

enum Unread {
    Lost(reqwest::Error),
    TooLong,
}

/// Reads a body of so many bytes at the most.
async fn read(response: &mut Response, most: usize) -> Result<Bytes, Unread> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(Unread::Lost)? {
        if body.len() + chunk.len() > most {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}
