//! The files of the log that a run writes: whole and durable under their names, or not there.
//!
//! `RUN-NUMBER-LENGTH-CHECKSUM.parquet`: so long are the rows, and that is the checksum of what
//! stands behind them: Bloom filters, index and footer. In the footer stands the checksum of the
//! rows. See [`super::scan`].

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use nvisy_core::{Error, Result, RunId};
use parquet::arrow::ArrowWriter;
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{BloomFilterPosition, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::rows::SCHEMA;
use super::scan;
use crate::disk::{make, sync_directory};

/// The keys of what a file says of itself.
pub(super) mod key {
    /// The version of the columns.
    pub(in crate::lineage) const VERSION: &str = "nvisy.lineage";
    pub(in crate::lineage) const GRAPH: &str = "nvisy.graph";
    /// The checksum of the rows.
    pub(in crate::lineage) const ROWS: &str = "nvisy.rows";
}
pub(super) const VERSION: &str = "1";

/// How many rows a file has at the most, about.
const FILE_ROWS: usize = 1 << 20;
/// How large a file grows, about.
const FILE_BYTES: usize = 64 << 20;
/// How many rows a group has: what is read for one id, and what is in memory until it is written.
const GROUP_ROWS: usize = 1 << 17;
/// How many bytes a group has at the most, about.
const GROUP_BYTES: usize = 4 << 20;
/// Below this a file is small: a checkpoint asked for it before it was full.
const SMALL_BYTES: u64 = 4 << 20;
/// How many small files a run leaves before it makes one of them.
const SMALL_FILES: usize = 32;

/// What the name of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) run: RunId,
    number: u64,
    /// How many bytes hold rows.
    pub(super) rows: u64,
    /// The checksum of the others.
    pub(super) checksum: u32,
}

impl Name {
    pub(super) fn read(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".parquet")?.split('-');
        let name = Self {
            run: parts.next()?.parse().ok()?,
            number: parts.next()?.parse().ok()?,
            rows: parts.next()?.parse().ok()?,
            checksum: u32::from_str_radix(parts.next()?, 16).ok()?,
        };
        parts.next().is_none().then_some(name)
    }

    fn shown(self) -> String {
        format!("{}-{:06}-{}-{:08x}.parquet", self.run, self.number, self.rows, self.checksum)
    }
}

/// The files that a run writes.
pub(super) struct Files {
    directory: PathBuf,
    run: RunId,
    graph: String,
    /// The number of the next file.
    next: u64,
    open: Option<Open>,
    small: Vec<PathBuf>,
    /// Why nothing is written any more.
    failed: Option<Error>,
}

/// A file that is not whole yet.
struct Open {
    writer: ArrowWriter<Summed>,
    path: PathBuf,
    number: u64,
    rows: usize,
}

