//! `cargo xtask examples`: every example is built and run with the arguments that stand here.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{Failure, Outcome, cargo, root, run as run_program, target_dir};

/// How each example is run. `{dir}` stands for an empty directory that is removed afterwards.
const EXAMPLES: &[Example] = &[
    Example::new("quickstart", &[]),
    // Once more over the same folder, with questions.
    Example::new("quickstart", &["--ask", "What happens to an item that fails?", "--ask", "crash"]),
    Example::new("quickstart", &["examples/data/letters", "--ask", "Where is my order?"]),
    Example::new("quickstart", &["--ask"]).fails(1),
    Example::new("run", &["--help"]),
    Example::new("run", &["--schema"]),
    Example::new("run", &["examples/graphs/tickets.json", "--report", "{dir}/report.json"]),
    Example::new("run", &["examples/graphs/quickstart.json"]),
    Example::new("run", &["examples/graphs/tickets.json", "--check"]),
    Example::new("run", &["examples/graphs/tickets.json", "--explain"]),
    Example::new("run", &["examples/graphs/tickets.json", "--mermaid"]),
    Example::new("run", &["examples/graphs/tickets.json", "--dot"]),
    Example::new("run", &["examples/graphs/tickets.json", "--dry-run"]),
    Example::new("run", &["examples/graphs/tickets.json", "--state", "{dir}/state"]),
    Example::new("run", &["examples/graphs/tickets.json", "--state", "{dir}/state", "--status"]),
    Example::new("run", &["--state", "{dir}", "--trace-forward", "tickets.jsonl"]).fails(4),
    Example::new("run", &["--trace-back", "54c507e2-d35b-829c-9fe1-3b3024beee4e"]).fails(1),
    Example::new("run", &["examples/graphs/tickets.json", "--status"]).fails(1),
    Example::new("run", &[]).fails(1),
    Example::new("run", &["{dir}/no-such-graph.json"]).fails(1),
    Example::new("run", &["examples/graphs/tickets.json", "--check", "--dot"]).fails(1),
    Example::new("run", &["examples/graphs/broken.json"]).fails(2),
    Example::new("run", &["examples/graphs/partial.json"]).fails(3),
    Example::new("run", &["examples/graphs/failing.json"]).fails(4),
    Example::new("from_json", &[]),
    Example::new("custom_transform", &[]),
    Example::new("custom_source", &[]),
    Example::new("branch_and_dead_letter", &[]),
    Example::new("csv_to_parquet", &[]),
    Example::new("sqlite_to_vectors", &[]),
    Example::new("survive", &[]),
    Example::new("incremental", &[]),
];

/// Where the examples are, from the root of the workspace.
const FOLDER: &str = "examples/examples";

/// The longest that an example may run.
const LIMIT: Duration = Duration::from_secs(120);

struct Example {
    name: &'static str,
    args: &'static [&'static str],
    code: i32,
}

