//! What the graph of a stranger may take of this process, all its nodes together.
//!
//! It is counted while the graph compiles, on the thread that does so: configs read themselves
//! without knowing whose graph they are of.

use std::cell::Cell;

/// How many bytes the patterns of a graph may take.
const PATTERN_BYTES: usize = 64 << 20;
/// What a pattern may take beside its program, where it runs.
const PATTERN_CACHE: usize = 256 << 10;

thread_local! {
    /// What is left of the bytes for patterns; nothing where no stranger's graph compiles.
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The patterns of the graph take more than they may.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exhausted;

impl std::fmt::Display for Exhausted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let most = PATTERN_BYTES >> 20;
        write!(
            f,
            "with this one, the patterns of the graph take more than {most} MiB: use fewer, or shorter ones"
        )
    }
}

/// Compiles the graph of a stranger within the allowance.
pub(crate) fn of_a_stranger<T>(compile: impl FnOnce() -> T) -> T {
    struct Ends(Option<usize>);
    impl Drop for Ends {
        fn drop(&mut self) {
            LEFT.set(self.0);
        }
    }
    let _ends = Ends(LEFT.replace(Some(PATTERN_BYTES)));
    compile()
}

/// Returns whether what compiles is the graph of a stranger.
pub(crate) fn is_of_a_stranger() -> bool {
    LEFT.get().is_some()
}

/// Takes what a number of patterns need whose programs have a size at the most.
pub(crate) fn take_patterns(patterns: usize, size: usize) -> Result<(), Exhausted> {
    let Some(left) = LEFT.get() else { return Ok(()) };
    let left = left.checked_sub(patterns.saturating_mul(size.saturating_add(PATTERN_CACHE)));
    // What does not fit ends it: nothing behind it is compiled for the pleasure of a stranger.
    LEFT.set(Some(left.unwrap_or(0)));
    left.map(drop).ok_or(Exhausted)
}

/// Returns what was taken for patterns that turned out to need another size.
pub(crate) fn return_patterns(patterns: usize, size: usize) {
    let back = patterns.saturating_mul(size.saturating_add(PATTERN_CACHE));
    LEFT.set(LEFT.get().map(|left| left.saturating_add(back)));
}
