//! Runs: files of what an action remembers beyond memory, and what a checkpoint says of them.
//!
//! A file is frames, each `items, length, checksum, bytes`. The checksum of a frame covers all
//! frames before it too, so that of the last one is the file's. Files are written once, synced
//! when a checkpoint names them, and deleted when neither it nor the one before it does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, ErrorKind as IoErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use nvisy_core::checkpoint::{Changes, Entries};
use nvisy_core::spill::Spill;
use nvisy_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::disk::sync_directory;

/// So many runs of one level become one of the next unless it is said otherwise: what is read at
/// once is bounded, and what is written each second is not left in pieces.
const MERGED: usize = 16;
/// Items, length and checksum of a frame.
const HEAD: usize = 12;
/// Bytes that go to a file, or come from it, at once.
const BUFFER: usize = 64 << 10;

/// The runs of an action, in order.
pub(super) struct Runs {
    spill: Spill,
    /// So many runs of one level become one of the next.
    merged: usize,
    /// What the names of its files and entries begin with.
    name: &'static str,
    live: BTreeMap<u64, Run>,
    next: u64,
    /// What the next checkpoint has to say anew.
    changed: BTreeSet<u64>,
    /// Files that no longer matter, which checkpoints may name: since which save they do not.
    gone: Vec<(u64, Option<u64>)>,
    saves: u64,
}

/// What is known of one file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) bytes: u64,
    checksum: u32,
    pub(super) items: u64,
    /// How many of its items have come out.
    pub(super) taken: u64,
    pub(super) level: u8,
    #[serde(skip)]
    synced: bool,
    /// Whether a checkpoint may name it.
    #[serde(skip)]
    named: bool,
}

impl Runs {
    pub(super) fn new(spill: Spill, name: &'static str) -> Self {
        let (live, changed) = (BTreeMap::new(), BTreeSet::new());
        Self { spill, merged: MERGED, name, live, next: 0, changed, gone: Vec::new(), saves: 0 }
    }

