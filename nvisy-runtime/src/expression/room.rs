//! How much the values of an expression may hold together.

use nvisy_core::{Error, ErrorKind, Result};

use super::shown;

/// How many bytes the values of several items may hold: beyond, they come in parts.
const OF_MANY: usize = 64 << 20;
/// How many bytes the values of one item may hold.
const OF_ONE: usize = 256 << 20;

/// The bytes that values may still take: a short text may become a long one, of each of many items.
#[derive(Debug)]
pub(crate) struct Room {
    left: usize,
    kind: ErrorKind,
}

impl Room {
    /// The room of what is computed of so many items at once.
    pub(crate) fn of(items: usize) -> Self {
        match items {
            0 | 1 => Self { left: OF_ONE, kind: ErrorKind::Validation },
            _ => Self { left: OF_MANY, kind: ErrorKind::TooLarge },
        }
    }

    /// Takes room for a value of an expression.
    ///
    /// # Errors
    ///
    /// If there is no more: `TooLarge` for several items, which are to come in parts then.
    pub(crate) fn take(&mut self, bytes: usize, expression: &str) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            let message = format!("expression `{}`: gives more than an item may hold", shown(expression));
            Error::new(self.kind, message)
        })?;
        Ok(())
    }

    /// Returns whether an error says that several items have to come in parts.
    pub(crate) fn is_short(error: &Error) -> bool {
        error.kind() == ErrorKind::TooLarge
    }
}
