//! `sort` and `materialize`.

use std::cmp::Ordering;

use nvisy_core::prelude::*;
use nvisy_runtime::actions::{Materialize, Sort};
use proptest::prelude::*;
use serde_json::json;

use super::{Dice, Sample, batches, numbers, on_a_runtime, raws, run, run_through_crashes, samples};

/// Nulls first, then the least.
fn nulls_first<T: PartialOrd>(a: &Option<T>, b: &Option<T>) -> Ordering {
    a.partial_cmp(b).unwrap()
}

/// The least first, then nulls.
fn nulls_last<T: PartialOrd>(a: &Option<T>, b: &Option<T>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.partial_cmp(b).unwrap(),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

/// The greatest first, then nulls.
fn greatest_first<T: PartialOrd>(a: &Option<T>, b: &Option<T>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => b.partial_cmp(a).unwrap(),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sort_is_that_of_the_standard_library(
        seed: u64, len in 0..600_usize, memory in prop_oneof![Just(1_u64), 500..30_000_u64, Just(100_000_000)],
        limit in proptest::option::of(1..80_u64), columns: bool,
    ) {
        let mut dice = Dice::new(seed);
        let samples = samples(&mut dice, len);
        // One is a plain column, the other is not.
        let key = if columns { "row.key" } else { "row.key == null ? row.key : row.key * 2" };
        let mut sort = Sort::by(key).nulls_first().then_desc("row.name").then("row.amount").memory(memory);
        if let Some(limit) = limit {
            sort = sort.limit(limit);
        }
        let inputs: Vec<_> = batches(&mut dice, &samples).into_iter().map(|batch| (0, batch)).collect();
        let source: Vec<_> = inputs.iter().flat_map(|(_, batch)| batch.iter()).collect();

        let mut expected: Vec<Sample> = samples;
        expected.sort_by(|a, b| {
            let key = nulls_first(&a.key, &b.key).then_with(|| greatest_first(&a.name, &b.name));
            key.then_with(|| nulls_last(&a.amount, &b.amount))
        });
        expected.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
        let expected: Vec<_> = expected.iter().map(|sample| sample.n).collect();

        let plain = on_a_runtime(run(&sort, &inputs)).unwrap();
        prop_assert_eq!(&numbers(&plain.items), &expected);
        for item in &plain.items {
            let before = &source[numbers(std::slice::from_ref(item))[0] as usize];
            prop_assert_eq!((item.id(), item.payload(), item.metadata()), (before.id(), before.payload(), before.metadata()));
            prop_assert_eq!(item.root(), before.root());
            prop_assert_eq!(item.lineage().records().len(), 2);
        }
        let crashed = on_a_runtime(run_through_crashes(&sort, &inputs, &mut dice)).unwrap();
        prop_assert_eq!(numbers(&crashed.items), expected);
    }

    #[test]
    fn what_is_materialized_comes_out_as_it_came_in(
        seed: u64, len in 0..400_usize, memory in prop_oneof![Just(1_u64), 500..30_000_u64, Just(100_000_000)],
    ) {
        let mut dice = Dice::new(seed);
        let samples = samples(&mut dice, len);
        let mut inputs: Vec<_> = batches(&mut dice, &samples).into_iter().map(|batch| (0, batch)).collect();
        inputs.push((0, raws((0..20).map(|n| json!({"n": len as i64 + n})))));
        let expected: Vec<_> = (0..len as i64 + 20).collect();
        let all = Materialize::all().memory(memory);
        let plain = on_a_runtime(run(&all, &inputs)).unwrap();
        prop_assert_eq!(&numbers(&plain.items), &expected);
        let crashed = on_a_runtime(run_through_crashes(&all, &inputs, &mut dice)).unwrap();
        prop_assert_eq!(numbers(&crashed.items), expected);
    }
}

#[tokio::test]
async fn values_of_all_types_have_one_order() {
    let values = [
        json!(false),
        json!(true),
        json!(-1e300),
        json!(-3),
        json!(-0.5),
        json!(0),
        json!(0.5),
        json!(9_007_199_254_740_992_i64),
        json!(9_007_199_254_740_993_i64),
        json!(9_223_372_036_854_775_807_i64),
        json!(9_223_372_036_854_775_808_u64),
        json!(18_446_744_073_709_551_615_u64),
        json!(1e20),
        json!(""),
        json!("\0"),
        json!("a"),
        json!("a\0"),
        json!("a\0b"),
        json!("ab"),
        json!("é"),
        json!([]),
        json!([1]),
        json!([1, 2]),
        json!([2]),
        json!({}),
        json!({"a": 1}),
        serde_json::Value::Null,
    ];
    let all = values.iter().cloned().enumerate().map(|(n, v)| json!({"n": n, "v": v}));
    let mut shuffled: Vec<_> = all.collect();
    let mut dice = Dice::new(7);
    for index in (1..shuffled.len()).rev() {
        shuffled.swap(index, dice.roll(index as u64 + 1) as usize);
    }
    let up = run(&Sort::by("raw.v"), &[(0, raws(shuffled.clone()))]).await.unwrap();
    assert_eq!(numbers(&up.items), (0..values.len() as i64).collect::<Vec<_>>());
    let down = run(&Sort::by_desc("raw.v").nulls_first(), &[(0, raws(shuffled))]).await.unwrap();
    assert_eq!(numbers(&down.items), (0..values.len() as i64).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn an_item_that_cannot_be_ordered_fails_alone() {
    let items = raws([json!({"n": 2, "v": 2}), json!({"n": 9}), json!({"n": 1, "v": 1})]);
    let done = run(&Sort::by("raw.v"), &[(0, items)]).await.unwrap();
    assert_eq!(numbers(&done.items), [1, 2]);
    assert_eq!(done.failed.len(), 1);
    assert_eq!(done.failed[0].kind(), ErrorKind::Validation);
}

#[test]
fn settings_that_cannot_work_are_named() {
    let paths = |problems: Vec<nvisy_core::config::Problem>| {
        problems.into_iter().map(|problem| problem.path).collect::<Vec<_>>()
    };
    assert_eq!(
        paths(Sort { by: Vec::new(), limit: Some(0), memory: Some(0) }.validate()),
        ["memory", "limit", "by"]
    );
    assert_eq!(paths(Sort::by("row.a").then("row.b +").validate()), ["by[1].value"]);
    assert_eq!(paths(Materialize::all().memory(0).validate()), ["memory"]);
    let error = serde_json::from_value::<Materialize>(json!({"memory": "much"})).unwrap_err();
    assert!(error.to_string().contains("`much` is not an amount"), "{error}");
}
