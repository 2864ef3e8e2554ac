//! A model's answer, what it was asked, and what it cost.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::chat::{ChatMessage, Role, ToolRequest};
use super::validated::validated;
use crate::error::{Error, Result};
use crate::hash::{Content, ContentHasher};

/// Why a model stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It had said it all.
    #[default]
    Stop,
    /// It was cut off.
    Length,
    /// It wants tools called.
    ToolCalls,
    /// A filter stepped in.
    ContentFilter,
    /// Whatever else the vendor says.
    Other(String),
}

/// How many tokens went in and out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// What was read.
    pub input_tokens: u64,
    /// What was written.
    pub output_tokens: u64,
    /// Both together.
    pub total_tokens: u64,
    /// How many of those read came from the vendor's cache.
    #[serde(default)]
    pub cached_input_tokens: u64,
    /// How many of those written were thought and not said.
    #[serde(default)]
    pub reasoning_tokens: u64,
}

impl Usage {
    /// Adds up what was read and written.
    #[must_use]
    pub const fn new(input_tokens: u64, output_tokens: u64) -> Self {
        let total_tokens = input_tokens.saturating_add(output_tokens);
        Self { input_tokens, output_tokens, total_tokens, cached_input_tokens: 0, reasoning_tokens: 0 }
    }
}

/// The fields of a [`Completion`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompletionFields {
    /// What it was asked.
    #[serde(default)]
    pub prompt: Vec<ChatMessage>,
    /// What it answered.
    pub answer: String,
    /// The model.
    pub model: String,
    /// Why it stopped.
    #[serde(default)]
    pub finish_reason: Option<FinishReason>,
    /// How many tokens went in and out.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// How long it took.
    #[serde(default, with = "crate::config::duration::option")]
    pub latency: Option<Duration>,
    /// What it cost, in US dollars.
    #[serde(default)]
    pub cost_usd: Option<f64>,
}

impl CompletionFields {
    fn check(&self) -> Result<()> {
        if self.model.is_empty() {
            return Err(Error::invalid("completion.model", "is empty"));
        }
        if let Some(usage) = &self.usage {
            let Usage { input_tokens: read, output_tokens: written, total_tokens: total, .. } = *usage;
            if read.checked_add(written) != Some(total) {
                let message = format!("{read} read and {written} written do not make {total}");
                return Err(Error::invalid("completion.usage.total_tokens", message));
            }
            if usage.cached_input_tokens > read {
                return Err(Error::invalid("completion.usage.cached_input_tokens", "is more than was read"));
            }
            if usage.reasoning_tokens > written {
                return Err(Error::invalid("completion.usage.reasoning_tokens", "is more than was written"));
            }
        }
        match self.cost_usd {
            Some(cost) if !cost.is_finite() || cost < 0.0 => {
                Err(Error::invalid("completion.cost_usd", format!("is {cost}")))
            }
            _ => Ok(()),
        }
    }
}

validated! {
    /// A model's answer with what it was asked and what it cost.
    Completion(CompletionFields)
}

impl Completion {
    /// Makes a completion of the model's name and its answer.
    ///
    /// # Errors
    ///
    /// `validation` if the model has no name.
    pub fn new(model: impl Into<String>, answer: impl Into<String>) -> Result<Self> {
        CompletionFields { model: model.into(), answer: answer.into(), ..Default::default() }.try_into()
    }

    pub(crate) fn size(&self) -> usize {
        let prompt: usize = self.prompt.iter().map(ChatMessage::size).sum();
        size_of::<Self>() + prompt + self.answer.len() + self.model.len()
    }

    pub(crate) fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("prompt", &self.prompt);
        hasher.field("answer", &self.answer);
        hasher.field("model", &self.model);
        hasher.field("finish_reason", &self.finish_reason);
        hasher.field("usage", &self.usage);
        hasher.field("latency", &self.latency);
        hasher.field("cost_usd", &self.cost_usd);
    }
}

impl Content for FinishReason {
    fn feed(&self, hasher: &mut ContentHasher) {
        match self {
            Self::Stop => hasher.text("stop"),
            Self::Length => hasher.text("length"),
            Self::ToolCalls => hasher.text("tool_calls"),
            Self::ContentFilter => hasher.text("content_filter"),
            Self::Other(reason) => hasher.field("other", reason),
        }
    }
}

impl Content for Usage {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("input_tokens", &self.input_tokens);
        hasher.field("output_tokens", &self.output_tokens);
        hasher.field("cached_input_tokens", &self.cached_input_tokens);
        hasher.field("reasoning_tokens", &self.reasoning_tokens);
        hasher.end();
    }
}
