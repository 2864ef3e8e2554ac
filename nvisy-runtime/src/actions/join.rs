//! `join`: puts the items of two inputs together whose keys are equal.

mod merge;
mod sizes;

use std::borrow::Cow;

use nvisy_core::config::{Problem, bytes};
use nvisy_core::outcome::Attribution;
use nvisy_core::prelude::*;
use nvisy_core::primitive::row::Row;
use nvisy_core::primitive::{KindId, Kinds, Payload};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::merge::Sides;
use super::held::{apart, here, memory, memory_problem};
use super::key::{Direction, Keys, Values};
use crate::expression::{Expression, Type};

/// Puts rows of two inputs together whose keys are equal: a row for each pair.
///
/// The first of its `inputs` is the left one. Each side has a key, an [expression](crate::expression)
/// over its rows; a list joins by several, `[row.a, row.b]`. Numbers are equal by what they stand
/// for; null equals nothing; a key of another type than those before it, on either side, fails the
/// row. A row of the left without a match comes out alone, with nulls, where `"unmatched": "keep"`
/// says so, and else does not. One whose key is null then counts as dropped, as `no match`.
///
/// What comes out has the columns of both. A column of the right that has the name of one of the
/// left gets the `prefix`. Its id follows from the ids of both, its lineage names both, its envelope
/// is the left one's.
///
/// Both sides are kept until both have ended, and sorted by key, on disk where they do not fit into
/// `memory`; rows come out in the order of the keys, and of one key in that of the left input and
/// then of the right, no more than 1 MiB at once, or one row. The rows of the right that have one
/// key have to fit into `memory`.
///
/// # Examples
///
/// ```json
/// { "type": "action", "use": "join", "inputs": ["orders", "users"],
///   "config": { "left": "row.user_id", "right": "row.id", "unmatched": "keep" } }
/// ```
///
/// ```
/// use nvisy_runtime::actions::Join;
///
/// let join = Join::on("row.user_id", "row.id").keep_unmatched().prefix("user_");
/// let json = serde_json::to_value(&join).unwrap();
/// assert_eq!(json["unmatched"], "keep");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The key of a row of the left input: an expression.
    pub left: String,
    /// The key of a row of the right input: an expression.
    pub right: String,
    /// What becomes of rows of the left without a match. Default they do not come out.
    #[serde(default, skip_serializing_if = "Unmatched::is_drop")]
    pub unmatched: Unmatched,
    /// What columns of the right begin with that have the name of one of the left. Default
    /// `right_`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// How much it keeps in memory, such as `"64MB"`: what is beyond goes to disk. Default 256MB.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "bytes::option")]
    #[schemars(with = "Option<String>")]
    pub memory: Option<u64>,
}

/// What becomes of rows of the left without a match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unmatched {
    /// They do not come out: an inner join.
    #[default]
    Drop,
    /// They come out, with nulls in the columns of the right: a left join.
    Keep,
}

impl Unmatched {
    fn is_drop(&self) -> bool {
        *self == Self::Drop
    }
}

impl Join {
    /// Joins rows of which these expressions are equal: one over the left, one over the right.
    #[must_use]
    pub fn on(left: impl Into<String>, right: impl Into<String>) -> Self {
        let (left, right) = (left.into(), right.into());
        Self { left, right, unmatched: Unmatched::Drop, prefix: None, memory: None }
    }

    /// Lets rows of the left come out that have no match. Default they do not.
    #[must_use]
    pub fn keep_unmatched(mut self) -> Self {
        self.unmatched = Unmatched::Keep;
        self
    }

    /// Sets what columns of the right begin with whose name the left has too. Default `right_`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Sets how many bytes it keeps in memory. Default 256,000,000.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }
}

impl ActionConfig for Join {
    const NAME: &'static str = "join";
    type Input = Row;
    type Output<In: Kind> = Row;
    type Client = NoClient;

    fn inputs(&self) -> usize {
        2
    }

    fn output_kinds(&self, _: Kinds) -> Kinds {
        Kinds::of(KindId::Row)
    }

