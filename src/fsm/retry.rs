//! Finds work that may be started again for ever.
//!
//! The graph holds the moves that happen by themselves: timers, failures, `always`, finished states, raised events.
//! A move on success, or on an event from outside, is progress or somebody's decision and is no part of it. A cycle in
//! this graph that starts an invocation again is a retry; a cycle that starts none is a poll and costs only time.
//!
//! A retry is bounded when a counter ends it: some move of the cycle demands a bound on a context key (by its guard, or
//! because a guard asked before it must have failed), some move steps the key towards that bound, and none sets it
//! otherwise. It is also bounded when an outer state that the cycle never leaves has a timeout that leads out of it.
//!
//! "Some cycle violates this" has a condition of the form "contains A and B but not C" per counter, so a component is
//! split: without the moves A and without the moves B every violating cycle survives in one of the two parts. (This is
//! the emptiness test of Streett automata.)

use std::collections::BTreeSet;

use super::builtin::{self, Action, Change, Guard, Order};
use super::cycles;
use super::finding::{self, Draft};
use super::flow::{Cause, Flow, Move};
use super::graph::{EventKind, Graph};

/// Components looked at, at most. More means dozens of counters that bound each other; then nothing is claimed.
const BUDGET: usize = 20_000;

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Up,
    Down,
}

type Counters<'d> = BTreeSet<(&'d str, Way)>;

/// One move with what it means for counters.
struct Arc<'d> {
    from: usize,
    step: Move,
    /// Taking it implies that these keys have not passed a bound.
    bounded: Counters<'d>,
    steps: Counters<'d>,
    sets: BTreeSet<&'d str>,
    starts_work: bool,
}

pub(super) fn unbounded(graph: &Graph<'_>, flow: &Flow) -> Vec<Draft> {
    let arcs: Vec<Arc<'_>> = flow
        .leaves()
        .flat_map(|leaf| flow.moves[leaf].iter().map(move |step| (leaf, *step)))
        .filter(|(_, step)| !matches!(step.cause, Cause::Done | Cause::Outside))
        .map(|(leaf, step)| Arc::new(graph, leaf, step))
        .collect();
    let mut search = Search { graph, flow, budget: BUDGET };
    let all: Vec<&Arc<'_>> = arcs.iter().collect();
    let mut drafts = Vec::new();
    for component in split(&all) {
        if let Some(cycle) = search.violation(&component) {
            drafts.push(describe(graph, &cycle));
        }
    }
    drafts
}

fn describe(graph: &Graph<'_>, arcs: &[&Arc<'_>]) -> Draft {
    let pairs: Vec<_> = arcs.iter().map(|arc| (arc.from, arc.step.to)).collect();
    let nodes: Vec<usize> = arcs.iter().map(|arc| arc.from).collect::<BTreeSet<_>>().into_iter().collect();
    let text: Vec<_> = cycles::shortest(&nodes, &pairs).iter().map(|node| format!("`{}`", graph.label(*node))).collect();
    let edge = arcs.iter().filter(|arc| arc.repeats()).map(|arc| arc.step.edge).min().unwrap_or_default();
    let message = format!("{} may repeat for ever: no counter and no outer timeout ends it", text.join(" → "));
    Draft::new(finding::UNBOUNDED_RETRY, graph.edge_path(edge), message)
}

/// The arcs of each component that holds a cycle.
fn split<'a, 'd>(arcs: &[&'a Arc<'d>]) -> Vec<Vec<&'a Arc<'d>>> {
    let pairs: Vec<_> = arcs.iter().map(|arc| (arc.from, arc.step.to)).collect();
    let inside = |component: &Vec<usize>| {
        let within = |node: &usize| component.binary_search(node).is_ok();
        arcs.iter().copied().filter(|arc| within(&arc.from) && within(&arc.step.to)).collect()
    };
    cycles::components(&pairs).iter().map(inside).collect()
}

struct Search<'g, 'd> {
    graph: &'g Graph<'d>,
    flow: &'g Flow,
    budget: usize,
}

impl Search<'_, '_> {
    /// The arcs of a part of `component` that is an unbounded retry.
    fn violation<'a, 'd>(&mut self, component: &[&'a Arc<'d>]) -> Option<Vec<&'a Arc<'d>>> {
        self.budget = self.budget.checked_sub(1)?;
        let is_retry = component.iter().any(|arc| arc.starts_work) && component.iter().any(|arc| arc.repeats());
        if !is_retry || self.has_deadline(component) {
            return None;
        }
        let Some(counter) = bounding_counter(component) else { return Some(component.to_vec()) };
        let without_bound: Vec<_> = component.iter().copied().filter(|arc| !arc.bounded.contains(&counter)).collect();
        let without_step: Vec<_> = component.iter().copied().filter(|arc| !arc.steps.contains(&counter)).collect();
        let parts = split(&without_bound).into_iter().chain(split(&without_step));
        parts.into_iter().find_map(|part| self.violation(&part))
    }

