//! The rows of the log: what is written of a batch, and how it reads.
//!
//! | column | holds |
//! |---|---|
//! | `id` | the item's id; null in a row that stands for several source items |
//! | `root` | the source item's id; null where that follows from the next four |
//! | `source`, `object` | the source's identity, and the object in it, if the position names one |
//! | `offset` | the offset in that: a byte, a row, or a count |
//! | `items` | how many source items the row stands for: from `offset` on |
//! | `gaps` | how far each is behind the one before it (zigzag, LEB128), unless that is 1 |
//! | `position` | a position of another form, as JSON |
//! | `byte_start`, `byte_end`, `chunk` | which part of the source document it is |
//! | `sink`, `steps` | the node that wrote it, and what was done before: node and operation, as JSON |
//!
//! An item that was made from several source items has a row for each. Items that were read and
//! not made from others, whose ids follow from their offsets, share one row a batch: they cost a
//! byte or two each, and no id is computed before somebody asks.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BinaryBuilder, FixedSizeBinaryBuilder, RecordBatch, StringBuilder, StringDictionaryBuilder,
    UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef};
use arrow::error::ArrowError;
use nvisy_core::batch::{Offsets, SourceItems};
use nvisy_core::lineage::Step;
use nvisy_core::primitive::document::Document;
use nvisy_core::{Batch, Payload, Position, PrimitiveId};

/// The columns.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let id = || DataType::FixedSizeBinary(16);
    let name = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![
        Field::new("id", id(), true),
        Field::new("root", id(), true),
        Field::new("source", name(), false),
        Field::new("object", name(), true),
        Field::new("offset", DataType::UInt64, true),
        Field::new("items", DataType::UInt32, false),
        Field::new("gaps", DataType::Binary, true),
        Field::new("position", DataType::Utf8, true),
        Field::new("byte_start", DataType::UInt64, true),
        Field::new("byte_end", DataType::UInt64, true),
        Field::new("chunk", DataType::UInt64, true),
        Field::new("sink", name(), false),
        Field::new("steps", name(), false),
    ]))
});

type Names = StringDictionaryBuilder<Int32Type>;

/// Rows that are gathered, as columns.
pub(super) struct Rows {
    id: FixedSizeBinaryBuilder,
    root: FixedSizeBinaryBuilder,
    source: Names,
    object: Names,
    offset: UInt64Builder,
    items: UInt32Builder,
    gaps: BinaryBuilder,
    position: StringBuilder,
    byte_start: UInt64Builder,
    byte_end: UInt64Builder,
    chunk: UInt64Builder,
    sink: Names,
    steps: Names,
    len: usize,
    /// About how many bytes those columns take whose values have no fixed length.
    bytes: usize,
    /// The steps that were written out last: items that come together share them.
    last_steps: (Vec<Arc<Step>>, String),
    /// Where gaps are written, kept for the next ones.
    written: Vec<u8>,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            id: FixedSizeBinaryBuilder::new(16),
            root: FixedSizeBinaryBuilder::new(16),
            source: Names::new(),
            object: Names::new(),
            offset: UInt64Builder::new(),
            items: UInt32Builder::new(),
            gaps: BinaryBuilder::new(),
            position: StringBuilder::new(),
            byte_start: UInt64Builder::new(),
            byte_end: UInt64Builder::new(),
            chunk: UInt64Builder::new(),
            sink: Names::new(),
            steps: Names::new(),
            len: 0,
            bytes: 0,
            last_steps: (Vec::new(), "[]".to_owned()),
            written: Vec::new(),
        }
    }
}

/// Where a source item stands.
struct Place<'a> {
    root: Option<PrimitiveId>,
    source: &'a str,
    position: Option<&'a Position>,
}

impl Rows {
    /// Returns how many rows there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns about how many bytes they take.
    pub(super) fn bytes(&self) -> usize {
        self.len * 80 + self.bytes
    }

