//! Policies: that each makes sense where it stands, that dead letters lead somewhere, that
//! batches fit into what a source may read ahead.

use std::collections::HashSet;
use std::time::Duration;

use nvisy_core::action::Calls;
use nvisy_core::config::duration::LONGEST;

use super::{Check, did_you_mean, join, quoted};
use crate::compiler::assemble::{DEFAULT_UNCOMMITTED_ITEMS, calls, said_of_batches};
use crate::compiler::diagnostic::code;
use crate::compiler::json::{join_path, shown};
use crate::compiler::plan::{Port, Work};
use crate::compiler::reach;
use crate::graph::policy::Ways;
use crate::graph::schema::applicable_policies;
use crate::graph::{DeadLetterLimit, NodeBody, OnError, RateLimit, Retry};

/// The most calls that may run at once.
const MAX_CONCURRENCY: usize = 1_024;

impl Check<'_> {
    pub(super) fn policies(&mut self) {
        for node in 0..self.nodes.len() {
            self.policies_of(node);
        }
        let settings = &self.graph.settings;
        if settings.timeout.is_some_and(|timeout| timeout.is_zero()) {
            self.say(code::POLICY_INVALID, "settings.timeout", "no run is done in no time");
        }
        self.too_long("settings.timeout", settings.timeout);
        if settings.concurrency.is_some_and(|n| n.get() > MAX_CONCURRENCY) {
            let message = format!("no more than {MAX_CONCURRENCY} calls run at once");
            self.say(code::POLICY_INVALID, "settings.concurrency", message);
        }
        if let Some(directory) = settings.checkpoint.as_ref().and_then(|c| c.directory.as_deref()) {
            self.said.extend(reach::refuse_state(directory, self.options.untrusted));
        }
        if let Some(limit) = settings.dead_letter_limit {
            let path = "settings.dead_letter_limit";
            if !(0.0..=1.0).contains(&limit.share) {
                let help = "write 0.05 for 5 %, or 1 for no limit".to_owned();
                self.say_with(code::POLICY_INVALID, join(path, "share"), "a share is from 0 to 1", help);
            }
            if limit.of.get() > DeadLetterLimit::MAX_OF {
                let message = format!("no more than the last {} items are counted", DeadLetterLimit::MAX_OF);
                self.say(code::POLICY_INVALID, join(path, "of"), message);
            }
        }
    }

    fn policies_of(&mut self, node: usize) {
        let (name, policies) = (self.nodes[node].name, &self.nodes[node].node.policies);
        let body_type = self.nodes[node].node.body.type_name();
        let given = [
            ("retry", policies.retry.is_some()),
            ("timeout", policies.timeout.is_some()),
            ("deadline", policies.deadline.is_some()),
            ("concurrency", policies.concurrency.is_some()),
            ("rate_limit", policies.rate_limit.is_some()),
            ("on_error", policies.on_error.is_some()),
            ("batch", policies.batch.is_some()),
            ("memo", policies.memo.is_some()),
            ("incremental", policies.incremental.is_some()),
            ("allow_empty", policies.allow_empty.is_some()),
        ];
        for (policy, _) in given
            .into_iter()
            .filter(|(policy, given)| *given && !applicable_policies(body_type).contains(policy))
        {
            let message = format!("node \"{name}\" is a {body_type}: it has no `{policy}`");
            let help = match applicable_policies(body_type) {
                [] => "put the policy on the nodes around it".to_owned(),
                some => format!("a {body_type} has {}", some.join(", ")),
            };
            self.say_with(code::POLICY_NOT_APPLICABLE, self.nodes[node].field(policy), message, help);
        }
        for (policy, why) in policies.idle(self.ways(node)) {
            let field = policy.rsplit_once('.').map_or(policy, |(_, field)| field);
            let path = join_path(&self.nodes[node].path(), policy);
            let message = format!("node \"{name}\": `{field}` would do nothing: {why}");
            self.say_with(code::POLICY_NOT_APPLICABLE, path, message, "remove it".to_owned());
        }
        let linger = policies.batch.and_then(|batch| batch.linger);
        self.too_long(&join(&self.nodes[node].field("batch"), "linger"), linger);
        for (policy, time) in [("timeout", policies.timeout), ("deadline", policies.deadline)] {
            self.too_long(&self.nodes[node].field(policy), time);
            if time == Some(Duration::ZERO) {
                self.say(
                    code::POLICY_INVALID,
                    self.nodes[node].field(policy),
                    format!("node \"{name}\": nothing is done in no time"),
                );
            }
        }
        if let Some(retry) = &policies.retry {
            self.retry(node, retry);
        }
        if policies.rate_limit == Some(RateLimit::default()) {
            let help = "say \"requests_per_minute\" or \"tokens_per_minute\"".to_owned();
            let message = format!("node \"{name}\": the rate limit limits nothing");
            self.say_with(code::POLICY_INVALID, self.nodes[node].field("rate_limit"), message, help);
        }
        if policies.concurrency.is_some_and(|n| n.get() > MAX_CONCURRENCY) {
            let message = format!("node \"{name}\": no more than {MAX_CONCURRENCY} calls run at once");
            self.say(code::POLICY_INVALID, self.nodes[node].field("concurrency"), message);
        }
        if body_type == "source" && policies.batch.is_some_and(|batch| batch.linger.is_some()) {
            let message = format!("source \"{name}\" makes batches and waits for none");
            let help = "put `linger` on the node that reads from it".to_owned();
            self.say_with(
                code::POLICY_NOT_APPLICABLE,
                join(&self.nodes[node].field("batch"), "linger"),
                message,
                help,
            );
        }
    }

    /// Returns how a node works, as far as that is known before it is built.
    fn ways(&self, node: usize) -> Ways {
        let node = &self.nodes[node];
        let Some(work) = &node.work else { return Ways::UNKNOWN };
        let calls = calls(work, node.connection.and_then(|at| self.connections.get(at)));
        match work {
            Work::Function(action) => Ways::of(action, calls),
            Work::Action(config) => {
                let (calls, keeps) = (calls != Calls::None, calls == Calls::Paid);
                let columnar = config.is_columnar();
                let side_by_side = calls || !columnar;
                Ways { calls, side_by_side, weighs: !columnar, keeps, ..Ways::UNKNOWN }
            }
            Work::Source { .. } | Work::Sink(_) => Ways { weighs: false, ..Ways::UNKNOWN },
            Work::Branch { .. } | Work::FanOut { .. } | Work::FanIn | Work::Spill(_) => Ways::UNKNOWN,
        }
    }

    fn too_long(&mut self, path: &str, time: Option<Duration>) {
        if time.is_some_and(|time| time > LONGEST) {
            let longest = humantime::format_duration(LONGEST);
            self.say(code::POLICY_INVALID, path, format!("this is longer than {longest}"));
        }
    }

    fn retry(&mut self, node: usize, retry: &Retry) {
        let (name, path) = (self.nodes[node].name, self.nodes[node].field("retry"));
        self.too_long(&join(&path, "initial"), Some(retry.initial));
        self.too_long(&join(&path, "max"), Some(retry.max));
        if retry.initial > retry.max {
            let message = format!("node \"{name}\": the first wait is longer than the longest");
            self.say_with(code::POLICY_INVALID, &path, message, "let `initial` be at most `max`".to_owned());
        }
        if retry.on.as_ref().is_some_and(Vec::is_empty) {
            let message = format!("node \"{name}\": no kind of error is tried again");
            let help = "leave `on` out, or set `max_attempts` to 1".to_owned();
            self.say_with(code::POLICY_INVALID, join(&path, "on"), message, help);
        }
    }

    /// Decides what becomes of items that fail, and draws the edges of `settings.dead_letter`.
    pub(super) fn dead_letters(&mut self) {
        let sink = self.dead_letter_sink();
        // A sink below the common one must not feed it: that would be a circle.
        let mut below = HashSet::new();
        let mut stack: Vec<usize> = sink.into_iter().collect();
        while let Some(node) = stack.pop() {
            if below.insert(node) {
                stack.extend(self.nodes[node].outputs.iter().map(|edge| self.edges[*edge].to));
            }
        }
        for node in 0..self.nodes.len() {
            if matches!(self.nodes[node].node.body, NodeBody::FanOut(_) | NodeBody::FanIn(_)) {
                continue;
            }
            let (name, said) = (self.nodes[node].name, self.nodes[node].node.policies.on_error);
            let port = self.nodes[node]
                .outputs
                .iter()
                .find(|edge| self.edges[**edge].port == Port::DeadLetter)
                .copied();
            let common = sink.filter(|_| !below.contains(&node));
            let on_error = match (said, port, common) {
                (None | Some(OnError::DeadLetter), Some(_), _) => OnError::DeadLetter,
                (None | Some(OnError::DeadLetter), None, Some(sink)) => {
                    self.link(node, Port::DeadLetter, sink, None);
                    OnError::DeadLetter
                }
                (Some(OnError::DeadLetter), None, None) => {
                    let hidden = self.broken.hides_inputs() || self.broken.has("settings.dead_letter");
                    if !hidden && !self.missed.contains(&node) {
                        let message =
                            format!("what fails at node \"{name}\" goes to dead letters that nobody reads");
                        let help = format!(
                            "let a sink read from \"{name}.dead_letter\", or name one in settings.dead_letter"
                        );
                        self.say_with(
                            code::DEAD_LETTER_UNREAD,
                            self.nodes[node].field("on_error"),
                            message,
                            help,
                        );
                    }
                    OnError::DeadLetter
                }
                (Some(said), Some(port), _) => {
                    let (to, input) = (self.edges[port].to, self.edges[port].input.unwrap_or_default());
                    let what = if said == OnError::Fail { "fails as a whole" } else { "drops what fails" };
                    let message = format!("\"{name}.dead_letter\" gives nothing: node \"{name}\" {what}");
                    let help =
                        format!("write \"on_error\": \"dead_letter\" in node \"{name}\", or leave it out");
                    self.say_with(code::DEAD_LETTER_NEVER, self.nodes[to].input(input), message, help);
                    said
                }
                (None, None, None) => OnError::Fail,
                (Some(said), None, _) => said,
            };
            self.nodes[node].on_error = on_error;
        }
    }

    fn dead_letter_sink(&mut self) -> Option<usize> {
        let name = self.graph.settings.dead_letter.as_deref()?;
        let is_sink = |node: &usize| matches!(self.nodes[*node].node.body, NodeBody::Sink(_));
        let sink = self.index.get(name).copied().filter(is_sink);
        if sink.is_some() || self.broken.nodes.contains(name) || self.broken.has("nodes") {
            return sink;
        }
        let sinks: Vec<&str> =
            (0..self.nodes.len()).filter(is_sink).map(|node| self.nodes[node].name).collect();
        let help = match self.nearest(name, sinks.iter().copied()) {
            Some(near) => Some(did_you_mean(near)),
            None if sinks.is_empty() => None,
            None => Some(format!("the sinks are {}", quoted(sinks))),
        };
        let message = match self.index.contains_key(name) {
            true => format!("node \"{name}\" is no sink: it cannot take dead letters for all"),
            false => format!("there is no sink \"{}\" to take the dead letters", shown(name)),
        };
        self.say_with(code::DEAD_LETTER_NO_SINK, "settings.dead_letter", message, help);
        None
    }

    /// Says so where the batches that nodes wait for, along one path, hold more items than a
    /// source may read ahead: they would wait for ever.
    pub(super) fn spans(&mut self, order: &[usize]) {
        let span = (self.graph.settings.checkpoint.as_ref())
            .and_then(|checkpoint| checkpoint.uncommitted_items)
            .map_or(DEFAULT_UNCOMMITTED_ITEMS, std::num::NonZeroU64::get);
        let mut held = vec![0_u64; self.nodes.len()];
        for &node in order {
            let before =
                self.nodes[node].inputs.iter().map(|edge| held[self.edges[*edge].from]).max().unwrap_or(0);
            let is_source = matches!(self.nodes[node].node.body, NodeBody::Source(_));
            let items = said_of_batches(self.nodes[node].node).items.map_or(0, |items| items.get() as u64);
            held[node] = if is_source { 0 } else { before.saturating_add(items) };
            if is_source && items > span || before <= span && held[node] > span {
                let most = if is_source { items } else { held[node] };
                let message = format!(
                    "node \"{}\": batches on the way to here hold {most} items, and a source may read {span} ahead of what is settled",
                    self.nodes[node].name
                );
                let help =
                    "make the batches smaller, or raise settings.checkpoint.uncommitted_items".to_owned();
                let field = if self.nodes[node].node.policies.batch.is_some() { "batch" } else { "config" };
                let path = join(&self.nodes[node].field(field), "items");
                self.say_with(code::BATCH_EXCEEDS_SPAN, path, message, help);
            }
        }
    }
}
