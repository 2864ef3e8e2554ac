//! Sizes in bytes as people write them in JSON (`"256MB"`, `"64KiB"`), and as they are in binary
//! formats: for `#[serde(with = "...")]`.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Units by their names, the larger ones first: the first one that divides a size writes it.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("B", 1),
];

/// Writes a size.
///
/// # Errors
///
/// Those of the serializer.
pub fn serialize<S: Serializer>(size: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.collect_str(&text(*size))
    } else {
        size.serialize(serializer)
    }
}

/// Reads a size.
///
/// # Errors
///
/// What is no size; those of the deserializer.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    if !deserializer.is_human_readable() {
        return u64::deserialize(deserializer);
    }
    deserializer.deserialize_str(Written)
}

/// Returns a size as people write it: `256MB`.
#[must_use]
pub fn text(size: u64) -> String {
    let unit = UNITS.iter().find(|(_, unit)| size >= *unit && size.is_multiple_of(*unit));
    let (name, unit) = unit.unwrap_or(&("B", 1));
    format!("{}{name}", size / unit)
}

fn parse(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, name) = text.split_at(at);
    let (_, unit) = UNITS.iter().find(|(unit, _)| unit.eq_ignore_ascii_case(name.trim()))?;
    number.parse::<u64>().ok()?.checked_mul(*unit)
}

/// Reads what people write.
struct Written;

impl Visitor<'_> for Written {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"256MB\" or \"64KiB\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        parse(text).ok_or_else(|| {
            E::custom(format!(
                "`{text}` is not a size such as \"256MB\" or \"64KiB\": the units are B, KB, MB, GB, KiB, MiB and GiB"
            ))
        })
    }
}

/// The same where there may be none.
pub mod option {
    use super::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "super")] u64);

    /// Writes a size, or none.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(size: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        size.map(Wrapped).serialize(serializer)
    }

    /// Reads a size, or none.
    ///
    /// # Errors
    ///
    /// What is no size; those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_back_and_what_is_none_is_named() {
        for (written, size) in
            [("256MB", 256_000_000), ("64KiB", 65_536), ("1001B", 1_001), ("0B", 0), ("1GB", 1_000_000_000)]
        {
            assert_eq!(parse(written), Some(size));
            assert_eq!(text(size), written);
        }
        assert_eq!(parse("2 mib"), Some(2 << 20));
        for wrong in ["", "MB", "12", "-1MB", "1.5GB", "3 bananas", "99999999999999GB"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        let error = serde_json::from_str::<Sized>("{\"memory\":\"lots\"}").unwrap_err();
        assert!(error.to_string().contains("`lots` is not a size"), "{error}");
    }

    #[derive(Debug, Deserialize)]
    struct Sized {
        #[serde(with = "super::option")]
        #[expect(dead_code, reason = "read, and refused")]
        memory: Option<u64>,
    }
}
