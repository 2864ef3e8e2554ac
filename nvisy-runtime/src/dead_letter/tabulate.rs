//! `dead_letter/tabulate`: makes rows of dead letters.

use nvisy_core::DeadLetter;
use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::row::Row;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Makes rows of dead letters, for sinks that take nothing else: see
/// [`DeadLetter::to_row`] for the columns. A row's id is made of the item's and of the node that it
/// failed at: where one item fails at two nodes, a table has both.
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
        let letter = DeadLetter::from_primitive(item.primitive())?;
        let row = letter.to_row()?;
        // One item may fail at several nodes: each row has an id of its own.
        Ok(Outcome::emit(item.derive(&letter.node, 0, row)))
    }
}
