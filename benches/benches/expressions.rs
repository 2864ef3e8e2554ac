//! Conditions over rows: as Arrow kernels, and an item at a time.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nvisy_core::lineage::Step;
use nvisy_core::{Batch, Metadata, Positions, SourceIdentity};
use nvisy_runtime::expression::Expression;

const ROWS: i64 = 8_192;

fn batch() -> Batch {
    let votes: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS));
    let state: ArrayRef =
        Arc::new(StringArray::from_iter_values((0..ROWS).map(|n| ["open", "closed"][n as usize % 2])));
    let rows = RecordBatch::try_from_iter([("votes", votes), ("state", state)]).unwrap();
    let step = Arc::new(Step::new("rows", "bench", Metadata::default().created_at));
    let source = SourceIdentity::new("bench");
    Batch::read_rows(rows, Positions::from(0), &source, step, Arc::new(Metadata::default())).unwrap()
}

fn expressions(c: &mut Criterion) {
    let mut group = c.benchmark_group("expression");
    let condition = Expression::condition("row.state == 'open' && row.votes > 100").unwrap();
    let batch = batch();
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("as kernels", |b| b.iter(|| condition.filter_mask(black_box(&batch))));
    group.bench_function("an item at a time", |b| {
        let items: Vec<_> = batch.iter().collect();
        b.iter(|| items.iter().filter(|item| condition.evaluate_bool(item).unwrap()).count());
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("compile", |b| {
        b.iter(|| Expression::condition(black_box("row.state == 'open' && row.votes > 100")).unwrap());
    });
    group.finish();
}

criterion_group!(benches, expressions);
criterion_main!(benches);
