//! The lock by which one process at a time has the checkpoints of a graph.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use nvisy_core::{Error, ErrorKind, Result};

use super::log::io_error;

/// How often to look, and how long to wait in between: a run that was dropped a moment ago may
/// still be finishing its last commit.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(25);

/// Takes the lock. It is let go of when the file is dropped, or the process is gone.
pub(super) fn take(directory: &Path, graph: &str) -> Result<File> {
    let path = directory.join("lock");
    let place = path.display().to_string();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| io_error(&place, error))?;
    for tried in 1.. {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if tried < TRIES => std::thread::sleep(PAUSE),
            Err(TryLockError::WouldBlock) => return Err(in_use(&mut file, directory, graph)),
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                let message =
                    format!("checkpoints in \"{place}\": the file system has no locks: use another one");
                return Err(Error::configuration(message).with_source(error));
            }
            Err(TryLockError::Error(error)) => return Err(io_error(&place, error)),
        }
    }
    // For whoever finds it locked; nothing is decided by it.
    let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
    Ok(file)
}

fn in_use(file: &mut File, directory: &Path, graph: &str) -> Error {
    let mut holder = String::new();
    let _ = file.rewind().and_then(|()| file.take(20).read_to_string(&mut holder));
    let by = match holder.parse::<u32>() {
        Ok(process) if process == std::process::id() => " by another run of this process".to_owned(),
        Ok(process) => format!(" by process {process}"),
        Err(_) => String::new(),
    };
    let message = format!(
        "the checkpoints of graph \"{graph}\" in \"{}\" are in use{by}: wait until its run ends, or keep those of \
         this run elsewhere",
        directory.display()
    );
    Error::new(ErrorKind::Conflict, message)
}