impl Example {
    /// An example that succeeds.
    const fn new(name: &'static str, args: &'static [&'static str]) -> Self {
        Self { name, args, code: 0 }
    }

    /// One that ends with another exit code.
    const fn fails(self, code: i32) -> Self {
        Self { code, ..self }
    }

    /// What is typed after `--example`.
    fn typed(&self) -> String {
        [&[self.name], self.args].concat().join(" ")
    }
}

pub(crate) fn run(args: &[String]) -> Outcome {
    let release = args.iter().any(|arg| arg == "--release");
    let names: Vec<&str> = args.iter().map(String::as_str).filter(|arg| *arg != "--release").collect();
    let listed: BTreeSet<&str> = EXAMPLES.iter().map(|example| example.name).collect();
    if let Some(unknown) = names.iter().find(|name| !listed.contains(*name)) {
        return Err(Failure::usage(format!("examples: no example `{unknown}`")));
    }
    compare(&listed, &discover(&root().join(FOLDER))?)?;

    let profile = if release { "release" } else { "debug" };
    let build = ["build", "-p", "examples", "--examples"];
    run_program(cargo(build).args(release.then_some("--release")))?;

    let mut failed = Vec::new();
    for example in EXAMPLES.iter().filter(|example| names.is_empty() || names.contains(&example.name)) {
        let program = target_dir().join(profile).join("examples").join(example.name);
        let started = Instant::now();
        match start(example, &program) {
            Ok(()) => {
                println!("example {} ... ok ({:.1} s)", example.typed(), started.elapsed().as_secs_f64())
            }
            Err(failure) => {
                println!("example {} ... FAILED: {}", example.typed(), failure.message().unwrap_or_default());
                failed.push(example.name);
            }
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(format!("examples failed: {}", failed.join(", "))))
    }
}

/// Returns the names of the examples that exist: files and folders with a `main.rs`.
fn discover(folder: &Path) -> Result<BTreeSet<String>, Failure> {
    let unreadable = |error| Failure::new(format!("{}: {error}", folder.display()));
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let is_example =
            path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").is_file();
        if let (true, Some(name)) = (is_example, path.file_stem()) {
            found.insert(name.to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

/// Checks that the table and the folder name the same examples.
fn compare(listed: &BTreeSet<&str>, found: &BTreeSet<String>) -> Outcome {
    let unlisted: Vec<&str> =
        found.iter().map(String::as_str).filter(|name| !listed.contains(name)).collect();
    let missing: Vec<&str> = listed.iter().copied().filter(|name| !found.contains(*name)).collect();
    if unlisted.is_empty() && missing.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the table in xtask/src/examples.rs and {FOLDER} differ: without an entry [{}], without a file [{}]",
        unlisted.join(", "),
        missing.join(", ")
    )))
}

/// Runs an example from the root of the workspace, as its first lines tell a reader to.
fn start(example: &Example, program: &Path) -> Outcome {
    let folder = target_dir().join("examples-run").join(example.name);
    let fails = |what: &str, error: std::io::Error| Failure::new(format!("{what}: {error}"));
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| fails("cannot empty its directory", error))?;
    }
    let given = folder.join("given");
    fs::create_dir_all(&given).map_err(|error| fails("cannot make its directory", error))?;
    let printed = folder.join("output.txt");
    let output = File::create(&printed).map_err(|error| fails("cannot write its output", error))?;
    let errors = output.try_clone().map_err(|error| fails("cannot write its output", error))?;

    let dir = given.to_string_lossy();
    let mut command = Command::new(program);
    command
        .args(example.args.iter().map(|arg| arg.replace("{dir}", &dir)))
        .current_dir(root())
        .stdin(std::process::Stdio::null())
        .stdout(output)
        .stderr(errors);
    let wrong = match wait(&mut command, LIMIT) {
        Ok(status) if status.code() == Some(example.code) => {
            return fs::remove_dir_all(&folder).map_err(|error| fails("cannot remove its directory", error));
        }
        Ok(status) => format!("{status}, expected {}", example.code),
        Err(failure) => failure.message().unwrap_or_default().to_owned(),
    };
    Err(Failure::new(format!("{wrong}; it printed:\n{}", tail(&printed))))
}

/// Waits for a program, and ends it when it takes longer than the limit.
fn wait(command: &mut Command, limit: Duration) -> Result<ExitStatus, Failure> {
    let fails = |error: std::io::Error| Failure::new(format!("{error}"));
    let mut child = command.spawn().map_err(fails)?;
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().map_err(fails)? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            child.kill().and_then(|()| child.wait()).map_err(fails)?;
            return Err(Failure::new(format!("still running after {} s", limit.as_secs())));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the last lines of a file.
fn tail(path: &Path) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listed: &[&'static str], found: &[&str]) -> Outcome {
        compare(&listed.iter().copied().collect(), &found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_example_needs_an_entry_and_every_entry_an_example() {
        check(&["a", "b"], &["b", "a"]).unwrap();
        let failure = check(&["a", "gone"], &["a", "new"]).unwrap_err();
        assert_eq!(
            failure.message(),
            Some(
                "the table in xtask/src/examples.rs and examples/examples differ: \
                 without an entry [new], without a file [gone]"
            )
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let failure = wait(Command::new("sleep").arg("600"), Duration::from_millis(50)).unwrap_err();
        assert!(failure.message().unwrap_or_default().contains("still running"));
    }
}
