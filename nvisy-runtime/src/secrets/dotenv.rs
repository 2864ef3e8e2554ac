//! Secrets from a `.env` file.

use std::path::PathBuf;

use nvisy_core::connection::SecretResolver;
use nvisy_core::{Error, ErrorKind, Result, Secret, SecretRef};

/// A file of `NAME=value` lines. It is read anew for each secret and changes no environment.
#[derive(Clone, Debug)]
pub struct DotEnv {
    path: PathBuf,
    required: bool,
}

impl DotEnv {
    /// The file `.env` in the working directory, if there is one.
    #[must_use]
    pub fn in_working_directory() -> Self {
        Self { path: ".env".into(), required: false }
    }

    /// A file that has to be there.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), required: true }
    }
}

impl SecretResolver for DotEnv {
    fn resolve(&self, reference: &SecretRef) -> Result<Option<Secret>> {
        let path = self.path.display();
        let lines = match dotenvy::from_path_iter(&self.path) {
            Ok(lines) => lines,
            Err(error) if error.not_found() && !self.required => return Ok(None),
            Err(error) => {
                return Err(Error::new(
                    ErrorKind::Configuration,
                    format!("the secrets file {path} cannot be read"),
                )
                .with_source(error));
            }
        };
        for (number, line) in (1..).zip(lines) {
            // The cause is left out: it repeats the line, which may hold a value.
            let (name, value) = line.map_err(|_| {
                Error::configuration(format!(
                    "the secrets file {path} is malformed at entry {number}: write NAME=value"
                ))
            })?;
            if name == reference.name() {
                return Ok(Some(Secret::new(value)));
            }
        }
        Ok(None)
    }

    fn remedy(&self) -> String {
        format!("put it under its name into the file \"{}\"", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    fn resolve(content: &str, name: &str) -> Result<Option<Secret>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets.env");
        std::fs::write(&path, content).unwrap();
        DotEnv::file(path).resolve(&SecretRef::new(name))
    }

    #[test]
    fn a_file_gives_its_values_and_no_others() {
        let content = "# keys\nA=1\nB=\"two words\"\n";
        assert_eq!(resolve(content, "B").unwrap().unwrap().expose(), "two words");
        assert!(resolve(content, "C").unwrap().is_none());
    }

    #[test]
    fn a_malformed_file_is_named_and_not_shown() {
        let error = resolve("KEY 'hunter2\n", "KEY").unwrap_err();
        assert!(error.to_string().contains("entry 1"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2") && error.source().is_none());
    }

    #[test]
    fn a_missing_file_matters_only_where_it_is_asked_for() {
        assert!(DotEnv::file("no/such/file").resolve(&SecretRef::new("A")).is_err());
    }
}
