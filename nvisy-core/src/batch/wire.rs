//! How batches are written and read: compact bytes, in which what items share stands once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};

use super::columns::{Envelopes, Ids, RunsBuilder};
use super::mixed::Mixed;
use super::trail::{Indices, Stretch, Trail};
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
struct Written<'a> {
    steps: Vec<WrittenStep>,
    sources: Vec<Box<str>>,
    envelopes: Vec<Metadata>,
    links: Vec<WrittenLink>,
    #[serde(borrow)]
    content: WrittenContent<'a>,
    ids: Option<Vec<PrimitiveId>>,
    enveloped: WrittenEnvelopes<'a>,
    trail: WrittenTrail<'a>,
}

#[derive(Serialize, Deserialize)]
enum WrittenEnvelopes<'a> {
    /// For how many items which envelope holds.
    Runs(Vec<(u32, u32)>),
    /// The envelopes of the items, and of each item in four bytes the number among these of its
    /// own; none where that is the number of its link.
    Mixed(Vec<u32>, #[serde(borrow, with = "octets")] Cow<'a, [u8]>),
}

impl Default for WrittenEnvelopes<'_> {
    fn default() -> Self {
        Self::Runs(Vec::new())
    }
}

#[derive(Serialize, Deserialize)]
enum WrittenTrail<'a> {
    /// For how many items which link holds, and where in it they are.
    Runs(Vec<(u32, u32, WrittenIndices)>),
    /// The links of the items, and of each item eight bytes: the number among these of its own,
    /// and where in that it is.
    Mixed(Vec<u32>, #[serde(borrow, with = "octets")] Cow<'a, [u8]>),
}

impl Default for WrittenTrail<'_> {
    fn default() -> Self {
        Self::Runs(Vec::new())
    }
}

#[derive(Serialize, Deserialize)]
enum WrittenContent<'a> {
    Rows(#[serde(borrow, with = "octets")] Cow<'a, [u8]>),
    Items(Vec<Payload>),
}

