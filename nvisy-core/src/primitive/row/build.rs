//! Arrays from values apart: the way back into Arrow.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, BinaryArray, BinaryViewArray, BooleanArray, DictionaryArray,
    FixedSizeBinaryArray, FixedSizeListArray, GenericListArray, GenericListViewArray, LargeBinaryArray,
    LargeStringArray, MapArray, NullArray, OffsetSizeTrait, PrimitiveArray, RunArray, StringArray,
    StringViewArray, StructArray, UnionArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowDictionaryKeyType, ArrowNativeType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type,
    Decimal128Type, Decimal256Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, FieldRef, Fields, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalDayTime, IntervalDayTimeType, IntervalMonthDayNano,
    IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType, RunEndIndexType, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type, UnionFields, UnionMode, i256,
};
use arrow::error::ArrowError;

use super::super::cell::Decimal;
use super::scalar::Scalar;

type F16 = <Float16Type as ArrowPrimitiveType>::Native;
type Built = Result<ArrayRef, String>;

/// No null of a fixed-size list costs more items than this, of all lists around it together.
const MAX_PADDING: usize = 1 << 22;

/// No nulls of fixed-size bytes cost more than this together.
const MAX_NULL_BYTES: usize = 1 << 26;

/// Builds an array of a type from its values.
pub(super) fn build(data_type: &DataType, values: Vec<Scalar<'_>>) -> Built {
    use DataType as T;
    match data_type {
        T::Null => {
            each(&values, |_| None::<()>)?;
            Ok(Arc::new(NullArray::new(values.len())))
        }
        T::Boolean => {
            let array = each(&values, |v| if let Scalar::Bool(v) = v { Some(*v) } else { None })?;
            Ok(Arc::new(BooleanArray::from(array)))
        }
        T::Int8 => integers::<Int8Type>(data_type, &values),
        T::Int16 => integers::<Int16Type>(data_type, &values),
        T::Int32 => integers::<Int32Type>(data_type, &values),
        T::Int64 => integers::<Int64Type>(data_type, &values),
        T::UInt8 => integers::<UInt8Type>(data_type, &values),
        T::UInt16 => integers::<UInt16Type>(data_type, &values),
        T::UInt32 => integers::<UInt32Type>(data_type, &values),
        T::UInt64 => integers::<UInt64Type>(data_type, &values),
        T::Float16 => primitives::<Float16Type>(data_type, &values, |v| float(v).map(F16::from_f64)),
        T::Float32 => primitives::<Float32Type>(data_type, &values, |v| float(v).map(|v| v as f32)),
        T::Float64 => primitives::<Float64Type>(data_type, &values, float),
        T::Decimal32(_, scale) => primitives::<Decimal32Type>(data_type, &values, |v| {
            decimal(v, *scale)?.to_i128()?.try_into().ok()
        }),
        T::Decimal64(_, scale) => primitives::<Decimal64Type>(data_type, &values, |v| {
            decimal(v, *scale)?.to_i128()?.try_into().ok()
        }),
        T::Decimal128(_, scale) => {
            primitives::<Decimal128Type>(data_type, &values, |v| decimal(v, *scale)?.to_i128())
        }
        T::Decimal256(_, scale) => primitives::<Decimal256Type>(data_type, &values, |v| decimal(v, *scale)),
        T::Utf8 => Ok(Arc::new(StringArray::from(each(&values, text)?))),
        T::LargeUtf8 => Ok(Arc::new(LargeStringArray::from(each(&values, text)?))),
        T::Utf8View => Ok(Arc::new(StringViewArray::from(each(&values, text)?))),
        T::Binary => Ok(Arc::new(BinaryArray::from(each(&values, bytes)?))),
        T::LargeBinary => Ok(Arc::new(LargeBinaryArray::from(each(&values, bytes)?))),
        T::BinaryView => Ok(Arc::new(BinaryViewArray::from(each(&values, bytes)?))),
        T::FixedSizeBinary(size) => {
            let nulls = values.iter().filter(|value| matches!(value, Scalar::Null)).count();
            if nulls.saturating_mul(usize::try_from(*size).unwrap_or(usize::MAX)) > MAX_NULL_BYTES {
                return Err("the nulls of fixed size are too many".into());
            }
            let sized = |v| bytes(v).filter(|bytes| usize::try_from(*size) == Ok(bytes.len()));
            let values = each(&values, sized)?.into_iter();
            done(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, *size))
        }
        T::Date32 => integers::<Date32Type>(data_type, &values),
        T::Date64 => integers::<Date64Type>(data_type, &values),
        T::Time32(TimeUnit::Second) => integers::<Time32SecondType>(data_type, &values),
        T::Time32(_) => integers::<Time32MillisecondType>(data_type, &values),
        T::Time64(TimeUnit::Microsecond) => integers::<Time64MicrosecondType>(data_type, &values),
        T::Time64(_) => integers::<Time64NanosecondType>(data_type, &values),
        T::Timestamp(unit, _) => match unit {
            TimeUnit::Second => integers::<TimestampSecondType>(data_type, &values),
            TimeUnit::Millisecond => integers::<TimestampMillisecondType>(data_type, &values),
            TimeUnit::Microsecond => integers::<TimestampMicrosecondType>(data_type, &values),
            TimeUnit::Nanosecond => integers::<TimestampNanosecondType>(data_type, &values),
        },
        T::Duration(unit) => match unit {
            TimeUnit::Second => integers::<DurationSecondType>(data_type, &values),
            TimeUnit::Millisecond => integers::<DurationMillisecondType>(data_type, &values),
            TimeUnit::Microsecond => integers::<DurationMicrosecondType>(data_type, &values),
            TimeUnit::Nanosecond => integers::<DurationNanosecondType>(data_type, &values),
        },
        T::Interval(unit) => intervals(data_type, *unit, &values),
        T::List(item) => list::<i32>(item, values),
        T::LargeList(item) => list::<i64>(item, values),
        T::ListView(item) => list_view::<i32>(item, values),
        T::LargeListView(item) => list_view::<i64>(item, values),
        T::FixedSizeList(item, size) => fixed_size_list(item, *size, values),
        T::Struct(fields) => Ok(Arc::new(structs(fields, values)?)),
        T::Map(entries, sorted) => map(entries, *sorted, values),
        T::Union(fields, mode) => union(fields, *mode, values),
        T::Dictionary(key, value) => dictionary(key, build(value, values)?),
        T::RunEndEncoded(ends, field) => runs(ends.data_type(), &build(field.data_type(), values)?),
    }
}

