//! Expressions over items: the [Common Expression Language][CEL], checked when the graph is
//! compiled, evaluated on Arrow rows as kernels where that can be.
//!
//! # What an expression sees
//!
//! | name | is |
//! |---|---|
//! | `row.title`, `row['Airport Name']` | a column of a row |
//! | `document.text` | a field of a document: `text`, `title`, `language`, `mime_type`, `source_uri`, `byte_range`, `chunk`, `attributes` |
//! | `embedding.dimensions` | a field of an embedding: `vector`, `dimensions`, `model`, `document`, `content_hash`, `metric` |
//! | `object.key` | a field of an object: `key`, `size`, `mime_type`, `etag`, `last_modified`, `bytes` |
//! | `raw` | the JSON value, or the bytes |
//! | `message`, `completion`, … | every other kind under its name, as its JSON |
//! | `meta.tags.lang`, `meta.custom` | the envelope: `tags`, `custom`, `node`, `graph`, `created_at` |
//! | `id`, `kind` | the item's id and the name of its kind, as texts |
//!
//! # What they mean
//!
//! As in CEL, with what is said here beyond it:
//!
//! 1. **Null** equals null alone. Whatever else is done with it (`<`, `+`, `!`, a function) is
//!    a *fault*; so is a condition that is null. `row.age != null && row.age > 30` asks first.
//! 2. **A column that is not there** is a fault, as is a key of a map. `has(row.age)` asks first:
//!    it is true if the column is there and not null (in JSON, if the key is there).
//! 3. **Numbers** compare by value across types, without loss. CEL has no arithmetic over
//!    numbers of two types; here the result of integers is signed, and that of an integer and a
//!    double a double. Not a number equals nothing, itself included, and has no order. Overflow
//!    and division of integers by zero are faults.
//! 4. **Equality of two types** is false, their order a fault.
//! 5. **`&&` and `||`** decide by whichever side can: `false && fault` and `fault && false` are
//!    false. Only where no side decides does a fault stay one.
//! 6. **A fault fails the one item**; its neighbours go on.
//! 7. Decimals are read as doubles; dates and timestamps without a zone as moments in UTC;
//!    times of day and intervals of the calendar as texts. As a key (of `deduplicate`, `sort`, `join`,
//!    `group_by`) a decimal that is not computed with counts exactly, alone and in lists: it equals
//!    the integer that it is, and the double that it is or, with a fraction, is written like. A map
//!    in which a decimal would be rounded is no key.
//! 8. The pattern of `matches` stands in the expression, and finds its match anywhere.
//!
//! # Bounds
//!
//! An expression may come from a stranger: it is at most 16 KiB long, nested 64 levels deep, has
//! 4,096 parts, and takes at most 1,000,000 steps on an item (a step being a part evaluated, an
//! item of a list looked at, or 32 bytes of text made or read). It has at most 16 patterns; those
//! of a whole graph of a stranger take at most 64 MiB.
//!
//! [CEL]: https://cel.dev

mod ast;
mod columnar;
mod decimal;
mod eval;
mod functions;
mod lexer;
mod nested;
mod output;
mod parser;
mod pattern;
mod room;
mod scope;
mod types;
mod value;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::DataType;
use nvisy_core::{Batch, Error, KindId, Kinds, Primitive, Result};

use self::ast::{Expr, Node, Root};
pub(crate) use self::decimal::Decimals;
pub(crate) use self::output::column_of;
pub(crate) use self::room::Room;
use self::scope::Scope;
pub(crate) use self::types::Type;
pub use self::value::Value;

/// The longest text that is read as an expression, in bytes.
const MAX_LENGTH: usize = 16 * 1_024;
/// How deep an expression may be nested.
const MAX_DEPTH: usize = 64;
/// How many parts an expression may have.
const MAX_NODES: usize = 4_096;
/// How many patterns an expression may have: each may take some megabytes.
const MAX_PATTERNS: usize = 16;
/// How deep `all`, `exists`, `map` and `filter` may be nested.
const MAX_COMPREHENSIONS: usize = 4;
/// How many steps an evaluation may take.
const MAX_COST: u64 = 1_000_000;