impl Default for WrittenContent<'_> {
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
                Content::Rows(table) => WrittenContent::Rows(rows_to_bytes(&table.rows)?.into()),
                Content::Items(items) => WrittenContent::Items(items.payloads.clone()),
                Content::Gone(_) => return Err(Error::internal("the payloads were handed over")),
            },
            ids: match &batch.ids {
                Ids::Natural => None,
                Ids::Each(ids) => Some(ids.clone()),
                Ids::Keyed(_) => Some(batch.ids()),
            },
            ..Written::default()
        };
        written.enveloped = match &batch.envelopes {
            Envelopes::Runs(runs) => {
                let run = |(part, metadata): (Range<usize>, _)| {
                    (part.len() as u32, self.envelope(metadata, &mut written))
                };
                WrittenEnvelopes::Runs(runs.within(0, batch.len()).into_iter().map(run).collect())
            }
            Envelopes::Mixed(mixed) => {
                let Mixed { values, items } = &**mixed;
                let envelopes = values.iter().map(|metadata| self.envelope(metadata, &mut written)).collect();
                let alike = match &batch.trail {
                    Trail::Mixed(trail) => items.iter().zip(&*trail.items).all(|(a, b)| a >> 32 == b >> 32),
                    Trail::Runs(_) => false,
                };
                let number = |item: &u64| ((item >> 32) as u32).to_le_bytes();
                let numbers: Vec<u8> =
                    if alike { Vec::new() } else { items.iter().flat_map(number).collect() };
                WrittenEnvelopes::Mixed(envelopes, numbers.into())
            }
        };
        written.trail = match &batch.trail {
            Trail::Runs(runs) => {
                let run = |(part, Stretch { link, indices }): (Range<usize>, &Stretch)| {
                    let indices = match indices {
                        Indices::From(start) => WrittenIndices::From(*start),
                        Indices::Each(each) => WrittenIndices::Each(each.clone()),
                    };
                    (part.len() as u32, self.link(link, &mut written), indices)
                };
                WrittenTrail::Runs(runs.within(0, batch.len()).into_iter().map(run).collect())
            }
            Trail::Mixed(mixed) => {
                let Mixed { values, items } = &**mixed;
                let links = values.iter().map(|link| self.link(link, &mut written)).collect();
                let items: Vec<u8> = items.iter().flat_map(|item| item.to_le_bytes()).collect();
                WrittenTrail::Mixed(links, items.into())
            }
        };
        let bytes = match &written.content {
            WrittenContent::Rows(rows) => rows.len() + 16 * batch.len(),
            WrittenContent::Items(_) => batch.bytes(),
        };
        postcard::to_extend(&written, Vec::with_capacity(bytes + 1_024)).map_err(|error| {
            Error::new(ErrorKind::Validation, "the batch does not become bytes").with_source(error)
        })
    }

    fn envelope(&mut self, metadata: &Arc<Metadata>, written: &mut Written<'_>) -> u32 {
        self.envelopes.number(metadata).unwrap_or_else(|| {
            written.envelopes.push(Metadata::clone(metadata));
            self.envelopes.add(metadata)
        })
    }

    /// Returns the number of a link, which is written with all behind it: parents first.
    fn link(&mut self, link: &Arc<Link>, written: &mut Written<'_>) -> u32 {
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
    fn written_link(&mut self, link: &Link, written: &mut Written<'_>) -> WrittenLink {
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

    fn step(&mut self, step: &Arc<Step>, written: &mut Written<'_>) -> u32 {
        self.steps.number(step).unwrap_or_else(|| {
            let Step { node, operation, time, parameters } = Step::clone(step);
            written.steps.push(WrittenStep { node, operation, time, parameters });
            self.steps.add(step)
        })
    }

    fn source(&mut self, source: &SourceIdentity, written: &mut Written<'_>) -> u32 {
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
        let (trail, trailed) = self.trail(written.trail)?;
        let (envelopes, enveloped) = self.enveloped(written.enveloped, &trail)?;
        let len = content.len();
        let ids = written.ids.map_or(Ids::Natural, Ids::Each);
        let identified = if let Ids::Each(ids) = &ids { ids.len() } else { len };
        if [enveloped, trailed, identified].iter().any(|found| *found != len) {
            return Err(corrupt("the columns are of different lengths"));
        }
        Ok(Batch { content, ids, envelopes, trail, tokens: Tokens::none() })
    }

    /// Returns envelopes, and of how many items they are.
    fn enveloped(&self, written: WrittenEnvelopes<'_>, trail: &Trail) -> Result<(Envelopes, usize)> {
        match written {
            WrittenEnvelopes::Runs(runs) => {
                let (mut envelopes, mut items) = (RunsBuilder::new(), 0);
                for (len, number) in runs {
                    envelopes.push(at(&self.envelopes, number)?.clone(), len as usize);
                    items += len as usize;
                }
                Ok((Envelopes::Runs(envelopes.finish()), items))
            }
            WrittenEnvelopes::Mixed(numbers, bytes) => {
                let items: Vec<u64> = match (&*bytes, trail) {
                    ([], Trail::Mixed(trail)) => trail.items.iter().map(|item| item >> 32 << 32).collect(),
                    (bytes, _) => {
                        let (items, _) = bytes.as_chunks();
                        items.iter().map(|item| u64::from(u32::from_le_bytes(*item)) << 32).collect()
                    }
                };
                let len = items.len();
                Ok((Envelopes::Mixed(mixed(&self.envelopes, numbers, items)?), len))
            }
        }
    }

    /// Returns lineages, and of how many items they are.
    fn trail(&self, written: WrittenTrail<'_>) -> Result<(Trail, usize)> {
        match written {
            WrittenTrail::Runs(runs) => {
                let (mut trail, mut items) = (RunsBuilder::new(), 0);
                for (len, number, indices) in runs {
                    let indices = match indices {
                        WrittenIndices::From(start) => Indices::From(start),
                        WrittenIndices::Each(each) if each.len() == len as usize => Indices::Each(each),
                        WrittenIndices::Each(_) => return Err(corrupt("a lineage is cut")),
                    };
                    trail.push(Stretch { link: at(&self.links, number)?.clone(), indices }, len as usize);
                    items += len as usize;
                }
                Ok((Trail::Runs(trail.finish()), items))
            }
            WrittenTrail::Mixed(links, bytes) => {
                let (items, _) = bytes.as_chunks();
                let items: Vec<u64> = items.iter().map(|item| u64::from_le_bytes(*item)).collect();
                let len = items.len();
                Ok((Trail::Mixed(mixed(&self.links, links, items)?), len))
            }
        }
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

fn mixed<T>(known: &[Arc<T>], numbers: Vec<u32>, items: Vec<u64>) -> Result<Box<Mixed<Arc<T>>>> {
    let values =
        numbers.into_iter().map(|number| at(known, number).cloned()).collect::<Result<Arc<[_]>>>()?;
    if items.iter().any(|item| (item >> 32) as usize >= values.len()) {
        return Err(corrupt("an item has what is not there"));
    }
    Ok(Box::new(Mixed { values, items: items.into() }))
}

fn corrupt(message: impl Display) -> Error {
    Error::new(ErrorKind::Validation, format!("the bytes are no batch: {message}"))
}

fn rows_to_bytes(rows: &RecordBatch) -> Result<Vec<u8>> {
    let write = || {
        let room = Vec::with_capacity(rows.get_array_memory_size() + 4_096);
        let mut writer = StreamWriter::try_new(room, rows.schema_ref())?;
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

/// Bytes in one piece, which are read where they are.
mod octets {
    use std::borrow::Cow;
    use std::fmt;

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(octets: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(octets)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Cow<'de, [u8]>, D::Error> {
        struct Octets;

        impl<'de> Visitor<'de> for Octets {
            type Value = Cow<'de, [u8]>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_borrowed_bytes<E: Error>(self, octets: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(octets))
            }
        }

        deserializer.deserialize_bytes(Octets)
    }
}
