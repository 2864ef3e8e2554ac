//! What an item holds is seen in dead letters, and nowhere else that a run tells of itself.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use futures::StreamExt;
use nvisy_core::testing::memory::MemoryStore;
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::fixture::*;

const CANARY: &str = "canary-7d1e";

/// Writes down every field of every span and event.
#[derive(Clone, Default)]
pub(crate) struct Everything(pub(crate) Arc<Mutex<String>>);

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = writeln!(self.0, "{field}={value:?}");
    }
}

impl Subscriber for Everything {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut Fields(&mut self.0.lock().unwrap()));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Fields(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Fields(&mut self.0.lock().unwrap()));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn action(uses: &str, config: Value) -> Value {
    json!({ "type": "action", "use": uses, "inputs": ["in"], "config": config })
}

#[tokio::test(start_paused = true)]
async fn what_an_item_holds_is_seen_in_dead_letters_alone() {
    let written = Everything::default();
    let _default = tracing::subscriber::set_default(written.clone());
    let row = json!({ "type": "row", "n": CANARY });
    let raw = json!({ "id": CANARY, "text": { "deep": CANARY }, "n": CANARY });
    let nodes = [
        (
            "validate",
            "row",
            action("validate", json!({ "schema": { "properties": { "n": { "type": "integer" } } } })),
        ),
        (
            "enum",
            "row",
            action("validate", json!({ "schema": { "properties": { "n": { "enum": [1, 2] } } } })),
        ),
        ("filter", "row", action("filter", json!({ "when": "int(row.n) > 1" }))),
        ("map", "row", action("map", json!({ "set": { "m": "timestamp(row.n)" } }))),
        ("index", "row", action("map", json!({ "set": { "m": "{'a': 1}[row.n]" } }))),
        ("repeated", "row", action("map", json!({ "set": { "m": "{row.n: 1, row.n: 2}" } }))),
        ("convert", "raw", action("convert", json!({ "to": "message" }))),
        ("document", "raw", action("convert", json!({ "to": "document" }))),
    ];
    for (name, kind, act) in nodes {
        for aside in [true, false] {
            let [out, letters] = ["out", "aside"].map(unique);
            let items = if kind == "row" { [row.clone()] } else { [raw.clone()] };
            let source = json!({ "type": "source", "use": "memory/source", "config": { "items": items, "kind": kind } });
            let mut nodes = json!({ "in": source, "act": act, "out": sink(&out, "act") });
            if aside {
                nodes["aside"] = sink(&letters, "act.dead_letter");
            }
            let run = engine().start(&graph(nodes)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            let progress = Box::pin(run.progress(std::time::Duration::from_millis(10)));
            let (report, progress) = tokio::join!(within(run.wait()), progress.collect::<Vec<_>>());
            let report = report.unwrap();
            let act = node(&report, "act");
            assert_eq!(
                (act.dead_lettered, act.failed),
                if aside { (1, 0) } else { (0, 1) },
                "{name}: {report}"
            );
            let mut shown =
                format!("{report} {report:?} {} {progress:?}", serde_json::to_string(&report).unwrap());
            shown += &written.0.lock().unwrap();
            let place = shown.find(CANARY).map(|at| &shown[at.saturating_sub(200)..at + 20]);
            assert_eq!(place, None, "{name}");
            if aside {
                let letter = format!("{:?}", MemoryStore::named(&letters).plain());
                assert!(letter.contains(CANARY), "{name}: {letter}");
            }
        }
    }
}

#[cfg(feature = "object")]
#[tokio::test]
async fn a_field_that_cannot_be_read_is_seen_in_dead_letters_alone() {
    let written = Everything::default();
    let _default = tracing::subscriber::set_default(written.clone());
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.csv"), format!("n\n1\n{CANARY}\n")).unwrap();
    std::fs::write(directory.path().join("a.jsonl"), format!("{{\"n\":1}}\n{{\"n\":\"{CANARY}\"}}\n"))
        .unwrap();
    let files = json!({ "use": "object/local", "config": { "root": directory.path() } });
    for (uses, path) in [("object/csv", "a.csv"), ("object/jsonl", "a.jsonl")] {
        let [out, letters] = ["out", "aside"].map(unique);
        let source = json!({ "type": "source", "use": uses, "connection": files,
            "config": { "path": path, "sample": 1 } });
        let nodes =
            json!({ "in": source, "out": sink(&out, "in"), "aside": sink(&letters, "in.dead_letter") });
        let report = run(nodes).await;
        assert_eq!(node(&report, "in").dead_lettered, 1, "{report}");
        let mut shown = format!("{report} {}", serde_json::to_string(&report).unwrap());
        shown += &written.0.lock().unwrap();
        assert!(!shown.contains(CANARY), "{shown}");
        assert!(format!("{:?}", MemoryStore::named(&letters).plain()).contains(CANARY));
    }
}
