//! The contract of a sink, rule by rule.

mod memory;
mod replacing;
mod rules;
mod staging;
mod writing;

use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use serde_json::Value;

use super::examiner::{Examiner, Failing, Opener, Secrets, opener};
use super::report::Report;
use crate::error::{ErrorKind, Result};
use crate::plugin::{AnyClient, ErasedSinkConfig};
use crate::primitive::{Payload, Primitive};
use crate::sink::SinkConfig;
use crate::testing::plain;

/// The rules that [`sink`] checks, in order.
pub const SINK_RULES: [&str; 24] = [
    "writes_every_item",
    "is_durable_after_a_flush",
    "writes_no_item_and_one_item",
    "writes_more_than_its_optimum",
    "writes_rows_and_items_alike",
    "keeps_its_guarantee_when_items_come_again",
    "replaces_what_came_again_in_a_newer_version",
    "rejects_single_items",
    "keeps_extreme_values",
    "keeps_nulls",
    "writes_concurrently",
    "can_be_dropped_at_any_poll",
    "can_be_dropped_without_closing",
    "closes_twice",
    "hides_what_is_staged_until_it_is_published",
    "shows_what_a_checkpoint_has_when_it_opens",
    "forgets_what_no_checkpoint_has",
    "goes_on_behind_what_a_checkpoint_has",
    "goes_on_behind_what_was_shown",
    "adds_once_what_comes_again_in_a_run",
    "deletes_just_what_is_stale_of_an_origin",
    "takes_every_kind_that_it_declares",
    "fails_with_the_right_kind",
    "shows_no_secret",
];

/// A sink that is ready to be opened, over a place of its own in which there is nothing yet,
/// and a way to look what is in it.
pub struct Target {
    config: Arc<dyn ErasedSinkConfig>,
    client: AnyClient,
    read_back: Box<dyn Fn() -> LocalBoxFuture<'static, Result<Vec<Value>>>>,
}

impl Target {
    /// Puts a sink, a client and a look at what is written together. `read_back` goes past the
    /// sink, straight to the system.
    pub fn new<S: SinkConfig, F: Future<Output = Result<Vec<Value>>> + 'static>(
        config: S,
        client: S::Client,
        read_back: impl Fn() -> F + 'static,
    ) -> Self {
        Self::erased(Arc::new(config), AnyClient::new(client), read_back)
    }

    /// Puts a sink of any type, a client of any type and a look at what is written together.
    pub fn erased<F: Future<Output = Result<Vec<Value>>> + 'static>(
        config: Arc<dyn ErasedSinkConfig>,
        client: AnyClient,
        read_back: impl Fn() -> F + 'static,
    ) -> Self {
        Self { config, client, read_back: Box::new(move || read_back().boxed_local()) }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("config", &self.config).finish_non_exhaustive()
    }
}

/// How to get at a sink, and what it takes.
pub struct SinkHarness {
    fresh: Opener<Target>,
    item: Box<dyn Fn(u64) -> Payload>,
    show: Box<dyn Fn(&Primitive) -> Value>,
    extremes: Vec<Payload>,
    nulls: Vec<Payload>,
    refused: Vec<Payload>,
    newer: Option<Box<dyn Fn(u64) -> Payload>>,
    most: usize,
    failing: Vec<Failing<Target>>,
    secrets: Secrets,
}

