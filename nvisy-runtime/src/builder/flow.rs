//! What flows out of a node: consumed by the node that it flows into.

use std::marker::PhantomData;

use nvisy_core::primitive::kind::Accepts;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::{ActionConfig, Any, Item, Kind, Outcome, Result, SinkConfig};

use super::attach::{IntoAction, IntoSink};
use super::{Shared, config};
use crate::graph::connection::empty_config;
use crate::graph::{ActionNode, FanInNode, FanOutNode, Function, NodeBody, PortRef, SinkNode, SpillPolicy};

/// What flows out of a node, of kind `K`.
///
/// It feeds one node, which consumes it: to feed several, [`fan_out`](Self::fan_out) splits it.
/// Policies that are chained behind it go for the node that it comes from.
#[derive(Debug)]
#[must_use = "a flow that no node reads is an error when the graph compiles"]
pub struct Flow<K: Kind = Any> {
    pub(super) shared: Shared,
    pub(super) node: String,
    pub(super) port: Option<String>,
    pub(super) best_effort: bool,
    pub(super) spill: Option<SpillPolicy>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Flow<K> {
    pub(super) fn new(shared: Shared, node: String, port: Option<String>) -> Self {
        Self { shared, node, port, best_effort: false, spill: None, kind: PhantomData }
    }

    /// Lets an action change it.
    pub fn then<A: IntoAction>(
        self,
        name: impl Into<String>,
        action: A,
    ) -> Flow<<A::Action as ActionConfig>::Output<K>>
    where
        <A::Action as ActionConfig>::Input: Accepts<K>,
    {
        let name = name.into();
        let (action, connection) = action.into_action();
        let input = self.feed(&name);
        match config::minimal(&action) {
            Ok(config) => {
                let connection = self.shared.link(connection);
                let node = ActionNode { connection, ..ActionNode::new(A::Action::NAME, config, input) };
                self.shared.add(&name, node);
            }
            Err(message) => self.shared.state().unwritable("action", "nodes", &name, &message),
        }
        Flow::new(self.shared, name, None)
    }

    /// Puts it together with another flow: this one is the left input, the other the right.
    ///
    /// # Examples
    ///
    /// ```
    /// use nvisy_core::primitive::row::Row;
    /// use nvisy_runtime::actions::Join;
    /// use nvisy_runtime::prelude::*;
    ///
    /// # fn joined(orders: Flow<Row>, users: Flow<Row>) {
    /// let joined = orders.join("joined", users, Join::on("row.user_id", "row.id"));
    /// # }
    /// ```
    pub fn join<R: Kind, A: IntoAction>(
        self,
        name: impl Into<String>,
        right: Flow<R>,
        action: A,
    ) -> Flow<<A::Action as ActionConfig>::Output<K>>
    where
        <A::Action as ActionConfig>::Input: Accepts<K> + Accepts<R>,
    {
        let name = name.into();
        let second = right.feed(&name);
        drop(right);
        let joined = self.then(name.clone(), action);
        joined.shared.edit(&name, |node| {
            if let Some(inputs) = node.inputs_mut() {
                inputs.push(second);
            }
        });
        joined
    }

    /// Lets a function change it, item by item, without waiting for anything.
    ///
    /// The graph holds its name, `fn/NAME`, and this value of it the code. To load the graph
    /// from JSON, register the function with the engine under the same name.
    pub fn then_fn<O, F>(self, name: impl Into<String>, function: F) -> Flow<O>
    where
        O: Kind,
        F: Fn(Item<K>) -> Result<Outcome<O>> + Send + Sync + 'static,
    {
        let name = name.into();
        let uses = format!("{}{name}", Function::PREFIX);
        let input = self.feed(&name);
        self.shared.add(&name, ActionNode::new(uses, empty_config(), input));
        self.shared.state().graph.add_function(&name, Function::new(function));
        Flow::new(self.shared, name, None)
    }

    /// Lets a sink write it.
    pub fn sink<S: IntoSink>(self, name: impl Into<String>, sink: S) -> SinkRef
    where
        <S::Sink as SinkConfig>::Input: Accepts<K>,
    {
        let name = name.into();
        let (sink, connection) = sink.into_sink();
        let input = self.feed(&name);
        match config::minimal(&sink) {
            Ok(config) => {
                let connection = self.shared.link(connection);
                self.shared
                    .add(&name, SinkNode { connection, ..SinkNode::new(S::Sink::NAME, config, input) });
            }
            Err(message) => self.shared.state().unwritable("sink", "nodes", &name, &message),
        }
        SinkRef::new(self.shared, name)
    }

    /// Lets several flows of one kind flow together.
    pub fn fan_in<const N: usize>(name: impl Into<String>, flows: [Self; N]) -> Self {
        const { assert!(N > 1, "a fan_in has two inputs or more") };
        let name = name.into();
        let inputs = flows.iter().map(|flow| flow.feed(&name)).collect();
        let shared = flows.into_iter().next().map(|flow| flow.shared);
        // There is one: the assertion above says so.
        let shared = shared.unwrap_or_else(|| Shared::new(crate::graph::Graph::new("")));
        shared.add(&name, FanInNode { inputs });
        Self::new(shared, name, None)
    }

    /// Returns what the node sets aside, as [dead letters](nvisy_core::DeadLetter).
    pub fn dead_letter(&self) -> Flow<Raw> {
        Flow::new(self.shared.clone(), self.node.clone(), Some(PortRef::DEAD_LETTER.to_owned()))
    }

    /// Sets the expression that gives an item's natural key, for a flow that comes from a source.
    pub fn key(self, expression: impl Into<String>) -> Self {
        let mut is_source = false;
        self.shared.edit(&self.node, |node| {
            if let NodeBody::Source(source) = &mut node.body {
                source.key = Some(expression.into());
                is_source = true;
            }
        });
        if !is_source {
            self.wrong("key", "only a source has a key");
        }
        self
    }

    /// Lets what reads this copy fail or lag without holding up the others: for a flow that
    /// comes from a [`fan_out`](Self::fan_out).
    pub fn best_effort(mut self) -> Self {
        self.best_effort = true;
        self
    }

    /// Keeps what the reader of this copy has yet to take, in memory and then in files, so that it
    /// holds up the others only when so much waits: for a flow that comes from a
    /// [`fan_out`](Self::fan_out).
    ///
    /// Every copy arrives; what fails is the run's failure, as without. With a state directory
    /// what waits is part of the checkpoint.
    ///
    /// ```
    /// # use nvisy_core::primitive::raw::Raw;
    /// # use nvisy_core::testing::memory::{MemorySink, MemorySource};
    /// # use nvisy_runtime::prelude::*;
    /// use nvisy_runtime::graph::SpillPolicy;
    ///
    /// # let graph = Graph::builder("copy");
    /// # let numbers = graph.source("numbers", MemorySource::raw([]));
    /// let [kept, embedded] = numbers.fan_out("copies");
    /// kept.sink("kept", MemorySink::named("doc"));
    /// embedded.spill(SpillPolicy::default()).sink("embedded", MemorySink::named("doc"));
    /// ```
    pub fn spill(mut self, policy: SpillPolicy) -> Self {
        self.spill = Some(policy);
        self
    }

    /// Forgets the kind.
    pub fn into_any(self) -> Flow<Any> {
        self.cast()
    }

    /// Says which kind flows, where rustc does not know and the config decides. The compiler of
    /// graphs checks it.
    pub fn cast<T: Kind>(self) -> Flow<T> {
        Flow {
            shared: self.shared,
            node: self.node,
            port: self.port,
            best_effort: self.best_effort,
            spill: self.spill,
            kind: PhantomData,
        }
    }

    /// Returns the name of the node that it comes from.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Returns what the reader names in its `inputs`.
    pub(super) fn feed(&self, reader: &str) -> String {
        if self.best_effort && !self.copy(|fan_out| fan_out.best_effort.push(reader.to_owned())) {
            self.wrong("best_effort", "only what reads from a fan_out is best effort");
        }
        if let Some(policy) = self.spill
            && !self.copy(|fan_out| _ = fan_out.spill.insert(reader.to_owned(), policy))
        {
            self.wrong("spill", "only what reads from a fan_out spills");
        }
        PortRef { node: &self.node, port: self.port.as_deref() }.to_string()
    }

    /// Says something of this copy to the fan-out that it comes from. Returns whether it does.
    fn copy(&self, say: impl FnOnce(&mut FanOutNode)) -> bool {
        let mut is_copy = false;
        self.shared.edit(&self.node, |node| {
            if let (NodeBody::FanOut(node), None) = (&mut node.body, &self.port) {
                say(node);
                is_copy = true;
            }
        });
        is_copy
    }

    fn wrong(&self, field: &str, why: &str) {
        self.shared.wrong(&self.node, field, why);
    }
}

/// A sink of a graph that is being built: policies are chained behind it.
#[derive(Debug)]
pub struct SinkRef {
    pub(super) shared: Shared,
    pub(super) node: String,
}

impl SinkRef {
    pub(super) fn new(shared: Shared, node: String) -> Self {
        Self { shared, node }
    }

    /// Returns what the sink sets aside, as [dead letters](nvisy_core::DeadLetter).
    pub fn dead_letter(&self) -> Flow<Raw> {
        Flow::new(self.shared.clone(), self.node.clone(), Some(PortRef::DEAD_LETTER.to_owned()))
    }

    /// Returns the name of the sink.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }
}
