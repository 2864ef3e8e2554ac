//! `materialize`: lets nothing go before everything is there.

use nvisy_core::config::{Problem, bytes};
use nvisy_core::prelude::*;
use nvisy_core::primitive::Kinds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::held::{Holding, memory_problem};
use super::sorter::Sorter;

/// Keeps all items until its input has ended, and lets go of them in their order then: what comes
/// behind it begins when what is before it is done.
///
/// What does not fit into `memory` waits on disk. With a state directory, what it keeps is part
/// of the checkpoint.
///
/// # Examples
///
/// ```json
/// { "type": "action", "use": "materialize", "inputs": ["rows"], "config": { "memory": "64MB" } }
/// ```
///
/// ```
/// use nvisy_runtime::actions::Materialize;
///
/// let all = Materialize::all().memory(64_000_000);
/// assert_eq!(serde_json::to_string(&all).unwrap(), r#"{"memory":"64MB"}"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Materialize {
    /// How much it keeps in memory, such as `"64MB"`: what is beyond goes to disk. Default 256MB.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "bytes::option")]
    #[schemars(with = "Option<String>")]
    pub memory: Option<u64>,
}

impl Materialize {
    /// Keeps all items until there are no more.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Sets how many bytes it keeps in memory. Default 256,000,000.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }
}

impl ActionConfig for Materialize {
    const NAME: &'static str = "materialize";
    type Input = Any;
    type Output<In: Kind> = In;
    type Client = NoClient;

    fn output_kinds(&self, input: Kinds) -> Kinds {
        input
    }

    fn is_columnar(&self) -> bool {
        true
    }

    fn validate(&self) -> Vec<Problem> {
        memory_problem(self.memory).into_iter().collect()
    }

    async fn build(&self, context: &OpenContext) -> Result<Action> {
        let (spill, memory) = (context.spill().clone(), super::held::memory(self.memory));
        Ok(Action::stateful(move || {
            Holding::new(Vec::new(), Sorter::new(spill.clone(), "materialize", memory))
        }))
    }
}
