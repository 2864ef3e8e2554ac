//! The log of one graph: a file that begins with a snapshot and grows by one frame a commit.
//!
//! When it has grown large a new file begins, and the one before is kept: if the newer one is
//! damaged at its start, the older one ends where it began.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use nvisy_core::{Changes, Checkpoint, Error, ErrorKind, Recovery, Result, RetryClass};

use super::disk::{Disk, DiskFile};
use super::format::{Flaw, Frame, Payload, Reader, Writer};

/// When a new file begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    /// A log of this many bytes is never too large.
    pub(super) free: u64,
    /// A larger one is, when it is as many times larger than what it holds.
    pub(super) factor: u64,
}

impl Default for Growth {
    fn default() -> Self {
        Self { free: 1 << 20, factor: 2 }
    }
}

/// A log that is open to be written.
pub(super) struct Log {
    disk: Arc<dyn Disk>,
    graph: Arc<str>,
    growth: Growth,
    number: u64,
    file: Box<dyn DiskFile>,
    len: u64,
    chain: u32,
    generation: u64,
    /// Up to which length nobody has to look whether it is too large.
    fine: u64,
    /// Why nothing more can be written.
    broken: Option<String>,
}

/// What the files of a graph hold.
pub(super) struct Recovered {
    pub(super) checkpoint: Checkpoint,
    pub(super) recovery: Option<Recovery>,
    number: u64,
    end: u64,
    chain: u32,
    /// Files that are newer and of no use.
    damaged: Vec<u64>,
}

/// Reads the newest state that is whole, and changes nothing. None if there are no files.
pub(super) fn recover(disk: &dyn Disk, graph: &str) -> Result<Option<Recovered>> {
    let mut damaged = Vec::new();
    let mut reasons = Vec::new();
    for number in numbers(disk).map_err(|error| failed(disk, "", error))? {
        let name = name(number);
        let place = disk.place(&name);
        let flaw = match Read::of(disk, &name, graph) {
            Ok(read) => {
                let generation = read.checkpoint.generation;
                let recovery = match (damaged.last(), read.missing(damaged.last().copied()), read.flaw) {
                    (Some(newest), ..) => {
                        let reason = format!("{}: went back to \"{place}\"", reasons.join("; "));
                        Some((disk.place(&self::name(*newest)), reason))
                    }
                    (None, Some(missing), _) => {
                        let reason = format!("it is missing: went back to \"{place}\"");
                        Some((disk.place(&self::name(missing)), reason))
                    }
                    (None, None, Some(flaw)) => Some((place, format!("{flaw}: cut off what follows"))),
                    (None, None, None) => None,
                };
                return Ok(Some(Recovered {
                    checkpoint: read.checkpoint,
                    recovery: recovery.map(|(place, reason)| Recovery { place, reason, generation }),
                    number,
                    end: read.end,
                    chain: read.chain,
                    damaged,
                }));
            }
            Err(flaw) => flaw,
        };
        match flaw {
            Unusable::Damaged(reason) => reasons.push(reason.to_owned()),
            Unusable::Newer(version) => {
                let message = format!(
                    "checkpoints of graph \"{graph}\": \"{place}\" is of format {version}, written by a newer \
                     version of this library: run that version, or remove the directory to begin again"
                );
                return Err(Error::configuration(message));
            }
            Unusable::Other(other) => {
                let message = format!(
                    "checkpoints of graph \"{graph}\": \"{place}\" belongs to graph \"{other}\": move it away"
                );
                return Err(Error::configuration(message));
            }
            Unusable::Io(error) => return Err(failed(disk, &name, error)),
        }
        damaged.push(number);
    }
    if damaged.is_empty() {
        return Ok(None);
    }
    let files: Vec<_> = damaged
        .iter()
        .zip(&reasons)
        .map(|(number, reason)| format!("\"{}\" ({reason})", disk.place(&name(*number))))
        .collect();
    let message = format!(
        "checkpoints of graph \"{graph}\" cannot be read: {}: put a copy back, or remove the directory to \
         begin again",
        files.join(", ")
    );
    Err(Error::new(ErrorKind::Validation, message))
}

/// What one file holds.
struct Read {
    checkpoint: Checkpoint,
    end: u64,
    chain: u32,
    /// Why what follows was not read.
    flaw: Option<&'static str>,
    continued: Option<u64>,
}

