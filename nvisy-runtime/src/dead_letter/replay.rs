//! `dead_letter/replay`: makes of dead letters the items that were set aside.

use nvisy_core::config::Problem;
use nvisy_core::metadata::Timestamp;
use nvisy_core::outcome::Attribution;
use nvisy_core::prelude::*;
use nvisy_core::primitive::{KindId, Kinds};
use nvisy_core::{DeadLetter, ErrorKind};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Makes of dead letters the items that were set aside: under their own ids, with their
/// envelopes and lineage.
///
/// Takes `raw` JSON, or rows as [`DeadLetter::from_primitive`] says. What the filter does not
/// let through is dropped, and counts under the reason `filtered`; what is no dead letter fails.
///
/// # Examples
///
/// ```json
/// { "type": "action", "use": "dead_letter/replay", "inputs": ["letters"],
///   "config": { "node": "vectors", "kind": "timeout", "since": "2026-01-31T00:00:00Z" } }
/// ```
///
/// ```
/// use nvisy_runtime::dead_letter::Replay;
/// use nvisy_runtime::prelude::*;
///
/// let late = Replay::of("vectors").kind(ErrorKind::Timeout);
/// assert_eq!(serde_json::to_string(&late).unwrap(), r#"{"node":"vectors","kind":"timeout"}"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The node that they failed at. Default any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The kind of their error. Default any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ErrorKind>,
    /// When they were set aside at the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
    /// Before when they were set aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub until: Option<Timestamp>,
}

impl Replay {
    /// Replays all dead letters.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Replays those of one node.
    #[must_use]
    pub fn of(node: impl Into<String>) -> Self {
        Self { node: Some(node.into()), ..Self::default() }
    }

    /// Replays only those whose error is of a kind.
    #[must_use]
    pub fn kind(mut self, kind: ErrorKind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Replays only those that were set aside at this time or later.
    #[must_use]
    pub fn since(mut self, time: Timestamp) -> Self {
        self.since = Some(time);
        self
    }

    /// Replays only those that were set aside before this time.
    #[must_use]
    pub fn until(mut self, time: Timestamp) -> Self {
        self.until = Some(time);
        self
    }

    fn takes(&self, letter: &DeadLetter) -> bool {
        self.node.as_deref().is_none_or(|node| *letter.node == *node)
            && self.kind.is_none_or(|kind| letter.error.kind == kind)
            && self.since.is_none_or(|since| letter.time >= since)
            && self.until.is_none_or(|until| letter.time < until)
    }
}

impl ActionConfig for Replay {
    const NAME: &'static str = "dead_letter/replay";
    type Input = Any;
    type Output<In: Kind> = Any;
    type Client = NoClient;

    fn input_kinds(&self) -> Kinds {
        [KindId::Raw, KindId::Row].into_iter().collect()
    }

    fn output_kinds(&self, _: Kinds) -> Kinds {
        Kinds::ANY
    }

    fn validate(&self) -> Vec<Problem> {
        let never = self.since.zip(self.until).is_some_and(|(since, until)| since >= until);
        never
            .then(|| Problem::new("until", "is not later than `since`: nothing is replayed"))
            .into_iter()
            .collect()
    }

    async fn build(&self, _: &OpenContext) -> Result<Action> {
        Ok(Action::columnar(Replaying(self.clone())))
    }
}

struct Replaying(Replay);

impl Columnar for Replaying {
    async fn apply(&self, batch: Batch, _: &Context) -> Result<Outcomes> {
        let (mut emitted, mut each, mut failed, mut filtered) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (index, item) in (0..).zip(batch.iter()) {
            match DeadLetter::from_primitive(&item) {
                Ok(letter) if self.0.takes(&letter) => {
                    emitted.push(letter.replay());
                    each.push(index);
                }
                Ok(_) => filtered += 1,
                Err(error) => failed.push((index, error)),
            }
        }
        Ok(Outcomes {
            emitted: Batch::from_primitives(emitted),
            attribution: Attribution::Each(each),
            dropped: if filtered == 0 { Vec::new() } else { vec![("filtered".into(), filtered)] },
            absorbed: 0,
            failed,
        })
    }
}
