//! JSON that remembers where it stands and in which order it was written, within bounds.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::diagnostic::{Diagnostic, code};

/// The longest text that is read, in bytes.
pub(super) const MAX_BYTES: usize = 4 << 20;
/// How deep objects and arrays may lie in each other.
pub(super) const MAX_DEPTH: usize = 64;
/// The longest string, in bytes.
pub(super) const MAX_STRING: usize = 1 << 20;
/// The longest key of an object, in bytes.
pub(super) const MAX_KEY: usize = 1 << 10;
/// The longest number, in characters.
pub(super) const MAX_NUMBER: usize = 64;
/// How many values there may be, of any kind.
pub(super) const MAX_VALUES: usize = 500_000;

/// A JSON value and the byte of the text at which it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Json {
    pub(super) at: usize,
    pub(super) shape: Shape,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Json>),
    Object(Vec<Member>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) at: usize,
    pub(super) value: Json,
}

impl Json {
    /// Reads a text.
    pub(super) fn parse(text: &str) -> Result<Self, Box<Diagnostic>> {
        if text.len() > MAX_BYTES {
            let message = format!("the text has {} bytes, more than {MAX_BYTES}", text.len());
            return Err(Box::new(Diagnostic::new(code::JSON_TOO_LARGE, "", message)));
        }
        let mut parser = Parser { text, at: 0, values: 0, path: Vec::new() };
        let json = parser.value(0)?;
        parser.space();
        match parser.peek() {
            None => Ok(json),
            Some(_) => Err(parser.expected("the end of the text")),
        }
    }

