//! Input that was changed at random gives a value or an error, and never a panic.

use std::time::Duration;

use nvisy_core::checkpoint::{Changes, CheckpointStore};
use nvisy_core::position::KeyValue;
use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::testing::memory::{Form, MemoryStore as Place};
use nvisy_runtime::checkpoint::MemoryStore;
use nvisy_runtime::engine::{RunState, RunStatus};
use nvisy_runtime::expression::Expression;
use serde_json::json;

use crate::fixture::*;
use crate::model::Dice;
use crate::sample::TICKETS;
use crate::torture::Torture;

/// Cuts, flips, repeats or replaces a few bytes.
fn mutated(dice: &mut Dice, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.roll(3) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = dice.roll(bytes.len() as u64) as usize;
        match dice.roll(5) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << dice.roll(8),
            2 => bytes[at] = dice.of(b"0918-.eE\"\\{}[]:,ntf \0\xff"),
            3 => drop(bytes.remove(at)),
            _ => {
                let to = (at + 1 + dice.roll(30) as usize).min(bytes.len());
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

#[test]
fn a_graph_that_was_changed_compiles_or_says_why_not() {
    let engine = engine();
    let mut torture = Torture::of("fuzz", 300, 1);
    torture.each(|seed| {
        let text = mutated(&mut Dice(seed), TICKETS.as_bytes());
        if let Err(wrong) = engine.compile_json(&String::from_utf8_lossy(&text)) {
            assert!(wrong.iter().next().is_some_and(|first| !first.message.is_empty()), "{wrong}");
        }
        0
    });
    torture.tell_well(0);
}

#[test]
fn an_expression_that_was_changed_has_a_value_or_an_error() {
    const TEXTS: [&str; 5] = [
        "raw.n % 2 == 0 && raw.k.startsWith('s') || has(raw.l) ? raw.l[1] : -9223372036854775807",
        "raw.l.map(x, x * 3).filter(x, x > 4).exists(x, x == raw.n)",
        "int(raw.k.substring(1, 3)) + size(raw.l) * 4.5 / raw.n",
        "raw.k.split('').join('-').replace('-', raw.k).matches('^(a|b)*$')",
        "timestamp('2024-02-29T23:59:60Z') > timestamp(raw.k)",
    ];
    let payload = Raw::Json(json!({ "n": 7, "k": "s12", "l": [1, 2, 3] }));
    let item = Item::detached("fuzz", payload).into_primitive();
    let mut torture = Torture::of("fuzz", 2_000, 1);
    torture.each(|seed| {
        let mut dice = Dice(seed);
        let text = dice.of(&TEXTS);
        let text = mutated(&mut dice, text.as_bytes());
        if let Ok(expression) = Expression::compile(&String::from_utf8_lossy(&text)) {
            drop(expression.evaluate(&item));
        }
        0
    });
    torture.tell_well(0);
}

#[test]
fn a_position_that_was_changed_is_one_or_an_error() {
    let positions = [
        Position::Offset(u64::MAX),
        Position::Marker { object: "a.csv".into(), offset: 9 },
        Position::Keyset([KeyValue::Int(-1), KeyValue::Float(1e300), KeyValue::Text("x".into())].into()),
        Position::Token("next".into()),
    ];
    let texts = positions.map(|position| serde_json::to_vec(&position).unwrap());
    let mut torture = Torture::of("fuzz", 2_000, 1);
    torture.each(|seed| {
        let mut dice = Dice(seed);
        let text = &texts[dice.roll(4) as usize];
        if let Ok(position) = serde_json::from_slice::<Position>(&mutated(&mut dice, text)) {
            // What was read is written as it was read.
            let text = serde_json::to_vec(&position).unwrap();
            assert_eq!(serde_json::from_slice::<Position>(&text).unwrap(), position);
        }
        0
    });
    torture.tell_well(0);
}

#[test]
fn a_checkpoint_that_was_changed_is_gone_on_with_or_refused() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let slow = act(Form::Batch, "in", |items: Vec<Item>, _| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(items.into_iter().map(Outcome::emit).collect())
    });
    let out = unique("out");
    let graph = document(json!({
        "settings": { "checkpoint": { "every": "2ms", "uncommitted_items": 18 } },
        "nodes": {
            "in": batches(60, 6), "slow": with(slow, json!({ "config": { "items": 6 }, "concurrency": 1 })),
            "all": { "type": "action", "use": "memory/hoard", "inputs": ["slow"], "config": { "keep": 20 } },
            "out": sink(&out, "all"),
        },
    }));
    let store = MemoryStore::new();
    let engine = builder().checkpoints(store.clone()).build().unwrap();
    let killed = runtime();
    let life = Duration::from_millis(6);
    assert!(killed.block_on(async { tokio::time::timeout(life, engine.run(&graph)).await }).is_err());
    killed.shutdown_timeout(PATIENCE);
    let entries = store.peek("test").unwrap().entries;
    assert!(entries.len() > 3, "{:?}", entries.keys());

    let (mut refused, mut gone_on) = (0, 0);
    let mut torture = Torture::of("fuzz", 300, 1);
    torture.each(|seed| {
        let mut dice = Dice(seed);
        let at = dice.roll(entries.len() as u64) as usize;
        let mut changes = Changes::default();
        for (number, (key, value)) in entries.iter().enumerate() {
            let value = if number == at { mutated(&mut dice, value) } else { value.to_vec() };
            changes.put(key.clone(), value);
        }
        let store = MemoryStore::new();
        runtime().block_on(async {
            store.open("test").await.unwrap().commit(changes).await.unwrap();
            drop(RunState::of("test", &store.peek("test").unwrap()));
            let engine = builder().checkpoints(store.clone()).build().unwrap();
            match within(engine.run(&graph)).await {
                Err(error) => {
                    assert!(!error.message().is_empty() && !error.message().contains("panicked"), "{error}");
                    refused += 1;
                }
                Ok(report) => gone_on += u64::from(report.status == RunStatus::Success),
            }
        });
        Place::remove(&out);
        0
    });
    torture.tell_well(0);
    assert!(torture.cases < 300 || (refused > 0 && gone_on > 0), "{refused} {gone_on}");
}

