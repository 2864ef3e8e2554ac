//! `deduplicate`: drops items that were there before.

use std::borrow::Cow;
use std::collections::HashSet;

use arrow::array::BooleanArray;
use nvisy_core::config::Problem;
use nvisy_core::error::{Error, ErrorKind};
use nvisy_core::outcome::Attribution;
use nvisy_core::prelude::*;
use nvisy_core::primitive::Kinds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::expression::{Expression, Value};

/// Drops items that were there before: the first of its like wins.
///
/// Items are alike if their content is, or if a key is: an [expression](crate::expression) over
/// the item, in which numbers are equal by value. What is dropped counts under the reason
/// `duplicate`. An item whose key is null or cannot be evaluated fails: null says that the key
/// is not known, not that two items are one.
///
/// It remembers 16 bytes an item, in memory: with the table around them, some 40 bytes. Where
/// there are more different items than `max_items`, the node fails and says so.
///
/// # Examples
///
/// ```json
/// { "type": "action", "use": "deduplicate", "inputs": ["tickets"],
///   "config": { "key": "row.email.lowerAscii()", "max_items": 5000000 } }
/// ```
///
/// ```
/// use nvisy_runtime::actions::Deduplicate;
///
/// let contents = Deduplicate::by_content();
/// let emails = Deduplicate::by("row.email.lowerAscii()").max_items(5_000_000);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deduplicate {
    /// What makes items alike: an expression. Default their content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How many different items it remembers at the most. Default 1,000,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_items: Option<usize>,
}

const MAX_ITEMS: usize = 1_000_000;

impl Deduplicate {
    /// Drops items whose content was there before.
    #[must_use]
    pub fn by_content() -> Self {
        Self::default()
    }

    /// Drops items whose key was there before.
    #[must_use]
    pub fn by(key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), max_items: None }
    }

    /// Sets how many different items it remembers at the most. Default 1,000,000.
    #[must_use]
    pub fn max_items(mut self, max_items: usize) -> Self {
        self.max_items = Some(max_items);
        self
    }
}

impl ActionConfig for Deduplicate {
    const NAME: &'static str = "deduplicate";
    type Input = Any;
    type Output<In: Kind> = In;
    type Client = NoClient;

    fn input_kinds(&self) -> Kinds {
        let key = self.key.as_deref().map(Expression::compile);
        key.and_then(std::result::Result::ok).map_or(Kinds::ANY, |key| key.kinds())
    }

    fn output_kinds(&self, input: Kinds) -> Kinds {
        input
    }

    fn validate(&self) -> Vec<Problem> {
        let key = self.key.as_deref().and_then(|key| super::problem_of("key", Expression::compile(key)));
        let zero =
            (self.max_items == Some(0)).then(|| Problem::new("max_items", "is 0, so no item could be told"));
        key.into_iter().chain(zero).collect()
    }

    async fn build(&self, _: &OpenContext) -> Result<Action> {
        let key = self.key.as_deref().map(Expression::compile).transpose()?;
        let max_items = self.max_items.unwrap_or(MAX_ITEMS);
        Ok(Action::stateful(move || Deduplicating { key: key.clone(), max_items, seen: HashSet::new() }))
    }
}

struct Deduplicating {
    key: Option<Expression>,
    max_items: usize,
    seen: HashSet<u128>,
}

impl Stateful for Deduplicating {
    async fn apply(&mut self, batch: Batch, _: usize, context: &Context) -> Result<Outcomes> {
        let mut kept = vec![false; batch.len()];
        let mut failed = Vec::new();
        let mut duplicates = 0;
        for (index, key) in self.keys(&batch).into_iter().enumerate() {
            match key {
                Err(error) => failed.push((index as u32, error.at_item(batch.id(index)))),
                Ok(key) if self.seen.contains(&key) => duplicates += 1,
                Ok(_) if self.seen.len() >= self.max_items => return Err(self.full()),
                Ok(key) => {
                    self.seen.insert(key);
                    kept[index] = true;
                }
            }
        }
        let mask = BooleanArray::from(kept);
        let attribution = if mask.true_count() == batch.len() {
            Attribution::Same
        } else {
            Attribution::Each(mask.values().set_indices_u32().collect())
        };
        Ok(Outcomes {
            emitted: batch.filter(&mask).edited(&context.step()),
            attribution,
            dropped: if duplicates == 0 {
                Vec::new()
            } else {
                vec![(Cow::Borrowed("duplicate"), duplicates)]
            },
            absorbed: 0,
            failed,
        })
    }

