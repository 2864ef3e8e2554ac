//! The plugin against real files, as one binary.

mod bad_input;
mod conformance;
mod properties;
mod round_trip;
mod selection;
mod support;
mod writing;