/// Reads files that were changed: what is a record arrives, what is none goes aside, and what is not
/// read at all has an error that says so.
fn read_changed(uses: &str, text: &str) {
    // In memory, where the system has a folder there: a million files are written.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (path, out, letters) = (folder.path().join("in"), unique("out"), unique("letters"));
    let graph = document(json!({
        "connections": { "files": { "use": "object/local", "config": { "root": folder.path() } } },
        "settings": { "dead_letter_limit": { "share": 1 } },
        "nodes": {
            "in": { "type": "source", "use": uses, "connection": "files", "config": { "path": "in" } },
            "out": sink(&out, "in"),
            "letters": sink(&letters, "in.dead_letter"),
        },
    }));
    let engine = engine();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut torture = Torture::of("fuzz", 200, 1);
    torture.each(|seed| {
        std::fs::write(&path, mutated(&mut Dice(seed), text.as_bytes())).unwrap();
        let report = runtime.block_on(run_on(&engine, &graph));
        let errors: Vec<String> =
            report.nodes.iter().filter_map(|node| Some(node.failure.as_ref()?.message.to_string())).collect();
        assert!(errors.iter().all(|error| !error.contains("panicked")), "{errors:?}");
        let [arrived, aside] = [&out, &letters].map(|place| Place::named(place).len() as u64);
        assert_eq!(arrived + aside, node(&report, "in").received, "{report}");
        assert!(report.is_success() || aside > 0 || !errors.is_empty(), "{report}");
        [&out, &letters].into_iter().for_each(|place| Place::remove(place));
        0
    });
    torture.tell_well(0);
}

#[test]
fn a_csv_file_that_was_changed_is_read_or_set_aside() {
    read_changed(
        "object/csv",
        "id,name,price,\"at \"\"noon\"\"\"\n1,\"a, b\",2.5,2024-01-01T12:00:00Z\n2,\"c\nd\",,\n3,é,-1e9,x\n",
    );
}

#[test]
fn lines_of_json_that_were_changed_are_read_or_set_aside() {
    read_changed(
        "object/jsonl",
        "{\"id\": 1, \"name\": \"a\", \"tags\": [1, 2]}\n\n{\"id\": 2.5, \"name\": null}\n{\"id\": -3, \"of\": {\"é\": \"\\ud83d\\ude00\"}}\n",
    );
}

#[test]
fn a_primitive_that_was_changed_is_one_or_an_error() {
    let item = Item::detached("fuzz", Raw::Json(json!({ "n": 7, "l": [1, null, "é"] }))).into_primitive();
    let (text, bytes) = (serde_json::to_vec(&item).unwrap(), item.to_bytes().unwrap());
    let mut torture = Torture::of("fuzz", 2_000, 1);
    torture.each(|seed| {
        let mut dice = Dice(seed);
        // What was read is written as it was read.
        if let Ok(read) = serde_json::from_slice::<Primitive>(&mutated(&mut dice, &text)) {
            let again = serde_json::to_vec(&read).unwrap();
            assert_eq!(serde_json::from_slice::<Primitive>(&again).unwrap(), read);
        }
        if let Ok(read) = Primitive::from_bytes(&mutated(&mut dice, &bytes)) {
            assert_eq!(Primitive::from_bytes(&read.to_bytes().unwrap()).unwrap(), read);
        }
        0
    });
    torture.tell_well(0);
}
