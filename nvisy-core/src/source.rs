//! Where items come from.

use std::sync::Arc;

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
/// 6. No two items have one position, in whatever partition: an item's id is made of the source's
///    identity and its position, and the partition is no part of it. Where offsets begin anew in
///    each partition, name it: `Positions::rows(partition.id.clone(), first)` and
///    [`Position::Marker`].
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
    ///
    /// The engine reads one at a time, unless the node's `concurrency` says more. No two of them
    /// may give one position.
    fn partitions(
        &self,
        context: &OpenContext<Self::Client>,
    ) -> impl Future<Output = Result<Vec<Partition>>> + Send {
        let _ = context;
        async { Ok(vec![Partition::whole()]) }
    }

    /// Returns how it tells what has changed since it was read, or why it cannot. Pure. Default it
    /// cannot.
    ///
    /// # Errors
    ///
    /// What keeps it from telling, for people.
    fn increments(&self) -> Result<Increments, &'static str> {
        Err("it does not tell what has changed")
    }

    /// Returns which of these partitions hold what they held in the version beside them, which is
    /// not the one that they have now: one of a file, for which its time is no proof. Default none.
    fn unchanged(
        &self,
        partitions: &[(Partition, Arc<str>)],
        context: &OpenContext<Self::Client>,
    ) -> impl Future<Output = Result<Vec<bool>>> + Send {
        let _ = context;
        std::future::ready(Ok(vec![false; partitions.len()]))
    }

    /// Reads a partition, from its beginning or after a position.
    fn read(
        &self,
        partition: &Partition,
        after: Option<Position>,
        context: &ReadContext<Self::Client>,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send;
}

/// How a source tells what has changed since it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Increments {
    /// Each partition is an object with a [version](Partition::version), and goes when the object
    /// does. The positions of its items are [markers](Position::Marker) in the object that its id
    /// names. Asked for only where [`Context::generation`](crate::Context::generation) is set.
    Versions,
    /// New items come behind those that were read, partitions stay, and positions too. What
    /// changes or vanishes before them is not seen.
    Appends,
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
