//! Where items come from.

use futures::Stream;

use crate::batch::Batch;
use crate::config::{Config, Problem};
use crate::connection::Client;
use crate::context::{OpenContext, ReadContext};
use crate::error::{Error, Result};
use crate::id::SourceIdentity;
use crate::position::{Partition, Position};
use crate::primitive::{Kind, Kinds, Primitive};

/// Reads items from a system, partition by partition, each with its position.
///
/// The type is the node's config: what one writes in Rust is what serializes.
///
/// # Contract
///
/// 1. [`read`](Self::read) is lazy: nothing is fetched before the first poll, and at most one
///    page ahead.
/// 2. Reading again gives the same items with the same positions, in the same order, as long
///    as the system holds the same.
/// 3. Reading after the position of any item goes on with the next one: none twice, none
///    missing. The position after a batch is that of its last item or behind it.
/// 4. A record that cannot be read is [rejected](Rejected) with its place; the rest arrives.
/// 5. Dropping the stream at any point leaves nothing behind.
///
/// # Errors
///
/// An error ends the stream of its partition. If it is transient, the engine reads again
/// after the last position that was emitted.
///
/// # Examples
///
/// ```
/// use futures::{Stream, StreamExt, stream};
/// use nvisy_core::prelude::*;
/// use nvisy_core::primitive::raw::Raw;
///
/// /// Counts up to a number.
/// #[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema, serde::Serialize)]
/// struct Count {
///     to: u64,
/// }
///
/// impl Source for Count {
///     const NAME: &'static str = "acme/count";
///     type Output = Raw;
///     type Client = NoClient;
///
///     fn identity(&self, _: &NoClient) -> SourceIdentity {
///         SourceIdentity::new("acme/count")
///     }
///
///     fn read(
///         &self,
///         _: &Partition,
///         after: Option<Position>,
///         context: &ReadContext,
///     ) -> impl Stream<Item = Result<SourceBatch>> + Send {
///         let start = match after {
///             Some(Position::Offset(last)) => last + 1,
///             _ => 0,
///         };
///         let size = context.limits().items as u64;
///         stream::iter((start..self.to).step_by(size as usize)).map(move |first| {
///             let end = (first + size).min(self.to);
///             let numbers = (first..end).map(|n| Raw::Json(n.into()));
///             context.items(numbers, Positions::from(first), Position::Offset(end - 1))
///         })
///     }
/// }
/// ```
pub trait Source: Config {
    /// The name that graphs use, such as `sql/sqlite`.
    const NAME: &'static str;
    /// What it reads.
    type Output: Kind;
    /// The client that it reads through.
    type Client: Client;

    /// Names what is read, apart from every node and graph: it is half of every item's id.
    fn identity(&self, client: &Self::Client) -> SourceIdentity;

    /// Returns the kinds that it reads, where the config decides.
    fn output_kinds(&self) -> Kinds {
        Self::Output::KINDS
    }

    /// Returns what is wrong with the config that its types do not say. Pure.
    fn validate(&self) -> Vec<Problem> {
        Vec::new()
    }

    /// Returns the parts that can be read in parallel. Default one.
    fn partitions(
        &self,
        context: &OpenContext<Self::Client>,
    ) -> impl Future<Output = Result<Vec<Partition>>> + Send {
        let _ = context;
        async { Ok(vec![Partition::whole()]) }
    }

    /// Reads a partition, from its beginning or after a position.
    fn read(
        &self,
        partition: &Partition,
        after: Option<Position>,
        context: &ReadContext<Self::Client>,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send;
}

/// What a source read in one go.
#[derive(Debug)]
pub struct SourceBatch {
    /// The items.
    pub batch: Batch,
    /// The position after which reading goes on.
    pub after: Position,
    /// What could not be read.
    pub rejected: Vec<Rejected>,
}

impl SourceBatch {
    /// Pairs a batch with the position after it.
    #[must_use]
    pub fn new(batch: Batch, after: Position) -> Self {
        Self { batch, after, rejected: Vec::new() }
    }

    /// Adds what could not be read.
    #[must_use]
    pub fn with_rejected(mut self, rejected: Vec<Rejected>) -> Self {
        self.rejected = rejected;
        self
    }
}

/// A record that could not be read, as it stands in the source, and why.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// The record, as a `raw` payload with its position.
    pub primitive: Primitive,
    /// Why it could not be read: names the file, the line and the byte where there are such.
    pub error: Error,
}
