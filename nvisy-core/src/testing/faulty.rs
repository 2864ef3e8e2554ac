//! Faults on purpose: calls that fail, hang, panic or are slow, at chosen numbers.
//!
//! A [`Script`] says which call meets which fault, counts the calls, and remembers what fired.
//! [`source`], [`sink`], [`sink_config`], [`action`] and [`action_config`] wrap what the engine
//! holds, and [`plugin`] a whole plugin; [`FaultySource`], [`FaultySink`] and [`FaultyAction`] are the same as nodes of a
//! graph, with a script that goes by name.
//!
//! # Examples
//!
//! ```
//! use nvisy_core::prelude::*;
//! use nvisy_core::stream::read;
//! use nvisy_core::testing::faulty::{FaultKind, FaultySink, Script, Site};
//! use nvisy_core::testing::memory::{MemorySink, MemorySource, MemoryStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! let script = Script::named("the second write is cut off");
//! script.inject(Site::Write, 2, FaultKind::AmbiguousApplied);
//! let config = FaultySink::new("the second write is cut off", MemorySink::named("cut off"));
//! let open = OpenContext::new(Context::detached(), NoClient.into());
//! let sink = SinkConfig::open(&config, &open).await?;
//!
//! let source = MemorySource::documents(["a", "b", "c"]).with_batches_of(1);
//! let error = sink.drain(read(&source, NoClient.into()), &Context::detached()).await.unwrap_err();
//!
//! assert_eq!(error.kind(), ErrorKind::Ambiguous);
//! assert_eq!(MemoryStore::named("cut off").len(), 2, "it was written all the same");
//! assert_eq!(script.fired()[0].call, 2);
//! # Ok(())
//! # }
//! ```

mod action;
mod config;
mod script;
mod sink;
mod source;

pub use self::action::{action, action_config};
pub use self::config::{FaultyAction, FaultySink, FaultySource};
pub use self::script::{Fault, FaultKind, Fired, Script, Site};
pub use self::sink::{OpenFaultySink, sink, sink_config};
pub use self::source::source;
use crate::plugin::Plugin;

/// Returns a plugin whose sources, actions and sinks meet the faults of a script, under their
/// own names: any graph runs through them as it is.
#[must_use]
pub fn plugin(plugin: Plugin, script: &Script) -> Plugin {
    let (sources, actions, sinks) = (script.clone(), script.clone(), script.clone());
    plugin
        .wrap_sources(move |inner| source(inner, &sources))
        .wrap_actions(move |inner| action_config(inner, &actions))
        .wrap_sinks(move |inner| sink_config(inner, &sinks))
}
