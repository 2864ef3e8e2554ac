//! Text formats as streams of record batches: blocks are read ahead, decoded on several
//! threads, and given out in order.

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::thread::available_parallelism;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use futures::Stream;
use nvisy_core::observability::NoMeter;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::{
    BatchLimits, Error, ErrorKind, Partition, Position, Positions, ReadContext, Result, SourceBatch,
};

use crate::block::{Block, BlockReader, Oversize, Split, too_long};
use crate::client::{Content, Entry, ObjectClient};
use crate::compression::Compression;
use crate::error::{from_io, from_join};
use crate::partition::{offset_of, row_limit};
use crate::schema::{MAX_COLUMNS, Shape, inferred};
use crate::selection::Selection;
use crate::task::{Blocking, blocking};

/// How long a record may be, unless a source says otherwise.
pub(crate) const MAX_RECORD: usize = 16 << 20;
/// How many records a schema is inferred from, unless a source says otherwise.
pub(crate) const SAMPLE: usize = 10_000;
/// How much text of one object a sample reads at the most.
const SAMPLE_BYTES: u64 = 8 << 20;
/// How many bytes are decoded of a block at once: a record of two bytes may have a thousand columns.
const MAX_DECODED: usize = 32 << 20;
/// How many objects a sample looks into at the most.
const SAMPLE_OBJECTS: usize = 64;

/// A format whose objects are text, one record after the other.
pub(crate) trait TextFormat: Clone + Send + Sync + 'static {
    /// Returns which objects are read.
    fn selection(&self) -> Selection;

    /// Returns how long a record may be.
    fn max_record(&self) -> usize;

    /// Returns how many records a schema is inferred from.
    fn sample_size(&self) -> usize;

    /// Returns the schema that the user gives.
    fn given_schema(&self) -> Option<SchemaRef>;

    /// Returns what tells this question for a schema from others.
    fn question(&self) -> String;

    /// Returns what finds the ends of records.
    fn split(&self, key: &str) -> Box<dyn Split>;

    /// Widens the shapes of the columns by what the blocks of one object show. Returns how
    /// many records there were.
    fn sample(&self, key: &str, blocks: Vec<Block>, columns: &mut Shape, most: usize) -> usize;

    /// Returns what decodes an object from the block `first` on; takes a header off it. None where
    /// the block does not tell: one behind it is asked then.
    fn decoder(&self, key: &str, schema: SchemaRef, first: &mut Block) -> Result<Option<Arc<dyn Decode>>>;
}

/// Decodes blocks of one object.
pub(crate) trait Decode: Send + Sync + 'static {
    /// Decodes the records of a block into `records`.
    fn decode(&self, block: &Block, records: &mut Records) -> Result<()>;
}

/// What was decoded of a block: chunks of rows, and what is no record.
#[derive(Debug)]
pub(crate) struct Records {
    /// Rows a chunk at the most.
    most: usize,
    /// Bytes a chunk at the most.
    most_bytes: usize,
    /// How many bytes a row has in memory, texts left out.
    width: usize,
    /// How many bytes are in the chunk.
    bytes: usize,
    /// How many bytes are in the chunks that are full.
    decoded: usize,
    /// Where in the block the rest begins, if enough was decoded before it.
    rest: Option<usize>,
    /// The record after which reading goes on.
    after: Option<u64>,
    /// Whether it was there.
    reached: bool,
    /// A byte of the block, and the lines before it: those behind it are counted from there.
    counted: (usize, u64),
    offsets: Vec<u64>,
    bad: Vec<Bad>,
    chunks: Vec<Chunk>,
    failure: Option<Error>,
}

/// Rows with their offsets, and what is no record among them.
#[derive(Debug)]
pub(crate) struct Chunk {
    rows: RecordBatch,
    offsets: Vec<u64>,
    bad: Vec<Bad>,
}

/// Something that is no record.
#[derive(Debug)]
pub(crate) struct Bad {
    offset: u64,
    text: Bytes,
    error: Error,
}

impl Records {
    fn new(limits: BatchLimits, schema: &SchemaRef, after: Option<u64>) -> Self {
        Self {
            most: row_limit(limits),
            // A block and what was carried over to it are one batch.
            most_bytes: limits.bytes.saturating_add(limits.bytes / 4),
            width: schema.fields().iter().map(|field| width(field.data_type())).sum(),
            bytes: 0,
            decoded: 0,
            rest: None,
            after,
            reached: after.is_none(),
            counted: (0, 0),
            offsets: Vec::new(),
            bad: Vec::new(),
            chunks: Vec::new(),
            failure: None,
        }
    }

