//! The groups that are in memory.

use std::sync::Arc;

use nvisy_core::{Batch, Result};

use super::accumulator::{Accumulator, Placed};
use super::column::Column;
use super::origins::Origins;
use super::part::{PARENTS, Part};
use super::state::size;
use super::table::Table;
use crate::actions::key::{Keys, Values};
use crate::expression::Value;

/// What a group takes beside what is counted: its place in an order.
const BESIDE: usize = 16;

/// The numbers of the first items of a group, less that from which on the groups count. They are
/// in one line of the processor's cache.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
struct First([u32; PARENTS]);

/// What items of a batch bring.
pub(super) struct Arrival<'a> {
    pub(super) batch: &'a Batch,
    /// The number of its first item.
    pub(super) first: u64,
    /// What the items are grouped by.
    pub(super) by: &'a [Values],
    /// What is computed of.
    pub(super) over: &'a Arc<[Values]>,
}

/// Groups that grow.
pub(super) struct Open {
    table: Table,
    /// How many items are in each.
    items: Column<u32>,
    firsts: Column<First>,
    pub(super) columns: Vec<Accumulator>,
    /// For each column of the key the values, where the key does not say them.
    values: Vec<Vec<Value>>,
    /// How many bytes those hold.
    held: usize,
    /// From which number on items count.
    base: u64,
    origins: Origins,
    /// The least key.
    least: Option<Box<[u8]>>,
}

