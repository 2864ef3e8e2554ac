//! What whoever keeps files in a state directory does with them.

use std::fs::File;
use std::path::Path;

use nvisy_core::{Error, Result};
use sha2::{Digest, Sha256};

/// Calls `call` on a thread that may block. Once begun it runs to its end.
pub(crate) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(call).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => Err(Error::from_panic(&*error.into_panic())),
        Err(_) => Err(Error::cancelled()),
    }
}

/// Makes a directory and those above it, durably.
pub(crate) fn make(path: &Path) -> std::io::Result<()> {
    if path.try_exists()? {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        make(parent)?;
    }
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    sync_directory(parent.unwrap_or(Path::new(".")))
}

/// Makes durable what is in a directory: where it has to be asked for.
pub(crate) fn sync_directory(path: &Path) -> std::io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

/// Names a file after a thing, with letters that every file system keeps apart.
pub(crate) fn file_name(kind: &str, of: &str) -> String {
    const LONGEST: usize = 150;
    let mut name = String::from(kind);
    for byte in of.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    if name.len() > LONGEST {
        let hash = Sha256::digest(of.as_bytes());
        name.truncate(LONGEST - 66);
        name.push_str("%%");
        hash.iter().for_each(|byte| name.push_str(&format!("{byte:02x}")));
    }
    name
}
