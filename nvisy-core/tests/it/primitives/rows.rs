//! Rows of batches of every Arrow type.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::*;
use nvisy_core::primitive::row::Row;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

type Column = BoxedStrategy<ArrayRef>;

fn primitive<T: ArrowPrimitiveType>(
    rows: usize,
    data_type: DataType,
    native: impl Strategy<Value = T::Native> + 'static,
) -> Column {
    vec(of(native), rows)
        .prop_map(move |values| {
            let array: PrimitiveArray<T> = values.into_iter().collect();
            Arc::new(array.with_data_type(data_type.clone())) as ArrayRef
        })
        .boxed()
}

fn plain<T: ArrowPrimitiveType<Native: Arbitrary>>(rows: usize, data_type: DataType) -> Column {
    primitive::<T>(rows, data_type, any::<T::Native>())
}

fn texts<A: Array + FromIterator<Option<String>> + 'static>(rows: usize) -> Column {
    vec(of(any::<String>()), rows).prop_map(|v| Arc::new(v.into_iter().collect::<A>()) as ArrayRef).boxed()
}

fn blobs<A: Array + FromIterator<Option<Vec<u8>>> + 'static>(rows: usize) -> Column {
    vec(of(vec(any::<u8>(), 0..9)), rows)
        .prop_map(|v| Arc::new(v.into_iter().collect::<A>()) as ArrayRef)
        .boxed()
}

fn leaves(rows: usize) -> Vec<Column> {
    use DataType as T;
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let f16 = any::<i16>().prop_map(|n| half(f32::from(n)));
    let i256s =
        (any::<i128>(), any::<i128>()).prop_map(|(low, high)| i256::from_parts(low.cast_unsigned(), high));
    let day_time = (any::<i32>(), any::<i32>()).prop_map(|(d, ms)| IntervalDayTime::new(d, ms));
    let month_day_nano =
        (any::<i32>(), any::<i32>(), any::<i64>()).prop_map(|(m, d, ns)| IntervalMonthDayNano::new(m, d, ns));
    let mut columns = vec![
        Just(Arc::new(NullArray::new(rows)) as ArrayRef).boxed(),
        vec(of(any::<bool>()), rows).prop_map(|v| Arc::new(BooleanArray::from(v)) as ArrayRef).boxed(),
        plain::<Int8Type>(rows, T::Int8),
        plain::<Int16Type>(rows, T::Int16),
        plain::<Int32Type>(rows, T::Int32),
        plain::<Int64Type>(rows, T::Int64),
        plain::<UInt8Type>(rows, T::UInt8),
        plain::<UInt16Type>(rows, T::UInt16),
        plain::<UInt32Type>(rows, T::UInt32),
        plain::<UInt64Type>(rows, T::UInt64),
        primitive::<Float16Type>(rows, T::Float16, f16),
        primitive::<Float32Type>(rows, T::Float32, proptest::num::f32::ANY),
        primitive::<Float64Type>(rows, T::Float64, proptest::num::f64::ANY),
        plain::<Decimal32Type>(rows, T::Decimal32(9, 2)),
        plain::<Decimal64Type>(rows, T::Decimal64(18, 0)),
        plain::<Decimal128Type>(rows, T::Decimal128(38, 10)),
        plain::<Decimal128Type>(rows, T::Decimal128(5, -3)),
        primitive::<Decimal256Type>(rows, T::Decimal256(76, 40), i256s),
        texts::<StringArray>(rows),
        texts::<LargeStringArray>(rows),
        texts::<StringViewArray>(rows),
        blobs::<BinaryArray>(rows),
        blobs::<LargeBinaryArray>(rows),
        blobs::<BinaryViewArray>(rows),
        vec(any::<[u8; 3]>(), rows)
            .prop_map(|v| {
                Arc::new(FixedSizeBinaryArray::new(3, Buffer::from_vec(v.concat()), None)) as ArrayRef
            })
            .boxed(),
        plain::<Date32Type>(rows, T::Date32),
        plain::<Date64Type>(rows, T::Date64),
        plain::<Time32SecondType>(rows, T::Time32(Second)),
        plain::<Time32MillisecondType>(rows, T::Time32(Millisecond)),
        plain::<Time64MicrosecondType>(rows, T::Time64(Microsecond)),
        plain::<Time64NanosecondType>(rows, T::Time64(Nanosecond)),
        plain::<TimestampSecondType>(rows, T::Timestamp(Second, None)),
        plain::<TimestampMillisecondType>(rows, T::Timestamp(Millisecond, Some("UTC".into()))),
        plain::<TimestampMicrosecondType>(rows, T::Timestamp(Microsecond, Some("+05:30".into()))),
        plain::<TimestampNanosecondType>(rows, T::Timestamp(Nanosecond, Some("Europe/Berlin".into()))),
        plain::<IntervalYearMonthType>(rows, T::Interval(IntervalUnit::YearMonth)),
        primitive::<IntervalDayTimeType>(rows, T::Interval(IntervalUnit::DayTime), day_time),
        primitive::<IntervalMonthDayNanoType>(rows, T::Interval(IntervalUnit::MonthDayNano), month_day_nano),
    ];
    for unit in [Second, Millisecond, Microsecond, Nanosecond] {
        let data_type = T::Duration(unit);
        columns.push(match unit {
            Second => plain::<DurationSecondType>(rows, data_type),
            Millisecond => plain::<DurationMillisecondType>(rows, data_type),
            Microsecond => plain::<DurationMicrosecondType>(rows, data_type),
            Nanosecond => plain::<DurationNanosecondType>(rows, data_type),
        });
    }
    columns
}

