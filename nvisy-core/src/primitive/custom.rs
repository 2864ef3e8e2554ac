//! Custom.

/// A placeholder.
#[derive(Clone, Debug, PartialEq)]
pub struct Custom(());

impl Custom {
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
    }
}
