//! What runs over whole columns, beside the kernels of Arrow.

use std::ops::{BitOr, Not};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Datum, LargeStringArray, PrimitiveArray, StringArray,
    StringViewArray,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::compute::kernels::cmp;
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;

use crate::expression::ast::Compare;

/// The index of a row in an operand, which may be a scalar.
#[inline]
pub(super) fn at(index: usize, len: usize) -> usize {
    if len == 1 { 0 } else { index }
}

pub(super) fn zip(len: usize, left: &[f64], right: &[f64], test: impl Fn(f64, f64) -> bool) -> BooleanBuffer {
    if let [right] = *right {
        if left.len() == len {
            return BooleanBuffer::collect_bool(len, |i| test(left[i], right));
        }
        return BooleanBuffer::collect_bool(len, |i| test(left[at(i, left.len())], right));
    }
    BooleanBuffer::collect_bool(len, |i| test(left[at(i, left.len())], right[i]))
}

/// Computes values row by row, and notes which rows have none.
pub(super) fn note<T: Default>(
    len: usize,
    value: impl Fn(usize) -> Option<T>,
    failed: &mut [bool],
) -> impl Iterator<Item = T> {
    (0..len).map(move |i| {
        value(i).unwrap_or_else(|| {
            failed[i] = true;
            T::default()
        })
    })
}

/// Compares texts with one text: most differ in length or in the first byte.
pub(super) fn equals(texts: &StringArray, text: &[u8]) -> BooleanBuffer {
    let (ends, bytes) = (texts.value_offsets(), texts.value_data());
    let Some((first, rest)) = text.split_first() else {
        return BooleanBuffer::collect_bool(texts.len(), |i| ends[i] == ends[i + 1]);
    };
    let len = text.len() as i32;
    if ends.windows(2).fold(true, |even, pair| even & (pair[1] - pair[0] == len)) {
        // Codes: all texts are as long, and stand side by side.
        let codes = &bytes[ends[0] as usize..ends[texts.len()] as usize];
        return match text {
            [code] => BooleanBuffer::collect_bool(codes.len(), |i| codes[i] == *code),
            _ => codes.chunks_exact(text.len()).map(|code| code == text).collect(),
        };
    }
    BooleanBuffer::collect_bool(texts.len(), |i| {
        let (start, end) = (ends[i] as usize, ends[i + 1] as usize);
        end - start == text.len()
            && bytes[start] == *first
            && (rest.is_empty() || &bytes[start + 1..end] == rest)
    })
}

pub(super) fn kernel(op: Compare, left: &dyn Datum, right: &dyn Datum) -> Option<BooleanBuffer> {
    let run = |kernel: fn(&dyn Datum, &dyn Datum) -> Result<BooleanArray, ArrowError>| kernel(left, right);
    let compared = match op {
        Compare::Equal => run(cmp::eq),
        Compare::NotEqual => run(cmp::neq),
        Compare::Less => run(cmp::lt),
        Compare::LessEqual => run(cmp::lt_eq),
        Compare::Greater => run(cmp::gt),
        Compare::GreaterEqual => run(cmp::gt_eq),
    };
    Some(compared.ok()?.values().clone())
}

pub(super) fn or(left: Option<BooleanBuffer>, right: Option<BooleanBuffer>) -> Option<BooleanBuffer> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.bitor(&right)),
        (left, right) => left.or(right),
    }
}

pub(super) fn nulls(array: &dyn Array) -> Option<BooleanBuffer> {
    let nulls = array.logical_nulls()?;
    (nulls.null_count() > 0).then(|| nulls.inner().not())
}

pub(super) fn without_nulls(array: &ArrayRef) -> Option<ArrayRef> {
    Some(match array.data_type() {
        DataType::Int64 => Arc::new(PrimitiveArray::<Int64Type>::new(
            array.as_primitive_opt::<Int64Type>()?.values().clone(),
            None,
        )),
        DataType::UInt64 => Arc::new(PrimitiveArray::<UInt64Type>::new(
            array.as_primitive_opt::<UInt64Type>()?.values().clone(),
            None,
        )),
        DataType::Float64 => Arc::new(PrimitiveArray::<Float64Type>::new(
            array.as_primitive_opt::<Float64Type>()?.values().clone(),
            None,
        )),
        _ => return None,
    })
}

pub(super) fn plain_text(array: ArrayRef) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::Dictionary(_, values) => {
            let values = values.clone();
            cast(&array, &values).ok()
        }
        _ => Some(array),
    }
}

pub(super) fn text_like(data_type: &DataType, text: &str) -> ArrayRef {
    match data_type {
        DataType::LargeUtf8 => Arc::new(LargeStringArray::from(vec![text])),
        DataType::Utf8View => Arc::new(StringViewArray::from(vec![text])),
        _ => Arc::new(StringArray::from(vec![text])),
    }
}
