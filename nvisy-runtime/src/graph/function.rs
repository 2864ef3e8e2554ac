//! Functions as actions: code that a graph names and does not hold.

use std::collections::BTreeMap;
use std::fmt;

use nvisy_core::{Action, Item, Kind, Kinds, Outcome, Result};

/// A function that changes one item, with the kinds that it takes and makes.
#[derive(Clone)]
pub struct Function {
    action: Action,
    input: Kinds,
    output: Kinds,
}

impl Function {
    /// What the `use` of a node begins with whose action is a function.
    pub const PREFIX: &'static str = "fn/";

    /// Wraps a function.
    #[must_use]
    pub fn new<I: Kind, O: Kind>(
        function: impl Fn(Item<I>) -> Result<Outcome<O>> + Send + Sync + 'static,
    ) -> Self {
        Self { action: Action::function(function), input: I::KINDS, output: O::KINDS }
    }

    /// Returns the action.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// Returns the kinds that it takes.
    #[must_use]
    pub fn input_kinds(&self) -> Kinds {
        self.input
    }

    /// Returns the kinds that it makes.
    #[must_use]
    pub fn output_kinds(&self) -> Kinds {
        self.output
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("input", &self.input).field("output", &self.output).finish()
    }
}

/// The functions that a graph carries. Any two are equal: they are no part of the document.
#[derive(Clone, Debug, Default)]
pub(super) struct Functions(BTreeMap<String, Function>);

impl Functions {
    pub(super) fn insert(&mut self, name: String, function: Function) {
        self.0.insert(name, function);
    }

    pub(super) fn get(&self, name: &str) -> Option<&Function> {
        self.0.get(name)
    }
}

impl PartialEq for Functions {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