    /// A timer of an outer state that the component never leaves, with an unguarded way out of it.
    fn has_deadline(&self, component: &[&Arc<'_>]) -> bool {
        let Some(first) = component.first() else { return false };
        self.graph.chain(first.from).any(|outer| {
            let stays = component.iter().all(|arc| {
                let exits = self.graph.route(arc.from, arc.step.edge).map_or(Vec::new(), |route| route.exits);
                (arc.from == outer || self.graph.is_inside(arc.from, outer)) && !exits.contains(&outer)
            });
            stays && component.iter().all(|arc| self.times_out(arc.from, outer, component))
        })
    }

    fn times_out(&self, leaf: usize, outer: usize, component: &[&Arc<'_>]) -> bool {
        let leaves_component = |step: &&Move| component.iter().all(|arc| arc.from != step.to);
        let unguarded = |step: &&Move| self.graph.edges[step.edge].transition.guard.is_none();
        let mut timers = self.graph.nodes[outer].timers.clone();
        self.flow.transient[leaf]
            || timers.any(|timer| {
                let is_ours = |step: &&Move| step.event.is_some_and(|event| self.graph.events[event] == EventKind::After(timer));
                let ours: Vec<&Move> = self.flow.moves[leaf].iter().filter(is_ours).collect();
                // The cycle does not arm the timer again, so its one chance must lead out.
                ours.iter().all(leaves_component) && ours.last().is_some_and(unguarded)
            })
    }
}

/// A counter that every walk through all of `component` is bounded by.
fn bounding_counter<'d>(component: &[&Arc<'d>]) -> Option<(&'d str, Way)> {
    let opposite = |way| if way == Way::Up { Way::Down } else { Way::Up };
    component.iter().flat_map(|arc| &arc.bounded).copied().find(|(key, way)| {
        component.iter().any(|arc| arc.steps.contains(&(*key, *way)))
            && !component.iter().any(|arc| arc.sets.contains(key) || arc.steps.contains(&(*key, opposite(*way))))
    })
}

impl<'d> Arc<'d> {
    fn new(graph: &Graph<'d>, leaf: usize, step: Move) -> Arc<'d> {
        let mut arc = Arc {
            from: leaf,
            step,
            bounded: implied(graph, leaf, step),
            steps: Counters::new(),
            sets: BTreeSet::new(),
            starts_work: graph
                .route(leaf, step.edge)
                .is_some_and(|route| route.entries.iter().any(|(node, _)| !graph.nodes[*node].invocations.is_empty())),
        };
        let changes = graph.actions_of(leaf, step.edge).into_iter().filter_map(builtin::action);
        for action in changes {
            let Action::Assign(changes) = action else { continue };
            for (key, change) in changes {
                match change {
                    Change::Increment(by) if by > 0.0 => drop(arc.steps.insert((key, Way::Up))),
                    Change::Increment(by) if by < 0.0 => drop(arc.steps.insert((key, Way::Down))),
                    Change::Increment(_) => {}
                    Change::Set(_) => drop(arc.sets.insert(key)),
                }
            }
        }
        arc
    }

    /// True for the moves that make a cycle a repetition: a timer ran out or something failed.
    fn repeats(&self) -> bool {
        matches!(self.step.cause, Cause::Timer | Cause::Error)
    }
}

/// What taking `step` in `leaf` implies: its guard held, and those asked before it failed.
fn implied<'d>(graph: &Graph<'d>, leaf: usize, step: Move) -> Counters<'d> {
    let guard = |edge: usize| graph.edges[edge].transition.guard.as_ref().and_then(builtin::guard);
    let always = graph.always(leaf);
    let asked = match step.event {
        None => always,
        // An event is only looked at when no `always` was enabled.
        Some(event) => {
            let own = graph.candidates(leaf, event).into_iter().take_while(|edge| *edge != step.edge);
            always.into_iter().chain(own).collect()
        }
    };
    let failed = asked.into_iter().take_while(|edge| *edge != step.edge).filter_map(guard);
    let mut counters: Counters<'d> = failed.flat_map(|guard| bounds(&guard, false)).collect();
    counters.extend(guard(step.edge).iter().flat_map(|guard| bounds(guard, true)));
    counters
}

/// The keys that have not passed a bound when `guard` is `holds`, each with the way in which it would pass.
fn bounds<'d>(guard: &Guard<'d>, holds: bool) -> Counters<'d> {
    let both = |key| BTreeSet::from([(key, Way::Up), (key, Way::Down)]);
    match guard {
        Guard::Custom { .. } | Guard::EventIn { .. } => Counters::new(),
        // Stepping by whole units meets the value; a loop that jumps over it is beyond this check.
        Guard::Compare { order: Order::Equal, key, .. } => both(*key),
        Guard::Compare { order: Order::Less | Order::LessOrEqual, key, .. } => {
            Counters::from([(*key, if holds { Way::Up } else { Way::Down })])
        }
        Guard::Compare { order: Order::Greater | Order::GreaterOrEqual, key, .. } => {
            Counters::from([(*key, if holds { Way::Down } else { Way::Up })])
        }
        Guard::Not(inner) => bounds(inner, !holds),
        Guard::All(inner) if holds => inner.iter().flat_map(|guard| bounds(guard, holds)).collect(),
        Guard::Any(inner) if !holds => inner.iter().flat_map(|guard| bounds(guard, holds)).collect(),
        Guard::All(inner) | Guard::Any(inner) => {
            let mut each = inner.iter().map(|guard| bounds(guard, holds));
            let first = each.next().unwrap_or_default();
            each.fold(first, |common, counters| common.intersection(&counters).copied().collect())
        }
    }
}
