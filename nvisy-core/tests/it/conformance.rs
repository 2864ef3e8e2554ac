//! The conformance kit passes what keeps its contract, and catches what breaks it: one broken
//! connector a rule.

mod action;
mod checkpoint;
mod memory;
mod sink;
mod source;
