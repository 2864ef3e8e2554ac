//! A sink that keeps what it writes out of sight until a checkpoint has it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use nvisy_core::Result;
use nvisy_core::plugin::ErasedSink;

use crate::engine::call::Caller;

/// What a sink has staged.
pub(in crate::engine) struct Stage {
    pub(in crate::engine) node: Arc<str>,
    sink: Arc<dyn ErasedSink>,
    caller: Caller,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    staged: Option<Bytes>,
    /// What a checkpoint has, or is about to have: it alone may be shown. A sink whose inputs end
    /// stages while a checkpoint of what it staged before is on its way.
    gathered: Option<Bytes>,
    /// What was staged is not to be shown.
    withheld: bool,
    /// What is shown already.
    shown: Option<Bytes>,
}

impl Stage {
    /// Begins where the run before stopped, which the sink has shown when it opened.
    pub(in crate::engine) fn new(
        node: Arc<str>,
        sink: Arc<dyn ErasedSink>,
        caller: Caller,
        before: Option<Bytes>,
    ) -> Self {
        let state =
            State { staged: before.clone(), gathered: before.clone(), withheld: false, shown: before };
        Self { node, sink, caller, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the sink stage what it has written.
    ///
    /// # Errors
    ///
    /// If it cannot.
    pub(in crate::engine) async fn stage(&self) -> Result<()> {
        let sink = &self.sink;
        let staged = self.caller.plain(|context| async move { sink.stage(&context).await }).await?;
        self.state().staged = staged;
        Ok(())
    }

    /// Keeps what was staged, and what will be, out of sight for the rest of the run.
    pub(in crate::engine) fn withhold(&self) {
        self.state().withheld = true;
    }

    pub(super) fn is_withheld(&self) -> bool {
        self.state().withheld
    }

    /// Returns what the next checkpoint has to have of it.
    pub(super) fn gather(&self) -> Option<Bytes> {
        let mut state = self.state();
        state.gathered = state.staged.clone();
        state.gathered.clone()
    }

    /// Shows what the last checkpoint has of it.
    pub(super) async fn publish(&self) -> Result<()> {
        let staged = {
            let state = self.state();
            state.gathered.clone().filter(|gathered| state.shown.as_ref() != Some(gathered))
        };
        let Some(staged) = staged else { return Ok(()) };
        let sink = &self.sink;
        let bytes = &staged;
        let published = self.caller.plain(|context| async move { sink.publish(bytes, &context).await }).await;
        published.map_err(|error| error.at_node(self.node.clone()))?;
        self.state().shown = Some(staged);
        Ok(())
    }

    /// Returns what shows of it.
    pub(super) fn shown(&self) -> Option<Bytes> {
        self.state().shown.clone()
    }

    pub(super) async fn close(&self) -> Result<()> {
        let sink = &self.sink;
        let closed = self.caller.plain(|context| async move { sink.close(&context).await }).await;
        closed.map_err(|error| error.at_node(self.node.clone()))
    }
}
