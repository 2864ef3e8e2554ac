//! A sample to train a model on.

use serde::{Deserialize, Serialize};

pub use super::chat::{ChatMessage, Role, ToolRequest};
use super::validated::validated;
use crate::error::{Error, Result};
use crate::hash::{Content, ContentHasher};

/// What a [`FineTuneSample`] teaches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// A conversation.
    Messages(Vec<Turn>),
    /// A text and how it goes on.
    Pair {
        /// The text.
        prompt: String,
        /// How it goes on.
        completion: String,
    },
}

/// One turn of a conversation to train on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// What is said.
    pub message: ChatMessage,
    /// Whether the model learns to say it: only an assistant's turn counts. Default true.
    #[serde(default = "yes")]
    pub supervised: bool,
}

fn yes() -> bool {
    true
}

impl From<ChatMessage> for Turn {
    fn from(message: ChatMessage) -> Self {
        Self { message, supervised: true }
    }
}

/// Which part of a training set a sample is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// What is learnt from.
    #[default]
    Train,
    /// What progress is measured on.
    Validation,
    /// What the result is measured on.
    Test,
}

/// The fields of a [`FineTuneSample`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FineTuneSampleFields {
    /// What it teaches.
    pub sample: Sample,
    /// How much it counts. Default 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// Which part of the training set it is in.
    #[serde(default)]
    pub split: Option<Split>,
}

fn one() -> f64 {
    1.0
}

impl FineTuneSampleFields {
    fn check(&self) -> Result<()> {
        if !self.weight.is_finite() || self.weight < 0.0 {
            return Err(Error::invalid("fine_tune_sample.weight", format!("is {}", self.weight)));
        }
        match &self.sample {
            Sample::Messages(turns) => check_turns(turns),
            Sample::Pair { completion, .. } if completion.is_empty() => Err(Error::invalid(
                "fine_tune_sample.sample.pair.completion",
                "is empty: there is nothing to learn",
            )),
            Sample::Pair { .. } => Ok(()),
        }
    }
}

fn check_turns(turns: &[Turn]) -> Result<()> {
    const FIELD: &str = "fine_tune_sample.sample.messages";
    let mut before: Option<&ChatMessage> = None;
    for (at, Turn { message, .. }) in turns.iter().enumerate() {
        let calls = before.is_some_and(|m| !m.tool_calls.is_empty());
        let follows = match (before.map(|m| m.role), message.role) {
            (None, Role::System | Role::User)
            | (Some(Role::System), Role::User)
            | (Some(Role::User | Role::Tool), Role::Assistant)
            | (Some(Role::Tool), Role::Tool) => true,
            (Some(Role::Assistant), Role::User) => !calls,
            (Some(Role::Assistant), Role::Tool) => calls,
            _ => false,
        };
        if !follows {
            let role = message.role.name();
            let place = before.map_or("at the start".into(), |m| format!("after the {}", m.role.name()));
            return Err(Error::invalid(
                format!("{FIELD}[{at}].role"),
                format!("`{role}` may not stand {place}"),
            ));
        }
        before = Some(message);
    }
    if turns.iter().any(|turn| turn.supervised && turn.message.role == Role::Assistant) {
        return Ok(());
    }
    Err(Error::invalid(FIELD, "no supervised turn of an assistant: there is nothing to learn"))
}

validated! {
    /// A sample to train a model on: a conversation whose roles alternate, or a text and how
    /// it goes on.
    FineTuneSample(FineTuneSampleFields)
}

impl FineTuneSample {
    /// Makes a sample of a conversation: every turn of the assistant is supervised.
    ///
    /// # Errors
    ///
    /// `validation` if the roles do not alternate, or the assistant says nothing.
    pub fn conversation(messages: impl IntoIterator<Item = ChatMessage>) -> Result<Self> {
        let sample = Sample::Messages(messages.into_iter().map(Turn::from).collect());
        FineTuneSampleFields { sample, weight: 1.0, split: None }.try_into()
    }

    /// Makes a sample of a text and how it goes on.
    ///
    /// # Errors
    ///
    /// `validation` if it does not go on.
    pub fn pair(prompt: impl Into<String>, completion: impl Into<String>) -> Result<Self> {
        let sample = Sample::Pair { prompt: prompt.into(), completion: completion.into() };
        FineTuneSampleFields { sample, weight: 1.0, split: None }.try_into()
    }

    pub(crate) fn size(&self) -> usize {
        let sample = match &self.sample {
            Sample::Messages(turns) => turns.iter().map(|turn| turn.message.size()).sum(),
            Sample::Pair { prompt, completion } => prompt.len() + completion.len(),
        };
        size_of::<Self>() + sample
    }

    pub(crate) fn feed(&self, hasher: &mut ContentHasher) {
        match &self.sample {
            Sample::Messages(turns) => hasher.field("messages", turns),
            Sample::Pair { prompt, completion } => {
                hasher.field("prompt", prompt);
                hasher.field("completion", completion);
            }
        }
        hasher.field("weight", &self.weight);
        hasher.field("split", &self.split);
    }
}

impl Content for Turn {
    fn feed(&self, hasher: &mut ContentHasher) {
        self.message.feed(hasher);
        hasher.bool(self.supervised);
    }
}

impl Content for Split {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.text(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(messages: Vec<ChatMessage>) -> String {
        FineTuneSample::conversation(messages).unwrap_err().context().field.as_deref().unwrap().to_owned()
    }

    #[test]
    fn roles_alternate() {
        use ChatMessage as M;
        let good = vec![M::system("s"), M::user("u"), M::assistant("a"), M::user("u"), M::assistant("a")];
        assert!(FineTuneSample::conversation(good).is_ok());
        let path = "fine_tune_sample.sample.messages";
        assert_eq!(field(vec![M::assistant("a")]), format!("{path}[0].role"));
        assert_eq!(field(vec![M::user("u"), M::user("u")]), format!("{path}[1].role"));
        assert_eq!(
            field(vec![M::user("u"), M::assistant("a"), M::new(Role::Tool, "t")]),
            format!("{path}[2].role")
        );
        assert_eq!(field(vec![M::user("u")]), path);
    }

    #[test]
    fn a_tool_answers_a_call() {
        let request = ToolRequest { id: "1".into(), name: "search".into(), arguments: serde_json::json!({}) };
        let calling = ChatMessage { tool_calls: vec![request], ..ChatMessage::assistant("") };
        let tool = ChatMessage::new(Role::Tool, "found");
        let messages = [ChatMessage::user("u"), calling, tool.clone(), tool, ChatMessage::assistant("a")];
        assert!(FineTuneSample::conversation(messages).is_ok());
    }

    #[test]
    fn something_is_learnt() {
        let turn = Turn { supervised: false, ..ChatMessage::assistant("a").into() };
        let sample = Sample::Messages(vec![ChatMessage::user("u").into(), turn]);
        assert!(FineTuneSample::try_from(FineTuneSampleFields { sample, weight: 1.0, split: None }).is_err());
        assert!(FineTuneSample::pair("a", "").is_err());
    }
}
