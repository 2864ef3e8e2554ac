//! Shows on a terminal how a run stands.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use futures::StreamExt;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::engine::{NodeProgress, NodeStatus, Progress, RunHandle};

/// How often bars move.
const BAR_EVERY: Duration = Duration::from_millis(100);
/// How often a line is written where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Shows how a run stands, on standard error, until it ends: a bar a node on a terminal, which
/// go away at the end; elsewhere a line every two seconds, and one at the end.
///
/// What cannot be written is not shown; the run goes on. Dropping the future stops the show and
/// does nothing to the run.
///
/// # Examples
///
/// ```no_run
/// # use nvisy_runtime::{Engine, progress};
/// # async fn run(engine: Engine, graph: nvisy_runtime::graph::Graph) -> nvisy_core::Result<()> {
/// let run = engine.start(&graph).await?;
/// progress::show(&run).await;
/// println!("{}", run.wait().await?);
/// # Ok(())
/// # }
/// ```
pub fn show(run: &RunHandle) -> impl Future<Output = ()> + Send + use<> {
    let on_terminal = io::stderr().is_terminal();
    let snapshots = run.progress(if on_terminal { BAR_EVERY } else { LINE_EVERY });
    async move {
        let mut snapshots = std::pin::pin!(snapshots);
        if on_terminal {
            let mut bars = Bars::new(ProgressDrawTarget::stderr());
            while let Some(progress) = snapshots.next().await {
                bars.update(&progress);
            }
        } else {
            while let Some(progress) = snapshots.next().await {
                line(&progress, &mut io::stderr());
            }
        }
    }
}

/// Writes a snapshot as a line. Of a run that has just begun there is nothing to say yet.
fn line(progress: &Progress, to: &mut impl Write) {
    if progress.done || progress.elapsed >= LINE_EVERY / 2 {
        // Nobody may be reading.
        let _ = writeln!(to, "{progress}");
    }
}

/// A bar a node. They go away when this is dropped.
struct Bars {
    all: MultiProgress,
    nodes: Vec<ProgressBar>,
}

impl Bars {
    fn new(target: ProgressDrawTarget) -> Self {
        Self { all: MultiProgress::with_draw_target(target), nodes: Vec::new() }
    }

    fn update(&mut self, progress: &Progress) {
        if self.nodes.is_empty() {
            let width = progress.nodes.iter().map(|node| node.name.chars().count()).max().unwrap_or(0);
            self.nodes = progress.nodes.iter().map(|node| self.all.add(bar(node, width))).collect();
        }
        let rate = format!("{:.0}/s", progress.rate);
        for (bar, node) in self.nodes.iter().zip(&progress.nodes) {
            if let Some(expected) = node.expected {
                if bar.length().is_none() {
                    bar.set_style(style(true));
                }
                bar.set_length(expected.max(node.received));
            }
            bar.set_position(node.received);
            bar.set_message(match (node.expected, progress.eta) {
                (Some(_), Some(eta)) if eta >= Duration::from_secs(1) => {
                    format!("{} {rate}, {:.0} s left", words(node), eta.as_secs_f64())
                }
                (Some(_), _) => format!("{} {rate}", words(node)),
                (None, _) => words(node),
            });
            bar.tick();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.nodes.iter().for_each(ProgressBar::finish_and_clear);
        // The terminal is gone if this fails.
        let _ = self.all.clear();
    }
}

fn bar(node: &NodeProgress, width: usize) -> ProgressBar {
    ProgressBar::no_length().with_prefix(format!("{:width$}", node.name)).with_style(style(false))
}

/// A bar where it is known how much there is, else a count.
fn style(is_bar: bool) -> ProgressStyle {
    let template = if is_bar {
        "{prefix:.bold} {bar:24.cyan/dim} {human_pos:>11} of {human_len} {msg:.dim}"
    } else {
        "{prefix:.bold} {spinner:.cyan} {human_pos:>11} {msg:.dim}"
    };
    // The templates are constants: a test reads them.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─")
}

/// What is worth saying of a node beside how much came in.
fn words(node: &NodeProgress) -> String {
    let mut words = match node.status {
        NodeStatus::Waiting | NodeStatus::Running => String::new(),
        status => status.to_string(),
    };
    let counts = [
        (node.dropped, "dropped"),
        (node.dead_lettered, "set aside"),
        (node.failed, "failed"),
        (node.retries, "retries"),
    ];
    for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
        if !words.is_empty() {
            words.push_str(", ");
        }
        words.push_str(&format!("{count} {what}"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(received: u64, expected: Option<u64>) -> NodeProgress {
        NodeProgress {
            name: "read".into(),
            status: NodeStatus::Running,
            received,
            emitted: received,
            absorbed: 0,
            dropped: 0,
            dead_lettered: 0,
            failed: 0,
            retries: 0,
            in_flight: 0,
            expected,
        }
    }

    fn snapshot(node: NodeProgress) -> Progress {
        let (expected, eta) = (node.expected, None);
        Progress {
            elapsed: Duration::from_secs(node.received),
            nodes: vec![node],
            rate: 5.0,
            expected,
            eta,
            done: false,
        }
    }

    #[test]
    fn a_bar_follows_its_node() {
        for expected in [None, Some(3)] {
            let mut bars = Bars::new(ProgressDrawTarget::hidden());
            bars.update(&snapshot(node(2, expected)));
            assert_eq!(bars.nodes[0].position(), 2);
            assert_eq!(bars.nodes[0].length(), expected);
        }
    }

    #[test]
    fn a_line_is_written_as_soon_as_there_is_something_to_say() {
        let mut text = Vec::new();
        line(&snapshot(node(0, None)), &mut text);
        assert!(text.is_empty());
        line(&snapshot(node(7, None)), &mut text);
        assert_eq!(String::from_utf8(text).unwrap(), "7.0 s | read 7 | 5/s\n");
    }

    #[test]
    fn what_went_wrong_stands_beside_the_count() {
        let mut node = node(9, None);
        (node.dropped, node.failed) = (2, 1);
        assert_eq!(words(&node), "2 dropped, 1 failed");
        node.status = NodeStatus::Failed;
        assert_eq!(words(&node), "failed, 2 dropped, 1 failed");
    }
}
