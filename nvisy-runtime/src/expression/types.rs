//! What is known of an expression before it sees an item: types and fields.

use nvisy_core::KindId;
use serde::{Deserialize, Serialize};

use super::ExpressionError;
use super::ast::{Arithmetic, Compare, Expr, Form, Node, Root};
use super::functions::Function;
use super::value::Literal;
use crate::suggest::nearest;

/// The type of a value, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Type {
    Any,
    Null,
    Bool,
    Int,
    UInt,
    Double,
    Text,
    Bytes,
    Timestamp,
    Duration,
    List,
    Map,
}

impl Type {
    /// How messages call a value of the type.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Any => "a value",
            Self::Null => "null",
            Self::Bool => "a truth value",
            Self::Int => "an integer",
            Self::UInt => "an unsigned integer",
            Self::Double => "a number",
            Self::Text => "a text",
            Self::Bytes => "bytes",
            Self::Timestamp => "a timestamp",
            Self::Duration => "a duration",
            Self::List => "a list",
            Self::Map => "a map",
        }
    }

    pub(crate) fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::UInt | Self::Double)
    }

    /// Whether values of both types can be compared by `<` and its like.
    pub(super) fn has_order_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Any, other) | (other, Self::Any) => !matches!(other, Self::Null | Self::List | Self::Map),
            (a, b) if a.is_number() && b.is_number() => true,
            (Self::Null | Self::List | Self::Map, _) => false,
            (a, b) => a == b,
        }
    }

    /// Whether values of both types can be equal.
    fn can_equal(self, other: Self) -> bool {
        let (any, number) = (|t| matches!(t, Self::Any | Self::Null), Self::is_number);
        any(self) || any(other) || (number(self) && number(other)) || self == other
    }

    /// The type of what an operator makes of two values; none if it makes nothing of them.
    pub(super) fn arithmetic(op: Arithmetic, left: Self, right: Self) -> Option<Self> {
        use Arithmetic as A;
        match (op, left, right) {
            (A::Add, Self::Any, Self::List | Self::Text | Self::Bytes) => Some(right),
            (A::Add, Self::List | Self::Text | Self::Bytes, Self::Any) => Some(left),
            (_, Self::Any, other) | (_, other, Self::Any) => {
                let time =
                    matches!(other, Self::Timestamp | Self::Duration) && matches!(op, A::Add | A::Subtract);
                (other == Self::Any || other.is_number() || time).then_some(Self::Any)
            }
            (A::Remainder, Self::Double, _) | (A::Remainder, _, Self::Double) => None,
            (_, Self::UInt, Self::UInt) => Some(Self::UInt),
            (_, Self::Double, other) | (_, other, Self::Double) => other.is_number().then_some(Self::Double),
            (_, left, right) if left.is_number() && right.is_number() => Some(Self::Int),
            (A::Add | A::Subtract, Self::Timestamp, Self::Duration)
            | (A::Add, Self::Duration, Self::Timestamp) => Some(Self::Timestamp),
            (A::Add, Self::Text | Self::Bytes | Self::List | Self::Duration, _) => {
                (left == right).then_some(left)
            }
            (A::Subtract, Self::Timestamp, Self::Timestamp)
            | (A::Subtract, Self::Duration, Self::Duration) => Some(Self::Duration),
            _ => None,
        }
    }
}

/// The names of the fields of a document.
pub(super) const DOCUMENT: [&str; 8] =
    ["text", "title", "language", "mime_type", "source_uri", "byte_range", "chunk", "attributes"];
/// The names of the fields of an embedding.
pub(super) const EMBEDDING: [&str; 6] =
    ["vector", "dimensions", "model", "document", "content_hash", "metric"];
/// The names of the fields of an object.
pub(super) const OBJECT: [&str; 6] = ["key", "size", "mime_type", "etag", "last_modified", "bytes"];
/// The names of the fields of the envelope.
pub(super) const META: [&str; 5] = ["tags", "custom", "node", "graph", "created_at"];

/// Finds the type of an expression.
///
/// # Errors
///
/// What cannot work on any item.
pub(super) fn check(text: &str, node: &Node) -> Result<Type, ExpressionError> {
    Checker { text }.check(node)
}

/// What the value of an expression is called, if it is of a type that is neither true nor false.
pub(super) fn untrue(node: &Node, result: Type) -> Option<&'static str> {
    match (result, &node.expr) {
        (Type::Any, Expr::Arithmetic(..) | Expr::Negate(_)) => Some("the result of a calculation"),
        (Type::Any | Type::Bool, _) => None,
        (other, _) => Some(other.name()),
    }
}

struct Checker<'a> {
    text: &'a str,
}

