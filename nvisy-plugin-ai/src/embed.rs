//! `ai/embed`: turns documents into vectors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nvisy_core::action::{Action, ActionConfig, BatchTransform, Calls};
use nvisy_core::batch::BatchLimits;
use nvisy_core::config::Problem;
use nvisy_core::context::{Context, OpenContext};
use nvisy_core::error::Result;
use nvisy_core::hash::ContentHash;
use nvisy_core::outcome::Outcome;
use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::embedding::{Embedding, EmbeddingFields, Metric};
use nvisy_core::primitive::{Item, Kind, Payload};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error;
use crate::model::{EmbedRequest, ModelClient};

/// Turns documents into vectors, each with its document beside it.
///
/// It works through a connection of the family `ai`: `ai/openai`, or `ai/local`, which needs
/// no network and no account and can stand inline: `"connection": { "use": "ai/local" }`.
///
/// An embedding keeps its document (text, title, source URI, byte range, attributes), the
/// model, the hash of the text and the metric that the model means (cosine). Its id follows
/// from the document's, the model and the dimensions: embedding again writes the same ids.
///
/// # Contract
///
/// 1. One vector a document, in their order, of finite numbers.
/// 2. All vectors have one length: `dimensions` if set, else that of the first. Vectors of
///    another fail as `configuration`: they are paid for, and would be again. One that holds
///    something other than numbers fails alone, and the others of its call are kept.
/// 3. A document that holds nothing but white space is dropped: "no text to embed".
/// 4. A call is paid for, so it is repeated only where the node's retry says so. One that is
///    too large fails as `too_large`, to be halved.
///
/// # Examples
///
/// ```
/// use nvisy_plugin_ai::Embed;
///
/// let embed = Embed::model("text-embedding-3-small").dimensions(512);
/// assert_eq!(serde_json::to_string(&embed).unwrap(), r#"{"model":"text-embedding-3-small","dimensions":512}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Embed {
    /// The model, as its service names it: `text-embedding-3-small`, `local/hash`.
    model: String,
    /// How long the vectors shall be, for models that can be shortened. Default: as long as
    /// the model makes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = MAX_DIMENSIONS))]
    dimensions: Option<u32>,
    /// Whether vectors are scaled to length one. Default no: as the model makes them, which
    /// for most is just that.
    #[serde(default, skip_serializing_if = "is_default")]
    normalize: bool,
    /// How many documents one call takes at the most. Default 256.
    #[serde(default = "default_batch_items", skip_serializing_if = "is_default_batch_items")]
    #[schemars(range(min = 1, max = MAX_BATCH_ITEMS))]
    batch_items: u32,
    /// How many tokens one call takes at the most. Default 300,000.
    #[serde(default = "default_batch_tokens", skip_serializing_if = "is_default_batch_tokens")]
    #[schemars(range(min = 1))]
    batch_tokens: u64,
}

const MAX_DIMENSIONS: u32 = 65_536;
const MAX_BATCH_ITEMS: u32 = 65_536;
const BATCH_ITEMS: u32 = 256;
const BATCH_TOKENS: u64 = 300_000;
/// No service takes larger requests; tokens are the bound that counts.
const BATCH_BYTES: usize = 8 << 20;
const NO_TEXT: &str = "no text to embed";

impl Embed {
    /// Embeds with a model. Default as long as the model makes the vectors, 256 documents and
    /// 300,000 tokens a call.
    #[must_use]
    pub fn model(model: impl Into<String>) -> Self {
        let model = model.into();
        Self {
            model,
            dimensions: None,
            normalize: false,
            batch_items: BATCH_ITEMS,
            batch_tokens: BATCH_TOKENS,
        }
    }

    /// Sets how long the vectors shall be, for models that can be shortened.
    #[must_use]
    pub fn dimensions(mut self, dimensions: u32) -> Self {
        self.dimensions = Some(dimensions);
        self
    }

    /// Scales vectors to length one.
    #[must_use]
    pub fn normalize(mut self) -> Self {
        self.normalize = true;
        self
    }

    /// Sets how many documents one call takes at the most. Default 256.
    #[must_use]
    pub fn batch_items(mut self, items: u32) -> Self {
        self.batch_items = items;
        self
    }

    /// Sets how many tokens one call takes at the most. Default 300,000.
    #[must_use]
    pub fn batch_tokens(mut self, tokens: u64) -> Self {
        self.batch_tokens = tokens;
        self
    }

    /// Embeds texts as the node does: what a program compares with the vectors of a graph.
    ///
    /// # Errors
    ///
    /// What the service says; see [`ModelClient::request`].
    pub async fn vectors(&self, client: &ModelClient, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        let mut vectors = client.request(self.request(texts), &Context::detached()).await?;
        vectors.iter_mut().for_each(|vector| self.finish(vector));
        Ok(vectors)
    }

    fn request<'a>(&'a self, texts: &'a [&'a str]) -> EmbedRequest<'a> {
        EmbedRequest { model: &self.model, texts, dimensions: self.dimensions }
    }

    fn finish(&self, vector: &mut [f32]) {
        if self.normalize {
            scale_to_one(vector);
        }
    }

    /// Names what makes the result another thing: model and dimensions.
    fn salt(&self) -> String {
        let mut salt = format!("embed:{}", self.model);
        if let Some(dimensions) = self.dimensions {
            salt.push_str(&format!(":{dimensions}"));
        }
        salt
    }
}

