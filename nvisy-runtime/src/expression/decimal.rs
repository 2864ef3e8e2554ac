//! The decimals that an expression gives as they are in a row: as values they are doubles, as keys
//! they are not rounded.

use arrow::datatypes::{DataType, Field};
use nvisy_core::primitive::row::{Cell, Decimal, Row};
use nvisy_core::{Batch, KindId, Payload};

use super::ast::{Expr, Node, Root};
use super::scope::Scope;
use super::value::Literal;
use super::{Expression, Reference, eval};

/// The decimals in a value that is not computed of them.
#[derive(Debug)]
pub(crate) enum Decimals {
    None,
    /// It is the value.
    One(Decimal),
    /// The value is a list of as many values.
    List(Vec<Self>),
    /// The value is a map, which has them in it.
    Within(Vec<Decimal>),
}

impl Expression {
    /// Returns the decimals that it gives of each item; none if it gives none of any.
    pub(crate) fn decimals(&self, batch: &Batch) -> Option<Vec<Decimals>> {
        let may = match batch.as_rows() {
            Some(rows) => {
                let reads = |reference: &Reference, field: &Field| {
                    let column = reference.column();
                    reference.path == "row" || column.is_some_and(|column| column.starts_with(field.name()))
                };
                rows.schema_ref().fields().iter().any(|field| {
                    self.references().iter().any(|reference| reads(reference, field))
                        && holds_decimals(field.data_type())
                })
            }
            None => self.kinds().contains(KindId::Row) && batch.kinds().contains(KindId::Row),
        };
        let gives = |node: &Node| {
            matches!(
                node.expr,
                Expr::Root(_)
                    | Expr::Field { .. }
                    | Expr::Index { .. }
                    | Expr::Conditional(_)
                    | Expr::List(_)
                    | Expr::Map(_)
            )
        };
        if !may || !gives(&self.0.node) {
            return None;
        }
        let at = |index| match &batch.payload(index) {
            payload @ Payload::Row(row) => of(&self.0.node, row, &Scope::at(batch, index, payload)),
            _ => Decimals::None,
        };
        let decimals: Vec<_> = (0..batch.len()).map(at).collect();
        (!decimals.iter().all(Decimals::is_none)).then_some(decimals)
    }
}

fn of(node: &Node, row: &Row, scope: &Scope<'_>) -> Decimals {
    match &node.expr {
        Expr::Conditional(parts) => match eval::evaluate_bool(&parts[0], scope) {
            Ok(truth) => of(&parts[if truth { 1 } else { 2 }], row, scope),
            Err(_) => Decimals::None,
        },
        Expr::List(items) => Decimals::list(items.iter().map(|item| of(item, row, scope))),
        Expr::Map(entries) => {
            let parts = entries.iter().flat_map(|(key, value)| [key, value]);
            Decimals::within(parts.map(|part| of(part, row, scope)))
        }
        Expr::Root(Root::Kind(KindId::Row)) => Decimals::within(row.columns().map(|(_, cell)| in_cell(cell))),
        _ => cell(node, row).map_or(Decimals::None, in_cell),
    }
}

impl Decimals {
    pub(crate) fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    fn list(items: impl Iterator<Item = Self>) -> Self {
        let items: Vec<_> = items.collect();
        if items.iter().all(Self::is_none) { Self::None } else { Self::List(items) }
    }

    fn within(parts: impl Iterator<Item = Self>) -> Self {
        let mut within = Vec::new();
        parts.for_each(|part| part.put(&mut within));
        if within.is_empty() { Self::None } else { Self::Within(within) }
    }

    fn put(self, decimals: &mut Vec<Decimal>) {
        match self {
            Self::None => {}
            Self::One(decimal) => decimals.push(decimal),
            Self::List(items) => items.into_iter().for_each(|item| item.put(decimals)),
            Self::Within(within) => decimals.extend(within),
        }
    }
}

/// Returns what a path of fields and numbers leads to.
fn cell<'a>(node: &Node, row: &'a Row) -> Option<Cell<'a>> {
    match &node.expr {
        Expr::Field { of, name } if matches!(of.expr, Expr::Root(Root::Kind(KindId::Row))) => row.get(name),
        Expr::Field { of, name } => match cell(of, row)? {
            Cell::Struct(fields) => fields.get(name),
            Cell::Map(map) => map
                .iter()
                .find_map(|(key, value)| matches!(key, Cell::Text(key) if *key == **name).then_some(value)),
            _ => None,
        },
        Expr::Index { of, index } => match (cell(of, row)?, &index.expr) {
            (Cell::List(list), Expr::Literal(Literal::Int(at))) => {
                list.iter().nth(usize::try_from(*at).ok()?)
            }
            _ => None,
        },
        _ => None,
    }
}

fn in_cell(cell: Cell<'_>) -> Decimals {
    match cell {
        Cell::Decimal(decimal) => Decimals::One(decimal),
        Cell::List(list) => Decimals::list(list.iter().map(in_cell)),
        Cell::Struct(fields) => Decimals::within(fields.iter().map(|(_, cell)| in_cell(cell))),
        Cell::Map(map) => Decimals::within(map.iter().flat_map(|(key, value)| [key, value]).map(in_cell)),
        _ => Decimals::None,
    }
}

fn holds_decimals(data_type: &DataType) -> bool {
    use DataType as T;
    match data_type {
        T::List(field)
        | T::LargeList(field)
        | T::ListView(field)
        | T::LargeListView(field)
        | T::FixedSizeList(field, _)
        | T::Map(field, _)
        | T::RunEndEncoded(_, field) => holds_decimals(field.data_type()),
        T::Struct(fields) => fields.iter().any(|field| holds_decimals(field.data_type())),
        T::Union(fields, _) => fields.iter().any(|(_, field)| holds_decimals(field.data_type())),
        T::Dictionary(_, values) => holds_decimals(values),
        other => other.is_decimal(),
    }
}
