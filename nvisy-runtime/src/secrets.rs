//! Where the values of secrets come from: the environment, a `.env` file, files, your own.

mod dotenv;
mod env;
mod file;

use std::fmt;
use std::sync::Arc;

use nvisy_core::connection::SecretResolver;
use nvisy_core::{Result, Secret, SecretRef};

pub use self::dotenv::DotEnv;
pub use self::env::Environment;
pub use self::file::SecretFiles;

/// Asks one provider after the other; the first that knows a secret wins.
///
/// The default asks the [environment](Environment), then a [`.env` file](DotEnv) in the working
/// directory, if there is one. An engine for graphs of strangers has no default: what it is
/// given, every such graph may send to whom it likes.
///
/// # Examples
///
/// ```
/// use nvisy_runtime::secrets::{Secrets, SecretFiles};
///
/// // Containers: files under /run/secrets, and nothing else.
/// let secrets = Secrets::none().with(SecretFiles::in_directory("/run/secrets"));
/// ```
#[derive(Clone)]
pub struct Secrets {
    providers: Vec<Arc<dyn SecretResolver>>,
}

impl Secrets {
    /// Knows no secret.
    #[must_use]
    pub fn none() -> Self {
        Self { providers: Vec::new() }
    }

    /// Asks `provider` too, behind those that are there.
    #[must_use]
    pub fn with(mut self, provider: impl SecretResolver + 'static) -> Self {
        self.providers.push(Arc::new(provider));
        self
    }
}

impl Default for Secrets {
    fn default() -> Self {
        Self::none().with(Environment).with(DotEnv::in_working_directory())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("providers", &self.providers.len()).finish()
    }
}

impl SecretResolver for Secrets {
    fn resolve(&self, reference: &SecretRef) -> Result<Option<Secret>> {
        for provider in &self.providers {
            if let Some(secret) = provider.resolve(reference)? {
                return Ok(Some(secret));
            }
        }
        Ok(None)
    }

    fn remedy(&self) -> String {
        let remedies: Vec<String> = self.providers.iter().map(|provider| provider.remedy()).collect();
        if remedies.is_empty() {
            "the engine knows none: see `EngineBuilder::secrets`".to_owned()
        } else {
            remedies.join(", or ")
        }
    }
}
