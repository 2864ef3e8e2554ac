//! A message of a queue.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::validated::validated;
use crate::error::{Error, Result};
use crate::hash::{Content, ContentHasher};
use crate::metadata::Timestamp;

/// The fields of a [`Message`]. In JSON, bytes that are text are written as text, others as
/// `{"base64": ".."}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageFields {
    /// What the queue orders and compacts by.
    #[serde(default, with = "super::text_or_bytes::option")]
    pub key: Option<Bytes>,
    /// What it says.
    #[serde(with = "super::text_or_bytes")]
    pub body: Bytes,
    /// What stands beside the body, in order: a name may come more than once.
    #[serde(default)]
    pub headers: Vec<Header>,
    /// The topic, queue or subject.
    #[serde(default)]
    pub topic: Option<String>,
    /// The partition of the topic.
    #[serde(default)]
    pub partition: Option<u32>,
    /// Its place in the partition.
    #[serde(default)]
    pub offset: Option<u64>,
    /// When it was sent.
    #[serde(default)]
    pub sent_at: Option<Timestamp>,
}

/// One header of a [`Message`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(with = "super::text_or_bytes")]
    pub value: Bytes,
}

impl MessageFields {
    fn check(&self) -> Result<()> {
        match self.headers.iter().position(|header| header.name.is_empty()) {
            Some(at) => Err(Error::invalid(format!("message.headers[{at}].name"), "is empty")),
            None => Ok(()),
        }
    }
}

validated! {
    /// A message of a queue: what it says, and where it stood.
    Message(MessageFields)
}

impl Message {
    /// Makes a message of its body alone.
    ///
    /// # Errors
    ///
    /// None today: a body can be anything.
    pub fn new(body: impl Into<Bytes>) -> Result<Self> {
        MessageFields { body: body.into(), ..Default::default() }.try_into()
    }

    /// Returns the value of the first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().find(|header| header.name == name).map(|header| &header.value)
    }

    pub(crate) fn size(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|h| size_of::<Header>() + h.name.len() + h.value.len()).sum();
        let key = self.key.as_ref().map_or(0, Bytes::len);
        size_of::<Self>() + key + self.body.len() + headers + self.topic.as_ref().map_or(0, String::len)
    }

    pub(crate) fn feed(&self, hasher: &mut ContentHasher) {
        hasher.field("key", &self.key);
        hasher.field("body", &self.body);
        hasher.field("headers", &self.headers);
        hasher.field("topic", &self.topic);
        hasher.field("partition", &self.partition);
        hasher.field("offset", &self.offset);
        hasher.field("sent_at", &self.sent_at);
    }
}

impl Content for Header {
    fn feed(&self, hasher: &mut ContentHasher) {
        hasher.text(&self.name);
        hasher.bytes(&self.value);
    }
}
