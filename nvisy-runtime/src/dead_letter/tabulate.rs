//! `dead_letter/tabulate`: makes rows of dead letters.

use nvisy_core::DeadLetter;
use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::row::Row;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Makes rows of dead letters, for sinks that take nothing else: see
/// [`DeadLetter::to_row`] for the columns.
///
/// # Examples
///
/// ```json
/// { "type": "action", "use": "dead_letter/tabulate", "inputs": ["vectors.dead_letter"] }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tabulate {}

impl Transform for Tabulate {
    const NAME: &'static str = "dead_letter/tabulate";
    type Input = Raw;
    type Output = Row;

    async fn transform(&self, item: Item<Raw>, _: &Context) -> Result<Outcome<Row>> {
        let row = DeadLetter::from_primitive(item.primitive())?.to_row()?;
        Ok(Outcome::emit(item.with(row)))
    }
}
