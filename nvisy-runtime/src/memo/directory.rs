//! Results in a directory of this machine.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use nvisy_core::hash::ContentHash;
use nvisy_core::{Error, ErrorKind, Result};
use ulid::Ulid;

use super::segment::{Place, Segment, size};
use super::{MAX_BYTES, MemoStore};
use crate::disk::{blocking, make};

/// Keeps results in the files `memo-….log` of a directory. Default 1 GiB, of which the oldest go
/// first, a file at a time.
///
/// Results are appended, each with checksums, and synced before they go on. What a crash has cut
/// or a disk has damaged is not known any more, and never given for something else.
///
/// Any number of engines and processes may have the directory open: each writes to a file of its
/// own, which it has locked, and knows what the others had put when it began or when it last began
/// a file. The directory has to be on a file system with locks. To forget everything, remove it.
///
/// # Examples
///
/// ```
/// use nvisy_runtime::Engine;
/// use nvisy_runtime::memo::DirectoryStore;
///
/// # fn main() -> nvisy_core::Result<()> {
/// # let place = tempfile::tempdir().unwrap();
/// # let directory = place.path();
/// let memo = DirectoryStore::new(directory).max_bytes(64 << 20);
/// let engine = Engine::builder().memo(memo).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DirectoryStore {
    path: PathBuf,
    max_bytes: u64,
    open: Arc<Mutex<Option<Open>>>,
}

impl DirectoryStore {
    /// Keeps results in `path`, which is made when there is something to be kept.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), max_bytes: MAX_BYTES, open: Arc::default() }
    }

    /// Sets how many bytes the files take at the most, of all who have the directory open.
    /// Default 1 GiB. A single result larger than a quarter of it is not kept.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Does something with what is open, on a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Open) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.clone();
        blocking(move || {
            let mut open = store.lock();
            let opened = match &mut *open {
                Some(open) => Ok(open),
                none => Open::at(&store.path, store.max_bytes).map(|opened| none.insert(opened)),
            };
            opened.and_then(call).map_err(|error| {
                let message = format!("the memo in \"{}\": {error}", store.path.display());
                Error::new(ErrorKind::Internal, message).with_source(error)
            })
        })
        .await
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoStore for DirectoryStore {
    fn get<'a>(&'a self, keys: &'a [ContentHash]) -> BoxFuture<'a, Result<Vec<Option<Bytes>>>> {
        let keys = keys.to_vec();
        self.with(move |open| Ok(keys.iter().map(|key| open.get(key)).collect())).boxed()
    }

    fn put(&self, entries: Vec<(ContentHash, Bytes)>) -> BoxFuture<'_, Result<()>> {
        self.with(move |open| open.put(entries)).boxed()
    }
}

impl fmt::Debug for DirectoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryStore")
            .field("path", &self.path)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

/// The files that are known, by name: the oldest first.
struct Open {
    path: PathBuf,
    max_bytes: u64,
    segments: BTreeMap<Arc<str>, Segment>,
    index: HashMap<ContentHash, (Arc<str>, Place)>,
    /// The file that is written to.
    active: Option<Arc<str>>,
}

impl Open {
    fn at(path: &Path, max_bytes: u64) -> io::Result<Self> {
        let mut open = Self {
            path: path.to_owned(),
            max_bytes,
            segments: BTreeMap::new(),
            index: HashMap::new(),
            active: None,
        };
        open.refresh()?;
        Ok(open)
    }

    /// Reads the files that are new, and forgets those that are gone.
    fn refresh(&mut self) -> io::Result<()> {
        let names = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries
                .map(|entry| Ok(entry?.file_name().into_string().ok()))
                .filter_map(io::Result::transpose)
                .filter(|name| name.as_ref().is_ok_and(|name| is_segment(name)) || name.is_err())
                .collect::<io::Result<Vec<_>>>()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let gone: Vec<_> =
            self.segments.keys().filter(|name| !names.iter().any(|n| **n == ***name)).cloned().collect();
        gone.iter().for_each(|name| self.forget(name));
        let mut names: Vec<Arc<str>> = names.into_iter().map(Arc::from).collect();
        names.sort();
        for name in names {
            if self.segments.contains_key(&name) {
                continue;
            }
            let index = &mut self.index;
            let found = |key, place| drop(index.insert(key, (name.clone(), place)));
            match Segment::open(&self.path.join(&*name), found) {
                Ok(segment) => drop(self.segments.insert(name, segment)),
                // Somebody else has just removed it, or keeps it to himself.
                Err(error) => tracing::debug!(%error, %name, "a file of the memo is not read"),
            }
        }
        Ok(())
    }

