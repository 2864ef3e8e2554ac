//! Plugins: types of connections, sources, actions and sinks under their names.

mod erased;

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

pub use self::erased::{
    AnyClient, ErasedActionConfig, ErasedConnection, ErasedSink, ErasedSinkConfig, ErasedSource,
};
use crate::action::ActionConfig;
use crate::config::{Problem, parse};
use crate::connection::{Client, Connection, NoClient};
use crate::sink::SinkConfig;
use crate::source::Source;

/// The type of client that a node works through or a connection gives.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientType {
    id: TypeId,
    family: &'static str,
}

impl ClientType {
    /// The type of `C`.
    #[must_use]
    pub fn of<C: Client>() -> Self {
        Self { id: TypeId::of::<C>(), family: C::FAMILY }
    }

    /// Returns the family of systems.
    #[must_use]
    pub fn family(&self) -> &'static str {
        self.family
    }

    /// Returns whether a node of this type needs no connection.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.id == TypeId::of::<NoClient>()
    }
}

impl fmt::Debug for ClientType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientType").field(&self.family).finish()
    }
}

/// A type of node or connection under its name: how to read its config, and its shape.
pub struct TypeEntry<T: ?Sized> {
    name: &'static str,
    client: ClientType,
    schema: fn(&mut SchemaGenerator) -> Schema,
    parse: Arc<ParseConfig<T>>,
}

type ParseConfig<T> = dyn Fn(&Value) -> Result<Arc<T>, Vec<Problem>> + Send + Sync;

impl<T: ?Sized> TypeEntry<T> {
    /// Returns the name that graphs use.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the client that such a node works through, or such a connection gives.
    #[must_use]
    pub fn client(&self) -> ClientType {
        self.client
    }

    /// Returns the JSON Schema of the config.
    #[must_use]
    pub fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.schema)(generator)
    }

    /// Reads a config and checks it. Pure.
    ///
    /// # Errors
    ///
    /// All problems, each with its path.
    pub fn parse(&self, config: &Value) -> Result<Arc<T>, Vec<Problem>> {
        (self.parse)(config)
    }
}

impl<T: ?Sized + 'static> TypeEntry<T> {
    fn wrapped(self, wrap: impl Fn(Arc<T>) -> Arc<T> + Send + Sync + 'static) -> Self {
        let parse = self.parse.clone();
        Self { parse: Arc::new(move |config| parse(config).map(&wrap)), ..self }
    }
}

impl<T: ?Sized> Clone for TypeEntry<T> {
    fn clone(&self) -> Self {
        Self { name: self.name, client: self.client, schema: self.schema, parse: self.parse.clone() }
    }
}

impl<T: ?Sized> fmt::Debug for TypeEntry<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypeEntry").field("name", &self.name).field("client", &self.client).finish()
    }
}

/// A type of connection.
pub type ConnectionType = TypeEntry<dyn ErasedConnection>;
/// A type of source node.
pub type SourceType = TypeEntry<dyn ErasedSource>;
/// A type of action node.
pub type ActionType = TypeEntry<dyn ErasedActionConfig>;
/// A type of sink node.
pub type SinkType = TypeEntry<dyn ErasedSinkConfig>;

