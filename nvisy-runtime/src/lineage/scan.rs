//! Looking for rows in the files of the log.
//!
//! Of a file that has nothing to do with what is looked for, only its end is read: the Bloom
//! filters say so. Before a row is believed, all bytes that it was made of are held against their
//! checksums: a file that was cut or damaged is named, and passed over.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, RecordBatch};
use arrow::datatypes::{Int32Type, UInt32Type, UInt64Type};
use nvisy_core::observability::field;
use nvisy_core::{Error, ErrorKind, Position, PrimitiveId, Result, RunId, SourceIdentity};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, ParquetRecordBatchReaderBuilder, RowFilter};

use super::files::{Name, PART, VERSION, io_error, key};
use super::rows::{SCHEMA, offsets};

/// How many rows are read at once.
const BATCH: usize = 8_192;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    /// What was written under an id.
    Written(PrimitiveId),
    /// What was made from a source item.
    From(PrimitiveId),
    /// What was made from an object.
    Object(&'a str),
}

/// A row that fits.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) run: RunId,
    pub(super) graph: &'a str,
    pub(super) id: PrimitiveId,
    pub(super) root: Option<PrimitiveId>,
    pub(super) source: &'a str,
    pub(super) object: Option<&'a str>,
    pub(super) offset: Option<u64>,
    pub(super) position: Option<&'a str>,
    pub(super) byte_range: Option<std::ops::Range<u64>>,
    pub(super) chunk: Option<u64>,
    pub(super) sink: &'a str,
    pub(super) steps: &'a str,
}

/// Looks through all files. Returns the files that cannot be read, each with the reason.
///
/// # Errors
///
/// If the directory cannot be read.
pub(super) fn scan(
    directory: &Path,
    wanted: Wanted<'_>,
    mut found: impl FnMut(&Found<'_>),
) -> Result<Vec<String>> {
    let mut skipped = Vec::new();
    let mut seen = std::collections::HashSet::new();
    // A run may make one file of several: those are gone then, and the one is new.
    let mut patience = 3;
    loop {
        let mut gone = None;
        for path in files(directory)? {
            if !seen.insert(path.clone()) {
                continue;
            }
            match guarded(&path, || look(&path, wanted, &mut found)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => gone = Some(error),
                Err(error) => {
                    tracing::warn!({ field::ERROR } = error.tag(), %error, "a file of the log of lineage is passed over");
                    skipped.push(error.message().to_owned());
                }
            }
        }
        match gone {
            None => return Ok(skipped),
            Some(error) if patience == 0 => return Err(error),
            Some(_) => patience -= 1,
        }
    }
}

/// Returns the files of a directory, but for those that a run is writing.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error| io_error(directory, error);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if !path.to_string_lossy().ends_with(PART) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Returns all rows of a file.
pub(super) fn rows(path: &Path) -> Result<Vec<RecordBatch>> {
    guarded(path, || {
        let log = LogFile::open(path)?;
        log.check_rows()?;
        let batches = log.builder.with_batch_size(BATCH).build().map_err(|error| damaged(path, error))?;
        batches.map(|batch| batch.map_err(|error| damaged(path, error))).collect()
    })
}

/// Bytes that say what cannot be have brought down readers of Parquet before.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T>) -> Result<T> {
    let read = catch_unwind(AssertUnwindSafe(read));
    read.unwrap_or_else(|panic| Err(damaged(path, Error::from_panic(&*panic))))
}

fn damaged(path: &Path, why: impl std::fmt::Display) -> Error {
    let path = path.display();
    Error::new(ErrorKind::Validation, format!("\"{path}\" is no whole file of a log of lineage: {why}"))
}

/// A file whose end is as it was written.
struct LogFile {
    path: PathBuf,
    name: Name,
    graph: String,
    rows_checksum: u32,
    builder: ParquetRecordBatchReaderBuilder<File>,
}

