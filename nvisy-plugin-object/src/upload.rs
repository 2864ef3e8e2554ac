//! A new object on its way: nothing shows under its final name before all of it is there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use nvisy_core::{Error, ErrorKind, Result};
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, PutMode, PutOptions, PutPayload};

use crate::error::{from_io, from_store};
use crate::root::TEMPORARY;

/// Bytes of a new object. Dropped without being published, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Upload {
    key: String,
    written: u64,
    to: To,
}

/// Where an object is to be.
#[derive(Debug)]
pub(crate) enum Place {
    File(PathBuf),
    Object(StorePath),
}

#[derive(Debug)]
enum To {
    File { file: File, temporary: PathBuf, target: PathBuf },
    Store { store: Arc<dyn ObjectStore>, path: StorePath, bytes: Vec<u8> },
}

impl Upload {
    /// Begins a file beside `target`.
    pub(crate) fn file(key: &str, target: PathBuf) -> io::Result<Self> {
        let (file, temporary) = create_beside(&target)?;
        Ok(Self { key: key.to_owned(), written: 0, to: To::File { file, temporary, target } })
    }

    /// Begins an object of a store.
    pub(crate) fn store(key: &str, store: Arc<dyn ObjectStore>, path: StorePath) -> Self {
        Self { key: key.to_owned(), written: 0, to: To::Store { store, path, bytes: Vec::new() } }
    }

    /// Returns how many bytes were written.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Returns the key that it is to have.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Makes what was written durable, under its final name.
    ///
    /// Blocks. Fails with `conflict` if the name is taken, unless it may `replace`: then the
    /// upload is handed back, to try another name.
    pub(crate) fn publish(mut self, replace: bool) -> Result<(), (Option<Self>, Error)> {
        let key = self.key.clone();
        let result = match &mut self.to {
            To::File { file, temporary, target } => {
                publish_file(file, temporary, target, replace).map_err(|error| match error.kind() {
                    io::ErrorKind::AlreadyExists => taken(&key),
                    _ => from_io(error, "write", &key),
                })
            }
            To::Store { store, path, bytes } => {
                let mode = if replace { PutMode::Overwrite } else { PutMode::Create };
                let payload = PutPayload::from(std::mem::take(bytes));
                let put = store.put_opts(path, payload.clone(), PutOptions::from(mode));
                tokio::runtime::Handle::current().block_on(put).map(|_| ()).map_err(|error| {
                    bytes.extend(payload.iter().flat_map(|part| part.iter()));
                    match error {
                        object_store::Error::AlreadyExists { .. } => taken(&key),
                        error => from_store(error, "write", &key),
                    }
                })
            }
        };
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Conflict => Err((Some(self), error)),
            Err(error) => Err((None, error)),
        }
    }

    /// Gives it another name, in the same store.
    pub(crate) fn rename(&mut self, key: &str, place: Place) {
        match (&mut self.to, place) {
            (To::File { target, .. }, Place::File(to)) => *target = to,
            (To::Store { path, .. }, Place::Object(to)) => *path = to,
            _ => return,
        }
        key.clone_into(&mut self.key);
    }
}

pub(crate) fn taken(key: &str) -> Error {
    let remedy = "set `on_existing` to \"replace\" or \"number\", or put {run} in the path";
    Error::new(ErrorKind::Conflict, format!("the object \"{key}\" exists already: {remedy}"))
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut self.to {
            To::File { file, .. } => file.write(bytes)?,
            To::Store { bytes: all, .. } => all.write(bytes)?,
        };
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let To::File { temporary, .. } = &self.to {
            // Gone already if it was published.
            let _ = fs::remove_file(temporary);
        }
    }
}

fn create_beside(target: &Path) -> io::Result<(File, PathBuf)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    // A name may be as long as the file system allows: the temporary one must not be longer.
    let short: String = name.chars().take(32).collect();
    loop {
        let clock = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
        let unique = clock ^ (u64::from(std::process::id()) << 40);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = target.with_file_name(format!(".{short}.{unique:x}-{count}{TEMPORARY}"));
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((file, temporary)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn publish_file(file: &File, temporary: &Path, target: &Path, replace: bool) -> io::Result<()> {
    file.sync_all()?;
    if replace {
        fs::rename(temporary, target)?;
    } else {
        // A link fails where the name is taken, at once and for good; a rename would replace.
        match fs::hard_link(temporary, target) {
            Ok(()) => fs::remove_file(temporary)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) if target.symlink_metadata().is_ok() => return Err(io::ErrorKind::AlreadyExists.into()),
            // Some file systems have no links.
            Err(_) => fs::rename(temporary, target)?,
        }
    }
    #[cfg(unix)]
    if let Some(directory) = target.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
