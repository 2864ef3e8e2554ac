//! An object's text in blocks of whole records, each knowing where it stands.

use std::io::Read;

use bytes::Bytes;
use memchr::{memchr, memchr_iter, memrchr};
use nvisy_core::{Error, Result};

use crate::error::{broken, from_io};

/// Whole records, as they stand in the (decompressed) object.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The text. Only a lone record at the object's end may be incomplete.
    pub(crate) text: Bytes,
    /// The byte at which it begins.
    pub(crate) offset: u64,
    /// The line at which it begins, from one.
    pub(crate) line: u64,
    /// A record that was too long to be held. There is no text beside it.
    pub(crate) oversize: Option<Oversize>,
    /// Whether it stands within an array, where a record that was too long has told.
    pub(crate) array: Option<bool>,
    /// Whether the object ends here.
    pub(crate) last: bool,
}

/// A record that is longer than the limit.
#[derive(Clone, Debug)]
pub(crate) struct Oversize {
    pub(crate) offset: u64,
    pub(crate) line: u64,
    /// How it begins.
    pub(crate) head: Bytes,
}

impl Block {
    /// Cuts off the first `len` bytes.
    pub(crate) fn advance(&mut self, len: usize) {
        let gone = self.text.split_to(len);
        self.offset += len as u64;
        self.line += lines(&gone);
    }

    /// Returns the line of the byte at `at`.
    pub(crate) fn line_at(&self, at: usize) -> u64 {
        self.line + self.lines_between(0, at)
    }

    /// Returns how many lines end between two bytes.
    pub(crate) fn lines_between(&self, from: usize, to: usize) -> u64 {
        let end = self.text.len();
        lines(&self.text[from.min(end)..to.min(end)])
    }
}

fn lines(text: &[u8]) -> u64 {
    memchr_iter(b'\n', text).count() as u64
}

/// Finds where records end. Sees the text once, in pieces.
pub(crate) trait Split: Send {
    /// Returns where the first and the last record that end in `piece` end.
    fn feed(&mut self, piece: &[u8]) -> Option<(usize, usize)>;

    /// Begins anew within a record: the rest of a record that was too long is over.
    fn restart(&mut self);

    /// Returns whether a new line may be the end of a record that seems to go on: of one that
    /// is too long only the first line is given up then.
    fn lines_are_safe(&self) -> bool {
        false
    }

    /// Returns whether what comes next stands within an array, where that is known.
    fn array(&self) -> Option<bool> {
        None
    }

    /// Returns how many bytes stand before the record that `text` begins with.
    fn lead(&self, text: &[u8]) -> usize {
        let _ = text;
        0
    }
}

/// Every line is a record.
#[derive(Debug)]
pub(crate) struct Lines;

impl Split for Lines {
    fn feed(&mut self, piece: &[u8]) -> Option<(usize, usize)> {
        let last = memrchr(b'\n', piece)?;
        Some((memchr(b'\n', piece)? + 1, last + 1))
    }

    fn restart(&mut self) {}
}

/// How much of a record that is too long is kept.
const HEAD: usize = 1 << 10;

/// Reads an object in blocks.
pub(crate) struct BlockReader {
    key: String,
    input: Box<dyn Read + Send>,
    split: Box<dyn Split>,
    /// How many bytes are read at once.
    size: usize,
    /// How long a record may be.
    max_record: usize,
    /// What was read and not given out: the beginning of a record.
    carry: Vec<u8>,
    /// How much of the carry the splitter has seen.
    seen: usize,
    offset: u64,
    line: u64,
    /// What a record that was too long has told of an array.
    array: Option<bool>,
    state: State,
    /// What is to be told when all that was read before it is given out.
    failed: Option<Error>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Start,
    Reading,
    /// Within a record that is too long.
    Skipping,
    End,
}

impl BlockReader {
    /// Reads the object at `key` from `input`, in blocks of about `size` bytes.
    pub(crate) fn new(
        key: &str,
        input: Box<dyn Read + Send>,
        split: Box<dyn Split>,
        size: usize,
        max_record: usize,
    ) -> Self {
        Self {
            key: key.to_owned(),
            input,
            split,
            size,
            max_record,
            carry: Vec::new(),
            seen: 0,
            offset: 0,
            line: 1,
            array: None,
            state: State::Start,
            failed: None,
        }
    }

