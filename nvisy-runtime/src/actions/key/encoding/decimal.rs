//! Decimals in keys: exact, in order with all other numbers.

use std::cmp::Ordering;

use nvisy_core::primitive::row::Decimal;

use super::{LIST, Number, double, encode, integer, number};
use crate::expression::{Decimals, Value};

/// Behind a number that is next to the decimal come its digits. No value begins so: only a null is
/// less or greater than it and its opposite.
const DIGITS: u8 = 0xfe;
/// From here on doubles are integers: 2^53.
const WHOLE: f64 = 9_007_199_254_740_992.0;
/// Where integers of 64 bits end: 2^64.
const INTEGERS: f64 = 18_446_744_073_709_551_616.0;

/// Writes a value, in which decimals stand as doubles, with the decimals that they are.
pub(in crate::actions::key) fn encode_exact(
    value: &Value,
    decimals: &Decimals,
    upper: bool,
    key: &mut Vec<u8>,
) {
    match (value, decimals) {
        (_, Decimals::One(value)) => decimal(*value, upper, key),
        (Value::List(values), Decimals::List(items)) => {
            key.push(LIST);
            let items = values.iter().zip(items);
            items.for_each(|(value, decimals)| encode_exact(value, decimals, upper, key));
            key.push(0);
        }
        _ => encode(value, key),
    }
}

/// Writes a decimal: as the number that it is, or behind the greatest integer that is less and
/// nearest to the same double (as far as there are any), with its digits; or behind the `upper` one,
/// the least that is greater. Which of them decides what may stand behind that number else: where all
/// bytes are going to be negated the upper one, and where a null that comes last may follow the other.
fn decimal(value: Decimal, upper: bool, key: &mut Vec<u8>) {
    let text = value.to_string();
    let digits = Digits::of(&text);
    let nearest = nearest(&text);
    if let Some(number) = digits.number(nearest) {
        key.extend(number);
        return;
    }
    let before = match digits.integer() {
        Some(whole) if (WHOLE..=INTEGERS).contains(&nearest.abs()) => {
            let below = i128::from(digits.negative && !digits.part.is_empty());
            (whole - below - nearest as i128) as i16
        }
        _ if digits.order(&Digits::of(&written(nearest))) == Ordering::Less => -1,
        _ => 0,
    };
    key.extend(number(nearest, before + i16::from(upper)));
    key.push(if upper { !DIGITS } else { DIGITS });
    let start = key.len();
    key.push(digits.whole.len() as u8);
    key.extend(digits.whole.bytes().chain(digits.part.bytes()));
    key.push(0);
    if digits.negative {
        key[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

/// Returns whether a decimal is a double.
pub(in crate::actions::key) fn is_double(value: Decimal) -> bool {
    let text = value.to_string();
    let nearest = nearest(&text);
    Digits::of(&text).number(nearest) == Some(double(nearest))
}

/// Takes the digits off that are behind a number, if there are any.
pub(super) fn skip(key: &mut &[u8]) -> Option<()> {
    if let [DIGITS, _, rest @ ..] = *key {
        let end = rest.iter().position(|byte| matches!(byte, 0 | 0xff))?;
        *key = &rest[end + 1..];
    }
    Some(())
}

fn nearest(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

/// The digits that a double stands for: those of an integer are exact.
fn written(value: f64) -> String {
    if value.abs() < WHOLE { value.to_string() } else { format!("{value:.0}") }
}

/// A decimal without zeros that say nothing.
#[derive(PartialEq)]
struct Digits<'a> {
    negative: bool,
    whole: &'a str,
    part: &'a str,
}

impl<'a> Digits<'a> {
    fn of(text: &'a str) -> Self {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        Self { negative, whole: whole.trim_start_matches('0'), part: part.trim_end_matches('0') }
    }

    /// Returns what stands before the point.
    fn integer(&self) -> Option<i128> {
        let whole = if self.whole.is_empty() { "0" } else { self.whole };
        whole.parse().ok().map(|whole: i128| if self.negative { -whole } else { whole })
    }

    /// Returns the integer or the double that it is.
    fn number(&self, nearest: f64) -> Option<Number> {
        let integers = i128::from(i64::MIN)..=i128::from(u64::MAX);
        match self.integer() {
            Some(whole) if self.part.is_empty() && integers.contains(&whole) => Some(integer(whole)),
            _ => (*self == Digits::of(&written(nearest))).then(|| double(nearest)),
        }
    }

    /// Compares two of one sign.
    fn order(&self, other: &Digits<'_>) -> Ordering {
        let size = |of: &Digits<'_>| of.whole.len();
        let order =
            size(self).cmp(&size(other)).then(self.whole.cmp(other.whole)).then(self.part.cmp(other.part));
        if self.negative { order.reverse() } else { order }
    }
}
