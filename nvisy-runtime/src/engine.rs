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
mod dry_run;
mod edge;
mod executor;
mod flood;
mod gather;
mod ledger;
mod lineage;
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
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nvisy_core::connection::SecretResolver;
use nvisy_core::{
    ActionConfig, CheckpointStore, Connection, Error, Item, Kind, Outcome, Plugin, Result, SinkConfig, Source,
};

pub use self::checkpoint::{Begun, NodeMemory, RunState};
use self::connection::ConnectionState;
pub use self::dry_run::{CallsForecast, Creation, DryRun, Forecast, NodeForecast, SourceForecast};
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
    /// Below which folder nodes keep what does not fit into memory, if it is to stay.
    spill: Option<PathBuf>,
    /// Where runs log what their sinks have written, if they do. The outer one says whether somebody
    /// has said anything.
    lineage: Option<Option<PathBuf>>,
    /// The nodes that may have changed since a run stopped half way.
    accepted_changes: Vec<String>,
    connections: Arc<Mutex<HashMap<ConnectionKey, Weak<ConnectionState>>>>,
    /// Whether its runs create and change nothing.
    rehearses: bool,
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
            state: None,
            checkpoints: None,
            memo: None,
            lineage: None,
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
        self.start_plan(&self.compiled(graph)?).await
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

    /// Finds out what a run of a graph would do, and does nothing of it: connects, counts
    /// partitions, reads up to some thousand items of each source and sends them through the
    /// graph. Actions that call nobody work on them; calls are counted and not made, sinks are
    /// not opened.
    ///
    /// Functions of one's own work on the sample too: what they do to others they do.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start). A sample that fails is no error: it is in
    /// [`DryRun::sample`].
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use nvisy_runtime::Engine;
    /// use nvisy_runtime::graph::Graph;
    ///
    /// # async fn look(graph: &Graph) -> nvisy_core::Result<()> {
    /// let forecast = Engine::builder().build()?.dry_run(graph).await?;
    /// println!("{forecast}");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn dry_run(&self, graph: &Graph) -> Result<DryRun> {
        dry_run::dry_run(self, &self.compiled(graph)?).await
    }

    /// Finds out what a run of a plan would do: see [`dry_run`](Self::dry_run).
    ///
    /// # Errors
    ///
    /// As [`dry_run`](Self::dry_run).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn dry_run_plan(&self, plan: &ExecutionPlan) -> Result<DryRun> {
        dry_run::dry_run(self, plan).await
    }

    fn compiled(&self, graph: &Graph) -> Result<ExecutionPlan> {
        self.compile(graph).map_err(|diagnostics| {
            let name = &graph.name;
            Error::configuration(format!("the graph \"{name}\" does not compile:\n{diagnostics}"))
                .with_source(diagnostics)
        })
    }

    /// Returns the engine that keeps what a plan's runs need where its graph says.
    ///
    /// # Errors
    ///
    /// `configuration` if this engine keeps it elsewhere.
    fn keeping(&self, plan: &ExecutionPlan) -> Result<Self> {
        let settings = plan.0.graph.settings.checkpoint.as_ref();
        let Some(directory) = settings.and_then(|settings| settings.directory.as_deref()) else {
            return Ok(self.clone());
        };
        if self.0.checkpoints.is_some() {
            return Err(Error::configuration(format!(
                "the graph keeps its state in \"{directory}\" (`settings.checkpoint.directory`), and the engine names a place, too (`EngineBuilder::state` or `checkpoints`): leave one of them out"
            )));
        }
        let (memo, lineage) = (self.0.memo.clone(), self.0.lineage.clone());
        let places = Places { checkpoints: None, memo, lineage, spill: None };
        Ok(Self(Arc::new(self.with_places(places.or_in(Some(directory.into()))))))
    }

    /// Returns this engine as it lets a run go on though these nodes of its graph have changed, are
    /// new or are gone since it stopped, or, of a source, though a partition is gone that it had read
    /// a part of, or a table is cut into other ranges, or a source is read incrementally that was not,
    /// or no more, which are read again as a whole. What was read before stays as it was made, also in an index
    /// that is made incrementally: until its files change, or the graph does once more.
    ///
    /// A node that is gone, has another name or does other work, and still has what nobody else would
    /// take up (what an action or a buffer keeps, files that have yet to show), is refused all the same;
    /// a `deduplicate` may go.
    ///
    /// Use it for that one run: to every other one such a change is an error that protects its data.
    /// A run that begins is not asked: with another graph, incremental sources read everything again.
    ///
    /// # Examples
    ///
    /// ```
    /// use nvisy_runtime::Engine;
    /// use nvisy_runtime::graph::Graph;
    ///
    /// # async fn go_on(engine: Engine, corrected: &Graph) -> nvisy_core::Result<()> {
    /// let report = engine.accepting(["mask"]).run(corrected).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn accepting(&self, nodes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let parts = &*self.0;
        let places = Places {
            checkpoints: parts.checkpoints.clone(),
            memo: parts.memo.clone(),
            spill: parts.spill.clone(),
            lineage: parts.lineage.clone(),
        };
        let mut parts = self.with_places(places);
        parts.accepted_changes.extend(nodes.into_iter().map(Into::into));
        Self(Arc::new(parts))
    }

    /// Returns an engine of the same types for a rehearsal.
    fn rehearsing(&self, checkpoints: Option<Arc<dyn CheckpointStore>>, spill: PathBuf) -> Self {
        let memo = self.0.memo.clone();
        let places = Places { checkpoints, memo, spill: Some(spill), lineage: Some(None) };
        Self(Arc::new(EngineParts { rehearses: true, ..self.with_places(places) }))
    }

    fn with_places(&self, places: Places) -> EngineParts {
        let (parts, Places { checkpoints, memo, spill, lineage }) = (&*self.0, places);
        EngineParts {
            registry: parts.registry.clone(),
            secrets: parts.secrets.clone(),
            options: parts.options,
            checkpoints,
            memo,
            spill,
            lineage,
            accepted_changes: parts.accepted_changes.clone(),
            connections: parts.connections.clone(),
            rehearses: parts.rehearses,
        }
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

/// Where an engine keeps what, as far as that is said: see [`EngineParts`].
struct Places {
    checkpoints: Option<Arc<dyn CheckpointStore>>,
    memo: Option<Arc<dyn MemoStore>>,
    spill: Option<PathBuf>,
    lineage: Option<Option<PathBuf>>,
}

impl Places {
    /// Puts into a directory what is said nowhere.
    fn or_in(self, directory: Option<PathBuf>) -> Self {
        let Some(directory) = directory else { return self };
        let memo = || -> Arc<dyn MemoStore> { Arc::new(memos::DirectoryStore::new(directory.join("memo"))) };
        #[cfg(feature = "lineage")]
        let lineage = self.lineage.or_else(|| Some(Some(directory.join(crate::lineage::DIRECTORY))));
        #[cfg(not(feature = "lineage"))]
        let lineage = self.lineage;
        Self {
            memo: Some(self.memo.unwrap_or_else(memo)),
            spill: self.spill.or_else(|| Some(directory.join("spill"))),
            lineage,
            checkpoints: Some(self.checkpoints.unwrap_or_else(|| Arc::new(DirectoryStore::new(&directory)))),
        }
    }
}

/// Puts an [`Engine`] together.
#[derive(Clone)]
pub struct EngineBuilder {
    registry: Registry,
    secrets: Option<Arc<dyn SecretResolver>>,
    untrusted: bool,
    /// Where everything is that is not said apart.
    state: Option<PathBuf>,
    checkpoints: Option<Arc<dyn CheckpointStore>>,
    memo: Option<Arc<dyn MemoStore>>,
    /// The outer one says whether somebody has said anything.
    lineage: Option<Option<PathBuf>>,
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

    /// Knows what a registry holds and what is added after this, and nothing else.
    ///
    /// # Examples
    ///
    /// ```
    /// use nvisy_runtime::Engine;
    /// use nvisy_runtime::registry::Registry;
    ///
    /// # fn main() -> nvisy_core::Result<()> {
    /// let engine = Engine::builder().registry(Registry::new()).build()?;
    /// assert!(engine.registry().find_action("filter").is_none());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
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

    /// Says which version of its code a function is in, registered here or carried by a graph
    /// ([`Flow::then_fn`](crate::builder::Flow::then_fn)). Default none.
    ///
    /// Raise it when the function makes something else of the same input than before: no run sees
    /// that. What incremental runs have made with it is made again then, as where the config of a
    /// node has changed, and a run that stopped half way does not go on unless the node is
    /// [accepted](Engine::accepting). Actions say it themselves: [`ActionConfig::version`].
    ///
    /// # Examples
    ///
    /// ```
    /// use nvisy_core::primitive::document::Document;
    /// use nvisy_core::{Item, Outcome};
    /// use nvisy_runtime::Engine;
    ///
    /// # fn main() -> nvisy_core::Result<()> {
    /// let shout = |item: Item<Document>| Ok(Outcome::emit(item.map_text(|text| text.to_uppercase())?));
    /// let engine = Engine::builder().function("shout", shout).function_version("shout", 2).build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn function_version(mut self, name: impl Into<String>, version: u32) -> Self {
        self.registry = self.registry.function_version(name, version);
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
    /// What actions remember is part of a checkpoint; what of it does not fit into memory is kept
    /// in its directory `spill`.
    ///
    /// Sinks that write by id have then everything once; so have files, which show when a
    /// checkpoint has them. The directory is made; remove it to begin anew. A graph can name one
    /// itself, where the engine does not: `settings.checkpoint.directory`.
    ///
    /// Sources whose policy says `"incremental": true` read there what runs before have read to the
    /// end, and read what is new or has changed since. Where a node of the graph has changed, or the
    /// version of its code ([`ActionConfig::version`], [`function_version`](Self::function_version)),
    /// they read everything again.
    ///
    /// Nodes whose policy says `"memo": true` keep results of paid calls in its directory `memo`,
    /// which all graphs share, up to 1 GiB; [`memo`](Self::memo) keeps them elsewhere.
    ///
    /// With the feature `lineage`, which is on unless turned off, its directory `lineage` says of
    /// everything that sinks have written where it comes from.
    ///
    /// What is said apart is kept, in whatever order: [`checkpoints`](Self::checkpoints),
    /// [`memo`](Self::memo), `lineage`.
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
    pub fn state(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state = Some(directory.into());
        self
    }

    /// Logs in a directory where everything comes from that sinks write, with or without state:
    /// see [`lineage`](crate::lineage).
    ///
    /// # Examples
    ///
    /// ```
    /// use nvisy_runtime::Engine;
    ///
    /// # fn main() -> nvisy_core::Result<()> {
    /// # let place = tempfile::tempdir().unwrap();
    /// # let directory = place.path();
    /// let logging = Engine::builder().lineage(directory).build()?;
    /// let silent = Engine::builder().state(directory).without_lineage().build()?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "lineage")]
    #[must_use]
    pub fn lineage(mut self, directory: impl Into<PathBuf>) -> Self {
        self.lineage = Some(Some(directory.into()));
        self
    }

    /// Logs nothing of that, also where there is state.
    #[cfg(feature = "lineage")]
    #[must_use]
    pub fn without_lineage(mut self) -> Self {
        self.lineage = Some(None);
        self
    }

    /// Keeps in a store what nodes pay for whose policy says `"memo": true`: see
    /// [`memo`](crate::memo).
    #[must_use]
    pub fn memo(mut self, store: impl MemoStore) -> Self {
        self.memo = Some(Arc::new(store));
        self
    }

    /// Keeps in a store what runs need in order to go on, beside a [`state`](Self::state) or without
    /// one: with one, only what actions spill, the memo and the log of lineage are in its directory.
    #[must_use]
    pub fn checkpoints(mut self, store: impl CheckpointStore) -> Self {
        self.checkpoints = Some(Arc::new(store));
        self
    }

    /// Says that graphs come from strangers: local files, private and link-local addresses are
    /// refused, also behind a name or a redirect, and so is every secret, unless
    /// [`secrets`](Self::secrets) says which there are.
    ///
    /// A graph decides where a secret is sent to. Give those alone that its author may know.
    ///
    /// What such a graph takes is bounded: all its patterns together take at most 64 MiB, and a
    /// JSON Schema whose references lead to one value by very many ways is refused.
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
    /// `configuration` if a name is registered twice, or that of the state directory is empty.
    pub fn build(self) -> Result<Engine> {
        self.registry.check()?;
        if self.state.as_ref().is_some_and(|directory| directory.as_os_str().is_empty()) {
            return Err(Error::configuration(
                "the name of the state directory is empty: name one, such as \"state\", or leave it out",
            ));
        }
        let Self { registry, secrets, untrusted, state, checkpoints, memo, lineage } = self;
        let Places { checkpoints, memo, spill, lineage } =
            Places { checkpoints, memo, lineage, spill: None }.or_in(state);
        let options = CompileOptions { untrusted, without_secrets: untrusted && secrets.is_none() };
        let secrets = match secrets {
            Some(secrets) => secrets,
            None if untrusted => Arc::new(Secrets::none()),
            None => Arc::new(Secrets::default()),
        };
        let connections = Arc::default();
        let parts = EngineParts {
            registry,
            secrets,
            options,
            checkpoints,
            memo,
            spill,
            lineage,
            accepted_changes: Vec::new(),
            connections,
            rehearses: false,
        };
        Ok(Engine(Arc::new(parts)))
    }
}

impl fmt::Debug for EngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineBuilder").field("untrusted", &self.untrusted).finish_non_exhaustive()
    }
}
