//! `join`.

use std::sync::Arc;

use nvisy_core::lineage::Step;
use nvisy_core::prelude::*;
use nvisy_core::{Metadata, Positions, Primitive, PrimitiveId, SourceIdentity, Spill};
use nvisy_runtime::actions::Join;
use proptest::prelude::*;
use serde_json::json;

use super::{
    Dice, Done, Sample, batch, batches, context, make, on_a_runtime, run, run_through_crashes, samples,
};

/// The numbers of each pair, and its id.
fn pairs(done: &Done) -> Vec<(i64, Option<i64>, PrimitiveId)> {
    let pair = |item: &Primitive| match item.payload() {
        Payload::Row(row) => (row.get_i64("n").unwrap(), row.get_i64("right_n"), item.id()),
        other => panic!("{other:?}"),
    };
    done.items.iter().map(pair).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_join_is_that_of_two_loops(
        seed: u64, left in 0..120_usize, right in 0..120_usize, keep: bool,
        memory in prop_oneof![Just(1_u64), 2_000..60_000_u64, Just(100_000_000)],
    ) {
        let mut dice = Dice::new(seed);
        let (left, right) = (samples(&mut dice, left), samples(&mut dice, right));
        let sides = [batches(&mut dice, &left), batches(&mut dice, &right)];
        let mut sides = sides.map(|side| side.into_iter().collect::<std::collections::VecDeque<_>>());
        let mut inputs = Vec::new();
        while sides.iter().any(|side| !side.is_empty()) {
            let from = dice.roll(2) as usize;
            inputs.extend(sides[from].pop_front().map(|batch| (from, batch)));
        }
        let mut ordered: Vec<_> = left.iter().collect();
        ordered.sort_by_key(|sample| (sample.key.is_none(), sample.key));
        let mut expected = Vec::new();
        for one in ordered {
            let matches: Vec<_> = right.iter().filter(|other| one.key.is_some() && one.key == other.key).collect();
            expected.extend(matches.iter().map(|other| (one.n, Some(other.n))));
            if matches.is_empty() && keep {
                expected.push((one.n, None));
            }
        }
        let mut join = Join::on("row.key", "row.key").memory(memory);
        if keep {
            join = join.keep_unmatched();
        }
        let plain = on_a_runtime(run(&join, &inputs)).unwrap();
        let found: Vec<_> = pairs(&plain).into_iter().map(|(left, right, _)| (left, right)).collect();
        prop_assert_eq!(found, expected);
        for item in &plain.items {
            let Payload::Row(row) = item.payload() else { panic!("no row") };
            let parents = if row.is_null("right_n") { 1 } else { 2 };
            prop_assert_eq!(item.lineage().roots().len(), parents);
        }
        let nulls = left.iter().filter(|_| !keep).chain(&right).filter(|sample| sample.key.is_none());
        prop_assert_eq!((plain.dropped as usize, plain.failed.len()), (nulls.count(), 0));
        let crashed = on_a_runtime(run_through_crashes(&join, &inputs, &mut dice)).unwrap();
        prop_assert_eq!(pairs(&crashed), pairs(&plain));
    }
}

#[tokio::test]
async fn the_columns_of_both_come_out_and_a_name_that_both_have_gets_the_prefix() {
    let mut dice = Dice::new(1);
    let samples = samples(&mut dice, 1);
    let sides = || vec![(0, batch(&samples, 0)), (1, batch(&samples, 5))];
    let done = run(&Join::on("row.n", "row.n").prefix("other_"), &sides()).await.unwrap();
    let Payload::Row(row) = done.items[0].payload() else { panic!("no row") };
    let names: Vec<_> = row.columns().map(|(name, _)| name).collect();
    assert_eq!(names[..3], ["at", "n", "key"]);
    assert_eq!(names[5..][..3], ["other_at", "other_n", "other_key"]);
}

#[tokio::test]
async fn a_key_of_another_type_fails_and_both_types_are_named() {
    let mut dice = Dice::new(2);
    let mut samples = samples(&mut dice, 2);
    samples.iter_mut().for_each(|sample| sample.name = Some("x".into()));
    let sides = vec![(0, batch(&samples, 0)), (1, batch(&samples, 5))];
    let done = run(&Join::on("row.n", "row.name"), &sides).await.unwrap();
    assert_eq!((done.items.len(), done.failed.len()), (0, 2));
    let message = done.failed[0].message();
    assert!(
        message.contains("a text") && message.contains("an integer") && message.contains("`row.name`"),
        "{message}"
    );
}

#[tokio::test]
async fn rows_of_one_key_beyond_the_memory_are_refused() {
    let mut dice = Dice::new(3);
    let many = samples(&mut dice, 6_000);
    let sides = vec![(0, batch(&many[..1], 0)), (1, batch(&many, 5))];
    let error = run(&Join::on("1", "1").memory(20_000), &sides).await.unwrap_err();
    assert!(error.message().contains("have one key") && error.message().contains("`memory`"), "{error}");
}

