//! Amounts of memory as people write them in JSON (`"256MB"`, `"1.5 GiB"`, or a number of bytes):
//! for `#[serde(with = "...")]`.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Writes an amount in the largest unit in which it is a whole number.
///
/// # Errors
///
/// Those of the serializer.
pub fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if !serializer.is_human_readable() {
        return serializer.serialize_u64(*bytes);
    }
    let whole = UNITS.iter().filter(|(_, unit)| bytes.is_multiple_of(*unit)).max_by_key(|(_, unit)| *unit);
    let (name, unit) = whole.filter(|_| *bytes > 0).unwrap_or(&("B", 1));
    serializer.collect_str(&format_args!("{}{name}", bytes / unit))
}

/// Reads an amount.
///
/// # Errors
///
/// What is no amount; those of the deserializer.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    if deserializer.is_human_readable() {
        deserializer.deserialize_any(Written)
    } else {
        deserializer.deserialize_u64(Written)
    }
}

/// Reads what people write.
struct Written;

impl Visitor<'_> for Written {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount of memory such as \"256MB\" or \"1GiB\"")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        let bytes = || {
            let text = text.trim();
            let (number, unit) = UNITS.iter().find_map(|(name, unit)| {
                let (number, end) = text.split_at_checked(text.len().checked_sub(name.len())?)?;
                end.eq_ignore_ascii_case(name).then_some((number.trim(), *unit))
            })?;
            match number.parse::<u64>() {
                Ok(whole) => whole.checked_mul(unit),
                // A part of a unit, such as `1.5`.
                Err(_) => {
                    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                    let bytes = number.parse::<f64>().ok().filter(|_| plain)? * unit as f64;
                    (bytes < u64::MAX as f64).then_some(bytes as u64)
                }
            }
        };
        bytes().ok_or_else(|| {
            E::custom(format!("`{text}` is not an amount of memory such as \"256MB\" or \"1GiB\""))
        })
    }
}

/// The same where there may be none.
pub mod option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Amount(#[serde(with = "super")] u64);

    /// Writes an amount, or nothing.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(bytes: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.map(Amount).serialize(serializer)
    }

    /// Reads an amount, or nothing.
    ///
    /// # Errors
    ///
    /// What is no amount; those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        Ok(Option::<Amount>::deserialize(deserializer)?.map(|Amount(bytes)| bytes))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};


    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Room {
        #[serde(with = "super")]
        one: u64,
        #[serde(default, with = "super::option")]
        two: Option<u64>,
    }

    #[test]
    fn amounts_read_back_from_texts_and_from_bytes() {
        for (bytes, text) in
            [(0, "0B"), (1, "1B"), (256_000_000, "256MB"), (3 << 20, "3MiB"), (1_500, "1500B")]
        {
            let room = Room { one: bytes, two: Some(bytes) };
            let json = serde_json::to_string(&room).unwrap();
            assert_eq!(json, format!("{{\"one\":\"{text}\",\"two\":\"{text}\"}}"));
            assert_eq!(serde_json::from_str::<Room>(&json).unwrap(), room);
            let bytes = postcard::to_allocvec(&room).unwrap();
            assert_eq!(postcard::from_bytes::<Room>(&bytes).unwrap(), room);
        }
        let read =
            |text: &str| serde_json::from_str::<Room>(&format!("{{\"one\":{text}}}")).map(|room| room.one);
        assert_eq!(read("\"1.5 GiB\"").unwrap(), 3 << 29);
        assert_eq!(read("\"64kb\"").unwrap(), 64_000);
        assert_eq!(read("12").unwrap(), 12);
        for wrong in ["\"much\"", "\"12\"", "\"-1MB\"", "\"1e3MB\"", "\"99999999TiB\"", "\"é\""] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains("is not an amount of memory"), "{wrong}: {error}");
        }
    }
}
