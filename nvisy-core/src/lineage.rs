//! The chain of records from the source to an item, at columnar cost.
//!
//! The records of one batch share a [`Step`]; a pass-through node adds one link a *batch*. An
//! item's [`Lineage`] is a shared link and its index in the batch that the link was made for.

mod merge;

use std::fmt;
use std::sync::Arc;

use serde::ser::{SerializeStruct, SerializeStructVariant};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use self::merge::Input as Of;
pub(crate) use self::merge::Merge;
pub use self::merge::{MergeBatch, Merges};
use crate::error::{Error, Result};
use crate::id::{PrimitiveId, SourceIdentity};
use crate::metadata::{Timestamp, json_value, json_value_arc};
use crate::position::{Position, Positions};
use crate::primitive::depth::nested;

/// What a node did, once for all items of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The node's name.
    pub node: Arc<str>,
    /// What it does: the name of its type.
    pub operation: Arc<str>,
    /// When.
    pub time: Timestamp,
    /// With what parameters, where they matter; null where not. In a run, `bytes` and `sha256` of
    /// them as JSON where they are larger than 4 KiB.
    pub parameters: Arc<Value>,
}

impl Step {
    /// Describes what `node` does at `time`.
    #[must_use]
    pub fn new(node: impl Into<Arc<str>>, operation: impl Into<Arc<str>>, time: Timestamp) -> Self {
        Self { node: node.into(), operation: operation.into(), time, parameters: Arc::new(Value::Null) }
    }

    /// Adds the parameters.
    #[must_use]
    pub fn with_parameters(mut self, parameters: Arc<Value>) -> Self {
        self.parameters = parameters;
        self
    }
}

/// One record of a lineage, written out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Record {
    /// The node's name.
    pub node: Arc<str>,
    /// What it did.
    pub operation: Arc<str>,
    /// When.
    pub time: Timestamp,
    /// With what parameters; null where they do not matter.
    #[serde(default, with = "json_value_arc")]
    pub parameters: Arc<Value>,
    /// What it started from: nothing for a source, the item itself for an edit.
    pub inputs: Inputs,
}

/// What is not set is left out of JSON; formats that do not name their fields need them all.
impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct JsonValue<'a>(#[serde(serialize_with = "json_value::serialize")] &'a Value);

        let all = !serializer.is_human_readable();
        let mut fields = serializer.serialize_struct("Record", 5)?;
        fields.serialize_field("node", &self.node)?;
        fields.serialize_field("operation", &self.operation)?;
        fields.serialize_field("time", &self.time)?;
        if all || !self.parameters.is_null() {
            fields.serialize_field("parameters", &JsonValue(&self.parameters))?;
        }
        fields.serialize_field("inputs", &self.inputs)?;
        fields.end()
    }
}

/// What a [`Record`] started from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inputs {
    /// The outside world: the record is a source's.
    Source {
        /// The source's identity.
        source: Arc<str>,
        /// The item's position in it.
        position: Position,
        /// The item's id, where a key of the user's choice made it.
        #[serde(default)]
        id: Option<PrimitiveId>,
    },
    /// The same item: the record is an edit.
    Same,
    /// Other items: the record is a derivation.
    From(Vec<Input>),
}

/// One of the items that a derived item was made from.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Input {
    /// Its id.
    pub id: PrimitiveId,
    /// Its own records. Empty for the first input: there they stand before the derivation.
    #[serde(default, deserialize_with = "nested")]
    pub records: Vec<Record>,
}

impl Serialize for Inputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Source { source, position, id } => {
                let all = !serializer.is_human_readable();
                let mut fields = serializer.serialize_struct_variant("Inputs", 0, "source", 3)?;
                fields.serialize_field("source", source)?;
                fields.serialize_field("position", position)?;
                if all || id.is_some() {
                    fields.serialize_field("id", id)?;
                }
                fields.end()
            }
            Self::Same => serializer.serialize_unit_variant("Inputs", 1, "same"),
            Self::From(inputs) => serializer.serialize_newtype_variant("Inputs", 2, "from", inputs),
        }
    }
}

impl Serialize for Input {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = !serializer.is_human_readable();
        let mut fields = serializer.serialize_struct("Input", 2)?;
        fields.serialize_field("id", &self.id)?;
        if all || !self.records.is_empty() {
            fields.serialize_field("records", &self.records)?;
        }
        fields.end()
    }
}

