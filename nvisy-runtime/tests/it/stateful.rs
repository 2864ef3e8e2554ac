//! Actions with memory, held against a few lines of plain Rust: with memory so tight that they
//! spill, and through crashes at any point.

mod columns;
mod damage;
mod decimals;
mod engine;
mod groups;
mod order;
mod pairs;

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use nvisy_core::action::ErasedStateful;
use nvisy_core::checkpoint::{Checkpoint, Entries};
use nvisy_core::lineage::Step;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::{
    Action, ActionConfig, Batch, Context, Error, Kind, Metadata, NoClient, OpenContext, Payload, Positions,
    Primitive, Result, SourceIdentity, Spill,
};
use serde_json::Value;

/// A source of numbers that look random: the same for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// One row of the samples.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) n: i64,
    pub(crate) key: Option<i64>,
    pub(crate) name: Option<String>,
    pub(crate) amount: Option<f64>,
    /// Seconds since 1970.
    pub(crate) at: Option<i64>,
}

pub(crate) fn samples(dice: &mut Dice, len: usize) -> Vec<Sample> {
    let sample = |n| Sample {
        n: n as i64,
        key: (dice.roll(8) > 0).then(|| dice.roll(12) as i64 - 4),
        name: (dice.roll(8) > 0).then(|| "x\0yz".chars().cycle().take(dice.roll(6) as usize).collect()),
        amount: (dice.roll(8) > 0).then(|| dice.roll(1_000) as f64 / 10.0 - 30.0),
        at: None,
    };
    (0..len).map(sample).collect()
}

