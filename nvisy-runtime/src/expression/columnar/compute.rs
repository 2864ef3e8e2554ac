//! What is computed of columns: arithmetic and sizes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, UInt64Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::compute::kernels::numeric;
use arrow::datatypes::DataType;

use super::class::Class;
use super::kernel::{at, note, or, plain_text, without_nulls};
use super::{Column, Evaluator};
use crate::expression::ast::Arithmetic;
use crate::expression::eval;

impl Evaluator<'_> {
    pub(super) fn arithmetic<'e>(
        &self,
        op: Arithmetic,
        left: &Column<'_>,
        right: &Column<'_>,
    ) -> Option<Column<'e>> {
        let (Some(left), Some(right)) = (self.operand(left), self.operand(right)) else {
            return Some(Column::Fault);
        };
        let both = |class| left.class == class && right.class == class;
        if left.class == Class::Other || right.class == Class::Other || both(Class::Text) {
            return None;
        }
        if !left.class.is_number() || !right.class.is_number() {
            return Some(Column::Fault);
        }
        let faults = or(or(left.faults.clone(), right.faults.clone()), or(left.nulls(), right.nulls()));
        let double = left.class == Class::Double || right.class == Class::Double;
        if double && op == Arithmetic::Remainder {
            return Some(Column::Fault);
        }
        let wide = match (double, both(Class::UInt)) {
            (true, _) => DataType::Float64,
            (false, true) => DataType::UInt64,
            (false, false) => DataType::Int64,
        };
        let mixed = !double && left.class != right.class;
        if !mixed {
            let (a, b) = (cast(&left.array, &wide).ok()?, cast(&right.array, &wide).ok()?);
            let (a, b) = (left.datum(a), right.datum(b));
            let computed = match op {
                Arithmetic::Add => numeric::add(&*a, &*b),
                Arithmetic::Subtract => numeric::sub(&*a, &*b),
                Arithmetic::Multiply => numeric::mul(&*a, &*b),
                Arithmetic::Divide => numeric::div(&*a, &*b),
                Arithmetic::Remainder => numeric::rem(&*a, &*b),
            };
            if let Ok(computed) = computed
                && computed.len() == self.len
            {
                return Some(Column::Array(without_nulls(&computed)?, faults));
            }
        }
        // A row overflows, divides by zero, or the types are mixed: row by row.
        let mut failed = vec![false; self.len];
        let array: ArrayRef = match wide {
            DataType::Float64 => {
                let (a, b) = (left.doubles()?, right.doubles()?);
                let value = |i| eval::double(op, a[at(i, a.len())], b[at(i, b.len())]);
                Arc::new(Float64Array::from_iter_values((0..self.len).map(value)))
            }
            DataType::UInt64 => {
                let (a, b) = (left.wides()?, right.wides()?);
                let value =
                    |i: usize| eval::uint(op, a[at(i, a.len())] as u64, b[at(i, b.len())] as u64).ok();
                Arc::new(UInt64Array::from_iter_values(note(self.len, value, &mut failed)))
            }
            _ => {
                let (a, b) = (left.wides()?, right.wides()?);
                let value = |i: usize| eval::wide(op, a[at(i, a.len())], b[at(i, b.len())]).ok();
                Arc::new(Int64Array::from_iter_values(note(self.len, value, &mut failed)))
            }
        };
        let failed = failed.contains(&true).then(|| BooleanBuffer::from(failed));
        Some(Column::Array(array, or(faults, failed)))
    }

    pub(super) fn negate<'e>(&self, of: &Column<'_>) -> Option<Column<'e>> {
        let Some(of) = self.operand(of) else { return Some(Column::Fault) };
        let faults = or(of.faults.clone(), of.nulls());
        match of.class {
            Class::Other => None,
            Class::Double => {
                let values = of.doubles()?;
                let value = |i| -values[at(i, values.len())];
                Some(Column::Array(
                    Arc::new(Float64Array::from_iter_values((0..self.len).map(value))),
                    faults,
                ))
            }
            Class::Int => {
                let values = of.wides()?;
                let mut failed = vec![false; self.len];
                let value = |i: usize| i64::try_from(-values[at(i, values.len())]).ok();
                let array = Int64Array::from_iter_values(note(self.len, value, &mut failed));
                let failed = failed.contains(&true).then(|| BooleanBuffer::from(failed));
                Some(Column::Array(Arc::new(array), or(faults, failed)))
            }
            _ => Some(Column::Fault),
        }
    }

    pub(super) fn size<'e>(&self, of: &Column<'_>) -> Option<Column<'e>> {
        let Some(of) = self.operand(of) else { return Some(Column::Fault) };
        let faults = or(of.faults.clone(), of.nulls());
        let array = match of.class {
            Class::Text => of.array.clone(),
            Class::Other => match of.array.data_type() {
                DataType::List(_) => {
                    let offsets = of.array.as_list::<i32>().offsets();
                    let lengths = offsets.windows(2).map(|pair| i64::from(pair[1] - pair[0]));
                    return Some(Column::Array(Arc::new(Int64Array::from_iter_values(lengths)), faults));
                }
                _ => return None,
            },
            _ => return Some(Column::Fault),
        };
        let array = plain_text(array)?;
        let count =
            |text: &str| if text.is_ascii() { text.len() as i64 } else { text.chars().count() as i64 };
        let sizes = match array.data_type() {
            DataType::Utf8 => {
                let array = array.as_string::<i32>();
                Int64Array::from_iter_values((0..array.len()).map(|i| count(array.value(i))))
            }
            DataType::LargeUtf8 => {
                let array = array.as_string::<i64>();
                Int64Array::from_iter_values((0..array.len()).map(|i| count(array.value(i))))
            }
            _ => {
                let array = array.as_string_view();
                Int64Array::from_iter_values((0..array.len()).map(|i| count(array.value(i))))
            }
        };
        if of.scalar {
            let size = sizes.value(0);
            return Some(Column::Array(Arc::new(Int64Array::from_value(size, self.len)), faults));
        }
        Some(Column::Array(Arc::new(sizes), faults))
    }
}