impl Checker<'_> {
    fn error(&self, at: u32, message: impl Into<String>) -> ExpressionError {
        ExpressionError::new(self.text, at as usize, message)
    }

    fn truth(&self, node: &Node, place: &str) -> Result<(), ExpressionError> {
        match untrue(node, self.check(node)?) {
            None => Ok(()),
            Some(other) => Err(self.error(node.at, format!("{place} is true or false, this is {other}"))),
        }
    }

    fn check(&self, node: &Node) -> Result<Type, ExpressionError> {
        let at = node.at;
        Ok(match &node.expr {
            Expr::Literal(literal) => literal.type_of(),
            Expr::Root(root) => root_type(*root),
            Expr::Local(_) => Type::Any,
            Expr::Field { of, name } => self.field(at, of, name)?,
            Expr::Has { of, name } => {
                self.field(at, of, name)?;
                Type::Bool
            }
            Expr::Index { of, index } => {
                let (of_type, index_type) = (self.check(of)?, self.check(index)?);
                match of_type {
                    Type::Any | Type::Map => {}
                    Type::List if matches!(index_type, Type::Any) || index_type.is_number() => {}
                    Type::List => {
                        let message =
                            format!("a list is indexed by an integer, this is {}", index_type.name());
                        return Err(self.error(index.at, message));
                    }
                    other => return Err(self.error(at, format!("{} has no parts to index", other.name()))),
                }
                Type::Any
            }
            Expr::Not(of) => {
                self.truth(of, "what `!` negates")?;
                Type::Bool
            }
            Expr::Negate(of) => match self.check(of)? {
                of @ (Type::Any | Type::Int | Type::Double | Type::Duration) => of,
                other => return Err(self.error(at, format!("`-` does not work on {}", other.name()))),
            },
            Expr::And(terms) | Expr::Or(terms) => {
                let place =
                    if matches!(node.expr, Expr::And(_)) { "each side of `&&`" } else { "each side of `||`" };
                terms.iter().try_for_each(|term| self.truth(term, place))?;
                Type::Bool
            }
            Expr::Compare(op, sides) => {
                let (left, right) = (self.check(&sides[0])?, self.check(&sides[1])?);
                if op.is_equality() && !left.can_equal(right) {
                    let message = format!("{} never equals {}", left.name(), right.name());
                    return Err(self.error(at, message));
                }
                if !op.is_equality() && !left.has_order_with(right) {
                    let (op, left, right) = (op.symbol(), left.name(), right.name());
                    return Err(self.error(at, format!("`{op}` does not compare {left} with {right}")));
                }
                Type::Bool
            }
            Expr::Arithmetic(op, sides) => {
                let (left, right) = (self.check(&sides[0])?, self.check(&sides[1])?);
                Type::arithmetic(*op, left, right).ok_or_else(|| {
                    let (op, left, right) = (op.symbol(), left.name(), right.name());
                    self.error(at, format!("`{op}` does not work on {left} and {right}"))
                })?
            }
            Expr::In(sides) => {
                self.check(&sides[0])?;
                match self.check(&sides[1])? {
                    Type::Any | Type::List | Type::Map => Type::Bool,
                    other => {
                        let message = format!("`in` looks into a list or a map, this is {}", other.name());
                        return Err(self.error(sides[1].at, message));
                    }
                }
            }
            Expr::Conditional(parts) => {
                self.truth(&parts[0], "what stands before `?`")?;
                let (then, otherwise) = (self.check(&parts[1])?, self.check(&parts[2])?);
                if then == otherwise { then } else { Type::Any }
            }
            Expr::List(items) => {
                items.iter().try_for_each(|item| self.check(item).map(drop))?;
                Type::List
            }
            Expr::Map(entries) => {
                for (key, value) in entries {
                    match self.check(key)? {
                        Type::Any | Type::Text | Type::Int | Type::UInt | Type::Bool => {}
                        other => {
                            let message =
                                format!("{} is no key: texts, integers and truth values are", other.name());
                            return Err(self.error(key.at, message));
                        }
                    }
                    self.check(value)?;
                }
                Type::Map
            }
            Expr::Call(function, arguments) => self.call(at, *function, arguments)?,
            Expr::Matches(of, _) => self.call(at, Function::Matches, std::slice::from_ref(of))?,
            Expr::Comprehension(c) => {
                match self.check(&c.range)? {
                    Type::Any | Type::List | Type::Map => {}
                    other => {
                        let message =
                            format!("expected a list or a map to go through, this is {}", other.name());
                        return Err(self.error(c.range.at, message));
                    }
                }
                if let Some(condition) = &c.condition {
                    self.truth(condition, "the condition of `map`")?;
                }
                match c.form {
                    Form::Map => self.check(&c.body).map(drop)?,
                    _ => self.truth(&c.body, "the condition")?,
                }
                if matches!(c.form, Form::Map | Form::Filter) { Type::List } else { Type::Bool }
            }
        })
    }

    fn call(&self, at: u32, function: Function, arguments: &[Node]) -> Result<Type, ExpressionError> {
        for (index, argument) in arguments.iter().enumerate() {
            let given = self.check(argument)?;
            if !function.takes(index, given) {
                let (name, usage) = (given.name(), function.usage());
                return Err(self.error(
                    at,
                    format!("`{}` does not work on {name}: it is called as `{usage}`", function.name()),
                ));
            }
        }
        Ok(function.result())
    }

    fn field(&self, at: u32, of: &Node, name: &str) -> Result<Type, ExpressionError> {
        let of_type = self.check(of)?;
        let Some(owner) = owner(of) else {
            return match of_type {
                Type::Any | Type::Map => Ok(Type::Any),
                other => Err(self.error(at, format!("{} has no field `{name}`", other.name()))),
            };
        };
        let (known, what): (&[&str], _) = match owner {
            Root::Kind(KindId::Document) => (&DOCUMENT, "a document"),
            Root::Kind(KindId::Embedding) => (&EMBEDDING, "an embedding"),
            Root::Kind(KindId::Object) => (&OBJECT, "an object"),
            Root::Meta => (&META, "`meta`"),
            Root::Id | Root::KindName => {
                return Err(self.error(at, format!("`{}` is a text, it has no fields", owner.name())));
            }
            Root::Kind(_) => return Ok(Type::Any),
        };
        if !known.contains(&name) {
            let help = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("those there are: {}", known.join(", ")),
            };
            return Err(self.error(at, format!("{what} has no field `{name}`: {help}")));
        }
        Ok(match (owner, name) {
            (Root::Kind(KindId::Document), "text") | (Root::Kind(KindId::Embedding), "model") => Type::Text,
            (Root::Kind(KindId::Object), "key") | (Root::Meta, "node" | "graph") => Type::Text,
            (Root::Kind(KindId::Document), "attributes") | (Root::Meta, "tags" | "custom") => Type::Map,
            (Root::Kind(KindId::Embedding), "vector") => Type::List,
            (Root::Kind(KindId::Embedding), "dimensions") | (Root::Kind(KindId::Object), "size") => Type::Int,
            (Root::Meta, "created_at") => Type::Timestamp,
            _ => Type::Any,
        })
    }
}

