//! Groups by their keys: in memory, and as sorted runs of parts of them beyond it.

use std::collections::BTreeMap;
use std::sync::Arc;

use nvisy_core::Result;
use nvisy_core::checkpoint::{Changes, Entries};
use nvisy_core::spill::Spill;

use super::accumulator::{Accumulator, Placed};
use super::cursor::Cursor;
use super::open::{Arrival, Open, PART};
use super::origins::Origins;
use super::part::Part;
use crate::actions::key::Keys;
use crate::actions::spill::Runs;
use crate::disk::blocking;

/// So many items are worth a thread.
const MANY: usize = 4_096;

/// The groups that are not closed, and those that are and wait to be let go of.
pub(super) struct Groups {
    runs: Runs,
    memory: usize,
    blank: Part,
    open: Open,
    /// What was closed in memory.
    closed: Vec<Cursor>,
    cursors: BTreeMap<u64, Cursor>,
    /// Who the items are that all these name, since the last of them came or went.
    origins: Option<Origins>,
}

impl Groups {
    /// No groups, of so many columns of the key and these aggregates.
    pub(super) fn new(spill: Spill, memory: u64, values: usize, columns: Vec<Accumulator>) -> Self {
        Self {
            runs: Runs::new(spill, "aggregate"),
            memory: usize::try_from(memory).unwrap_or(usize::MAX),
            blank: Part::new(values, &columns),
            open: Open::new(values, columns),
            closed: Vec::new(),
            cursors: BTreeMap::new(),
            origins: None,
        }
    }

    /// Adds items, whose keys these are, to their groups. Where they are many, what is computed of
    /// them is on another thread, beside the counting.
    pub(super) async fn add(mut self, arrival: &Arrival<'_>, rows: Vec<u32>, keys: &Keys) -> Result<Self> {
        let groups = self.open.find(arrival, &rows, keys)?;
        let (over, first) = (arrival.over.clone(), arrival.first);
        let mut columns = std::mem::take(&mut self.open.columns);
        let mut compute = move |items: Placed<'_>| {
            columns.iter_mut().zip(&*over).for_each(|(column, values)| column.add(values, items));
            std::mem::take(&mut columns)
        };
        if rows.len() < MANY {
            let items = Placed { rows: &rows, groups: &groups, first };
            self.open.count(arrival.batch, items);
            self.open.columns = compute(items);
            return Ok(self);
        }
        let placed = Arc::new((rows, groups));
        let shared = placed.clone();
        let computed = blocking(move || Ok(compute(Placed { rows: &shared.0, groups: &shared.1, first })));
        let items = Placed { rows: &placed.0, groups: &placed.1, first };
        let counted = async { self.open.count(arrival.batch, items) };
        let (columns, ()) = tokio::join!(computed, counted);
        self.open.columns = columns?;
        Ok(self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.len() == 0 && self.closed.is_empty() && self.runs.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.open.bytes() + self.closed.iter().map(Cursor::bytes).sum::<usize>() > self.memory
    }

    /// Returns whether items up to a number can be added.
    pub(super) fn reaches(&self, number: u64) -> bool {
        self.open.reaches(number)
    }

    /// Writes all groups that are in memory as a run, and merges runs where there are many.
    pub(super) fn spill(&mut self) -> Result<()> {
        self.close(None)?;
        self.origins = None;
        let mut closed = std::mem::take(&mut self.closed);
        self.write(0, &mut closed.iter_mut().collect::<Vec<_>>())?;
        drop(closed);
        while let Some((numbers, level)) = self.runs.to_merge() {
            let mut cursors =
                numbers.iter().map(|number| self.take_cursor(*number)).collect::<Result<Vec<_>>>()?;
            self.write(level.saturating_add(1), &mut cursors.iter_mut().collect::<Vec<_>>())?;
            numbers.into_iter().for_each(|number| self.runs.remove(number));
        }
        Ok(())
    }

    fn write(&mut self, level: u8, cursors: &mut [&mut Cursor]) -> Result<()> {
        let (blank, bytes) = (&self.blank, part_bytes(self.memory));
        self.runs.write(level, |file| {
            origins(cursors.iter().map(|cursor| &**cursor)).write(file)?;
            loop {
                let part = merged(cursors, blank, None, bytes)?;
                if part.len() == 0 {
                    return Ok(());
                }
                file.frame(part.len(), &[&part.to_bytes()?])?;
            }
        })?;
        Ok(())
    }

    /// Closes the groups in memory that are below a bound.
    fn close(&mut self, bound: Option<&[u8]>) -> Result<()> {
        if self.open.is_below(bound) {
            let blank = Open::new(self.blank.values.len(), self.blank.columns.clone());
            let (closed, open) = std::mem::replace(&mut self.open, blank).close(bound)?;
            self.open = open;
            self.closed.push(Cursor::of(closed, &self.blank, part_bytes(self.memory))?);
            self.origins = None;
        }
        Ok(())
    }