fn half(value: f32) -> <Float16Type as ArrowPrimitiveType>::Native {
    <Float16Type as ArrowPrimitiveType>::Native::from_f32(value)
}

fn leaf(rows: usize) -> Column {
    proptest::sample::select(leaves(rows)).prop_flat_map(|column| column).boxed()
}

fn item(array: &ArrayRef) -> FieldRef {
    Arc::new(Field::new("item", array.data_type().clone(), true))
}

/// How long each list is, which lists are null, and the items of all.
fn lists(rows: usize, depth: u32) -> BoxedStrategy<(Vec<usize>, Option<NullBuffer>, ArrayRef)> {
    (vec(0..4_usize, rows), vec(any::<bool>(), rows))
        .prop_flat_map(move |(lengths, valid)| {
            let items = column(lengths.iter().sum(), depth);
            (Just(lengths), Just(Some(NullBuffer::from(valid))), items)
        })
        .boxed()
}

fn nested(rows: usize, depth: u32) -> Vec<Column> {
    let inner = depth - 1;
    let list = lists(rows, inner).prop_map(|(lengths, nulls, items)| {
        Arc::new(ListArray::new(item(&items), OffsetBuffer::from_lengths(lengths), items, nulls)) as ArrayRef
    });
    let large = lists(rows, inner).prop_map(|(lengths, nulls, items)| {
        Arc::new(LargeListArray::new(item(&items), OffsetBuffer::from_lengths(lengths), items, nulls))
            as ArrayRef
    });
    let view = lists(rows, inner).prop_map(|(lengths, nulls, items)| {
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths.iter().copied());
        let sizes: ScalarBuffer<i32> = lengths.iter().map(|len| *len as i32).collect();
        let offsets = ScalarBuffer::from(offsets[..lengths.len()].to_vec());
        Arc::new(ListViewArray::new(item(&items), offsets, sizes, items, nulls)) as ArrayRef
    });
    let fixed = (column(rows * 2, inner), vec(any::<bool>(), rows)).prop_map(|(items, valid)| {
        Arc::new(FixedSizeListArray::new(item(&items), 2, items, Some(NullBuffer::from(valid)))) as ArrayRef
    });
    let record =
        (column(rows, inner), column(rows, inner), vec(any::<bool>(), rows)).prop_map(|(a, b, valid)| {
            let fields = vec![
                Field::new("a", a.data_type().clone(), true),
                Field::new("b", b.data_type().clone(), true),
            ];
            Arc::new(StructArray::new(fields.into(), vec![a, b], Some(NullBuffer::from(valid)))) as ArrayRef
        });
    let map = lists(rows, inner).prop_map(|(lengths, nulls, values)| {
        let keys =
            Arc::new(StringArray::from_iter_values((0..values.len()).map(|n| n.to_string()))) as ArrayRef;
        let key = Field::new("keys", DataType::Utf8, false);
        let fields = Fields::from(vec![key, Field::new("values", values.data_type().clone(), true)]);
        let entries = StructArray::new(fields.clone(), vec![keys, values], None);
        let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
        Arc::new(MapArray::new(field, OffsetBuffer::from_lengths(lengths), entries, nulls, false)) as ArrayRef
    });
    let members = |a: &ArrayRef, b: &ArrayRef| {
        let field = |name, array: &ArrayRef| Field::new(name, array.data_type().clone(), true);
        UnionFields::try_new([3, 7], [field("a", a), field("b", b)]).unwrap()
    };
    let ids = vec(prop_oneof![Just(3_i8), Just(7)], rows);
    let sparse = (column(rows, inner), column(rows, inner), ids.clone()).prop_map(move |(a, b, ids)| {
        Arc::new(UnionArray::try_new(members(&a, &b), ids.into(), None, vec![a, b]).unwrap()) as ArrayRef
    });
    let dense = (column(rows, inner), column(rows, inner), ids).prop_map(move |(a, b, ids)| {
        let offsets = (0..ids.len() as i32).collect();
        Arc::new(UnionArray::try_new(members(&a, &b), ids.into(), Some(offsets), vec![a, b]).unwrap())
            as ArrayRef
    });
    let dictionary = (leaf(3), vec(of(0..3_u16), rows)).prop_map(|(values, keys)| {
        Arc::new(DictionaryArray::new(UInt16Array::from(keys), values)) as ArrayRef
    });
    let runs = leaf(rows).prop_map(|values| {
        let ends = Int32Array::from_iter_values((1..=values.len() as i32).map(|n| n * 2));
        Arc::new(RunArray::try_new(&ends, &values).unwrap().slice(values.len(), values.len())) as ArrayRef
    });
    vec![
        list.boxed(),
        large.boxed(),
        view.boxed(),
        fixed.boxed(),
        record.boxed(),
        map.boxed(),
        sparse.boxed(),
        dense.boxed(),
        dictionary.boxed(),
        runs.boxed(),
    ]
}

