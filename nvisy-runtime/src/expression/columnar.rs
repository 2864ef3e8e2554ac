//! Evaluates an expression on all rows of a record batch at once, as Arrow kernels.
//!
//! It says for each row the value, or that there is none because of a fault; what the fault
//! is, the evaluation of that one row tells. Where a column is of a type that this does not
//! know, there is no answer, and the rows are evaluated one by one.

use std::ops::{BitAnd, BitOr, Not};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Datum, Float64Array, Int64Array, LargeStringArray, NullArray,
    PrimitiveArray, RecordBatch, Scalar, StringArray, StringViewArray, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::kernels::{cmp, numeric};
use arrow::compute::{cast, contains, ends_with, starts_with};
use arrow::datatypes::{DataType, Float64Type, Int64Type, UInt64Type};
use arrow::error::ArrowError;

use super::ast::{Arithmetic, Compare, Expr, Node, Root};
use super::eval;
use super::functions::Function;
use super::types::Type;
use super::value::{Literal, order_with_double};
use nvisy_core::KindId;

/// What an expression is on all rows.
#[derive(Clone)]
pub(super) enum Column<'e> {
    /// The same everywhere.
    Const(&'e Literal),
    /// An array, and the rows that have a fault instead.
    Array(ArrayRef, Option<BooleanBuffer>),
    /// Truth values without nulls, and the rows that have a fault instead.
    Bits(BooleanBuffer, Option<BooleanBuffer>),
    /// A fault on every row.
    Fault,
}

/// Truth values, and the rows that have a fault instead.
pub(super) struct Truth {
    pub(super) bits: BooleanBuffer,
    pub(super) faults: Option<BooleanBuffer>,
}

/// How the values of a column compare and compute.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Null,
    Bool,
    Int,
    UInt,
    Double,
    Text,
    /// Of a type that nothing here knows, but whether there is a value.
    Other,
}

impl Class {
    fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::UInt | Self::Double)
    }
}

/// Evaluates on all rows; none if a column's type is not known here.
pub(super) fn evaluate<'e>(node: &'e Node, rows: &RecordBatch) -> Option<Column<'e>> {
    Evaluator { rows, len: rows.num_rows() }.eval(node)
}

/// Evaluates a condition on all rows; none if a column's type is not known here.
pub(super) fn evaluate_bool(node: &Node, rows: &RecordBatch) -> Option<Truth> {
    let evaluator = Evaluator { rows, len: rows.num_rows() };
    evaluator.truth(&evaluator.eval(node)?)
}

struct Evaluator<'a> {
    rows: &'a RecordBatch,
    len: usize,
}

