//! A store in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use nvisy_core::connection::Reach;
use nvisy_core::{ConnectContext, Connection, Result, SourceIdentity};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::ObjectClient;
use crate::error::from_store;

/// A store in memory that holds some texts to begin with: for tests and examples.
///
/// What is written to it is gone when it disconnects.
///
/// # Examples
///
/// ```
/// let store = nvisy_plugin_object::Memory::new().with("a.jsonl", "{\"n\":1}\n");
/// # let _ = store;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// What its objects hold, by their keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub objects: BTreeMap<String, String>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an object.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, text: impl Into<String>) -> Self {
        self.objects.insert(key.into(), text.into());
        self
    }
}

impl Connection for Memory {
    const NAME: &'static str = "object/memory";
    type Client = ObjectClient;

    fn reach(&self) -> Vec<Reach> {
        Vec::new()
    }

    async fn connect(&self, _: &ConnectContext) -> Result<ObjectClient> {
        let store = InMemory::new();
        for (key, text) in &self.objects {
            let path = Path::parse(key).map_err(|error| from_store(error.into(), "write", key))?;
            store.put(&path, text.clone().into()).await.map_err(|error| from_store(error, "write", key))?;
        }
        Ok(ObjectClient::of_store(Arc::new(store) as Arc<dyn ObjectStore>, SourceIdentity::new("memory:")))
    }

    async fn verify(&self, client: &ObjectClient) -> Result<()> {
        client.verify().await
    }
}
