//! One value of a column: borrowed, typed, whatever array it is kept in.

use std::fmt;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, StructArray};
use arrow::datatypes::{
    ArrowDictionaryKeyType, ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type,
    Decimal128Type, Decimal256Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalDayTimeType, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, RunEndIndexType,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type, i256,
};
pub use arrow::datatypes::TimeUnit;
use chrono::{DateTime, NaiveDate};

use crate::metadata::Timestamp;

const MILLISECONDS_A_DAY: i64 = 86_400_000;

/// One value of a column, borrowed from its array.
///
/// Many Arrow types read alike: every width of integer, text, list; a dictionary, a run-end
/// encoded array and a union read as the value that they stand for.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Cell<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A signed integer of any width.
    Int(i64),
    /// An unsigned integer of any width.
    UInt(u64),
    /// A floating-point number of 16 or 32 bits.
    Float32(f32),
    /// A floating-point number of 64 bits.
    Float(f64),
    /// A decimal number of any width.
    Decimal(Decimal),
    /// A text.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A day, counted from 1970-01-01.
    Date(i32),
    /// A time of day.
    Time {
        /// How much of the unit has passed since midnight.
        ticks: i64,
        /// The unit.
        unit: TimeUnit,
    },
    /// A moment in time where there is a zone, a wall clock's reading where there is none.
    Timestamp {
        /// How much of the unit has passed since 1970.
        ticks: i64,
        /// The unit.
        unit: TimeUnit,
        /// The time zone: the ticks count in UTC, and are shown in it.
        zone: Option<&'a str>,
    },
    /// A length of time.
    Duration {
        /// How much of the unit it lasts.
        ticks: i64,
        /// The unit.
        unit: TimeUnit,
    },
    /// A length of time as calendars count it.
    Interval {
        /// Months.
        months: i32,
        /// Days.
        days: i32,
        /// Nanoseconds.
        nanoseconds: i64,
    },
    /// Values of one type.
    List(ListCell<'a>),
    /// Keys and values.
    Map(MapCell<'a>),
    /// Named values.
    Struct(StructCell<'a>),
}

impl<'a> Cell<'a> {
    /// Returns whether there is nothing.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Returns the truth value.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the integer, if it fits.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            Self::UInt(value) => i64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// Returns the integer, if it fits.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(value) => u64::try_from(*value).ok(),
            Self::UInt(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the number, be it an integer, a decimal or a floating-point number, as the
    /// nearest one of 64 bits.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::UInt(value) => Some(*value as f64),
            Self::Float32(value) => Some(f64::from(*value)),
            Self::Float(value) => Some(*value),
            Self::Decimal(value) => value.to_string().parse().ok(),
            _ => None,
        }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the bytes; of a text, those of its UTF-8 form.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(value) => Some(value),
            Self::Text(value) => Some(value.as_bytes()),
            _ => None,
        }
    }

    /// Returns the day, if calendars reach it.
    #[must_use]
    pub fn as_date(&self) -> Option<NaiveDate> {
        match self {
            Self::Date(days) => NaiveDate::from_epoch_days(*days),
            _ => None,
        }
    }

    /// Returns the moment, if calendars reach it. A timestamp without a zone is taken for UTC.
    #[must_use]
    pub fn as_timestamp(&self) -> Option<Timestamp> {
        match self {
            Self::Timestamp { ticks, unit, .. } => match unit {
                TimeUnit::Second => DateTime::from_timestamp(*ticks, 0),
                TimeUnit::Millisecond => DateTime::from_timestamp_millis(*ticks),
                TimeUnit::Microsecond => DateTime::from_timestamp_micros(*ticks),
                TimeUnit::Nanosecond => Some(DateTime::from_timestamp_nanos(*ticks)),
            },
            _ => None,
        }
    }
}

/// A decimal number: an integer and how many of its digits stand behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    unscaled: i256,
    scale: i8,
}

impl Decimal {
    /// Returns the integer without the point.
    #[must_use]
    pub fn unscaled(&self) -> i256 {
        self.unscaled
    }

    /// Returns how many digits stand behind the point: less than none are zeros before it.
    #[must_use]
    pub fn scale(&self) -> i8 {
        self.scale
    }

    /// Reads a decimal number of the scale, exactly.
    pub(crate) fn parse(text: &str, scale: i8) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole.strip_prefix('-').unwrap_or(whole)) || !digits(fraction) || text.len() > 256 {
            return None;
        }
        let mut number = format!("{whole}{fraction}");
        let missing = i64::from(scale) - i64::try_from(fraction.len()).ok()?;
        if missing >= 0 {
            number.extend(std::iter::repeat_n('0', usize::try_from(missing).ok()?));
        } else {
            let kept = number.len().checked_sub(usize::try_from(-missing).ok()?)?;
            if !number.is_char_boundary(kept) || number[kept..].bytes().any(|b| b != b'0') {
                return None;
            }
            number.truncate(kept);
            if matches!(number.as_str(), "" | "-") {
                number.push('0');
            }
        }
        Some(Self { unscaled: i256::from_string(&number)?, scale })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.unscaled.to_string();
        let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
        let scale = usize::from(self.scale.unsigned_abs());
        if self.scale <= 0 {
            let zeros = if digits == "0" { 0 } else { scale };
            write!(f, "{sign}{digits}{:0<zeros$}", "")
        } else {
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            write!(f, "{sign}{whole}.{fraction}")
        }
    }
}

