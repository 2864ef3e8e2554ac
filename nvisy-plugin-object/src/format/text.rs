//! Whole texts: Markdown, plain text.

use std::sync::Arc;

use futures::Stream;
use nvisy_core::config::Problem;
use nvisy_core::primitive::document::{Document, DocumentFields};
use nvisy_core::primitive::raw::Raw;
use nvisy_core::{
    Error, ErrorKind, OpenContext, Partition, Position, Positions, ReadContext, Result, Source, SourceBatch,
    SourceIdentity,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bytes::{MAX_BYTES, Whole, mime_type, whole};
use crate::client::ObjectClient;
use crate::compression::Compression;
use crate::partition::{offset_of, partitions};
use crate::selection::selects;
use crate::version::versions;

/// Reads whole objects as documents: one each.
///
/// A document has the text, the MIME type that the name's suffix tells, the object's address
/// as `source_uri`, and its bytes in the object as `byte_range`; of Markdown, the first heading
/// is the title. A byte order mark is not part of the text, and an empty object is an empty
/// document. Names that end in `.gz` or `.zst` are decompressed; the range then counts in the
/// decompressed text.
///
/// An object that is not UTF-8 or larger than the limit is rejected.
///
/// # Examples
///
/// ```
/// let chapters = nvisy_plugin_object::Text::prefix("docs/").glob("**/*.md");
/// # let _ = chapters;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// The one object to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What the keys of the objects to read begin with. Default nothing: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Which objects below the prefix's directory to read, as `**/*.md`. Default those that
    /// end in `.md`, `.markdown`, `.mdx`, `.txt`, `.text`, `.rst`, `.adoc` or `.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glob: Option<String>,
    /// Whether the object, or the directory of the prefix, may be missing: there is nothing to read
    /// then. Default no: it is an error.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_missing: bool,
    /// How many bytes a text may have. Default 64 MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
}

selects!(Text, &[".md", ".markdown", ".mdx", ".txt", ".text", ".rst", ".adoc", ".org"]);

impl Text {
    /// Sets how many bytes a text may have.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = Some(bytes);
        self
    }
}

impl Source for Text {
    const NAME: &'static str = "object/text";
    type Output = Document;
    type Client = ObjectClient;

    fn identity(&self, client: &ObjectClient) -> SourceIdentity {
        client.identity().clone()
    }

    fn validate(&self) -> Vec<Problem> {
        self.selection_problems()
    }

    async fn partitions(&self, context: &OpenContext<ObjectClient>) -> Result<Vec<Partition>> {
        let partitions = partitions(context, &self.selection()).await?;
        Ok(partitions.into_iter().map(|partition| partition.with_items(1)).collect())
    }

    versions!();

    fn read(
        &self,
        partition: &Partition,
        after: Option<Position>,
        context: &ReadContext<ObjectClient>,
    ) -> impl Stream<Item = Result<SourceBatch>> + Send {
        let (key, context) = (partition.id.clone(), context.clone());
        let most = self.max_bytes.unwrap_or(MAX_BYTES);
        async_stream::try_stream! {
            if offset_of(after, &key)?.is_none() {
                let whole = whole(context.client(), &key, most, true).await?;
                yield document(&context, &key, whole)?;
            }
        }
    }
}

fn document(
    context: &ReadContext<ObjectClient>,
    key: &Arc<str>,
    whole: Result<Whole, Error>,
) -> Result<SourceBatch> {
    let at = Position::Marker { object: key.clone(), offset: 0 };
    let rejected = |raw: Raw, error: Error| {
        let rejected = context.reject(raw, at.clone(), error)?;
        let none: [Document; 0] = [];
        Ok(context.items(none, Positions::each([]), at.clone())?.with_rejected(vec![rejected]))
    };
    let bytes = match whole {
        Ok(whole) => whole.bytes,
        Err(error) => return rejected(Raw::Json(key.as_ref().into()), error),
    };
    let size = bytes.len() as u64;
    let mark = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let text = match std::str::from_utf8(&bytes[mark..]) {
        Ok(text) => text.to_owned(),
        Err(error) => {
            let place = mark + error.valid_up_to();
            let line = 1 + memchr::memchr_iter(b'\n', &bytes[..place]).count();
            let message = format!("object \"{key}\", line {line}, byte {place}: the text is not UTF-8");
            return rejected(Raw::Bytes(bytes), Error::new(ErrorKind::Validation, message));
        }
    };
    let mime = mime_type(Compression::strip(key));
    let fields = DocumentFields {
        title: if mime == Some("text/markdown") { heading(&text) } else { None },
        text,
        mime_type: Some(mime.unwrap_or("text/plain").to_owned()),
        source_uri: Some(context.client().uri(key)),
        byte_range: Some(mark as u64..size),
        allow_empty: size == mark as u64,
        ..DocumentFields::default()
    };
    context.items([Document::try_from(fields)?], Positions::each([at.clone()]), at)
}

/// Returns the first heading of a Markdown text: `# like this`, or underlined.
fn heading(text: &str) -> Option<String> {
    let mut lines = text.lines().peekable();
    // Front matter is not text.
    if lines.peek().is_some_and(|line| line.trim_end() == "---")
        && text.lines().skip(1).any(|line| line.trim_end() == "---")
    {
        lines.next();
        lines.by_ref().find(|line| line.trim_end() == "---");
    }
    let mut fence: Option<&str> = None;
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let plain = line.trim();
        if let Some(mark) = fence {
            if plain.starts_with(mark) {
                fence = None;
            }
            continue;
        }
        if indent > 3 || plain.is_empty() {
            continue;
        }
        if let Some(mark) = ["```", "~~~"].into_iter().find(|mark| plain.starts_with(mark)) {
            fence = Some(mark);
            continue;
        }
        let title = plain.trim_start_matches('#');
        let level = plain.len() - title.len();
        if (1..=6).contains(&level) && (title.is_empty() || title.starts_with([' ', '\t'])) {
            let title = title.trim();
            let bare = title.trim_end_matches('#');
            let title = if bare.is_empty() || bare.ends_with([' ', '\t']) { bare.trim_end() } else { title };
            if !title.is_empty() {
                return Some(title.to_owned());
            }
            continue;
        }
        let underlined = lines.peek().is_some_and(|next| {
            let next = next.trim();
            !next.is_empty()
                && (next.bytes().all(|byte| byte == b'=')
                    || (next.len() > 1 && next.bytes().all(|byte| byte == b'-')))
        });
        if underlined && !plain.starts_with(['>', '-', '*', '|', '<']) {
            return Some(plain.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, title: Option<&str>) {
        assert_eq!(heading(text).as_deref(), title, "{text:?}");
    }

    #[test]
    fn the_first_heading_is_the_title() {
        check("# One\n\n# Two", Some("One"));
        check("text\n\n##  Deep  ##\n", Some("Deep"));
        check("```\n# no\n```\n# Yes", Some("Yes"));
        check("---\ntitle: x\n---\n# Real", Some("Real"));
        check("Title\n=====\n", Some("Title"));
        check("#hashtag\n    # code\n", None);
        check("# C#\n", Some("C#"));
        check("", None);
        check("---\n", None);
        check("- item\n---\n", None);
    }
}