    /// Returns whether the record at `offset` was read already.
    pub(crate) fn is_past(&mut self, offset: u64) -> bool {
        self.reached |= self.after == Some(offset);
        self.after.is_some_and(|after| offset <= after)
    }

    /// Adds a record of `len` bytes. Returns whether the chunk is full: then its rows are due.
    pub(crate) fn good(&mut self, offset: u64, len: usize) -> bool {
        self.offsets.push(offset);
        self.bytes += len.max(self.width);
        self.is_full()
    }

    fn is_full(&self) -> bool {
        self.offsets.len() + self.bad.len() >= self.most || self.bytes >= self.most_bytes
    }

    /// Returns whether so much was decoded that the rest of the block, from `at` on, has to wait
    /// for its turn.
    pub(crate) fn stops_at(&mut self, at: usize) -> bool {
        let stops = self.decoded >= MAX_DECODED;
        self.rest = stops.then_some(at);
        stops
    }

    /// Returns how many times the records of the chunk so far are still to come, about, if
    /// `rest` bytes follow: once a chunk, when there are enough to tell.
    pub(crate) fn forecast(&self, rest: usize) -> Option<usize> {
        const ENOUGH: usize = 64;
        if self.offsets.len() != ENOUGH {
            return None;
        }
        let room = self.most_bytes.saturating_sub(self.bytes).min(rest);
        let times = room.div_ceil(self.bytes.max(1)) + 1;
        Some(times.min(self.most / ENOUGH))
    }

    /// Adds what is no record: `text` of the block, with the fault at byte `fault` of it. Returns
    /// whether the chunk is full: then its rows are due.
    pub(crate) fn bad(
        &mut self,
        key: &str,
        block: &Block,
        text: std::ops::Range<usize>,
        fault: (usize, &str),
    ) -> bool {
        let offset = block.offset + text.start as u64;
        let at = text.start + fault.0;
        let line = self.line_at(block, at);
        let place = block.offset + at as u64;
        let message = format!("object \"{key}\", line {line}, byte {place}: {}", fault.1);
        // A few bytes that are no record have more beside them than they are.
        self.bytes += text.len() + message.len() + size_of::<Bad>();
        let error = Error::new(ErrorKind::Validation, message);
        self.bad.push(Bad { offset, text: block.text.slice(text), error });
        self.is_full()
    }

    /// Returns the line of the byte at `at`, counted from the last one that was asked for.
    fn line_at(&mut self, block: &Block, at: usize) -> u64 {
        let (from, before) = if self.counted.0 <= at { self.counted } else { (0, 0) };
        self.counted = (at, before + block.lines_between(from, at));
        block.line + self.counted.1
    }

    /// Fails the object, behind what was read of it.
    pub(crate) fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// Ends a chunk.
    pub(crate) fn chunk(&mut self, rows: RecordBatch) {
        self.decoded += std::mem::take(&mut self.bytes);
        let (offsets, bad) = (std::mem::take(&mut self.offsets), std::mem::take(&mut self.bad));
        if !offsets.is_empty() || !bad.is_empty() {
            self.chunks.push(Chunk { rows, offsets, bad });
        }
    }
}

/// Returns how many bytes a value of a type has in memory, texts left out.
fn width(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|field| width(field.data_type())).sum(),
        other => other.primitive_width().unwrap_or(4),
    }
}

/// Decodes a block, or as much of it as may be at once: what is left of it comes back.
fn decode(
    decoder: Arc<dyn Decode>,
    mut block: Block,
    mut records: Records,
    give_up: impl FnOnce(&Oversize, &mut Records) + Send + 'static,
) -> Blocking<Result<(Records, Option<Block>)>> {
    blocking(move || {
        if let Some(oversize) = &block.oversize {
            give_up(oversize, &mut records);
            return Ok((records, None));
        }
        decoder.decode(&block, &mut records)?;
        let rest = records.rest.map(|rest| {
            block.advance(rest);
            block
        });
        Ok((records, rest))
    })
}

/// How many blocks are decoded at once.
fn ahead() -> usize {
    available_parallelism().map_or(2, usize::from).clamp(2, 8) + 1
}

/// Returns how many bytes are read at once.
fn block_size(limits: BatchLimits) -> usize {
    limits.bytes.clamp(64 << 10, 8 << 20)
}

