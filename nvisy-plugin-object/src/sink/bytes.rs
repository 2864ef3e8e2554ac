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

use super::owners::Owners;
use super::{MAX_NUMBERS, OnExisting, TWICE, all_taken, name};
use crate::client::ObjectClient;
use crate::compression::Compression;
use crate::error::{from_io, from_join};
use crate::task::blocking;
use crate::temporaries::Temporaries;
use crate::upload::taken;

/// Writes objects as they are, one each.
///
/// Writing an object again replaces it. Where nothing may be replaced, one that is there already
/// with the very same bytes, as after a crash, is left as it is and counts as written. An object
/// is durable when it is written. What cannot be written fails alone.
///
/// With `{id}` in the path every object has a name of its own, and is there once however often
/// it is written. Without it two of a run may have the same name: the second is rejected with
/// `conflict`, and nothing of the first is lost. The names of a run are remembered for that, at
/// most 4,194,304 of them at 16 bytes each; a run that goes on after it was stopped knows those no
/// more that it had written before. Copies of one item have its id: where two nodes write them, put
/// `{node}` in the path, too.
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
        guarantee(&self.path, self.on_existing)
    }

    fn replayed(&self) -> Option<String> {
        replayed(&self.path, self.on_existing)
    }

    fn validate(&self) -> Vec<Problem> {
        name::problems(&self.path, name::ITEM)
    }

    async fn open(&self, context: &OpenContext<ObjectClient>) -> Result<WholeFiles> {
        WholeFiles::open(&self.path, self.on_existing, false, context).await
    }
}

/// An item is there once, in every run, where its name holds its id and nothing of the run.
pub(super) fn guarantee(path: &str, on_existing: Option<OnExisting>) -> Guarantee {
    let replaces = on_existing.unwrap_or(OnExisting::Replace) == OnExisting::Replace;
    if replaces && name::has(path, &["id"]) && !name::has(path, &["run", "date"]) {
        Guarantee::Upsert
    } else {
        Guarantee::Append
    }
}

/// Returns what becomes of items that a later run writes again, where their names are not their ids.
pub(super) fn replayed(path: &str, on_existing: Option<OnExisting>) -> Option<String> {
    let again = if name::has(path, &["date"]) { "on one day, " } else { "" };
    Some(match on_existing.unwrap_or(OnExisting::Replace) {
        _ if name::has(path, &["run"]) => TWICE.to_owned(),
        OnExisting::Number => {
            "what is replayed is there once while its bytes are the same, and else in a file of its own"
                .to_owned()
        }
        OnExisting::Fail => format!(
            "{again}what is replayed finds its name taken: the same bytes count as written, others are rejected"
        ),
        OnExisting::Replace if guarantee(path, on_existing) == Guarantee::Upsert => return None,
        OnExisting::Replace if name::has(path, &["id"]) => {
            format!("{again}what is replayed replaces its file")
        }
        OnExisting::Replace => format!(
            "{again}what is replayed replaces the file of its name; of two items with one name the second is rejected"
        ),
    })
}

/// An open sink of whole objects: one file an item.
pub struct WholeFiles {
    client: Arc<ObjectClient>,
    path: String,
    temporaries: Arc<Temporaries>,
    on_existing: OnExisting,
    compress: bool,
    node: Arc<str>,
    /// Whose the names are, where two items might have the same.
    owners: Option<Arc<Owners>>,
}

impl WholeFiles {
    pub(super) async fn open(
        path: &str,
        on_existing: Option<OnExisting>,
        compress: bool,
        context: &OpenContext<ObjectClient>,
    ) -> Result<Self> {
        let temporaries = Arc::new(Temporaries::new(path, context.context()));
        let (client, owned) = (context.client().clone(), temporaries.clone());
        let swept = blocking(move || client.sweep_abandoned(&owned));
        swept.await.map_err(|error| from_join(error, "write", path))?;
        let on_existing = on_existing.unwrap_or(OnExisting::Replace);
        // Where nothing is replaced the store itself says what is taken.
        let may_collide = on_existing == OnExisting::Replace && !name::has(path, &["id"]);
        let owners = may_collide.then(|| context.client().owners(context.context().run()));
        Ok(Self {
            client: context.client().clone(),
            path: name::expand(path, context.context()),
            temporaries,
            on_existing,
            compress,
            node: context.context().node().clone(),
            owners,
        })
    }

