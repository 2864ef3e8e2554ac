//! `cargo xtask test`: everything that is tested, ending with the closing lines of cargo's test runner.

use std::env;

use crate::process::{Failure, Outcome, cargo, root, run as run_program, target_dir};

/// The models that `loom` explores: the package and the filter that selects them.
const LOOM: &[Loom] = &[Loom { package: "nvisy-core", filter: "token", source: "nvisy-core/src/token.rs" }];

struct Loom {
    package: &'static str,
    filter: &'static str,
    source: &'static str,
}

pub(crate) fn run(args: &[String]) -> Outcome {
    let Request { require_all, cargo_args } = Request::parse(args)?;
    let selected = !cargo_args.is_empty();
    println!("xtask: started no server: no test needs one");
    for model in LOOM {
        let name = format!("loom models {}::{}", model.package, model.filter);
        let skipped = if !root().join(model.source).is_file() {
            Some(format!("{} is missing", model.source))
        } else if selected && !require_all {
            Some("arguments select other tests".to_owned())
        } else {
            None
        };
        match skipped {
            Some(reason) if require_all => {
                return Err(Failure::new(format!("{name} cannot run: {reason}")));
            }
            Some(reason) => println!("xtask: skipped {name}: {reason}"),
            None => {
                println!("xtask: {name}");
                explore(model)?;
            }
        }
    }
    println!("xtask: unit, integration and documentation tests");
    run_program(cargo(["test", "--workspace", "--all-features"]).args(cargo_args))
}

/// Runs the models in release, in a target directory of their own: the flag is part of every fingerprint.
fn explore(model: &Loom) -> Outcome {
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    run_program(
        cargo(["test", "-p", model.package, "--lib", "--release", model.filter])
            .env("RUSTFLAGS", format!("{flags} --cfg loom").trim_start())
            .env("CARGO_TARGET_DIR", target_dir().join("loom")),
    )
}

/// What the caller asked for.
#[derive(Debug, PartialEq)]
struct Request<'a> {
    require_all: bool,
    cargo_args: &'a [String],
}

impl<'a> Request<'a> {
    fn parse(args: &'a [String]) -> Result<Self, Failure> {
        let own = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
        let cargo_args = args.get(own + 1..).unwrap_or_default();
        let mut require_all = false;
        for arg in &args[..own] {
            match arg.as_str() {
                "--require-all" => require_all = true,
                other => {
                    return Err(Failure::usage(format!(
                        "test: no option `{other}`; arguments for `cargo test` follow `--`"
                    )));
                }
            }
        }
        Ok(Self { require_all, cargo_args })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str], require_all: bool, cargo_args: &[&str]) {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let request = Request::parse(&args).unwrap();
        assert_eq!(request.require_all, require_all);
        assert_eq!(request.cargo_args, cargo_args);
    }

    #[test]
    fn what_follows_the_dashes_goes_to_cargo() {
        check(&[], false, &[]);
        check(&["--require-all"], true, &[]);
        check(&["--require-all", "--"], true, &[]);
        check(&["--", "-p", "x", "--", "--nocapture"], false, &["-p", "x", "--", "--nocapture"]);
    }

    #[test]
    fn an_unknown_option_is_refused() {
        let failure = Request::parse(&["--requireall".to_owned()]).unwrap_err();
        assert_eq!(failure.code(), 2);
    }
}
