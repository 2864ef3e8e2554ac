//! Things under their names.

use std::fmt;

use indexmap::IndexMap;
use serde::{Serialize, Serializer};

/// Things under their names, in the order in which they were written. Two are equal whatever
/// that order.
#[derive(Clone, PartialEq)]
pub struct Named<T>(IndexMap<String, T>);

impl<T> Named<T> {
    /// Makes an empty one.
    #[must_use]
    pub fn new() -> Self {
        Self(IndexMap::new())
    }

    /// Returns what has the name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.get(name)
    }

    /// Returns what has the name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.0.get_mut(name)
    }

    /// Returns whether something has the name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Adds something at the end, or replaces in its place what had the name, and returns that.
    pub fn insert(&mut self, name: impl Into<String>, value: T) -> Option<T> {
        self.0.insert(name.into(), value)
    }

    /// Takes out what has the name. The others keep their order.
    pub fn remove(&mut self, name: &str) -> Option<T> {
        self.0.shift_remove(name)
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Iterates over names and things, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Iterates over the names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the name and the thing at a place in the order.
    #[must_use]
    pub fn at(&self, index: usize) -> Option<(&str, &T)> {
        self.0.get_index(index).map(|(name, value)| (name.as_str(), value))
    }

    /// Returns the place of a name in the order.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.0.get_index_of(name)
    }
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for Named<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> FromIterator<(String, T)> for Named<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(things: I) -> Self {
        Self(things.into_iter().collect())
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_means_nothing() {
        let named =
            |names: [&str; 2]| names.into_iter().map(|n| (n.to_owned(), n.len())).collect::<Named<_>>();
        assert_eq!(named(["b", "a"]), named(["a", "b"]));
        assert_eq!(named(["b", "a"]).names().collect::<Vec<_>>(), ["b", "a"]);
    }
}
