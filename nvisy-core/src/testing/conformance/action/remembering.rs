//! The rules of an action that remembers.

use std::collections::HashSet;
use std::path::PathBuf;

use serde_json::Value;

use super::{ActionHarness, applying};
use crate::action::{Action, ErasedStateful};
use crate::batch::Batch;
use crate::checkpoint::Checkpoint;
use crate::context::Context;
use crate::error::Result;
use crate::id::{PrimitiveId, RunId};
use crate::primitive::Primitive;
use crate::spill::Spill;
use crate::testing::conformance::examiner::{Finding, Seen};

/// Why these rules say nothing about most actions.
const FORGETS: &str = "it remembers nothing";
/// More batches than anything lets go of that was fed so little.
const ENDLESS: usize = 10_000;

/// A folder that stays while an action is made anew, and is removed in the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system, which owns the folder around it.
        _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("nvisy-{}", RunId::new())))
    }

    /// Builds the action, with this folder for what it keeps; none if it does not remember.
    async fn made(
        &self,
        harness: &ActionHarness,
        seen: &Seen,
    ) -> Result<Option<Box<dyn ErasedStateful>>, String> {
        let open = harness.opened(seen).await?;
        let spill = Spill::kept(&self.0);
        let built = open.config.build(Context::detached(), &open.client, spill).await;
        match built.map_err(|error| seen.unexpected("it is not built", &error))? {
            Action::Stateful(make) => Ok(Some(make())),
            _ => Ok(None),
        }
    }
}

/// What an action gave so far, and what its last checkpoint holds.
struct Course {
    state: Box<dyn ErasedStateful>,
    given: Vec<Primitive>,
    saved: Checkpoint,
}

impl Course {
    fn new(state: Box<dyn ErasedStateful>) -> Self {
        Self { state, given: Vec::new(), saved: Checkpoint::default() }
    }

    async fn feed(&mut self, batch: Batch) -> Result<()> {
        let (len, context) = (batch.len(), Context::detached());
        let outcomes = self.state.call(batch, 0, &context).await?;
        outcomes.check(len)?;
        self.given.extend(outcomes.emitted.iter());
        self.release(false).await.map(drop)
    }

    /// Returns whether it came to an end.
    async fn release(&mut self, ended: bool) -> Result<bool> {
        for _ in 0..ENDLESS {
            match self.state.release(ended, &Context::detached()).await? {
                Some(batch) => self.given.extend(batch.iter()),
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    async fn save(&mut self) -> Result<()> {
        self.saved.apply(self.state.save().await?);
        self.state.saved().await
    }

    fn shown(&self, harness: &ActionHarness) -> Vec<(PrimitiveId, Value)> {
        self.given.iter().map(|item| (item.id(), harness.shown(item))).collect()
    }
}

pub(super) async fn goes_on_from_what_it_saved(harness: &ActionHarness, seen: &Seen) -> Finding {
    let folder = Folder::new();
    let Some(state) = folder.made(harness, seen).await? else { return Ok(Some(FORGETS)) };
    let batch = harness.batch()?;
    let broken = |error| seen.unexpected("it does not apply, save or restore", &error);
    let mut whole = Course::new(state);
    for at in 0..batch.len() {
        whole.feed(batch.slice(at, 1)).await.map_err(broken)?;
    }
    whole.release(true).await.map_err(broken)?;
    let expected = whole.shown(harness);
    drop(whole);
    // A checkpoint behind each input, and one that is forgotten again.
    for (stop, lost) in (0..=batch.len()).flat_map(|stop| [(stop, 0), (stop, 1)]) {
        if stop + lost > batch.len() {
            continue;
        }
        let folder = Folder::new();
        let again = || async { folder.made(harness, seen).await?.ok_or_else(|| FORGETS.to_owned()) };
        let mut first = Course::new(again().await?);
        let begin = first.state.restore(Checkpoint::default().entries).await;
        begin.map_err(broken)?;
        let mut last = (first.saved.clone(), 0);
        for at in 0..stop + lost {
            if at == stop {
                last = (first.saved.clone(), first.given.len());
            }
            first.feed(batch.slice(at, 1)).await.map_err(broken)?;
            first.save().await.map_err(broken)?;
        }
        if lost == 0 {
            last = (first.saved.clone(), first.given.len());
        }
        let (saved, given) = last;
        first.given.truncate(given);
        let Course { given, .. } = first;
        let mut second = Course { given, ..Course::new(again().await?) };
        second.state.restore(saved.entries).await.map_err(broken)?;
        for at in stop..batch.len() {
            second.feed(batch.slice(at, 1)).await.map_err(broken)?;
        }
        second.release(true).await.map_err(broken)?;
        let found = second.shown(harness);
        if found != expected {
            return Err(format!(
                "saved behind {stop} inputs and restored it gives {found:?}, and uninterrupted {expected:?}"
            ));
        }
    }
    Ok(None)
}

pub(super) async fn lets_go_of_what_it_absorbed(harness: &ActionHarness, seen: &Seen) -> Finding {
    let folder = Folder::new();
    let Some(state) = folder.made(harness, seen).await? else { return Ok(Some(FORGETS)) };
    let batch = applying::batch(harness.inputs.clone())?;
    let broken = |error| seen.unexpected("it does not let go", &error);
    let mut course = Course::new(state);
    course.feed(batch.without_tokens()).await.map_err(broken)?;
    let emitted = course.given.len();
    if !course.release(true).await.map_err(broken)? || !course.release(true).await.map_err(broken)? {
        return Err(format!("it goes on letting go after {ENDLESS} batches"));
    }
    let roots: Vec<_> = batch.iter().filter_map(|item| item.root()).collect();
    let mut ids = HashSet::new();
    for item in &course.given[emitted..] {
        if !ids.insert(item.id()) {
            return Err(format!("it lets go of item {} twice", item.id()));
        }
        let lineage = item.lineage().roots();
        if lineage.is_empty() || !lineage.iter().all(|root| roots.contains(root)) {
            return Err(format!("item {} does not lead back to the inputs", item.id()));
        }
    }
    Ok(None)
}
