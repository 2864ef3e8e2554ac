//! A source that reads what is held in memory.

use std::fmt;
use std::marker::PhantomData;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;

use futures::Stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::input::Input;
use super::store::MemoryStore;
use crate::config::Problem;
use crate::connection::NoClient;
use crate::context::{OpenContext, ReadContext};
use crate::error::{Error, ErrorKind, Result};
use crate::id::SourceIdentity;
use crate::position::{Partition, Position, Positions};
use crate::primitive::document::Document;
use crate::primitive::raw::Raw;
use crate::primitive::row::Row;
use crate::primitive::{Any, Kind, KindId, Kinds, Payload};
use crate::source::{Source, SourceBatch};
use crate::testing::plain;
use crate::testing::yields::yields;

/// Reads items that stand in the config, or in a [`MemoryStore`]: `memory/source`.
///
/// In JSON it is `{"name": "tickets"}` or `{"items": [..], "kind": "document"}`. Items are of
/// kind `raw` unless said otherwise; a document may be just its text; rows are plain objects,
/// and their columns those that the objects show together. An item that is not of its kind is
/// rejected, with its place, when it is read.
///
/// The position of an item is its number. With several partitions the `n`-th item is in
/// partition `n % partitions`, so that adding items moves none.
///
/// # Examples
///
/// ```
/// use nvisy_core::testing::memory::MemorySource;
///
/// let source = MemorySource::documents(["a", "b", "c"]).in_partitions(2).with_batches_of(1);
/// assert_eq!(
///     serde_json::to_value(&source).unwrap(),
///     serde_json::json!({"items": ["a", "b", "c"], "kind": "document", "partitions": 2, "batch_items": 1}),
/// );
/// ```
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound = "")]
#[schemars(rename = "MemorySource", bound = "")]
pub struct MemorySource<K: Kind = Any> {
    /// The name of the store to read; with `items`, only a name for what they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The items, written out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    items: Option<Vec<Value>>,
    /// The kind of the items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<KindId>,
    /// How many partitions there are. Default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    partitions: Option<NonZeroU32>,
    /// How many items a batch holds at the most. Default: what the engine asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch_items: Option<NonZeroUsize>,
    /// The numbers of items that cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rejected: Vec<u64>,
    /// How often each batch lets others go first before it is there. Default never.
    #[serde(default, skip_serializing_if = "is_zero")]
    yields: u32,
    #[serde(skip)]
    output: PhantomData<fn() -> K>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl MemorySource {
    /// Reads the store of that name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self::of_kind(Some(name.into()), None, None)
    }

    /// Reads these JSON values.
    #[must_use]
    pub fn raw(items: impl IntoIterator<Item = Value>) -> MemorySource<Raw> {
        MemorySource::of_kind(None, Some(items.into_iter().collect()), Some(KindId::Raw))
    }

    /// Reads documents of these texts.
    #[must_use]
    pub fn documents<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> MemorySource<Document> {
        let items = texts.into_iter().map(|text| Value::String(text.into())).collect();
        MemorySource::of_kind(None, Some(items), Some(KindId::Document))
    }

    /// Reads these objects as rows.
    #[must_use]
    pub fn rows(objects: impl IntoIterator<Item = Value>) -> MemorySource<Row> {
        MemorySource::of_kind(None, Some(objects.into_iter().collect()), Some(KindId::Row))
    }
}

impl<K: Kind> MemorySource<K> {
    fn of_kind(name: Option<String>, items: Option<Vec<Value>>, kind: Option<KindId>) -> Self {
        Self {
            name,
            items,
            kind,
            partitions: None,
            batch_items: None,
            rejected: Vec::new(),
            yields: 0,
            output: PhantomData,
        }
    }

