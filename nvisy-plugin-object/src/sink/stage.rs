//! Files that stay out of sight until a checkpoint has them.

use bytes::Bytes;
use nvisy_core::{Context, Error, ErrorKind, Result, SourceIdentity};
use serde::{Deserialize, Serialize};

use super::{MAX_NUMBERS, OnExisting, all_taken, name};
use crate::client::ObjectClient;
use crate::upload::{Upload, taken, temporary_name};

/// The version of [`Held`].
const VERSION: u32 = 1;

/// What a checkpoint holds of a sink of files, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Held {
    version: u32,
    /// Those that may not show yet.
    files: Vec<Kept>,
    /// The number of the next part.
    next: u64,
}

/// A file that is whole and durable under a temporary name, by keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    temporary: String,
    key: String,
}

/// The files of a node on their way into a checkpoint.
///
/// Temporaries lie in one directory, and their names hold the graph and the node: what a process
/// that was killed left is found there.
#[derive(Debug)]
pub(super) struct Stage {
    directory: String,
    owner: String,
    /// The temporary of the file under way.
    under_way: String,
    /// Whole, and removed unless they are staged.
    whole: Vec<(Upload, Kept)>,
    /// Staged, and not known to show.
    staged: Vec<Kept>,
    /// What was staged last.
    last: Option<Bytes>,
}

impl Stage {
    /// A stage for the files of the template `path`.
    pub(super) fn new(path: &str, context: &Context) -> Self {
        let node = SourceIdentity::new(&**context.graph()).id_of_key(context.node().as_bytes());
        let owner = node.as_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Self {
            directory: name::directory(path, context),
            owner: owner + "-",
            under_way: String::new(),
            whole: Vec::new(),
            staged: Vec::new(),
            last: None,
        }
    }

    /// Shows what the last checkpoint holds, and removes what else a run before left. Returns the
    /// number of the next part. Blocks.
    pub(super) fn resume(
        &mut self,
        staged: Option<Bytes>,
        client: &ObjectClient,
        on_existing: OnExisting,
    ) -> Result<u64> {
        let mut next = 0;
        if let Some(staged) = &staged {
            next = Held::read(staged)?.next;
            self.publish(staged, client, on_existing)?;
        }
        self.last = staged;
        let owned = format!(".{}", self.owner);
        client.sweep(&self.directory, |key| key.contains(&owned))?;
        Ok(next)
    }

    /// Begins a file that is to be at `key`. Blocks.
    pub(super) fn create(&mut self, key: &str, client: &ObjectClient) -> Result<Upload> {
        let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
        self.under_way = temporary_name(name, &self.owner);
        if !self.directory.is_empty() {
            self.under_way = format!("{}/{}", self.directory, self.under_way);
        }
        client.create_kept(key, &self.under_way)
    }

    /// Takes the file under way, which has come to its end. Blocks.
    pub(super) fn take(&mut self, mut upload: Upload, key: String) -> Result<()> {
        upload.seal()?;
        let temporary = std::mem::take(&mut self.under_way);
        self.whole.push((upload, Kept { temporary, key }));
        Ok(())
    }

    /// Keeps the files that were taken. Returns what a checkpoint has to hold. Blocks.
    pub(super) fn stage(&mut self, next: u64) -> Result<Option<Bytes>> {
        if self.whole.is_empty() {
            return Ok(self.last.clone());
        }
        for (upload, kept) in self.whole.drain(..) {
            upload.keep()?;
            self.staged.push(kept);
        }
        let held = Held { version: VERSION, files: self.staged.clone(), next };
        let bytes = serde_json::to_vec(&held)
            .map_err(|error| Error::internal("names of files have no JSON form").with_source(error))?;
        self.last = Some(bytes.into());
        Ok(self.last.clone())
    }

    /// Shows what was staged. Blocks.
    pub(super) fn publish(
        &mut self,
        staged: &Bytes,
        client: &ObjectClient,
        on_existing: OnExisting,
    ) -> Result<()> {
        for file in Held::read(staged)?.files {
            show(&file, client, on_existing)?;
            if let Some(at) = self.staged.iter().position(|staged| *staged == file) {
                self.staged.remove(at);
            }
        }
        Ok(())
    }
}

impl Held {
    fn read(bytes: &[u8]) -> Result<Self> {
        match serde_json::from_slice(bytes) {
            Ok(held @ Self { version: VERSION, .. }) => Ok(held),
            Ok(Self { version, .. }) => Err(Error::configuration(format!(
                "the checkpoint holds files in format {version}, written by a newer version of this library: \
                 run that version"
            ))),
            Err(error) => {
                let message = "what the checkpoint holds of the files does not read: it is damaged";
                Err(Error::new(ErrorKind::Validation, message).with_source(error))
            }
        }
    }
}

/// Shows a file under its name, or under a number of it if somebody took the name since.
fn show(file: &Kept, client: &ObjectClient, on_existing: OnExisting) -> Result<()> {
    let Kept { temporary, key } = file;
    if client.show(temporary, key, on_existing == OnExisting::Replace)? {
        return Ok(());
    }
    if on_existing != OnExisting::Number {
        return Err(taken(key));
    }
    // By the name alone, so that what was broken off half way is found under the same number.
    for number in 1..=u64::from(MAX_NUMBERS) {
        if client.show(temporary, &name::numbered(key, number), false)? {
            return Ok(());
        }
    }
    Err(all_taken(key))
}
