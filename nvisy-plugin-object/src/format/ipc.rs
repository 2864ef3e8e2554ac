//! Arrow IPC: files and streams.

mod claims;

use std::io::{BufReader, Seek, SeekFrom};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use futures::Stream;
use nvisy_core::config::Problem;
use nvisy_core::primitive::row::Row;
use nvisy_core::{
    OpenContext, Partition, Position, ReadContext, Result, Source, SourceBatch, SourceIdentity,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::{Content, ObjectClient};
use crate::error::{broken, from_io};
use crate::names::{renamed, unique_in};
use crate::partition::{partitions, row_limit};
use crate::selection::selects;
use crate::stream;
use crate::version::versions;

/// Reads Arrow IPC, also called Feather version 2: files and streams, as rows.
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
/// let flights = nvisy_plugin_object::Ipc::path("flights.arrow");
/// # let _ = flights;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ipc {
    /// The one object to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What the keys of the objects to read begin with. Default nothing: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Which objects below the prefix's directory to read, as `**/*.arrow`. Default those that
    /// end in `.arrow`, `.arrows`, `.ipc` or `.feather`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// Whether the object, or the directory of the prefix, may be missing: there is nothing to read
    /// then. Default no: it is an error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_missing: bool,
}

selects!(Ipc, &[".arrow", ".arrows", ".ipc", ".feather"], uncompressed);

impl Source for Ipc {
    const NAME: &'static str = "object/ipc";
    type Output = Row;
    type Client = ObjectClient;

    fn identity(&self, client: &ObjectClient) -> SourceIdentity {
        client.identity().clone()
    }

    fn validate(&self) -> Vec<Problem> {
        self.selection_problems()
    }

    async fn partitions(&self, context: &OpenContext<ObjectClient>) -> Result<Vec<Partition>> {
        partitions(context, &self.selection()).await
    }

    versions!();

    fn read(
        &self,
        partition: &Partition,
        after: Option<Position>,
        context: &ReadContext<ObjectClient>,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        let most = row_limit(context.limits());
        stream::read(partition.id.clone(), after, context.clone(), move |key, content, skip| {
            let (batches, key) = (open(key, content)?, key.to_owned());
            Ok(Box::new(Pieces { batches, most, skip, left: skip, key, current: None }))
        })
    }
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

fn open(key: &str, mut content: Content) -> Result<Batches> {
    let mut magic = [0; 6];
    let read = std::io::Read::read(&mut content, &mut magic).map_err(|error| from_io(error, "read", key))?;
    if read == 0 {
        return Ok(Box::new(std::iter::empty()));
    }
    let is_file = &magic == b"ARROW1";
    claims::check(&mut content, is_file).map_err(|error| from_io(error, "read", key))?;
    content.seek(SeekFrom::Start(0)).map_err(|error| from_io(error, "read", key))?;
    let failed = |error: ArrowError| broken(key, "it is no whole Arrow IPC file").with_source(error);
    let name = key.to_owned();
    let whole = move |rows: Result<RecordBatch, ArrowError>, names: &[String]| {
        let rows = rows.and_then(|rows| renamed(rows, names));
        rows.map_err(|error| broken(&name, "it is damaged").with_source(error))
    };
    let input = BufReader::with_capacity(1 << 18, content);
    if is_file {
        let reader = FileReader::try_new(input, None).map_err(failed)?;
        let names = unique_in(&reader.schema());
        Ok(Box::new(reader.map(move |rows| whole(rows, &names))))
    } else {
        let reader = StreamReader::try_new(input, None).map_err(failed)?;
        let names = unique_in(&reader.schema());
        Ok(Box::new(reader.map(move |rows| whole(rows, &names))))
    }
}

/// Batches cut to size, from a row on.
struct Pieces {
    batches: Batches,
    most: usize,
    skip: u64,
    /// How many of those that are to be skipped are still to come.
    left: u64,
    key: String,
    current: Option<RecordBatch>,
}

impl Iterator for Pieces {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(batch) = self.current.take() else {
                let batch = match self.batches.next() {
                    Some(Ok(batch)) => batch,
                    Some(Err(error)) => return Some(Err(error)),
                    None if std::mem::take(&mut self.left) > 0 => {
                        return Some(Err(stream::replaced(&self.key, self.skip)));
                    }
                    None => return None,
                };
                let gone = usize::try_from(self.left).unwrap_or(usize::MAX).min(batch.num_rows());
                self.left -= gone as u64;
                self.current = Some(batch.slice(gone, batch.num_rows() - gone));
                continue;
            };
            if batch.num_rows() == 0 {
                continue;
            }
            let len = batch.num_rows().min(self.most);
            self.current = Some(batch.slice(len, batch.num_rows() - len));
            return Some(Ok(batch.slice(0, len)));
        }
    }
}
