//! From a graph to a plan: parse, validate, plan. Pure: nothing is opened, nothing awaited.
//!
//! 1. *parse*: JSON to a [`Graph`]; each error with path, line and column.
//! 2. *validate*: all problems at once, each a [`Diagnostic`].
//! 3. *plan*: an immutable [`ExecutionPlan`] with everything resolved.

mod assemble;
mod diagnostic;
mod explain;
mod json;
mod parse;
mod picture;
pub(crate) mod plan;
mod reach;
mod validate;

pub(crate) use self::assemble::DEFAULT_UNCOMMITTED_ITEMS;
pub use self::diagnostic::{Diagnostic, Diagnostics, code};
pub(crate) use self::explain::number;
pub use self::plan::{DeliveryGuarantee, ExecutionPlan};

use self::json::Json;
use self::parse::Broken;
use crate::graph::Graph;
use crate::registry::Registry;

/// The most problems that are reported at once.
const MAX_DIAGNOSTICS: usize = 1_000;

/// How a graph is compiled.
#[derive(Clone, Copy, Debug, Default)]
pub struct CompileOptions {
    /// Whether the graph comes from a stranger: local files and private addresses are refused,
    /// and so is what would take this process much memory or time.
    pub untrusted: bool,
    /// Whether there are no secrets: a graph that names one is refused, whether or not this
    /// process knows it.
    pub without_secrets: bool,
}

impl CompileOptions {
    /// Options for a graph that comes from a stranger, who is given no secrets.
    #[must_use]
    pub fn untrusted() -> Self {
        Self { untrusted: true, without_secrets: true }
    }
}

/// Compiles a graph.
///
/// # Errors
///
/// All that is wrong with it.
pub fn compile(
    graph: &Graph,
    registry: &Registry,
    options: &CompileOptions,
) -> Result<ExecutionPlan, Diagnostics> {
    match validate::validate(graph, registry, options, &Broken::default()) {
        (Some(draft), diagnostics) if diagnostics.is_empty() => Ok(assemble::assemble(graph, draft)),
        (_, diagnostics) => Err(bounded(diagnostics)),
    }
}

/// Reads a graph from JSON and compiles it.
///
/// # Errors
///
/// All that is wrong with it, each with line and column, also where parts of it cannot be read.
pub fn compile_json(
    text: &str,
    registry: &Registry,
    options: &CompileOptions,
) -> Result<ExecutionPlan, Diagnostics> {
    let json = Json::parse(text).map_err(|diagnostic| Diagnostics::new(vec![*diagnostic]))?;
    let parse::Draft { graph, broken, mut diagnostics } = parse::Draft::read(&json);
    let (draft, more) = validate::validate(&graph, registry, options, &broken);
    diagnostics.extend(more);
    match draft {
        Some(draft) if diagnostics.is_empty() => Ok(assemble::assemble(&graph, draft)),
        _ => {
            diagnostics.truncate(MAX_DIAGNOSTICS + 1);
            parse::locate(&mut diagnostics, &json, text);
            Err(bounded(diagnostics))
        }
    }
}

fn bounded(mut diagnostics: Vec<Diagnostic>) -> Diagnostics {
    if diagnostics.len() > MAX_DIAGNOSTICS {
        diagnostics.truncate(MAX_DIAGNOSTICS);
        let message = format!("there are more than {MAX_DIAGNOSTICS} problems: these are the first");
        diagnostics.push(Diagnostic::new(code::GRAPH_TOO_LARGE, "", message));
    }
    if diagnostics.is_empty() {
        diagnostics.push(Diagnostic::new(code::GRAPH_INVALID, "", "the graph has no plan"));
    }
    Diagnostics::new(diagnostics)
}
