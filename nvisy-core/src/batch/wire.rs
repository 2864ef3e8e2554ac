//! How batches are written and read: compact bytes, in which what items share stands once.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};

use super::columns::{Envelopes, Ids, Indices, RunsBuilder, Stretch, Trail};
use super::{Batch, Content, Items};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PrimitiveId, SourceIdentity};
use crate::lineage::{Lineage, Link, Merge, Parents, Step};
use crate::metadata::{Metadata, Timestamp, json_value_arc};
use crate::position::{Position, Positions};
use crate::primitive::Payload;
use crate::token::Tokens;

/// Writes batches as bytes, for a [`BatchReader`] that reads them in the same order.
///
/// Rows are Arrow IPC, other payloads their compact form. Steps, envelopes and links of lineages
/// stand where the first batch needs them: what millions of items share is written once. There is
/// no checksum in them: whoever keeps the bytes adds one.
///
/// # Examples
///
/// ```
/// use nvisy_core::batch::{BatchReader, BatchWriter};
/// use nvisy_core::primitive::document::Document;
/// use nvisy_core::{Batch, Item};
///
/// # fn main() -> nvisy_core::Result<()> {
/// let batch: Batch = [Item::detached("greeting", Document::new("Hello")?)].into_iter().collect();
/// let (mut writer, mut reader) = (BatchWriter::default(), BatchReader::default());
/// let read = reader.read(&writer.write(&batch)?)?;
/// assert_eq!(read.primitive(0), batch.primitive(0));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct BatchWriter {
    steps: Known<Step>,
    sources: HashMap<Box<str>, u32>,
    envelopes: Known<Metadata>,
    links: Known<Link>,
}

/// Reads what a [`BatchWriter`] has written, from its first batch on.
#[derive(Debug, Default)]
pub struct BatchReader {
    steps: Vec<Arc<Step>>,
    sources: Vec<SourceIdentity>,
    envelopes: Vec<Arc<Metadata>>,
    links: Vec<Arc<Link>>,
}

/// What has a number already. It is kept, so that no other thing gets its address.
#[derive(Debug)]
struct Known<T> {
    numbers: HashMap<usize, u32>,
    kept: Vec<Arc<T>>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), kept: Vec::new() }
    }
}

impl<T> Known<T> {
    fn number(&self, value: &Arc<T>) -> Option<u32> {
        self.numbers.get(&(Arc::as_ptr(value) as usize)).copied()
    }

    fn add(&mut self, value: &Arc<T>) -> u32 {
        let number = self.kept.len() as u32;
        self.numbers.insert(Arc::as_ptr(value) as usize, number);
        self.kept.push(value.clone());
        number
    }
}

/// A batch, with what it needs that no batch before it needed.
#[derive(Default, Serialize, Deserialize)]
struct Written {
    steps: Vec<WrittenStep>,
    sources: Vec<Box<str>>,
    envelopes: Vec<Metadata>,
    links: Vec<WrittenLink>,
    content: WrittenContent,
    ids: Option<Vec<PrimitiveId>>,
    /// For how many items which envelope holds.
    enveloped: Vec<(u32, u32)>,
    /// For how many items which link holds, and where in it they are.
    trail: Vec<(u32, u32, WrittenIndices)>,
}

#[derive(Serialize, Deserialize)]
enum WrittenContent {
    Rows(#[serde(with = "octets")] Vec<u8>),
    Items(Vec<Payload>),
}

impl Default for WrittenContent {
    fn default() -> Self {
        Self::Items(Vec::new())
    }
}

#[derive(Serialize, Deserialize)]
struct WrittenStep {
    node: Arc<str>,
    operation: Arc<str>,
    time: Timestamp,
    #[serde(with = "json_value_arc")]
    parameters: Arc<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
enum WrittenLink {
    Origin {
        step: u32,
        source: u32,
        positions: WrittenPositions,
        keys: Option<Vec<PrimitiveId>>,
    },
    Edit {
        step: u32,
        parent: u32,
    },
    /// One input an item, each with its id, its link and where in that it is.
    One {
        step: u32,
        parents: Vec<(PrimitiveId, u32, u32)>,
    },
    /// The same inputs for every item.
    All {
        step: u32,
        parents: Vec<(PrimitiveId, u32, u32)>,
    },
    /// Several inputs an item, in steps of their own.
    Merge {
        steps: Vec<u32>,
        items: Vec<(u32, u32)>,
        links: Vec<u32>,
        inputs: Vec<(u32, u32)>,
        ids: Option<Vec<PrimitiveId>>,
    },
}

#[derive(Serialize, Deserialize)]
enum WrittenPositions {
    Sequence { object: Option<Arc<str>>, start: u64 },
    Offsets { object: Arc<str>, offsets: Arc<[u64]> },
    Each(Arc<[Position]>),
}

#[derive(Serialize, Deserialize)]
enum WrittenIndices {
    From(u32),
    Each(Arc<[u32]>),
}

impl BatchWriter {
    /// Writes a batch. Its tokens are not part of it.
    ///
    /// # Errors
    ///
    /// `validation` if a payload does not become bytes.
    pub fn write(&mut self, batch: &Batch) -> Result<Vec<u8>> {
        let mut written = Written {
            content: match &batch.content {
                Content::Rows(table) => WrittenContent::Rows(rows_to_bytes(&table.rows)?),
                Content::Items(items) => WrittenContent::Items(items.payloads.clone()),
                Content::Gone(_) => return Err(Error::internal("the payloads were handed over")),
            },
            ids: match &batch.ids {
                Ids::Natural => None,
                Ids::Each(ids) => Some(ids.clone()),
                Ids::Keyed(..) => Some(batch.ids()),
            },
            ..Written::default()
        };
        for (part, metadata) in batch.envelopes.0.within(0, batch.len()) {
            let number = self.envelopes.number(metadata).unwrap_or_else(|| {
                written.envelopes.push(Metadata::clone(metadata));
                self.envelopes.add(metadata)
            });
            written.enveloped.push((part.len() as u32, number));
        }
        for (part, Stretch { link, indices }) in batch.trail.0.within(0, batch.len()) {
            let number = self.link(link, &mut written);
            let indices = match indices {
                Indices::From(start) => WrittenIndices::From(*start),
                Indices::Each(each) => WrittenIndices::Each(each.clone()),
            };
            written.trail.push((part.len() as u32, number, indices));
        }
        postcard::to_allocvec(&written).map_err(|error| {
            Error::new(ErrorKind::Validation, "the batch does not become bytes").with_source(error)
        })
    }

