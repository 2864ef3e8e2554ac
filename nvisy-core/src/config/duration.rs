//! Durations as people write them in JSON (`"200ms"`, `"1m 30s"`), and as they are in binary
//! formats: for `#[serde(with = "...")]`.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest time that a setting may speak of: ten years. Every moment that lies so far ahead
/// can be told.
pub const LONGEST: Duration = Duration::from_secs(10 * 31_557_600);

/// Writes a duration.
///
/// # Errors
///
/// Those of the serializer.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.collect_str(&humantime::format_duration(*duration))
    } else {
        duration.serialize(serializer)
    }
}

/// Reads a duration.
///
/// # Errors
///
/// What is no duration; those of the deserializer.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    if !deserializer.is_human_readable() {
        return Duration::deserialize(deserializer);
    }
    deserializer.deserialize_str(Written)
}

/// Reads what people write.
struct Written;

impl Visitor<'_> for Written {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"200ms\" or \"1m 30s\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        humantime::parse_duration(text).map_err(|e| {
            E::custom(format!("`{text}` is not a duration such as \"200ms\" or \"1m 30s\": {e}"))
        })
    }
}

/// The same where there may be none.
pub mod option {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "super")] Duration);

    /// Writes a duration, or none.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(Wrapped).serialize(serializer)
    }

    /// Reads a duration, or none.
    ///
    /// # Errors
    ///
    /// What is no duration; those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Waits {
        #[serde(with = "super")]
        one: Duration,
        #[serde(with = "super::option")]
        two: Option<Duration>,
    }

    #[test]
    fn durations_read_back_from_texts_and_from_bytes() {
        for two in [None, Some(Duration::from_millis(1_250))] {
            let waits = Waits { one: LONGEST, two };
            let json = serde_json::to_string(&waits).unwrap();
            assert!(json.starts_with("{\"one\":\"10years\""), "{json}");
            assert_eq!(serde_json::from_str::<Waits>(&json).unwrap(), waits);
            let bytes = postcard::to_allocvec(&waits).unwrap();
            assert_eq!(postcard::from_bytes::<Waits>(&bytes).unwrap(), waits);
        }
        let error = serde_json::from_str::<Waits>("{\"one\":\"soon\",\"two\":null}").unwrap_err();
        assert!(error.to_string().contains("`soon` is not a duration"), "{error}");
    }
}
