//! The connection's config, which is its builder.

use std::time::Duration;

use nvisy_core::config::{Problem, duration};
use nvisy_core::connection::{ConnectContext, Connection, Reach};
use nvisy_core::error::{Error, Result};
use nvisy_core::secret::SecretRef;
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::OpenAiClient;
use crate::model::ModelClient;

/// A service that speaks OpenAI's API: the vendor's own, or any compatible one, on this
/// machine (Ollama, vLLM, llama.cpp, text-embeddings-inference) or elsewhere.
///
/// Redirects are not followed: they would carry the key elsewhere. In a graph from a stranger
/// addresses that are not public are refused, also where a name leads to one.
///
/// # Examples
///
/// ```
/// use nvisy_plugin_ai::OpenAi;
///
/// let vendor = OpenAi::from_env();
/// assert_eq!(serde_json::to_string(&vendor).unwrap(), r#"{"api_key":{"secret":"OPENAI_API_KEY"}}"#);
///
/// let here = OpenAi::at("http://localhost:11434/v1");
/// assert_eq!(serde_json::to_string(&here).unwrap(), r#"{"base_url":"http://localhost:11434/v1"}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenAi {
    /// Where the API is. Default the vendor's, `https://api.openai.com/v1`.
    #[serde(default = "default_base_url", skip_serializing_if = "is_default_base_url")]
    base_url: String,
    /// The API key. The vendor asks for one; servers on this machine seldom do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    api_key: Option<SecretRef>,
    /// The organization to bill, where a key serves several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    organization: Option<String>,
    /// The project to bill, where an organization has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    project: Option<String>,
    /// How long one call may take. Default `1m`.
    #[serde(default = "default_timeout", skip_serializing_if = "is_default_timeout", with = "duration")]
    #[schemars(with = "String")]
    timeout: Duration,
    /// How long connecting may take. Default `10s`.
    #[serde(
        default = "default_connect_timeout",
        skip_serializing_if = "is_default_connect_timeout",
        with = "duration"
    )]
    #[schemars(with = "String")]
    connect_timeout: Duration,
    /// How vectors come over the wire. Default `base64`.
    #[serde(default, skip_serializing_if = "EncodingFormat::is_default")]
    encoding_format: EncodingFormat,
}

/// How vectors come over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EncodingFormat {
    /// As the bytes of the numbers: a quarter of the size. Servers that do not know it answer
    /// with numbers, which is read as well.
    #[default]
    Base64,
    /// As decimal numbers: for servers that refuse to be asked for base64.
    Float,
}

impl EncodingFormat {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

const VENDOR: &str = "https://api.openai.com/v1";
const TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl OpenAi {
    /// The vendor's API, with the key in the secret `OPENAI_API_KEY`.
    #[must_use]
    pub fn from_env() -> Self {
        Self::at(VENDOR).api_key(SecretRef::new("OPENAI_API_KEY"))
    }

    /// A compatible API at a base URL, such as `http://localhost:11434/v1`, without a key.
    #[must_use]
    pub fn at(base_url: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            api_key: None,
            organization: None,
            project: None,
            timeout: TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            encoding_format: EncodingFormat::Base64,
        }
    }

    /// Sets where the API is. Default the vendor's.
    #[must_use]
    pub fn base_url(mut self, base_url: impl Into<String>) -> Self {
        self.base_url = base_url.into();
        self
    }

    /// Names the secret that holds the API key.
    #[must_use]
    pub fn api_key(mut self, secret: SecretRef) -> Self {
        self.api_key = Some(secret);
        self
    }

    /// Sets the organization to bill, where a key serves several.
    #[must_use]
    pub fn organization(mut self, organization: impl Into<String>) -> Self {
        self.organization = Some(organization.into());
        self
    }

    /// Sets the project to bill, where an organization has several.
    #[must_use]
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.project = Some(project.into());
        self
    }

    /// Sets how long one call may take. Default a minute.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long connecting may take. Default ten seconds.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how vectors come over the wire. Default base64.
    #[must_use]
    pub fn encoding_format(mut self, format: EncodingFormat) -> Self {
        self.encoding_format = format;
        self
    }

    pub(super) fn key_name(&self) -> Option<&SecretRef> {
        self.api_key.as_ref()
    }

    pub(super) fn billed(&self) -> [(&'static str, Option<&str>); 2] {
        [("openai-organization", self.organization.as_deref()), ("openai-project", self.project.as_deref())]
    }

    pub(super) fn timeouts(&self) -> (Duration, Duration) {
        (self.connect_timeout, self.timeout)
    }

    pub(super) fn format(&self) -> EncodingFormat {
        self.encoding_format
    }

    /// Returns the base URL, without a slash at its end.
    pub(super) fn url(&self) -> Result<Url, Problem> {
        let problem =
            |message: &str| Err(Problem::new("base_url", message).with_help("such as `https://host/v1`"));
        let Ok(url) = Url::parse(self.base_url.trim_end_matches('/')) else {
            return problem("this is no URL");
        };
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return problem("the API is at an http or https URL with a host");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return problem("a URL is shown in messages: put the key into a secret and name it in `api_key`");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return problem("a base URL has no query and no fragment");
        }
        Ok(url)
    }
}

