//! An action that absorbs its items, and lets go of them later.

use std::collections::VecDeque;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::{Action, ActionConfig, Stateful};
use crate::batch::Batch;
use crate::checkpoint::{Changes, Entries};
use crate::connection::NoClient;
use crate::context::{Context, OpenContext};
use crate::error::{Error, Result};
use crate::outcome::{Attribution, Outcomes};
use crate::primitive::{Any, Kind, Primitive};

/// Keeps so many items to itself, and lets the oldest go when there are more, or when no more
/// come: `memory/hoard`. What it keeps is part of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hoard {
    /// How many items it keeps. Default all of them.
    keep: usize,
    /// How many it lets go of at once, at the most. Default 10.
    batch_items: usize,
}

impl Default for Hoard {
    fn default() -> Self {
        Self { keep: usize::MAX, batch_items: 10 }
    }
}

impl Hoard {
    /// Keeps so many items at the most.
    #[must_use]
    pub fn keeping(items: usize) -> Self {
        Self { keep: items, ..Self::default() }
    }
}

impl ActionConfig for Hoard {
    const NAME: &'static str = "memory/hoard";
    type Input = Any;
    type Output<In: Kind> = In;
    type Client = NoClient;

    async fn build(&self, _: &OpenContext) -> Result<Action> {
        let config = self.clone();
        let empty = move || Hoarding { config: config.clone(), ..Hoarding::default() };
        Ok(Action::stateful(empty))
    }
}

#[derive(Default)]
struct Hoarding {
    config: Hoard,
    items: VecDeque<Primitive>,
    /// How many items have gone.
    gone: u64,
    /// How many items had gone, and how many had come, when it was saved last.
    saved: (u64, u64),
}

impl Stateful for Hoarding {
    async fn apply(&mut self, batch: Batch, _: usize, _: &Context) -> Result<Outcomes> {
        self.items.extend(batch.iter());
        Ok(Outcomes {
            emitted: Batch::empty(),
            attribution: Attribution::Each(Vec::new()),
            dropped: Vec::new(),
            absorbed: batch.len() as u64,
            failed: Vec::new(),
        })
    }

    async fn release(&mut self, ended: bool, context: &Context) -> Result<Option<Batch>> {
        let keep = if ended { 0 } else { self.config.keep };
        let go = self.items.len().saturating_sub(keep).min(self.config.batch_items.max(1));
        if go == 0 {
            return Ok(None);
        }
        self.gone += go as u64;
        let batch = Batch::from_primitives(self.items.drain(..go).collect());
        Ok(Some(batch.edited(&context.step())))
    }

    async fn save(&mut self) -> Result<Changes> {
        let mut changes = Changes::default();
        let (gone, come) = self.saved;
        (gone..self.gone).for_each(|number| _ = changes.remove(key(number)));
        for (number, item) in (self.gone..).zip(&self.items).filter(|(number, _)| *number >= come) {
            let json = serde_json::to_vec(item);
            let json = json.map_err(|error| Error::internal("an item is JSON").with_source(error))?;
            changes.put(key(number), json);
        }
        changes.put("gone", self.gone.to_string());
        self.saved = (self.gone, self.gone + self.items.len() as u64);
        Ok(changes)
    }

    async fn restore(&mut self, saved: Entries) -> Result<()> {
        let wrong = || Error::internal("what a hoard has saved cannot be read");
        for (key, bytes) in &saved {
            if key == "gone" {
                let gone = std::str::from_utf8(bytes).ok().and_then(|gone| gone.parse().ok());
                self.gone = gone.ok_or_else(wrong)?;
            } else {
                self.items.push_back(read(bytes).ok_or_else(wrong)?);
            }
        }
        self.saved = (self.gone, self.gone + self.items.len() as u64);
        Ok(())
    }
}

/// Behind `gone`, and in order.
fn key(number: u64) -> String {
    format!("item/{number:020}")
}

fn read(bytes: &Bytes) -> Option<Primitive> {
    serde_json::from_slice(bytes).ok()
}
