//! The one door into a payload: its fields are checked, then sealed.

/// Makes `$name` the sealed form of `$fields`, which says in `check` what holds of it.
///
/// The sealed form reads like its fields, serializes like them, and is made by `TryFrom`
/// alone, also when it is read from JSON: a malformed payload is an error, never a value.
macro_rules! validated {
    ($(#[$doc:meta])* $name:ident($fields:ident)) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name($fields);

        impl $name {
            /// Returns the fields, to change them and seal them again.
            #[must_use]
            pub fn into_fields(self) -> $fields {
                self.0
            }
        }

        impl TryFrom<$fields> for $name {
            type Error = $crate::error::Error;

            fn try_from(fields: $fields) -> $crate::error::Result<Self> {
                fields.check()?;
                Ok(Self(fields))
            }
        }

        impl std::ops::Deref for $name {
            type Target = $fields;

            fn deref(&self) -> &$fields {
                &self.0
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$fields>::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use validated;
