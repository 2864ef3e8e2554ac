//! A plan in words, for people and for tests.

use std::fmt::{self, Write};
use std::time::Duration;

use nvisy_core::action::Calls;
use nvisy_core::{BatchLimits, Increments};

use super::assemble::{default_concurrency, default_retry};
use super::plan::{
    Delivery, DeliveryGuarantee, ExecutionPlan, PlanConnection, PlanNode, PlanParts, Port, Work,
};
use crate::graph::{Backoff, OnError, RateLimit, Retry};

impl ExecutionPlan {
    /// Returns the plan in words: nodes in order with types, kinds, batches and what of their
    /// policies is not the default; connections with their limits; what each source and sink
    /// give together, and why.
    #[must_use]
    pub fn explain(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = explain(&self.0, &mut text);
        text
    }
}

fn explain(plan: &PlanParts, out: &mut String) -> fmt::Result {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (nodes, edges) = (count(plan.nodes.len(), "node"), count(plan.edges.len(), "edge"));
    write!(
        out,
        "graph \"{}\": {nodes}, {edges}, at most {}",
        plan.graph.name,
        count(plan.concurrency, "call")
    )?;
    out.push_str(" at once");
    if let Some(timeout) = plan.timeout {
        write!(out, ", for at most {}", time(timeout))?;
    }
    out.push('\n');
    if let Some(items) = plan.uncommitted_items {
        writeln!(out, "a source reads at most {} items ahead of what is settled", number(items))?;
    }
    if let Some(directory) = plan.graph.settings.checkpoint.as_ref().and_then(|c| c.directory.as_deref()) {
        writeln!(out, "the run keeps what it needs to go on in \"{directory}\"")?;
    }
    if let Some(limit) = plan.graph.settings.dead_letter_limit {
        match limit.most() {
            Some(most) => writeln!(
                out,
                "a node sets at most {most} of its last {} items aside",
                number(limit.of.get().into())
            )?,
            None => writeln!(out, "a node may set aside everything")?,
        }
    }
    for (node, behind_versions) in plan.nodes.iter().zip(plan.behind_versions()) {
        out.push('\n');
        explain_node(plan, node, behind_versions, out)?;
    }
    if !plan.connections.is_empty() {
        out.push_str("\nconnections\n");
        for connection in &plan.connections {
            explain_connection(connection, out)?;
        }
    }
    out.push_str("\nwhat arrives\n");
    for delivery in &plan.deliveries {
        explain_delivery(delivery, out)?;
    }
    Ok(())
}

