//! A new object on its way: nothing shows under its final name before all of it is there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use nvisy_core::{Error, ErrorKind, Result};
use object_store::path::Path as StorePath;
use object_store::{ObjectStore, PutMode, PutOptions, PutPayload};

use crate::error::{from_io, from_store};
use crate::root::TEMPORARY;

/// Bytes of a new object. Dropped without being published or kept, it leaves nothing behind.
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
    /// There is no file to write to once it is sealed.
    File {
        file: Option<File>,
        temporary: PathBuf,
        target: PathBuf,
    },
    Store {
        store: Arc<dyn ObjectStore>,
        path: StorePath,
        bytes: Vec<u8>,
    },
    Kept,
}

impl Upload {
    /// Begins a file that is to be at `target`: in a `directory` of the same file system if that
    /// takes one, and else beside it.
    pub(crate) fn file(
        key: &str,
        target: PathBuf,
        directory: Option<PathBuf>,
        owner: &str,
    ) -> io::Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let beside = target.parent().unwrap_or(Path::new(""));
        let directory = directory.filter(|directory| is_one_file_system(directory, beside));
        let created = create_locked(directory.as_deref().unwrap_or(beside), &name, owner);
        let (file, temporary) = match created {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                create_locked(beside, &name, owner)?
            }
            created => created?,
        };
        let to = To::File { file: Some(file), temporary, target };
        Ok(Self { key: key.to_owned(), written: 0, to })
    }

    /// Begins what is to be kept at `place`.
    pub(crate) fn kept(key: &str, place: Place, store: &Arc<dyn ObjectStore>) -> io::Result<Self> {
        let to = match place {
            Place::File(path) => {
                let file = Some(OpenOptions::new().write(true).create_new(true).open(&path)?);
                To::File { file, target: path.clone(), temporary: path }
            }
            Place::Object(path) => To::Store { store: store.clone(), path, bytes: Vec::new() },
        };
        Ok(Self { key: key.to_owned(), written: 0, to })
    }

    /// Begins an object of a store.
    pub(crate) fn store(key: &str, store: Arc<dyn ObjectStore>, path: StorePath) -> Self {
        let to = To::Store { store, path, bytes: Vec::new() };
        Self { key: key.to_owned(), written: 0, to }
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
                let synced = file.as_ref().map_or(Ok(()), File::sync_all);
                synced.and_then(|()| show_file(temporary, target, replace)).map_err(|error| {
                    match error.kind() {
                        io::ErrorKind::AlreadyExists => taken(&key),
                        _ => from_io(error, "write", &key),
                    }
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
            To::Kept => Ok(()),
        };
        match result {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Conflict => Err((Some(self), error)),
            Err(error) => Err((None, error)),
        }
    }

    /// Ends it: it is durable at its temporary place, and holds no open file. Blocks.
    pub(crate) fn seal(&mut self) -> Result<()> {
        if let To::File { file, temporary, .. } = &mut self.to
            && let Some(file) = file.take()
        {
            let synced = file.sync_all().and_then(|()| sync_directory_of(temporary));
            synced.map_err(|error| from_io(error, "write", &self.key))?;
        }
        Ok(())
    }

    /// Leaves it at its temporary place for good, durable. Blocks.
    pub(crate) fn keep(mut self) -> Result<()> {
        self.seal()?;
        if let To::Store { store, path, bytes } = &mut self.to {
            let put = store.put_opts(path, std::mem::take(bytes).into(), PutOptions::default());
            let put = tokio::runtime::Handle::current().block_on(put);
            put.map_err(|error| from_store(error, "write", &self.key))?;
        }
        self.to = To::Kept;
        Ok(())
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
            To::File { file: Some(file), .. } => file.write(bytes)?,
            To::Store { bytes: all, .. } => all.write(bytes)?,
            To::File { file: None, .. } | To::Kept => return Err(io::ErrorKind::BrokenPipe.into()),
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

/// Creates a temporary, and locks it for as long as it is open: the lock of a process goes with it.
fn create_locked(directory: &Path, name: &str, mut owner: &str) -> io::Result<(File, PathBuf)> {
    loop {
        let temporary = directory.join(temporary_name(name, owner));
        let file = match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            file => file?,
        };
        match file.try_lock() {
            // Somebody who sweeps may have been faster.
            Ok(()) if temporary.exists() => return Ok((file, temporary)),
            Ok(()) | Err(TryLockError::WouldBlock) => {}
            // Some file systems have no locks: what has no owner is not swept.
            Err(TryLockError::Error(_)) if owner.is_empty() => return Ok((file, temporary)),
            Err(TryLockError::Error(_)) => {
                fs::remove_file(&temporary)?;
                owner = "";
            }
        }
    }
}

/// Removes a temporary whose process is gone: one that lives has it locked.
pub(crate) fn remove_abandoned(temporary: &Path) -> io::Result<()> {
    let removed = || {
        let file = OpenOptions::new().write(true).open(temporary)?;
        if file.try_lock().is_ok() { fs::remove_file(temporary) } else { Ok(()) }
    };
    match removed() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns whether a file can be moved from one directory to another.
fn is_one_file_system(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let device = |path: &Path| path.metadata().map(|metadata| metadata.dev()).ok();
        one == other || device(one).is_some_and(|one| Some(one) == device(other))
    }
    #[cfg(not(unix))]
    {
        one == other
    }
}

/// Returns whether a file can be moved to a path whose directories may not be there yet; true where
/// that cannot be told before.
pub(crate) fn is_movable(from: &Path, to: &Path) -> bool {
    if cfg!(not(unix)) {
        return true;
    }
    let there = to.ancestors().skip(1).find(|directory| directory.exists());
    from.parent().zip(there).is_none_or(|(from, to)| is_one_file_system(from, to))
}

/// Returns a new name for what is to be called `name`: of the `owner`, if there is one.
pub(crate) fn temporary_name(name: &str, owner: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // A name may be as long as the file system allows: the temporary one must not be longer.
    let short: String = name.chars().take(32).collect();
    let clock = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_nanos() as u64);
    let unique = clock ^ (u64::from(std::process::id()) << 40);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!(".{short}.{owner}{unique:x}-{count}{TEMPORARY}")
}

