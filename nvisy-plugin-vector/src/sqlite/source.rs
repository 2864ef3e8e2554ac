//! The embeddings of a collection, page by page.

use std::sync::Arc;

use futures::Stream;
use nvisy_core::Payload;
use nvisy_core::config::Problem;
use nvisy_core::prelude::*;
use nvisy_core::primitive::embedding::Embedding;
use nvisy_core::primitive::raw::Raw;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::SqliteClient;
use crate::filter::Filter;
use crate::point::StoredPoint;

/// Reads the embeddings of a collection: `vector/sqlite`.
///
/// They come as they were written, under the ids that they were written with, in the order of
/// these: a copy in another store is a graph of two nodes, and traces back as the first does.
///
/// # Examples
///
/// ```
/// use nvisy_plugin_vector::{Filter, SqliteSource};
///
/// let english = SqliteSource::collection("docs").filter(Filter::eq("language", "en"));
/// # let _ = english;
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "VectorSqliteSource")]
#[serde(deny_unknown_fields)]
pub struct SqliteSource {
    /// The collection.
    pub collection: String,
    /// Which embeddings to read. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
}

impl SqliteSource {
    /// Reads a collection.
    #[must_use]
    pub fn collection(collection: impl Into<String>) -> Self {
        Self { collection: collection.into(), filter: None }
    }

    /// Reads only what a filter holds for.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }
}

impl Source for SqliteSource {
    const NAME: &'static str = "vector/sqlite";
    type Output = Embedding;
    type Client = SqliteClient;

    fn identity(&self, client: &SqliteClient) -> SourceIdentity {
        SourceIdentity::new(format!("sqlite:{}#{}", client.database.identity(), self.collection))
    }

    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.collection.is_empty() {
            problems.push(Problem::new("collection", "is empty"));
        }
        problems.extend(self.filter.iter().flat_map(|filter| filter.validate("filter")));
        problems
    }

    async fn partitions(&self, context: &OpenContext<SqliteClient>) -> Result<Vec<Partition>> {
        let count = context.client().count(&self.collection).await?;
        let whole = Partition::whole();
        Ok(vec![if self.filter.is_none() { whole.with_items(count) } else { whole }])
    }

    fn read(
        &self,
        _: &Partition,
        after: Option<Position>,
        context: &ReadContext<SqliteClient>,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        let (source, context) = (self.clone(), context.clone());
        async_stream::try_stream! {
            let client = context.client();
            let collection = client.existing(&source.collection).await?;
            let mut after = match after {
                None => None,
                Some(Position::Token(id)) => Some(id),
                Some(other) => Err(Error::configuration(format!("position \"{other}\" is no id of an embedding")))?,
            };
            let (items, bytes) = (context.limits().items.max(1), context.limits().bytes);
            loop {
                let page = client.scroll(&collection, source.filter.as_ref(), after.as_deref(), items, bytes);
                let (page, is_last) = page.await?;
                let mut points = Vec::with_capacity(page.len());
                let mut rejected = Vec::new();
                for read in page {
                    let id: Arc<str> = match read {
                        Ok((point, payload)) => {
                            let id = point.id.to_string().into();
                            points.push((point, payload));
                            id
                        }
                        Err((id, error)) => {
                            let id: Arc<str> = id.into();
                            let raw = Raw::Json(serde_json::json!({ "id": &*id }));
                            rejected.push(context.reject(raw, Position::Token(id.clone()), error)?);
                            id
                        }
                    };
                    after = Some(id);
                }
                let Some(last) = after.clone().filter(|_| !points.is_empty() || !rejected.is_empty()) else { break };
                yield batch(&context, points, Position::Token(last))?.with_rejected(rejected);
                if is_last {
                    break;
                }
            }
        }
    }
}

/// Makes a batch of points, each under its own id and with what users said about it.
fn batch(
    context: &ReadContext<SqliteClient>,
    points: Vec<(StoredPoint, Payload)>,
    after: Position,
) -> Result<SourceBatch> {
    let (points, payloads): (Vec<_>, Vec<_>) = points.into_iter().unzip();
    let positions: Vec<Position> =
        points.iter().map(|point| Position::Token(point.id.to_string().into())).collect();
    let read = context.items(payloads, Positions::each(positions), after)?;
    let batch = read.batch.with_ids(points.iter().map(|point| point.id).collect())?;
    let items = batch.into_primitives().into_iter().zip(&points);
    let edited = items.map(|(item, point)| item.edit_metadata(|metadata| point.edit(metadata)));
    Ok(SourceBatch::new(Batch::from_primitives(edited.collect()), read.after))
}
