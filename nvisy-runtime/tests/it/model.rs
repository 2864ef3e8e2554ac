//! Random graphs, data and faults against a small sequential interpreter of what a graph means.
//!
//! Each graph runs undisturbed, or with checkpoints and killed again and again.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nvisy_core::DeadLetter;
use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::testing::faulty::{Fault, FaultKind, Script, Site};
use nvisy_core::testing::memory::{Form, MemoryStore};
use nvisy_runtime::Engine;
use nvisy_runtime::checkpoint::MemoryStore as Checkpoints;
use nvisy_runtime::compiler::code;
use nvisy_runtime::engine::{RunReport, RunState, RunStatus};
use nvisy_runtime::graph::Graph;
use serde_json::{Value, json};

use crate::fixture::*;
use crate::torture::Torture;

/// A generator of numbers: SplitMix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % sides
    }

    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len() as u64) as usize]
    }
}

/// What a node means.
#[derive(Clone)]
enum Meaning {
    Relay,
    Edit,
    Expand,
    Drop(u64),
    Fail(u64),
    Branch {
        default: bool,
    },
    FanOut {
        best_effort: Option<String>,
        /// What its buffer has is acknowledged.
        spill: Option<String>,
    },
    FanIn,
    /// What it absorbs is acknowledged, and comes out if all else goes well.
    Hold,
    /// Drops what is the same as something before.
    Once,
    Sink,
}

/// A graph, and what it means.
#[derive(Default)]
struct Model {
    nodes: serde_json::Map<String, Value>,
    meaning: HashMap<String, Meaning>,
    /// The readers of each output.
    readers: HashMap<String, Vec<String>>,
    /// Each source: its items and partitions.
    sources: Vec<(String, u64, u64)>,
    sinks: Vec<(String, String, bool)>,
    settings: Value,
    fails: bool,
    /// Whether it is killed while it runs: then it does nothing that checkpoints do not mend.
    killed: bool,
    /// Whether something remembers in files, which go back no further than one checkpoint.
    remembers: bool,
    stages: bool,
    /// What was there before, by node.
    seen: RefCell<HashSet<(String, String)>>,
}

/// What arrives at a sink, and whether it has to before it may be acknowledged.
type Arrival = (String, String, bool);

impl Model {
    /// The reference: what becomes of an item that leaves an output.
    fn flow(&self, output: &str, key: &str, n: u64, required: bool, arrivals: &mut Vec<Arrival>) {
        for reader in self.readers.get(output).into_iter().flatten() {
            let required = required
                && !matches!(self.meaning.get(output), Some(Meaning::FanOut { best_effort, spill })
                    if [best_effort, spill].iter().any(|name| name.as_ref() == Some(reader)));
            let mut on = |port: &str, key: &str, n: u64| {
                self.flow(&format!("{reader}{port}"), key, n, required, arrivals);
            };
            match &self.meaning[reader] {
                Meaning::Relay | Meaning::FanIn | Meaning::FanOut { .. } => on("", key, n),
                Meaning::Hold => self.flow(reader, key, n, false, arrivals),
                Meaning::Once => {
                    if self.seen.borrow_mut().insert((reader.clone(), format!("{key}={n}"))) {
                        on("", key, n);
                    }
                }
                Meaning::Edit => on("", key, n + 7),
                Meaning::Expand => (0..2).for_each(|i| on("", &format!("{key}/{reader}{i}"), n)),
                Meaning::Drop(of) if n.is_multiple_of(*of) => {}
                Meaning::Fail(of) if n.is_multiple_of(*of) => on(".dead_letter", key, n),
                Meaning::Drop(_) | Meaning::Fail(_) => on("", key, n),
                Meaning::Branch { .. } if n.is_multiple_of(2) => on(".even", key, n),
                Meaning::Branch { .. } if n.is_multiple_of(3) => on(".three", key, n),
                Meaning::Branch { default } => {
                    if *default {
                        on(".rest", key, n);
                    }
                }
                Meaning::Sink => arrivals.push((reader.clone(), format!("{key}={n}"), required)),
            }
        }
    }

