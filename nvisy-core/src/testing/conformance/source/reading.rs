//! What came of reading a source.

use futures::stream::{BoxStream, StreamExt};
use serde_json::Value;

use super::{OpenSource, SourceHarness};
use crate::batch::BatchLimits;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::id::PrimitiveId;
use crate::position::{Partition, Position};
use crate::primitive::Primitive;
use crate::source::SourceBatch;
use crate::testing::conformance::examiner::Seen;

/// What came of reading one partition.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) items: Vec<Found>,
    /// The positions of what could not be read, with the number of the batch.
    pub(super) rejected: Vec<(Position, usize)>,
    pub(super) batches: Vec<Cut>,
}

/// An item that was read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) id: PrimitiveId,
    pub(super) position: Option<Position>,
    pub(super) value: Value,
    /// The number of its batch.
    pub(super) batch: usize,
}

/// A batch that was read.
pub(super) struct Cut {
    pub(super) after: Position,
    /// How many items came up to its end.
    pub(super) items: usize,
    pub(super) len: usize,
    pub(super) bytes: usize,
}

impl Reading {
    pub(super) fn ids(&self) -> Vec<PrimitiveId> {
        self.items.iter().map(|item| item.id).collect()
    }

    pub(super) fn values(&self) -> Vec<Value> {
        self.items.iter().map(|item| item.value.clone()).collect()
    }

    pub(super) fn add(&mut self, read: &SourceBatch, show: &dyn Fn(&Primitive) -> Value) {
        let batch = self.batches.len();
        self.items.extend(read.batch.iter().map(|item| Found {
            id: item.id(),
            position: item.root().map(|root| root.position),
            value: show(&item),
            batch,
        }));
        let positions = read.rejected.iter().filter_map(|rejected| rejected.primitive.root());
        self.rejected.extend(positions.map(|root| (root.position, batch)));
        let (len, bytes) = (read.batch.len(), read.batch.bytes());
        self.batches.push(Cut { after: read.after.clone(), items: self.items.len(), len, bytes });
    }
}

impl OpenSource {
    pub(super) async fn partitions(&self) -> Result<Vec<Partition>> {
        self.source.partitions(Context::detached(), &self.client).await
    }

    pub(super) fn stream(
        &self,
        partition: &Partition,
        after: Option<Position>,
        limits: BatchLimits,
        context: Context,
    ) -> BoxStream<'static, Result<SourceBatch>> {
        self.source.clone().read(partition.clone(), after, context, self.client.clone(), limits)
    }
}

impl SourceHarness {
    pub(super) async fn opened(&self, seen: &Seen) -> Result<OpenSource, String> {
        (self.open)().await.map_err(|error| seen.unexpected("it does not open", &error))
    }

    pub(super) fn shown(&self, item: &Primitive) -> Value {
        (self.show)(item.payload())
    }

    /// Reads one partition to its end.
    pub(super) async fn read(
        &self,
        open: &OpenSource,
        partition: &Partition,
        after: Option<Position>,
        limits: BatchLimits,
    ) -> Result<Reading> {
        let mut stream = open.stream(partition, after, limits, Context::detached());
        let mut reading = Reading::default();
        while let Some(read) = stream.next().await {
            reading.add(&read?, &|item| self.shown(item));
            if reading.items.len() > 1_000_000 {
                return Err(Error::internal("a million items and no end"));
            }
        }
        Ok(reading)
    }

    /// Reads every partition to its end.
    pub(super) async fn read_all(
        &self,
        open: &OpenSource,
        limits: BatchLimits,
    ) -> Result<Vec<(Partition, Reading)>> {
        let mut all = Vec::new();
        for partition in open.partitions().await? {
            let reading = self.read(open, &partition, None, limits).await?;
            all.push((partition, reading));
        }
        Ok(all)
    }
}

/// Some of the numbers below `len`, all where they are few: enough to try each in turn.
pub(super) fn some(len: usize) -> impl Iterator<Item = usize> {
    const TRIED: usize = 64;
    let step = len.div_ceil(TRIED).max(1);
    (0..len).filter(move |n| n % step == 0 || n + 1 == len)
}