    async fn save(&mut self) -> Result<Changes> {
        Ok(Changes::default())
    }

    async fn restore(&mut self, _: Entries) -> Result<()> {
        Err(Error::configuration(
            "`deduplicate` remembers what it has seen, and checkpoints do not hold that yet: run the graph without state, or without this node",
        ))
    }
}

impl Deduplicating {
    fn keys(&self, batch: &Batch) -> Vec<Result<u128>> {
        match &self.key {
            None => (0..batch.len()).map(|index| content(&batch.payload(index))).collect(),
            Some(key) => {
                let hash = |value: Result<Value>| match value? {
                    Value::Null => {
                        let message = format!(
                            "the key `{key}` is null: say what is alike then, as in `has(row.x) ? row.x : id`"
                        );
                        Err(Error::new(ErrorKind::Validation, message))
                    }
                    value => {
                        let mut hasher = Sha256::new();
                        feed(&value, &mut hasher);
                        Ok(cut(&hasher.finalize()))
                    }
                };
                key.evaluate_batch(batch).into_iter().map(hash).collect()
            }
        }
    }

    fn full(&self) -> Error {
        let most = self.max_items;
        Error::configuration(format!(
            "deduplicate: more than {most} different items: raise `max_items` (some 40 bytes of memory an item)"
        ))
    }
}

/// The first half of the hash of the content.
fn content(payload: &Payload) -> Result<u128> {
    let hash = payload.content_hash().to_string();
    let half = hash.get(..32).and_then(|half| u128::from_str_radix(half, 16).ok());
    half.ok_or_else(|| Error::internal("a content hash is 64 hexadecimal digits"))
}

fn cut(hash: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash).for_each(|(byte, hash)| *byte = *hash);
    u128::from_be_bytes(bytes)
}

/// Feeds a value so that equal values feed alike: numbers by value.
fn feed(value: &Value, hasher: &mut Sha256) {
    let mut tagged = |tag: u8, bytes: &[u8]| {
        hasher.update([tag]);
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    match value {
        Value::Null => tagged(0, &[]),
        Value::Bool(value) => tagged(1, &[u8::from(*value)]),
        Value::Int(value) => tagged(2, &i128::from(*value).to_be_bytes()),
        Value::UInt(value) => tagged(2, &i128::from(*value).to_be_bytes()),
        Value::Double(value) if value.fract() == 0.0 && value.abs() < 1e20 => {
            tagged(2, &(*value as i128).to_be_bytes());
        }
        Value::Double(value) => tagged(3, &value.to_bits().to_be_bytes()),
        Value::Text(value) => tagged(4, value.as_bytes()),
        Value::Bytes(value) => tagged(5, value),
        Value::Timestamp(value) => {
            tagged(
                6,
                &(i128::from(value.timestamp()) * 1_000_000_000 + i128::from(value.timestamp_subsec_nanos()))
                    .to_be_bytes(),
            );
        }
        Value::Duration(value) => {
            tagged(
                7,
                &(i128::from(value.num_seconds()) * 1_000_000_000 + i128::from(value.subsec_nanos()))
                    .to_be_bytes(),
            );
        }
        Value::List(values) => {
            tagged(8, &(values.len() as u64).to_be_bytes());
            values.iter().for_each(|value| feed(value, hasher));
        }
        Value::Map(entries) => {
            tagged(9, &(entries.len() as u64).to_be_bytes());
            // The order of keys means nothing.
            let mut hashes: Vec<_> = entries
                .iter()
                .map(|(key, value)| {
                    let mut hasher = Sha256::new();
                    feed(key, &mut hasher);
                    feed(value, &mut hasher);
                    hasher.finalize()
                })
                .collect();
            hashes.sort_unstable();
            hashes.iter().for_each(|hash| hasher.update(hash));
        }
    }
}
