//! Whose a name is, so that no item and no sink overwrites another one.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use nvisy_core::{Context, Error, ErrorKind, PrimitiveId, Result, RunId};

use crate::root::relative;

/// How many names of a run are remembered, at 16 bytes each and as much again for their table.
const MAX_NAMES: usize = 1 << 22;

/// A path in a run.
type Place = (Option<RunId>, PathBuf);
/// A node in a run.
pub(super) type By = (Arc<str>, Option<RunId>);

/// What the sinks of a connection write to, in each run.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    hash: RandomState,
    /// The names of whole files, and the item of each, as hashes.
    ids: Mutex<HashMap<u64, u64>>,
    /// The paths of files of many items, and the node of each.
    paths: Mutex<HashMap<Place, Arc<str>>>,
}

impl Owners {
    /// Takes a path for the node of a context, which may take it again. Fails if it is that of
    /// another node of the run.
    pub(super) fn claim_path(&self, path: &str, context: &Context) -> Result<()> {
        let place = (context.run(), relative(path)?);
        let mut paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = paths.entry(place).or_insert_with(|| context.node().clone());
        if owner == context.node() {
            return Ok(());
        }
        Err(Error::configuration(format!(
            "\"{path}\" is written by the node \"{owner}\", too, and one would replace the other: give each a path of its own, as by {{node}} in it, or set `on_existing` to \"number\""
        )))
    }

    /// Takes a name for an item of a node of a run, which may take it again. Fails with `conflict` if
    /// it is that of another item, or of the same one at another node.
    pub(super) fn claim(&self, name: &str, id: PrimitiveId, by: &By) -> Result<()> {
        self.claim_within(name, id, by, MAX_NAMES)
    }

    fn claim_within(&self, name: &str, id: PrimitiveId, (node, run): &By, most: usize) -> Result<()> {
        // `a//b` and `./a/b` are one file.
        let (name_hash, id) = (self.hash.hash_one((run, relative(name)?)), self.hash.hash_one((node, id)));
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = ids.len();
        match ids.entry(name_hash) {
            Entry::Occupied(owner) if *owner.get() == id => Ok(()),
            Entry::Occupied(_) => {
                let message = format!(
                    "another item of this run is written to \"{name}\", or the same one by another node: put {{id}} in the path, and give each node one of its own, as by {{node}}"
                );
                Err(Error::new(ErrorKind::Conflict, message))
            }
            Entry::Vacant(_) if taken >= most => Err(Error::configuration(format!(
                "\"{name}\" is one name too many: without {{id}} in the path a run writes {most} at the most"
            ))),
            Entry::Vacant(free) => {
                free.insert(id);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nvisy_core::Item;
    use nvisy_core::primitive::document::Document;

    use super::*;

    fn id(name: &str) -> PrimitiveId {
        let document = Document::new("x").unwrap();
        Item::detached(name, document).into_primitive().id()
    }

    fn by(node: &str) -> By {
        (node.into(), None)
    }

    #[test]
    fn a_name_is_that_of_the_item_that_took_it() {
        let owners = Owners::default();
        owners.claim("a/b.md", id("1"), &by("out")).unwrap();
        owners.claim("a/b.md", id("1"), &by("out")).unwrap();
        owners.claim("a/c.md", id("2"), &by("out")).unwrap();
        for name in ["a/b.md", "a//b.md", "./a/b.md"] {
            let error = owners.claim(name, id("2"), &by("out")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert!(error.message().contains("put {id} in the path"), "{error}");
        }
        let error = owners.claim("a/b.md", id("1"), &by("beside")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "the same item at another node may be another text");
    }

    #[test]
    fn names_are_bounded_and_those_that_are_known_stay() {
        let owners = Owners::default();
        owners.claim_within("a", id("1"), &by("out"), 1).unwrap();
        owners.claim_within("a", id("1"), &by("out"), 1).unwrap();
        assert_eq!(
            owners.claim_within("b", id("2"), &by("out"), 1).unwrap_err().kind(),
            ErrorKind::Configuration
        );
    }
}