/// Whose fields are read, where that is known.
fn owner(of: &Node) -> Option<Root> {
    match &of.expr {
        Expr::Root(root) => Some(*root),
        Expr::Field { of, name } => match &of.expr {
            Expr::Root(Root::Kind(KindId::Embedding)) if &**name == "document" => {
                Some(Root::Kind(KindId::Document))
            }
            _ => None,
        },
        _ => None,
    }
}

fn root_type(root: Root) -> Type {
    match root {
        Root::Id | Root::KindName => Type::Text,
        Root::Kind(KindId::Raw | KindId::Custom) => Type::Any,
        Root::Kind(_) | Root::Meta => Type::Map,
    }
}

impl Literal {
    pub(super) fn type_of(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::UInt(_) => Type::UInt,
            Self::Double(_) => Type::Double,
            Self::Text(_) => Type::Text,
            Self::Bytes(_) => Type::Bytes,
        }
    }
}

/// Whether an expression over rows runs as kernels, whatever the columns are.
pub(super) fn is_columnar(node: &Node) -> bool {
    match &node.expr {
        Expr::Literal(_) => true,
        Expr::Field { of, .. } | Expr::Has { of, .. } => {
            matches!(of.expr, Expr::Root(Root::Kind(KindId::Row)))
        }
        Expr::Not(of) | Expr::Negate(of) | Expr::Matches(of, _) => is_columnar(of),
        Expr::And(terms) | Expr::Or(terms) => terms.iter().all(is_columnar),
        Expr::Compare(_, sides) | Expr::Arithmetic(_, sides) => sides.iter().all(is_columnar),
        Expr::In(sides) => is_columnar(&sides[0]) && is_constant_list(&sides[1]),
        Expr::Call(Function::Size, arguments) => arguments.iter().all(is_columnar),
        Expr::Call(Function::StartsWith | Function::EndsWith | Function::Contains, arguments) => {
            is_columnar(&arguments[0]) && matches!(&arguments[1].expr, Expr::Literal(Literal::Text(_)))
        }
        _ => false,
    }
}

fn is_constant_list(node: &Node) -> bool {
    matches!(&node.expr, Expr::List(items) if items.iter().all(|item| matches!(item.expr, Expr::Literal(_))))
}

/// The comparison operators, for messages.
pub(super) fn describe(op: Compare, left: Type, right: Type) -> String {
    let (op, left, right) = (op.symbol(), left.name(), right.name());
    format!("`{op}` does not compare {left} with {right}")
}
