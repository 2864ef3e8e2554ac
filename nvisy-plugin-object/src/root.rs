//! A directory that no path leaves: not by `..`, not by an absolute path, not by a symlink.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use nvisy_core::{Error, ErrorKind, Result};

use crate::client::PassedBy;
use crate::error::{from_io, outside};
use crate::selection::{Bounds, leads_to};
use crate::upload::sync_directory_of;
use crate::version::nanos;

/// How deep directories may be nested.
const MAX_DEPTH: usize = 64;

/// A directory, and the only door to what is in it.
///
/// Keys are paths with `/` between their parts, relative to the root. A symlink is followed as
/// long as it ends within the root. What is opened is the resolved path, so that only a link
/// that is put in place between the check and the opening could lead out.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    path: PathBuf,
}

/// A file in a [`Root`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    pub(crate) key: String,
    pub(crate) size: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub(crate) modified: i128,
}

/// What is in a [`Root`].
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) found: Vec<Found>,
    pub(crate) passed_by: Vec<PassedBy>,
}

impl Root {
    /// Opens a directory as a root.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let path = fs::canonicalize(path).map_err(|error| from_io(error, "open the directory", &name))?;
        if !path.is_dir() {
            let message = format!("\"{name}\" is no directory: name one as the connection's root");
            return Err(Error::new(ErrorKind::Configuration, message));
        }
        Ok(Self { path })
    }

    /// Returns the directory itself, without symlinks.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Resolves a key to the file that is there, without symlinks.
    pub(crate) fn resolve(&self, key: &str) -> Result<PathBuf> {
        let joined = self.path.join(relative(key)?);
        match fs::canonicalize(&joined) {
            Ok(path) if path.starts_with(&self.path) => Ok(path),
            Ok(_) => Err(outside(key)),
            // A dangling link shows only whether something outside exists: it is outside.
            Err(error) if error.kind() == io::ErrorKind::NotFound && joined.is_symlink() => Err(outside(key)),
            Err(error) => Err(from_io(error, "read", key)),
        }
    }

    /// Returns the path that the file at `key` has or will have, without symlinks.
    pub(crate) fn real(&self, key: &str) -> Result<PathBuf> {
        let path = canonical(&self.path.join(relative(key)?)).map_err(|e| from_io(e, "write", key))?;
        if path.starts_with(&self.path) { Ok(path) } else { Err(outside(key)) }
    }

    /// Resolves a key to the path that a file is to be written to, and makes its parents.
    pub(crate) fn prepare(&self, key: &str) -> Result<PathBuf> {
        let relative = relative(key)?;
        let Some(name) = relative.file_name() else {
            return Err(Error::configuration(format!("the path \"{key}\" names no file")));
        };
        let mut parent = self.path.clone();
        for part in relative.parent().into_iter().flat_map(Path::components) {
            parent.push(part);
            parent = match fs::canonicalize(&parent) {
                Ok(path) => path,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !parent.is_symlink() => {
                    match fs::create_dir(&parent).and_then(|()| sync_directory_of(&parent)) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                            return Err(from_io(error, "create the directory of", key));
                        }
                        _ => parent,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(outside(key)),
                Err(error) => return Err(from_io(error, "write", key)),
            };
            if !parent.starts_with(&self.path) {
                return Err(outside(key));
            }
        }
        let target = parent.join(name);
        // Renaming replaces a link, it does not follow it; still, a link that leads out is a
        // path that leads out.
        if target.is_symlink() {
            return match fs::canonicalize(&target) {
                Ok(path) if path.starts_with(&self.path) => Ok(path),
                _ => Err(outside(key)),
            };
        }
        Ok(target)
    }

    /// Lists the files whose keys begin with `prefix`, in the order of their keys; those that
    /// lie within `bounds`. None if there is no such directory.
    pub(crate) fn list(&self, prefix: &str, bounds: &Bounds) -> Result<Option<Listed>> {
        let (directory, _) = prefix.rsplit_once('/').unwrap_or(("", ""));
        let mut listed = Listed::default();
        let directory = directory.trim_end_matches('/');
        if !relative_directory(directory)?.as_os_str().is_empty() {
            match self.resolve(directory) {
                Ok(path) if path.is_dir() => {}
                Ok(_) => return Ok(None),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        self.walk(directory, prefix, bounds, &mut Vec::new(), &mut listed)?;
        listed.found.sort();
        Ok(Some(listed))
    }

    /// Lists a directory; `above` are the directories that it is in, for links that lead back.
    fn walk(
        &self,
        directory: &str,
        prefix: &str,
        bounds: &Bounds,
        above: &mut Vec<PathBuf>,
        listed: &mut Listed,
    ) -> Result<()> {
        let path = if directory.is_empty() { self.path.clone() } else { self.resolve(directory)? };
        if above.contains(&path) {
            return Ok(());
        }
        if above.len() >= MAX_DEPTH {
            let message = format!("\"{directory}\" is more than {MAX_DEPTH} directories deep");
            return Err(Error::new(ErrorKind::Validation, message));
        }
        let failed = |error| from_io(error, "list", if directory.is_empty() { "." } else { directory });
        let entries = fs::read_dir(&path).map_err(failed)?;
        above.push(path);
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let key_of = |name: &str| {
                if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
            };
            let Some(name) = name.to_str() else {
                let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
                let key = key_of(&name.to_string_lossy());
                listed.passed_by.push(PassedBy { key, is_file, why: "names that are not UTF-8 are no keys" });
                continue;
            };
            let key = key_of(name);
            if !leads_to(&key, prefix) || !bounds.reach(&key) || is_temporary(name) {
                continue;
            }
            let kind = entry.file_type().map_err(failed)?;
            let metadata = if kind.is_symlink() {
                match self.resolve(&key) {
                    Ok(path) => fs::metadata(path),
                    // A link that is named is refused; one that is merely met is passed by.
                    Err(error) if key == prefix => return Err(error),
                    Err(_) => {
                        let is_file = fs::metadata(entry.path()).is_ok_and(|of| of.is_file());
                        let why = "links have to lead to something within the root";
                        listed.passed_by.push(PassedBy { key, is_file, why });
                        continue;
                    }
                }
            } else {
                entry.metadata()
            };
            let metadata = match metadata {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(from_io(error, "read", &key)),
            };
            if metadata.is_dir() {
                // This directory is among those above.
                if above.len() <= bounds.levels.unwrap_or(MAX_DEPTH) {
                    self.walk(&key, prefix, bounds, above, listed)?;
                }
            } else if metadata.is_file() {
                let modified = metadata.modified().map_or(i128::MAX, nanos);
                listed.found.push(Found { key, size: metadata.len(), modified });
            }
        }
        above.pop();
        Ok(())
    }
}

