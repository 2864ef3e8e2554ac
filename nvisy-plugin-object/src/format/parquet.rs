//! Apache Parquet.

use std::io::{Read, Seek, SeekFrom};

use futures::Stream;
use nvisy_core::config::Problem;
use nvisy_core::primitive::row::Row;
use nvisy_core::{
    BatchLimits, OpenContext, Partition, Position, ReadContext, Result, Source, SourceBatch, SourceIdentity,
};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::{Content, ObjectClient};
use crate::error::{broken, from_join};
use crate::names::{renamed, unique_in};
use crate::partition::{partitions, row_limit};
use crate::selection::selects;
use crate::stream::{self, RowReader};
use crate::task::blocking;
use crate::version::versions;

/// Reads Parquet, as rows: column chunks straight into Arrow.
///
/// Every object has its own schema: what differs between objects arrives as it is. The
/// position of an item is the number of its row in its object. Of columns of one name the second
/// has its number behind it, as `total_3`. An object that is cut off or damaged fails, named.
///
/// Batches hold up to 1 MiB or 16,384 rows by default, more than 1,024. A limit below 1,024
/// items is kept to.
///
/// # Examples
///
/// ```
/// let sales = nvisy_plugin_object::Parquet::prefix("sales/").columns(["id", "total"]);
/// # let _ = sales;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parquet {
    /// The one object to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What the keys of the objects to read begin with. Default nothing: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Which objects below the prefix's directory to read, as `**/*.parquet`. Default those
    /// that end in `.parquet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// Whether the object, or the directory of the prefix, may be missing: there is nothing to read
    /// then. Default no: it is an error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_missing: bool,
    /// Which columns to read: the others are not fetched. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
}

selects!(Parquet, &[".parquet"], uncompressed);

impl Parquet {
    /// Reads these columns only.
    #[must_use]
    pub fn columns<N: Into<String>>(mut self, columns: impl IntoIterator<Item = N>) -> Self {
        self.columns = Some(columns.into_iter().map(Into::into).collect());
        self
    }
}

/// More objects than this are not opened to count their rows.
const MAX_COUNTED: usize = 64;

impl Source for Parquet {
    const NAME: &'static str = "object/parquet";
    type Output = Row;
    type Client = ObjectClient;

    fn identity(&self, client: &ObjectClient) -> SourceIdentity {
        client.identity().clone()
    }

    fn validate(&self) -> Vec<Problem> {
        let mut problems = self.selection_problems();
        if self.columns.as_ref().is_some_and(Vec::is_empty) {
            problems
                .push(Problem::new("columns", "there is no column").with_help("leave `columns` out for all"));
        }
        problems
    }

    async fn partitions(&self, context: &OpenContext<ObjectClient>) -> Result<Vec<Partition>> {
        let mut partitions = partitions(context, &self.selection()).await?;
        // Most of them are not read in an incremental run.
        if partitions.len() <= MAX_COUNTED && context.context().generation().is_none() {
            for partition in &mut partitions {
                // An object that is broken fails where it is read.
                let Ok(opened) = context.client().open(&partition.id).await else { continue };
                let rows = blocking(move || {
                    let metadata = ArrowReaderMetadata::load(&opened.content, Default::default()).ok()?;
                    u64::try_from(metadata.metadata().file_metadata().num_rows()).ok()
                });
                partition.items = rows.await.map_err(|error| from_join(error, "read", &partition.id))?;
            }
        }
        Ok(partitions)
    }

    versions!();

    fn read(
        &self,
        partition: &Partition,
        after: Option<Position>,
        context: &ReadContext<ObjectClient>,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        let columns = self.columns.clone();
        let limits = context.limits();
        stream::read(partition.id.clone(), after, context.clone(), move |key, content, skip| {
            open(key, content, skip, columns.as_deref(), limits)
        })
    }
}

fn open(
    key: &str,
    content: Content,
    skip: u64,
    columns: Option<&[String]>,
    limits: BatchLimits,
) -> Result<Box<dyn RowReader>> {
    let failed = |error: ParquetError| broken(key, "it is no whole Parquet file").with_source(error);
    let mut builder = ParquetRecordBatchReaderBuilder::try_new(content).map_err(failed)?;
    let mut names = unique_in(builder.schema());
    if let Some(columns) = columns {
        if let Some(missing) = columns.iter().find(|name| !names.contains(name)) {
            return Err(broken(key, format_args!("it has no column `{missing}`")));
        }
        let wanted = names.iter().enumerate().filter(|(_, name)| columns.contains(name));
        let mask =
            ProjectionMask::roots(builder.parquet_schema(), wanted.map(|(at, _)| at).collect::<Vec<_>>());
        builder = builder.with_projection(mask);
        names.retain(|name| columns.contains(name));
    }
    // No more is decoded at once than a batch may hold, as far as the sizes in the file tell.
    let groups = builder.metadata().row_groups();
    let bytes = groups
        .iter()
        .fold(0, |sum: u64, group| sum.saturating_add(u64::try_from(group.total_byte_size()).unwrap_or(0)));
    let rows = groups
        .iter()
        .try_fold(0, |sum: i64, group| sum.checked_add(group.num_rows()).filter(|_| group.num_rows() >= 0));
    let count = rows.and_then(|rows| u64::try_from(rows).ok());
    let count = count.ok_or_else(|| broken(key, "its footer claims a number of rows that cannot be"))?;
    if skip > count {
        return Err(stream::replaced(key, skip));
    }
    let fit = (limits.bytes as u64).saturating_mul(count) / bytes.max(1);
    let rows = row_limit(limits).min(usize::try_from(fit).unwrap_or(usize::MAX).max(1));
    let skip = usize::try_from(skip).unwrap_or(usize::MAX);
    let reader = builder.with_batch_size(rows).with_offset(skip).build().map_err(failed)?;
    let key = key.to_owned();
    Ok(Box::new(reader.map(move |rows| {
        let rows = rows.and_then(|rows| renamed(rows, &names));
        rows.map_err(|error| broken(&key, "it is damaged").with_source(error))
    })))
}

impl Length for Content {
    fn len(&self) -> u64 {
        match self {
            Self::File(file) => file.metadata().map_or(0, |metadata| metadata.len()),
            Self::Bytes(bytes) => bytes.get_ref().len() as u64,
        }
    }
}

impl ChunkReader for Content {
    type T = Box<dyn Read>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        match self {
            Self::File(file) => {
                let mut file = file.try_clone()?;
                file.seek(SeekFrom::Start(start))?;
                Ok(Box::new(std::io::BufReader::new(file)))
            }
            Self::Bytes(bytes) => {
                let mut bytes = bytes.clone();
                bytes.set_position(start);
                Ok(Box::new(bytes))
            }
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<bytes::Bytes> {
        match self {
            Self::File(file) => file.get_bytes(start, length),
            Self::Bytes(bytes) => bytes.get_ref().get_bytes(start, length),
        }
    }
}