impl Evaluator<'_> {
    fn all(&self, value: bool) -> BooleanBuffer {
        if value { BooleanBuffer::new_set(self.len) } else { BooleanBuffer::new_unset(self.len) }
    }

    fn truth(&self, column: &Column<'_>) -> Option<Truth> {
        Some(match column {
            Column::Const(Literal::Bool(value)) => Truth { bits: self.all(*value), faults: None },
            Column::Bits(bits, faults) => Truth { bits: bits.clone(), faults: faults.clone() },
            Column::Array(array, faults) => match class(array.data_type()) {
                Class::Bool => {
                    let array = array.as_boolean();
                    Truth { bits: array.values().clone(), faults: or(faults.clone(), nulls(array)) }
                }
                Class::Other => return None,
                _ => Truth { bits: self.all(false), faults: Some(self.all(true)) },
            },
            Column::Const(_) | Column::Fault => Truth { bits: self.all(false), faults: Some(self.all(true)) },
        })
    }

    fn eval<'e>(&self, node: &'e Node) -> Option<Column<'e>> {
        Some(match &node.expr {
            Expr::Literal(literal) => Column::Const(literal),
            Expr::Field { of, name } => {
                if !matches!(of.expr, Expr::Root(Root::Kind(KindId::Row))) {
                    return None;
                }
                match self.rows.column_by_name(name) {
                    Some(column) => Column::Array(column.clone(), None),
                    None => Column::Fault,
                }
            }
            Expr::Has { of, name } => {
                if !matches!(of.expr, Expr::Root(Root::Kind(KindId::Row))) {
                    return None;
                }
                let valid = self.rows.column_by_name(name).map(|column| self.valid(column));
                Column::Bits(valid.unwrap_or_else(|| self.all(false)), None)
            }
            Expr::Not(of) => {
                let truth = self.truth(&self.eval(of)?)?;
                Column::Bits(truth.bits.not(), truth.faults)
            }
            Expr::Negate(of) => self.negate(&self.eval(of)?)?,
            Expr::And(terms) => self.logic(terms, false)?,
            Expr::Or(terms) => self.logic(terms, true)?,
            Expr::Compare(op, sides) => {
                let (left, right) = (self.eval(&sides[0])?, self.eval(&sides[1])?);
                self.compare(*op, &left, &right)?
            }
            Expr::Arithmetic(op, sides) => {
                let (left, right) = (self.eval(&sides[0])?, self.eval(&sides[1])?);
                self.arithmetic(*op, &left, &right)?
            }
            Expr::In(sides) => {
                let Expr::List(items) = &sides[1].expr else { return None };
                let value = self.eval(&sides[0])?;
                let mut found = Column::Bits(self.all(false), None);
                for item in items {
                    let Expr::Literal(literal) = &item.expr else { return None };
                    let equal = self.compare(Compare::Equal, &value, &Column::Const(literal))?;
                    found = match (found, equal) {
                        (Column::Bits(a, _), Column::Bits(b, faults)) => Column::Bits(a.bitor(&b), faults),
                        _ => Column::Fault,
                    };
                }
                match (found, value) {
                    // No item to compare with: a fault of the value is one all the same.
                    (Column::Bits(bits, None), Column::Array(_, faults) | Column::Bits(_, faults)) => {
                        Column::Bits(bits, faults)
                    }
                    (_, Column::Fault) => Column::Fault,
                    (found, _) => found,
                }
            }
            Expr::Call(Function::Size, arguments) => self.size(&self.eval(arguments.first()?)?)?,
            Expr::Call(function, arguments) => {
                let Expr::Literal(Literal::Text(part)) = &arguments.get(1)?.expr else { return None };
                let kernel = match function {
                    Function::StartsWith => starts_with,
                    Function::EndsWith => ends_with,
                    Function::Contains => contains,
                    _ => return None,
                };
                self.texts(&self.eval(&arguments[0])?, |array| {
                    kernel(&array, &Scalar::new(text_like(array.data_type(), part)))
                        .ok()
                        .map(|found| found.values().clone())
                })?
            }
            Expr::Matches(of, regex) => self.texts(&self.eval(of)?, |array| {
                Some(match array.data_type() {
                    DataType::Utf8 => {
                        let array = array.as_string::<i32>();
                        BooleanBuffer::collect_bool(array.len(), |i| regex.is_match(array.value(i)))
                    }
                    DataType::LargeUtf8 => {
                        let array = array.as_string::<i64>();
                        BooleanBuffer::collect_bool(array.len(), |i| regex.is_match(array.value(i)))
                    }
                    DataType::Utf8View => {
                        let array = array.as_string_view();
                        BooleanBuffer::collect_bool(array.len(), |i| regex.is_match(array.value(i)))
                    }
                    _ => return None,
                })
            })?,
            _ => return None,
        })
    }

    fn valid(&self, array: &ArrayRef) -> BooleanBuffer {
        array.logical_nulls().map_or_else(|| self.all(true), NullBuffer::into_inner)
    }

    fn logic<'e>(&self, terms: &[Node], decides: bool) -> Option<Column<'e>> {
        let truths = terms.iter().map(|term| self.truth(&self.eval(term)?)).collect::<Option<Vec<_>>>()?;
        if truths.iter().all(|truth| truth.faults.is_none()) {
            let join = |left: BooleanBuffer, right: Truth| {
                if decides { &left | &right.bits } else { &left & &right.bits }
            };
            return Some(Column::Bits(truths.into_iter().fold(self.all(!decides), join), None));
        }
        // Rows that a term decides, and rows on which every term says the other: the rest have
        // a fault.
        let (mut decided, mut other) = (self.all(false), self.all(true));
        for Truth { bits, faults } in truths {
            let says = if decides { bits } else { bits.not() };
            let sound = faults.map_or_else(|| self.all(true), |faults| faults.not());
            decided = decided.bitor(&says.bitand(&sound));
            other = other.bitand(&says.not().bitand(&sound));
        }
        let faults = Some(decided.bitor(&other).not()).filter(|faults| faults.count_set_bits() > 0);
        Some(Column::Bits(if decides { decided } else { decided.not() }, faults))
    }

    /// An operand as an array or a scalar, with its class and faults.
    fn operand(&self, column: &Column<'_>) -> Option<Operand> {
        Some(match column {
            Column::Fault => return None,
            Column::Const(literal) => {
                let array: ArrayRef = match literal {
                    Literal::Null => Arc::new(NullArray::new(1)),
                    Literal::Bool(value) => Arc::new(BooleanArray::from(vec![*value])),
                    Literal::Int(value) => Arc::new(Int64Array::from(vec![*value])),
                    Literal::UInt(value) => Arc::new(UInt64Array::from(vec![*value])),
                    Literal::Double(value) => Arc::new(Float64Array::from(vec![*value])),
                    Literal::Text(value) => Arc::new(StringArray::from(vec![&**value])),
                    Literal::Bytes(value) => Arc::new(arrow::array::BinaryArray::from(vec![&**value])),
                };
                Operand { class: class(array.data_type()), array, scalar: true, faults: None }
            }
            Column::Array(array, faults) => {
                let (array, faults) = (array.clone(), faults.clone());
                Operand { class: class(array.data_type()), array, scalar: false, faults }
            }
            Column::Bits(bits, faults) => {
                let array = Arc::new(BooleanArray::new(bits.clone(), None));
                Operand { class: Class::Bool, array, scalar: false, faults: faults.clone() }
            }
        })
    }

    fn compare<'e>(&self, op: Compare, left: &Column<'_>, right: &Column<'_>) -> Option<Column<'e>> {
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

    fn arithmetic<'e>(&self, op: Arithmetic, left: &Column<'_>, right: &Column<'_>) -> Option<Column<'e>> {
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

    fn negate<'e>(&self, of: &Column<'_>) -> Option<Column<'e>> {
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

    fn size<'e>(&self, of: &Column<'_>) -> Option<Column<'e>> {
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

    /// Tests the texts of a column. What stands in the place of nulls is undefined.
    fn texts<'e>(
        &self,
        of: &Column<'_>,
        test: impl Fn(&ArrayRef) -> Option<BooleanBuffer>,
    ) -> Option<Column<'e>> {
        let Some(of) = self.operand(of) else { return Some(Column::Fault) };
        match of.class {
            Class::Text => {
                let bits = test(&plain_text(of.array.clone())?)?;
                let bits = if of.scalar { self.all(!bits.is_empty() && bits.value(0)) } else { bits };
                Some(Column::Bits(bits, or(of.faults.clone(), of.nulls())))
            }
            Class::Other => None,
            _ => Some(Column::Fault),
        }
    }
}