fn explain_node(plan: &PlanParts, node: &PlanNode, behind_versions: bool, out: &mut String) -> fmt::Result {
    write!(out, "{}: {}", node.name, type_name(&node.work))?;
    if *node.operation != *type_name(&node.work) {
        write!(out, " {}", node.operation)?;
    }
    if let Some(connection) = node.connection.and_then(|index| plan.connections.get(index)) {
        write!(out, " on {}", connection.name)?;
    }
    if !node.inputs.is_empty() {
        let inputs: Vec<_> = node.inputs.iter().map(|edge| input(plan, *edge)).collect();
        write!(out, " from {}", inputs.join(", "))?;
    }
    out.push('\n');
    match &node.work {
        Work::Source { key, .. } => {
            writeln!(out, "  gives {}", node.output_kinds)?;
            if let Some(key) = key {
                writeln!(out, "  key: {}", key.text())?;
            }
            match node.incremental {
                Some(Increments::Versions) => {
                    let empty = if node.allow_empty { ", also where nothing is left" } else { "" };
                    writeln!(out, "  reads what is new or has changed{empty}")?;
                }
                Some(Increments::Appends) => writeln!(out, "  reads on behind where the last run ended")?,
                None => {}
            }
        }
        Work::Sink(config) => {
            writeln!(out, "  takes {}", node.input_kinds)?;
            if behind_versions && config.replaces() {
                writeln!(out, "  deletes what is stale of what has changed or is gone")?;
            }
        }
        Work::Branch { routes, default } => {
            let columnar = routes.iter().all(|(_, when)| when.is_columnar());
            writeln!(out, "  {}, {}", node.output_kinds, manner(columnar))?;
            for (route, when) in routes {
                writeln!(out, "  {route}: {}", when.text())?;
            }
            match default {
                Some(default) => writeln!(out, "  {default}: what is left")?,
                None => writeln!(out, "  drops what is left")?,
            }
        }
        Work::FanOut { best_effort, .. } => {
            let copies = node.outputs.iter().filter(|(port, _)| *port == Port::Out).enumerate();
            let copies = copies.map(|(i, (_, edge))| {
                let reader = &plan.nodes[plan.edges[*edge].to];
                match &reader.work {
                    _ if best_effort.contains(&i) => format!("{} (best effort)", reader.name),
                    Work::Spill(_) => format!("{} (spill)", plan.nodes[behind(plan, reader)].name),
                    _ => reader.name.to_string(),
                }
            });
            writeln!(out, "  {} to {}", node.output_kinds, copies.collect::<Vec<_>>().join(", "))?;
        }
        Work::FanIn => writeln!(out, "  {}", node.output_kinds)?,
        Work::Spill(policy) => {
            let reader = &plan.nodes[behind(plan, node)].name;
            let [memory, disk] = [policy.memory(), policy.disk()].map(amount);
            writeln!(out, "  {} to {reader}", node.output_kinds)?;
            writeln!(out, "  keeps what {reader} has yet to take: {memory} in memory, {disk} on disk")?;
        }
        Work::Action(config) => {
            let manner = manner(config.is_columnar());
            writeln!(out, "  {} → {}, {manner}", node.input_kinds, node.output_kinds)?;
        }
        Work::Function(_) => {
            writeln!(out, "  {} → {}, {}", node.input_kinds, node.output_kinds, manner(false))?
        }
    }
    policies(node, out)
}

fn policies(node: &PlanNode, out: &mut String) -> fmt::Result {
    let is_source = matches!(node.work, Work::Source { .. });
    if is_source || node.gather.is_some() {
        let verb = if is_source { "makes batches of" } else { "joins batches up to" };
        write!(out, "  {verb} {}", batch(node.limits))?;
        if let Some(linger) = node.gather.and_then(|gather| gather.linger) {
            write!(out, ", waits {} for them", time(linger))?;
        }
        out.push('\n');
    }
    if node.calls == Calls::Paid {
        out.push_str(match node.memo {
            true => "  pays for its calls, and keeps what they give\n",
            false => "  pays for its calls\n",
        });
    }
    if node.concurrency != default_concurrency(&node.work, node.calls) {
        writeln!(out, "  at most {} calls at once", node.concurrency)?;
    }
    if node.retry != default_retry(node.calls) {
        writeln!(out, "  {}", retry(&node.retry))?;
    }
    if let Some(timeout) = node.timeout {
        writeln!(out, "  an attempt takes at most {}", time(timeout))?;
    }
    if let Some(deadline) = node.deadline {
        writeln!(out, "  works for at most {}", time(deadline))?;
    }
    if let Some(limit) = &node.rate_limit {
        writeln!(out, "  at most {}", rate(limit))?;
    }
    match node.on_error {
        OnError::Fail => Ok(()),
        OnError::DeadLetter => writeln!(out, "  sets aside what fails"),
        OnError::Drop => writeln!(out, "  drops what fails"),
    }
}

fn explain_connection(connection: &PlanConnection, out: &mut String) -> fmt::Result {
    write!(out, "  {}: {}", connection.name, connection.operation)?;
    if let Some(limit) = &connection.rate_limit {
        write!(out, ", at most {}", rate(limit))?;
    }
    out.push('\n');
    Ok(())
}

