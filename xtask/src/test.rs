//! `cargo xtask test`: everything that is tested, ending with the closing lines of cargo's test runner.

use std::env;
use std::process::Command;

use crate::process::{Failure, Outcome, cargo, read, root, run as run_program, target_dir};

/// The models that `loom` explores.
const LOOM: &[Loom] = &[
    Loom {
        package: "nvisy-core",
        filter: "token",
        source: "nvisy-core/src/token.rs",
        preemptions: [None; 2],
    },
    Loom {
        package: "nvisy-runtime",
        filter: "tracker::models",
        source: "nvisy-runtime/src/engine/tracker/models.rs",
        preemptions: [Some(3), Some(5)],
    },
];

/// Only what explores the interleavings is worth optimizing: the build takes a third of the time.
const QUICK_BUILD: &[&str] = &[
    "profile.release.lto='off'",
    "profile.release.package.'*'.opt-level=0",
    "profile.release.package.loom.opt-level=3",
    "profile.release.package.generator.opt-level=3",
];

struct Loom {
    package: &'static str,
    /// What selects them.
    filter: &'static str,
    source: &'static str,
    /// How often a thread may be interrupted, in the short form and in the long one: however often,
    /// where it does not say.
    preemptions: [Option<u8>; 2],
}

/// How deep models are explored.
#[derive(Clone, Copy)]
enum Depth {
    Short,
    Long,
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
    let mut command = cargo(["test", "--all-features"]);
    // Cargo would take it for all packages, whichever are named beside it.
    command.args((!names_packages(cargo_args)).then_some("--workspace"));
    run_program(command.args(cargo_args))
}

/// Tells whether arguments for cargo say which packages are tested.
fn names_packages(cargo_args: &[String]) -> bool {
    let own = cargo_args.iter().take_while(|arg| *arg != "--");
    own.into_iter().any(|arg| arg.starts_with("-p") || arg.starts_with("--package"))
}

/// Runs the models of a package, which must be some: a filter that selects nothing would pass.
fn explore(model: &Loom) -> Outcome {
    run_program(with_loom(model, Depth::Short).arg("--no-run"))?;
    let listed = read(with_loom(model, Depth::Short).args(["--", "--list"]))?;
    if !has_tests(&listed) {
        return Err(Failure::new(format!("no test of {} is called `{}`", model.package, model.filter)));
    }
    run_program(&mut with_loom(model, Depth::Short))
}

/// Returns the call that tests in release, in a target directory of its own: the flag is part of every
/// fingerprint.
fn with_loom(model: &Loom, depth: Depth) -> Command {
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    let mut command = cargo(["test", "-p", model.package, "--no-default-features", "--lib", "--release"]);
    command
        .arg(model.filter)
        .args(QUICK_BUILD.iter().flat_map(|setting| ["--config", setting]))
        .env("RUSTFLAGS", format!("{flags} --cfg nvisy_loom").trim_start())
        .env("CARGO_TARGET_DIR", target_dir().join("loom"));
    if let Some(most) = model.preemptions[depth as usize] {
        command.env("LOOM_MAX_PREEMPTIONS", most.to_string());
    }
    command
}

/// Returns the names of the models and the calls that explore them in their long form, each model for
/// some minutes at the most.
pub(crate) fn explore_long(minutes: Option<u64>) -> impl Iterator<Item = (String, Command)> {
    LOOM.iter().map(move |model| {
        let mut command = with_loom(model, Depth::Long);
        if let Some(minutes) = minutes {
            // Loom looks at the clock after so many interleavings.
            command.env("LOOM_CHECKPOINT_INTERVAL", "1000");
            command.env("LOOM_MAX_DURATION", (60 * minutes).to_string());
        }
        command.args(["--", "--nocapture", "--test-threads=1"]);
        (format!("{}::{}", model.package, model.filter), command)
    })
}

/// Tells whether the lines of `cargo test -- --list` name a test.
fn has_tests(listed: &str) -> bool {
    listed.lines().any(|line| line.ends_with(": test"))
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
    fn packages_are_named_before_the_dashes() {
        let names = |args: &[&str]| names_packages(&args.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert!(names(&["-p", "x", "ack"]) && names(&["--package=x"]) && names(&["-px"]));
        assert!(!names(&["ack", "--", "-p"]) && !names(&[]));
    }

    #[test]
    fn an_unknown_option_is_refused() {
        let failure = Request::parse(&["--requireall".to_owned()]).unwrap_err();
        assert_eq!(failure.code(), 2);
    }

    #[test]
    fn a_list_without_a_test_is_recognized() {
        assert!(has_tests("token::models::a_token_settles_once: test\n\n1 test, 0 benchmarks\n"));
        assert!(!has_tests("0 tests, 0 benchmarks\n"));
    }
}
