//! Both sides of a join, sorted by their keys, and how they are put together.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema, SchemaRef};
use nvisy_core::batch::{BatchReader, BatchWriter};
use nvisy_core::checkpoint::{Changes, Entries};
use nvisy_core::lineage::Step;
use nvisy_core::primitive::row::Row;
use nvisy_core::spill::Spill;
use nvisy_core::{
    Batch, Error, ErrorKind, Lineage, Metadata, Payload, Positions, Primitive, PrimitiveId, Result,
    SourceIdentity,
};
use serde::{Deserialize, Serialize};

use super::sizes::sizes;
use crate::actions::key::Keys;
use crate::actions::sorter::{MOST_BYTES, Sorted, Sorter};
use crate::expression::Type;

/// Rows of a batch that comes out at the most; it is of [`MOST_BYTES`] at the most, too, unless one
/// row is more.
const MOST: usize = 1_024;
/// What is said beside the two sides.
const BESIDE: &str = "join.beside";

/// Both sides, until all is put together.
pub(super) struct Sides {
    left: Sorter,
    right: Sorter,
    memory: u64,
    keep: bool,
    prefix: String,
    /// The columns of the right, as its first rows had them.
    columns: Option<SchemaRef>,
    /// How many rows have come out; of them those that a run before let go of.
    released: u64,
    skip: u64,
    /// What is being put together; none before and after.
    at: Option<Place>,
}

/// Where in the two sides the join is.
struct Place {
    left: Sorted,
    /// How many bytes each row takes.
    left_sizes: Vec<usize>,
    /// The row of the left that is next, and how many of its matches have come out.
    next: usize,
    matched: usize,
    right: Sorted,
    right_sizes: Vec<usize>,
    /// The first row of the right whose key is not less than that of the left.
    from: usize,
    right_ended: bool,
}

#[derive(Serialize, Deserialize)]
struct Beside {
    known: Type,
    released: u64,
    columns: Option<Vec<u8>>,
}

type Pairs = Vec<(u32, Option<u32>)>;

impl Sides {
    pub(super) fn new(spill: &Spill, memory: u64, keep: bool, prefix: String) -> Self {
        let side = |name| Sorter::new(spill.clone(), name, memory.div_ceil(2)).kept_whole();
        let (left, right) = (side("left"), side("right"));
        Self { left, right, memory, keep, prefix, columns: None, released: 0, skip: 0, at: None }
    }

    pub(super) fn push(&mut self, batch: Batch, keys: &Keys, from: usize) -> Result<()> {
        if self.released > 0 || self.skip > 0 {
            return Err(Error::new(
                ErrorKind::Conflict,
                "the inputs of the join had ended, and a part of what it makes of them is out: \
                 what has come to them since needs a run of its own",
            ));
        }
        if batch.is_empty() {
            return Ok(());
        }
        if from == 0 {
            return self.left.push(batch, keys);
        }
        if self.columns.is_none()
            && let Payload::Row(row) = batch.payload(0)
        {
            self.columns = Some(row.schema().clone());
        }
        self.right.push(batch, keys)
    }

    pub(super) fn is_full(&self) -> bool {
        self.left.is_full() || self.right.is_full()
    }

    pub(super) fn spill(&mut self) -> Result<()> {
        if self.left.is_full() {
            self.left.spill()?;
        }
        if self.right.is_full() {
            self.right.spill()?;
        }
        Ok(())
    }

    /// Returns the next rows.
    pub(super) fn next(&mut self, step: &Arc<Step>) -> Result<Option<Batch>> {
        loop {
            let mut place = match self.at.take() {
                Some(place) => place,
                None => Place::new(),
            };
            if place.next >= place.left.batch.len() {
                match self.left.next()? {
                    Some(left) => {
                        place.left_sizes = sizes(&left.batch)?;
                        (place.left, place.next) = (left, 0);
                    }
                    None => {
                        self.left.clear();
                        self.right.clear();
                        (self.released, self.skip, self.columns) = (0, 0, None);
                        return Ok(None);
                    }
                }
            }
            let mut pairs = self.pairs(&mut place)?;
            let gone = self.skip.min(pairs.len() as u64);
            pairs.drain(..gone as usize);
            self.skip -= gone;
            self.released += gone + pairs.len() as u64;
            let batch = if pairs.is_empty() { None } else { Some(self.rows(&place, &pairs, step)?) };
            self.at = Some(place);
            if batch.is_some() {
                return Ok(batch);
            }
        }
    }

