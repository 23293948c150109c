//! From a definition to its graph.

use std::collections::HashMap;
use std::ops::Range;

use indexmap::IndexMap;

use super::{Aim, Edge, EventKind, Graph, INIT, Invocation, Node, REST, Timer, Trigger};
use crate::fsm::builtin::{self, Action};
use crate::fsm::definition::{Call, Definition, State, Transition};

impl<'d> Graph<'d> {
    pub fn new(definition: &'d Definition) -> Graph<'d> {
        let mut graph = Graph {
            definition,
            nodes: Vec::new(),
            edges: Vec::new(),
            invocations: Vec::new(),
            timers: Vec::new(),
            events: IndexMap::from([(INIT.to_owned(), EventKind::Init), (REST.to_owned(), EventKind::Rest)]),
            duplicate_ids: Vec::new(),
            ids: HashMap::new(),
        };
        graph.add_node(&definition.root, "", None);
        for node in 0..graph.nodes.len() {
            graph.add_edges(node);
        }
        for call in calls(definition) {
            if let Some(Action::Raise { name, .. }) = builtin::action(call) {
                graph.add_event(name, EventKind::Named);
            }
        }
        graph
    }

    fn add_node(&mut self, state: &'d State, key: &'d str, parent: Option<usize>) -> usize {
        let node = self.nodes.len();
        let name = match parent {
            None => String::new(),
            Some(0) => key.to_owned(),
            Some(parent) => format!("{}.{key}", self.nodes[parent].name),
        };
        let id = match (&state.id, parent) {
            (_, None) => self.definition.id.clone(),
            (Some(id), _) => id.clone(),
            (None, _) => format!("{}.{name}", self.definition.id),
        };
        if self.ids.contains_key(&id) {
            self.duplicate_ids.push(node);
        } else {
            self.ids.insert(id.clone(), node);
        }
        let handlers = IndexMap::new();
        self.nodes.push(Node {
            key,
            name,
            id,
            parent,
            end: 0,
            state,
            initial: None,
            handlers,
            always: 0..0,
            invocations: 0..0,
            timers: 0..0,
        });
        for (key, child) in &state.states {
            let child_node = self.add_node(child, key, Some(node));
            if state.initial.as_ref().is_some_and(|initial| initial.target == *key) {
                self.nodes[node].initial = Some(child_node);
            }
        }
        self.nodes[node].end = self.nodes.len();
        node
    }

    fn add_edges(&mut self, node: usize) {
        let state = self.nodes[node].state;
        for (descriptor, list) in &state.on {
            let kind = if descriptor.ends_with(".*") { EventKind::Prefix } else { EventKind::Named };
            self.add_handler(node, descriptor, kind, Trigger::On(descriptor), list);
        }
        if !state.states.is_empty() {
            let event = format!("xstate.done.state.{}", self.nodes[node].id);
            self.add_handler(node, &event, EventKind::StateDone(node), Trigger::StateDone, &state.on_done);
        }
        let first = self.invocations.len();
        for (index, invoke) in state.invoke.iter().enumerate() {
            let id = invoke.id.clone().unwrap_or_else(|| format!("{index}.{}", self.nodes[node].id));
            let number = self.invocations.len();
            let (done, error) = (format!("xstate.done.actor.{id}"), format!("xstate.error.actor.{id}"));
            self.invocations.push(Invocation { node, id, invoke });
            self.add_handler(node, &done, EventKind::Done(number), Trigger::Done(number), &invoke.on_done);
            self.add_handler(node, &error, EventKind::Error(number), Trigger::Error(number), &invoke.on_error);
        }
        self.nodes[node].invocations = first..self.invocations.len();
        let first = self.timers.len();
        for (key, list) in in_script_order(&state.after) {
            let event = format!("xstate.after.{key}.{}", self.nodes[node].id);
            let number = self.timers.len();
            self.timers.push(Timer { node, key });
            self.add_handler(node, &event, EventKind::After(number), Trigger::After(number), list);
        }
        self.nodes[node].timers = first..self.timers.len();
        self.nodes[node].always = self.add_list(node, Trigger::Always, &state.always);
    }

    fn add_handler(&mut self, node: usize, event: &str, kind: EventKind, trigger: Trigger<'d>, list: &'d [Transition]) {
        self.add_event(event, kind);
        let edges = self.add_list(node, trigger, list);
        self.nodes[node].handlers.insert(event.to_owned(), edges);
    }

    fn add_event(&mut self, name: &str, kind: EventKind) {
        self.events.entry(name.to_owned()).or_insert(kind);
    }

    fn add_list(&mut self, source: usize, trigger: Trigger<'d>, list: &'d [Transition]) -> Range<usize> {
        let first = self.edges.len();
        for (index, transition) in list.iter().enumerate() {
            let aim = match &transition.target {
                None => Aim::Stay,
                Some(target) => self.resolve(source, target).map_or(Aim::Unknown, Aim::State),
            };
            self.edges.push(Edge { source, trigger, index, count: list.len(), transition, aim });
        }
        first..self.edges.len()
    }

    /// The state that `target`, written in state `node`, means.
    fn resolve(&self, node: usize, target: &str) -> Option<usize> {
        let (base, keys) = if let Some(absolute) = target.strip_prefix('#') {
            let (id, keys) = absolute.split_once('.').map_or((absolute, ""), |(id, keys)| (id, keys));
            (*self.ids.get(id)?, keys)
        } else if let Some(keys) = target.strip_prefix('.') {
            (node, keys)
        } else {
            (self.nodes[node].parent?, target)
        };
        keys.split('.').filter(|key| !key.is_empty()).try_fold(base, |node, key| self.child(node, key))
    }
}

/// `after` in the order of a JavaScript object: integers ascending, then names as written.
fn in_script_order(after: &IndexMap<String, Vec<Transition>>) -> Vec<(&str, &[Transition])> {
    let mut entries: Vec<(&str, &[Transition])> = after.iter().map(|(key, list)| (key.as_str(), list.as_slice())).collect();
    entries.sort_by_key(|(key, _)| key.parse::<u64>().unwrap_or(u64::MAX));
    entries
}

/// Every action of a definition.
pub fn calls(definition: &Definition) -> Vec<&Call> {
    let mut found = Vec::new();
    visit(&definition.root, &mut |state| {
        let lists = state.on.values().chain(state.after.values()).flatten();
        let invoked = state.invoke.iter().flat_map(|invoke| invoke.on_done.iter().chain(&invoke.on_error));
        let transitions = lists.chain(&state.always).chain(&state.on_done).chain(invoked);
        found.extend(state.entry.iter().chain(&state.exit));
        found.extend(state.initial.iter().flat_map(|initial| &initial.actions));
        found.extend(transitions.flat_map(|transition| &transition.actions));
    });
    found
}

fn visit<'d>(state: &'d State, each: &mut impl FnMut(&'d State)) {
    each(state);
    for child in state.states.values() {
        visit(child, each);
    }
}
