//! Graph.

/// A placeholder.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph(());

impl Graph {
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
    }
}
