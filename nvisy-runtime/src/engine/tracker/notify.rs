//! How the tracker wakes who waits for it: tokio's `Notify`, and in models the same as loom sees it.

#[cfg(not(nvisy_loom))]
pub(in crate::engine) use tokio::sync::{Notify, futures::Notified};

#[cfg(nvisy_loom)]
pub(in crate::engine) use self::seen::{Notified, Notify};

/// tokio proves its `Notify` under loom itself: here each of its operations is one step, before which
/// loom may let another thread go first.
#[cfg(nvisy_loom)]
mod seen {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use loom::sync::Mutex;

    #[derive(Debug)]
    pub(in crate::engine) struct Notify {
        notify: tokio::sync::Notify,
        step: Mutex<()>,
    }

    impl Notify {
        pub(in crate::engine) fn new() -> Self {
            Self { notify: tokio::sync::Notify::new(), step: Mutex::new(()) }
        }

        /// Nothing that loom knows of happens between this and what follows it.
        fn step(&self) -> &tokio::sync::Notify {
            drop(self.step.lock());
            &self.notify
        }

        pub(in crate::engine) fn notify_one(&self) {
            self.step().notify_one();
        }

        pub(in crate::engine) fn notify_waiters(&self) {
            self.step().notify_waiters();
        }

        pub(in crate::engine) fn notified(&self) -> Notified<'_> {
            Notified { of: self, notified: Box::pin(self.step().notified()) }
        }
    }

    impl Default for Notify {
        fn default() -> Self {
            Self::new()
        }
    }

    pub(in crate::engine) struct Notified<'a> {
        of: &'a Notify,
        notified: Pin<Box<tokio::sync::futures::Notified<'a>>>,
    }

    impl Notified<'_> {
        pub(in crate::engine) fn enable(mut self: Pin<&mut Self>) -> bool {
            self.of.step();
            self.notified.as_mut().enable()
        }
    }

    impl Future for Notified<'_> {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            self.of.step();
            self.notified.as_mut().poll(context)
        }
    }

    impl Drop for Notified<'_> {
        fn drop(&mut self) {
            // Where a model fails, loom is no more to be asked.
            if !std::thread::panicking() {
                self.of.step();
            }
        }
    }
}
