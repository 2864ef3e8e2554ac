//! `aggregate`: makes one row of each group of items.

mod groups;
mod release;
mod state;
mod window;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use nvisy_core::config::{Problem, bytes};
use nvisy_core::outcome::Attribution;
use nvisy_core::prelude::*;
use nvisy_core::primitive::row::Row;
use nvisy_core::primitive::{KindId, Kinds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::groups::{Group, Groups, PARENTS};
use self::state::State;
use self::window::{Clock, late, mark, moment};
pub use self::window::{Late, Window};
use super::held::{apart, here, memory, memory_problem};
use super::key::{Direction, Values};
use crate::expression::{Expression, Type, Value};

/// Makes one row of each group of items: what they have in common, and what is computed of them.
///
/// Items are of one group if the values of all `group_by` [expressions](crate::expression) are
/// equal, nulls included; without any there is one group, if there is an item. A row has the names
/// of `group_by` as columns, then `window_start` and `window_end` where there are windows, then the
/// names of `aggregates`; each in the order of the alphabet.
///
/// | aggregate | gives |
/// |---|---|
/// | `count` | how many values are not null; of `true`, how many items there are |
/// | `sum`, `mean` | of numbers. Sums of integers are integers: one that does not fit 64 bits is an error. Sums of others are exact, and rounded once: the order of the items means nothing |
/// | `min`, `max` | the least and the greatest value, in the order of `sort` |
/// | `first`, `last` | the first and the last value, in the order in which the items come |
/// | `collect` | all values, in the order in which the items come. One list has to fit into memory |
///
/// Nulls are skipped; of nothing but nulls, `count` is 0, `collect` is empty, and everything else
/// is null. Integers and other numbers in one column become doubles. An item fails if an expression
/// cannot be evaluated on it, or gives a value of another type than those before it.
///
/// Rows come out in the order of the groups' values, the least first and nulls before them, when
/// the input has ended; with a [`window`](Window), by windows, each when it is closed. The id of a
/// row follows from graph, node, group and window; its lineage names the first 8 items of the group,
/// and how many there were. Groups that do not fit into `memory` wait on disk.
///
/// # Examples
///
/// ```json
/// { "type": "action", "use": "aggregate", "inputs": ["orders"],
///   "config": { "group_by": { "country": "row.country" },
///               "aggregates": { "orders": { "count": "true" }, "total": { "sum": "row.amount" } },
///               "window": { "time": "row.at", "size": "1h", "every": "15m", "lateness": "5m" },
///               "memory": "64MB" } }
/// ```
///
/// ```
/// use std::time::Duration;
/// use nvisy_runtime::actions::{Aggregate, Window};
///
/// let hours = Window::tumbling("row.at", Duration::from_secs(3_600)).lateness(Duration::from_secs(300));
/// let totals = Aggregate::by("country", "row.country")
///     .count("orders")
///     .sum("total", "row.amount")
///     .window(hours);
/// let json = serde_json::to_value(&totals).unwrap();
/// assert_eq!(json["aggregates"]["total"]["sum"], "row.amount");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// What the items of a group have in common: expressions under the names of their columns.
    /// Default nothing: all items are one group.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub group_by: BTreeMap<String, String>,
    /// What is computed of each group, under the names of the columns.
    pub aggregates: BTreeMap<String, Aggregation>,
    /// Windows of event time. Default none: all time is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// How much it keeps in memory, such as `"64MB"`: what is beyond goes to disk. Default 256MB.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "bytes::option")]
    #[schemars(with = "Option<String>")]
    pub memory: Option<u64>,
}

/// What is computed of a group: by an expression over each of its items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// How many values are not null.
    Count(String),
    /// The sum of numbers.
    Sum(String),
    /// The least value.
    Min(String),
    /// The greatest value.
    Max(String),
    /// The sum of numbers divided by how many there are.
    Mean(String),
    /// The value of the first item that has one.
    First(String),
    /// The value of the last item that has one.
    Last(String),
    /// All values as a list.
    Collect(String),
}

impl Aggregation {
    fn text(&self) -> &str {
        match self {
            Self::Count(text) | Self::Sum(text) | Self::Min(text) | Self::Max(text) => text,
            Self::Mean(text) | Self::First(text) | Self::Last(text) | Self::Collect(text) => text,
        }
    }

    fn state(&self) -> State {
        match self {
            Self::Count(_) => State::Count(0),
            Self::Sum(_) | Self::Mean(_) => State::Sum { count: 0, integers: 0, doubles: Default::default() },
            Self::Min(_) => State::Least(None),
            Self::Max(_) => State::Greatest(None),
            Self::First(_) => State::First(None),
            Self::Last(_) => State::Last(None),
            Self::Collect(_) => State::All(Vec::new()),
        }
    }

