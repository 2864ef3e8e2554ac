//! The operators over numbers, texts, lists and moments.

use super::Cause;
use crate::expression::ast::Arithmetic;
use crate::expression::value::{List, Octets, Val};

/// Whatever an operator makes of two values.
pub(in crate::expression) fn arithmetic<'a>(
    op: Arithmetic,
    left: &Val<'a>,
    right: &Val<'a>,
) -> Result<Val<'a>, Cause> {
    use Arithmetic as A;
    let overflow = || Cause::Overflow(op.symbol());
    Ok(match (op, left, right) {
        (_, Val::Int(a), Val::Int(b)) => Val::Int(int(op, *a, *b)?),
        (_, Val::UInt(a), Val::UInt(b)) => Val::UInt(uint(op, *a, *b)?),
        // Beyond CEL, which has no operators over numbers of different types: the result of
        // integers is signed, that of an integer and a double is a double.
        (_, Val::Int(a), Val::UInt(b)) => Val::Int(wide(op, (*a).into(), (*b).into())?),
        (_, Val::UInt(a), Val::Int(b)) => Val::Int(wide(op, (*a).into(), (*b).into())?),
        (A::Add | A::Subtract | A::Multiply | A::Divide, Val::Double(_), _)
        | (A::Add | A::Subtract | A::Multiply | A::Divide, _, Val::Double(_)) => {
            match (as_double(left), as_double(right)) {
                (Some(a), Some(b)) => Val::Double(double(op, a, b)),
                _ => return Err(Cause::Arithmetic(op, left.type_of(), right.type_of())),
            }
        }
        (A::Add, Val::Text(a), Val::Text(b)) => Val::text(format!("{}{}", &**a, &**b)),
        (A::Add, Val::Bytes(a), Val::Bytes(b)) => Val::Bytes(Octets::Own([&**a, &**b].concat().into())),
        (A::Add, Val::List(a), Val::List(b)) => Val::List(List::Own(a.iter().chain(b.iter()).collect())),
        (A::Add, Val::Timestamp(a), Val::Duration(b)) | (A::Add, Val::Duration(b), Val::Timestamp(a)) => {
            Val::Timestamp(a.checked_add_signed(*b).ok_or_else(overflow)?)
        }
        (A::Subtract, Val::Timestamp(a), Val::Duration(b)) => {
            Val::Timestamp(a.checked_sub_signed(*b).ok_or_else(overflow)?)
        }
        (A::Subtract, Val::Timestamp(a), Val::Timestamp(b)) => Val::Duration(a.signed_duration_since(*b)),
        (A::Add, Val::Duration(a), Val::Duration(b)) => Val::Duration(a.checked_add(b).ok_or_else(overflow)?),
        (A::Subtract, Val::Duration(a), Val::Duration(b)) => {
            Val::Duration(a.checked_sub(b).ok_or_else(overflow)?)
        }
        _ => return Err(Cause::Arithmetic(op, left.type_of(), right.type_of())),
    })
}

pub(super) fn as_double(value: &Val<'_>) -> Option<f64> {
    match value {
        Val::Int(value) => Some(*value as f64),
        Val::UInt(value) => Some(*value as f64),
        Val::Double(value) => Some(*value),
        _ => None,
    }
}

pub(in crate::expression) fn double(op: Arithmetic, a: f64, b: f64) -> f64 {
    match op {
        Arithmetic::Add => a + b,
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a * b,
        Arithmetic::Divide => a / b,
        Arithmetic::Remainder => a % b,
    }
}

macro_rules! checked {
    ($op:expr, $a:expr, $b:expr) => {
        match $op {
            Arithmetic::Add => $a.checked_add($b),
            Arithmetic::Subtract => $a.checked_sub($b),
            Arithmetic::Multiply => $a.checked_mul($b),
            Arithmetic::Divide | Arithmetic::Remainder if $b == 0 => return Err(Cause::DivisionByZero),
            Arithmetic::Divide => $a.checked_div($b),
            Arithmetic::Remainder => $a.checked_rem($b),
        }
    };
}

fn int(op: Arithmetic, a: i64, b: i64) -> Result<i64, Cause> {
    checked!(op, a, b).ok_or(Cause::Overflow(op.symbol()))
}

pub(in crate::expression) fn uint(op: Arithmetic, a: u64, b: u64) -> Result<u64, Cause> {
    checked!(op, a, b).ok_or(Cause::Overflow(op.symbol()))
}

pub(in crate::expression) fn wide(op: Arithmetic, a: i128, b: i128) -> Result<i64, Cause> {
    let value = checked!(op, a, b).and_then(|value| i64::try_from(value).ok());
    value.ok_or(Cause::Overflow(op.symbol()))
}
