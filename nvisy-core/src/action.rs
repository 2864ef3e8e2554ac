//! What changes items: four forms, one outcome an input.
//!
//! | form | for |
//! |---|---|
//! | [`Transform`] | one item in, one [`Outcome`] out: most code |
//! | [`BatchTransform`] | many in, one outcome each: calls that take many at once |
//! | [`Stateful`] | batches in, with memory of what came before |
//! | [`Pipe`] | a stream in, a stream out: full control, the escape hatch |
//!
//! Beneath the first two lies [`Columnar`]: a whole batch in, [`Outcomes`] out, for those who
//! want the fast path over Arrow rows.

mod erased;

use std::any::TypeId;
use std::fmt;
use std::sync::Arc;

use futures::Stream;
use futures::stream::BoxStream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::erased::{ErasedBatch, ErasedPipe, ErasedStateful, ErasedTransform};
use crate::batch::{Batch, BatchLimits};
use crate::checkpoint::{Changes, Entries};
use crate::config::{Config, Problem};
use crate::connection::{Client, NoClient};
use crate::context::{Context, OpenContext};
use crate::error::Result;
use crate::outcome::{Outcome, Outcomes};
use crate::primitive::{Item, Kind, Kinds};

/// What an action's calls cost others: it decides about permits, retries and batch sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Calls {
    /// It computes, and calls nobody.
    #[default]
    None,
    /// It calls another system; a repetition does no harm.
    Idempotent,
    /// It calls another system and pays for it; a repetition costs again.
    Paid,
}

/// Changes one item at a time: the form for most code.
///
/// The engine adds concurrency, retry, timeout, dead letters, order, the ledger, lineage and
/// ids. A type that is also a [`Config`] is a node at once: see [`ActionConfig`].
///
/// # Contract
///
/// 1. One [`Outcome`] an input. An `Err` is the outcome of an attempt: if it is transient, the
///    engine may try again with the same item.
/// 2. What is emitted is an edit ([`Item::with`], the id stays) or derived
///    ([`Item::derive`], an ordinal each).
/// 3. Its future may be dropped at any await.
///
/// # Examples
///
/// ```
/// use nvisy_core::prelude::*;
/// use nvisy_core::primitive::document::Document;
///
/// /// Shouts.
/// #[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema, serde::Serialize)]
/// struct Shout {}
///
/// impl Transform for Shout {
///     const NAME: &'static str = "acme/shout";
///     type Input = Document;
///     type Output = Document;
///
///     async fn transform(&self, document: Item<Document>, _: &Context) -> Result<Outcome<Document>> {
///         Ok(Outcome::emit(document.map_text(|text| text.to_uppercase())?))
///     }
/// }
/// ```
pub trait Transform: Send + Sync + 'static {
    /// The name that graphs use, such as `acme/mask`.
    const NAME: &'static str;
    /// What it takes.
    type Input: Kind;
    /// What it makes.
    type Output: Kind;

    /// Changes one item.
    fn transform(
        &self,
        item: Item<Self::Input>,
        context: &Context,
    ) -> impl Future<Output = Result<Outcome<Self::Output>>> + Send;

    /// Returns what its calls cost others: see [`ActionConfig::calls`]. Default [`Calls::None`].
    fn calls(&self) -> Calls {
        Calls::None
    }

    /// Returns the version of what it makes: see [`ActionConfig::version`].
    fn version(&self) -> &'static str {
        ""
    }

    /// Returns what is wrong with the config that its types do not say. Pure.
    fn validate(&self) -> Vec<Problem> {
        Vec::new()
    }
}

/// Changes many items in one call: embedding, batch inference.
///
/// The engine cuts batches to size, and finds the bad items of a failed batch by halving it.
///
/// # Contract
///
/// 1. As many outcomes as items, in their order.
/// 2. An `Err` is for the whole call: nothing of it counts.
pub trait BatchTransform: Send + Sync + 'static {
    /// What it takes.
    type Input: Kind;
    /// What it makes.
    type Output: Kind;

    /// Changes a batch of items.
    fn transform(
        &self,
        items: Vec<Item<Self::Input>>,
        context: &Context,
    ) -> impl Future<Output = Result<Vec<Outcome<Self::Output>>>> + Send;

    /// Returns how many model tokens an item weighs, where they are counted. Default none.
    fn weigh(&self, item: &Item<Self::Input>) -> u64 {
        let _ = item;
        0
    }
}

/// Changes a whole batch, in whichever layout it comes.
///
/// # Contract
///
/// 1. The [`Outcomes`] account for every input once; the engine checks.
/// 2. What is emitted carries its lineage: [`Batch::edited`] and [`Batch::derive`] write it.
/// 3. It holds nothing back.
pub trait Columnar: Send + Sync + 'static {
    /// Changes a batch. It comes without tokens.
    fn apply(&self, batch: Batch, context: &Context) -> impl Future<Output = Result<Outcomes>> + Send;
}

