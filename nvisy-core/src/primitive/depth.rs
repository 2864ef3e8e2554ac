//! A bound on how deep what is read may be nested: binary formats have none of their own, and
//! a stack that overflows is no error one can catch.

use std::cell::Cell;

use serde::{Deserialize, Deserializer};

const MAX_DEPTH: u32 = 128;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Reads a value that may hold others of its own type.
pub(crate) fn nested<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Level;

    impl Drop for Level {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }

    DEPTH.set(DEPTH.get() + 1);
    let _level = Level;
    if DEPTH.get() > MAX_DEPTH {
        return Err(serde::de::Error::custom(format_args!("nested deeper than {MAX_DEPTH} levels")));
    }
    T::deserialize(deserializer)
}
