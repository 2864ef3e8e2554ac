//! The values that expressions compute with: borrowed from the item wherever it holds them.

mod collection;
mod field;
mod time;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use chrono::TimeDelta;
use nvisy_core::Metadata;
use nvisy_core::metadata::Timestamp;
use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::embedding::Embedding;
use nvisy_core::primitive::object::Object;
use nvisy_core::primitive::row::{Cell, ListCell, MapCell, Row, StructCell};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use self::time::duration;
pub(super) use self::time::{duration_text, parse_duration, timestamp_text};
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
    /// Returns about how many bytes it holds in memory.
    pub(crate) fn bytes(&self) -> usize {
        let within = match self {
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(values) => values.iter().map(Self::bytes).sum(),
            Self::Map(entries) => entries.iter().map(|(key, value)| key.bytes() + value.bytes()).sum(),
            _ => 0,
        };
        size_of::<Self>() + within
    }

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
                Json::Object(entries.iter().map(|(k, v)| (k.to_key(), v.to_json())).collect())
            }
        }
    }

    /// Returns the key of a map as JSON has it.
    pub(super) fn to_key(&self) -> String {
        match self.to_json() {
            Json::String(text) => text,
            other => other.to_string(),
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