fn done<A: Array + 'static>(built: Result<A, ArrowError>) -> Built {
    built.map(|array| Arc::new(array) as ArrayRef).map_err(|error| error.to_string())
}

/// Takes each value that is there: what `take` has nothing for is of another type.
fn each<'v, 's, T>(
    values: &'v [Scalar<'s>],
    take: impl Fn(&'v Scalar<'s>) -> Option<T>,
) -> Result<Vec<Option<T>>, String> {
    let taken = values.iter().map(|value| match value {
        Scalar::Null => Ok(None),
        value => take(value).map(Some).ok_or_else(|| mismatch(value)),
    });
    taken.collect()
}

fn mismatch(value: &Scalar<'_>) -> String {
    format!("{} is no value of the column's type", super::json::kind_of(&value.to_json()))
}

fn primitives<'v, T: ArrowPrimitiveType>(
    data_type: &DataType,
    values: &'v [Scalar<'_>],
    take: impl Fn(&'v Scalar<'_>) -> Option<T::Native>,
) -> Built {
    let array: PrimitiveArray<T> = each(values, take)?.into_iter().collect();
    Ok(Arc::new(array.with_data_type(data_type.clone())))
}

fn integers<T>(data_type: &DataType, values: &[Scalar<'_>]) -> Built
where
    T: ArrowPrimitiveType<Native: TryFrom<i64> + TryFrom<u64>>,
{
    primitives::<T>(data_type, values, |value| match value {
        Scalar::Int(value) => (*value).try_into().ok(),
        Scalar::UInt(value) => (*value).try_into().ok(),
        _ => None,
    })
}

fn float(value: &Scalar<'_>) -> Option<f64> {
    match value {
        Scalar::Float(value) => Some(*value),
        _ => None,
    }
}

fn decimal(value: &Scalar<'_>, scale: i8) -> Option<i256> {
    match value {
        Scalar::Decimal(text) => Decimal::parse(text, scale).map(|value| value.unscaled()),
        _ => None,
    }
}

fn text<'v>(value: &'v Scalar<'_>) -> Option<&'v str> {
    match value {
        Scalar::Text(value) => Some(value),
        _ => None,
    }
}

fn bytes<'v>(value: &'v Scalar<'_>) -> Option<&'v [u8]> {
    match value {
        Scalar::Bytes(value) => Some(value),
        _ => None,
    }
}

fn intervals(data_type: &DataType, unit: IntervalUnit, values: &[Scalar<'_>]) -> Built {
    let parts = |value: &Scalar<'_>| match value {
        Scalar::List(parts) => match parts.as_slice() {
            [Scalar::Int(months), Scalar::Int(days), Scalar::Int(nanoseconds)] => {
                Some((i32::try_from(*months).ok()?, i32::try_from(*days).ok()?, *nanoseconds))
            }
            _ => None,
        },
        _ => None,
    };
    match unit {
        IntervalUnit::YearMonth => primitives::<IntervalYearMonthType>(data_type, values, |value| {
            parts(value)
                .filter(|(_, days, nanoseconds)| (*days, *nanoseconds) == (0, 0))
                .map(|(months, ..)| months)
        }),
        IntervalUnit::DayTime => primitives::<IntervalDayTimeType>(data_type, values, |value| {
            let (months, days, nanoseconds) = parts(value)?;
            let whole = months == 0 && nanoseconds % 1_000_000 == 0;
            let milliseconds = i32::try_from(nanoseconds / 1_000_000).ok()?;
            whole.then(|| IntervalDayTime::new(days, milliseconds))
        }),
        IntervalUnit::MonthDayNano => primitives::<IntervalMonthDayNanoType>(data_type, values, |value| {
            let (months, days, nanoseconds) = parts(value)?;
            Some(IntervalMonthDayNano::new(months, days, nanoseconds))
        }),
    }
}

type Lists<'a> = (Vec<Scalar<'a>>, Vec<usize>, Option<NullBuffer>);

/// The lists' items one after the other, how many each has, and which are null.
fn flatten(values: Vec<Scalar<'_>>) -> Result<Lists<'_>, String> {
    let (mut items, mut lengths, mut valid) = (Vec::new(), Vec::new(), Vec::new());
    for value in values {
        valid.push(!matches!(value, Scalar::Null));
        match value {
            Scalar::Null => lengths.push(0),
            Scalar::List(list) => {
                lengths.push(list.len());
                items.extend(list);
            }
            other => return Err(mismatch(&other)),
        }
    }
    Ok((items, lengths, nulls(valid)))
}

fn nulls(valid: Vec<bool>) -> Option<NullBuffer> {
    (!valid.iter().all(|valid| *valid)).then(|| NullBuffer::from(valid))
}

fn list<O: OffsetSizeTrait>(item: &FieldRef, values: Vec<Scalar<'_>>) -> Built {
    let (items, lengths, nulls) = flatten(values)?;
    let items = build(item.data_type(), items)?;
    done(GenericListArray::<O>::try_new(item.clone(), OffsetBuffer::from_lengths(lengths), items, nulls))
}

fn list_view<O: OffsetSizeTrait>(item: &FieldRef, values: Vec<Scalar<'_>>) -> Built {
    let (items, lengths, nulls) = flatten(values)?;
    let items = build(item.data_type(), items)?;
    let mut end = 0;
    let offsets = lengths.iter().map(|len| {
        end += len;
        O::usize_as(end - len)
    });
    let offsets: Vec<O> = offsets.collect();
    let sizes: Vec<O> = lengths.iter().map(|len| O::usize_as(*len)).collect();
    done(GenericListViewArray::<O>::try_new(item.clone(), offsets.into(), sizes.into(), items, nulls))
}

fn fixed_size_list(item: &FieldRef, size: i32, values: Vec<Scalar<'_>>) -> Built {
    let len = values.len();
    let width = usize::try_from(size).map_err(|_| "a list of negative size".to_owned())?;
    let (mut items, mut valid, mut padding) = (Vec::new(), Vec::with_capacity(len), 0);
    for value in values {
        valid.push(!matches!(value, Scalar::Null));
        match value {
            Scalar::Null => {
                padding += width;
                if padding > MAX_PADDING {
                    return Err("the fixed-size lists are too long".into());
                }
                items.extend(std::iter::repeat_n(Scalar::Null, width));
            }
            Scalar::List(list) if list.len() == width => items.extend(list),
            other => return Err(mismatch(&other)),
        }
    }
    let items = build(item.data_type(), items)?;
    done(FixedSizeListArray::try_new_with_length(item.clone(), size, items, nulls(valid), len))
}

fn structs(fields: &Fields, values: Vec<Scalar<'_>>) -> Result<StructArray, String> {
    let len = values.len();
    let mut columns: Vec<_> = fields.iter().map(|_| Vec::with_capacity(len)).collect();
    let mut valid = Vec::with_capacity(len);
    for value in values {
        valid.push(!matches!(value, Scalar::Null));
        match value {
            Scalar::Null => columns.iter_mut().for_each(|column| column.push(Scalar::Null)),
            Scalar::List(parts) if parts.len() == fields.len() => {
                columns.iter_mut().zip(parts).for_each(|(column, part)| column.push(part));
            }
            other => return Err(mismatch(&other)),
        }
    }
    let columns = fields.iter().zip(columns).map(|(field, values)| build(field.data_type(), values));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    StructArray::try_new_with_length(fields.clone(), columns, nulls(valid), len)
        .map_err(|error| error.to_string())
}

fn map(entries: &FieldRef, sorted: bool, values: Vec<Scalar<'_>>) -> Built {
    let DataType::Struct(fields) = entries.data_type() else {
        return Err("the entries of a map are keys and values".into());
    };
    let (pairs, lengths, nulls) = flatten(values)?;
    let pairs = structs(fields, pairs)?;
    done(MapArray::try_new(entries.clone(), OffsetBuffer::from_lengths(lengths), pairs, nulls, sorted))
}

fn union(fields: &UnionFields, mode: UnionMode, values: Vec<Scalar<'_>>) -> Built {
    let mut children: Vec<(i8, Vec<Scalar<'_>>)> = fields.iter().map(|(id, _)| (id, Vec::new())).collect();
    let (mut ids, mut offsets) = (Vec::new(), Vec::new());
    for value in values {
        // A null of the union itself: of a struct or list around it that is null.
        let (id, value) = match value {
            Scalar::Union(id, value) => (id, *value),
            Scalar::Null => (children.first().map_or(0, |(id, _)| *id), Scalar::Null),
            other => return Err(mismatch(&other)),
        };
        let mut value = Some(value);
        for (child, values) in &mut children {
            if *child == id {
                offsets.push(i32::try_from(values.len()).map_err(|error| error.to_string())?);
                values.extend(value.take());
            } else if mode == UnionMode::Sparse {
                values.push(Scalar::Null);
            }
        }
        if value.is_some() {
            return Err(format!("the union has no type {id}"));
        }
        ids.push(id);
    }
    let children =
        fields.iter().zip(children).map(|((_, field), (_, values))| build(field.data_type(), values));
    let children = children.collect::<Result<Vec<_>, _>>()?;
    let offsets = (mode == UnionMode::Dense).then(|| ScalarBuffer::from(offsets));
    done(UnionArray::try_new(fields.clone(), ids.into(), offsets, children))
}

fn dictionary(key: &DataType, values: ArrayRef) -> Built {
    fn make<K: ArrowDictionaryKeyType>(values: ArrayRef) -> Built {
        let key = |at| match values.is_null(at) {
            true => Ok(None),
            false => K::Native::from_usize(at).map(Some).ok_or("more values than the dictionary has keys"),
        };
        let keys = (0..values.len()).map(key).collect::<Result<PrimitiveArray<K>, _>>()?;
        done(DictionaryArray::try_new(keys, values))
    }
    match key {
        DataType::Int8 => make::<Int8Type>(values),
        DataType::Int16 => make::<Int16Type>(values),
        DataType::Int32 => make::<Int32Type>(values),
        DataType::Int64 => make::<Int64Type>(values),
        DataType::UInt8 => make::<UInt8Type>(values),
        DataType::UInt16 => make::<UInt16Type>(values),
        DataType::UInt32 => make::<UInt32Type>(values),
        DataType::UInt64 => make::<UInt64Type>(values),
        _ => Err("the keys of a dictionary are integers".into()),
    }
}

fn runs(ends: &DataType, values: &ArrayRef) -> Built {
    fn make<R: RunEndIndexType>(values: &ArrayRef) -> Built {
        let end = |at| R::Native::from_usize(at).ok_or("more values than runs can have");
        let ends = (1..=values.len()).map(end).collect::<Result<Vec<_>, _>>()?;
        done(RunArray::try_new(&PrimitiveArray::<R>::from_iter_values(ends), values))
    }
    match ends {
        DataType::Int16 => make::<Int16Type>(values),
        DataType::Int32 => make::<Int32Type>(values),
        DataType::Int64 => make::<Int64Type>(values),
        _ => Err("the ends of runs are integers of 16, 32 or 64 bits".into()),
    }
}