/// Where a lineage begins: the source item.
#[derive(Clone, Debug, PartialEq)]
pub struct Root {
    /// The source item's id.
    pub id: PrimitiveId,
    /// The source node's name.
    pub node: Arc<str>,
    /// The source's identity.
    pub source: SourceIdentity,
    /// The item's position in it.
    pub position: Position,
}

/// One way from a source item to an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// The source item.
    pub root: Root,
    /// What was done, from the source to here.
    pub steps: Vec<Arc<Step>>,
}

/// The lineage of one item. Cheap to clone: a shared link and an index.
#[derive(Clone)]
pub struct Lineage {
    pub(crate) link: Arc<Link>,
    pub(crate) index: u32,
}

/// One step of the lineage of a whole batch.
#[derive(Debug)]
pub(crate) enum Link {
    /// The items were read from a source.
    Origin { step: Arc<Step>, source: SourceIdentity, positions: Positions, keys: Option<Arc<[PrimitiveId]>> },
    /// The items were edited in place: the index passes through.
    Edit { step: Arc<Step>, parent: Parent },
    /// The items were made from other items: from which, by index.
    Derive { step: Arc<Step>, parents: Parents },
    /// The items were made from several other items each, in steps of their own.
    Merge(Merge),
}

/// The inputs of each item of a derived batch.
#[derive(Debug)]
pub(crate) enum Parents {
    /// One input an item.
    One(Box<[(PrimitiveId, Lineage)]>),
    /// The same inputs for every item.
    All(Box<[(PrimitiveId, Lineage)]>),
}

/// What an edit was made of. There is one until the link is let go.
pub(crate) type Parent = Option<Arc<Link>>;

/// A chain is let go link by link: its length is not to be the depth of the stack.
impl Drop for Link {
    fn drop(&mut self) {
        let mut open = Vec::new();
        let mut next = self.let_go(&mut open);
        while let Some(link) = next.or_else(|| open.pop()) {
            next = Arc::into_inner(link).and_then(|mut link| link.let_go(&mut open));
        }
    }
}

impl Link {
    pub(crate) fn edit(step: Arc<Step>, parent: Arc<Self>) -> Self {
        Self::Edit { step, parent: Some(parent) }
    }

    /// Takes the parents out: one of them, and the others that nobody else holds.
    fn let_go(&mut self, open: &mut Vec<Arc<Self>>) -> Option<Arc<Self>> {
        match self {
            Self::Origin { .. } => None,
            Self::Edit { parent, .. } => parent.take(),
            Self::Derive { parents: Parents::One(inputs) | Parents::All(inputs), .. } => {
                let links = std::mem::take(inputs).into_iter().map(|(_, lineage)| lineage.link);
                open.extend(links.filter(is_last));
                None
            }
            Self::Merge(merge) => {
                open.extend(std::mem::take(&mut merge.links).into_iter().filter(is_last));
                None
            }
        }
    }

