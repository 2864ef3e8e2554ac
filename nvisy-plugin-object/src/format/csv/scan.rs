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
    /// Finds the records of a text, one after the other.
    pub(super) fn scan<'a>(&self, text: &'a [u8]) -> Scanner<'a> {
        Scanner { dialect: *self, text, at: 0, marks: Marks::new(*self, text) }
    }

    /// Returns a bit for each byte: whether it is a delimiter, a quote or a new line.
    #[inline]
    fn marks(&self, bytes: &[u8; LANES]) -> u64 {
        // Two loops without a branch, which compilers turn into vectors: a byte for each byte,
        // then eight of them to eight bits.
        let mut marks = [0; LANES];
        for (mark, byte) in marks.iter_mut().zip(bytes) {
            *mark = u8::from((*byte == self.delimiter) | (*byte == self.quote) | (*byte == b'\n'));
        }
        let (eights, _) = marks.as_chunks::<8>();
        eights.iter().rev().fold(0, |bits, eight| {
            bits << 8 | u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56
        })
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

/// Finds records and their fields.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    dialect: Dialect,
    text: &'a [u8],
    /// Where the next record may begin: the next mark stands there or behind.
    at: usize,
    marks: Marks<'a>,
}

impl Scanner<'_> {
    /// Finds the next record, and its fields; none at the end.
    ///
    /// A quote that is never closed spoils its own line only.
    pub(super) fn record(&mut self, fields: &mut Fields) -> Option<Record> {
        let (text, quote) = (self.text, self.dialect.quote);
        while let [b'\n', ..] | [b'\r', b'\n', ..] = text.get(self.at..)? {
            self.at = self.marks.next()? + 1;
        }
        if let [] | [b'\r'] = text[self.at..] {
            return None;
        }
        fields.list.clear();
        let start = self.at;
        let mut fault = None;
        loop {
            let begin = self.at;
            let mut field = Field { start: begin as u32, end: 0, quoted: false, escaped: false };
            let mut stop = self.marks.next();
            if stop == Some(begin) && text[begin] == quote {
                field.quoted = true;
                let closed = loop {
                    let Some(at) = self.marks.find(|byte| byte == quote) else {
                        return Some(self.unclosed(start, begin));
                    };
                    if text.get(at + 1) != Some(&quote) {
                        break at;
                    }
                    field.escaped = true;
                    self.marks.next();
                };
                (field.start, field.end) = (begin as u32 + 1, closed as u32);
                stop = self.marks.next();
            }
            // Within a field a quote is a character as any other.
            while let Some(at) = stop
                && text[at] == quote
            {
                stop = self.marks.next();
            }
            let mut tail = stop.unwrap_or(text.len());
            self.at = tail + usize::from(stop.is_some());
            let rest = if field.quoted { field.end as usize + 1 } else { begin };
            let line_ends = stop.is_none_or(|stop| text[stop] == b'\n');
            if line_ends && tail > rest && text[tail - 1] == b'\r' {
                tail -= 1;
            }
            if !field.quoted {
                field.end = tail as u32;
            } else if tail > rest {
                fault.get_or_insert((
                    rest,
                    "there is something behind a closing quote: double a quote within a field",
                ));
            }
            fields.list.push(field);
            if line_ends {
                return Some(Record { start, end: tail, next: self.at, fault });
            }
        }
    }

    /// Gives up the line of a record in which a quote never closes.
    fn unclosed(&mut self, start: usize, quote: usize) -> Record {
        let text = self.text;
        let line = memchr(b'\n', &text[start..]).map_or(text.len(), |line| start + line);
        let end = if text[..line].ends_with(b"\r") { line - 1 } else { line };
        let fault = Some((quote.min(end), "a quote opens a field and never closes"));
        self.at = (line + 1).min(text.len());
        self.marks.seek(self.at);
        Record { start, end: end.max(start), next: self.at, fault }
    }
}

/// The delimiters, the quotes and the new lines of a text, in their order.
#[derive(Debug)]
struct Marks<'a> {
    dialect: Dialect,
    text: &'a [u8],
    /// Where the [`LANES`] bytes begin that `left` is about.
    base: usize,
    /// A bit for each mark that is still to come.
    left: u64,
}

/// How many bytes are looked at together.
const LANES: usize = 64;

impl<'a> Marks<'a> {
    fn new(dialect: Dialect, text: &'a [u8]) -> Self {
        let mut marks = Self { dialect, text, base: 0, left: 0 };
        marks.seek(0);
        marks
    }

    /// Goes to the first mark from `at` on.
    fn seek(&mut self, at: usize) {
        self.base = at - at % LANES;
        self.left = self.look() & (u64::MAX << (at % LANES));
    }