/// An expression over an item: read, checked, ready to evaluate. Cheap to clone.
///
/// # Examples
///
/// ```
/// use nvisy_core::Item;
/// use nvisy_core::primitive::document::Document;
/// use nvisy_runtime::expression::Expression;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let long = Expression::condition("size(document.text) > 3 && document.language != 'en'")?;
/// let item = Item::detached("greeting", Document::new("Hello")?);
/// assert!(long.evaluate_bool(item.primitive())?);
///
/// let error = Expression::compile("documnet.text").unwrap_err();
/// assert_eq!(error.to_string(), "column 1: there is no `documnet`: did you mean `document`?");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Expression(Arc<Compiled>);

struct Compiled {
    text: String,
    node: Node,
    result: Type,
    columnar: bool,
    references: Vec<Reference>,
}

impl Expression {
    /// Reads and checks an expression.
    ///
    /// # Errors
    ///
    /// What is wrong and where: the grammar, unknown names and functions, types that cannot
    /// work on any item, a bound.
    pub fn compile(text: &str) -> Result<Self, ExpressionError> {
        let node = parser::parse(text)?;
        let result = types::check(text, &node)?;
        let columnar = types::is_columnar(&node);
        let references = references(&node);
        Ok(Self(Arc::new(Compiled { text: text.to_owned(), node, result, columnar, references })))
    }

    /// Reads and checks an expression that is true or false.
    ///
    /// # Errors
    ///
    /// As [`compile`](Self::compile), and if it can be neither.
    pub fn condition(text: &str) -> Result<Self, ExpressionError> {
        let expression = Self::compile(text)?;
        let Some(other) = types::untrue(&expression.0.node, expression.0.result) else {
            return Ok(expression);
        };
        let message = format!("a condition is true or false, this is {other}");
        Err(ExpressionError::new(text, expression.0.node.at as usize, message))
    }