    /// Returns the links that this one was made of.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &Arc<Self>> {
        let (some, many) = match self {
            Self::Origin { .. } => (&[][..], &[][..]),
            Self::Edit { parent, .. } => (parent.as_slice(), &[][..]),
            Self::Derive { parents: Parents::One(inputs) | Parents::All(inputs), .. } => (&[][..], &**inputs),
            Self::Merge(merge) => (&*merge.links, &[][..]),
        };
        some.iter().chain(many.iter().map(|(_, lineage)| &lineage.link))
    }

    /// Returns the step in which the item at `index` was made.
    pub(crate) fn step(&self, index: u32) -> &Arc<Step> {
        match self {
            Self::Origin { step, .. } | Self::Edit { step, .. } | Self::Derive { step, .. } => step,
            Self::Merge(merge) => merge.step(index),
        }
    }

    /// Returns the other items that the item at `index` was made from.
    fn inputs(&self, index: u32) -> impl DoubleEndedIterator<Item = Of<'_>> + Clone {
        let (some, merge, range) = match self {
            Self::Origin { .. } | Self::Edit { .. } => (&[][..], None, 0..0),
            Self::Derive { parents: Parents::One(one), .. } => {
                (one.get(index as usize).map_or(&[][..], std::slice::from_ref), None, 0..0)
            }
            Self::Derive { parents: Parents::All(all), .. } => (&**all, None, 0..0),
            Self::Merge(merge) => (&[][..], Some(merge), merge.range(index)),
        };
        let some = some.iter().map(|(id, lineage)| Of::new(*id, &lineage.link, lineage.index));
        some.chain(range.filter_map(move |at| Some(merge?.input(at))))
    }

    /// Returns the id of the source item at `index`, as long as there is nothing but edits behind.
    pub(crate) fn natural_id(&self, index: u32) -> Option<PrimitiveId> {
        match self.origin()? {
            Self::Origin { keys: Some(keys), .. } => keys.get(index as usize).copied(),
            Self::Origin { source, positions, .. } => Some(positions.id(source, index)),
            _ => None,
        }
    }

    /// Returns the link of the source, as long as there is nothing but edits behind.
    pub(crate) fn origin(&self) -> Option<&Self> {
        let mut link = self;
        loop {
            match link {
                Self::Origin { .. } => return Some(link),
                Self::Edit { parent, .. } => link = parent.as_ref()?,
                Self::Derive { .. } | Self::Merge(_) => return None,
            }
        }
    }

    /// Returns about how many bytes it takes beside what is behind it.
    pub(crate) fn bytes(&self) -> usize {
        let beside = match self {
            Self::Origin { positions, keys, .. } => {
                let each = match positions {
                    Positions::Sequence { .. } => 0,
                    Positions::Offsets { offsets, .. } => size_of_val(&**offsets),
                    Positions::Each(each) => size_of_val(&**each),
                };
                each + keys.as_ref().map_or(0, |keys| size_of_val(&**keys))
            }
            Self::Edit { .. } => 0,
            Self::Derive { parents: Parents::One(inputs) | Parents::All(inputs), .. } => {
                size_of_val(&**inputs)
            }
            Self::Merge(Merge { steps, items, links, inputs, ids }) => {
                let ids = ids.as_ref().map_or(0, |ids| size_of_val(&**ids));
                let known = size_of_val(&**steps) + size_of_val(&**links);
                known + size_of_val(&**items) + size_of_val(&**inputs) + ids
            }
        };
        size_of::<Self>() + beside
    }
}

fn is_last(link: &Arc<Link>) -> bool {
    Arc::strong_count(link) == 1
}

impl Lineage {
    /// The lineage of an item that is read from a source.
    #[must_use]
    pub fn origin(step: Arc<Step>, source: SourceIdentity, position: Position) -> Self {
        Self::origins(step, source, Positions::each([position]))
    }

    pub(crate) fn origins(step: Arc<Step>, source: SourceIdentity, positions: Positions) -> Self {
        Self { link: Arc::new(Link::Origin { step, source, positions, keys: None }), index: 0 }
    }

    /// The lineage of this item after an edit.
    #[must_use]
    pub fn edited(&self, step: Arc<Step>) -> Self {
        Self { link: Arc::new(Link::edit(step, self.link.clone())), index: self.index }
    }

    /// The lineage of an item that is made from `inputs`.
    #[must_use]
    pub fn derived(step: Arc<Step>, inputs: impl IntoIterator<Item = (PrimitiveId, Self)>) -> Self {
        let parents = Parents::All(inputs.into_iter().collect());
        Self { link: Arc::new(Link::Derive { step, parents }), index: 0 }
    }

    /// Returns the id of the source item, as long as the lineage holds nothing but edits.
    pub(crate) fn natural_id(&self) -> Option<PrimitiveId> {
        self.link.natural_id(self.index)
    }

    /// Returns the source item that this one comes from: of several, the first input's.
    #[must_use]
    pub fn root(&self) -> Option<Root> {
        let (mut link, mut index) = (&self.link, self.index);
        loop {
            match &**link {
                Link::Origin { step, source, positions, keys } => {
                    let id = match keys {
                        Some(keys) => *keys.get(index as usize)?,
                        None => positions.id(source, index),
                    };
                    let position = positions.get(index)?;
                    return Some(Root { id, node: step.node.clone(), source: source.clone(), position });
                }
                Link::Edit { parent, .. } => link = parent.as_ref()?,
                Link::Derive { .. } | Link::Merge(_) => {
                    let first = link.inputs(index).next()?;
                    (link, index) = (first.link, first.index);
                }
            }
        }
    }

    /// Returns every source item that this one comes from.
    #[must_use]
    pub fn roots(&self) -> Vec<Root> {
        let mut roots = Vec::new();
        let mut open = vec![(&self.link, self.index)];
        while let Some((link, index)) = open.pop() {
            match &**link {
                Link::Origin { .. } => roots.extend(Self { link: link.clone(), index }.root()),
                Link::Edit { parent, .. } => open.extend(parent.as_ref().map(|parent| (parent, index))),
                Link::Derive { .. } | Link::Merge(_) => {
                    open.extend(link.inputs(index).rev().map(|input| (input.link, input.index)));
                }
            }
        }
        roots
    }

