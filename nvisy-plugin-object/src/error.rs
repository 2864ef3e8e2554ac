//! Errors of stores and formats, translated in one place.

use std::io;

use nvisy_core::{Error, ErrorKind, RetryClass};

/// Translates an error of the file system or of a stream about the object at `key`; `doing` says
/// what was tried, such as "read".
pub(crate) fn from_io(error: io::Error, doing: &str, key: &str) -> Error {
    use io::ErrorKind as Io;
    // An error of ours that travelled through an `io::Write` or `io::Read`.
    if let Some(ours) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return ours.clone();
    }
    let (kind, remedy) = match error.kind() {
        Io::NotFound => (ErrorKind::NotFound, "it does not exist"),
        Io::PermissionDenied => (ErrorKind::Permission, "permission denied"),
        Io::ReadOnlyFilesystem => (ErrorKind::Permission, "the file system is read-only"),
        Io::StorageFull | Io::QuotaExceeded => {
            (ErrorKind::Permission, "no space is left on the device: free some")
        }
        Io::FileTooLarge => (ErrorKind::Permission, "the file system takes no file as large: roll by bytes"),
        Io::AlreadyExists => (ErrorKind::Conflict, "it exists already"),
        Io::NotADirectory => (ErrorKind::Conflict, "a part of its path is no directory"),
        Io::IsADirectory => (ErrorKind::Conflict, "it is a directory"),
        Io::CrossesDevices => {
            let remedy = "it lies on another file system than where it is kept until it is whole: take a path \
                          without a link to that one";
            (ErrorKind::Configuration, remedy)
        }
        Io::UnexpectedEof => (ErrorKind::Validation, "it is cut off"),
        Io::InvalidData | Io::InvalidInput => (ErrorKind::Validation, "it is damaged"),
        Io::Interrupted | Io::TimedOut | Io::WouldBlock => (ErrorKind::Timeout, "it took too long"),
        _ => (ErrorKind::Connection, "the input or output failed"),
    };
    let class = match kind {
        ErrorKind::Connection | ErrorKind::Timeout => RetryClass::Transient,
        _ => RetryClass::Permanent,
    };
    Error::new(kind, format!("cannot {doing} \"{key}\": {remedy}")).with_retry_class(class).with_source(error)
}

/// Translates an error of an object store.
pub(crate) fn from_store(error: object_store::Error, doing: &str, key: &str) -> Error {
    use object_store::Error as Store;
    let (kind, remedy) = match &error {
        Store::NotFound { .. } => (ErrorKind::NotFound, "it does not exist"),
        Store::InvalidPath { .. } => (ErrorKind::Permission, "the store takes no such name"),
        Store::AlreadyExists { .. } => (ErrorKind::Conflict, "it exists already"),
        Store::Precondition { .. } | Store::NotModified { .. } => {
            (ErrorKind::Conflict, "it changed meanwhile")
        }
        Store::PermissionDenied { .. } => (ErrorKind::Permission, "permission denied"),
        Store::Unauthenticated { .. } => (ErrorKind::Authentication, "the store does not know us"),
        Store::NotSupported { .. } | Store::NotImplemented { .. } => {
            (ErrorKind::Configuration, "the store cannot do that")
        }
        _ => {
            if let Some(kind) = io_kind(&error) {
                return from_io(io::Error::new(kind, error), doing, key);
            }
            (ErrorKind::Connection, "the store failed")
        }
    };
    Error::new(kind, format!("cannot {doing} \"{key}\": {remedy}")).with_source(error)
}

fn io_kind(error: &object_store::Error) -> Option<io::ErrorKind> {
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = cause.source();
    }
    None
}

/// The object's format is broken: the whole object fails.
pub(crate) fn broken(key: &str, what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Validation, format!("object \"{key}\" cannot be read: {what}"))
}

/// A path leads out of its root.
pub(crate) fn outside(key: &str) -> Error {
    let message = format!("the path \"{key}\" leads out of the root of its connection: use a path within it");
    Error::new(ErrorKind::Permission, message)
}

/// A blocking call did not come back: it panicked, or the runtime shuts down.
pub(crate) fn from_join(error: tokio::task::JoinError, doing: &str, key: &str) -> Error {
    if error.is_cancelled() {
        return Error::cancelled();
    }
    // Decoders of binary formats panic on some damaged input.
    Error::new(ErrorKind::Validation, format!("cannot {doing} \"{key}\": it is damaged")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: io::ErrorKind, expected: ErrorKind, says: &str) {
        let error = from_io(io::Error::from(kind), "write", "out.jsonl");
        assert_eq!(error.kind(), expected);
        assert!(error.message().contains(says) && error.message().contains("out.jsonl"), "{error}");
    }

    #[test]
    fn what_the_file_system_says_gets_a_kind_and_a_remedy() {
        check(io::ErrorKind::StorageFull, ErrorKind::Permission, "no space is left");
        check(io::ErrorKind::ReadOnlyFilesystem, ErrorKind::Permission, "read-only");
        check(io::ErrorKind::AlreadyExists, ErrorKind::Conflict, "exists already");
        check(io::ErrorKind::CrossesDevices, ErrorKind::Configuration, "another file system");
        check(io::ErrorKind::UnexpectedEof, ErrorKind::Validation, "cut off");
    }
}
