//! A folder of Markdown and text in, an index that answers questions out.
//!
//! ```sh
//! cargo run --release --example quickstart
//! cargo run --release --example quickstart -- DIR --ask "How do lifetimes work?"
//! ```
//!
//! Without a folder it reads this project's own documentation. `--ask` may be repeated. Run it
//! twice: the index does not grow, because every passage has the id that it had before.
#![allow(clippy::print_stdout, reason = "examples print")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

// [listing]
use nvisy_runtime::plugins::{ai, object, vector};
use nvisy_runtime::{prelude::*, progress};

/// Markdown and text of a folder → passages → vectors → an index in one SQLite file.
fn graph(folder: &str, glob: &str, index: &str) -> Result<Graph> {
    let graph = Graph::builder("quickstart");
    let files = graph.connect("files", object::Local::at(folder));
    let index = graph.connect("index", vector::Sqlite::at(index).create());
    graph
        .source("read", object::Text::all().glob(glob).on(&files))
        .on_error(OnError::Drop)
        .then("chunk", ai::Chunk::markdown(256).overlap(32))
        .then("embed", ai::Embed::model(ai::Local::HASH).on(ai::Local::new()))
        .sink("store", vector::SqliteSink::collection("passages").create().on(&index));
    Ok(graph.build()?)
}

/// Runs the graph, and shows how it stands while it does.
async fn fill(graph: &Graph) -> Result<RunReport> {
    let run = Engine::builder().build()?.start(graph).await?;
    progress::show(&run).await;
    run.wait().await
}

/// Finds the five passages that answer a question best, by full text: beside it, feature hashing
/// has nothing to add. With a model that knows meaning, `Search::hybrid` asks by both.
async fn ask(index: &vector::SqliteClient, question: &str) -> Result<Vec<vector::Hit>> {
    vector::Search::by_text(question).k(5).run(index, "passages").await
}
// [/listing]

/// The graph of `graphs/quickstart.json`, for the test that compares them.
#[cfg(test)]
pub(crate) fn written() -> Result<Graph> {
    graph(".", OWN_FILES, "target/quickstart/documentation.db")
}

#[tokio::main]
async fn main() -> ExitCode {
    let Some(Arguments { folder, glob, questions }) = Arguments::read() else {
        eprintln!("usage: quickstart [DIR] [--ask QUESTION]...");
        return ExitCode::from(1);
    };
    match answer(&folder, glob, &questions).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Fills the index and answers the questions. Returns whether the run did all its work.
async fn answer(folder: &Path, glob: &str, questions: &[String]) -> Result<bool> {
    let path = index_of(folder);
    let report = fill(&graph(&folder.display().to_string(), glob, &path)?).await?;
    println!("{report}");

    let index = vector::Sqlite::at(path.as_str()).connect(&ConnectContext::detached()).await?;
    if index.collection("passages").await?.is_none() {
        println!("there is no text in {}", folder.display());
        return Ok(report.is_success());
    }
    println!("{} passages in {path}\n", index.count("passages").await?);
    let questions = if questions.is_empty() { titles(&index).await? } else { questions.to_vec() };
    for question in &questions {
        examples::print_answer(question, &ask(&index, question).await?);
    }
    Ok(report.is_success())
}

/// Returns what a folder that we know nothing of may be asked: the titles of some documents.
async fn titles(index: &vector::SqliteClient) -> Result<Vec<String>> {
    let anything =
        ai::Embed::model(ai::Local::HASH).vectors(&ai::Local::new().into(), &["introduction"]).await?;
    let beginnings = vector::Search::by_vector(anything.concat()).filter(vector::Filter::eq("chunk", 0));
    let hits = beginnings.run(index, "passages").await?;
    Ok(hits.into_iter().filter_map(|hit| hit.title).take(3).collect())
}

/// Returns where the index of a folder is: each has its own.
fn index_of(folder: &Path) -> String {
    let name = match folder.display().to_string() {
        _ if *folder == examples::root() => "documentation".to_owned(),
        path => path.trim_start_matches('/').replace(|c: char| !c.is_alphanumeric(), "-"),
    };
    examples::from_here(&examples::root().join("target/quickstart").join(name + ".db"))
}

struct Arguments {
    folder: PathBuf,
    glob: &'static str,
    questions: Vec<String>,
}

impl Arguments {
    fn read() -> Option<Self> {
        let (mut folder, mut questions) = (None, Vec::new());
        let mut given = std::env::args().skip(1);
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--ask" => questions.push(given.next()?),
                path if !path.starts_with("--") && folder.is_none() => folder = Some(PathBuf::from(path)),
                _ => return None,
            }
        }
        let glob = if folder.is_some() { "**/*.{md,markdown,txt}" } else { OWN_FILES };
        if folder.is_none() && questions.is_empty() {
            questions = OWN_QUESTIONS.map(str::to_owned).to_vec();
        }
        let folder = folder.unwrap_or_else(examples::root);
        Some(Self { folder: folder.canonicalize().unwrap_or(folder), glob, questions })
    }
}

/// This project's own documentation, but for the README, which shows the answers.
const OWN_FILES: &str = "{ARCHITECTURE,CHANGELOG,CONTRIBUTING}.md";

/// What is asked of it.
const OWN_QUESTIONS: [&str; 3] = [
    "How do I add a new connector?",
    "What does a crash cost today?",
    "How is a call that failed tried again?",
];
