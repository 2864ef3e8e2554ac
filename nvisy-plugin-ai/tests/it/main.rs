//! What a user of the crate would notice.

mod chunk;
mod conformance;
mod openai;
mod service;
mod untrusted;
