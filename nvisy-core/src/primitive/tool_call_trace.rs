//! What tools a model called, in order, and what came of it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::raw::json_size;
use super::validated::validated;
use crate::error::{Error, Result};
use crate::hash::{Content, ContentHasher};
use crate::metadata::Timestamp;

/// The fields of a [`ToolCallTrace`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCallTraceFields {
    /// The calls, in the order they began.
    pub calls: Vec<ToolCall>,
    /// The model that called.
    #[serde(default)]
    pub model: Option<String>,
}

/// One call of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// What it was called with.
    #[serde(with = "crate::metadata::json_value")]
    pub arguments: Value,
    /// What came of it.
    pub outcome: Outcome,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// What came of a [`ToolCall`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It gave a value.
    Result(#[serde(with = "crate::metadata::json_value")] Value),
    /// It failed, and said so.
    Error(String),
}

impl ToolCallTraceFields {
    fn check(&self) -> Result<()> {
        let mut last: Option<Timestamp> = None;
        for (at, call) in self.calls.iter().enumerate() {
            if call.name.is_empty() {
                return Err(Error::invalid(format!("tool_call_trace.calls[{at}].name"), "is empty"));
            }
            if call.ended_at < call.started_at {
                return Err(Error::invalid(
                    format!("tool_call_trace.calls[{at}].ended_at"),
                    "is before its start",
                ));
            }
            if last.is_some_and(|last| call.started_at < last) {
                let field = format!("tool_call_trace.calls[{at}].started_at");
                return Err(Error::invalid(field, "is before that of the call before it"));
            }
            last = Some(call.started_at);
        }
        Ok(())
    }
}

validated! {
    /// The tools that a model called, in order, and what came of it.
    ToolCallTrace(ToolCallTraceFields)
}

impl ToolCallTrace {
    /// Makes a trace of its calls.
    ///
    /// # Errors
    ///
    /// `validation` if the calls are not in the order of their times.
    pub fn new(calls: Vec<ToolCall>) -> Result<Self> {
        ToolCallTraceFields { calls, model: None }.try_into()
    }

    pub(crate) fn size(&self) -> usize {
        let call = |call: &ToolCall| {
            let outcome = match &call.outcome {
                Outcome::Result(value) => json_size(value),
                Outcome::Error(text) => text.len(),
            };
            size_of::<ToolCall>() + call.name.len() + json_size(&call.arguments) + outcome
        };
        size_of::<Self>() + self.calls.iter().map(call).sum::<usize>()
    }

    pub(crate) fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("calls", &self.calls);
        hasher.field("model", &self.model);
    }
}

impl Content for ToolCall {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("name", &self.name);
        hasher.field("arguments", &self.arguments);
        match &self.outcome {
            Outcome::Result(value) => hasher.field("result", value),
            Outcome::Error(text) => hasher.field("error", text),
        }
        hasher.field("started_at", &self.started_at);
        hasher.field("ended_at", &self.ended_at);
        hasher.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(from: i64, to: i64) -> ToolCall {
        let at = |seconds| Timestamp::UNIX_EPOCH + chrono::TimeDelta::seconds(seconds);
        let (name, outcome) = ("search".into(), Outcome::Result(Value::Null));
        ToolCall { name, arguments: Value::Null, outcome, started_at: at(from), ended_at: at(to) }
    }

    #[test]
    fn times_are_in_order() {
        // Calls may overlap: a model calls several tools at once.
        assert!(ToolCallTrace::new(vec![call(0, 5), call(1, 2), call(1, 1)]).is_ok());
        let field = |calls| ToolCallTrace::new(calls).unwrap_err().context().field.clone().unwrap();
        assert_eq!(&*field(vec![call(0, 1), call(3, 2)]), "tool_call_trace.calls[1].ended_at");
        assert_eq!(&*field(vec![call(2, 3), call(1, 4)]), "tool_call_trace.calls[1].started_at");
    }
}
