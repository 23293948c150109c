//! The figures of a run on the graph of its machine.

use std::collections::BTreeMap;

use super::graph::{Figures, Graph, Place};
use super::units;

/// What a journal or a running engine knows, in the names of the definition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlay {
    /// By state: keys below the root joined by dots, the root's being empty.
    pub states: BTreeMap<String, StateOverlay>,
    /// By leaf before, leaf after and event as the journal names it: how often that happened.
    /// The leaf before is empty for the first step of an instance.
    pub edges: BTreeMap<(String, String, String), u64>,
    /// Which run this is, for people.
    pub title: Option<String>,
}

/// One state's figures.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct StateOverlay {
    /// Chunks that are in it now.
    pub now: u64,
    /// How often a chunk has entered it.
    pub entered: u64,
    /// How often its invocation was started again for a chunk.
    pub retries: u64,
    /// How often a chunk left it by an error or a timeout.
    pub errors: u64,
    /// The median of the time in it, in seconds.
    pub median_seconds: f64,
    /// The 99th percentile of the time in it, in seconds.
    pub p99_seconds: f64,
}

impl StateOverlay {
    /// As it stands in the state's box. What never happened is left out, except that nothing ever came here.
    pub(super) fn rows(&self) -> impl Iterator<Item = String> {
        let visits = format!("now {} · entered {}", units::count(self.now), units::count(self.entered));
        let troubles = match (self.retries, self.errors) {
            (0, 0) => None,
            (retries, errors) => Some(format!("retries {} · errors {}", units::count(retries), units::count(errors))),
        };
        let timed = self.median_seconds > 0.0 || self.p99_seconds > 0.0;
        let times = timed.then(|| format!("median {} · p99 {}", units::seconds(self.median_seconds), units::seconds(self.p99_seconds)));
        std::iter::once(visits).chain(troubles).chain(times)
    }
}

impl Graph {
    /// Puts the figures of a run on the graph, in place of those of an earlier call. States and moves that the graph
    /// does not know are not lost: moves are counted and mentioned in the legend, states are left out.
    pub fn overlay(&mut self, overlay: &Overlay) {
        for node in &mut self.nodes {
            node.figures = overlay.states.get(&node.name).copied();
        }
        let reactions = self.nodes.iter_mut().flat_map(|node| &mut node.reactions);
        self.edges.iter_mut().flat_map(|edge| &mut edge.lines).chain(reactions).for_each(|line| line.count = 0);
        let mut figures = Figures { title: overlay.title.clone(), unexplained: 0 };
        for ((from, to, event), count) in &overlay.edges {
            let line = match self.place(from, to, event) {
                Some(Place::Edge { edge, line }) => &mut self.edges[edge].lines[line],
                Some(Place::Reaction { node, line }) => &mut self.nodes[node].reactions[line],
                None if from.is_empty() => continue,
                None => {
                    figures.unexplained += count;
                    continue;
                }
            };
            line.count += count;
        }
        self.figures = Some(figures);
    }

    /// The line of a move. An event that no descriptor names belongs to the longest wildcard that covers it.
    fn place(&self, from: &str, to: &str, event: &str) -> Option<Place> {
        let wildcards = event.rmatch_indices('.').map(|(at, _)| format!("{}.*", &event[..at]));
        let names = [event.to_owned(), format!("{event}.*")].into_iter().chain(wildcards).chain(["*".to_owned()]);
        let mut found = names.filter_map(|name| self.moves.get(&(from.to_owned(), to.to_owned(), name)));
        found.next().copied()
    }
}
