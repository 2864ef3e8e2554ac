//! Answers that say no, and answers that do not come.

use std::error::Error as StdError;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use nvisy_core::error::{Error, ErrorKind, RetryClass};
use nvisy_core::secret::{Secret, SecretRef};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::scrub::scrub;

/// More of what a service says helps nobody.
const SAID: usize = 300;

/// An HTTP answer that says no.
pub(crate) struct Refusal<'a> {
    pub(crate) endpoint: &'a str,
    pub(crate) model: Option<&'a str>,
    pub(crate) status: StatusCode,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    pub(crate) key: Option<(&'a SecretRef, &'a Secret)>,
    pub(crate) now: DateTime<Utc>,
}

impl Refusal<'_> {
    /// Translates it.
    pub(crate) fn into_error(self) -> Error {
        let (endpoint, status) = (self.endpoint, self.status.as_u16());
        let answer = Answer::read(self.body);
        // What it says of a request may repeat it, and so may a service in trouble; what it says
        // of the account, the model and the limits does not.
        let shows = matches!(status, 402..=404 | 408 | 409 | 429);
        let whole = self.said(&answer);
        let said = if shows { whole.clone() } else { self.coded(&answer) };
        let error = match status {
            401 => Error::new(ErrorKind::Authentication, self.unknown(&answer)),
            402 => Error::new(ErrorKind::Permission, format!("{endpoint} asks for payment ({status}){said}")),
            403 => {
                Error::new(ErrorKind::Permission, format!("{endpoint} does not allow this ({status}){said}"))
            }
            404 => Error::new(ErrorKind::NotFound, self.not_found(&said)),
            408 => Error::new(ErrorKind::Timeout, format!("{endpoint} took too long ({status}){said}")),
            409 => {
                Error::new(ErrorKind::Conflict, format!("{endpoint} is busy with the same ({status}){said}"))
                    .with_retry_class(RetryClass::Transient)
            }
            413 => too_large(endpoint, status, &said),
            429 if answer.is_out_of_quota() => {
                let message = format!(
                    "the quota at {endpoint} is used up ({status}): add credit, or wait for it{said}"
                );
                Error::new(ErrorKind::Permission, message)
            }
            429 => Error::new(
                ErrorKind::RateLimited,
                format!("{endpoint} asks us to slow down ({status}){said}"),
            ),
            400 | 422 if answer.is_about_size() => too_large(endpoint, status, &said),
            300..400 => {
                let message =
                    format!("{endpoint} points elsewhere ({status}): set `base_url` to where it is");
                Error::configuration(message)
            }
            405 | 410 | 501 => Error::configuration(format!(
                "{endpoint} does not offer this ({status}): check `base_url`{said}"
            )),
            500.. => Error::new(ErrorKind::Connection, format!("{endpoint} is in trouble ({status}){said}")),
            _ => {
                Error::new(ErrorKind::Validation, format!("{endpoint} refuses the request ({status}){said}"))
            }
        };
        let error = if shows || whole.is_empty() { error } else { error.with_detail(&whole[2..]) };
        match self.retry_after(status) {
            Some(after) if error.retry_class() == RetryClass::Transient => error.with_retry_after(after),
            _ => error,
        }
    }

    /// The code or type that the service gives, which repeats nothing.
    fn coded(&self, answer: &Answer) -> String {
        let code = [&answer.code, &answer.kind].into_iter().flatten().find(|code| is_code(code));
        code.map_or_else(String::new, |code| format!(": it says \"{}\"", self.scrub(code)))
    }

    fn unknown(&self, answer: &Answer) -> String {
        let endpoint = self.endpoint;
        // What it says may repeat parts of the key; its code does not.
        let code = answer.code.as_deref().filter(|code| is_code(code)).unwrap_or_default();
        let code = if code.is_empty() { String::new() } else { format!(", {}", self.scrub(code)) };
        match self.key {
            Some((name, _)) => {
                format!(
                    "{endpoint} does not accept the API key (401{code}): check the secret \"{}\"",
                    name.name()
                )
            }
            None => format!("{endpoint} asks for an API key (401{code}): set `api_key`"),
        }
    }

    fn not_found(&self, said: &str) -> String {
        let endpoint = self.endpoint;
        match self.model {
            Some(model) => {
                format!("{endpoint} has no model \"{model}\" (404): check `model` and `base_url`{said}")
            }
            None => format!("there is no {endpoint} (404): check `base_url`{said}"),
        }
    }

    /// What the service says, without the key and not too long.
    fn said(&self, answer: &Answer) -> String {
        let said = self.scrub(&answer.said);
        let said: Vec<&str> =
            said.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
        let said = said.join(" ");
        let said = said.trim_end_matches('.');
        match said.char_indices().nth(SAID) {
            _ if said.is_empty() => String::new(),
            None => format!(": it says \"{said}\""),
            Some((end, _)) => format!(": it says \"{}…\"", &said[..end]),
        }
    }

    fn scrub(&self, text: &str) -> String {
        self.key.map_or_else(|| text.to_owned(), |(_, key)| scrub(text, key.expose()))
    }

    fn retry_after(&self, status: u16) -> Option<Duration> {
        let text = |name: &str| self.headers.get(name)?.to_str().ok();
        let milliseconds =
            text("retry-after-ms").and_then(|text| text.trim().parse::<f64>().ok()).map(|ms| ms / 1e3);
        let told = milliseconds.and_then(|s| Duration::try_from_secs_f64(s).ok());
        told.or_else(|| text("retry-after").and_then(|text| retry_after(text, self.now)))
            .or_else(|| if status == 429 { crate::openai::limits::reset(self.headers) } else { None })
    }
}

