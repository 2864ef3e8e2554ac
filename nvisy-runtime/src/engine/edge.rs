//! An edge: a bounded channel of batches from one node to the next, in items and in bytes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use futures::future::poll_fn;
use nvisy_core::Batch;

/// What travels on an edge.
#[derive(Debug)]
pub(super) enum Parcel {
    /// A batch.
    Batch(Batch),
    /// Let go of what you hold: the source is out of credit, or idle.
    Pulse(Pulse),
    /// There is no more: the last thing on every edge.
    End(End),
}

/// What a flush pulse asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    /// Send on what is being gathered.
    Gathered,
    /// That, and make durable what is written.
    Durable,
}

/// How an edge ended, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// Everything that there was has been sent.
    Complete,
    /// Everything that could be read has been sent, and some could not.
    Short,
    /// The node before it failed: what was sent is not all there would have been.
    Broken,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(Parcel, Size)>,
    waiting: Size,
    /// How many items the sender may have waiting so far: it grows with what is received, so that
    /// the nodes of a run begin side by side and not one when the edge before it is full.
    grown: usize,
    end: Option<End>,
    closed: bool,
    sent: u64,
    received: u64,
    /// Items that were waiting when nobody received any more.
    abandoned: u64,
    received_bytes: u64,
    sender: Option<Waker>,
    receiver: Option<Waker>,
}

/// How much room something takes on an edge.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    items: usize,
    bytes: usize,
}

