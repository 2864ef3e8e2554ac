//! The programs that a command starts, and how they fail.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// How a command of `xtask` ends.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a command of `xtask` failed.
#[derive(Debug)]
pub(crate) struct Failure {
    message: Option<String>,
    code: u8,
}

impl Failure {
    /// A check that did not hold or a program that could not be run.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), code: 1 }
    }

    /// Arguments that make no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), code: 2 }
    }

    /// A program that has said itself what went wrong, so that its lines stay the last.
    fn silent(code: Option<i32>) -> Self {
        Self { message: None, code: code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1) }
    }

    pub(crate) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

/// Returns the root of the workspace.
///
/// Cargo says where the package is when it runs it: two checkouts that share a target directory share the
/// program too, and what was true when it was compiled holds for one of them only.
pub(crate) fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = Path::new(&package);
    package.parent().unwrap_or(package).to_path_buf()
}

/// Returns the directory that cargo builds into.
pub(crate) fn target_dir() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsString::from("target")))
}

/// Returns a call of cargo, at the root of the workspace.
pub(crate) fn cargo<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(args).current_dir(root());
    command
}

/// Runs a program whose output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|error| not_started(command, &error))?;
    if status.success() { Ok(()) } else { Err(Failure::silent(status.code())) }
}

/// Runs a program and returns what it printed on standard output.
pub(crate) fn read(command: &mut Command) -> Result<String, Failure> {
    let Output { status, stdout, stderr } = command.output().map_err(|error| not_started(command, &error))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        return Err(Failure::new(format!("{command:?} failed\n{}", said.trim_end())));
    }
    String::from_utf8(stdout).map_err(|_| Failure::new(format!("{command:?} printed what is not UTF-8")))
}

pub(crate) fn not_started(command: &Command, error: &std::io::Error) -> Failure {
    Failure::new(format!("{command:?} could not be started: {error}"))
}
