//! The value at a place of an array.

use arrow::array::{Array, AsArray, OffsetSizeTrait};
use arrow::datatypes::{
    ArrowDictionaryKeyType, ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type,
    Decimal64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, DurationMillisecondType,
    DurationNanosecondType, DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
    RunEndIndexType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type, i256,
};

use super::{Cell, Decimal, ListCell, MapCell, StructCell, TimeUnit};

const MILLISECONDS_A_DAY: i64 = 86_400_000;

/// Returns the value of an array at `index`: null past its end.
#[must_use]
pub fn cell_at(array: &dyn Array, index: usize) -> Cell<'_> {
    use DataType as T;
    if index >= array.len() || array.is_null(index) {
        return Cell::Null;
    }
    let at = Place { array, index };
    match array.data_type() {
        T::Null => Cell::Null,
        T::Boolean => Cell::Bool(array.as_boolean().value(index)),
        T::Int8 => at.int::<Int8Type>(),
        T::Int16 => at.int::<Int16Type>(),
        T::Int32 => at.int::<Int32Type>(),
        T::Int64 => at.int::<Int64Type>(),
        T::UInt8 => Cell::UInt(at.native::<UInt8Type>().into()),
        T::UInt16 => Cell::UInt(at.native::<UInt16Type>().into()),
        T::UInt32 => Cell::UInt(at.native::<UInt32Type>().into()),
        T::UInt64 => Cell::UInt(at.native::<UInt64Type>()),
        T::Float16 => Cell::Float32(at.native::<Float16Type>().to_f32()),
        T::Float32 => Cell::Float32(at.native::<Float32Type>()),
        T::Float64 => Cell::Float(at.native::<Float64Type>()),
        T::Decimal32(_, scale) => at.decimal(i256::from(at.native::<Decimal32Type>()), *scale),
        T::Decimal64(_, scale) => at.decimal(i256::from(at.native::<Decimal64Type>()), *scale),
        T::Decimal128(_, scale) => at.decimal(i256::from_i128(at.native::<Decimal128Type>()), *scale),
        T::Decimal256(_, scale) => at.decimal(at.native::<Decimal256Type>(), *scale),
        T::Utf8 => Cell::Text(array.as_string::<i32>().value(index)),
        T::LargeUtf8 => Cell::Text(array.as_string::<i64>().value(index)),
        T::Utf8View => Cell::Text(array.as_string_view().value(index)),
        T::Binary => Cell::Bytes(array.as_binary::<i32>().value(index)),
        T::LargeBinary => Cell::Bytes(array.as_binary::<i64>().value(index)),
        T::BinaryView => Cell::Bytes(array.as_binary_view().value(index)),
        T::FixedSizeBinary(_) => Cell::Bytes(array.as_fixed_size_binary().value(index)),
        T::Date32 => Cell::Date(at.native::<Date32Type>()),
        T::Date64 => at.date64(),
        T::Time32(unit) | T::Time64(unit) => Cell::Time { ticks: at.time(*unit), unit: *unit },
        T::Timestamp(unit, zone) => {
            Cell::Timestamp { ticks: at.timestamp(*unit), unit: *unit, zone: zone.as_deref() }
        }
        T::Duration(unit) => Cell::Duration { ticks: at.duration(*unit), unit: *unit },
        T::Interval(unit) => at.interval(*unit),
        T::List(_) => at.list::<i32>(),
        T::LargeList(_) => at.list::<i64>(),
        T::ListView(_) => at.list_view::<i32>(),
        T::LargeListView(_) => at.list_view::<i64>(),
        T::FixedSizeList(_, _) => {
            let list = array.as_fixed_size_list();
            let (start, len) = (list.value_offset_at(index), list.value_length() as usize);
            Cell::List(ListCell::new(list.values(), start..start + len))
        }
        T::Struct(_) => Cell::Struct(StructCell::new(array.as_struct(), index)),
        T::Map(_, _) => {
            let map = array.as_map();
            let range = map.value_offsets()[index] as usize..map.value_offsets()[index + 1] as usize;
            let keys = ListCell::new(map.keys(), range.clone());
            Cell::Map(MapCell::new(keys, ListCell::new(map.values(), range)))
        }
        T::Union(_, _) => {
            let union = array.as_union();
            cell_at(union.child(union.type_id(index)), union.value_offset(index))
        }
        T::Dictionary(_, _) | T::RunEndEncoded(_, _) => {
            at.behind().map_or(Cell::Null, |(array, index)| cell_at(array, index))
        }
    }
}

/// Where a dictionary or a run-end encoded array keeps the value at `index`; none if it is
/// null, the same place for every other array.
pub(crate) fn resolve(array: &dyn Array, index: usize) -> Option<(&dyn Array, usize)> {
    match array.data_type() {
        DataType::Dictionary(_, _) | DataType::RunEndEncoded(_, _) => {
            let (array, index) = Place { array, index }.behind()?;
            resolve(array, index)
        }
        _ => Some((array, index)),
    }
}

/// A place in an array whose type is known.
#[derive(Clone, Copy)]
struct Place<'a> {
    array: &'a dyn Array,
    index: usize,
}

impl<'a> Place<'a> {
    fn native<T: ArrowPrimitiveType>(self) -> T::Native {
        self.array.as_primitive::<T>().value(self.index)
    }

