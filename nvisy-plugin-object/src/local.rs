//! A directory of this machine.

use std::path::PathBuf;

use nvisy_core::config::Problem;
use nvisy_core::connection::Reach;
use nvisy_core::{ConnectContext, Connection, Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::ObjectClient;
use crate::error::{from_io, from_join};
use crate::root::Root;
use crate::task::blocking;

/// A directory of this machine, as a store: keys are paths below it.
///
/// No path leaves it: not by `..`, not as an absolute path, not by a symlink. What tries is a
/// `permission` error, and nothing is read or written. Symlinks that end within are followed.
///
/// An incremental run tells by size and modified time whether a file has changed, and by its
/// content too while that time is younger than two seconds: a change within the tick of the file
/// system's clock shows in neither of the others. A file that is merely touched within that time
/// is not read again.
///
/// Its identity is the directory's path without symlinks, so that ids do not depend on how
/// the directory was named.
///
/// # Errors
///
/// `not_found` if there is no such directory, unless it is to be [created](Self::create);
/// `configuration` if it is no directory.
///
/// # Examples
///
/// ```
/// let data = nvisy_plugin_object::Local::at("data");
/// assert_eq!(serde_json::to_string(&data).unwrap(), r#"{"root":"data"}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// The directory, absolute or relative to the working directory.
    pub root: PathBuf,
    /// Whether to create the directory if it is not there. Default no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create: bool,
}

impl Local {
    /// The directory at `root`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), create: false }
    }

    /// Creates the directory if it is not there.
    #[must_use]
    pub fn create(mut self) -> Self {
        self.create = true;
        self
    }
}

impl Connection for Local {
    const NAME: &'static str = "object/local";
    type Client = ObjectClient;

    fn validate(&self) -> Vec<Problem> {
        if self.root.as_os_str().is_empty() {
            return vec![
                Problem::new("root", "`root` is empty").with_help("write `.` for the working directory"),
            ];
        }
        Vec::new()
    }

    fn reach(&self) -> Vec<Reach> {
        vec![Reach::Files { setting: "root".into() }]
    }

    async fn connect(&self, context: &ConnectContext) -> Result<ObjectClient> {
        let Self { root, create } = self.clone();
        let name = root.display().to_string();
        let rehearsal = context.is_rehearsal();
        if create && rehearsal && matches!(root.try_exists(), Ok(false)) {
            context.note_missing(format!("directory \"{name}\""));
        }
        let opened = blocking(move || {
            if create && rehearsal && matches!(root.try_exists(), Ok(false)) {
                return ObjectClient::of_nothing(&root);
            }
            if create && !rehearsal {
                std::fs::create_dir_all(&root)
                    .map_err(|error| from_io(error, "create the directory", &root.display().to_string()))?;
            }
            if matches!(root.try_exists(), Ok(false)) {
                let name = root.display();
                let message = format!("the directory \"{name}\" does not exist: make it, or set `create`");
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            ObjectClient::of_root(Root::open(&root)?)
        });
        let opened = opened.await.map_err(|error| from_join(error, "open", &name)).and_then(|opened| opened);
        opened.map_err(|error| error.at_connection(context.name()))
    }

    async fn verify(&self, client: &ObjectClient) -> Result<()> {
        client.verify().await
    }
}
