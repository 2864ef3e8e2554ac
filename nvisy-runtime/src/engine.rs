//! Runs graphs: one executor for builder graphs, JSON graphs and tests alike.
//!
//! The story of a run: [`Engine::start`] compiles the graph, resolves secrets, connects, and
//! builds every node; each node becomes one task, each edge a bounded channel of batches. A
//! source opens a slot for every batch that it reads; its tokens travel with the items, and
//! when the last one is settled, the slot is done with. When all tasks have ended, sinks are
//! closed, connections let go, the ledger is checked, and the [`RunReport`] tells the rest.

mod call;
mod checkpoint;
mod connection;
mod edge;
mod executor;
mod flood;
mod gather;
mod ledger;
mod memo;
mod moment;
mod node;
mod outlet;
mod prepare;
mod rate_limit;
mod report;
mod retry;
mod run;
mod source;
mod tracker;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nvisy_core::connection::SecretResolver;
use nvisy_core::{
    ActionConfig, CheckpointStore, Connection, Error, Item, Kind, Outcome, Plugin, Result, SinkConfig, Source,
};

pub use self::checkpoint::RunState;
use self::connection::ConnectionState;
pub use self::report::{
    CheckpointReport, IncrementReport, Latency, NodeProgress, NodeReport, NodeStatus, PartitionReport,
    Progress, RunReport, RunStatus,
};
pub use self::run::RunHandle;
use crate::checkpoint::DirectoryStore;
use crate::compiler::{CompileOptions, Diagnostics, ExecutionPlan, compile, compile_json};
use crate::graph::Graph;
use crate::memo::{self as memos, MemoStore};
use crate::registry::Registry;
use crate::secrets::Secrets;

/// Compiles and runs graphs. Cheap to clone; serves many runs at once, which share the limits
/// of connections that are the same.
///
/// # Examples
///
/// ```
/// use nvisy_runtime::Engine;
/// use nvisy_runtime::graph::Graph;
///
/// # fn main() -> nvisy_core::Result<()> {
/// let engine = Engine::builder().build()?;
/// let graph = Graph::new("empty");
/// let diagnostics = engine.compile(&graph).unwrap_err();
/// assert!(diagnostics.to_string().contains("source"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Engine(Arc<EngineParts>);

struct EngineParts {
    registry: Registry,
    secrets: Arc<dyn SecretResolver>,
    options: CompileOptions,
    /// Where checkpoints are kept, if runs make any.
    checkpoints: Option<Arc<dyn CheckpointStore>>,
    /// Where results of paid calls are kept, if they are.
    memo: Option<Arc<dyn MemoStore>>,
    /// The nodes that may have changed since a run stopped half way.
    accepted_changes: Vec<String>,
    connections: Mutex<HashMap<ConnectionKey, Weak<ConnectionState>>>,
}

/// What makes two connections the same: their type, and their config with its limits.
type ConnectionKey = (Arc<str>, String);

impl Engine {
    /// Begins an engine with the built-in actions and every plugin whose feature is on.
    #[must_use]
    pub fn builder() -> EngineBuilder {
        EngineBuilder {
            registry: Registry::enabled(),
            secrets: None,
            untrusted: false,
            checkpoints: None,
            memo: None,
            accepted_changes: Vec::new(),
        }
    }

    /// Returns the types and functions that graphs may name.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Compiles a graph. Pure: nothing is opened.
    ///
    /// # Errors
    ///
    /// All that is wrong with it.
    pub fn compile(&self, graph: &Graph) -> Result<ExecutionPlan, Diagnostics> {
        compile(graph, &self.0.registry, &self.0.options)
    }

    /// Reads a graph from JSON and compiles it. Pure: nothing is opened.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, each with line and column.
    pub fn compile_json(&self, text: &str) -> Result<ExecutionPlan, Diagnostics> {
        compile_json(text, &self.0.registry, &self.0.options)
    }

    /// Returns the JSON Schema of graphs, with the config of every registered type in it: for
    /// editors.
    #[must_use]
    pub fn schema(&self) -> serde_json::Value {
        self.0.registry.schema()
    }

