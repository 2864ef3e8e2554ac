//! Reading in groups, one at a time, after the process ended half way.

use std::sync::Arc;

use nvisy_core::token::{Settlement, Tokens};
use nvisy_core::{Batch, Error, ErrorKind, Partition, PrimitiveId, Result, SourceBatch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::SourceWork;
use crate::engine::checkpoint::{GROUP_BYTES, Part, TIMES};
use crate::engine::outlet::{Failed, Outlets};
use crate::graph::policy::OnError;

/// What is read to go together.
#[derive(Default)]
pub(super) struct Group {
    /// How many items it may have.
    size: u64,
    items: u64,
    bytes: u64,
    parts: Vec<(Part, Partition, SourceBatch)>,
    /// The partitions that end with it.
    ended: Vec<Arc<str>>,
}

impl Group {
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.ended.is_empty()
    }

    fn is_full(&self) -> bool {
        self.items >= self.size || self.bytes >= GROUP_BYTES
    }

    /// A partition ends with it.
    pub(super) fn end(&mut self, partition: Arc<str>) {
        self.ended.push(partition);
    }

    fn push(&mut self, part: Part, partition: Partition, read: SourceBatch) {
        // What only moves the position counts too: the note is to stay small.
        self.items += part.items.max(1);
        self.bytes += read.batch.bytes() as u64;
        self.parts.push((part, partition, read));
    }
}

impl SourceWork {
    /// Returns whether what is read goes in groups.
    pub(super) fn is_careful(&self) -> bool {
        self.careful.as_ref().is_some_and(|careful| careful.is_on())
    }

    /// Adds what was read to a group, of items that may go together, and sends it when it is full.
    /// Returns whether reading goes on.
    pub(super) async fn gather(
        &self,
        group: &mut Group,
        (partition, at, read): (Partition, u64, SourceBatch),
        outlets: &Outlets,
        cancel: &CancellationToken,
    ) -> Result<bool> {
        let Some(careful) = &self.careful else { return Ok(true) };
        let node = &outlets.meter.node;
        let size = careful.size(node, &partition.id, at).min(self.span);
        if !group.is_empty() && group.size != size && !self.send_group(group, outlets, cancel).await? {
            return Ok(false);
        }
        group.size = size;
        let items = (read.batch.len() + read.rejected.len()) as u64;
        group.push(Part::new(node.clone(), &partition, at, items), partition, read);
        if group.is_full() { self.send_group(group, outlets, cancel).await } else { Ok(true) }
    }

    /// Notes what is in a group, sends it, and waits until a checkpoint has it. Returns whether
    /// reading goes on.
    ///
    /// Nothing is read meanwhile, unlike as usual: what ends the process then is to be in the group.
    pub(super) async fn send_group(
        &self,
        group: &mut Group,
        outlets: &Outlets,
        cancel: &CancellationToken,
    ) -> Result<bool> {
        let began = Instant::now();
        let sent = self.send_alone(group, outlets, cancel).await;
        self.paused.add_time(began.elapsed());
        sent
    }

    async fn send_alone(
        &self,
        group: &mut Group,
        outlets: &Outlets,
        cancel: &CancellationToken,
    ) -> Result<bool> {
        let Group { size, parts, ended, .. } = std::mem::take(group);
        let (Some(careful), Some(request)) = (&self.careful, &self.asks.request) else { return Ok(true) };
        let _alone = careful.gate.acquire().await;
        if parts.is_empty() {
            ended.iter().for_each(|partition| self.end(partition, outlets));
            return Ok(true);
        }
        let note = parts.iter().map(|(part, ..)| part.clone().begun_with(size)).collect();
        careful.begin(note, request).await;
        for (part, partition, read) in parts {
            let condemned = careful.is_condemned(&part);
            self.emit(&partition, read, condemned, outlets).await?;
        }
        ended.iter().for_each(|partition| self.end(partition, outlets));
        self.tracker.lock().be_careful(true);
        if !self.wait_for_credit(outlets, cancel).await {
            return Ok(false);
        }
        self.tracker.lock().be_careful(false);
        if !careful.done() {
            // From here on, an end of the process is no fault of what was on its way before.
            careful.begin(Vec::new(), request).await;
        }
        Ok(true)
    }

    /// All of a partition is read.
    pub(super) fn end(&self, partition: &Arc<str>, outlets: &Outlets) {
        self.tracker.lock().end(partition);
        if let Some(careful) = &self.careful {
            careful.leave(&outlets.meter.node, |ended| *ended == **partition);
        }
    }

    /// Puts aside what has ended the process too often to be sent into the graph again.
    ///
    /// # Errors
    ///
    /// If there are no dead letters, and such items are not to be dropped either.
    pub(super) async fn condemn(&self, batch: &Batch, tokens: Tokens, outlets: &Outlets) -> Result<()> {
        let Some(first) = (!batch.is_empty()).then(|| batch.id(0)) else {
            tokens.settle(Settlement::Delivered);
            return Ok(());
        };
        let items = batch.len() as u64;
        if outlets.letter_box().is_none() && outlets.on_error != OnError::Drop {
            outlets.meter.failed.add(items);
            tokens.settle(Settlement::Failed);
            let help = "give the source a sink for dead letters (`settings.dead_letter`; accept the new node with `Engine::accepting`) or the policy `\"on_error\": \"drop\"`, or find what ends the process, and begin anew without the state";
            return Err(too_often(first, Some(help)));
        }
        if let Some(careful) = &self.careful {
            careful.set_aside(items);
        }
        let failed = batch.iter().zip(0..).map(|(item, number)| {
            let error = too_often(item.id(), None);
            Failed { number, id: item.id(), item, error, attempts: TIMES }
        });
        outlets.aside(failed.collect(), std::convert::identity, batch.len(), tokens).await
    }
}

/// The error of an item that ends the process.
fn too_often(item: PrimitiveId, help: Option<&str>) -> Error {
    let help = help.map_or_else(String::new, |help| format!(": {help}"));
    let message = format!(
        "the process ended {TIMES} times while this item alone was on its way (killed, aborted, or out of memory){help}"
    );
    Error::new(ErrorKind::Internal, message).at_item(item)
}
