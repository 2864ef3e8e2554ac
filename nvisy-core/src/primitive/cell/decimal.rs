//! Decimal numbers.

use std::fmt;

use arrow::datatypes::i256;

/// A decimal number: an integer and how many of its digits stand behind the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    unscaled: i256,
    scale: i8,
}

impl Decimal {
    /// Returns the integer without the point.
    #[must_use]
    pub fn unscaled(&self) -> i256 {
        self.unscaled
    }

    /// Returns how many digits stand behind the point: less than none are zeros before it.
    #[must_use]
    pub fn scale(&self) -> i8 {
        self.scale
    }

    pub(super) fn new(unscaled: i256, scale: i8) -> Self {
        Self { unscaled, scale }
    }

    /// Reads a decimal number of the scale, exactly.
    pub(crate) fn parse(text: &str, scale: i8) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        let unsigned = whole.strip_prefix('-').unwrap_or(whole);
        if unsigned.is_empty() || !digits(unsigned) || !digits(fraction) || text.len() > 256 {
            return None;
        }
        if text.bytes().all(|b| matches!(b, b'-' | b'.' | b'0')) {
            return Some(Self { unscaled: i256::ZERO, scale });
        }
        let mut number = format!("{whole}{fraction}");
        let missing = i64::from(scale) - i64::try_from(fraction.len()).ok()?;
        if missing >= 0 {
            number.extend(std::iter::repeat_n('0', usize::try_from(missing).ok()?));
        } else {
            let kept = number.len().checked_sub(usize::try_from(-missing).ok()?)?;
            if !number.is_char_boundary(kept) || number[kept..].bytes().any(|b| b != b'0') {
                return None;
            }
            number.truncate(kept);
        }
        Some(Self { unscaled: i256::from_string(&number)?, scale })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.unscaled.to_string();
        let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
        let scale = usize::from(self.scale.unsigned_abs());
        if self.scale <= 0 {
            let zeros = if digits == "0" { 0 } else { scale };
            write!(f, "{sign}{digits}{:0<zeros$}", "")
        } else {
            let digits = format!("{digits:0>width$}", width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            write!(f, "{sign}{whole}.{fraction}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_read_as_they_are_written() {
        for (unscaled, scale, text) in [
            (1250, 2, "12.50"),
            (-5, 3, "-0.005"),
            (0, 2, "0.00"),
            (12, -2, "1200"),
            (7, 0, "7"),
            (0, -2, "0"),
        ] {
            let decimal = Decimal { unscaled: i256::from_i128(unscaled), scale };
            assert_eq!(decimal.to_string(), text);
            assert_eq!(Decimal::parse(text, scale), Some(decimal));
        }
        assert_eq!(Decimal::parse("1.5", 3).unwrap().to_string(), "1.500");
        for wrong in ["", "-", "1.005", "1e5", "x", "1..2", "--1"] {
            assert_eq!(Decimal::parse(wrong, 2), None, "{wrong}");
        }
    }
}