    fn is_numeric(&self) -> bool {
        matches!(self, Self::Sum(_) | Self::Mean(_))
    }
}

impl Aggregate {
    /// Makes one group of all items.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Groups items by the value of an expression, which becomes a column.
    #[must_use]
    pub fn by(column: impl Into<String>, expression: impl Into<String>) -> Self {
        Self::all().and_by(column, expression)
    }

    /// Groups items by the value of another expression too.
    #[must_use]
    pub fn and_by(mut self, column: impl Into<String>, expression: impl Into<String>) -> Self {
        self.group_by.insert(column.into(), expression.into());
        self
    }

    /// Computes something of each group.
    #[must_use]
    pub fn aggregate(mut self, column: impl Into<String>, aggregation: Aggregation) -> Self {
        self.aggregates.insert(column.into(), aggregation);
        self
    }

    /// Counts the items of each group.
    #[must_use]
    pub fn count(self, column: impl Into<String>) -> Self {
        self.aggregate(column, Aggregation::Count("true".to_owned()))
    }

    /// Sums the numbers that an expression gives.
    #[must_use]
    pub fn sum(self, column: impl Into<String>, expression: impl Into<String>) -> Self {
        self.aggregate(column, Aggregation::Sum(expression.into()))
    }

    /// Computes in windows of event time.
    #[must_use]
    pub fn window(mut self, window: Window) -> Self {
        self.window = Some(window);
        self
    }

    /// Sets how many bytes it keeps in memory. Default 256,000,000.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    fn texts(&self) -> impl Iterator<Item = &str> {
        let aggregates = self.aggregates.values().map(Aggregation::text);
        let time = self.window.iter().map(|window| window.time.as_str());
        self.group_by.values().map(String::as_str).chain(aggregates).chain(time)
    }
}

/// The columns of a window.
const WINDOW: [&str; 2] = ["window_start", "window_end"];

impl ActionConfig for Aggregate {
    const NAME: &'static str = "aggregate";
    type Input = Any;
    type Output<In: Kind> = Row;
    type Client = NoClient;

    fn input_kinds(&self) -> Kinds {
        super::kinds_of(self.texts())
    }

    fn output_kinds(&self, _: Kinds) -> Kinds {
        Kinds::of(KindId::Row)
    }

    fn validate(&self) -> Vec<Problem> {
        let mut problems: Vec<_> = memory_problem(self.memory).into_iter().collect();
        if self.aggregates.is_empty() && self.group_by.is_empty() {
            let problem =
                Problem::new("aggregates", "is empty, and so is `group_by`: a row would have no column");
            problems.push(problem.with_help("count, say: { \"items\": { \"count\": \"true\" } }"));
        }
        for (name, text) in &self.group_by {
            problems.extend(super::problem_of(format!("group_by.{name}"), Expression::compile(text)));
        }
        for (name, aggregation) in &self.aggregates {
            problems.extend(super::problem_of(
                format!("aggregates.{name}"),
                Expression::compile(aggregation.text()),
            ));
        }
        let mut names: BTreeSet<&str> = self.group_by.keys().map(String::as_str).collect();
        if let Some(window) = &self.window {
            problems.extend(window.problems());
            for name in WINDOW {
                if !names.insert(name) {
                    problems.push(Problem::new(
                        format!("group_by.{name}"),
                        "is the name of a column of the window",
                    ));
                }
            }
        }
        for name in self.aggregates.keys() {
            if !names.insert(name) {
                problems.push(Problem::new(format!("aggregates.{name}"), "another column is named so too"));
            }
        }
        if names.contains("") {
            problems.push(Problem::new("", "a column without a name cannot be made"));
        }
        problems
    }

    async fn build(&self, context: &OpenContext) -> Result<Action> {
        let compile = |text: &str| Expression::compile(text).map_err(Error::from);
        let group_by = self.group_by.values().map(|text| compile(text)).collect::<Result<Vec<_>>>()?;
        let over = self.aggregates.values().map(|of| compile(of.text())).collect::<Result<Vec<_>>>()?;
        let window = match &self.window {
            Some(window) => Some((compile(&window.time)?, window.clock(), window.late)),
            None => None,
        };
        let (spill, memory) = (context.spill().clone(), memory(self.memory));
        let columns = group_by.len() + over.len();
        let config = self.clone();
        Ok(Action::stateful(move || Aggregating {
            group_by: group_by.clone(),
            aggregations: config.aggregates.values().cloned().zip(over.iter().cloned()).collect(),
            names: config.group_by.keys().chain(config.aggregates.keys()).cloned().collect(),
            window: window.clone(),
            types: vec![Type::Null; columns],
            items: 0,
            key: Vec::new(),
            groups: Some(Groups::new(spill.clone(), memory)),
        }))
    }
}