/// Why a file is of no use.
enum Unusable {
    Damaged(&'static str),
    Newer(u32),
    Other(String),
    Io(io::Error),
}

impl From<Flaw> for Unusable {
    fn from(flaw: Flaw) -> Self {
        match flaw {
            Flaw::Damaged(reason) => Self::Damaged(reason),
            Flaw::Newer(version) => Self::Newer(version),
            Flaw::Io(error) => Self::Io(error),
        }
    }
}

impl Read {
    fn of(disk: &dyn Disk, name: &str, graph: &str) -> Result<Self, Unusable> {
        let (input, len) = disk.read(name).map_err(Unusable::Io)?;
        let mut reader = Reader::open(input, len)?;
        let Some(Frame::Snapshot { graph: owner, checkpoint }) = reader.next()? else {
            return Err(Unusable::Damaged("it does not begin with a snapshot"));
        };
        if owner != graph {
            return Err(Unusable::Other(owner));
        }
        let mut read = Self { checkpoint, end: reader.end, chain: reader.chain, flaw: None, continued: None };
        loop {
            match reader.next() {
                Ok(None) => break,
                Ok(Some(Frame::Commit { generation, changes }))
                    if Some(generation) == read.checkpoint.generation.checked_add(1) =>
                {
                    read.checkpoint.apply(changes);
                    (read.end, read.chain) = (reader.end, reader.chain);
                }
                Ok(Some(Frame::Continued { number })) => {
                    read.continued = Some(number);
                    break;
                }
                Ok(Some(_)) => {
                    read.flaw = Some("a commit is out of order");
                    break;
                }
                Err(Flaw::Damaged(reason)) => {
                    read.flaw = Some(reason);
                    break;
                }
                Err(flaw) => return Err(flaw.into()),
            }
        }
        Ok(read)
    }

    /// Returns the file that goes on from here, unless it is the one that is there.
    fn missing(&self, newer: Option<u64>) -> Option<u64> {
        self.continued.filter(|number| newer != Some(*number))
    }
}

impl Log {
    /// Opens the log of a graph, or begins it. The caller holds the lock.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        graph: &str,
        growth: Growth,
    ) -> Result<(Self, Checkpoint, Option<Recovery>)> {
        let graph: Arc<str> = graph.into();
        let Some(recovered) = recover(&*disk, &graph)? else {
            let checkpoint = Checkpoint::default();
            let place = name(1);
            let new = begin(&*disk, &graph, 1, &checkpoint)
                .and_then(|new| {
                    disk.rename(&temporary(1), &place)?;
                    disk.sync()?;
                    Ok(new)
                })
                .map_err(|error| failed(&*disk, &place, error))?;
            return Ok((Self::over(disk, graph, growth, 1, new, 0), checkpoint, None));
        };
        let Recovered { checkpoint, recovery, number, end, chain, damaged } = recovered;
        let mend = || {
            for damaged in damaged {
                disk.rename(&name(damaged), &format!("{}.damaged", name(damaged)))?;
            }
            let mut file = disk.append(&name(number))?;
            if disk.len(&name(number))? > end {
                file.truncate(end)?;
            }
            // What was read may not have reached the disk yet, and is about to be relied on.
            file.sync()?;
            disk.sync()?;
            Ok(New { file, len: end, chain })
        };
        let new = mend().map_err(|error| failed(&*disk, &name(number), error))?;
        let log = Self::over(disk, graph, growth, number, new, checkpoint.generation);
        log.tidy();
        Ok((log, checkpoint, recovery))
    }

    fn over(
        disk: Arc<dyn Disk>,
        graph: Arc<str>,
        growth: Growth,
        number: u64,
        new: New,
        generation: u64,
    ) -> Self {
        let New { file, len, chain } = new;
        Self { disk, graph, growth, number, file, len, chain, generation, fine: growth.free, broken: None }
    }

