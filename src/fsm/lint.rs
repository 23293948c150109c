//! Faults that wait in a definition with a meaning (class L), and what is merely worth knowing (warnings).
//!
//! All of it reasons about [`Flow`], in which every guard may hold or fail.

use std::collections::{BTreeMap, BTreeSet};

use super::cycles;
use super::finding::{self, Draft};
use super::flow::{Cause, Flow, Move};
use super::graph::{EventKind, Graph, REST, Trigger};
use super::retry;
use super::vocabulary::{Role, Vocabulary};

/// Everything about the graph: class L, the warnings, and of class E the cycles of `always`.
pub(super) fn run(graph: &Graph<'_>, flow: &Flow, vocabulary: Option<&Vocabulary>) -> Vec<Draft> {
    let lint = Lint { graph, flow, vocabulary, caught: caught(flow) };
    let mut drafts = lint.endless_always();
    drafts.extend(lint.unreachable_states());
    drafts.extend(lint.dead_ends());
    drafts.extend(lint.without_final());
    drafts.extend(lint.unhandled_errors());
    drafts.extend(retry::unbounded(graph, flow));
    drafts.extend(lint.shadowing_wildcards());
    drafts.extend(lint.never_taken());
    drafts.extend(lint.missing_max_iterations());
    drafts.extend(lint.two_payload_handlers());
    drafts.extend(lint.without_timeout());
    drafts.extend(lint.late_timeouts());
    drafts.extend(lint.parked());
    drafts
}

/// Leaves in a macrostep without end: an unguarded `always` moves each on, and every `always` asked before that also
/// leads to such a leaf. This is the greatest set with that property.
fn caught(flow: &Flow) -> BTreeSet<usize> {
    let mut caught: BTreeSet<usize> = flow.leaves().filter(|leaf| flow.transient[*leaf]).collect();
    loop {
        let stays = |leaf: &usize| {
            let mut always = flow.moves[*leaf].iter().filter(|step| step.cause == Cause::Always);
            always.all(|step| step.changes && caught.contains(&step.to))
        };
        let next: BTreeSet<usize> = caught.iter().copied().filter(stays).collect();
        if next.len() == caught.len() {
            return caught;
        }
        caught = next;
    }
}

/// (from, to) of every `always` that makes another round, from the leaves that `wanted` picks.
fn always_arcs(flow: &Flow, wanted: impl Fn(usize) -> bool) -> Vec<(usize, usize)> {
    let moves = flow.leaves().filter(|leaf| wanted(*leaf)).flat_map(|leaf| flow.moves[leaf].iter().map(move |step| (leaf, step)));
    moves.filter(|(_, step)| step.cause == Cause::Always && step.changes).map(|(leaf, step)| (leaf, step.to)).collect()
}

fn labels(graph: &Graph<'_>, nodes: &[usize]) -> String {
    nodes.iter().map(|node| format!("`{}`", graph.label(*node))).collect::<Vec<_>>().join(" → ")
}

struct Lint<'g, 'd> {
    graph: &'g Graph<'d>,
    flow: &'g Flow,
    vocabulary: Option<&'g Vocabulary>,
    caught: BTreeSet<usize>,
}

impl Lint<'_, '_> {
    fn at_node(&self, code: finding::Code, node: usize, message: impl Into<String>) -> Draft {
        Draft::new(code, self.graph.node_path(node), message).at_key()
    }

    /// Class E: cycles of `always` that no guard can break.
    fn endless_always(&self) -> Vec<Draft> {
        let arcs = always_arcs(self.flow, |leaf| self.caught.contains(&leaf));
        let describe = |component: Vec<usize>| {
            let labels = labels(self.graph, &cycles::shortest(&component, &arcs));
            let last = self.flow.moves[component[0]].iter().rev().find(|step| step.cause == Cause::Always);
            let path = last.map(|step| self.graph.edge_path(step.edge)).unwrap_or_default();
            Draft::new(finding::ENDLESS_ALWAYS, path, format!("{labels} never ends: no guard can break it"))
        };
        cycles::components(&arcs).into_iter().map(describe).collect()
    }