    /// What arrives of the items for which `of` holds: of a source, a partition, a number.
    fn arrivals(&self, of: impl Fn(&str, u64, u64) -> bool) -> Vec<Arrival> {
        self.seen.borrow_mut().clear();
        let mut arrivals = Vec::new();
        for (source, items, partitions) in &self.sources {
            for n in (0..*items).filter(|n| of(source, n % partitions, *n)) {
                self.flow(source, &format!("{source}:{n}"), n, true, &mut arrivals);
            }
        }
        arrivals
    }

    fn read(&mut self, output: &str, node: &str) {
        self.readers.entry(output.to_owned()).or_default().push(node.to_owned());
    }

    fn random(dice: &mut Dice, killed: bool) -> Self {
        // Every second item may fail.
        let settings = json!({ "concurrency": 1 + dice.roll(4), "dead_letter_limit": { "share": 1 } });
        let mut model = Self { settings, killed, ..Self::default() };
        if dice.once_in(3) {
            model.settings["checkpoint"] = json!({ "uncommitted_items": 40 + dice.roll(40) });
        }
        if killed {
            model.settings["checkpoint"]["every"] = json!(format!("{}ms", dice.of(&[1, 7, 300])));
            model.stages = dice.once_in(3);
        }
        // Outputs that nobody reads yet; of dead letters or not.
        let mut open: Vec<String> = Vec::new();
        for s in 0..1 + dice.roll(2) {
            open.push(model.source(dice, &format!("s{s}")));
        }
        let mut letters = Vec::new();
        let mut next = 0;
        while model.nodes.len() + open.len() + letters.len() < 11 && !dice.once_in(9) {
            let at = dice.roll(open.len() as u64) as usize;
            let input = open.swap_remove(at);
            let name = format!("n{next}");
            next += 1;
            match dice.roll(if killed { 12 } else { 10 }) {
                0 => {
                    let default = dice.once_in(2);
                    let mut node = json!({ "type": "branch", "inputs": [&input], "routes": [
                        { "route": "even", "when": "raw.n % 2 == 0" }, { "route": "three", "when": "raw.n % 3 == 0" },
                    ] });
                    open.extend(["even", "three"].map(|route| format!("{name}.{route}")));
                    if default {
                        node["default"] = json!("rest");
                        open.push(format!("{name}.rest"));
                    }
                    model.add(&name, &[input], node, Meaning::Branch { default });
                }
                1 => {
                    // The copies are read by relays, so that their names are known.
                    let copies: Vec<String> = (0..2 + dice.roll(2)).map(|i| format!("{name}c{i}")).collect();
                    // Such a copy may get lost when it is killed.
                    let best_effort = (!killed && dice.once_in(4)).then(|| copies[0].clone());
                    let mut node = json!({ "type": "fan_out", "inputs": [&input], "best_effort": best_effort.iter().collect::<Vec<_>>() });
                    let spill = dice.once_in(2).then(|| copies[1].clone());
                    if let Some(name) = &spill {
                        let [memory, disk] =
                            [dice.of(&["1B", "1KB", "1MB"]), dice.of(&["500B", "5KB", "1GB"])];
                        node["spill"] = json!({ name: { "memory": memory, "disk": disk } });
                        model.remembers = true;
                    }
                    model.add(&name, &[input], node, Meaning::FanOut { best_effort, spill });
                    for copy in copies {
                        model.act(dice, &copy, &name, Meaning::Relay);
                        open.push(copy);
                    }
                }
                2 if !open.is_empty() => {
                    let other = open.swap_remove(0);
                    let node = json!({ "type": "fan_in", "inputs": [&input, &other] });
                    model.add(&name, &[input, other], node, Meaning::FanIn);
                    open.push(name);
                }
                9 => {
                    let node = match dice.roll(2) {
                        0 => json!({ "type": "action", "use": "materialize", "inputs": [&input] }),
                        _ => json!({ "type": "action", "use": "sort", "inputs": [&input],
                            "config": { "by": [{ "value": "raw.n" }], "memory": dice.of(&["1B", "2KB", "1MB"]) } }),
                    };
                    model.remembers = true;
                    model.add(&name, &[input], node, Meaning::Hold);
                    open.push(name);
                }
                10 | 11 => {
                    let node = json!({ "type": "action", "use": "deduplicate", "inputs": [&input] });
                    model.remembers = true;
                    model.add(&name, &[input], node, Meaning::Once);
                    open.push(name);
                }
                kind => {
                    let meaning = match kind {
                        3 => Meaning::Edit,
                        4 => Meaning::Expand,
                        5 => Meaning::Drop(2 + dice.roll(4)),
                        6 | 7 => Meaning::Fail(2 + dice.roll(5)),
                        _ => Meaning::Relay,
                    };
                    if matches!(meaning, Meaning::Fail(_)) {
                        letters.push(format!("{name}.dead_letter"));
                    }
                    model.act(dice, &name, &input, meaning);
                    open.push(name);
                }
            }
        }
        for (at, output) in open.iter().chain(&letters).enumerate() {
            model.sink(dice, &format!("z{at}"), output);
        }
        model
    }

