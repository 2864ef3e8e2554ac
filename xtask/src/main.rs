//! What the project does besides plain cargo: `cargo xtask` lists it.

#![allow(clippy::print_stdout, reason = "a command-line program talks on standard output")]

mod bench;
mod examples;
mod guards;
mod process;
mod test;
mod torture;

use std::process::ExitCode;

use process::{Failure, Outcome};

const HELP: &str = "\
usage: cargo xtask <command>

  test [--require-all] [-- ARGS]   run everything that is tested; ARGS go to `cargo test`
                                   --require-all: what would be skipped is a failure
  torture [--kind NAME] [--seed N] [--cases N] [--minutes N] [--jobs N] [--release]
                                   run random tests for long: model, every, sweep, examples, kill, power,
                                   corruption, fuzz, resume, loom; --minutes are those of each test
  guards [NAME...]                 check what the compiler does not: dependencies, features, layers, files
  examples [--release] [NAME...]   build and run the examples as CI does
  bench NAME [--check]             run a benchmark of the `benches` package in release
                                   --check: fail where it misses its target
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first() {
        None => help(),
        Some((command, rest)) => match command.as_str() {
            "help" | "--help" | "-h" => help(),
            "test" => test::run(rest),
            "torture" => torture::run(rest),
            "guards" => guards::run(rest),
            "examples" => examples::run(rest),
            "bench" => bench::run(rest),
            other => Err(Failure::usage(format!("no command `{other}`; `cargo xtask` lists them"))),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                eprintln!("xtask: {message}");
            }
            ExitCode::from(failure.code())
        }
    }
}

fn help() -> Outcome {
    print!("{HELP}");
    Ok(())
}
