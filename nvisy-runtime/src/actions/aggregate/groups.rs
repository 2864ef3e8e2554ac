//! Groups by their keys: in memory, and as sorted runs of parts of them beyond it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use nvisy_core::batch::{BatchReader, BatchWriter};
use nvisy_core::checkpoint::{Changes, Entries};
use nvisy_core::primitive::raw::Raw;
use nvisy_core::spill::Spill;
use nvisy_core::{Batch, Error, Lineage, Metadata, Payload, Primitive, PrimitiveId, Result};
use serde::{Deserialize, Serialize};

use super::state::{State, size};
use crate::actions::spill::{RunReader, RunWriter, Runs};
use crate::expression::Value;

/// How many items a group names as what it was made of.
pub(super) const PARENTS: usize = 8;
/// What a group takes beside its key and values: in the table, and its first items.
const BESIDE: usize = 256;
/// Groups of a frame at the most.
const FRAME: usize = 256;

/// What is known of a group.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// What its items have in common.
    pub(super) values: Vec<Value>,
    pub(super) states: Vec<State>,
    /// How many items are in it.
    pub(super) items: u64,
    /// The first of them, by their numbers.
    pub(super) parents: Vec<(u64, PrimitiveId, Lineage)>,
}

type Key = Box<[u8]>;

impl Group {
    fn merge(&mut self, other: Self) {
        self.items += other.items;
        self.states.iter_mut().zip(other.states).for_each(|(state, other)| state.merge(other));
        self.parents.extend(other.parents);
        self.parents.sort_by_key(|(number, ..)| *number);
        self.parents.truncate(PARENTS);
    }

    fn bytes(&self, key: &[u8]) -> usize {
        BESIDE
            + 2 * key.len()
            + self.values.iter().map(size).sum::<usize>()
            + self.states.len() * size_of::<State>()
    }
}

/// Parts of groups, as a frame of a run has them. Their first items stand in a batch.
#[derive(Serialize, Deserialize)]
struct Written {
    keys: Vec<Key>,
    values: Vec<Vec<Value>>,
    states: Vec<Vec<State>>,
    items: Vec<u64>,
    /// The numbers of the first items of each.
    parents: Vec<Vec<u64>>,
}

/// The groups that are not closed, and those that are and wait to be let go of.
pub(super) struct Groups {
    runs: Runs,
    memory: usize,
    open: HashMap<Key, Group>,
    bytes: usize,
    /// The least key that is open in memory.
    least: Option<Key>,
    /// What was closed in memory, in order.
    closed: VecDeque<(Key, Group)>,
    cursors: BTreeMap<u64, Cursor>,
}

impl Groups {
    pub(super) fn new(spill: Spill, memory: u64) -> Self {
        Self {
            runs: Runs::new(spill, "aggregate"),
            memory: usize::try_from(memory).unwrap_or(usize::MAX),
            open: HashMap::new(),
            bytes: 0,
            least: None,
            closed: VecDeque::new(),
            cursors: BTreeMap::new(),
        }
    }

    /// Changes the group of a key, which `new` makes if it is not there. `change` returns by how
    /// many bytes the group grows.
    pub(super) fn change(
        &mut self,
        key: &[u8],
        new: impl FnOnce() -> Group,
        change: impl FnOnce(&mut Group) -> usize,
    ) {
        if let Some(group) = self.open.get_mut(key) {
            self.bytes += change(group);
            return;
        }
        let mut group = new();
        self.bytes += group.bytes(key) + change(&mut group);
        if self.least.as_deref().is_none_or(|least| key < least) {
            self.least = Some(key.into());
        }
        self.open.insert(key.into(), group);
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes > self.memory
    }