    fn add(&mut self, name: &str, inputs: &[String], node: Value, meaning: Meaning) {
        for input in inputs {
            self.read(input, name);
        }
        self.nodes.insert(name.to_owned(), node);
        self.meaning.insert(name.to_owned(), meaning);
    }

    fn source(&mut self, dice: &mut Dice, name: &str) -> String {
        let (items, partitions) = (dice.of(&[0, 1, 7, 60, 200]), 1 + dice.roll(3));
        let script = unique("script");
        for _ in 0..dice.roll(3) {
            let kind = dice.of(&[
                FaultKind::Retryable,
                FaultKind::Partial,
                FaultKind::AmbiguousApplied,
                FaultKind::Slow,
                FaultKind::Hang,
            ]);
            let fault = Fault::new(Site::Read, 1 + dice.roll(12), kind);
            Script::named(&script).add(fault.with_delay(Duration::from_secs(2)));
        }
        let values: Vec<Value> = (0..items).map(|n| json!({ "n": n, "k": format!("{name}:{n}") })).collect();
        let config = json!({ "script": script, "source": {
            "items": values, "partitions": partitions, "batch_items": 1 + dice.roll(20), "yields": dice.roll(3),
        } });
        let node = json!({ "type": "source", "use": "faulty/source", "config": config, "concurrency": 1 + dice.roll(3),
            "timeout": "10s", "retry": { "max_attempts": 6, "initial": "10ms" } });
        self.nodes.insert(name.to_owned(), node);
        self.sources.push((name.to_owned(), items, partitions));
        name.to_owned()
    }

