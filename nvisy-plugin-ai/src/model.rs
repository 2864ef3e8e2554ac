//! The family's client: a model that turns texts into vectors.

use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use nvisy_core::connection::Client;
use nvisy_core::context::Context;
use nvisy_core::error::Result;

use crate::error;

/// A request for vectors: the model and the texts.
#[derive(Clone, Copy, Debug)]
pub struct EmbedRequest<'a> {
    /// The model, as its service names it.
    pub model: &'a str,
    /// The texts, none of them empty.
    pub texts: &'a [&'a str],
    /// How long the vectors shall be. Default: as long as the model makes them.
    pub dimensions: Option<u32>,
}

impl<'a> EmbedRequest<'a> {
    /// Asks a model for the vectors of texts, as long as the model makes them.
    #[must_use]
    pub fn new(model: &'a str, texts: &'a [&'a str]) -> Self {
        Self { model, texts, dimensions: None }
    }

    /// Sets how long the vectors shall be, for models that can be shortened.
    #[must_use]
    pub fn with_dimensions(mut self, dimensions: u32) -> Self {
        self.dimensions = Some(dimensions);
        self
    }
}

/// A service or library that embeds: what a connection of this family gives.
///
/// # Contract
///
/// 1. One vector a text, in the order of the texts, all of one length.
/// 2. What a call used, how long it took and what is left of limits goes to the meter of the
///    context.
/// 3. Its future may be dropped at any await.
pub trait Embedder: Send + Sync + 'static {
    /// Embeds texts.
    fn embed(
        &self,
        request: EmbedRequest<'_>,
        context: &Context,
    ) -> impl Future<Output = Result<Vec<Vec<f32>>>> + Send;

    /// Checks that the service is there and knows us. Default nothing to check.
    fn verify(&self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Returns how many tokens a text weighs for a model, where requests are bounded by
    /// tokens. Default none.
    fn weigh(&self, model: &str, text: &str) -> u64 {
        let _ = (model, text);
        0
    }

    /// Returns where the service is, for messages. Default nowhere else.
    fn endpoint(&self) -> Option<&str> {
        None
    }
}

/// The client of every connection of this family. Cheap to clone.
///
/// Programs embed with it too, for instance the question to a search:
///
/// ```
/// use nvisy_plugin_ai::{Local, ModelClient};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> nvisy_core::Result<()> {
/// let client = ModelClient::from(Local::new());
/// let vectors = client.embed("local/hash", &["how do I return a parcel?"]).await?;
/// assert_eq!(vectors[0].len(), 512);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ModelClient(Arc<dyn ErasedEmbedder>);

impl ModelClient {
    /// Makes a client of a model of one's own.
    #[must_use]
    pub fn new(embedder: impl Embedder) -> Self {
        Self(Arc::new(embedder))
    }

    /// Embeds texts outside a run, as long as the model makes the vectors. Where a graph wrote
    /// the vectors to compare with, [`Embed::vectors`](crate::Embed::vectors) asks for the
    /// same kind.
    ///
    /// # Errors
    ///
    /// See [`request`](Self::request).
    pub async fn embed(&self, model: &str, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        self.request(EmbedRequest::new(model, texts), &Context::detached()).await
    }

    /// Embeds texts: one vector each, in their order, all of one length and of finite numbers.
    ///
    /// # Errors
    ///
    /// What the service says; `connection` if it does not answer with one vector a text
    /// (`internal` if the model runs here), `configuration` if their lengths differ among
    /// themselves or from what was asked for, `validation` if one holds no numbers.
    pub async fn request(&self, request: EmbedRequest<'_>, context: &Context) -> Result<Vec<Vec<f32>>> {
        let vectors = self.answer(request, context).await?;
        for (index, vector) in vectors.iter().enumerate() {
            self.check_numbers(request.model, index, vector)?;
        }
        Ok(vectors)
    }

    /// Embeds texts, and leaves it to the caller to [check](Self::check_numbers) each vector: it
    /// is paid for, and one that is not good is not the fault of the others.
    pub(crate) async fn answer(&self, request: EmbedRequest<'_>, context: &Context) -> Result<Vec<Vec<f32>>> {
        if request.texts.is_empty() {
            return Ok(Vec::new());
        }
        let vectors = self.0.embed(request, context).await?;
        check(&request, &vectors, self.0.endpoint())?;
        Ok(vectors)
    }

    /// Refuses the vector of a text, the `index`th of its request, that holds no numbers.
    pub(crate) fn check_numbers(&self, model: &str, index: usize, vector: &[f32]) -> Result<()> {
        if vector.iter().all(|x| x.is_finite()) {
            return Ok(());
        }
        Err(error::not_finite(&error::name(model, self.0.endpoint()), index))
    }

    /// Checks that the service is there and knows us.
    ///
    /// # Errors
    ///
    /// What the service says.
    pub async fn verify(&self) -> Result<()> {
        self.0.verify().await
    }

    /// Returns how many tokens a text weighs for a model, where requests are bounded by tokens.
    #[must_use]
    pub fn weigh(&self, model: &str, text: &str) -> u64 {
        self.0.weigh(model, text)
    }
}

impl Client for ModelClient {
    const FAMILY: &'static str = "ai";
}

impl fmt::Debug for ModelClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ModelClient")
    }
}

fn check(request: &EmbedRequest<'_>, vectors: &[Vec<f32>], endpoint: Option<&str>) -> Result<()> {
    let EmbedRequest { model, texts, dimensions } = *request;
    if vectors.len() != texts.len() {
        return Err(error::wrong_count(model, endpoint, texts.len(), vectors.len()));
    }
    let want = dimensions.map_or_else(|| vectors[0].len(), |dimensions| dimensions as usize);
    match vectors.iter().find(|vector| vector.len() != want || vector.is_empty()) {
        Some(wrong) => {
            let who = error::name(model, endpoint);
            Err(error::wrong_dimensions(&who, dimensions, want, wrong.len()))
        }
        None => Ok(()),
    }
}

/// An [`Embedder`] of any type.
trait ErasedEmbedder: Send + Sync {
    fn embed<'a>(
        &'a self,
        request: EmbedRequest<'a>,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Vec<Vec<f32>>>>;
    fn verify(&self) -> BoxFuture<'_, Result<()>>;
    fn weigh(&self, model: &str, text: &str) -> u64;
    fn endpoint(&self) -> Option<&str>;
}

impl<E: Embedder> ErasedEmbedder for E {
    fn embed<'a>(
        &'a self,
        request: EmbedRequest<'a>,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Vec<Vec<f32>>>> {
        Box::pin(Embedder::embed(self, request, context))
    }

    fn verify(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Embedder::verify(self))
    }

    fn weigh(&self, model: &str, text: &str) -> u64 {
        Embedder::weigh(self, model, text)
    }

    fn endpoint(&self) -> Option<&str> {
        Embedder::endpoint(self)
    }
}
