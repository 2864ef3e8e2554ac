//! `aggregate`, with and without windows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nvisy_core::config::Problem;
use nvisy_core::prelude::*;
use nvisy_core::{Primitive, PrimitiveId, Spill};
use nvisy_runtime::actions::{Aggregate, Aggregation, Window};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Dice, Done, Sample, batch, batches, on_a_runtime, raws, run, run_through_crashes, samples};

/// Each row with its id.
fn rows(done: &Done) -> Vec<(PrimitiveId, Value)> {
    let row = |item: &Primitive| match item.payload() {
        Payload::Row(row) => (item.id(), Value::from(row.to_json())),
        other => panic!("{other:?}"),
    };
    done.items.iter().map(row).collect()
}

fn values(done: &Done) -> Vec<Value> {
    rows(done).into_iter().map(|(_, row)| row).collect()
}

fn values_of(done: &Done, column: &str) -> Vec<Value> {
    values(done).into_iter().map(|mut row| row[column].take()).collect()
}

/// The exact sum, rounded once: all amounts are whole multiples of 2^-60.
fn sum(amounts: &[f64]) -> f64 {
    let one = (1_u64 << 60) as f64;
    amounts.iter().map(|amount| (amount * one) as i128).sum::<i128>() as f64 / one
}

fn expected(samples: &[&Sample]) -> Value {
    let amounts: Vec<f64> = samples.iter().filter_map(|sample| sample.amount).collect();
    let names: Vec<&String> = samples.iter().filter_map(|sample| sample.name.as_ref()).collect();
    let total = (!amounts.is_empty()).then(|| sum(&amounts));
    json!({
        "key": samples[0].key,
        "amounts": amounts.len(),
        "all": samples.iter().map(|sample| sample.n).collect::<Vec<_>>(),
        "first": names.first(),
        "items": samples.len(),
        "last": names.last(),
        "max": names.iter().max(),
        "mean": total.map(|total| total / amounts.len() as f64),
        "min": amounts.iter().copied().reduce(f64::min),
        "numbers": samples.iter().map(|sample| sample.n).sum::<i64>(),
        "total": total,
    })
}

