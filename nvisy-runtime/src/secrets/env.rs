//! Secrets from the environment.

use nvisy_core::connection::SecretResolver;
use nvisy_core::{Error, ErrorKind, Result, Secret, SecretRef};

/// The environment of the process: `{"secret": "NAME"}` is the variable `NAME`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Environment;

impl SecretResolver for Environment {
    fn resolve(&self, reference: &SecretRef) -> Result<Option<Secret>> {
        match std::env::var(reference.name()) {
            Ok(value) => Ok(Some(Secret::new(value))),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => {
                let name = reference.name();
                Err(Error::new(
                    ErrorKind::Authentication,
                    format!("the environment variable {name} is not valid UTF-8"),
                ))
            }
        }
    }

    fn remedy(&self) -> String {
        "set the environment variable of its name".to_owned()
    }
}