    fn validate(&self) -> Vec<Problem> {
        let mut problems: Vec<_> = memory_problem(self.memory).into_iter().collect();
        let [left, right] = [("left", &self.left), ("right", &self.right)].map(|(path, text)| {
            let compiled = Expression::compile(text);
            let known = compiled.as_ref().ok().map(Expression::result);
            if let Ok(key) = &compiled
                && !key.kinds().contains(KindId::Row)
            {
                problems.push(Problem::new(path, "reads what a row does not have"));
            }
            problems.extend(super::problem_of(path, compiled));
            known
        });
        if let (Some(left), Some(right)) = (left, right)
            && ![left, right].contains(&Type::Any)
            && left.unified(right).is_none()
        {
            let message = format!("is {}, and `left` is {}: they are never equal", right.name(), left.name());
            problems.push(
                Problem::new("right", message)
                    .with_help("make one what the other is, as with `string(..)` or `int(..)`"),
            );
        }
        if self.prefix.as_deref() == Some("") {
            problems.push(Problem::new("prefix", "is empty, so two columns would have one name"));
        }
        problems
    }

    async fn build(&self, context: &OpenContext) -> Result<Action> {
        let keys = [Expression::compile(&self.left)?, Expression::compile(&self.right)?];
        let keep = self.unmatched == Unmatched::Keep;
        let prefix = self.prefix.clone().unwrap_or_else(|| "right_".to_owned());
        let (spill, memory) = (context.spill().clone(), memory(self.memory));
        Ok(Action::stateful(move || Joining {
            keys: keys.clone(),
            keep,
            known: Type::Null,
            sides: Some(Sides::new(&spill, memory, keep, prefix.clone())),
        }))
    }
}

struct Joining {
    keys: [Expression; 2],
    keep: bool,
    /// The type of the keys so far.
    known: Type,
    sides: Option<Sides>,
}

impl Stateful for Joining {
    async fn apply(&mut self, batch: Batch, from: usize, _: &Context) -> Result<Outcomes> {
        let inputs = batch.len();
        let expression = &self.keys[from.min(1)];
        let values = Values::of(expression, &batch);
        let (mut keys, mut key) = (Keys::default(), Vec::new());
        let (mut kept, mut failed, mut dropped) = (Vec::new(), Vec::new(), 0);
        let rows = batch.kinds() == Kinds::of(KindId::Row);
        for index in 0..inputs {
            let found = values.type_at(index);
            let unified = self.known.unified(found);
            key.clear();
            let encoded = values.encode(index, Direction::default(), &mut key);
            let fits = match (encoded, unified) {
                (Err(error), _) => Err(error),
                _ if !rows && !matches!(batch.payload(index), Payload::Row(_)) => {
                    let message = format!("is a {}, and a join takes rows", batch.payload(index).kind());
                    Err(Error::invalid("payload", message))
                }
                (Ok(()), None) => Err(self.mismatch(from, found)),
                (Ok(()), Some(known)) => Ok(known),
            };
            match fits {
                Err(error) => failed.push((index as u32, error.at_item(batch.id(index)))),
                Ok(_) if found == Type::Null && (from > 0 || !self.keep) => dropped += 1,
                Ok(known) => {
                    self.known = known;
                    keys.push(&key)?;
                    kept.push(index as u32);
                }
            }
        }
        let absorbed = kept.len() as u64;
        let batch = if kept.len() == inputs { batch } else { batch.select(&kept) };
        let sides = here(&mut self.sides)?;
        sides.push(batch, &keys, from)?;
        if sides.is_full() {
            apart(&mut self.sides, Sides::spill).await?;
        }
        Ok(Outcomes {
            emitted: Batch::empty(),
            attribution: Attribution::Each(Vec::new()),
            dropped: if dropped == 0 { Vec::new() } else { vec![(Cow::Borrowed("no match"), dropped)] },
            absorbed,
            failed,
        })
    }

    async fn release(&mut self, ended: bool, context: &Context) -> Result<Option<Batch>> {
        if !ended {
            return Ok(None);
        }
        let step = context.step();
        apart(&mut self.sides, move |sides| sides.next(&step)).await
    }

    async fn save(&mut self) -> Result<Changes> {
        let known = self.known;
        apart(&mut self.sides, move |sides| sides.save(known)).await
    }

    async fn saved(&mut self) -> Result<()> {
        apart(&mut self.sides, |sides| {
            sides.saved();
            Ok(())
        })
        .await
    }

    async fn restore(&mut self, saved: Entries) -> Result<()> {
        let known = apart(&mut self.sides, move |sides| sides.restore(&saved)).await?;
        self.known = known.unwrap_or(Type::Null);
        Ok(())
    }
}

impl Joining {
    fn mismatch(&self, from: usize, found: Type) -> Error {
        let (this, known) = (&self.keys[from.min(1)], self.known.name());
        let both = self.keys.each_ref().map(Expression::text).join("` and `");
        let message =
            format!("the key `{this}` is {} here, and {known} before (the keys are `{both}`)", found.name());
        Error::new(ErrorKind::Validation, message)
    }
}
