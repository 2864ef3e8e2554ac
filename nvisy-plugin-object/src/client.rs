//! The one client of the family: lists objects, opens them, and creates new ones.

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
use object_store::{GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::runtime::Handle;

use crate::error::{from_io, from_join, from_store, outside};
#[cfg(feature = "local")]
use crate::root::{Found, Root};
use crate::root::{is_temporary, relative};
use crate::selection::{Bounds, Selection};
use crate::sink::owners::Owners;
use crate::task::blocking;
use crate::temporaries::Temporaries;
use crate::upload::{Place, Upload, is_movable, is_same, remove_abandoned, show_file};
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

    /// Begins a new object, which shows under its name when it is published.
    ///
    /// Blocks: to be called where that is allowed.
    pub(crate) fn create(&self, key: &str, temporaries: &Temporaries) -> Result<Upload> {
        match self.place(key)? {
            Place::File(target) => {
                let directory = self.directory(temporaries.directory());
                Upload::file(key, target, directory, &temporaries.locked())
                    .map_err(|error| from_io(error, "write", key))
            }
            Place::Object(path) => Ok(Upload::store(key, self.store.clone(), path)),
        }
    }

    /// Returns a directory of this machine, if it is there.
    fn directory(&self, key: &str) -> Option<PathBuf> {
        #[cfg(feature = "local")]
        if let Some(root) = self.root() {
            return root.resolve(key).ok();
        }
        let _ = key;
        None
    }

    /// Gives a new object another name. Blocks, like [`create`](Self::create).
    pub(crate) fn rename(&self, upload: &mut Upload, key: &str) -> Result<()> {
        upload.rename(key, self.place(key)?);
        Ok(())
    }

    /// Returns where a new object is to be, and makes the directories on the way.
    fn place(&self, key: &str) -> Result<Place> {
        #[cfg(feature = "local")]
        if let Some(root) = self.root() {
            return root.prepare(key).map(Place::File);
        }
        self.path(key).map(Place::Object)
    }

    /// Returns whether there is an object at `key`. Blocks, like [`create`](Self::create).
    pub(crate) fn exists(&self, key: &str) -> Result<bool> {
        #[cfg(feature = "local")]
        if let Some(root) = self.root() {
            return match root.resolve(key) {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
                Err(error) => Err(error),
            };
        }
        let path = self.path(key)?;
        match Handle::current().block_on(self.store.head(&path)) {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(from_store(error, "write", key)),
        }
    }

    /// Returns whether the object at `key` holds just these bytes, if there is one. Blocks, like
    /// [`create`](Self::create).
    pub(crate) fn holds(&self, key: &str, bytes: &[u8]) -> Result<Option<bool>> {
        if !self.exists(key)? {
            return Ok(None);
        }
        #[cfg(feature = "local")]
        if let Some(root) = self.root() {
            let path = root.resolve(key)?;
            let same = || {
                let there = path.metadata()?;
                Ok(there.is_file()
                    && there.len() == bytes.len() as u64
                    && is_same(File::open(&path)?, bytes)?)
            };
            return same().map(Some).map_err(|error| from_io(error, "read", key));
        }
        Ok(self.fetch(key)?.map(|there| is_same(&there[..], bytes).unwrap_or(false)))
    }

    /// Begins a new object that is kept at `temporary` until it is [shown](Self::show) at `key`.
    /// Blocks, like [`create`](Self::create).
    pub(crate) fn create_kept(&self, key: &str, temporary: &str) -> Result<Upload> {
        let place = self.place(temporary)?;
        #[cfg(feature = "local")]
        if let Place::File(kept) = &place
            && !is_movable(kept, &self.real(key)?)
        {
            return Err(Error::configuration(format!(
                "\"{key}\" lies on another file system than \"{temporary}\", where it is kept until a checkpoint has it, and cannot be moved there: take a path without a link to that file system, or the directory there as the root of a connection"
            )));
        }
        let created = Upload::kept(key, place, &self.store);
        created.map_err(|error| from_io(error, "write", key))
    }

    /// Shows at `key` what is kept at `temporary`, if it still is: unless the name is taken, and it
    /// may not `replace`. Blocks, like [`create`](Self::create).
    pub(crate) fn show(&self, temporary: &str, key: &str, replace: bool) -> Result<Showing> {
        #[cfg(feature = "local")]
        if let Some(root) = self.root() {
            let kept = match root.resolve(temporary) {
                Ok(kept) => kept,
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Showing::Gone),
                Err(error) => return Err(error),
            };
            return match show_file(&kept, &root.prepare(key)?, replace) {
                Ok(()) => Ok(Showing::Done),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Showing::Taken),
                Err(error) => Err(from_io(error, "write", key)),
            };
        }
        let Some(kept) = self.fetch(temporary)? else { return Ok(Showing::Gone) };
        let path = self.path(key)?;
        let mode = if replace { PutMode::Overwrite } else { PutMode::Create };
        let put = self.store.put_opts(&path, kept.clone().into(), PutOptions::from(mode));
        match Handle::current().block_on(put) {
            Ok(_) => {}
            Err(object_store::Error::AlreadyExists { .. }) if self.fetch(key)? == Some(kept) => {}
            Err(object_store::Error::AlreadyExists { .. }) => return Ok(Showing::Taken),
            Err(error) => return Err(from_store(error, "write", key)),
        }
        self.remove(temporary)?;
        Ok(Showing::Done)
    }

    /// Returns how many bytes the object at `key` has, if there is one. Blocks, like
    /// [`create`](Self::create).
    pub(crate) fn size(&self, key: &str) -> Result<Option<u64>> {
        #[cfg(feature = "local")]
        if let Some(root) = self.root() {
            let found = root.resolve(key).and_then(|path| {
                path.metadata().map(|metadata| metadata.len()).map_err(|e| from_io(e, "read", key))
            });
            return match found {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
                found => found.map(Some),
            };
        }
        match Handle::current().block_on(self.store.head(&self.path(key)?)) {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(from_store(error, "read", key)),
        }
    }

    /// Removes the temporaries of a directory that `goes` names, by the keys of all. Blocks, like
    /// [`create`](Self::create).
    pub(crate) fn sweep(&self, directory: &str, goes: impl Fn(&str) -> bool) -> Result<()> {
        let keys = match self.temporaries(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            keys => keys?,
        };
        keys.iter().filter(|key| goes(key)).try_for_each(|key| self.remove(key))
    }

    /// Removes the temporaries of a sink that are of processes that are gone; what cannot be removed
    /// stays, and is logged. Blocks, like [`create`](Self::create).
    pub(crate) fn sweep_abandoned(&self, temporaries: &Temporaries) {
        #[cfg(feature = "local")]
        if let Some(root) = self.root() {
            let (directory, owned) = (temporaries.directory(), format!(".{}", temporaries.locked()));
            let swept = |key: &String| {
                remove_abandoned(&root.resolve(key)?).map_err(|error| from_io(error, "remove", key))
            };
            let failed: Vec<Error> = match self.temporaries(directory) {
                Ok(keys) => keys
                    .iter()
                    .filter(|key| key.contains(&owned))
                    .filter_map(|key| swept(key).err())
                    .collect(),
                Err(error) => vec![error],
            };
            // What is not there was published or removed meanwhile.
            for error in failed.iter().filter(|error| error.kind() != ErrorKind::NotFound) {
                tracing::warn!(directory, %error, "a file that a killed process may have left stays");
            }
        }
        #[cfg(not(feature = "local"))]
        let _ = temporaries;
    }

    fn temporaries(&self, directory: &str) -> Result<Vec<String>> {
        #[cfg(feature = "local")]
        if let Some(root) = self.root() {
            let inside = if directory.is_empty() { String::new() } else { format!("{directory}/") };
            let failed = |error| from_io(error, "list", directory);
            let mut keys = Vec::new();
            for entry in std::fs::read_dir(root.resolve(directory)?).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                let name = name.to_str().filter(|name| is_temporary(name));
                if let Some(name) = name
                    && entry.file_type().is_ok_and(|kind| kind.is_file())
                {
                    keys.push(format!("{inside}{name}"));
                }
            }
            return Ok(keys);
        }
        let path = self.path(directory)?;
        let listed = Handle::current()
            .block_on(self.store.list_with_delimiter(Some(&path)))
            .map_err(|e| from_store(e, "list", directory))?;
        let keys = listed.objects.into_iter().map(|meta| meta.location.to_string());
        Ok(keys.filter(|key| is_temporary(file_name(key))).collect())
    }

    fn remove(&self, key: &str) -> Result<()> {
        #[cfg(feature = "local")]
        if let Some(root) = self.root() {
            return match root
                .resolve(key)
                .and_then(|path| std::fs::remove_file(path).map_err(|error| from_io(error, "remove", key)))
            {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        match Handle::current().block_on(self.store.delete(&self.path(key)?)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(from_store(error, "remove", key)),
        }
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
