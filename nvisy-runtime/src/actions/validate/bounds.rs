//! Whether what a JSON Schema takes of time and stack is bounded, whatever the item: what is
//! asked of the schemas of strangers.
//!
//! A schema with references is a graph. Its edges lead to the schemas that look at the same
//! value (`allOf`, `$ref`, …), or at what lies in it (`properties`, `items`, …). The ways
//! through it, along one path into an item, are what a validator may go: they are counted.

use std::collections::{BTreeMap, HashMap};

use nvisy_core::config::Problem;
use serde_json::{Map, Value};

/// How deep items are, at the most, for which the ways are counted: as JSON is read.
const MAX_ITEM_DEPTH: usize = 128;
/// How many ways there may be along one path into an item.
const MAX_WAYS: u64 = 1 << 16;
/// How many schemas may lie in each other on one way.
const MAX_STACK: u64 = 1_024;
/// What `unevaluatedProperties` and `unevaluatedItems` do to what they look at: it is gone
/// through once more to be validated, and once more to be marked.
const AGAIN: u64 = 3;

/// Returns what speaks against the schema, if something does.
pub(super) fn check(schema: &Value) -> Option<Problem> {
    let mut ways = Ways::of(schema);
    let Refusal { part, message, help } = ways.read().and_then(|()| ways.count()).err()?;
    let path = path_of(ways.parts[part].schema, schema).unwrap_or_default();
    Some(Problem::new(format!("schema{path}"), message).with_code("schema.unbounded").with_help(help))
}

/// Returns how many patterns stand in the schema.
pub(super) fn patterns(schema: &Value) -> usize {
    match schema {
        Value::Array(parts) => parts.iter().map(patterns).sum(),
        Value::Object(parts) => {
            let own = usize::from(parts.get("pattern").is_some_and(Value::is_string));
            let keys = parts.get("patternProperties").and_then(Value::as_object).map_or(0, Map::len);
            own + keys + parts.values().map(patterns).sum::<usize>()
        }
        _ => 0,
    }
}

/// Returns where in a value another one stands.
fn path_of(part: &Value, value: &Value) -> Option<String> {
    if std::ptr::eq(part, value) {
        return Some(String::new());
    }
    match value {
        Value::Array(values) => (values.iter().enumerate())
            .find_map(|(index, value)| Some(format!("[{index}]{}", path_of(part, value)?))),
        Value::Object(values) => {
            values.iter().find_map(|(name, value)| Some(format!(".{name}{}", path_of(part, value)?)))
        }
        _ => None,
    }
}

struct Refusal {
    part: usize,
    message: String,
    help: &'static str,
}

/// A schema as a graph: its parts, each with what it leads to.
struct Ways<'s> {
    root: &'s Value,
    parts: Vec<Part<'s>>,
    known: HashMap<*const Value, usize>,
}

struct Part<'s> {
    schema: &'s Value,
    /// What it looks at itself.
    own: u64,
    /// How often what looks at the same value is gone through.
    times: u64,
    same: Vec<usize>,
    names: Vec<usize>,
    /// Those of members and of elements of which one at the most looks at the same child.
    members: Vec<usize>,
    elements: Vec<usize>,
    /// Those that look at a child beside the others.
    more_members: Vec<usize>,
    more_elements: Vec<usize>,
}

impl<'s> Ways<'s> {
    fn of(root: &'s Value) -> Self {
        let mut ways = Self { root, parts: Vec::new(), known: HashMap::new() };
        ways.part(root);
        ways
    }

    /// Returns the part that a schema is.
    fn part(&mut self, schema: &'s Value) -> usize {
        *self.known.entry(std::ptr::from_ref(schema)).or_insert_with(|| {
            self.parts.push(Part::of(schema));
            self.parts.len() - 1
        })
    }

    /// Follows all that leads from part to part.
    fn read(&mut self) -> Result<(), Refusal> {
        let mut at = 0;
        while let Some(part) = self.parts.get(at) {
            if let Value::Object(keywords) = part.schema {
                self.read_part(at, keywords)?;
            }
            at += 1;
        }
        Ok(())
    }