impl Connection for OpenAi {
    const NAME: &'static str = "ai/openai";
    type Client = ModelClient;

    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        match self.url() {
            Ok(url) if url.host_str() == Some("api.openai.com") && self.api_key.is_none() => {
                let help = "name the secret that holds it: \"api_key\": { \"secret\": \"OPENAI_API_KEY\" }";
                problems.push(Problem::new("api_key", "the vendor's API asks for a key").with_help(help));
            }
            Ok(_) => {}
            Err(problem) => problems.push(problem),
        }
        for (path, value) in [("organization", &self.organization), ("project", &self.project)] {
            if value
                .as_ref()
                .is_some_and(|value| value.is_empty() || !value.bytes().all(|b| b.is_ascii_graphic()))
            {
                problems
                    .push(Problem::new(path, "this is sent as a header: letters, digits and signs alone"));
            }
        }
        for (path, timeout) in [("timeout", self.timeout), ("connect_timeout", self.connect_timeout)] {
            if timeout.is_zero() {
                problems
                    .push(Problem::new(path, "nothing answers in no time").with_help("such as `\"60s\"`"));
            }
            if timeout > duration::LONGEST {
                problems.push(Problem::new(path, "this is longer than ten years"));
            }
        }
        problems
    }

    fn secrets(&self) -> Vec<SecretRef> {
        self.api_key.iter().cloned().collect()
    }

    fn reach(&self) -> Vec<Reach> {
        let host = self.url().ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        vec![Reach::Network { setting: "base_url".into(), host }]
    }

    async fn connect(&self, context: &ConnectContext) -> Result<ModelClient> {
        if let Some(problem) = self.validate().into_iter().next() {
            let message = format!("`{}`: {}", problem.path, problem.message);
            return Err(Error::configuration(message).at_connection(context.name()));
        }
        let client =
            OpenAiClient::connect(self, context).map_err(|error| error.at_connection(context.name()))?;
        Ok(ModelClient::new(client))
    }

    async fn verify(&self, client: &ModelClient) -> Result<()> {
        client.verify().await
    }
}

fn default_base_url() -> String {
    VENDOR.into()
}

fn is_default_base_url(url: &str) -> bool {
    url == VENDOR
}

fn default_timeout() -> Duration {
    TIMEOUT
}

fn is_default_timeout(timeout: &Duration) -> bool {
    *timeout == TIMEOUT
}

fn default_connect_timeout() -> Duration {
    CONNECT_TIMEOUT
}

fn is_default_connect_timeout(timeout: &Duration) -> bool {
    *timeout == CONNECT_TIMEOUT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &[&str]) {
        let config: OpenAi = serde_json::from_str(json).unwrap();
        let problems: Vec<_> =
            config.validate().into_iter().map(|p| format!("{}: {}", p.path, p.message)).collect();
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.contains(expected), "{problem}");
        }
        let again: OpenAi = serde_json::from_value(serde_json::to_value(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        check("{}", &["api_key: the vendor's API asks for a key"]);
        check(r#"{"api_key":{"secret":"K"},"timeout":"1m 30s"}"#, &[]);
        check(r#"{"api_key":{"secret":"K"},"timeout":"500000000000years"}"#, &["timeout: this is longer"]);
        check(r#"{"base_url":"http://localhost:8080/v1/"}"#, &[]);
        check(r#"{"base_url":"localhost"}"#, &["base_url: this is no URL"]);
        check(r#"{"base_url":"file:///etc/passwd"}"#, &["base_url: the API is at"]);
        check(r#"{"base_url":"https://user:pass@host/v1"}"#, &["base_url: a URL is shown"]);
        check(r#"{"base_url":"https://host/v1?key=a"}"#, &["base_url: a base URL has no query"]);
        check(
            r#"{"base_url":"ftp://h","organization":"a\nb","timeout":"0s"}"#,
            &["base_url", "organization", "timeout"],
        );
    }

    #[test]
    fn a_literal_key_is_refused_without_repeating_it() {
        let error = serde_json::from_str::<OpenAi>(r#"{"api_key":"sk-canary"}"#).unwrap_err().to_string();
        assert!(error.contains("literal") && !error.contains("canary"), "{error}");
    }

    #[test]
    fn it_says_what_it_reaches() {
        let reach = OpenAi::at("http://169.254.169.254/v1").reach();
        assert_eq!(reach, [Reach::Network { setting: "base_url".into(), host: "169.254.169.254".into() }]);
    }
}
