//! Evaluates an expression on one item: the semantics that everything else is held to.

use std::rc::Rc;

use chrono::{Datelike, Timelike};
use nvisy_core::primitive::row::Row;
use nvisy_core::{Error, ErrorKind, KindId};

use super::MAX_COST;
use super::ast::{Arithmetic, Compare, Comprehension, Expr, Form, Node, Root};
use super::functions::Function;
use super::scope::Scope;
use super::types::{self, Type};
use super::value::{List, Map, Octets, Text, Val, Value, duration_text, parse_duration, timestamp_text};

/// What went wrong, and at which byte of the text.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: u32,
    pub(super) cause: Cause,
}

#[derive(Debug)]
pub(super) enum Cause {
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
fn nearest<'a>(name: &str, row: &'a Row) -> Option<&'a str> {
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

pub(super) type Eval<T> = Result<T, Box<Fault>>;

impl Fault {
    fn new(at: u32, cause: Cause) -> Box<Self> {
        Box::new(Self { at, cause })
    }

    /// Whether nothing may hide it: what `&&` and `||` do not absorb.
    fn is_final(&self) -> bool {
        matches!(self.cause, Cause::Cost)
    }

    /// The error of the item, without its place in the text.
    pub(super) fn message(&self) -> String {
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

    pub(super) fn into_error(self, text: &str) -> Error {
        let (message, at) = (self.message(), self.at as usize);
        let (line, column) = super::place(text, at);
        let place =
            if line == 1 { format!("column {column}") } else { format!("line {line}, column {column}") };
        let shown = super::shown(text);
        let error = Error::new(ErrorKind::Validation, format!("expression `{shown}`, {place}: {message}"));
        match self.detail() {
            Some(detail) => error.with_detail(detail),
            None => error,
        }
    }
}

/// Evaluates an expression on an item.
pub(super) fn evaluate<'a>(node: &'a Node, scope: &'a Scope<'a>) -> Eval<Value> {
    let value = Evaluator { scope, locals: Vec::new(), fuel: MAX_COST }.eval(node)?;
    value.into_value(&mut MAX_COST.clone()).ok_or_else(|| Fault::new(node.at, Cause::Cost))
}

/// Evaluates a condition on an item.
pub(super) fn evaluate_bool<'a>(node: &'a Node, scope: &'a Scope<'a>) -> Eval<bool> {
    Evaluator { scope, locals: Vec::new(), fuel: MAX_COST }.truth(node)
}

struct Evaluator<'a> {
    scope: &'a Scope<'a>,
    locals: Vec<Val<'a>>,
    fuel: u64,
}

impl<'a> Evaluator<'a> {
    fn spend(&mut self, at: u32, cost: u64) -> Eval<()> {
        match self.fuel.checked_sub(cost) {
            Some(fuel) => {
                self.fuel = fuel;
                Ok(())
            }
            None => {
                self.fuel = 0;
                Err(Fault::new(at, Cause::Cost))
            }
        }
    }

    fn truth(&mut self, node: &'a Node) -> Eval<bool> {
        match self.eval(node)? {
            Val::Bool(value) => Ok(value),
            other => Err(Fault::new(node.at, Cause::NotTruth(other.type_of()))),
        }
    }

    /// `&&` and `||`: one side that decides makes the others' faults irrelevant, in any order.
    fn logic(&mut self, terms: &'a [Node], decides: bool) -> Eval<bool> {
        let mut first = None;
        for term in terms {
            match self.truth(term) {
                Ok(value) if value == decides => return Ok(decides),
                Ok(_) => {}
                Err(fault) if fault.is_final() => return Err(fault),
                Err(fault) => first = first.or(Some(fault)),
            }
        }
        first.map_or(Ok(!decides), Err)
    }

