//! Applying an action in whichever form it is.

use futures::StreamExt;
use serde_json::Value;

use super::{ActionHarness, OpenAction};
use crate::action::Action;
use crate::batch::Batch;
use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PrimitiveId, SourceIdentity};
use crate::outcome::{Outcome, Outcomes};
use crate::position::Positions;
use crate::primitive::{Payload, Primitive};
use crate::spill::Spill;
use crate::testing::conformance::examiner::Seen;

/// What became of an input.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Became {
    Items(Vec<(PrimitiveId, Value)>),
    Dropped,
    Failed(ErrorKind),
}

impl ActionHarness {
    pub(super) async fn opened(&self, seen: &Seen) -> Result<OpenAction, String> {
        (self.open)().await.map_err(|error| seen.unexpected("it does not open", &error))
    }

    pub(super) async fn built(&self, seen: &Seen) -> Result<Action, String> {
        self.opened(seen)
            .await?
            .build(&Context::detached())
            .await
            .map_err(|e| seen.unexpected("it is not built", &e))
    }

    /// Returns a batch of all inputs, whose ids their order decides.
    pub(super) fn batch(&self) -> Result<Batch, String> {
        batch(self.inputs.clone())
    }

    pub(super) fn shown(&self, item: &Primitive) -> Value {
        (self.show)(item.payload())
    }

    /// Applies a new action to a batch, and says what became of each input.
    pub(super) async fn became(&self, batch: &Batch, seen: &Seen) -> Result<Vec<Became>, String> {
        let action = self.built(seen).await?;
        let outcomes = applied(&action, batch, &Context::detached(), seen).await?;
        Ok(self.by_input(batch.len(), &outcomes))
    }

    pub(super) fn by_input(&self, inputs: usize, outcomes: &Outcomes) -> Vec<Became> {
        let mut became = vec![Became::Dropped; inputs];
        for (index, item) in outcomes.emitted.iter().enumerate() {
            let emitted = (item.id(), self.shown(&item));
            match became.get_mut(outcomes.attribution.of(index) as usize) {
                Some(Became::Items(items)) => items.push(emitted),
                Some(other) => *other = Became::Items(vec![emitted]),
                None => {}
            }
        }
        for (index, error) in &outcomes.failed {
            if let Some(other) = became.get_mut(*index as usize) {
                *other = Became::Failed(error.kind());
            }
        }
        became
    }
}

impl OpenAction {
    pub(super) async fn build(&self, context: &Context) -> Result<Action> {
        self.config.build(context.clone(), &self.client, Spill::temporary()).await
    }
}

pub(super) fn batch(payloads: Vec<Payload>) -> Result<Batch, String> {
    let (context, source) =
        (Context::new("conformance", "origin", "read"), SourceIdentity::new("conformance"));
    let batch = Batch::read(payloads, Positions::from(0), &source, context.step(), context.metadata());
    batch.map_err(|error| error.to_string())
}

/// Applies an action. The outcomes have to account for every input.
pub(super) async fn applied(
    action: &Action,
    batch: &Batch,
    context: &Context,
    seen: &Seen,
) -> Result<Outcomes, String> {
    let outcomes = apply(action, batch.without_tokens(), context)
        .await
        .map_err(|error| seen.unexpected("it does not apply", &error))?;
    outcomes.check(batch.len()).map_err(|error| error.to_string())?;
    outcomes.failed.iter().for_each(|(_, error)| seen.error(error));
    Ok(outcomes)
}

/// Applies an action to a batch, in one call where its form allows it.
pub(super) async fn apply(action: &Action, batch: Batch, context: &Context) -> Result<Outcomes> {
    match action {
        Action::Transform(transform) => {
            let mut outcomes = Vec::with_capacity(batch.len());
            for item in batch.iter() {
                outcomes.push(transform.call(item, context).await.unwrap_or_else(Outcome::Fail));
            }
            Outcomes::collect(&batch, &context.step(), outcomes)
        }
        Action::Batch(action) => action.call(batch, context).await,
        Action::Stateful(make) => make().call(batch, 0, context).await,
        Action::Pipe(_) => Err(Error::internal("a pipe attributes nothing to single inputs")),
    }
}

/// Applies a pipe to one epoch of batches.
pub(super) async fn piped(
    action: &Action,
    batches: Vec<Batch>,
    context: &Context,
) -> Result<Option<Vec<Primitive>>> {
    let Action::Pipe(pipe) = action else { return Ok(None) };
    let mut output = pipe.call(futures::stream::iter(batches).boxed(), context);
    let mut items = Vec::new();
    while let Some(batch) = output.next().await {
        items.extend(batch?.iter());
    }
    Ok(Some(items))
}