fn explain_delivery(delivery: &Delivery, out: &mut String) -> fmt::Result {
    let guarantee = match delivery.guarantee {
        DeliveryGuarantee::AtMostOnce => "at most once",
        DeliveryGuarantee::AtLeastOnce => "at least once",
        DeliveryGuarantee::ExactlyOnceEffect => "exactly once in effect",
    };
    writeln!(out, "  {} → {}: {guarantee}: {}", delivery.source, delivery.sink, delivery.because)
}

pub(super) fn type_name(work: &Work) -> &'static str {
    match work {
        Work::Source { .. } => "source",
        Work::Action(_) | Work::Function(_) => "action",
        Work::Sink(_) => "sink",
        Work::Branch { .. } => "branch",
        Work::FanOut { .. } => "fan_out",
        Work::FanIn => "fan_in",
        Work::Spill(_) => "spill",
    }
}

fn input(plan: &PlanParts, edge: usize) -> String {
    let edge = &plan.edges[edge];
    let from = &plan.nodes[edge.from].name;
    match &edge.port {
        Port::Out => from.to_string(),
        Port::Route(route) => format!("{from}.{route}"),
        Port::DeadLetter => format!("{from}.dead_letter"),
    }
}

/// Returns the one node that reads from a buffer.
fn behind(plan: &PlanParts, buffer: &PlanNode) -> usize {
    buffer.outputs.first().map_or(0, |(_, edge)| plan.edges[*edge].to)
}

/// Writes an amount of bytes as graphs do.
fn amount(bytes: u64) -> String {
    let written = nvisy_core::config::bytes::serialize(&bytes, serde_json::value::Serializer);
    written.ok().and_then(|written| Some(written.as_str()?.to_owned())).unwrap_or_default()
}

fn manner(columnar: bool) -> &'static str {
    if columnar { "in columns" } else { "item by item" }
}

fn batch(limits: BatchLimits) -> String {
    let mut text = format!("{} items or {}", number(limits.items as u64), bytes(limits.bytes));
    if let Some(tokens) = limits.tokens {
        text.push_str(&format!(" or {} tokens", number(tokens)));
    }
    text
}

fn retry(retry: &Retry) -> String {
    if retry.max_attempts.get() == 1 {
        return "tries once".to_owned();
    }
    let mut text = format!("tries {} times, after {}", retry.max_attempts, time(retry.initial));
    if retry.backoff == Backoff::Exponential {
        text.push_str(&format!(", doubled up to {}", time(retry.max)));
    }
    if retry.jitter {
        text.push_str(", with jitter");
    }
    if let Some(kinds) = &retry.on {
        let kinds: Vec<_> = kinds.iter().map(|kind| kind.tag()).collect();
        text.push_str(&format!(", after {}", kinds.join(" or ")));
    }
    text
}

fn rate(limit: &RateLimit) -> String {
    let requests = limit.requests_per_minute.map(|n| format!("{} requests", number(n.get())));
    let tokens = limit.tokens_per_minute.map(|n| format!("{} tokens", number(n.get())));
    let both: Vec<_> = requests.into_iter().chain(tokens).collect();
    format!("{} a minute", both.join(" and "))
}

fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn bytes(bytes: usize) -> String {
    match bytes {
        usize::MAX => "any number of bytes".to_owned(),
        n if n >= 1 << 20 && n.is_multiple_of(1 << 20) => format!("{} MiB", number((n >> 20) as u64)),
        n if n >= 1 << 10 && n.is_multiple_of(1 << 10) => format!("{} KiB", number((n >> 10) as u64)),
        n => format!("{} bytes", number(n as u64)),
    }
}

/// Writes a number with commas: `65,536`.
pub(crate) fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        for (n, text) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (65_536, "65,536"), (1_000_000, "1,000,000")]
        {
            assert_eq!(number(n), text);
        }
        assert_eq!(
            (bytes(1 << 20), bytes(1 << 10), bytes(1_000)),
            ("1 MiB".into(), "1 KiB".into(), "1,000 bytes".into())
        );
    }
}
