//! The keys in the order in which they were seen, durable: what a checkpoint names.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use nvisy_core::{Result, Spill};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::run::{damaged, failed};
use crate::disk::{blocking, make, sync_directory};

const NAME: &str = "keys";
const KEY: usize = size_of::<u128>();
/// Keys that are written at once.
const BLOCK: usize = 4_096;
/// Bytes that are made durable before a checkpoint asks for it.
const EARLY: u64 = 4 << 20;

/// A file of blocks of keys, each with its length before it and its checksum behind it. The
/// checksum is also over the block's place.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: Arc<File>,
    end: End,
    /// What is not written yet.
    block: Vec<u8>,
    /// What is being made durable before a checkpoint waits for it.
    early: Option<JoinHandle<std::io::Result<()>>>,
    /// How much of it was begun to be made durable.
    begun: u64,
}

/// How much of a log there is: the rest is not to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) bytes: u64,
    pub(super) keys: u64,
}

impl Log {
    /// Opens a log up to `end`, and gives all its keys to `each`. What is behind is cut off.
    ///
    /// # Errors
    ///
    /// `validation` if it is shorter, or not what was written.
    pub(super) fn open(spill: &Spill, end: End, mut each: impl FnMut(u128) -> Result<()>) -> Result<Self> {
        let folder = match spill.kept_path() {
            Some(folder) => folder,
            None => spill.path()?,
        };
        make(folder).map_err(|error| failed(folder, error))?;
        let path = folder.join(NAME);
        let open = File::options().read(true).write(true).create(end.bytes == 0).truncate(false).open(&path);
        let mut file = open.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => damaged(&path),
            _ => failed(&path, error),
        })?;
        let mut found = End::default();
        let mut input = BufReader::with_capacity(1 << 20, &file);
        while found.bytes < end.bytes {
            let mut len = [0; 4];
            let read = input.read_exact(&mut len);
            read.map_err(|error| failed(&path, error))?;
            let keys = u32::from_le_bytes(len) as usize;
            if keys == 0 || keys > BLOCK {
                return Err(damaged(&path));
            }
            let mut bytes = vec![0; keys * KEY + 4];
            input.read_exact(&mut bytes).map_err(|error| failed(&path, error))?;
            let (bytes, sum) = bytes.split_at(keys * KEY);
            if sum != sum_of(found.bytes, len, bytes).to_le_bytes() {
                return Err(damaged(&path));
            }
            for key in bytes.as_chunks::<KEY>().0 {
                each(u128::from_be_bytes(*key))?;
            }
            found.bytes += (8 + bytes.len()) as u64;
            found.keys += keys as u64;
        }
        if found != end {
            return Err(damaged(&path));
        }
        file.set_len(end.bytes)
            .and_then(|()| file.seek(SeekFrom::Start(end.bytes)))
            .and_then(|_| file.sync_all())
            .and_then(|()| sync_directory(folder))
            .map_err(|error| failed(&path, error))?;
        let block = Vec::with_capacity(BLOCK * KEY + 4);
        Ok(Self { path, file: Arc::new(file), end, block, early: None, begun: end.bytes })
    }

    /// Adds a key.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(super) fn push(&mut self, key: u128) -> Result<()> {
        self.block.extend_from_slice(&key.to_be_bytes());
        if self.block.len() == BLOCK * KEY { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        let keys = (self.block.len() / KEY) as u32;
        if keys == 0 {
            return Ok(());
        }
        let len = keys.to_le_bytes();
        let sum = sum_of(self.end.bytes, len, &self.block).to_le_bytes();
        self.block.extend_from_slice(&sum);
        let mut file = &*self.file;
        let written = file.write_all(&len).and_then(|()| file.write_all(&self.block));
        written.map_err(|error| failed(&self.path, error))?;
        self.end.bytes += (len.len() + self.block.len()) as u64;
        self.end.keys += u64::from(keys);
        self.block.clear();
        Ok(())
    }

    /// Begins to make durable what is written, if that is much: a checkpoint then waits for less.
    pub(super) fn sync_early(&mut self) {
        if self.end.bytes - self.begun >= EARLY && self.early.as_ref().is_none_or(JoinHandle::is_finished) {
            let (file, before) = (self.file.clone(), self.early.take());
            self.begun = self.end.bytes;
            // What failed once may not fail again, and is lost all the same.
            let before =
                before.and_then(FutureExt::now_or_never).map(|synced| synced.map_err(io::Error::other));
            let failed = before.and_then(|synced| synced.and_then(|synced| synced).err());
            self.early = Some(tokio::task::spawn_blocking(move || match failed {
                Some(error) => Err(error),
                None => file.sync_data(),
            }));
        }
    }

    /// Makes all keys durable, and returns how much there is.
    ///
    /// # Errors
    ///
    /// If that is not possible.
    pub(super) async fn sync(&mut self) -> Result<End> {
        self.write()?;
        if let Some(early) = self.early.take() {
            let synced = early.await.map_err(std::io::Error::other).and_then(|synced| synced);
            synced.map_err(|error| failed(&self.path, error))?;
        }
        self.begun = self.end.bytes;
        let (file, path) = (self.file.clone(), self.path.clone());
        blocking(move || file.sync_data().map_err(|error| failed(&path, error))).await?;
        Ok(self.end)
    }
}

fn sum_of(at: u64, len: [u8; 4], keys: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&at.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(sum, &len), keys)
}