/// One side of an operator.
struct Operand {
    class: Class,
    array: ArrayRef,
    scalar: bool,
    faults: Option<BooleanBuffer>,
}

impl Operand {
    fn nulls(&self) -> Option<BooleanBuffer> {
        if self.scalar { None } else { nulls(&*self.array) }
    }

    fn datum(&self, array: ArrayRef) -> Box<dyn Datum> {
        if self.scalar { Box::new(Scalar::new(array)) } else { Box::new(array) }
    }

    /// Whether it is a number that is the same as a double.
    fn is_exact_double(&self) -> bool {
        const EXACT: i128 = 1 << 53;
        match self.class {
            Class::Double => true,
            Class::Int | Class::UInt if self.scalar => {
                self.wides().is_some_and(|values| values.iter().all(|value| (-EXACT..=EXACT).contains(value)))
            }
            _ => false,
        }
    }

    fn doubles(&self) -> Option<ScalarBuffer<f64>> {
        let array = cast(&self.array, &DataType::Float64).ok()?;
        Some(array.as_primitive_opt::<Float64Type>()?.values().clone())
    }

    /// The integers, whatever their type.
    fn wides(&self) -> Option<Vec<i128>> {
        if self.class == Class::UInt {
            let array = cast(&self.array, &DataType::UInt64).ok()?;
            return Some(
                array.as_primitive_opt::<UInt64Type>()?.values().iter().map(|v| i128::from(*v)).collect(),
            );
        }
        let array = cast(&self.array, &DataType::Int64).ok()?;
        Some(array.as_primitive_opt::<Int64Type>()?.values().iter().map(|v| i128::from(*v)).collect())
    }
}