    /// Returns where the next mark stands, and passes it.
    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.left == 0 {
            if self.text.len() - self.base <= LANES {
                return None;
            }
            self.base += LANES;
            self.left = self.look();
        }
        let at = self.base + self.left.trailing_zeros() as usize;
        self.left &= self.left - 1;
        Some(at)
    }

    /// Returns where the next mark of a kind stands, and passes it.
    #[inline]
    fn find(&mut self, kind: impl Fn(u8) -> bool) -> Option<usize> {
        loop {
            let at = self.next()?;
            if kind(self.text[at]) {
                return Some(at);
            }
        }
    }

    /// Returns a bit for each mark in the bytes from the base on.
    #[inline]
    fn look(&self) -> u64 {
        let rest = &self.text[self.base..];
        match rest.first_chunk() {
            Some(bytes) => self.dialect.marks(bytes),
            None => {
                let mut bytes = [0; LANES];
                bytes[..rest.len()].copy_from_slice(rest);
                self.dialect.marks(&bytes) & !(u64::MAX << rest.len())
            }
        }
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
    use std::ops::Range;

    use proptest::prelude::*;

    use super::*;

    const DIALECT: Dialect = Dialect { delimiter: b',', quote: b'"' };

    fn records(text: &[u8]) -> Vec<(usize, Vec<String>, bool)> {
        let mut fields = Fields::default();
        let mut scanner = DIALECT.scan(text);
        let mut at = 0;
        std::iter::from_fn(|| {
            let record = scanner.record(&mut fields)?;
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

    /// The same byte by byte, as the format is described: where each record is, its fields and
    /// where its fault is.
    fn simple(text: &[u8]) -> Vec<(Range<usize>, Vec<Field>, Option<usize>)> {
        let at = |at: usize| text.get(at).copied();
        let (mut records, mut next) = (Vec::new(), 0);
        loop {
            while at(next) == Some(b'\n') || (at(next) == Some(b'\r') && at(next + 1) == Some(b'\n')) {
                next += 1;
            }
            if next == text.len() || text[next..] == *b"\r" {
                return records;
            }
            let (start, mut fields, mut fault) = (next, Vec::new(), None);
            let end = loop {
                let (begin, mut escaped, mut closed) = (next, false, None);
                if at(next) == Some(b'"') {
                    next += 1;
                    while next < text.len() && closed.is_none() {
                        match (text[next], at(next + 1)) {
                            (b'"', Some(b'"')) => (escaped, next) = (true, next + 2),
                            (b'"', _) => (closed, next) = (Some(next), next + 1),
                            _ => next += 1,
                        }
                    }
                    if closed.is_none() {
                        next = (start..text.len()).find(|at| text[*at] == b'\n').unwrap_or(text.len());
                        let end = if next > start && text[next - 1] == b'\r' { next - 1 } else { next };
                        fault = Some(begin.min(end));
                        break end;
                    }
                }
                let rest = next;
                while at(next).is_some_and(|byte| byte != b',' && byte != b'\n') {
                    next += 1;
                }
                let line_ends = at(next) != Some(b',');
                let end = if line_ends && next > rest && text[next - 1] == b'\r' { next - 1 } else { next };
                if closed.is_some() && end > rest {
                    fault.get_or_insert(rest);
                }
                let (from, to) = closed.map_or((begin, end), |closed| (begin + 1, closed));
                let quoted = closed.is_some();
                fields.push(Field { start: from as u32, end: to as u32, quoted, escaped });
                if line_ends {
                    break end;
                }
                next += 1;
            };
            next += usize::from(next < text.len());
            records.push((start..end, fields, fault));
        }
    }

    proptest! {
        #[test]
        fn sixty_four_bytes_at_a_time_are_scanned_as_one_by_one(
            text in "([ab\u{e9}]{0,40}|[ab]{0,3}|\"[ab]{0,9}\"|\"[ab,\n]{0,70}\"|[,\n]|\r\n|\"){0,40}",
        ) {
            let mut fields = Fields::default();
            let mut scanner = DIALECT.scan(text.as_bytes());
            for (span, list, fault) in simple(text.as_bytes()) {
                let record = scanner.record(&mut fields).unwrap();
                prop_assert_eq!((record.start..record.end, record.fault.map(|fault| fault.0)), (span, fault));
                prop_assert_eq!(&fields.list, &list);
            }
            prop_assert!(scanner.record(&mut fields).is_none());
        }

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
            let mut scanner = DIALECT.scan(bytes);
            while let Some(record) = scanner.record(&mut fields) {
                // From an unclosed quote on the two part on purpose: only the end decides.
                if record.fault.is_some_and(|(_, why)| why.contains("never")) { return Ok(()); }
                next.push(record.next);
            }
            for end in ends {
                let blank = bytes[..end].ends_with(b"\n\n") || bytes[..end].ends_with(b"\n\r\n") || bytes[..end].iter().all(|b| b"\r\n".contains(b));
                prop_assert!(next.contains(&end) || blank, "{end} in {next:?} of {text:?}");
            }
        }
    }
}
