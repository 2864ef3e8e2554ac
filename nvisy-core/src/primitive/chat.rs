//! What people and models say to each other.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::raw::json_size;
use crate::hash::{Content, ContentHasher};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Whoever sets the rules.
    System,
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
    /// A tool that the model called.
    Tool,
}

impl Role {
    /// Returns the name, as JSON has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One message of a conversation with a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
    /// The tools that an assistant calls with it.
    #[serde(default)]
    pub tool_calls: Vec<ToolRequest>,
    /// The call that a tool answers with it.
    #[serde(default)]
    pub tool_call_id: Option<String>,
}

/// A model's wish to have a tool called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolRequest {
    /// Names the call: the answer refers to it.
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// What it is called with.
    #[serde(with = "crate::metadata::json_value")]
    pub arguments: Value,
}

impl ChatMessage {
    /// Makes a message without tools.
    #[must_use]
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self { role, content: content.into(), tool_calls: Vec::new(), tool_call_id: None }
    }

    /// Sets the rules.
    #[must_use]
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    /// Asks.
    #[must_use]
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// Answers.
    #[must_use]
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }

    pub(super) fn size(&self) -> usize {
        let call =
            |c: &ToolRequest| size_of::<ToolRequest>() + c.id.len() + c.name.len() + json_size(&c.arguments);
        let calls: usize = self.tool_calls.iter().map(call).sum();
        size_of::<Self>() + self.content.len() + calls + self.tool_call_id.as_ref().map_or(0, String::len)
    }
}

impl Content for ChatMessage {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("role", self.role.name());
        hasher.field("content", &self.content);
        hasher.field("tool_calls", &self.tool_calls);
        hasher.field("tool_call_id", &self.tool_call_id);
        hasher.end();
    }
}

impl Content for ToolRequest {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("id", &self.id);
        hasher.field("name", &self.name);
        hasher.field("arguments", &self.arguments);
        hasher.end();
    }
}