/// Reads the object that a partition names.
pub(crate) fn read<F: TextFormat>(
    format: &F,
    partition: &Partition,
    after: Option<Position>,
    context: &ReadContext<ObjectClient>,
) -> impl Stream<Item = Result<SourceBatch>> + Send + use<F> {
    let (format, key, context) = (format.clone(), partition.id.clone(), context.clone());
    async_stream::try_stream! {
        let after = offset_of(after, &key)?;
        let schema = schema(&format, context.client()).await?;
        let limits = context.limits();
        let reader = open(&format, context.client(), &key, block_size(limits)).await?;
        let mut reading = Some(next(reader));
        let mut decoder: Option<Arc<dyn Decode>> = None;
        let mut decoding = VecDeque::new();
        let mut failed = None;
        // Whether the record after which reading goes on is where it was.
        let mut reached = after.is_none();
        // Asking costs several reads of small files.
        let ahead = ahead();
        loop {
            while decoding.len() < ahead {
                let Some(task) = reading.take() else { break };
                let (reader, block) = task.await.map_err(|error| from_join(error, "read", &key))?;
                // What was read before a fault still arrives.
                let mut block = match block {
                    Ok(Some(block)) => block,
                    Ok(None) => break,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                };
                reading = Some(next(reader));
                let decoder = match &decoder {
                    Some(decoder) => decoder.clone(),
                    None => match format.decoder(&key, schema.clone(), &mut block)? {
                        Some(made) => decoder.insert(made).clone(),
                        None => Arc::new(NoRecords(schema.clone())),
                    },
                };
                let end = block.offset + block.text.len() as u64;
                reached |= block.oversize.as_ref().is_some_and(|oversize| Some(oversize.offset) == after);
                if after.is_some_and(|after| end <= after) && !block.last {
                    continue;
                }
                let (key, empty, limit) = (key.clone(), schema.clone(), format.max_record());
                let give_up = move |oversize: &Oversize, records: &mut Records| {
                    give_up(&key, &empty, oversize, limit, records);
                };
                let records = Records::new(limits, &schema, after);
                decoding.push_back((decoder.clone(), decode(decoder, block, records, give_up)));
            }
            let Some((decoder, mut task)) = decoding.pop_front() else { break };
            loop {
                let (records, rest) = task.await.map_err(|error| from_join(error, "read", &key))??;
                reached |= records.reached;
                if let Some(after) = after.filter(|_| !reached) {
                    Err(replaced(&key, after))?;
                }
                for chunk in records.chunks {
                    yield emit(&context, &key, chunk)?;
                }
                if let Some(error) = records.failure {
                    Err(error)?;
                }
                let Some(rest) = rest else { break };
                task = decode(decoder.clone(), rest, Records::new(limits, &schema, after), |_, _| {});
            }
        }
        if let Some(error) = failed {
            Err(error)?;
        }
        if let Some(after) = after.filter(|_| !reached) {
            Err(replaced(&key, after))?;
        }
    }
}

/// The error of an object that does not have the record after which reading is to go on.
fn replaced(key: &str, after: u64) -> Error {
    let message = format!(
        "object \"{key}\" has no record at byte {after}, up to which it was read before: it was cut short or replaced: put it back as it was, or begin anew without the run's state"
    );
    Error::new(ErrorKind::Conflict, message)
}

/// Decodes what stands before the first record that is held: nothing.
struct NoRecords(SchemaRef);

impl Decode for NoRecords {
    fn decode(&self, _: &Block, records: &mut Records) -> Result<()> {
        records.chunk(RecordBatch::new_empty(self.0.clone()));
        Ok(())
    }
}

fn give_up(key: &str, schema: &SchemaRef, oversize: &Oversize, limit: usize, records: &mut Records) {
    if !records.is_past(oversize.offset) {
        let error = too_long(key, oversize, limit);
        records.bad.push(Bad { offset: oversize.offset, text: oversize.head.clone(), error });
        records.chunk(RecordBatch::new_empty(schema.clone()));
    }
}

fn emit(context: &ReadContext<ObjectClient>, key: &Arc<str>, chunk: Chunk) -> Result<SourceBatch> {
    let Chunk { rows, offsets, bad } = chunk;
    let last = offsets.last().copied().max(bad.last().map(|bad| bad.offset)).unwrap_or(0);
    let marker = |offset| Position::Marker { object: key.clone(), offset };
    let rejected = bad.into_iter().map(|bad| context.reject(raw(&bad.text), marker(bad.offset), bad.error));
    let rejected = rejected.collect::<Result<_>>()?;
    let batch = context.rows(rows, Positions::offsets(key.clone(), offsets), marker(last))?;
    Ok(batch.with_rejected(rejected))
}