    fn eval(&mut self, node: &'a Node) -> Eval<Val<'a>> {
        let at = node.at;
        self.spend(at, 1)?;
        Ok(match &node.expr {
            Expr::Literal(literal) => literal.val(),
            Expr::Root(root) => self.root(at, *root)?,
            Expr::Local(local) => self.locals.get(*local).cloned().unwrap_or(Val::Null),
            Expr::Field { of, name } => match self.eval(of)? {
                Val::Map(map) => {
                    self.spend(at, map.lookup())?;
                    match map.field(name) {
                        Some(value) => value,
                        None => {
                            let cause = match map {
                                Map::Row(row) => {
                                    Cause::NotInRow((**name).into(), nearest(name, row).map(Into::into))
                                }
                                _ => Cause::NoSuchKey((**name).into()),
                            };
                            return Err(Fault::new(at, cause));
                        }
                    }
                }
                other => return Err(Fault::new(at, Cause::NoFields(other.type_of()))),
            },
            Expr::Has { of, name } => match &of.expr {
                // An item of another kind has none of its fields.
                Expr::Root(root @ Root::Kind(_)) if self.scope.root(*root).is_none() => Val::Bool(false),
                _ => match self.eval(of)? {
                    Val::Map(map) => {
                        self.spend(at, map.lookup())?;
                        Val::Bool(map.has(name))
                    }
                    other => return Err(Fault::new(at, Cause::NoFields(other.type_of()))),
                },
            },
            Expr::Index { of, index } => {
                let (of, index) = (self.eval(of)?, self.eval(index)?);
                self.index(at, &of, &index)?
            }
            Expr::Not(of) => Val::Bool(!self.truth(of)?),
            Expr::Negate(of) => match self.eval(of)? {
                Val::Int(value) => {
                    Val::Int(value.checked_neg().ok_or_else(|| Fault::new(at, Cause::Overflow("-")))?)
                }
                Val::Double(value) => Val::Double(-value),
                Val::Duration(value) => Val::Duration(-value),
                other => return Err(Fault::new(at, Cause::Negate(other.type_of()))),
            },
            Expr::And(terms) => Val::Bool(self.logic(terms, false)?),
            Expr::Or(terms) => Val::Bool(self.logic(terms, true)?),
            Expr::Compare(op, sides) => {
                let (left, right) = (self.eval(&sides[0])?, self.eval(&sides[1])?);
                Val::Bool(self.compare(at, *op, &left, &right)?)
            }
            Expr::Arithmetic(op, sides) => {
                let (left, right) = (self.eval(&sides[0])?, self.eval(&sides[1])?);
                self.spend(at, left.weight() + right.weight())?;
                arithmetic(*op, &left, &right).map_err(|cause| Fault::new(at, cause))?
            }
            Expr::In(sides) => {
                let (value, set) = (self.eval(&sides[0])?, self.eval(&sides[1])?);
                Val::Bool(match &set {
                    Val::List(list) => {
                        let found = list.iter().any(|item| item.equals(&value, &mut self.fuel));
                        self.spend(at, 1)?;
                        found
                    }
                    Val::Map(map) => {
                        self.spend(at, map.lookup())?;
                        map.get(&value).is_some()
                    }
                    other => return Err(Fault::new(sides[1].at, Cause::NoIn(other.type_of()))),
                })
            }
            Expr::Conditional(parts) => {
                let taken = if self.truth(&parts[0])? { &parts[1] } else { &parts[2] };
                self.eval(taken)?
            }
            Expr::List(items) => {
                let items = items.iter().map(|item| self.eval(item)).collect::<Eval<Rc<[_]>>>()?;
                Val::List(List::Own(items))
            }
            Expr::Map(entries) => self.map(entries)?,
            Expr::Call(function, arguments) => self.call(at, *function, arguments)?,
            Expr::Matches(of, regex) => {
                let of = self.eval(of)?;
                self.spend(at, of.weight())?;
                match of {
                    Val::Text(text) => Val::Bool(regex.is_match(&text)),
                    other => return Err(Fault::new(at, Cause::Argument(Function::Matches, other.type_of()))),
                }
            }
            Expr::Comprehension(c) => self.comprehension(c)?,
        })
    }

    fn root(&self, at: u32, root: Root) -> Eval<Val<'a>> {
        self.scope.root(root).ok_or_else(|| Fault::new(at, Cause::WrongKind(root, self.scope.kind())))
    }

