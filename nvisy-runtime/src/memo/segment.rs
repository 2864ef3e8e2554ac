//! One file of results: records one behind the other, each with its key and checksums.
//!
//! A record is a head (its own CRC32C, the value's length, the CRC32C of key and value, the key)
//! and the value; numbers are little-endian. A head that does not add up, or whose value is cut,
//! ends the file: what is behind it is not known. A value that does not add up is not known.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nvisy_core::hash::ContentHash;

/// What a file begins with: name and version of the format.
const MAGIC: &[u8; 8] = b"nvmemo\x00\x01";
const HEAD: usize = 4 + 4 + 4 + 32;

/// Where a value stands in a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    offset: u64,
    len: u32,
    sum: u32,
}

/// An open file of results. The lock, where it is taken, goes with it.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    /// How far it is known; what is behind is not read.
    pub(super) bytes: u64,
    locked: bool,
}

impl Segment {
    /// Makes a new file, which is this store's to write.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let begun = file.try_lock().map_err(io::Error::from);
        let begun = begun.and_then(|()| (&file).write_all(MAGIC)).and_then(|()| file.sync_all());
        if let Err(error) = begun {
            // On a full disk there would be another one with each result.
            _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(Self { path: path.to_owned(), file, bytes: MAGIC.len() as u64, locked: true })
    }

    /// Opens a file and tells `found` what is in it, the oldest first.
    pub(super) fn open(path: &Path, found: impl FnMut(ContentHash, Place)) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut segment = Self { path: path.to_owned(), file, bytes: 0, locked: false };
        segment.scan(found)?;
        Ok(segment)
    }

    /// Reads on from where it is known.
    fn scan(&mut self, mut found: impl FnMut(ContentHash, Place)) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        let mut reader = BufReader::new(&self.file);
        reader.seek(SeekFrom::Start(self.bytes))?;
        if self.bytes == 0 {
            let mut magic = [0; MAGIC.len()];
            if len < MAGIC.len() as u64 || reader.read_exact(&mut magic).is_err() || magic != *MAGIC {
                return Ok(());
            }
            self.bytes = MAGIC.len() as u64;
        }
        while len - self.bytes >= HEAD as u64 {
            let mut head = [0; HEAD];
            reader.read_exact(&mut head)?;
            let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            let (sum_of_head, value_len, sum) = (number(0), number(4), number(8));
            let end = self.bytes + HEAD as u64 + u64::from(value_len);
            if crc32c::crc32c(&head[4..]) != sum_of_head || end > len {
                break;
            }
            let mut key = [0; 32];
            key.copy_from_slice(&head[12..]);
            let place = Place { offset: self.bytes + HEAD as u64, len: value_len, sum };
            found(ContentHash::from_bytes(key), place);
            reader.seek_relative(i64::from(value_len))?;
            self.bytes = end;
        }
        Ok(())
    }

    /// Makes the file this store's to write, if it is nobody's: reads what came to it meanwhile,
    /// and cuts off what is not whole. Returns whether it is.
    pub(super) fn claim(&mut self, found: impl FnMut(ContentHash, Place)) -> io::Result<bool> {
        if !self.lock() {
            return Ok(false);
        }
        // Whoever removes a file has it locked: from here on it stays.
        if !self.path.try_exists()? {
            return Ok(false);
        }
        self.scan(found)?;
        if self.bytes == 0 {
            return Ok(false);
        }
        if self.file.metadata()?.len() > self.bytes {
            self.file.set_len(self.bytes)?;
        }
        Ok(true)
    }

    fn lock(&mut self) -> bool {
        self.locked = self.locked || self.file.try_lock().is_ok();
        self.locked
    }

    /// Returns the value at a place, if it is what was put there.
    pub(super) fn get(&self, key: &ContentHash, place: Place) -> Option<Bytes> {
        let mut value = vec![0; place.len as usize];
        (&self.file).seek(SeekFrom::Start(place.offset)).ok()?;
        (&self.file).read_exact(&mut value).ok()?;
        (sum(key, &value) == place.sum).then(|| value.into())
    }

    /// Appends entries durably, and returns where they stand. After an error the file is not to be
    /// written on.
    pub(super) fn append(&mut self, entries: &[(ContentHash, Bytes)]) -> io::Result<Vec<Place>> {
        let mut records = Vec::with_capacity(entries.iter().map(|(_, value)| size(value)).sum());
        let mut places = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let len = u32::try_from(value.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
            let sum = sum(key, value);
            let mut head = [0; HEAD];
            head[4..8].copy_from_slice(&len.to_le_bytes());
            head[8..12].copy_from_slice(&sum.to_le_bytes());
            head[12..].copy_from_slice(key.as_bytes());
            let sum_of_head = crc32c::crc32c(&head[4..]);
            head[..4].copy_from_slice(&sum_of_head.to_le_bytes());
            records.extend_from_slice(&head);
            places.push(Place { offset: self.bytes + records.len() as u64, len, sum });
            records.extend_from_slice(value);
        }
        (&self.file).seek(SeekFrom::Start(self.bytes))?;
        (&self.file).write_all(&records)?;
        self.file.sync_data()?;
        self.bytes += records.len() as u64;
        Ok(places)
    }

    /// Removes the file, unless somebody writes to it. Returns whether it is gone.
    pub(super) fn remove(&mut self) -> io::Result<bool> {
        if !self.lock() {
            return Ok(false);
        }
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(true),
        }
    }

    /// Returns how many bytes the file takes.
    pub(super) fn len(&self) -> u64 {
        self.file.metadata().map_or(self.bytes, |metadata| metadata.len().max(self.bytes))
    }
}

/// How many bytes a value takes in a file.
pub(super) fn size(value: &Bytes) -> usize {
    HEAD + value.len()
}

fn sum(key: &ContentHash, value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key.as_bytes()), value)
}
