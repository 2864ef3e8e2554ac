//! An action that hands its items on, in whichever form of action is wanted.

use futures::stream::{BoxStream, Stream, StreamExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::action::{Action, ActionConfig, BatchTransform, Calls, Columnar, Pipe, Stateful, Transform};
use crate::batch::Batch;
use crate::checkpoint::{Changes, Entries};
use crate::connection::NoClient;
use crate::context::{Context, OpenContext};
use crate::error::Result;
use crate::outcome::{Outcome, Outcomes};
use crate::primitive::{Any, Item, Kind};
use crate::testing::yields::yields;

/// Hands items on unchanged: `memory/relay`. What an action costs that does nothing, and what
/// to wrap in faults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// The form of action that it takes. Default `transform`.
    #[serde(default)]
    form: Form,
    /// What it says that its calls cost. Default `none`.
    #[serde(default)]
    calls: Calls,
    /// How often each call lets others go first. Default never.
    #[serde(default)]
    yields: u32,
}

/// A form of action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// [`Transform`].
    #[default]
    Transform,
    /// [`BatchTransform`].
    Batch,
    /// [`Columnar`].
    Columnar,
    /// [`Stateful`].
    Stateful,
    /// [`Pipe`].
    Pipe,
}

impl Form {
    /// Every form, in order.
    pub const ALL: [Self; 5] = [Self::Transform, Self::Batch, Self::Columnar, Self::Stateful, Self::Pipe];
}

impl Relay {
    /// Takes a form.
    #[must_use]
    pub fn new(form: Form) -> Self {
        Self { form, ..Self::default() }
    }

    /// Says what its calls cost. Default [`Calls::None`].
    #[must_use]
    pub fn with_calls(mut self, calls: Calls) -> Self {
        self.calls = calls;
        self
    }

    /// Lets others go first so many times in each call. Default never.
    #[must_use]
    pub fn yielding(mut self, times: u32) -> Self {
        self.yields = times;
        self
    }
}

impl ActionConfig for Relay {
    const NAME: &'static str = "memory/relay";
    type Input = Any;
    type Output<In: Kind> = In;
    type Client = NoClient;

    fn calls(&self) -> Calls {
        self.calls
    }

    async fn build(&self, _: &OpenContext) -> Result<Action> {
        let ready = Ready { yields: self.yields };
        Ok(match self.form {
            Form::Transform => Action::transform(ready),
            Form::Batch => Action::batch(ready),
            Form::Columnar => Action::columnar(ready),
            Form::Stateful => Action::stateful(move || ready),
            Form::Pipe => Action::pipe(ready),
        })
    }
}

#[derive(Clone, Copy)]
struct Ready {
    yields: u32,
}

impl Transform for Ready {
    const NAME: &'static str = Relay::NAME;
    type Input = Any;
    type Output = Any;

    async fn transform(&self, item: Item, _: &Context) -> Result<Outcome> {
        yields(self.yields).await;
        Ok(Outcome::emit(item))
    }
}

impl BatchTransform for Ready {
    type Input = Any;
    type Output = Any;

    async fn transform(&self, items: Vec<Item>, _: &Context) -> Result<Vec<Outcome>> {
        yields(self.yields).await;
        Ok(items.into_iter().map(Outcome::emit).collect())
    }
}

impl Columnar for Ready {
    async fn apply(&self, batch: Batch, context: &Context) -> Result<Outcomes> {
        yields(self.yields).await;
        Ok(Outcomes::same(batch.edited(&context.step())))
    }
}

impl Stateful for Ready {
    async fn apply(&mut self, batch: Batch, _: usize, context: &Context) -> Result<Outcomes> {
        yields(self.yields).await;
        Ok(Outcomes::same(batch.edited(&context.step())))
    }

    async fn save(&mut self) -> Result<Changes> {
        Ok(Changes::default())
    }

    async fn restore(&mut self, _: Entries) -> Result<()> {
        Ok(())
    }
}

impl Pipe for Ready {
    fn pipe<'a>(
        &'a self,
        input: BoxStream<'a, Batch>,
        context: &'a Context,
    ) -> impl Stream<Item = Result<Batch>> + Send + 'a {
        input.then(move |batch| async move {
            yields(self.yields).await;
            Ok(batch.edited(&context.step()))
        })
    }
}
