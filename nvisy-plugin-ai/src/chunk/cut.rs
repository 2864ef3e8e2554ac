//! Cutting a text into chunks of a size, in the best places, in linear time.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use super::measure::{Characters, Measure, Sentences};
use super::segment::{Seam, Strength, is_boundary};

/// What chunks have to be like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// The largest size.
    pub(super) size: u32,
    /// How much the next chunk repeats at the most.
    pub(super) overlap: u32,
    /// How full a chunk has to be before a better place to cut is preferred to more text.
    pub(super) fill: u32,
    /// Whether the first line keeps its indentation.
    pub(super) keep_indent: bool,
    /// In a text with sections: how good it would be to cut before the one that it begins with.
    pub(super) sections: Option<Strength>,
}

/// A text as the pieces that are not cut.
#[derive(Debug)]
pub(super) struct Atoms<'a, M> {
    text: &'a str,
    measure: M,
    atoms: Vec<Atom>,
}

/// A piece that is not cut: where it ends, how much has come up to there, and how good it is to
/// cut behind it.
#[derive(Clone, Copy, Debug)]
struct Atom {
    end: u32,
    sum: u32,
    /// How much of it is white space at its end, which the end of a chunk does without.
    space: u16,
    strength: Strength,
}

/// A section smaller than this part of a chunk is no chunk of its own.
const SMALL_SECTION: u32 = 4;

/// A sentence of more characters counts as several.
const LONG_SENTENCE: u32 = 2_000;

impl<'a> Atoms<'a, Sentences> {
    /// Counts sentences.
    pub(super) fn sentences(text: &'a str, seams: &[Seam]) -> Self {
        let mut atoms: Vec<Atom> = Vec::new();
        let mut start = 0;
        let mut within = Vec::new();
        for seam in seams {
            within.push(Seam { at: seam.at - start, ..*seam });
            if seam.strength < Strength::SENTENCE {
                continue;
            }
            let sentence = &text[start..seam.at];
            let parts = Atoms::new(sentence, Characters(sentence), &within, LONG_SENTENCE);
            let rule = Rule {
                size: LONG_SENTENCE,
                overlap: 0,
                fill: LONG_SENTENCE / 2,
                keep_indent: true,
                sections: None,
            };
            for part in parts.cut_atoms(rule) {
                let (from, to) = (parts.start(part.start), parts.start(part.end));
                let blank = sentence[from..to].trim().is_empty();
                atoms.push(Atom {
                    end: (start + to) as u32,
                    sum: atoms.last().map_or(0, |atom| atom.sum) + u32::from(!blank),
                    space: 0,
                    strength: if to == sentence.len() { seam.strength } else { parts.strength(part.end) },
                });
            }
            start = seam.at;
            within.clear();
        }
        Self { text, measure: Sentences, atoms }
    }
}

impl<'a, M: Measure> Atoms<'a, M> {
    /// Cuts a text at its seams. What is larger than `limit` falls into its grapheme clusters.
    pub(super) fn new(text: &'a str, measure: M, seams: &[Seam], limit: u32) -> Self {
        let mut atoms = Self { text, measure, atoms: Vec::with_capacity(seams.len()) };
        let limit = limit as usize;
        let mut start = 0;
        for &Seam { at, strength } in seams {
            // Nothing is larger than its bytes are many, so most need no second look.
            if at - start <= limit || atoms.measure.size(start..at) <= limit {
                let blank = start + text[start..at].trim_end().len()..at;
                let space =
                    if blank.is_empty() { 0 } else { atoms.measure.share(blank).min(u16::MAX.into()) };
                atoms.push(at, atoms.measure.share(start..at), space as u16, strength);
            } else {
                let mut from = start;
                for grapheme in text[start..at].graphemes(true) {
                    let end = from + grapheme.len();
                    let strength = if end == at { strength } else { Strength::GRAPHEME };
                    atoms.push(end, atoms.measure.share(from..end), 0, strength);
                    from = end;
                }
            }
            start = at;
        }
        atoms
    }

    fn push(&mut self, end: usize, size: u32, space: u16, strength: Strength) {
        let sum = self.sum(self.atoms.len()) + size;
        self.atoms.push(Atom { end: end as u32, sum, space, strength });
    }

    /// Cuts, and returns the bytes of each chunk without the white space around it.
    pub(super) fn cut(&self, rule: Rule) -> Vec<Range<usize>> {
        let mut done = 0;
        let mut chunks = Vec::new();
        for atoms in self.cut_atoms(rule) {
            // White space at the end of a text is nothing new.
            let range = self.trim(atoms, rule.keep_indent);
            if range.end > done && !range.is_empty() {
                done = range.end;
                chunks.push(range);
            }
        }
        chunks
    }