    fn index(&mut self, at: u32, of: &Val<'a>, index: &Val<'a>) -> Eval<Val<'a>> {
        match of {
            Val::List(list) => {
                let number = match index {
                    Val::Int(index) => Some(*index),
                    Val::UInt(index) => i64::try_from(*index).ok(),
                    Val::Double(index) if index.fract() == 0.0 && index.abs() < 1e15 => Some(*index as i64),
                    other => return Err(Fault::new(at, Cause::NoIndex(other.type_of()))),
                };
                let number = number.unwrap_or(i64::MAX);
                let found = usize::try_from(number).ok().and_then(|index| list.get(index));
                found.ok_or_else(|| Fault::new(at, Cause::OutOfBounds(number, list.len())))
            }
            Val::Map(map) => {
                self.spend(at, map.lookup())?;
                map.get(index).ok_or_else(|| Fault::new(at, Cause::NotInMap(show(index).into())))
            }
            other => Err(Fault::new(at, Cause::NoFields(other.type_of()))),
        }
    }

    fn compare(&mut self, at: u32, op: Compare, left: &Val<'a>, right: &Val<'a>) -> Eval<bool> {
        if op.is_equality() {
            let equal = left.equals(right, &mut self.fuel);
            self.spend(at, 1)?;
            return Ok(equal == (op == Compare::Equal));
        }
        self.spend(at, left.weight().min(right.weight()))?;
        let order = left.order(right);
        order
            .map(|order| op.holds(order))
            .ok_or_else(|| Fault::new(at, Cause::Compare(op, left.type_of(), right.type_of())))
    }

    fn map(&mut self, entries: &'a [(Node, Node)]) -> Eval<Val<'a>> {
        let mut map: Vec<(Val<'a>, Val<'a>)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let (at, key, value) = (key.at, self.eval(key)?, self.eval(value)?);
            if !matches!(key, Val::Text(_) | Val::Int(_) | Val::UInt(_) | Val::Bool(_)) {
                return Err(Fault::new(at, Cause::NoKey(key.type_of())));
            }
            self.spend(at, map.len() as u64)?;
            if map.iter().any(|(known, _)| known.equals(&key, &mut self.fuel)) {
                return Err(Fault::new(at, Cause::Repeated(show(&key).into())));
            }
            map.push((key, value));
        }
        Ok(Val::Map(Map::Own(map.into())))
    }

    fn comprehension(&mut self, c: &'a Comprehension) -> Eval<Val<'a>> {
        let at = c.range.at;
        let items = match self.eval(&c.range)? {
            Val::List(list) => list,
            Val::Map(map) => {
                self.spend(at, map.len() as u64)?;
                List::Own(map.entries().into_iter().map(|(key, _)| key).collect())
            }
            other => return Err(Fault::new(at, Cause::NoRange(other.type_of()))),
        };
        self.locals.truncate(c.local);
        let result = self.items(c, &items);
        self.locals.truncate(c.local);
        result
    }

    fn items(&mut self, c: &'a Comprehension, items: &List<'a>) -> Eval<Val<'a>> {
        let mut list = Vec::new();
        let mut count = 0_usize;
        let mut first = None;
        for index in 0..items.len() {
            let Some(item) = items.get(index) else { break };
            self.locals.truncate(c.local);
            self.locals.push(item.clone());
            match c.form {
                Form::All | Form::Exists => {
                    let decides = c.form == Form::Exists;
                    match self.truth(&c.body) {
                        Ok(value) if value == decides => return Ok(Val::Bool(decides)),
                        Ok(_) => {}
                        Err(fault) if fault.is_final() => return Err(fault),
                        Err(fault) => first = first.or(Some(fault)),
                    }
                }
                Form::ExistsOne => count += usize::from(self.truth(&c.body)?),
                Form::Filter => {
                    if self.truth(&c.body)? {
                        list.push(item);
                    }
                }
                Form::Map => {
                    let taken = match &c.condition {
                        Some(condition) => self.truth(condition)?,
                        None => true,
                    };
                    if taken {
                        list.push(self.eval(&c.body)?);
                    }
                }
            }
        }
        if let Some(fault) = first {
            return Err(fault);
        }
        Ok(match c.form {
            Form::All => Val::Bool(true),
            Form::Exists => Val::Bool(false),
            Form::ExistsOne => Val::Bool(count == 1),
            Form::Map | Form::Filter => Val::List(List::Own(list.into())),
        })
    }

    fn call(&mut self, at: u32, function: Function, arguments: &'a [Node]) -> Eval<Val<'a>> {
        let mut values = [Val::Null, Val::Null, Val::Null];
        for (slot, argument) in values.iter_mut().zip(arguments) {
            *slot = self.eval(argument)?;
        }
        let given = arguments.len().min(3);
        let weight = values.iter().map(Val::weight).sum();
        self.spend(at, weight)?;
        let value = call(function, &values[..given]).map_err(|cause| Fault::new(at, cause))?;
        self.spend(at, value.weight())?;
        Ok(value)
    }
}

