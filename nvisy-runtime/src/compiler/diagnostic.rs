//! What is wrong with a graph: a stable code, a path, a message, a remedy.

use std::fmt;

use nvisy_core::Error;
use nvisy_core::config::Problem;
use schemars::JsonSchema;
use serde::Serialize;

use super::json::{join_path, shown};
use crate::suggest::{did_you_mean, unknown_variant};

/// One thing that is wrong with a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Diagnostic {
    /// A stable code, such as `kind.mismatch`; see [`code`].
    pub code: &'static str,
    /// Where it is, such as `nodes.vectors.config.model`; empty for the whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it, if there is something to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The line, from one, where the graph was read from a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The column, in characters from one, where the graph was read from a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
}

impl Diagnostic {
    /// Makes a diagnostic.
    #[must_use]
    pub fn new(code: &'static str, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, path: path.into(), message: message.into(), help: None, line: None, column: None }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says where in the text it is.
    #[must_use]
    pub fn at(mut self, line: usize, column: usize) -> Self {
        self.line = Some(line);
        self.column = Some(column);
        self
    }

    /// Makes a diagnostic of what is wrong with a part of a graph.
    pub(super) fn of(problem: Problem, prefix: &str) -> Self {
        let path = join_path(prefix, &problem.path);
        let (message, help) = match unknown_variant(&problem.message) {
            None => (problem.message, problem.help),
            Some((word, known)) => {
                let known: Vec<&str> = known.iter().map(String::as_str).collect();
                let help = did_you_mean(word, known.iter().copied())
                    .unwrap_or_else(|| format!("write one of {}", known.join(", ")));
                (format!("there is no `{}` here", shown(word)), Some(help))
            }
        };
        Self { help, ..Self::new(problem.code, path, message) }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.code)?;
        if !self.path.is_empty() {
            f.write_str(&self.path)?;
        }
        if let (Some(line), Some(column)) = (self.line, self.column) {
            let gap = if self.path.is_empty() { "" } else { " " };
            write!(f, "{gap}(line {line}, column {column})")?;
        }
        if !self.path.is_empty() || self.line.is_some() {
            f.write_str(": ")?;
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "\n  help: {}", help.replace('\n', "\n  ")),
            None => Ok(()),
        }
    }
}