/// Changes batches with memory of what came before.
///
/// One at a time, in order, never retried: a failure fails the node.
///
/// # Contract
///
/// 1. What it keeps of an input counts as [absorbed](Outcomes::absorbed), and comes out of
///    [`release`](Self::release) at a time of its own. When it is asked for that is not part of
///    its input: a checkpoint puts it off.
/// 2. The same input in the same order gives the same output under the same ids: after a crash a
///    part of the input comes again.
/// 3. [`save`](Self::save) and then [`restore`](Self::restore) give an action that does what this
///    one would.
///
/// What does not fit into memory goes to the folder of [`OpenContext::spill`].
pub trait Stateful: Send + 'static {
    /// Changes a batch, which comes without tokens, `from` one of its inputs: 0 but for actions
    /// that have several.
    fn apply(
        &mut self,
        batch: Batch,
        from: usize,
        context: &Context,
    ) -> impl Future<Output = Result<Outcomes>> + Send;

    /// Lets go of a batch of what it has absorbed, if there is any: asked again and again before
    /// the first batch, after each, and when all of its input has come and `ended`, until there is
    /// none. Default none.
    ///
    /// What it gives has ids and lineage; to the engine it is as if a source had read it. Of an
    /// input that ends before all of it came, because a node failed or the run was drained, the
    /// rest stays absorbed.
    fn release(
        &mut self,
        ended: bool,
        context: &Context,
    ) -> impl Future<Output = Result<Option<Batch>>> + Send {
        let _ = (ended, context);
        std::future::ready(Ok(None))
    }

    /// Returns whether something of what it has absorbed is still to come out, where it can tell.
    /// Default none: then as many items are taken to come out as went in.
    ///
    /// Asked when its input has ended before all of it came, because a node failed or the run was
    /// told to stop: what has not come out then stays absorbed, and the run says so.
    fn is_holding(&self) -> Option<bool> {
        None
    }

    /// Returns what a checkpoint has to hold of it, as changes since the last time.
    ///
    /// Called while nothing is on its way. What is large goes into files of the
    /// [spill](OpenContext::spill), durable before this returns, and the changes name them.
    fn save(&mut self) -> impl Future<Output = Result<Changes>> + Send;

    /// The checkpoint with what was [saved](Self::save) last is durable: files that neither it
    /// nor the one before it names may be deleted. Default nothing.
    fn saved(&mut self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Takes up what checkpoints hold of it, before the first batch: in every run that makes
    /// checkpoints, also with nothing where it begins anew.
    ///
    /// It may be older than what was saved last: what the files of the spill have beyond that is
    /// to be forgotten.
    ///
    /// # Errors
    ///
    /// `validation` if it cannot be read.
    fn restore(&mut self, saved: Entries) -> impl Future<Output = Result<()>> + Send;
}

/// Changes a stream of batches: the escape hatch.
///
/// The engine calls it once an *epoch*, a finite stretch of the input: all that comes out of
/// one belongs to all that went in. There is no retry of items.
pub trait Pipe: Send + Sync + 'static {
    /// Changes a finite stream of batches, which come without tokens.
    fn pipe<'a>(
        &'a self,
        input: BoxStream<'a, Batch>,
        context: &'a Context,
    ) -> impl Stream<Item = Result<Batch>> + Send + 'a;
}

/// Describes an action node, and builds it.
///
/// A type that is both a [`Transform`] and a [`Config`] is one already. The other forms are
/// built by hand:
///
/// ```
/// use nvisy_core::prelude::*;
/// use nvisy_core::primitive::document::Document;
///
/// /// Drops every other document of a batch.
/// #[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema, serde::Serialize)]
/// struct Halve {}
///
/// impl BatchTransform for Halve {
///     type Input = Document;
///     type Output = Document;
///
///     async fn transform(&self, items: Vec<Item<Document>>, _: &Context) -> Result<Vec<Outcome<Document>>> {
///         let halve = |(i, item)| if i % 2 == 0 { Outcome::emit(item) } else { Outcome::drop("odd") };
///         Ok(items.into_iter().enumerate().map(halve).collect())
///     }
/// }
///
/// impl ActionConfig for Halve {
///     const NAME: &'static str = "acme/halve";
///     type Input = Document;
///     type Output<In: Kind> = Document;
///     type Client = NoClient;
///
///     async fn build(&self, _: &OpenContext) -> Result<Action> {
///         Ok(Action::batch(self.clone()))
///     }
/// }
/// ```
pub trait ActionConfig: Config {
    /// The name that graphs use, such as `filter`.
    const NAME: &'static str;
    /// What it takes.
    type Input: Kind;
    /// What it makes of what; `In` for an action that keeps the kind.
    type Output<In: Kind>: Kind;
    /// The client that it works through.
    type Client: Client;

