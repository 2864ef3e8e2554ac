//! What is no record counts in a batch as what is one.

use futures::StreamExt;
use nvisy_core::BatchLimits;
use nvisy_core::prelude::*;
use nvisy_plugin_object::{ColumnType, Csv, Json, Jsonl, ObjectClient};

use crate::support::{Store, context};

/// Short enough that one block holds a hundred thousand of them.
const BAD: usize = 100_000;

/// Returns how many items and how many rejected records each batch has, and what the last one says.
async fn batches<S: Source<Client = ObjectClient>>(
    store: &Store,
    source: &S,
    limits: BatchLimits,
) -> (Vec<(usize, usize)>, String) {
    let context = context(source, store.client().await, limits);
    let partition = Partition::new("a");
    let mut stream = std::pin::pin!(source.read(&partition, None, &context));
    let (mut batches, mut last) = (Vec::new(), String::new());
    while let Some(batch) = stream.next().await {
        let batch = batch.unwrap();
        batches.push((batch.batch.len(), batch.rejected.len()));
        last = batch.rejected.last().map_or(last, |rejected| rejected.error.to_string());
    }
    (batches, last)
}

async fn check<S: Source<Client = ObjectClient>>(source: &S, text: &str, says: &str) {
    let store = Store::new();
    store.put("a", text);
    for most in [7, 1_000] {
        let limits = BatchLimits::items(most);
        let (batches, last) = batches(&store, source, limits).await;
        assert_eq!(batches.iter().map(|(items, _)| items).sum::<usize>(), 2, "{says}");
        assert_eq!(batches.iter().map(|(_, bad)| bad).sum::<usize>(), BAD, "{says}");
        let largest = batches.iter().map(|(items, bad)| items + bad).max().unwrap();
        assert!(largest <= most, "{largest} of {most}: {says}");
        assert!(last.contains(says), "{last}");
    }
    let (batches, _) = batches(&store, source, BatchLimits::default()).await;
    let largest = batches.iter().map(|(items, bad)| items + bad).max().unwrap();
    assert!(largest <= 12_000, "{largest}: what is beside a record has a size, too: {says}");
}

#[tokio::test]
async fn what_is_no_record_counts_in_a_batch() {
    let (lines, last) = ("x\n".repeat(BAD), format!("line {}, byte", BAD + 1));
    let json = format!("{{\"n\":1}}\n{lines}{{\"n\":2}}\n");
    check(&Jsonl::path("a").column("n", ColumnType::Int), &json, &last).await;
    check(&Json::path("a").column("n", ColumnType::Int), &json, &last).await;
    let csv = format!("n\n1\n{lines}2\n");
    let last = format!("line {}, byte", BAD + 2);
    check(&Csv::path("a").column("n", ColumnType::Int), &csv, &last).await;
}
