//! Kinds: what flows along each edge, and whether the node at its end takes that.

use nvisy_core::{KindId, Kinds};

use super::{Check, join};
use crate::compiler::diagnostic::code;
use crate::compiler::plan::{Port, Work};

impl Check<'_> {
    pub(super) fn kinds(&mut self, order: &[usize]) {
        for &node in order {
            let takes = self.takes(node);
            let given: Vec<Option<Kinds>> =
                self.nodes[node].inputs.iter().map(|edge| self.given(*edge)).collect();
            if let Some(takes) = takes {
                for (edge, given) in self.nodes[node].inputs.clone().into_iter().zip(&given) {
                    if let Some(given) = *given {
                        self.edge_kinds(edge, given, takes);
                    }
                }
            }
            let all = given.into_iter().try_fold(Kinds::NONE, |all, given| Some(all.union(given?)));
            let all = if self.nodes[node].fed { all } else { None };
            // Where what comes in is unknown or wrong, the node's own word is the next best.
            let known = match (all, takes) {
                (Some(all), Some(takes)) if takes != Kinds::ANY && !takes.contains_all(all) => Some(takes),
                (None, Some(takes)) if takes != Kinds::ANY => Some(takes),
                (all, _) => all,
            };
            self.expressions(node, all);
            self.nodes[node].input_kinds = known;
            self.nodes[node].output_kinds = self.gives(node, known);
        }
    }

    /// Returns what flows along an edge.
    fn given(&self, edge: usize) -> Option<Kinds> {
        let edge = &self.edges[edge];
        match edge.port {
            Port::DeadLetter => Some(Kinds::of(KindId::Raw)),
            Port::Out | Port::Route(_) => self.nodes[edge.from].output_kinds,
        }
    }

    fn takes(&self, node: usize) -> Option<Kinds> {
        Some(match self.nodes[node].work.as_ref()? {
            Work::Source { .. } => Kinds::NONE,
            Work::Action(config) => config.input_kinds(),
            Work::Function(_) => self.nodes[node].function_kinds?.0,
            Work::Sink(config) => config.input_kinds(),
            Work::Branch { .. } | Work::FanOut { .. } | Work::FanIn | Work::Spill(_) => Kinds::ANY,
        })
    }

    fn gives(&self, node: usize, input: Option<Kinds>) -> Option<Kinds> {
        Some(match self.nodes[node].work.as_ref()? {
            Work::Source { config, .. } => config.output_kinds(),
            Work::Action(config) => config.output_kinds(input?),
            Work::Function(_) => self.nodes[node].function_kinds?.1,
            Work::Sink(_) => Kinds::NONE,
            Work::Branch { .. } | Work::FanOut { .. } | Work::FanIn | Work::Spill(_) => input?,
        })
    }

    /// Says so if a node cannot take what an edge brings. What may be any kind is looked at
    /// item by item when it comes.
    fn edge_kinds(&mut self, edge: usize, given: Kinds, takes: Kinds) {
        if takes.contains_all(given) || given == Kinds::ANY && !takes.is_empty() {
            return;
        }
        let edge = &self.edges[edge];
        let (from, to) = (&self.nodes[edge.from], &self.nodes[edge.to]);
        let output = match &edge.port {
            Port::Out => from.name.to_owned(),
            Port::Route(route) => format!("{}.{route}", from.name),
            Port::DeadLetter => format!("{}.dead_letter", from.name),
        };
        // What a type would take, its config may leave out by what it reads.
        let reads = matches!(&to.work, Some(Work::Action(config)) if config.type_kinds().contains_all(given));
        let verb = if reads { "reads" } else { "takes" };
        let message = format!("node \"{}\" {verb} {takes}, but \"{output}\" gives {given}", to.name);
        let path = match edge.input {
            Some(input) => to.input(input),
            None => "settings.dead_letter".to_owned(),
        };
        let help = takes.iter().next().filter(|_| takes != Kinds::ANY).map(|kind| {
            let fields = given.iter().next().map_or("item", KindId::name);
            let first =
                if reads { format!("read `{fields}` in its expressions, or ") } else { String::new() };
            format!(
                "{first}put a convert in between: {{ \"type\": \"action\", \"use\": \"convert\", \"inputs\": [\"{output}\"], \"config\": {{ \"to\": \"{kind}\" }} }}"
            )
        });
        self.say_with(code::KIND_MISMATCH, path, message, help);
    }

    /// Says so if an expression reads what the items that it sees do not have.
    fn expressions(&mut self, node: usize, input: Option<Kinds>) {
        let mut wrong = Vec::new();
        match &self.nodes[node].work {
            Some(Work::Source { config, key: Some(key) }) if !key.kinds().overlaps(config.output_kinds()) => {
                wrong.push((self.nodes[node].field("key"), key.kinds(), config.output_kinds()));
            }
            Some(Work::Branch { routes, .. }) => {
                let Some(input) = input.filter(|input| !input.is_empty()) else { return };
                let path = self.nodes[node].field("routes");
                let routes = routes.iter().filter(|(_, when)| !when.kinds().overlaps(input));
                wrong.extend(routes.map(|(route, when)| (join(&path, route), when.kinds(), input)));
            }
            _ => {}
        }
        for (path, reads, sees) in wrong {
            let message = format!("the expression reads {reads}, but what it sees is {sees}");
            self.say(code::KIND_MISMATCH, path, message);
        }
    }
}
