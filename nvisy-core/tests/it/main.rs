//! The integration tests of the crate: one binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod batch;
mod config;
#[cfg(feature = "testing")]
mod conformance;
#[cfg(feature = "testing")]
mod faulty;
mod lineage;
mod outcome;
mod primitives;
#[cfg(feature = "testing")]
mod stream;