impl LogFile {
    fn open(path: &Path) -> Result<Self> {
        let damaged = |why: &str| damaged(path, why);
        let name = path.file_name().and_then(|name| Name::read(name.to_str()?));
        let name = name.ok_or_else(|| damaged("it has another name"))?;
        // Before anything is made of it.
        if checksum(path, name.rows, u64::MAX)? != name.checksum {
            return Err(damaged("its end is not what it was"));
        }
        let file = File::open(path).map_err(|error| io_error(path, error))?;
        let builder =
            ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| self::damaged(path, error))?;
        let said = builder.metadata().file_metadata().key_value_metadata();
        let say = |key: &str| said?.iter().find(|said| said.key == key)?.value.clone();
        match say(key::VERSION).as_deref() {
            Some(VERSION) => {}
            Some(_) => return Err(damaged("a newer version wrote it")),
            None => return Err(damaged("it holds something else")),
        }
        let rows = say(key::ROWS).and_then(|sum| u32::from_str_radix(&sum, 16).ok());
        let (Some(graph), Some(rows_checksum)) = (say(key::GRAPH), rows) else {
            return Err(damaged("it does not say what it holds"));
        };
        if builder.schema().fields() != SCHEMA.fields() {
            return Err(damaged("it has other columns"));
        }
        let path = path.to_owned();
        Ok(Self { path, name, graph, rows_checksum, builder })
    }

    /// Holds the bytes of the rows against their checksum.
    fn check_rows(&self) -> Result<()> {
        match checksum(&self.path, 0, self.name.rows)? == self.rows_checksum {
            true => Ok(()),
            false => Err(damaged(&self.path, "its rows are not what they were")),
        }
    }

    /// Returns the row groups that may have what is looked for.
    fn candidates(&self, wanted: Wanted<'_>) -> Result<Vec<usize>> {
        let (id, column) = match wanted {
            Wanted::Object(_) => return Ok((0..self.builder.metadata().num_row_groups()).collect()),
            Wanted::Written(id) => (id.as_bytes(), 0),
            Wanted::From(id) => (id.as_bytes(), 1),
        };
        let mut candidates = Vec::new();
        for (index, group) in self.builder.metadata().row_groups().iter().enumerate() {
            let nulls = group.column(column).statistics().and_then(|statistics| statistics.null_count_opt());
            let filter = self.builder.get_row_group_column_bloom_filter(index, column);
            let filter = filter.map_err(|error| damaged(&self.path, error))?;
            // A null stands for ids that nobody has computed yet.
            if nulls != Some(0) || filter.is_none_or(|filter| filter.check(&id[..])) {
                candidates.push(index);
            }
        }
        Ok(candidates)
    }
}

/// Returns the checksum of a part of a file.
fn checksum(path: &Path, from: u64, len: u64) -> Result<u32> {
    let failed = |error: io::Error| io_error(path, error);
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(from)).map_err(failed)?;
    let mut part = file.take(len);
    let (mut sum, mut buffer) = (0, vec![0; 1 << 18]);
    loop {
        match part.read(&mut buffer).map_err(failed)? {
            0 => return Ok(sum),
            n => sum = crc32c::crc32c_append(sum, &buffer[..n]),
        }
    }
}

/// Looks through one file.
fn look(path: &Path, wanted: Wanted<'_>, found: &mut impl FnMut(&Found<'_>)) -> Result<()> {
    let log = LogFile::open(path)?;
    let candidates = log.candidates(wanted)?;
    if candidates.is_empty() {
        return Ok(());
    }
    log.check_rows()?;
    let LogFile { name: Name { run, .. }, graph, builder, .. } = log;
    let columns = match wanted {
        Wanted::Written(_) => ["id"].as_slice(),
        Wanted::From(_) => &["id", "root"],
        Wanted::Object(_) => &["object"],
    };
    let projection = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
    let object = match wanted {
        Wanted::Object(object) => Some(object.to_owned()),
        _ => None,
    };
    let id = match wanted {
        Wanted::Written(id) | Wanted::From(id) => Some(id.as_bytes()),
        Wanted::Object(_) => None,
    };
    let fits = ArrowPredicateFn::new(projection, move |rows| {
        Ok(match (&object, &id) {
            (Some(object), _) => is_name(rows.column(0).as_dictionary(), object),
            (_, Some(id)) => is_id(&rows, id),
            _ => BooleanArray::from(vec![true; rows.num_rows()]),
        })
    });
    let reader = builder
        .with_row_groups(candidates)
        .with_row_filter(RowFilter::new(vec![Box::new(fits)]))
        .with_batch_size(BATCH)
        .build()
        .map_err(|error| damaged(path, error))?;
    for rows in reader {
        let rows = rows.map_err(|error| damaged(path, error))?;
        for row in 0..rows.num_rows() {
            tell(&rows, row, run, &graph, wanted, found)
                .ok_or_else(|| damaged(path, "a row makes no sense"))?;
        }
    }
    Ok(())
}

