//! Blocking calls off the async threads.
//!
//! A call that has begun runs to its end; dropping the future that waits for it lets go of its
//! result. A call that has not begun is never made.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::{JoinError, JoinHandle};

/// A blocking call under way: dropped, it is aborted unless it has begun.
#[derive(Debug)]
pub(crate) struct Blocking<T>(JoinHandle<T>);

/// Calls `call` on a thread that may block.
pub(crate) fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> Blocking<T> {
    Blocking(tokio::task::spawn_blocking(call))
}

impl<T> Future for Blocking<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for Blocking<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
