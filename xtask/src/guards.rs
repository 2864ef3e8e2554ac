//! `cargo xtask guards`: what must hold of the project and no compiler checks.

mod features;
mod files;
mod layers;
mod tree;

use crate::process::{Failure, Outcome};

/// What holds, for the line that says so, or why it does not.
type Verdict = Result<String, Failure>;

struct Guard {
    name: &'static str,
    claim: &'static str,
    check: fn() -> Verdict,
}

/// The guards, the quick ones first.
const GUARDS: &[Guard] = &[
    Guard { name: "layers", claim: "each module knows only what is below it", check: layers::check },
    Guard { name: "files", claim: "no file names a machine or a registry", check: files::check },
    Guard { name: "core", claim: "nvisy-core pulls in no driver", check: tree::core_has_no_driver },
    Guard { name: "size", claim: "nvisy-runtime alone stays small", check: tree::runtime_is_small },
    Guard { name: "tls", claim: "the tree has one TLS provider", check: tree::one_tls_provider },
    Guard { name: "features", claim: "every feature compiles alone", check: features::check },
];

pub(crate) fn run(names: &[String]) -> Outcome {
    if let Some(unknown) = names.iter().find(|name| GUARDS.iter().all(|guard| guard.name != *name)) {
        let known: Vec<&str> = GUARDS.iter().map(|guard| guard.name).collect();
        return Err(Failure::usage(format!("guards: no guard `{unknown}`, but {}", known.join(", "))));
    }
    let mut failed = Vec::new();
    for guard in GUARDS.iter().filter(|guard| names.is_empty() || names.iter().any(|name| name == guard.name))
    {
        match (guard.check)() {
            Ok(note) => println!("guard {}: {} ... ok ({note})", guard.name, guard.claim),
            Err(failure) => {
                let message = failure.message().unwrap_or("see above").replace('\n', "\n  ");
                println!("guard {}: {} ... FAILED\n  {message}", guard.name, guard.claim);
                failed.push(guard.name);
            }
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("guards failed: {}", failed.join(", "))))
    }
}

/// Returns what was found wrong as one failure, or the note when nothing was.
fn verdict(wrong: &[String], note: impl Into<String>) -> Verdict {
    if wrong.is_empty() { Ok(note.into()) } else { Err(Failure::new(wrong.join("\n"))) }
}