/// A record as it stands: readable where it is text.
fn raw(text: &[u8]) -> Raw {
    match std::str::from_utf8(text) {
        Ok(text) => Raw::Json(text.into()),
        // Not a part of the block, which is much larger.
        Err(_) => Raw::Bytes(Bytes::copy_from_slice(text)),
    }
}

fn next(mut reader: BlockReader) -> Blocking<(BlockReader, Result<Option<Block>>)> {
    blocking(move || {
        let block = reader.next();
        (reader, block)
    })
}

async fn open<F: TextFormat>(
    format: &F,
    client: &ObjectClient,
    key: &str,
    size: usize,
) -> Result<BlockReader> {
    let input: Box<dyn Read + Send> = match (Compression::of(key), client.open(key).await?.content) {
        // A file reads into memory that was not written before; others have it zeroed first.
        (Compression::None, Content::File(file)) => Box::new(file),
        (compression, content) => compression.reader(content).map_err(|error| from_io(error, "read", key))?,
    };
    Ok(BlockReader::new(key, input, format.split(key), size, format.max_record()))
}

async fn schema<F: TextFormat>(format: &F, client: &ObjectClient) -> Result<SchemaRef> {
    match format.given_schema() {
        Some(schema) => Ok(schema),
        None => client.schema(format.question(), infer(format, client)).await,
    }
}

/// Infers the schema from the first records of the objects, in the order of their keys.
async fn infer<F: TextFormat>(format: &F, client: &ObjectClient) -> Result<SchemaRef> {
    let mut shape = Shape::Object(Vec::new());
    let mut left = format.sample_size();
    for Entry { key, .. } in
        client.list(&format.selection(), &NoMeter).await?.into_iter().take(SAMPLE_OBJECTS)
    {
        if left == 0 {
            break;
        }
        // An object that cannot be read fails where it is read.
        let Ok(reader) = open(format, client, &key, 1 << 18).await else { continue };
        let (format, name) = (format.clone(), key.clone());
        let sampled = blocking(move || {
            let blocks = sample_blocks(reader, left);
            let seen = format.sample(&key, blocks, &mut shape, left);
            (shape, seen)
        });
        let seen;
        (shape, seen) = sampled.await.map_err(|error| from_join(error, "read", &name))?;
        left = left.saturating_sub(seen);
    }
    if shape.columns() > MAX_COLUMNS {
        let message =
            format!("the records have more than {MAX_COLUMNS} columns: give those to read in `schema`");
        return Err(Error::new(ErrorKind::Validation, message));
    }
    let Shape::Object(columns) = shape else { return Err(Error::internal("records are objects")) };
    Ok(inferred(&columns))
}

fn sample_blocks(mut reader: BlockReader, most: usize) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut bytes, mut lines) = (0, 0);
    while let Ok(Some(block)) = reader.next() {
        let head = block.oversize.as_ref().map_or(0, |oversize| oversize.head.len());
        bytes += (block.text.len() + head) as u64;
        lines += memchr::memchr_iter(b'\n', &block.text).count();
        blocks.push(block);
        // A header more.
        if bytes >= SAMPLE_BYTES || lines > most.saturating_add(1) {
            break;
        }
    }
    blocks
}

/// Returns what is wrong with the settings that all text formats of rows have.
pub(crate) fn problems(
    schema: Option<&[crate::schema::SchemaColumn]>,
    sample: Option<usize>,
    max_record: Option<usize>,
) -> Vec<nvisy_core::config::Problem> {
    use nvisy_core::config::Problem;
    let mut problems = Vec::new();
    for (name, value) in [("sample", sample), ("max_record", max_record)] {
        if value == Some(0) {
            problems.push(
                Problem::new(name, format!("`{name}` is zero")).with_help("leave it out for the default"),
            );
        }
    }
    let columns = schema.unwrap_or_default();
    if schema.is_some() && columns.is_empty() {
        problems
            .push(Problem::new("schema", "there is no column").with_help("leave `schema` out to infer it"));
    }
    for (at, column) in columns.iter().enumerate() {
        if columns[..at].iter().any(|before| before.name == column.name) {
            let message = format!("there are two columns `{}`", column.name);
            problems.push(Problem::new(format!("schema[{at}].name"), message));
        }
    }
    problems
}
