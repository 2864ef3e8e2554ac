//! The values that expressions compute with: borrowed from the item wherever it holds them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use chrono::TimeDelta;
use nvisy_core::Metadata;
use nvisy_core::metadata::Timestamp;
use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::embedding::{Embedding, Metric};
use nvisy_core::primitive::object::Object;
use nvisy_core::primitive::row::{Cell, ListCell, MapCell, Row, StructCell, TimeUnit};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::types::Type;

/// A value that an expression gives.
///
/// Two numbers are equal if they stand for the same number, whatever their types.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    UInt(u64),
    /// A floating-point number.
    Double(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A moment in time.
    Timestamp(Timestamp),
    /// A length of time.
    Duration(#[serde(with = "time_delta")] TimeDelta),
    /// Values in order.
    List(Vec<Self>),
    /// Keys with their values, in the order of whatever they come from.
    Map(Vec<(Self, Self)>),
}

impl Value {
    /// Returns the value as JSON: times as ISO 8601, bytes as base64; keys of a map as texts.
    /// What JSON has no number for is null.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => (*value).into(),
            Self::Int(value) => (*value).into(),
            Self::UInt(value) => (*value).into(),
            Self::Double(value) => (*value).into(),
            Self::Text(value) => value.as_str().into(),
            // The one form of bytes in JSON is the rows' own.
            Self::Bytes(value) => Cell::Bytes(value).to_json(),
            Self::Timestamp(value) => timestamp_text(value).into(),
            Self::Duration(value) => duration_text(value).into(),
            Self::List(values) => values.iter().map(Self::to_json).collect(),
            Self::Map(entries) => {
                let key = |key: &Self| match key.to_json() {
                    Json::String(text) => text,
                    other => other.to_string(),
                };
                Json::Object(entries.iter().map(|(k, v)| (key(k), v.to_json())).collect())
            }
        }
    }

    fn borrow(&self) -> Val<'_> {
        match self {
            Self::Null => Val::Null,
            Self::Bool(value) => Val::Bool(*value),
            Self::Int(value) => Val::Int(*value),
            Self::UInt(value) => Val::UInt(*value),
            Self::Double(value) => Val::Double(*value),
            Self::Text(value) => Val::Text(Text::Ref(value)),
            Self::Bytes(value) => Val::Bytes(Octets::Ref(value)),
            Self::Timestamp(value) => Val::Timestamp(*value),
            Self::Duration(value) => Val::Duration(*value),
            Self::List(values) => Val::List(List::Own(values.iter().map(Self::borrow).collect())),
            Self::Map(entries) => {
                Val::Map(Map::Own(entries.iter().map(|(k, v)| (k.borrow(), v.borrow())).collect()))
            }
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.borrow().equals(&other.borrow(), &mut u64::MAX.clone())
    }
}

/// A value that stands in the text of an expression.
#[derive(Clone, Debug)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    Text(Arc<str>),
    Bytes(Arc<[u8]>),
}

impl Literal {
    pub(super) fn val(&self) -> Val<'_> {
        match self {
            Self::Null => Val::Null,
            Self::Bool(value) => Val::Bool(*value),
            Self::Int(value) => Val::Int(*value),
            Self::UInt(value) => Val::UInt(*value),
            Self::Double(value) => Val::Double(*value),
            Self::Text(value) => Val::Text(Text::Ref(value)),
            Self::Bytes(value) => Val::Bytes(Octets::Ref(value)),
        }
    }
}

/// A value, borrowed where it can be.
#[derive(Clone)]
pub(super) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    Text(Text<'a>),
    Bytes(Octets<'a>),
    Timestamp(Timestamp),
    Duration(TimeDelta),
    List(List<'a>),
    Map(Map<'a>),
}

#[derive(Clone)]
pub(super) enum Text<'a> {
    Ref(&'a str),
    Own(Rc<str>),
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Ref(text) => text,
            Self::Own(text) => text,
        }
    }
}

#[derive(Clone)]
pub(super) enum Octets<'a> {
    Ref(&'a [u8]),
    Own(Rc<[u8]>),
}

impl std::ops::Deref for Octets<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Ref(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }
}

