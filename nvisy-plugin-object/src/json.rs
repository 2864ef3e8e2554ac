//! JSON text straight into columns, without a tree in between.

mod cursor;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, SchemaRef};
use nvisy_core::{Error, Result};

use self::cursor::Cursor;
pub(crate) use self::cursor::end_of_plain;
use crate::column::{Column, Values};
use crate::schema::Drift;

/// Why a record is none: the message, and the byte within the record where it shows.
pub(crate) type Fault = (usize, String);

/// Decodes records, one at a time, into columns.
#[derive(Debug)]
pub(crate) struct JsonColumns {
    schema: SchemaRef,
    drift: Drift,
    rows: Column,
}

impl JsonColumns {
    /// Decodes records into the columns of a schema.
    pub(crate) fn new(schema: SchemaRef, drift: Drift) -> Result<Self> {
        let rows = Column::new(&DataType::Struct(schema.fields().clone()))?;
        Ok(Self { schema, drift, rows })
    }

    /// Adds the one record that `text` holds. If it holds none, nothing is added.
    pub(crate) fn push(&mut self, text: &str) -> Result<(), Fault> {
        let before = self.rows.len();
        let mut cursor = Cursor { text, at: 0, depth: 0, drift: self.drift };
        cursor.space();
        let result = match cursor.peek() {
            Some(b'{') => cursor.value(&mut self.rows, "").and_then(|()| {
                cursor.space();
                if cursor.at < text.len() {
                    cursor.fail("there is something behind the object")
                } else {
                    Ok(())
                }
            }),
            _ => cursor.fail("a record is an object: `{` is missing"),
        };
        result.inspect_err(|_| self.rows.truncate(before))
    }

    /// Makes room for so many times what is there.
    pub(crate) fn grow(&mut self, times: usize) {
        self.rows.grow(times);
    }

    /// Returns the records, and begins anew.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch> {
        let wrong = |error| Error::internal("decoded JSON makes no batch").with_source(error);
        let Values::Struct { len, columns, .. } = &mut self.rows.values else {
            return Err(Error::internal("a record is an object"));
        };
        let rows = std::mem::take(len);
        let arrays = columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        self.rows.truncate(0);
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map_err(wrong)
    }
}

