//! Whole objects, whatever they hold.

use std::io::Read;

use futures::Stream;
use nvisy_core::config::Problem;
use nvisy_core::primitive::object::{Object, ObjectFields};
use nvisy_core::primitive::raw::Raw;
use nvisy_core::{
    Error, ErrorKind, OpenContext, Partition, Position, Positions, ReadContext, Result, Source, SourceBatch,
    SourceIdentity,
};
use object_store::ObjectMeta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::ObjectClient;
use crate::compression::Compression;
use crate::error::{broken, from_io, from_join};
use crate::partition::{offset_of, partitions};
use crate::selection::selects;
use crate::task::blocking;
use crate::version::versions;

/// How large a whole object may be, unless a source says otherwise.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// Reads whole objects as they are: key, bytes, size, MIME type, tag and time.
///
/// Nothing is decompressed. An object that is larger than the limit is rejected.
///
/// # Examples
///
/// ```
/// let scans = nvisy_plugin_object::Bytes::prefix("scans/").glob("**/*.{png,pdf}");
/// # let _ = scans;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bytes {
    /// The one object to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What the keys of the objects to read begin with. Default nothing: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Which objects below the prefix's directory to read, as `**/*.png`. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// Whether the object, or the directory of the prefix, may be missing: there is nothing to read
    /// then. Default no: it is an error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_missing: bool,
    /// How many bytes an object may have. Default 64 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
}

selects!(Bytes, &[]);

impl Bytes {
    /// Sets how many bytes an object may have.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = Some(bytes);
        self
    }
}

impl Source for Bytes {
    const NAME: &'static str = "object/bytes";
    type Output = Object;
    type Client = ObjectClient;

    fn identity(&self, client: &ObjectClient) -> SourceIdentity {
        client.identity().clone()
    }

    fn validate(&self) -> Vec<Problem> {
        self.selection_problems()
    }

    async fn partitions(&self, context: &OpenContext<ObjectClient>) -> Result<Vec<Partition>> {
        let partitions = partitions(context, &self.selection()).await?;
        Ok(partitions.into_iter().map(|partition| partition.with_items(1)).collect())
    }

    versions!();

    fn read(
        &self,
        partition: &Partition,
        after: Option<Position>,
        context: &ReadContext<ObjectClient>,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        let (key, context) = (partition.id.clone(), context.clone());
        let most = self.max_bytes.unwrap_or(MAX_BYTES);
        async_stream::try_stream! {
            if offset_of(after, &key)?.is_none() {
                let at = Position::Marker { object: key.clone(), offset: 0 };
                match whole(context.client(), &key, most, false).await? {
                    Ok(Whole { meta, bytes }) => {
                        let fields = ObjectFields {
                            key: key.to_string(),
                            size: bytes.len() as u64,
                            bytes: Some(bytes),
                            mime_type: mime_type(&key).map(str::to_owned),
                            etag: meta.e_tag,
                            last_modified: Some(meta.last_modified),
                        };
                        yield context.items([Object::try_from(fields)?], Positions::each([at.clone()]), at)?;
                    }
                    Err(error) => {
                        let rejected = context.reject(Raw::Json(key.as_ref().into()), at.clone(), error)?;
                        let none: [Object; 0] = [];
                        yield context.items(none, Positions::each([]), at)?.with_rejected(vec![rejected]);
                    }
                }
            }
        }
    }
}

/// An object in full.
pub(crate) struct Whole {
    pub(crate) meta: ObjectMeta,
    pub(crate) bytes: bytes::Bytes,
}

/// Reads an object in full. The inner error says that it is larger than `most` bytes.
pub(crate) async fn whole(
    client: &ObjectClient,
    key: &str,
    most: usize,
    decompress: bool,
) -> Result<Result<Whole, Error>> {
    let opened = client.open(key).await?;
    let (name, meta) = (key.to_owned(), opened.meta);
    let compression = if decompress { Compression::of(key) } else { Compression::None };
    let expected = usize::try_from(meta.size).unwrap_or(usize::MAX).min(most);
    let bytes = blocking(move || {
        let damaged = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::Other => broken(&name, "it is damaged").with_source(error),
            _ => from_io(error, "read", &name),
        };
        let mut bytes = Vec::with_capacity(expected.saturating_add(1));
        let reader = compression.reader(opened.content).map_err(damaged)?;
        reader.take(most as u64 + 1).read_to_end(&mut bytes).map_err(damaged)?;
        Ok::<_, Error>(bytes)
    });
    let bytes = bytes.await.map_err(|error| from_join(error, "read", key))??;
    if bytes.len() > most {
        let message = format!("object \"{key}\" is larger than {most} bytes: raise `max_bytes`");
        return Ok(Err(Error::new(ErrorKind::Validation, message)));
    }
    Ok(Ok(Whole { meta, bytes: bytes.into() }))
}

/// Returns the MIME type that a name's suffix tells.
pub(crate) fn mime_type(key: &str) -> Option<&'static str> {
    let (_, suffix) = key.rsplit('/').next()?.rsplit_once('.')?;
    Some(match suffix.to_ascii_lowercase().as_str() {
        "md" | "markdown" | "mdx" => "text/markdown",
        "txt" | "text" | "log" => "text/plain",
        "rst" => "text/x-rst",
        "adoc" => "text/asciidoc",
        "org" => "text/org",
        "html" | "htm" => "text/html",
        "csv" => "text/csv",
        "tsv" => "text/tab-separated-values",
        "xml" => "application/xml",
        "json" => "application/json",
        "jsonl" | "ndjson" => "application/x-ndjson",
        "yaml" | "yml" => "application/yaml",
        "pdf" => "application/pdf",
        "parquet" => "application/vnd.apache.parquet",
        "arrow" => "application/vnd.apache.arrow.file",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        "wav" => "audio/wav",
        "mp3" => "audio/mpeg",
        "flac" => "audio/flac",
        "ogg" => "audio/ogg",
        "mp4" => "video/mp4",
        "gz" => "application/gzip",
        "zst" => "application/zstd",
        "zip" => "application/zip",
        _ => return None,
    })
}
