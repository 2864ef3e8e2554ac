//! The one run-time error: kind, retry class, context, cause.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A result with the library's [`Error`] unless said otherwise.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The other side could not be reached, or hung up.
    Connection,
    /// It took too long.
    Timeout,
    /// The other side asks us to slow down.
    RateLimited,
    /// It does not know us.
    Authentication,
    /// It knows us and says no; or a path leads out of its root.
    Permission,
    /// What was asked for is not there.
    NotFound,
    /// A value is not what it has to be.
    Validation,
    /// The graph or a setting is wrong.
    Configuration,
    /// Something else is there already, or changed meanwhile.
    Conflict,
    /// The request is larger than the other side takes: it is halved and sent again.
    TooLarge,
    /// The request went out and the answer did not come back: it may have been done.
    Ambiguous,
    /// The run was cancelled.
    Cancelled,
    /// User code panicked.
    Panic,
    /// A bug of this library or of a plugin.
    Internal,
}

impl ErrorKind {
    /// Every kind, in order.
    pub const ALL: [Self; 14] = [
        Self::Connection,
        Self::Timeout,
        Self::RateLimited,
        Self::Authentication,
        Self::Permission,
        Self::NotFound,
        Self::Validation,
        Self::Configuration,
        Self::Conflict,
        Self::TooLarge,
        Self::Ambiguous,
        Self::Cancelled,
        Self::Panic,
        Self::Internal,
    ];

    /// Returns the stable machine tag, such as `connector.rate_limited`.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Connection => "connector.connection",
            Self::Timeout => "connector.timeout",
            Self::RateLimited => "connector.rate_limited",
            Self::Authentication => "connector.authentication",
            Self::Permission => "connector.permission",
            Self::NotFound => "connector.not_found",
            Self::Validation => "item.validation",
            Self::Configuration => "graph.configuration",
            Self::Conflict => "connector.conflict",
            Self::TooLarge => "connector.too_large",
            Self::Ambiguous => "connector.ambiguous",
            Self::Cancelled => "run.cancelled",
            Self::Panic => "code.panic",
            Self::Internal => "code.internal",
        }
    }

    /// Returns whether such an error is worth another try unless the connector says otherwise.
    #[must_use]
    pub const fn retry_class(self) -> RetryClass {
        match self {
            Self::Connection | Self::Timeout | Self::RateLimited | Self::Ambiguous => RetryClass::Transient,
            _ => RetryClass::Permanent,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.tag().split_once('.').map_or("", |(_, kind)| kind))
    }
}

/// Whether another try may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryClass {
    /// It may: the same call can succeed later.
    Transient,
    /// It will not, however often.
    Permanent,
    /// It might have, but the attempts are used up.
    Exhausted,
}

/// Where an error happened. Each part is filled in by whoever knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorContext {
    /// The node's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Arc<str>>,
    /// The connection's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Arc<str>>,
    /// The item: its id, or its position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Arc<str>>,
    /// What was being done: `read`, `write`, `POST /embeddings`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Arc<str>>,
    /// The field at fault, as a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<Arc<str>>,
}

/// The error of everything that runs: kind, retry class, context and cause.
///
/// Its message is lowercase, ends without a full stop, names the thing and the remedy, and
/// leaves the chain of causes to [`source`](StdError::source). It goes to logs, spans and
/// reports: fields and types it names, but nothing of what an item holds, and neither do the
/// causes. That belongs into the [detail](Self::with_detail), which dead letters alone keep.
/// Cheap to clone, so that the items of a failed batch can each carry it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use nvisy_core::{Error, ErrorKind, RetryClass};
///
/// let error = Error::new(ErrorKind::RateLimited, "model \"small\" allows no more requests this minute")
///     .with_retry_after(Duration::from_secs(7));
/// assert_eq!(error.retry_class(), RetryClass::Transient);
/// assert_eq!(error.tag(), "connector.rate_limited");
/// ```
///
/// `{:?}` is for people too, as a `main` that returns it prints it: the message, the tag, the
/// causes. `{:#?}` shows the parts.
///
/// ```
/// use nvisy_core::Error;
///
/// let error = Error::configuration("there is no model \"smal\"").at_node("embed");
/// assert_eq!(format!("{error:?}"), "node \"embed\": there is no model \"smal\" [graph.configuration]");
/// ```
#[derive(Clone)]
pub struct Error(Box<ErrorParts>);

