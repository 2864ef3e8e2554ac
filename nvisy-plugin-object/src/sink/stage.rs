//! Files that stay out of sight until a checkpoint has them.

use bytes::Bytes;
use nvisy_core::{Error, ErrorKind, Result, Staging};
use serde::{Deserialize, Serialize};

use super::{MAX_NUMBERS, OnExisting, all_taken, name};
use crate::client::{ObjectClient, Showing};
use crate::root::TEMPORARY;
use crate::temporaries::Temporaries;
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
    /// How many bytes it has; none in what an older version wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

/// The files of a node on their way into a checkpoint.
///
/// What a process that was killed left is found by its name.
#[derive(Debug)]
pub(super) struct Stage {
    temporaries: Temporaries,
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
    /// A stage for the files of a sink.
    pub(super) fn new(temporaries: Temporaries) -> Self {
        Self { temporaries, under_way: String::new(), whole: Vec::new(), staged: Vec::new(), last: None }
    }

    /// Shows what the last checkpoint holds, unless that was done, and removes what else the run has
    /// left. Returns the number of the next part. Blocks.
    pub(super) fn resume(
        &mut self,
        staging: Staging,
        client: &ObjectClient,
        on_existing: OnExisting,
    ) -> Result<u64> {
        let (staged, is_shown) = match staging {
            Staging::Shown(staged) => (Some(staged), true),
            Staging::On(staged) => (staged, false),
            Staging::Off | Staging::Remember => (None, false),
        };
        let mut next = 0;
        if let Some(staged) = &staged {
            let held = Held::read(staged)?;
            next = held.next;
            for file in held.files.iter().filter(|_| !is_shown) {
                // What is kept no more has its name, or was taken away from there and has left an empty
                // file, unless it is lost.
                if show(file, client, on_existing)? == Showing::Gone
                    && !is_there(file, client, on_existing, true)?
                {
                    return Err(lost(file));
                }
            }
        }
        self.last = staged;
        let owned = format!(".{}", self.temporaries.staged());
        client.sweep(self.temporaries.directory(), |key| key.contains(&owned))?;
        Ok(next)
    }

    /// Begins a file that is to be at `key`. Blocks.
    pub(super) fn create(&mut self, key: &str, client: &ObjectClient) -> Result<Upload> {
        let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
        let (directory, owner) = (self.temporaries.directory(), self.temporaries.staged());
        self.under_way = temporary_name(name, &owner);
        if !directory.is_empty() {
            self.under_way = format!("{directory}/{}", self.under_way);
        }
        client.create_kept(key, &self.under_way)
    }

    /// Takes the file under way, which has come to its end. Blocks.
    pub(super) fn take(&mut self, mut upload: Upload, key: String) -> Result<()> {
        upload.seal()?;
        let temporary = std::mem::take(&mut self.under_way);
        let bytes = Some(upload.written());
        self.whole.push((upload, Kept { temporary, key, bytes }));
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

    /// Shows what was staged, each file once. Blocks.
    pub(super) fn publish(
        &mut self,
        staged: &Bytes,
        client: &ObjectClient,
        on_existing: OnExisting,
    ) -> Result<()> {
        for file in Held::read(staged)?.files {
            let Some(at) = self.staged.iter().position(|staged| *staged == file) else { continue };
            if show(&file, client, on_existing)? == Showing::Gone
                && !is_there(&file, client, on_existing, false)?
            {
                return Err(lost(&file));
            }
            self.staged.remove(at);
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

/// Shows a file under its name, or under a number of it if somebody took the name since. Never says
/// that it is taken.
fn show(file: &Kept, client: &ObjectClient, on_existing: OnExisting) -> Result<Showing> {
    let Kept { temporary, key, .. } = file;
    match client.show(temporary, key, on_existing == OnExisting::Replace)? {
        Showing::Taken if on_existing != OnExisting::Number => return Err(taken(key)),
        Showing::Taken => {}
        shown => return Ok(shown),
    }
    // By the name alone, so that what was broken off half way is found under the same number.
    for number in 1..=u64::from(MAX_NUMBERS) {
        match client.show(temporary, &name::numbered(key, number), false)? {
            Showing::Taken => {}
            shown => return Ok(shown),
        }
    }
    Err(all_taken(key))
}

/// Returns whether a file of so many bytes, or an empty one where that counts, is under a name that it
/// may have.
fn is_there(file: &Kept, client: &ObjectClient, on_existing: OnExisting, or_empty: bool) -> Result<bool> {
    let Kept { key, bytes, .. } = file;
    let mut name = key.to_owned();
    let names = if on_existing == OnExisting::Number { MAX_NUMBERS } else { 0 };
    for number in 1..=u64::from(names) + 1 {
        match client.size(&name)? {
            None => return Ok(false),
            Some(0) if or_empty => return Ok(true),
            Some(size) if bytes.is_none_or(|bytes| size == bytes) => return Ok(true),
            Some(_) => name = name::numbered(key, number),
        }
    }
    Ok(false)
}

fn lost(file: &Kept) -> Error {
    let Kept { temporary, key, .. } = file;
    let message = format!(
        "what was to be shown as \"{key}\" is gone from \"{temporary}\", where it was kept, and no file of its size \
         has that name: begin anew without the checkpoint, and let nothing remove files that end in \"{TEMPORARY}\"; \
         or, if it was taken away when it showed, leave an empty file of that name, or of its next number"
    );
    Error::new(ErrorKind::NotFound, message)
}