    /// Returns the text that it was read from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Returns what it reads of an item, in the order of the text.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.0.references
    }

    /// Returns the kinds that it can be evaluated on: the one whose payload it reads, any if it
    /// reads none, several, or asks for the `kind`.
    #[must_use]
    pub fn kinds(&self) -> Kinds {
        let mut kinds = self.references().iter().filter_map(|reference| reference.root_kind());
        let asks = self.references().iter().any(|reference| reference.path == "kind");
        match kinds.next() {
            Some(first) if !asks && kinds.all(|kind| kind == first) => Kinds::of(first),
            _ => Kinds::ANY,
        }
    }

    /// Returns the type of what it gives, as far as the text says it.
    pub(crate) fn result(&self) -> Type {
        self.0.result
    }

    /// Returns whether it runs as Arrow kernels over rows. A column of a rare type (a decimal, a
    /// nested one) can still mean that rows are evaluated one by one.
    #[must_use]
    pub fn is_columnar(&self) -> bool {
        self.0.columnar
    }

    /// Evaluates it on an item.
    ///
    /// # Errors
    ///
    /// `validation`: the fault, and its place in the text.
    pub fn evaluate(&self, item: &Primitive) -> Result<Value> {
        let scope = Scope::of(item);
        let value = eval::evaluate(&self.0.node, &scope);
        value.map_err(|fault| fault.into_error(self.text()).at_item(item.id()))
    }

    /// Evaluates a condition on an item.
    ///
    /// # Errors
    ///
    /// `validation`: the fault, and its place in the text; also if it is neither true nor false.
    pub fn evaluate_bool(&self, item: &Primitive) -> Result<bool> {
        let scope = Scope::of(item);
        let truth = eval::evaluate_bool(&self.0.node, &scope);
        truth.map_err(|fault| fault.into_error(self.text()).at_item(item.id()))
    }

    /// Evaluates a condition on every item of a batch. Items with a fault are not in the mask.
    #[must_use]
    pub fn filter_mask(&self, batch: &Batch) -> Mask {
        if self.is_columnar()
            && let Some(rows) = batch.as_rows()
            && let Some(truth) = columnar::evaluate_bool(&self.0.node, rows)
        {
            return self.columnar_mask(batch, truth);
        }
        let mut faults = Vec::new();
        let mut one = |index| match self.truth_at(batch, index) {
            Ok(truth) => truth,
            Err(error) => {
                faults.push((index as u32, error));
                false
            }
        };
        let bits: Vec<bool> = (0..batch.len()).map(&mut one).collect();
        Mask { bits: BooleanArray::from(bits), faults }
    }

    fn columnar_mask(&self, batch: &Batch, truth: columnar::Truth) -> Mask {
        let Some(faulty) = truth.faults else {
            return Mask { bits: BooleanArray::new(truth.bits, None), faults: Vec::new() };
        };
        let bits = &truth.bits & &!&faulty;
        // What the fault is, the one row tells.
        let faults =
            faulty.set_indices().filter_map(|index| Some((index as u32, self.truth_at(batch, index).err()?)));
        Mask { bits: BooleanArray::new(bits, None), faults: faults.collect() }
    }

    fn truth_at(&self, batch: &Batch, index: usize) -> Result<bool> {
        let payload = batch.payload(index);
        let scope = Scope::at(batch, index, &payload);
        let truth = eval::evaluate_bool(&self.0.node, &scope);
        truth.map_err(|fault| fault.into_error(self.text()).at_item(batch.id(index)))
    }

    /// Evaluates it on every item of a batch.
    #[must_use]
    pub fn evaluate_batch(&self, batch: &Batch) -> Vec<Result<Value>> {
        (0..batch.len()).map(|index| self.evaluate_at(batch, index)).collect()
    }

    fn evaluate_at(&self, batch: &Batch, index: usize) -> Result<Value> {
        let payload = batch.payload(index);
        let scope = Scope::at(batch, index, &payload);
        let value = eval::evaluate(&self.0.node, &scope);
        value.map_err(|fault| fault.into_error(self.text()).at_item(batch.id(index)))
    }

    /// Evaluates it on every item of a batch, as a column: null where there is a fault.
    ///
    /// A column that it names is given as it is. Otherwise integers are `Int64`, unsigned ones
    /// `UInt64`, other numbers and mixed ones `Float64`, texts `Utf8`, bytes `Binary`, moments
    /// `Timestamp(Microsecond, "UTC")`, durations `Duration(Microsecond)`; lists and maps are
    /// lists and structs, as their JSON shows: a struct has the keys of all maps, null where a map
    /// has not that key, numbers of two types in them are doubles, and what no other type holds
    /// is text, each value its JSON. Maps of too many different keys are faults. Both sides of a
    /// conditional have one type, that which holds both. What neither the text nor the columns say
    /// of the type, the values of the batch show: an item whose value does not fit those before it
    /// has a fault.
    #[must_use]
    pub fn evaluate_column(&self, batch: &Batch) -> EvaluatedColumn {
        self.by_column(batch).unwrap_or_else(|| self.gather(batch, self.evaluate_batch(batch), None))
    }

    /// As [`evaluate_column`](Self::evaluate_column), of values that find room; lists and maps in
    /// the type that the column had before.
    ///
    /// # Errors
    ///
    /// If there is not so much.
    pub(crate) fn evaluate_column_within(
        &self,
        batch: &Batch,
        before: Option<&DataType>,
        room: &mut Room,
    ) -> Result<EvaluatedColumn> {
        if let Some(column) = self.by_column(batch) {
            let bytes = column.values.to_data().get_slice_memory_size();
            room.take(bytes.unwrap_or_else(|_| column.values.get_array_memory_size()), self.text())?;
            return Ok(column);
        }
        let mut values = Vec::with_capacity(batch.len());
        for index in 0..batch.len() {
            let value = self.evaluate_at(batch, index);
            room.take(value.as_ref().map_or(0, Value::bytes), self.text())?;
            values.push(value);
        }
        Ok(self.gather(batch, values, before))
    }

    /// The column as a kernel computes it, where one can.
    fn by_column(&self, batch: &Batch) -> Option<EvaluatedColumn> {
        let rows = batch.as_rows().filter(|_| self.is_columnar())?;
        let column = columnar::evaluate(&self.0.node, rows)?;
        let (values, faulty) = output::of_column(column, rows.num_rows())?;
        let faults = faulty.iter().flat_map(|faulty| faulty.set_indices()).filter_map(|index| {
            let payload = batch.payload(index);
            let scope = Scope::at(batch, index, &payload);
            let fault = eval::evaluate(&self.0.node, &scope).err()?;
            Some((index as u32, fault.into_error(self.text()).at_item(batch.id(index))))
        });
        Some(EvaluatedColumn { values, faults: faults.collect() })
    }

    fn gather(
        &self,
        batch: &Batch,
        values: Vec<Result<Value>>,
        before: Option<&DataType>,
    ) -> EvaluatedColumn {
        let known = match (self.0.result, batch.as_rows()) {
            (Type::Any, Some(rows)) => output::type_on(&self.0.node, rows.schema_ref()),
            (result, _) => result,
        };
        output::of_values(values, known, before, self.text())
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.text()).finish()
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        Self::compile(text)
    }
}

