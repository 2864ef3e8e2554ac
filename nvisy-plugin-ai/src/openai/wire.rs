//! What goes over the wire: the embeddings API.
//!
//! <https://platform.openai.com/docs/api-reference/embeddings/create>

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::config::EncodingFormat;

#[derive(Serialize)]
pub(super) struct Request<'a> {
    pub(super) model: &'a str,
    pub(super) input: &'a [&'a str],
    pub(super) encoding_format: EncodingFormat,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dimensions: Option<u32>,
}

#[derive(Deserialize)]
pub(super) struct Response {
    pub(super) data: Vec<Entry>,
    #[serde(default)]
    pub(super) usage: Option<Usage>,
}

#[derive(Deserialize)]
pub(super) struct Entry {
    /// Which text it is of; by its place where a server leaves it out.
    #[serde(default)]
    pub(super) index: Option<usize>,
    pub(super) embedding: Vector,
}

#[derive(Deserialize)]
pub(super) struct Usage {
    #[serde(default)]
    pub(super) prompt_tokens: Option<u64>,
    #[serde(default)]
    pub(super) total_tokens: Option<u64>,
}

/// A vector: base64 of little-endian `f32`, or numbers where a server knows no base64.
pub(super) struct Vector(pub(super) Vec<f32>);

impl<'de> Deserialize<'de> for Vector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Vector;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vector, as base64 or as numbers")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vector, E> {
                let bytes = STANDARD.decode(text).map_err(|_| E::custom("a vector is not valid base64"))?;
                let (numbers, rest) = bytes.as_chunks();
                if !rest.is_empty() {
                    return Err(E::custom(format!(
                        "a vector of {} bytes is no list of 4-byte numbers",
                        bytes.len()
                    )));
                }
                Ok(Vector(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Vector, A::Error> {
                let mut vector = Vec::with_capacity(numbers.size_hint().unwrap_or(1_536).min(4_096));
                while let Some(number) = numbers.next_element::<f32>()? {
                    vector.push(number);
                }
                Ok(Vector(vector))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl Response {
    /// Reads a body.
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body).map_err(|error| {
            let said = error.to_string();
            if error.classify() != serde_json::error::Category::Data {
                "the answer is not JSON".to_owned()
            } else if said.starts_with("missing field") || said.starts_with("a vector") {
                said
            } else {
                // The parser would repeat what it found there.
                format!("the answer has another shape, at line {} column {}", error.line(), error.column())
            }
        })
    }

    /// Returns the vectors in the order of the texts.
    pub(super) fn into_vectors(self) -> Result<Vec<Vec<f32>>, String> {
        let mut vectors: Vec<Option<Vec<f32>>> =
            std::iter::repeat_with(|| None).take(self.data.len()).collect();
        for (place, entry) in self.data.into_iter().enumerate() {
            let index = entry.index.unwrap_or(place);
            match vectors.get_mut(index) {
                Some(vector @ None) => *vector = Some(entry.embedding.0),
                Some(Some(_)) => return Err(format!("there are two vectors with the index {index}")),
                None => {
                    return Err(format!("there is a vector with the index {index} among {}", vectors.len()));
                }
            }
        }
        Ok(vectors.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str) -> Result<Vec<Vec<f32>>, String> {
        Response::parse(body.as_bytes())?.into_vectors()
    }

    #[test]
    fn vectors_come_in_base64_or_as_numbers_and_in_any_order() {
        let body =
            r#"{"data":[{"index":1,"embedding":"AACAPwAAAMA="},{"index":0,"embedding":[0.5,2,-1e-3]}]}"#;
        assert_eq!(check(body).unwrap(), [vec![0.5, 2.0, -0.001], vec![1.0, -2.0]]);
    }

    #[test]
    fn without_an_index_the_place_counts() {
        assert_eq!(check(r#"{"data":[{"embedding":[1]},{"embedding":[2]}]}"#).unwrap(), [[1.0], [2.0]]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (body, said) in [
            ("<html>", "not JSON"),
            (r#"{"data":[{"index":0,"#, "not JSON"),
            (r#"{"embeddings":[]}"#, "missing field `data`"),
            (r#"{"data":[{"embedding":"!!!!"}]}"#, "base64"),
            (r#"{"data":[{"embedding":"AACA"}]}"#, "3 bytes"),
            (r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#, "two vectors"),
            (r#"{"data":[{"index":7,"embedding":[1]}]}"#, "index 7"),
            (r#"{"data":[{"embedding":null}]}"#, "another shape, at line 1"),
            (r#"{"data":"secret"}"#, "another shape"),
        ] {
            let error = check(body).unwrap_err();
            assert!(error.contains(said), "{body}: {error}");
        }
    }
}
