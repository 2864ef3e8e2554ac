//! Where a node keeps what does not fit into memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
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
}

impl Spill {
    /// Returns a folder that stays.
    #[must_use]
    pub fn kept(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Folder { path: path.into(), kept: true }))
    }

    /// Returns a folder among the system's temporary files, made when it is first asked for.
    #[must_use]
    pub fn temporary() -> Self {
        let path = std::env::temp_dir().join(format!("nvisy-{}", RunId::new()));
        Self(Arc::new(Folder { path, kept: false }))
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
    /// `permission` or `internal` if it cannot be made.
    pub fn path(&self) -> Result<&Path> {
        let path = &self.0.path;
        fs::create_dir_all(path).map_err(|error| {
            let kind = match error.kind() {
                std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
                _ => ErrorKind::Internal,
            };
            Error::new(kind, format!("the folder \"{}\" cannot be made", path.display())).with_source(error)
        })?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed is left to the system, which owns the folder around it.
            _ = fs::remove_dir_all(&self.path);
        }
    }
}
