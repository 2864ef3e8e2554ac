//! Message.

/// A placeholder.
#[derive(Clone, Debug, PartialEq)]
pub struct Message(());

impl Message {
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
    }
}