    /// Puts rows of the left together with those of the right, as far as what is read goes.
    fn pairs(&mut self, place: &mut Place) -> Result<Pairs> {
        let (mut pairs, mut bytes) = (Pairs::new(), 0);
        while place.next < place.left.batch.len() && pairs.len() < MOST {
            while place.needs_more() {
                if !pairs.is_empty() {
                    // What is read next takes the place of what they are of.
                    return Ok(pairs);
                }
                self.read_right(place)?;
            }
            let matches = place.matches();
            let rows = if self.keep { matches.max(1) } else { matches };
            while place.matched < rows && pairs.len() < MOST {
                let right = (matches > 0).then_some(place.from + place.matched);
                bytes += place.left_sizes[place.next] + right.map_or(0, |right| place.right_sizes[right]);
                if bytes > MOST_BYTES && !pairs.is_empty() {
                    return Ok(pairs);
                }
                pairs.push((place.next as u32, right.map(|right| right as u32)));
                place.matched += 1;
            }
            if place.matched == rows {
                (place.next, place.matched) = (place.next + 1, 0);
            }
        }
        Ok(pairs)
    }

    fn read_right(&mut self, place: &mut Place) -> Result<()> {
        let Some(more) = self.right.next()? else {
            place.right_ended = true;
            return Ok(());
        };
        let rest = place.right.batch.len() - place.from;
        if rest == 0 {
            place.right = more;
        } else {
            let parts = vec![place.right.batch.slice(place.from, rest), more.batch];
            let mut keys = place.right.keys.slice(place.from, rest)?;
            keys.append(&more.keys)?;
            let batch = Batch::concat(parts).into_iter().next().unwrap_or_else(Batch::empty);
            place.right = Sorted { batch, keys };
        }
        place.from = 0;
        place.right_sizes = sizes(&place.right.batch)?;
        let (keys, bytes) = (&place.right.keys, place.right.batch.bytes());
        let len = keys.len();
        // A few rows are held however little the memory is.
        let many = len > 2 * MOST || (len > 1 && bytes > MOST_BYTES);
        let key = place.left.keys.get(place.next);
        if many && bytes as u64 > self.memory && keys.get(0) == key && keys.get(len - 1) == key {
            let memory = self.memory;
            return Err(Error::configuration(format!(
                "join: {len} rows of the right input and more have one key, beyond the {memory} bytes of `memory`: \
                 raise it, or change the sides"
            )));
        }
        Ok(())
    }

    fn rows(&self, place: &Place, pairs: &Pairs, step: &Arc<Step>) -> Result<Batch> {
        let whole = match (place.left.batch.as_rows(), place.right.batch.as_rows()) {
            (Some(left), Some(right)) => Some((&**left, Some(&**right))),
            (Some(left), None) if place.right.batch.is_empty() => Some((&**left, None)),
            _ => None,
        };
        if let Some((left, right)) = whole {
            let rows = Arc::new(self.columns(left, right, pairs)?);
            return Ok(items(place, pairs, step, |index| Row::new(rows.clone(), index as u32))?
                .into_iter()
                .collect());
        }
        // Rows of several schemas: one by one.
        let items = items(place, pairs, step, |index| {
            let (left, right) = pairs[index];
            let left = row(&place.left.batch, left)?;
            let right = right.map(|right| row(&place.right.batch, right)).transpose()?;
            let pair = vec![(0, right.as_ref().map(|_| 0))];
            Row::new(Arc::new(self.columns(&left, right.as_ref(), &pair)?), 0)
        })?;
        Ok(Batch::from_primitives(items))
    }

    /// The columns of both for pairs of their rows.
    fn columns(&self, left: &RecordBatch, right: Option<&RecordBatch>, pairs: &Pairs) -> Result<RecordBatch> {
        let failed = |error| Error::internal("the columns of both sides make no rows").with_source(error);
        let of_left = UInt32Array::from_iter_values(pairs.iter().map(|(left, _)| *left));
        let of_right: UInt32Array = pairs.iter().map(|(_, right)| *right).collect();
        let mut fields: Vec<Arc<Field>> = left.schema_ref().fields().iter().cloned().collect();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(fields.len());
        for column in left.columns() {
            columns.push(take(column, &of_left, None).map_err(failed)?);
        }
        let none = self.columns.clone().unwrap_or_else(|| Arc::new(Schema::empty()));
        let schema = right.map_or(&none, RecordBatch::schema_ref);
        for (index, field) in schema.fields().iter().enumerate() {
            let mut name = field.name().clone();
            if fields.iter().any(|known| *known.name() == name) {
                name = format!("{}{name}", self.prefix);
            }
            if fields.iter().any(|known| *known.name() == name) {
                let message = format!(
                    "is the name of two columns of the join: set another `prefix` than \"{}\"",
                    self.prefix
                );
                return Err(Error::invalid(name, message));
            }
            fields.push(Arc::new(field.as_ref().clone().with_name(name).with_nullable(true)));
            columns.push(match right {
                Some(right) => take(right.column(index), &of_right, None).map_err(failed)?,
                None => new_null_array(field.data_type(), pairs.len()),
            });
        }
        let schema = Schema::new_with_metadata(fields, left.schema_ref().metadata().clone());
        let options = RecordBatchOptions::new().with_row_count(Some(pairs.len()));
        RecordBatch::try_new_with_options(Arc::new(schema), columns, &options).map_err(failed)
    }

