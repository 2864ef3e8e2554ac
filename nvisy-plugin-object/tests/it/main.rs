//! The plugin against real files, as one binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod bad_input;
mod bounds;
mod columns;
mod conformance;
mod naming;
mod oversize;
mod properties;
mod round_trip;
mod selection;
mod staging;
mod support;
mod temporaries;
mod versions;
mod writing;
