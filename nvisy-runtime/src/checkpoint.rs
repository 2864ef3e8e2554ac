//! Where runs keep what they need in order to go on: in memory, or in a directory.
//!
//! | store | for | survives |
//! |---|---|---|
//! | [`MemoryStore`] | tests | nothing |
//! | [`DirectoryStore`] | a program on one machine | a crash, a `kill -9`, a power cut |
//!
//! The trait is [`nvisy_core::CheckpointStore`]; plugins bring others.

mod directory;
mod memory;

pub use self::directory::DirectoryStore;
pub use self::memory::MemoryStore;
