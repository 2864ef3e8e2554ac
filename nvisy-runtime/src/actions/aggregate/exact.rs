//! Sums of doubles without rounding, one a group.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::column::Column;

/// A sum a group: two parts where that is enough, and as many as it takes in rare cases.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    /// The lesser part first. Not a number where the sum is among the rare ones.
    parts: Column<[f64; 2]>,
    rare: BTreeMap<u32, Exact>,
}

const RARE: [f64; 2] = [f64::NAN; 2];

impl Sums {
    pub(super) fn new() -> Self {
        Self { parts: Column::new([0.0; 2]), rare: BTreeMap::new() }
    }

    pub(super) fn grow(&mut self, groups: usize) {
        self.parts.grow(groups);
    }

    pub(super) fn is_zero(&self) -> bool {
        self.parts.is_neutral()
    }

    pub(super) fn bytes(&self) -> usize {
        // Entries of the tree, and some parts each.
        self.parts.bytes() + 160 * self.rare.len()
    }

    /// Adds values to the sums of groups.
    pub(super) fn add(&mut self, values: impl Iterator<Item = (u32, f64)>) {
        self.parts.touch();
        for (group, value) in values {
            let parts = self.parts.at(group as usize);
            match plus(*parts, value) {
                Some(sum) => *parts = sum,
                None => {
                    let before = std::mem::replace(parts, RARE);
                    self.rare.entry(group).or_insert_with(|| Exact::of(before)).add(value);
                }
            }
        }
    }

    /// Adds the sum of another group.
    pub(super) fn merge(&mut self, group: u32, other: &Self, from: u32) {
        if other.is_zero() {
            return;
        }
        match other.rare.get(&from) {
            None => self.add(other.parts.get(from as usize).iter().map(|part| (group, *part))),
            Some(other) => {
                self.parts.touch();
                let before = std::mem::replace(self.parts.at(group as usize), RARE);
                self.rare.entry(group).or_insert_with(|| Exact::of(before)).merge(other);
            }
        }
    }

    /// Returns the double that is nearest to the sum of a group.
    pub(super) fn value(&self, group: u32) -> f64 {
        let [low, high] = *self.parts.get(group as usize);
        if high.is_nan() { self.exact(group).value() } else { high + low + 0.0 }
    }

    /// Returns the double that is nearest to the sum of a group and an integer.
    pub(super) fn with_integer(&self, group: u32, integer: i128) -> f64 {
        let mut exact = self.exact(group);
        exact.add_integer(integer);
        exact.value()
    }

    fn exact(&self, group: u32) -> Exact {
        let known = self.rare.get(&group).cloned();
        known.unwrap_or_else(|| Exact::of(*self.parts.get(group as usize)))
    }

    pub(super) fn select(&self, groups: &[u32]) -> Self {
        let rare = (0..).zip(groups).filter_map(|(at, group)| Some((at, self.rare.get(group)?.clone())));
        let rare = if self.rare.is_empty() { BTreeMap::new() } else { rare.collect() };
        Self { parts: self.parts.select(groups), rare }
    }

    pub(super) fn put(&self, bytes: &mut Vec<u8>) -> postcard::Result<()> {
        self.parts.put(bytes);
        *bytes = postcard::to_extend(&self.rare, std::mem::take(bytes))?;
        Ok(())
    }

    pub(super) fn take(groups: usize, bytes: &mut &[u8]) -> Option<Self> {
        let parts = Column::take([0.0; 2], groups, bytes)?;
        let (rare, rest) = postcard::take_from_bytes(bytes).ok()?;
        *bytes = rest;
        Some(Self { parts, rare })
    }
}

/// Adds to a sum of two parts; none if it takes more, or is not finite.
#[inline]
fn plus([low, high]: [f64; 2], value: f64) -> Option<[f64; 2]> {
    let (sum, least) = two_sum(value, low);
    let (high, low) = two_sum(sum, high);
    if !high.is_finite() {
        return None;
    }
    if least == 0.0 {
        return Some([low, high]);
    }
    let (rest, lost) = two_sum(low, least);
    let (high, low) = two_sum(high, rest);
    (lost == 0.0 && high.is_finite()).then_some([low, high])
}

/// The sum as it is rounded, and what the rounding took away ([Knuth 1969][1], 4.2.2).
///
/// [1]: https://www-cs-faculty.stanford.edu/~knuth/taocp.html
#[inline]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let of_b = sum - a;
    (sum, (a - (sum - of_b)) + (b - of_b))
}

/// A sum of doubles without rounding: parts that do not overlap ([Shewchuk 1997][1]). So it is the
/// same in whatever order they are added, and rounded once.
///
/// [1]: https://doi.org/10.1007/PL00009321
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Exact {
    parts: Vec<f64>,
    /// What is in no part: so many [`UNIT`]s, or the sum of those that are infinite or no number.
    beyond: Option<f64>,
}

/// Parts are less than twice as much before something is added, so that none overflows: 2^1022.
const UNIT: f64 = f64::from_bits(0x7fd0_0000_0000_0000);
/// Beyond so many units no double is so large.
const MOST_UNITS: f64 = 6.0;

