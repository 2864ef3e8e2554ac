//! Whole texts out.

use nvisy_core::config::Problem;
use nvisy_core::primitive::document::Document;
use nvisy_core::{Guarantee, OpenContext, Result, SinkConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bytes::{WholeFiles, guarantee, replayed};
use super::{OnExisting, name};
use crate::client::ObjectClient;

/// Writes the texts of documents, one file each.
///
/// Writing a document again replaces it. Where nothing may be replaced, one that is there already
/// with the very same bytes, as after a crash, is left as it is and counts as written. A document
/// is durable when it is written. What cannot be written fails alone. A name that ends in `.gz`
/// or `.zst` is compressed.
///
/// With `{id}` in the path every document has a name of its own, and is there once however often
/// it is written. Without it two of a run may have the same name, such as the passages of one
/// file, or `a.md` and `a.txt` by `{stem}`: the second is rejected with `conflict`, and nothing
/// of the first is lost. The names of a run are remembered for that, at most 4,194,304 of them
/// at 16 bytes each.
///
/// # Examples
///
/// ```
/// let texts = nvisy_plugin_object::TextSink::path("clean/{stem}-{id}.md");
/// # let _ = texts;
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextSink {
    /// Where to write each document, relative to the root, with the placeholders `{id}`,
    /// `{key}` (of the object that it was read from), `{stem}` (the key without its suffix),
    /// `{run}`, `{date}`, `{node}` and `{graph}`. Default `{id}.txt`.
    #[serde(default = "id")]
    pub path: String,
    /// What happens where the name is taken. Default `replace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_existing: Option<OnExisting>,
}

fn id() -> String {
    "{id}.txt".to_owned()
}

impl TextSink {
    /// Writes to `path`: see [`path`](Self#structfield.path).
    #[must_use]
    pub fn path(path: impl Into<String>) -> Self {
        Self { path: path.into(), on_existing: None }
    }

    /// Sets what happens where the name is taken.
    #[must_use]
    pub fn on_existing(mut self, on_existing: OnExisting) -> Self {
        self.on_existing = Some(on_existing);
        self
    }
}

impl SinkConfig for TextSink {
    const NAME: &'static str = "object/text";
    type Input = Document;
    type Client = ObjectClient;
    type Sink = WholeFiles;

    fn guarantee(&self) -> Guarantee {
        guarantee(&self.path, self.on_existing)
    }

    fn replayed(&self) -> Option<String> {
        replayed(&self.path, self.on_existing)
    }

    fn validate(&self) -> Vec<Problem> {
        name::problems(&self.path, name::ITEM)
    }

    async fn open(&self, context: &OpenContext<ObjectClient>) -> Result<WholeFiles> {
        WholeFiles::open(&self.path, self.on_existing, true, context).await
    }
}