    /// Says what kind the items are of, so that rustc knows too.
    #[must_use]
    pub fn typed<T: Kind>(self) -> MemorySource<T> {
        let mut kinds = T::KINDS.iter();
        let kind = if let (Some(kind), None) = (kinds.next(), kinds.next()) { Some(kind) } else { self.kind };
        MemorySource {
            name: self.name,
            items: self.items,
            kind,
            partitions: self.partitions,
            batch_items: self.batch_items,
            rejected: self.rejected,
            yields: self.yields,
            output: PhantomData,
        }
    }

    /// Deals the items out to so many partitions. Default one.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn in_partitions(mut self, partitions: u32) -> Self {
        assert!(partitions > 0, "a source has at least one partition");
        self.partitions = NonZeroU32::new(partitions);
        self
    }

    /// Reads at most so many items in one go. Default what the engine asks for.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn with_batches_of(mut self, items: usize) -> Self {
        assert!(items > 0, "a batch holds at least one item");
        self.batch_items = NonZeroUsize::new(items);
        self
    }

    /// Rejects the items of these numbers.
    #[must_use]
    pub fn rejecting(mut self, numbers: impl IntoIterator<Item = u64>) -> Self {
        self.rejected.extend(numbers);
        self
    }

    /// Lets others go first so many times before each batch. Default never.
    #[must_use]
    pub fn yielding(mut self, times: u32) -> Self {
        self.yields = times;
        self
    }

    fn store(&self) -> Option<MemoryStore> {
        self.name.as_deref().filter(|_| self.items.is_none()).map(MemoryStore::named)
    }

    fn input(&self) -> Input {
        match (&self.items, self.store()) {
            (Some(items), _) => Input::parse(items, self.kind.unwrap_or(KindId::Raw)),
            (None, Some(store)) => store.input(),
            (None, None) => Input::default(),
        }
    }

    fn step(&self) -> usize {
        self.partitions.map_or(1, |partitions| partitions.get() as usize)
    }

    /// Returns the number of the first item of a partition.
    fn first(&self, partition: &Partition) -> Result<usize> {
        if self.partitions.is_none() && *partition == Partition::whole() {
            return Ok(0);
        }
        match partition.id.parse() {
            Ok(first) if first < self.step() => Ok(first),
            _ if self.step() == 1 => Ok(0),
            _ => {
                let message = format!("there is no partition \"{}\"", partition.id);
                Err(Error::new(ErrorKind::NotFound, message))
            }
        }
    }
}

impl<K: Kind> Source for MemorySource<K> {
    const NAME: &'static str = "memory/source";
    type Output = K;
    type Client = NoClient;

    fn identity(&self, _: &NoClient) -> SourceIdentity {
        match (&self.name, &self.items) {
            (Some(name), _) => SourceIdentity::new(format!("memory:{name}")),
            (None, Some(items)) => {
                let mut hash = Sha256::new();
                hash.update(self.kind.unwrap_or(KindId::Raw).name());
                for item in items {
                    hash.update(item.to_string());
                    hash.update(b"\n");
                }
                let hash: String = hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
                SourceIdentity::new(format!("memory:#{hash}"))
            }
            (None, None) => SourceIdentity::new("memory:"),
        }
    }

