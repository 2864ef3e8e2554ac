//! Killed again and again, and nothing is lost, doubled, or paid for twice.
//!
//! ```sh
//! cargo run --release --example survive
//! ```
//!
//! A graph over a thousand texts: cut into passages, those that were there before dropped, each
//! embedded by a service that counts its calls and charges for them, and written to an index. It
//! runs in a process of its own, which is killed (`SIGKILL`) at random moments and started again
//! until it is done. Then what is in the index and what was paid is compared with a run that
//! nobody disturbed.
#![allow(clippy::print_stdout, reason = "examples print")]
#![expect(clippy::disallowed_methods, reason = "the service is no part of a run")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use nvisy_runtime::actions::Deduplicate;
use nvisy_runtime::graph::CheckpointSettings;
use nvisy_runtime::nvisy_core::stream;
use nvisy_runtime::plugins::{ai, object, vector};
use nvisy_runtime::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const TEXTS: usize = 1_000;
/// Calls of the service at a time, and passages a call: what a kill can make it do again.
const CALLS: usize = 2;
const PASSAGES: u32 = 16;
/// What the service charges, in dollars a million tokens.
const PRICE: f64 = 20.0;

/// Texts → passages → each passage once → vectors → an index.
fn graph(folder: &Path, service: &str) -> Result<Graph> {
    let graph = Graph::builder("survive");
    graph.settings(|settings| {
        let (every, span) = (Duration::from_millis(100), NonZeroU64::new(256));
        let bounds = CheckpointSettings { every: Some(every), uncommitted_items: span, ..Default::default() };
        settings.checkpoint = Some(bounds);
    });
    let texts = graph.connect("texts", object::Local::at(folder.join("texts").display().to_string()));
    let model = graph.connect("model", ai::OpenAi::at(service));
    let index = graph.connect("index", index(folder).create());
    graph
        .source("read", object::Text::all().on(&texts))
        .then("chunk", ai::Chunk::sentences(4))
        .then("once", Deduplicate::by("document.text"))
        .then("embed", ai::Embed::model("acme-embed").batch_items(PASSAGES).on(&model))
        .concurrency(CALLS)
        .memo()
        .sink("store", vector::SqliteSink::collection("passages").create().on(&index));
    Ok(graph.build()?)
}

fn index(folder: &Path) -> vector::Sqlite {
    vector::Sqlite::at(folder.join("index.db").display().to_string())
}

/// The process that is killed: it goes on from where the one before it was.
async fn child(folder: &Path, service: &str) -> Result<bool> {
    let engine = Engine::builder().state(folder.join("state")).build()?;
    let report = engine.run(&graph(folder, service)?).await?;
    if !report.is_success() {
        eprintln!("{report}");
    }
    Ok(report.is_success())
}

/// What the service has done: how often it embedded each text, and for how many tokens.
#[derive(Clone, Debug, Default)]
struct Bill {
    calls: u64,
    texts: BTreeMap<String, u64>,
    tokens: u64,
}

impl Bill {
    /// Texts that were embedded more than once, as often as they were.
    fn repeated(&self) -> u64 {
        self.texts.values().map(|times| times - 1).sum()
    }

    fn dollars(&self) -> f64 {
        self.tokens as f64 / 1e6 * PRICE
    }
}

/// A service that speaks OpenAI's API, on this machine.
#[derive(Clone, Default)]
struct Service(Arc<Mutex<Bill>>);

