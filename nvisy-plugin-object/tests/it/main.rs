//! The plugin against real files, as one binary.
