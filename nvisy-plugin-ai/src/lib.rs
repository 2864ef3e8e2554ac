//! Chunking and embedding for Nvisy Runtime.
//!
//! | name | is | does |
//! |---|---|---|
//! | `ai/chunk` | action, [`Chunk`] | cuts documents into passages |
//! | `ai/embed` | action, [`Embed`] | turns documents into vectors |
//! | `ai/local` | connection, [`Local`] | embeds by feature hashing, without a network |
//! | `ai/openai` | connection, [`OpenAi`] | embeds with any OpenAI-compatible service |
//!
//! Whatever embeds is an [`Embedder`] behind one [`ModelClient`]; a model of
//! one's own is one too.

#[cfg(feature = "chunk")]
pub mod chunk;
pub mod embed;
#[cfg(feature = "local")]
pub mod local;
pub mod model;
#[cfg(feature = "openai")]
pub mod openai;

mod error;
#[cfg(any(feature = "chunk", feature = "openai"))]
mod tokens;

use nvisy_core::Plugin;

#[cfg(feature = "chunk")]
pub use self::chunk::{Chunk, Strategy};
pub use self::embed::Embed;
#[cfg(feature = "local")]
pub use self::local::Local;
pub use self::model::{EmbedRequest, Embedder, ModelClient};
#[cfg(feature = "openai")]
pub use self::openai::OpenAi;
#[cfg(any(feature = "chunk", feature = "openai"))]
pub use self::tokens::Encoding;

/// Everything here, to register with an engine.
#[must_use]
pub fn plugin() -> Plugin {
    let plugin = Plugin::new("ai").action::<Embed>();
    #[cfg(feature = "chunk")]
    let plugin = plugin.action::<Chunk>();
    #[cfg(feature = "local")]
    let plugin = plugin.connection::<Local>();
    #[cfg(feature = "openai")]
    let plugin = plugin.connection::<OpenAi>();
    plugin
}
