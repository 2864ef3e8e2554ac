//! How many bytes each row of a side takes: what a pair copies.

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, RecordBatch};
use arrow::datatypes::DataType;
use nvisy_core::{Batch, Result};

use super::merge::row;

/// Returns about how many bytes each row of a batch takes.
pub(super) fn sizes(batch: &Batch) -> Result<Vec<usize>> {
    match batch.as_rows() {
        Some(rows) => Ok(of_rows(rows)),
        None => (0..batch.len() as u32).map(|index| Ok(of_rows(&row(batch, index)?).iter().sum())).collect(),
    }
}

fn of_rows(rows: &RecordBatch) -> Vec<usize> {
    of_all(rows.columns(), rows.num_rows())
}

/// The sizes of values of several columns together.
fn of_all(columns: &[ArrayRef], len: usize) -> Vec<usize> {
    let mut sizes = vec![0; len];
    for column in columns {
        sizes.iter_mut().zip(of(column)).for_each(|(sum, size)| *sum += size);
    }
    sizes
}

fn of(column: &dyn Array) -> Vec<usize> {
    match column.data_type() {
        DataType::Utf8 => of_bytes(column.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => of_bytes(column.as_string::<i64>().value_offsets()),
        DataType::Binary => of_bytes(column.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => of_bytes(column.as_binary::<i64>().value_offsets()),
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            of_lists(lists.value_offsets(), lists.values())
        }
        DataType::LargeList(_) => {
            let lists = column.as_list::<i64>();
            of_lists(lists.value_offsets(), lists.values())
        }
        DataType::Map(..) => {
            let maps = column.as_map();
            of_lists(maps.value_offsets(), maps.entries())
        }
        DataType::FixedSizeList(_, each) => {
            let values = of(column.as_fixed_size_list().values());
            let each = (*each).max(1) as usize;
            values.chunks(each).map(|list| list.iter().sum::<usize>() + 1).collect()
        }
        DataType::Struct(_) => of_all(column.as_struct().columns(), column.len()),
        // The values are shared.
        DataType::Dictionary(..) => of(column.as_any_dictionary().keys()),
        data_type => {
            let bytes = || column.to_data().get_slice_memory_size().unwrap_or_default();
            let width = data_type.primitive_width();
            vec![width.unwrap_or_else(|| bytes().div_ceil(column.len().max(1))) + 1; column.len()]
        }
    }
}

fn lengths<O: OffsetSizeTrait>(offsets: &[O]) -> impl Iterator<Item = usize> {
    offsets.windows(2).map(|ends| (ends[1] - ends[0]).as_usize())
}

fn of_bytes<O: OffsetSizeTrait>(offsets: &[O]) -> Vec<usize> {
    lengths(offsets).map(|length| length + size_of::<O>() + 1).collect()
}

fn of_lists<O: OffsetSizeTrait>(offsets: &[O], values: &dyn Array) -> Vec<usize> {
    let first = offsets.first().map_or(0, |first| first.as_usize());
    let len = lengths(offsets).sum();
    let mut values = of(&values.slice(first, len)).into_iter();
    let list = |length: usize| values.by_ref().take(length).sum::<usize>() + size_of::<O>() + 1;
    lengths(offsets).map(list).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, FixedSizeListArray, Int64Array, LargeBinaryArray, LargeStringArray, ListArray,
        StringArray, StructArray,
    };
    use arrow::datatypes::{Int32Type, Int64Type};

    use super::*;

    /// What a column of one value takes in memory is about what was said of that value, also where
    /// the column is a part of a longer one.
    #[test]
    fn they_are_what_a_value_takes_by_itself() {
        let text = |n: usize| "x".repeat(n);
        let (short, long) = (text(3), text(5_000));
        let texts = [Some(short.as_str()), None, Some(long.as_str()), Some("")];
        let lists: [Option<Vec<Option<i64>>>; 4] =
            [Some(vec![Some(1); 2]), None, Some(vec![Some(1); 900]), Some(Vec::new())];
        let strings: ArrayRef = Arc::new(StringArray::from_iter(texts));
        let fields =
            arrow::datatypes::Fields::from(vec![arrow::datatypes::Field::new("a", DataType::Utf8, true)]);
        let columns: Vec<ArrayRef> = vec![
            strings.clone(),
            Arc::new(LargeStringArray::from_iter(texts)),
            Arc::new(LargeBinaryArray::from_iter(texts.map(|text| text.map(str::as_bytes)))),
            Arc::new(Int64Array::from_iter([Some(1), None, Some(3), Some(4)])),
            Arc::new(BooleanArray::from_iter([Some(true), None, Some(false), None])),
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)),
            Arc::new(FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
                std::iter::repeat_n(Some(vec![Some(1); 16]), 4),
                16,
            )),
            Arc::new(StructArray::new(fields, vec![strings], None)),
        ];
        let taken = |column: &ArrayRef, index: u32| {
            let one =
                arrow::compute::take(column, &arrow::array::UInt32Array::from(vec![index]), None).unwrap();
            one.to_data().get_slice_memory_size().unwrap()
        };
        for column in &columns {
            let whole = of(column);
            for (index, said) in (0..).zip(&whole) {
                let taken = taken(column, index);
                assert!(said.abs_diff(taken) <= 24 + taken / 4, "{}: {said} for {taken}", column.data_type());
            }
            assert_eq!(of(&column.slice(1, 3)), whole[1..], "{}", column.data_type());
        }
    }
}