    /// Cuts, and returns the atoms of each chunk.
    fn cut_atoms(&self, rule: Rule) -> Vec<Range<usize>> {
        let len = self.atoms.len();
        let excess = |atoms: Range<usize>| {
            let size = self.measure.size(self.trim(atoms, rule.keep_indent));
            u32::try_from(size).unwrap_or(u32::MAX).saturating_sub(rule.size)
        };
        let mut chunks = Vec::new();
        let (mut start, mut done) = (0, 0);
        let mut section = rule.sections;
        while done < len {
            let room = self.sum(start).saturating_add(rule.size);
            let furthest =
                start + self.atoms[start..].partition_point(|atom| atom.sum - u32::from(atom.space) <= room);
            if furthest <= done && start < done {
                // No room for anything new: repeat less.
                start += 1;
                continue;
            }
            let mut end = self.best(start, done, furthest.max(done + 1), &rule, section);
            // By itself a chunk can be larger than its share of the text.
            while end - start > 1 {
                let excess = excess(start..end);
                if excess == 0 {
                    break;
                }
                if end - done > 1 {
                    let less = self.sum(end).saturating_sub(excess);
                    let furthest = self.atoms[..end - 1].partition_point(|atom| atom.sum <= less);
                    end = self.best(start, done, furthest.max(done + 1), &rule, section);
                } else {
                    let more = self.sum(start).saturating_add(excess);
                    start = self.atoms[..done].partition_point(|atom| atom.sum < more).max(start) + 1;
                    start = start.min(done);
                }
            }
            chunks.push(start..end);
            done = end;
            let next = self.repeat_from(start, end, rule.overlap);
            if section.is_some() {
                let entered = (start + 1..=next).rev().map(|at| self.strength(at));
                section = entered.into_iter().find(|strength| strength.is_section()).or(section);
            }
            start = next;
        }
        chunks
    }

    /// Returns the best end behind `done` up to `furthest`: where the section ends that the
    /// chunk begins in, else the strongest where the chunk is full enough, and of several the
    /// last.
    fn best(
        &self,
        start: usize,
        done: usize,
        furthest: usize,
        rule: &Rule,
        section: Option<Strength>,
    ) -> usize {
        let at_least = |size: u32| self.sum(start).saturating_add(size).min(self.sum(furthest));
        if let Some(section) = section {
            // A small section takes its neighbour along.
            let full = at_least(rule.size / SMALL_SECTION);
            let mut ends = (done + 1..furthest).filter(|end| self.sum(*end) >= full);
            if let Some(end) = ends.find(|end| self.strength(*end) >= section) {
                return end;
            }
        }
        if furthest == self.atoms.len() {
            return furthest;
        }
        let full = at_least(rule.fill);
        let ends = (done + 1..=furthest).rev().take_while(|end| self.sum(*end) >= full);
        let strongest =
            ends.reduce(|best, end| if self.strength(end) > self.strength(best) { end } else { best });
        strongest.unwrap_or(furthest)
    }

    /// Returns where the chunk after `start..end` begins: before its end by the overlap at the
    /// most, with a sentence if that repeats half as much at least, else with a word.
    fn repeat_from(&self, start: usize, end: usize, overlap: u32) -> usize {
        if overlap == 0 || end == self.atoms.len() || self.strength(end).is_section() {
            return end;
        }
        let whole = self.sum(end);
        let fits = self.atoms[start..end].partition_point(|atom| whole - atom.sum > overlap) + start + 1;
        let section = (fits..end).rev().find(|at| self.strength(*at).is_section());
        let least = section.unwrap_or(fits);
        let first = |strength: Strength, share: u32| {
            let mut starts = (least..end).take_while(|at| whole - self.sum(*at) >= share);
            starts.find(|at| self.strength(*at) >= strength)
        };
        first(Strength::SENTENCE, overlap / 2)
            .or_else(|| first(Strength::WORD, 0))
            .or_else(|| first(Strength::GRAPHEME, 0))
            .unwrap_or(end)
    }

    /// Returns how much the first `count` atoms are.
    fn sum(&self, count: usize) -> u32 {
        count.checked_sub(1).map_or(0, |last| self.atoms[last].sum)
    }

    /// Returns how good it is to cut behind the first `count` atoms.
    fn strength(&self, count: usize) -> Strength {
        count.checked_sub(1).map_or(Strength::BLOCK, |last| self.atoms[last].strength)
    }

    /// Returns where the atom at `index` begins.
    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |last| self.atoms[last].end as usize)
    }

    /// Returns the bytes of some atoms without the white space around them.
    fn trim(&self, atoms: Range<usize>, keep_indent: bool) -> Range<usize> {
        let (mut start, mut end) = (self.start(atoms.start), self.start(atoms.end));
        let text = self.text;
        while let Some(last) = text[start..end].chars().next_back().filter(|c| c.is_whitespace()) {
            let before = end - last.len_utf8();
            if before > start && !is_boundary(text, before, last) && last != '\n' {
                break;
            }
            end = before;
        }
        let line = start;
        let mut chars = text[start..end].char_indices().peekable();
        let mut indent = line;
        while let Some((_, char)) = chars.next().filter(|(_, c)| c.is_whitespace()) {
            let Some(&(next, following)) = chars.peek() else { break };
            if !is_boundary(text, line + next, following) && following != '\n' {
                break;
            }
            start = line + next;
            if matches!(char, '\n' | '\r') {
                indent = start;
            }
        }
        (if keep_indent { indent } else { start })..end
    }
}

