//! Durations as people write them (`1s 250ms`) in JSON, and as they are in binary formats.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
    if s.is_human_readable() {
        duration.map(|d| humantime::format_duration(d).to_string()).serialize(s)
    } else {
        duration.serialize(s)
    }
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    if d.is_human_readable() {
        let text = Option::<String>::deserialize(d)?;
        text.map(|text| humantime::parse_duration(&text).map_err(serde::de::Error::custom)).transpose()
    } else {
        Option::deserialize(d)
    }
}
