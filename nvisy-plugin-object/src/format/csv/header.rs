//! What the columns of an object are called, and how many there are.

use std::borrow::Cow;
use std::collections::BTreeMap;

use nvisy_core::{Error, Result};

use super::Csv;
use super::scan::{Dialect, Fields};
use crate::block::{Block, Oversize};
use crate::error::broken;
use crate::names::unique;
use crate::rows::TextFormat;

/// How much of an object without a header says how many fields its records have, if two stand in it: no
/// more than the smallest block holds, so that it is the same however large the blocks are.
const FIRST_BYTES: usize = 32 << 10;

impl Csv {
    /// Returns whether a given schema names the fields by their order.
    pub(super) fn has_order(&self) -> bool {
        self.header == Some(false) && self.schema.is_some()
    }

    /// Returns what says how many fields a record has.
    pub(super) fn width(&self) -> &'static str {
        match self.header {
            Some(false) if self.schema.is_some() => "the schema",
            Some(false) => "most of the first records",
            _ => "the header",
        }
    }

    /// Takes the header off a block, if there is one: the columns' names. None where no record stands
    /// in it.
    pub(super) fn names(
        &self,
        key: &str,
        dialect: Dialect,
        first: &mut Block,
    ) -> Result<Option<Vec<String>>> {
        if self.header.unwrap_or(true) {
            return header(key, dialect, self.max_record(), first);
        }
        if let Some(columns) = &self.schema {
            return Ok(Some(columns.iter().map(|column| column.name.clone()).collect()));
        }
        let width = width(dialect, &first.text, self.max_record());
        Ok(width.map(|width| (1..=width).map(|at| format!("column_{at}")).collect()))
    }
}

fn header(key: &str, dialect: Dialect, limit: usize, first: &mut Block) -> Result<Option<Vec<String>>> {
    let too_long = format!("is longer than {limit} bytes: close its quotes, or raise `max_record`");
    if let Some(Oversize { offset, line, .. }) = &first.oversize {
        return Err(no_header(key, *line, *offset, &too_long));
    }
    let mut fields = Fields::default();
    let Some(span) = dialect.scan(&first.text).record(&mut fields) else { return Ok(None) };
    let fault = match span.fault {
        Some((at, fault)) => Some((at, format!("is broken: {fault}"))),
        None if span.end - span.start > limit => Some((span.start, too_long)),
        None => None,
    };
    if let Some((at, fault)) = fault {
        return Err(no_header(key, first.line_at(at), first.offset + at as u64, &fault));
    }
    let names = (1..).zip(&fields.list).map(|(at, field)| {
        let name = String::from_utf8_lossy(&dialect.value(&first.text, field)).into_owned();
        Cow::Owned(if name.is_empty() { format!("column_{at}") } else { name })
    });
    let names = unique(names);
    first.advance(span.next);
    Ok(Some(names))
}

/// Returns how many fields most of the first records have, of two numbers as frequent the larger: the
/// very first may be torn.
fn width(dialect: Dialect, text: &[u8], limit: usize) -> Option<usize> {
    let mut scanner = dialect.scan(text);
    let mut fields = Fields::default();
    let mut widths: BTreeMap<usize, u64> = BTreeMap::new();
    let mut faulty = None;
    while let Some(record) = scanner.record(&mut fields) {
        let width = fields.list.len();
        match record.fault.is_none() && record.end - record.start <= limit {
            true => *widths.entry(width).or_default() += 1,
            false => _ = faulty.get_or_insert(width),
        }
        if record.next > FIRST_BYTES && widths.values().sum::<u64>() > 1 {
            break;
        }
    }
    widths.into_iter().max_by_key(|(width, times)| (*times, *width)).map(|(width, _)| width).or(faulty)
}

/// The error of an object whose header does not tell its columns.
fn no_header(key: &str, line: u64, offset: u64, fault: &str) -> Error {
    broken(key, format_args!("line {line}, byte {offset}: the header {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &'static str) -> Block {
        Block { text: text.into(), offset: 0, line: 1, oversize: None, array: None, last: true }
    }

    #[test]
    fn a_header_is_made_unique_and_taken_off() {
        let text = "a,,a,\"b\"\"c\"\r\n1,2,3,4\n";
        let mut block = block(text);
        let csv = Csv::all();
        let names = csv.names("x.csv", csv.dialect("x.csv"), &mut block).unwrap().unwrap();
        assert_eq!(names, ["a", "column_2", "a_3", "b\"c"]);
        assert_eq!((block.offset, block.line, &block.text[..]), (13, 2, &b"1,2,3,4\n"[..]));
        assert_eq!(csv.dialect("x.TSV.gz").delimiter, b'\t');
    }

    #[test]
    fn a_name_that_is_made_is_no_other_columns() {
        let csv = Csv::all();
        for (header, expected) in [("a_3,a,a\n", ["a_3", "a", "a_3_3"]), ("a,a,a_2\n", ["a", "a_2_2", "a_2"])]
        {
            let names = csv.names("x.csv", csv.dialect("x.csv"), &mut block(header)).unwrap().unwrap();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn most_records_say_how_many_fields_there_are_where_no_header_does() {
        let csv = Csv::all().header(false);
        let check = |text: &'static str, names: Option<usize>| {
            let found = csv.names("x.csv", csv.dialect("x.csv"), &mut block(text)).unwrap();
            assert_eq!(found.map(|names| names.len()), names, "{text}");
        };
        check("1,2\n1,2,3\n4,5,6\n", Some(3));
        check("1,2\n1,2,3\n", Some(3));
        check("1\n2\n3,\n", Some(1));
        check("\n\n", None);
    }
}
