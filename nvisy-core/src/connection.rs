//! Sessions with other systems.

mod address;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

pub use self::address::is_public;
use crate::config::{Config, Problem};
use crate::error::{Error, ErrorKind, Result};
use crate::secret::{Secret, SecretRef};

/// What nodes talk through: the open end of a [`Connection`].
///
/// A node and a connection fit if they name the same client type.
pub trait Client: Send + Sync + 'static {
    /// The family of systems, such as `object`: what messages call it.
    const FAMILY: &'static str;
}

/// The client of a node that needs no connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoClient;

impl Client for NoClient {
    const FAMILY: &'static str = "none";
}

/// A session with another system: a typed config that connects to a client, which the nodes
/// that name it share.
///
/// # Contract
///
/// 1. [`connect`](Self::connect) resolves its secrets through the context and shows none.
/// 2. [`verify`](Self::verify) is cheap and writes nothing.
/// 3. [`disconnect`](Self::disconnect) is called on every way out, once.
/// 4. In a [rehearsal](ConnectContext::is_rehearsal) it creates and changes nothing, and notes what
///    it would have created.
pub trait Connection: Config {
    /// The name that graphs use, such as `object/local`.
    const NAME: &'static str;
    /// What it connects to.
    type Client: Client;

    /// Returns what is wrong with the config that its types do not say. Pure.
    fn validate(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// Returns the secrets that it needs, so that a missing one is named at the start.
    fn secrets(&self) -> Vec<SecretRef> {
        Vec::new()
    }

    /// Returns what it touches on this machine and network: what a stranger's graph may not.
    fn reach(&self) -> Vec<Reach>;

    /// Returns whether what works through it computes in this process and calls nobody. Actions
    /// then have no retries and no limits, whatever they are called. Default no.
    fn is_local(&self) -> bool {
        false
    }

    /// Connects. In a [rehearsal](ConnectContext::is_rehearsal) it creates nothing: what is not
    /// there, and would be made, is empty.
    fn connect(&self, context: &ConnectContext) -> impl Future<Output = Result<Self::Client>> + Send;

    /// Checks that the other side is there and knows us. Cheap; writes nothing.
    fn verify(&self, client: &Self::Client) -> impl Future<Output = Result<()>> + Send;

    /// Lets go. Default nothing to do.
    fn disconnect(&self, client: &Self::Client) -> impl Future<Output = Result<()>> + Send {
        let _ = client;
        async { Ok(()) }
    }
}

/// Something on this machine or network that a connection touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Files of this machine.
    Files {
        /// The setting that says so, as a path in the config.
        setting: String,
    },
    /// An address on the network.
    Network {
        /// The setting that says so, as a path in the config.
        setting: String,
        /// The host: a name or an address.
        host: String,
    },
}

/// Looks secrets up.
pub trait SecretResolver: Send + Sync {
    /// Returns the value of a secret, or none if it is not set.
    ///
    /// # Errors
    ///
    /// Whatever keeps the place where secrets are from being read; never with a value in it.
    fn resolve(&self, reference: &SecretRef) -> Result<Option<Secret>>;

    /// Returns where somebody puts a secret for it to be found, as the end of a sentence: `set the
    /// environment variable of its name`. Default that it goes to whom the engine asks.
    fn remedy(&self) -> String {
        "give it to the engine's `SecretResolver`".to_owned()
    }
}

/// What a connection is told when it connects.
#[derive(Clone)]
pub struct ConnectContext {
    name: Arc<str>,
    secrets: Arc<dyn SecretResolver>,
    untrusted: bool,
    /// What would have been created, in a rehearsal.
    missing: Option<Arc<Mutex<BTreeSet<String>>>>,
}

impl ConnectContext {
    /// Puts together what a connection is told: its name in the graph and where secrets are.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, secrets: Arc<dyn SecretResolver>) -> Self {
        Self { name: name.into(), secrets, untrusted: false, missing: None }
    }

    /// A context outside any graph, where no secret is set.
    #[must_use]
    pub fn detached() -> Self {
        Self::new("detached", Arc::new(NoSecrets))
    }

    /// Says that the graph comes from a stranger: private and link-local addresses are refused
    /// also where a name or a redirect leads to one.
    #[must_use]
    pub fn untrusted(mut self, untrusted: bool) -> Self {
        self.untrusted = untrusted;
        self
    }

    /// Returns whether the graph comes from a stranger.
    #[must_use]
    pub fn is_untrusted(&self) -> bool {
        self.untrusted
    }

    /// Says that this is a rehearsal, such as a dry run: nothing may be created or changed.
    #[must_use]
    pub fn rehearsing(mut self) -> Self {
        self.missing = Some(Arc::default());
        self
    }

    /// Returns whether this is a rehearsal. What does not exist and is to be created is not, then:
    /// it counts as there and empty, and is [noted](Self::note_missing).
    #[must_use]
    pub fn is_rehearsal(&self) -> bool {
        self.missing.is_some()
    }

    /// Notes in a rehearsal what does not exist, and what a run would create: such as `database
    /// "index.db"`. Outside of one it does nothing.
    pub fn note_missing(&self, what: impl Into<String>) {
        if let Some(missing) = &self.missing {
            missing.lock().unwrap_or_else(PoisonError::into_inner).insert(what.into());
        }
    }

    /// Returns what was noted as missing, each once.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let Some(missing) = &self.missing else { return Vec::new() };
        missing.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Returns the connection's name in the graph.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the value of a secret.
    ///
    /// # Errors
    ///
    /// `authentication` if it is not set: names it and where to set it.
    pub fn secret(&self, reference: &SecretRef) -> Result<Secret> {
        self.secrets.resolve(reference)?.ok_or_else(|| {
            let name = reference.name();
            let message = format!("the secret \"{name}\" is not set: {}", self.secrets.remedy());
            Error::new(ErrorKind::Authentication, message).at_connection(self.name.clone())
        })
    }
}

impl fmt::Debug for ConnectContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectContext")
            .field("name", &self.name)
            .field("untrusted", &self.untrusted)
            .field("rehearsal", &self.is_rehearsal())
            .finish()
    }
}

struct NoSecrets;

impl SecretResolver for NoSecrets {
    fn resolve(&self, _: &SecretRef) -> Result<Option<Secret>> {
        Ok(None)
    }
}
