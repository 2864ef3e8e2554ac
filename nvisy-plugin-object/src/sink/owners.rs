//! Whose a name is, so that no item and no sink overwrites another one.

use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nvisy_core::{Error, ErrorKind, PrimitiveId, Result, RunId};

/// How many names of a run are remembered, at 16 bytes each and as much again for their table.
const MAX_NAMES: usize = 1 << 22;

/// The owners of each run that has a directory open: two connections may lead to one directory.
static RUNS: Mutex<Vec<(RunId, Weak<Owners>)>> = Mutex::new(Vec::new());

/// What the sinks of a run write to.
///
/// A place is what tells an object from all others: a path without links, or the key of a store that
/// is no directory.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    hash: RandomState,
    names: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    /// The places, and who has each, as hashes.
    places: HashMap<u64, u64>,
    /// The nodes that write many items to a file, by their hashes.
    nodes: HashMap<u64, Arc<str>>,
}

/// Who has a place.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    /// The one who asks for it.
    Asker,
    /// Another node that writes many items to a file.
    Node(Arc<str>),
    /// An item that has a file of its own.
    Item,
    /// Nobody, and no more can be remembered.
    TooMany,
}

impl Owners {
    /// Returns the owners of a run in all directories of this machine. They are gone when nobody holds
    /// them any more.
    pub(crate) fn of_run(run: RunId) -> Arc<Self> {
        let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
        runs.retain(|(_, owners)| owners.strong_count() > 0);
        let found = runs.iter().find(|(of, _)| *of == run).and_then(|(_, owners)| owners.upgrade());
        found.unwrap_or_else(|| {
            let owners = Arc::new(Self::default());
            runs.push((run, Arc::downgrade(&owners)));
            owners
        })
    }

    /// Takes the first file of a node, which may take it again. Fails if it is somebody else's.
    pub(super) fn claim_first(&self, name: &str, place: &Path, node: &Arc<str>) -> Result<()> {
        let owner = match self.claim(place, node, None, MAX_NAMES) {
            Owner::Asker => return Ok(()),
            Owner::Node(other) => format!("the node \"{other}\""),
            Owner::Item => "a node that gives each item a file of its own".to_owned(),
            Owner::TooMany => return Err(too_many(name, MAX_NAMES)),
        };
        Err(Error::configuration(format!(
            "\"{name}\" is written by {owner}, too, and one would replace the other: give each a path of its own, as by {{node}} in it, or set `on_existing` to \"number\""
        )))
    }

    /// Takes a file of a node, which may take it again. Returns whether it is that node's.
    pub(super) fn claim_part(&self, name: &str, place: &Path, node: &Arc<str>) -> Result<bool> {
        match self.claim(place, node, None, MAX_NAMES) {
            Owner::Asker => Ok(true),
            Owner::Node(_) | Owner::Item => Ok(false),
            Owner::TooMany => Err(too_many(name, MAX_NAMES)),
        }
    }

    /// Takes a file for an item of a node, which may take it again. Fails with `conflict` if it is
    /// that of another item, or of the same one at another node.
    pub(super) fn claim_item(
        &self,
        name: &str,
        place: &Path,
        node: &Arc<str>,
        id: PrimitiveId,
    ) -> Result<()> {
        let message = match self.claim(place, node, Some(id), MAX_NAMES) {
            Owner::Asker => return Ok(()),
            Owner::Node(other) => format!(
                "the node \"{other}\" writes to \"{name}\": give each node a path of its own, as by {{node}}"
            ),
            Owner::Item => format!(
                "another item of this run is written to \"{name}\", or the same one by another node: put {{id}} in the path, and give each node one of its own, as by {{node}}"
            ),
            Owner::TooMany => return Err(too_many(name, MAX_NAMES)),
        };
        Err(Error::new(ErrorKind::Conflict, message))
    }

    fn claim(&self, place: &Path, node: &Arc<str>, id: Option<PrimitiveId>, most: usize) -> Owner {
        let (place, asker) = (self.hash.hash_one(place), self.hash.hash_one((node, id)));
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let Names { places, nodes } = &mut *names;
        if id.is_none() {
            nodes.entry(asker).or_insert_with(|| node.clone());
        }
        let taken = places.len();
        match places.entry(place) {
            Entry::Occupied(owner) if *owner.get() == asker => Owner::Asker,
            Entry::Occupied(owner) => nodes.get(owner.get()).cloned().map_or(Owner::Item, Owner::Node),
            Entry::Vacant(_) if taken >= most => Owner::TooMany,
            Entry::Vacant(free) => {
                free.insert(asker);
                Owner::Asker
            }
        }
    }
}

fn too_many(name: &str, most: usize) -> Error {
    Error::configuration(format!(
        "\"{name}\" is one name too many: a run writes {most} at the most where one might replace another: begin new files less often, or, where each item has its own, put {{id}} in the path"
    ))
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

    #[test]
    fn a_name_is_that_of_the_item_that_took_it() {
        let owners = Owners::default();
        let claim = |name: &str, id, node: &str| owners.claim_item(name, Path::new(name), &node.into(), id);
        claim("a/b.md", id("1"), "out").unwrap();
        claim("a/b.md", id("1"), "out").unwrap();
        claim("a/c.md", id("2"), "out").unwrap();
        let error = claim("a/b.md", id("2"), "out").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains("put {id} in the path"), "{error}");
        let error = claim("a/b.md", id("1"), "beside").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "the same item at another node may be another text");
    }

    #[test]
    fn a_file_of_many_items_is_no_other_nodes_and_no_items() {
        let (owners, path) = (Owners::default(), Path::new("a"));
        assert!(owners.claim_part("a", path, &"out".into()).unwrap());
        assert!(owners.claim_part("a", path, &"out".into()).unwrap());
        assert!(!owners.claim_part("a", path, &"beside".into()).unwrap());
        let error = owners.claim_item("a", path, &"beside".into(), id("1")).unwrap_err();
        assert!(error.message().contains("the node \"out\" writes to \"a\""), "{error}");
        owners.claim_item("b", Path::new("b"), &"beside".into(), id("1")).unwrap();
        assert!(!owners.claim_part("b", Path::new("b"), &"out".into()).unwrap());
    }

    #[test]
    fn names_are_bounded_and_those_that_are_known_stay() {
        let owners = Owners::default();
        let claim = |name: &str| owners.claim(Path::new(name), &"out".into(), None, 1);
        assert_eq!([claim("a"), claim("a"), claim("b")], [Owner::Asker, Owner::Asker, Owner::TooMany]);
        assert_eq!(too_many("b", 1).kind(), ErrorKind::Configuration);
    }

    #[test]
    fn a_run_has_one_table_as_long_as_somebody_holds_it() {
        let (one, other) = (RunId::from_parts(1, 77), RunId::from_parts(2, 77));
        let (first, again) = (Owners::of_run(one), Owners::of_run(one));
        assert!(Arc::ptr_eq(&first, &again) && !Arc::ptr_eq(&first, &Owners::of_run(other)));
        drop((first, again));
        drop(Owners::of_run(other));
        Owners::of_run(RunId::from_parts(3, 77));
        let runs = RUNS.lock().unwrap();
        assert!(!runs.iter().any(|(run, _)| [one, other].contains(run)), "nothing is kept of what is over");
    }
}
