//! Evaluates an expression on one item: the semantics that everything else is held to.

mod arithmetic;
mod call;
mod convert;
mod fault;

use std::rc::Rc;

pub(super) use self::arithmetic::{arithmetic, double, uint, wide};
use self::call::call;
use self::fault::nearest;
pub(super) use self::fault::{Cause, Eval, Fault};
use super::MAX_COST;
use super::ast::{Compare, Comprehension, Expr, Form, Node, Root};
use super::functions::Function;
use super::scope::Scope;
use super::value::{List, Map, Val, Value};

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
