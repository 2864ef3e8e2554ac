//! Where records and fields of CSV begin and end.

use std::borrow::Cow;

use memchr::{memchr, memrchr};

use crate::block::Split;

/// What stands between and around fields.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dialect {
    pub(super) delimiter: u8,
    pub(super) quote: u8,
}

/// A field: what is between its quotes, if it has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) quoted: bool,
    /// Whether two quotes stand for one in it.
    pub(super) escaped: bool,
}

/// The fields of one record.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) list: Vec<Field>,
}

/// Where a record is, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) start: usize,
    /// Without the end of the line.
    pub(super) end: usize,
    /// Where the next one may begin.
    pub(super) next: usize,
    /// What is wrong, and at which byte.
    pub(super) fault: Option<(usize, &'static str)>,
}

impl Dialect {
    /// Finds the next record from `at` on, and its fields; none at the end.
    ///
    /// A quote that is never closed spoils its own line only.
    pub(super) fn record(&self, text: &[u8], mut at: usize, fields: &mut Fields) -> Option<Record> {
        loop {
            match text.get(at..)? {
                [] => return None,
                [b'\n', ..] => at += 1,
                [b'\r', b'\n', ..] => at += 2,
                [b'\r'] => return None,
                _ => break,
            }
        }
        fields.list.clear();
        let start = at;
        let mut fault = None;
        loop {
            let begin = at;
            let mut quoted = false;
            let mut escaped = false;
            let mut end = None;
            if text.get(at) == Some(&self.quote) {
                quoted = true;
                at += 1;
                loop {
                    let Some(close) = memchr(self.quote, &text[at..]) else {
                        return Some(self.unclosed(text, start, begin));
                    };
                    at += close + 1;
                    if text.get(at) == Some(&self.quote) {
                        escaped = true;
                        at += 1;
                        continue;
                    }
                    break;
                }
                end = Some(at - 1);
            }
            let rest = at;
            at += self.field_end(&text[at..]);
            let stop = text.get(at);
            let line_ends = stop != Some(&self.delimiter);
            let mut tail = at;
            if line_ends && tail > rest && text[tail - 1] == b'\r' {
                tail -= 1;
            }
            if quoted && tail > rest {
                fault.get_or_insert((
                    rest,
                    "there is something behind a closing quote: double a quote within a field",
                ));
            }
            let (from, to) = match end {
                Some(end) => (begin + 1, end),
                None => (begin, tail),
            };
            fields.list.push(Field { start: from as u32, end: to as u32, quoted, escaped });
            at += usize::from(stop.is_some());
            if line_ends {
                return Some(Record { start, end: tail, next: at, fault });
            }
        }
    }

    fn unclosed(&self, text: &[u8], start: usize, quote: usize) -> Record {
        let line = memchr(b'\n', &text[start..]).map_or(text.len(), |line| start + line);
        let end = if text[..line].ends_with(b"\r") { line - 1 } else { line };
        let fault = Some((quote.min(end), "a quote opens a field and never closes"));
        Record { start, end: end.max(start), next: (line + 1).min(text.len()), fault }
    }

    /// Returns how many bytes stand before the delimiter, the end of the line or the end.
    #[inline]
    fn field_end(&self, bytes: &[u8]) -> usize {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGHS: u64 = 0x8080_8080_8080_8080;
        let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
        let (delimiter, line) = (ONES * u64::from(self.delimiter), ONES * u64::from(b'\n'));
        let mut at = 0;
        // Eight at a time. A false alarm can only stand behind a true one.
        while let Some(eight) = bytes.get(at..at + 8) {
            let word = u64::from_le_bytes([
                eight[0], eight[1], eight[2], eight[3], eight[4], eight[5], eight[6], eight[7],
            ]);
            let found = zeros(word ^ delimiter) | zeros(word ^ line);
            if found != 0 {
                return at + (found.trailing_zeros() / 8) as usize;
            }
            at += 8;
        }
        let rest = &bytes[at..];
        at + rest.iter().position(|byte| *byte == self.delimiter || *byte == b'\n').unwrap_or(rest.len())
    }

    /// Returns what a field says.
    pub(super) fn value<'a>(&self, text: &'a [u8], field: &Field) -> Cow<'a, [u8]> {
        let raw = &text[field.start as usize..field.end as usize];
        if !field.escaped {
            return Cow::Borrowed(raw);
        }
        let mut value = Vec::with_capacity(raw.len());
        let mut quote = false;
        for byte in raw {
            // The second of two.
            quote = *byte == self.quote && !quote;
            if !quote {
                value.push(*byte);
            }
        }
        Cow::Owned(value)
    }
}

/// Finds the ends of records: the new lines outside quotes.
#[derive(Debug)]
pub(super) struct Quotes {
    dialect: Dialect,
    place: Place,
    /// The byte before, outside quotes: a quote opens a field only where one begins.
    before: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Outside,
    Inside,
    /// Behind a quote within quotes: it may be the first of two.
    Closing,
}

