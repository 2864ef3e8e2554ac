//! The secret of a connection is seen by the service that it is for, and nowhere else: not where runs
//! write, and not in what they say.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use nvisy_core::Error;
use nvisy_runtime::Engine;
use nvisy_runtime::engine::{RunReport, RunStatus};
use nvisy_runtime::graph::Graph;
use nvisy_runtime::lineage::trace_forward;
use nvisy_runtime::secrets::{SecretFiles, Secrets};
use serde_json::{Value, json};

use crate::canary::Everything;
use crate::fixture::{state_of, with, within};

/// With signs that are written in another way in URLs and in JSON.
const SECRET: &str = "sk-Zq8/XvT3+mN0pL=7d1e\\cW5&uRk2%yB9";
const TEXT: &str = "canary-52fa";

/// The ways to write a secret that somebody may echo, each with where it begins in there.
fn spellings(secret: &str) -> Vec<(String, usize)> {
    let percent = |written: &str| {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        written.bytes().map(byte).collect::<String>()
    };
    let hex = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let lower = percent(secret).replace("%2F", "%2f").replace("%3D", "%3d").replace("%2B", "%2b");
    let mut all: Vec<_> = [secret.to_owned(), percent(secret), lower, hex, json!(secret).to_string()]
        .map(|all| (all, 0))
        .into();
    // Three bytes are four signs.
    for before in ["", "k", ":k", "Bearer ", "user:"] {
        let written = base64(format!("{before}{secret}").as_bytes());
        let begins = (8 * before.len()).div_ceil(6);
        all.push((written.replace('+', "-").replace('/', "_"), begins));
        all.push((written, begins));
    }
    all
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let four = |three: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(three.get(at).copied().unwrap_or(0)));
        let sign =
            |at: usize| if at > three.len() { '=' } else { char::from(SIGNS[bits >> (18 - 6 * at) & 63]) };
        (0..4).map(sign).collect::<String>()
    };
    bytes.chunks(3).map(four).collect()
}

/// A service that says no with a status, headers and a body, in which it may echo the header that it
/// was sent: from the start on, or when it is asked for vectors.
struct Service {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

type Answer = fn(&str) -> (u16, String, String);

impl Service {
    fn start(answer: Option<Answer>, late: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let mut stream = BufReader::new(stream);
                let (mut length, mut sent, mut looks) = (0, String::new(), false);
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).unwrap();
                    looks |= line.starts_with("GET ");
                    match line.trim_end().split_once(": ") {
                        Some((name, bytes)) if name.eq_ignore_ascii_case("content-length") => {
                            length = bytes.parse().unwrap();
                        }
                        Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                            value.clone_into(&mut sent);
                        }
                        _ if line.trim_end().is_empty() => break,
                        _ => {}
                    }
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).unwrap();
                let (status, headers, answer) = match answer {
                    Some(answer) if !(looks && late) => answer(&sent),
                    _ => (200, String::new(), embed(&body)),
                };
                noted.lock().unwrap().push(sent);
                let length = answer.len();
                let head = format!(
                    "HTTP/1.1 {status} so\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n"
                );
                // Whoever is gone needs no answer.
                let _ = stream.get_mut().write_all(format!("{head}{answer}").as_bytes());
            }
        });
        Self { address, seen }
    }
}

fn embed(request: &[u8]) -> String {
    let request: Value = serde_json::from_slice(request).unwrap_or_default();
    let texts = request["input"].as_array().map_or(0, Vec::len);
    let data: Vec<_> = (0..texts).map(|index| json!({ "index": index, "embedding": [1.0, 0.5] })).collect();
    json!({ "data": data, "usage": { "prompt_tokens": 1, "total_tokens": 1 } }).to_string()
}