fn too_large(endpoint: &str, status: u16, said: &str) -> Error {
    let message = format!(
        "the request is larger than {endpoint} takes ({status}): lower `batch_items` or `batch_tokens`, or chunk smaller{said}"
    );
    Error::new(ErrorKind::TooLarge, message)
}

/// Reads a `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    // One that has passed means now.
    Some((date.with_timezone(&Utc) - now).to_std().unwrap_or_default())
}

/// What can be read of an error's body.
struct Answer {
    code: Option<String>,
    kind: Option<String>,
    said: String,
}

impl Answer {
    fn read(body: &[u8]) -> Self {
        let Ok(json) = serde_json::from_slice::<Value>(body) else {
            return Self { code: None, kind: None, said: String::from_utf8_lossy(body).into_owned() };
        };
        let error = json.get("error").unwrap_or(&json);
        let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
        let said = error.as_str().map(str::to_owned);
        let said =
            said.or_else(|| text("message")).or_else(|| text("detail")).unwrap_or_else(|| json.to_string());
        Self { code: text("code"), kind: text("type"), said }
    }

    fn is_out_of_quota(&self) -> bool {
        let quota = ["insufficient_quota", "billing_hard_limit_reached", "quota_exceeded"];
        [&self.code, &self.kind].into_iter().flatten().any(|code| quota.contains(&code.as_str()))
    }

    fn is_about_size(&self) -> bool {
        let codes = [
            "context_length_exceeded",
            "max_tokens_per_request",
            "request_too_large",
            "string_above_max_length",
            "array_above_max_length",
        ];
        if [&self.code, &self.kind].into_iter().flatten().any(|code| codes.contains(&code.as_str())) {
            return true;
        }
        let said = self.said.to_lowercase();
        let phrases = [
            "maximum context length",
            "context length",
            "maximum input length",
            "maximum request size",
            "max_tokens_per_request",
            "max tokens per request",
            "too many tokens",
            "too many inputs",
            "too large",
            "batch size",
            "exceeds the maximum number of",
            "must have less than",
            "array too long",
        ];
        phrases.iter().any(|phrase| said.contains(phrase))
    }
}

fn is_code(code: &str) -> bool {
    code.len() <= 40 && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
}

/// Translates the lack of an answer.
pub(crate) fn no_answer(error: reqwest::Error, endpoint: &str, timeout: Duration) -> Error {
    let error = error.without_url();
    if let Some(refused) = cause::<AddressRefused>(&error) {
        return Error::new(
            ErrorKind::Permission,
            format!("{refused}: a graph that is not trusted may not reach it"),
        );
    }
    let (kind, message) = if error.is_timeout() {
        let after = humantime::format_duration(timeout);
        (
            ErrorKind::Timeout,
            format!("{endpoint} did not answer within {after}: raise `timeout`, or send less at once"),
        )
    } else if error.is_connect() {
        (
            ErrorKind::Connection,
            format!("{endpoint} cannot be reached: check `base_url`, and whether it is running"),
        )
    } else if error.is_builder() {
        (ErrorKind::Configuration, format!("no request to {endpoint} can be made: check `base_url`"))
    } else {
        (ErrorKind::Ambiguous, format!("{endpoint} hung up before it had answered"))
    };
    Error::new(kind, message).with_source(error)
}