    /// Only the outermost of unreachable states inside each other.
    fn unreachable_states(&self) -> Vec<Draft> {
        let reached = |node: usize| self.flow.reaches(self.graph, node);
        let outermost = |node: &usize| !reached(*node) && self.graph.nodes[*node].parent.is_none_or(reached);
        let draft = |node| self.at_node(finding::UNREACHABLE_STATE, node, "nothing leads to this state");
        (1..self.graph.nodes.len()).filter(outermost).map(draft).collect()
    }

    fn is_dead(&self, leaf: usize) -> bool {
        let rests = !self.graph.ends(leaf) && !self.caught.contains(&leaf);
        rests && self.flow.moves[leaf].iter().all(|step| step.to == leaf)
    }

    /// The state that a stuck leaf stands for: a final child stands for its parent, which has finished.
    fn stuck_state(&self, leaf: usize) -> usize {
        let node = &self.graph.nodes[leaf];
        if node.state.is_final { node.parent.unwrap_or(leaf) } else { leaf }
    }

    fn dead_ends(&self) -> Vec<Draft> {
        let dead = self.flow.leaves().filter(|leaf| self.is_dead(*leaf));
        let states: BTreeSet<(usize, bool)> = dead.map(|leaf| (self.stuck_state(leaf), self.graph.nodes[leaf].state.is_final)).collect();
        let message = |finished: bool| {
            if finished {
                "it finishes, but no `onDone` and nothing else leaves it"
            } else {
                "nothing can leave this state, and it is not final"
            }
        };
        states.into_iter().map(|(node, finished)| self.at_node(finding::DEAD_END, node, message(finished))).collect()
    }

    /// Leaves from which the machine cannot end; states all of whose leaves are such are named instead of their leaves.
    fn without_final(&self) -> Vec<Draft> {
        let mut good: BTreeSet<usize> = self.flow.leaves().filter(|leaf| self.graph.ends(*leaf)).collect();
        loop {
            let reaches = |leaf: &usize| good.contains(leaf) || self.flow.moves[*leaf].iter().any(|step| good.contains(&step.to));
            let more: BTreeSet<usize> = self.flow.leaves().filter(reaches).collect();
            if more.len() == good.len() {
                break;
            }
            good = more;
        }
        let mut drafts = Vec::new();
        self.name_without_final(0, &good, &mut drafts);
        drafts
    }

    /// Another finding already says why the machine cannot end from this leaf.
    fn is_told(&self, leaf: usize) -> bool {
        let is_around = |state: usize| leaf == state || self.graph.is_inside(leaf, state);
        let mut dead = self.flow.leaves().filter(|leaf| self.is_dead(*leaf));
        self.caught.contains(&leaf) || dead.any(|dead| is_around(self.stuck_state(dead)))
    }

    fn name_without_final(&self, node: usize, good: &BTreeSet<usize>, drafts: &mut Vec<Draft>) {
        let leaves: Vec<usize> = self.flow.leaves().filter(|leaf| (node..self.graph.nodes[node].end).contains(leaf)).collect();
        if leaves.iter().any(|leaf| good.contains(leaf)) {
            for child in self.graph.children(node) {
                self.name_without_final(child, good, drafts);
            }
        } else if !leaves.iter().all(|leaf| self.is_told(*leaf)) {
            let message = if node == 0 { "no final state can be reached" } else { "no final state can be reached from here" };
            drafts.push(self.at_node(finding::NO_FINAL, node, message));
        }
    }