fn everything() -> Aggregate {
    let of = |text: &str| text.to_owned();
    Aggregate::by("key", "row.key")
        .count("items")
        .sum("numbers", "row.n")
        .sum("total", "row.amount")
        .aggregate("amounts", Aggregation::Count(of("row.amount")))
        .aggregate("mean", Aggregation::Mean(of("row.amount")))
        .aggregate("min", Aggregation::Min(of("row.amount")))
        .aggregate("max", Aggregation::Max(of("row.name")))
        .aggregate("first", Aggregation::First(of("row.name")))
        .aggregate("last", Aggregation::Last(of("row.name")))
        .aggregate("all", Aggregation::Collect(of("row.n")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn groups_are_those_of_a_map(
        seed: u64, len in 0..400_usize, memory in prop_oneof![Just(1_u64), 1_000..40_000_u64, Just(100_000_000)],
    ) {
        let mut dice = Dice::new(seed);
        let samples = samples(&mut dice, len);
        let inputs: Vec<_> = batches(&mut dice, &samples).into_iter().map(|batch| (0, batch)).collect();
        let mut groups: BTreeMap<Option<i64>, Vec<&Sample>> = BTreeMap::new();
        samples.iter().for_each(|sample| groups.entry(sample.key).or_default().push(sample));
        let wanted: Vec<_> = groups.values().map(|group| expected(group)).collect();

        let aggregate = everything().memory(memory);
        let plain = on_a_runtime(run(&aggregate, &inputs)).unwrap();
        prop_assert_eq!(values(&plain), wanted);
        for (item, group) in plain.items.iter().zip(groups.values()) {
            let roots: Vec<_> = item.lineage().roots();
            prop_assert_eq!(roots.len(), group.len().min(8));
            let records = item.lineage().records();
            let counted = records.last().unwrap().parameters["items"].as_u64();
            prop_assert_eq!(counted, (group.len() > 8).then_some(group.len() as u64));
        }
        let crashed = on_a_runtime(run_through_crashes(&aggregate, &inputs, &mut dice)).unwrap();
        prop_assert_eq!(rows(&crashed), rows(&plain));
    }

    #[test]
    fn windows_are_those_of_a_map(
        seed: u64, len in 0..300_usize, memory in prop_oneof![Just(1_u64), 1_000..20_000_u64, Just(100_000_000)],
        (size, every) in (1..8_i64, 1..8_i64).prop_map(|(a, b)| (a.max(b) * 10, a.min(b) * 10)),
        lateness in 0..40_i64,
    ) {
        let mut dice = Dice::new(seed);
        let mut samples = samples(&mut dice, len);
        for sample in &mut samples {
            sample.at = Some(sample.n * 3 + dice.roll(60) as i64 - 100);
        }
        let inputs: Vec<_> = batches(&mut dice, &samples).into_iter().map(|batch| (0, batch)).collect();

        let (mut mark, mut late) = (i64::MIN, 0);
        let mut groups: BTreeMap<(i64, Option<i64>), (u64, i64)> = BTreeMap::new();
        for sample in &samples {
            let at = sample.at.unwrap();
            mark = mark.max(at - lateness);
            let starts = (-40..200).map(|n| n * every).filter(|start| *start <= at && at < start + size);
            let open: Vec<_> = starts.filter(|start| start + size > mark).collect();
            late += u64::from(open.is_empty());
            for start in open {
                let group = groups.entry((start, sample.key)).or_default();
                *group = (group.0 + 1, group.1 + sample.n);
            }
        }
        let text = |at| nvisy_core::metadata::Timestamp::from_timestamp(at, 0).unwrap().to_rfc3339_opts(chrono_seconds(), true);
        let wanted: Vec<_> = groups.iter().map(|((start, key), (items, numbers))| json!({
            "key": key, "window_start": text(*start), "window_end": text(start + size), "items": items, "numbers": numbers,
        })).collect();

        let seconds = |of: i64| Duration::from_secs(of as u64);
        let window = Window::sliding("row.at", seconds(size), seconds(every)).lateness(seconds(lateness));
        let aggregate = Aggregate::by("key", "row.key").count("items").sum("numbers", "row.n").memory(memory);
        let failing = aggregate.clone().window(window.clone());
        let plain = on_a_runtime(run(&failing, &inputs)).unwrap();
        prop_assert_eq!(values(&plain), wanted);
        prop_assert_eq!((plain.failed.len() as u64, plain.dropped), (late, 0));
        prop_assert!(plain.failed.iter().all(|error| error.message().starts_with("late:")));
        let ids: BTreeSet<_> = plain.items.iter().map(Primitive::id).collect();
        prop_assert_eq!(ids.len(), plain.items.len());

        let dropping = aggregate.window(window.drop_late());
        let crashed = on_a_runtime(run_through_crashes(&dropping, &inputs, &mut dice)).unwrap();
        prop_assert_eq!(rows(&crashed), rows(&plain));
        prop_assert_eq!((crashed.failed.len(), crashed.dropped), (0, late));
    }
}

fn chrono_seconds() -> chrono::SecondsFormat {
    chrono::SecondsFormat::AutoSi
}

fn with_times(times: &[Option<i64>]) -> Vec<Sample> {
    let sample =
        |(n, at): (usize, &Option<i64>)| Sample { n: n as i64, key: None, name: None, amount: None, at: *at };
    times.iter().enumerate().map(sample).collect()
}

#[tokio::test]
async fn a_window_comes_out_when_the_watermark_has_passed_it() {
    let window = Window::tumbling("row.at", Duration::from_secs(10)).lateness(Duration::from_secs(5));
    let aggregate = Aggregate::all().count("items").window(window);
    let mut action = super::make(&aggregate, Spill::temporary()).await;
    let context = super::context();
    let mut counts = Vec::new();
    for (at, time) in [1, 9, 14, 4, 15, 3, 31].into_iter().enumerate() {
        let outcomes = action.call(batch(&with_times(&[Some(time)]), at as u64), 0, &context).await.unwrap();
        let late = outcomes.failed.len();
        let mut rows = 0;
        while let Some(batch) = action.release(false, &context).await.unwrap() {
            rows += batch.len();
        }
        counts.push((time, late, rows));
    }
    // 15 closes the first window: 3 is late then. 31 closes the second one.
    assert_eq!(counts, [(1, 0, 0), (9, 0, 0), (14, 0, 0), (4, 0, 0), (15, 0, 1), (3, 1, 0), (31, 0, 1)]);
}

#[tokio::test]
async fn items_without_a_time_fail_and_say_what_is_there() {
    let window = Window::tumbling("row.at", Duration::from_secs(10));
    let items = batch(&with_times(&[Some(1), None]), 0);
    let done = run(&Aggregate::all().count("items").window(window), &[(0, items)]).await.unwrap();
    assert_eq!(done.failed.len(), 1);
    assert!(done.failed[0].message().contains("`row.at`, is null"), "{}", done.failed[0]);
    let window = Window::tumbling("raw.at", Duration::from_secs(10));
    let text = raws([json!({"at": "2024-01-01T00:00:00Z"})]);
    let done = run(&Aggregate::all().count("items").window(window), &[(0, text)]).await.unwrap();
    assert!(done.failed[0].message().contains("write `timestamp(..)` around it"), "{}", done.failed[0]);
}

#[tokio::test]
async fn values_of_other_types_fail_and_sums_do_not_wrap() {
    let items =
        [json!({"v": 1}), json!({"v": "x"}), json!({"v": 2.5}), json!({"v": null}), json!({"v": [1]})];
    let done = run(&Aggregate::all().sum("sum", "raw.v"), &[(0, raws(items.clone()))]).await.unwrap();
    assert_eq!(values(&done), [json!({"sum": 3.5})]);
    let messages: Vec<_> = done.failed.iter().map(Error::message).collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].contains("a text") && messages[0].contains("a number"), "{messages:?}");

    let done = run(&Aggregate::by("v", "raw.v").count("n"), &[(0, raws(items))]).await.unwrap();
    assert_eq!(
        values(&done),
        [json!({"n": 1, "v": null}), json!({"n": 1, "v": 1.0}), json!({"n": 1, "v": 2.5})]
    );

    let large = raws([json!({"v": i64::MAX}), json!({"v": 1})]);
    let both = Aggregate::all().sum("sum", "raw.v").count("n");
    let done = run(&both, &[(0, large.without_tokens())]).await.unwrap();
    assert_eq!(values(&done), [json!({"n": 2, "sum": null})]);
    let done = run(&Aggregate::all().sum("sum", "double(raw.v)"), &[(0, large)]).await.unwrap();
    assert_eq!(values(&done), [json!({"sum": 9_223_372_036_854_775_808.0})]);
}

