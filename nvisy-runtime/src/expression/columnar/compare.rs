//! Comparisons of columns.

use std::ops::{BitAnd, BitOr, Not};

use arrow::array::{Array, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::DataType;

use super::class::{Class, value_type};
use super::kernel::{at, equals, kernel, or, text_like, zip};
use super::operand::Operand;
use super::{Column, Evaluator};
use crate::expression::ast::Compare;
use crate::expression::value::order_with_double;

impl Evaluator<'_> {
    pub(super) fn compare<'e>(
        &self,
        op: Compare,
        left: &Column<'_>,
        right: &Column<'_>,
    ) -> Option<Column<'e>> {
        let (Some(left), Some(right)) = (self.operand(left), self.operand(right)) else {
            return Some(Column::Fault);
        };
        if left.scalar && !right.scalar {
            return self.compare_operands(op.flip(), &right, &left);
        }
        self.compare_operands(op, &left, &right)
    }

    /// Compares an array, or two scalars.
    fn compare_operands<'e>(&self, op: Compare, left: &Operand, right: &Operand) -> Option<Column<'e>> {
        let faults = or(left.faults.clone(), right.faults.clone());
        let is_null = |operand: &Operand| operand.class == Class::Null;
        if op.is_equality() && (is_null(left) || is_null(right)) {
            // Whatever the other's type is: a test for null.
            let other = if is_null(right) { left } else { right };
            let null = match is_null(other) {
                true => self.all(true),
                false if other.scalar => self.all(false),
                false => self.valid(&other.array).not(),
            };
            let bits = if op == Compare::Equal { null } else { null.not() };
            return Some(Column::Bits(bits, faults));
        }
        if left.class == Class::Other || right.class == Class::Other {
            return None;
        }
        let comparable = left.class == right.class || (left.class.is_number() && right.class.is_number());
        if !comparable || is_null(left) {
            if !op.is_equality() {
                return Some(Column::Fault);
            }
            // Values of two types are never equal, but null is null.
            let both = match (left.nulls(), right.nulls()) {
                (Some(left), Some(right)) => left.bitand(&right),
                _ => self.all(false),
            };
            return Some(Column::Bits(if op == Compare::Equal { both } else { both.not() }, faults));
        }
        let kernel = if op == Compare::NotEqual { Compare::Equal } else { op };
        let bits = self.compare_values(kernel, left, right)?;
        let bits = if bits.len() == self.len { bits } else { self.all(bits.is_empty() || bits.value(0)) };
        let (left_nulls, right_nulls) = (left.nulls(), right.nulls());
        if !op.is_equality() {
            return Some(Column::Bits(bits, or(faults, or(left_nulls, right_nulls))));
        }
        let equal = match (left_nulls, right_nulls) {
            (None, None) => bits,
            (Some(null), None) | (None, Some(null)) => bits.bitand(&null.not()),
            (Some(left), Some(right)) => bits.bitand(&left.bitor(&right).not()).bitor(&left.bitand(&right)),
        };
        Some(Column::Bits(if op == Compare::Equal { equal } else { equal.not() }, faults))
    }

    /// Compares values of classes that compare. What stands in the place of nulls is undefined.
    fn compare_values(&self, op: Compare, left: &Operand, right: &Operand) -> Option<BooleanBuffer> {
        match (left.class, right.class) {
            (Class::Text, Class::Text) => {
                let right_array = if right.scalar {
                    text_like(value_type(left.array.data_type()), right.array.as_string::<i32>().value(0))
                } else {
                    right.array.clone()
                };
                let (left_type, right_type) =
                    (value_type(left.array.data_type()), value_type(right_array.data_type()));
                if let (Compare::Equal, DataType::Utf8, DataType::Utf8, true, false) =
                    (op, left.array.data_type(), &right_type, right.scalar, left.scalar)
                {
                    let literal = right_array.as_string::<i32>().value(0);
                    return Some(equals(left.array.as_string(), literal.as_bytes()));
                }
                if left_type == right_type {
                    return kernel(op, &*left.datum(left.array.clone()), &*right.datum(right_array));
                }
                let wide = DataType::Utf8View;
                let (left_array, right_array) =
                    (cast(&left.array, &wide).ok()?, cast(&right_array, &wide).ok()?);
                kernel(op, &*left.datum(left_array), &*right.datum(right_array))
            }
            (Class::Bool, Class::Bool) => {
                kernel(op, &*left.datum(left.array.clone()), &*right.datum(right.array.clone()))
            }
            (Class::Int | Class::UInt, Class::Int | Class::UInt) => {
                if left.array.data_type() == right.array.data_type() {
                    return kernel(op, &*left.datum(left.array.clone()), &*right.datum(right.array.clone()));
                }
                // A literal in the column's own type costs no cast of the column.
                if right.scalar
                    && let Ok(narrow) = cast(&right.array, left.array.data_type())
                    && narrow.is_valid(0)
                {
                    return kernel(op, &*left.datum(left.array.clone()), &*right.datum(narrow));
                }
                if left.class != right.class {
                    let (left, right) = (left.wides()?, right.wides()?);
                    let order = |i: usize| left[at(i, left.len())].cmp(&right[at(i, right.len())]);
                    return Some(BooleanBuffer::collect_bool(self.len, |i| op.holds(Some(order(i)))));
                }
                let wide = if left.class == Class::Int { DataType::Int64 } else { DataType::UInt64 };
                let (left_array, right_array) =
                    (cast(&left.array, &wide).ok()?, cast(&right.array, &wide).ok()?);
                kernel(op, &*left.datum(left_array), &*right.datum(right_array))
            }
            // Arrow's kernels order numbers that are none; CEL does not.
            (Class::Double, _) if right.is_exact_double() => {
                let (left, right) = (left.doubles()?, right.doubles()?);
                Some(match op {
                    Compare::Equal => zip(self.len, &left, &right, |a, b| a == b),
                    Compare::NotEqual => zip(self.len, &left, &right, |a, b| a != b),
                    Compare::Less => zip(self.len, &left, &right, |a, b| a < b),
                    Compare::LessEqual => zip(self.len, &left, &right, |a, b| a <= b),
                    Compare::Greater => zip(self.len, &left, &right, |a, b| a > b),
                    Compare::GreaterEqual => zip(self.len, &left, &right, |a, b| a >= b),
                })
            }
            (_, Class::Double) => {
                let (left, right) = (left.wides()?, right.doubles()?);
                let (left, right) = (|i| left[at(i, left.len())], |i| right[at(i, right.len())]);
                Some(BooleanBuffer::collect_bool(self.len, |i| {
                    op.holds(order_with_double(left(i), right(i)))
                }))
            }
            (Class::Double, _) => {
                let (left, right) = (left.doubles()?, right.wides()?);
                let (left, right) = (|i| left[at(i, left.len())], |i| right[at(i, right.len())]);
                let order = |i| order_with_double(right(i), left(i)).map(std::cmp::Ordering::reverse);
                Some(BooleanBuffer::collect_bool(self.len, |i| op.holds(order(i))))
            }
            _ => None,
        }
    }
}
