//! The actions that come with the runtime. They only compute: nothing here calls another
//! system.
//!
//! | name | what it does |
//! |---|---|
//! | `filter` | [`Filter`] drops the items of which a condition is not true |
//! | `map` | [`Map`] renames, projects and sets fields |
//! | `convert` | [`Convert`] makes another kind of payload of an item |
//! | `validate` | [`Validate`] fails the items that do not obey a JSON Schema |
//! | `deduplicate` | [`Deduplicate`] drops the items that were there before |
//! | `materialize` | [`Materialize`] keeps all items until there are no more |
//! | `sort` | [`Sort`] orders all items |
//! | `aggregate` | [`Aggregate`] makes one row of each group of items |
//! | `join` | [`Join`] puts the rows of two inputs together whose keys are equal |
//! | `batch` | [`Gather`] gathers items into batches of another size |
//! | `dead_letter/replay` | [`Replay`] makes of dead letters the items that were set aside |
//! | `dead_letter/tabulate` | [`Tabulate`] makes rows of dead letters |

mod aggregate;
mod batch;
pub(crate) mod buffer;
mod convert;
mod deduplicate;
mod filter;
mod held;
mod join;
pub(crate) mod json;
mod key;
mod map;
mod materialize;
mod sort;
mod sorter;
mod spill;
mod validate;

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::buffer::BooleanBuffer;
use nvisy_core::config::Problem;
use nvisy_core::lineage::Step;
use nvisy_core::outcome::Attribution;
use nvisy_core::{Batch, Error, Kinds, Outcomes, Payload, Plugin, Result};

pub use self::aggregate::{Aggregate, Aggregation, Late, Window};
pub use self::batch::Gather;
pub use self::convert::{Convert, Target};
pub use self::deduplicate::Deduplicate;
pub use self::filter::Filter;
pub use self::join::{Join, Unmatched};
pub use self::map::Map;
pub use self::materialize::Materialize;
pub use self::sort::{Nulls, Sort, SortKey, SortOrder};
pub use self::validate::Validate;
use crate::dead_letter::{Replay, Tabulate};
use crate::expression::{Expression, ExpressionError};

/// Returns the plugin that holds them all.
#[must_use]
pub fn plugin() -> Plugin {
    Plugin::new("builtin")
        .action::<Filter>()
        .action::<Map>()
        .action::<Convert>()
        .action::<Validate>()
        .action::<Deduplicate>()
        .action::<Materialize>()
        .action::<Sort>()
        .action::<Aggregate>()
        .action::<Join>()
        .action::<Gather>()
        .action::<Replay>()
        .action::<Tabulate>()
}

/// What became of a batch whose items became other payloads, or failed.
fn outcomes_of(batch: Batch, step: &Arc<Step>, results: Vec<Result<Payload>>) -> Result<Outcomes> {
    let mut payloads = Vec::with_capacity(results.len());
    let mut failed = Vec::new();
    for (index, result) in (0..).zip(results) {
        match result {
            Ok(payload) => payloads.push(payload),
            Err(error) => failed.push((index, error.at_item(batch.id(index as usize)))),
        }
    }
    let (batch, attribution) = without(batch, &failed);
    let emitted = batch.with_payloads(payloads)?.edited(step);
    Ok(Outcomes { emitted, attribution, dropped: Vec::new(), absorbed: 0, failed })
}

/// The batch without the items that failed, and which input each of the rest is.
fn without(batch: Batch, failed: &[(u32, Error)]) -> (Batch, Attribution) {
    if failed.is_empty() {
        return (batch, Attribution::Same);
    }
    let mut kept = vec![true; batch.len()];
    for (index, _) in failed {
        if let Some(kept) = kept.get_mut(*index as usize) {
            *kept = false;
        }
    }
    let kept = BooleanBuffer::from(kept);
    let attribution = Attribution::Each(kept.set_indices().map(|index| index as u32).collect());
    (batch.filter(&BooleanArray::new(kept, None)), attribution)
}

/// Every item of the batch failed in the same way.
fn all_failed(batch: &Batch, error: &Error) -> Outcomes {
    let failed = (0..batch.len()).map(|index| (index as u32, error.clone().at_item(batch.id(index))));
    Outcomes {
        emitted: Batch::empty(),
        attribution: Attribution::Each(Vec::new()),
        dropped: Vec::new(),
        absorbed: 0,
        failed: failed.collect(),
    }
}

/// The kinds that all these expressions can be evaluated on.
fn kinds_of<'a>(texts: impl Iterator<Item = &'a str>) -> Kinds {
    let compiled = texts.filter_map(|text| Expression::compile(text).ok());
    compiled.fold(Kinds::ANY, |kinds, expression| {
        kinds.iter().filter(|kind| expression.kinds().contains(*kind)).collect()
    })
}

/// What is wrong with an expression of a config, if something is.
fn problem_of(path: impl Into<String>, compiled: Result<Expression, ExpressionError>) -> Option<Problem> {
    let error = compiled.err()?;
    Some(Problem::new(path, error.to_string()).with_code("expression.invalid"))
}