#[tokio::test]
async fn lists_and_maps_come_out_as_they_came_in() {
    let last = |values: Vec<Value>| async move {
        let items = (0..).zip(values).map(|(n, value): (i64, _)| json!({"n": n, "v": value}));
        let by = Aggregate::by("n", "raw.n").aggregate("v", Aggregation::Last("raw.v".to_owned()));
        let done = run(&by, &[(0, raws(items))]).await.unwrap();
        values_of(&done, "v")
    };
    assert_eq!(
        last(vec![json!({"DE": 5}), json!({"FR": 7})]).await,
        [json!({"DE": 5, "FR": null}), json!({"DE": null, "FR": 7})]
    );
    assert_eq!(
        last(vec![json!({"a": 1, "b": null}), json!({"a": null, "b": "x"})]).await,
        [json!({"a": 1, "b": null}), json!({"a": null, "b": "x"})]
    );
    assert_eq!(last(vec![json!(["a"]), json!([1])]).await, [json!(["a"]), json!(["1"])]);
    let many: Vec<_> = (0..5_000).map(|n| json!({ n.to_string(): n })).collect();
    assert_eq!(last(many).await[4_999], json!("{\"4999\":4999}"));

    let items = [json!({"DE": 5}), json!({"FR": 7}), json!({"DE": 5})];
    let done = run(&Aggregate::by("v", "raw").count("n"), &[(0, raws(items.clone()))]).await.unwrap();
    assert_eq!(values_of(&done, "v"), [json!({"DE": 5, "FR": null}), json!({"DE": null, "FR": 7})]);
    let all = Aggregate::all().aggregate("v", Aggregation::Collect("raw".to_owned()));
    let done = run(&all, &[(0, raws(items))]).await.unwrap();
    let (de, fr) = (json!({"DE": 5, "FR": null}), json!({"DE": null, "FR": 7}));
    assert_eq!(values_of(&done, "v"), [json!([de, fr, de])]);
}

#[tokio::test]
async fn no_item_makes_no_group() {
    let done = run(&Aggregate::all().count("items"), &[]).await.unwrap();
    assert_eq!(values(&done), Vec::<Value>::new());
}

#[test]
fn settings_that_cannot_work_are_named() {
    let paths = |config: Aggregate| -> Vec<String> {
        ActionConfig::validate(&config).into_iter().map(|problem: Problem| problem.path).collect()
    };
    assert_eq!(paths(Aggregate::all()), ["aggregates"]);
    assert_eq!(
        paths(Aggregate::by("n", "row.").count("n").memory(0)),
        ["memory", "group_by.n", "aggregates.n"]
    );
    let count = || Aggregate::by("window_end", "row.a").count("n");
    let window =
        |size, every| Window::sliding("row.at", Duration::from_secs(size), Duration::from_secs(every));
    assert_eq!(paths(count().window(window(10, 20))), ["window.every", "group_by.window_end"]);
    assert_eq!(paths(Aggregate::all().count("n").window(window(5_000, 1))), ["window.every"]);
    assert_eq!(paths(Aggregate::all().count("n").window(window(0, 0))), ["window.size", "window.every"]);
}
