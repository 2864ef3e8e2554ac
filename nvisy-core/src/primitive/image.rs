//! Image.

/// A placeholder.
#[derive(Clone, Debug, PartialEq)]
pub struct Image(());

impl Image {
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
    }
}
