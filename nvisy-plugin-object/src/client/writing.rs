//! New objects of a client: how they come under their names, and what is left of those that do not.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use nvisy_core::{Error, ErrorKind, Result};
use object_store::{ObjectStoreExt, PutMode, PutOptions};
use tokio::runtime::Handle;

use super::{ObjectClient, Showing, file_name};
use crate::error::{from_io, from_store};
use crate::root::is_temporary;
use crate::temporaries::Temporaries;
use crate::upload::{Place, Upload, is_movable, is_same, remove_abandoned, show_file};

impl ObjectClient {
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
}