    /// Compiles a graph, connects, and starts the run.
    ///
    /// # Errors
    ///
    /// `configuration` if the graph does not compile: the [`Diagnostics`] are the cause.
    /// `authentication` if a secret is not set: names all that are not. Whatever keeps a
    /// connection, action or sink from being opened. Nothing has been read then.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn start(&self, graph: &Graph) -> Result<RunHandle> {
        let plan = self.compile(graph).map_err(|diagnostics| {
            let name = &graph.name;
            Error::configuration(format!("the graph \"{name}\" does not compile:\n{diagnostics}"))
                .with_source(diagnostics)
        })?;
        self.start_plan(&plan).await
    }

    /// Connects, and starts a run of a plan.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn start_plan(&self, plan: &ExecutionPlan) -> Result<RunHandle> {
        let prepared = prepare::prepare(self, plan).await?;
        Ok(executor::start(prepared))
    }

    /// Compiles a graph, runs it, and waits for its end.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start). A run that began gives a report, however it ended.
    ///
    /// # Cancellation
    ///
    /// Dropping the future cancels the run.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn run(&self, graph: &Graph) -> Result<RunReport> {
        self.start(graph).await?.wait().await
    }

    /// Returns the shared state of a connection: one for all runs whose connection is the same.
    fn connection_state(&self, connection: &crate::compiler::plan::PlanConnection) -> Arc<ConnectionState> {
        let key =
            (connection.operation.clone(), format!("{} {:?}", connection.config_json, connection.rate_limit));
        let mut states = self.0.connections.lock().unwrap_or_else(PoisonError::into_inner);
        states.retain(|_, state| state.strong_count() > 0);
        if let Some(state) = states.get(&key).and_then(Weak::upgrade) {
            return state;
        }
        let state = Arc::new(ConnectionState::new(connection.name.clone(), connection.rate_limit));
        states.insert(key, Arc::downgrade(&state));
        state
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("untrusted", &self.0.options.untrusted).finish_non_exhaustive()
    }
}

/// Puts an [`Engine`] together.
#[derive(Clone)]
pub struct EngineBuilder {
    registry: Registry,
    secrets: Option<Arc<dyn SecretResolver>>,
    untrusted: bool,
    checkpoints: Option<Arc<dyn CheckpointStore>>,
    memo: Option<Arc<dyn MemoStore>>,
    accepted_changes: Vec<String>,
}

impl EngineBuilder {
    /// Adds what a plugin holds.
    #[must_use]
    pub fn plugin(mut self, plugin: &Plugin) -> Self {
        self.registry = self.registry.plugin(plugin);
        self
    }

    /// Knows nothing but the built-in actions and what is added after this.
    #[must_use]
    pub fn without_plugins(mut self) -> Self {
        self.registry = Registry::builtin();
        self
    }

    /// Adds a type of connection.
    #[must_use]
    pub fn connection<C: Connection>(mut self) -> Self {
        self.registry = self.registry.connection::<C>();
        self
    }

    /// Adds a type of source.
    #[must_use]
    pub fn source<S: Source>(mut self) -> Self {
        self.registry = self.registry.source::<S>();
        self
    }

    /// Adds a type of action; a [`Transform`](nvisy_core::Transform) that is also a config is one.
    #[must_use]
    pub fn action<A: ActionConfig>(mut self) -> Self {
        self.registry = self.registry.action::<A>();
        self
    }

    /// Adds a type of sink.
    #[must_use]
    pub fn sink<S: SinkConfig>(mut self) -> Self {
        self.registry = self.registry.sink::<S>();
        self
    }

    /// Adds a function, which a graph uses as `fn/NAME`.
    #[must_use]
    pub fn function<I: Kind, O: Kind>(
        mut self,
        name: impl Into<String>,
        function: impl Fn(Item<I>) -> Result<Outcome<O>> + Send + Sync + 'static,
    ) -> Self {
        self.registry = self.registry.function(name, function);
        self
    }

