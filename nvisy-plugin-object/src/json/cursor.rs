//! What JSON consists of: texts, numbers, and what is passed over.

use serde::de::IgnoredAny;

use super::Fault;
use crate::schema::Drift;

/// How deep objects and lists may be nested: serde_json's own limit.
const MAX_DEPTH: usize = 127;

/// A place in a record.
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    pub(super) depth: usize,
    pub(super) drift: Drift,
}

impl<'a> Cursor<'a> {
    pub(super) fn fail<T>(&self, message: impl Into<String>) -> Result<T, Fault> {
        Err((self.at, message.into()))
    }

    #[inline]
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    #[inline]
    pub(super) fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    #[inline]
    pub(super) fn literal(&mut self, word: &str) -> Result<(), Fault> {
        if self.bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        self.fail("this is no JSON value")
    }
    #[inline]
    pub(super) fn enter(&mut self) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { self.fail("objects and lists are nested too deep") } else { Ok(()) }
    }

    /// Reads a string: what is between the quotes, and whether there are escapes in it.
    #[inline]
    pub(super) fn string(&mut self) -> Result<(&'a [u8], bool), Fault> {
        if !self.take(b'"') {
            return self.fail("`\"` is missing before a name or text");
        }
        let bytes = self.bytes();
        let start = self.at;
        let mut escaped = false;
        loop {
            match end_of_plain(&bytes[self.at..]) {
                Some(len) => self.at += len,
                None => {
                    self.at = bytes.len();
                    return self.fail("a text does not end");
                }
            }
            match bytes[self.at] {
                b'"' => {
                    self.at += 1;
                    return Ok((&bytes[start..self.at - 1], escaped));
                }
                b'\\' => {
                    escaped = true;
                    self.at = (self.at + 2).min(bytes.len());
                }
                _ => return self.fail("a text holds a control character: write it as an escape"),
            }
        }
    }

    /// Returns what the string from `start` to here says.
    pub(super) fn unescape(&self, start: usize) -> Result<String, Fault> {
        serde_json::from_str(&self.text[start..self.at])
            .map_err(|error| (start, format!("a text does not read: {}", short(&error))))
    }

    /// Reads an integer of 64 bits; stays where it is if there is none.
    #[inline]
    pub(super) fn integer(&mut self) -> Option<i64> {
        let bytes = &self.bytes()[self.at..];
        let digits = usize::from(bytes.first() == Some(&b'-'));
        let end = digits + bytes[digits..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if matches!(bytes.get(end), Some(b'.' | b'e' | b'E')) {
            return None;
        }
        // JSON knows a `-0`, which is zero.
        let value = if &bytes[..end] == b"-0" { 0 } else { crate::text::int(&bytes[..end])? };
        self.at += end;
        Some(value)
    }

    /// Passes a number.
    pub(super) fn number(&mut self) -> Result<(), Fault> {
        self.take(b'-');
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return self.fail("a number has no digits"),
        }
        if self.take(b'.') {
            self.some_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.some_digits()?;
        }
        match self.peek() {
            Some(b'0'..=b'9') => self.fail("a number begins with a zero"),
            _ => Ok(()),
        }
    }

    fn digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), Fault> {
        let before = self.at;
        self.digits();
        if self.at == before { self.fail("a number lacks digits") } else { Ok(()) }
    }

    /// Passes a value of any kind.
    pub(super) fn skip(&mut self) -> Result<(), Fault> {
        let start = self.at;
        let mut values = serde_json::Deserializer::from_str(&self.text[start..]).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                self.at += values.byte_offset();
                Ok(())
            }
            Some(Err(error)) => self.fail(short(&error)),
            None => self.fail("the record ends where a value is due"),
        }
    }
}

/// An error of serde_json without its own line and column, which count from the value.
fn short(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

/// Returns how many bytes stand before the first quote, backslash or control character.
#[inline]
pub(crate) fn end_of_plain(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let mut at = 0;
    // Eight at a time. A false alarm can only stand behind a true one.
    while let Some(eight) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes([
            eight[0], eight[1], eight[2], eight[3], eight[4], eight[5], eight[6], eight[7],
        ]);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let found =
            control | zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let rest = &bytes[at..];
    rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).map(|more| at + more)
}