/// All that is wrong with a graph, in the order in which it stands there. Never empty.
///
/// `{:?}` is for people, as `{}` is: a `main` that returns it prints it so. `{:#?}` shows the parts.
#[derive(Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    pub(crate) fn new(diagnostics: Vec<Diagnostic>) -> Self {
        debug_assert!(!diagnostics.is_empty());
        Self(diagnostics)
    }

    /// Iterates over them.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// Returns them.
    #[must_use]
    pub fn as_slice(&self) -> &[Diagnostic] {
        &self.0
    }

    /// Returns them.
    #[must_use]
    pub fn into_vec(self) -> Vec<Diagnostic> {
        self.0
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the graph does not compile:")?,
            n => write!(f, "the graph does not compile, for {n} reasons:")?,
        }
        for diagnostic in self {
            write!(f, "\n{diagnostic}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() { f.debug_list().entries(self).finish() } else { fmt::Display::fmt(self, f) }
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostics> for Error {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::configuration(diagnostics.to_string())
    }
}

/// The codes. They are stable: programs may match on them.
pub mod code {
    macro_rules! codes {
        ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
            $($(#[$doc])* pub const $name: &str = $code;)*

            /// Every code, in the order of this list.
            pub const ALL: &[&str] = &[$($code),*];
        };
    }

    codes! {
        /// The text is no JSON, or ends too early.
        JSON_SYNTAX = "json.syntax";
        /// The text, a string, a number or the number of values is beyond the bounds.
        JSON_TOO_LARGE = "json.too_large";
        /// Objects and arrays lie too deep in each other.
        JSON_TOO_DEEP = "json.too_deep";
        /// A key stands twice in one object.
        JSON_DUPLICATE_KEY = "json.duplicate_key";
        /// The graph is written in another version of the format.
        GRAPH_VERSION = "graph.version";
        /// A value is of the wrong type, or missing.
        GRAPH_INVALID = "graph.invalid";
        /// A field does not exist.
        GRAPH_UNKNOWN_FIELD = "graph.unknown_field";
        /// There are too many nodes, connections, edges or problems.
        GRAPH_TOO_LARGE = "graph.too_large";
        /// The graph has no nodes.
        GRAPH_EMPTY = "graph.empty";
        /// No node is a source.
        GRAPH_NO_SOURCE = "graph.no_source";
        /// No node is a sink.
        GRAPH_NO_SINK = "graph.no_sink";
        /// Nodes feed each other in a circle.
        GRAPH_CYCLE = "graph.cycle";
        /// A name is empty, too long, or has characters that names do not have.
        NAME_INVALID = "name.invalid";
        /// A name is given twice.
        NAME_DUPLICATE = "name.duplicate";
        /// No type of that name is registered.
        USE_UNKNOWN = "use.unknown";
        /// A type of that name is registered, but for another type of node.
        USE_WRONG_TYPE = "use.wrong_type";
        /// A function of that name is not registered.
        FUNCTION_UNREGISTERED = "function.unregistered";
        /// An input names a node that does not exist.
        INPUT_UNKNOWN = "input.unknown";
        /// An input names a port that its node does not have.
        INPUT_UNKNOWN_PORT = "input.unknown_port";
        /// A node has too few or too many inputs.
        INPUT_COUNT = "input.count";
        /// A node names an input twice.
        INPUT_DUPLICATE = "input.duplicate";
        /// An output has more than one reader.
        OUTPUT_SECOND_READER = "output.second_reader";
        /// An output has no reader.
        OUTPUT_UNREAD = "output.unread";
        /// No source reaches the node.
        NODE_UNREACHABLE = "node.unreachable";
        /// A node cannot take what flows into it.
        KIND_MISMATCH = "kind.mismatch";
        /// A config value is not what it has to be.
        CONFIG_INVALID = "config.invalid";
        /// A config field does not exist.
        CONFIG_UNKNOWN_FIELD = "config.unknown_field";
        /// A secret is written out.
        SECRET_LITERAL = "secret.literal";
        /// An expression does not compile.
        EXPRESSION_INVALID = "expression.invalid";
        /// A branch has no routes, or two of one name.
        BRANCH_ROUTES = "branch.routes";
        /// A fan-out's best-effort list names what does not read from it.
        FAN_OUT_BEST_EFFORT = "fan_out.best_effort";
        /// A fan-out keeps copies for what does not read from it, for what is best effort, or none.
        FAN_OUT_SPILL = "fan_out.spill";
        /// A node names a connection that does not exist.
        CONNECTION_UNKNOWN = "connection.unknown";
        /// No node names the connection.
        CONNECTION_UNUSED = "connection.unused";
        /// A node needs a connection and has none.
        CONNECTION_MISSING = "connection.missing";
        /// A node has a connection and needs none.
        CONNECTION_NOT_NEEDED = "connection.not_needed";
        /// A node works through another family of connections.
        CONNECTION_WRONG_FAMILY = "connection.wrong_family";
        /// Failed items go to dead letters that nobody reads.
        DEAD_LETTER_UNREAD = "dead_letter.unread";
        /// Dead letters are read of a node that sets nothing aside.
        DEAD_LETTER_NEVER = "dead_letter.never";
        /// The setting names what is no sink.
        DEAD_LETTER_NO_SINK = "dead_letter.no_sink";
        /// A sink would keep what is stale of an incremental source.
        INCREMENTAL_SINK = "incremental.sink";
        /// The node's type does not have the policy.
        POLICY_NOT_APPLICABLE = "policy.not_applicable";
        /// A policy contradicts itself.
        POLICY_INVALID = "policy.invalid";
        /// Nodes wait for more items than the source may read ahead.
        BATCH_EXCEEDS_SPAN = "batch.exceeds_span";
        /// A stranger's graph reaches for files of this machine.
        REACH_FILES = "reach.files";
        /// A stranger's graph reaches for a private address.
        REACH_NETWORK = "reach.network";
        /// A stranger's graph names a secret, and is given none.
        REACH_SECRET = "reach.secret";
    }
}