impl Quotes {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self { dialect, place: Place::Outside, before: b'\n' }
    }
}

impl Split for Quotes {
    fn feed(&mut self, piece: &[u8]) -> Option<(usize, usize)> {
        let Dialect { delimiter, quote } = self.dialect;
        let mut ends: Option<(usize, usize)> = None;
        let mut at = 0;
        while at < piece.len() {
            match self.place {
                Place::Inside => match memchr(quote, &piece[at..]) {
                    Some(close) => {
                        at += close + 1;
                        self.place = Place::Closing;
                    }
                    None => return ends,
                },
                Place::Closing => {
                    if piece[at] == quote {
                        at += 1;
                        self.place = Place::Inside;
                    } else {
                        self.before = quote;
                        self.place = Place::Outside;
                    }
                }
                Place::Outside => {
                    let found = memchr(quote, &piece[at..]);
                    let plain = &piece[at..found.map_or(piece.len(), |found| at + found)];
                    if let Some(last) = memrchr(b'\n', plain) {
                        let first = match ends {
                            Some((first, _)) => first,
                            None => at + memchr(b'\n', plain).unwrap_or(last) + 1,
                        };
                        ends = Some((first, at + last + 1));
                    }
                    self.before = plain.last().copied().unwrap_or(self.before);
                    at += plain.len();
                    if found.is_some() {
                        at += 1;
                        if self.before == delimiter || self.before == b'\n' {
                            self.place = Place::Inside;
                        } else {
                            self.before = quote;
                        }
                    }
                }
            }
        }
        ends
    }

    fn restart(&mut self) {
        *self = Self::new(self.dialect);
    }

    fn lead(&self, text: &[u8]) -> usize {
        text.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count()
    }

    fn lines_are_safe(&self) -> bool {
        self.place == Place::Inside
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIALECT: Dialect = Dialect { delimiter: b',', quote: b'"' };

    fn records(text: &[u8]) -> Vec<(usize, Vec<String>, bool)> {
        let mut fields = Fields::default();
        let mut at = 0;
        std::iter::from_fn(|| {
            let record = DIALECT.record(text, at, &mut fields)?;
            assert!(record.next > at && record.end <= record.next && record.start <= record.end);
            at = record.next;
            let values =
                fields.list.iter().map(|f| String::from_utf8_lossy(&DIALECT.value(text, f)).into_owned());
            Some((record.start, values.collect(), record.fault.is_none()))
        })
        .collect()
    }

    fn check(text: &str, expected: &[(usize, &[&str])]) {
        let read = records(text.as_bytes());
        let read: Vec<(usize, Vec<&str>)> =
            read.iter().map(|(at, values, _)| (*at, values.iter().map(String::as_str).collect())).collect();
        assert_eq!(
            read,
            expected.iter().map(|(at, values)| (*at, values.to_vec())).collect::<Vec<_>>(),
            "{text:?}"
        );
    }

    #[test]
    fn fields_are_found() {
        check("a,b\r\nc,\n", &[(0, &["a", "b"]), (5, &["c", ""])]);
        check("a,\"b,\n\"\"c\"\"\"\nd,e", &[(0, &["a", "b,\n\"c\""]), (13, &["d", "e"])]);
        check("5\" pipe,a\"b\n", &[(0, &["5\" pipe", "a\"b"])]);
        check("\n\r\na\n\n\"\"\n", &[(3, &["a"]), (6, &[""])]);
        check("a,b,", &[(0, &["a", "b", ""])]);
    }

    #[test]
    fn a_quote_that_never_closes_spoils_its_own_line() {
        let read = records(b"a,b\nc,\"d\ne,f\n");
        assert_eq!(read.iter().map(|r| r.2).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(read[2].1, ["e", "f"]);
        assert!(!records(b"\"a\"b,c\n")[0].2);
    }

    proptest! {
        #[test]
        fn the_splitter_ends_records_where_the_scanner_does(text in "[ab,\"\n\r]{0,60}", size in 1..7_usize) {
            let bytes = text.as_bytes();
            let mut quotes = Quotes::new(DIALECT);
            let (mut base, mut ends) = (0, Vec::new());
            for piece in bytes.chunks(size) {
                if let Some((first, last)) = quotes.feed(piece) {
                    ends.push(base + first);
                    ends.push(base + last);
                }
                base += piece.len();
            }
            let mut fields = Fields::default();
            let mut next = vec![0];
            let mut at = 0;
            while let Some(record) = DIALECT.record(bytes, at, &mut fields) {
                // From an unclosed quote on the two part on purpose: only the end decides.
                if record.fault.is_some_and(|(_, why)| why.contains("never")) { return Ok(()); }
                at = record.next;
                next.push(at);
            }
            for end in ends {
                let blank = bytes[..end].ends_with(b"\n\n") || bytes[..end].ends_with(b"\n\r\n") || bytes[..end].iter().all(|b| b"\r\n".contains(b));
                prop_assert!(next.contains(&end) || blank, "{end} in {next:?} of {text:?}");
            }
        }
    }
}
