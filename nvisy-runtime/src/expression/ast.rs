//! What an expression is once it is read: a tree of nodes, each with its place in the text.

use std::sync::Arc;

use nvisy_core::KindId;
use regex::Regex;

use super::functions::Function;
use super::value::Literal;

/// A part of an expression, and the byte of the text at which it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: u32,
    /// How many levels there are below it.
    pub(super) height: u16,
    pub(super) expr: Expr,
}

#[derive(Debug)]
pub(super) enum Expr {
    Literal(Literal),
    Root(Root),
    /// The variable of a comprehension, by its depth.
    Local(usize),
    Field {
        of: Box<Node>,
        name: Arc<str>,
    },
    Has {
        of: Box<Node>,
        name: Arc<str>,
    },
    Index {
        of: Box<Node>,
        index: Box<Node>,
    },
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Compare(Compare, Box<[Node; 2]>),
    Arithmetic(Arithmetic, Box<[Node; 2]>),
    In(Box<[Node; 2]>),
    Conditional(Box<[Node; 3]>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Call(Function, Vec<Node>),
    Matches(Box<Node>, Regex),
    Comprehension(Box<Comprehension>),
}

/// A macro over the items of a list or the keys of a map.
#[derive(Debug)]
pub(super) struct Comprehension {
    pub(super) form: Form,
    pub(super) range: Node,
    /// The depth of its variable.
    pub(super) local: usize,
    /// Which items `map` takes, where it has three arguments.
    pub(super) condition: Option<Node>,
    pub(super) body: Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

impl Form {
    pub(super) fn of(name: &str, arguments: usize) -> Option<Self> {
        Some(match (name, arguments) {
            ("all", 2) => Self::All,
            ("exists", 2) => Self::Exists,
            ("exists_one" | "existsOne", 2) => Self::ExistsOne,
            ("map", 2 | 3) => Self::Map,
            ("filter", 2) => Self::Filter,
            _ => return None,
        })
    }

    /// Whether the name is that of a form, with whatever arguments.
    pub(super) fn names(name: &str) -> bool {
        matches!(name, "all" | "exists" | "exists_one" | "existsOne" | "map" | "filter")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Compare {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
        }
    }

    pub(super) fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual)
    }

    /// The comparison that says the same with its sides exchanged.
    pub(super) fn flip(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
            same => same,
        }
    }

    /// Whether it holds of two values in that order; none is for those that have no order.
    pub(super) fn holds(self, order: Option<std::cmp::Ordering>) -> bool {
        match (self, order) {
            (Self::NotEqual, None) => true,
            (_, None) => false,
            (Self::Equal, Some(order)) => order.is_eq(),
            (Self::NotEqual, Some(order)) => order.is_ne(),
            (Self::Less, Some(order)) => order.is_lt(),
            (Self::LessEqual, Some(order)) => order.is_le(),
            (Self::Greater, Some(order)) => order.is_gt(),
            (Self::GreaterEqual, Some(order)) => order.is_ge(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Arithmetic {
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

/// What an expression starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Root {
    /// The payload, where it is of this kind.
    Kind(KindId),
    /// The envelope.
    Meta,
    /// The item's id.
    Id,
    /// The name of the payload's kind.
    KindName,
}

impl Root {
    pub(super) const NAMES: [&'static str; 17] = [
        "row",
        "document",
        "object",
        "message",
        "graph",
        "embedding",
        "completion",
        "structured_output",
        "tool_call_trace",
        "image",
        "audio",
        "fine_tune_sample",
        "raw",
        "custom",
        "meta",
        "id",
        "kind",
    ];

    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "meta" => Self::Meta,
            "id" => Self::Id,
            "kind" => Self::KindName,
            _ => Self::Kind(name.parse().ok()?),
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kind(kind) => kind.name(),
            Self::Meta => "meta",
            Self::Id => "id",
            Self::KindName => "kind",
        }
    }
}

impl Expr {
    /// Calls `visit` with the nodes right below.
    pub(super) fn children<'a>(&'a self, visit: &mut dyn FnMut(&'a Node)) {
        match self {
            Self::Literal(_) | Self::Root(_) | Self::Local(_) => {}
            Self::Field { of, .. } | Self::Has { of, .. } | Self::Matches(of, _) => visit(of),
            Self::Index { of, index } => {
                visit(of);
                visit(index);
            }
            Self::Not(of) | Self::Negate(of) => visit(of),
            Self::And(terms) | Self::Or(terms) | Self::List(terms) | Self::Call(_, terms) => {
                terms.iter().for_each(visit);
            }
            Self::Compare(_, sides) | Self::Arithmetic(_, sides) | Self::In(sides) => {
                sides.iter().for_each(visit)
            }
            Self::Conditional(parts) => parts.iter().for_each(visit),
            Self::Map(entries) => entries.iter().for_each(|(key, value)| {
                visit(key);
                visit(value);
            }),
            Self::Comprehension(c) => {
                visit(&c.range);
                c.condition.iter().for_each(&mut *visit);
                visit(&c.body);
            }
        }
    }
}