    /// Returns the next groups whose keys are below `bound`, all without one, in order, and who
    /// the items are that they name. They are whole: nothing is added to them any more.
    pub(super) fn next(&mut self, bound: Option<&[u8]>) -> Result<Option<(Part, Origins)>> {
        self.close(bound)?;
        for number in self.runs.numbers() {
            if !self.cursors.contains_key(&number) {
                let cursor = self.take_cursor(number)?;
                self.cursors.insert(number, cursor);
                self.origins = None;
            }
        }
        let mut all: Vec<_> = self.closed.iter_mut().chain(self.cursors.values_mut()).collect();
        let part = merged(&mut all, &self.blank, bound, part_bytes(self.memory))?;
        let known = self.origins.take();
        let known = known.unwrap_or_else(|| origins(self.closed.iter().chain(self.cursors.values())));
        let before = self.closed.len() + self.cursors.len();
        self.closed.retain(|cursor| cursor.key().is_some());
        let runs = &mut self.runs;
        self.cursors.retain(|number, cursor| {
            let stays = cursor.key().is_some();
            if !stays {
                runs.remove(*number);
            }
            stays
        });
        let same = self.closed.len() + self.cursors.len() == before;
        self.origins = same.then(|| known.clone());
        Ok((part.len() > 0).then_some((part, known)))
    }

    fn take_cursor(&mut self, number: u64) -> Result<Cursor> {
        match self.cursors.remove(&number) {
            Some(cursor) => Ok(cursor),
            None => Cursor::open(&self.runs, number, &self.blank),
        }
    }

    pub(super) fn save(&mut self, changes: &mut Changes) -> Result<()> {
        for (number, cursor) in &self.cursors {
            self.runs.set_taken(*number, cursor.taken);
        }
        self.spill()?;
        self.runs.save(changes)
    }

    pub(super) fn saved(&mut self) {
        self.runs.saved();
    }

    pub(super) fn key(&self, what: &str) -> String {
        self.runs.key(what)
    }

    pub(super) fn restore(&mut self, saved: &Entries) -> Result<()> {
        self.runs.restore(saved)
    }
}

/// About how many bytes the groups take that are written or let go of at once.
fn part_bytes(memory: usize) -> usize {
    (memory / 64).clamp(1, 16 << 20)
}

/// Who the items are that all of these name.
fn origins<'a>(cursors: impl Iterator<Item = &'a Cursor>) -> Origins {
    let mut all = Origins::default();
    cursors.for_each(|cursor| all.extend(cursor.origins()));
    all
}

/// Takes the groups of the least keys, each made of all its parts, if they are below the bound;
/// no more than a batch or a frame is to have.
fn merged(cursors: &mut [&mut Cursor], blank: &Part, bound: Option<&[u8]>, bytes: usize) -> Result<Part> {
    let mut out = blank.clone();
    let mut until = Vec::new();
    while out.len() < PART && out.bytes() < bytes {
        let Some((first, second)) = least(cursors) else { break };
        if bound.is_some_and(|bound| cursors[first].key().is_none_or(|key| key >= bound)) {
            break;
        }
        until.clear();
        if let Some(key) = second.and_then(|second| cursors[second].key()) {
            until.extend_from_slice(key);
            if cursors[first].key() == Some(&until) {
                let (part, at) = cursors[first].group();
                out.push(part, at)?;
                cursors[first].advance()?;
                for cursor in cursors.iter_mut() {
                    while cursor.key() == Some(&until) {
                        let (part, at) = cursor.group();
                        out.merge(part, at);
                        cursor.advance()?;
                    }
                }
                continue;
            }
        }
        let stop = match second {
            Some(_) => Some(bound.map_or(&*until, |bound| bound.min(&until))),
            None => bound,
        };
        let cursor = &mut cursors[first];
        if out.len() == 0
            && let Some(part) = cursor.take(stop)?
        {
            return Ok(part);
        }
        while out.len() < PART
            && out.bytes() < bytes
            && cursor.key().is_some_and(|key| stop.is_none_or(|stop| key < stop))
        {
            let (part, at) = cursor.group();
            out.push(part, at)?;
            cursor.advance()?;
        }
    }
    Ok(out)
}

/// Returns which cursor has the least key, and which the least one of the others.
fn least(cursors: &[&mut Cursor]) -> Option<(usize, Option<usize>)> {
    let mut least: Option<(usize, &[u8])> = None;
    let mut second: Option<(usize, &[u8])> = None;
    for (at, cursor) in cursors.iter().enumerate() {
        let Some(key) = cursor.key() else { continue };
        if least.is_none_or(|(_, least)| key < least) {
            second = least.replace((at, key));
        } else if second.is_none_or(|(_, second)| key < second) {
            second = Some((at, key));
        }
    }
    Some((least?.0, second.map(|(at, _)| at)))
}