    fn name(&self, batch: &Batch, index: usize, payload: &Payload) -> Result<String> {
        let id = batch.id(index);
        let mut key = None;
        if name::has(&self.path, &["key", "stem"]) {
            key = match payload {
                Payload::Object(object) => Some(object.key.clone()),
                _ => batch.lineage(index).root().and_then(|root| match root.position {
                    Position::Marker { object, .. } => Some(object.to_string()),
                    _ => None,
                }),
            };
            if key.is_none() {
                let message = "the item comes from no object, so that there is no {key}: name it by {id}";
                return Err(Error::new(ErrorKind::Validation, message));
            }
        }
        Ok(name::fill(&self.path, |placeholder| match (placeholder, &key) {
            ("id", _) => Some(id.to_string()),
            ("key", Some(key)) => Some(key.clone()),
            ("stem", Some(key)) => Some(name::stem(key).to_owned()),
            _ => None,
        }))
    }

    /// Writes an object, unless it is there just so and may not be replaced.
    fn put(
        (client, temporaries): (&ObjectClient, &Temporaries),
        key: &str,
        on_existing: OnExisting,
        compress: bool,
        payload: &Payload,
    ) -> Result<WriteStatus> {
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
        let compression = if compress { Compression::of(key) } else { Compression::None };
        let bytes = compression.compress(bytes).map_err(|error| from_io(error, "write", key))?;
        let create = |name: &str, replace| {
            let mut upload = client.create(name, temporaries)?;
            upload.write_all(&bytes).map_err(|error| from_io(error, "write", name))?;
            upload.publish(replace).map_err(|(_, error)| error)
        };
        if on_existing == OnExisting::Replace {
            return create(key, true).map(|()| WriteStatus::Applied);
        }
        let (mut name, mut number) = (key.to_owned(), 0);
        for _ in 0..MAX_NUMBERS {
            match client.holds(&name, &bytes)? {
                // As after a crash: what was written and not acknowledged comes again.
                Some(true) => return Ok(WriteStatus::AlreadyApplied),
                Some(false) if on_existing == OnExisting::Fail => return Err(taken(&name)),
                Some(false) => {
                    number += 1;
                    name = name::numbered(key, number);
                }
                None => match create(&name, false) {
                    Ok(()) => return Ok(WriteStatus::Applied),
                    // Somebody was faster: it is looked at again.
                    Err(error) if error.kind() == ErrorKind::Conflict => {}
                    Err(error) => return Err(error),
                },
            }
        }
        Err(all_taken(key))
    }
}

impl Sink for WholeFiles {
    async fn write(&self, batch: &Batch, _: &Context) -> Result<WriteReport> {
        let mut statuses = Vec::with_capacity(batch.len());
        for index in 0..batch.len() {
            let payload = batch.payload(index);
            let written = match self.name(batch, index, &payload) {
                Ok(key) => {
                    let (client, temporaries) = (self.client.clone(), self.temporaries.clone());
                    let (on_existing, compress, name) = (self.on_existing, self.compress, key.clone());
                    let (owners, node, id) = (self.owners.clone(), self.node.clone(), batch.id(index));
                    let put = blocking(move || {
                        if let Some(owners) = owners {
                            owners.claim_item(&key, &client.real(&key)?, &node, id)?;
                        }
                        Self::put((&client, &temporaries), &key, on_existing, compress, &payload)
                    });
                    put.await.map_err(|error| from_join(error, "write", &name))?
                }
                Err(error) => Err(error),
            };
            statuses.push(match written {
                Ok(status) => status,
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
