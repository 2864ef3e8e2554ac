//! `aggregate` over columns of all sorts: whatever comes in what layout and in what order of types,
//! it is what a few lines over single values say.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    UInt64Array,
};
use nvisy_core::lineage::Step;
use nvisy_core::metadata::Timestamp;
use nvisy_core::prelude::*;
use nvisy_core::{Metadata, Position, Positions, Primitive, SourceIdentity};
use nvisy_runtime::actions::{Aggregate, Aggregation, Window};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Dice, Done, on_a_runtime, raws, run, run_through_crashes};

/// What a column has in one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sort {
    Int,
    Small,
    UInt,
    Double,
    Text,
    Mixed,
}

#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Null,
    Int(i64),
    UInt(u64),
    Double(f64),
    Text(String),
}

impl Cell {
    fn of(sort: Sort, dice: &mut Dice, sides: u64) -> Self {
        if dice.roll(9) == 0 {
            return Self::Null;
        }
        let number = dice.roll(sides);
        match sort {
            Sort::Int | Sort::Small => Self::Int(number as i64 - 5),
            Sort::UInt => Self::UInt(number),
            Sort::Double => Self::Double(number as f64 / 2.0 - 3.0),
            Sort::Text => Self::Text("\0ab".chars().cycle().take(number as usize % 17).collect()),
            Sort::Mixed => {
                let sort = [Sort::Int, Sort::Double, Sort::Int, Sort::Text][dice.roll(4) as usize];
                Self::of(sort, dice, sides)
            }
        }
    }

    fn number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::UInt(value) => Some(*value as f64),
            Self::Double(value) => Some(*value),
            _ => None,
        }
    }

    fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// Numbers as doubles, whatever they were.
    fn json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Text(text) => text.clone().into(),
            number => number.number().into(),
        }
    }

    fn raw(&self) -> Value {
        match self {
            Self::Int(value) => (*value).into(),
            Self::UInt(value) => (*value).into(),
            other => other.json(),
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        let rank = |cell: &Self| u8::from(*cell != Self::Null) + u8::from(cell.is_text());
        let text = |cell: &Self| if let Self::Text(text) = cell { text.clone() } else { String::new() };
        let number = |cell: &Self| cell.number().unwrap_or_default();
        let ranks = rank(self).cmp(&rank(other));
        ranks.then(number(self).total_cmp(&number(other))).then(text(self).cmp(&text(other)))
    }
}

/// One item: what it is grouped by, what is summed, what is kept, and when it was.
#[derive(Clone, Debug)]
struct Thing {
    cells: [Cell; 3],
    at: i64,
}

fn column(sort: Sort, cells: &[Cell]) -> ArrayRef {
    let ints = || cells.iter().map(|cell| if let Cell::Int(value) = cell { Some(*value) } else { None });
    let uint = |cell: &Cell| if let Cell::UInt(value) = cell { Some(*value) } else { None };
    let text = |cell: &Cell| if let Cell::Text(text) = cell { Some(text.clone()) } else { None };
    match sort {
        Sort::Int | Sort::Mixed => Arc::new(ints().collect::<Int64Array>()),
        Sort::Small => Arc::new(ints().map(|value| value.map(|value| value as i32)).collect::<Int32Array>()),
        Sort::UInt => Arc::new(cells.iter().map(uint).collect::<UInt64Array>()),
        Sort::Double => Arc::new(cells.iter().map(Cell::number).collect::<Float64Array>()),
        Sort::Text => Arc::new(cells.iter().map(text).collect::<StringArray>()),
    }
}

/// A batch of rows with these columns, or of raw items.
fn batch(things: &[Thing], sorts: Option<[Sort; 3]>, at: u64) -> Batch {
    let Some(sorts) = sorts else {
        let time = |thing: &Thing| Timestamp::from_timestamp(thing.at, 0).unwrap().to_rfc3339();
        let raw = |thing: &Thing| {
            let [key, sum, kept] = thing.cells.each_ref().map(Cell::raw);
            json!({ "key": key, "sum": sum, "kept": kept, "at": time(thing) })
        };
        let raws = raws(things.iter().map(raw));
        let payloads = raws.as_items().unwrap().to_vec();
        let (source, step) = origin();
        return Batch::read(payloads, Positions::from(at), &source, step, Arc::default()).unwrap();
    };
    let times = things.iter().map(|thing| thing.at * 1_000_000).collect::<Vec<_>>();
    let times = TimestampMicrosecondArray::from(times).with_timezone("UTC");
    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![("at", Arc::new(times), true)];
    for (which, name) in ["key", "sum", "kept"].into_iter().enumerate() {
        let cells: Vec<Cell> = things.iter().map(|thing| thing.cells[which].clone()).collect();
        columns.push((name, column(sorts[which], &cells), true));
    }
    let rows = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let (source, step) = origin();
    Batch::read_rows(rows, Positions::from(at), &source, step, Arc::default()).unwrap()
}

