//! An embeddable, DAG-based ETL library for AI data.
//!
//! A program describes a *graph* (source → actions → sink) with a typed builder, or loads the
//! same graph from JSON, and runs it.
//!
//! | stage | modules |
//! |---|---|
//! | define | [`graph`], [`builder`] |
//! | compile | [`registry`], [`compiler`], [`expression`] |
//! | execute | [`engine`], [`secrets`], [`checkpoint`], [`memo`], `lineage` |
//! | built in | [`actions`], [`dead_letter`], [`plugins`] |

pub mod builder;
pub mod graph;

mod allowance;
pub mod compiler;
mod disk;
pub mod expression;
pub mod registry;
mod suggest;
#[cfg(test)]
#[path = "../tests/it/torture.rs"]
mod torture;

pub mod checkpoint;
pub mod engine;
#[cfg(feature = "lineage")]
pub mod lineage;
pub mod memo;
#[cfg(feature = "otel")]
pub mod observability;
#[cfg(feature = "progress")]
pub mod progress;
pub mod secrets;

pub mod actions;
pub mod dead_letter;
pub mod plugins;

pub use self::engine::Engine;

pub use nvisy_core::{self, DeadLetter, primitive};

/// What a program that builds and runs graphs needs.
pub mod prelude {
    pub use nvisy_core::prelude::*;
    pub use nvisy_core::primitive::{document::Document, embedding::Embedding, raw::Raw, row::Row};

    pub use crate::Engine;
    pub use crate::builder::{Flow, GraphBuilder, OnConnection};
    pub use crate::compiler::{CompileOptions, Diagnostic, Diagnostics, ExecutionPlan};
    pub use crate::engine::RunReport;
    pub use crate::graph::{
        Backoff, BatchPolicy, DeadLetterLimit, Graph, OnError, Policies, RateLimit, Retry, Settings,
    };
    pub use crate::registry::Registry;
}