    fn act(&mut self, dice: &mut Dice, name: &str, input: &str, meaning: Meaning) {
        let forms = if matches!(meaning, Meaning::Fail(_)) { &Form::ALL[..4] } else { &Form::ALL[..] };
        let form = dice.of(forms);
        // Forms with memory are not tried again.
        let patient = matches!(form, Form::Transform | Form::Batch | Form::Columnar);
        let faults: HashMap<usize, u64> = (0..dice.roll(3))
            .map(|_| (dice.roll(15) as usize, if patient { dice.roll(5) } else { 0 }))
            .collect();
        let panics = patient && dice.once_in(3);
        // Without dead letters: else the item is set aside, and all is well.
        let dies =
            (!self.killed && !matches!(meaning, Meaning::Fail(_)) && dice.once_in(40)).then(|| dice.roll(40));
        self.fails |= dies.is_some();
        let (calls, salt, means) = (Arc::new(AtomicUsize::new(0)), name.to_owned(), meaning.clone());
        let node = act(form, input, move |items: Vec<Item>, _| {
            let fault = faults.get(&calls.fetch_add(1, Ordering::Relaxed)).copied();
            let (salt, means) = (salt.clone(), means.clone());
            async move {
                tokio::task::yield_now().await;
                match fault {
                    Some(0) => tokio::time::sleep(Duration::from_secs(2)).await,
                    Some(1) => return Err(Error::new(ErrorKind::Connection, "gone")),
                    Some(2) => return Err(Error::new(ErrorKind::Ambiguous, "who knows")),
                    Some(3) => std::future::pending().await,
                    _ => {}
                }
                if items.iter().any(|item| Some(n(item)) == dies) {
                    return Err(Error::internal("the code is wrong"));
                }
                if panics && let Meaning::Fail(of) = means {
                    assert!(!items.iter().any(|item| n(item).is_multiple_of(of)), "a bad item");
                }
                let later = |at: usize| fault == Some(4) && at.is_multiple_of(2);
                let outcome = |(at, item)| match later(at) {
                    true => Outcome::fail(Error::new(ErrorKind::Connection, "not this one now")),
                    false => become_of(item, &means, &salt),
                };
                Ok(items.into_iter().enumerate().map(outcome).collect())
            }
        });
        let mut more = json!({ "timeout": "10s" });
        // Nor are their batches worked on side by side.
        if patient {
            more["retry"] = json!({ "max_attempts": 6, "initial": "10ms" });
        }
        if dice.once_in(2) {
            more["config"] = json!({ "items": 1 + dice.roll(20) });
        }
        let in_place = dice.once_in(3) && form != Form::Transform;
        if in_place {
            more["config"]["calls"] = json!("none");
        } else if patient {
            more["concurrency"] = json!(1 + dice.roll(4));
        }
        self.add(name, &[input.to_owned()], with(node, more), meaning);
    }

    fn sink(&mut self, dice: &mut Dice, name: &str, input: &str) {
        let (script, store) = (unique("script"), unique("store"));
        // What is staged shows once, however often a run is killed; what only appends does not.
        let staging = self.stages && dice.once_in(2);
        let appends = if self.killed { staging } else { dice.once_in(2) };
        let kinds = [
            FaultKind::Retryable,
            FaultKind::Partial,
            FaultKind::Slow,
            FaultKind::Retryable,
            FaultKind::AmbiguousApplied,
            FaultKind::AmbiguousNotApplied,
            FaultKind::Hang,
        ];
        for _ in 0..dice.roll(4) {
            let site = dice.of(&[Site::Write, Site::Write, Site::Flush, Site::Close, Site::Open]);
            // What appends gives an item up that may be there already: now and then.
            let all = !appends || site != Site::Write || (!staging && dice.once_in(4));
            let kind = dice.of(if all { &kinds[..] } else { &kinds[..4] });
            let nth = 1 + if site == Site::Write { dice.roll(8) } else { 0 };
            let unknown = matches!(
                kind,
                FaultKind::AmbiguousApplied | FaultKind::AmbiguousNotApplied | FaultKind::Hang
            );
            self.fails |= appends && site == Site::Write && unknown;
            let fault = Fault::new(site, nth, kind);
            Script::named(&script).add(fault.with_delay(Duration::from_secs(2)));
        }
        let config = json!({ "script": script, "sink": {
            "name": store, "mode": if appends { "append" } else { "upsert" }, "staging": staging,
            "buffers": !staging && dice.once_in(2),
            "batch_items": 1 + dice.roll(30), "concurrency": 1 + dice.roll(3), "yields": dice.roll(3),
        } });
        let node = json!({ "type": "sink", "use": "faulty/sink", "inputs": [input], "config": config,
            "timeout": "10s", "retry": { "max_attempts": 6, "initial": "10ms" } });
        self.add(name, &[input.to_owned()], node, Meaning::Sink);
        self.sinks.push((name.to_owned(), store, appends));
    }