/// What a condition says of a batch.
#[derive(Clone, Debug)]
pub struct Mask {
    /// Of which items it is true; without nulls.
    pub bits: BooleanArray,
    /// The items that it cannot be evaluated on, in ascending order. Their bits are not set.
    pub faults: Vec<(u32, Error)>,
}

/// What an expression is on a batch.
#[derive(Clone, Debug)]
pub struct EvaluatedColumn {
    /// The values, one an item.
    pub values: ArrayRef,
    /// The items that it cannot be evaluated on, in ascending order. Their values are null.
    pub faults: Vec<(u32, Error)>,
}

/// Something of an item that an expression reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The path, such as `row.title` or `meta.tags.lang`.
    pub path: String,
    /// The byte of the text at which it stands.
    pub offset: usize,
}

impl Reference {
    /// Returns the name that the path starts with, such as `row`.
    #[must_use]
    pub fn root(&self) -> &str {
        self.path.split('.').next().unwrap_or_default()
    }

    /// Returns the column, if it is one of a row.
    #[must_use]
    pub fn column(&self) -> Option<&str> {
        self.path.strip_prefix("row.")
    }

    fn root_kind(&self) -> Option<KindId> {
        match Root::of(self.root()) {
            Some(Root::Kind(kind)) => Some(kind),
            _ => None,
        }
    }
}

fn references(node: &Node) -> Vec<Reference> {
    fn path(node: &Node) -> Option<(String, u32)> {
        match &node.expr {
            Expr::Root(root) => Some((root.name().to_owned(), node.at)),
            Expr::Field { of, name } | Expr::Has { of, name } => {
                let (path, at) = path(of)?;
                Some((format!("{path}.{name}"), at))
            }
            _ => None,
        }
    }
    fn collect(node: &Node, found: &mut Vec<Reference>) {
        match path(node) {
            Some((path, at)) => {
                if !found.iter().any(|known| known.path == path) {
                    found.push(Reference { path, offset: at as usize });
                }
            }
            None => node.expr.children(&mut |child| collect(child, found)),
        }
    }
    let mut found = Vec::new();
    collect(node, &mut found);
    found
}

/// What is wrong with the text of an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}column {column}: {message}", if *.line == 1 { String::new() } else { format!("line {line}, ") })]
pub struct ExpressionError {
    /// What is wrong, and what to do about it.
    pub message: String,
    /// The byte of the text at which it is wrong.
    pub offset: usize,
    /// The line, from one.
    pub line: usize,
    /// The character in the line, from one.
    pub column: usize,
}

impl ExpressionError {
    fn new(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let (line, column) = place(text, offset);
        Self { message: message.into(), offset, line, column }
    }
}

impl From<ExpressionError> for Error {
    fn from(error: ExpressionError) -> Self {
        Self::configuration(error.to_string())
    }
}

/// Line and column of a byte of the text, both from one.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    (line, column)
}

/// A text, cut where it is long.
fn shown(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