    /// Returns the kinds that it takes, where the config decides.
    fn input_kinds(&self) -> Kinds {
        Self::Input::KINDS
    }

    /// Returns the kinds that it makes of what, where the config decides. Default: what
    /// [`Output`](Self::Output) says; where that is any kind, what comes in.
    fn output_kinds(&self, input: Kinds) -> Kinds {
        let kinds = <Self::Output<Self::Input> as Kind>::KINDS;
        if kinds == Kinds::ANY { input } else { kinds }
    }

    /// Returns how many inputs it has, which it tells apart by their order: see
    /// [`Stateful::apply`]. Default one.
    fn inputs(&self) -> usize {
        1
    }

    /// Returns what its calls cost others. Default [`Calls::None`] without a client, and
    /// [`Calls::Idempotent`] with one.
    ///
    /// Where it calls somebody without a client, it has to say so: what calls nobody is not tried
    /// again, counts for no limit, and does its work in a dry run, too.
    fn calls(&self) -> Calls {
        if TypeId::of::<Self::Client>() == TypeId::of::<NoClient>() { Calls::None } else { Calls::Idempotent }
    }

    /// Returns the version of what it makes: another one where the same input and config give
    /// something else than before. What a memo keeps of paid calls is for one version, and an
    /// incremental run makes everything again in another one. Such as that of its crate, and a number: `concat!(env!("CARGO_PKG_VERSION"), "/1")`. Default none.
    fn version(&self) -> &'static str {
        ""
    }

    /// Returns how large batches are best, if it matters.
    fn optimum(&self) -> Option<BatchLimits> {
        None
    }

    /// Returns whether it works on Arrow rows without touching one. Default no.
    fn is_columnar(&self) -> bool {
        false
    }

    /// Returns what is wrong with the config that its types do not say. Pure.
    fn validate(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// Builds the action.
    fn build(&self, context: &OpenContext<Self::Client>) -> impl Future<Output = Result<Action>> + Send;
}

impl<T: Transform + Config> ActionConfig for T {
    const NAME: &'static str = <T as Transform>::NAME;
    type Input = <T as Transform>::Input;
    type Output<In: Kind> = <T as Transform>::Output;
    type Client = NoClient;

    fn output_kinds(&self, _: Kinds) -> Kinds {
        <T as Transform>::Output::KINDS
    }

    fn calls(&self) -> Calls {
        Transform::calls(self)
    }

    fn version(&self) -> &'static str {
        Transform::version(self)
    }

    fn validate(&self) -> Vec<Problem> {
        Transform::validate(self)
    }

    async fn build(&self, _: &OpenContext) -> Result<Action> {
        Ok(Action::transform(self.clone()))
    }
}

/// An action that is ready to work, in whichever form it was written.
#[derive(Clone)]
pub enum Action {
    /// One item at a time.
    Transform(Arc<dyn ErasedTransform>),
    /// A batch at a time.
    Batch(Arc<dyn ErasedBatch>),
    /// With memory; a new one for each run.
    Stateful(Arc<dyn Fn() -> Box<dyn ErasedStateful> + Send + Sync>),
    /// Streams.
    Pipe(Arc<dyn ErasedPipe>),
}

impl Action {
    /// Wraps a [`Transform`].
    #[must_use]
    pub fn transform(transform: impl Transform) -> Self {
        Self::Transform(Arc::new(transform))
    }

    /// Wraps a [`BatchTransform`].
    #[must_use]
    pub fn batch(transform: impl BatchTransform) -> Self {
        Self::Batch(Arc::new(erased::Slices(transform)))
    }

    /// Wraps a [`Columnar`] action.
    #[must_use]
    pub fn columnar(action: impl Columnar) -> Self {
        Self::Batch(Arc::new(erased::Columns(action)))
    }

    /// Wraps a function that changes one item without waiting for anything. It runs a whole
    /// batch in one go; a panic fails the one item.
    #[must_use]
    pub fn function<I: Kind, O: Kind>(
        function: impl Fn(Item<I>) -> Result<Outcome<O>> + Send + Sync + 'static,
    ) -> Self {
        Self::Batch(Arc::new(erased::Function::new(function)))
    }

    /// Wraps a maker of [`Stateful`] actions.
    #[must_use]
    pub fn stateful<S: Stateful>(make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self::Stateful(Arc::new(move || Box::new(make())))
    }

    /// Wraps a [`Pipe`].
    #[must_use]
    pub fn pipe(pipe: impl Pipe) -> Self {
        Self::Pipe(Arc::new(pipe))
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Transform(_) => "Action::Transform",
            Self::Batch(_) => "Action::Batch",
            Self::Stateful(_) => "Action::Stateful",
            Self::Pipe(_) => "Action::Pipe",
        })
    }
}
