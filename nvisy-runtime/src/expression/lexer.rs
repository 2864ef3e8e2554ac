//! Cuts the text of an expression into words.

use super::ExpressionError;

/// A word of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    /// A name in backticks.
    Quoted(String),
    Int(i64),
    /// The digits of the lowest integer, which is none without its sign.
    MinInt,
    UInt(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// An operator or a bracket.
    Symbol(&'static str),
    End,
}

impl Token {
    /// How messages call it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Name(name) => format!("`{name}`"),
            Self::Quoted(name) => format!("`` `{name}` ``"),
            Self::Int(_) | Self::MinInt | Self::UInt(_) | Self::Double(_) => "a number".into(),
            Self::Text(_) => "a text".into(),
            Self::Bytes(_) => "bytes".into(),
            Self::Symbol(symbol) => format!("`{symbol}`"),
            Self::End => "the end".into(),
        }
    }
}

const SYMBOLS: [&str; 25] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}", "=",
];

/// Cuts the text into words with their places. The last is [`Token::End`].
pub(super) fn lex(text: &str) -> Result<Vec<(u32, Token)>, ExpressionError> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank();
        let at = lexer.at;
        let token = lexer.next()?;
        let end = token == Token::End;
        tokens.push((at as u32, token));
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn error(&self, at: usize, message: impl Into<String>) -> ExpressionError {
        ExpressionError::new(self.text, at, message)
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &str {
        let start = self.at;
        let len = self.rest().find(|c| !keep(c)).unwrap_or(self.rest().len());
        self.at += len;
        &self.text[start..self.at]
    }

    fn skip_blank(&mut self) {
        loop {
            self.take_while(char::is_whitespace);
            if !self.rest().starts_with("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn next(&mut self) -> Result<Token, ExpressionError> {
        let Some(first) = self.peek() else { return Ok(Token::End) };
        let second = self.rest()[first.len_utf8()..].chars().next();
        if first.is_ascii_digit() || (first == '.' && second.is_some_and(|c| c.is_ascii_digit())) {
            return self.number();
        }
        if matches!(first, '"' | '\'') {
            return self.text_literal(false, false);
        }
        if let Some((raw, bytes)) = self.prefix() {
            self.at += usize::from(raw) + usize::from(bytes);
            return self.text_literal(raw, bytes);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(Token::Name(self.take_while(|c| c.is_ascii_alphanumeric() || c == '_').to_owned()));
        }
        if first == '`' {
            return self.quoted();
        }
        let symbol = SYMBOLS.into_iter().find(|symbol| self.rest().starts_with(symbol));
        match symbol {
            Some("=") => Err(self.error(self.at, "`=` compares nothing: write `==`")),
            Some(symbol) => {
                self.at += symbol.len();
                Ok(Token::Symbol(symbol))
            }
            None if matches!(first, '&' | '|') => {
                Err(self.error(self.at, format!("`{first}` is no operator: write `{first}{first}`")))
            }
            None => Err(self.error(self.at, format!("`{first}` has no meaning here"))),
        }
    }

    /// Whether a text literal starts here with `r`, `b` or both.
    fn prefix(&self) -> Option<(bool, bool)> {
        let mut chars = self.rest().chars().map(|c| c.to_ascii_lowercase());
        let (first, second, third) = (chars.next(), chars.next(), chars.next());
        let quote = |c: Option<char>| matches!(c, Some('"' | '\''));
        match (first, second) {
            (Some('r'), _) if quote(second) => Some((true, false)),
            (Some('b'), _) if quote(second) => Some((false, true)),
            (Some('b'), Some('r')) | (Some('r'), Some('b')) if quote(third) => Some((true, true)),
            _ => None,
        }
    }

    fn number(&mut self) -> Result<Token, ExpressionError> {
        let start = self.at;
        let hex = self.rest().starts_with("0x") || self.rest().starts_with("0X");
        let mut double = false;
        if hex {
            self.at += 2;
            self.take_while(|c| c.is_ascii_hexdigit());
        } else {
            self.take_while(|c| c.is_ascii_digit());
            let fraction = self.rest().strip_prefix('.').and_then(|r| r.chars().next());
            if fraction.is_some_and(|c| c.is_ascii_digit()) {
                double = true;
                self.at += 1;
                self.take_while(|c| c.is_ascii_digit());
            }
            let exponent =
                self.rest().strip_prefix(['e', 'E']).map(|r| r.strip_prefix(['+', '-']).unwrap_or(r));
            if exponent.and_then(|r| r.chars().next()).is_some_and(|c| c.is_ascii_digit()) {
                double = true;
                self.at += 1;
                self.take_while(|c| matches!(c, '+' | '-'));
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        let digits = &self.text[start..self.at];
        let token = if double {
            digits.parse().ok().filter(|d: &f64| d.is_finite()).map(Token::Double)
        } else {
            let (digits, radix) = if hex { (&digits[2..], 16) } else { (digits, 10) };
            let value = u64::from_str_radix(digits, radix).ok();
            if self.rest().starts_with(['u', 'U']) {
                self.at += 1;
                value.map(Token::UInt)
            } else {
                value.and_then(|value| match i64::try_from(value) {
                    Ok(value) => Some(Token::Int(value)),
                    Err(_) => (value == i64::MIN.unsigned_abs()).then_some(Token::MinInt),
                })
            }
        };
        let after = self.peek();
        match token {
            Some(token) if !after.is_some_and(|c| c.is_alphanumeric() || c == '_') => Ok(token),
            _ => {
                self.take_while(|c| c.is_alphanumeric() || c == '_');
                Err(self.error(start, format!("`{}` is no number of 64 bits", &self.text[start..self.at])))
            }
        }
    }

    fn quoted(&mut self) -> Result<Token, ExpressionError> {
        let start = self.at;
        self.at += 1;
        let name = self.take_while(|c| c != '`' && c != '\n').to_owned();
        if name.is_empty() || !self.rest().starts_with('`') {
            return Err(self.error(start, "the name in backticks has no end"));
        }
        self.at += 1;
        Ok(Token::Quoted(name))
    }

    fn text_literal(&mut self, raw: bool, bytes: bool) -> Result<Token, ExpressionError> {
        let start = self.at;
        let quote = self.rest().chars().next().unwrap_or('"');
        let triple: String = std::iter::repeat_n(quote, 3).collect();
        let close = if self.rest().starts_with(&triple) { triple } else { quote.to_string() };
        self.at += close.len();
        let mut out = Vec::new();
        loop {
            if self.rest().starts_with(&close) {
                self.at += close.len();
                break;
            }
            let Some(c) = self.peek() else {
                return Err(self.error(start, format!("the text has no closing {close}")));
            };
            self.at += c.len_utf8();
            match c {
                '\n' if close.len() == 1 => {
                    return Err(self.error(start, format!("the text has no closing {close} on its line")));
                }
                '\\' if !raw => self.escape(bytes, &mut out)?,
                c => push(c, &mut out),
            }
        }
        if bytes {
            return Ok(Token::Bytes(out));
        }
        String::from_utf8(out).map(Token::Text).map_err(|_| self.error(start, "the text is not UTF-8"))
    }

    fn escape(&mut self, bytes: bool, out: &mut Vec<u8>) -> Result<(), ExpressionError> {
        let start = self.at - 1;
        let Some(c) = self.peek() else { return Err(self.error(start, "nothing follows the backslash")) };
        self.at += c.len_utf8();
        let simple = match c {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '\'' | '"' | '`' | '?' => c as u8,
            'x' | 'X' | 'u' | 'U' | '0'..='3' => 0,
            _ => {
                let message =
                    format!("`\\{c}` is no escape: write `\\\\` for a backslash, or r'..' for a raw text");
                return Err(self.error(start, message));
            }
        };
        let (digits, radix) = match c {
            'x' | 'X' => (2, 16),
            'u' if !bytes => (4, 16),
            'U' if !bytes => (8, 16),
            '0'..='3' => (3, 8),
            'u' | 'U' => return Err(self.error(start, format!("`\\{c}` means nothing in bytes"))),
            _ => {
                out.push(simple);
                return Ok(());
            }
        };
        if radix == 8 {
            self.at -= 1;
        }
        let code = self.rest().get(..digits).and_then(|text| {
            let digits = text.bytes().all(|b| char::from(b).is_digit(radix));
            if digits { u32::from_str_radix(text, radix).ok() } else { None }
        });
        let whole = if bytes {
            code.filter(|code| *code < 256).is_some()
        } else {
            code.and_then(char::from_u32).is_some()
        };
        let Some(code) = code.filter(|_| whole) else {
            return Err(self.error(start, format!("`\\{c}` is not followed by the code of a character")));
        };
        self.at += digits;
        match char::from_u32(code) {
            Some(c) if !bytes => push(c, out),
            _ => out.push(code as u8),
        }
        Ok(())
    }
}

fn push(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}