/// Rows of one key, each with a text of so many bytes.
fn texts(lengths: &[usize]) -> Vec<Sample> {
    let sample = |(n, length): (usize, &usize)| {
        let name = Some("x".repeat(*length));
        Sample { n: n as i64, key: Some(7), name, amount: None, at: None }
    };
    lengths.iter().enumerate().map(sample).collect()
}

/// A batch of rows that have no amount.
fn narrower(samples: &[Sample]) -> Batch {
    let rows = super::rows(samples).project(&[0, 1, 2, 3]).unwrap();
    let (source, metadata) = (SourceIdentity::new("samples"), Arc::new(Metadata::default()));
    let step = Arc::new(Step::new("read", "samples", metadata.created_at));
    Batch::read_rows(rows, Positions::from(0), &source, step, metadata).unwrap()
}

/// What a batch that is let go of holds at the most.
const MOST_BYTES: usize = 1 << 20;

#[tokio::test]
async fn large_rows_of_many_matches_come_out_a_few_at_a_time_and_all_of_them_once() {
    // Large on the left, on the right, and beyond a batch by itself.
    let cases: [(Vec<usize>, Vec<usize>, usize); 3] = [
        (vec![50_000, 10, 60_000], vec![10; 700], MOST_BYTES),
        (vec![10; 30], [vec![10; 40], vec![90_000; 3], vec![10; 40]].concat(), MOST_BYTES),
        (vec![10, 2 * MOST_BYTES], vec![10; 12], 2 * MOST_BYTES + 1_000),
    ];
    // Rows of two schemas on the left.
    let mixed = (vec![20_000, 10], vec![10; 200], 2 * MOST_BYTES);
    for (case, (left, right, most)) in cases.into_iter().chain([mixed]).enumerate() {
        let (left, right) = (texts(&left), texts(&right));
        let mut dice = Dice::new(case as u64 + 1);
        let mut inputs: Vec<_> = batches(&mut dice, &left).into_iter().map(|batch| (0, batch)).collect();
        if case == 3 {
            inputs = vec![(0, narrower(&left[..1])), (0, batch(&left[1..], 1))];
        }
        inputs.extend(batches(&mut dice, &right).into_iter().map(|batch| (1, batch)));
        let join = Join::on("row.key", "row.key").memory(64_000_000);

        let mut action = make(&join, Spill::temporary()).await;
        for (from, batch) in &inputs {
            action.call(batch.without_tokens(), *from, &context()).await.unwrap();
        }
        let mut sizes = Vec::new();
        while let Some(batch) = action.release(true, &context()).await.unwrap() {
            sizes.push(batch.bytes());
        }
        assert!(sizes.iter().all(|size| *size <= most), "case {case}: {sizes:?}");

        let plain = run(&join, &inputs).await.unwrap();
        let found: Vec<_> = pairs(&plain).into_iter().map(|(left, right, _)| (left, right)).collect();
        let numbers = |side: &[Sample]| 0..side.len() as i64;
        let expected: Vec<_> =
            numbers(&left).flat_map(|one| numbers(&right).map(move |other| (one, Some(other)))).collect();
        assert_eq!(found, expected, "case {case}");
        for _ in 0..3 {
            let crashed = run_through_crashes(&join, &inputs, &mut dice).await.unwrap();
            assert_eq!(pairs(&crashed), pairs(&plain), "case {case}");
        }
    }
}

#[tokio::test]
async fn a_few_large_rows_of_one_key_beyond_the_memory_are_refused() {
    let (left, right) = (texts(&[10]), texts(&[100_000; 60]));
    let sides = vec![(0, batch(&left, 0)), (1, batch(&right, 5))];
    let done = run(&Join::on("row.key", "row.key").memory(2_000_000), &sides).await;
    let error = done.map(|done| done.items.len()).unwrap_err();
    assert!(error.message().contains("have one key") && error.message().contains("`memory`"), "{error}");

    let mut others = texts(&[10]);
    others[0].key = Some(8);
    let sides = vec![(0, batch(&others, 0)), (1, batch(&right, 5))];
    let done = run(&Join::on("row.key", "row.key").memory(2_000_000), &sides).await.unwrap();
    assert!(done.items.is_empty(), "rows that no row of the left asks for are not held");
}

#[test]
fn settings_that_cannot_work_are_named() {
    let paths = |join: Join| ActionConfig::validate(&join).into_iter().map(|p| p.path).collect::<Vec<_>>();
    assert_eq!(paths(Join::on("row.a +", "row.b").memory(0).prefix("")), ["memory", "left", "prefix"]);
    assert_eq!(paths(Join::on("string(row.a)", "int(row.b)")), ["right"]);
    assert_eq!(paths(Join::on("document.text", "row.b")), ["left"]);
    assert!(paths(Join::on("row.a", "[row.a, row.b]")).is_empty());
    let error = serde_json::from_value::<Join>(json!({"left": "row.a"})).unwrap_err();
    assert!(error.to_string().contains("`right`"), "{error}");
}
