//! For formats that cannot draw a line from a box to something inside it: where such lines begin and end instead.

use std::collections::BTreeSet;

use super::graph::{Edge, Graph};

/// What an edge touches in such a format.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Anchor {
    State(usize),
    /// Stands inside the state for any of the states there.
    Any(usize),
    /// Stands inside the state for the state itself, entered anew.
    Again(usize),
}

impl Anchor {
    /// The state that it stands for or in.
    pub fn node(self) -> usize {
        match self {
            Anchor::State(node) | Anchor::Any(node) | Anchor::Again(node) => node,
        }
    }

    /// What people read; states have more than that to them.
    pub fn label(self, graph: &Graph) -> String {
        let label = &graph.nodes[self.node()].label;
        match self {
            Anchor::State(_) => label.clone(),
            Anchor::Any(_) => format!("any state in {label}"),
            Anchor::Again(_) => format!("↻ {label}"),
        }
    }
}

impl Graph {
    /// Where an edge begins and ends.
    pub(super) fn anchors(&self, edge: &Edge) -> (Anchor, Anchor) {
        let Edge { from, to, .. } = *edge;
        let is_loop = from == to && self.nodes[from].is_compound();
        let from_anchor = if is_loop || from == 0 || self.is_inside(to, from) { Anchor::Any(from) } else { Anchor::State(from) };
        let to_anchor = if is_loop || to == 0 || self.is_inside(from, to) { Anchor::Again(to) } else { Anchor::State(to) };
        (from_anchor, to_anchor)
    }

    /// The anchors inside `node` that are no states.
    pub(super) fn inner_anchors(&self, node: usize) -> BTreeSet<Anchor> {
        let all = self.edges.iter().map(|edge| self.anchors(edge)).flat_map(|(from, to)| [from, to]);
        all.filter(|anchor| anchor.node() == node && !matches!(anchor, Anchor::State(_))).collect()
    }
}
