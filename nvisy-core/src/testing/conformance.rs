//! Holds sources, sinks, actions and checkpoint stores against their contracts.
//!
//! A *harness* says how to get at a connector and what is in the system behind it;
//! [`source`], [`sink`] and [`action`] check every rule and return a [`Report`], in which each
//! rule stands by name with what was seen. A rule that the harness has nothing for is skipped
//! and says so. A checkpoint store needs no harness: [`checkpoints`] takes it as it is.
//! [`samples`] has values that tend to break things.
//!
//! The checks run against the real system, one after the other, and every one with a fresh
//! connector. They need a tokio runtime for their patience of a minute each, and nothing else.
//!
//! # Examples
//!
//! ```
//! use nvisy_core::NoClient;
//! use nvisy_core::testing::conformance::{self, OpenSource, SourceHarness};
//! use nvisy_core::testing::memory::MemorySource;
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let numbers: Vec<_> = (0..10).map(|n| json!({ "n": n })).collect();
//! let source = MemorySource::raw(numbers.clone()).in_partitions(2);
//! let harness = SourceHarness::new(
//!     move || {
//!         let source = source.clone();
//!         async { Ok(OpenSource::new(source, NoClient)) }
//!     },
//!     numbers,
//! );
//! conformance::source(&harness).await.assert_passed();
//! # }
//! ```

pub mod samples;

mod action;
mod checkpoint;
mod compare;
mod examiner;
mod polls;
mod report;
mod sink;
mod source;

pub use self::action::{ACTION_RULES, ActionHarness, Expected, OpenAction, action};
pub use self::checkpoint::{CHECKPOINT_RULES, checkpoints};
pub use self::report::{Check, Report, Verdict};
pub use self::sink::{SINK_RULES, SinkHarness, Target, sink};
pub use self::source::{OpenSource, SOURCE_RULES, SourceHarness, source};
