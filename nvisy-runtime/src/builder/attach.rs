//! Configs with the connection that their node works through.

use std::marker::PhantomData;

use nvisy_core::config::Config;
use nvisy_core::{ActionConfig, Client, Connection, SinkConfig, Source};

use super::{ConnectionRef, Shared, config};
use crate::compiler::{Diagnostic, code};
use crate::graph::{ConnectionSpec, ConnectionUse};

/// Lets a config say which connection its node works through.
pub trait OnConnection: Config {
    /// Works through a connection: a shared one by reference, or one of its own by value.
    #[must_use]
    fn on<L: Link>(self, connection: L) -> On<Self, L::Client> {
        On { config: self, connection: connection.link(), client: PhantomData }
    }
}

impl<T: Config> OnConnection for T {}

/// A config with a connection.
#[derive(Debug)]
pub struct On<T, C> {
    config: T,
    connection: Linked,
    client: PhantomData<fn() -> C>,
}

/// A connection as the builder takes it: `&`[`ConnectionRef`], or a [`Connection`] by value.
pub trait Link {
    /// What it connects to.
    type Client: Client;

    #[doc(hidden)]
    fn link(self) -> Linked;
}

/// A connection on its way into a node.
#[doc(hidden)]
#[derive(Debug)]
pub struct Linked(Result<ConnectionUse, String>);

impl<C: Client> Link for &ConnectionRef<C> {
    type Client = C;

    fn link(self) -> Linked {
        Linked(Ok(ConnectionUse::Shared(self.name.clone())))
    }
}

impl<C: Connection> Link for C {
    type Client = C::Client;

    fn link(self) -> Linked {
        let config = config::minimal(&self);
        Linked(config.map(|config| ConnectionUse::Inline(ConnectionSpec::new(C::NAME).with_config(config))))
    }
}

impl Shared {
    /// Notes that something was said of a node that does not apply to it.
    pub(super) fn wrong(&self, node: &str, field: &str, why: &str) {
        let message = format!("node \"{node}\": {why}");
        let path = format!("nodes.{node}.{field}");
        self.state().problems.push(Diagnostic::new(code::POLICY_NOT_APPLICABLE, path, message));
    }

    pub(super) fn link(&self, linked: Option<Linked>) -> Option<ConnectionUse> {
        match linked?.0 {
            Ok(connection) => Some(connection),
            Err(message) => {
                let message =
                    format!("the config of an inline connection cannot be written as JSON: {message}");
                self.state().problems.push(Diagnostic::new(code::CONFIG_INVALID, "nodes", message));
                None
            }
        }
    }
}

/// A source for [`GraphBuilder::source`](super::GraphBuilder::source): a [`Source`], with or
/// without a connection.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no source",
    note = "a source implements `Source`; on a connection, it must be one of the source's own client"
)]
pub trait IntoSource {
    /// The source.
    type Source: Source;

    #[doc(hidden)]
    fn into_source(self) -> (Self::Source, Option<Linked>);
}

impl<S: Source> IntoSource for S {
    type Source = S;

    fn into_source(self) -> (S, Option<Linked>) {
        (self, None)
    }
}

impl<S: Source> IntoSource for On<S, S::Client> {
    type Source = S;

    fn into_source(self) -> (S, Option<Linked>) {
        (self.config, Some(self.connection))
    }
}

/// An action for [`Flow::then`](super::Flow::then): an [`ActionConfig`], with or without a
/// connection.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no action",
    note = "an action implements `Transform` and is a config (`Clone`, `Debug`, `Serialize`, `Deserialize`, `JsonSchema`), or implements `ActionConfig`",
    note = "on a connection, it must be one of the action's own client"
)]
pub trait IntoAction {
    /// The action.
    type Action: ActionConfig;

    #[doc(hidden)]
    fn into_action(self) -> (Self::Action, Option<Linked>);
}

impl<A: ActionConfig> IntoAction for A {
    type Action = A;

    fn into_action(self) -> (A, Option<Linked>) {
        (self, None)
    }
}

impl<A: ActionConfig> IntoAction for On<A, A::Client> {
    type Action = A;

    fn into_action(self) -> (A, Option<Linked>) {
        (self.config, Some(self.connection))
    }
}

/// A sink for [`Flow::sink`](super::Flow::sink): a [`SinkConfig`], with or without a connection.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no sink",
    note = "a sink implements `SinkConfig`; on a connection, it must be one of the sink's own client"
)]
pub trait IntoSink {
    /// The sink.
    type Sink: SinkConfig;

    #[doc(hidden)]
    fn into_sink(self) -> (Self::Sink, Option<Linked>);
}

impl<S: SinkConfig> IntoSink for S {
    type Sink = S;

    fn into_sink(self) -> (S, Option<Linked>) {
        (self, None)
    }
}

impl<S: SinkConfig> IntoSink for On<S, S::Client> {
    type Sink = S;

    fn into_sink(self) -> (S, Option<Linked>) {
        (self.config, Some(self.connection))
    }
}