/// Texts → vectors that are paid for and kept → an index; what fails goes aside, or fails the run.
fn graph(dir: &Path, service: &str, aside: bool) -> Graph {
    let key = json!({ "secret": "KEY" });
    let mut graph = json!({
        "version": 1,
        "name": "secret",
        "connections": {
            "files": { "use": "object/local", "config": { "root": dir } },
            "model": { "use": "ai/openai", "config": { "base_url": service, "api_key": key, "connect_timeout": "5s" } },
            "index": { "use": "vector/sqlite", "config": { "path": dir.join("index.db"), "create": true } },
        },
        "nodes": {
            "read": { "type": "source", "use": "object/text", "connection": "files", "config": { "glob": "*.txt" } },
            "embed": { "type": "action", "use": "ai/embed", "connection": "model", "inputs": ["read"], "memo": true,
                       "retry": { "max_attempts": 2, "initial": "1ms" }, "config": { "model": "small" } },
            "store": { "type": "sink", "use": "vector/sqlite", "connection": "index", "inputs": ["embed"],
                       "config": { "collection": "texts", "create": true } },
        },
    });
    if aside {
        let letters = json!({ "type": "sink", "use": "object/jsonl", "connection": "files",
                              "inputs": ["embed.dead_letter"], "config": { "path": "out/letters-{part}.jsonl" } });
        graph = with(graph, json!({ "nodes": { "letters": letters } }));
    }
    Graph::from_json(&graph.to_string()).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs, and returns the report, if it began, with everything that was said on the way.
async fn run(dir: &Path, graph: &Graph) -> (Option<RunReport>, String) {
    let written = Everything::default();
    let _default = tracing::subscriber::set_default(written.clone());
    let secrets = Secrets::none().with(SecretFiles::in_directory(dir.join("../secrets")));
    let engine = Engine::builder().state(dir.join("state")).secrets(secrets).build().unwrap();
    let plan = engine.compile(graph).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    let mut said =
        format!("{engine:?} {graph:?} {} {plan:?} {} {}", graph.to_json(), plan.explain(), plan.to_dot());
    match engine.dry_run(graph).await {
        Ok(dry) => write!(said, "{dry} {dry:?}").unwrap(),
        Err(error) => said += &shown(&error),
    }
    let run = match engine.start(graph).await {
        Ok(run) => run,
        Err(error) => {
            said += &shown(&error);
            said += &written.0.lock().unwrap();
            return (None, said);
        }
    };
    write!(said, "{run:?}").unwrap();
    let progress = Box::pin(run.progress(std::time::Duration::from_millis(5)));
    let (report, progress) = tokio::join!(within(run.wait()), progress.collect::<Vec<_>>());
    let report = report.unwrap();
    let json = serde_json::to_string(&report).unwrap();
    write!(said, "{report} {report:?} {report:#?} {json} {progress:?}").unwrap();
    let state = state_of(&dir.join("state"), "secret").await.unwrap();
    write!(said, "{state} {state:?}").unwrap();
    said += &written.0.lock().unwrap();
    (Some(report), said)
}

/// All that an error tells, but for what it keeps for dead letters.
fn shown(error: &Error) -> String {
    format!("{error} {error:?} {error:#?} {}", serde_json::to_string(&error.to_report()).unwrap())
}

/// All bytes of all files below a folder.
fn bytes_below(dir: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        all.extend(path.to_string_lossy().as_bytes());
        all.extend(if path.is_dir() { bytes_below(&path) } else { fs::read(&path).unwrap() });
    }
    all
}

/// A stretch of the secret that stands in bytes, in whatever spelling.
fn leak(bytes: &[u8]) -> Option<String> {
    const STRETCH: usize = 10;
    let all = spellings(SECRET);
    let stretches: HashSet<&[u8]> =
        all.iter().flat_map(|(spelled, begins)| spelled.as_bytes()[*begins..].windows(STRETCH)).collect();
    let at = bytes.windows(STRETCH).position(|window| stretches.contains(window))?;
    Some(String::from_utf8_lossy(&bytes[at.saturating_sub(160)..(at + 80).min(bytes.len())]).into_owned())
}

fn all_spelled(sent: &str) -> String {
    let secret = sent.strip_prefix("Bearer ").unwrap_or(sent);
    let all = spellings(secret).into_iter().map(|(spelled, _)| spelled);
    format!("you sent {sent}, {}", all.collect::<Vec<_>>().join(", "))
}

