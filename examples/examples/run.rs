//! Runs any graph that is written as JSON, with every plugin at hand.
//!
//! ```sh
//! cargo run --release --example run -- examples/graphs/tickets.json
//! cargo run --release --example run -- --help
//! ```

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nvisy_runtime::checkpoint::DirectoryStore;
use nvisy_runtime::engine::{RunHandle, RunReport, RunState, RunStatus};
use nvisy_runtime::lineage::{Subject, trace_back, trace_forward};
use nvisy_runtime::nvisy_core::PrimitiveId;
use nvisy_runtime::{prelude::*, progress};

const HELP: &str = "\
Runs a graph that is written as JSON.

usage: run GRAPH.json [--check | --explain | --mermaid | --dot | --dry-run | --status] [--state DIR]
                      [--accept NODE] [--report FILE]
       run --state DIR (--trace-back ID | --trace-forward ID|PATH)
       run --schema

  GRAPH.json       the graph; paths in it are relative to the working directory
  --check          compile it and stop
  --explain        compile it and say what would happen, and what arrives how often
  --mermaid        draw it for Mermaid
  --dot            draw it for Graphviz
  --dry-run        connect, look at some of the items, and say what a run would do
  --state DIR      keep there what it takes to go on: run again with it, a run that was
                   stopped or killed goes on where it stood
  --accept NODE    go on though that node has changed since the run stopped, or though what its
                   source had read in part is gone; once for each
  --status         say where the run in DIR, or where the graph keeps it, stands
  --trace-back ID  say where what was written under that id comes from
  --trace-forward ID|PATH
                   list what was made of a source item, or of a whole object, by its path:
                   the sinks, and the ids in each
  --report FILE    also write the report of the run there, as JSON
  --schema         print the JSON Schema of graphs, for editors
  --help           print this

Secrets come from the environment, then from .env. RUST_LOG=nvisy_runtime=debug shows more.
The first Ctrl-C or SIGTERM stops reading and finishes what is on its way, the second stops
at once.

exit codes: 0 success, 1 wrong usage or a file that cannot be read or written,
            2 the graph does not compile, 3 partial failure, 4 failure";

/// How long what is on its way may take after the first Ctrl-C.
const DRAIN: Duration = Duration::from_secs(60);

/// The exit codes.
mod exit {
    pub(crate) const SUCCESS: u8 = 0;
    pub(crate) const USAGE: u8 = 1;
    pub(crate) const DOES_NOT_COMPILE: u8 = 2;
    pub(crate) const PARTIAL_FAILURE: u8 = 3;
    pub(crate) const FAILURE: u8 = 4;
}

/// What to do.
enum Command {
    Help,
    Schema,
    Trace { state: PathBuf, trace: Trace },
    Graph { path: PathBuf, task: Task, state: Option<PathBuf>, accepted: Vec<String> },
}

/// What to look for in the log of lineage.
enum Trace {
    Back(PrimitiveId),
    Forward(Subject),
}

/// What to do with a graph.
enum Task {
    Check,
    Explain,
    Mermaid,
    Dot,
    DryRun,
    Status,
    Run { report: Option<PathBuf> },
}

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let code = match Command::read(std::env::args().skip(1)) {
        Ok(command) => execute(command).await,
        Err(problem) => Err(Stop { code: exit::USAGE, message: format!("{problem}\n\n{HELP}") }),
    };
    ExitCode::from(code.unwrap_or_else(|stop| {
        eprintln!("{}", stop.message);
        stop.code
    }))
}

/// Why it stops before a run: what to say on standard error, and the exit code.
struct Stop {
    code: u8,
    message: String,
}

impl Stop {
    fn file(path: &Path, error: &std::io::Error) -> Self {
        Self { code: exit::USAGE, message: format!("{}: {error}", path.display()) }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self { code: exit::FAILURE, message: error.to_string() }
    }
}

