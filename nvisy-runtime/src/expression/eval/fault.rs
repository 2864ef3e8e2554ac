//! What can go wrong with an expression on an item.

use nvisy_core::primitive::row::Row;
use nvisy_core::{Error, ErrorKind, KindId};

use crate::expression::MAX_COST;
use crate::expression::ast::{Arithmetic, Compare, Root};
use crate::expression::functions::Function;
use crate::expression::types::{self, Type};

/// What went wrong, and at which byte of the text.
#[derive(Debug)]
pub(in crate::expression) struct Fault {
    pub(in crate::expression) at: u32,
    pub(in crate::expression) cause: Cause,
}

#[derive(Debug)]
pub(in crate::expression) enum Cause {
    WrongKind(Root, KindId),
    NoSuchKey(Box<str>),
    NotInMap(Box<str>),
    /// The column, and the nearest that there is.
    NotInRow(Box<str>, Option<Box<str>>),
    Compare(Compare, Type, Type),
    Arithmetic(Arithmetic, Type, Type),
    NotTruth(Type),
    Argument(Function, Type),
    NoIn(Type),
    NoFields(Type),
    NoIndex(Type),
    NoRange(Type),
    NoKey(Type),
    OutOfBounds(i64, usize),
    Negate(Type),
    Overflow(&'static str),
    DivisionByZero,
    Convert(Function, Type, Box<str>),
    Repeated(Box<str>),
    Cost,
}

/// How many columns are looked through for the one that was meant.
const MAX_SUGGESTED: usize = 256;

/// Returns the column that was meant, if there is one.
pub(super) fn nearest<'a>(name: &str, row: &'a Row) -> Option<&'a str> {
    crate::suggest::nearest(
        name,
        row.schema().fields().iter().take(MAX_SUGGESTED).map(|field| &**field.name()),
    )
}

/// Returns a column as an expression names it.
fn in_row(column: &str) -> String {
    let mut letters = column.chars();
    let is_plain = letters.next().is_some_and(|first| first == '_' || first.is_ascii_alphabetic())
        && letters.all(|letter| letter == '_' || letter.is_ascii_alphanumeric());
    if is_plain {
        return format!("row.{column}");
    }
    format!("row['{}']", column.replace('\\', "\\\\").replace('\'', "\\'"))
}

pub(in crate::expression) type Eval<T> = Result<T, Box<Fault>>;

impl Fault {
    pub(super) fn new(at: u32, cause: Cause) -> Box<Self> {
        Box::new(Self { at, cause })
    }

    /// Whether nothing may hide it: what `&&` and `||` do not absorb.
    pub(super) fn is_final(&self) -> bool {
        matches!(self.cause, Cause::Cost)
    }

    /// The error of the item, without its place in the text.
    pub(in crate::expression) fn message(&self) -> String {
        let nulls = |left: Type, right: Type| {
            if left == Type::Null || right == Type::Null {
                ": test for null first, as in `row.x != null && ..`"
            } else {
                ""
            }
        };
        match &self.cause {
            Cause::WrongKind(root, kind) => {
                format!("the item is a {kind}, there is no `{}`: ask for its `kind` first", root.name())
            }
            Cause::NoSuchKey(key) => format!("there is no `{key}`: ask first, with `has(..)`"),
            Cause::NotInMap(_) => "the map has no such key: ask first, with `in`".into(),
            Cause::NotInRow(column, Some(near)) => {
                format!("the row has no column `{column}`: did you mean `{}`?", in_row(near))
            }
            Cause::NotInRow(column, None) => {
                format!("the row has no column `{column}`: ask first, with `has({})`", in_row(column))
            }
            Cause::Compare(op, left, right) => {
                format!("{}{}", types::describe(*op, *left, *right), nulls(*left, *right))
            }
            Cause::Arithmetic(op, left, right) => {
                let (op, null) = (op.symbol(), nulls(*left, *right));
                format!("`{op}` does not work on {} and {}{null}", left.name(), right.name())
            }
            Cause::NotTruth(found) => {
                format!("expected true or false, found {}{}", found.name(), nulls(*found, *found))
            }
            Cause::Argument(function, found) => {
                let (name, usage, null) = (function.name(), function.usage(), nulls(*found, *found));
                format!("`{name}` does not work on {}, it is called as `{usage}`{null}", found.name())
            }
            Cause::NoIn(found) => format!("`in` looks into a list or a map, this is {}", found.name()),
            Cause::NoFields(found) => format!("{} has no fields{}", found.name(), nulls(*found, *found)),
            Cause::NoIndex(found) => format!("{} is no index of a list", found.name()),
            Cause::NoRange(found) => {
                format!("expected a list or a map to go through, found {}", found.name())
            }
            Cause::NoKey(found) => format!("{} is no key of a map", found.name()),
            Cause::OutOfBounds(index, len) => format!("there is no item {index} in a list of {len}"),
            Cause::Negate(found) => format!("`-` does not work on {}{}", found.name(), nulls(*found, *found)),
            Cause::Overflow(op) => format!("the result of `{op}` does not fit into 64 bits"),
            Cause::DivisionByZero => "division by zero".into(),
            Cause::Convert(function, of, _) => {
                format!("`{}` cannot be made of such {}", function.name(), of.name())
            }
            Cause::Repeated(_) => "a key stands twice in the map".into(),
            Cause::Cost => format!("the expression takes more than {MAX_COST} steps on this item"),
        }
    }

    /// What of the item is at fault, if it says more than the message.
    fn detail(&self) -> Option<&str> {
        match &self.cause {
            Cause::NotInMap(text) | Cause::Convert(_, _, text) | Cause::Repeated(text) => Some(text),
            _ => None,
        }
    }

    pub(in crate::expression) fn into_error(self, text: &str) -> Error {
        let (message, at) = (self.message(), self.at as usize);
        let (line, column) = crate::expression::place(text, at);
        let place =
            if line == 1 { format!("column {column}") } else { format!("line {line}, column {column}") };
        let shown = crate::expression::shown(text);
        let error = Error::new(ErrorKind::Validation, format!("expression `{shown}`, {place}: {message}"));
        match self.detail() {
            Some(detail) => error.with_detail(detail),
            None => error,
        }
    }
}