impl Exact {
    fn of(parts: [f64; 2]) -> Self {
        let mut exact = Self::default();
        parts.into_iter().filter(|part| *part != 0.0).for_each(|part| exact.add(part));
        exact
    }

    fn add(&mut self, value: f64) {
        if !value.is_finite() {
            self.add_units(value);
            return;
        }
        if let Some(last) = self.parts.pop() {
            let last = self.without_units(last);
            self.parts.extend((last != 0.0).then_some(last));
        }
        let value = self.without_units(value);
        self.add_part(value);
    }

    fn add_units(&mut self, units: f64) {
        self.beyond = Some(self.beyond.unwrap_or(0.0) + units);
    }

    /// Counts the units of a value apart, and returns what is left of it.
    fn without_units(&mut self, value: f64) -> f64 {
        if value.abs() < UNIT {
            return value;
        }
        let rest = value % UNIT;
        self.add_units((value - rest) / UNIT);
        rest
    }

    fn add_part(&mut self, mut value: f64) {
        let mut kept = 0;
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
        self.parts.push(value);
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
        other.parts.iter().for_each(|part| self.add(*part));
        other.beyond.iter().for_each(|units| self.add_units(*units));
    }

    /// Returns the double that is nearest to the sum.
    fn value(&self) -> f64 {
        if let Some(units) = self.beyond.filter(|units| *units != 0.0) {
            return self.with_units(units);
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

    fn with_units(&self, units: f64) -> f64 {
        if units.is_nan() || units.abs() > MOST_UNITS {
            return units * f64::INFINITY;
        }
        let mut whole = Self { parts: self.parts.clone(), beyond: None };
        for _ in 0..units.abs() as u32 {
            whole.add_part(UNIT.copysign(units));
            if whole.parts.last().is_some_and(|last| !last.is_finite()) {
                return f64::INFINITY.copysign(units);
            }
        }
        whole.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(values: &[f64]) -> Sums {
        let mut sums = Sums::new();
        sums.grow(1);
        sums.add(values.iter().map(|value| (0, *value)));
        sums
    }

    fn sum(values: &[f64]) -> f64 {
        sums(values).value(0)
    }

    #[test]
    fn a_sum_is_exact_and_the_same_in_any_order() {
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(sum(&[1e16, 1.0, 1e-16]), 10_000_000_000_000_002.0);
        assert_eq!(sum(&[]), 0.0);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert_eq!(sum(&[f64::INFINITY, 1.0]), f64::INFINITY);
        let large = [1e308, 1.0, -1e308, f64::MAX, -1e308, 1e308, -1.0, 1e-300, f64::MAX, -f64::MAX];
        for by in 0..large.len() {
            let turned: Vec<f64> = (0..large.len()).map(|n| large[(n * 3 + by) % large.len()]).collect();
            assert_eq!(sum(&turned), f64::MAX, "{turned:?}");
        }
        for order in [[1e308, 1e308, -1e308], [1e308, -1e308, 1e308], [-1e308, 1e308, 1e308]] {
            assert_eq!(sum(&order), 1e308);
            assert_eq!(sum(&order.map(|value| -value)), -1e308);
        }
        assert_eq!(sum(&[1e308; 1_000]), f64::INFINITY);
        assert_eq!(sum(&[[1e308; 50], [-1e308; 50]].concat()), 0.0);
        assert_eq!(sum(&[1e308, 1e308, f64::NEG_INFINITY]), f64::NEG_INFINITY);
        assert!(sum(&[-1e308, -1e308, f64::NAN]).is_nan());
        let values: Vec<f64> =
            (0..200).map(|n| f64::from(n * n % 37) * 10_f64.powi(n % 40 - 20) - 3.0).collect();
        let backwards: Vec<f64> = values.iter().rev().copied().collect();
        assert_eq!(sum(&values), sum(&backwards));
        for parted in 0..values.len() {
            let (left, mut right) = (sums(&values[..parted]), sums(&values[parted..]));
            right.merge(0, &left, 0);
            assert_eq!(right.value(0), sum(&values));
            let mut bytes = Vec::new();
            right.put(&mut bytes).unwrap();
            assert_eq!(Sums::take(1, &mut &*bytes).unwrap().select(&[0]).value(0), sum(&values));
        }
        assert_eq!(sums(&[0.0]).with_integer(0, 9_007_199_254_740_993), 9_007_199_254_740_992.0);
        assert_eq!(sums(&[0.5]).with_integer(0, 9_007_199_254_740_993), 9_007_199_254_740_994.0);
    }

    #[test]
    fn two_parts_say_what_many_say() {
        // Values of few bits and of many, that meet and that lie far apart.
        let mut state = 7_u64;
        let mut roll = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state >> 33
        };
        for round in 0..400 {
            let mut value = || {
                let bits = (roll() << 31 | roll()) >> (roll() % 62);
                let sign = if roll() % 2 == 0 { 1.0 } else { -1.0 };
                sign * bits as f64 * 2_f64.powi(roll() as i32 % (1 + round % 120) - 60)
            };
            let values: Vec<f64> = (0..1 + round as usize % 40).map(|_| value()).collect();
            let mut exact = Exact::default();
            values.iter().for_each(|value| exact.add(*value));
            assert_eq!(sum(&values), exact.value(), "{values:?}");
        }
    }
}
