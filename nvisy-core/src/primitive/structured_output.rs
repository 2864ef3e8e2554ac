//! StructuredOutput.

/// A placeholder.
#[derive(Clone, Debug, PartialEq)]
pub struct StructuredOutput(());

impl StructuredOutput {
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
    }
}