    fn read_part(&mut self, at: usize, keywords: &'s Map<String, Value>) -> Result<(), Refusal> {
        let mut part = Part::of(self.parts[at].schema);
        for (keyword, value) in keywords {
            part.own += value.as_array().map_or(1, Vec::len) as u64;
            match (keyword.as_str(), value) {
                ("$ref", Value::String(reference)) => {
                    let target = self.referenced(reference).ok_or_else(|| Refusal {
                        part: at,
                        message: "a reference is no plain path within the schema".to_owned(),
                        help: "write `#`, or `#/$defs/NAME` without escapes",
                    })?;
                    part.same.push(self.part(target));
                }
                ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                    let message = format!("`{keyword}` leads where the item decides");
                    return Err(Refusal { part: at, message, help: "write a `$ref` to `#/$defs/NAME`" });
                }
                ("$id" | "id", Value::String(_)) if at > 0 => {
                    let message = format!("`{keyword}` makes a schema of its own within the schema");
                    return Err(Refusal { part: at, message, help: "remove it" });
                }
                ("allOf" | "anyOf" | "oneOf" | "dependentSchemas" | "dependencies", _) => {
                    self.each(value, &mut part.same);
                }
                ("not" | "if" | "then" | "else", _) => self.one(value, &mut part.same),
                ("properties", _) => self.each(value, &mut part.members),
                ("additionalProperties" | "unevaluatedProperties", _) => self.one(value, &mut part.members),
                ("patternProperties", _) => self.each(value, &mut part.more_members),
                ("propertyNames", _) => self.one(value, &mut part.names),
                ("prefixItems" | "items", Value::Array(_)) => self.each(value, &mut part.elements),
                ("items" | "additionalItems" | "unevaluatedItems", _) => self.one(value, &mut part.elements),
                ("contains", _) => self.one(value, &mut part.more_elements),
                _ => {}
            }
            if matches!(keyword.as_str(), "unevaluatedProperties" | "unevaluatedItems") {
                part.times = AGAIN;
            }
        }
        self.parts[at] = part;
        Ok(())
    }

    fn one(&mut self, schema: &'s Value, into: &mut Vec<usize>) {
        if schema.is_object() {
            into.push(self.part(schema));
        }
    }

    fn each(&mut self, schemas: &'s Value, into: &mut Vec<usize>) {
        match schemas {
            Value::Array(schemas) => schemas.iter().for_each(|schema| self.one(schema, into)),
            Value::Object(schemas) => schemas.values().for_each(|schema| self.one(schema, into)),
            _ => {}
        }
    }

    /// Returns where a reference leads, if it is below the root and below no other `$id`.
    fn referenced(&self, reference: &str) -> Option<&'s Value> {
        let pointer = reference.strip_prefix('#').filter(|pointer| !pointer.contains('%'))?;
        let own = |end: usize| {
            let schema = self.root.pointer(&pointer[..end])?;
            ["$id", "id"].iter().find(|id| schema.get(**id).is_some_and(Value::is_string))
        };
        let within = pointer.match_indices('/').any(|(end, _)| end > 0 && own(end).is_some());
        self.root.pointer(pointer).filter(|_| !within)
    }

    /// Counts the ways into ever deeper items, until there are no more or too many.
    fn count(&self) -> Result<(), Refusal> {
        let order = self.order()?;
        let mut leaf: Option<Vec<Count>> = None;
        let mut below = vec![Count::default(); self.parts.len()];
        for _ in 0..=MAX_ITEM_DEPTH {
            let mut level = vec![Count::default(); self.parts.len()];
            for at in &order {
                let names = leaf.as_ref().unwrap_or(&below);
                level[*at] = self.parts[*at].count(&level, &below, names);
            }
            let root = level[0];
            if root.ways() > MAX_WAYS {
                let message = format!(
                    "a value {MAX_ITEM_DEPTH} deep is looked at more than {MAX_WAYS} times: there are too many ways through the references"
                );
                let help = "refer once where the schema refers twice, or spell out what is nested";
                return Err(Refusal { part: 0, message, help });
            }
            if root.stack > MAX_STACK {
                let message = format!("more than {MAX_STACK} schemas lie in each other");
                let help = "let fewer references lead to references";
                return Err(Refusal { part: 0, message, help });
            }
            if level == below {
                break;
            }
            leaf.get_or_insert_with(|| level.clone());
            below = level;
        }
        Ok(())
    }

    /// Returns the parts, each behind those that look at the same value for it.
    fn order(&self) -> Result<Vec<usize>, Refusal> {
        let mut waits: Vec<usize> = self.parts.iter().map(|part| part.same.len()).collect();
        let mut waited: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, part) in self.parts.iter().enumerate() {
            for same in &part.same {
                waited.entry(*same).or_default().push(at);
            }
        }
        let mut order: Vec<usize> = (0..waits.len()).filter(|at| waits[*at] == 0).collect();
        let mut next = 0;
        while let Some(at) = order.get(next).copied() {
            next += 1;
            for at in waited.get(&at).into_iter().flatten() {
                waits[*at] -= 1;
                if waits[*at] == 0 {
                    order.push(*at);
                }
            }
        }
        match waits.iter().position(|waits| *waits > 0) {
            None => Ok(order),
            Some(part) => {
                let message = "refers to itself without going into the item".to_owned();
                Err(Refusal { part, message, help: "refer to it below `properties` or `items`" })
            }
        }
    }
}

/// What a part comes to on items of some depth.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    /// Ways that end at the value itself.
    own: u64,
    /// Ways into a member and into an element: no value has both.
    members: u64,
    elements: u64,
    stack: u64,
}

impl Count {
    fn ways(self) -> u64 {
        self.own.saturating_add(self.members.max(self.elements))
    }

    /// Adds what looks at the same value, a number of times.
    fn add(&mut self, other: Self, times: u64) {
        let add = |one: &mut u64, other: u64| *one = one.saturating_add(other.saturating_mul(times));
        add(&mut self.own, other.own);
        add(&mut self.members, other.members);
        add(&mut self.elements, other.elements);
        self.stack = self.stack.max(other.stack.saturating_add(1));
    }
}

impl<'s> Part<'s> {
    fn of(schema: &'s Value) -> Self {
        Self {
            schema,
            own: 1,
            times: 1,
            same: Vec::new(),
            names: Vec::new(),
            members: Vec::new(),
            elements: Vec::new(),
            more_members: Vec::new(),
            more_elements: Vec::new(),
        }
    }

    fn count(&self, same: &[Count], below: &[Count], names: &[Count]) -> Count {
        let sum = |of: &[Count], parts: &[usize]| {
            parts.iter().fold(0_u64, |sum, part| sum.saturating_add(of[*part].ways()))
        };
        let most = |parts: &[usize]| parts.iter().map(|part| below[*part].ways()).max().unwrap_or(0);
        let children = [&self.members, &self.elements, &self.more_members, &self.more_elements, &self.names];
        let stack = children.into_iter().flatten().map(|part| below[*part].stack).max().unwrap_or(0);
        let mut count = Count {
            own: self.own.saturating_add(sum(names, &self.names)),
            members: most(&self.members).saturating_add(sum(below, &self.more_members)),
            elements: most(&self.elements).saturating_add(sum(below, &self.more_elements)),
            stack: stack.saturating_add(1),
        };
        for part in &self.same {
            count.add(same[*part], self.times);
        }
        count
    }
}
