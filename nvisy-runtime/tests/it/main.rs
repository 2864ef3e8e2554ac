//! Integration tests: one binary for the crate.

mod actions;
mod builder;
mod compiler;
mod expression;
mod graph;
mod sample;
