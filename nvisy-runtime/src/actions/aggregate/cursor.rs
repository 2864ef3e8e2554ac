//! Where groups are read in the order of their keys: in memory, or in a run.

use nvisy_core::Result;
use nvisy_core::batch::BatchReader;

use super::open::Closed;
use super::origins::Origins;
use super::part::Part;
use crate::actions::spill::{RunReader, Runs};

/// Where the groups are that have not come out.
pub(super) struct Cursor {
    from: From,
    part: Part,
    /// The group of the part that is next.
    at: usize,
    /// How many groups have come out.
    pub(super) taken: u64,
}

enum From {
    /// With about how many bytes are read at once.
    Memory(Box<Closed>, usize),
    Run {
        file: RunReader,
        origins: Origins,
    },
}

impl Cursor {
    /// Reads groups that are in memory, about so many bytes at once; `blank` is a part without
    /// groups.
    pub(super) fn of(closed: Closed, blank: &Part, bytes: usize) -> Result<Self> {
        let from = From::Memory(Box::new(closed), bytes);
        let mut cursor = Self { from, part: blank.clone(), at: 0, taken: 0 };
        cursor.fill()?;
        Ok(cursor)
    }

    /// Reads a run from the first group on that has not come out.
    pub(super) fn open(runs: &Runs, number: u64, blank: &Part) -> Result<Self> {
        let mut file = runs.open(number)?;
        let taken = runs.get(number).map_or(0, |run| run.taken);
        let (mut origins, mut batches) = (Origins::default(), BatchReader::default());
        let (mut part, mut skip) = (blank.clone(), taken);
        while let Some((items, bytes)) = file.next()? {
            if items == 0 {
                origins.read(&mut batches, &bytes).ok_or_else(|| file.damaged())?;
            } else if skip >= items as u64 {
                skip -= items as u64;
            } else {
                part = read(blank, items, &bytes, &file)?;
                break;
            }
        }
        Ok(Self { from: From::Run { file, origins }, part, at: skip as usize, taken })
    }

    /// Returns the key of the next group.
    pub(super) fn key(&self) -> Option<&[u8]> {
        (self.at < self.part.len()).then(|| self.part.keys.get(self.at))
    }

    /// Returns the part that the next group is in, and where.
    pub(super) fn group(&self) -> (&Part, usize) {
        (&self.part, self.at)
    }

    /// Goes on behind the next group.
    pub(super) fn advance(&mut self) -> Result<()> {
        self.at += 1;
        self.taken += 1;
        if self.at < self.part.len() { Ok(()) } else { self.fill() }
    }

    /// Takes the part that is next, if none of it has come out and all of it is below a bound.
    pub(super) fn take(&mut self, bound: Option<&[u8]>) -> Result<Option<Part>> {
        let Some(last) = self.part.len().checked_sub(1) else { return Ok(None) };
        if self.at > 0 || bound.is_some_and(|bound| self.part.keys.get(last) >= bound) {
            return Ok(None);
        }
        let blank = self.part.blank();
        let part = std::mem::replace(&mut self.part, blank);
        self.taken += part.len() as u64;
        self.fill()?;
        Ok(Some(part))
    }

    fn fill(&mut self) -> Result<()> {
        let next = match &mut self.from {
            From::Memory(closed, bytes) => closed.next(*bytes)?,
            From::Run { file, .. } => match file.next()? {
                Some((items, bytes)) => Some(read(&self.part, items, &bytes, file)?),
                None => None,
            },
        };
        self.part = next.unwrap_or_else(|| self.part.blank());
        self.at = 0;
        Ok(())
    }

    /// Returns who the items are that its groups name.
    pub(super) fn origins(&self) -> &Origins {
        match &self.from {
            From::Memory(closed, _) => closed.origins(),
            From::Run { origins, .. } => origins,
        }
    }

    /// Returns about how many bytes it takes of what was in memory before.
    pub(super) fn bytes(&self) -> usize {
        match &self.from {
            From::Memory(closed, _) => closed.bytes(),
            From::Run { .. } => 0,
        }
    }
}

fn read(like: &Part, items: usize, bytes: &[u8], file: &RunReader) -> Result<Part> {
    like.read(bytes).filter(|part| part.len() == items).ok_or_else(|| file.damaged())
}