impl Open {
    /// No groups, of so many columns of the key and these aggregates.
    pub(super) fn new(values: usize, columns: Vec<Accumulator>) -> Self {
        Self {
            table: Table::new(),
            items: Column::new(0),
            firsts: Column::new(First::default()),
            columns,
            values: vec![Vec::new(); values],
            held: 0,
            base: 0,
            origins: Origins::default(),
            least: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Returns whether a group is below a bound; without one any is.
    pub(super) fn is_below(&self, bound: Option<&[u8]>) -> bool {
        self.least.as_deref().is_some_and(|least| bound.is_none_or(|bound| least < bound))
    }

    /// Returns about how many bytes the groups take.
    pub(super) fn bytes(&self) -> usize {
        if self.len() == 0 {
            return 0;
        }
        let columns: usize = self.columns.iter().map(Accumulator::bytes).sum();
        let beside = self.held + BESIDE * self.len() + self.origins.bytes();
        self.table.bytes() + self.items.bytes() + self.firsts.bytes() + columns + beside
    }

    /// Returns whether items up to a number can be counted and named.
    pub(super) fn reaches(&self, number: u64) -> bool {
        self.len() < u32::MAX as usize / 2 && (self.len() == 0 || number - self.base < u64::from(u32::MAX))
    }

    /// Finds the groups of items, whose keys these are, and makes those that are not there.
    pub(super) fn find(&mut self, arrival: &Arrival<'_>, rows: &[u32], keys: &Keys) -> Result<Vec<u32>> {
        if self.len() == 0 {
            self.base = arrival.first;
        }
        let known = self.len();
        let mut groups = Vec::with_capacity(rows.len());
        self.table.find(keys, &mut groups)?;
        self.grow(known);
        self.keep_values(known, arrival.by, Placed { rows, groups: &groups, first: arrival.first });
        Ok(groups)
    }

    /// Counts items in the groups that were found, and names the first ones.
    pub(super) fn count(&mut self, batch: &Batch, items: Placed<'_>) {
        let first = (items.first - self.base) as u32;
        let mut named = false;
        for (row, group) in items.iter() {
            let count = self.items.at(group as usize);
            if (*count as usize) < PARENTS {
                self.firsts.at(group as usize).0[*count as usize] = first + row as u32;
                named = true;
            }
            *count += 1;
        }
        if named {
            self.origins.push(items.first, batch);
        }
    }

    /// Makes room for the groups that are new.
    fn grow(&mut self, known: usize) {
        let groups = self.len();
        self.items.grow(groups);
        self.items.touch();
        self.firsts.grow(groups);
        self.firsts.touch();
        self.columns.iter_mut().for_each(|column| column.grow(groups));
        let least = (known..groups).map(|group| self.table.key(group)).min();
        if let Some(key) = least
            && self.least.as_deref().is_none_or(|least| key < least)
        {
            self.least = Some(key.into());
        }
    }

    /// Keeps the lists and maps of new groups: a key does not say the types of what is in them.
    fn keep_values(&mut self, known: usize, by: &[Values], items: Placed<'_>) {
        for (kept, values) in self.values.iter_mut().zip(by) {
            if !matches!(values, Values::One(_) | Values::Each(_) | Values::Decimals(..)) {
                continue;
            }
            let mut next = known;
            for (row, group) in items.iter() {
                if group as usize == next {
                    next += 1;
                    if let Ok(value @ (Value::List(_) | Value::Map(_))) = values.get(row) {
                        self.held += size(&value);
                        kept.resize(group as usize, Value::Null);
                        kept.push(value);
                    }
                }
            }
        }
    }

    /// Returns the numbers of the first items of a group, in order.
    fn parents(&self, group: usize) -> impl Iterator<Item = u64> {
        let named = PARENTS.min(*self.items.get(group) as usize);
        self.firsts.get(group).0[..named].iter().map(|number| self.base + u64::from(*number))
    }

    /// Adds groups that are not there.
    fn put(&mut self, part: &Part, origins: &Origins) -> Result<()> {
        let known = self.len();
        if known == 0 {
            self.base = origins.first().unwrap_or(0);
        }
        let mut groups = Vec::new();
        self.table.find(&part.keys, &mut groups)?;
        self.grow(known);
        for (from, group) in groups.iter().enumerate() {
            *self.items.at(*group as usize) = part.items[from] as u32;
            let first = self.firsts.at(*group as usize);
            for (number, parent) in first.0.iter_mut().zip(part.parents_of(from)) {
                *number = (parent - self.base) as u32;
            }
            for (column, other) in self.columns.iter_mut().zip(&part.columns) {
                column.merge(*group, other, from as u32);
            }
            for (kept, others) in self.values.iter_mut().zip(&part.values) {
                if let Some(value) = others.get(from) {
                    self.held += size(value);
                    kept.resize(*group as usize, Value::Null);
                    kept.push(value.clone());
                }
            }
        }
        Ok(())
    }

    /// Returns some groups, in that order.
    fn part(&self, groups: &[u32]) -> Result<Part> {
        let mut part = Part::new(self.values.len(), &[]);
        part.columns = self.columns.iter().map(|column| column.select(groups)).collect();
        for group in groups {
            let at = *group as usize;
            part.keys.push(self.table.key(at))?;
            part.parents.extend(self.parents(at));
            part.items.push(u64::from(*self.items.get(at)));
            part.ends.push(part.parents.len() as u32);
        }
        for (values, kept) in part.values.iter_mut().zip(&self.values).filter(|(_, kept)| !kept.is_empty()) {
            let value = |group: &u32| kept.get(*group as usize).cloned().unwrap_or(Value::Null);
            values.extend(groups.iter().map(value));
        }
        Ok(part)
    }

    /// Closes the groups below a bound, all without one. Returns them, and those that stay open.
    pub(super) fn close(mut self, bound: Option<&[u8]>) -> Result<(Closed, Self)> {
        let blank: Vec<_> = self.columns.iter().map(Accumulator::blank).collect();
        let mut rest = Self::new(self.values.len(), blank);
        let (order, others) = self.table.order(bound);
        if others > 0 {
            let mut is_below = vec![false; self.len()];
            order.iter().for_each(|group| is_below[*group as usize] = true);
            let open: Vec<u32> = (0..self.len() as u32).filter(|group| !is_below[*group as usize]).collect();
            rest.origins = self.origins.of(open.iter().flat_map(|group| self.parents(*group as usize)));
            let origins = rest.origins.clone();
            for groups in open.chunks(PART) {
                rest.put(&self.part(groups)?, &origins)?;
            }
        }
        self.table.close();
        Ok((Closed { order, at: 0, groups: self }, rest))
    }
}

/// Groups of a part at the most.
pub(super) const PART: usize = 8_192;

/// Groups to which nothing is added any more, in order.
pub(super) struct Closed {
    groups: Open,
    order: Vec<u32>,
    /// How many were taken.
    at: usize,
}

impl Closed {
    /// Takes the next groups, which take about so many bytes.
    pub(super) fn next(&mut self, bytes: usize) -> Result<Option<Part>> {
        let each = self.groups.bytes() / self.groups.len().max(1);
        let left = &self.order[self.at..];
        let next = &left[..left.len().min((bytes / each.max(1)).clamp(1, PART))];
        self.at += next.len();
        (!next.is_empty()).then(|| self.groups.part(next)).transpose()
    }

    pub(super) fn origins(&self) -> &Origins {
        &self.groups.origins
    }

    /// Returns about how many bytes it takes, until all of it is taken.
    pub(super) fn bytes(&self) -> usize {
        self.groups.bytes()
    }
}