    /// Writes all groups that are in memory as a run, and merges runs where there are many.
    pub(super) fn spill(&mut self) -> Result<()> {
        let mut groups: Vec<(Key, Group)> = std::mem::take(&mut self.closed).into();
        let start = groups.len();
        groups.extend(self.open.drain());
        groups[start..].sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        (self.bytes, self.least) = (0, None);
        if groups.is_empty() {
            return Ok(());
        }
        let mut groups = groups.into_iter();
        self.write(0, || Ok(groups.next()))?;
        while let Some((numbers, level)) = self.runs.to_merge() {
            let mut cursors = BTreeMap::new();
            for number in &numbers {
                cursors.insert(*number, self.take_cursor(*number)?);
            }
            self.write(level.saturating_add(1), || least(&mut cursors, &mut VecDeque::new(), None))?;
            numbers.into_iter().for_each(|number| self.runs.remove(number));
        }
        Ok(())
    }

    fn write(&mut self, level: u8, mut next: impl FnMut() -> Result<Option<(Key, Group)>>) -> Result<()> {
        let most = (self.memory / 64).clamp(1, 1 << 20);
        self.runs.write(level, |file| {
            let mut batches = BatchWriter::default();
            let mut frame: Vec<(Key, Group)> = Vec::new();
            let mut bytes = 0;
            while let Some((key, group)) = next()? {
                bytes += group.bytes(&key);
                frame.push((key, group));
                if bytes > most || frame.len() >= FRAME {
                    write_frame(file, &mut batches, std::mem::take(&mut frame))?;
                    bytes = 0;
                }
            }
            write_frame(file, &mut batches, frame)
        })?;
        Ok(())
    }

    /// Returns the next groups whose keys are below `bound`, all without one, in order. They are
    /// whole: nothing is added to them any more.
    pub(super) fn next(&mut self, bound: Option<&[u8]>, most: usize) -> Result<Vec<(Key, Group)>> {
        let below = |key: &[u8]| bound.is_none_or(|bound| key < bound);
        if self.least.as_deref().is_some_and(below) {
            let mut closed: Vec<(Key, Group)> = self.open.extract_if(|key, _| below(key)).collect();
            closed.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            let bytes: usize = closed.iter().map(|(key, group)| group.bytes(key)).sum();
            self.bytes = if self.open.is_empty() { 0 } else { self.bytes.saturating_sub(bytes) };
            self.closed.extend(closed);
            self.least = self.open.keys().min().cloned();
        }
        for number in self.runs.numbers() {
            let cursor = self.take_cursor(number)?;
            self.cursors.insert(number, cursor);
        }
        let mut groups = Vec::new();
        while groups.len() < most
            && let Some(group) = least(&mut self.cursors, &mut self.closed, bound)?
        {
            groups.push(group);
        }
        let done: Vec<u64> = self
            .cursors
            .iter()
            .filter(|(_, cursor)| cursor.first.is_none())
            .map(|(number, _)| *number)
            .collect();
        for number in done {
            self.cursors.remove(&number);
            self.runs.remove(number);
        }
        Ok(groups)
    }

    fn take_cursor(&mut self, number: u64) -> Result<Cursor> {
        match self.cursors.remove(&number) {
            Some(cursor) => Ok(cursor),
            None => Cursor::open(&self.runs, number),
        }
    }

    pub(super) fn save(&mut self, changes: &mut Changes) -> Result<()> {
        for (number, cursor) in &self.cursors {
            self.runs.set_taken(*number, cursor.taken);
        }
        self.spill()?;
        self.runs.save(changes)
    }

    pub(super) fn saved(&mut self) {
        self.runs.saved();
    }

    pub(super) fn key(&self, what: &str) -> String {
        self.runs.key(what)
    }

    pub(super) fn restore(&mut self, saved: &Entries) -> Result<()> {
        self.runs.restore(saved)
    }
}

