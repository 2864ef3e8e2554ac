//! What an incremental run replaces: what derived from an object that has changed or vanished.

use std::fmt;
use std::str::FromStr;

use crate::batch::Batch;
use crate::error::{Error, ErrorKind, Result};
use crate::id::SourceIdentity;
use crate::position::Position;

/// The object that an item comes from, as one source node of one graph reads it.
///
/// A sink that [replaces](crate::SinkConfig::replaces) keeps it beside each item. Two graphs, and
/// two source nodes of one graph, have different origins for one object: what only one of them
/// writes is never taken away for another.
///
/// A sink keeps one origin for an item, that of who wrote it last. The ids of what is read, and of
/// what is made of it item by item, follow from the system, the object and the place in it, not
/// from the graph: two that read the same objects and write the same ids to one place take them
/// from each other, and where the last writer has an object no more, its items are deleted for
/// both. Give each a place of its own.
///
/// # Examples
///
/// ```
/// use nvisy_core::{Origin, SourceIdentity};
///
/// let folder = SourceIdentity::new("file:///docs");
/// let origin = Origin::new("index", "read", &folder, "a.md");
/// assert_ne!(origin, Origin::new("index", "read", &folder, "b.md"));
/// assert_eq!(origin.to_string().parse::<Origin>().unwrap(), origin);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(u128);

impl Origin {
    /// Names the object that the source node `node` of `graph` reads from `source`.
    #[must_use]
    pub fn new(graph: &str, node: &str, source: &SourceIdentity, object: &str) -> Self {
        let id = source.hash(|feed| {
            feed(b"origin");
            for part in [graph, node, object] {
                feed(&(part.len() as u64).to_be_bytes());
                feed(part.as_bytes());
            }
        });
        Self(u128::from_be_bytes(id.as_bytes()))
    }

    /// Returns the origin of the item at `index`: none where its source does not read objects.
    #[must_use]
    pub fn of(batch: &Batch, index: usize) -> Option<Self> {
        let root = batch.lineage(index).root()?;
        let Position::Marker { object, .. } = &root.position else { return None };
        Some(Self::new(&batch.metadata(index).graph, &root.node, &root.source, object))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Origin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let value = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32);
        value.map(Self).ok_or_else(|| {
            Error::new(
                ErrorKind::Validation,
                format!("`{text}` is no origin: expected 32 hexadecimal digits"),
            )
        })
    }
}

/// What a sink is to delete: everything of one origin that was last written before a generation.
///
/// What derives from the object as it is now has been written since, in that
/// [generation](crate::Context::generation) or a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplaceSet {
    /// Where the items come from.
    pub origin: Origin,
    /// The first generation that stays.
    pub generation: u64,
}