/// What services say no with, and whose fault it is.
const ANSWERS: [(&str, Option<Answer>); 9] = [
    ("success", None),
    (
        "401",
        Some(|sent| {
            (
                401,
                String::new(),
                json!({ "error": { "message": all_spelled(sent), "code": "invalid_api_key" } }).to_string(),
            )
        }),
    ),
    (
        "400",
        Some(|sent| {
            (
                400,
                String::new(),
                json!({ "error": { "message": all_spelled(sent), "type": sent } }).to_string(),
            )
        }),
    ),
    ("403", Some(|sent| (403, String::new(), all_spelled(sent)))),
    (
        "429",
        Some(|sent| {
            (
                429,
                "retry-after: 0\r\n".to_owned(),
                json!({ "detail": all_spelled(sent), "code": sent }).to_string(),
            )
        }),
    ),
    ("500", Some(|sent| (500, String::new(), all_spelled(sent)))),
    (
        "an object",
        Some(|sent| {
            (
                500,
                String::new(),
                json!({ "headers": { "authorization": sent, "more": all_spelled(sent) } }).to_string(),
            )
        }),
    ),
    (
        "elsewhere",
        Some(|sent| {
            (307, format!("location: http://127.0.0.1:9/{}\r\n", spellings(sent)[1].0), String::new())
        }),
    ),
    (
        "nonsense",
        Some(|sent| (200, String::new(), json!({ "data": all_spelled(sent), "usage": sent }).to_string())),
    ),
];

#[tokio::test]
async fn the_secret_of_a_connection_is_seen_by_its_service_alone() {
    for (spelled, _) in spellings(SECRET) {
        assert!(leak(spelled.as_bytes()).is_some(), "{spelled}");
    }
    let refused = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/v1", listener.local_addr().unwrap())
    };
    let started = |(name, answer)| [true, false].map(|late| (name, late, Service::start(answer, late)));
    let services: Vec<_> = ANSWERS.into_iter().flat_map(started).collect();
    let gone = ("refused", false, Service { address: refused, seen: Arc::default() });
    let all = services.iter().chain([&gone]).flat_map(|service| [(service, true), (service, false)]);
    for ((name, late, service), aside) in all {
        let what = format!("{name}, late {late}, aside {aside}");
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("run");
        for folder in [&dir, &place.path().join("secrets"), &dir.join("out"), &dir.join("state")] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(place.path().join("secrets/KEY"), SECRET).unwrap();
        for n in 0..3 {
            fs::write(dir.join(format!("{n}.txt")), format!("{TEXT} {n}")).unwrap();
        }
        let (report, said) = run(&dir, &graph(&dir, &service.address, aside)).await;
        let (began, well) =
            (report.is_some(), report.is_some_and(|report| report.status == RunStatus::Success));
        assert_eq!(well, *name == "success" || (*late || *name == "nonsense") && aside, "{what}");
        let seen = service.seen.lock().unwrap();
        assert!(seen.iter().all(|sent| sent.contains(SECRET)), "{what}: {seen:?}");
        assert_eq!(seen.is_empty(), *name == "refused", "{what}");
        assert_eq!(leak(said.as_bytes()), None, "{what}: in what is said");
        let files = bytes_below(&dir.join("state"));
        assert_eq!(leak(&files), None, "{what}: in the state directory");
        let files = bytes_below(&dir);
        assert_eq!(leak(&files), None, "{what}: in what sinks have written");
        if began {
            for n in 0..3 {
                let traced = trace_forward(dir.join("state"), format!("{n}.txt").as_str());
                assert!(traced.is_ok() || *name != "success", "{what}: {traced:?}");
                let logged = format!("{traced:?}");
                assert_eq!(leak(logged.as_bytes()), None, "{what}: in the log of lineage");
            }
        }
        let letters = String::from_utf8_lossy(&files).contains("\"tag\"");
        assert_eq!(letters, began && aside && *name != "success", "{what}: what failed is aside");
    }
}