    /// Returns the number of a link, which is written with all behind it: parents first.
    fn link(&mut self, link: &Arc<Link>, written: &mut Written) -> u32 {
        let mut open = vec![link];
        while let Some(next) = open.last().copied() {
            if self.links.number(next).is_some() {
                open.pop();
                continue;
            }
            let before = open.len();
            open.extend(next.parents().filter(|parent| self.links.number(parent).is_none()));
            if open.len() == before {
                let link = self.written_link(next, written);
                written.links.push(link);
                self.links.add(next);
                open.pop();
            }
        }
        self.links.number(link).unwrap_or_default()
    }

    /// A link whose parents are written.
    fn written_link(&mut self, link: &Link, written: &mut Written) -> WrittenLink {
        if let Link::Merge(Merge { steps, items, links, inputs, ids }) = link {
            return WrittenLink::Merge {
                steps: steps.iter().map(|step| self.step(step, written)).collect(),
                items: items.clone(),
                links: links.iter().map(|link| self.links.number(link).unwrap_or_default()).collect(),
                inputs: inputs.clone(),
                ids: ids.clone(),
            };
        }
        let step = self.step(link.step(0), written);
        let number = |link: &Arc<Link>| self.links.number(link).unwrap_or_default();
        let parents = |of: &[(PrimitiveId, Lineage)]| {
            of.iter().map(|(id, lineage)| (*id, number(&lineage.link), lineage.index)).collect()
        };
        match link {
            Link::Origin { source, positions, keys, .. } => {
                let positions = match positions.clone() {
                    Positions::Sequence { object, start } => WrittenPositions::Sequence { object, start },
                    Positions::Offsets { object, offsets } => WrittenPositions::Offsets { object, offsets },
                    Positions::Each(each) => WrittenPositions::Each(each),
                };
                let keys = keys.as_ref().map(|keys| keys.to_vec());
                WrittenLink::Origin { step, source: self.source(source, written), positions, keys }
            }
            Link::Edit { parent, .. } => {
                WrittenLink::Edit { step, parent: parent.as_ref().map(number).unwrap_or_default() }
            }
            Link::Derive { parents: Parents::One(one), .. } => {
                WrittenLink::One { step, parents: parents(one) }
            }
            Link::Derive { parents: Parents::All(all), .. } => {
                WrittenLink::All { step, parents: parents(all) }
            }
            Link::Merge(_) => unreachable!("it is written above"),
        }
    }

    fn step(&mut self, step: &Arc<Step>, written: &mut Written) -> u32 {
        self.steps.number(step).unwrap_or_else(|| {
            let Step { node, operation, time, parameters } = Step::clone(step);
            written.steps.push(WrittenStep { node, operation, time, parameters });
            self.steps.add(step)
        })
    }