fn origin() -> (SourceIdentity, Arc<Step>) {
    let step = Step::new("read", "things", Metadata::default().created_at);
    (SourceIdentity::new("things"), Arc::new(step))
}

/// Random batches, and the items in them.
fn things(dice: &mut Dice, len: usize, raw: bool) -> (Vec<(usize, Batch)>, Vec<Thing>) {
    let (mut batches, mut all) = (Vec::new(), Vec::new());
    while all.len() < len {
        let most = if dice.roll(4) == 0 { len as u64 } else { 40 };
        let count = (1 + dice.roll(most) as usize).min(len - all.len());
        let numbers = [Sort::Int, Sort::Small, Sort::UInt, Sort::Double, Sort::Int, Sort::Text];
        let sorts = [0, 1, 2].map(|_| numbers[dice.roll(numbers.len() as u64) as usize]);
        let sorts = if raw { [Sort::Mixed; 3] } else { sorts };
        let sides = [30, 200, 12];
        let some: Vec<Thing> = (0..count)
            .map(|n| Thing {
                cells: [0, 1, 2].map(|which| Cell::of(sorts[which], dice, sides[which])),
                at: (all.len() + n) as i64 + dice.roll(20) as i64,
            })
            .collect();
        batches.push((0, batch(&some, (!raw).then_some(sorts), all.len() as u64)));
        all.extend(some);
    }
    (batches, all)
}

/// The start of the window of a group, if it has one, and which things are in it.
type Members = (Option<i64>, Vec<usize>);

/// What items come to: groups in their order, each with its items; and how many items fail.
fn groups(things: &[Thing], window: Option<(i64, i64)>) -> (Vec<Members>, usize) {
    // Whether texts came, once anything came.
    let mut texts: [Option<bool>; 3] = [None; 3];
    let (mut watermark, mut failed) = (i64::MIN, 0);
    let mut groups: BTreeMap<Option<i64>, Vec<Vec<usize>>> = BTreeMap::new();
    for (index, thing) in things.iter().enumerate() {
        let start = window.map(|(size, lateness)| {
            watermark = watermark.max(thing.at - lateness);
            (thing.at / size * size, thing.at / size * size + size <= watermark)
        });
        let fits = thing.cells.iter().enumerate().all(|(which, cell)| match cell {
            Cell::Null => true,
            cell if which == 1 => !cell.is_text(),
            cell => texts[which].is_none_or(|texts| texts == cell.is_text()),
        });
        if !fits || start.is_some_and(|(_, late)| late) {
            failed += 1;
            continue;
        }
        for (which, cell) in thing.cells.iter().enumerate().filter(|(_, cell)| **cell != Cell::Null) {
            texts[which] = Some(cell.is_text());
        }
        let of_window = groups.entry(start.map(|(start, _)| start)).or_default();
        let same = |group: &&mut Vec<usize>| things[group[0]].cells[0].order(&thing.cells[0]).is_eq();
        match of_window.iter_mut().find(same) {
            Some(group) => group.push(index),
            None => of_window.push(vec![index]),
        }
    }
    let mut all = Vec::new();
    for (start, mut of_window) in groups {
        of_window.sort_by(|a, b| things[a[0]].cells[0].order(&things[b[0]].cells[0]));
        all.extend(of_window.into_iter().map(|group| (start, group)));
    }
    (all, failed)
}

