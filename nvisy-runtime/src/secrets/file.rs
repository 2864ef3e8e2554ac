//! Secrets from files, one each: what containers mount.

use std::path::PathBuf;

use nvisy_core::connection::SecretResolver;
use nvisy_core::{Error, ErrorKind, Result, Secret, SecretRef};

/// A directory of files, one a secret, as Docker and Kubernetes mount them. A last line break
/// does not belong to the value.
#[derive(Clone, Debug)]
pub struct SecretFiles {
    directory: PathBuf,
}

impl SecretFiles {
    /// The files in a directory.
    #[must_use]
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }
}

impl SecretResolver for SecretFiles {
    fn resolve(&self, reference: &SecretRef) -> Result<Option<Secret>> {
        let name = reference.name();
        if name.contains(['/', '\\']) || name.starts_with('.') {
            let message = format!("the secret \"{name}\" is no file name in the directory of secrets");
            return Err(Error::new(ErrorKind::Permission, message));
        }
        match std::fs::read_to_string(self.directory.join(name)) {
            Ok(value) => Ok(Some(Secret::new(value.strip_suffix('\n').unwrap_or(&value)))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let message = format!("the file of the secret \"{name}\" cannot be read");
                Err(Error::new(ErrorKind::Permission, message).with_source(error))
            }
        }
    }

    fn remedy(&self) -> String {
        format!("put it into a file of its name in \"{}\"", self.directory.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_secret_and_a_path_is_none() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("KEY"), "value\n").unwrap();
        let files = SecretFiles::in_directory(dir.path());
        assert_eq!(files.resolve(&SecretRef::new("KEY")).unwrap().unwrap().expose(), "value");
        assert!(files.resolve(&SecretRef::new("OTHER")).unwrap().is_none());
        assert!(files.resolve(&SecretRef::new("../KEY")).is_err());
    }
}