fn column(rows: usize, depth: u32) -> Column {
    if depth == 0 {
        return leaf(rows);
    }
    let nested = proptest::sample::select(nested(rows, depth)).prop_flat_map(|column| column);
    prop_oneof![2 => leaf(rows), 3 => nested].boxed()
}

fn row_of(columns: Vec<ArrayRef>, slice: (usize, usize), index: usize) -> Row {
    let field = |(n, column): (usize, &ArrayRef)| {
        let metadata =
            [("n".to_owned(), n.to_string())].into_iter().collect::<std::collections::HashMap<_, _>>();
        Field::new(format!("c{n}"), column.data_type().clone(), true).with_metadata(metadata)
    };
    let schema = Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>());
    let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap().slice(slice.0, slice.1);
    Row::new(Arc::new(batch), index as u32).unwrap()
}

/// A row somewhere in a slice of a batch of columns of any type.
pub(super) fn row() -> impl Strategy<Value = Row> {
    vec(column(4, 2), 1..4).prop_flat_map(|columns| {
        (0..2_usize, 1..=2_usize).prop_flat_map(move |(start, len)| {
            let columns = columns.clone();
            (0..len).prop_map(move |index| row_of(columns.clone(), (start, len), index))
        })
    })
}

#[test]
fn every_type_survives() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    for column in leaves(3).into_iter().chain(nested(3, 1)) {
        for _ in 0..20 {
            let array = column.new_tree(&mut runner).unwrap().current();
            for index in 0..3 {
                let row = row_of(vec![array.clone()], (0, 3), index);
                super::survives(&row.into());
            }
        }
    }
}