struct Aggregating {
    group_by: Vec<Expression>,
    aggregations: Vec<(Aggregation, Expression)>,
    /// The names of the columns, but for the windows'.
    names: Vec<String>,
    window: Option<(Expression, Clock, Late)>,
    /// The types of the values that were seen, of all groups: first what they are grouped by.
    types: Vec<Type>,
    /// How many items have come.
    items: u64,
    /// The key that is being made: used again and again.
    key: Vec<u8>,
    groups: Option<Groups>,
}

/// What a checkpoint says beside the groups.
#[derive(Serialize, Deserialize)]
struct Beside {
    types: Vec<Type>,
    items: u64,
    watermark: Option<i64>,
}

impl Stateful for Aggregating {
    async fn apply(&mut self, batch: Batch, _: usize, _: &Context) -> Result<Outcomes> {
        let mut failed = Vec::new();
        let mut dropped = 0;
        let keys: Vec<_> = self.group_by.iter().map(|by| Values::of(by, &batch)).collect();
        let over: Vec<_> = self.aggregations.iter().map(|(_, over)| Values::of(over, &batch)).collect();
        let times = self.window.as_ref().map(|(time, ..)| Values::of(time, &batch));
        for index in 0..batch.len() {
            match self.add(&batch, index, &keys, &over, times.as_ref()) {
                Ok(true) => {}
                Ok(false) => dropped += 1,
                Err(error) => failed.push((index as u32, error.at_item(batch.id(index)))),
            }
            if here(&mut self.groups)?.is_full() {
                apart(&mut self.groups, Groups::spill).await?;
            }
        }
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
        let next =
            move |groups: &mut Groups| groups.next(bound.as_ref().map(<[u8; 8]>::as_slice), MOST_GROUPS);
        let groups = apart(&mut self.groups, next).await?;
        if groups.is_empty() {
            return Ok(None);
        }
        self.rows(groups, context).map(Some)
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

/// Groups of a batch that is let go of, at the most.
const MOST_GROUPS: usize = 1_024;

impl Aggregating {
    /// Adds an item to its groups. Returns whether it is in one: not if it is late, and dropped.
    fn add(
        &mut self,
        batch: &Batch,
        index: usize,
        keys: &[Values],
        over: &[Values],
        times: Option<&Values>,
    ) -> Result<bool> {
        let number = self.items;
        self.items += 1;
        let mut windows = Vec::new();
        if let (Some((time, clock, on_late)), Some(times)) = (&mut self.window, times) {
            let at = moment(times.get(index), time)?;
            windows = clock.windows(at);
            if windows.is_empty() {
                return if *on_late == Late::Drop { Ok(false) } else { Err(late(at, clock)) };
            }
        }
        self.key.clear();
        self.key.resize(if windows.is_empty() { 0 } else { 8 }, 0);
        let nulls_first = Direction { descending: false, nulls_first: true };
        keys.iter().try_for_each(|values| values.encode(index, nulls_first, &mut self.key))?;
        over.iter().try_for_each(|values| values.fault(index))?;
        self.meet(index, keys, over)?;
        for at in 0..windows.len().max(1) {
            if let Some(start) = windows.get(at) {
                self.key[..8].copy_from_slice(&mark(*start));
            }
            let new = || Group {
                values: keys.iter().map(|values| values.get(index).unwrap_or(Value::Null)).collect(),
                states: self.aggregations.iter().map(|(aggregation, _)| aggregation.state()).collect(),
                items: 0,
                parents: Vec::new(),
            };
            here(&mut self.groups)?.change(&self.key, new, |group| {
                group.items += 1;
                if group.parents.len() < PARENTS {
                    group.parents.push((number, batch.id(index), batch.lineage(index)));
                }
                let states = group.states.iter_mut().zip(over);
                let grown = states.map(|(state, values)| match values.get(index) {
                    Ok(Value::Null) | Err(_) => 0,
                    Ok(value) => state.add(number, value),
                });
                grown.sum()
            });
        }
        Ok(true)
    }

    /// Holds the values of an item to the types of those before them.
    fn meet(&mut self, index: usize, keys: &[Values], over: &[Values]) -> Result<()> {
        let mut types: Option<Vec<Type>> = None;
        for (column, values) in keys.iter().chain(over).enumerate() {
            let (known, found) = (self.types[column], values.type_at(index));
            if found == known || found == Type::Null {
                continue;
            }
            let aggregation = column.checked_sub(keys.len()).map(|at| &self.aggregations[at].0);
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
        self.types = types.unwrap_or_else(|| std::mem::take(&mut self.types));
        Ok(())
    }
}