    fn int<T: ArrowPrimitiveType<Native: Into<i64>>>(self) -> Cell<'a> {
        Cell::Int(self.native::<T>().into())
    }

    fn decimal(self, unscaled: i256, scale: i8) -> Cell<'a> {
        Cell::Decimal(Decimal::new(unscaled, scale))
    }

    /// A whole day is a date; anything else in such a column is a time of that day as well.
    fn date64(self) -> Cell<'a> {
        let ticks = self.native::<Date64Type>();
        match i32::try_from(ticks / MILLISECONDS_A_DAY) {
            Ok(days) if ticks % MILLISECONDS_A_DAY == 0 => Cell::Date(days),
            _ => Cell::Timestamp { ticks, unit: TimeUnit::Millisecond, zone: None },
        }
    }

    fn time(self, unit: TimeUnit) -> i64 {
        match unit {
            TimeUnit::Second => self.native::<Time32SecondType>().into(),
            TimeUnit::Millisecond => self.native::<Time32MillisecondType>().into(),
            TimeUnit::Microsecond => self.native::<Time64MicrosecondType>(),
            TimeUnit::Nanosecond => self.native::<Time64NanosecondType>(),
        }
    }

    fn timestamp(self, unit: TimeUnit) -> i64 {
        match unit {
            TimeUnit::Second => self.native::<TimestampSecondType>(),
            TimeUnit::Millisecond => self.native::<TimestampMillisecondType>(),
            TimeUnit::Microsecond => self.native::<TimestampMicrosecondType>(),
            TimeUnit::Nanosecond => self.native::<TimestampNanosecondType>(),
        }
    }

    fn duration(self, unit: TimeUnit) -> i64 {
        match unit {
            TimeUnit::Second => self.native::<DurationSecondType>(),
            TimeUnit::Millisecond => self.native::<DurationMillisecondType>(),
            TimeUnit::Microsecond => self.native::<DurationMicrosecondType>(),
            TimeUnit::Nanosecond => self.native::<DurationNanosecondType>(),
        }
    }

    fn interval(self, unit: IntervalUnit) -> Cell<'a> {
        let (months, days, nanoseconds) = match unit {
            IntervalUnit::YearMonth => (self.native::<IntervalYearMonthType>(), 0, 0),
            IntervalUnit::DayTime => {
                let value = self.native::<IntervalDayTimeType>();
                (0, value.days, i64::from(value.milliseconds) * 1_000_000)
            }
            IntervalUnit::MonthDayNano => {
                let value = self.native::<IntervalMonthDayNanoType>();
                (value.months, value.days, value.nanoseconds)
            }
        };
        Cell::Interval { months, days, nanoseconds }
    }

    fn list<O: OffsetSizeTrait>(self) -> Cell<'a> {
        let list = self.array.as_list::<O>();
        let offsets = list.value_offsets();
        let range = offsets[self.index].as_usize()..offsets[self.index + 1].as_usize();
        Cell::List(ListCell::new(list.values(), range))
    }

    fn list_view<O: OffsetSizeTrait>(self) -> Cell<'a> {
        let list = self.array.as_list_view::<O>();
        let start = list.value_offset(self.index).as_usize();
        Cell::List(ListCell::new(list.values(), start..start + list.value_size(self.index).as_usize()))
    }

    /// The array and index of the value that a dictionary's key or a run stands for.
    fn behind(self) -> Option<(&'a dyn Array, usize)> {
        use DataType as T;
        match self.array.data_type() {
            T::Dictionary(key, _) => match **key {
                T::Int8 => self.entry::<Int8Type>(),
                T::Int16 => self.entry::<Int16Type>(),
                T::Int32 => self.entry::<Int32Type>(),
                T::Int64 => self.entry::<Int64Type>(),
                T::UInt8 => self.entry::<UInt8Type>(),
                T::UInt16 => self.entry::<UInt16Type>(),
                T::UInt32 => self.entry::<UInt32Type>(),
                T::UInt64 => self.entry::<UInt64Type>(),
                _ => None,
            },
            T::RunEndEncoded(ends, _) => match ends.data_type() {
                T::Int16 => self.run::<Int16Type>(),
                T::Int32 => self.run::<Int32Type>(),
                T::Int64 => self.run::<Int64Type>(),
                _ => None,
            },
            _ => None,
        }
    }

    fn entry<K: ArrowDictionaryKeyType>(self) -> Option<(&'a dyn Array, usize)> {
        let dictionary = self.array.as_dictionary::<K>();
        Some((dictionary.values(), dictionary.key(self.index)?))
    }

    fn run<R: RunEndIndexType>(self) -> Option<(&'a dyn Array, usize)> {
        let runs = self.array.as_run::<R>();
        Some((runs.values(), runs.get_physical_index(self.index)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Decimal128Array, DictionaryArray, Float32Array, Int8Array, Int32Array, RunArray, StringArray,
    };

    use super::*;

    #[test]
    fn encodings_are_read_through() {
        let words: DictionaryArray<Int8Type> = vec![Some("a"), None, Some("b")].into_iter().collect();
        assert_eq!(cell_at(&words, 2), Cell::Text("b"));
        assert_eq!(cell_at(&words, 1), Cell::Null);

        let ends = Int32Array::from(vec![2, 5]);
        let runs = RunArray::try_new(&ends, &StringArray::from(vec!["x", "y"])).unwrap();
        assert_eq!(cell_at(&runs, 1), Cell::Text("x"));
        assert_eq!(cell_at(&runs.slice(1, 3), 1), Cell::Text("y"));

        let nulls =
            DictionaryArray::new(Int8Array::from(vec![0]), Arc::new(StringArray::from(vec![None::<&str>])));
        assert_eq!(cell_at(&nulls, 0), Cell::Null);
    }

    #[test]
    fn past_the_end_there_is_nothing() {
        assert_eq!(cell_at(&Float32Array::from(vec![1.0]), 1), Cell::Null);
    }

    #[test]
    fn a_decimal_keeps_its_scale() {
        let prices = Decimal128Array::from(vec![1999]).with_precision_and_scale(10, 2).unwrap();
        let price = cell_at(&prices, 0);
        assert_eq!(price.as_f64(), Some(19.99));
    }
}