    /// Sets how many runs of one level become one of the next.
    pub(super) fn merged(mut self, runs: usize) -> Self {
        self.merged = runs;
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    pub(super) fn is_kept(&self) -> bool {
        self.spill.is_kept()
    }

    pub(super) fn numbers(&self) -> Vec<u64> {
        self.live.keys().copied().collect()
    }

    pub(super) fn get(&self, number: u64) -> Option<&Run> {
        self.live.get(&number)
    }

    /// Returns how many runs of a level are behind all others.
    pub(super) fn last_of_level(&self, level: u8) -> usize {
        self.live.values().rev().take_while(|run| run.level == level).count()
    }

    /// Returns the last runs, if there are so many of one level that they should become one.
    pub(super) fn to_merge(&self) -> Option<(Vec<u64>, u8)> {
        let level = self.live.values().next_back()?.level;
        let same = self.live.iter().rev().take_while(|(_, run)| run.level == level);
        let mut last: Vec<u64> = same.map(|(number, _)| *number).take(self.merged).collect();
        last.reverse();
        (last.len() == self.merged).then_some((last, level))
    }

    /// Writes a run behind the others. One without items is none.
    pub(super) fn write(
        &mut self,
        level: u8,
        write: impl FnOnce(&mut RunWriter) -> Result<()>,
    ) -> Result<Option<u64>> {
        let mut writer = self.begin(level)?;
        write(&mut writer)?;
        Ok(self.add(writer.finish()?))
    }

    /// Begins a run behind the others, which is one once it is [added](Self::add).
    pub(super) fn begin(&mut self, level: u8) -> Result<RunWriter> {
        let number = self.next;
        let writer = RunWriter::create(self.spill.path()?.join(file_name(self.name, number)), number, level)?;
        self.next += 1;
        Ok(writer)
    }

    /// Takes up a run that is written. One without items is none.
    pub(super) fn add(&mut self, Written { number, run }: Written) -> Option<u64> {
        if run.items == 0 {
            self.delete(number);
            return None;
        }
        self.live.insert(number, run);
        self.changed.insert(number);
        Some(number)
    }

    pub(super) fn open(&self, number: u64) -> Result<RunReader> {
        let run = self.live.get(&number).ok_or_else(|| Error::internal("a run is not there any more"))?;
        RunReader::open(self.spill.path()?.join(file_name(self.name, number)), run)
    }

    /// Says how many items of a run have come out; one of which all have is done with.
    pub(super) fn set_taken(&mut self, number: u64, taken: u64) {
        let Some(run) = self.live.get_mut(&number) else { return };
        if taken >= run.items {
            self.remove(number);
        } else if run.taken != taken {
            run.taken = taken;
            self.changed.insert(number);
        }
    }

    pub(super) fn remove(&mut self, number: u64) {
        let Some(run) = self.live.remove(&number) else { return };
        if run.named {
            self.changed.insert(number);
            self.gone.push((number, None));
        } else {
            self.changed.remove(&number);
            self.delete(number);
        }
    }

    pub(super) fn clear(&mut self) {
        for number in self.numbers() {
            self.remove(number);
        }
    }

    fn delete(&self, number: u64) {
        // A file that stays behind is deleted when the node is next restored.
        if let Ok(folder) = self.spill.path() {
            _ = fs::remove_file(folder.join(file_name(self.name, number)));
        }
    }

    /// Writes what has changed, once the files that it names are durable.
    pub(super) fn save(&mut self, changes: &mut Changes) -> Result<()> {
        self.sync()?;
        self.saves += 1;
        for number in std::mem::take(&mut self.changed) {
            match self.live.get_mut(&number) {
                Some(run) => {
                    run.named = true;
                    let entry = postcard::to_allocvec(run).map_err(|error| {
                        Error::internal("what is known of a run does not become bytes").with_source(error)
                    })?;
                    changes.put(self.entry(number), entry);
                }
                None => drop(changes.remove(self.entry(number))),
            }
        }
        for (_, since) in &mut self.gone {
            since.get_or_insert(self.saves);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        if !self.spill.is_kept() || self.live.values().all(|run| run.synced) {
            return Ok(());
        }
        let folder = self.spill.path()?;
        for (number, run) in self.live.iter_mut().filter(|(_, run)| !run.synced) {
            let path = folder.join(file_name(self.name, *number));
            File::open(&path).and_then(|file| file.sync_all()).map_err(|e| failed(&path, e))?;
            run.synced = true;
        }
        sync_directory(folder).map_err(|error| failed(folder, error))
    }

    /// What was saved last is durable: deletes what neither it nor the checkpoint before names.
    pub(super) fn saved(&mut self) {
        let saves = self.saves;
        let (done, still): (Vec<_>, Vec<_>) =
            self.gone.drain(..).partition(|(_, since)| since.is_some_and(|since| since < saves));
        self.gone = still;
        for (number, _) in done {
            self.delete(number);
        }
    }

    /// Takes up the runs that checkpoints name, each checked, and deletes all other files.
    pub(super) fn restore(&mut self, saved: &Entries) -> Result<()> {
        if !self.spill.is_kept() {
            return Err(Error::configuration(
                "what the node keeps is in files, and the engine that makes checkpoints has no folder for them: \
                 give it a state directory, `EngineBuilder::state`",
            ));
        }
        for (key, entry) in saved {
            let Some(number) = self.number(key) else { continue };
            let run: Run = postcard::from_bytes(entry).map_err(|error| {
                Error::new(ErrorKind::Validation, format!("the entry \"{key}\" does not read"))
                    .with_source(error)
            })?;
            self.live.insert(number, Run { synced: true, named: true, ..run });
            self.next = self.next.max(number + 1);
        }
        for number in self.numbers() {
            let mut reader = self.open(number)?;
            while reader.next()?.is_some() {}
        }
        self.sweep()
    }

    fn sweep(&self) -> Result<()> {
        let folder = self.spill.path()?;
        let files = fs::read_dir(folder).map_err(|error| failed(folder, error))?;
        for file in files.flatten() {
            let name = file.file_name();
            let number = name.to_str().and_then(|name| number_of(self.name, name));
            if number.is_some_and(|number| !self.live.contains_key(&number)) {
                fs::remove_file(file.path()).map_err(|error| failed(&file.path(), error))?;
            }
        }
        Ok(())
    }

    /// Returns the key of an entry beside those of the runs.
    pub(super) fn key(&self, what: &str) -> String {
        format!("{}.{what}", self.name)
    }

    fn entry(&self, number: u64) -> String {
        format!("{}/{number:016x}", self.name)
    }

    fn number(&self, key: &str) -> Option<u64> {
        u64::from_str_radix(key.strip_prefix(self.name)?.strip_prefix('/')?, 16).ok()
    }
}

fn file_name(name: &str, number: u64) -> String {
    format!("{name}-{number:016x}.run")
}

fn number_of(name: &str, file: &str) -> Option<u64> {
    let number = file.strip_prefix(name)?.strip_prefix('-')?.strip_suffix(".run")?;
    u64::from_str_radix(number, 16).ok()
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    Error::of_file(format_args!("file \"{}\" of what does not fit into memory", path.display()), error)
}

/// A run that is written.
pub(super) struct Written {
    number: u64,
    run: Run,
}

/// A run that is being written: removed if it is let go of before it is finished.
pub(super) struct RunWriter {
    path: PathBuf,
    number: u64,
    file: BufWriter<File>,
    run: Run,
    finished: bool,
}

impl RunWriter {
    fn create(path: PathBuf, number: u64, level: u8) -> Result<Self> {
        // Somebody may still write to one of that name who was given up: the new one is another.
        _ = fs::remove_file(&path);
        let file = File::create_new(&path).map_err(|error| failed(&path, error))?;
        let file = BufWriter::with_capacity(BUFFER, file);
        let run = Run { bytes: 0, checksum: 0, items: 0, taken: 0, level, synced: false, named: false };
        Ok(Self { path, number, file, run, finished: false })
    }

    pub(super) fn frame(&mut self, items: usize, parts: &[&[u8]]) -> Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let (Ok(len), Ok(count)) = (u32::try_from(len), u32::try_from(items)) else {
            return Err(Error::new(
                ErrorKind::Validation,
                "an item takes more than 4 GiB, so it cannot be spilled to disk",
            ));
        };
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&count.to_le_bytes());
        head[4..8].copy_from_slice(&len.to_le_bytes());
        let mut checksum = crc32c::crc32c_append(self.run.checksum, &head[..8]);
        for part in parts {
            checksum = crc32c::crc32c_append(checksum, part);
        }
        head[8..].copy_from_slice(&checksum.to_le_bytes());
        let write = |file: &mut BufWriter<File>| {
            file.write_all(&head)?;
            parts.iter().try_for_each(|part| file.write_all(part))
        };
        write(&mut self.file).map_err(|error| failed(&self.path, error))?;
        self.run.checksum = checksum;
        self.run.bytes += HEAD as u64 + u64::from(len);
        self.run.items += u64::from(count);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Written> {
        self.file.flush().map_err(|error| failed(&self.path, error))?;
        self.finished = true;
        Ok(Written { number: self.number, run: self.run.clone() })
    }
}

impl Drop for RunWriter {
    fn drop(&mut self) {
        if !self.finished {
            // It was never named. What cannot be removed is when the node is next restored.
            _ = fs::remove_file(&self.path);
        }
    }
}

/// Reads a run, frame by frame.
pub(super) struct RunReader {
    path: PathBuf,
    file: BufReader<File>,
    left: u64,
    checksum: u32,
    last: u32,
}

impl RunReader {
    fn open(path: PathBuf, run: &Run) -> Result<Self> {
        let file = File::open(&path).map_err(|error| match error.kind() {
            IoErrorKind::NotFound => damaged(&path, "it is missing"),
            _ => failed(&path, error),
        })?;
        let len = file.metadata().map_err(|error| failed(&path, error))?.len();
        if len != run.bytes {
            return Err(damaged(&path, &format!("it has {len} bytes, and {} were written", run.bytes)));
        }
        Ok(Self {
            path,
            file: BufReader::with_capacity(BUFFER, file),
            left: len,
            checksum: 0,
            last: run.checksum,
        })
    }