impl Size {
    /// Rows share their columns, and pass in larger batches: eight of them count as one item.
    fn of(batch: &Batch) -> Self {
        let rows = if batch.as_rows().is_some() { 8 } else { 1 };
        Self { items: batch.len().div_ceil(rows), bytes: batch.bytes() }
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    items: usize,
    bytes: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of an edge that sends. Dropped without a word, the edge is broken.
#[derive(Debug)]
pub(super) struct Sender(Arc<Shared>);

/// The end of an edge that receives.
#[derive(Debug)]
pub(super) struct Receiver {
    shared: Arc<Shared>,
    ended: bool,
}

/// What passed over an edge, for the ledger.
#[derive(Clone, Debug)]
pub(super) struct EdgeCount(Arc<Shared>);

impl EdgeCount {
    /// Items that were sent, received, and abandoned on their way.
    pub(super) fn items(&self) -> [u64; 3] {
        let state = self.0.lock();
        [state.sent, state.received, state.abandoned]
    }

    /// Bytes that were received, in memory.
    pub(super) fn received_bytes(&self) -> u64 {
        self.0.lock().received_bytes
    }
}

/// Makes an edge that holds so many items and bytes, but for one batch, which always may.
pub(super) fn edge(items: usize, bytes: usize) -> (Sender, Receiver, EdgeCount) {
    let shared = Arc::new(Shared { state: Mutex::default(), items, bytes });
    (Sender(shared.clone()), Receiver { shared: shared.clone(), ended: false }, EdgeCount(shared))
}

impl Sender {
    /// Sends a batch, waiting for room.
    ///
    /// # Errors
    ///
    /// Gives the batch back if nobody receives any more.
    pub(super) async fn send(&self, batch: Batch) -> Result<(), Batch> {
        let size = Size::of(&batch);
        let mut waiting = Some(batch);
        poll_fn(|cx| {
            let mut state = self.0.lock();
            let Some(batch) = waiting.take() else { return Poll::Ready(Ok(())) };
            if state.closed {
                return Poll::Ready(Err(batch));
            }
            if self.has_room(&state, size, state.grown) {
                Self::push(&mut state, batch, size);
                return Poll::Ready(Ok(()));
            }
            waiting = Some(batch);
            state.sender = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Sends a batch if there is room now.
    ///
    /// # Errors
    ///
    /// Gives the batch back if there is none, or if nobody receives any more.
    #[expect(clippy::result_large_err, reason = "the batch goes back to whoever sent it")]
    pub(super) fn try_send(&self, batch: Batch) -> Result<(), Batch> {
        let size = Size::of(&batch);
        let mut state = self.0.lock();
        if state.closed || !self.has_room(&state, size, self.0.items) {
            return Err(batch);
        }
        Self::push(&mut state, batch, size);
        Ok(())
    }

    fn has_room(&self, state: &State, size: Size, most: usize) -> bool {
        let within = |now: usize, more: usize, most: usize| now.saturating_add(more) <= most;
        let Size { items, bytes } = state.waiting;
        items == 0 || within(items, size.items, most) && within(bytes, size.bytes, self.0.bytes)
    }

    fn push(state: &mut State, batch: Batch, size: Size) {
        state.waiting.items += size.items;
        state.waiting.bytes += size.bytes;
        state.sent += batch.len() as u64;
        state.queue.push_back((Parcel::Batch(batch), size));
        if let Some(waker) = state.receiver.take() {
            waker.wake();
        }
    }

    /// Sends a pulse; it needs no room, and joins one that is the last thing on the edge.
    pub(super) fn pulse(&self, pulse: Pulse) {
        let mut state = self.0.lock();
        if let Some((Parcel::Pulse(last), _)) = state.queue.back_mut() {
            if pulse == Pulse::Durable {
                *last = pulse;
            }
            return;
        }
        state.queue.push_back((Parcel::Pulse(pulse), Size::default()));
        if let Some(waker) = state.receiver.take() {
            waker.wake();
        }
    }

    /// Says that there is no more.
    pub(super) fn end(self, end: End) {
        self.0.lock().end.get_or_insert(end);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.end.get_or_insert(End::Broken);
        if let Some(waker) = state.receiver.take() {
            waker.wake();
        }
    }
}

impl Stream for Receiver {
    type Item = Parcel;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Parcel>> {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        if let Some((parcel, size)) = state.queue.pop_front() {
            if let Parcel::Batch(batch) = &parcel {
                state.waiting.items -= size.items;
                state.waiting.bytes -= size.bytes;
                state.grown = state.grown.saturating_add(size.items).min(shared.items);
                state.received += batch.len() as u64;
                state.received_bytes += size.bytes as u64;
                if let Some(waker) = state.sender.take() {
                    waker.wake();
                }
            }
            return Poll::Ready(Some(parcel));
        }
        match state.end {
            _ if self.ended => Poll::Ready(None),
            Some(end) => {
                self.ended = true;
                Poll::Ready(Some(Parcel::End(end)))
            }
            None => {
                state.receiver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        // What still waits here is abandoned: its tokens say so.
        let queue = std::mem::take(&mut state.queue);
        let left = |(parcel, _): &_| if let Parcel::Batch(batch) = parcel { batch.len() as u64 } else { 0 };
        state.abandoned = queue.iter().map(left).sum();
        if let Some(waker) = state.sender.take() {
            waker.wake();
        }
        drop(state);
        drop(queue);
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use nvisy_core::Item;
    use nvisy_core::primitive::raw::Raw;

    use super::*;

    fn batch(items: u64) -> Batch {
        (0..items).map(|i| Item::detached(&i.to_string(), Raw::Json(i.into()))).collect()
    }

    #[tokio::test]
    async fn an_edge_is_bounded_in_items_but_for_one_batch() {
        let (sender, mut receiver, count) = edge(4, 1 << 20);
        sender.send(batch(10)).await.unwrap();
        assert!(sender.send(batch(1)).now_or_never().is_none());
        assert!(matches!(receiver.next().await, Some(Parcel::Batch(b)) if b.len() == 10));
        sender.send(batch(3)).await.unwrap();
        sender.send(batch(1)).await.unwrap();
        assert!(sender.try_send(batch(1)).is_err());
        assert_eq!(count.items(), [14, 10, 0]);
        drop(receiver);
        assert_eq!(count.items(), [14, 10, 4]);
    }

    #[tokio::test]
    async fn the_room_of_an_edge_grows_with_what_is_received() {
        let (sender, mut receiver, _) = edge(100, 1 << 20);
        sender.send(batch(10)).await.unwrap();
        assert!(sender.send(batch(10)).now_or_never().is_none());
        for room in [10, 20, 30] {
            assert!(matches!(receiver.next().await, Some(Parcel::Batch(_))));
            while sender.send(batch(10)).now_or_never().is_some() {}
            assert_eq!(sender.0.lock().waiting.items, room);
        }
        assert!(sender.try_send(batch(10)).is_ok(), "what cannot wait has all the room");
    }

    #[tokio::test]
    async fn an_edge_is_bounded_in_bytes() {
        let one = batch(1);
        let (sender, _receiver, _) = edge(1_000, one.bytes() + 1);
        sender.send(one).await.unwrap();
        assert!(sender.send(batch(1)).now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_sender_that_is_dropped_breaks_the_edge() {
        let (sender, mut receiver, _) = edge(4, 4);
        drop(sender);
        assert!(matches!(receiver.next().await, Some(Parcel::End(End::Broken))));
        assert!(receiver.next().await.is_none());
    }

    #[tokio::test]
    async fn what_was_sent_arrives_before_the_end() {
        let (sender, mut receiver, _) = edge(4, 1 << 20);
        sender.send(batch(2)).await.unwrap();
        sender.pulse(Pulse::Gathered);
        sender.pulse(Pulse::Durable);
        sender.end(End::Complete);
        assert!(matches!(receiver.next().await, Some(Parcel::Batch(_))));
        assert!(matches!(receiver.next().await, Some(Parcel::Pulse(Pulse::Durable))));
        assert!(matches!(receiver.next().await, Some(Parcel::End(End::Complete))));
        assert!(receiver.next().await.is_none());
    }

    #[tokio::test]
    async fn a_batch_that_nobody_receives_comes_back() {
        let (sender, receiver, _) = edge(4, 1 << 20);
        sender.send(batch(2)).await.unwrap();
        drop(receiver);
        assert_eq!(sender.send(batch(3)).await.unwrap_err().len(), 3);
    }
}
