//! Checks rule after rule, whatever the connector does to it.

use std::cell::RefCell;
use std::error::Error as StdError;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;

use super::report::{Check, Report, Verdict};
use crate::error::{Error, ErrorKind};

/// How long a check may take before it counts as hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a check says: nothing if the rule holds, why it was left out, or what was seen.
pub(super) type Finding = Result<Option<&'static str>, String>;

/// Checks rules, and keeps every error that came by, to look for secrets.
#[derive(Default)]
pub(super) struct Examiner {
    checks: Vec<Check>,
    pub(super) seen: Seen,
}

impl Examiner {
    /// Checks one rule.
    pub(super) async fn check(&mut self, rule: &'static str, check: impl Future<Output = Finding>) {
        let guarded = AssertUnwindSafe(tokio::time::timeout(PATIENCE, check)).catch_unwind();
        let verdict = match guarded.await {
            Ok(Ok(Ok(None))) => Verdict::Passed,
            Ok(Ok(Ok(Some(why)))) => Verdict::Skipped(why),
            Ok(Ok(Err(seen))) => Verdict::Failed(seen),
            Ok(Err(_)) => Verdict::Failed(format!("it hung for {} s", PATIENCE.as_secs())),
            Err(panic) => Verdict::Failed(Error::from_panic(&*panic).message().to_owned()),
        };
        self.checks.push(Check { rule, verdict });
    }

    pub(super) fn finish(self) -> Report {
        Report { checks: self.checks }
    }
}

/// The errors that came by, as text.
#[derive(Clone, Default)]
pub(super) struct Seen(std::rc::Rc<RefCell<Vec<String>>>);

impl Seen {
    /// Notes an error in every way in which it can be shown.
    pub(super) fn error(&self, error: &Error) {
        let mut texts = vec![error.to_string(), format!("{error:?}")];
        let mut next = error.source();
        while let Some(cause) = next {
            texts.extend([cause.to_string(), format!("{cause:?}")]);
            next = cause.source();
        }
        texts.extend(serde_json::to_string(&error.to_report()));
        self.0.borrow_mut().extend(texts);
    }

    /// Notes an error that should not have been, and says so.
    pub(super) fn unexpected(&self, what: &str, error: &Error) -> String {
        self.error(error);
        format!("{what}: {error:?}")
    }

    /// Demands that no secret is in anything that was seen, nor in what else is shown.
    pub(super) fn hides(&self, secrets: &Secrets) -> Finding {
        if secrets.values.is_empty() {
            return Ok(Some("the harness names no secret: `with_secret`"));
        }
        for (i, secret) in secrets.values.iter().enumerate() {
            let errors = self.0.borrow();
            if let Some(shown) = secrets.shown.iter().chain(errors.iter()).find(|text| text.contains(secret))
            {
                let hidden = shown.replace(secret, "<the secret>");
                return Err(format!("secret {i} is shown: {hidden}"));
            }
        }
        Ok(None)
    }
}

/// Secrets, and what must not show them.
#[derive(Default)]
pub(super) struct Secrets {
    pub(super) values: Vec<String>,
    pub(super) shown: Vec<String>,
}

/// Something that cannot work, and the kind of error that says so.
pub(super) struct Failing<T> {
    pub(super) what: String,
    pub(super) kind: ErrorKind,
    pub(super) open: Opener<T>,
}

/// Opens a connector; called anew for each check.
pub(super) type Opener<T> = Box<dyn Fn() -> LocalBoxFuture<'static, crate::Result<T>>>;

/// Boxes an opener.
pub(super) fn opener<T: 'static, F: Future<Output = crate::Result<T>> + 'static>(
    open: impl Fn() -> F + 'static,
) -> Opener<T> {
    Box::new(move || open().boxed_local())
}

/// Demands that an attempt failed with the right kind of error, in words as they should be.
pub(super) fn failed<T>(
    seen: &Seen,
    what: &str,
    kind: ErrorKind,
    result: Result<T, Error>,
) -> Result<(), String> {
    let Err(error) = result else { return Err(format!("{what}: there was no error, expected {kind}")) };
    seen.error(&error);
    if error.kind() != kind {
        return Err(format!("{what}: expected {kind}, found {error:?}"));
    }
    let message = error.message();
    if message.is_empty() || message.ends_with('.') {
        return Err(format!("{what}: a message says something and ends without a full stop: \"{message}\""));
    }
    Ok(())
}
