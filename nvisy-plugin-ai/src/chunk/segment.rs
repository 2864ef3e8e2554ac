//! Where a text can be cut, and how well.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

/// How good a place is to cut: the more, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Strength(u8);

impl Strength {
    /// Between grapheme clusters.
    pub(super) const GRAPHEME: Self = Self(0);
    /// Between words that no space parts, or where things should stay together.
    pub(super) const INNER: Self = Self(1);
    /// Between words.
    pub(super) const WORD: Self = Self(2);
    /// Between lines.
    pub(super) const LINE: Self = Self(3);
    /// Between sentences.
    pub(super) const SENTENCE: Self = Self(4);
    /// Before an item of a list within a list.
    pub(super) const INNER_ITEM: Self = Self(5);
    /// Before an item of a list.
    pub(super) const ITEM: Self = Self(6);
    /// Between paragraphs, or blocks.
    pub(super) const BLOCK: Self = Self(7);

    /// Before a heading of a level from 1, the outermost, to 6.
    pub(super) const fn section(level: u8) -> Self {
        Self(Self::BLOCK.0 + 7 - level)
    }

    /// Whether it is before a heading.
    pub(super) fn is_section(self) -> bool {
        self > Self::BLOCK
    }
}

/// A place to cut: what comes before it ends there, white space included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seam {
    pub(super) at: usize,
    pub(super) strength: Strength,
}

/// Runs without white space that are longer are looked into: scripts without spaces, URLs.
const LONG_RUN: usize = 48;

/// Returns the places to cut a text, in order; the end is the last. All of them are between
/// grapheme clusters.
pub(super) fn seams(text: &str) -> Vec<Seam> {
    let mut seams = Vec::with_capacity(text.len() / 5 + 1);
    let mut sentences = sentence_starts(text).peekable();
    let mut run = 0;
    let mut spaces = 0;
    let mut after_space = false;
    // Whether a sentence begins behind the one place and up to the other.
    let mut sentence = |from: usize, to: usize| {
        while sentences.next_if(|start| *start <= from).is_some() {}
        sentences.next_if(|start| *start <= to).is_some()
    };
    for (at, char) in text.char_indices() {
        if is_space(char) {
            if !after_space {
                spaces = at;
                if at - run > LONG_RUN || !text.as_bytes()[run..at].is_ascii() {
                    inner(text, run, at, &mut sentence, &mut seams);
                }
                run = at;
            }
            after_space = true;
            continue;
        }
        if after_space && is_boundary(text, at, char) {
            let seam = spaced(&text[spaces..at], spaces, sentence(spaces, at));
            if seam.at > 0 {
                seams.push(seam);
            }
            run = at;
        }
        after_space = false;
    }
    if !after_space && text.len() - run > LONG_RUN {
        inner(text, run, text.len(), &mut sentence, &mut seams);
    }
    if !text.is_empty() {
        seams.push(Seam { at: text.len(), strength: Strength::BLOCK });
    }
    seams
}

/// The seam that white space makes.
fn spaced(space: &str, from: usize, sentence: bool) -> Seam {
    let Some(last) = space.rfind(['\n', '\r', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}']) else {
        let strength = if sentence { Strength::SENTENCE } else { Strength::WORD };
        return Seam { at: from + space.len(), strength };
    };
    let breaks = space.bytes().filter(|b| *b == b'\n').count();
    let breaks = breaks.max(space.bytes().filter(|b| *b == b'\r').count());
    let strength = if breaks > 1 || space.contains(['\u{c}', '\u{2029}']) {
        Strength::BLOCK
    } else if sentence {
        Strength::SENTENCE
    } else {
        Strength::LINE
    };
    // Behind the last line break, so that a line keeps its indentation.
    let len = space[last..].chars().next().map_or(0, char::len_utf8);
    Seam { at: from + last + len, strength }
}

