//! `ai/chunk`: cuts documents into passages.

mod cut;
mod markdown;
mod measure;
mod segment;

use std::ops::Range;

use nvisy_core::action::{Action, ActionConfig};
use nvisy_core::config::Problem;
use nvisy_core::context::OpenContext;
use nvisy_core::error::{Error, ErrorKind, Result};
use nvisy_core::primitive::document::{Document, DocumentFields};
use nvisy_core::primitive::{Item, Kind};
use nvisy_core::{NoClient, Outcome};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::cut::{Atoms, Rule};
use self::measure::{Characters, Tokens};
use crate::tokens::Encoding;

/// How a chunk is measured, and where it is best cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Model tokens; cut between paragraphs, else sentences, else lines, else words.
    Tokens,
    /// Characters (Unicode scalar values); cut in the same places.
    Characters,
    /// Sentences, by the rules of Unicode (UAX 29); a line break alone ends none. A sentence
    /// of more than 2,000 characters counts as several.
    Sentences,
    /// Model tokens; cut where Markdown has a seam: before headings, else between blocks, list
    /// items, sentences, lines. Code, tables and lists stay whole where they fit, and a chunk
    /// ends with its section, unless that is smaller than a quarter of the size.
    Markdown,
}

impl Strategy {
    const fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Characters => "characters",
            Self::Sentences => "sentences",
            Self::Markdown => "markdown",
        }
    }
}

/// Cuts documents into chunks of at most a size, each a document of its own.
///
/// A chunk keeps what its document says (title, language, MIME type, source URI, attributes)
/// and adds its place: `chunk` counts from zero, `byte_range` says which bytes of the source
/// it is. With [`markdown`](Self::markdown) the attribute `headings` holds the headings that
/// all of the chunk stands under, outermost first.
///
/// # Contract
///
/// 1. `chunk.text` is exactly the parent's text at `chunk.byte_range` (counted from the
///    parent's own range; a parent whose text is not as long as its range was edited, and its
///    chunks have no range).
/// 2. Every character but white space is in some chunk, and chunks come in order.
/// 3. No chunk is larger than the size, unless it is one grapheme cluster, which is never
///    split: a family emoji is one, a letter with its accents is one.
/// 4. A chunk repeats at most `overlap` of the end of the one before, from the beginning of a
///    sentence or word. Across a Markdown heading nothing is repeated.
/// 5. The time it takes grows with the length of the text, not faster.
///
/// A document that holds nothing but white space is dropped: "no text to chunk".
///
/// # Examples
///
/// ```
/// use nvisy_plugin_ai::Chunk;
///
/// let chunk = Chunk::characters(20);
/// let text = "One fish. Two fish. Red fish. Blue fish.";
/// let chunks: Vec<&str> = chunk.ranges(text).into_iter().map(|range| &text[range]).collect();
/// assert_eq!(chunks, ["One fish. Two fish.", "Red fish. Blue fish."]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// How a chunk is measured, and where it is best cut.
    strategy: Strategy,
    /// How large a chunk is at the most, in the unit of the strategy.
    #[schemars(range(min = 1, max = MAX_SIZE))]
    size: u32,
    /// How much of its end the next chunk repeats at the most, in the same unit. Default 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    overlap: u32,
    /// The vocabulary that tokens are counted with. Default `cl100k_base`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encoding: Option<Encoding>,
}