async fn execute(command: Command) -> Result<u8, Stop> {
    let builder = Engine::builder();
    let engine = match &command {
        Command::Graph { state: Some(state), accepted, .. } => {
            builder.state(state).build()?.accepting(accepted)
        }
        Command::Graph { accepted, .. } => builder.build()?.accepting(accepted),
        _ => builder.build()?,
    };
    let (path, task, state) = match command {
        Command::Help => {
            print(&format!("{HELP}\n"));
            return Ok(exit::SUCCESS);
        }
        Command::Schema => {
            print(&format!("{:#}\n", engine.schema()));
            return Ok(exit::SUCCESS);
        }
        Command::Trace { state, trace } => return tell(&state, trace),
        Command::Graph { path, task, state, .. } => (path, task, state),
    };
    let text = fs::read_to_string(&path).map_err(|error| Stop::file(&path, &error))?;
    let plan = engine.compile_json(&text).map_err(|diagnostics| Stop {
        code: exit::DOES_NOT_COMPILE,
        message: format!("{}: {diagnostics}", path.display()),
    })?;
    let own_state = || {
        let settings = plan.graph().settings.checkpoint.as_ref();
        settings.and_then(|settings| settings.directory.as_ref()).map(PathBuf::from)
    };
    match task {
        Task::Check => print(&format!("{}: compiles\n", path.display())),
        Task::Explain => print(&plan.explain()),
        Task::Mermaid => print(&plan.to_mermaid()),
        Task::Dot => print(&plan.to_dot()),
        Task::DryRun => {
            let forecast = engine.dry_run_plan(&plan).await?;
            print(&forecast.to_string());
            return Ok(if forecast.is_success() { exit::SUCCESS } else { exit::FAILURE });
        }
        Task::Status => {
            let name = &plan.graph().name;
            let Some(state) = state.or_else(own_state) else {
                return Err(Stop {
                    code: exit::USAGE,
                    message: "--status: of which --state DIR?".to_owned(),
                });
            };
            let checkpoint = DirectoryStore::new(state).peek(name).await?;
            print(&RunState::of(name, &checkpoint.unwrap_or_default())?.to_string());
        }
        Task::Run { report: to } => {
            let report = run(engine.start_plan(&plan).await?).await?;
            print(&report.to_string());
            if report.checkpoint.as_ref().is_some_and(|checkpoint| !checkpoint.finished) {
                let with =
                    state.map_or_else(String::new, |state| format!(" with --state {}", state.display()));
                print(&format!("run it again{with} to go on\n"));
            }
            if let Some(to) = to {
                save(&report, &to).map_err(|error| Stop::file(&to, &error))?;
            }
            return Ok(match report.status {
                RunStatus::Success => exit::SUCCESS,
                RunStatus::PartialFailure => exit::PARTIAL_FAILURE,
                RunStatus::Failure | RunStatus::Cancelled => exit::FAILURE,
            });
        }
    }
    Ok(exit::SUCCESS)
}

/// Says what the log of lineage says.
fn tell(state: &Path, trace: Trace) -> Result<u8, Stop> {
    let (mut lines, skipped) = match trace {
        Trace::Back(id) => {
            let back = trace_back(state, id)?;
            (back.traces.iter().map(ToString::to_string).collect::<Vec<_>>(), back.skipped)
        }
        Trace::Forward(origin) => {
            let forward = trace_forward(state, origin)?;
            let mut lines = Vec::new();
            for (sink, ids) in &forward.sinks {
                let many = if ids.len() == 1 { "item" } else { "items" };
                lines.push(format!("{} {many} written by \"{sink}\"", ids.len()));
                lines.extend(ids.iter().map(|id| format!("  {id}")));
            }
            (lines, forward.skipped)
        }
    };
    let found = !lines.is_empty();
    if !found {
        lines.push(format!("the log in {} knows nothing of it", state.display()));
    }
    print(&format!("{}\n", lines.join("\n")));
    for file in &skipped {
        eprintln!("passed over: {file}");
    }
    Ok(if found && skipped.is_empty() { exit::SUCCESS } else { exit::FAILURE })
}

