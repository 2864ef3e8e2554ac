//! What SQLite says, as the library's error: the one place that translates.

use nvisy_core::{Error, ErrorKind};
use sqlx::error::DatabaseError;

/// The primary result codes that mean something of their own here.
/// See <https://www.sqlite.org/rescode.html>.
mod code {
    pub(super) const ERROR: u32 = 1;
    pub(super) const PERM: u32 = 3;
    pub(super) const BUSY: u32 = 5;
    pub(super) const LOCKED: u32 = 6;
    pub(super) const NOMEM: u32 = 7;
    pub(super) const READONLY: u32 = 8;
    pub(super) const INTERRUPT: u32 = 9;
    pub(super) const IOERR: u32 = 10;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const CANTOPEN: u32 = 14;
    pub(super) const TOOBIG: u32 = 18;
    pub(super) const CONSTRAINT: u32 = 19;
    pub(super) const MISMATCH: u32 = 20;
    pub(super) const AUTH: u32 = 23;
    pub(super) const NOTADB: u32 = 26;
    pub(super) const CONSTRAINT_PRIMARYKEY: u32 = 1555;
    pub(super) const CONSTRAINT_UNIQUE: u32 = 2067;
    pub(super) const CONSTRAINT_ROWID: u32 = 2579;
}

/// How sqlite-vec begins where its own tables cannot be written: it says no longer why.
const SQLITE_VEC: &str = "Internal sqlite-vec error";

/// Translates an error of the driver. `place` names what was worked on: `database "a.db"`.
#[must_use]
pub fn translate(place: &str, error: sqlx::Error) -> Error {
    let (kind, message) = match &error {
        sqlx::Error::Database(database) => of_database(&**database),
        sqlx::Error::PoolTimedOut => (ErrorKind::Timeout, "every connection stayed in use".to_owned()),
        sqlx::Error::PoolClosed => (ErrorKind::Connection, "the connection is closed".to_owned()),
        sqlx::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => {
            (ErrorKind::Configuration, format!("the path cannot be opened: {io}"))
        }
        sqlx::Error::Io(io) => (ErrorKind::Connection, io.to_string()),
        sqlx::Error::WorkerCrashed => (ErrorKind::Connection, "the connection broke down".to_owned()),
        sqlx::Error::Protocol(message) => (ErrorKind::Configuration, message.clone()),
        other => (ErrorKind::Internal, other.to_string()),
    };
    Error::new(kind, format!("{place}: {message}")).with_source(error)
}

/// Returns whether the error is about one item's values, so that its neighbours can be written.
#[must_use]
pub fn is_about_the_item(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else { return false };
    matches!(extended_code(&**database) & 0xff, code::CONSTRAINT | code::MISMATCH | code::TOOBIG)
}

/// Translates an error of a commit: one of the disk leaves open whether it was done.
#[must_use]
pub fn translate_commit(place: &str, error: sqlx::Error) -> Error {
    let torn = matches!(&error, sqlx::Error::Database(e) if extended_code(&**e) & 0xff == code::IOERR)
        || matches!(&error, sqlx::Error::WorkerCrashed);
    if torn {
        return Error::new(ErrorKind::Ambiguous, format!("{place}: the disk failed while committing"))
            .with_source(error);
    }
    translate(place, error)
}

fn extended_code(error: &dyn DatabaseError) -> u32 {
    error.code().and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn of_database(error: &dyn DatabaseError) -> (ErrorKind, String) {
    let extended = extended_code(error);
    let said = error.message();
    match extended & 0xff {
        code::BUSY | code::LOCKED => (
            ErrorKind::Timeout,
            "another program holds the write lock: try again, or raise `busy_timeout_ms`".to_owned(),
        ),
        code::READONLY => (
            ErrorKind::Permission,
            "is read-only: make the file and its directory writable, or unset `read_only`".to_owned(),
        ),
        code::FULL => (ErrorKind::Permission, "the disk is full: free some space".to_owned()),
        code::CANTOPEN => (
            ErrorKind::Permission,
            "cannot be opened: check that it is a file and that its permissions allow it".to_owned(),
        ),
        code::PERM | code::AUTH => (ErrorKind::Permission, format!("permission denied: {said}")),
        code::NOTADB => (ErrorKind::Configuration, "is not a SQLite database".to_owned()),
        code::CORRUPT => (ErrorKind::Validation, format!("is damaged: {said}")),
        code::CONSTRAINT => match extended {
            code::CONSTRAINT_PRIMARYKEY | code::CONSTRAINT_UNIQUE | code::CONSTRAINT_ROWID => {
                (ErrorKind::Conflict, said.to_owned())
            }
            _ => (ErrorKind::Validation, said.to_owned()),
        },
        code::MISMATCH => (ErrorKind::Validation, said.to_owned()),
        code::TOOBIG => {
            (ErrorKind::Validation, "a value is larger than SQLite takes (1,000,000,000 bytes)".to_owned())
        }
        code::INTERRUPT => (ErrorKind::Cancelled, "the statement was interrupted".to_owned()),
        code::IOERR => (ErrorKind::Connection, format!("the disk failed: {said}")),
        code::NOMEM => (ErrorKind::Internal, "out of memory".to_owned()),
        code::ERROR if said.starts_with(SQLITE_VEC) => {
            let said = said.trim_start_matches(SQLITE_VEC).trim_start_matches([':', ' ']);
            (ErrorKind::Permission, format!("sqlite-vec cannot write, as when the disk is full: {said}"))
        }
        code::ERROR if said.starts_with("no such table") => (ErrorKind::NotFound, said.to_owned()),
        code::ERROR => (ErrorKind::Configuration, said.to_owned()),
        _ => (ErrorKind::Internal, format!("{said} (code {extended})")),
    }
}
