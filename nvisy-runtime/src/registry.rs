//! What graphs may name: types of connections, sources, actions and sinks, and functions.

mod schema;

use std::collections::BTreeMap;

use nvisy_core::plugin::{ActionType, ConnectionType, SinkType, SourceType};
use nvisy_core::{ActionConfig, Connection, Error, Item, Kind, Outcome, Plugin, Result, SinkConfig, Source};

use crate::graph::Function;

/// Types and functions under their names.
///
/// # Examples
///
/// ```
/// use nvisy_core::{Item, Outcome};
/// use nvisy_core::primitive::document::Document;
/// use nvisy_runtime::registry::Registry;
///
/// let registry = Registry::builtin()
///     .function("trim", |item: Item<Document>| Ok(Outcome::emit(item.map_text(|text| text.trim().to_owned())?)));
/// assert!(registry.check().is_ok());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Registry {
    connections: BTreeMap<&'static str, ConnectionType>,
    sources: BTreeMap<&'static str, SourceType>,
    actions: BTreeMap<&'static str, ActionType>,
    sinks: BTreeMap<&'static str, SinkType>,
    functions: BTreeMap<String, Function>,
    function_versions: BTreeMap<String, u32>,
    twice: Vec<String>,
}

impl Registry {
    /// Makes an empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a registry with the built-in actions.
    #[must_use]
    pub fn builtin() -> Self {
        Self::new().plugin(&crate::actions::plugin())
    }

    /// Makes a registry with the built-in actions and every plugin whose feature is on.
    #[must_use]
    pub fn enabled() -> Self {
        crate::plugins::enabled().iter().fold(Self::builtin(), Self::plugin)
    }

    /// Adds what a plugin holds.
    #[must_use]
    pub fn plugin(mut self, plugin: &Plugin) -> Self {
        for entry in plugin.connections() {
            add(&mut self.connections, &mut self.twice, "connection", entry.name(), entry.clone());
        }
        for entry in plugin.sources() {
            add(&mut self.sources, &mut self.twice, "source", entry.name(), entry.clone());
        }
        for entry in plugin.actions() {
            add(&mut self.actions, &mut self.twice, "action", entry.name(), entry.clone());
        }
        for entry in plugin.sinks() {
            add(&mut self.sinks, &mut self.twice, "sink", entry.name(), entry.clone());
        }
        self
    }

    /// Adds a type of connection.
    #[must_use]
    pub fn connection<C: Connection>(self) -> Self {
        self.plugin(&Plugin::new("user").connection::<C>())
    }

    /// Adds a type of source.
    #[must_use]
    pub fn source<S: Source>(self) -> Self {
        self.plugin(&Plugin::new("user").source::<S>())
    }

    /// Adds a type of action; a [`Transform`](nvisy_core::Transform) that is also a config is one.
    #[must_use]
    pub fn action<A: ActionConfig>(self) -> Self {
        self.plugin(&Plugin::new("user").action::<A>())
    }

    /// Adds a type of sink.
    #[must_use]
    pub fn sink<S: SinkConfig>(self) -> Self {
        self.plugin(&Plugin::new("user").sink::<S>())
    }

    /// Adds a function, which a graph uses as `fn/NAME`.
    #[must_use]
    pub fn function<I: Kind, O: Kind>(
        mut self,
        name: impl Into<String>,
        function: impl Fn(Item<I>) -> Result<Outcome<O>> + Send + Sync + 'static,
    ) -> Self {
        add(&mut self.functions, &mut self.twice, "function", name.into(), Function::new(function));
        self
    }

    /// Says which version of its code a function is in, registered here or carried by a graph. With
    /// another one, it makes something else of the same input than before: what incremental runs
    /// have made with it is made again. Default none.
    #[must_use]
    pub fn function_version(mut self, name: impl Into<String>, version: u32) -> Self {
        self.function_versions.insert(name.into(), version);
        self
    }

    /// Checks that no name is given twice.
    ///
    /// # Errors
    ///
    /// `configuration`: names all that are.
    pub fn check(&self) -> Result<()> {
        if self.twice.is_empty() {
            return Ok(());
        }
        let twice = self.twice.join(", ");
        Err(Error::configuration(format!(
            "registered twice: {twice}: register each type once, under a name of its own"
        )))
    }

    /// Returns the type of connection of that name.
    #[must_use]
    pub fn find_connection(&self, name: &str) -> Option<&ConnectionType> {
        self.connections.get(name)
    }

    /// Returns the type of source of that name.
    #[must_use]
    pub fn find_source(&self, name: &str) -> Option<&SourceType> {
        self.sources.get(name)
    }

    /// Returns the type of action of that name.
    #[must_use]
    pub fn find_action(&self, name: &str) -> Option<&ActionType> {
        self.actions.get(name)
    }

    /// Returns the type of sink of that name.
    #[must_use]
    pub fn find_sink(&self, name: &str) -> Option<&SinkType> {
        self.sinks.get(name)
    }

    /// Returns the function of that name, without `fn/`.
    #[must_use]
    pub fn find_function(&self, name: &str) -> Option<&Function> {
        self.functions.get(name)
    }

    /// Returns the version of the function of that name, without `fn/`, if one was said.
    #[must_use]
    pub fn find_function_version(&self, name: &str) -> Option<u32> {
        self.function_versions.get(name).copied()
    }

    /// Iterates over the types of connections, by name.
    pub fn connections(&self) -> impl Iterator<Item = &ConnectionType> {
        self.connections.values()
    }

    /// Iterates over the types of sources, by name.
    pub fn sources(&self) -> impl Iterator<Item = &SourceType> {
        self.sources.values()
    }

    /// Iterates over the types of actions, by name.
    pub fn actions(&self) -> impl Iterator<Item = &ActionType> {
        self.actions.values()
    }

    /// Iterates over the types of sinks, by name.
    pub fn sinks(&self) -> impl Iterator<Item = &SinkType> {
        self.sinks.values()
    }

    /// Iterates over the names of the functions, without `fn/`.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.functions.keys().map(String::as_str)
    }
}

fn add<K: Ord + AsRef<str>, T>(
    map: &mut BTreeMap<K, T>,
    twice: &mut Vec<String>,
    what: &str,
    name: K,
    entry: T,
) {
    let shown = format!("{what} \"{}\"", name.as_ref());
    if map.insert(name, entry).is_some() && !twice.contains(&shown) {
        twice.push(shown);
    }
}
