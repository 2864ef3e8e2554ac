//! Evaluates an expression on all rows of a record batch at once, as Arrow kernels.
//!
//! It says for each row the value, or that there is none because of a fault; what the fault
//! is, the evaluation of that one row tells. Where a column is of a type that this does not
//! know, there is no answer, and the rows are evaluated one by one.

mod class;
mod compare;
mod compute;
mod kernel;
mod operand;

use std::ops::{BitAnd, BitOr, Not};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, NullArray, RecordBatch, Scalar,
    StringArray, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{contains, ends_with, starts_with};
use arrow::datatypes::DataType;
use nvisy_core::KindId;

pub(super) use self::class::type_of;
use self::class::{Class, class};
use self::kernel::{nulls, or, plain_text, text_like};
use self::operand::Operand;
use super::ast::{Compare, Expr, Node, Root};
use super::functions::Function;
use super::value::Literal;

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
