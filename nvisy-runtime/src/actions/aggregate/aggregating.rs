//! The action: items into groups, batch by batch, and groups out of them.

use std::borrow::Cow;
use std::sync::Arc;

use nvisy_core::outcome::Attribution;
use nvisy_core::prelude::*;
use nvisy_core::spill::Spill;
use serde::{Deserialize, Serialize};

use super::Aggregation;
use super::accumulator::Accumulator;
use super::groups::Groups;
use super::open::Arrival;
use super::window::{Clock, Late, late, mark, moment};
use crate::actions::held::{apart, here, taken};
use crate::actions::key::{Direction, Keys, Values};
use crate::expression::{Expression, Type};

/// Items that are added to their groups at once, at the most but for the windows of the last one.
const CHUNK: usize = 16_384;

const NULLS_FIRST: Direction = Direction { descending: false, nulls_first: true, nulls_last_behind: false };

/// An aggregate that works.
pub(super) struct Aggregating {
    pub(super) group_by: Vec<Expression>,
    pub(super) aggregations: Vec<(Aggregation, Expression)>,
    /// The names of the columns, but for the windows'.
    pub(super) names: Vec<String>,
    pub(super) window: Option<(Expression, Clock, Late)>,
    /// The types of the values that were seen, of all groups: first what they are grouped by.
    pub(super) types: Vec<Type>,
    /// How many items have come.
    items: u64,
    groups: Option<Groups>,
    placing: Placing,
}

/// Items whose groups are known by key, and which are still to be added to them.
#[derive(Default)]
struct Placing {
    /// Where in the batch they are; more than once where they are in several windows.
    rows: Vec<u32>,
    keys: Keys,
    /// The beginnings of the windows of an item.
    starts: Vec<i64>,
}

/// What a checkpoint says beside the groups.
#[derive(Serialize, Deserialize)]
struct Beside {
    types: Vec<Type>,
    items: u64,
    watermark: Option<i64>,
}

impl Aggregating {
    pub(super) fn new(
        group_by: Vec<Expression>,
        aggregations: Vec<(Aggregation, Expression)>,
        names: Vec<String>,
        window: Option<(Expression, Clock, Late)>,
    ) -> Self {
        let types = vec![Type::Null; names.len()];
        Self {
            group_by,
            aggregations,
            names,
            window,
            types,
            items: 0,
            groups: None,
            placing: Placing::default(),
        }
    }

    /// Returns one of the same settings with a memory of its own.
    pub(super) fn with_groups(&self, spill: Spill, memory: u64) -> Self {
        let columns =
            self.aggregations.iter().map(|(aggregation, _)| Accumulator::new(aggregation)).collect();
        Self {
            groups: Some(Groups::new(spill, memory, self.group_by.len(), columns)),
            ..Self::new(
                self.group_by.clone(),
                self.aggregations.clone(),
                self.names.clone(),
                self.window.clone(),
            )
        }
    }

    /// Adds what is placed to its groups.
    async fn add(&mut self, arrival: &Arrival<'_>) -> Result<()> {
        let rows = std::mem::take(&mut self.placing.rows);
        let groups = taken(&mut self.groups)?.add(arrival, rows, &self.placing.keys).await?;
        self.placing.keys.clear();
        if self.groups.insert(groups).is_full() {
            apart(&mut self.groups, Groups::spill).await?;
        }
        Ok(())
    }

    /// Places an item in its groups. Returns whether it is in one: not if it is late, and dropped.
    fn place(&mut self, index: usize, arrival: &Arrival<'_>, times: Option<&Values>) -> Result<bool> {
        let (by, over) = (arrival.by, arrival.over);
        if let (Some((time, clock, on_late)), Some(times)) = (&mut self.window, times) {
            let at = moment(times.get(index), time)?;
            clock.windows(at, &mut self.placing.starts);
            if self.placing.starts.is_empty() {
                return if *on_late == Late::Drop { Ok(false) } else { Err(late(at, clock)) };
            }
        }
        by.iter().chain(&**over).try_for_each(|values| values.fault(index))?;
        self.meet(by.iter().chain(&**over).map(|values| values.type_at(index)))?;
        let Placing { rows, keys, starts } = &mut self.placing;
        if times.is_none() {
            rows.push(index as u32);
            return keys.push_values(&[], by, index, NULLS_FIRST).map(|()| true);
        }
        for start in starts {
            rows.push(index as u32);
            keys.push_values(&mark(*start), by, index, NULLS_FIRST)?;
        }
        Ok(true)
    }

    /// Holds types of values to those before them: all of them, or none.
    fn meet(&mut self, found: impl Iterator<Item = Type>) -> Result<()> {
        let mut types: Option<Vec<Type>> = None;
        for (column, found) in found.enumerate() {
            let known = self.types[column];
            if found == known || found == Type::Null {
                continue;
            }
            let aggregation = column.checked_sub(self.group_by.len()).map(|at| &self.aggregations[at].0);
            if matches!(aggregation, Some(Aggregation::Count(_))) {
                continue;
            }
            let fits = !aggregation.is_some_and(Aggregation::is_numeric) || found.is_number();
            let unified = known.unified(found).filter(|_| fits).ok_or_else(|| {
                let before = if fits { known.name() } else { "a number" };
                let message = format!("is {}, and it has to be {before}, as those before it", found.name());
                Error::invalid(self.names[column].as_str(), message)
            })?;
            if unified != known {
                types.get_or_insert_with(|| self.types.clone())[column] = unified;
            }
        }
        if let Some(types) = types {
            self.types = types;
        }
        Ok(())
    }

