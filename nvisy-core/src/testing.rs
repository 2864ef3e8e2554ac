//! For authors of sources, actions and sinks: connectors in memory, faults on purpose, and
//! the kit that holds a connector against its contract.
//!
//! | to | take |
//! |---|---|
//! | run a graph without any other system | [`memory`] |
//! | see what happens when a call fails, hangs or panics | [`faulty`] |
//! | know that a connector keeps its contract | [`conformance`] |
//!
//! Everything here is deterministic and reads no clock, but for a slow fault, which sleeps
//! through `tokio::time` and so obeys a paused one.

pub mod conformance;
pub mod faulty;
pub mod memory;

mod plain;
mod yields;

pub use self::plain::plain;
use crate::plugin::Plugin;

/// Returns the plugin with everything in here that a graph can name.
///
/// | name | type |
/// |---|---|
/// | `memory/source` | [`MemorySource`](memory::MemorySource) |
/// | `memory/hoard` | [`Hoard`](memory::Hoard) |
/// | `memory/relay` | [`Relay`](memory::Relay) |
/// | `memory/sink` | [`MemorySink`](memory::MemorySink) |
/// | `faulty/source`, `faulty/action`, `faulty/sink` | the same with a [`Script`](faulty::Script) of faults |
#[must_use]
pub fn plugin() -> Plugin {
    Plugin::new("testing")
        .source::<memory::MemorySource>()
        .action::<memory::Hoard>()
        .action::<memory::Relay>()
        .sink::<memory::MemorySink>()
        .source::<faulty::FaultySource<memory::MemorySource>>()
        .action::<faulty::FaultyAction<memory::Relay>>()
        .sink::<faulty::FaultySink<memory::MemorySink>>()
}