    fn source(&mut self, source: &SourceIdentity, written: &mut Written) -> u32 {
        if let Some(number) = self.sources.get(source.name()) {
            return *number;
        }
        let number = self.sources.len() as u32;
        written.sources.push(source.name().into());
        self.sources.insert(source.name().into(), number);
        number
    }
}

impl BatchReader {
    /// Reads the next batch.
    ///
    /// # Errors
    ///
    /// `validation` if the bytes are not what was written behind the batches before.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Batch> {
        let written: Written = match postcard::take_from_bytes(bytes) {
            Ok((written, [])) => written,
            Ok(_) => return Err(corrupt("there are more of them than it takes")),
            Err(error) => return Err(corrupt("they do not read").with_source(error)),
        };
        self.steps.extend(written.steps.into_iter().map(|step| {
            let WrittenStep { node, operation, time, parameters } = step;
            Arc::new(Step { node, operation, time, parameters })
        }));
        self.sources.extend(written.sources.into_iter().map(SourceIdentity::new));
        self.envelopes.extend(written.envelopes.into_iter().map(Arc::new));
        for link in written.links {
            let link = self.link(link)?;
            self.links.push(Arc::new(link));
        }
        let content = match written.content {
            WrittenContent::Rows(bytes) => Content::Rows(rows_from_bytes(&bytes)?.into()),
            WrittenContent::Items(payloads) => Content::Items(Items::shared(payloads)),
        };
        let (mut envelopes, mut enveloped) = (RunsBuilder::new(), 0);
        for (len, number) in written.enveloped {
            envelopes.push(at(&self.envelopes, number)?.clone(), len as usize);
            enveloped += len as usize;
        }
        let (mut trail, mut trailed) = (RunsBuilder::new(), 0);
        for (len, number, indices) in written.trail {
            let indices = match indices {
                WrittenIndices::From(start) => Indices::From(start),
                WrittenIndices::Each(each) if each.len() == len as usize => Indices::Each(each),
                WrittenIndices::Each(_) => return Err(corrupt("a lineage is cut")),
            };
            trail.push(Stretch { link: at(&self.links, number)?.clone(), indices }, len as usize);
            trailed += len as usize;
        }
        let len = content.len();
        let ids = written.ids.map_or(Ids::Natural, Ids::Each);
        let identified = if let Ids::Each(ids) = &ids { ids.len() } else { len };
        if [enveloped, trailed, identified].iter().any(|found| *found != len) {
            return Err(corrupt("the columns are of different lengths"));
        }
        let (envelopes, trail) = (Envelopes(envelopes.finish()), Trail(trail.finish()));
        Ok(Batch { content, ids, envelopes, trail, tokens: Tokens::none() })
    }

    fn link(&self, link: WrittenLink) -> Result<Link> {
        let parents = |of: Vec<(PrimitiveId, u32, u32)>| {
            let parent =
                |(id, link, index)| Ok((id, Lineage { link: at(&self.links, link)?.clone(), index }));
            of.into_iter().map(parent).collect::<Result<Box<[_]>>>()
        };
        let step = |number| at(&self.steps, number).cloned();
        Ok(match link {
            WrittenLink::Origin { step: of, source, positions, keys } => Link::Origin {
                step: step(of)?,
                source: at(&self.sources, source)?.clone(),
                positions: match positions {
                    WrittenPositions::Sequence { object, start } => Positions::Sequence { object, start },
                    WrittenPositions::Offsets { object, offsets } => Positions::Offsets { object, offsets },
                    WrittenPositions::Each(each) => Positions::Each(each),
                },
                keys: keys.map(Into::into),
            },
            WrittenLink::Edit { step: of, parent } => Link::edit(step(of)?, at(&self.links, parent)?.clone()),
            WrittenLink::One { step: of, parents: from } => {
                Link::Derive { step: step(of)?, parents: Parents::One(parents(from)?) }
            }
            WrittenLink::All { step: of, parents: from } => {
                Link::Derive { step: step(of)?, parents: Parents::All(parents(from)?) }
            }
            WrittenLink::Merge { steps, items, links, inputs, ids } => {
                let steps = steps.into_iter().map(step).collect::<Result<_>>()?;
                let links = links.into_iter().map(|link| at(&self.links, link).cloned());
                let merge = Merge { steps, items, links: links.collect::<Result<_>>()?, inputs, ids };
                if !merge.is_whole() {
                    return Err(corrupt("a lineage is cut"));
                }
                Link::Merge(merge)
            }
        })
    }
}

fn at<T>(known: &[T], number: u32) -> Result<&T> {
    known.get(number as usize).ok_or_else(|| corrupt("something is missing that stood before"))
}

fn corrupt(message: impl Display) -> Error {
    Error::new(ErrorKind::Validation, format!("the bytes are no batch: {message}"))
}

fn rows_to_bytes(rows: &RecordBatch) -> Result<Vec<u8>> {
    let write = || {
        let mut writer = StreamWriter::try_new(Vec::new(), rows.schema_ref())?;
        writer.write(rows)?;
        writer.into_inner()
    };
    write().map_err(|error| {
        Error::new(ErrorKind::Validation, "the rows do not become Arrow IPC").with_source(error)
    })
}

fn rows_from_bytes(bytes: &[u8]) -> Result<RecordBatch> {
    let mut reader =
        StreamReader::try_new(bytes, None).map_err(|error| corrupt("its rows").with_source(error))?;
    match reader.next() {
        Some(Ok(rows)) => Ok(rows),
        Some(Err(error)) => Err(corrupt("its rows").with_source(error)),
        None => Err(corrupt("its rows are missing")),
    }
}

/// Bytes in one piece.
mod octets {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(octets: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        bytes::Bytes::copy_from_slice(octets).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        bytes::Bytes::deserialize(deserializer).map(Into::into)
    }
}
