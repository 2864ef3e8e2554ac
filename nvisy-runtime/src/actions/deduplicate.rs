//! `deduplicate`: drops items that were there before.

mod hash;
mod log;
mod run;
mod seen;
mod table;

use std::borrow::Cow;

use arrow::array::BooleanArray;
use nvisy_core::checkpoint::Entries;
use nvisy_core::config::Problem;
use nvisy_core::error::{Error, ErrorKind};
use nvisy_core::outcome::Attribution;
use nvisy_core::prelude::*;
use nvisy_core::primitive::Kinds;
use nvisy_core::{Changes, Spill, config};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::hash::{Keys, Secret};
use self::log::{End, Log};
use self::seen::Seen;
use crate::disk::blocking;
use crate::expression::Expression;

/// Drops items that were there before: the first of its like wins.
///
/// Items are alike if their content is, or if a key is: an [expression](crate::expression) over
/// the item, in which numbers are equal by value. What is dropped counts under the reason
/// `duplicate`. An item whose key is null or cannot be evaluated fails: null says that the key
/// is not known, not that two items are one.
///
/// It remembers 16 bytes an item: some 24 bytes of memory, and beyond the limit `memory` in sorted
/// files, so that there may be any number of items. In a run with checkpoints what it has seen is
/// part of them, in a file of the [state directory](crate::engine::EngineBuilder::state): after a
/// crash the same items are dropped as before, where they come in the order in which they came
/// before: from one source whose `concurrency` is 1. Of like items from several sources, or from
/// partitions that are read side by side, another may be the first then. Files have that one alone;
/// a sink that writes by id has both, if it had written the other since the last checkpoint. Give
/// like items one id (`key` of their sources) where that matters.
///
/// # Examples
///
/// ```json
/// { "type": "action", "use": "deduplicate", "inputs": ["tickets"],
///   "config": { "key": "row.email.lowerAscii()", "memory": "1GB" } }
/// ```
///
/// ```
/// use nvisy_runtime::actions::Deduplicate;
///
/// let contents = Deduplicate::by_content();
/// let emails = Deduplicate::by("row.email.lowerAscii()").memory(1_000_000_000);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deduplicate {
    /// What makes items alike: an expression. Default their content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How much memory it takes for what it has seen, about. Default 256 MB.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "config::bytes::option")]
    #[schemars(with = "Option<String>")]
    pub memory: Option<u64>,
}

const MEMORY: u64 = 256_000_000;
const LEAST_MEMORY: u64 = 1_000_000;

impl Deduplicate {
    /// Drops items whose content was there before.
    #[must_use]
    pub fn by_content() -> Self {
        Self::default()
    }

    /// Drops items whose key was there before.
    #[must_use]
    pub fn by(key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), memory: None }
    }

    /// Sets how many bytes of memory it takes for what it has seen, about: 1 MB at the least.
    /// Default 256 MB.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
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
        let little = self.memory.is_some_and(|bytes| bytes < LEAST_MEMORY).then(|| {
            Problem::new("memory", "is less than 1MB, too little for what it does with it")
                .with_help("give it 1MB at the least, and some 24 bytes an item to spare it files")
        });
        key.into_iter().chain(little).collect()
    }

    async fn build(&self, context: &OpenContext) -> Result<Action> {
        let key = self.key.as_deref().map(Expression::compile).transpose()?;
        let memory = self.memory.unwrap_or(MEMORY).try_into().unwrap_or(usize::MAX);
        let spill = context.spill().clone();
        Ok(Action::stateful(move || Deduplicating {
            key: key.clone(),
            secret: Secret::random(),
            memory,
            seen: Seen::new(memory, spill.clone()),
            spill: spill.clone(),
            log: None,
            saved: None,
        }))
    }
}

struct Deduplicating {
    key: Option<Expression>,
    secret: Secret,
    memory: usize,
    seen: Seen,
    spill: Spill,
    /// What of it is durable, in a run with checkpoints.
    log: Option<Log>,
    /// What the last checkpoint has of it.
    saved: Option<Saved>,
}

