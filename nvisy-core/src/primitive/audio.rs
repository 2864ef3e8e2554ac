//! Audio.

/// A placeholder.
#[derive(Clone, Debug, PartialEq)]
pub struct Audio(());

impl Audio {
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
    }
}
