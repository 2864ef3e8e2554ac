//! The one client of the family: lists objects, opens them, and creates new ones.

mod writing;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::TryStreamExt;
use nvisy_core::observability::Meter;
use nvisy_core::{Client, Error, ErrorKind, Result, RunId, SourceIdentity};
use object_store::path::Path as StorePath;
use object_store::{GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::runtime::Handle;

use crate::error::{from_io, from_join, from_store, outside};
#[cfg(feature = "local")]
use crate::root::{Found, Root};
use crate::root::{is_temporary, relative};
use crate::selection::{Bounds, Selection};
use crate::sink::owners::Owners;
use crate::task::blocking;
use crate::version::nanos;

/// What every node of this plugin works through, whatever the store and whatever the format.
///
/// Made by connecting [`Local`](crate::Local) or [`Memory`](crate::Memory).
pub struct ObjectClient {
    store: Arc<dyn ObjectStore>,
    identity: SourceIdentity,
    #[cfg(feature = "local")]
    root: Option<Root>,
    /// Schemas that were inferred, by what was asked: once a run, not once an object.
    schemas: Mutex<HashMap<String, Arc<tokio::sync::OnceCell<SchemaRef>>>>,
    /// What sinks write to, in each run.
    owners: Mutex<HashMap<Option<RunId>, Arc<Owners>>>,
}

impl Client for ObjectClient {
    const FAMILY: &'static str = "object";
}

/// A file or directory that a listing has met and that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PassedBy {
    pub(crate) key: String,
    /// Whether it is known to be a file, and to hold no others.
    pub(crate) is_file: bool,
    pub(crate) why: &'static str,
}

/// An object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) size: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub(crate) modified: i128,
}

impl Entry {
    fn of(key: String, meta: &ObjectMeta) -> Self {
        Self { key, size: meta.size, modified: nanos(meta.last_modified.into()) }
    }
}

/// An open object.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) meta: ObjectMeta,
    pub(crate) content: Content,
}

/// The bytes of an open object: read from the beginning, or at any place.
#[derive(Debug)]
pub(crate) enum Content {
    File(File),
    Bytes(Cursor<Bytes>),
}

/// What became of an object that was to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Showing {
    Done,
    /// Somebody else has the name.
    Taken,
    /// It is not kept any more: it was shown before, or is lost.
    Gone,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Bytes(bytes) => bytes.read(buffer),
        }
    }

    fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read_to_end(buffer),
            Self::Bytes(bytes) => bytes.read_to_end(buffer),
        }
    }
}

impl Seek for Content {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Bytes(bytes) => bytes.seek(to),
        }
    }
}

impl ObjectClient {
    /// A client of a store without a directory behind it.
    pub(crate) fn of_store(store: Arc<dyn ObjectStore>, identity: SourceIdentity) -> Self {
        Self {
            store,
            identity,
            #[cfg(feature = "local")]
            root: None,
            schemas: Mutex::default(),
            owners: Mutex::default(),
        }
    }

    /// A client of a directory.
    #[cfg(feature = "local")]
    pub(crate) fn of_root(root: Root) -> Result<Self> {
        let name = root.path().display().to_string();
        let store = object_store::local::LocalFileSystem::new_with_prefix(root.path())
            .map_err(|error| from_store(error, "open the directory", &name))?;
        let identity = SourceIdentity::new(format!("file://{name}"));
        Ok(Self { root: Some(root), ..Self::of_store(Arc::new(store), identity) })
    }

    /// A client of a directory that is not there, and is not to be made: it is empty.
    #[cfg(feature = "local")]
    pub(crate) fn of_nothing(path: &std::path::Path) -> Result<Self> {
        let name = path.display().to_string();
        let path = crate::root::canonical(path).map_err(|e| from_io(e, "open the directory", &name))?;
        let identity = SourceIdentity::new(format!("file://{}", path.display()));
        Ok(Self::of_store(Arc::new(object_store::memory::InMemory::new()), identity))
    }

    /// Returns what names the store, apart from every node and graph.
    #[must_use]
    pub fn identity(&self) -> &SourceIdentity {
        &self.identity
    }

    /// Returns what the sinks of a run write to: in a directory, through whatever connection they do.
    pub(crate) fn owners(&self, run: Option<RunId>) -> Arc<Owners> {
        #[cfg(feature = "local")]
        let shared = run.filter(|_| self.root().is_some());
        #[cfg(not(feature = "local"))]
        let shared = None;
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        owners.entry(run).or_insert_with(|| shared.map_or_else(Arc::default, Owners::of_run)).clone()
    }