    /// Appends one commit, durably, and returns its generation.
    pub(super) fn commit(&mut self, changes: &Changes) -> Result<u64> {
        let name = name(self.number);
        if let Some(broken) = &self.broken {
            let message = format!("{}: {broken}: start the run again", self.disk.place(&name));
            return Err(Error::new(ErrorKind::Connection, message).with_retry_class(RetryClass::Permanent));
        }
        match self.disk.len(&name) {
            Ok(len) if len == self.len => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&*self.disk, &name, error));
            }
            _ => {
                let place = self.disk.place(&name);
                let message = format!(
                    "checkpoints of graph \"{}\": \"{place}\" was changed or removed by somebody else: start the \
                     run again",
                    self.graph
                );
                return Err(Error::new(ErrorKind::Conflict, message));
            }
        }
        let generation = self.generation + 1;
        let (written, chain) = match self.append(Payload::Commit { generation, changes }) {
            Ok(appended) => appended,
            Err(error) => {
                if let Err(error) = self.file.truncate(self.len) {
                    self.broken = Some(format!("a commit that failed could not be undone: {error}"));
                }
                return Err(failed(&*self.disk, &name, error));
            }
        };
        if let Err(error) = self.file.sync() {
            // The file system may have let go of what it could not write: nobody knows.
            self.broken = Some(format!("a commit could not be made durable: {error}"));
            let _ = self.file.truncate(self.len);
            let message = format!("\"{}\": the disk failed while committing", self.disk.place(&name));
            let error = Error::new(ErrorKind::Ambiguous, message).with_source(error);
            return Err(error.with_retry_class(RetryClass::Permanent));
        }
        self.len += written;
        self.chain = chain;
        self.generation = generation;
        Ok(generation)
    }

    /// Returns whether the log has grown so much that [`shrink`](Self::shrink) may have to act.
    pub(super) fn is_long(&self) -> bool {
        self.len > self.fine && self.broken.is_none()
    }

    /// Begins a new file if this one is large for what it holds. What was committed is safe
    /// whether that works or not.
    pub(super) fn shrink(&mut self, checkpoint: &Checkpoint) {
        let held = checkpoint.entries.iter().map(|(key, value)| (key.len() + value.len()) as u64);
        let most = held.sum::<u64>().saturating_mul(self.growth.factor);
        self.fine = self.growth.free.max(most);
        if !self.is_long() {
            return;
        }
        let next = self.number + 1;
        let new = match begin(&*self.disk, &self.graph, next, checkpoint) {
            Ok(new) => new,
            Err(error) => {
                let _ = self.disk.remove(&temporary(next));
                self.fine = self.len.saturating_mul(2);
                let place = self.disk.place(&name(self.number));
                tracing::warn!(%error, place, "a checkpoint log is large and could not be begun anew");
                return;
            }
        };
        if let Err(error) = self.disk.rename(&temporary(next), &name(next)).and_then(|()| self.disk.sync()) {
            // Which of the two files is the newest is no longer certain.
            self.broken = Some(format!("a new file could not be begun: {error}"));
            return;
        }
        // Not needed to go on: it tells a later reader that there was a newer file.
        let _ = self.append(Payload::Continued { number: next }).and_then(|_| self.file.sync());
        (self.number, self.file, self.len, self.chain) = (next, new.file, new.len, new.chain);
        self.fine = self.growth.free.max(self.len.saturating_mul(self.growth.factor));
        self.tidy();
    }

    fn append(&mut self, payload: Payload<'_>) -> io::Result<(u64, u32)> {
        let mut writer = Writer::after(self.chain, BufWriter::new(&mut self.file));
        let done = writer.frame(payload);
        let (written, chain, out) = (writer.written, writer.chain, writer.into_inner());
        // What is still in the buffer must not reach a file that is about to be cut.
        drop(out.into_parts());
        done.map(|()| (written, chain))
    }

    /// Removes what nobody needs: all but this file and the one before.
    fn tidy(&self) {
        for file in self.disk.list().unwrap_or_default() {
            let old = number_in(&file).is_some_and(|number| number + 1 < self.number);
            if old || file.ends_with(TEMPORARY) {
                let _ = self.disk.remove(&file);
            }
        }
    }
}

/// A file that was begun.
struct New {
    file: Box<dyn DiskFile>,
    len: u64,
    chain: u32,
}

/// Writes a file with nothing but a snapshot, under its temporary name.
fn begin(disk: &dyn Disk, graph: &str, number: u64, checkpoint: &Checkpoint) -> io::Result<New> {
    let mut file = disk.create(&temporary(number))?;
    let mut out = BufWriter::new(&mut file);
    let mut writer = Writer::begin(&mut out)?;
    writer.frame(Payload::Snapshot { graph, checkpoint })?;
    let (len, chain) = (writer.written, writer.chain);
    out.flush()?;
    drop(out);
    file.sync()?;
    Ok(New { file, len, chain })
}

const TEMPORARY: &str = ".tmp";

fn name(number: u64) -> String {
    format!("checkpoint-{number}.log")
}

fn temporary(number: u64) -> String {
    format!("{}{TEMPORARY}", name(number))
}

fn number_in(name: &str) -> Option<u64> {
    let number = name.strip_prefix("checkpoint-")?.strip_suffix(".log")?.parse().ok()?;
    (self::name(number) == name && number < u64::MAX).then_some(number)
}

/// Returns the numbers of the files, the newest first.
fn numbers(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<_> = disk.list()?.iter().filter_map(|name| number_in(name)).collect();
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    Ok(numbers)
}

/// Names a file in the error of an operation on it.
fn failed(disk: &dyn Disk, name: &str, error: io::Error) -> Error {
    io_error(&disk.place(name), error)
}

/// Says of which checkpoints the operating system said so.
pub(super) fn io_error(place: &str, error: io::Error) -> Error {
    Error::of_file(format_args!("checkpoints in \"{place}\""), error)
}
