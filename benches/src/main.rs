//! The side-by-side benches: each figure is a ratio to the same work by hand, in one process.
//!
//! `cargo xtask bench NAME [--check]`, with `engine`, `rows`, `compile`, `deduplicate`, `sort`,
//! `aggregate`, `lineage`, `durability` or `resume` as NAME. Every figure is the best of several runs
//! of either side in turns: on a noisy machine the best is the one that says least about the others. `--check` exits with 1 if a ratio is under its target.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that measures and prints")]

mod compile;
mod deduplicate;
mod durability;
mod engine;
mod lineage;
mod measure;
mod memory;
mod resume;
mod rows;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let check = args.iter().any(|arg| arg == "--check");
    let name = args.iter().find(|arg| !arg.starts_with("--")).map(String::as_str);
    let met = match name {
        Some("engine") => engine::run(),
        Some("rows") => rows::run(),
        Some("compile") => compile::run(),
        Some("lineage") => lineage::run(),
        Some("durability") => durability::run(),
        Some("resume") => resume::run(),
        Some("deduplicate") => deduplicate::run(),
        Some("sort") => memory::run(&memory::SORT),
        Some("aggregate") => memory::run(&memory::AGGREGATE),
        // One run of one side on its own, so that its peak memory can be told apart.
        Some("engine-alone") => engine::alone(args.get(1).map(String::as_str)),
        Some("rows-alone") => rows::alone(args.get(1).map_or("", String::as_str)),
        Some("deduplicate-alone") => deduplicate::alone(args.get(1).map(String::as_str)),
        _ => {
            println!(
                "usage: cargo xtask bench engine|rows|compile|deduplicate|sort|aggregate|lineage|durability|resume [--check]"
            );
            return ExitCode::from(2);
        }
    };
    if check && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
