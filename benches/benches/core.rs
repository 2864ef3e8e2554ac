//! What every item costs: batches, ids, lineage, tokens.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::BooleanArray;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use nvisy_core::lineage::Step;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::token::{Settlement, SlotWatch, Token, Tokens};
use nvisy_core::{Batch, Metadata, Payload, Position, Positions, SourceIdentity};

const ITEMS: u64 = 1_024;

fn step() -> Arc<Step> {
    Arc::new(Step::new("node", "operation", Metadata::default().created_at))
}

fn batch() -> Batch {
    let payloads = (0..ITEMS).map(|n| Payload::from(Raw::Json(n.into()))).collect();
    let source = SourceIdentity::new("bench");
    Batch::read(payloads, Positions::from(0), &source, step(), Arc::new(Metadata::default())).unwrap()
}

struct Nobody;

impl SlotWatch for Nobody {
    fn landed(&self, slot: u64) {
        black_box(slot);
    }

    fn resolved(&self, slot: u64, worst: Settlement) {
        black_box((slot, worst));
    }
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    group.throughput(Throughput::Elements(ITEMS));
    let half: BooleanArray = (0..ITEMS).map(|n| Some(n % 2 == 0)).collect();
    group.bench_function("read", |b| b.iter(batch));
    group.bench_function("filter half", |b| {
        b.iter_batched(batch, |batch| batch.filter(&half), BatchSize::SmallInput)
    });
    group.bench_function("edit lineage", |b| {
        let step = step();
        b.iter_batched(batch, |batch| batch.edited(&step), BatchSize::SmallInput);
    });
    group.bench_function("to primitives and back", |b| {
        b.iter_batched(batch, |batch| Batch::from_primitives(batch.into_primitives()), BatchSize::SmallInput);
    });
    group.bench_function("derive two of each", |b| {
        let (step, batch) = (step(), batch());
        let parents: Vec<u32> = (0..ITEMS as u32).flat_map(|n| [n, n]).collect();
        let ordinals: Vec<u64> = (0..ITEMS).flat_map(|_| [0, 1]).collect();
        let payloads: Vec<Payload> = parents.iter().map(|n| batch.payload(*n as usize)).collect();
        b.iter_batched(
            || payloads.clone(),
            |payloads| batch.derive(&step, "twice", payloads, &parents, &ordinals).unwrap(),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn ids(c: &mut Criterion) {
    let mut group = c.benchmark_group("id");
    let source = SourceIdentity::new("file:///data/tickets.jsonl");
    let id = source.id(&Position::Offset(1));
    group.bench_function("of a source item", |b| {
        let mut n = 0;
        b.iter(|| {
            n += 1;
            source.id(&Position::Offset(n))
        });
    });
    group.bench_function("derived", |b| b.iter(|| black_box(id).derive("chunk", 3)));
    group.finish();
}

fn lineages(c: &mut Criterion) {
    let mut group = c.benchmark_group("lineage");
    let mut long = batch();
    for _ in 0..20 {
        long = long.edited(&step());
    }
    group.bench_function("root behind twenty edits", |b| b.iter(|| black_box(&long).lineage(7).root()));
    group.bench_function("records of twenty edits", |b| b.iter(|| black_box(&long).lineage(7).records()));
    group.finish();
}

fn tokens(c: &mut Criterion) {
    let mut group = c.benchmark_group("token");
    let watch: Arc<dyn SlotWatch> = Arc::new(Nobody);
    group.bench_function("open, split, settle both", |b| {
        b.iter(|| {
            let token = Token::open(1, watch.clone());
            token.split().settle(Settlement::Delivered);
            token.settle(Settlement::Delivered);
        });
    });
    group.bench_function("split a part of 1,024 items of eight slots", |b| {
        let mut tokens = Tokens::none();
        for slot in 0..8 {
            tokens.append(slot * 128, Tokens::one(Token::open(slot as u64, watch.clone())), 128).unwrap();
        }
        let half: Vec<u32> = (0..ITEMS as u32).step_by(2).collect();
        b.iter(|| tokens.split_for(half.iter().copied()).settle(Settlement::Delivered));
        tokens.settle(Settlement::Delivered);
    });
    group.finish();
}

criterion_group!(benches, batches, ids, lineages, tokens);
criterion_main!(benches);
