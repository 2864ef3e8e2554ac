//! Decimal numbers as keys: none is taken for another one.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::DataType;
use nvisy_core::lineage::Step;
use nvisy_core::prelude::*;
use nvisy_core::primitive::row::Row;
use nvisy_core::{Item, Metadata, Positions, SourceIdentity};
use nvisy_runtime::actions::{Aggregate, Deduplicate, Join, Sort};
use serde_json::{Value, json};

use super::{Dice, Done, numbers, run};

const LARGE: i128 = 9_007_199_254_740_992;

fn decimals(values: &[i128], scale: i8) -> ArrayRef {
    let values = Decimal128Array::from_iter_values(values.iter().copied());
    Arc::new(values.with_precision_and_scale(38, scale).unwrap())
}

/// Rows of a key and their numbers.
fn rows(ids: ArrayRef, at: u64) -> Batch {
    let ns: ArrayRef = Arc::new(Int64Array::from_iter_values((0..ids.len() as i64).map(|n| n + at as i64)));
    let rows = RecordBatch::try_from_iter([("id", ids), ("n", ns)]).unwrap();
    let (source, metadata) = (SourceIdentity::new("rows"), Arc::new(Metadata::default()));
    let step = Arc::new(Step::new("read", "rows", Metadata::default().created_at));
    Batch::read_rows(rows, Positions::from(at), &source, step, metadata).unwrap()
}

/// The same rows, with another one that keeps them from being columns.
fn items(ids: ArrayRef, at: u64) -> Batch {
    let other = json!({"id": -1, "n": -1, "x": 1});
    let other = Row::from_json(other.as_object().unwrap(), None).unwrap();
    let mut items: Vec<_> = rows(ids, at).iter().collect();
    items.push(Item::detached(&at.to_string(), other).into_primitive());
    Batch::from_primitives(items)
}

fn column(done: &Done, name: &str) -> Vec<Value> {
    let row = |payload: &Payload| match payload {
        Payload::Row(row) => row.get(name).unwrap().to_json(),
        other => panic!("{other:?}"),
    };
    done.items.iter().map(|item| row(item.payload())).collect()
}

#[tokio::test]
async fn decimals_next_to_each_other_are_no_duplicates() {
    let ids = || decimals(&[LARGE, LARGE + 1, LARGE + 1, LARGE + 2, 1 << 100, (1 << 100) + 1], 0);
    for key in ["row.id", "row['id']", "has(row.id) ? row.id : 0"] {
        let inputs = [rows(ids(), 0), items(ids(), 10), rows(ids(), 20)].map(|batch| (0, batch));
        let done = run(&Deduplicate::by(key), &inputs).await.unwrap();
        assert_eq!(numbers(&done.items), [0, 1, 3, 4, 5, -1], "{key}");
        assert_eq!(done.dropped, 1 + 6 + 6, "{key}");
    }
    let done = run(&Deduplicate::by("[row.id, 1]"), &[(0, rows(ids(), 0))]).await.unwrap();
    assert_eq!(numbers(&done.items), [0, 1, 3, 4, 5]);
    // In a map it would be rounded.
    let done = run(&Deduplicate::by("{'id': row.id}"), &[(0, rows(ids(), 0))]).await.unwrap();
    assert_eq!((numbers(&done.items), done.failed.len()), (vec![0, 3, 4], 3));
    assert!(done.failed[0].message().contains("would round a decimal"), "{}", done.failed[0]);
}

#[tokio::test]
async fn a_decimal_is_the_number_that_it_stands_for() {
    let cents = || decimals(&[500, 1_999, 50, LARGE * 100, LARGE * 100 + 100, LARGE * 100 + 101], 2);
    let ints: ArrayRef = Arc::new(Int64Array::from(vec![5, LARGE as i64, LARGE as i64 + 1]));
    let doubles: ArrayRef = Arc::new(Float64Array::from(vec![19.99, 0.5, 5.0, LARGE as f64]));
    for (others, matched) in
        [(ints, vec![[0, 0], [3, 1], [4, 2]]), (doubles, vec![[0, 2], [1, 0], [2, 1], [3, 3]])]
    {
        for left in [rows(cents(), 0), items(cents(), 0)] {
            let join = Join::on("row.id", "row.id").prefix("right_");
            let done = run(&join, &[(0, left), (1, rows(others.clone(), 0))]).await.unwrap();
            let pairs = column(&done, "n").into_iter().zip(column(&done, "right_n"));
            let mut pairs: Vec<_> = pairs.map(|(n, of)| [n, of].map(|n| n.as_i64().unwrap())).collect();
            pairs.sort_unstable();
            assert_eq!(pairs, matched);
        }
    }
}

#[tokio::test]
async fn groups_of_decimals_stay_apart() {
    let ids = decimals(&[LARGE + 1, LARGE, 10, LARGE + 1], 0);
    let by = Aggregate::by("id", "row.id").and_by("list", "[row.id, row.id]").count("n").sum("sum", "row.n");
    let done = run(&by, &[(0, rows(ids, 0))]).await.unwrap();
    assert_eq!(column(&done, "id"), [10.0, LARGE as f64, LARGE as f64]);
    assert_eq!(
        (column(&done, "n"), column(&done, "sum")),
        (vec![json!(1), json!(1), json!(2)], vec![json!(2), json!(1), json!(3)])
    );
}

#[tokio::test]
async fn decimals_sort_as_numbers_do() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let scale = [0, 1, 2, 18, 22][dice.roll(5) as usize];
        let one = 10_i128.pow(scale as u32);
        let values: Vec<i128> = (0..60)
            .map(|_| {
                let near = dice.roll(9) as i128 - 4;
                let at = match dice.roll(6) {
                    0 => 0,
                    1 => one / 10,
                    2 => one * 1999 / 100,
                    3 => LARGE * one.min(100_000),
                    4 => 10_i128.pow(30),
                    _ => i128::from(i64::MAX) * one.min(1_000),
                };
                (at + near) * if dice.roll(2) == 0 { 1 } else { -1 }
            })
            .collect();
        let mut order: Vec<i64> = (0..values.len() as i64).collect();
        order.sort_by_key(|n| values[*n as usize]);
        let done = run(&Sort::by("row.id"), &[(0, rows(decimals(&values, scale), 0))]).await.unwrap();
        assert_eq!(numbers(&done.items), order, "seed {seed}");
        order.sort_by_key(|n| -values[*n as usize]);
        let done = run(&Sort::by_desc("row.id"), &[(0, rows(decimals(&values, scale), 0))]).await.unwrap();
        assert_eq!(numbers(&done.items), order, "seed {seed}");
        assert_eq!(*decimals(&values, scale).data_type(), DataType::Decimal128(38, scale));

        // Nothing that follows in the key comes between two decimals, wherever its nulls are.
        let second = "row.n % 3 == 0 ? null : row.n";
        for (descending, first) in [(false, false), (false, true), (true, false), (true, true)] {
            let by = if descending { Sort::by_desc("row.id") } else { Sort::by("row.id") };
            let by = by.then(second);
            let by = if first { by.nulls_first() } else { by };
            let done = run(&by, &[(0, rows(decimals(&values, scale), 0))]).await.unwrap();
            let null = |n: i64| (n % 3 == 0) != first;
            let of = |n: i64| (values[n as usize] * if descending { -1 } else { 1 }, null(n), n);
            order.sort_by_key(|n| of(*n));
            assert_eq!(numbers(&done.items), order, "seed {seed}, {descending}, {first}");
        }
    }
}
