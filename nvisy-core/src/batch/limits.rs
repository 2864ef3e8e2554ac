//! How large batches may be.

/// How large a batch may be: whichever bound is met first. Default 1,024 items or 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Items at the most.
    pub items: usize,
    /// Bytes at the most.
    pub bytes: usize,
    /// Model tokens at the most, where they are counted.
    pub tokens: Option<u64>,
}

impl BatchLimits {
    /// At most so many items, and 1 MiB.
    #[must_use]
    pub const fn items(items: usize) -> Self {
        Self { items, bytes: 1 << 20, tokens: None }
    }

    /// At most so many bytes.
    #[must_use]
    pub const fn with_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// At most so many model tokens.
    #[must_use]
    pub const fn with_tokens(mut self, tokens: u64) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// Returns the tighter of both, bound by bound.
    #[must_use]
    pub fn tighten(self, other: Self) -> Self {
        Self {
            items: self.items.min(other.items),
            bytes: self.bytes.min(other.bytes),
            tokens: match (self.tokens, other.tokens) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
        }
    }
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self::items(1_024)
    }
}
