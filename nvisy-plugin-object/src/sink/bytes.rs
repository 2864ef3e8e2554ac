//! Whole objects out.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use nvisy_core::config::Problem;
use nvisy_core::primitive::object::Object;
use nvisy_core::{
    Batch, Context, Error, ErrorKind, Guarantee, OpenContext, Payload, Position, Result, RetryClass, Sink,
    SinkConfig, WriteReport, WriteStatus,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{OnExisting, name};
use crate::client::ObjectClient;
use crate::compression::Compression;
use crate::error::{from_io, from_join};
use crate::task::blocking;
use crate::upload::taken;

/// Writes objects as they are, one each.
///
/// Writing an object again replaces it: it is there once. It is durable when it is written.
/// What cannot be written fails alone.
///
/// # Examples
///
/// ```
/// let copies = nvisy_plugin_object::BytesSink::path("copies/{key}");
/// # let _ = copies;
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BytesSink {
    /// Where to write each object, relative to the root, with the placeholders `{key}` (its
    /// key), `{stem}` (the key without its suffix), `{id}`, `{run}`, `{date}`, `{node}` and
    /// `{graph}`. Default `{key}`.
    #[serde(default = "key")]
    pub path: String,
    /// What happens where the name is taken. Default `replace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_existing: Option<OnExisting>,
}

fn key() -> String {
    "{key}".to_owned()
}

impl BytesSink {
    /// Writes to `path`: see [`path`](Self#structfield.path).
    #[must_use]
    pub fn path(path: impl Into<String>) -> Self {
        Self { path: path.into(), on_existing: None }
    }

    /// Sets what happens where the name is taken.
    #[must_use]
    pub fn on_existing(mut self, on_existing: OnExisting) -> Self {
        self.on_existing = Some(on_existing);
        self
    }
}

impl SinkConfig for BytesSink {
    const NAME: &'static str = "object/bytes";
    type Input = Object;
    type Client = ObjectClient;
    type Sink = WholeFiles;

    fn guarantee(&self) -> Guarantee {
        guarantee(self.on_existing)
    }

    fn validate(&self) -> Vec<Problem> {
        name::problems(&self.path, name::ITEM)
    }

    async fn open(&self, context: &OpenContext<ObjectClient>) -> Result<WholeFiles> {
        Ok(WholeFiles::new(&self.path, self.on_existing, false, context))
    }
}

pub(super) fn guarantee(on_existing: Option<OnExisting>) -> Guarantee {
    match on_existing.unwrap_or(OnExisting::Replace) {
        OnExisting::Replace => Guarantee::Upsert,
        OnExisting::Fail | OnExisting::Number => Guarantee::Append,
    }
}

/// An open sink of whole objects: one file an item.
pub struct WholeFiles {
    client: Arc<ObjectClient>,
    path: String,
    on_existing: OnExisting,
    compress: bool,
}

impl WholeFiles {
    pub(super) fn new(
        path: &str,
        on_existing: Option<OnExisting>,
        compress: bool,
        context: &OpenContext<ObjectClient>,
    ) -> Self {
        Self {
            client: context.client().clone(),
            path: name::expand(path, context.context()),
            on_existing: on_existing.unwrap_or(OnExisting::Replace),
            compress,
        }
    }

    fn name(&self, batch: &Batch, index: usize, payload: &Payload) -> Result<String> {
        let mut path = self.path.replace("{id}", &batch.id(index).to_string());
        if path.contains("{key}") || path.contains("{stem}") {
            let key = match payload {
                Payload::Object(object) => Some(object.key.clone()),
                _ => batch.lineage(index).root().and_then(|root| match root.position {
                    Position::Marker { object, .. } => Some(object.to_string()),
                    _ => None,
                }),
            };
            let key = key.ok_or_else(|| {
                let message = "the item comes from no object, so that there is no {key}: name it by {id}";
                Error::new(ErrorKind::Validation, message)
            })?;
            path = path.replace("{stem}", name::stem(&key)).replace("{key}", &key);
        }
        Ok(path)
    }

    fn put(
        client: &ObjectClient,
        key: &str,
        on_existing: OnExisting,
        compress: bool,
        payload: &Payload,
    ) -> Result<()> {
        let bytes: &[u8] = match payload {
            Payload::Object(object) => object.bytes.as_deref().ok_or_else(|| {
                let message =
                    format!("the object \"{}\" is a handle without bytes: read it in full", object.key);
                Error::new(ErrorKind::Validation, message)
            })?,
            Payload::Document(document) => document.text.as_bytes(),
            other => {
                let message = format!("a {} is no whole object: put a `convert` in between", other.kind());
                return Err(Error::new(ErrorKind::Validation, message));
            }
        };
        if on_existing == OnExisting::Fail && client.exists(key)? {
            return Err(taken(key));
        }
        let compression = if compress { Compression::of(key) } else { Compression::None };
        let failed = |error| from_io(error, "write", key);
        let mut output = compression.writer(client.create(key)?).map_err(failed)?;
        output.write_all(bytes).map_err(failed)?;
        let mut upload = output.finish().map_err(failed)?;
        for part in 1.. {
            match upload.publish(on_existing == OnExisting::Replace) {
                Ok(()) => break,
                Err((Some(again), _)) if on_existing == OnExisting::Number => {
                    upload = again;
                    upload.rename(&name::part(key, part))?;
                }
                Err((_, error)) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Sink for WholeFiles {
    async fn write(&self, batch: &Batch, _: &Context) -> Result<WriteReport> {
        let mut statuses = Vec::with_capacity(batch.len());
        for index in 0..batch.len() {
            let payload = batch.payload(index);
            let written = match self.name(batch, index, &payload) {
                Ok(key) => {
                    let (client, on_existing, compress) =
                        (self.client.clone(), self.on_existing, self.compress);
                    let name = key.clone();
                    let put = blocking(move || Self::put(&client, &key, on_existing, compress, &payload));
                    put.await.map_err(|error| from_join(error, "write", &name))?
                }
                Err(error) => Err(error),
            };
            statuses.push(match written {
                Ok(()) => WriteStatus::Applied,
                Err(error) if error.retry_class() == RetryClass::Transient => WriteStatus::Retryable(error),
                Err(error) => WriteStatus::Rejected(error),
            });
        }
        Ok(WriteReport::new(statuses))
    }
}

impl fmt::Debug for WholeFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WholeFiles").field("path", &self.path).finish_non_exhaustive()
    }
}