/// A key, for messages.
fn show(key: &Val<'_>) -> String {
    match key {
        Val::Text(text) => text.to_string(),
        Val::Int(value) => value.to_string(),
        Val::UInt(value) => value.to_string(),
        Val::Bool(value) => value.to_string(),
        other => other.type_of().name().to_owned(),
    }
}

/// Whatever an operator makes of two values.
pub(super) fn arithmetic<'a>(op: Arithmetic, left: &Val<'a>, right: &Val<'a>) -> Result<Val<'a>, Cause> {
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

fn as_double(value: &Val<'_>) -> Option<f64> {
    match value {
        Val::Int(value) => Some(*value as f64),
        Val::UInt(value) => Some(*value as f64),
        Val::Double(value) => Some(*value),
        _ => None,
    }
}

pub(super) fn double(op: Arithmetic, a: f64, b: f64) -> f64 {
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

pub(super) fn int(op: Arithmetic, a: i64, b: i64) -> Result<i64, Cause> {
    checked!(op, a, b).ok_or(Cause::Overflow(op.symbol()))
}

pub(super) fn uint(op: Arithmetic, a: u64, b: u64) -> Result<u64, Cause> {
    checked!(op, a, b).ok_or(Cause::Overflow(op.symbol()))
}

pub(super) fn wide(op: Arithmetic, a: i128, b: i128) -> Result<i64, Cause> {
    let value = checked!(op, a, b).and_then(|value| i64::try_from(value).ok());
    value.ok_or(Cause::Overflow(op.symbol()))
}

fn call<'a>(function: Function, values: &[Val<'a>]) -> Result<Val<'a>, Cause> {
    use Function as F;
    let value = &values[0];
    for (index, value) in values.iter().enumerate() {
        if !function.takes(index, value.type_of()) {
            return Err(Cause::Argument(function, value.type_of()));
        }
    }
    let texts = || -> Option<(&str, &str, &str)> {
        let text = |index: usize| match values.get(index) {
            Some(Val::Text(text)) => Some(&**text),
            None => Some(""),
            Some(_) => None,
        };
        Some((text(0)?, text(1)?, text(2)?))
    };
    let refused = || Cause::Argument(function, value.type_of());
    Ok(match function {
        F::Size => Val::Int(size(value).ok_or_else(refused)?),
        F::StartsWith => {
            let (text, part, _) = texts().ok_or_else(refused)?;
            Val::Bool(text.starts_with(part))
        }
        F::EndsWith => {
            let (text, part, _) = texts().ok_or_else(refused)?;
            Val::Bool(text.ends_with(part))
        }
        F::Contains => {
            let (text, part, _) = texts().ok_or_else(refused)?;
            Val::Bool(text.contains(part))
        }
        // Read as a node of its own.
        F::Matches => return Err(refused()),
        F::Int | F::UInt | F::Double | F::String | F::Bool | F::Bytes | F::Timestamp | F::Duration => {
            convert(function, value)?
        }
        F::LowerAscii => Val::text(texts().ok_or_else(refused)?.0.to_ascii_lowercase()),
        F::UpperAscii => Val::text(texts().ok_or_else(refused)?.0.to_ascii_uppercase()),
        F::Trim => Val::text(texts().ok_or_else(refused)?.0.trim()),
        F::Replace => {
            let (text, old, new) = texts().ok_or_else(refused)?;
            let most = (text.len() as u64 + 1).saturating_mul(new.len() as u64 + 1);
            if most / 32 > MAX_COST {
                return Err(Cause::Cost);
            }
            Val::text(text.replace(old, new))
        }
        F::Split => {
            let (text, separator, _) = texts().ok_or_else(refused)?;
            let most = MAX_COST as usize;
            let parts: Vec<_> = if separator.is_empty() {
                text.chars().take(most + 1).map(|c| Val::text(c.to_string())).collect()
            } else {
                text.split(separator).take(most + 1).map(Val::text).collect()
            };
            if parts.len() > most {
                return Err(Cause::Cost);
            }
            Val::List(List::Own(parts.into()))
        }
        F::Substring => {
            let Val::Text(text) = value else { return Err(refused()) };
            let bound = |index: usize| match values.get(index) {
                Some(Val::Int(at)) => Some(*at),
                _ => None,
            };
            let len = text.chars().count() as i64;
            let (start, end) = (bound(1).unwrap_or(0), bound(2).unwrap_or(len));
            if start < 0 || end > len || start > end {
                let at = if start < 0 || start > len { start } else { end };
                return Err(Cause::OutOfBounds(at, len as usize));
            }
            Val::text(text.chars().skip(start as usize).take((end - start) as usize).collect::<String>())
        }
        F::Join => {
            let (Val::List(list), separator) = (value, values.get(1)) else { return Err(refused()) };
            let separator = match separator {
                Some(Val::Text(separator)) => &**separator,
                _ => "",
            };
            let mut joined = String::new();
            for (index, item) in list.iter().enumerate() {
                let Val::Text(item) = item else { return Err(Cause::Argument(function, item.type_of())) };
                if (joined.len() + separator.len() + item.len()) as u64 / 32 > MAX_COST {
                    return Err(Cause::Cost);
                }
                if index > 0 {
                    joined += separator;
                }
                joined += &item;
            }
            Val::text(joined)
        }
        F::IndexOf => {
            let (text, part, _) = texts().ok_or_else(refused)?;
            Val::Int(text.find(part).map_or(-1, |at| text[..at].chars().count() as i64))
        }
        _ => Val::Int(part_of_time(function, value).ok_or_else(refused)?),
    })
}