const MAX_SIZE: u32 = 1 << 20;
const NO_TEXT: &str = "no text to chunk";

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Chunk {
    fn new(strategy: Strategy, size: u32) -> Self {
        Self { strategy, size, overlap: 0, encoding: None }
    }

    /// Chunks of at most so many model tokens. Default no overlap, counted with `cl100k_base`.
    #[must_use]
    pub fn tokens(size: u32) -> Self {
        Self::new(Strategy::Tokens, size)
    }

    /// Chunks of at most so many characters.
    #[must_use]
    pub fn characters(size: u32) -> Self {
        Self::new(Strategy::Characters, size)
    }

    /// Chunks of so many sentences.
    #[must_use]
    pub fn sentences(count: u32) -> Self {
        Self::new(Strategy::Sentences, count)
    }

    /// Chunks of at most so many model tokens, cut where Markdown has its seams.
    #[must_use]
    pub fn markdown(size: u32) -> Self {
        Self::new(Strategy::Markdown, size)
    }

    /// Sets how much of a chunk's end the next one repeats at the most. Default 0.
    #[must_use]
    pub fn overlap(mut self, overlap: u32) -> Self {
        self.overlap = overlap;
        self
    }

    /// Sets the vocabulary that tokens are counted with. Default [`Encoding::Cl100kBase`].
    #[must_use]
    pub fn encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = Some(encoding);
        self
    }

    /// Returns which bytes of a text the chunks are.
    #[must_use]
    pub fn ranges(&self, text: &str) -> Vec<Range<usize>> {
        self.pieces(text).into_iter().map(|piece| piece.range).collect()
    }

    /// Cuts one document.
    ///
    /// # Errors
    ///
    /// `validation` if the text is longer than 4 GiB.
    pub fn apply(&self, document: &Item<Document>) -> Result<Outcome<Document>> {
        let text = document.text.as_str();
        if u32::try_from(text.len()).is_err() {
            let message =
                format!("a text of {} bytes is too long to chunk: cut it below 4 GiB first", text.len());
            return Err(Error::new(ErrorKind::Validation, message).at_item(document.id()));
        }
        if text.trim().is_empty() {
            return Ok(Outcome::drop(NO_TEXT));
        }
        let start = start_in_source(document);
        let template = inherited(document);
        let salt = self.salt();
        let mut chunks = Vec::new();
        for (ordinal, piece) in (0..).zip(self.pieces(text)) {
            let Range { start: from, end: to } = piece.range;
            let mut fields = DocumentFields {
                text: text[from..to].to_owned(),
                byte_range: start.map(|start| start + from as u64..start + to as u64),
                chunk: Some(ordinal),
                ..template.clone()
            };
            if !piece.headings.is_empty() {
                fields.attributes.insert("headings".into(), Value::from(piece.headings));
            }
            chunks.push(document.derive(&salt, ordinal, Document::try_from(fields)?));
        }
        Ok(Outcome::emit_all(chunks))
    }

    fn pieces(&self, text: &str) -> Vec<Piece> {
        let (size, overlap) = (self.size.max(1), self.overlap);
        let encoding = self.encoding.unwrap_or_default();
        let rule = Rule { size, overlap, fill: size / 2, keep_indent: false, sections: None };
        let plain = |ranges: Vec<Range<usize>>| {
            ranges.into_iter().map(|range| Piece { range, headings: Vec::new() }).collect()
        };
        match self.strategy {
            Strategy::Tokens => {
                let tokens = Tokens::new(text, encoding);
                plain(Atoms::new(text, tokens, &segment::seams(text), size).cut(rule))
            }
            Strategy::Characters => {
                plain(Atoms::new(text, Characters(text), &segment::seams(text), size).cut(rule))
            }
            Strategy::Sentences => {
                plain(Atoms::sentences(text, &segment::seams(text)).cut(Rule { fill: size, ..rule }))
            }
            Strategy::Markdown => {
                let outline = markdown::Outline::of(text);
                let mut seams = segment::seams(text);
                outline.rate(text, &mut seams);
                let atoms = Atoms::new(text, Tokens::new(text, encoding), &seams, size);
                let rule =
                    Rule { fill: 0, keep_indent: true, sections: Some(outline.first_section(text)), ..rule };
                let piece = |range: Range<usize>| {
                    let start = range.start + markdown::indent(&text[range.start..]);
                    Piece { headings: outline.headings_of(start..range.end), range }
                };
                atoms.cut(rule).into_iter().map(piece).collect()
            }
        }
    }

    /// Names the rule in ids: another rule makes other things.
    fn salt(&self) -> String {
        let Self { strategy, size, overlap, .. } = self;
        let mut salt = format!("chunk:{}:{size}:{overlap}", strategy.name());
        if self.counts_tokens() {
            salt.push(':');
            salt.push_str(self.encoding.unwrap_or_default().name());
        }
        salt
    }

    fn counts_tokens(&self) -> bool {
        matches!(self.strategy, Strategy::Tokens | Strategy::Markdown)
    }
}

struct Piece {
    range: Range<usize>,
    headings: Vec<String>,
}

/// Returns where the text begins in its source, unless it is no longer what stood there.
fn start_in_source(document: &Document) -> Option<u64> {
    match &document.byte_range {
        None => Some(0),
        Some(range) if range.end - range.start == document.text.len() as u64 => Some(range.start),
        Some(_) => None,
    }
}

/// Copies what chunks inherit of their document: all but the text, which may be long.
fn inherited(document: &Document) -> DocumentFields {
    DocumentFields {
        title: document.title.clone(),
        language: document.language.clone(),
        mime_type: document.mime_type.clone(),
        source_uri: document.source_uri.clone(),
        attributes: document.attributes.clone(),
        ..DocumentFields::default()
    }
}

impl ActionConfig for Chunk {
    const NAME: &'static str = "ai/chunk";
    type Input = Document;
    type Output<In: Kind> = Document;
    type Client = NoClient;

    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !(1..=MAX_SIZE).contains(&self.size) {
            let message = format!("a chunk cannot have the size {}", self.size);
            problems.push(Problem::new("size", message).with_help(format!("from 1 to {MAX_SIZE}")));
        }
        if self.overlap >= self.size.max(1) {
            let message =
                format!("an overlap of {} leaves no room in a chunk of {}", self.overlap, self.size);
            problems.push(Problem::new("overlap", message).with_help("make it smaller than `size`"));
        }
        if self.encoding.is_some() && !self.counts_tokens() {
            let message = format!("the strategy `{}` counts no tokens", self.strategy.name());
            problems.push(Problem::new("encoding", message).with_help("leave it out"));
        }
        problems
    }

    async fn build(&self, _: &OpenContext) -> Result<Action> {
        let chunk = self.clone();
        Ok(Action::function(move |document: Item<Document>| chunk.apply(&document)))
    }
}
