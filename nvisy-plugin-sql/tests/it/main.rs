//! SQLite as a source and a sink, against SQLite itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod checkpoint;
mod conformance;
mod database;
mod drift;
mod memory;
mod replace;
mod sink;
mod source;