    /// Returns the next block, or none at the end. Blocks.
    pub(crate) fn next(&mut self) -> Result<Option<Block>> {
        loop {
            if let Some(error) = self.failed.take() {
                self.state = State::End;
                return Err(error);
            }
            if self.state == State::End {
                return Ok(None);
            }
            let mut text = std::mem::take(&mut self.carry);
            let before = text.len();
            text.reserve_exact(self.size);
            let read = self.input.by_ref().take(self.size as u64).read_to_end(&mut text);
            let read = read.unwrap_or_else(|error| {
                // Decompressors say in many ways that what they read is none or is cut off.
                self.failed = Some(match error.kind() {
                    std::io::ErrorKind::Other => broken(&self.key, "it is damaged").with_source(error),
                    _ => from_io(error, "read", &self.key),
                });
                self.size
            });
            let end = read < self.size;
            if self.state == State::Start {
                if text.starts_with(b"\xef\xbb\xbf") {
                    text.drain(..3);
                    self.offset = 3;
                }
                if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
                    return Err(broken(&self.key, "it is UTF-16: convert it to UTF-8"));
                }
                self.state = State::Reading;
            }
            if self.state == State::Skipping && !self.skip(&mut text, end) {
                continue;
            }
            let seen = if before == 0 { 0 } else { self.seen };
            let cut = self.split.feed(&text[seen..]).map(|(_, last)| seen + last);
            let cut = if end { Some(text.len()) } else { cut };
            match cut {
                Some(cut) => {
                    self.carry = text[cut..].to_vec();
                    self.seen = self.carry.len();
                    text.truncate(cut);
                    if end {
                        self.state = State::End;
                    }
                }
                None if text.len() > self.max_record => {
                    return Ok(Some(self.give_up(text)));
                }
                None => {
                    self.seen = text.len();
                    self.carry = text;
                    continue;
                }
            }
            let (offset, line, array) = (self.offset, self.line, self.array);
            let block = Block { text: text.into(), offset, line, oversize: None, array, last: end };
            self.offset += block.text.len() as u64;
            self.line += lines(&block.text);
            return Ok(Some(block));
        }
    }

    /// Gives a record up that is too long.
    fn give_up(&mut self, mut text: Vec<u8>) -> Block {
        let lead = self.split.lead(&text);
        self.offset += lead as u64;
        self.line += lines(&text[..lead]);
        text.drain(..lead);
        let (offset, line) = (self.offset, self.line);
        let head = Bytes::copy_from_slice(&text[..text.len().min(HEAD)]);
        let oversize = Some(Oversize { offset, line, head });
        let block = Block { text: Bytes::new(), offset, line, oversize, array: self.array, last: false };
        let line = if self.split.lines_are_safe() { memchr(b'\n', &text) } else { None };
        match line {
            Some(line) => {
                self.offset += line as u64 + 1;
                self.line += 1;
                self.carry = text.split_off(line + 1);
                self.seen = 0;
                self.split.restart();
            }
            None => {
                self.offset += text.len() as u64;
                self.line += lines(&text);
                self.carry = Vec::new();
                self.seen = 0;
                self.state = State::Skipping;
            }
        }
        block
    }

    /// Passes the rest of a record that is too long. Returns whether it is over.
    fn skip(&mut self, text: &mut Vec<u8>, end: bool) -> bool {
        let over = if end && text.is_empty() { None } else { self.split.feed(text).map(|(first, _)| first) };
        let gone = over.unwrap_or(text.len());
        self.offset += gone as u64;
        self.line += lines(&text[..gone]);
        text.drain(..gone);
        if over.is_some() {
            self.split.restart();
        }
        if over.is_some() || end {
            self.array = self.split.array();
            self.state = State::Reading;
            return true;
        }
        false
    }
}

impl std::fmt::Debug for BlockReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlockReader")
            .field("key", &self.key)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// A record longer than the limit is not held, only named.
pub(crate) fn too_long(key: &str, oversize: &Oversize, limit: usize) -> Error {
    let Oversize { offset, line, .. } = oversize;
    let message = format!(
        "object \"{key}\", line {line}, byte {offset}: the record is longer than {limit} bytes: raise `max_record`"
    );
    Error::new(nvisy_core::ErrorKind::Validation, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, size: usize, max: usize) -> Vec<(u64, u64, String, bool)> {
        let input = Box::new(std::io::Cursor::new(text.as_bytes().to_vec()));
        let mut reader = BlockReader::new("a", input, Box::new(Lines), size, max);
        std::iter::from_fn(|| reader.next().unwrap())
            .map(|b| (b.offset, b.line, String::from_utf8(b.text.to_vec()).unwrap(), b.oversize.is_some()))
            .collect()
    }

    #[test]
    fn blocks_are_whole_lines_at_their_places() {
        let text = "one\ntwo\nthree\n\nfive";
        for size in 1..30 {
            let blocks = read(text, size, 100);
            let mut whole = String::new();
            for (offset, line, block, _) in &blocks {
                assert_eq!(*offset, whole.len() as u64);
                assert_eq!(*line, 1 + whole.matches('\n').count() as u64);
                assert!(block.ends_with('\n') || text.ends_with(block.as_str()));
                whole += block;
            }
            assert_eq!(whole, text, "{size}");
        }
    }

    #[test]
    fn a_line_over_the_limit_is_passed_and_named() {
        let text = format!("one\n{}\nthree\n", "x".repeat(50));
        for size in 1..60 {
            let blocks = read(&text, size, 10);
            let whole: String = blocks.iter().map(|(_, _, text, _)| text.as_str()).collect();
            // What is in one block with its end was held anyway.
            let held = whole.contains('x');
            assert_eq!(whole, if held { text.clone() } else { "one\nthree\n".into() }, "{size}");
            assert_eq!(blocks.iter().any(|b| b.3), !held, "{size}");
            let last = blocks.last().unwrap();
            assert!(last.2.is_empty() || last.0 + last.2.len() as u64 == text.len() as u64);
        }
    }

    #[test]
    fn a_byte_order_mark_is_stripped_and_counted() {
        assert_eq!(read("\u{feff}a\n", 8, 10), [(3, 1, "a\n".into(), false)]);
        assert_eq!(read("", 8, 10), [(0, 1, String::new(), false)]);
        assert_eq!(read("\u{feff}", 8, 10), [(3, 1, String::new(), false)]);
    }
}