/// Returns the path that a directory will have when it is made, without symlinks.
pub(crate) fn canonical(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let mut missing = Vec::new();
    let mut there = path.as_path();
    loop {
        match (fs::canonicalize(there), there.parent(), there.file_name()) {
            (Ok(found), ..) => {
                return Ok(missing.into_iter().rev().fold(found, |path, part| path.join(part)));
            }
            (Err(_), Some(parent), Some(name)) => {
                missing.push(name);
                there = parent;
            }
            (Err(error), ..) => return Err(error),
        }
    }
}

/// The ending of files that are being written.
pub(crate) const TEMPORARY: &str = ".nvisy-tmp";

/// Returns whether a file of that name is being written.
pub(crate) fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(TEMPORARY)
}

fn relative_directory(directory: &str) -> Result<PathBuf> {
    if directory.is_empty() { Ok(PathBuf::new()) } else { relative(directory) }
}

/// Returns the key as a path that names no parent and no root.
pub(crate) fn relative(key: &str) -> Result<PathBuf> {
    if key.contains('\0') {
        return Err(outside(key));
    }
    let mut path = PathBuf::new();
    for part in Path::new(key).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(outside(key)),
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("root");
        fs::create_dir_all(inner.join("a/b")).unwrap();
        fs::write(inner.join("a/b/c.txt"), "c").unwrap();
        fs::write(inner.join("a.txt"), "a").unwrap();
        fs::write(outer.path().join("secret.txt"), "s").unwrap();
        let root = Root::open(&inner).unwrap();
        (outer, root)
    }

    fn within(within: &str, levels: Option<usize>) -> Bounds {
        Bounds { within: within.to_owned(), levels }
    }

    fn list(root: &Root, prefix: &str) -> Result<Option<Listed>> {
        root.list(prefix, &Bounds::default())
    }

    #[test]
    fn paths_that_leave_the_root_are_refused() {
        let (_outer, root) = root();
        for key in ["../secret.txt", "a/../../secret.txt", "/etc/passwd", "a/\0"] {
            assert_eq!(root.resolve(key).unwrap_err().kind(), ErrorKind::Permission, "{key}");
            assert_eq!(root.prepare(key).unwrap_err().kind(), ErrorKind::Permission, "{key}");
        }
        assert_eq!(list(&root, "../").unwrap_err().kind(), ErrorKind::Permission);
    }

    #[cfg(unix)]
    #[test]
    fn symlinks_are_followed_within_the_root_only() {
        let (outer, root) = root();
        std::os::unix::fs::symlink(root.path().join("a"), root.path().join("inside")).unwrap();
        assert_eq!(list(&root, "inside/").unwrap().unwrap().found[0].key, "inside/b/c.txt");
        for (target, link) in [("secret.txt", "out.txt"), ("", "out"), ("nowhere", "dangling")] {
            std::os::unix::fs::symlink(outer.path().join(target), root.path().join(link)).unwrap();
            assert_eq!(root.resolve(link).unwrap_err().kind(), ErrorKind::Permission, "{link}");
            assert_eq!(root.prepare(link).unwrap_err().kind(), ErrorKind::Permission, "{link}");
            assert_eq!(list(&root, link).unwrap_err().kind(), ErrorKind::Permission, "{link}");
            let listed = list(&root, "").unwrap().unwrap();
            assert_eq!(listed.passed_by.iter().map(|other| &*other.key).collect::<Vec<_>>(), [link]);
            fs::remove_file(root.path().join(link)).unwrap();
        }
        std::os::unix::fs::symlink(outer.path(), root.path().join("out")).unwrap();
        assert_eq!(root.prepare("out/new/x.txt").unwrap_err().kind(), ErrorKind::Permission);
        assert!(!outer.path().join("new").exists());
    }

    #[test]
    fn files_are_listed_by_prefix_in_order() {
        let (_outer, root) = root();
        let keys = |prefix| {
            list(&root, prefix).unwrap().unwrap().found.into_iter().map(|f| f.key).collect::<Vec<_>>()
        };
        assert_eq!(keys(""), ["a.txt", "a/b/c.txt"]);
        assert_eq!(keys("a/"), ["a/b/c.txt"]);
        assert_eq!(keys("a/b/c"), ["a/b/c.txt"]);
        assert_eq!(keys("a/nothing"), [""; 0]);
        assert_eq!(list(&root, "nothing/").unwrap(), None);
        assert_eq!(root.list("", &within("", Some(0))).unwrap().unwrap().found.len(), 1);
        assert_eq!(root.list("a/", &within("", Some(1))).unwrap().unwrap().found.len(), 1);
    }

    #[test]
    fn what_a_glob_cannot_match_is_not_looked_into() {
        let (_outer, root) = root();
        let deep = (0..=MAX_DEPTH).fold(root.path().join("deep"), |path, _| path.join("d"));
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(list(&root, "").unwrap_err().kind(), ErrorKind::Validation, "it is too deep");
        let listed = root.list("", &within("a/b/", None)).unwrap().unwrap();
        assert_eq!(listed.found.iter().map(|found| &*found.key).collect::<Vec<_>>(), ["a/b/c.txt"]);
    }
}