    pub(super) fn save(&mut self, known: Type) -> Result<Changes> {
        let mut changes = Changes::default();
        let columns = self.columns.as_ref().map(written).transpose()?;
        let released = self.released + self.skip;
        let beside = postcard::to_allocvec(&Beside { known, released, columns })
            .map_err(|error| Error::internal("what a join knows does not become bytes").with_source(error))?;
        changes.put(BESIDE, beside);
        self.left.save(&mut changes)?;
        self.right.save(&mut changes)?;
        Ok(changes)
    }

    pub(super) fn saved(&mut self) {
        self.left.saved();
        self.right.saved();
    }

    /// Takes up what was saved, and returns the type of the keys.
    pub(super) fn restore(&mut self, saved: &Entries) -> Result<Option<Type>> {
        let mut known = None;
        if let Some(beside) = saved.get(BESIDE) {
            let beside: Beside = postcard::from_bytes(beside).map_err(|error| {
                Error::new(ErrorKind::Validation, "what a join has saved does not read").with_source(error)
            })?;
            self.skip = beside.released;
            self.columns = beside.columns.map(|columns| read(&columns)).transpose()?;
            known = Some(beside.known);
        }
        self.left.restore(saved)?;
        self.right.restore(saved)?;
        Ok(known)
    }
}

impl Place {
    fn new() -> Self {
        let none = || Sorted { batch: Batch::empty(), keys: Keys::default() };
        Self {
            left: none(),
            left_sizes: Vec::new(),
            next: 0,
            matched: 0,
            right: none(),
            right_sizes: Vec::new(),
            from: 0,
            right_ended: false,
        }
    }

    /// Goes on to the first row of the right that is not before that of the left, and returns
    /// whether what is read of the right does not show all its matches.
    fn needs_more(&mut self) -> bool {
        let key = self.left.keys.get(self.next);
        let len = self.right.keys.len();
        while self.from < len && self.right.keys.get(self.from) < key {
            self.from += 1;
        }
        !self.right_ended && (self.from == len || self.right.keys.get(len - 1) == key)
    }

    /// Returns how many rows of the right match that of the left.
    fn matches(&self) -> usize {
        let key = self.left.keys.get(self.next);
        (self.from..self.right.keys.len()).take_while(|right| self.right.keys.get(*right) == key).count()
    }
}

/// One row of a batch of any layout.
pub(super) fn row(batch: &Batch, index: u32) -> Result<RecordBatch> {
    match batch.payload(index as usize) {
        Payload::Row(row) => Ok(row.batch().slice(row.index(), 1)),
        _ => Err(Error::internal("a join keeps nothing but rows")),
    }
}

/// Items of pairs, each with the row that `row` makes of the pair.
fn items(
    place: &Place,
    pairs: &Pairs,
    step: &Arc<Step>,
    row: impl Fn(usize) -> Result<Row>,
) -> Result<Vec<Primitive>> {
    let (left, right) = (&place.left.batch, &place.right.batch);
    let item = |(index, (of_left, of_right)): (usize, &(u32, Option<u32>))| {
        let parents = [Some((left, *of_left)), of_right.map(|of_right| (right, of_right))];
        let parents = parents.into_iter().flatten().map(|(batch, index)| {
            let index = index as usize;
            (batch.id(index), batch.lineage(index))
        });
        let parents: Vec<_> = parents.collect();
        let id = PrimitiveId::merge(parents.iter().map(|(id, _)| *id), "join", 0);
        let metadata = left.metadata(*of_left as usize).clone();
        Ok(Primitive::new(id, row(index)?, metadata, Lineage::derived(step.clone(), parents)))
    };
    pairs.iter().enumerate().map(item).collect()
}

/// Columns as bytes: a batch that has no rows.
fn written(columns: &SchemaRef) -> Result<Vec<u8>> {
    let (source, metadata) = (SourceIdentity::new("join"), Arc::new(Metadata::default()));
    let step = Arc::new(Step::new("join", "join", metadata.created_at));
    let none = RecordBatch::new_empty(columns.clone());
    BatchWriter::default().write(&Batch::read_rows(none, Positions::from(0), &source, step, metadata)?)
}

fn read(bytes: &[u8]) -> Result<SchemaRef> {
    let batch = BatchReader::default().read(bytes)?;
    let rows = batch.as_rows().ok_or_else(|| Error::internal("what a join has saved has no columns"))?;
    Ok(rows.schema())
}
