//! What can happen: for every reachable leaf, the moves that some outcome of guards, timers and work allows.
//!
//! Guards of the program are unknown here, so every guard may hold or fail. Context is not followed either. The moves
//! are therefore a superset of what a run can do, which is the safe side for "unreachable" and "dead end".

use std::collections::{BTreeSet, HashSet};

use super::builtin::{self, Action};
use super::graph::{EventKind, Graph};

/// One way out of a leaf, or back into it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub edge: usize,
    /// An index into the events of the graph; `None` for `always`.
    pub event: Option<usize>,
    /// The leaf afterwards; the same when the edge has no target.
    pub to: usize,
    pub cause: Cause,
    /// Whether another round of `always` follows: the leaf or the context changes, or an invocation begins or ends.
    pub changes: bool,
}

/// Why a move happens.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Always,
    /// The timer of an active state.
    Timer,
    /// The end of an active invocation.
    Done,
    /// The failure of an active invocation.
    Error,
    /// A final child was entered.
    StateDone,
    /// An action on the way into this leaf raised the event.
    Raised,
    /// Somebody sent an event.
    Outside,
}

pub(super) struct Flow {
    /// By node; false for all that are not leaves.
    pub reachable: Vec<bool>,
    /// By node; empty for leaves that are not reachable or end the machine.
    pub moves: Vec<Vec<Move>>,
    /// By node: an unguarded `always` leaves it at once, so no event is ever handled there.
    pub transient: Vec<bool>,
    /// By node: events that may be raised on the way into the leaf.
    pub raised: Vec<BTreeSet<usize>>,
}

impl Flow {
    /// Every target of `graph` must be known.
    pub fn new(graph: &Graph<'_>) -> Flow {
        let count = graph.nodes.len();
        let mut flow = Flow {
            reachable: vec![false; count],
            moves: vec![Vec::new(); count],
            transient: vec![false; count],
            raised: vec![BTreeSet::new(); count],
        };
        let start = graph.default_leaf(0);
        let mut waiting = vec![start];
        flow.reachable[start] = true;
        while let Some(leaf) = waiting.pop() {
            flow.moves[leaf] = flow.moves_of(graph, leaf);
            for step in &flow.moves[leaf] {
                if !flow.reachable[step.to] {
                    flow.reachable[step.to] = true;
                    waiting.push(step.to);
                }
            }
        }
        flow.mark_raised(graph);
        flow
    }

    pub fn leaves(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.reachable.len()).filter(|node| self.reachable[*node])
    }

    /// True when some leaf inside `node`, or `node` itself, is reachable.
    pub fn reaches(&self, graph: &Graph<'_>, node: usize) -> bool {
        (node..graph.nodes[node].end).any(|node| self.reachable[node])
    }

    fn moves_of(&mut self, graph: &Graph<'_>, leaf: usize) -> Vec<Move> {
        if graph.ends(leaf) {
            return Vec::new();
        }
        let mut moves: Vec<Move> =
            graph.until_unguarded(graph.always(leaf)).into_iter().map(|edge| step(graph, leaf, edge, None, Cause::Always)).collect();
        self.transient[leaf] = moves.last().is_some_and(|last| last.changes && graph.edges[last.edge].transition.guard.is_none());
        for (event, kind) in graph.events.values().enumerate() {
            let Some(cause) = cause(graph, leaf, *kind) else { continue };
            // A finished state is announced inside the macrostep, so even a leaf that is left at once hears of it.
            if self.transient[leaf] && cause != Cause::StateDone {
                continue;
            }
            let candidates = graph.until_unguarded(graph.candidates(leaf, event));
            moves.extend(candidates.into_iter().map(|edge| step(graph, leaf, edge, Some(event), cause)));
        }
        moves
    }

    /// Finds the events raised on the way into each leaf, and adds the moves they cause there.
    fn mark_raised(&mut self, graph: &Graph<'_>) {
        let mut raised = vec![BTreeSet::new(); self.moves.len()];
        let start = graph.default_leaf(0);
        for node in graph.chain(start) {
            let state = graph.nodes[node].state;
            let initial = state.initial.iter().flat_map(|initial| &initial.actions);
            raised[start].extend(raises(graph, state.entry.iter().chain(initial)));
        }
        for leaf in self.leaves() {
            for step in &self.moves[leaf] {
                raised[step.to].extend(raises(graph, graph.actions_of(leaf, step.edge)));
            }
        }
        for leaf in self.leaves().collect::<Vec<_>>() {
            for &event in raised[leaf].iter().filter(|_| !self.transient[leaf] && !graph.ends(leaf)) {
                let candidates = graph.until_unguarded(graph.candidates(leaf, event));
                self.moves[leaf].extend(candidates.into_iter().map(|edge| step(graph, leaf, edge, Some(event), Cause::Raised)));
            }
        }
        self.raised = raised;
    }
}

fn step(graph: &Graph<'_>, leaf: usize, edge: usize, event: Option<usize>, cause: Cause) -> Move {
    let route = graph.route(leaf, edge);
    let to = route.as_ref().map_or(leaf, |route| route.leaf);
    // When the leaf stays the same, what is left is what is entered again.
    let mut entered = route.iter().flat_map(|route| &route.entries);
    let assigns = graph.actions_of(leaf, edge).into_iter().any(|call| call.name == builtin::ASSIGN);
    let changes = to != leaf || assigns || entered.any(|(node, _)| !graph.nodes[*node].invocations.is_empty());
    Move { edge, event, to, cause, changes }
}

/// Why an event of this kind can happen while `leaf` is active; `None` when it cannot.
fn cause(graph: &Graph<'_>, leaf: usize, kind: EventKind) -> Option<Cause> {
    let active = |node: usize| node == leaf || graph.is_inside(leaf, node);
    match kind {
        EventKind::Init => None,
        EventKind::Rest | EventKind::Prefix | EventKind::Named => Some(Cause::Outside),
        EventKind::After(timer) => active(graph.timers[timer].node).then_some(Cause::Timer),
        EventKind::Done(invocation) => active(graph.invocations[invocation].node).then_some(Cause::Done),
        EventKind::Error(invocation) => active(graph.invocations[invocation].node).then_some(Cause::Error),
        EventKind::StateDone(node) => {
            let finished = graph.nodes[leaf].state.is_final && graph.nodes[leaf].parent == Some(node);
            finished.then_some(Cause::StateDone)
        }
    }
}

fn raises<'c>(graph: &Graph<'_>, calls: impl IntoIterator<Item = &'c super::definition::Call>) -> HashSet<usize> {
    let names = calls.into_iter().filter_map(|call| match builtin::action(call) {
        Some(Action::Raise { name, .. }) => graph.events.get_index_of(name),
        _ => None,
    });
    names.collect()
}
