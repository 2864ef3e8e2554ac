//! What flows: an immutable payload with identity, envelope and lineage.

pub mod audio;
pub mod chat;
pub mod completion;
pub mod custom;
pub mod document;
pub mod embedding;
pub mod fine_tune_sample;
pub mod graph;
pub mod image;
pub mod kind;
pub mod message;
pub mod object;
pub mod raw;
pub mod row;
pub mod structured_output;
pub mod tool_call_trace;

mod base64_bytes;
mod cell;
pub(crate) mod depth;
mod payload;
mod text_or_bytes;
mod validated;
mod vector;
mod wire;

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

pub use self::kind::{Any, Kind, KindId, Kinds};
pub use self::payload::Payload;
use crate::batch::Batch;
use crate::error::{Error, ErrorKind, Result};
use crate::hash::ContentHash;
use crate::id::{PrimitiveId, SourceIdentity};
use crate::lineage::{Lineage, Root, Step};
use crate::metadata::Metadata;
use crate::position::Position;

/// Everything that flows: immutable, cheap to clone, serializable.
#[derive(Clone, Debug)]
pub struct Primitive {
    /// None while the id is the source item's own, which the lineage tells.
    id: Option<PrimitiveId>,
    payload: Payload,
    metadata: Arc<Metadata>,
    lineage: Lineage,
}

impl Primitive {
    /// Puts a primitive together.
    #[must_use]
    pub fn new(
        id: PrimitiveId,
        payload: impl Into<Payload>,
        metadata: Arc<Metadata>,
        lineage: Lineage,
    ) -> Self {
        Self { id: Some(id), payload: payload.into(), metadata, lineage }
    }

    pub(crate) fn from_parts(
        id: Option<PrimitiveId>,
        payload: Payload,
        metadata: Arc<Metadata>,
        lineage: Lineage,
    ) -> Self {
        Self { id, payload, metadata, lineage }
    }

    pub(crate) fn into_parts(self) -> (Option<PrimitiveId>, Payload, Arc<Metadata>, Lineage) {
        (self.id, self.payload, self.metadata, self.lineage)
    }

    /// Returns the id. For an item straight from a source it is computed when asked.
    #[must_use]
    pub fn id(&self) -> PrimitiveId {
        match self.id {
            Some(id) => id,
            // An id is left out only where the lineage holds it.
            None => self.lineage.natural_id().unwrap_or_else(|| unreachable!("an id without a source")),
        }
    }

    /// Returns the payload.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
    }

    /// Returns the kind of the payload.
    #[must_use]
    pub fn kind(&self) -> KindId {
        self.payload.kind()
    }

    /// Returns the hash of what the payload says, whoever carries it: see [`ContentHash`].
    #[must_use]
    pub fn content_hash(&self) -> ContentHash {
        self.payload.content_hash()
    }

    /// Returns the envelope.
    #[must_use]
    pub fn metadata(&self) -> &Arc<Metadata> {
        &self.metadata
    }

    /// Returns the lineage.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Returns the source item that this comes from.
    #[must_use]
    pub fn root(&self) -> Option<Root> {
        self.lineage.root()
    }

    /// Returns the same item with another payload: an edit, the id stays.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Payload>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Returns the same item with an edited envelope, which is copied if it is shared.
    #[must_use]
    pub fn edit_metadata(mut self, edit: impl FnOnce(&mut Metadata)) -> Self {
        edit(Arc::make_mut(&mut self.metadata));
        self
    }

    /// Returns the `ordinal`-th thing that `salt` makes of this item: another id, the same
    /// envelope. Its lineage gets the derivation when it leaves the action.
    #[must_use]
    pub fn derive(&self, salt: &str, ordinal: u64, payload: impl Into<Payload>) -> Self {
        Self {
            id: Some(self.id().derive(salt, ordinal)),
            payload: payload.into(),
            metadata: self.metadata.clone(),
            lineage: self.lineage.clone(),
        }
    }

    /// Returns whether this is another item than the batch's at `index`, which it came from.
    pub(crate) fn is_derived_from(&self, input: &Batch, index: usize) -> bool {
        self.id.is_some_and(|id| id != input.id(index))
    }

    /// Replaces the lineage.
    #[must_use]
    pub fn with_lineage(mut self, lineage: Lineage) -> Self {
        // The id may have been the old lineage's to tell.
        self.id = Some(self.id());
        self.lineage = lineage;
        self
    }

    /// Returns a typed view, if the payload is of kind `K`.
    ///
    /// # Errors
    ///
    /// `validation` if it is of another kind: names both and the remedy.
    pub fn typed<K: Kind>(self) -> Result<Item<K>> {
        if K::of(&self.payload).is_some() {
            return Ok(Item { primitive: self, kind: PhantomData });
        }
        let (want, have) = (K::NAME, self.kind());
        Err(Error::new(
            ErrorKind::Validation,
            format!("expected a {want}, found a {have}: put a `convert` in between"),
        )
        .at_item(self.id()))
    }
}