    /// Once all has run, however often it was killed: everything is there. Returns how many writes
    /// were done again.
    fn check_whole(&self) -> u64 {
        let whole = self.arrivals(|_, _, _| true);
        let mut repeated = 0;
        for (sink, store, appends) in &self.sinks {
            let mine = whole.iter().filter(|(at, _, _)| at == sink);
            let expected = count(mine.map(|(_, item, _)| item.clone()), *appends);
            let store = MemoryStore::named(store);
            let have = count(store.items().iter().map(shown), *appends);
            assert_eq!(have, expected, "at {sink}");
            repeated += store.tally().written.saturating_sub(store.items().len() as u64);
        }
        repeated
    }

    fn check(&self, report: &RunReport) {
        let whole = self.arrivals(|_, _, _| true);
        let marks: HashMap<(&str, String), u64> = report
            .partitions
            .iter()
            .filter_map(|mark| match mark.position {
                Some(Position::Offset(last)) => Some(((&*mark.source, mark.partition.to_string()), last)),
                _ => None,
            })
            .collect();
        let acknowledged = self.arrivals(|source, partition, n| {
            marks.get(&(source, partition.to_string())).is_some_and(|last| n <= *last)
        });
        for (sink, store, appends) in &self.sinks {
            let of = |arrivals: &[Arrival], required: bool| {
                let mine = arrivals.iter().filter(|(at, _, needed)| at == sink && (*needed || !required));
                count(mine.map(|(_, item, _)| item.clone()), *appends)
            };
            let have = count(MemoryStore::named(store).items().iter().map(shown), *appends);
            for (item, times) in of(&acknowledged, true) {
                let there = have.get(&item).copied().unwrap_or(0);
                assert!(
                    there >= times,
                    "{item} is acknowledged and not at {sink}\n{marks:?} {have:?}\n{report}"
                );
            }
            let expected = of(&whole, false);
            for (item, times) in &have {
                assert!(
                    expected.get(item).is_some_and(|most| times <= most),
                    "{item} is at {sink} {times} times\n{report}"
                );
            }
            if !self.fails {
                assert_eq!(have, expected, "at {sink}\n{report}");
            }
        }
        if !self.fails {
            assert_eq!(report.status, RunStatus::Success, "{report}");
            let items: u64 = self.sources.iter().map(|(_, items, _)| items).sum();
            assert_eq!(settled_items(report), items, "{report}");
        }
    }
}

fn become_of(item: Item, means: &Meaning, salt: &str) -> Outcome {
    let of = n(&item);
    let key = |item: &Item| match item.primitive().payload() {
        Payload::Raw(raw) => {
            raw.as_json().map(|json| json["k"].as_str().unwrap_or("").to_owned()).unwrap_or_default()
        }
        _ => String::new(),
    };
    let raw = |k: String, n: u64| Raw::Json(json!({ "n": n, "k": k })).into_payload();
    match means {
        Meaning::Edit => {
            let edited = raw(key(&item), of + 7);
            Outcome::emit(item.with(edited))
        }
        Meaning::Expand => {
            Outcome::expand(&item, salt, (0..2).map(|i| raw(format!("{}/{salt}{i}", key(&item)), of)))
        }
        Meaning::Drop(by) if of.is_multiple_of(*by) => Outcome::drop("chosen"),
        Meaning::Fail(by) if of.is_multiple_of(*by) => {
            Outcome::fail(Error::new(ErrorKind::Validation, "bad"))
        }
        _ => Outcome::emit(item),
    }
}

/// An item as the reference writes it, also where it is in a dead letter.
fn shown(item: &Primitive) -> String {
    let item = DeadLetter::from_primitive(item).map_or_else(|_| item.clone(), |letter| letter.primitive);
    let key = match item.payload() {
        Payload::Raw(raw) => raw.as_json().and_then(|json| json["k"].as_str()).unwrap_or("").to_owned(),
        _ => String::new(),
    };
    format!("{key}={}", number(&item))
}

/// How often each item is there; where a sink replaces by id, once, and the last of its edits.
fn count(items: impl Iterator<Item = String>, appends: bool) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        if appends {
            *counts.entry(item).or_default() += 1;
        } else {
            counts.insert(item.split_once('=').map_or("", |(key, _)| key).to_owned(), 1);
        }
    }
    counts
}

