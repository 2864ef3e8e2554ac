//! A disk that can be full, can fail, and can lose its power.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Write};
use std::sync::{Arc, Mutex};

use super::disk::{Disk, DiskFile};

/// A directory in memory that knows what of it has been made durable.
#[derive(Clone, Debug, Default)]
pub(super) struct Simulated(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    calls: u64,
    fault: Option<(u64, Fault)>,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
}

/// What goes wrong at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails, and the next works.
    Once,
    /// From then on nothing can be written, half of this call excepted.
    Full,
    /// From then on every call fails, half of this one excepted.
    Gone,
}

/// Numbers that look random and are the same for a seed.
#[derive(Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }

    pub(super) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

impl Content {
    fn make(&mut self, change: Change) {
        change.apply(&mut self.bytes);
        self.pending.push(change);
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, written) => {
                let end = at + written.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*at..end].copy_from_slice(written);
            }
            Self::Cut(len) => bytes.truncate(*len),
        }
    }
}

impl State {
    /// Counts a call, and returns whether it fails, and whether half of it is done all the same.
    fn call(&mut self, writes: bool) -> Result<(), (io::Error, bool)> {
        self.calls += 1;
        let Some((at, fault)) = self.fault else { return Ok(()) };
        let error = match fault {
            Fault::Once if self.calls == at => io::Error::other("it failed once"),
            Fault::Full if self.calls >= at && writes => io::ErrorKind::StorageFull.into(),
            Fault::Gone if self.calls >= at => io::Error::other("the disk is gone"),
            _ => return Ok(()),
        };
        Err((error, self.calls == at))
    }
}

impl Simulated {
    fn with<T>(&self, writes: bool, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.0.lock().unwrap();
        state.call(writes).map_err(|(error, _)| error)?;
        act(&mut state)
    }

    /// Returns how many calls there were.
    pub(super) fn calls(&self) -> u64 {
        self.0.lock().unwrap().calls
    }

    /// Lets the call after the next `calls` go wrong.
    pub(super) fn fail_after(&self, calls: u64, fault: Fault) {
        let mut state = self.0.lock().unwrap();
        state.fault = Some((state.calls + calls + 1, fault));
    }

    /// Lets everything work again.
    pub(super) fn mend(&self) {
        self.0.lock().unwrap().fault = None;
    }

    /// Returns the names of the files there are.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().names.keys().cloned().collect()
    }

    /// Returns what is in a file.
    pub(super) fn get(&self, name: &str) -> Vec<u8> {
        let state = self.0.lock().unwrap();
        state.files[state.names[name]].bytes.clone()
    }

    /// Puts a file there, durably.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.0.lock().unwrap();
        let at = state.files.len();
        state.files.push(Content { bytes: bytes.to_vec(), durable: bytes.to_vec(), pending: Vec::new() });
        state.names.insert(name.to_owned(), at);
        state.durable_names.insert(name.to_owned(), at);
    }

    /// Cuts the power: of what was not made durable, anything may be there or not, each part of
    /// a write and each name on its own.
    pub(super) fn lose_power(&self, dice: &mut Dice) {
        let mut state = self.0.lock().unwrap();
        for file in &mut state.files {
            for change in std::mem::take(&mut file.pending) {
                if dice.coin() {
                    continue;
                }
                match change {
                    Change::Write(at, mut bytes) if dice.coin() => {
                        let torn = dice.below(bytes.len());
                        if dice.coin() {
                            bytes.truncate(torn);
                        } else {
                            bytes[torn..].fill(0);
                        }
                        Change::Write(at, bytes).apply(&mut file.durable);
                    }
                    change => change.apply(&mut file.durable),
                }
            }
            file.bytes.clone_from(&file.durable);
        }
        let mut names = state.durable_names.clone();
        let all: Vec<_> = state.names.keys().chain(names.keys()).cloned().collect();
        for name in all {
            if dice.coin() {
                match state.names.get(&name) {
                    Some(at) => drop(names.insert(name, *at)),
                    None => drop(names.remove(&name)),
                }
            }
        }
        state.names.clone_from(&names);
        state.durable_names = names;
        state.fault = None;
    }
}

impl Disk for Simulated {
    fn list(&self) -> io::Result<Vec<String>> {
        self.with(false, |state| Ok(state.names.keys().cloned().collect()))
    }

    fn read(&self, name: &str) -> io::Result<(Box<dyn Read>, u64)> {
        self.with(false, |state| {
            let at = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
            let bytes = state.files[at].bytes.clone();
            let len = bytes.len() as u64;
            Ok((Box::new(Cursor::new(bytes)) as Box<dyn Read>, len))
        })
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.with(false, |state| {
            let at = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
            Ok(state.files[at].bytes.len() as u64)
        })
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let number = self.with(true, |state| {
            let number = state.files.len();
            state.files.push(Content::default());
            state.names.insert(name.to_owned(), number);
            Ok(number)
        })?;
        Ok(Box::new(Handle { disk: self.clone(), number, at: 0 }))
    }

    fn append(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let (number, at) = self.with(false, |state| {
            let number = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
            Ok((number, state.files[number].bytes.len()))
        })?;
        Ok(Box::new(Handle { disk: self.clone(), number, at }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.with(false, |state| {
            let number = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(to.to_owned(), number);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.with(false, |state| state.names.remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into()))
    }

    fn sync(&self) -> io::Result<()> {
        self.with(false, |state| {
            state.durable_names.clone_from(&state.names);
            Ok(())
        })
    }

    fn place(&self, name: &str) -> String {
        name.to_owned()
    }
}

struct Handle {
    disk: Simulated,
    number: usize,
    at: usize,
}

impl Write for Handle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.0.lock().unwrap();
        let (written, done) = match state.call(true) {
            Ok(()) => (bytes, Ok(bytes.len())),
            Err((error, half)) => (&bytes[..if half { bytes.len() / 2 } else { 0 }], Err(error)),
        };
        state.files[self.number].make(Change::Write(self.at, written.to_vec()));
        self.at += written.len();
        done
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for Handle {
    fn sync(&mut self) -> io::Result<()> {
        let number = self.number;
        self.disk.with(true, |state| {
            let file = &mut state.files[number];
            file.pending.clear();
            file.durable.clone_from(&file.bytes);
            Ok(())
        })
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let number = self.number;
        self.at = len as usize;
        self.disk.with(false, |state| {
            let file = &mut state.files[number];
            file.make(Change::Cut(len as usize));
            file.pending.clear();
            file.durable.clone_from(&file.bytes);
            Ok(())
        })
    }
}
