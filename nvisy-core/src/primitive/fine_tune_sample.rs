//! FineTuneSample.

/// A placeholder.
#[derive(Clone, Debug, PartialEq)]
pub struct FineTuneSample(());

impl FineTuneSample {
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>()
    }
}
