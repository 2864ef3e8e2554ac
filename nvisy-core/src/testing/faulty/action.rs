//! An action whose calls meet faults.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};

use super::script::{Course, Script, Site};
use crate::action::{Action, Calls, ErasedBatch, ErasedPipe, ErasedStateful, ErasedTransform};
use crate::batch::{Batch, BatchLimits};
use crate::checkpoint::{Changes, Entries};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::outcome::{Attribution, Outcome, Outcomes};
use crate::plugin::{AnyClient, ErasedActionConfig};
use crate::primitive::{Any, Kinds, Primitive};
use crate::spill::Spill;

/// Wraps an action, in whichever form it is: its calls meet the faults of a script.
#[must_use]
pub fn action(action: Action, script: &Script) -> Action {
    let script = script.clone();
    match action {
        Action::Transform(inner) => Action::Transform(Arc::new(Faulty { inner, script })),
        Action::Batch(inner) => Action::Batch(Arc::new(Faulty { inner, script })),
        Action::Stateful(make) => {
            Action::Stateful(Arc::new(move || Box::new(Faulty { inner: make(), script: script.clone() })))
        }
        Action::Pipe(inner) => Action::Pipe(Arc::new(Faulty { inner, script })),
    }
}

/// Wraps an action's config: building it and the calls of what it builds meet the faults of a
/// script.
#[must_use]
pub fn action_config(config: Arc<dyn ErasedActionConfig>, script: &Script) -> Arc<dyn ErasedActionConfig> {
    Arc::new(FaultyConfig { config, script: script.clone() })
}

struct Faulty<T> {
    inner: T,
    script: Script,
}

impl ErasedTransform for Faulty<Arc<dyn ErasedTransform>> {
    fn call<'a>(&'a self, item: Primitive, context: &'a Context) -> BoxFuture<'a, Result<Outcome<Any>>> {
        Box::pin(self.script.around(Site::Apply, self.inner.call(item, context)))
    }
}

impl ErasedBatch for Faulty<Arc<dyn ErasedBatch>> {
    fn call<'a>(&'a self, batch: Batch, context: &'a Context) -> BoxFuture<'a, Result<Outcomes>> {
        let inner = &self.inner;
        Box::pin(apply(&self.script, batch, move |batch| inner.call(batch, context)))
    }

    fn weigh(&self, item: &Primitive) -> u64 {
        self.inner.weigh(item)
    }

    fn weighs(&self) -> bool {
        self.inner.weighs()
    }
}

impl ErasedStateful for Faulty<Box<dyn ErasedStateful>> {
    fn call<'a>(
        &'a mut self,
        batch: Batch,
        from: usize,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Outcomes>> {
        let Self { inner, script } = self;
        Box::pin(apply(script, batch, move |batch| inner.call(batch, from, context)))
    }

    fn release<'a>(&'a mut self, ended: bool, context: &'a Context) -> BoxFuture<'a, Result<Option<Batch>>> {
        self.inner.release(ended, context)
    }

    fn is_holding(&self) -> Option<bool> {
        self.inner.is_holding()
    }

    fn save(&mut self) -> BoxFuture<'_, Result<Changes>> {
        self.inner.save()
    }

    fn saved(&mut self) -> BoxFuture<'_, Result<()>> {
        self.inner.saved()
    }

    fn restore(&mut self, saved: Entries) -> BoxFuture<'_, Result<()>> {
        self.inner.restore(saved)
    }
}

/// Calls with a batch, or with every second item of it: the others fail.
async fn apply<'a>(
    script: &Script,
    batch: Batch,
    call: impl FnOnce(Batch) -> BoxFuture<'a, Result<Outcomes>>,
) -> Result<Outcomes> {
    match script.meet(Site::Apply).await? {
        Course::Whole => call(batch).await,
        Course::ThenFail(error) => {
            call(batch).await?;
            Err(error)
        }
        Course::Half(error) => {
            let good: Vec<u32> = (1..batch.len() as u32).step_by(2).collect();
            let bad = (0..batch.len() as u32).step_by(2);
            let outcomes = call(batch.without_tokens().select(&good)).await?;
            Ok(among(outcomes, &good, bad.map(|index| (index, error.clone()))))
        }
    }
}

/// Returns the outcomes of the inputs `good` as those of a batch where the others failed.
fn among(outcomes: Outcomes, good: &[u32], bad: impl Iterator<Item = (u32, Error)>) -> Outcomes {
    let original = |index: u32| good.get(index as usize).copied().unwrap_or(u32::MAX);
    let each = (0..outcomes.emitted.len()).map(|index| original(outcomes.attribution.of(index)));
    let attribution = Attribution::Each(each.collect());
    let mut failed: Vec<_> =
        outcomes.failed.into_iter().map(|(index, error)| (original(index), error)).collect();
    failed.extend(bad);
    failed.sort_by_key(|(index, _)| *index);
    Outcomes {
        emitted: outcomes.emitted,
        attribution,
        dropped: outcomes.dropped,
        absorbed: outcomes.absorbed,
        failed,
    }
}

impl ErasedPipe for Faulty<Arc<dyn ErasedPipe>> {
    fn call<'a>(&'a self, input: BoxStream<'a, Batch>, context: &'a Context) -> BoxStream<'a, Result<Batch>> {
        async_stream::try_stream! {
            let course = self.script.meet(Site::Apply).await?;
            let mut output = self.inner.call(input, context);
            let mut given = 0;
            while let Some(batch) = output.next().await {
                yield batch?;
                given += 1;
                if given == 1 && let Course::Half(error) = &course {
                    Err(error.clone())?;
                }
            }
            if let Course::Half(error) | Course::ThenFail(error) = course {
                Err(error)?;
            }
        }
        .boxed()
    }
}

#[derive(Debug)]
struct FaultyConfig {
    config: Arc<dyn ErasedActionConfig>,
    script: Script,
}

impl ErasedActionConfig for FaultyConfig {
    fn inputs(&self) -> usize {
        self.config.inputs()
    }

    fn type_kinds(&self) -> Kinds {
        self.config.type_kinds()
    }

    fn input_kinds(&self) -> Kinds {
        self.config.input_kinds()
    }

    fn output_kinds(&self, input: Kinds) -> Kinds {
        self.config.output_kinds(input)
    }

    fn calls(&self) -> Calls {
        self.config.calls()
    }

    fn version(&self) -> &'static str {
        self.config.version()
    }

    fn optimum(&self) -> Option<BatchLimits> {
        self.config.optimum()
    }

    fn is_columnar(&self) -> bool {
        self.config.is_columnar()
    }

    fn build<'a>(
        &'a self,
        context: Context,
        client: &'a AnyClient,
        spill: Spill,
    ) -> BoxFuture<'a, Result<Action>> {
        Box::pin(async move {
            let built = self.script.around(Site::Build, self.config.build(context, client, spill)).await?;
            Ok(action(built, &self.script))
        })
    }
}
