//! Reads objects, texts and fields, and notes what is wrong with them.

use nvisy_core::config::{Problem, parse};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Broken;
use crate::compiler::diagnostic::{Diagnostic, code};
use crate::compiler::json::{Json, Member, Shape, join, shown};
use crate::graph::{Graph, NodeBody};
use crate::suggest::{known_fields, nearest};

/// Reads JSON, and notes what is wrong with it.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) broken: Broken,
}

impl Reader {
    pub(super) fn say(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    pub(super) fn unread(&mut self, path: impl Into<String>) {
        self.broken.insert(path.into());
    }

    pub(super) fn invalid(&mut self, path: &str, message: impl Into<String>) {
        self.unread(path);
        self.say(Diagnostic::new(code::GRAPH_INVALID, path, message));
    }

    /// Says that a field is missing, unless it is there under a wrong name.
    pub(super) fn missing(&mut self, path: &str, field: &str) {
        if self.broken.has(&join(path, field)) {
            return;
        }
        self.unread(join(path, field));
        let missing = Diagnostic::new(code::GRAPH_INVALID, path, format!("the field `{field}` is missing"));
        self.say(match field {
            "version" => missing.with_help(format!("write \"version\": {}", Graph::VERSION)),
            "type" => missing.with_help(format!("the types are {}", NodeBody::TYPES.join(", "))),
            _ => missing,
        });
    }

    /// Returns the members of an object.
    pub(super) fn object<'j>(&mut self, json: &'j Json, path: &str, what: &str) -> Option<&'j [Member]> {
        if let Shape::Object(members) = &json.shape {
            return Some(members);
        }
        self.invalid(path, format!("expected {what}, found {}", json.describe()));
        None
    }

    pub(super) fn string(&mut self, json: &Json, path: &str, what: &str) -> Option<String> {
        if let Shape::String(string) = &json.shape {
            return Some(string.clone());
        }
        self.invalid(path, format!("expected {what}, found {}", json.describe()));
        None
    }

    /// Reads an array of names; in the place of what is none stands an empty one.
    pub(super) fn names(&mut self, json: &Json, path: &str) -> Vec<String> {
        let Shape::Array(items) = &json.shape else {
            self.invalid(path, format!("expected an array of names, found {}", json.describe()));
            return Vec::new();
        };
        let mut names = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let name = self.string(item, &format!("{path}[{i}]"), "a name");
            if name.is_none() {
                self.unread(path);
            }
            names.push(name.unwrap_or_default());
        }
        names
    }

    /// Says that an object has fields that do not exist. Those that were probably meant are not
    /// complained of again.
    pub(super) fn unknown<'k>(
        &mut self,
        path: &str,
        members: &[Member],
        known: impl IntoIterator<Item = &'k str>,
        of: &str,
    ) {
        let known: Vec<_> = known.into_iter().collect();
        for Member { key, .. } in members.iter().filter(|member| !known.contains(&member.key.as_str())) {
            let meant = nearest(key, known.iter().copied());
            if let Some(meant) = meant.filter(|meant| !members.iter().any(|member| member.key == *meant)) {
                self.unread(join(path, meant));
            }
            let help = match meant {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("{of} has the fields {}", known.join(", ")),
            };
            let message = format!("{of} has no field `{}`", shown(key));
            self.say(Diagnostic::new(code::GRAPH_UNKNOWN_FIELD, join(path, key), message).with_help(help));
        }
    }

    /// Reads one of the small values with a type of their own.
    pub(super) fn typed<T: DeserializeOwned>(&mut self, value: &Value, path: &str) -> Option<T> {
        match parse(value) {
            Ok(value) => Some(value),
            Err(problems) => {
                for problem in problems {
                    self.problem(problem, path);
                }
                None
            }
        }
    }

    /// Reads an object of which each field stands for itself: those that can be read.
    pub(super) fn fields<'j, T: DeserializeOwned + Default>(
        &mut self,
        members: impl IntoIterator<Item = &'j Member>,
        path: &str,
    ) -> T {
        let mut sound = Map::new();
        for Member { key, value, .. } in members {
            let one = Map::from_iter([(key.clone(), value.to_value())]);
            match self.typed::<T>(&Value::Object(one.clone()), path) {
                Some(_) => sound.extend(one),
                None => self.unread(join(path, key)),
            }
        }
        serde_json::from_value(Value::Object(sound)).unwrap_or_default()
    }

    pub(super) fn problem(&mut self, problem: Problem, path: &str) {
        if problem.code != Problem::UNKNOWN_FIELD {
            return self.say(Diagnostic::of(problem.with_code(code::GRAPH_INVALID), path));
        }
        let mut diagnostic = Diagnostic::of(problem.with_code(code::GRAPH_UNKNOWN_FIELD), path);
        if let (Some(field), Some(known)) =
            (diagnostic.path.rsplit('.').next(), known_fields(&diagnostic.message))
        {
            let message = format!("there is no field `{}` here", shown(field));
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let meant = nearest(field, known.iter().copied());
            let help = match meant {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("the fields are {}", known.join(", ")),
            };
            if let Some(meant) = meant {
                self.broken.insert(join(path, meant));
            }
            diagnostic = Diagnostic { message, help: Some(help), ..diagnostic };
        }
        self.say(diagnostic);
    }
}