impl Files {
    /// Makes the directory, takes up what the run has left there before it stopped, and removes
    /// what was not whole.
    pub(super) fn open(directory: &Path, run: RunId, graph: &str) -> Result<Self> {
        let failed = |error| io_error(directory, error);
        make(directory).map_err(failed)?;
        let (mut next, mut small) = (0, Vec::new());
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.starts_with(&run.to_string())) else {
                continue;
            };
            if name.ends_with(PART) {
                fs::remove_file(entry.path()).map_err(failed)?;
            } else if let Some(name) = Name::read(name) {
                next = next.max(name.number + 1);
                if entry.metadata().map_err(failed)?.len() < SMALL_BYTES {
                    small.push(entry.path());
                }
            }
        }
        let (directory, graph) = (directory.to_owned(), graph.to_owned());
        Ok(Self { directory, run, graph, next, open: None, small, failed: None })
    }

    /// Writes rows. What goes wrong shows when they are to be durable.
    pub(super) fn write(&mut self, rows: &RecordBatch) {
        self.guarded(|files| files.append(rows));
    }

    /// Makes durable what was written, under its name.
    pub(super) fn seal(&mut self, rows: &RecordBatch) -> Result<()> {
        self.guarded(|files| {
            files.append(rows)?;
            files.show()?;
            if files.small.len() >= SMALL_FILES { files.merge() } else { Ok(()) }
        });
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Says that rows were lost: from here on nothing is durable.
    pub(super) fn fail(&mut self, error: Error) {
        self.failed.get_or_insert(error);
    }

    /// Writes unless that went wrong before, or ended half way.
    fn guarded(&mut self, write: impl FnOnce(&mut Self) -> Result<()>) {
        // A panic leaves it so.
        if self.failed.is_none() {
            self.failed = Some(Error::internal("a write to the log of lineage ended half way"));
            self.failed = write(self).err();
        }
    }

    fn append(&mut self, rows: &RecordBatch) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin()?,
        };
        open.writer.write(rows).map_err(|error| parquet_error(&open.path, error))?;
        open.rows += rows.num_rows();
        let full = open.rows >= FILE_ROWS || open.writer.bytes_written() >= FILE_BYTES;
        self.open = Some(open);
        if full { self.show() } else { Ok(()) }
    }

    fn begin(&mut self) -> Result<Open> {
        let number = self.next;
        self.next += 1;
        let path = self.directory.join(format!("{}-{number:06}{PART}", self.run));
        let file = File::create(&path).map_err(|error| io_error(&path, error))?;
        let said = [(key::VERSION, VERSION), (key::GRAPH, &self.graph)];
        let said = said.map(|(key, value)| KeyValue::new(key.to_owned(), value.to_owned()));
        let mut properties = WriterProperties::builder()
            .set_key_value_metadata(Some(said.to_vec()))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_max_row_group_bytes(Some(GROUP_BYTES))
            .set_bloom_filter_position(BloomFilterPosition::End)
            .set_column_dictionary_enabled(ColumnPath::from("id"), false);
        for id in ["id", "root"] {
            properties = properties
                .set_column_bloom_filter_enabled(ColumnPath::from(id), true)
                .set_column_bloom_filter_max_ndv(ColumnPath::from(id), GROUP_ROWS as u64);
        }
        for number in ["offset", "byte_start", "byte_end"] {
            properties = properties
                .set_column_dictionary_enabled(ColumnPath::from(number), false)
                .set_column_encoding(ColumnPath::from(number), Encoding::DELTA_BINARY_PACKED);
        }
        let summed = Summed { file, bytes: 0, checksum: 0 };
        let writer = ArrowWriter::try_new(summed, SCHEMA.clone(), Some(properties.build()));
        let writer = writer.map_err(|error| parquet_error(&path, error))?;
        Ok(Open { writer, path, number, rows: 0 })
    }

    /// Ends the file that is open, and gives it its name.
    fn show(&mut self) -> Result<()> {
        let Some(Open { mut writer, path, number, .. }) = self.open.take() else { return Ok(()) };
        let failed = |error| io_error(&path, error);
        writer.flush().map_err(|error| parquet_error(&path, error))?;
        writer.sync().map_err(failed)?;
        // From here on bytes count for the checksum in the name.
        let (rows, sum) = writer.inner_mut().restart();
        writer.append_key_value_metadata(KeyValue::new(key::ROWS.to_owned(), format!("{sum:08x}")));
        let Summed { file, bytes, checksum } =
            writer.into_inner().map_err(|error| parquet_error(&path, error))?;
        file.sync_all().map_err(failed)?;
        let name = self.directory.join(Name { run: self.run, number, rows, checksum }.shown());
        fs::rename(&path, &name).map_err(failed)?;
        sync_directory(&self.directory).map_err(failed)?;
        if bytes < SMALL_BYTES {
            self.small.push(name);
        }
        Ok(())
    }

    /// Makes one file of the small ones. Whoever reads meanwhile, or after a crash, finds rows
    /// twice at the worst.
    fn merge(&mut self) -> Result<()> {
        let mut merged = Vec::new();
        for path in std::mem::take(&mut self.small) {
            // One that is damaged, or was deleted, stays as it is: who reads the log is told.
            let Ok(rows) = scan::rows(&path) else { continue };
            rows.iter().try_for_each(|rows| self.append(rows))?;
            merged.push(path);
        }
        self.show()?;
        for path in merged {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&path, error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// What a file ends with that is not whole.
pub(super) const PART: &str = ".part";

/// A file, and what has been written to it since it was asked last.
struct Summed {
    file: File,
    bytes: u64,
    checksum: u32,
}

impl Summed {
    /// Returns how many bytes there are, and their checksum, and begins again.
    fn restart(&mut self) -> (u64, u32) {
        (self.bytes, std::mem::take(&mut self.checksum))
    }
}

impl Write for Summed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        self.checksum = crc32c::crc32c_append(self.checksum, &bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn parquet_error(path: &Path, error: ParquetError) -> Error {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => io_error(path, *error),
            Err(error) => io_error(path, io::Error::other(error)),
        },
        error => io_error(path, io::Error::other(error)),
    }
}

pub(super) fn io_error(path: &Path, error: io::Error) -> Error {
    Error::of_file(format_args!("log of lineage \"{}\"", path.display()), error)
}
