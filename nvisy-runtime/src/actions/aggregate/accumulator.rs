//! What one aggregate knows of all groups so far, as columns by the groups' numbers.

use arrow::array::Array;
use nvisy_core::{Error, Result};

use super::Aggregation;
use super::column::Column;
use super::exact::Sums;
use super::state::State;
use crate::actions::key::Values;
use crate::expression::Value;

/// One aggregate of all groups.
#[derive(Clone, Debug)]
pub(super) enum Accumulator {
    /// How many values are null: the others are as many as there are items beside them.
    Count { nulls: Column<u64> },
    /// The sum of integers and that of other numbers, each exact.
    Sum { nulls: Column<u64>, integers: Column<i128>, doubles: Sums },
    /// What is kept of values of any type.
    Values { states: Column<State>, held: usize },
}

/// Items of a batch with their groups.
#[derive(Clone, Copy)]
pub(super) struct Placed<'a> {
    /// Where in the batch they are.
    pub(super) rows: &'a [u32],
    pub(super) groups: &'a [u32],
    /// The number of the first item of the batch.
    pub(super) first: u64,
}

impl Placed<'_> {
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, u32)> {
        self.rows.iter().map(|row| *row as usize).zip(self.groups.iter().copied())
    }
}

impl Accumulator {
    pub(super) fn new(aggregation: &Aggregation) -> Self {
        let state = match aggregation {
            Aggregation::Count(_) => return Self::Count { nulls: Column::new(0) },
            Aggregation::Sum(_) | Aggregation::Mean(_) => {
                return Self::Sum { nulls: Column::new(0), integers: Column::new(0), doubles: Sums::new() };
            }
            Aggregation::Min(_) => State::Least(None),
            Aggregation::Max(_) => State::Greatest(None),
            Aggregation::First(_) => State::First(None),
            Aggregation::Last(_) => State::Last(None),
            Aggregation::Collect(_) => State::All(Vec::new()),
        };
        Self::Values { states: Column::new(state), held: 0 }
    }

    /// Returns one of the same kind without groups.
    pub(super) fn blank(&self) -> Self {
        match self {
            Self::Count { .. } => Self::Count { nulls: Column::new(0) },
            Self::Sum { .. } => {
                Self::Sum { nulls: Column::new(0), integers: Column::new(0), doubles: Sums::new() }
            }
            Self::Values { states, .. } => {
                Self::Values { states: Column::new(states.neutral().clone()), held: 0 }
            }
        }
    }

    /// Makes so many groups of it; new ones know nothing.
    pub(super) fn grow(&mut self, groups: usize) {
        match self {
            Self::Count { nulls } => nulls.grow(groups),
            Self::Sum { nulls, integers, doubles } => {
                nulls.grow(groups);
                integers.grow(groups);
                doubles.grow(groups);
            }
            Self::Values { states, .. } => states.grow(groups),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Count { nulls } => nulls.bytes(),
            Self::Sum { nulls, integers, doubles } => nulls.bytes() + integers.bytes() + doubles.bytes(),
            Self::Values { states, held } => states.bytes() + held,
        }
    }

    /// Adds the values of items to their groups.
    pub(super) fn add(&mut self, values: &Values, items: Placed<'_>) {
        match self {
            Self::Count { nulls } => count_nulls(nulls, values, items),
            Self::Sum { nulls, integers, doubles } => {
                count_nulls(nulls, values, items);
                sum(integers, doubles, values, items);
            }
            Self::Values { states, held } => {
                states.touch();
                for (row, group) in items.iter() {
                    if let Ok(value) = values.get(row)
                        && !matches!(value, Value::Null)
                    {
                        *held += states.at(group as usize).add(items.first + row as u64, value);
                    }
                }
            }
        }
    }

