//! Completion.

/// A placeholder.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion(());

impl Completion {
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
    }
}
