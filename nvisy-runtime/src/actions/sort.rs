//! `sort`: orders all items.

use nvisy_core::config::{Problem, bytes};
use nvisy_core::prelude::*;
use nvisy_core::primitive::Kinds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::held::{Holding, memory, memory_problem};
use super::key::Direction;
use super::sorter::Sorter;
use crate::expression::Expression;

/// Orders all items: keeps them until its input has ended, and lets go of them in order then.
///
/// The order is by one [expression](crate::expression) after the other. Numbers compare by what
/// they stand for, whatever their types (not a number is behind all others); values of different
/// types by type: truth values, numbers, texts, bytes, moments, durations, lists, maps. Nulls come
/// last, unless `"nulls": "first"` says otherwise. Items that are equal in all of them keep their
/// order. An item that an expression cannot be evaluated on fails.
///
/// What does not fit into `memory` is sorted on disk. With a `limit` only the first items come
/// out, and no more than these are kept for long.
///
/// # Examples
///
/// ```json
/// { "type": "action", "use": "sort", "inputs": ["orders"],
///   "config": { "by": [ { "value": "row.country" },
///                       { "value": "row.amount", "order": "desc", "nulls": "first" } ],
///               "limit": 100, "memory": "64MB" } }
/// ```
///
/// ```
/// use nvisy_runtime::actions::Sort;
///
/// let sort = Sort::by("row.country").then_desc("row.amount").nulls_first().limit(100).memory(64_000_000);
/// let json = serde_json::to_value(&sort).unwrap();
/// assert_eq!(json["by"][1]["order"], "desc");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sort {
    /// What the items are ordered by, the first first.
    pub by: Vec<SortKey>,
    /// How many items come out at the most. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub limit: Option<u64>,
    /// How much it keeps in memory, such as `"64MB"`: what is beyond goes to disk. Default 256MB.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "bytes::option")]
    #[schemars(with = "Option<String>")]
    pub memory: Option<u64>,
}

/// One thing that items are ordered by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SortKey {
    /// An expression over the item.
    pub value: String,
    /// Whether the least or the greatest comes first. Default the least.
    #[serde(default, skip_serializing_if = "SortOrder::is_asc")]
    pub order: SortOrder,
    /// Where nulls come. Default last.
    #[serde(default, skip_serializing_if = "Nulls::is_last")]
    pub nulls: Nulls,
}

/// Which of two values comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SortOrder {
    /// The lesser one.
    #[default]
    Asc,
    /// The greater one.
    Desc,
}

impl SortOrder {
    fn is_asc(&self) -> bool {
        *self == Self::Asc
    }
}

/// Where nulls come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Nulls {
    /// Before all values.
    First,
    /// Behind all values.
    #[default]
    Last,
}

impl Nulls {
    fn is_last(&self) -> bool {
        *self == Self::Last
    }
}

impl Sort {
    /// Orders by the value of an expression, the least first.
    #[must_use]
    pub fn by(value: impl Into<String>) -> Self {
        Self { by: Vec::new(), limit: None, memory: None }.then(value)
    }

    /// Orders by the value of an expression, the greatest first.
    #[must_use]
    pub fn by_desc(value: impl Into<String>) -> Self {
        Self { by: Vec::new(), limit: None, memory: None }.then_desc(value)
    }

    /// Orders what is equal so far by the value of another expression, the least first.
    #[must_use]
    pub fn then(self, value: impl Into<String>) -> Self {
        self.key(value.into(), SortOrder::Asc)
    }

    /// Orders what is equal so far by the value of another expression, the greatest first.
    #[must_use]
    pub fn then_desc(self, value: impl Into<String>) -> Self {
        self.key(value.into(), SortOrder::Desc)
    }

    fn key(mut self, value: String, order: SortOrder) -> Self {
        self.by.push(SortKey { value, order, nulls: Nulls::Last });
        self
    }

    /// Puts the nulls of the last expression before all values. Default behind them.
    #[must_use]
    pub fn nulls_first(mut self) -> Self {
        if let Some(last) = self.by.last_mut() {
            last.nulls = Nulls::First;
        }
        self
    }

    /// Sets how many items come out at the most. Default all.
    #[must_use]
    pub fn limit(mut self, items: u64) -> Self {
        self.limit = Some(items);
        self
    }

    /// Sets how many bytes it keeps in memory. Default 256,000,000.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }
}

impl ActionConfig for Sort {
    const NAME: &'static str = "sort";
    type Input = Any;
    type Output<In: Kind> = In;
    type Client = NoClient;

    fn input_kinds(&self) -> Kinds {
        super::kinds_of(self.by.iter().map(|key| key.value.as_str()))
    }

    fn output_kinds(&self, input: Kinds) -> Kinds {
        input
    }

    fn is_columnar(&self) -> bool {
        self.by.iter().all(|key| Expression::compile(&key.value).is_ok_and(|key| key.is_columnar()))
    }

    fn validate(&self) -> Vec<Problem> {
        let mut problems: Vec<_> = memory_problem(self.memory).into_iter().collect();
        if self.limit == Some(0) {
            problems.push(Problem::new("limit", "is 0, so no item would come out"));
        }
        if self.by.is_empty() {
            let problem = Problem::new("by", "is empty, so there is no order");
            problems.push(problem.with_help("name an expression, such as { \"value\": \"row.id\" }"));
        }
        for (index, key) in self.by.iter().enumerate() {
            let path = format!("by[{index}].value");
            problems.extend(super::problem_of(path, Expression::compile(&key.value)));
        }
        problems
    }

    async fn build(&self, context: &OpenContext) -> Result<Action> {
        let key = |key: &SortKey| {
            let descending = key.order == SortOrder::Desc;
            let direction =
                Direction { descending, nulls_first: key.nulls == Nulls::First, ..Direction::default() };
            Ok((Expression::compile(&key.value)?, direction))
        };
        let mut by = self.by.iter().map(key).collect::<Result<Vec<_>>>()?;
        for at in 1..by.len() {
            by[at - 1].1.nulls_last_behind = !by[at].1.nulls_first;
        }
        let (spill, memory) = (context.spill().clone(), memory(self.memory));
        let limit = self.limit;
        Ok(Action::stateful(move || {
            Holding::new(by.clone(), Sorter::new(spill.clone(), "sort", memory).with_limit(limit))
        }))
    }
}