impl PartialEq for Primitive {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
            && self.payload == other.payload
            && self.metadata == other.metadata
            && self.lineage == other.lineage
    }
}

/// A [`Primitive`] whose payload is known to be of kind `K`, and reads like it.
///
/// # Examples
///
/// ```
/// use nvisy_core::Item;
/// use nvisy_core::primitive::document::Document;
///
/// # fn main() -> nvisy_core::Result<()> {
/// let item = Item::detached("greeting", Document::new("Hello")?);
/// assert_eq!(item.text, "Hello");
/// let shouted = item.map_text(|text| text.to_uppercase())?;
/// assert_eq!(shouted.text, "HELLO");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Item<K: Kind = Any> {
    primitive: Primitive,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Item<K> {
    /// Makes an item outside any run, with an id that `key` alone decides: for tests, and for
    /// using an action without the engine.
    #[must_use]
    pub fn detached(key: &str, payload: K) -> Self {
        let step = Step::new("detached", "detached", Metadata::default().created_at);
        let source = SourceIdentity::new("detached");
        let lineage = Lineage::origin(Arc::new(step), source, Position::Token(key.into()));
        let primitive =
            Primitive::from_parts(None, payload.into_payload(), Arc::new(Metadata::default()), lineage);
        Self { primitive, kind: PhantomData }
    }

    /// Returns the primitive behind it.
    #[must_use]
    pub fn primitive(&self) -> &Primitive {
        &self.primitive
    }

    /// Returns the primitive itself.
    #[must_use]
    pub fn into_primitive(self) -> Primitive {
        self.primitive
    }

    /// Forgets the kind.
    #[must_use]
    pub fn into_any(self) -> Item<Any> {
        Item { primitive: self.primitive, kind: PhantomData }
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> PrimitiveId {
        self.primitive.id()
    }

    /// Returns the envelope.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.primitive.metadata
    }

    /// Returns the lineage.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.primitive.lineage
    }

    /// Returns the same item with another payload: an edit, the id stays.
    #[must_use]
    pub fn with<T: Kind>(self, payload: T) -> Item<T> {
        let Primitive { id, payload: old, metadata, lineage } = self.primitive;
        let primitive = Primitive { id, payload: payload.replace(old), metadata, lineage };
        Item { primitive, kind: PhantomData }
    }

    /// Returns the `ordinal`-th thing that `salt` makes of this item: a derivation, with an
    /// id of its own. Ordinals tell siblings apart.
    #[must_use]
    pub fn derive<T: Kind>(&self, salt: &str, ordinal: u64, payload: T) -> Item<T> {
        Item { primitive: self.primitive.derive(salt, ordinal, payload.into_payload()), kind: PhantomData }
    }

    /// Returns the item with a tag more in its envelope.
    #[must_use]
    pub fn with_tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.primitive = self.primitive.edit_metadata(|metadata| {
            metadata.tags.insert(key.into(), value.into());
        });
        self
    }
}

impl<K: Kind> Deref for Item<K> {
    type Target = K;

    fn deref(&self) -> &K {
        // The kind was checked when the view was made, and payloads are immutable.
        K::of(&self.primitive.payload).unwrap_or_else(|| unreachable!("an item of another kind"))
    }
}

impl<K: Kind> From<Item<K>> for Primitive {
    fn from(item: Item<K>) -> Self {
        item.primitive
    }
}