    /// Adds what another one of the same kind knows of a group.
    pub(super) fn merge(&mut self, group: u32, other: &Self, from: u32) {
        let (to, of) = (group as usize, from as usize);
        let more_nulls = |nulls: &mut Column<u64>, others: &Column<u64>| {
            if *others.get(of) > 0 {
                nulls.touch();
                *nulls.at(to) += others.get(of);
            }
        };
        match (self, other) {
            (Self::Count { nulls }, Self::Count { nulls: others }) => more_nulls(nulls, others),
            (
                Self::Sum { nulls, integers, doubles },
                Self::Sum { nulls: other_nulls, integers: other_integers, doubles: other_doubles },
            ) => {
                more_nulls(nulls, other_nulls);
                if !other_integers.is_neutral() {
                    integers.touch();
                    *integers.at(to) += other_integers.get(of);
                }
                doubles.merge(group, other_doubles, from);
            }
            (Self::Values { states, held }, Self::Values { states: others, .. }) => {
                states.touch();
                *held += others.get(of).held();
                states.at(to).merge(others.get(of).clone());
            }
            _ => {}
        }
    }

    /// Returns what is known of some groups, in that order.
    pub(super) fn select(&self, groups: &[u32]) -> Self {
        match self {
            Self::Count { nulls } => Self::Count { nulls: nulls.select(groups) },
            Self::Sum { nulls, integers, doubles } => Self::Sum {
                nulls: nulls.select(groups),
                integers: integers.select(groups),
                doubles: doubles.select(groups),
            },
            Self::Values { states, .. } => {
                let states = states.select(groups);
                let held = states.iter().map(State::held).sum();
                Self::Values { states, held }
            }
        }
    }

    pub(super) fn put(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let failed = |error| Error::internal("groups do not become bytes").with_source(error);
        match self {
            Self::Count { nulls } => nulls.put(bytes),
            Self::Sum { nulls, integers, doubles } => {
                nulls.put(bytes);
                integers.put(bytes);
                doubles.put(bytes).map_err(failed)?;
            }
            Self::Values { states, .. } => {
                for state in states.iter() {
                    *bytes = postcard::to_extend(state, std::mem::take(bytes)).map_err(failed)?;
                }
            }
        }
        Ok(())
    }

    /// Takes one of the same kind over so many groups off the beginning.
    pub(super) fn take(&self, groups: usize, bytes: &mut &[u8]) -> Option<Self> {
        Some(match self {
            Self::Count { .. } => Self::Count { nulls: Column::take(0, groups, bytes)? },
            Self::Sum { .. } => Self::Sum {
                nulls: Column::take(0, groups, bytes)?,
                integers: Column::take(0, groups, bytes)?,
                doubles: Sums::take(groups, bytes)?,
            },
            Self::Values { states: known, .. } => {
                let (mut states, mut held) = (Column::new(known.neutral().clone()), 0);
                for _ in 0..groups {
                    let (state, rest): (State, _) = postcard::take_from_bytes(bytes).ok()?;
                    *bytes = rest;
                    held += state.held();
                    states.push(state);
                }
                Self::Values { states, held }
            }
        })
    }
}

fn count_nulls(nulls: &mut Column<u64>, values: &Values, items: Placed<'_>) {
    if !values.has_nulls() {
        return;
    }
    nulls.touch();
    for (row, group) in items.iter() {
        *nulls.at(group as usize) += u64::from(values.is_null(row));
    }
}

fn sum(integers: &mut Column<i128>, doubles: &mut Sums, values: &Values, items: Placed<'_>) {
    match values {
        Values::Doubles(of) if of.null_count() == 0 => {
            let of = of.values();
            doubles.add(items.iter().map(|(row, group)| (group, of[row])));
        }
        Values::Doubles(of) => {
            let valid = items.iter().filter(|(row, _)| of.is_valid(*row));
            doubles.add(valid.map(|(row, group)| (group, of.value(row))));
        }
        Values::Ints(of) => {
            integers.touch();
            for (row, group) in items.iter().filter(|(row, _)| of.is_valid(*row)) {
                *integers.at(group as usize) += i128::from(of.value(row));
            }
        }
        _ => {
            for (row, group) in items.iter() {
                let integer = match values.get(row) {
                    Ok(Value::Int(value)) => i128::from(value),
                    Ok(Value::UInt(value)) => i128::from(value),
                    Ok(Value::Double(value)) => {
                        doubles.add(std::iter::once((group, value)));
                        continue;
                    }
                    _ => continue,
                };
                integers.touch();
                *integers.at(group as usize) += integer;
            }
        }
    }
}