    /// Returns what tells the object at `key` from all others, whatever the name and the connection
    /// that lead to it. Blocks.
    pub(crate) fn real(&self, key: &str) -> Result<PathBuf> {
        #[cfg(feature = "local")]
        if let Some(root) = self.root() {
            return root.real(key);
        }
        relative(key)
    }

    /// Returns the address of an object, for people.
    pub(crate) fn uri(&self, key: &str) -> String {
        format!("{}/{key}", self.identity.name().trim_end_matches('/'))
    }

    #[cfg(feature = "local")]
    fn root(&self) -> Option<&Root> {
        self.root.as_ref()
    }

    /// Checks that the store is still there.
    pub(crate) async fn verify(&self) -> Result<()> {
        #[cfg(feature = "local")]
        if let Some(root) = self.root() {
            let root = root.clone();
            return blocking(move || Root::open(root.path()).map(|_| ()))
                .await
                .map_err(|e| from_join(e, "open", "."))?;
        }
        Ok(())
    }

    /// Lists what a selection selects, in the order of the keys. What it would select and cannot be
    /// read, `meter` is warned of.
    pub(crate) async fn list(&self, selection: &Selection, meter: &dyn Meter) -> Result<Vec<Entry>> {
        if let Some(key) = selection.exact() {
            return match self.head(key).await {
                Err(error) if error.kind() == ErrorKind::NotFound && selection.allows_missing() => {
                    Ok(Vec::new())
                }
                meta => Ok(vec![Entry::of(key.to_owned(), &meta?)]),
            };
        }
        let prefix = selection.prefix();
        let Some((mut entries, mut passed_by)) = self.list_all(prefix.to_owned(), selection.bounds()).await?
        else {
            if selection.allows_missing() {
                return Ok(Vec::new());
            }
            let (directory, _) = prefix.rsplit_once('/').unwrap_or_default();
            let message = format!(
                "there is no directory \"{directory}\" in \"{}\": check the prefix, or say `allow_missing` where it may be \
                 missing",
                self.identity.name()
            );
            return Err(Error::new(ErrorKind::NotFound, message));
        };
        entries.retain(|entry| selection.selects(&entry.key));
        // What may be a directory may hold what is selected.
        passed_by.retain(|other| !other.is_file || selection.selects(&other.key));
        passed_by.iter().for_each(|other| meter.unlisted(&other.key));
        passed_by.sort_by_key(|other| other.why);
        for alike in passed_by.chunk_by(|one, other| one.why == other.why) {
            let PassedBy { key, why, .. } = &alike[0];
            let more = if alike.len() > 1 { format!(" and {} more", alike.len() - 1) } else { String::new() };
            meter.warn(&format!("passes by \"{key}\"{more}: {why}"));
        }
        Ok(entries)
    }

