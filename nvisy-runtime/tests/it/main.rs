//! Integration tests: one binary for the crate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "a test may fail"
)]

mod actions;
mod builder;
mod canary;
mod checkpoint;
mod compiler;
mod dry_run;
mod engine;
#[cfg(all(feature = "ai", feature = "object", feature = "sql", feature = "vector"))]
mod examples;
mod expression;
mod feeds;
mod fixture;
mod fuzz;
mod graph;
#[cfg(all(feature = "ai", feature = "object", feature = "sql", feature = "vector"))]
mod incremental;
#[cfg(feature = "sql")]
mod insert;
#[cfg(all(feature = "ai", feature = "object", feature = "sql", feature = "vector"))]
mod kill;
#[cfg(all(feature = "ai", feature = "lineage", feature = "object", feature = "sql", feature = "vector"))]
mod lineage;
mod memo;
mod model;
#[cfg(feature = "otel")]
mod observability;
#[cfg(feature = "ai")]
mod paid;
mod place;
#[cfg(all(feature = "object", feature = "sql"))]
mod poison;
mod resume;
mod sample;
#[cfg(all(feature = "ai", feature = "lineage", feature = "object", feature = "vector"))]
mod secrets;
mod shown;
mod spill;
mod state;
mod stateful;
mod stranger;
mod sweep;
mod torture;
