//! What a text says: the one grammar that inference and reading share.
//!
//! | type | what reads as one |
//! |---|---|
//! | bool | `true` or `false`, in any case |
//! | int | digits, maybe after a `-`, that fit 64 bits; no leading zeros (`00501` is a text), no `-0` |
//! | float | digits with a point or an exponent, maybe after a `-`; the digits before or behind the point may be missing (`.046`); `NaN`, `inf` and `-inf`; whatever is an int |
//! | date | `2024-02-29` |
//! | timestamp | `2024-02-29T13:14:15` or with a space, with up to six digits of fraction |
//! | timestamp_utc | a timestamp with `Z` or an offset such as `+02:00` |
//! | text | anything |

/// Reads an integer.
pub(crate) fn int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [] => return None,
        [b'0'] if !negative => return Some(0),
        [b'0', ..] => return None,
        _ => {}
    }
    if digits.len() <= 18 {
        let mut value = 0_i64;
        for digit in digits {
            let digit = digit.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            value = value * 10 + i64::from(digit);
        }
        return Some(if negative { -value } else { value });
    }
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads a floating-point number.
pub(crate) fn float(text: &[u8]) -> Option<f64> {
    match text {
        b"NaN" => return Some(f64::NAN),
        b"inf" => return Some(f64::INFINITY),
        b"-inf" => return Some(f64::NEG_INFINITY),
        _ => {}
    }
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [b'0'..=b'9' | b'.', ..] => {}
        _ => return None,
    }
    // An id with leading zeros is no number.
    if let [b'0', b'0'..=b'9', ..] = digits {
        return None;
    }
    if let Some(value) = short(digits) {
        return Some(if digits.len() < text.len() { -value } else { value });
    }
    // What is left to refuse (a lone point, a second one, letters) the parser refuses, but for what
    // no float holds.
    std::str::from_utf8(text).ok()?.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Reads a short decimal, without an exponent. Both its digits and the power of ten are floats
/// exactly, so that one division rounds as it must: W. D. Clinger, "How to read floating point
/// numbers accurately".
fn short(decimal: &[u8]) -> Option<f64> {
    const POWERS: [f64; 16] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let (mut value, mut digits, mut point) = (0_u64, 0, None);
    if decimal.len() > POWERS.len() {
        return None;
    }
    for byte in decimal {
        match byte {
            b'0'..=b'9' => {
                value = value * 10 + u64::from(byte - b'0');
                digits += 1;
            }
            b'.' if point.is_none() => point = Some(digits),
            _ => return None,
        }
    }
    if digits == 0 || digits == POWERS.len() {
        return None;
    }
    Some(value as f64 / POWERS[digits - point.unwrap_or(digits)])
}

/// Reads a truth value.
pub(crate) fn bool(text: &[u8]) -> Option<bool> {
    match text.len() {
        4 if text.eq_ignore_ascii_case(b"true") => Some(true),
        5 if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

/// Reads a day, as its number from 1970-01-01.
pub(crate) fn date(text: &[u8]) -> Option<i32> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return None };
    let (year, month, day) = (number(&[*y1, *y2, *y3, *y4])?, number(&[*m1, *m2])?, number(&[*d1, *d2])?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if day < 1 || day > days {
        return None;
    }
    // Days of the civil calendar: Howard Hinnant, "chrono-compatible low-level date algorithms".
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    i32::try_from(era * 146_097 + day_of_era - 719_468).ok()
}

/// Reads a moment in microseconds since 1970, and whether it names its offset from UTC.
pub(crate) fn moment(text: &[u8]) -> Option<(i64, bool)> {
    let (day, rest) = text.split_at_checked(10)?;
    let day = i64::from(date(day)?);
    let [b'T' | b't' | b' ', h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = rest else { return None };
    let (hour, minute, second) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?, number(&[*s1, *s2])?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 || digits > 6 {
                return None;
            }
            (number(&rest[..digits])? * 10_i64.pow(6 - digits as u32), &rest[digits..])
        }
        rest => (0, rest),
    };
    let (offset, zoned) = match rest {
        [] => (0, false),
        [b'Z' | b'z'] => (0, true),
        [sign @ (b'+' | b'-'), h1, h2, rest @ ..] => {
            let minutes = match rest {
                [] => 0,
                [b':', m1, m2] | [m1, m2] => number(&[*m1, *m2])?,
                _ => return None,
            };
            let hours = number(&[*h1, *h2])?;
            if hours > 18 || minutes > 59 {
                return None;
            }
            let offset = hours * 60 + minutes;
            (if *sign == b'-' { -offset } else { offset }, true)
        }
        _ => return None,
    };
    let seconds = day * 86_400 + hour * 3_600 + (minute - offset) * 60 + second;
    Some((seconds * 1_000_000 + fraction, zoned))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_with_leading_zeros_are_no_numbers() {
        for text in ["00501", "-0", "-01", "", "-", "1a", "+1", " 1", "9223372036854775808"] {
            assert_eq!(int(text.as_bytes()), None, "{text}");
        }
        assert_eq!(int(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(int(b"0"), Some(0));
        assert_eq!(float(b"00.5"), None);
    }

    #[test]
    fn digits_may_be_missing_on_one_side_of_the_point() {
        for (text, value) in
            [(".046", 0.046), ("-.5", -0.5), ("5.", 5.0), ("1e3", 1000.0), ("-0", 0.0), ("12", 12.0)]
        {
            assert_eq!(float(text.as_bytes()), Some(value), "{text}");
        }
        for text in ["1e400", "-1e999", ".", "-", "", "1.2.3", "e5", "infinity", "nan", "1_000", "0x10"] {
            assert_eq!(float(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn dates_and_moments_are_those_of_the_calendar() {
        assert_eq!(date(b"1970-01-01"), Some(0));
        assert_eq!(date(b"2024-02-29"), Some(19_782));
        assert_eq!(date(b"1900-02-29"), None);
        assert_eq!(date(b"0001-01-01"), Some(-719_162));
        assert_eq!(moment(b"1970-01-01T00:00:01.5"), Some((1_500_000, false)));
        assert_eq!(moment(b"1970-01-01 02:00:00+02:00"), Some((0, true)));
        assert_eq!(moment(b"1970-01-01T00:00:00Z"), Some((0, true)));
        for text in ["1970-01-01T00:00", "1970-01-01T24:00:00", "1970-01-01T00:00:00.1234567", "1970-01-01"] {
            assert_eq!(moment(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn floats_are_those_of_the_parser(text in "-?([1-9][0-9]{0,18}|0)?(\\.[0-9]{0,18})?(e-?[0-9]{1,3})?") {
            let parsed = text.parse::<f64>().ok().filter(|value| value.is_finite()).map(f64::to_bits);
            prop_assert_eq!(float(text.as_bytes()).map(f64::to_bits), parsed, "{}", text);
        }
    }
}
