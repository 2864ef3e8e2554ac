//! ToolCallTrace.

/// A placeholder.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolCallTrace(());

impl ToolCallTrace {
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
    }
}
