//! What an aggregate over values knows of a group so far.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::actions::key::encode;
use crate::expression::Value;

/// One aggregate of one group. Two of the same kind merge into what one would be over both.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum State {
    Least(Option<Value>),
    Greatest(Option<Value>),
    /// With the number of the item that it is from.
    First(Option<(u64, Value)>),
    Last(Option<(u64, Value)>),
    All(Vec<(u64, Value)>),
}

impl State {
    /// Adds the value of an item, which is not null. Returns by how many bytes it grows.
    pub(super) fn add(&mut self, number: u64, value: Value) -> usize {
        match self {
            Self::Least(least) => return replace(least, value, Ordering::Less),
            Self::Greatest(greatest) => return replace(greatest, value, Ordering::Greater),
            Self::First(first) => {
                if first.is_none() {
                    let size = size(&value);
                    *first = Some((number, value));
                    return size;
                }
            }
            Self::Last(last) => {
                let size = size(&value);
                *last = Some((number, value));
                return size;
            }
            Self::All(all) => {
                let size = size(&value) + 16;
                all.push((number, value));
                return size;
            }
        }
        0
    }

    /// Returns about how many bytes it holds beside itself.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Least(value) | Self::Greatest(value) => value.as_ref().map_or(0, size),
            Self::First(value) | Self::Last(value) => value.as_ref().map_or(0, |(_, value)| size(value)),
            Self::All(all) => all.iter().map(|(_, value)| 16 + size(value)).sum(),
        }
    }

    /// Adds what is known of other items of the group.
    pub(super) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Least(least), Self::Least(Some(value))) => _ = replace(least, value, Ordering::Less),
            (Self::Greatest(most), Self::Greatest(Some(value))) => {
                _ = replace(most, value, Ordering::Greater);
            }
            (Self::First(first), Self::First(Some(other)))
                if first.as_ref().is_none_or(|(number, _)| other.0 < *number) =>
            {
                *first = Some(other);
            }
            (Self::Last(last), Self::Last(Some(other)))
                if last.as_ref().is_none_or(|(number, _)| other.0 > *number) =>
            {
                *last = Some(other);
            }
            (Self::All(all), Self::All(more)) => {
                all.extend(more);
                all.sort_by_key(|(number, _)| *number);
            }
            _ => {}
        }
    }
}

/// Keeps the value that stands first in the order; of equal ones that which was there.
fn replace(kept: &mut Option<Value>, value: Value, wins: Ordering) -> usize {
    match kept {
        Some(kept) if order(&value, kept) != wins => 0,
        _ => {
            let size = size(&value);
            *kept = Some(value);
            size
        }
    }
}

fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        (a, b) => {
            let key = |value| {
                let mut key = Vec::new();
                encode(value, &mut key);
                key
            };
            key(a).cmp(&key(b))
        }
    }
}

/// About how many bytes a value takes.
pub(super) fn size(value: &Value) -> usize {
    let beside = match value {
        Value::Text(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(values) => values.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|(key, value)| size(key) + size(value)).sum(),
        _ => 0,
    };
    size_of::<Value>() + beside
}