impl Cursor<'_> {
    /// Reads a value into a column; `name` is the column's.
    fn value(&mut self, column: &mut Column, name: &str) -> Result<(), Fault> {
        let Some(first) = self.peek() else { return self.fail("the record ends where a value is due") };
        if first == b'n' {
            self.literal("null")?;
            column.push_null();
            return Ok(());
        }
        match &mut column.values {
            Values::Struct { .. } if first == b'{' => return self.object(column),
            Values::List { .. } if first == b'[' => return self.list(column, name),
            Values::Text { .. } if first == b'"' => {
                let start = self.at;
                let (text, escaped) = self.string()?;
                let fits = if escaped {
                    column.push_text(self.unescape(start)?.as_bytes())
                } else {
                    column.push_text(text)
                };
                return if fits {
                    Ok(())
                } else {
                    self.fail(format!("column `{name}`: the text is too long"))
                };
            }
            Values::Text { .. } => {
                let start = self.at;
                self.skip()?;
                let bytes = self.bytes();
                return if column.push_text(&bytes[start..self.at]) {
                    Ok(())
                } else {
                    self.fail(format!("column `{name}`: the text is too long"))
                };
            }
            Values::Int(values) => {
                if let Some(value) = self.integer() {
                    values.push(value);
                    column.valid();
                    return Ok(());
                }
            }
            Values::Float(_) if first == b'-' || first.is_ascii_digit() => {
                let start = self.at;
                self.number()?;
                let bytes = self.bytes();
                let text = &bytes[start..self.at];
                // JSON's grammar was checked; `-0` and the like are floats here. What no float holds is none.
                if let Some(value) = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok())
                    && value.is_finite()
                    && let Values::Float(values) = &mut column.values
                {
                    values.push(value);
                    column.valid();
                    return Ok(());
                }
                self.at = start;
            }
            Values::Bool(values) if first == b't' || first == b'f' => {
                let value = first == b't';
                self.literal(if value { "true" } else { "false" })?;
                values.push(value);
                column.valid();
                return Ok(());
            }
            Values::Date(_) | Values::Timestamp { .. } if first == b'"' => {
                let start = self.at;
                let (text, _) = self.string()?;
                if column.parse(text) {
                    return Ok(());
                }
                self.at = start;
            }
            _ => {}
        }
        let start = self.at;
        self.skip()?;
        let message = format!("column `{name}`: this is no {}", column.type_name());
        Err((start, message))
    }

    fn object(&mut self, column: &mut Column) -> Result<(), Fault> {
        self.enter()?;
        let Values::Struct { len, fields, columns } = &mut column.values else {
            return self.fail("an object where there is none");
        };
        let row = *len;
        self.at += 1;
        self.space();
        let mut next = 0;
        if !self.take(b'}') {
            loop {
                self.space();
                let start = self.at;
                let (key, escaped) = self.string()?;
                let place = if escaped {
                    let key = self.unescape(start)?;
                    fields.iter().position(|field| field.name() == &key)
                } else {
                    // Most records have their columns in the same order.
                    match fields.get(next) {
                        Some(field) if field.name().as_bytes() == key => Some(next),
                        _ => {
                            let named = |at: &usize| fields[*at].name().as_bytes() == key;
                            (next..fields.len())
                                .find(named)
                                .or_else(|| (0..next.min(fields.len())).find(named))
                        }
                    }
                };
                self.space();
                if !self.take(b':') {
                    return self.fail("`:` is missing behind a name");
                }
                self.space();
                match place {
                    Some(place) => {
                        next = place + 1;
                        // Of a name that stands twice the last value counts.
                        columns[place].truncate(row);
                        self.value(&mut columns[place], fields[place].name())?;
                    }
                    None => {
                        self.skip()?;
                        if self.drift == Drift::Reject {
                            let key = String::from_utf8_lossy(key);
                            let remedy =
                                "give a schema with it, raise `sample`, or set `drift` to \"ignore\"";
                            return Err((start, format!("the schema has no column `{key}`: {remedy}")));
                        }
                    }
                }
                self.space();
                if self.take(b',') {
                    continue;
                }
                if self.take(b'}') {
                    break;
                }
                return self.fail("`,` or `}` is missing behind a value");
            }
        }
        self.depth -= 1;
        for column in columns.iter_mut() {
            if column.len() == row {
                column.push_null();
            }
        }
        *len += 1;
        column.valid();
        Ok(())
    }

    fn list(&mut self, column: &mut Column, name: &str) -> Result<(), Fault> {
        self.enter()?;
        let Values::List { ends, item, .. } = &mut column.values else {
            return self.fail("a list where there is none");
        };
        self.at += 1;
        self.space();
        if !self.take(b']') {
            loop {
                self.space();
                self.value(item, name)?;
                self.space();
                if self.take(b',') {
                    continue;
                }
                if self.take(b']') {
                    break;
                }
                return self.fail("`,` or `]` is missing behind a value");
            }
        }
        self.depth -= 1;
        let Ok(end) = i32::try_from(item.len()) else { return self.fail("a list is too long") };
        ends.push(end);
        column.valid();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Shape, inferred};

    fn columns(sample: &str, drift: Drift) -> JsonColumns {
        let Shape::Object(columns) = serde_json::from_str(sample).unwrap() else {
            panic!("a sample is an object")
        };
        JsonColumns::new(inferred(&columns), drift).unwrap()
    }

    fn check(sample: &str, record: &str, expected: &str) {
        let mut columns = columns(sample, Drift::Ignore);
        columns.push(record).unwrap();
        let row = nvisy_core::primitive::row::Row::new(columns.finish().unwrap().into(), 0).unwrap();
        assert_eq!(
            serde_json::Value::from(row.to_json()),
            serde_json::from_str::<serde_json::Value>(expected).unwrap()
        );
    }

    fn refuse(sample: &str, record: &str, says: &str) {
        let mut columns = columns(sample, Drift::Reject);
        columns.push(sample).unwrap();
        let (_, message) = columns.push(record).unwrap_err();
        assert!(message.contains(says), "{record}: {message}");
        columns.push(sample).unwrap();
        assert_eq!(columns.finish().unwrap().num_rows(), 2, "what was refused leaves nothing");
    }

    #[test]
    fn values_arrive_in_their_columns() {
        let sample = r#"{"a": 1, "b": 1.5, "c": "x", "d": true, "e": [1], "f": {"g": [{"h": "x"}]}}"#;
        check(
            sample,
            r#"{"d":false,"a":-7,"b":1e2}"#,
            r#"{"a":-7,"b":100.0,"c":null,"d":false,"e":null,"f":null}"#,
        );
        check(
            sample,
            r#" {"c":"ü\"\u00e9\ud83d\ude00","e":[],"f":{"g":[{"h":null},null]}} "#,
            r#"{"a":null,"b":null,"c":"ü\"é😀","d":null,"e":[],"f":{"g":[{"h":null},null]}}"#,
        );
        check(
            sample,
            r#"{"c": 12.50, "x": [{"y": "}"}], "a": 1, "a": 2}"#,
            r#"{"a":2,"b":null,"c":"12.50","d":null,"e":null,"f":null}"#,
        );
        check(
            sample,
            r#"{"c": {"k" : [1]}, "\u0061": 5}"#,
            r#"{"a":5,"b":null,"c":"{\"k\" : [1]}","d":null,"e":null,"f":null}"#,
        );
    }

    #[test]
    fn what_is_no_record_is_refused_and_leaves_nothing() {
        let sample = r#"{"a": 1, "b": 1.5, "c": "x", "e": [1], "f": {"g": 1}}"#;
        refuse(sample, "", "`{` is missing");
        refuse(sample, "[1]", "`{` is missing");
        refuse(sample, r#"{"a": 1"#, "`,` or `}`");
        refuse(sample, r#"{"a": 1} {"a": 2}"#, "behind the object");
        refuse(sample, r#"{"a": 1.5}"#, "column `a`: this is no int");
        refuse(sample, r#"{"a": "1"}"#, "no int");
        refuse(sample, r#"{"a": 01}"#, "invalid number");
        refuse(sample, r#"{"b": 01}"#, "begins with a zero");
        refuse(sample, r#"{"c": "a"#, "does not end");
        refuse(sample, r#"{"c": "\ud800"}"#, "does not read");
        refuse(sample, "{\"c\": \"a\tb\"}", "control character");
        refuse(sample, r#"{"e": [1, "x"]}"#, "no int");
        refuse(sample, r#"{"f": {"g": 1, "z": 2}}"#, "no column `z`");
    }

    #[test]
    fn the_end_of_plain_text_is_found_at_every_place() {
        for len in 0..40 {
            for special in ["\"", "\\", "\n", "\0", "\u{1f}"] {
                let text =
                    format!("{}{special}é\"", "é~ \u{7f}".chars().cycle().take(len).collect::<String>());
                let expected = text.bytes().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f));
                assert_eq!(end_of_plain(text.as_bytes()), expected, "{text:?}");
            }
        }
    }
}