impl Service {
    /// Starts it. Returns its address.
    async fn start(&self) -> std::io::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}/v1", listener.local_addr()?);
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                // One whose caller is killed half way ends with an error, which says nothing.
                tokio::spawn(async move { service.answer(stream).await });
            }
        });
        Ok(address)
    }

    /// Takes the bill, so that the next one begins at nothing.
    fn bill(&self) -> Bill {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            match line.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", bytes)) => length = bytes.parse().unwrap_or(0),
                _ if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        let mut request = vec![0; length];
        stream.read_exact(&mut request).await?;
        let request: Value = serde_json::from_slice(&request).unwrap_or_default();
        let answer = self.embed(&request).await.to_string();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length";
        stream.write_all(format!("{head}: {}\r\n\r\n{answer}", answer.len()).as_bytes()).await?;
        stream.shutdown().await
    }

    async fn embed(&self, request: &Value) -> Value {
        let texts: Vec<&str> =
            request["input"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let tokens = texts.iter().map(|text| text.split_whitespace().count() as u64).sum::<u64>();
        {
            let mut bill = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            bill.calls += u64::from(!texts.is_empty());
            bill.tokens += tokens;
            for text in &texts {
                *bill.texts.entry((*text).to_owned()).or_default() += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let vectors = ai::ModelClient::from(ai::Local::new()).embed(ai::Local::HASH, &texts).await;
        let data = vectors.unwrap_or_default().into_iter().enumerate();
        let data: Vec<_> =
            data.map(|(index, vector)| json!({ "index": index, "embedding": vector })).collect();
        json!({ "object": "list", "data": data, "usage": { "prompt_tokens": tokens, "total_tokens": tokens } })
    }
}

/// Runs the child until it is done, and kills it now and then. Returns how often.
fn kill_until_done(folder: &Path, service: &str) -> Result<u64> {
    let failed = |error: std::io::Error| Error::internal("the child cannot be started").with_source(error);
    let mut kills = 0;
    loop {
        let mut child = Command::new(std::env::current_exe().map_err(failed)?)
            .arg("--child")
            .args([folder.as_os_str(), service.as_ref()])
            .spawn()
            .map_err(failed)?;
        // The more often it was killed, the longer it may live: on any machine it gets done.
        let dice = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().subsec_micros();
        let life = Duration::from_millis(u64::from(300 + dice % 900) + kills * 20);
        let born = Instant::now();
        loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                return match status.success() {
                    true => Ok(kills),
                    false => Err(Error::internal(format!("the child ended with {status}"))),
                };
            }
            if born.elapsed() >= life {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().map_err(failed)?;
        child.wait().map_err(failed)?;
        kills += 1;
    }
}

/// Writes the texts: every fifth says what the one before it said.
fn write_texts(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder.join("texts"))?;
    for n in 0..TEXTS {
        let mut text = String::new();
        let said = if n % 5 == 4 { n - 1 } else { n };
        for part in 0..4 {
            let _ = write!(
                text,
                "Parcel {said} has been at stop {part} of its way since the morning of day {}. \
                 Whoever waits for it may ask at counter {} for the number of its van. ",
                said * 4 + part,
                (said * 31 + part * 7) % 997,
            );
        }
        fs::write(folder.join("texts").join(format!("{n:04}.txt")), text)?;
    }
    Ok(())
}

/// Returns how often each passage stands in the index.
async fn passages(folder: &Path) -> Result<BTreeMap<String, u64>> {
    let client = index(folder).connect(&ConnectContext::detached()).await?;
    let source = vector::SqliteSource::collection("passages");
    let mut batches = std::pin::pin!(stream::read(&source, Arc::new(client)));
    let mut passages = BTreeMap::new();
    while let Some(batch) = batches.next().await {
        for item in batch?.iter() {
            let embedding = item.typed::<Embedding>()?;
            let text = embedding.document.as_ref().map(|document| document.text.clone());
            *passages.entry(text.unwrap_or_default()).or_default() += 1;
        }
    }
    Ok(passages)
}

async fn survive() -> Result<bool> {
    let folder = examples::output("survive").map_err(unusable)?;
    let (clean, killed) = (folder.join("clean"), folder.join("killed"));
    write_texts(&clean).and_then(|()| write_texts(&killed)).map_err(unusable)?;
    let service = Service::default();
    let address = service.start().await.map_err(unusable)?;

    child(&clean, &address).await?;
    let (wanted, fair) = (passages(&clean).await?, service.bill());
    println!("undisturbed: {} passages, {} calls, ${:.4}", wanted.len(), fair.calls, fair.dollars());

    let began = Instant::now();
    let kills = {
        let (killed, address) = (killed.clone(), address.clone());
        let killing = tokio::task::spawn_blocking(move || kill_until_done(&killed, &address));
        killing.await.map_err(|error| Error::internal("the killer died").with_source(error))??
    };
    let (found, paid) = (passages(&killed).await?, service.bill());
    let lost = wanted.keys().filter(|text| !found.contains_key(*text)).count();
    let doubled = found.values().map(|times| times - 1).sum::<u64>();
    let bound = kills * CALLS as u64 * u64::from(PASSAGES);
    println!("killed {kills} times in {:.1} s: {} passages", began.elapsed().as_secs_f64(), found.len());
    println!("  lost {lost}, doubled {doubled}");
    println!("  {} calls, {} passages embedded again (at most {bound})", paid.calls, paid.repeated());
    println!("  ${:.4} paid, ${:.4} undisturbed", paid.dollars(), fair.dollars());
    let traced = trace(&killed).await?;
    Ok(lost == 0 && doubled == 0 && paid.repeated() <= bound && traced)
}

/// Goes from one vector back to the bytes it is made of.
async fn trace(folder: &Path) -> Result<bool> {
    let client = index(folder).connect(&ConnectContext::detached()).await?;
    let hits = vector::Search::by_text("parcel 770 stop 2").k(1).run(&client, "passages").await?;
    let Some(hit) = hits.first() else { return Ok(false) };
    let file = hit.source_uri.as_deref().unwrap_or_default().trim_start_matches("file://").to_owned();
    let range = hit.byte_range.clone().unwrap_or_default();
    let bytes = fs::read(&file).map_err(unusable)?;
    let bytes = bytes.get(range.start as usize..range.end as usize).unwrap_or_default();
    println!("one vector, {}:", hit.id);
    println!("  {}", examples::lineage(&hit.lineage));
    println!("  {}, bytes {}..{}:", examples::from_here(Path::new(&file)), range.start, range.end);
    println!("  \"{}\"", examples::beginning(&String::from_utf8_lossy(bytes), 92));
    Ok(hit.text.as_deref().map(str::as_bytes) == Some(bytes))
}

fn unusable(error: std::io::Error) -> Error {
    Error::internal("the folder below target/ cannot be used").with_source(error)
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let survived = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => survive().await,
        ["--child", folder, service] => child(Path::new(folder), service).await,
        _ => {
            eprintln!("usage: survive");
            return ExitCode::from(1);
        }
    };
    match survived {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
