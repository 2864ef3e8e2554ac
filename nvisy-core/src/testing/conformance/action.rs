//! The contract of an action, rule by rule.

mod applying;
mod remembering;
mod rules;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::examiner::{Examiner, Failing, Opener, Secrets, opener};
use super::report::Report;
use crate::action::ActionConfig;
use crate::error::{ErrorKind, Result};
use crate::plugin::{AnyClient, ErasedActionConfig};
use crate::primitive::Payload;
use crate::testing::plain;

/// The rules that [`action`] checks, in order.
pub const ACTION_RULES: [&str; 17] = [
    "gives_one_outcome_an_input",
    "makes_what_is_expected",
    "makes_the_same_again",
    "gives_ids_that_do_not_depend_on_the_node",
    "gives_every_item_its_own_id",
    "writes_the_lineage",
    "gives_the_kinds_that_it_declares",
    "treats_every_item_alone",
    "treats_rows_and_items_alike",
    "takes_no_item",
    "takes_more_than_its_optimum",
    "fails_items_of_another_kind_alone",
    "can_be_dropped_at_any_poll",
    "goes_on_from_what_it_saved",
    "lets_go_of_what_it_absorbed",
    "fails_with_the_right_kind",
    "shows_no_secret",
];

/// An action that is ready to be built, with the client of its connection.
#[derive(Clone, Debug)]
pub struct OpenAction {
    config: Arc<dyn ErasedActionConfig>,
    client: AnyClient,
}

impl OpenAction {
    /// Puts an action and a client together.
    #[must_use]
    pub fn new<A: ActionConfig>(config: A, client: A::Client) -> Self {
        Self::erased(Arc::new(config), AnyClient::new(client))
    }

    /// Puts an action of any type and a client of any type together.
    #[must_use]
    pub fn erased(config: Arc<dyn ErasedActionConfig>, client: AnyClient) -> Self {
        Self { config, client }
    }
}

/// What has to become of an input.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// These items, in order.
    Emit(Vec<Value>),
    /// Nothing, on purpose.
    Drop,
    /// An error of this kind.
    Fail(ErrorKind),
    /// Anything: it has an outcome, and the other rules hold.
    Anything,
}

/// How to get at an action, what to feed it, and what has to come of it.
pub struct ActionHarness {
    open: Opener<OpenAction>,
    inputs: Vec<Payload>,
    expected: Vec<Expected>,
    show: Box<dyn Fn(&Payload) -> Value>,
    remembers: bool,
    failing: Vec<Failing<OpenAction>>,
    secrets: Secrets,
}

impl ActionHarness {
    /// Says how to make the action anew, what goes in, and what has to become of each input:
    /// items as [`plain`] JSON.
    pub fn new<F: Future<Output = Result<OpenAction>> + 'static>(
        open: impl Fn() -> F + 'static,
        cases: impl IntoIterator<Item = (Payload, Expected)>,
    ) -> Self {
        let (inputs, expected) = cases.into_iter().unzip();
        Self {
            open: opener(open),
            inputs,
            expected,
            show: Box::new(plain),
            remembers: false,
            failing: Vec::new(),
            secrets: Secrets::default(),
        }
    }

    /// Compares payloads in another form than [`plain`] JSON.
    #[must_use]
    pub fn showing(mut self, show: impl Fn(&Payload) -> Value + 'static) -> Self {
        self.show = Box::new(show);
        self
    }

    /// Says that what becomes of an item depends on those before it. Default no.
    #[must_use]
    pub fn remembering(mut self) -> Self {
        self.remembers = true;
        self
    }

    /// Adds something that cannot work, such as `a wrong password`: connecting, building or
    /// applying has to fail with an error of this kind.
    #[must_use]
    pub fn failing<F: Future<Output = Result<OpenAction>> + 'static>(
        mut self,
        what: impl Into<String>,
        kind: ErrorKind,
        open: impl Fn() -> F + 'static,
    ) -> Self {
        self.failing.push(Failing { what: what.into(), kind, open: opener(open) });
        self
    }

    /// Names a secret that the connection has, and what must not show it beside the errors:
    /// the `Debug` of configs and clients, lines of logs.
    #[must_use]
    pub fn with_secret(mut self, secret: impl Into<String>, shown: impl IntoIterator<Item = String>) -> Self {
        self.secrets.values.push(secret.into());
        self.secrets.shown.extend(shown);
        self
    }
}

impl fmt::Debug for ActionHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActionHarness").field("inputs", &self.inputs.len()).finish_non_exhaustive()
    }
}

/// Holds an action against its contract: every one of the [`ACTION_RULES`].
pub async fn action(harness: &ActionHarness) -> Report {
    let mut examiner = Examiner::default();
    let seen = examiner.seen.clone();
    let [
        one,
        expected,
        again,
        node,
        own,
        lineage,
        kinds,
        alone,
        alike,
        none,
        more,
        other,
        polls,
        saved,
        absorbed,
        fails,
        secret,
    ] = ACTION_RULES;
    examiner.check(one, rules::gives_one_outcome_an_input(harness, &seen)).await;
    examiner.check(expected, rules::makes_what_is_expected(harness, &seen)).await;
    examiner.check(again, rules::makes_the_same_again(harness, &seen)).await;
    examiner.check(node, rules::gives_ids_that_do_not_depend_on_the_node(harness, &seen)).await;
    examiner.check(own, rules::gives_every_item_its_own_id(harness, &seen)).await;
    examiner.check(lineage, rules::writes_the_lineage(harness, &seen)).await;
    examiner.check(kinds, rules::gives_the_kinds_that_it_declares(harness, &seen)).await;
    examiner.check(alone, rules::treats_every_item_alone(harness, &seen)).await;
    examiner.check(alike, rules::treats_rows_and_items_alike(harness, &seen)).await;
    examiner.check(none, rules::takes_no_item(harness, &seen)).await;
    examiner.check(more, rules::takes_more_than_its_optimum(harness, &seen)).await;
    examiner.check(other, rules::fails_items_of_another_kind_alone(harness, &seen)).await;
    examiner.check(polls, rules::can_be_dropped_at_any_poll(harness, &seen)).await;
    examiner.check(saved, remembering::goes_on_from_what_it_saved(harness, &seen)).await;
    examiner.check(absorbed, remembering::lets_go_of_what_it_absorbed(harness, &seen)).await;
    examiner.check(fails, rules::fails_with_the_right_kind(harness, &seen)).await;
    examiner.check(secret, async { seen.hides(&harness.secrets) }).await;
    examiner.finish()
}