    pub(super) fn to_value(&self) -> Value {
        match &self.shape {
            Shape::Null => Value::Null,
            Shape::Bool(b) => Value::Bool(*b),
            Shape::Number(n) => Value::Number(n.clone()),
            Shape::String(s) => Value::String(s.clone()),
            Shape::Array(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Shape::Object(members) => Value::Object(
                members.iter().map(|m| (m.key.clone(), m.value.to_value())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// Returns what it is, for messages.
    pub(super) fn describe(&self) -> &'static str {
        match &self.shape {
            Shape::Null => "null",
            Shape::Bool(_) => "a boolean",
            Shape::Number(_) => "a number",
            Shape::String(_) => "a string",
            Shape::Array(_) => "an array",
            Shape::Object(_) => "an object",
        }
    }

    /// Returns the byte at which stands what a path names, or the nearest thing around it.
    pub(super) fn locate(&self, path: &str) -> usize {
        let mut here = self;
        let mut at = self.at;
        for step in Steps(path) {
            let next = match (&here.shape, step) {
                (Shape::Object(members), Step::Key(key)) => members.iter().find(|m| m.key == key).map(|m| {
                    let container = matches!(m.value.shape, Shape::Array(_) | Shape::Object(_));
                    (&m.value, if container { m.at } else { m.value.at })
                }),
                (Shape::Array(items), Step::Index(index)) => items.get(index).map(|item| (item, item.at)),
                _ => None,
            };
            let Some(next) = next else { break };
            (here, at) = next;
        }
        at
    }
}

/// Puts a key behind a path.
pub(super) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| !c.is_control() && !".[]\"".contains(c));
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

/// Puts a path behind another one.
pub(super) fn join_path(path: &str, rest: &str) -> String {
    match (path.is_empty(), rest.is_empty()) {
        (_, true) => path.to_owned(),
        (true, false) => rest.to_owned(),
        (false, false) if rest.starts_with('[') => format!("{path}{rest}"),
        (false, false) => format!("{path}.{rest}"),
    }
}

/// Returns line and column, from one, of a byte; the column counts characters.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    lines_and_columns(text, &[at]).next().unwrap_or((1, 1))
}

/// Returns lines and columns, from one, of bytes in ascending order, in one pass.
pub(super) fn lines_and_columns(text: &str, ascending: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    let mut chars = text.char_indices().peekable();
    let (mut line, mut column) = (1, 1);
    ascending.iter().map(move |at| {
        while let Some((_, c)) = chars.next_if(|(i, _)| i < at) {
            (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
        }
        (line, column)
    })
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// The steps of a path such as `nodes.docs.inputs[0]`.
struct Steps<'a>(&'a str);

impl<'a> Iterator for Steps<'a> {
    type Item = Step<'a>;

    fn next(&mut self) -> Option<Step<'a>> {
        self.0 = self.0.strip_prefix('.').unwrap_or(self.0);
        if let Some(rest) = self.0.strip_prefix('[') {
            let (inside, rest) = rest.split_once(']')?;
            self.0 = rest;
            return Some(match inside.parse() {
                Ok(index) => Step::Index(index),
                Err(_) => Step::Key(inside.trim_matches('"')),
            });
        }
        let end = self.0.find(['.', '[']).unwrap_or(self.0.len());
        let (key, rest) = self.0.split_at(end);
        self.0 = rest;
        (!key.is_empty()).then_some(Step::Key(key))
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    values: usize,
    /// The way to here: what a message makes of it is only written when there is one.
    path: Vec<Inside<'a>>,
}

#[derive(Clone, Copy)]
enum Inside<'a> {
    /// The member of an object, by its key as it stands in the text.
    Member(&'a str),
    Item(usize),
}

type Parsed<T> = Result<T, Box<Diagnostic>>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn fail(&self, code: &'static str, message: impl Into<String>) -> Box<Diagnostic> {
        let (line, column) = line_and_column(self.text, self.at);
        let path = self.path.iter().fold(String::new(), |path, step| match step {
            Inside::Member(key) => join(&path, &serde_json::from_str::<String>(key).unwrap_or_default()),
            Inside::Item(index) => format!("{path}[{index}]"),
        });
        Box::new(Diagnostic::new(code, path, message).at(line, column))
    }

    fn expected(&self, what: &str) -> Box<Diagnostic> {
        let found = match self.text[self.at..].chars().next() {
            None => "the text ends here".to_owned(),
            Some(c) => format!("this is {c:?}"),
        };
        self.fail(code::JSON_SYNTAX, format!("expected {what}, but {found}"))
    }

    fn within<T>(&mut self, step: Inside<'a>, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.path.push(step);
        let read = read(self)?;
        self.path.pop();
        Ok(read)
    }

    fn value(&mut self, depth: usize) -> Parsed<Json> {
        self.space();
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(self.fail(code::JSON_TOO_LARGE, format!("there are more than {MAX_VALUES} values")));
        }
        let at = self.at;
        let shape = match self.peek() {
            Some(b'{' | b'[') if depth == MAX_DEPTH => {
                let message = format!("objects and arrays lie more than {MAX_DEPTH} deep in each other");
                return Err(self.fail(code::JSON_TOO_DEEP, message));
            }
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'"') => Shape::String(self.string()?),
            Some(b'-' | b'0'..=b'9') => Shape::Number(self.number()?),
            _ if self.word("null") => Shape::Null,
            _ if self.word("true") => Shape::Bool(true),
            _ if self.word("false") => Shape::Bool(false),
            _ => return Err(self.expected("a value")),
        };
        Ok(Json { at, shape })
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.text[self.at..].starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn object(&mut self, depth: usize) -> Parsed<Shape> {
        self.at += 1;
        let mut members: Vec<Member> = Vec::new();
        let mut keys = HashSet::new();
        self.space();
        if self.word("}") {
            return Ok(Shape::Object(members));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.expected("a key in double quotes"));
            }
            let at = self.at;
            let key = self.string()?;
            let step = Inside::Member(&self.text[at..self.at]);
            if key.len() > MAX_KEY {
                self.at = at;
                return Err(self.fail(code::JSON_TOO_LARGE, format!("the key has more than {MAX_KEY} bytes")));
            }
            if !keys.insert(key.clone()) {
                self.at = at;
                self.path.push(step);
                let message = format!("the key \"{}\" stands here twice", shown(&key));
                return Err(self.fail(code::JSON_DUPLICATE_KEY, message));
            }
            self.space();
            if !self.word(":") {
                return Err(self.expected("a colon after the key"));
            }
            let value = self.within(step, |parser| parser.value(depth + 1))?;
            members.push(Member { key, at, value });
            self.space();
            if self.word("}") {
                return Ok(Shape::Object(members));
            }
            if !self.word(",") {
                return Err(self.expected("a comma or the end of the object"));
            }
        }
    }

    fn array(&mut self, depth: usize) -> Parsed<Shape> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.word("]") {
            return Ok(Shape::Array(items));
        }
        loop {
            let step = Inside::Item(items.len());
            items.push(self.within(step, |parser| parser.value(depth + 1))?);
            self.space();
            if self.word("]") {
                return Ok(Shape::Array(items));
            }
            if !self.word(",") {
                return Err(self.expected("a comma or the end of the array"));
            }
        }
    }

    fn string(&mut self) -> Parsed<String> {
        let bytes = self.text.as_bytes();
        let mut end = self.at + 1;
        loop {
            match bytes.get(end) {
                None => {
                    self.at = self.text.len();
                    return Err(self.expected("the end of the string"));
                }
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
            }
            if end - self.at > MAX_STRING {
                return Err(
                    self.fail(code::JSON_TOO_LARGE, format!("the string has more than {MAX_STRING} bytes"))
                );
            }
        }
        let string = serde_json::from_str(&self.text[self.at..=end]).map_err(|_| {
            self.fail(code::JSON_SYNTAX, "the string holds a control character or a wrong escape")
        })?;
        self.at = end + 1;
        Ok(string)
    }

    fn number(&mut self) -> Parsed<Number> {
        let rest: &'a str = &self.text[self.at..];
        let len =
            rest.bytes().take_while(|b| matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')).count();
        if len > MAX_NUMBER {
            return Err(
                self.fail(code::JSON_TOO_LARGE, format!("the number has more than {MAX_NUMBER} characters"))
            );
        }
        let number = serde_json::from_str(&rest[..len]).map_err(|_| {
            self.fail(code::JSON_SYNTAX, format!("`{}` is no number, or too large for one", &rest[..len]))
        })?;
        self.at += len;
        Ok(number)
    }
}

/// Cuts a text of the user's to what a message bears.
pub(super) fn shown(text: &str) -> String {
    const MAX: usize = 80;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor).map(|shape| Self { at: 0, shape })
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(Shape::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Shape, E> {
        Number::from_f64(value).map(Shape::Number).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Shape, E> {
        Ok(Shape::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Shape, E> {
        Ok(Shape::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Shape::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut members: Vec<Member> = Vec::new();
        let mut keys = HashSet::new();
        while let Some((key, value)) = map.next_entry::<String, Json>()? {
            if !keys.insert(key.clone()) {
                return Err(serde::de::Error::custom(format!(
                    "the key \"{}\" stands there twice",
                    shown(&key)
                )));
            }
            members.push(Member { key, at: 0, value });
        }
        Ok(Shape::Object(members))
    }
}