#[derive(Clone)]
pub(super) enum List<'a> {
    Cells(ListCell<'a>),
    Json(&'a [Json]),
    Floats(&'a [f32]),
    Own(Rc<[Val<'a>]>),
}

#[derive(Clone)]
pub(super) enum Map<'a> {
    Row(&'a Row),
    Struct(StructCell<'a>),
    Cells(MapCell<'a>),
    Json(&'a serde_json::Map<String, Json>),
    Tags(&'a BTreeMap<String, String>),
    Custom(&'a BTreeMap<String, Json>),
    Document(&'a Document),
    Embedding(&'a Embedding),
    Object(&'a Object),
    Meta(&'a Metadata),
    Own(Rc<[(Val<'a>, Val<'a>)]>),
}

impl<'a> Val<'a> {
    pub(super) fn text(text: impl Into<Rc<str>>) -> Self {
        Self::Text(Text::Own(text.into()))
    }

    pub(super) fn of_text(text: &'a str) -> Self {
        Self::Text(Text::Ref(text))
    }

    fn optional(text: Option<&'a String>) -> Self {
        text.map_or(Self::Null, |text| Self::of_text(text))
    }

    pub(super) fn of_cell(cell: Cell<'a>) -> Self {
        match cell {
            Cell::Null => Self::Null,
            Cell::Bool(value) => Self::Bool(value),
            Cell::Int(value) => Self::Int(value),
            Cell::UInt(value) => Self::UInt(value),
            Cell::Float32(value) => Self::Double(value.into()),
            Cell::Float(value) => Self::Double(value),
            Cell::Text(value) => Self::of_text(value),
            Cell::Bytes(value) => Self::Bytes(Octets::Ref(value)),
            Cell::Decimal(_) => cell.as_f64().map_or(Self::Null, Self::Double),
            Cell::Date(_) => {
                let midnight = cell.as_date().and_then(|date| date.and_hms_opt(0, 0, 0));
                midnight.map_or(Self::Null, |midnight| Self::Timestamp(midnight.and_utc()))
            }
            Cell::Timestamp { .. } => cell.as_timestamp().map_or(Self::Null, Self::Timestamp),
            Cell::Duration { ticks, unit } => duration(ticks, unit).map_or(Self::Null, Self::Duration),
            Cell::List(list) => Self::List(List::Cells(list)),
            Cell::Map(map) => Self::Map(Map::Cells(map)),
            Cell::Struct(fields) => Self::Map(Map::Struct(fields)),
            // A time of day and an interval of the calendar are texts, as in JSON.
            other => match other.to_json() {
                Json::String(text) => Self::text(text),
                _ => Self::Null,
            },
        }
    }

    pub(super) fn of_json(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Self::Int(value),
                (None, Some(value)) => Self::UInt(value),
                (None, None) => number.as_f64().map_or(Self::Null, Self::Double),
            },
            Json::String(text) => Self::of_text(text),
            Json::Array(values) => Self::List(List::Json(values)),
            Json::Object(fields) => Self::Map(Map::Json(fields)),
        }
    }

    pub(super) fn type_of(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::UInt(_) => Type::UInt,
            Self::Double(_) => Type::Double,
            Self::Text(_) => Type::Text,
            Self::Bytes(_) => Type::Bytes,
            Self::Timestamp(_) => Type::Timestamp,
            Self::Duration(_) => Type::Duration,
            Self::List(_) => Type::List,
            Self::Map(_) => Type::Map,
        }
    }

    /// Whether both are equal: values of different types are not, numbers are by value.
    ///
    /// Each part compared takes of the budget; once it is used up, nothing is equal.
    pub(super) fn equals(&self, other: &Self, budget: &mut u64) -> bool {
        *budget = budget.saturating_sub(1 + self.weight().min(other.weight()));
        if *budget == 0 {
            return false;
        }
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::List(a), Self::List(b)) => {
                a.len() == b.len()
                    && (0..a.len()).all(|i| match (a.get(i), b.get(i)) {
                        (Some(a), Some(b)) => a.equals(&b, budget),
                        _ => false,
                    })
            }
            (Self::Map(a), Self::Map(b)) => {
                if a.len() != b.len() {
                    return false;
                }
                *budget = budget.saturating_sub(a.len() as u64 + b.len() as u64);
                let (mine, other) = (a.entries(), b.entries());
                mine.iter().all(|(key, value)| {
                    other.iter().any(|(k, v)| key.equals(k, budget) && value.equals(v, budget))
                })
            }
            _ => self.order(other).is_some_and(|order| order.is_some_and(Ordering::is_eq)),
        }
    }

    /// Whether both are equal, of which one is small.
    fn is(&self, other: &Val<'_>) -> bool {
        self.order(other).is_some_and(|order| order.is_some_and(Ordering::is_eq))
    }

    /// How both are ordered: none for types that have no order, none within for numbers that
    /// are none.
    pub(super) fn order(&self, other: &Self) -> Option<Option<Ordering>> {
        Some(match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some((**a).cmp(&**b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some((**a).cmp(&**b)),
            (Self::Timestamp(a), Self::Timestamp(b)) => Some(a.cmp(b)),
            (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::UInt(a), Self::UInt(b)) => Some(a.cmp(b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::UInt(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::UInt(a), Self::Int(b)) => Some(i128::from(*a).cmp(&i128::from(*b))),
            (Self::Int(a), Self::Double(b)) => order_with_double((*a).into(), *b),
            (Self::UInt(a), Self::Double(b)) => order_with_double((*a).into(), *b),
            (Self::Double(a), Self::Int(b)) => order_with_double((*b).into(), *a).map(Ordering::reverse),
            (Self::Double(a), Self::UInt(b)) => order_with_double((*b).into(), *a).map(Ordering::reverse),
            _ => return None,
        })
    }

    /// How much there is of it, for the bound on what an evaluation costs.
    pub(super) fn weight(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64 / 32,
            Self::Bytes(bytes) => bytes.len() as u64 / 32,
            Self::List(list) => list.len() as u64,
            Self::Map(map) => map.len() as u64,
            _ => 0,
        }
    }

    /// The value with all that is in it; none if that takes more than the budget.
    pub(super) fn into_value(self, budget: &mut u64) -> Option<Value> {
        *budget = budget.checked_sub(1)?;
        Some(match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Int(value),
            Self::UInt(value) => Value::UInt(value),
            Self::Double(value) => Value::Double(value),
            Self::Text(text) => Value::Text(text.to_string()),
            Self::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
            Self::Timestamp(value) => Value::Timestamp(value),
            Self::Duration(value) => Value::Duration(value),
            Self::List(list) => {
                let mut values = Vec::new();
                for item in list.iter() {
                    *budget = budget.checked_sub(item.weight())?;
                    values.push(item.into_value(budget)?);
                }
                Value::List(values)
            }
            Self::Map(map) => {
                let mut entries = Vec::new();
                for (key, value) in map.entries() {
                    *budget = budget.checked_sub(key.weight() + value.weight())?;
                    entries.push((key.into_value(budget)?, value.into_value(budget)?));
                }
                Value::Map(entries)
            }
        })
    }
}

/// Compares an integer with a double by value, without loss.
pub(super) fn order_with_double(integer: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // Every integer of 64 bits lies well within.
    if double >= 1e20 {
        return Some(Ordering::Less);
    }
    if double <= -1e20 {
        return Some(Ordering::Greater);
    }
    let whole = double.trunc();
    let order = integer.cmp(&(whole as i128));
    Some(order.then(match double - whole {
        rest if rest > 0.0 => Ordering::Less,
        rest if rest < 0.0 => Ordering::Greater,
        _ => Ordering::Equal,
    }))
}

impl<'a> List<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Cells(list) => list.len(),
            Self::Json(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Own(values) => values.len(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Val<'a>> {
        match self {
            Self::Cells(list) => list.get(index).map(Val::of_cell),
            Self::Json(values) => values.get(index).map(Val::of_json),
            Self::Floats(values) => values.get(index).map(|value| Val::Double((*value).into())),
            Self::Own(values) => values.get(index).cloned(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Val<'a>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

impl<'a> Map<'a> {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Row(row) => row.schema().fields().len(),
            Self::Struct(fields) => fields.iter().len(),
            Self::Cells(map) => map.keys().len(),
            Self::Json(fields) => fields.len(),
            Self::Tags(tags) => tags.len(),
            Self::Custom(custom) => custom.len(),
            Self::Own(entries) => entries.len(),
            Self::Document(_) | Self::Embedding(_) | Self::Object(_) | Self::Meta(_) => self.names().len(),
        }
    }

    /// What looking for a key takes.
    pub(super) fn lookup(&self) -> u64 {
        match self {
            Self::Own(_) | Self::Cells(_) => self.len() as u64 / 2,
            Self::Row(_) | Self::Struct(_) => self.len() as u64 / 16,
            _ => 0,
        }
    }

    fn names(&self) -> &'static [&'static str] {
        match self {
            Self::Document(_) => &super::types::DOCUMENT,
            Self::Embedding(_) => &super::types::EMBEDDING,
            Self::Object(_) => &super::types::OBJECT,
            Self::Meta(_) => &super::types::META,
            _ => &[],
        }
    }

    /// The value of a key, if the key is there.
    pub(super) fn get(&self, key: &Val<'_>) -> Option<Val<'a>> {
        match (self, key) {
            (Self::Own(entries), key) => entries.iter().find(|(k, _)| k.is(key)).map(|(_, v)| v.clone()),
            (Self::Cells(map), key) => {
                map.iter().find(|(k, _)| Val::of_cell(*k).is(key)).map(|(_, v)| Val::of_cell(v))
            }
            (_, Val::Text(name)) => self.field(name),
            _ => None,
        }
    }

    /// The value of a field, if the field is there.
    pub(super) fn field(&self, name: &str) -> Option<Val<'a>> {
        match self {
            Self::Row(row) => row.get(name).map(Val::of_cell),
            Self::Struct(fields) => fields.get(name).map(Val::of_cell),
            Self::Json(fields) => fields.get(name).map(Val::of_json),
            Self::Tags(tags) => tags.get(name).map(|tag| Val::of_text(tag)),
            Self::Custom(custom) => custom.get(name).map(Val::of_json),
            Self::Document(document) => document_field(document, name),
            Self::Embedding(embedding) => embedding_field(embedding, name),
            Self::Object(object) => object_field(object, name),
            Self::Meta(metadata) => meta_field(metadata, name),
            Self::Own(_) | Self::Cells(_) => self.get(&Val::text(name)),
        }
    }

    /// Whether the key is there: in a row, a struct and a payload null counts as not there.
    pub(super) fn has(&self, name: &str) -> bool {
        match (self, self.field(name)) {
            (_, None) => false,
            (Self::Json(_) | Self::Own(_) | Self::Cells(_) | Self::Custom(_), Some(_)) => true,
            (_, Some(value)) => !matches!(value, Val::Null),
        }
    }

    pub(super) fn entries(&self) -> Vec<(Val<'a>, Val<'a>)> {
        let named = |(name, cell)| (Val::of_text(name), Val::of_cell(cell));
        match self {
            Self::Row(row) => row.columns().map(named).collect(),
            Self::Struct(fields) => fields.iter().map(named).collect(),
            Self::Cells(map) => map.iter().map(|(k, v)| (Val::of_cell(k), Val::of_cell(v))).collect(),
            Self::Json(fields) => fields.iter().map(|(k, v)| (Val::of_text(k), Val::of_json(v))).collect(),
            Self::Tags(tags) => tags.iter().map(|(k, v)| (Val::of_text(k), Val::of_text(v))).collect(),
            Self::Custom(custom) => custom.iter().map(|(k, v)| (Val::of_text(k), Val::of_json(v))).collect(),
            Self::Own(entries) => entries.to_vec(),
            Self::Document(_) | Self::Embedding(_) | Self::Object(_) | Self::Meta(_) => {
                let value = |name: &'static str| Some((Val::of_text(name), self.field(name)?));
                self.names().iter().filter_map(|name| value(name)).collect()
            }
        }
    }
}

fn document_field<'a>(document: &'a Document, name: &str) -> Option<Val<'a>> {
    Some(match name {
        "text" => Val::of_text(&document.text),
        "title" => Val::optional(document.title.as_ref()),
        "language" => Val::optional(document.language.as_ref()),
        "mime_type" => Val::optional(document.mime_type.as_ref()),
        "source_uri" => Val::optional(document.source_uri.as_ref()),
        "byte_range" => document.byte_range.as_ref().map_or(Val::Null, |range| {
            let bound = |name, at| (Val::of_text(name), integer(at));
            Val::Map(Map::Own(Rc::new([bound("start", range.start), bound("end", range.end)])))
        }),
        "chunk" => document.chunk.map_or(Val::Null, integer),
        "attributes" => Val::Map(Map::Custom(&document.attributes)),
        _ => return None,
    })
}

fn embedding_field<'a>(embedding: &'a Embedding, name: &str) -> Option<Val<'a>> {
    Some(match name {
        "vector" => Val::List(List::Floats(&embedding.vector)),
        "dimensions" => integer(embedding.dimensions() as u64),
        "model" => Val::of_text(&embedding.model),
        "document" => {
            embedding.document.as_ref().map_or(Val::Null, |document| Val::Map(Map::Document(document)))
        }
        "content_hash" => Val::optional(embedding.content_hash.as_ref()),
        "metric" => embedding.metric.map_or(Val::Null, |metric| {
            Val::of_text(match metric {
                Metric::Cosine => "cosine",
                Metric::Dot => "dot",
                Metric::L2 => "l2",
            })
        }),
        _ => return None,
    })
}

fn object_field<'a>(object: &'a Object, name: &str) -> Option<Val<'a>> {
    Some(match name {
        "key" => Val::of_text(&object.key),
        "size" => integer(ObjectSize::of(object)),
        "mime_type" => Val::optional(object.mime_type.as_ref()),
        "etag" => Val::optional(object.etag.as_ref()),
        "last_modified" => object.last_modified.map_or(Val::Null, Val::Timestamp),
        "bytes" => object.bytes.as_ref().map_or(Val::Null, |bytes| Val::Bytes(Octets::Ref(bytes))),
        _ => return None,
    })
}

/// The field, not the method of the same name.
struct ObjectSize;

impl ObjectSize {
    fn of(object: &Object) -> u64 {
        let fields: &nvisy_core::primitive::object::ObjectFields = object;
        fields.size
    }
}

fn meta_field<'a>(metadata: &'a Metadata, name: &str) -> Option<Val<'a>> {
    Some(match name {
        "tags" => Val::Map(Map::Tags(&metadata.tags)),
        "custom" => Val::Map(Map::Custom(&metadata.custom)),
        "node" => Val::of_text(&metadata.node),
        "graph" => Val::of_text(&metadata.graph),
        "created_at" => Val::Timestamp(metadata.created_at),
        _ => return None,
    })
}

fn integer(value: u64) -> Val<'static> {
    i64::try_from(value).map_or(Val::UInt(value), Val::Int)
}

fn duration(ticks: i64, unit: TimeUnit) -> Option<TimeDelta> {
    match unit {
        TimeUnit::Second => TimeDelta::try_seconds(ticks),
        TimeUnit::Millisecond => TimeDelta::try_milliseconds(ticks),
        TimeUnit::Microsecond => Some(TimeDelta::microseconds(ticks)),
        TimeUnit::Nanosecond => Some(TimeDelta::nanoseconds(ticks)),
    }
}

/// A length of time as seconds and nanoseconds.
mod time_delta {
    use chrono::TimeDelta;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(of: &TimeDelta, serializer: S) -> Result<S::Ok, S::Error> {
        (of.num_seconds(), of.subsec_nanos()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TimeDelta, D::Error> {
        let (seconds, nanos): (i64, i64) = Deserialize::deserialize(deserializer)?;
        let whole = TimeDelta::try_seconds(seconds);
        let whole = whole.and_then(|whole| whole.checked_add(&TimeDelta::nanoseconds(nanos)));
        whole.ok_or_else(|| serde::de::Error::custom("a duration is too long"))
    }
}

/// Writes a moment as RFC 3339, with as many digits as it has.
pub(super) fn timestamp_text(timestamp: &Timestamp) -> String {
    timestamp.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// Writes a duration in seconds, as CEL does: `5400s`, `-1.5s`.
pub(super) fn duration_text(duration: &TimeDelta) -> String {
    let sign = if *duration < TimeDelta::zero() { "-" } else { "" };
    let (seconds, rest) = (duration.num_seconds().unsigned_abs(), duration.subsec_nanos().unsigned_abs());
    let digits = format!("{rest:09}");
    let digits = digits.trim_end_matches('0');
    let point = if digits.is_empty() { "" } else { "." };
    format!("{sign}{seconds}{point}{digits}s")
}

/// Reads a duration as CEL does: `1h30m`, `-1.5s`, with `h`, `m`, `s`, `ms`, `us` and `ns`.
pub(super) fn parse_duration(text: &str) -> Option<TimeDelta> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    if rest == "0" {
        return Some(TimeDelta::zero());
    }
    let mut nanoseconds: i128 = 0;
    if rest.is_empty() || rest.len() > 64 {
        return None;
    }
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|len| *len > 0)?;
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let unit: i128 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() > 18
            || fraction.len() > 12
            || fraction.contains('.')
            || (whole.is_empty() && fraction.is_empty())
        {
            return None;
        }
        let parse = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
        let scale = 10_i128.pow(fraction.len() as u32);
        nanoseconds += parse(whole)? * unit + parse(fraction)? * unit / scale;
        rest = after;
    }
    i64::try_from(sign * nanoseconds).ok().map(TimeDelta::nanoseconds)
}
