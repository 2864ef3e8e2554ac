//! Counting model tokens, offline: the vocabularies are in the library.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tiktoken_rs::CoreBPE;

/// A vocabulary of model tokens.
///
/// Default `cl100k_base`, which the `text-embedding-3` models and `text-embedding-ada-002`
/// read; newer chat models read `o200k_base`. For models of other vendors either is a good
/// estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Encoding {
    /// About 100,000 tokens.
    #[default]
    #[serde(rename = "cl100k_base")]
    Cl100kBase,
    /// About 200,000 tokens.
    #[serde(rename = "o200k_base")]
    O200kBase,
}

/// Longer stretches are encoded piece by piece. The library's regular expressions give up on
/// very long runs of one kind of character; a piece is far from that.
const PIECE: usize = 16 << 10;

impl Encoding {
    /// Returns the vocabulary's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cl100kBase => "cl100k_base",
            Self::O200kBase => "o200k_base",
        }
    }

    /// Returns the vocabulary that a model reads, or the default for one that is not known.
    #[must_use]
    pub fn of_model(model: &str) -> Self {
        use tiktoken_rs::tokenizer::{Tokenizer, get_tokenizer};
        match get_tokenizer(model) {
            Some(Tokenizer::O200kBase | Tokenizer::O200kHarmony) => Self::O200kBase,
            _ => Self::Cl100kBase,
        }
    }

    /// Returns how many tokens a text has.
    #[must_use]
    pub fn count(self, text: &str) -> usize {
        let bpe = self.bpe();
        pieces(text).map(|piece| bpe.encode_ordinary(piece).len()).sum()
    }

    /// Returns where each token ends, in bytes. A token may end within a character.
    #[cfg(feature = "chunk")]
    pub(crate) fn ends(self, text: &str) -> impl Iterator<Item = usize> {
        let bpe = self.bpe();
        let tokens = pieces(text).flat_map(|piece| bpe._decode_native_and_split(bpe.encode_ordinary(piece)));
        tokens.scan(0, |end, token| {
            *end += token.len();
            Some(*end)
        })
    }

    /// Whether `at` is behind a word and before the space that begins the next one. No token of
    /// any vocabulary reaches across.
    pub(crate) fn is_before_word(bytes: &[u8], at: usize) -> bool {
        bytes[at] == b' ' && is_text(bytes[at - 1]) && bytes.get(at + 1).is_some_and(u8::is_ascii_alphabetic)
    }

    fn bpe(self) -> &'static CoreBPE {
        match self {
            Self::Cl100kBase => tiktoken_rs::cl100k_base_singleton(),
            Self::O200kBase => tiktoken_rs::o200k_base_singleton(),
        }
    }
}

/// Cuts a text where no token reaches across: behind a line break or before a space, if there
/// is one.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (piece, after) = rest.split_at(piece_end(rest));
        rest = after;
        Some(piece)
    })
}

fn piece_end(text: &str) -> usize {
    if text.len() <= PIECE {
        return text.len();
    }
    let bytes = text.as_bytes();
    let behind_line = |at: usize| bytes[at - 1] == b'\n' && is_text(bytes[at]);
    (PIECE / 2..=PIECE)
        .rev()
        .find(|&at| behind_line(at) || Encoding::is_before_word(bytes, at))
        .unwrap_or_else(|| text.floor_char_boundary(PIECE))
}

fn is_text(byte: u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_counts_like_the_whole() {
        let text = "The quick brown fox (it is said) jumps over 12 lazy dogs.\n".repeat(2_000);
        for encoding in [Encoding::Cl100kBase, Encoding::O200kBase] {
            assert_eq!(encoding.count(&text), encoding.bpe().encode_ordinary(&text).len());
        }
    }

    #[test]
    fn runs_without_end_are_counted() {
        for text in [" ".repeat(2 << 20), "A".repeat(1 << 17), "\n".repeat(1 << 17), "漢".repeat(1 << 14)] {
            assert!(Encoding::O200kBase.count(&text) > 0);
        }
    }

    #[test]
    fn the_vocabulary_follows_the_model() {
        assert_eq!(Encoding::of_model("text-embedding-3-small"), Encoding::Cl100kBase);
        assert_eq!(Encoding::of_model("gpt-4o"), Encoding::O200kBase);
        assert_eq!(Encoding::of_model("nomic-embed-text"), Encoding::Cl100kBase);
    }
}