/// The graph, as an engine takes it.
fn compiled(engine: &Engine, model: &Model) -> Graph {
    let mut text = json!({ "nodes": model.nodes, "settings": model.settings });
    if let Err(wrong) = engine.compile(&document(text.clone())) {
        // A batch that is larger than the span is refused: nothing else may be.
        assert!(wrong.iter().all(|wrong| wrong.code == code::BATCH_EXCEEDS_SPAN), "{wrong}");
        text["settings"]["checkpoint"]["uncommitted_items"] = Value::Null;
    }
    document(text)
}

/// Prints the graph if its case fails, and lets go of it.
struct Told<'a>(&'a Model);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", json!({ "nodes": self.0.nodes, "settings": self.0.settings }));
        }
        forget(&self.0.nodes);
    }
}

fn paused() -> tokio::runtime::Runtime {
    // Whoever waits is asked after each poll of a task.
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).event_interval(1).build().unwrap()
}

#[test]
fn random_graphs_do_what_they_mean() {
    let mut torture = Torture::of("model", 1_400, RandomState::new().hash_one(0));
    torture.each(|seed| {
        let model = Model::random(&mut Dice(seed), false);
        let told = Told(&model);
        let engine = engine();
        model.check(&paused().block_on(run_on(&engine, &compiled(&engine, &model))));
        drop(told);
        0
    });
    torture.tell_well(0);
}

/// Lets so many tasks be polled, and then some time go by, and then everything is gone.
fn run_until(engine: &Engine, graph: &Graph, end: Option<(u64, Duration)>) -> Option<RunReport> {
    let runtime = paused();
    let report = runtime.block_on(async {
        let killed = async {
            let Some((polls, life)) = end else { std::future::pending().await };
            for _ in 0..polls {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(life).await;
        };
        tokio::select! {
            biased;
            report = run_on(engine, graph) => Some(report),
            () = killed => None,
        }
    });
    runtime.shutdown_timeout(PATIENCE);
    report
}

/// Kills the run of a graph a few times, and lets it go on. Returns how many writes were done again.
fn killed(seed: u64) -> u64 {
    // Who is killed more often may find an item that was alone each time, and set it aside.
    const KILLS: u64 = 4;
    let mut dice = Dice(seed);
    let model = Model::random(&mut dice, true);
    let told = Told(&model);
    let (store, place) = (Checkpoints::new(), tempfile::tempdir().unwrap());
    let engine =
        || builder().state(place.path()).without_lineage().checkpoints(store.clone()).build().unwrap();
    let graph = compiled(&engine(), &model);
    let goes_back = !model.stages && !model.remembers && dice.once_in(2);
    let mut kills = 1 + dice.roll(KILLS);
    loop {
        let polls = dice.of(&[20, 200, 2_000]);
        let life = Duration::from_millis(dice.of(&[0, 3, 50, 2_500]));
        let end = (kills > 0).then(|| (dice.roll(polls), life));
        if let Some(report) = run_until(&engine(), &graph, end) {
            assert_eq!(report.status, RunStatus::Success, "{report}");
            let items: u64 = model.sources.iter().map(|(_, items, _)| items).sum();
            assert_eq!(settled_items(&report), items, "{report}");
            break;
        }
        kills -= 1;
        // It may have been done when it was killed: then it would begin anew.
        if store.peek("test").is_some_and(|last| RunState::of("test", &last).unwrap().finished) {
            break;
        }
        if goes_back && dice.once_in(2) {
            store.go_back("test");
        }
    }
    let repeated = model.check_whole();
    drop(told);
    repeated
}

#[test]
fn random_graphs_that_are_killed_do_what_they_mean() {
    let mut torture = Torture::of("model", 600, RandomState::new().hash_one(1));
    let repeated = torture.each(killed);
    torture.tell_well(repeated);
}