    /// Returns whether all items of a batch go into one group each: all values are there, and of
    /// the types that they have to be, which are known now.
    fn takes_all(&mut self, arrival: &Arrival<'_>) -> bool {
        let types = arrival.by.iter().chain(&**arrival.over).map(Values::type_of_all);
        let types: Option<Vec<Type>> = types.collect();
        self.window.is_none() && types.is_some_and(|types| self.meet(types.into_iter()).is_ok())
    }
}

impl Stateful for Aggregating {
    async fn apply(&mut self, batch: Batch, _: usize, _: &Context) -> Result<Outcomes> {
        let by: Vec<_> = self.group_by.iter().map(|by| Values::of(by, &batch)).collect();
        let over: Arc<[_]> = self.aggregations.iter().map(|(_, over)| Values::of(over, &batch)).collect();
        let times = self.window.as_ref().map(|(time, ..)| Values::of(time, &batch));
        let arrival = Arrival { batch: &batch, first: self.items, by: &by, over: &over };
        self.items += batch.len() as u64;
        if !here(&mut self.groups)?.reaches(self.items) {
            apart(&mut self.groups, Groups::spill).await?;
        }
        let mut failed = Vec::new();
        let mut dropped = 0;
        if self.takes_all(&arrival) {
            for start in (0..batch.len()).step_by(CHUNK) {
                let items = start..batch.len().min(start + CHUNK);
                self.placing.rows.extend(items.start as u32..items.end as u32);
                self.placing.keys.push_range(&by, items, NULLS_FIRST)?;
                self.add(&arrival).await?;
            }
        } else {
            for index in 0..batch.len() {
                match self.place(index, &arrival, times.as_ref()) {
                    Ok(true) => {}
                    Ok(false) => dropped += 1,
                    Err(error) => failed.push((index as u32, error.at_item(batch.id(index)))),
                }
                if self.placing.rows.len() >= CHUNK {
                    self.add(&arrival).await?;
                }
            }
        }
        self.add(&arrival).await?;
        Ok(Outcomes {
            emitted: Batch::empty(),
            attribution: Attribution::Each(Vec::new()),
            dropped: if dropped == 0 { Vec::new() } else { vec![(Cow::Borrowed("late"), dropped)] },
            absorbed: batch.len() as u64 - dropped - failed.len() as u64,
            failed,
        })
    }

    async fn release(&mut self, ended: bool, context: &Context) -> Result<Option<Batch>> {
        let bound = match &self.window {
            _ if ended => None,
            None => return Ok(None),
            Some((_, clock, _)) => match clock.first_open() {
                Some(first) => Some(mark(first)),
                None => return Ok(None),
            },
        };
        let next = move |groups: &mut Groups| groups.next(bound.as_ref().map(<[u8; 8]>::as_slice));
        let next = apart(&mut self.groups, next).await?;
        next.map(|(part, origins)| self.rows(&part, &origins, context)).transpose()
    }

    fn is_holding(&self) -> Option<bool> {
        // An item may be in many windows, and a group have many items.
        Some(self.groups.as_ref().is_none_or(|groups| !groups.is_empty()))
    }

    async fn save(&mut self) -> Result<Changes> {
        let (types, items) = (self.types.clone(), self.items);
        let watermark = self.window.as_ref().and_then(|(_, clock, _)| clock.watermark);
        let beside = postcard::to_allocvec(&Beside { types, items, watermark }).map_err(|error| {
            Error::internal("what an aggregate knows does not become bytes").with_source(error)
        })?;
        apart(&mut self.groups, |groups| {
            let mut changes = Changes::default();
            changes.put(groups.key("beside"), beside);
            groups.save(&mut changes)?;
            Ok(changes)
        })
        .await
    }

    async fn saved(&mut self) -> Result<()> {
        apart(&mut self.groups, |groups| {
            groups.saved();
            Ok(())
        })
        .await
    }

    async fn restore(&mut self, saved: Entries) -> Result<()> {
        if let Some(beside) = saved.get(&here(&mut self.groups)?.key("beside")) {
            let beside: Beside = postcard::from_bytes(beside).map_err(|error| {
                Error::new(ErrorKind::Validation, "what an aggregate has saved does not read")
                    .with_source(error)
            })?;
            if beside.types.len() != self.types.len() {
                return Err(Error::new(
                    ErrorKind::Validation,
                    "what an aggregate has saved is of other columns",
                ));
            }
            (self.types, self.items) = (beside.types, beside.items);
            if let Some((_, clock, _)) = &mut self.window {
                clock.watermark = beside.watermark;
            }
        }
        apart(&mut self.groups, move |groups| groups.restore(&saved)).await
    }
}