#[cfg(test)]
mod tests {
    use super::super::Chunk;
    use super::super::segment::is_boundary;
    use crate::tokens::Encoding;
    use proptest::prelude::*;

    fn check(chunk: &Chunk, text: &str, expected: &[&str]) {
        let chunks: Vec<&str> = chunk.ranges(text).into_iter().map(|range| &text[range]).collect();
        assert_eq!(chunks, expected);
    }

    #[test]
    fn paragraphs_are_preferred_to_sentences_and_sentences_to_words() {
        let text = "One fish, two fish.\n\nRed fish. Blue fish, and so on and on.";
        check(
            &Chunk::characters(30),
            text,
            &["One fish, two fish.", "Red fish. Blue fish, and so on", "and on."],
        );
        check(
            &Chunk::characters(24),
            "Red fish here. Blue fish and so on",
            &["Red fish here.", "Blue fish and so on"],
        );
    }

    #[test]
    fn the_next_chunk_repeats_the_end_of_the_one_before() {
        check(
            &Chunk::characters(20).overlap(8),
            "alpha beta gamma delta epsilon zeta",
            &["alpha beta gamma", "gamma delta epsilon", "epsilon zeta"],
        );
    }

    #[test]
    fn sentences_are_counted() {
        let text = "One is here. Two is\nbroken. Three! Four? Five.";
        check(&Chunk::sentences(2), text, &["One is here. Two is\nbroken.", "Three! Four?", "Five."]);
        check(
            &Chunk::sentences(2).overlap(1),
            text,
            &["One is here. Two is\nbroken.", "Two is\nbroken. Three!", "Three! Four?", "Four? Five."],
        );
    }

    #[test]
    fn a_word_that_is_too_long_falls_apart_between_graphemes() {
        check(&Chunk::characters(4), "abcdefghij", &["abcd", "efgh", "ij"]);
        let family = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}";
        check(&Chunk::characters(2), &format!("a{family}b"), &["a", family, "b"]);
    }

    #[test]
    fn white_space_alone_has_no_chunks() {
        for text in ["", " ", "\r\n\t \n", "\u{2003}\u{2029}"] {
            check(&Chunk::tokens(10), text, &[]);
        }
    }

    fn size_of(chunk: &Chunk, text: &str) -> usize {
        match chunk.strategy {
            super::super::Strategy::Characters => text.chars().count(),
            super::super::Strategy::Sentences => 0,
            _ => chunk.encoding.unwrap_or_default().count(text),
        }
    }

    fn chunks() -> impl Strategy<Value = Chunk> {
        (0..4_u8, 1..60_u32, 0..60_u32, any::<bool>()).prop_map(|(strategy, size, overlap, newer)| {
            let chunk = match strategy {
                0 => Chunk::tokens(size),
                1 => Chunk::characters(size),
                2 => Chunk::sentences(size),
                _ => Chunk::markdown(size),
            };
            let chunk = chunk.overlap(overlap % size);
            if newer && strategy % 3 == 0 { chunk.encoding(Encoding::O200kBase) } else { chunk }
        })
    }

    fn texts() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            4 => "[a-z]{1,9}",
            4 => prop::sample::select(vec![
                " ", " ", " ", ". ", "\n", "\n\n", "\r\n", "\r", "\t", "  ", "# ", "\n## Head\n", "\n```\n", "- ", "\n1. ", "> ",
                "|a|b|\n|-|-|\n|c|d|\n", "    ", "---\n", "\u{a0}", "\u{2029}", "\u{301}", "\u{200d}", "\u{600}",
                "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}", "\u{1f1e9}\u{1f1ea}", "漢字。", "ไทย", "각", "क्षि", "<b>", "**",
            ]).prop_map(str::to_owned),
            1 => "\\PC{1,12}",
            1 => any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(part, 0..120).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn chunks_cover_the_text_in_order_within_bounds(text in texts(), chunk in chunks()) {
            let ranges = chunk.ranges(&text);
            let mut covered = 0;
            let mut before = 0;
            for range in &ranges {
                prop_assert!(range.start >= before, "they come in order");
                let part = &text[range.clone()];
                prop_assert!(!part.trim().is_empty());
                prop_assert!(range.end > covered, "each brings something new");
                if range.start > covered {
                    prop_assert!(text[covered..range.start].trim().is_empty(), "nothing is left out");
                }
                for at in [range.start, range.end] {
                    if let Some(char) = text[at..].chars().next() {
                        prop_assert!(is_boundary(&text, at, char), "graphemes are whole");
                    }
                }
                let graphemes = unicode_segmentation::UnicodeSegmentation::graphemes(part, true).count();
                prop_assert!(graphemes == 1 || size_of(&chunk, part) <= chunk.size as usize, "{part:?} is too large");
                covered = range.end;
                before = range.start;
            }
            prop_assert!(text[covered..].trim().is_empty(), "nothing is left out");
            if chunk.strategy == super::super::Strategy::Characters {
                for pair in ranges.windows(2) {
                    let repeated = text[pair[1].start.min(pair[0].end)..pair[0].end].chars().count();
                    prop_assert!(repeated <= chunk.overlap as usize);
                }
            }
        }
    }
}
