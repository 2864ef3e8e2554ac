//! A user's own type.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::raw::json_size;
use super::{Payload, Primitive};
use crate::error::{Error, Result};
use crate::hash::{ContentHash, ContentHasher};

/// A type that a user brings along, to flow like any other payload.
///
/// # Contract
///
/// 1. What is written as JSON reads back the same.
/// 2. [`TYPE`](Self::TYPE) never changes: written items are found again by it.
///
/// # Examples
///
/// ```
/// use nvisy_core::primitive::custom::{Custom, CustomPayload, CustomTypes};
/// use nvisy_core::{Error, Payload, Result};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct Molecule {
///     smiles: String,
/// }
///
/// impl CustomPayload for Molecule {
///     const TYPE: &'static str = "acme.molecule";
///
///     fn check(&self) -> Result<()> {
///         if self.smiles.is_empty() { Err(Error::invalid("molecule.smiles", "is empty")) } else { Ok(()) }
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let payload = Payload::from(Custom::new(Molecule { smiles: "CCO".into() })?);
/// let json = serde_json::to_string(&payload).unwrap();
///
/// // Read without knowing the type, it is kept as it is; the type is asked for where it is known.
/// let Payload::Custom(custom) = serde_json::from_str(&json).unwrap() else { unreachable!() };
/// assert_eq!(custom.type_name(), "acme.molecule");
/// assert_eq!(custom.get::<Molecule>()?.smiles, "CCO");
///
/// // A registry reads every item of the type, and refuses what is malformed.
/// let types = CustomTypes::new().with::<Molecule>();
/// assert!(types.resolve(&custom)?.is::<Molecule>());
/// # Ok(())
/// # }
/// ```
pub trait CustomPayload: fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The type's name, such as `acme.molecule`.
    const TYPE: &'static str;

    /// Returns what is wrong with the value. Default nothing.
    ///
    /// # Errors
    ///
    /// `validation`, if the value is malformed.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Returns the hash of what counts of it. Default none: all of its JSON counts, and the
    /// hash is the same whether or not the type is known where it is asked for.
    fn content_hash(&self) -> Option<ContentHash> {
        None
    }

    /// Returns about how many bytes it holds in memory. Default that of its JSON.
    fn size(&self) -> usize {
        serde_json::to_value(self).map_or(0, |value| json_size(&value))
    }
}

/// A [`CustomPayload`] behind a pointer.
trait Erased: fmt::Debug + Send + Sync {
    fn type_name(&self) -> &'static str;
    fn to_json(&self) -> Result<Value>;
    fn content_hash(&self) -> Option<ContentHash>;
    fn size(&self) -> usize;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    fn is(&self, id: std::any::TypeId) -> bool;
}

impl<T: CustomPayload> Erased for T {
    fn type_name(&self) -> &'static str {
        T::TYPE
    }

    fn to_json(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|error| {
            Error::invalid("custom", format!("a `{}` does not become JSON", T::TYPE)).with_source(error)
        })
    }

    fn content_hash(&self) -> Option<ContentHash> {
        CustomPayload::content_hash(self)
    }

    fn size(&self) -> usize {
        CustomPayload::size(self)
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn is(&self, id: std::any::TypeId) -> bool {
        id == std::any::TypeId::of::<T>()
    }
}

/// A payload of a user's own type: the value itself, or its JSON where the type is not known.
#[derive(Clone)]
pub struct Custom(Form);

#[derive(Clone)]
enum Form {
    Typed(Arc<dyn Erased>),
    Opaque { type_name: Box<str>, json: Value },
}

impl Custom {
    /// Makes a payload of a value.
    ///
    /// # Errors
    ///
    /// `validation` if the value's own check says so.
    pub fn new<T: CustomPayload>(value: T) -> Result<Self> {
        value.check()?;
        Ok(Self(Form::Typed(Arc::new(value))))
    }

    /// Makes a payload of the JSON of a type that is not known here.
    ///
    /// # Errors
    ///
    /// `validation` if the type has no name.
    pub fn opaque(type_name: impl Into<Box<str>>, json: Value) -> Result<Self> {
        let type_name = type_name.into();
        if type_name.is_empty() {
            return Err(Error::invalid("custom.type", "is empty"));
        }
        Ok(Self(Form::Opaque { type_name, json }))
    }

    /// Returns the type's name.
    #[must_use]
    pub fn type_name(&self) -> &str {
        match &self.0 {
            Form::Typed(value) => value.type_name(),
            Form::Opaque { type_name, .. } => type_name,
        }
    }

    /// Returns whether it holds a value of the type itself, not its JSON.
    #[must_use]
    pub fn is<T: CustomPayload>(&self) -> bool {
        matches!(&self.0, Form::Typed(value) if value.is(std::any::TypeId::of::<T>()))
    }

    /// Returns the value, reading it from its JSON where that is what is held.
    ///
    /// # Errors
    ///
    /// `validation` if it is of another type, or its JSON is malformed.
    pub fn get<T: CustomPayload>(&self) -> Result<Arc<T>> {
        if self.type_name() != T::TYPE {
            let (want, have) = (T::TYPE, self.type_name());
            return Err(Error::invalid("custom.type", format!("expected `{want}`, found `{have}`")));
        }
        match &self.0 {
            Form::Typed(value) => match value.clone().into_any().downcast() {
                Ok(value) => Ok(value),
                // Two types of one name: the JSON is what they share.
                Err(_) => read(&value.to_json()?).map(Arc::new),
            },
            Form::Opaque { json, .. } => read(json).map(Arc::new),
        }
    }