    fn output_kinds(&self) -> Kinds {
        if let Some(kind) = self.kind {
            return Kinds::of(kind);
        }
        match (&self.items, self.store()) {
            (Some(_), _) => Kinds::of(KindId::Raw),
            // Filled before the graph is compiled, the store says what it holds.
            (None, Some(store)) if store.input_len() > 0 => store.input_kinds(),
            _ => K::KINDS,
        }
    }

    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.name.is_none() && self.items.is_none() {
            let help = "write {\"items\": [..]} or the name of a store, {\"name\": \"..\"}";
            problems.push(Problem::new("", "there is nothing to read").with_help(help));
        }
        problems
    }

    async fn partitions(&self, _: &OpenContext) -> Result<Vec<Partition>> {
        let (len, step) = (self.input().len(), self.step());
        if self.partitions.is_none() {
            return Ok(vec![Partition::whole().with_items(len as u64)]);
        }
        let sized = |first: usize| {
            let items = len.saturating_sub(first).div_ceil(step);
            Partition::new(first.to_string()).with_items(items as u64)
        };
        Ok((0..step).map(sized).collect())
    }

    fn read(
        &self,
        partition: &Partition,
        after: Option<Position>,
        context: &ReadContext,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        async_stream::try_stream! {
            let (input, store, step) = (self.input(), self.store(), self.step());
            let mut next = match after {
                None => self.first(partition)?,
                Some(Position::Offset(last)) => last as usize + step,
                Some(other) => Err(Error::invalid("position", format!("expected a number, found {other}")))?,
            };
            while next < input.len() {
                yields(self.yields).await;
                if let Some(store) = &store {
                    store.count(|tally| tally.reads += 1);
                }
                let numbers = self.cut(&input, next, context);
                let batch = self.batch(&input, &numbers, context)?;
                next = numbers.last().map_or(input.len(), |last| last + step);
                yield batch;
            }
        }
    }
}

impl<K: Kind> MemorySource<K> {
    /// Returns the numbers of the items of one batch, from `next` on.
    fn cut(&self, input: &Input, next: usize, context: &ReadContext) -> Vec<usize> {
        let limits = context.limits();
        let items = self.batch_items.map_or(limits.items, |own| own.get().min(limits.items)).max(1);
        let (mut numbers, mut bytes) = (Vec::new(), 0_usize);
        let one = if let Input::Rows(_) = input { Some(input.size(0)) } else { None };
        for number in (next..input.len()).step_by(self.step()).take(items) {
            bytes = bytes.saturating_add(one.unwrap_or_else(|| input.size(number)));
            if bytes > limits.bytes && !numbers.is_empty() {
                break;
            }
            numbers.push(number);
        }
        numbers
    }

    fn batch(&self, input: &Input, numbers: &[usize], context: &ReadContext) -> Result<SourceBatch> {
        let after = Position::Offset(numbers.last().map_or(0, |last| *last as u64));
        let mut rejected = Vec::new();
        let mut good = Vec::with_capacity(numbers.len());
        for number in numbers {
            let position = || Position::Offset(*number as u64);
            if self.rejected.contains(&(*number as u64)) {
                let json = input.payload(*number).map_or(Value::Null, |payload| plain(&payload));
                let error = Error::new(ErrorKind::Validation, format!("item {number} cannot be read"));
                rejected.push(context.reject(Raw::Json(json), position(), error)?);
            } else if let Input::Items(items) = input
                && let Err(malformed) = &items[*number]
            {
                let raw = Raw::Json(malformed.json.clone());
                rejected.push(context.reject(raw, position(), malformed.error.clone())?);
            } else {
                good.push(*number);
            }
        }
        let positions = match good.as_slice() {
            [first, .., last] if last - first + 1 == good.len() => Positions::from(*first as u64),
            _ => Positions::each(good.iter().map(|n| Position::Offset(*n as u64)).collect::<Arc<[_]>>()),
        };
        let batch = match input {
            Input::Rows(rows) => context.rows(Input::rows(rows, &good)?, positions, after)?,
            Input::Items(_) => {
                let payloads: Vec<Payload> =
                    good.iter().filter_map(|number| input.payload(*number)).collect();
                context.items(payloads, positions, after)?
            }
        };
        Ok(batch.with_rejected(rejected))
    }
}

impl<K: Kind> Clone for MemorySource<K> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            items: self.items.clone(),
            kind: self.kind,
            partitions: self.partitions,
            batch_items: self.batch_items,
            rejected: self.rejected.clone(),
            yields: self.yields,
            output: PhantomData,
        }
    }
}

impl<K: Kind> fmt::Debug for MemorySource<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySource")
            .field("name", &self.name)
            .field("items", &self.items.as_ref().map(Vec::len))
            .field("kind", &self.kind)
            .field("partitions", &self.step())
            .finish_non_exhaustive()
    }
}