/// The values of a list.
#[derive(Clone, Copy)]
pub struct ListCell<'a> {
    values: &'a dyn Array,
    start: usize,
    len: usize,
}

impl<'a> ListCell<'a> {
    fn new(values: &'a dyn Array, range: Range<usize>) -> Self {
        Self { values, start: range.start, len: range.len() }
    }

    /// Returns how many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the value at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Cell<'a>> {
        (index < self.len).then(|| cell_at(self.values, self.start + index))
    }

    /// Iterates over the values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Cell<'a>> + use<'a> {
        let Self { values, start, len } = *self;
        (start..start + len).map(move |at| cell_at(values, at))
    }

    /// Returns the values as an array of their own, without a copy.
    #[must_use]
    pub fn to_array(&self) -> ArrayRef {
        self.values.slice(self.start, self.len)
    }

    pub(crate) fn parts(&self) -> (&'a dyn Array, Range<usize>) {
        (self.values, self.start..self.start + self.len)
    }
}

/// The keys and values of a map, in the order they are kept in.
#[derive(Clone, Copy, PartialEq)]
pub struct MapCell<'a> {
    keys: ListCell<'a>,
    values: ListCell<'a>,
}

impl<'a> MapCell<'a> {
    /// Returns the keys.
    #[must_use]
    pub fn keys(&self) -> ListCell<'a> {
        self.keys
    }

    /// Returns the values.
    #[must_use]
    pub fn values(&self) -> ListCell<'a> {
        self.values
    }

    /// Iterates over the keys with their values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Cell<'a>, Cell<'a>)> + use<'a> {
        self.keys.iter().zip(self.values.iter())
    }
}

/// The named values of a struct.
#[derive(Clone, Copy)]
pub struct StructCell<'a> {
    array: &'a StructArray,
    index: usize,
}

impl<'a> StructCell<'a> {
    /// Returns the value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cell<'a>> {
        Some(cell_at(self.array.column_by_name(name)?, self.index))
    }

    /// Iterates over the names with their values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a str, Cell<'a>)> + use<'a> {
        let Self { array, index } = *self;
        array.fields().iter().zip(array.columns()).map(move |(f, c)| (f.name().as_str(), cell_at(c, index)))
    }

    pub(crate) fn parts(&self) -> (&'a StructArray, usize) {
        (self.array, self.index)
    }
}

impl PartialEq for ListCell<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl PartialEq for StructCell<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for ListCell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for MapCell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Debug for StructCell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

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
        T::Struct(_) => Cell::Struct(StructCell { array: array.as_struct(), index }),
        T::Map(_, _) => {
            let map = array.as_map();
            let range = map.value_offsets()[index] as usize..map.value_offsets()[index + 1] as usize;
            let keys = ListCell::new(map.keys(), range.clone());
            Cell::Map(MapCell { keys, values: ListCell::new(map.values(), range) })
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
        Cell::Decimal(Decimal { unscaled, scale })
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
    fn decimals_read_as_they_are_written() {
        for (unscaled, scale, text) in
            [(1250, 2, "12.50"), (-5, 3, "-0.005"), (0, 2, "0.00"), (12, -2, "1200"), (7, 0, "7"), (0, -2, "0")]
        {
            let decimal = Decimal { unscaled: i256::from_i128(unscaled), scale };
            assert_eq!(decimal.to_string(), text);
            assert_eq!(Decimal::parse(text, scale), Some(decimal));
        }
        assert_eq!(Decimal::parse("1.5", 3).unwrap().to_string(), "1.500");
        for wrong in ["", "-", "1.005", "1e5", "x", "1..2", "--1"] {
            assert_eq!(Decimal::parse(wrong, 2), None, "{wrong}");
        }
    }

    #[test]
    fn encodings_are_read_through() {
        let words: DictionaryArray<Int8Type> = vec![Some("a"), None, Some("b")].into_iter().collect();
        assert_eq!(cell_at(&words, 2), Cell::Text("b"));
        assert_eq!(cell_at(&words, 1), Cell::Null);

        let ends = Int32Array::from(vec![2, 5]);
        let runs = RunArray::try_new(&ends, &StringArray::from(vec!["x", "y"])).unwrap();
        assert_eq!(cell_at(&runs, 1), Cell::Text("x"));
        assert_eq!(cell_at(&runs.slice(1, 3), 1), Cell::Text("y"));

        let nulls = DictionaryArray::new(Int8Array::from(vec![0]), Arc::new(StringArray::from(vec![None::<&str>])));
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