    /// Returns the value as JSON.
    ///
    /// # Errors
    ///
    /// `validation` if the user's type does not serialize.
    pub fn to_json(&self) -> Result<Value> {
        match &self.0 {
            Form::Typed(value) => value.to_json(),
            Form::Opaque { json, .. } => Ok(json.clone()),
        }
    }

    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
            + match &self.0 {
                Form::Typed(value) => value.size(),
                Form::Opaque { type_name, json } => type_name.len() + json_size(json),
            }
    }

    pub(crate) fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("type", self.type_name());
        if let Form::Typed(value) = &self.0
            && let Some(hash) = value.content_hash()
        {
            hasher.bytes(hash.as_bytes());
            return;
        }
        match self.to_json() {
            Ok(json) => hasher.json(&json),
            Err(_) => hasher.null(),
        }
    }
}

fn read<T: CustomPayload>(json: &Value) -> Result<T> {
    let value = T::deserialize(json)
        .map_err(|error| Error::invalid("custom.value", format!("is no `{}`", T::TYPE)).with_detail(error))?;
    value.check()?;
    Ok(value)
}

impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        if let (Form::Typed(a), Form::Typed(b)) = (&self.0, &other.0)
            && Arc::ptr_eq(a, b)
        {
            return true;
        }
        self.type_name() == other.type_name()
            && matches!((self.to_json(), other.to_json()), (Ok(a), Ok(b)) if a == b)
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Custom");
        debug.field("type", &self.type_name());
        match &self.0 {
            Form::Typed(value) => debug.field("value", value),
            Form::Opaque { json, .. } => debug.field("json", json),
        };
        debug.finish()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    r#type: Box<str>,
    #[serde(with = "crate::metadata::json_value")]
    value: Value,
}

impl Serialize for Custom {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = self.to_json().map_err(serde::ser::Error::custom)?;
        Written { r#type: self.type_name().into(), value }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Custom {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written { r#type, value } = Written::deserialize(deserializer)?;
        Self::opaque(r#type, value).map_err(serde::de::Error::custom)
    }
}

type Read = fn(&Value) -> Result<Custom>;

/// The types that users brought along, by name.
#[derive(Clone, Default)]
pub struct CustomTypes(BTreeMap<&'static str, Read>);

impl CustomTypes {
    /// No types.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a type.
    #[must_use]
    pub fn with<T: CustomPayload>(mut self) -> Self {
        self.insert::<T>();
        self
    }

    /// Adds a type; returns whether there was another of its name, which it replaces.
    pub fn insert<T: CustomPayload>(&mut self) -> bool {
        let read: Read = |json| Ok(Custom(Form::Typed(Arc::new(read::<T>(json)?))));
        self.0.insert(T::TYPE, read).is_some()
    }

    /// Returns the names, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// Returns the payload with its value read, if the type is known; as it is, if not.
    ///
    /// # Errors
    ///
    /// `validation` if the type is known and the value malformed.
    pub fn resolve(&self, custom: &Custom) -> Result<Custom> {
        match &custom.0 {
            Form::Opaque { type_name, json } => match self.0.get(&**type_name) {
                Some(read) => read(json),
                None => Ok(custom.clone()),
            },
            Form::Typed(_) => Ok(custom.clone()),
        }
    }

    /// Returns the item with its value read, if it is of a type that is known; as it is, if not.
    ///
    /// # Errors
    ///
    /// `validation` if the type is known and the value malformed.
    pub fn resolve_primitive(&self, primitive: Primitive) -> Result<Primitive> {
        let Payload::Custom(custom) = primitive.payload() else { return Ok(primitive) };
        let custom = self.resolve(custom).map_err(|error| error.at_item(primitive.id()))?;
        Ok(primitive.with_payload(custom))
    }
}

impl fmt::Debug for CustomTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Even(u32);

    impl CustomPayload for Even {
        const TYPE: &'static str = "test.even";

        fn check(&self) -> Result<()> {
            if self.0.is_multiple_of(2) { Ok(()) } else { Err(Error::invalid("even", "is odd")) }
        }
    }

    #[test]
    fn the_users_check_is_asked_at_every_door() {
        assert!(Custom::new(Even(3)).is_err());
        let opaque = Custom::opaque("test.even", json!(3)).unwrap();
        assert!(opaque.get::<Even>().is_err());
        assert!(CustomTypes::new().with::<Even>().resolve(&opaque).is_err());
    }

    #[test]
    fn known_or_not_it_is_the_same() {
        let typed = Custom::new(Even(4)).unwrap();
        let opaque = Custom::opaque("test.even", json!(4)).unwrap();
        assert_eq!(typed, opaque);
        assert_eq!(Payload::from(typed).content_hash(), Payload::from(opaque.clone()).content_hash());
        assert_eq!(*opaque.get::<Even>().unwrap(), Even(4));
        assert_eq!(CustomTypes::new().resolve(&opaque).unwrap(), opaque);
        assert!(CustomTypes::new().with::<Even>().resolve(&opaque).unwrap().is::<Even>());
    }
}