#[derive(Clone)]
struct ErrorParts {
    kind: ErrorKind,
    retry_class: RetryClass,
    retry_after: Option<Duration>,
    message: Arc<str>,
    detail: Option<Arc<str>>,
    context: ErrorContext,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of a kind, with the kind's own retry class.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Arc<str>>) -> Self {
        Self(Box::new(ErrorParts {
            kind,
            retry_class: kind.retry_class(),
            retry_after: None,
            message: message.into(),
            detail: None,
            context: ErrorContext::default(),
            source: None,
        }))
    }

    /// A value is not what it has to be: names the field.
    #[must_use]
    pub fn invalid(field: impl Into<Arc<str>>, message: impl fmt::Display) -> Self {
        let field = field.into();
        let mut error = Self::new(ErrorKind::Validation, format!("`{field}`: {message}"));
        error.0.context.field = Some(field);
        error
    }

    /// The graph or a setting is wrong.
    #[must_use]
    pub fn configuration(message: impl Into<Arc<str>>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    /// A bug of this library or of a plugin.
    #[must_use]
    pub fn internal(message: impl Into<Arc<str>>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The run was cancelled.
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "the run was cancelled")
    }

    /// Makes the error of a panic in user code from what `catch_unwind` gave.
    #[must_use]
    pub fn from_panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let said = payload
            .downcast_ref::<&str>()
            .map(|s| (*s).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Self::new(ErrorKind::Panic, format!("the code panicked: {said}"))
    }

    /// Sets the retry class, where the connector knows better than the kind.
    #[must_use]
    pub fn with_retry_class(mut self, class: RetryClass) -> Self {
        self.0.retry_class = class;
        self
    }

    /// Says when another try is welcome.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// Adds what may hold text of the item: the value that does not fit, what a service says of
    /// a request. A [dead letter](crate::DeadLetter) keeps it; nothing else shows it, `Debug`
    /// included.
    #[must_use]
    pub fn with_detail(mut self, detail: impl fmt::Display) -> Self {
        const MOST: usize = 1_000;
        let detail = detail.to_string();
        let end = detail.char_indices().nth(MOST).map_or(detail.len(), |(end, _)| end);
        self.0.detail = Some(detail[..end].into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    /// Names the node, unless it is named already.
    #[must_use]
    pub fn at_node(mut self, node: impl Into<Arc<str>>) -> Self {
        self.0.context.node.get_or_insert_with(|| node.into());
        self
    }

    /// Names the connection, unless it is named already.
    #[must_use]
    pub fn at_connection(mut self, connection: impl Into<Arc<str>>) -> Self {
        self.0.context.connection.get_or_insert_with(|| connection.into());
        self
    }

    /// Names the item by its id or position, unless it is named already.
    #[must_use]
    pub fn at_item(mut self, item: impl fmt::Display) -> Self {
        self.0.context.item.get_or_insert_with(|| item.to_string().into());
        self
    }

    /// Names what was being done, unless it is named already.
    #[must_use]
    pub fn during(mut self, operation: impl Into<Arc<str>>) -> Self {
        self.0.context.operation.get_or_insert_with(|| operation.into());
        self
    }

    /// Returns what the operating system says of a file or folder, which `place` names: with the kind
    /// that it is to a run, and the remedy.
    ///
    /// # Examples
    ///
    /// ```
    /// use nvisy_core::{Error, ErrorKind};
    ///
    /// let full = std::io::ErrorKind::StorageFull.into();
    /// let error = Error::of_file("folder \"state\"", full);
    /// assert_eq!(error.kind(), ErrorKind::Permission);
    /// assert_eq!(error.message(), "folder \"state\": the disk is full: free some space");
    /// ```
    #[must_use]
    pub fn of_file(place: impl fmt::Display, error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let (kind, message) = match error.kind() {
            Io::PermissionDenied | Io::ReadOnlyFilesystem => {
                (ErrorKind::Permission, "cannot be written or read: check who may".to_owned())
            }
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => {
                (ErrorKind::Permission, "the disk is full: free some space".to_owned())
            }
            Io::NotFound => (ErrorKind::NotFound, "does not exist".to_owned()),
            Io::NotADirectory | Io::AlreadyExists | Io::InvalidFilename | Io::IsADirectory => {
                (ErrorKind::Configuration, format!("is no place for it: {error}"))
            }
            _ => (ErrorKind::Connection, format!("the disk failed: {error}")),
        };
        Self::new(kind, format!("{place}: {message}")).with_source(error)
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the stable machine tag.
    #[must_use]
    pub fn tag(&self) -> &'static str {
        self.0.kind.tag()
    }

    /// Returns whether another try may help.
    #[must_use]
    pub fn retry_class(&self) -> RetryClass {
        self.0.retry_class
    }

    /// Returns when another try is welcome, if the other side said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Returns the message, without context and cause.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns what may hold text of the item, if there is something: not for logs.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }

    /// Returns where it happened.
    #[must_use]
    pub fn context(&self) -> &ErrorContext {
        &self.0.context
    }

    /// Returns the error as a value that serializes, without its [detail](Self::detail).
    #[must_use]
    pub fn to_report(&self) -> ErrorReport {
        let chain = std::iter::successors(std::error::Error::source(self), |cause| (*cause).source());
        let causes = chain.take(MAX_CAUSES).map(told).collect();
        ErrorReport {
            tag: self.tag().into(),
            kind: self.kind(),
            retry_class: self.retry_class(),
            message: self.message().into(),
            detail: None,
            context: self.context().clone(),
            causes,
        }
    }
}

/// How many causes a report names: a chain may lead back to where it began.
const MAX_CAUSES: usize = 32;

/// Says what a cause says. It is somebody else's code, and may panic: an error is told all the
/// same.
fn told(cause: &(dyn std::error::Error + 'static)) -> String {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cause.to_string()))
        .unwrap_or_else(|_| "a cause that panics when it is told".to_owned())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.0.context.node {
            write!(f, "node \"{node}\": ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            write!(f, "{self} [{}]", self.tag())?;
            // A message may quote its cause.
            let causes = self.to_report().causes;
            let untold = causes.iter().filter(|cause| !self.message().contains(cause.as_str()));
            return untold.into_iter().try_for_each(|cause| write!(f, "\n  because: {cause}"));
        }
        f.debug_struct("Error")
            .field("tag", &self.tag())
            .field("message", &self.0.message)
            .field("retry_class", &self.0.retry_class)
            .field("retry_after", &self.0.retry_after)
            .field("context", &self.0.context)
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|e| e as &(dyn StdError + 'static))
    }
}

/// An [`Error`] as data: what dead letters and reports keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorReport {
    /// The stable machine tag.
    pub tag: String,
    /// The kind.
    pub kind: ErrorKind,
    /// Whether another try may have helped.
    pub retry_class: RetryClass,
    /// The message.
    pub message: String,
    /// What may hold text of the item; in dead letters only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Where it happened.
    #[serde(default)]
    pub context: ErrorContext,
    /// The causes, nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_stable() {
        let tags: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.tag()).collect();
        expect_test::expect![[r#"
            connector.connection
            connector.timeout
            connector.rate_limited
            connector.authentication
            connector.permission
            connector.not_found
            item.validation
            graph.configuration
            connector.conflict
            connector.too_large
            connector.ambiguous
            run.cancelled
            code.panic
            code.internal"#]]
        .assert_eq(&tags.join("\n"));
    }

    #[test]
    fn the_detail_is_shown_nowhere() {
        let error = Error::invalid("document.text", "is too long").with_detail("canary");
        let shown = format!("{error} {error:?} {}", serde_json::to_string(&error.to_report()).unwrap());
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(error.detail(), Some("canary"));
    }

    #[test]
    fn a_cause_that_panics_or_never_ends_is_told_all_the_same() {
        #[derive(Debug)]
        struct Odd(bool);
        impl fmt::Display for Odd {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                assert!(!self.0, "no words");
                f.write_str("again")
            }
        }
        impl std::error::Error for Odd {
            fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
                Some(&Self(false))
            }
        }
        let causes = Error::internal("x").with_source(Odd(true)).to_report().causes;
        assert_eq!(causes[..2], ["a cause that panics when it is told", "again"]);
        assert_eq!(causes.len(), MAX_CAUSES);
    }

    #[test]
    fn what_main_returns_is_shown_with_the_causes_that_it_does_not_quote() {
        let cause = Error::new(ErrorKind::Timeout, "no answer");
        let error = Error::new(ErrorKind::Connection, "cannot connect").with_source(cause.clone());
        assert_eq!(format!("{error:?}"), "cannot connect [connector.connection]\n  because: no answer");
        let quoting = Error::new(ErrorKind::Connection, "cannot connect: no answer").with_source(cause);
        let shown = format!("{:?}", Box::<dyn StdError>::from(quoting));
        assert_eq!(shown, "cannot connect: no answer [connector.connection]");
        assert!(format!("{error:#?}").contains("retry_class: Transient"), "{error:#?}");
    }

    #[test]
    fn the_first_to_name_the_node_wins() {
        let error = Error::configuration("nothing to read").at_node("inner").at_node("outer");
        assert_eq!(error.to_string(), "node \"inner\": nothing to read");
    }
}
