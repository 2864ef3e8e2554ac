//! Reads the grammar of CEL.
//!
//! Depth, nodes and length are capped before anything is built: an expression can come from a
//! stranger, and whatever walks the tree is recursive.

use super::ast::{Arithmetic, Compare, Comprehension, Expr, Form, Node, Root};
use super::functions::Function;
use super::lexer::{Token, lex};
use super::pattern;
use super::value::Literal;
use super::{ExpressionError, MAX_COMPREHENSIONS, MAX_DEPTH, MAX_LENGTH, MAX_NODES, MAX_PATTERNS};
use crate::suggest::nearest;

type Result<T> = std::result::Result<T, ExpressionError>;

/// Reads an expression.
pub(super) fn parse(text: &str) -> Result<Node> {
    if text.len() > MAX_LENGTH {
        let message = format!("the expression is {} bytes long, at most {MAX_LENGTH} are read", text.len());
        return Err(ExpressionError::new("", 0, message));
    }
    let tokens = lex(text)?;
    let mut parser = Parser { text, tokens, next: 0, depth: 0, nodes: 0, patterns: 0, locals: Vec::new() };
    if *parser.peek() == Token::End {
        return Err(ExpressionError::new(text, 0, "the expression is empty"));
    }
    let node = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(node),
        token => Err(parser.error(format!("expected an operator or the end, found {}", token.describe()))),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(u32, Token)>,
    next: usize,
    depth: usize,
    nodes: usize,
    patterns: usize,
    locals: Vec<String>,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.next.min(self.tokens.len() - 1)].1
    }

    fn at(&self) -> u32 {
        self.tokens[self.next.min(self.tokens.len() - 1)].0
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn takes(&mut self, symbol: &str) -> bool {
        let found = self.peeks(symbol);
        self.next += usize::from(found);
        found
    }

    fn peeks(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(found) if *found == symbol)
    }

    fn expect(&mut self, symbol: &str, place: &str) -> Result<()> {
        if self.takes(symbol) {
            return Ok(());
        }
        Err(self.error(format!("expected `{symbol}` {place}, found {}", self.peek().describe())))
    }

    fn error(&self, message: impl Into<String>) -> ExpressionError {
        self.error_at(self.at(), message)
    }

    fn error_at(&self, at: u32, message: impl Into<String>) -> ExpressionError {
        ExpressionError::new(self.text, at as usize, message)
    }

    fn node(&mut self, at: u32, expr: Expr) -> Result<Node> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.error_at(at, format!("the expression has more than {MAX_NODES} parts")));
        }
        let mut height = 0;
        expr.children(&mut |child| height = height.max(child.height + 1));
        if usize::from(height) > 2 * MAX_DEPTH {
            return Err(self.error_at(at, format!("the expression is nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Node { at, height, expr })
    }

    /// Reads with `read`, one level deeper.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(self.error(format!("the expression is nested deeper than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn expression(&mut self) -> Result<Node> {
        self.deeper(|parser| {
            let condition = parser.or()?;
            let at = parser.at();
            if !parser.takes("?") {
                return Ok(condition);
            }
            let then = parser.deeper(Self::or)?;
            parser.expect(":", "between the two values of `?`")?;
            let otherwise = parser.expression()?;
            parser.node(at, Expr::Conditional(Box::new([condition, then, otherwise])))
        })
    }

    fn or(&mut self) -> Result<Node> {
        self.chain("||", Self::and, Expr::Or)
    }

    fn and(&mut self) -> Result<Node> {
        self.chain("&&", Self::relation, Expr::And)
    }

    fn chain(
        &mut self,
        symbol: &str,
        read: impl Fn(&mut Self) -> Result<Node>,
        make: impl Fn(Vec<Node>) -> Expr,
    ) -> Result<Node> {
        let first = read(self)?;
        let at = self.at();
        if !self.peeks(symbol) {
            return Ok(first);
        }
        let mut terms = vec![first];
        while self.takes(symbol) {
            terms.push(read(self)?);
        }
        self.node(at, make(terms))
    }

    /// Reads what is grouped from the left: each more is one level deeper.
    fn left(
        &mut self,
        read: impl Fn(&mut Self) -> Result<Node>,
        operator: impl Fn(&Token) -> Option<Operator>,
    ) -> Result<Node> {
        let mut node = read(self)?;
        let mut deeper = 0;
        while let Some(operator) = operator(self.peek()) {
            let at = self.at();
            self.next += 1;
            deeper += 1;
            if self.depth + deeper > MAX_DEPTH {
                return Err(
                    self.error_at(at, format!("the expression chains more than {MAX_DEPTH} operators"))
                );
            }
            let sides = Box::new([node, read(self)?]);
            node = self.node(
                at,
                match operator {
                    Operator::Compare(op) => Expr::Compare(op, sides),
                    Operator::Arithmetic(op) => Expr::Arithmetic(op, sides),
                    Operator::In => Expr::In(sides),
                },
            )?;
        }
        Ok(node)
    }

    fn relation(&mut self) -> Result<Node> {
        self.left(Self::sum, |token| {
            Some(match token {
                Token::Symbol("==") => Operator::Compare(Compare::Equal),
                Token::Symbol("!=") => Operator::Compare(Compare::NotEqual),
                Token::Symbol("<") => Operator::Compare(Compare::Less),
                Token::Symbol("<=") => Operator::Compare(Compare::LessEqual),
                Token::Symbol(">") => Operator::Compare(Compare::Greater),
                Token::Symbol(">=") => Operator::Compare(Compare::GreaterEqual),
                Token::Name(name) if name == "in" => Operator::In,
                _ => return None,
            })
        })
    }

    fn sum(&mut self) -> Result<Node> {
        self.left(Self::product, |token| {
            Some(Operator::Arithmetic(match token {
                Token::Symbol("+") => Arithmetic::Add,
                Token::Symbol("-") => Arithmetic::Subtract,
                _ => return None,
            }))
        })
    }

    fn product(&mut self) -> Result<Node> {
        self.left(Self::unary, |token| {
            Some(Operator::Arithmetic(match token {
                Token::Symbol("*") => Arithmetic::Multiply,
                Token::Symbol("/") => Arithmetic::Divide,
                Token::Symbol("%") => Arithmetic::Remainder,
                _ => return None,
            }))
        })
    }

    fn unary(&mut self) -> Result<Node> {
        let at = self.at();
        if self.takes("!") {
            let of = self.deeper(Self::unary)?;
            return self.node(at, Expr::Not(Box::new(of)));
        }
        if !self.takes("-") {
            return self.member();
        }
        let literal = match self.peek() {
            Token::Int(value) => Some(Literal::Int(-value)),
            Token::MinInt => Some(Literal::Int(i64::MIN)),
            Token::Double(value) => Some(Literal::Double(-value)),
            _ => None,
        };
        if let Some(literal) = literal {
            self.next += 1;
            let node = self.node(at, Expr::Literal(literal))?;
            return self.members(node);
        }
        let of = self.deeper(Self::unary)?;
        self.node(at, Expr::Negate(Box::new(of)))
    }

    fn member(&mut self) -> Result<Node> {
        let node = self.primary()?;
        self.members(node)
    }

    fn members(&mut self, mut node: Node) -> Result<Node> {
        let mut deeper = 0;
        loop {
            let at = self.at();
            if self.takes(".") {
                let at = self.at();
                let (name, quoted) = match self.take() {
                    Token::Name(name) => (name, false),
                    Token::Quoted(name) => (name, true),
                    token => {
                        let message = format!("expected a name after the point, found {}", token.describe());
                        return Err(self.error_at(at, message));
                    }
                };
                node = if !quoted && self.takes("(") {
                    self.receiver_call(at, node, &name)?
                } else {
                    self.node(at, Expr::Field { of: Box::new(node), name: name.into() })?
                };
            } else if self.takes("[") {
                let index = self.expression()?;
                self.expect("]", "after the index")?;
                node = match index.expr {
                    // `row['Airport Name']` is `row.AirportName`, but for the blank.
                    Expr::Literal(Literal::Text(name)) => {
                        self.node(at, Expr::Field { of: Box::new(node), name })?
                    }
                    _ => self.node(at, Expr::Index { of: Box::new(node), index: Box::new(index) })?,
                };
            } else {
                return Ok(node);
            }
            deeper += 1;
            if self.depth + deeper > MAX_DEPTH {
                return Err(
                    self.error_at(at, format!("the expression is nested deeper than {MAX_DEPTH} levels"))
                );
            }
        }
    }

    fn primary(&mut self) -> Result<Node> {
        let at = self.at();
        let literal = match self.take() {
            Token::Int(value) => Literal::Int(value),
            Token::MinInt => return Err(self.error_at(at, "the number does not fit into 64 bits")),
            Token::UInt(value) => Literal::UInt(value),
            Token::Double(value) => Literal::Double(value),
            Token::Text(text) => Literal::Text(text.into()),
            Token::Bytes(bytes) => Literal::Bytes(bytes.into()),
            Token::Name(name) => return self.name(at, &name),
            Token::Symbol("(") => {
                let node = self.expression()?;
                self.expect(")", "to close the bracket")?;
                return Ok(node);
            }
            Token::Symbol("[") => {
                let items = self.list("]", Self::expression)?;
                return self.node(at, Expr::List(items));
            }
            Token::Symbol("{") => {
                let entries = self.list("}", |parser| {
                    let key = parser.expression()?;
                    parser.expect(":", "between a key and its value")?;
                    Ok((key, parser.expression()?))
                })?;
                return self.node(at, Expr::Map(entries));
            }
            token => {
                let message = format!("expected a value, found {}", token.describe());
                return Err(self.error_at(at, message));
            }
        };
        self.node(at, Expr::Literal(literal))
    }

    /// Reads values between commas up to `close`; a comma may follow the last.
    fn list<T>(&mut self, close: &str, read: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::new();
        while !self.takes(close) {
            items.push(read(self)?);
            if !self.takes(",") {
                self.expect(close, "or `,` after a value")?;
                break;
            }
        }
        Ok(items)
    }

    fn name(&mut self, at: u32, name: &str) -> Result<Node> {
        let literal = match name {
            "true" => Some(Literal::Bool(true)),
            "false" => Some(Literal::Bool(false)),
            "null" => Some(Literal::Null),
            _ => None,
        };
        if let Some(literal) = literal {
            return self.node(at, Expr::Literal(literal));
        }
        if self.takes("(") {
            return self.global_call(at, name);
        }
        if let Some(local) = self.locals.iter().rposition(|local| local == name) {
            return self.node(at, Expr::Local(local));
        }
        if let Some(root) = Root::of(name) {
            return self.node(at, Expr::Root(root));
        }
        let known = Root::NAMES.into_iter().chain(self.locals.iter().map(String::as_str));
        let message = match nearest(name, known) {
            Some(near) => format!("there is no `{name}`: did you mean `{near}`?"),
            None => format!(
                "there is no `{name}`: columns are `row.{name}`, a document's fields `document.{name}`"
            ),
        };
        Err(self.error_at(at, message))
    }

    fn global_call(&mut self, at: u32, name: &str) -> Result<Node> {
        if name == "has" {
            let node = self.expression()?;
            self.expect(")", "after the field of `has`")?;
            return match node.expr {
                Expr::Field { of, name } => self.node(at, Expr::Has { of, name }),
                _ => Err(self.error_at(node.at, "`has` asks for a field, such as `has(row.title)`")),
            };
        }
        let arguments = self.list(")", Self::expression)?;
        let Some(function) = Function::global(name) else {
            let help = match (Function::receiver(name), nearest(name, Function::names(false))) {
                (Some(_), _) => format!("call it on its value: `value.{name}(..)`"),
                (None, Some(near)) => format!("did you mean `{near}`?"),
                (None, None) => format!("those there are: {}", Function::list(false)),
            };
            return Err(self.error_at(at, format!("there is no function `{name}(..)`: {help}")));
        };
        self.call(at, function, arguments)
    }

    fn receiver_call(&mut self, at: u32, target: Node, name: &str) -> Result<Node> {
        if Form::names(name) {
            return self.comprehension(at, target, name);
        }
        let mut arguments = vec![target];
        arguments.extend(self.list(")", Self::expression)?);
        let Some(function) = Function::receiver(name) else {
            let forms = ["all", "exists", "exists_one", "map", "filter"];
            let help = match (Function::global(name), nearest(name, Function::names(true).chain(forms))) {
                (Some(_), _) => format!("call it as `{name}(..)`"),
                (None, Some(near)) => format!("did you mean `{near}`?"),
                (None, None) => format!("those there are: {}, {}", Function::list(true), forms.join(", ")),
            };
            return Err(self.error_at(at, format!("there is no function `.{name}(..)`: {help}")));
        };
        self.call(at, function, arguments)
    }

    fn call(&mut self, at: u32, function: Function, mut arguments: Vec<Node>) -> Result<Node> {
        let (min, max) = function.arity();
        if arguments.len() < min || arguments.len() > max {
            return Err(
                self.error_at(at, format!("`{}` is called as `{}`", function.name(), function.usage()))
            );
        }
        if function != Function::Matches {
            return self.node(at, Expr::Call(function, arguments));
        }
        // A pattern is compiled once, with the expression.
        let (pattern, text) = (arguments.pop(), arguments.pop());
        let (Some(Node { at: place, expr: Expr::Literal(Literal::Text(pattern)), .. }), Some(text)) =
            (pattern, text)
        else {
            return Err(
                self.error_at(at, "the pattern of `matches` is written as a text, such as '^[a-z]+$'")
            );
        };
        self.patterns += 1;
        if self.patterns > MAX_PATTERNS {
            let message = format!("the expression has more than {MAX_PATTERNS} patterns: join them with `|`");
            return Err(self.error_at(place, message));
        }
        let regex = pattern::compile(&pattern).map_err(|reason| self.error_at(place, reason))?;
        self.node(at, Expr::Matches(Box::new(text), regex))
    }

    fn comprehension(&mut self, at: u32, range: Node, name: &str) -> Result<Node> {
        let usage =
            || format!("`{name}` is called with a variable and what is said of it: `list.{name}(x, x > 0)`");
        let variable = match self.take() {
            Token::Name(variable) if self.peeks(",") => variable,
            _ => return Err(self.error_at(at, usage())),
        };
        self.next += 1;
        let local = self.locals.len();
        if local >= MAX_COMPREHENSIONS {
            let message =
                format!("`all`, `exists`, `map` and `filter` nest deeper than {MAX_COMPREHENSIONS} levels");
            return Err(self.error_at(at, message));
        }
        self.locals.push(variable);
        let mut parts = self.list(")", Self::expression)?;
        self.locals.pop();
        let form = Form::of(name, parts.len() + 1);
        let (Some(form), Some(body)) = (form, parts.pop()) else {
            return Err(self.error_at(at, usage()));
        };
        let condition = parts.pop();
        self.node(at, Expr::Comprehension(Box::new(Comprehension { form, range, local, condition, body })))
    }
}

enum Operator {
    Compare(Compare),
    Arithmetic(Arithmetic),
    In,
}