/// Takes the group of the least key, made of all its parts, if that is below the bound.
fn least(
    cursors: &mut BTreeMap<u64, Cursor>,
    memory: &mut VecDeque<(Key, Group)>,
    bound: Option<&[u8]>,
) -> Result<Option<(Key, Group)>> {
    let firsts = cursors.values().filter_map(|cursor| cursor.first.as_ref()).chain(memory.front());
    let Some(key) = firsts.map(|(key, _)| key).min().cloned() else { return Ok(None) };
    if bound.is_some_and(|bound| *key >= *bound) {
        return Ok(None);
    }
    let mut whole: Option<Group> = None;
    let mut add = |part: Group| match &mut whole {
        Some(whole) => whole.merge(part),
        none => *none = Some(part),
    };
    for cursor in cursors.values_mut() {
        if let Some((_, part)) = cursor.first.take_if(|(first, _)| *first == key) {
            add(part);
            cursor.taken += 1;
            cursor.advance()?;
        }
    }
    // Beside a key that is closed, one of a group that came after a restart may stand again.
    while let Some((_, part)) = memory.pop_front_if(|(first, _)| *first == key) {
        add(part);
    }
    Ok(whole.map(|whole| (key, whole)))
}

fn write_frame(file: &mut RunWriter, batches: &mut BatchWriter, groups: Vec<(Key, Group)>) -> Result<()> {
    if groups.is_empty() {
        return Ok(());
    }
    let nobody = Arc::new(Metadata::default());
    let nothing = Payload::from(Raw::Json(serde_json::Value::Null));
    let mut written = Written {
        keys: Vec::new(),
        values: Vec::new(),
        states: Vec::new(),
        items: Vec::new(),
        parents: Vec::new(),
    };
    let mut parents = Vec::new();
    for (key, group) in groups {
        written.keys.push(key);
        written.values.push(group.values);
        written.states.push(group.states);
        written.items.push(group.items);
        written.parents.push(group.parents.iter().map(|(number, ..)| *number).collect());
        parents.extend(
            group
                .parents
                .into_iter()
                .map(|(_, id, lineage)| Primitive::new(id, nothing.clone(), nobody.clone(), lineage)),
        );
    }
    let bytes = postcard::to_allocvec(&written)
        .map_err(|error| Error::internal("groups do not become bytes").with_source(error))?;
    let batch = batches.write(&Batch::from_primitives(parents))?;
    let len = (bytes.len() as u64).to_le_bytes();
    file.frame(written.keys.len(), &[&len, &bytes, &batch])
}

/// Where in a run the groups are that have not come out.
struct Cursor {
    file: RunReader,
    batches: BatchReader,
    frame: VecDeque<(Key, Group)>,
    first: Option<(Key, Group)>,
    /// How many groups of the run have come out.
    taken: u64,
}

impl Cursor {
    fn open(runs: &Runs, number: u64) -> Result<Self> {
        let file = runs.open(number)?;
        let taken = runs.get(number).map_or(0, |run| run.taken);
        let mut cursor =
            Self { file, batches: BatchReader::default(), frame: VecDeque::new(), first: None, taken };
        for _ in 0..=taken {
            cursor.advance()?;
        }
        Ok(cursor)
    }

    fn advance(&mut self) -> Result<()> {
        if self.frame.is_empty()
            && let Some((_, bytes)) = self.file.next()?
        {
            self.frame = self.read(&bytes)?;
        }
        self.first = self.frame.pop_front();
        Ok(())
    }

    fn read(&mut self, bytes: &[u8]) -> Result<VecDeque<(Key, Group)>> {
        let damaged = || self.file.damaged();
        let (len, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
        let (written, batch) =
            rest.split_at_checked(u64::from_le_bytes(*len) as usize).ok_or_else(damaged)?;
        let Written { keys, values, states, items, parents } =
            postcard::from_bytes(written).map_err(|error| damaged().with_source(error))?;
        let batch = self.batches.read(batch)?;
        let mut all = batch.iter();
        let mut groups = VecDeque::with_capacity(keys.len());
        for ((((key, values), states), items), numbers) in
            keys.into_iter().zip(values).zip(states).zip(items).zip(parents)
        {
            let parents = numbers.into_iter().zip(&mut all);
            let parents = parents.map(|(number, item)| (number, item.id(), item.lineage().clone())).collect();
            groups.push_back((key, Group { values, states, items, parents }));
        }
        Ok(groups)
    }
}
