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
mod engine;
mod expression;
mod fixture;
mod graph;
#[cfg(all(feature = "ai", feature = "object", feature = "sql", feature = "vector"))]
mod incremental;
#[cfg(all(feature = "ai", feature = "object", feature = "sql", feature = "vector"))]
mod kill;
mod memo;
mod model;
#[cfg(feature = "otel")]
mod observability;
mod resume;
mod sample;
mod sweep;
