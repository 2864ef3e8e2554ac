//! The order of the nodes: cycles named in full, nodes that nothing reaches.

use std::collections::HashSet;

use petgraph::algo::kosaraju_scc;
use petgraph::graph::DiGraph;

use super::Check;
use crate::compiler::diagnostic::code;
use crate::graph::NodeBody;

impl Check<'_> {
    /// Returns the nodes, each behind those that feed it, or says which feed each other.
    ///
    /// The order is that of the names where edges leave it open, and runs down a chain before
    /// it begins another one: it does not depend on the order in which nodes were written.
    pub(super) fn order(&mut self) -> Option<Vec<usize>> {
        let mut waiting: Vec<usize> = self.nodes.iter().map(|node| node.inputs.len()).collect();
        let by_name =
            |nodes: &mut Vec<usize>| nodes.sort_by(|a, b| self.nodes[*b].name.cmp(self.nodes[*a].name));
        let mut ready: Vec<usize> = (0..self.nodes.len()).filter(|node| waiting[*node] == 0).collect();
        by_name(&mut ready);
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(node) = ready.pop() {
            order.push(node);
            let mut next = Vec::new();
            for edge in &self.nodes[node].outputs {
                let to = self.edges[*edge].to;
                waiting[to] -= 1;
                if waiting[to] == 0 {
                    next.push(to);
                }
            }
            by_name(&mut next);
            ready.extend(next);
        }
        if order.len() == self.nodes.len() {
            self.unreachable();
            return Some(order);
        }
        let ordered: HashSet<usize> = order.into_iter().collect();
        self.cycles(&ordered);
        None
    }

    fn cycles(&mut self, ordered: &HashSet<usize>) {
        let edges = self.edges.iter().map(|edge| (edge.from as u32, edge.to as u32));
        let graph = DiGraph::<(), ()>::from_edges(edges);
        let mut cycles: Vec<Vec<usize>> = kosaraju_scc(&graph)
            .into_iter()
            .map(|part| part.into_iter().map(|node| node.index()).collect::<Vec<_>>())
            .filter(|part| part.len() > 1 || self.feeds(part[0], part[0]))
            .map(|part| self.cycle(&part))
            .collect();
        cycles.sort_by_key(|cycle| self.nodes[cycle[0]].name);
        let mut inside = HashSet::new();
        for cycle in cycles {
            inside.extend(cycle.iter().copied());
            let names: Vec<_> = cycle.iter().chain(&cycle[..1]).map(|node| self.nodes[*node].name).collect();
            let message = format!("nodes feed each other in a circle: {}", names.join(" → "));
            let help = "take one of these edges out: what flows in a graph never comes back".to_owned();
            let path = self.nodes[cycle[0]].field("inputs");
            self.say_with(code::GRAPH_CYCLE, path, message, help);
        }
        for node in (0..self.nodes.len()).filter(|node| !ordered.contains(node)) {
            if inside.contains(&node) || self.is_in_cycle(node, &inside) {
                continue;
            }
            let message = format!(
                "no source reaches node \"{}\": what feeds it stands behind a circle",
                self.nodes[node].name
            );
            self.say(code::NODE_UNREACHABLE, self.nodes[node].path(), message);
        }
    }

    fn feeds(&self, from: usize, to: usize) -> bool {
        self.nodes[from].outputs.iter().any(|edge| self.edges[*edge].to == to)
    }

    /// Returns whether a node feeds one of a circle, and is fed by one: part of a larger knot.
    fn is_in_cycle(&self, node: usize, inside: &HashSet<usize>) -> bool {
        let feeds = self.nodes[node].outputs.iter().any(|edge| inside.contains(&self.edges[*edge].to));
        feeds && self.nodes[node].inputs.iter().any(|edge| inside.contains(&self.edges[*edge].from))
    }

    /// Returns one circle through a knot of nodes that all reach each other, from the first name.
    fn cycle(&self, part: &[usize]) -> Vec<usize> {
        let members: HashSet<usize> = part.iter().copied().collect();
        let Some(start) = part.iter().copied().min_by_key(|node| self.nodes[*node].name) else {
            return Vec::new();
        };
        // Breadth first from the start: the first way back is a shortest one.
        let mut came_from = std::collections::HashMap::new();
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for edge in &self.nodes[node].outputs {
                let to = self.edges[*edge].to;
                if to == start {
                    let mut cycle = vec![node];
                    let mut here = node;
                    while here != start {
                        here = came_from[&here];
                        cycle.push(here);
                    }
                    cycle.reverse();
                    return cycle;
                }
                if members.contains(&to) && !came_from.contains_key(&to) {
                    came_from.insert(to, node);
                    queue.push_back(to);
                }
            }
        }
        vec![start]
    }

    /// Says which nodes no source reaches, where their inputs do not say so already.
    fn unreachable(&mut self) {
        let mut reached: HashSet<usize> = HashSet::new();
        let starts = |check: &Self, node: usize| {
            matches!(check.nodes[node].node.body, NodeBody::Source(_)) || !check.nodes[node].fed
        };
        let mut stack: Vec<usize> = (0..self.nodes.len()).filter(|node| starts(self, *node)).collect();
        while let Some(node) = stack.pop() {
            if reached.insert(node) {
                stack.extend(self.nodes[node].outputs.iter().map(|edge| self.edges[*edge].to));
            }
        }
        for node in (0..self.nodes.len()).filter(|node| !reached.contains(node)) {
            let message = format!("nothing reaches node \"{}\"", self.nodes[node].name);
            let help =
                "every node that could feed it sets nothing aside: give it an input, or remove it".to_owned();
            self.say_with(code::NODE_UNREACHABLE, self.nodes[node].path(), message, help);
        }
    }
}