/// Scales a vector to length one, unless it is zero.
pub(crate) fn scale_to_one(vector: &mut [f32]) {
    // In double precision: squares of large numbers stay finite.
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

impl ActionConfig for Embed {
    const NAME: &'static str = "ai/embed";
    type Input = Document;
    type Output<In: Kind> = Embedding;
    type Client = ModelClient;

    fn calls(&self) -> Calls {
        // Through a connection that is local it calls nobody: the engine knows.
        Calls::Paid
    }

    fn version(&self) -> &'static str {
        concat!(env!("CARGO_PKG_VERSION"), "/1")
    }

    fn optimum(&self) -> Option<BatchLimits> {
        let limits = BatchLimits::items(self.batch_items as usize).with_bytes(BATCH_BYTES);
        Some(limits.with_tokens(self.batch_tokens))
    }

    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.model.trim().is_empty() {
            problems.push(
                Problem::new("model", "no model is named").with_help("such as `text-embedding-3-small`"),
            );
        }
        if let Some(dimensions) = self.dimensions.filter(|d| !(1..=MAX_DIMENSIONS).contains(d)) {
            let message = format!("a vector cannot have {dimensions} dimensions");
            problems
                .push(Problem::new("dimensions", message).with_help(format!("from 1 to {MAX_DIMENSIONS}")));
        }
        if !(1..=MAX_BATCH_ITEMS).contains(&self.batch_items) {
            let message = format!("a call cannot take {} documents", self.batch_items);
            problems
                .push(Problem::new("batch_items", message).with_help(format!("from 1 to {MAX_BATCH_ITEMS}")));
        }
        if self.batch_tokens == 0 {
            problems.push(Problem::new("batch_tokens", "a call cannot take 0 tokens").with_help("1 or more"));
        }
        problems
    }

    async fn build(&self, context: &OpenContext<ModelClient>) -> Result<Action> {
        let (config, client) = (self.clone(), context.client().clone());
        Ok(Action::batch(Embeds { salt: config.salt(), config, client, dimensions: AtomicUsize::new(0) }))
    }
}

/// The node at work.
struct Embeds {
    config: Embed,
    salt: String,
    client: Arc<ModelClient>,
    /// How long the first vectors were; 0 before.
    dimensions: AtomicUsize,
}

impl Embeds {
    /// Holds all calls to the length of the first one's vectors.
    fn check_dimensions(&self, vectors: &[Vec<f32>]) -> Result<()> {
        let Some(have) = vectors.first().map(Vec::len) else { return Ok(()) };
        match self.dimensions.compare_exchange(0, have, Ordering::Relaxed, Ordering::Relaxed) {
            Err(want) if want != have => Err(error::changed_dimensions(&self.config.model, want, have)),
            _ => Ok(()),
        }
    }

    fn emit(&self, item: &Item<Document>, index: usize, mut vector: Vec<f32>) -> Result<Outcome<Embedding>> {
        self.client.check_numbers(&self.config.model, index, &vector)?;
        self.config.finish(&mut vector);
        let document = match item.primitive().payload() {
            Payload::Document(document) => document.clone(),
            _ => Arc::new((**item).clone()),
        };
        let fields = EmbeddingFields {
            vector,
            model: self.config.model.clone(),
            document: Some(document),
            content_hash: Some(ContentHash::of_bytes(item.text.as_bytes()).to_string()),
            metric: Some(Metric::Cosine),
        };
        Ok(Outcome::emit(item.derive(&self.salt, 0, Embedding::try_from(fields)?)))
    }
}

impl BatchTransform for Embeds {
    type Input = Document;
    type Output = Embedding;

    async fn transform(
        &self,
        items: Vec<Item<Document>>,
        context: &Context,
    ) -> Result<Vec<Outcome<Embedding>>> {
        let texts: Vec<&str> =
            items.iter().map(|item| item.text.as_str()).filter(|text| !is_blank(text)).collect();
        let vectors = self.client.answer(self.config.request(&texts), context).await?;
        self.check_dimensions(&vectors)?;
        let mut vectors = vectors.into_iter().enumerate();
        let outcome = |item: &Item<Document>| {
            if is_blank(&item.text) {
                return Outcome::drop(NO_TEXT);
            }
            // As many as texts: the client checks.
            let (index, vector) = vectors.next().unwrap_or_default();
            self.emit(item, index, vector).unwrap_or_else(Outcome::fail)
        };
        Ok(items.iter().map(outcome).collect())
    }

    fn weigh(&self, item: &Item<Document>) -> u64 {
        self.client.weigh(&self.config.model, &item.text)
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn default_batch_items() -> u32 {
    BATCH_ITEMS
}

fn default_batch_tokens() -> u64 {
    BATCH_TOKENS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_default_batch_items(items: &u32) -> bool {
    *items == BATCH_ITEMS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_default_batch_tokens(tokens: &u64) -> bool {
    *tokens == BATCH_TOKENS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_default(flag: &bool) -> bool {
    !*flag
}