fn checked<C: crate::config::Config>(
    config: &Value,
    validate: impl FnOnce(&C) -> Vec<Problem>,
) -> Result<C, Vec<Problem>> {
    let config: C = parse(config)?;
    let problems = validate(&config);
    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

impl ConnectionType {
    /// The entry of `C`.
    #[must_use]
    pub fn of<C: Connection>() -> Self {
        Self {
            name: C::NAME,
            client: ClientType::of::<C::Client>(),
            schema: SchemaGenerator::subschema_for::<C>,
            parse: Arc::new(|config| Ok(Arc::new(checked(config, C::validate)?))),
        }
    }
}

impl SourceType {
    /// The entry of `S`.
    #[must_use]
    pub fn of<S: Source>() -> Self {
        Self {
            name: S::NAME,
            client: ClientType::of::<S::Client>(),
            schema: SchemaGenerator::subschema_for::<S>,
            parse: Arc::new(|config| Ok(Arc::new(checked(config, S::validate)?))),
        }
    }
}

impl ActionType {
    /// The entry of `A`.
    #[must_use]
    pub fn of<A: ActionConfig>() -> Self {
        Self {
            name: A::NAME,
            client: ClientType::of::<A::Client>(),
            schema: SchemaGenerator::subschema_for::<A>,
            parse: Arc::new(|config| Ok(Arc::new(checked(config, A::validate)?))),
        }
    }
}

impl SinkType {
    /// The entry of `S`.
    #[must_use]
    pub fn of<S: SinkConfig>() -> Self {
        Self {
            name: S::NAME,
            client: ClientType::of::<S::Client>(),
            schema: SchemaGenerator::subschema_for::<S>,
            parse: Arc::new(|config| Ok(Arc::new(checked(config, S::validate)?))),
        }
    }
}

/// Types of connections, sources, actions and sinks that belong together.
///
/// # Examples
///
/// ```
/// # use nvisy_core::prelude::*;
/// # use nvisy_core::primitive::document::Document;
/// # #[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema, serde::Serialize)]
/// # struct Shout {}
/// # impl Transform for Shout {
/// #     const NAME: &'static str = "acme/shout";
/// #     type Input = Document;
/// #     type Output = Document;
/// #     async fn transform(&self, item: Item<Document>, _: &Context) -> Result<Outcome<Document>> {
/// #         Ok(Outcome::emit(item))
/// #     }
/// # }
/// let acme = Plugin::new("acme").action::<Shout>();
/// assert_eq!(acme.actions()[0].name(), "acme/shout");
/// ```
#[derive(Clone, Debug)]
pub struct Plugin {
    name: &'static str,
    connections: Vec<ConnectionType>,
    sources: Vec<SourceType>,
    actions: Vec<ActionType>,
    sinks: Vec<SinkType>,
}

impl Plugin {
    /// Makes an empty plugin.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, connections: Vec::new(), sources: Vec::new(), actions: Vec::new(), sinks: Vec::new() }
    }

    /// Adds a type of connection.
    #[must_use]
    pub fn connection<C: Connection>(mut self) -> Self {
        self.connections.push(ConnectionType::of::<C>());
        self
    }

    /// Adds a type of source.
    #[must_use]
    pub fn source<S: Source>(mut self) -> Self {
        self.sources.push(SourceType::of::<S>());
        self
    }

    /// Adds a type of action.
    #[must_use]
    pub fn action<A: ActionConfig>(mut self) -> Self {
        self.actions.push(ActionType::of::<A>());
        self
    }

    /// Adds a type of sink.
    #[must_use]
    pub fn sink<S: SinkConfig>(mut self) -> Self {
        self.sinks.push(SinkType::of::<S>());
        self
    }

    /// Puts something around every source that a graph makes of these types, such as
    /// faults in tests.
    #[must_use]
    pub fn wrap_sources(
        mut self,
        wrap: impl Fn(Arc<dyn ErasedSource>) -> Arc<dyn ErasedSource> + Clone + Send + Sync + 'static,
    ) -> Self {
        self.sources = self.sources.into_iter().map(|entry| entry.wrapped(wrap.clone())).collect();
        self
    }

    /// Puts something around every action that a graph makes of these types.
    #[must_use]
    pub fn wrap_actions(
        mut self,
        wrap: impl Fn(Arc<dyn ErasedActionConfig>) -> Arc<dyn ErasedActionConfig> + Clone + Send + Sync + 'static,
    ) -> Self {
        self.actions = self.actions.into_iter().map(|entry| entry.wrapped(wrap.clone())).collect();
        self
    }

    /// Puts something around every sink that a graph makes of these types.
    #[must_use]
    pub fn wrap_sinks(
        mut self,
        wrap: impl Fn(Arc<dyn ErasedSinkConfig>) -> Arc<dyn ErasedSinkConfig> + Clone + Send + Sync + 'static,
    ) -> Self {
        self.sinks = self.sinks.into_iter().map(|entry| entry.wrapped(wrap.clone())).collect();
        self
    }

    /// Returns the plugin's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns its types of connections.
    #[must_use]
    pub fn connections(&self) -> &[ConnectionType] {
        &self.connections
    }

    /// Returns its types of sources.
    #[must_use]
    pub fn sources(&self) -> &[SourceType] {
        &self.sources
    }

    /// Returns its types of actions.
    #[must_use]
    pub fn actions(&self) -> &[ActionType] {
        &self.actions
    }

    /// Returns its types of sinks.
    #[must_use]
    pub fn sinks(&self) -> &[SinkType] {
        &self.sinks
    }
}
