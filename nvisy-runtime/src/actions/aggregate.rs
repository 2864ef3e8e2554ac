//! `aggregate`: makes one row of each group of items.

mod accumulator;
mod aggregating;
mod column;
mod cursor;
mod exact;
mod groups;
mod open;
mod origins;
mod part;
mod release;
mod state;
mod table;
mod window;

use std::collections::{BTreeMap, BTreeSet};

use nvisy_core::config::{Problem, bytes};
use nvisy_core::prelude::*;
use nvisy_core::primitive::row::Row;
use nvisy_core::primitive::{KindId, Kinds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::aggregating::Aggregating;
pub use self::window::{Late, Window};
use super::held::{memory, memory_problem};
use crate::expression::Expression;

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
/// | `sum`, `mean` | of numbers. Sums of integers are integers: one that does not fit 64 bits is null, so sum `double(..)` where that may be. Sums of others are exact, and rounded once: the order of the items means nothing |
/// | `min`, `max` | the least and the greatest value, in the order of `sort` |
/// | `first`, `last` | the first and the last value, in the order in which the items come |
/// | `collect` | all values, in the order in which the items come. One list has to fit into memory |
///
/// Nulls are skipped; of nothing but nulls, `count` is 0, `collect` is empty, and everything else
/// is null. Integers and other numbers in one column become doubles. Lists and maps come out as lists
/// and structs that hold all which come out together: a struct has the keys of all maps, null where
/// one has not that key; numbers of two types in them are doubles, and what no other type holds is
/// text, each value its JSON, as is the whole column where maps have too many different keys. An
/// item fails if an expression cannot be evaluated on it, or gives a value of another type than
/// those before it.
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
        let names = self.group_by.keys().chain(self.aggregates.keys()).cloned().collect();
        let aggregations = self.aggregates.values().cloned().zip(over).collect();
        let aggregating = Aggregating::new(group_by, aggregations, names, window);
        Ok(Action::stateful(move || aggregating.with_groups(spill.clone(), memory)))
    }
}