/// Prints a text. Who reads it may have read enough: that is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Shows how a run stands until it ends, or somebody ends it.
async fn run(run: RunHandle) -> Result<RunReport> {
    let mut shown = std::pin::pin!(progress::show(&run));
    let mut interrupts = 0;
    loop {
        tokio::select! {
            () = &mut shown => break,
            () = told_to_stop() => {
                interrupts += 1;
                if interrupts == 1 {
                    eprintln!("finishing what is on its way; once more to stop at once");
                    run.drain(DRAIN);
                } else {
                    run.cancel();
                }
            }
        }
    }
    run.wait().await
}

/// Waits for Ctrl-C, or where there is one for a SIGTERM.
async fn told_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

fn save(report: &RunReport, to: &Path) -> std::io::Result<()> {
    let mut json = serde_json::to_string_pretty(report)?;
    json.push('\n');
    fs::write(to, json)
}

impl Command {
    fn read(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut path, mut task, mut report, mut state, mut schema) = (None, None, None, None, false);
        let (mut trace, mut accepted) = (None, Vec::new());
        let mut arguments = arguments.peekable();
        if arguments.peek().is_none() {
            return Err("which graph?".to_owned());
        }
        while let Some(argument) = arguments.next() {
            let chosen = match argument.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--schema" => {
                    schema = true;
                    continue;
                }
                "--report" => {
                    report = Some(PathBuf::from(arguments.next().ok_or("--report: which file?")?));
                    continue;
                }
                "--accept" => {
                    accepted.push(arguments.next().ok_or("--accept: which node?")?);
                    continue;
                }
                "--state" => {
                    state = Some(PathBuf::from(arguments.next().ok_or("--state: which directory?")?));
                    continue;
                }
                "--trace-back" | "--trace-forward" => {
                    let of = arguments.next().ok_or_else(|| format!("{argument}: of which id?"))?;
                    let this = match argument.as_str() {
                        "--trace-back" => Trace::Back(of.parse().map_err(|error: Error| error.to_string())?),
                        _ => Trace::Forward(of.as_str().into()),
                    };
                    if trace.replace(this).is_some() {
                        return Err("one of --trace-back and --trace-forward at a time".to_owned());
                    }
                    continue;
                }
                "--status" => Task::Status,
                "--check" => Task::Check,
                "--explain" => Task::Explain,
                "--mermaid" => Task::Mermaid,
                "--dot" => Task::Dot,
                "--dry-run" => Task::DryRun,
                unknown if unknown.starts_with('-') => return Err(format!("there is no option {unknown}")),
                _ if path.is_some() => return Err(format!("one graph at a time: {argument}")),
                _ => {
                    path = Some(PathBuf::from(argument));
                    continue;
                }
            };
            if task.replace(chosen).is_some() {
                return Err("one of --check, --explain, --mermaid, --dot, --dry-run and --status at a time"
                    .to_owned());
            }
        }
        match (trace, state.clone()) {
            (None, _) => {}
            (Some(_), None) => return Err("whose lineage? --state DIR says".to_owned()),
            (Some(trace), Some(state))
                if path.is_none() && task.is_none() && report.is_none() && accepted.is_empty() && !schema =>
            {
                return Ok(Self::Trace { state, trace });
            }
            (Some(_), Some(_)) => {
                return Err("--trace-back and --trace-forward take --state alone".to_owned());
            }
        }
        match (path, task, report, schema) {
            (None, None, None, true) => Ok(Self::Schema),
            (_, _, _, true) => Err("--schema stands alone".to_owned()),
            (None, ..) => Err("which graph?".to_owned()),
            (Some(_), Some(_), Some(_), _) => Err("there is a report only of a run".to_owned()),
            (Some(path), Some(task), None, _) => Ok(Self::Graph { path, task, state, accepted }),
            (Some(path), None, report, _) => {
                Ok(Self::Graph { path, task: Task::Run { report }, state, accepted })
            }
        }
    }
}