    fn forget(&mut self, name: &Arc<str>) {
        self.segments.remove(name);
        self.index.retain(|_, (of, _)| of != name);
        self.active.take_if(|active| active == name);
    }

    fn get(&mut self, key: &ContentHash) -> Option<Bytes> {
        let (name, place) = self.index.get(key)?;
        let value = self.segments.get(name).and_then(|segment| segment.get(key, *place));
        if value.is_none() {
            self.index.remove(key);
        }
        value
    }

    fn put(&mut self, mut entries: Vec<(ContentHash, Bytes)>) -> io::Result<()> {
        let largest = self.max_bytes / 4;
        entries.retain(|(key, value)| !self.index.contains_key(key) && size(value) as u64 <= largest);
        let mut entries = &entries[..];
        while !entries.is_empty() {
            // No more at once than a file takes, so that old ones make room for it.
            let mut bytes = 0;
            let fits = entries.iter().take_while(|(_, value)| {
                bytes += size(value) as u64;
                bytes <= self.segment_bytes()
            });
            let (now, later) = entries.split_at(fits.count().max(1));
            self.append(now)?;
            entries = later;
        }
        Ok(())
    }

    fn append(&mut self, entries: &[(ContentHash, Bytes)]) -> io::Result<()> {
        let bytes = entries.iter().map(|(_, value)| size(value) as u64).sum();
        let name = self.active()?;
        self.make_room(bytes, &name)?;
        let Some(segment) = self.segments.get_mut(&name) else { return Ok(()) };
        match segment.append(entries) {
            Ok(places) => {
                let found = entries.iter().zip(places).map(|((key, _), at)| (*key, (name.clone(), at)));
                self.index.extend(found);
                Ok(())
            }
            Err(error) => {
                // What stands at its end is anybody's guess: whoever opens it next cuts it off.
                self.forget(&name);
                Err(error)
            }
        }
    }

    /// Returns the file to write to: the one it was, the newest that is not full and nobody's, or
    /// a new one.
    fn active(&mut self) -> io::Result<Arc<str>> {
        let full = self.segment_bytes();
        if let Some(active) = &self.active
            && self.segments.get(active).is_some_and(|segment| segment.bytes < full)
        {
            return Ok(active.clone());
        }
        if self.active.is_none() {
            let index = &mut self.index;
            for (name, segment) in self.segments.iter_mut().rev().filter(|(_, segment)| segment.bytes < full)
            {
                if segment.claim(|key, place| drop(index.insert(key, (name.clone(), place))))? {
                    self.active = Some(name.clone());
                    return Ok(name.clone());
                }
            }
        }
        make(&self.path)?;
        self.refresh()?;
        let name: Arc<str> = format!("{PREFIX}{}{SUFFIX}", Ulid::generate()).into();
        let segment = Segment::create(&self.path.join(&*name))?;
        crate::disk::sync_directory(&self.path)?;
        self.segments.insert(name.clone(), segment);
        self.active = Some(name.clone());
        Ok(name)
    }

    /// Removes the oldest files until so many bytes more are allowed: those that nobody writes to.
    fn make_room(&mut self, bytes: u64, active: &Arc<str>) -> io::Result<()> {
        let mut taken: u64 = self.segments.values().map(Segment::len).sum();
        let names: Vec<_> = self.segments.keys().filter(|name| *name != active).cloned().collect();
        for name in names {
            if taken + bytes <= self.max_bytes {
                break;
            }
            let Some(segment) = self.segments.get_mut(&name) else { continue };
            let len = segment.len();
            if segment.remove()? {
                taken -= len;
                self.forget(&name);
            }
        }
        Ok(())
    }

    /// How large a file grows.
    fn segment_bytes(&self) -> u64 {
        (self.max_bytes / 8).min(64 << 20)
    }
}

const PREFIX: &str = "memo-";
const SUFFIX: &str = ".log";

fn is_segment(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}
