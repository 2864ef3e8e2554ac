//! A collection that embeddings are written to.

use std::num::NonZeroU32;
use std::sync::Arc;

use nvisy_core::config::Problem;
use nvisy_core::prelude::*;
use nvisy_core::primitive::embedding::{Embedding, Metric};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::{Destination, MAX_DIMENSIONS, SqliteClient};
use crate::point::NewPoint;

/// Writes embeddings to a collection: `vector/sqlite`.
///
/// One transaction a batch, upsert by id: written again, an embedding takes the place of the
/// one that was there. A vector of other dimensions is rejected alone. Beside the vector stand
/// the text (also in the full-text index), what is known about its document, tags and custom
/// values, and where it came from: run, root and lineage.
///
/// In an incremental run it keeps beside each embedding where it comes from and when it was written
/// last, and deletes what is stale: the passages that a document had in the run before and has no
/// more, and those of documents that are gone. In other runs it deletes nothing: such passages stay
/// until [`SqliteClient::delete_by_root`] is called. An embedding is not to come from two graphs, nor
/// from two sources of one: those that read the same documents give its passages the same ids, the
/// one that writes it last has it, and where that one has the document no more it is deleted for
/// both. Give each graph a collection of its own.
///
/// # Examples
///
/// ```
/// use nvisy_core::primitive::embedding::Metric;
/// use nvisy_plugin_vector::SqliteSink;
///
/// let docs = SqliteSink::collection("docs").create().metric(Metric::Dot);
/// assert_eq!(
///     serde_json::to_string(&docs).unwrap(),
///     r#"{"collection":"docs","create":true,"metric":"dot"}"#
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "VectorSqliteSink")]
#[serde(deny_unknown_fields)]
pub struct SqliteSink {
    /// The collection.
    pub collection: String,
    /// Whether the collection is created if it does not exist. Default no.
    #[serde(default, skip_serializing_if = "is_false")]
    pub create: bool,
    /// How many numbers each vector has. Default those of the collection, or of the first
    /// embedding where it is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<NonZeroU32>,
    /// How vectors are compared. Default as the collection does, or as the first embedding's
    /// model means it where it is created, else by cosine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Metric>,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl SqliteSink {
    /// Writes to a collection.
    #[must_use]
    pub fn collection(collection: impl Into<String>) -> Self {
        Self { collection: collection.into(), create: false, dimensions: None, metric: None }
    }

    /// Creates the collection if it does not exist.
    #[must_use]
    pub fn create(mut self) -> Self {
        self.create = true;
        self
    }

    /// Says how many numbers each vector has.
    #[must_use]
    pub fn dimensions(mut self, dimensions: NonZeroU32) -> Self {
        self.dimensions = Some(dimensions);
        self
    }

    /// Says how vectors are compared.
    #[must_use]
    pub fn metric(mut self, metric: Metric) -> Self {
        self.metric = Some(metric);
        self
    }
}

impl SinkConfig for SqliteSink {
    const NAME: &'static str = "vector/sqlite";
    type Input = Embedding;
    type Client = SqliteClient;
    type Sink = OpenSqliteSink;

    fn guarantee(&self) -> Guarantee {
        Guarantee::Upsert
    }

    fn optimum(&self) -> BatchLimits {
        BatchLimits::items(512).with_bytes(8 << 20)
    }

    fn replaces(&self) -> bool {
        true
    }

    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.collection.is_empty() {
            problems.push(Problem::new("collection", "is empty"));
        }
        if self.dimensions.is_some_and(|dimensions| dimensions.get() > MAX_DIMENSIONS) {
            problems
                .push(Problem::new("dimensions", format!("sqlite-vec takes {MAX_DIMENSIONS} at the most")));
        }
        problems
    }

    async fn open(&self, context: &OpenContext<SqliteClient>) -> Result<OpenSqliteSink> {
        let client = context.client().clone();
        let destination = Destination {
            name: self.collection.clone(),
            create: self.create,
            dimensions: self.dimensions.map(NonZeroU32::get),
            metric: self.metric,
        };
        let existing = match client.collection(&self.collection).await? {
            None if !self.create => Some(client.existing(&self.collection).await?),
            found => found,
        };
        match (existing, self.dimensions) {
            (Some(collection), dimensions) => {
                client.check(&collection, dimensions, self.metric)?;
                client.keep_origins(&collection).await?;
            }
            (None, Some(dimensions)) => {
                let metric = self.metric.unwrap_or_default();
                client.create_collection(&self.collection, dimensions, metric).await?;
            }
            // The first embedding shows the dimensions.
            (None, None) => {}
        }
        Ok(OpenSqliteSink { client, destination })
    }
}

/// An open [`SqliteSink`].
#[derive(Debug)]
pub struct OpenSqliteSink {
    client: Arc<SqliteClient>,
    destination: Destination,
}

impl Sink for OpenSqliteSink {
    async fn write(&self, batch: &Batch, context: &Context) -> Result<WriteReport> {
        let mut statuses = Vec::with_capacity(batch.len());
        let (mut points, mut places) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for index in 0..batch.len() {
            match NewPoint::of(batch, index, context) {
                Ok(point) => {
                    points.push(point);
                    places.push(index);
                    statuses.push(WriteStatus::Applied);
                }
                Err(error) => statuses.push(WriteStatus::Rejected(error)),
            }
        }
        let results = self.client.write(&self.destination, &points).await?;
        for (index, result) in places.into_iter().zip(results) {
            if let Err(error) = result {
                statuses[index] = WriteStatus::Rejected(error);
            }
        }
        Ok(WriteReport::new(statuses))
    }

    async fn replace(&self, sets: &[ReplaceSet], _: &Context) -> Result<u64> {
        self.client.replace(&self.destination.name, sets).await
    }
}