    /// On the way from an invocation to the root only two things can take its error: its own `onError`, and a `*`
    /// somewhere (descriptors below `xstate.` are refused). A `*` does not count: it takes everything and knows nothing.
    fn unhandled_errors(&self) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for (index, invocation) in self.graph.invocations.iter().enumerate() {
            let handlers = &invocation.invoke.on_error;
            if handlers.iter().any(|transition| transition.guard.is_none()) {
                continue;
            }
            let message = match handlers.len() {
                0 => format!("the error of `{}` has no `onError`; unhandled, it ends the machine", invocation.id),
                _ => format!("when all guards fail, the error of `{}` ends the machine; end the list unguarded", invocation.id),
            };
            let path = self.graph.invocation_path(index);
            let path = if handlers.is_empty() { path } else { path.key("onError") };
            drafts.push(Draft::new(finding::UNHANDLED_ERROR, path, message));
        }
        drafts
    }

    /// A `*` takes the events of outer states too, as long as its own state is active. (`onDone` is safe: when it is
    /// due, the active leaf is a final state, and final states have no transitions.)
    fn shadowing_wildcards(&self) -> Vec<Draft> {
        let mut shadowed: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for leaf in self.flow.leaves().filter(|leaf| !self.flow.transient[*leaf]) {
            for (event, kind) in self.graph.events.values().enumerate() {
                let (owner, what) = match *kind {
                    EventKind::After(timer) => (self.graph.timers[timer].node, format!("timeout `{}`", self.graph.timers[timer].key)),
                    EventKind::Done(one) => (self.graph.invocations[one].node, format!("end of `{}`", self.graph.invocations[one].id)),
                    EventKind::Error(one) => (self.graph.invocations[one].node, format!("failure of `{}`", self.graph.invocations[one].id)),
                    _ => continue,
                };
                if !self.graph.is_inside(leaf, owner) {
                    continue;
                }
                let candidates = self.graph.candidates(leaf, event);
                let own = |edge: &usize| self.graph.edges[*edge].source == owner && self.graph.edges[*edge].trigger != Trigger::On(REST);
                let Some(at) = candidates.iter().position(own) else { continue };
                for edge in &candidates[..at] {
                    shadowed
                        .entry(self.graph.edges[*edge].source)
                        .or_default()
                        .insert(format!("the {what} of `{}`", self.graph.label(owner)));
                }
            }
        }
        let describe = |(node, events): (usize, BTreeSet<String>)| {
            let events = events.into_iter().collect::<Vec<_>>().join(", ");
            let path = self.graph.node_path(node).key("on").key(REST);
            Draft::new(finding::SHADOWING_WILDCARD, path, format!("`*` also swallows {events}")).at_key()
        };
        shadowed.into_iter().map(describe).collect()
    }

    fn never_taken(&self) -> Vec<Draft> {
        let taken: BTreeSet<usize> = self.flow.leaves().flat_map(|leaf| &self.flow.moves[leaf]).map(|step| step.edge).collect();
        let idle = |edge: &usize| !taken.contains(edge) && self.flow.reaches(self.graph, self.graph.edges[*edge].source);
        let draft = |edge| Draft::new(finding::NEVER_TAKEN, self.graph.edge_path(edge), self.why_never(edge));
        (0..self.graph.edges.len()).filter(idle).map(draft).collect()
    }

    fn why_never(&self, edge: usize) -> String {
        let super::graph::Edge { source, trigger, index, .. } = self.graph.edges[edge];
        let inside = |leaf: &usize| *leaf == source || self.graph.is_inside(*leaf, source);
        if (edge - index..edge).any(|before| self.graph.edges[before].transition.guard.is_none()) {
            "never taken: a transition before it in its list has no guard".to_owned()
        } else if trigger == Trigger::StateDone {
            format!("never taken: no final child of `{}` is ever entered", self.graph.label(source))
        } else if self.flow.leaves().filter(inside).all(|leaf| self.flow.transient[leaf]) {
            "never taken: an unguarded `always` leaves the state first".to_owned()
        } else {
            "never taken: other transitions always take its event first".to_owned()
        }
    }

    /// XState's own limit is none at all. The limit is demanded where a macrostep can go round: a cycle of `always`
    /// transitions, finished states and raised events that happen at once. A definition whose `always` only lead onward
    /// does without.
    fn missing_max_iterations(&self) -> Option<Draft> {
        if self.graph.definition.max_iterations.is_some() {
            return None;
        }
        let at_once = |step: &&Move| match step.cause {
            Cause::Always => step.changes,
            Cause::Raised | Cause::StateDone => true,
            _ => false,
        };
        let moves = |leaf: usize| self.flow.moves[leaf].iter().filter(at_once);
        let free = || self.flow.leaves().filter(|leaf| !self.caught.contains(leaf));
        let arcs: Vec<(usize, usize)> = free().flat_map(|leaf| moves(leaf).map(move |step| (leaf, step.to))).collect();
        let component = cycles::components(&arcs).into_iter().next()?;
        let cycle = cycles::shortest(&component, &arcs);
        let first = moves(cycle[0]).find(|step| Some(&step.to) == cycle.get(1))?;
        let message = format!("{} may repeat within one event; set options.maxIterations", labels(self.graph, &cycle));
        Some(Draft::new(finding::MISSING_MAX_ITERATIONS, self.graph.edge_path(first.edge), message))
    }

    /// Without a vocabulary every invocation counts as one that owns the payload.
    fn two_payload_handlers(&self) -> Vec<Draft> {
        let owns = |one: &usize| {
            let src = &self.graph.invocations[*one].invoke.src;
            self.vocabulary.and_then(|vocabulary| vocabulary.role(src)) != Some(Role::Watcher)
        };
        let mut drafts = Vec::new();
        for node in (0..self.graph.nodes.len()).filter(|node| self.flow.reaches(self.graph, *node)) {
            let mut chain: Vec<usize> = self.graph.chain(node).collect();
            chain.reverse();
            let active = chain.iter().flat_map(|node| self.graph.nodes[*node].invocations.clone()).filter(owns);
            let active: Vec<usize> = active.collect();
            for pair in active.windows(2).filter(|pair| self.graph.invocations[pair[1]].node == node) {
                let [other, one] = [pair[0], pair[1]].map(|one| &self.graph.invocations[one]);
                let message =
                    format!("`{}` runs beside `{}` of `{}`; only one may own the payload", one.id, other.id, self.graph.label(other.node));
                drafts.push(Draft::new(finding::TWO_PAYLOAD_HANDLERS, self.graph.invocation_path(pair[1]), message));
            }
        }
        drafts
    }

    /// Whether a handler may be abandoned is the program's to say, so without a vocabulary nothing is claimed.
    fn without_timeout(&self) -> Vec<Draft> {
        let may_hang = |(_, invocation): &(usize, &super::graph::Invocation<'_>)| {
            let role = self.vocabulary.and_then(|vocabulary| vocabulary.role(&invocation.invoke.src));
            let timed = self.graph.chain(invocation.node).any(|node| !self.graph.nodes[node].timers.is_empty());
            !timed && matches!(role, Some(Role::Payload | Role::Watcher)) && self.flow.reaches(self.graph, invocation.node)
        };
        let draft = |(index, invocation): (usize, &super::graph::Invocation<'_>)| {
            let message = format!("no `after` here or outside ends a hanging `{}`", invocation.id);
            Draft::new(finding::NO_TIMEOUT, self.graph.invocation_path(index), message)
        };
        self.graph.invocations.iter().enumerate().filter(may_hang).map(draft).collect()
    }

    fn late_timeouts(&self) -> Vec<Draft> {
        let is_late = |(_, invocation): &(usize, &super::graph::Invocation<'_>)| {
            let role = self.vocabulary.and_then(|vocabulary| vocabulary.role(&invocation.invoke.src));
            role == Some(Role::Ordered) && !self.graph.nodes[invocation.node].timers.is_empty()
        };
        let draft = |(index, invocation): (usize, &super::graph::Invocation<'_>)| {
            let message = format!("`{}` is never given up half done, so the `after` beside it comes too late", invocation.id);
            Draft::new(finding::LATE_TIMEOUT, self.graph.invocation_path(index), message)
        };
        self.graph.invocations.iter().enumerate().filter(is_late).map(draft).collect()
    }

    fn parked(&self) -> Vec<Draft> {
        let waits = |leaf: &usize| {
            let mut leaving = self.flow.moves[*leaf].iter().filter(|step| step.to != *leaf).peekable();
            leaving.peek().is_some() && leaving.all(|step| step.cause == Cause::Outside)
        };
        let states: BTreeSet<usize> = self.flow.leaves().filter(waits).map(|leaf| self.stuck_state(leaf)).collect();
        states.into_iter().map(|node| self.at_node(finding::PARKED, node, "only an event from outside leaves this state")).collect()
    }
}
