//! Values that hold others.

use std::fmt;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, StructArray};

use super::{Cell, cell_at};

/// The values of a list.
#[derive(Clone, Copy)]
pub struct ListCell<'a> {
    values: &'a dyn Array,
    start: usize,
    len: usize,
}

impl<'a> ListCell<'a> {
    pub(super) fn new(values: &'a dyn Array, range: Range<usize>) -> Self {
        Self { values, start: range.start, len: range.len() }
    }

    /// Returns how many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the value at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Cell<'a>> {
        (index < self.len).then(|| cell_at(self.values, self.start + index))
    }

    /// Iterates over the values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Cell<'a>> + use<'a> {
        let Self { values, start, len } = *self;
        (start..start + len).map(move |at| cell_at(values, at))
    }

    /// Returns the values as an array of their own, without a copy.
    #[must_use]
    pub fn to_array(&self) -> ArrayRef {
        self.values.slice(self.start, self.len)
    }

    pub(crate) fn parts(&self) -> (&'a dyn Array, Range<usize>) {
        (self.values, self.start..self.start + self.len)
    }
}

/// The keys and values of a map, in the order they are kept in.
#[derive(Clone, Copy, PartialEq)]
pub struct MapCell<'a> {
    keys: ListCell<'a>,
    values: ListCell<'a>,
}

impl<'a> MapCell<'a> {
    pub(super) fn new(keys: ListCell<'a>, values: ListCell<'a>) -> Self {
        Self { keys, values }
    }

    /// Returns the keys.
    #[must_use]
    pub fn keys(&self) -> ListCell<'a> {
        self.keys
    }

    /// Returns the values.
    #[must_use]
    pub fn values(&self) -> ListCell<'a> {
        self.values
    }

    /// Iterates over the keys with their values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Cell<'a>, Cell<'a>)> + use<'a> {
        self.keys.iter().zip(self.values.iter())
    }
}

/// The named values of a struct.
#[derive(Clone, Copy)]
pub struct StructCell<'a> {
    array: &'a StructArray,
    index: usize,
}

impl<'a> StructCell<'a> {
    pub(super) fn new(array: &'a StructArray, index: usize) -> Self {
        Self { array, index }
    }

    /// Returns the value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cell<'a>> {
        Some(cell_at(self.array.column_by_name(name)?, self.index))
    }

    /// Iterates over the names with their values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a str, Cell<'a>)> + use<'a> {
        let Self { array, index } = *self;
        array.fields().iter().zip(array.columns()).map(move |(f, c)| (f.name().as_str(), cell_at(c, index)))
    }

    pub(crate) fn parts(&self) -> (&'a StructArray, usize) {
        (self.array, self.index)
    }
}

impl PartialEq for ListCell<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl PartialEq for StructCell<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for ListCell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl fmt::Debug for MapCell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl fmt::Debug for StructCell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
