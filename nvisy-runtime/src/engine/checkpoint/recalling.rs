//! A sink that recalls what it has written in a run.

use std::sync::Arc;

use nvisy_core::Result;
use nvisy_core::observability::field;
use nvisy_core::plugin::ErasedSink;

use crate::engine::call::Caller;
use crate::engine::report::NodeStatus;

/// A sink that is closed when the run has finished, and not before: closed, it takes the run for
/// over, and one that stopped goes on.
pub(in crate::engine) struct Recalling {
    pub(in crate::engine) node: Arc<str>,
    pub(in crate::engine) sink: Arc<dyn ErasedSink>,
    pub(in crate::engine) caller: Caller,
}

impl Recalling {
    /// Tells the sink that the run is over.
    ///
    /// # Errors
    ///
    /// If it cannot be told, unless it has failed: a run that has finished all the same needs it for
    /// nothing.
    pub(super) async fn close(&self) -> Result<()> {
        let sink = &self.sink;
        let closed = self.caller.plain(|context| async move { sink.close(&context).await }).await;
        match closed {
            Err(error) if self.caller.meter.status() == NodeStatus::Failed => {
                tracing::warn!({ field::NODE } = %self.node, { field::ERROR } = error.tag(), %error, "a sink that failed was not closed");
                Ok(())
            }
            closed => closed.map_err(|error| error.at_node(self.node.clone())),
        }
    }
}
