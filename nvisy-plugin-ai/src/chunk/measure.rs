//! How large a stretch of a text is.

use std::cell::Cell;
use std::ops::Range;

use crate::tokens::Encoding;

/// A unit that texts are measured in.
pub(super) trait Measure {
    /// Returns how much of the whole text's size falls on a stretch: what adds up.
    fn share(&self, range: Range<usize>) -> u32;

    /// Returns how large a stretch is by itself. Never more than it has bytes.
    fn size(&self, range: Range<usize>) -> usize;
}

/// In characters: Unicode scalar values.
#[derive(Debug)]
pub(super) struct Characters<'a>(pub(super) &'a str);

impl Measure for Characters<'_> {
    fn share(&self, range: Range<usize>) -> u32 {
        self.size(range) as u32
    }

    fn size(&self, range: Range<usize>) -> usize {
        self.0[range].chars().count()
    }
}

/// In model tokens. The text is encoded once, as a whole.
#[derive(Debug)]
pub(super) struct Tokens<'a> {
    text: &'a str,
    encoding: Encoding,
    ends: Vec<u32>,
    /// The last answer: the next question is mostly close behind it.
    near: Cell<usize>,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str, encoding: Encoding) -> Self {
        let mut ends = Vec::with_capacity(text.len() / 4);
        ends.extend(encoding.ends(text).map(|end| end as u32));
        Self { text, encoding, ends, near: Cell::new(0) }
    }

    fn up_to(&self, at: usize) -> usize {
        let is_past = |end: &u32| *end as usize > at;
        let near = self.near.get();
        let is_behind = near == 0 || !is_past(&self.ends[near - 1]);
        let close = &self.ends[near..(near + 8).min(self.ends.len())];
        let found = match close.iter().position(is_past) {
            Some(ahead) if is_behind => near + ahead,
            _ => self.ends.partition_point(|end| !is_past(end)),
        };
        self.near.set(found);
        found
    }
}

impl Measure for Tokens<'_> {
    fn share(&self, range: Range<usize>) -> u32 {
        (self.up_to(range.end) - self.up_to(range.start)) as u32
    }

    fn size(&self, range: Range<usize>) -> usize {
        // By itself a stretch is encoded like within the whole, but for its first and last
        // words: no token reaches across the space before a word.
        let stretch = &self.text.as_bytes()[range.clone()];
        let before_word = |at: &usize| Encoding::is_before_word(stretch, *at);
        let first = (1..stretch.len()).find(before_word);
        let last = (1..stretch.len()).rev().find(before_word);
        let (Some(first), Some(last)) = (first, last) else {
            return self.encoding.count(&self.text[range]);
        };
        let Range { start, end } = range;
        let within = self.up_to(start + last) - self.up_to(start + first);
        let text = self.text;
        self.encoding.count(&text[start..start + first])
            + within
            + self.encoding.count(&text[start + last..end])
    }
}

/// In sentences, which the pieces that are not cut are counted as already.
#[derive(Debug)]
pub(super) struct Sentences;

impl Measure for Sentences {
    fn share(&self, _: Range<usize>) -> u32 {
        0
    }

    fn size(&self, _: Range<usize>) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_stretch_is_as_large_as_its_text(
            parts in prop::collection::vec(prop_oneof!["[a-zA-Z]{1,8}", " ", " ", "\\PC{1,3}", "[0-9.,!?/\n'-]{1,3}"], 0..60),
            from in any::<prop::sample::Index>(),
            to in any::<prop::sample::Index>(),
            newer in any::<bool>(),
        ) {
            let text = parts.concat();
            let mut at = [from, to].map(|index| text.floor_char_boundary(index.index(text.len() + 1)));
            at.sort_unstable();
            let encoding = if newer { Encoding::O200kBase } else { Encoding::Cl100kBase };
            let range = at[0]..at[1];
            prop_assert_eq!(Tokens::new(&text, encoding).size(range.clone()), encoding.count(&text[range]));
        }
    }
}
