//! Groups in the order of their keys, as columns: what a frame of a run has, and what comes out.

use nvisy_core::{Error, Result};

use super::accumulator::Accumulator;
use super::column::Plain;
use crate::actions::key::Keys;
use crate::expression::Value;

/// How many items a group names as what it was made of.
pub(super) const PARENTS: usize = 8;

/// Some groups, in order.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) keys: Keys,
    /// For each column of the key the values, where the key does not say them.
    pub(super) values: Vec<Vec<Value>>,
    /// How many items are in each group.
    pub(super) items: Vec<u64>,
    /// The numbers of the first items of all groups, in order.
    pub(super) parents: Vec<u64>,
    /// Where those of each group end.
    pub(super) ends: Vec<u32>,
    pub(super) columns: Vec<Accumulator>,
}

impl Part {
    /// No group, of so many columns of the key and these aggregates.
    pub(super) fn new(values: usize, columns: &[Accumulator]) -> Self {
        Self {
            keys: Keys::default(),
            values: vec![Vec::new(); values],
            items: Vec::new(),
            parents: Vec::new(),
            ends: Vec::new(),
            columns: columns.to_vec(),
        }
    }

    /// Returns a part of the same columns without groups.
    pub(super) fn blank(&self) -> Self {
        let columns: Vec<_> = self.columns.iter().map(Accumulator::blank).collect();
        Self::new(self.values.len(), &columns)
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns about how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let columns: usize = self.columns.iter().map(Accumulator::bytes).sum();
        self.keys.bytes() + 8 * self.parents.len() + 12 * self.len() + columns
    }

    /// Returns the numbers of the first items of a group.
    pub(super) fn parents_of(&self, group: usize) -> &[u64] {
        let start = group.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.parents[start..self.ends[group] as usize]
    }

    /// Adds a group of another part behind the others.
    pub(super) fn push(&mut self, other: &Self, from: usize) -> Result<()> {
        let group = self.len();
        self.keys.push(other.keys.get(from))?;
        for (values, others) in self.values.iter_mut().zip(&other.values) {
            if let Some(value) = others.get(from) {
                values.resize(group, Value::Null);
                values.push(value.clone());
            }
        }
        self.items.push(other.items[from]);
        self.parents.extend(other.parents_of(from));
        self.ends.push(self.parents.len() as u32);
        self.merge_columns(group, other, from);
        Ok(())
    }

    /// Adds what another part knows of the last group.
    pub(super) fn merge(&mut self, other: &Self, from: usize) {
        let Some(group) = self.len().checked_sub(1) else { return };
        self.items[group] += other.items[from];
        let start = self.parents.len() - self.parents_of(group).len();
        self.parents.extend(other.parents_of(from));
        self.parents[start..].sort_unstable();
        self.parents.truncate(start + PARENTS);
        self.ends[group] = self.parents.len() as u32;
        self.merge_columns(group, other, from);
    }

    fn merge_columns(&mut self, group: usize, other: &Self, from: usize) {
        for (column, other) in self.columns.iter_mut().zip(&other.columns) {
            column.grow(group + 1);
            column.merge(group as u32, other, from as u32);
        }
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = self.keys.to_bytes();
        self.items.iter().for_each(|items| items.put(&mut bytes));
        self.ends.iter().for_each(|end| end.put(&mut bytes));
        self.parents.iter().for_each(|parent| parent.put(&mut bytes));
        bytes = postcard::to_extend(&self.values, bytes)
            .map_err(|error| Error::internal("the keys of groups do not become bytes").with_source(error))?;
        self.columns.iter().try_for_each(|column| column.put(&mut bytes))?;
        Ok(bytes)
    }

    /// Reads a part of the same columns as this one; none if the bytes are of no such.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<Self> {
        let (keys, mut bytes) = Keys::from_bytes(bytes)?;
        let groups = keys.len();
        let bytes = &mut bytes;
        let items = (0..groups).map(|_| u64::take(bytes)).collect::<Option<_>>()?;
        let ends: Vec<u32> = (0..groups).map(|_| u32::take(bytes)).collect::<Option<_>>()?;
        let parents = ends.last().copied().unwrap_or(0) as usize;
        if !ends.is_sorted() || parents > groups * PARENTS {
            return None;
        }
        let parents = (0..parents).map(|_| u64::take(bytes)).collect::<Option<_>>()?;
        let (values, rest): (Vec<Vec<Value>>, _) = postcard::take_from_bytes(bytes).ok()?;
        *bytes = rest;
        let columns = self.columns.iter().map(|column| column.take(groups, bytes)).collect::<Option<_>>()?;
        (bytes.is_empty() && values.len() == self.values.len()).then_some(Self {
            keys,
            values,
            items,
            parents,
            ends,
            columns,
        })
    }
}
