//! The contract of a source, rule by rule.

mod reading;
mod rules;

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::examiner::{Examiner, Failing, Opener, Secrets, opener};
use super::report::Report;
use crate::connection::Client;
use crate::error::{ErrorKind, Result};
use crate::plugin::{AnyClient, ErasedSource};
use crate::primitive::Payload;
use crate::source::Source;
use crate::testing::plain;

/// The rules that [`source`] checks, in order.
pub const SOURCE_RULES: [&str; 17] = [
    "reads_every_item_once",
    "reads_the_same_again",
    "gives_every_item_its_own_id",
    "gives_ids_that_do_not_depend_on_the_node",
    "gives_the_kinds_that_it_declares",
    "has_stable_partitions",
    "has_versions_of_objects",
    "has_positions_that_read_back",
    "resumes_after_every_item",
    "resumes_after_every_batch",
    "is_lazy",
    "keeps_batches_within_limits",
    "rejects_single_records",
    "can_be_dropped_at_any_poll",
    "reads_no_item_and_one_item",
    "fails_with_the_right_kind",
    "shows_no_secret",
];

/// A source that is ready to read, with the client of its connection.
#[derive(Clone, Debug)]
pub struct OpenSource {
    source: Arc<dyn ErasedSource>,
    client: AnyClient,
}

impl OpenSource {
    /// Puts a source and a client together.
    #[must_use]
    pub fn new<S: Source>(source: S, client: S::Client) -> Self
    where
        S::Client: Client,
    {
        Self::erased(Arc::new(source), AnyClient::new(client))
    }

    /// Puts a source of any type and a client of any type together.
    #[must_use]
    pub fn erased(source: Arc<dyn ErasedSource>, client: AnyClient) -> Self {
        Self { source, client }
    }
}

/// How to get at a source, and what is in the system behind it.
///
/// Some ten items or more, in several pages and partitions, show most.
pub struct SourceHarness {
    open: Opener<OpenSource>,
    expected: Vec<Value>,
    show: Box<dyn Fn(&Payload) -> Value>,
    rejected: usize,
    requests: Option<Box<dyn Fn() -> u64>>,
    empty: Option<Opener<OpenSource>>,
    single: Option<(Opener<OpenSource>, Value)>,
    failing: Vec<Failing<OpenSource>>,
    secrets: Secrets,
}

impl SourceHarness {
    /// Says how to open the source anew, and what it reads: every item once, in any order,
    /// as [`plain`] JSON.
    pub fn new<F: Future<Output = Result<OpenSource>> + 'static>(
        open: impl Fn() -> F + 'static,
        expected: impl IntoIterator<Item = Value>,
    ) -> Self {
        Self {
            open: opener(open),
            expected: expected.into_iter().collect(),
            show: Box::new(plain),
            rejected: 0,
            requests: None,
            empty: None,
            single: None,
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

    /// Says how many records there are that cannot be read. Default none.
    #[must_use]
    pub fn rejecting(mut self, records: usize) -> Self {
        self.rejected = records;
        self
    }

    /// Says how many requests for items the other system has had so far: pages, objects,
    /// queries, whatever it can count. A full read in batches of one has to take several.
    #[must_use]
    pub fn counting(mut self, requests: impl Fn() -> u64 + 'static) -> Self {
        self.requests = Some(Box::new(requests));
        self
    }

    /// Says how to open a source in which there is nothing.
    #[must_use]
    pub fn with_empty<F: Future<Output = Result<OpenSource>> + 'static>(
        mut self,
        open: impl Fn() -> F + 'static,
    ) -> Self {
        self.empty = Some(opener(open));
        self
    }

    /// Says how to open a source in which there is just one item.
    #[must_use]
    pub fn with_single<F: Future<Output = Result<OpenSource>> + 'static>(
        mut self,
        open: impl Fn() -> F + 'static,
        expected: Value,
    ) -> Self {
        self.single = Some((opener(open), expected));
        self
    }

    /// Adds something that cannot be read, such as `a wrong password` or `a missing table`:
    /// connecting, listing partitions or reading has to fail with an error of this kind.
    #[must_use]
    pub fn failing<F: Future<Output = Result<OpenSource>> + 'static>(
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

impl fmt::Debug for SourceHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceHarness").field("expected", &self.expected.len()).finish_non_exhaustive()
    }
}

/// Holds a source against its contract: every one of the [`SOURCE_RULES`].
pub async fn source(harness: &SourceHarness) -> Report {
    let mut examiner = Examiner::default();
    let seen = examiner.seen.clone();
    let [
        every,
        again,
        own,
        node,
        kinds,
        partitions,
        versions,
        back,
        item,
        batch,
        lazy,
        limits,
        single,
        dropped,
        few,
        fails,
        secret,
    ] = SOURCE_RULES;
    examiner.check(every, rules::reads_every_item_once(harness, &seen)).await;
    examiner.check(again, rules::reads_the_same_again(harness, &seen)).await;
    examiner.check(own, rules::gives_every_item_its_own_id(harness, &seen)).await;
    examiner.check(node, rules::gives_ids_that_do_not_depend_on_the_node(harness, &seen)).await;
    examiner.check(kinds, rules::gives_the_kinds_that_it_declares(harness, &seen)).await;
    examiner.check(partitions, rules::has_stable_partitions(harness, &seen)).await;
    examiner.check(versions, rules::has_versions_of_objects(harness, &seen)).await;
    examiner.check(back, rules::has_positions_that_read_back(harness, &seen)).await;
    examiner.check(item, rules::resumes_after_every_item(harness, &seen)).await;
    examiner.check(batch, rules::resumes_after_every_batch(harness, &seen)).await;
    examiner.check(lazy, rules::is_lazy(harness, &seen)).await;
    examiner.check(limits, rules::keeps_batches_within_limits(harness, &seen)).await;
    examiner.check(single, rules::rejects_single_records(harness, &seen)).await;
    examiner.check(dropped, rules::can_be_dropped_at_any_poll(harness, &seen)).await;
    examiner.check(few, rules::reads_no_item_and_one_item(harness, &seen)).await;
    examiner.check(fails, rules::fails_with_the_right_kind(harness, &seen)).await;
    examiner.check(secret, async { seen.hides(&harness.secrets) }).await;
    examiner.finish()
}