    /// Adds what a sink has written.
    pub(super) fn push(&mut self, sink: &str, batch: &Batch) {
        for (items, origin) in batch.source_items() {
            let has_parts = || items.clone().any(|at| document(batch, at).is_some_and(is_part));
            let parts = batch.as_items().is_some() && has_parts();
            match &origin {
                Some(origin) if !parts && self.stretch(sink, origin) => {}
                Some(origin) => {
                    self.remember(origin.steps().iter().copied());
                    for (nth, at) in items.enumerate() {
                        let position = origin.position(nth);
                        let (root, source) = (origin.root(nth), origin.source().name());
                        let place = Place { root, source, position: position.as_ref() };
                        self.item(sink, batch.id(at), document(batch, at), &place);
                    }
                }
                None => items.for_each(|at| self.derived(sink, batch, at)),
            }
        }
    }

    /// Adds source items in one row. Returns whether that is possible.
    fn stretch(&mut self, sink: &str, origin: &SourceItems<'_>) -> bool {
        let Some((object, offsets)) = origin.offsets() else { return false };
        let first = match offsets {
            Offsets::Consecutive { len: 0, .. } => return true,
            Offsets::Consecutive { first, len } => {
                self.items.append_value(len as u32);
                self.gaps.append_null();
                first
            }
            Offsets::Each(offsets) => {
                let Some(first) = offsets.first() else { return true };
                self.items.append_value(offsets.len() as u32);
                self.written.clear();
                write_gaps(&mut self.written, &offsets);
                self.bytes += self.written.len();
                self.gaps.append_value(&self.written);
                *first
            }
        };
        self.id.append_null();
        self.root.append_null();
        self.source.append_value(origin.source().name());
        self.object.append_option(object);
        self.offset.append_value(first);
        self.position.append_null();
        self.part(None);
        self.remember(origin.steps().iter().copied());
        self.end(sink);
        true
    }

    /// Adds an item that was made from others: a row for each source item behind it.
    fn derived(&mut self, sink: &str, batch: &Batch, at: usize) {
        let mut seen: Vec<PrimitiveId> = Vec::new();
        for way in batch.lineage(at).ways() {
            if seen.contains(&way.root.id) {
                continue;
            }
            seen.push(way.root.id);
            self.remember(way.steps.iter());
            let (root, source) = (Some(way.root.id), way.root.source.name());
            let place = Place { root, source, position: Some(&way.root.position) };
            self.item(sink, batch.id(at), document(batch, at), &place);
        }
    }

    fn item(&mut self, sink: &str, id: PrimitiveId, document: Option<&Document>, place: &Place<'_>) {
        append_id(&mut self.id, Some(id));
        append_id(&mut self.root, place.root);
        self.source.append_value(place.source);
        let (object, offset, other) = match place.position {
            Some(Position::Marker { object, offset }) => (Some(object), Some(*offset), None),
            Some(Position::Offset(offset)) => (None, Some(*offset), None),
            Some(other) => (None, None, serde_json::to_string(other).ok()),
            None => (None, None, None),
        };
        self.object.append_option(object);
        self.offset.append_option(offset);
        self.items.append_value(1);
        self.gaps.append_null();
        self.bytes += other.as_ref().map_or(0, String::len);
        self.position.append_option(other);
        self.part(document);
        self.end(sink);
    }

    fn part(&mut self, document: Option<&Document>) {
        let range = document.and_then(|document| document.byte_range.as_ref());
        self.byte_start.append_option(range.map(|range| range.start));
        self.byte_end.append_option(range.map(|range| range.end));
        self.chunk.append_option(document.and_then(|document| document.chunk));
    }

    fn end(&mut self, sink: &str) {
        self.sink.append_value(sink);
        self.steps.append_value(&self.last_steps.1);
        self.len += 1;
    }

