//! `cargo xtask bench`: one benchmark of the `benches` package, in release.

use std::path::PathBuf;
use std::process::Command;

use crate::process::{Failure, Outcome, cargo, run as run_program, target_dir};

/// The package of Python, in the version that the figures of the README are against.
const DUCKDB: &str = "duckdb==2.0.0";
/// Benchmarks that are held against DuckDB.
const WITH_DUCKDB: [&str; 2] = ["sort", "aggregate"];

pub(crate) fn run(args: &[String]) -> Outcome {
    if args.iter().all(|arg| arg.starts_with('-')) {
        return Err(Failure::usage("bench: name the benchmark, as in `cargo xtask bench NAME [--check]`"));
    }
    let mut bench = cargo(["run", "--release", "-p", "benches", "--bin", "bench", "--"]);
    bench.args(args);
    if args.iter().any(|arg| WITH_DUCKDB.contains(&arg.as_str())) {
        bench.env("NVISY_BENCH_PYTHON", duckdb()?);
    }
    run_program(&mut bench)
}

/// Returns a Python that has the package `duckdb`: of a virtualenv below `target/`.
fn duckdb() -> Result<PathBuf, Failure> {
    let folder = target_dir().join("bench-python");
    let python = folder.join("bin").join("python");
    if !python.exists() {
        run_program(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    println!("xtask: installing {DUCKDB} in {}", folder.display());
    run_program(Command::new(&python).args(["-m", "pip", "install", "--quiet", DUCKDB]))?;
    Ok(python)
}