impl SinkHarness {
    /// Says how to make a new target, and what a sink takes: `item(n)` is the `n`-th of any
    /// number of payloads, each another one.
    pub fn new<F: Future<Output = Result<Target>> + 'static>(
        fresh: impl Fn() -> F + 'static,
        item: impl Fn(u64) -> Payload + 'static,
    ) -> Self {
        Self {
            fresh: opener(fresh),
            item: Box::new(item),
            show: Box::new(|item| plain(item.payload())),
            extremes: Vec::new(),
            nulls: Vec::new(),
            refused: Vec::new(),
            newer: None,
            most: 10_000,
            failing: Vec::new(),
            secrets: Secrets::default(),
        }
    }

    /// Says what the target's `read_back` gives for an item that is written. Default its
    /// payload as [`plain`] JSON.
    #[must_use]
    pub fn showing(mut self, show: impl Fn(&Primitive) -> Value + 'static) -> Self {
        self.show = Box::new(show);
        self
    }

    /// Adds items with extreme values, such as those of [`samples`](super::samples).
    #[must_use]
    pub fn with_extremes(mut self, items: impl IntoIterator<Item = Payload>) -> Self {
        self.extremes.extend(items);
        self
    }

    /// Adds items in which something is null or left out.
    #[must_use]
    pub fn with_nulls(mut self, items: impl IntoIterator<Item = Payload>) -> Self {
        self.nulls.extend(items);
        self
    }

    /// Adds items that it has to reject, while their neighbours are written.
    #[must_use]
    pub fn refusing(mut self, items: impl IntoIterator<Item = Payload>) -> Self {
        self.refused.extend(items);
        self
    }

    /// Says how the `n`-th item looks in a later version: another payload, which takes the
    /// place of the first.
    #[must_use]
    pub fn with_newer(mut self, item: impl Fn(u64) -> Payload + 'static) -> Self {
        self.newer = Some(Box::new(item));
        self
    }

    /// Says how many items a check writes at the most, where the optimum is huge. Default
    /// 10,000.
    #[must_use]
    pub fn with_at_most(mut self, items: usize) -> Self {
        self.most = items;
        self
    }

    /// Adds something that cannot be written to, such as `a wrong password` or `a missing
    /// table`: connecting, opening or writing has to fail with an error of this kind.
    #[must_use]
    pub fn failing<F: Future<Output = Result<Target>> + 'static>(
        mut self,
        what: impl Into<String>,
        kind: ErrorKind,
        fresh: impl Fn() -> F + 'static,
    ) -> Self {
        self.failing.push(Failing { what: what.into(), kind, open: opener(fresh) });
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

impl fmt::Debug for SinkHarness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkHarness")
            .field("extremes", &self.extremes.len())
            .field("nulls", &self.nulls.len())
            .field("refused", &self.refused.len())
            .finish_non_exhaustive()
    }
}

/// Holds a sink against its contract: every one of the [`SINK_RULES`].
pub async fn sink(harness: &SinkHarness) -> Report {
    let mut examiner = Examiner::default();
    let seen = examiner.seen.clone();
    let [
        every,
        durable,
        few,
        more,
        alike,
        again,
        replaces,
        rejects,
        extremes,
        nulls,
        concurrent,
        polls,
        unclosed,
        twice,
        hides,
        shows,
        forgets,
        goes_on,
        goes_on_shown,
        remembers,
        stale,
        kinds,
        fails,
        secret,
    ] = SINK_RULES;
    examiner.check(every, rules::writes_every_item(harness, &seen)).await;
    examiner.check(durable, rules::is_durable_after_a_flush(harness, &seen)).await;
    examiner.check(few, rules::writes_no_item_and_one_item(harness, &seen)).await;
    examiner.check(more, rules::writes_more_than_its_optimum(harness, &seen)).await;
    examiner.check(alike, rules::writes_rows_and_items_alike(harness, &seen)).await;
    examiner.check(again, rules::keeps_its_guarantee_when_items_come_again(harness, &seen)).await;
    examiner.check(replaces, rules::replaces_what_came_again_in_a_newer_version(harness, &seen)).await;
    examiner.check(rejects, rules::rejects_single_items(harness, &seen)).await;
    examiner.check(extremes, rules::keeps_extreme_values(harness, &seen)).await;
    examiner.check(nulls, rules::keeps_nulls(harness, &seen)).await;
    examiner.check(concurrent, rules::writes_concurrently(harness, &seen)).await;
    examiner.check(polls, rules::can_be_dropped_at_any_poll(harness, &seen)).await;
    examiner.check(unclosed, rules::can_be_dropped_without_closing(harness, &seen)).await;
    examiner.check(twice, rules::closes_twice(harness, &seen)).await;
    examiner.check(hides, staging::hides_what_is_staged_until_it_is_published(harness, &seen)).await;
    examiner.check(shows, staging::shows_what_a_checkpoint_has_when_it_opens(harness, &seen)).await;
    examiner.check(forgets, staging::forgets_what_no_checkpoint_has(harness, &seen)).await;
    examiner.check(goes_on, staging::goes_on_behind_what_a_checkpoint_has(harness, &seen)).await;
    examiner.check(goes_on_shown, staging::goes_on_behind_what_was_shown(harness, &seen)).await;
    examiner.check(remembers, memory::adds_once_what_comes_again_in_a_run(harness, &seen)).await;
    examiner.check(stale, replacing::deletes_just_what_is_stale_of_an_origin(harness, &seen)).await;
    examiner.check(kinds, rules::takes_every_kind_that_it_declares(harness, &seen)).await;
    examiner.check(fails, rules::fails_with_the_right_kind(harness, &seen)).await;
    examiner.check(secret, async { seen.hides(&harness.secrets) }).await;
    examiner.finish()
}
