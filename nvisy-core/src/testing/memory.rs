//! A source, an action and a sink that need no other system.
//!
//! What they read and write is held in [`MemoryStore`]s, which live as long as the process and
//! go by name, so that a graph from JSON and the test around it see the same.
//!
//! # Examples
//!
//! ```
//! use nvisy_core::prelude::*;
//! use nvisy_core::stream::read;
//! use nvisy_core::testing::memory::{MemorySink, MemorySource, MemoryStore};
//! use serde_json::json;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! let source = MemorySource::documents(["Hello", "Good bye"]);
//! let config = MemorySink::named("letters");
//! let context = OpenContext::new(Context::detached(), NoClient.into());
//! let sink = SinkConfig::open(&config, &context).await?;
//!
//! let written = sink.drain(read(&source, NoClient.into()), &Context::detached()).await?;
//!
//! assert_eq!(written, 2);
//! assert_eq!(MemoryStore::named("letters").plain()[1]["text"], "Good bye");
//! # Ok(())
//! # }
//! ```

mod hoard;
mod input;
mod relay;
mod sink;
mod source;
mod store;

pub use self::hoard::Hoard;
pub(super) use self::input::rows_of;
pub use self::relay::{Form, Relay};
pub use self::sink::{MemorySink, Mode, OpenMemorySink};
pub use self::source::MemorySource;
pub use self::store::{MemoryStore, Tally, Write};
