//! `cargo xtask bench`: one benchmark of the `benches` package, in release.

use crate::process::{Failure, Outcome, cargo, run as run_program};

pub(crate) fn run(args: &[String]) -> Outcome {
    if args.iter().all(|arg| arg.starts_with('-')) {
        return Err(Failure::usage("bench: name the benchmark, as in `cargo xtask bench NAME [--check]`"));
    }
    run_program(cargo(["run", "--release", "-p", "benches", "--bin", "bench", "--"]).args(args))
}