/// The index of a row in an operand, which may be a scalar.
fn at(index: usize, len: usize) -> usize {
    if len == 1 { 0 } else { index }
}

fn zip(len: usize, left: &[f64], right: &[f64], test: impl Fn(f64, f64) -> bool) -> BooleanBuffer {
    if let [right] = *right {
        if left.len() == len {
            return BooleanBuffer::collect_bool(len, |i| test(left[i], right));
        }
        return BooleanBuffer::collect_bool(len, |i| test(left[at(i, left.len())], right));
    }
    BooleanBuffer::collect_bool(len, |i| test(left[at(i, left.len())], right[i]))
}

/// Computes values row by row, and notes which rows have none.
fn note<T: Default>(
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
fn equals(texts: &StringArray, text: &[u8]) -> BooleanBuffer {
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

fn kernel(op: Compare, left: &dyn Datum, right: &dyn Datum) -> Option<BooleanBuffer> {
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

fn or(left: Option<BooleanBuffer>, right: Option<BooleanBuffer>) -> Option<BooleanBuffer> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.bitor(&right)),
        (left, right) => left.or(right),
    }
}

fn nulls(array: &dyn Array) -> Option<BooleanBuffer> {
    let nulls = array.logical_nulls()?;
    (nulls.null_count() > 0).then(|| nulls.inner().not())
}

fn without_nulls(array: &ArrayRef) -> Option<ArrayRef> {
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

/// The type of the values of a column, as far as it says.
pub(super) fn type_of(data_type: &DataType) -> Type {
    match class(data_type) {
        Class::Null => Type::Null,
        Class::Bool => Type::Bool,
        Class::Int => Type::Int,
        Class::UInt => Type::UInt,
        Class::Double => Type::Double,
        Class::Text => Type::Text,
        Class::Other => Type::Any,
    }
}

fn class(data_type: &DataType) -> Class {
    use DataType as T;
    match data_type {
        T::Null => Class::Null,
        T::Boolean => Class::Bool,
        T::Int8 | T::Int16 | T::Int32 | T::Int64 => Class::Int,
        T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => Class::UInt,
        T::Float16 | T::Float32 | T::Float64 => Class::Double,
        T::Utf8 | T::LargeUtf8 | T::Utf8View => Class::Text,
        T::Dictionary(_, values) if matches!(**values, T::Utf8 | T::LargeUtf8 | T::Utf8View) => Class::Text,
        _ => Class::Other,
    }
}

/// The type of the values of a dictionary.
fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        plain => plain,
    }
}

fn plain_text(array: ArrayRef) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::Dictionary(_, values) => {
            let values = values.clone();
            cast(&array, &values).ok()
        }
        _ => Some(array),
    }
}

fn text_like(data_type: &DataType, text: &str) -> ArrayRef {
    match data_type {
        DataType::LargeUtf8 => Arc::new(LargeStringArray::from(vec![text])),
        DataType::Utf8View => Arc::new(StringViewArray::from(vec![text])),
        _ => Arc::new(StringArray::from(vec![text])),
    }
}