/// How long a text (in characters), bytes, a list or a map is.
pub(super) fn size(value: &Val<'_>) -> Option<i64> {
    let size = match value {
        Val::Text(text) => text.chars().count(),
        Val::Bytes(bytes) => bytes.len(),
        Val::List(list) => list.len(),
        Val::Map(map) => map.len(),
        _ => return None,
    };
    Some(size as i64)
}

fn part_of_time(function: Function, value: &Val<'_>) -> Option<i64> {
    use Function as F;
    Some(match value {
        Val::Timestamp(time) => match function {
            F::FullYear => time.year().into(),
            F::Month => time.month0().into(),
            F::Date => time.day().into(),
            F::DayOfMonth => time.day0().into(),
            F::DayOfWeek => time.weekday().num_days_from_sunday().into(),
            F::DayOfYear => time.ordinal0().into(),
            F::Hours => time.hour().into(),
            F::Minutes => time.minute().into(),
            F::Seconds => time.second().into(),
            F::Milliseconds => time.timestamp_subsec_millis().into(),
            _ => return None,
        },
        Val::Duration(duration) => match function {
            F::Hours => duration.num_hours(),
            F::Minutes => duration.num_minutes(),
            F::Seconds => duration.num_seconds(),
            F::Milliseconds => duration.num_milliseconds(),
            _ => return None,
        },
        _ => return None,
    })
}

