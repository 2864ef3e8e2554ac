//! Where a node keeps what does not fit into memory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::{fs, io};

use crate::error::{Error, Result};
use crate::id::RunId;

/// A folder for what a node keeps beyond memory. Clones are the same folder.
///
/// A [kept](Self::kept) one belongs to a state directory and is there for the next run; a
/// [temporary](Self::temporary) one is removed with its last clone.
#[derive(Clone, Debug)]
pub struct Spill(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    kept: bool,
    /// Whether the names of the folders are durable.
    synced: OnceLock<()>,
}

impl Spill {
    /// Returns a folder that stays.
    #[must_use]
    pub fn kept(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Folder { path: path.into(), kept: true, synced: OnceLock::new() }))
    }

    /// Returns a folder among the system's temporary files, made when it is first asked for.
    #[must_use]
    pub fn temporary() -> Self {
        let path = std::env::temp_dir().join(format!("nvisy-{}", RunId::new()));
        Self(Arc::new(Folder { path, kept: false, synced: OnceLock::new() }))
    }

    /// Returns whether it is there for the next run.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.0.kept
    }

    /// Returns where it is if it is there for the next run, whether it has been made or not.
    #[must_use]
    pub fn kept_path(&self) -> Option<&Path> {
        self.0.kept.then_some(&*self.0.path)
    }

    /// Returns the folder, which is there now.
    ///
    /// # Errors
    ///
    /// If it cannot be made: see [`Error::of_file`].
    pub fn path(&self) -> Result<&Path> {
        let path = &self.0.path;
        let made = self.0.make();
        made.map_err(|error| Error::of_file(format_args!("folder \"{}\"", path.display()), error))?;
        Ok(path)
    }
}

impl Folder {
    /// Makes the folder and those around it, and where it is kept has their names durable.
    fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.path)?;
        // Elsewhere a folder cannot be opened, and the system sees to it.
        if self.kept && cfg!(unix) && self.synced.get().is_none() {
            let around = self.path.ancestors().skip(1).take(AROUND);
            for around in around.filter(|around| !around.as_os_str().is_empty()) {
                fs::File::open(around)?.sync_all()?;
            }
            _ = self.synced.set(());
        }
        Ok(())
    }
}

/// How many folders around that of a node may be new: the graph's, that of all of them, and the
/// state directory with the one that it is in.
const AROUND: usize = 4;

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed is left to the system, which owns the folder around it.
            _ = fs::remove_dir_all(&self.path);
        }
    }
}
