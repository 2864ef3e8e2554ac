//! Incremental sources: that each can tell what has changed, and that no stale item stays.

use nvisy_core::Increments;

use super::{Check, quoted};
use crate::compiler::diagnostic::code;
use crate::compiler::plan::{Port, Work};

impl Check<'_> {
    pub(super) fn incremental(&mut self) {
        for node in 0..self.nodes.len() {
            let Some(Work::Source { config, .. }) = &self.nodes[node].work else { continue };
            let (name, policies) = (self.nodes[node].name, &self.nodes[node].node.policies);
            let (increments, path) = (config.increments(), self.nodes[node].field("incremental"));
            let deletes = policies.incremental == Some(true) && increments != Ok(Increments::Appends);
            if policies.allow_empty == Some(true) && !deletes {
                let path = self.nodes[node].field("allow_empty");
                let message = format!(
                    "source \"{name}\": `allow_empty` would do nothing: of what is gone there, nothing is deleted"
                );
                let help = "remove it, or say `incremental` of a source that tells what has changed";
                self.say_with(code::POLICY_NOT_APPLICABLE, path, message, help.to_owned());
            }
            if policies.incremental != Some(true) {
                continue;
            }
            match increments {
                Err(why) => {
                    let message = format!("source \"{name}\" cannot be read incrementally: {why}");
                    self.say_with(code::POLICY_NOT_APPLICABLE, path, message, "remove it".to_owned());
                }
                Ok(Increments::Appends) => {}
                Ok(Increments::Versions) => {
                    let (stale, buffers) = self.behind_what_changes(node);
                    let sinks = (!stale.is_empty()).then(|| quoted(stale.iter().copied()));
                    let buffers = (!buffers.is_empty()).then(|| quoted(buffers.iter().copied()));
                    if let Some(buffers) = buffers {
                        let message = format!(
                            "source \"{name}\" cannot be read incrementally: {buffers} keeps what its readers have yet to take, so that nobody knows when all of a file is written"
                        );
                        let help = "remove `spill` there, or `incremental` here";
                        self.say_with(code::INCREMENTAL_SINK, path.clone(), message, help.to_owned());
                    }
                    if let Some(sinks) = sinks {
                        let message = format!(
                            "source \"{name}\" cannot be read incrementally: of what changes there, {sinks} would keep what is stale"
                        );
                        let help = "write to a sink that replaces, such as \"sql/sqlite\" with `upsert` or \"vector/sqlite\", or remove it";
                        self.say_with(code::INCREMENTAL_SINK, path, message, help.to_owned());
                    }
                }
            }
        }
    }

    /// Returns the sinks that have to have what a source reads, and can delete nothing of it, and the
    /// fan-outs on the way that keep it for a while.
    fn behind_what_changes(&self, source: usize) -> (Vec<&str>, Vec<&str>) {
        let (mut open, mut seen) = (vec![source], vec![false; self.nodes.len()]);
        let (mut sinks, mut buffers) = (Vec::new(), Vec::new());
        while let Some(index) = open.pop() {
            if std::mem::replace(&mut seen[index], true) {
                continue;
            }
            let node = &self.nodes[index];
            let best_effort: &[usize] = match &node.work {
                Some(Work::Sink(config)) if !config.replaces() => {
                    sinks.push(node.name);
                    &[]
                }
                Some(Work::FanOut { best_effort, spill }) => {
                    buffers.extend((!spill.is_empty()).then_some(node.name));
                    best_effort
                }
                _ => &[],
            };
            let onward = node.outputs.iter().map(|edge| &self.edges[*edge]);
            let onward = onward.filter(|edge| edge.port != Port::DeadLetter).enumerate();
            open.extend(onward.filter(|(at, _)| !best_effort.contains(at)).map(|(_, edge)| edge.to));
        }
        sinks.sort_unstable();
        (sinks, buffers)
    }
}
