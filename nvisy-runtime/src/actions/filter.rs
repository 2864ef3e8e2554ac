//! `filter`: drops the items of which a condition is not true.

use std::borrow::Cow;

use nvisy_core::config::Problem;
use nvisy_core::outcome::Attribution;
use nvisy_core::prelude::*;
use nvisy_core::primitive::Kinds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::expression::{Expression, Mask};

/// Drops the items of which a condition is not true.
///
/// The condition is an [expression](crate::expression) over the item. What is dropped counts
/// under the reason `filtered`; an item that the condition cannot be evaluated on fails. Over
/// rows it runs as Arrow kernels, where the condition allows.
///
/// # Examples
///
/// ```json
/// { "type": "action", "use": "filter", "inputs": ["tickets"],
///   "config": { "when": "row.state == 'open' && row.age != null && row.age > 30" } }
/// ```
///
/// ```
/// use nvisy_runtime::actions::Filter;
///
/// let open = Filter::when("row.state == 'open'");
/// assert_eq!(serde_json::to_string(&open).unwrap(), r#"{"when":"row.state == 'open'"}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// The condition: an expression that is true or false.
    pub when: String,
}

impl Filter {
    /// Keeps the items of which the condition is true.
    #[must_use]
    pub fn when(condition: impl Into<String>) -> Self {
        Self { when: condition.into() }
    }
}

impl ActionConfig for Filter {
    const NAME: &'static str = "filter";
    type Input = Any;
    type Output<In: Kind> = In;
    type Client = NoClient;

    fn input_kinds(&self) -> Kinds {
        Expression::condition(&self.when).map_or(Kinds::ANY, |condition| condition.kinds())
    }

    fn output_kinds(&self, input: Kinds) -> Kinds {
        input
    }

    fn is_columnar(&self) -> bool {
        Expression::condition(&self.when).is_ok_and(|condition| condition.is_columnar())
    }

    fn validate(&self) -> Vec<Problem> {
        super::problem_of("when", Expression::condition(&self.when)).into_iter().collect()
    }

    async fn build(&self, _: &OpenContext) -> Result<Action> {
        Ok(Action::columnar(Filtering { condition: Expression::condition(&self.when)? }))
    }
}

struct Filtering {
    condition: Expression,
}

impl Columnar for Filtering {
    async fn apply(&self, batch: Batch, context: &Context) -> Result<Outcomes> {
        let Mask { bits, faults } = self.condition.filter_mask(&batch);
        let len = batch.len();
        let mut kept: Vec<u32> = Vec::with_capacity(bits.true_count());
        kept.extend(bits.values().set_indices_u32());
        let dropped = len - kept.len() - faults.len();
        let (emitted, attribution) = match kept.len() {
            all if all == len => (batch, Attribution::Same),
            _ => (batch.filter(&bits), Attribution::Each(kept)),
        };
        Ok(Outcomes {
            emitted: emitted.edited(&context.step()),
            attribution,
            dropped: if dropped == 0 {
                Vec::new()
            } else {
                vec![(Cow::Borrowed("filtered"), dropped as u64)]
            },
            absorbed: 0,
            failed: faults,
        })
    }
}