    /// Returns the next frame with how many items are in it.
    pub(super) fn next(&mut self) -> Result<Option<(usize, Vec<u8>)>> {
        if self.left == 0 {
            return if self.checksum == self.last { Ok(None) } else { Err(self.damaged()) };
        }
        let mut head = [0; HEAD];
        self.read(&mut head)?;
        let number = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&head[at..at + 4]);
            u32::from_le_bytes(bytes)
        };
        let (items, len, checksum) = (number(0), number(4), number(8));
        if u64::from(len) > self.left {
            return Err(self.damaged());
        }
        let mut bytes = vec![0; len as usize];
        self.read(&mut bytes)?;
        let found = crc32c::crc32c_append(crc32c::crc32c_append(self.checksum, &head[..8]), &bytes);
        if found != checksum {
            return Err(self.damaged());
        }
        self.checksum = found;
        Ok(Some((items as usize, bytes)))
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        if (bytes.len() as u64) > self.left {
            return Err(self.damaged());
        }
        self.file.read_exact(bytes).map_err(|error| failed(&self.path, error))?;
        self.left -= bytes.len() as u64;
        Ok(())
    }

    pub(super) fn damaged(&self) -> Error {
        damaged(&self.path, "its checksum is another")
    }
}

fn damaged(path: &Path, how: &str) -> Error {
    let path = path.display();
    let message = format!(
        "the file \"{path}\", in which a node keeps its items, is damaged: {how}: \
         put it back, or let the run begin anew without its state"
    );
    Error::new(ErrorKind::Validation, message)
}