fn cause<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An address that a graph from a stranger may not reach.
#[derive(Clone, Debug)]
pub(crate) struct AddressRefused {
    pub(crate) host: String,
    pub(crate) address: IpAddr,
}

impl fmt::Display for AddressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, address } = self;
        write!(f, "`base_url`: {host} leads to {address}, which is no public address")
    }
}

impl StdError for AddressRefused {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, headers: &[(&'static str, &str)], body: &str) -> Error {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let (name, key) = (SecretRef::new("KEY"), Secret::new("sk-canary-0123456789"));
        let refusal = Refusal {
            endpoint: "http://here/v1/embeddings",
            model: Some("small"),
            status: StatusCode::from_u16(status).unwrap(),
            headers: &map,
            body: body.as_bytes(),
            key: Some((&name, &key)),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
        };
        refusal.into_error()
    }

    #[test]
    fn each_status_has_its_kind_and_class() {
        let said: Vec<_> = [
            (401, r#"{"error":{"message":"Incorrect API key provided: sk-canary-0123456789","code":"invalid_api_key"}}"#),
            (402, ""),
            (403, r#"{"error":{"message":"Project does not allow it."}}"#),
            (404, r#"{"error":"model not found, try pulling it first"}"#),
            (400, r#"{"error":{"message":"This model's maximum context length is 8192 tokens"}}"#),
            (400, r#"{"error":{"message":"'input' is missing"}}"#),
            (413, "<html>Payload Too Large</html>"),
            (422, r#"{"detail":"Batch size 64 is larger than 32"}"#),
            (429, r#"{"error":{"message":"Slow down","type":"requests"}}"#),
            (429, r#"{"error":{"message":"You exceeded your quota","code":"insufficient_quota"}}"#),
            (307, ""),
            (500, "oops"),
            (503, ""),
        ]
        .into_iter()
        .map(|(status, body)| {
            let error = check(status, &[], body);
            format!("{status} {} {:?} {}", error.kind(), error.retry_class(), error.message())
        })
        .collect();
        let said = said.join("\n").replace("http://here/v1/embeddings", "<E>");
        expect_test::expect![[r#"
            401 authentication Permanent <E> does not accept the API key (401, invalid_api_key): check the secret "KEY"
            402 permission Permanent <E> asks for payment (402)
            403 permission Permanent <E> does not allow this (403): it says "Project does not allow it"
            404 not_found Permanent <E> has no model "small" (404): check `model` and `base_url`: it says "model not found, try pulling it first"
            400 too_large Permanent the request is larger than <E> takes (400): lower `batch_items` or `batch_tokens`, or chunk smaller
            400 validation Permanent <E> refuses the request (400)
            413 too_large Permanent the request is larger than <E> takes (413): lower `batch_items` or `batch_tokens`, or chunk smaller
            422 too_large Permanent the request is larger than <E> takes (422): lower `batch_items` or `batch_tokens`, or chunk smaller
            429 rate_limited Transient <E> asks us to slow down (429): it says "Slow down"
            429 permission Permanent the quota at <E> is used up (429): add credit, or wait for it: it says "You exceeded your quota"
            307 configuration Permanent <E> points elsewhere (307): set `base_url` to where it is
            500 connection Transient <E> is in trouble (500)
            503 connection Transient <E> is in trouble (503)"#]]
        .assert_eq(&said);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let after = |value: &str| check(429, &[("retry-after", value)], "").retry_after();
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(after("Thu, 01 Jan 2026 00:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(after("Wed, 31 Dec 2025 00:00:00 GMT"), Some(Duration::ZERO));
        for wrong in ["-1", "soon", "NaN", "1e400", ""] {
            assert_eq!(after(wrong), None, "{wrong}");
        }
        assert_eq!(
            check(429, &[("retry-after-ms", "1500")], "").retry_after(),
            Some(Duration::from_millis(1_500))
        );
        assert_eq!(check(401, &[("retry-after", "7")], "").retry_after(), None);
    }

    #[test]
    fn what_may_repeat_the_request_is_detail() {
        for status in [400, 413, 422, 500] {
            let error =
                check(status, &[], r#"{"error":{"message":"no canary text, please","type":"bad_input"}}"#);
            assert!(!error.message().contains("canary") && error.message().contains("bad_input"), "{error}");
            assert!(error.detail().is_some_and(|detail| detail.contains("canary")), "{status}");
        }
    }

    #[test]
    fn long_bodies_are_cut_off() {
        let error = check(500, &[], &"word\n".repeat(10_000));
        assert!(error.message().len() < 500, "{}", error.message().len());
    }
}
