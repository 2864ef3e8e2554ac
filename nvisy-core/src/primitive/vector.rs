//! Vectors as base64 of little-endian numbers in JSON, which is exact and short, and as they
//! are in binary formats. Numbers are read as well.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    Base64(String),
    Numbers(Vec<f32>),
}

pub(super) fn serialize<S: Serializer>(vector: &[f32], s: S) -> Result<S::Ok, S::Error> {
    if s.is_human_readable() {
        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        s.serialize_str(&STANDARD.encode(bytes))
    } else {
        vector.serialize(s)
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f32>, D::Error> {
    use serde::de::Error as _;
    if !d.is_human_readable() {
        return Vec::deserialize(d);
    }
    match Form::deserialize(d)? {
        Form::Numbers(numbers) => Ok(numbers),
        Form::Base64(text) => {
            let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
            match bytes.as_chunks() {
                (numbers, []) => Ok(numbers.iter().map(|x| f32::from_le_bytes(*x)).collect()),
                _ => Err(D::Error::custom("the vector ends within a number")),
            }
        }
    }
}