    /// Sets where the values of secrets come from. Default: the environment, then `.env`; for
    /// an [untrusted](Self::untrusted) engine nowhere.
    #[must_use]
    pub fn secrets(mut self, secrets: impl SecretResolver + 'static) -> Self {
        self.secrets = Some(Arc::new(secrets));
        self
    }

    /// Keeps in a directory what runs need in order to go on: a run that was stopped, failed, or
    /// was killed is taken up where it stood when its graph is run again, by its name.
    ///
    /// Sinks that write by id have then everything once; so have files, which show when a
    /// checkpoint has them. The directory is made; remove it to begin anew.
    ///
    /// Sources whose policy says `"incremental": true` read there what runs before have read to the
    /// end, and read what is new or has changed since.
    ///
    /// Nodes whose policy says `"memo": true` keep results of paid calls in its directory `memo`,
    /// which all graphs share, up to 1 GiB; [`memo`](Self::memo) keeps them elsewhere.
    ///
    /// # Examples
    ///
    /// ```
    /// use nvisy_runtime::Engine;
    ///
    /// # fn main() -> nvisy_core::Result<()> {
    /// # let place = tempfile::tempdir().unwrap();
    /// # let directory = place.path();
    /// let engine = Engine::builder().state(directory).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn state(self, directory: impl Into<std::path::PathBuf>) -> Self {
        let directory = directory.into();
        let memo = self.memo.clone();
        let memo = memo.unwrap_or_else(|| Arc::new(memos::DirectoryStore::new(directory.join("memo"))));
        Self { memo: Some(memo), ..self.checkpoints(DirectoryStore::new(directory)) }
    }

    /// Keeps in a store what nodes pay for whose policy says `"memo": true`: see
    /// [`memo`](crate::memo).
    #[must_use]
    pub fn memo(mut self, store: impl MemoStore) -> Self {
        self.memo = Some(Arc::new(store));
        self
    }

    /// Keeps in a store what runs need in order to go on: see [`state`](Self::state).
    #[must_use]
    pub fn checkpoints(mut self, store: impl CheckpointStore) -> Self {
        self.checkpoints = Some(Arc::new(store));
        self
    }

    /// Lets a run go on though these nodes have changed, are new or are gone since it stopped.
    /// What was read before stays as it was made.
    #[must_use]
    pub fn accept_changes(mut self, nodes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.accepted_changes.extend(nodes.into_iter().map(Into::into));
        self
    }

    /// Says that graphs come from strangers: local files, private and link-local addresses are
    /// refused, also behind a name or a redirect, and so is every secret, unless
    /// [`secrets`](Self::secrets) says which there are.
    ///
    /// A graph decides where a secret is sent to. Give those alone that its author may know.
    ///
    /// # Examples
    ///
    /// ```
    /// use nvisy_runtime::Engine;
    /// use nvisy_runtime::secrets::{SecretFiles, Secrets};
    ///
    /// # fn main() -> nvisy_core::Result<()> {
    /// // The files that this tenant put there, and nothing of this process.
    /// let theirs = Secrets::none().with(SecretFiles::in_directory("/srv/tenants/acme/secrets"));
    /// let engine = Engine::builder().untrusted().secrets(theirs).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn untrusted(mut self) -> Self {
        self.untrusted = true;
        self
    }

    /// Builds the engine.
    ///
    /// # Errors
    ///
    /// `configuration` if a name is registered twice.
    pub fn build(self) -> Result<Engine> {
        self.registry.check()?;
        let Self { registry, secrets, untrusted, checkpoints, memo, accepted_changes } = self;
        let options = CompileOptions { untrusted, without_secrets: untrusted && secrets.is_none() };
        let secrets = match secrets {
            Some(secrets) => secrets,
            None if untrusted => Arc::new(Secrets::none()),
            None => Arc::new(Secrets::default()),
        };
        let connections = Mutex::default();
        let parts =
            EngineParts { registry, secrets, options, checkpoints, memo, accepted_changes, connections };
        Ok(Engine(Arc::new(parts)))
    }
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder").field("untrusted", &self.untrusted).finish_non_exhaustive()
    }
}
