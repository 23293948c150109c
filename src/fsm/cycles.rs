//! Cycles in a small directed graph.

use std::collections::{HashMap, VecDeque};

/// The strongly connected components that hold a cycle, each sorted. `arcs` are pairs (from, to).
///
/// Tarjan, "Depth-first search and linear graph algorithms", 1972.
pub(super) fn components(arcs: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut search = Search::default();
    for (from, to) in arcs {
        search.next.entry(*from).or_default().push(*to);
    }
    for (from, _) in arcs {
        if !search.index.contains_key(from) {
            search.visit(*from);
        }
    }
    let mut found = search.found;
    found.retain(|component| component.len() > 1 || arcs.contains(&(component[0], component[0])));
    found.sort();
    found
}

/// A shortest cycle through the first of `component`, which comes first and last.
pub(super) fn shortest(component: &[usize], arcs: &[(usize, usize)]) -> Vec<usize> {
    let Some(&first) = component.first() else { return Vec::new() };
    let mut previous: HashMap<usize, usize> = HashMap::new();
    let mut waiting = VecDeque::from([first]);
    while let Some(node) = waiting.pop_front() {
        for (_, to) in arcs.iter().filter(|(from, to)| *from == node && component.contains(to)) {
            if *to == first {
                let back = std::iter::successors(Some(node), |node| previous.get(node).copied());
                let mut cycle: Vec<usize> = std::iter::once(first).chain(back).collect();
                cycle.reverse();
                return cycle;
            }
            if *to != first && !previous.contains_key(to) {
                previous.insert(*to, node);
                waiting.push_back(*to);
            }
        }
    }
    component.to_vec()
}

#[derive(Default)]
struct Search {
    next: HashMap<usize, Vec<usize>>,
    index: HashMap<usize, usize>,
    low: HashMap<usize, usize>,
    stack: Vec<usize>,
    found: Vec<Vec<usize>>,
}

impl Search {
    fn visit(&mut self, node: usize) {
        let index = self.index.len();
        self.index.insert(node, index);
        self.low.insert(node, index);
        self.stack.push(node);
        for to in self.next.get(&node).cloned().unwrap_or_default() {
            if !self.index.contains_key(&to) {
                self.visit(to);
                let low = self.low[&node].min(self.low[&to]);
                self.low.insert(node, low);
            } else if self.stack.contains(&to) {
                let low = self.low[&node].min(self.index[&to]);
                self.low.insert(node, low);
            }
        }
        if self.low[&node] == index {
            let at = self.stack.iter().position(|other| *other == node).unwrap_or(0);
            let mut component = self.stack.split_off(at);
            component.sort_unstable();
            self.found.push(component);
        }
    }
}
