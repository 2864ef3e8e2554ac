//! A small plugin of every type of node, and a graph that uses it.

use futures::Stream;
use nvisy_core::config::Problem;
use nvisy_core::connection::Reach;
use nvisy_core::prelude::*;
use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::embedding::Embedding;
use nvisy_core::primitive::row::Row;
use nvisy_runtime::registry::Registry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) fn plugin() -> Plugin {
    Plugin::new("acme")
        .connection::<Store>()
        .connection::<Model>()
        .source::<Tickets>()
        .action::<Chunk>()
        .action::<Embed>()
        .sink::<Index>()
        .sink::<Lines>()
}

pub(crate) fn registry() -> Registry {
    Registry::builtin().plugin(&plugin())
}

/// The graph that every test starts from.
pub(crate) const TICKETS: &str = include_str!("tickets.json");

#[derive(Debug)]
pub(crate) struct StoreClient;

impl Client for StoreClient {
    const FAMILY: &'static str = "store";
}

#[derive(Debug)]
pub(crate) struct ModelClient;

impl Client for ModelClient {
    const FAMILY: &'static str = "model";
}

/// A folder.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub(crate) struct Store {
    /// Where it is.
    pub(crate) root: String,
}

impl Connection for Store {
    const NAME: &'static str = "acme/store";
    type Client = StoreClient;

    fn reach(&self) -> Vec<Reach> {
        vec![Reach::Files { setting: "root".to_owned() }]
    }

    async fn connect(&self, _: &ConnectContext) -> Result<StoreClient> {
        Ok(StoreClient)
    }

    async fn verify(&self, _: &StoreClient) -> Result<()> {
        Ok(())
    }
}

/// A model behind an address.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub(crate) struct Model {
    /// The host. Default that of the vendor.
    #[serde(default = "vendor")]
    pub(crate) host: String,
    /// The key.
    pub(crate) api_key: SecretRef,
}

fn vendor() -> String {
    "api.acme.example".to_owned()
}

impl Model {
    pub(crate) fn from_env() -> Self {
        Self { host: vendor(), api_key: SecretRef::new("ACME_API_KEY") }
    }
}

impl Connection for Model {
    const NAME: &'static str = "acme/model";
    type Client = ModelClient;

    fn secrets(&self) -> Vec<SecretRef> {
        vec![self.api_key.clone()]
    }

    fn reach(&self) -> Vec<Reach> {
        vec![Reach::Network { setting: "host".to_owned(), host: self.host.clone() }]
    }

    async fn connect(&self, _: &ConnectContext) -> Result<ModelClient> {
        Ok(ModelClient)
    }

    async fn verify(&self, _: &ModelClient) -> Result<()> {
        Ok(())
    }
}

/// Reads tickets.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub(crate) struct Tickets {
    /// Which ones.
    pub(crate) prefix: String,
    /// How many at once.
    pub(crate) page: Option<u32>,
}

impl Tickets {
    pub(crate) fn prefix(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), page: None }
    }
}

impl Source for Tickets {
    const NAME: &'static str = "acme/tickets";
    type Output = Row;
    type Client = StoreClient;

    fn identity(&self, _: &StoreClient) -> SourceIdentity {
        SourceIdentity::new("acme/tickets")
    }

    fn validate(&self) -> Vec<Problem> {
        let outside =
            self.prefix.starts_with("..").then(|| Problem::new("prefix", "the prefix leaves the store"));
        let none = (self.page == Some(0)).then(|| Problem::new("page", "a page holds one ticket at least"));
        outside.into_iter().chain(none).collect()
    }

    fn read(
        &self,
        _: &Partition,
        _: Option<Position>,
        _: &ReadContext<StoreClient>,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        futures::stream::empty()
    }
}

/// Cuts documents.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub(crate) struct Chunk {
    /// How long a piece is.
    pub(crate) size: u32,
}

impl Transform for Chunk {
    const NAME: &'static str = "acme/chunk";
    type Input = Document;
    type Output = Document;

    async fn transform(&self, item: Item<Document>, _: &Context) -> Result<Outcome<Document>> {
        Ok(Outcome::emit(item))
    }

    fn calls(&self) -> Calls {
        Calls::None
    }
}

/// Embeds documents.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub(crate) struct Embed {
    /// With which model.
    pub(crate) model: String,
}

impl Embed {
    pub(crate) fn model(model: &str) -> Self {
        Self { model: model.to_owned() }
    }
}

impl ActionConfig for Embed {
    const NAME: &'static str = "acme/embed";
    type Input = Document;
    type Output<In: Kind> = Embedding;
    type Client = ModelClient;

    fn calls(&self) -> Calls {
        Calls::Paid
    }

    fn optimum(&self) -> Option<BatchLimits> {
        Some(BatchLimits::items(96).with_tokens(8_000))
    }

    async fn build(&self, _: &OpenContext<ModelClient>) -> Result<Action> {
        Err(Error::internal("a sample does not run"))
    }
}

/// Keeps vectors.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub(crate) struct Index {
    /// Where.
    pub(crate) collection: String,
}

impl Index {
    pub(crate) fn collection(collection: &str) -> Self {
        Self { collection: collection.to_owned() }
    }
}

impl SinkConfig for Index {
    const NAME: &'static str = "acme/index";
    type Input = Embedding;
    type Client = StoreClient;
    type Sink = Nowhere;

    fn guarantee(&self) -> Guarantee {
        Guarantee::Upsert
    }

    fn concurrency(&self) -> usize {
        2
    }

    async fn open(&self, _: &OpenContext<StoreClient>) -> Result<Nowhere> {
        Ok(Nowhere)
    }
}

/// Writes lines.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
pub(crate) struct Lines {
    /// Where to.
    pub(crate) path: String,
}

impl Lines {
    pub(crate) fn path(path: &str) -> Self {
        Self { path: path.to_owned() }
    }
}

impl SinkConfig for Lines {
    const NAME: &'static str = "acme/lines";
    type Input = Any;
    type Client = NoClient;
    type Sink = Nowhere;

    fn guarantee(&self) -> Guarantee {
        Guarantee::Append
    }

    async fn open(&self, _: &OpenContext) -> Result<Nowhere> {
        Ok(Nowhere)
    }
}

#[derive(Debug)]
pub(crate) struct Nowhere;

impl Sink for Nowhere {
    async fn write(&self, batch: &Batch, _: &Context) -> Result<WriteReport> {
        Ok(WriteReport::applied(batch.len()))
    }
}
