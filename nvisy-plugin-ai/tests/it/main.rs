//! What a user of the crate would notice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod chunk;
mod conformance;
mod openai;
mod service;
mod untrusted;
