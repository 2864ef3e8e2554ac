//! A pause without a clock.

use std::future::poll_fn;
use std::task::Poll;

/// Lets others go first, `times` times: what a call to another system looks like to an executor.
pub(super) async fn yields(times: u32) {
    let mut left = times;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