/// Puts a whole and durable file under its final name, durably. What was done before, and broken
/// off half way, is brought to its end.
pub(crate) fn show_file(temporary: &Path, target: &Path, replace: bool) -> io::Result<()> {
    if replace {
        fs::rename(temporary, target)?;
    } else {
        let moved = move_to_free(temporary, target).or_else(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Err(error),
            // Some systems and file systems have no such move.
            _ => link_to_free(temporary, target),
        });
        match moved {
            // It was linked, and the process ended before its other name was removed.
            Err(error)
                if error.kind() == io::ErrorKind::AlreadyExists && is_same_file(temporary, target)? => {}
            moved => moved?,
        }
    }
    sync_directory_of(target)?;
    // There still if it is a link to the same file, whatever was to be done.
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Moves a file to a name unless that is taken: in one step, so that whoever takes the file away
/// leaves nothing that could be shown again.
#[cfg(any(target_os = "linux", target_os = "macos"))]
fn move_to_free(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn move_to_free(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Gives a file a second name unless that is taken. The first one is still to be removed.
fn link_to_free(from: &Path, to: &Path) -> io::Result<()> {
    // What has a second name already was shown, and has been moved away from there.
    if has_links(from)? && to.symlink_metadata().is_err() {
        tracing::warn!(file = %from.display(), name = %to.display(), "a file with a second name counts as shown, and as taken away since");
        return Ok(());
    }
    // A link fails where the name is taken, at once and for good; a rename would replace.
    match fs::hard_link(from, to) {
        Err(_) if to.symlink_metadata().is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        // Some file systems have no links.
        Err(_) => fs::rename(from, to),
        Ok(()) => Ok(()),
    }
}

/// Returns whether a file has more than one name.
fn has_links(file: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    return fs::symlink_metadata(file).map(|metadata| std::os::unix::fs::MetadataExt::nlink(&metadata) > 1);
    #[cfg(not(unix))]
    {
        let _ = file;
        Ok(false)
    }
}

/// Returns whether two paths lead to one file.
#[cfg(unix)]
fn is_same_file(one: &Path, other: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let (one, other) = (fs::symlink_metadata(one)?, fs::symlink_metadata(other)?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// Returns whether two paths lead to the same bytes.
#[cfg(not(unix))]
fn is_same_file(one: &Path, other: &Path) -> io::Result<bool> {
    let is_file = fs::symlink_metadata(other)?.is_file();
    Ok(is_file && is_same(File::open(one)?, File::open(other)?)?)
}

/// Returns whether two files hold the same bytes.
pub(crate) fn is_same(mut one: impl Read, mut other: impl Read) -> io::Result<bool> {
    const PIECE: u64 = 1 << 16;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    loop {
        left.clear();
        right.clear();
        one.by_ref().take(PIECE).read_to_end(&mut left)?;
        other.by_ref().take(PIECE).read_to_end(&mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}

/// Makes durable which files are in the directory of a file.
pub(crate) fn sync_directory_of(file: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(directory) = file.parent() {
        File::open(directory)?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let (temporary, target) = (directory.path().join(".a.nvisy-tmp"), directory.path().join("a"));
        fs::write(&temporary, "a").unwrap();
        (directory, temporary, target)
    }

    #[test]
    fn a_file_moves_to_a_name_that_is_free_and_to_no_other() {
        let (_directory, temporary, target) = files();
        show_file(&temporary, &target, false).unwrap();
        assert!(!temporary.exists() && target.exists());
        fs::write(&temporary, "b").unwrap();
        let error = show_file(&temporary, &target, false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&temporary).unwrap(), fs::read(&target).unwrap()), (b"b".into(), b"a".into()));
    }

    #[cfg(any(target_os = "linux", target_os = "macos"))]
    #[test]
    fn a_file_that_moves_has_one_name() {
        let (_directory, temporary, target) = files();
        move_to_free(&temporary, &target).unwrap();
        assert!(!has_links(&target).unwrap() && !temporary.exists());
        fs::write(&temporary, "b").unwrap();
        let error = move_to_free(&temporary, &target).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[cfg(unix)]
    #[test]
    fn what_was_shown_by_a_link_and_moved_away_is_not_shown_again() {
        let (directory, temporary, target) = files();
        link_to_free(&temporary, &target).unwrap();
        assert!(has_links(&temporary).unwrap());
        // Here the process ends, and somebody takes the file.
        fs::rename(&target, directory.path().join("taken")).unwrap();
        link_to_free(&temporary, &target).unwrap();
        assert!(!target.exists());
        fs::write(&target, "another").unwrap();
        assert_eq!(link_to_free(&temporary, &target).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        // Or it ends, and nobody takes the file.
        fs::remove_file(&target).unwrap();
        fs::hard_link(&temporary, &target).unwrap();
        show_file(&temporary, &target, false).unwrap();
        assert!(!temporary.exists() && target.exists());
    }
}