fn rows(samples: &[Sample]) -> RecordBatch {
    let moments =
        samples.iter().map(|s| s.at.map(|at| at * 1_000_000)).collect::<TimestampMicrosecondArray>();
    let columns: Vec<(&str, arrow::array::ArrayRef, bool)> = vec![
        ("at", Arc::new(moments.with_timezone("UTC")), true),
        ("n", Arc::new(samples.iter().map(|s| Some(s.n)).collect::<Int64Array>()), true),
        ("key", Arc::new(samples.iter().map(|s| s.key).collect::<Int64Array>()), true),
        ("name", Arc::new(samples.iter().map(|s| s.name.clone()).collect::<StringArray>()), true),
        ("amount", Arc::new(samples.iter().map(|s| s.amount).collect::<Float64Array>()), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// Cuts samples into batches of random sizes, as rows or as raw items.
pub(crate) fn batches(dice: &mut Dice, samples: &[Sample]) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut at = 0;
    while at < samples.len() {
        let len = (1 + dice.roll(30) as usize).min(samples.len() - at);
        batches.push(batch(&samples[at..at + len], at as u64));
        at += len;
    }
    batches
}

pub(crate) fn batch(samples: &[Sample], at: u64) -> Batch {
    let (source, metadata) = (SourceIdentity::new("samples"), Arc::new(Metadata::default()));
    let step = Arc::new(Step::new("read", "samples", Metadata::default().created_at));
    Batch::read_rows(rows(samples), Positions::from(at), &source, step, metadata).unwrap()
}

/// Raw items of JSON values.
pub(crate) fn raws(values: impl IntoIterator<Item = Value>) -> Batch {
    let payloads: Vec<Payload> = values.into_iter().map(|value| Raw::Json(value).into_payload()).collect();
    let (source, metadata) = (SourceIdentity::new("raws"), Arc::new(Metadata::default()));
    let step = Arc::new(Step::new("read", "raws", Metadata::default().created_at));
    Batch::read(payloads, Positions::from(0), &source, step, metadata).unwrap()
}

pub(crate) async fn make<A: ActionConfig<Client = NoClient>>(
    config: &A,
    spill: Spill,
) -> Box<dyn ErasedStateful> {
    let problems = config.validate();
    assert!(problems.is_empty(), "{problems:?}");
    let context = OpenContext::new(context(), Arc::new(NoClient)).with_spill(spill);
    let Action::Stateful(make) = config.build(&context).await.unwrap() else { panic!("no memory") };
    make()
}

pub(crate) fn context() -> Context {
    Context::new("graph", "node", "action")
}

/// What became of a run.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) items: Vec<Primitive>,
    pub(crate) dropped: u64,
    pub(crate) failed: Vec<Error>,
}

/// Feeds batches, each from one of the inputs, and takes what is released, without a crash.
pub(crate) async fn run<A: ActionConfig<Client = NoClient>>(
    config: &A,
    inputs: &[(usize, Batch)],
) -> Result<Done> {
    let mut action = make(config, Spill::temporary()).await;
    let mut done = Done::default();
    for (from, batch) in inputs {
        feed(&mut *action, *from, batch, &mut done).await?;
        while let Some(batch) = action.release(false, &context()).await? {
            done.items.extend(batch.iter());
        }
    }
    while let Some(batch) = action.release(true, &context()).await? {
        done.items.extend(batch.iter());
    }
    Ok(done)
}

async fn feed(action: &mut dyn ErasedStateful, from: usize, batch: &Batch, done: &mut Done) -> Result<()> {
    let outcomes = action.call(batch.without_tokens(), from, &context()).await?;
    outcomes.check(batch.len())?;
    done.items.extend(outcomes.emitted.iter());
    done.dropped += outcomes.dropped.iter().map(|(_, n)| n).sum::<u64>();
    done.failed.extend(outcomes.failed.into_iter().map(|(_, error)| error));
    Ok(())
}

/// The same with checkpoints at random points, and crashes at others: what came after the last
/// checkpoint comes again.
pub(crate) async fn run_through_crashes<A: ActionConfig<Client = NoClient>>(
    config: &A,
    inputs: &[(usize, Batch)],
    dice: &mut Dice,
) -> Result<Done> {
    let folder = tempfile::tempdir().unwrap();
    let spill = || Spill::kept(folder.path());
    let mut action = make(config, spill()).await;
    let mut done = Done::default();
    let mut saved = Saved::default();
    let mut at = 0;
    loop {
        if at < inputs.len() {
            let (from, batch) = &inputs[at];
            feed(&mut *action, *from, batch, &mut done).await?;
            at += 1;
        } else if let Some(batch) = action.release(true, &context()).await? {
            done.items.extend(batch.iter());
        } else {
            assert_tidy(&mut *action, &mut saved, folder.path()).await?;
            return Ok(done);
        }
        if at < inputs.len() {
            while dice.roll(4) > 0
                && let Some(batch) = action.release(false, &context()).await?
            {
                done.items.extend(batch.iter());
            }
        }
        match dice.roll(12) {
            0..3 => {
                let changes = action.save().await?;
                saved.checkpoint.apply(changes);
                saved.at = at;
                saved.counts = (done.items.len(), done.dropped, done.failed.len());
                if dice.roll(3) > 0 {
                    action.saved().await?;
                }
            }
            3 => {
                action = make(config, spill()).await;
                action.restore(saved.checkpoint.entries.clone()).await?;
                at = saved.at;
                done.items.truncate(saved.counts.0);
                done.dropped = saved.counts.1;
                done.failed.truncate(saved.counts.2);
            }
            _ => {}
        }
    }
}

#[derive(Default)]
struct Saved {
    checkpoint: Checkpoint,
    at: usize,
    counts: (usize, u64, usize),
}

/// When all is done, two more checkpoints leave no file.
async fn assert_tidy(
    action: &mut dyn ErasedStateful,
    saved: &mut Saved,
    folder: &std::path::Path,
) -> Result<()> {
    for _ in 0..2 {
        saved.checkpoint.apply(action.save().await?);
        action.saved().await?;
    }
    assert_eq!(std::fs::read_dir(folder).map_or(0, Iterator::count), 0, "files are left");
    assert!(!saved.checkpoint.entries.keys().any(|key| key.contains('/')), "runs are named");
    Ok(())
}

/// Returns the entries after one save.
pub(crate) async fn entries(action: &mut dyn ErasedStateful) -> Entries {
    let mut checkpoint = Checkpoint::default();
    checkpoint.apply(action.save().await.unwrap());
    checkpoint.entries
}

pub(crate) fn on_a_runtime<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The number of each item, as the source gave it.
pub(crate) fn numbers(items: &[Primitive]) -> Vec<i64> {
    let number = |item: &Primitive| match item.payload() {
        Payload::Row(row) => row.get_i64("n").unwrap(),
        Payload::Raw(raw) => raw.as_json().and_then(|json| json["n"].as_i64()).unwrap(),
        other => panic!("{other:?}"),
    };
    items.iter().map(number).collect()
}