    /// Returns every way from a source item to here: one for each input of a derivation.
    #[must_use]
    pub fn ways(&self) -> Vec<Way> {
        let mut ways = Vec::new();
        let mut open = vec![(&self.link, self.index, Vec::new())];
        while let Some((link, index, mut steps)) = open.pop() {
            steps.push(link.step(index).clone());
            match &**link {
                Link::Origin { .. } => {
                    steps.reverse();
                    let root = Self { link: link.clone(), index }.root();
                    ways.extend(root.map(|root| Way { root, steps }));
                }
                Link::Edit { parent, .. } => {
                    open.extend(parent.as_ref().map(|parent| (parent, index, steps)));
                }
                Link::Derive { .. } | Link::Merge(_) => {
                    let mut inputs = link.inputs(index);
                    let first = inputs.next();
                    open.extend(inputs.rev().map(|input| (input.link, input.index, steps.clone())));
                    open.extend(first.map(|input| (input.link, input.index, steps)));
                }
            }
        }
        ways
    }

    /// Returns the records from the source to here. Where an item has several inputs, the
    /// first input's records stand before the derivation and the others' within it.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        let (mut link, mut index) = (&self.link, self.index);
        loop {
            let step = link.step(index);
            let (inputs, next) = match &**link {
                Link::Origin { source, positions, keys, .. } => {
                    let source = Arc::from(source.name());
                    let position = positions.get(index).unwrap_or(Position::Offset(u64::from(index)));
                    let id = keys.as_ref().and_then(|keys| keys.get(index as usize).copied());
                    (Inputs::Source { source, position, id }, None)
                }
                Link::Edit { parent, .. } => (Inputs::Same, parent.as_ref().map(|parent| (parent, index))),
                Link::Derive { .. } | Link::Merge(_) => {
                    let mut inputs = link.inputs(index);
                    let written = inputs.clone().enumerate().map(|(i, input)| Input {
                        id: input.id(),
                        records: if i == 0 { Vec::new() } else { input.lineage().records() },
                    });
                    (Inputs::From(written.collect()), inputs.next().map(|first| (first.link, first.index)))
                }
            };
            records.push(Record {
                node: step.node.clone(),
                operation: step.operation.clone(),
                time: step.time,
                parameters: step.parameters.clone(),
                inputs,
            });
            match next {
                Some(next) => (link, index) = next,
                None => break,
            }
        }
        records.reverse();
        records
    }

    /// Builds a lineage from its records.
    ///
    /// # Errors
    ///
    /// `validation` if the records do not begin with a source, or are more than 4,096.
    pub fn from_records(records: Vec<Record>) -> Result<Self> {
        if records.len() > MAX_RECORDS {
            return Err(Error::invalid("lineage", format!("more than {MAX_RECORDS} records")));
        }
        let mut lineage: Option<Self> = None;
        for record in records {
            let Record { node, operation, time, parameters, inputs } = record;
            let step = Arc::new(Step { node, operation, time, parameters });
            lineage = Some(match (inputs, lineage) {
                (Inputs::Source { source, position, id }, None) => Self {
                    link: Arc::new(Link::Origin {
                        step,
                        source: SourceIdentity::new(&*source),
                        positions: Positions::each([position]),
                        keys: id.map(|id| Arc::from([id])),
                    }),
                    index: 0,
                },
                (Inputs::Same, Some(before)) => before.edited(step),
                (Inputs::From(inputs), before) => {
                    let mut before = before;
                    let mut parents = Vec::with_capacity(inputs.len());
                    for input in inputs {
                        let lineage = match before.take() {
                            Some(lineage) => lineage,
                            None => Self::from_records(input.records)?,
                        };
                        parents.push((input.id, lineage));
                    }
                    Self::derived(step, parents)
                }
                _ => return Err(Error::invalid("lineage", "the records do not begin with a source")),
            });
        }
        lineage.ok_or_else(|| Error::invalid("lineage", "there is no record"))
    }
}

/// More records than any graph has nodes on a path.
const MAX_RECORDS: usize = 4_096;

impl Serialize for Lineage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.records().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lineage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_records(Vec::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl PartialEq for Lineage {
    fn eq(&self, other: &Self) -> bool {
        (Arc::ptr_eq(&self.link, &other.link) && self.index == other.index)
            || self.records() == other.records()
    }
}

impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.records()).finish()
    }
}
