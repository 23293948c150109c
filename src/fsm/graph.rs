//! A definition as numbered nodes and edges: what `check` reasons about and `compile` turns into tables.
//!
//! There are no parallel states and no history, so what is active is always one leaf and its ancestors. Selection and
//! the order of exits and entries follow from that leaf and one edge; both are worked out here and nowhere else.

mod build;

use std::collections::HashMap;
use std::ops::Range;

use indexmap::IndexMap;

use super::definition::{Call, Definition, State, Transition};
use super::path::Path;

pub(super) use build::calls;

/// The event of the initial macrostep.
pub(super) const INIT: &str = "xstate.init";
/// Stands for every event that no descriptor names.
pub(super) const REST: &str = "*";

/// Nodes are numbered in document order, so the states inside `n` are exactly `n + 1 .. nodes[n].end`.
pub(super) struct Graph<'d> {
    pub definition: &'d Definition,
    pub nodes: Vec<Node<'d>>,
    pub edges: Vec<Edge<'d>>,
    pub invocations: Vec<Invocation<'d>>,
    pub timers: Vec<Timer<'d>>,
    /// Every event that the machine tells apart, in document order.
    pub events: IndexMap<String, EventKind>,
    /// Nodes whose id another node has already.
    pub duplicate_ids: Vec<usize>,
    ids: HashMap<String, usize>,
}

pub(super) struct Node<'d> {
    pub key: &'d str,
    /// Keys below the root, joined by dots; empty for the root.
    pub name: String,
    pub id: String,
    pub parent: Option<usize>,
    pub end: usize,
    pub state: &'d State,
    /// `None` for leaves, and where the definition is broken.
    pub initial: Option<usize>,
    /// Edges by event descriptor, XState's own events included.
    pub handlers: IndexMap<String, Range<usize>>,
    pub always: Range<usize>,
    pub invocations: Range<usize>,
    pub timers: Range<usize>,
}

pub(super) struct Edge<'d> {
    pub source: usize,
    pub trigger: Trigger<'d>,
    /// Place in its list, and the length of that list.
    pub index: usize,
    pub count: usize,
    pub transition: &'d Transition,
    pub aim: Aim,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Trigger<'d> {
    On(&'d str),
    After(usize),
    Always,
    StateDone,
    Done(usize),
    Error(usize),
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    Stay,
    State(usize),
    /// Nobody answers to the target.
    Unknown,
}

pub(super) struct Invocation<'d> {
    pub node: usize,
    pub id: String,
    pub invoke: &'d super::definition::Invoke,
}

pub(super) struct Timer<'d> {
    pub node: usize,
    pub key: &'d str,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    Init,
    /// All that no descriptor names.
    Rest,
    /// All below a prefix that no longer descriptor names.
    Prefix,
    /// A name that the definition mentions.
    Named,
    After(usize),
    StateDone(usize),
    Done(usize),
    Error(usize),
}

/// What taking an edge in a leaf does to the active states.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Leaf first.
    pub exits: Vec<usize>,
    /// Outermost first; true where `initial.actions` run because the child is entered by default.
    pub entries: Vec<(usize, bool)>,
    /// The leaf that is active afterwards.
    pub leaf: usize,
}

impl<'d> Graph<'d> {
    pub fn child(&self, node: usize, key: &str) -> Option<usize> {
        self.children(node).find(|child| self.nodes[*child].key == key)
    }

    pub fn children(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.nodes[node].end;
        let mut next = node + 1;
        std::iter::from_fn(move || {
            let child = (next < end).then_some(next)?;
            next = self.nodes[child].end;
            Some(child)
        })
    }