/// Which rows have the id, in the last of the columns, or stand for several items.
fn is_id(rows: &RecordBatch, id: &[u8; 16]) -> BooleanArray {
    let ids = rows.column(0).as_fixed_size_binary();
    let wanted = rows.column(rows.num_columns() - 1).as_fixed_size_binary();
    let fits = |row: usize| wanted.value(row) == id && wanted.is_valid(row) || ids.is_null(row);
    (0..rows.num_rows()).map(|row| Some(fits(row))).collect()
}

/// Which rows have the name.
fn is_name(column: &DictionaryArray<Int32Type>, name: &str) -> BooleanArray {
    let names = column.values().as_string::<i32>();
    let fits: Vec<bool> = names.iter().map(|known| known == Some(name)).collect();
    column
        .keys()
        .iter()
        .map(|key| Some(key.is_some_and(|key| fits.get(key as usize) == Some(&true))))
        .collect()
}

/// Tells what a row has that is looked for. None if it makes no sense.
fn tell(
    rows: &RecordBatch,
    row: usize,
    run: RunId,
    graph: &str,
    wanted: Wanted<'_>,
    found: &mut impl FnMut(&Found<'_>),
) -> Option<()> {
    let id_at = |column: usize| id(rows.column(column).as_fixed_size_binary(), row);
    let name_at = |column: usize| name(rows.column(column).as_dictionary(), row);
    let number_at = |column: usize| {
        let numbers = rows.column(column).as_primitive::<UInt64Type>();
        numbers.is_valid(row).then(|| numbers.value(row))
    };
    let positions = rows.column(7).as_string::<i32>();
    let (source, object, offset) = (name_at(2)?, name_at(3), number_at(4));
    let (sink, steps) = (name_at(11)?, name_at(12)?);
    let one = |id, root, offset| Found {
        run,
        graph,
        id,
        root,
        source,
        object,
        offset,
        position: positions.is_valid(row).then(|| positions.value(row)),
        byte_range: number_at(8).zip(number_at(9)).map(|(start, end)| start..end),
        chunk: number_at(10),
        sink,
        steps,
    };
    if let Some(id) = id_at(0) {
        found(&one(id, id_at(1), offset));
        return Some(());
    }
    let items = rows.column(5).as_primitive::<UInt32Type>().value(row);
    let gaps = rows.column(6).as_binary::<i32>();
    let gaps = gaps.is_valid(row).then(|| gaps.value(row));
    let (identity, shared) = (SourceIdentity::new(source), object.map(std::sync::Arc::<str>::from));
    for offset in offsets(offset?, items, gaps)? {
        let position = match &shared {
            Some(object) => Position::Marker { object: object.clone(), offset },
            None => Position::Offset(offset),
        };
        let id = identity.id(&position);
        let fits = match wanted {
            Wanted::Written(wanted) | Wanted::From(wanted) => id == wanted,
            Wanted::Object(_) => true,
        };
        if fits {
            found(&one(id, Some(id), Some(offset)));
        }
    }
    Some(())
}

fn id(column: &FixedSizeBinaryArray, row: usize) -> Option<PrimitiveId> {
    let bytes = column.is_valid(row).then(|| column.value(row))?;
    PrimitiveId::from_bytes(bytes.try_into().ok()?).ok()
}

fn name(column: &DictionaryArray<Int32Type>, row: usize) -> Option<&str> {
    let names = column.values().as_string::<i32>();
    names.is_valid(column.key(row)?).then(|| names.value(column.key(row).unwrap_or_default()))
}