fn expected(things: &[Thing], group: &[usize]) -> Value {
    let numbers: Vec<f64> = group.iter().filter_map(|at| things[*at].cells[1].number()).collect();
    let kept: Vec<&Cell> =
        group.iter().map(|at| &things[*at].cells[2]).filter(|cell| **cell != Cell::Null).collect();
    let json = |cell: Option<&&Cell>| cell.map_or(Value::Null, |cell| cell.json());
    json!({
        "key": things[group[0]].cells[0].json(),
        "items": group.len() as f64,
        "numbers": numbers.len() as f64,
        "total": (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>()),
        "twice": (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() * 2.0),
        "mean": (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64),
        "min": json(kept.iter().min_by(|a, b| a.order(b))),
        "max": json(kept.iter().max_by(|a, b| a.order(b))),
        "first": json(kept.first()),
        "last": json(kept.last()),
        "all": kept.iter().map(|cell| cell.json()).collect::<Vec<_>>(),
    })
}

/// A row with numbers as doubles, and without the columns of the window.
fn row(item: &Primitive) -> Value {
    let Payload::Row(row) = item.payload() else { panic!("{item:?}") };
    let double = |value: &Value| value.as_f64().map_or_else(|| value.clone(), Value::from);
    let mut row = Value::from(row.to_json());
    let columns = row.as_object_mut().unwrap();
    columns.retain(|name, _| !name.starts_with("window_"));
    for value in columns.values_mut() {
        *value = match &*value {
            Value::Array(values) => values.iter().map(double).collect(),
            value => double(value),
        };
    }
    row
}

fn offsets(item: &Primitive) -> Vec<usize> {
    let offset = |position: Position| if let Position::Offset(at) = position { at as usize } else { 0 };
    item.lineage().roots().into_iter().map(|root| offset(root.position)).collect()
}

fn config(raw: bool, window: Option<(i64, i64)>) -> Aggregate {
    let of = |name: &str| format!("{}.{name}", if raw { "raw" } else { "row" });
    let aggregate = Aggregate::by("key", of("key"))
        .count("items")
        .sum("total", of("sum"))
        .sum("twice", format!("{0} == null ? null : 2.0 * double({0})", of("sum")))
        .aggregate("numbers", Aggregation::Count(of("sum")))
        .aggregate("mean", Aggregation::Mean(of("sum")))
        .aggregate("min", Aggregation::Min(of("kept")))
        .aggregate("max", Aggregation::Max(of("kept")))
        .aggregate("first", Aggregation::First(of("kept")))
        .aggregate("last", Aggregation::Last(of("kept")))
        .aggregate("all", Aggregation::Collect(of("kept")));
    let Some((size, lateness)) = window else { return aggregate };
    let time = if raw { "timestamp(raw.at)".to_owned() } else { of("at") };
    let seconds = |of: i64| Duration::from_secs(of as u64);
    aggregate.window(Window::tumbling(time, seconds(size)).lateness(seconds(lateness)))
}

fn check(done: &Done, things: &[Thing], window: Option<(i64, i64)>) {
    let (groups, failed) = groups(things, window);
    assert_eq!(done.failed.len(), failed);
    assert_eq!(done.items.len(), groups.len());
    for (item, (_, group)) in done.items.iter().zip(&groups) {
        assert_eq!(row(item), expected(things, group));
        assert_eq!(offsets(item), group[..group.len().min(8)]);
        let counted = item.lineage().records().last().unwrap().parameters["items"].as_u64();
        assert_eq!(counted, (group.len() > 8).then_some(group.len() as u64));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn columns_of_all_sorts_are_what_single_values_are(
        seed: u64,
        len in prop_oneof![9 => 0..300_usize, 1 => 5_000..12_000_usize],
        raw: bool,
        window in prop::option::of((5..60_i64, 0..30_i64)),
        tight in prop_oneof![Just(1_u64), 1_000..200_000_u64, Just(100_000_000)],
    ) {
        let mut dice = Dice::new(seed);
        let (inputs, things) = things(&mut dice, len, raw);
        // With memory for one item, many items take long.
        let memory = if len > 300 { tight.max(150_000) } else { tight };
        let aggregate = config(raw, window).memory(memory);
        let plain = on_a_runtime(run(&aggregate, &inputs)).unwrap();
        check(&plain, &things, window);
        let crashed = on_a_runtime(run_through_crashes(&aggregate, &inputs, &mut dice)).unwrap();
        check(&crashed, &things, window);
        let ids = |done: &Done| done.items.iter().map(Primitive::id).collect::<Vec<_>>();
        prop_assert_eq!(ids(&crashed), ids(&plain));
    }
}