/// The seams within a run without white space: between sentences, and, if it is long, words.
fn inner(
    text: &str,
    start: usize,
    end: usize,
    sentence: &mut impl FnMut(usize, usize) -> bool,
    seams: &mut Vec<Seam>,
) {
    let run = &text[start..end];
    let long = run.len() > LONG_RUN;
    let mut graphemes = run.grapheme_indices(true).map(|(at, _)| at).peekable();
    for (at, _) in run.split_word_bound_indices().skip(1) {
        while graphemes.next_if(|grapheme| *grapheme < at).is_some() {}
        if graphemes.peek() != Some(&at) {
            continue;
        }
        if sentence(start + at - 1, start + at) {
            seams.push(Seam { at: start + at, strength: Strength::SENTENCE });
        } else if long {
            seams.push(Seam { at: start + at, strength: Strength::INNER });
        }
    }
}

/// Returns where sentences begin, by UAX 29. It ends a sentence at every line break; here a
/// line break alone ends none, unless the line ends like a sentence or the next one begins
/// like an item of a list.
fn sentence_starts(text: &str) -> impl Iterator<Item = usize> {
    let mut open = true;
    text.split_sentence_bound_indices().filter_map(move |(at, sentence)| {
        let starts = open || begins_item(sentence);
        let said = sentence.trim_end();
        let broken = sentence.len() > said.len() && sentence[said.len()..].contains(['\n', '\r']);
        open = !broken || said.is_empty() || ends_sentence(said);
        starts.then_some(at)
    })
}

fn ends_sentence(text: &str) -> bool {
    let text =
        text.trim_end_matches(['"', '\'', ')', ']', '}', '”', '’', '»', '」', '』', '）', '*', '_', '`']);
    text.ends_with(['.', '!', '?', '…', ':', ';', '。', '！', '？', '．', '؟', '۔', '।', '॥', '։', '።'])
}

fn begins_item(text: &str) -> bool {
    let text = text.trim_start();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = &text[digits..];
    let marked = if digits > 0 {
        rest.starts_with(['.', ')'])
    } else {
        rest.starts_with(['-', '*', '+', '#', '|', '•', '–'])
    };
    marked && rest.chars().nth(1).is_none_or(|c| c == ' ' || c == '#' || c == '|')
}

/// White space that a text may be cut at: all but the no-break spaces.
fn is_space(char: char) -> bool {
    match char {
        ' ' | '\t'..='\r' => true,
        '\u{a0}' | '\u{202f}' => false,
        _ => !char.is_ascii() && char.is_whitespace(),
    }
}

/// Whether a grapheme cluster begins at `at`, where `char` stands.
pub(super) fn is_boundary(text: &str, at: usize, char: char) -> bool {
    let before = at.checked_sub(1).map(|before| text.as_bytes()[before]);
    match before {
        None => true,
        Some(before) if before.is_ascii() && char.is_ascii() => !(before == b'\r' && char == '\n'),
        Some(_) => GraphemeCursor::new(at, text.len(), true).is_boundary(text, 0).unwrap_or(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, Strength)]) {
        let mut from = 0;
        let parts: Vec<_> = seams(text)
            .into_iter()
            .map(|seam| (&text[std::mem::replace(&mut from, seam.at)..seam.at], seam.strength))
            .collect();
        assert_eq!(parts, expected);
    }

    #[test]
    fn words_sentences_and_paragraphs_are_told_apart() {
        use Strength as S;
        let expected = [
            ("One ", S::WORD),
            ("fish. ", S::SENTENCE),
            ("Two\n", S::LINE),
            ("fish\n\n", S::BLOCK),
            ("Red", S::BLOCK),
        ];
        check("One fish. Two\nfish\n\nRed", &expected);
    }

    #[test]
    fn a_line_keeps_its_indentation() {
        check("a:\r\n  b", &[("a:\r\n", Strength::SENTENCE), ("  b", Strength::BLOCK)]);
    }

    #[test]
    fn scripts_without_spaces_have_sentences_and_words() {
        let seams = seams("今日は良い天気です。明日も晴れるでしょう。散歩に行きましょう。");
        assert!(seams.iter().filter(|seam| seam.strength == Strength::SENTENCE).count() == 2, "{seams:?}");
        assert!(seams.iter().any(|seam| seam.strength == Strength::INNER));
    }

    #[test]
    fn an_accent_on_a_space_stays_on_it() {
        check("a \u{301}b", &[("a \u{301}b", Strength::BLOCK)]);
    }
}
