//! SQLite as a vector store, against SQLite itself.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod conformance;
mod index;
mod search;
mod sink;
mod source;
