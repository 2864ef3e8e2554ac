//! Builds graphs in Rust: rustc checks what flows where, and the result is the same document
//! as the JSON.

mod attach;
mod config;
mod flow;
mod policies;
mod route;

use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nvisy_core::{Client, Connection, SinkConfig, Source};

pub use self::attach::{IntoAction, IntoSink, IntoSource, Link, On, OnConnection};
pub use self::flow::{Flow, SinkRef};
use crate::compiler::{Diagnostic, Diagnostics, code};
use crate::graph::{ConnectionSpec, Graph, Node, RateLimit, Settings, SinkNode, SourceNode};

/// Builds a graph.
///
/// A node's name comes first, then its config; what flows out of it is a [`Flow`], which the
/// next node consumes. Policies are chained behind the node that they go for.
///
/// # Examples
///
/// ```
/// use nvisy_core::primitive::raw::Raw;
/// use nvisy_core::testing::memory::{MemorySink, MemorySource};
/// use nvisy_runtime::prelude::*;
///
/// # fn main() -> Result<()> {
/// let graph = Graph::builder("copy");
/// graph
///     .source("numbers", MemorySource::raw([1.into()]))
///     .then_fn("same", |item: Item<Raw>| Ok(Outcome::emit(item)))
///     .sink("kept", MemorySink::named("doc"))
///     .retry(Retry::exponential(5));
/// let graph = graph.build()?;
/// assert_eq!(graph.nodes.len(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct GraphBuilder(Shared);

impl Graph {
    /// Starts to build a graph.
    #[must_use]
    pub fn builder(name: impl Into<String>) -> GraphBuilder {
        GraphBuilder(Shared::new(Self::new(name)))
    }
}

impl GraphBuilder {
    /// Adds a connection that nodes share: they take it with
    /// [`on`](OnConnection::on).
    #[expect(clippy::needless_pass_by_value, reason = "like the configs of nodes, it is used up")]
    pub fn connect<C: Connection>(&self, name: impl Into<String>, connection: C) -> ConnectionRef<C::Client> {
        let name = name.into();
        let mut state = self.0.state();
        match config::minimal(&connection) {
            Ok(config) => {
                let spec = ConnectionSpec::new(C::NAME).with_config(config);
                if state.graph.connections.contains(&name) {
                    state.duplicate("connection", "connections", &name);
                } else {
                    state.graph.connections.insert(name.clone(), spec);
                }
            }
            Err(message) => state.unwritable("connection", "connections", &name, &message),
        }
        drop(state);
        ConnectionRef { shared: self.0.clone(), name, client: PhantomData }
    }

    /// Adds a source.
    pub fn source<S: IntoSource>(
        &self,
        name: impl Into<String>,
        source: S,
    ) -> Flow<<S::Source as Source>::Output> {
        let name = name.into();
        let (source, connection) = source.into_source();
        match config::minimal(&source) {
            Ok(config) => {
                let node = SourceNode {
                    connection: self.0.link(connection),
                    ..SourceNode::new(S::Source::NAME, config)
                };
                self.0.add(&name, node);
            }
            Err(message) => self.0.state().unwritable("source", "nodes", &name, &message),
        }
        Flow::new(self.0.clone(), name, None)
    }

    /// Adds a sink that takes the dead letters of every node whose port leads nowhere else.
    pub fn dead_letters<S: IntoSink>(&self, name: impl Into<String>, sink: S) -> SinkRef {
        let name = name.into();
        let (sink, connection) = sink.into_sink();
        match config::minimal(&sink) {
            Ok(config) => {
                let connection = self.0.link(connection);
                let uses = S::Sink::NAME.to_owned();
                self.0.add(&name, SinkNode { uses, connection, inputs: Vec::new(), config });
            }
            Err(message) => self.0.state().unwritable("sink", "nodes", &name, &message),
        }
        self.0.state().graph.settings.dead_letter = Some(name.clone());
        SinkRef::new(self.0.clone(), name)
    }

    /// Changes what goes for the whole run.
    pub fn settings(&self, change: impl FnOnce(&mut Settings)) -> &Self {
        change(&mut self.0.state().graph.settings);
        self
    }

    /// Returns the graph as it stands.
    ///
    /// # Errors
    ///
    /// What no graph can hold: two nodes or connections of one name, a config that is no JSON
    /// object. The rest is found when it compiles.
    pub fn build(&self) -> Result<Graph, Diagnostics> {
        let state = self.0.state();
        if state.problems.is_empty() {
            Ok(state.graph.clone())
        } else {
            Err(Diagnostics::new(state.problems.clone()))
        }
    }
}

/// A shared connection, to be taken by nodes whose client is a `C`.
#[derive(Debug)]
pub struct ConnectionRef<C> {
    shared: Shared,
    name: String,
    client: PhantomData<fn() -> C>,
}

impl<C> Clone for ConnectionRef<C> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), name: self.name.clone(), client: PhantomData }
    }
}

impl<C: Client> ConnectionRef<C> {
    /// Sets how often all its nodes together may call.
    #[must_use]
    pub fn rate_limit(self, limit: RateLimit) -> Self {
        if let Some(spec) = self.shared.state().graph.connections.get_mut(&self.name) {
            spec.rate_limit = Some(limit);
        }
        self
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The graph that is being built, shared by the builder and its flows.
#[derive(Clone, Debug)]
struct Shared(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    graph: Graph,
    problems: Vec<Diagnostic>,
}

impl Shared {
    fn new(graph: Graph) -> Self {
        Self(Arc::new(Mutex::new(State { graph, problems: Vec::new() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, name: &str, node: impl Into<Node>) {
        let mut state = self.state();
        if state.graph.nodes.contains(name) {
            state.duplicate("node", "nodes", name);
        } else {
            state.graph.nodes.insert(name, node.into());
        }
    }

    fn edit(&self, name: &str, edit: impl FnOnce(&mut Node)) {
        if let Some(node) = self.state().graph.nodes.get_mut(name) {
            edit(node);
        }
    }
}

impl State {
    fn duplicate(&mut self, what: &str, path: &str, name: &str) {
        let message = format!("two {what}s have the name \"{name}\"");
        self.problems.push(Diagnostic::new(code::NAME_DUPLICATE, format!("{path}.{name}"), message));
    }

    fn unwritable(&mut self, what: &str, path: &str, name: &str, message: &str) {
        let message = format!("{what} \"{name}\": its config cannot be written as JSON: {message}");
        self.problems.push(Diagnostic::new(code::CONFIG_INVALID, format!("{path}.{name}.config"), message));
    }
}