    /// `node` and its ancestors, the root last.
    pub fn chain(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(node), |node| self.nodes[*node].parent)
    }

    /// True when `node` is a proper descendant of `outer`.
    pub fn is_inside(&self, node: usize, outer: usize) -> bool {
        outer < node && node < self.nodes[outer].end
    }

    pub fn is_leaf(&self, node: usize) -> bool {
        self.nodes[node].end == node + 1
    }

    /// True for a final child of the root: entering it ends the machine.
    pub fn ends(&self, node: usize) -> bool {
        self.nodes[node].state.is_final && self.nodes[node].parent == Some(0)
    }

    pub fn leaves(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|node| self.is_leaf(*node))
    }

    /// The leaf that entering `node` by default ends in.
    pub fn default_leaf(&self, node: usize) -> usize {
        std::iter::successors(Some(node), |node| self.nodes[*node].initial).last().unwrap_or(node)
    }

    /// The edges that `event` (an index into `events`) may take in `leaf`, in the order in which their guards are
    /// asked: leaf to root; in a state the exact name, then wildcards, longest first; in a list as written.
    pub fn candidates(&self, leaf: usize, event: usize) -> Vec<usize> {
        let Some((name, kind)) = self.events.get_index(event) else { return Vec::new() };
        // What no descriptor names is represented by a spelling that no descriptor can have.
        let probe = match kind {
            EventKind::Rest => "?".to_owned(),
            EventKind::Prefix => name.replace(".*", ".?"),
            _ => name.clone(),
        };
        let mut found = Vec::new();
        for node in self.chain(leaf) {
            let handlers = &self.nodes[node].handlers;
            found.extend(handlers.get(&probe).cloned().into_iter().flatten());
            let mut wildcards: Vec<_> = handlers.iter().filter(|(descriptor, _)| covers(descriptor, &probe)).collect();
            wildcards.sort_by_key(|(descriptor, _)| std::cmp::Reverse(descriptor.len()));
            found.extend(wildcards.into_iter().flat_map(|(_, edges)| edges.clone()));
        }
        found
    }

    /// The `always` edges of `leaf`, in the order in which their guards are asked.
    pub fn always(&self, leaf: usize) -> Vec<usize> {
        self.chain(leaf).flat_map(|node| self.nodes[node].always.clone()).collect()
    }

    /// Cuts a list of candidates behind the first that has no guard: those behind it are never asked.
    pub fn until_unguarded(&self, mut candidates: Vec<usize>) -> Vec<usize> {
        let end = candidates.iter().position(|edge| self.edges[*edge].transition.guard.is_none());
        candidates.truncate(end.map_or(candidates.len(), |at| at + 1));
        candidates
    }

    /// What `edge` does in `leaf`; `None` when it has no target and only runs its actions.
    pub fn route(&self, leaf: usize, edge: usize) -> Option<Route> {
        let Edge { source, aim: Aim::State(target), transition, .. } = self.edges[edge] else { return None };
        let domain = self.domain(source, target, transition.reenter);
        let inside = |node: usize| domain.is_none_or(|domain| self.is_inside(node, domain));
        let exits = self.chain(leaf).filter(|node| inside(*node)).collect();
        let mut entries = IndexMap::new();
        if !(target == source && domain == Some(source)) {
            entries.insert(target, true);
        }
        entries.extend(std::iter::successors(self.nodes[target].initial, |node| self.nodes[*node].initial).map(|node| (node, true)));
        for ancestor in self.chain(target).skip(1).filter(|node| inside(*node)) {
            entries.entry(ancestor).or_insert(false);
        }
        // Ancestors come before descendants in document order, and only one chain is entered.
        entries.sort_unstable_keys();
        let leaf = entries.last().map_or(leaf, |(node, _)| *node);
        Some(Route { exits, entries: entries.into_iter().collect(), leaf })
    }

    /// The state that stays active while all below it is left and entered; `None` when even the root is left.
    fn domain(&self, source: usize, target: usize, reenter: bool) -> Option<usize> {
        if !reenter && (target == source || self.is_inside(target, source)) {
            return Some(source);
        }
        let common = self.chain(target).skip(1).find(|ancestor| self.is_inside(source, *ancestor));
        common.or(if reenter { None } else { Some(0) })
    }

    /// The actions that run when the machine starts or `edge` is taken in `leaf`, `exits` and `entries` included.
    pub fn actions_of(&self, leaf: usize, edge: usize) -> Vec<&'d Call> {
        let route = self.route(leaf, edge);
        let exits = route.iter().flat_map(|route| &route.exits).flat_map(|node| &self.nodes[*node].state.exit);
        let entries = route.iter().flat_map(|route| &route.entries).flat_map(|(node, by_default)| {
            let state = self.nodes[*node].state;
            let initial = state.initial.iter().filter(|_| *by_default).flat_map(|initial| &initial.actions);
            state.entry.iter().chain(initial)
        });
        exits.chain(&self.edges[edge].transition.actions).chain(entries).collect()
    }

    pub fn node_path(&self, node: usize) -> Path {
        let mut path = match self.nodes[node].parent {
            None => return Path::root(),
            Some(parent) => self.node_path(parent),
        };
        path.push_key("states");
        path.push_key(self.nodes[node].key);
        path
    }

    pub fn invocation_path(&self, invocation: usize) -> Path {
        let node = self.invocations[invocation].node;
        let all = &self.nodes[node].invocations;
        self.node_path(node).key("invoke").item(invocation - all.start, all.len())
    }

    pub fn edge_path(&self, edge: usize) -> Path {
        let Edge { source, trigger, index, count, .. } = self.edges[edge];
        let list = match trigger {
            Trigger::On(descriptor) => self.node_path(source).key("on").key(descriptor),
            Trigger::After(timer) => self.node_path(source).key("after").key(self.timers[timer].key),
            Trigger::Always => self.node_path(source).key("always"),
            Trigger::StateDone => self.node_path(source).key("onDone"),
            Trigger::Done(invocation) => self.invocation_path(invocation).key("onDone"),
            Trigger::Error(invocation) => self.invocation_path(invocation).key("onError"),
        };
        list.item(index, count)
    }

    /// The name of a state for people: the root by its id.
    pub fn label(&self, node: usize) -> &str {
        if node == 0 { &self.definition.id } else { &self.nodes[node].name }
    }
}

/// True when a wildcard descriptor matches an event name; `x.*` matches `x` too.
pub(super) fn covers(descriptor: &str, event: &str) -> bool {
    if descriptor == REST {
        return true;
    }
    let Some(prefix) = descriptor.strip_suffix(".*") else { return false };
    event.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
