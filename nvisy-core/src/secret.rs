//! Secrets: named in a graph, resolved when a run starts, never shown.

use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of a secret, as a graph holds it: `{"secret": "OPENAI_API_KEY"}`.
///
/// A graph never holds the value. A literal where a secret belongs is refused when the graph
/// is read, without repeating it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretRef(Arc<str>);

impl SecretRef {
    /// Names a secret.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

const LITERAL: &str =
    "a secret is written as a literal: put it into the environment and write {\"secret\": \"NAME\"}";

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("secret", &*self.0)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = SecretRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a reference such as {\"secret\": \"NAME\"}")
            }

            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<SecretRef, E> {
                Err(E::custom(LITERAL))
            }

            // The messages for these would repeat the value.
            fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<SecretRef, E> {
                Err(E::custom(LITERAL))
            }

            fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<SecretRef, E> {
                Err(E::custom(LITERAL))
            }

            fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<SecretRef, E> {
                Err(E::custom(LITERAL))
            }

            fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<SecretRef, E> {
                Err(E::custom(LITERAL))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, _: A) -> Result<SecretRef, A::Error> {
                Err(serde::de::Error::custom(LITERAL))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
                use serde::de::Error as _;
                let Some(key) = map.next_key::<String>()? else {
                    return Err(A::Error::missing_field("secret"));
                };
                if key != "secret" {
                    return Err(A::Error::unknown_field(&key, &["secret"]));
                }
                let name: String = map.next_value()?;
                if let Some(key) = map.next_key::<String>()? {
                    return Err(A::Error::unknown_field(&key, &["secret"]));
                }
                if name.is_empty() {
                    return Err(A::Error::custom("the name of a secret is empty"));
                }
                Ok(SecretRef(name.into()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The name of a secret; its value comes from the environment, a .env file or a provider.",
            "type": "object",
            "properties": { "secret": { "type": "string", "minLength": 1 } },
            "required": ["secret"],
            "additionalProperties": false
        })
    }
}

/// The value of a secret. It has no `Display` and no `Serialize`, and its `Debug` shows
/// nothing; [`expose`](Self::expose) is the only way to it, and easy to search for.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self(value.into())
    }

    /// Returns the value, for the call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_refused_without_repeating_it() {
        let error = serde_json::from_str::<SecretRef>("\"hunter2\"").unwrap_err().to_string();
        assert!(error.contains("literal") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(***)");
    }

    #[test]
    fn a_reference_reads_back() {
        let reference = SecretRef::new("KEY");
        let json = serde_json::to_string(&reference).unwrap();
        assert_eq!(json, "{\"secret\":\"KEY\"}");
        assert_eq!(serde_json::from_str::<SecretRef>(&json).unwrap(), reference);
    }
}
