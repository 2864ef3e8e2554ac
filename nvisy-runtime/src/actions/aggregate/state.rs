//! What an aggregate knows of a group so far.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::actions::key::encode;
use crate::expression::Value;

/// One aggregate of one group. Two of the same kind merge into what one would be over both.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum State {
    Count(u64),
    Sum {
        count: u64,
        integers: i128,
        doubles: Exact,
    },
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
            Self::Count(count) => *count += 1,
            Self::Sum { count, integers, doubles } => {
                *count += 1;
                match value {
                    Value::Int(value) => *integers += i128::from(value),
                    Value::UInt(value) => *integers += i128::from(value),
                    Value::Double(value) => doubles.add(value),
                    _ => {}
                }
            }
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

    /// Adds what is known of other items of the group.
    pub(super) fn merge(&mut self, other: Self) {
        match (self, other) {
            (Self::Count(count), Self::Count(more)) => *count += more,
            (
                Self::Sum { count, integers, doubles },
                Self::Sum { count: more, integers: others, doubles: other_doubles },
            ) => {
                *count += more;
                *integers += others;
                doubles.merge(&other_doubles);
            }
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

/// A sum of doubles without rounding: parts that do not overlap ([Shewchuk 1997][1]). So it is the
/// same in whatever order they are added, and rounded once.
///
/// [1]: https://doi.org/10.1007/PL00009321
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Exact {
    parts: Vec<f64>,
    /// The sum of those that are infinite or no number, if there was one.
    infinite: Option<f64>,
}

impl Exact {
    fn add(&mut self, value: f64) {
        if !value.is_finite() {
            self.infinite = Some(self.infinite.unwrap_or(0.0) + value);
            return;
        }
        let (mut value, mut kept) = (value, 0);
        for index in 0..self.parts.len() {
            let mut part = self.parts[index];
            if value.abs() < part.abs() {
                std::mem::swap(&mut value, &mut part);
            }
            let sum = value + part;
            let rest = part - (sum - value);
            if rest != 0.0 {
                self.parts[kept] = rest;
                kept += 1;
            }
            value = sum;
        }
        self.parts.truncate(kept);
        if value.is_finite() {
            self.parts.push(value);
        } else {
            self.parts.clear();
            self.infinite = Some(self.infinite.unwrap_or(0.0) + value);
        }
    }

    /// Adds an integer, exactly.
    fn add_integer(&mut self, integer: i128) {
        let mut rest = integer;
        while rest != 0 {
            let nearest = rest as f64;
            self.add(nearest);
            rest -= nearest as i128;
        }
    }

    fn merge(&mut self, other: &Self) {
        other.parts.iter().chain(&other.infinite).for_each(|part| self.add(*part));
    }

    /// Returns the double that is nearest to the sum.
    fn value(&self) -> f64 {
        if let Some(infinite) = self.infinite {
            return infinite;
        }
        let Some((high, mut rest)) = self.parts.split_last() else { return 0.0 };
        let (mut high, mut low) = (*high, 0.0);
        while let Some((part, before)) = rest.split_last() {
            rest = before;
            let sum = high + part;
            low = part - (sum - high);
            high = sum;
            if low != 0.0 {
                break;
            }
        }
        // Half way between two doubles, what is still behind decides.
        if let Some(next) = rest.last()
            && ((low < 0.0 && *next < 0.0) || (low > 0.0 && *next > 0.0))
        {
            let double = low * 2.0;
            let sum = high + double;
            if sum - high == double {
                high = sum;
            }
        }
        high
    }
}

/// The sum of integers and doubles as a double.
pub(super) fn total(integers: i128, doubles: &Exact) -> f64 {
    let mut exact = doubles.clone();
    exact.add_integer(integers);
    exact.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &[f64]) -> f64 {
        let mut exact = Exact::default();
        values.iter().for_each(|value| exact.add(*value));
        exact.value()
    }

    #[test]
    fn a_sum_is_exact_and_the_same_in_any_order() {
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(sum(&[1e16, 1.0, 1e-16]), 10_000_000_000_000_002.0);
        assert_eq!(sum(&[]), 0.0);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert_eq!(sum(&[f64::INFINITY, 1.0]), f64::INFINITY);
        let values: Vec<f64> =
            (0..200).map(|n| f64::from(n * n % 37) * 10_f64.powi(n % 40 - 20) - 3.0).collect();
        let backwards: Vec<f64> = values.iter().rev().copied().collect();
        assert_eq!(sum(&values), sum(&backwards));
        let [mut left, mut right] = [Exact::default(), Exact::default()];
        values[..70].iter().for_each(|value| left.add(*value));
        values[70..].iter().for_each(|value| right.add(*value));
        right.merge(&left);
        assert_eq!(right.value(), sum(&values));
        assert_eq!(total(9_007_199_254_740_993, &Exact::default()), 9_007_199_254_740_992.0);
        let half = Exact { parts: vec![0.5], infinite: None };
        assert_eq!(total(9_007_199_254_740_993, &half), 9_007_199_254_740_994.0);
    }
}
