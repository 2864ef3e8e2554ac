//! Futures that are dropped after so many polls.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// Polls a future so many times at the most, then drops it. Returns what it gave, if it came
/// to its end.
pub(super) async fn polled<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// How often a call is polled before it is left to run: enough for the first round trips.
pub(super) const MAX_POLLS: usize = 32;
