//! Policies, chained behind the node that they go for.

use std::num::NonZeroUsize;
use std::time::Duration;

use nvisy_core::Kind;

use super::attach::Link;
use super::{Flow, SinkRef};
use crate::graph::{BatchPolicy, NodeBody, OnError, Policies, RateLimit, Retry};

macro_rules! policies {
    ($type:ty $(, $parameter:ident: $bound:ident)?) => {
        // A sink ends its chain: what it returns need not be used. A flow says of itself that it must.
        #[allow(clippy::return_self_not_must_use)]
        impl $(<$parameter: $bound>)? $type {
            fn policy(self, set: impl FnOnce(&mut Policies)) -> Self {
                self.shared.edit(&self.node, |node| set(&mut node.policies));
                self
            }

            /// Sets the connection that the node works through: a shared one by reference, or
            /// one of its own by value. A branch, a fan-out or a fan-in has none:
            /// [`build`](super::GraphBuilder::build) says so.
            pub fn on<L: Link>(self, connection: L) -> Self {
                let connection = self.shared.link(Some(connection.link()));
                let mut takes = true;
                self.shared.edit(&self.node, |node| match &mut node.body {
                    NodeBody::Source(node) => node.connection = connection,
                    NodeBody::Action(node) => node.connection = connection,
                    NodeBody::Sink(node) => node.connection = connection,
                    NodeBody::Branch(_) | NodeBody::FanOut(_) | NodeBody::FanIn(_) => takes = false,
                });
                if !takes {
                    self.shared.wrong(&self.node, "connection", "it works through no connection: set it on the node that does");
                }
                self
            }

            /// Sets how a call of the node that failed is tried again.
            pub fn retry(self, retry: Retry) -> Self {
                self.policy(|policies| policies.retry = Some(retry))
            }

            /// Sets how long one attempt may take.
            pub fn timeout(self, timeout: Duration) -> Self {
                self.policy(|policies| policies.timeout = Some(timeout))
            }

            /// Sets how long the node may work in all.
            pub fn deadline(self, deadline: Duration) -> Self {
                self.policy(|policies| policies.deadline = Some(deadline))
            }

            /// Sets how many calls of the node may run at once, and of a source how many of its partitions
            /// are read at once; zero says nothing.
            pub fn concurrency(self, calls: usize) -> Self {
                self.policy(|policies| policies.concurrency = NonZeroUsize::new(calls))
            }

            /// Sets how often the node may call.
            pub fn rate_limit(self, limit: RateLimit) -> Self {
                self.policy(|policies| policies.rate_limit = Some(limit))
            }

            /// Sets what becomes of an item that fails.
            pub fn on_error(self, on_error: OnError) -> Self {
                self.policy(|policies| policies.on_error = Some(on_error))
            }

            /// Sets how large the batches are that the node gets.
            pub fn batch(self, batch: BatchPolicy) -> Self {
                self.policy(|policies| policies.batch = Some(batch))
            }
        }
    };
}

impl<K: Kind> Flow<K> {
    /// Keeps the results of paid calls of the node in the memo of the engine, and does not pay for
    /// them again: see [`memo`](crate::memo).
    pub fn memo(self) -> Self {
        self.policy(|policies| policies.memo = Some(true))
    }

    /// Reads, of a source, only what is new or has changed since the last run, where the engine
    /// keeps [state](crate::engine::EngineBuilder::state). Sinks replace what derived from files that have
    /// changed, and delete what derived from those that are gone.
    ///
    /// A graph that has changed reads everything again; so does one with an action in another
    /// [version](nvisy_core::ActionConfig::version), or a function
    /// ([`function_version`](crate::engine::EngineBuilder::function_version)). That their code has
    /// changed is not seen.
    pub fn incremental(self) -> Self {
        self.policy(|policies| policies.incremental = Some(true))
    }

    /// Lets an incremental source have nothing left of what it had: all that derived from it is
    /// deleted then. Else the run fails, for a folder that is empty all of a sudden may not be mounted.
    pub fn allow_empty(self) -> Self {
        self.policy(|policies| policies.allow_empty = Some(true))
    }
}

policies!(Flow<K>, K: Kind);
policies!(SinkRef);
