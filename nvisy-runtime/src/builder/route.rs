//! How a flow splits: by routes, or into copies.

use std::collections::BTreeMap;

use nvisy_core::Kind;

use super::Flow;
use crate::graph::{BranchNode, FanOutNode, Route};

impl<K: Kind> Flow<K> {
    /// Sends each item along the first route whose expression is true of it, else along
    /// `default`. Returns the flows in the order of the routes, the default last.
    ///
    /// ```
    /// # use nvisy_core::primitive::raw::Raw;
    /// # use nvisy_core::testing::memory::{MemorySink, MemorySource};
    /// # use nvisy_runtime::prelude::*;
    /// # let graph = Graph::builder("split");
    /// # let numbers = graph.source("numbers", MemorySource::raw([]));
    /// let [small, large] = numbers.branch("size", [("small", "raw < 10")], "large");
    /// # small.sink("a", MemorySink::named("doc"));
    /// # large.sink("b", MemorySink::named("doc"));
    /// ```
    pub fn branch<const N: usize, const M: usize>(
        self,
        name: impl Into<String>,
        routes: [(&str, &str); N],
        default: impl Into<String>,
    ) -> [Self; M] {
        const { assert!(M == N + 1, "a branch gives one flow a route, and one for the default") };
        let default = default.into();
        let names: Vec<String> =
            routes.iter().map(|(route, _)| (*route).to_owned()).chain([default.clone()]).collect();
        let flow = self.into_branch(name.into(), &routes, Some(default));
        std::array::from_fn(|i| Self::new(flow.shared.clone(), flow.node.clone(), names.get(i).cloned()))
    }

    /// Sends each item along the first route whose expression is true of it, and drops the
    /// others. Returns the flows in the order of the routes.
    pub fn branch_or_drop<const N: usize>(
        self,
        name: impl Into<String>,
        routes: [(&str, &str); N],
    ) -> [Self; N] {
        const { assert!(N > 0, "a branch has routes") };
        let flow = self.into_branch(name.into(), &routes, None);
        routes.map(|(route, _)| Self::new(flow.shared.clone(), flow.node.clone(), Some(route.to_owned())))
    }

    fn into_branch(self, name: String, routes: &[(&str, &str)], default: Option<String>) -> Self {
        let input = self.feed(&name);
        let routes = routes.iter().map(|(route, when)| Route::new(*route, *when)).collect();
        self.shared.add(&name, BranchNode { inputs: vec![input], routes, default });
        Self::new(self.shared, name, None)
    }

    /// Gives every item to each of the flows.
    ///
    /// ```
    /// # use nvisy_core::primitive::raw::Raw;
    /// # use nvisy_core::testing::memory::{MemorySink, MemorySource};
    /// # use nvisy_runtime::prelude::*;
    /// # let graph = Graph::builder("copy");
    /// # let numbers = graph.source("numbers", MemorySource::raw([]));
    /// let [kept, looked_at] = numbers.fan_out("copies");
    /// kept.sink("kept", MemorySink::named("doc"));
    /// looked_at.best_effort().sink("looked_at", MemorySink::named("doc"));
    /// ```
    pub fn fan_out<const N: usize>(self, name: impl Into<String>) -> [Self; N] {
        const { assert!(N > 0, "a fan_out has readers") };
        let name = name.into();
        let input = self.feed(&name);
        self.shared
            .add(&name, FanOutNode { inputs: vec![input], best_effort: Vec::new(), spill: BTreeMap::new() });
        std::array::from_fn(|_| Self::new(self.shared.clone(), name.clone(), None))
    }
}