fn convert<'a>(function: Function, value: &Val<'a>) -> Result<Val<'a>, Cause> {
    use Function as F;
    let found = |text: &str| Cause::Convert(function, value.type_of(), super::shown(text).into());
    let refused = || match value {
        Val::Text(text) => found(&format!("{:?}", &**text)),
        Val::Int(value) => found(&value.to_string()),
        Val::UInt(value) => found(&value.to_string()),
        Val::Double(value) => found(&value.to_string()),
        other => found(other.type_of().name()),
    };
    // The bounds are exact as doubles; 2^63 and 2^64 themselves are past the end.
    let within = |double: f64, low: f64, high: f64| double > low && double < high;
    let converted = match (function, value) {
        (F::Int, Val::Int(_)) | (F::UInt, Val::UInt(_)) | (F::Double, Val::Double(_)) => Some(value.clone()),
        (F::String, Val::Text(_)) | (F::Bool, Val::Bool(_)) | (F::Bytes, Val::Bytes(_)) => {
            Some(value.clone())
        }
        (F::Timestamp, Val::Timestamp(_)) | (F::Duration, Val::Duration(_)) => Some(value.clone()),
        (F::Int, Val::UInt(value)) => i64::try_from(*value).ok().map(Val::Int),
        (F::Int, Val::Double(value)) => {
            within(*value, -9_223_372_036_854_775_808.0, 9_223_372_036_854_775_808.0)
                .then_some(Val::Int(*value as i64))
        }
        (F::Int, Val::Text(text)) => text.parse().ok().map(Val::Int),
        (F::Int, Val::Timestamp(value)) => Some(Val::Int(value.timestamp())),
        (F::UInt, Val::Int(value)) => u64::try_from(*value).ok().map(Val::UInt),
        (F::UInt, Val::Double(value)) => {
            within(*value, -1.0, 18_446_744_073_709_551_616.0).then_some(Val::UInt(*value as u64))
        }
        (F::UInt, Val::Text(text)) => text.parse().ok().map(Val::UInt),
        (F::Double, Val::Text(text)) => text.parse().ok().map(Val::Double),
        (F::Double, value) => as_double(value).map(Val::Double),
        (F::String, Val::Int(value)) => Some(Val::text(value.to_string())),
        (F::String, Val::UInt(value)) => Some(Val::text(value.to_string())),
        (F::String, Val::Double(value)) => Some(Val::text(value.to_string())),
        (F::String, Val::Bool(value)) => Some(Val::of_text(if *value { "true" } else { "false" })),
        (F::String, Val::Bytes(bytes)) => std::str::from_utf8(bytes).ok().map(Val::text),
        (F::String, Val::Timestamp(value)) => Some(Val::text(timestamp_text(value))),
        (F::String, Val::Duration(value)) => Some(Val::text(duration_text(value))),
        (F::Bool, Val::Text(text)) => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Some(Val::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Some(Val::Bool(false)),
            _ => None,
        },
        (F::Bytes, Val::Text(text)) => Some(match text {
            Text::Ref(text) => Val::Bytes(Octets::Ref(text.as_bytes())),
            Text::Own(text) => Val::Bytes(Octets::Own(text.as_bytes().into())),
        }),
        (F::Timestamp, Val::Text(text)) => {
            chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| Val::Timestamp(time.to_utc()))
        }
        (F::Timestamp, Val::Int(value)) => chrono::DateTime::from_timestamp(*value, 0).map(Val::Timestamp),
        (F::Duration, Val::Text(text)) => parse_duration(text).map(Val::Duration),
        _ => None,
    };
    converted.ok_or_else(refused)
}