    /// Writes steps out, unless they are those that were written out last.
    fn remember<'a>(&mut self, steps: impl ExactSizeIterator<Item = &'a Arc<Step>> + Clone) {
        let (known, text) = &mut self.last_steps;
        if known.len() == steps.len() && known.iter().zip(steps.clone()).all(|(a, b)| Arc::ptr_eq(a, b)) {
            return;
        }
        let hops: Vec<[&str; 2]> = steps.clone().map(|step| [&*step.node, &*step.operation]).collect();
        *text = serde_json::to_string(&hops).unwrap_or_default();
        *known = steps.cloned().collect();
    }

    /// Takes the rows out.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let mut all = std::mem::take(self);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(all.id.finish()),
            Arc::new(all.root.finish()),
            Arc::new(all.source.finish()),
            Arc::new(all.object.finish()),
            Arc::new(all.offset.finish()),
            Arc::new(all.items.finish()),
            Arc::new(all.gaps.finish()),
            Arc::new(all.position.finish()),
            Arc::new(all.byte_start.finish()),
            Arc::new(all.byte_end.finish()),
            Arc::new(all.chunk.finish()),
            Arc::new(all.sink.finish()),
            Arc::new(all.steps.finish()),
        ];
        RecordBatch::try_new(SCHEMA.clone(), columns)
    }
}

fn append_id(column: &mut FixedSizeBinaryBuilder, id: Option<PrimitiveId>) {
    match id {
        // Never refused: an id has sixteen bytes.
        Some(id) if column.append_value(id.as_bytes()).is_ok() => {}
        _ => column.append_null(),
    }
}

/// Returns the document that an item is or was embedded from.
fn document(batch: &Batch, at: usize) -> Option<&Document> {
    match batch.as_items()?.get(at)? {
        Payload::Document(document) => Some(document),
        Payload::Embedding(embedding) => embedding.document.as_deref(),
        _ => None,
    }
}

fn is_part(document: &Document) -> bool {
    document.byte_range.is_some() || document.chunk.is_some()
}

/// Writes how far each offset is behind the one before it.
fn write_gaps(bytes: &mut Vec<u8>, offsets: &[u64]) {
    let gaps = offsets.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    // Of rows that a filter has left, all gaps are small, and need no loop each.
    if gaps.clone().fold(0, |all, gap| all | gap) < 0x40 {
        bytes.extend(gaps.map(|gap| (gap as u8) << 1));
        return;
    }
    for gap in gaps.map(|gap| gap as i64) {
        leb128(bytes, ((gap << 1) ^ (gap >> 63)) as u64);
    }
}

fn leb128(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Reads the offsets of a row that stands for several items.
pub(super) fn offsets(first: u64, items: u32, gaps: Option<&[u8]>) -> Option<Vec<u64>> {
    let Some(mut gaps) = gaps else {
        return Some((0..u64::from(items)).map(|nth| first.wrapping_add(nth)).collect());
    };
    // A gap is a byte at least: a count that says more is damaged.
    if gaps.len() + 1 < items as usize {
        return None;
    }
    let mut offsets = vec![first];
    let mut last = first;
    for _ in 1..items {
        let mut gap = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = gaps.split_first()?;
            gaps = rest;
            gap |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        last = last.wrapping_add(((gap >> 1) as i64 ^ -((gap & 1) as i64)) as u64);
        offsets.push(last);
    }
    Some(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_read_as_they_were_written() {
        let far = [7, 8, 9, 200, 3, u64::MAX, 0, 1 << 40];
        let near = [7, 7, 9, 72, 135, 136, 136, 199];
        let [mut gaps, mut small] = [Vec::new(), Vec::new()];
        write_gaps(&mut small, &near);
        assert_eq!(small.len(), 7);
        assert_eq!(offsets(7, 8, Some(&small)).unwrap(), near);
        write_gaps(&mut small, &[0, 64]);
        assert_eq!(small.len(), 9);
        write_gaps(&mut gaps, &far);
        assert_eq!(offsets(7, 8, Some(&gaps)).unwrap(), far);
        assert_eq!(offsets(7, 3, None).unwrap(), [7, 8, 9]);
        assert_eq!(offsets(7, 100, Some(&gaps)), None, "fewer than said");
        assert_eq!(offsets(7, 4, Some(&[0xff, 0xff, 0xff])), None, "cut");
    }
}