/// What a checkpoint has of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Saved {
    #[serde(flatten)]
    end: End,
    secret: Secret,
}

impl Deduplicating {
    /// Makes room in memory for more keys, if there is none.
    async fn make_room(&mut self) -> Result<()> {
        if self.seen.has_room() {
            return Ok(());
        }
        let mut seen = std::mem::replace(&mut self.seen, Seen::new(0, self.spill.clone()));
        let spill = move || seen.spill().map(|()| seen);
        self.seen = match tokio::runtime::Handle::try_current() {
            Ok(_) => blocking(spill).await?,
            Err(_) => spill()?,
        };
        Ok(())
    }
}

impl Stateful for Deduplicating {
    async fn apply(&mut self, batch: Batch, _: usize, context: &Context) -> Result<Outcomes> {
        self.make_room().await?;
        let Keys { keys, failed } = hash::of(&batch, self.key.as_ref(), self.secret);
        let mut kept = vec![false; batch.len()];
        let mut bad = failed.iter().map(|(index, _)| *index as usize).peekable();
        let mut duplicates = 0;
        for (index, key) in keys.iter().copied().enumerate() {
            if index % WARMED == 0 {
                self.seen.warm(&keys[index..keys.len().min(index + WARMED)]);
            }
            if bad.next_if_eq(&index).is_some() {
                continue;
            }
            if self.seen.insert(key)? {
                kept[index] = true;
                if let Some(log) = &mut self.log {
                    log.push(key)?;
                }
            } else {
                duplicates += 1;
            }
        }
        if let Some(log) = &mut self.log {
            log.sync_early();
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
        let mut changes = Changes::default();
        if let Some(log) = &mut self.log {
            let saved = Saved { end: log.sync().await?, secret: self.secret };
            if self.saved != Some(saved) {
                let json = serde_json::to_vec(&saved);
                let json = json.map_err(|error| Error::internal("numbers are JSON").with_source(error))?;
                changes.put(LOG, json);
                self.saved = Some(saved);
            }
        }
        Ok(changes)
    }

    async fn restore(&mut self, saved: Entries) -> Result<()> {
        if !self.spill.is_kept() {
            return Err(Error::configuration(
                "`deduplicate` keeps what it has seen in files, which a checkpoint names, and the engine has no place for them: name one with `EngineBuilder::state`",
            ));
        }
        let saved: Option<Saved> =
            saved.get(LOG).map(|json| serde_json::from_slice(json)).transpose().map_err(|error| {
                Error::new(ErrorKind::Validation, "what the checkpoint has of `deduplicate` cannot be read")
                    .with_source(error)
            })?;
        let end = saved.map(|saved| saved.end).unwrap_or_default();
        let (memory, spill) = (self.memory, self.spill.clone());
        let (log, seen) = blocking(move || {
            Seen::clean(&spill)?;
            let mut seen = Seen::new(memory, spill.clone());
            let log = Log::open(&spill, end, |key| {
                if !seen.has_room() {
                    seen.spill()?;
                }
                seen.insert(key).map(drop)
            });
            Ok((log?, seen))
        })
        .await?;
        self.secret = saved.map_or(self.secret, |saved| saved.secret);
        (self.seen, self.log, self.saved) = (seen, Some(log), saved);
        Ok(())
    }
}

/// How many keys are looked at ahead.
const WARMED: usize = 64;
/// Under which key a checkpoint has how much of the log there is.
const LOG: &str = "log";

#[cfg(test)]
mod tests {
    /// A number like a hash, and the next state of the dice (splitmix64).
    pub(super) fn roll(dice: &mut u64) -> u128 {
        let mut half = || {
            *dice = dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (*dice ^ (*dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            u128::from(z ^ (z >> 31))
        };
        half() << 64 | half()
    }
}