    /// Lists what begins with a prefix, and what cannot be read of it, and why; none if there is no
    /// directory of that name.
    async fn list_all(&self, prefix: String, bounds: &Bounds) -> Result<Option<(Vec<Entry>, Vec<PassedBy>)>> {
        #[cfg(not(feature = "local"))]
        let _ = bounds;
        #[cfg(feature = "local")]
        if let Some(root) = self.root() {
            let (root, name, bounds) = (root.clone(), prefix.clone(), bounds.clone());
            let found = blocking(move || root.list(&prefix, &bounds))
                .await
                .map_err(|e| from_join(e, "list", &name))??;
            let entry = |Found { key, size, modified }| Entry { key, size, modified };
            return Ok(found.map(|listed| (listed.found.into_iter().map(entry).collect(), listed.passed_by)));
        }
        relative(&prefix)?;
        // A store lists by whole parts of a path; the rest of the prefix is compared here.
        let directory = prefix.rsplit_once('/').map(|(directory, _)| StorePath::from(directory));
        let listed: Vec<ObjectMeta> = self
            .store
            .list(directory.as_ref())
            .try_collect()
            .await
            .map_err(|error| from_store(error, "list", &prefix))?;
        // A directory is there with what is in it.
        if directory.is_some() && listed.is_empty() {
            return Ok(None);
        }
        let mut entries: Vec<Entry> = listed
            .into_iter()
            .map(|meta| Entry::of(meta.location.to_string(), &meta))
            .filter(|entry| entry.key.starts_with(&prefix) && !is_temporary(file_name(&entry.key)))
            .collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Some((entries, Vec::new())))
    }

    /// Returns where the store keeps an object: for a directory without symlinks on the way.
    async fn locate(&self, key: &str) -> Result<StorePath> {
        #[cfg(feature = "local")]
        if let Some(root) = self.root() {
            let (root, name) = (root.clone(), key.to_owned());
            let path = blocking(move || {
                let path = root.resolve(&name)?;
                if !path.is_file() {
                    let message = format!("cannot read \"{name}\": it is no file");
                    return Err(Error::new(ErrorKind::NotFound, message));
                }
                Ok::<_, Error>(path.strip_prefix(root.path()).map(PathBuf::from).unwrap_or_default())
            });
            let path = path.await.map_err(|error| from_join(error, "open", key))??;
            if path.to_str().is_some_and(is_reserved) {
                let message = format!(
                    "cannot read \"{key}\": names that end in `#` and digits are reserved: rename it"
                );
                return Err(Error::new(ErrorKind::Configuration, message));
            }
            let parts: Option<Vec<&str>> = path.iter().map(|part| part.to_str()).collect();
            let joined = parts.ok_or_else(|| outside(key))?.join("/");
            return StorePath::parse(joined).map_err(|error| from_store(error.into(), "read", key));
        }
        relative(key)?;
        StorePath::parse(key).map_err(|error| from_store(error.into(), "read", key))
    }

    /// Returns what is known about an object.
    pub(crate) async fn head(&self, key: &str) -> Result<ObjectMeta> {
        let path = self.locate(key).await?;
        self.store.head(&path).await.map_err(|error| from_store(error, "read", key))
    }

    /// Opens an object.
    pub(crate) async fn open(&self, key: &str) -> Result<Opened> {
        let path = self.locate(key).await?;
        let got = self.store.get(&path).await.map_err(|error| from_store(error, "read", key))?;
        let meta = got.meta.clone();
        let content = match got.payload {
            #[cfg(feature = "local")]
            GetResultPayload::File(file, _) => Content::File(file),
            _ => {
                let bytes = got.bytes().await.map_err(|error| from_store(error, "read", key))?;
                Content::Bytes(Cursor::new(bytes))
            }
        };
        Ok(Opened { meta, content })
    }

    /// Returns the bytes of an object, to be read. Blocks, like [`create`](Self::create).
    pub(crate) fn content(&self, key: &str) -> Result<Content> {
        #[cfg(feature = "local")]
        if let Some(root) = self.root() {
            let opened = File::open(root.resolve(key)?).map_err(|error| from_io(error, "read", key));
            return opened.map(Content::File);
        }
        let gone = || Error::new(ErrorKind::NotFound, format!("cannot read \"{key}\": it does not exist"));
        self.fetch(key)?.map(|bytes| Content::Bytes(Cursor::new(bytes))).ok_or_else(gone)
    }

    /// Returns the bytes at a key of a store that is no directory.
    fn fetch(&self, key: &str) -> Result<Option<Bytes>> {
        let path = self.path(key)?;
        let got = async { self.store.get(&path).await?.bytes().await };
        match Handle::current().block_on(got) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(from_store(error, "read", key)),
        }
    }

    fn path(&self, key: &str) -> Result<StorePath> {
        relative(key)?;
        StorePath::parse(key).map_err(|error| from_store(error.into(), "write", key))
    }

    /// Returns the schema that was inferred for `question`, or infers it: once, however many
    /// partitions ask.
    pub(crate) async fn schema<F>(&self, question: String, infer: F) -> Result<SchemaRef>
    where
        F: Future<Output = Result<SchemaRef>>,
    {
        let cell = {
            let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
            schemas.entry(question).or_default().clone()
        };
        cell.get_or_try_init(|| infer).await.cloned()
    }
}

/// Returns the last part of a key.
fn file_name(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(_, name)| name)
}

/// Returns whether `object_store` keeps a name for files that it is writing: digits are all that
/// follows its first `#`.
#[cfg(feature = "local")]
fn is_reserved(path: &str) -> bool {
    let digits = file_name(path).split_once('#').map_or("", |(_, digits)| digits);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Debug for ObjectClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectClient").field("identity", &self.identity).finish_non_exhaustive()
    }
}
