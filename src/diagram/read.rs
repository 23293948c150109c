//! Machine to graph.

use indexmap::IndexMap;

use super::graph::{Edge, Ending, Graph, Line, Node, Place, Way};
use super::words;
use crate::fsm::definition::{State, Transition};
use crate::fsm::{Definition, Machine, StateId, TransitionId};

impl Graph {
    /// The graph of a machine, without actions: they are what a picture can do without.
    pub fn of(machine: &Machine) -> Graph {
        Reader { machine, actions: false }.read()
    }

    /// The graph of a machine with the actions of its transitions and states.
    pub fn with_actions(machine: &Machine) -> Graph {
        Reader { machine, actions: true }.read()
    }
}

struct Reader<'m> {
    machine: &'m Machine,
    actions: bool,
}

/// What sets off a transition, as written.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Trigger<'p> {
    On(&'p str),
    After(&'p str),
    Always,
    Finished,
    Done(usize),
    Error(usize),
}

impl Trigger<'_> {
    fn way(self) -> Way {
        match self {
            Trigger::Finished | Trigger::Done(_) => Way::Onward,
            Trigger::Error(_) => Way::Error,
            Trigger::On(_) | Trigger::After(_) | Trigger::Always => Way::Other,
        }
    }
}

/// A transition as written and where it stands.
struct Written<'m> {
    trigger: Trigger<'m>,
    list: &'m [Transition],
    index: usize,
}

impl Reader<'_> {
    fn read(&self) -> Graph {
        let definition = self.machine.definition();
        let mut graph = Graph {
            nodes: self.machine.states().map(|state| self.node(state)).collect(),
            edges: Vec::new(),
            version: definition.version.clone(),
            moves: std::collections::BTreeMap::new(),
            figures: None,
        };
        for node in 1..graph.nodes.len() {
            let parent = graph.nodes[node].parent.unwrap_or(0);
            graph.nodes[parent].children.push(node);
        }
        for node in 0..graph.nodes.len() {
            let initial = words::state(definition, &graph.nodes[node].name).and_then(|state| state.initial.as_ref());
            let child = |child: &&usize| initial.is_some_and(|initial| initial.target == graph.nodes[**child].label);
            graph.nodes[node].initial = graph.nodes[node].children.iter().find(child).copied();
        }
        let places = self.transitions(&mut graph);
        self.moves(&mut graph, &places);
        graph
    }

    fn node(&self, id: StateId) -> Node {
        let machine = self.machine;
        let definition = machine.definition();
        let name = machine.state_name(id).to_owned();
        let state = words::state(definition, &name);
        let label = if id == StateId::ROOT { &definition.id } else { name.rsplit('.').next().unwrap_or(&name) };
        let calls = |verb: &str, list: &[crate::fsm::definition::Call]| -> Vec<String> {
            list.iter().map(|call| format!("{verb} / {}", words::action(call))).collect()
        };
        let actions = state.filter(|_| self.actions).map(|state| [calls("entry", &state.entry), calls("exit", &state.exit)].concat());
        Node {
            label: label.to_owned(),
            parent: machine.parent(id).map(StateId::index),
            children: Vec::new(),
            initial: None,
            ending: machine.is_final(id).then(|| self.ending(id)),
            parked: self.is_parked(id),
            description: state.and_then(|state| state.description.clone()),
            work: state.map(|state| state.invoke.iter().map(|invoke| invoke.src.clone()).collect()).unwrap_or_default(),
            actions: actions.unwrap_or_default(),
            reactions: Vec::new(),
            figures: None,
            name,
        }
    }

    fn ending(&self, id: StateId) -> Ending {
        let endings = [("ok", Ending::Ok), ("error", Ending::Error), ("cancelled", Ending::Cancelled)];
        let tagged = endings.into_iter().find(|(tag, _)| self.machine.has_tag(id, tag));
        tagged.map_or(Ending::Plain, |(_, ending)| ending)
    }

    /// No work, no timer and no `always` leads out of the leaf, but some event does.
    fn is_parked(&self, leaf: StateId) -> bool {
        let machine = self.machine;
        if !machine.is_leaf(leaf) || machine.is_final(leaf) || !machine.state_invocations(leaf).is_empty() {
            return false;
        }
        let ticks = machine.timers().any(|timer| machine.configuration(leaf).any(|state| state == machine.timer(timer).state));
        let leads_out = |event| machine.candidates(leaf, event).any(|candidate| candidate.target != leaf);
        !ticks && machine.always_candidates(leaf).next().is_none() && machine.events().any(leads_out)
    }

    /// Adds an edge or a reaction for every transition; says where each went.
    fn transitions(&self, graph: &mut Graph) -> Vec<Place> {
        let mut pairs: IndexMap<(usize, usize), usize> = IndexMap::new();
        let place = |id: TransitionId| {
            let transition = self.machine.transition(id);
            let from = transition.source.index();
            let line = self.line(id, &graph.nodes[from]);
            let Some(to) = transition.target.map(StateId::index) else {
                let reactions = &mut graph.nodes[from].reactions;
                reactions.push(line);
                return Place::Reaction { node: from, line: reactions.len() - 1 };
            };
            let edge = *pairs.entry((from, to)).or_insert(graph.edges.len());
            if edge == graph.edges.len() {
                graph.edges.push(Edge { from, to, lines: Vec::new() });
            }
            let lines = &mut graph.edges[edge].lines;
            lines.push(line);
            Place::Edge { edge, line: lines.len() - 1 }
        };
        self.machine.transitions().map(place).collect()
    }

    fn line(&self, id: TransitionId, source: &Node) -> Line {
        let definition = self.machine.definition();
        let path = &self.machine.transition(id).path;
        let Some(Written { trigger, list, index }) = written(definition, path) else {
            return Line {
                trigger: path.clone(),
                detail: None,
                guard: None,
                actions: Vec::new(),
                description: None,
                way: Way::Other,
                count: 0,
            };
        };
        let transition = &list[index];
        let several = source.work.len() + usize::from(source.is_compound()) > 1;
        let of = |invoke: usize| if several { source.work.get(invoke).map_or("", String::as_str) } else { "" };
        let text = match trigger {
            Trigger::On(descriptor) => descriptor.to_owned(),
            Trigger::After(key) => format!("after {}", words::delay(key)),
            Trigger::Always => "always".to_owned(),
            Trigger::Finished => "done".to_owned(),
            Trigger::Done(invoke) => format!("{} done", of(invoke)).trim_start().to_owned(),
            Trigger::Error(invoke) => format!("{} error", of(invoke)).trim_start().to_owned(),
        };
        let otherwise = (index > 0 && transition.guard.is_none()).then(|| "else".to_owned());
        let stays = transition.target.is_none();
        let mut actions: Vec<String> = Vec::new();
        if self.actions || stays {
            actions.extend(transition.actions.iter().map(words::action));
        }
        Line {
            trigger: if stays && actions.is_empty() { format!("{text} refused") } else { text },
            detail: if let Trigger::After(key) = trigger { words::delay_detail(definition, key) } else { None },
            guard: transition.guard.as_ref().map(words::guard).or(otherwise),
            actions,
            description: transition.description.clone(),
            way: trigger.way(),
            count: 0,
        }
    }

    /// For every leaf and event: which line a journal's row about it belongs to.
    fn moves(&self, graph: &mut Graph, places: &[Place]) {
        let machine = self.machine;
        for leaf in machine.states().filter(|state| machine.is_leaf(*state)) {
            for event in machine.events() {
                // The journal names an `always` after the event before it, so `always` stands behind all events.
                for candidate in machine.candidates(leaf, event).chain(machine.always_candidates(leaf)) {
                    let names = [leaf, candidate.target].map(|state| machine.state_name(state).to_owned());
                    let [from, to] = names;
                    let key = (from, to, machine.event_name(event).to_owned());
                    graph.moves.entry(key).or_insert(places[candidate.transition.index()]);
                }
            }
        }
    }
}

/// The transition at `path`, for example `states.received.invoke.onError[1]` or `on["x.*"]`.
fn written<'m>(definition: &'m Definition, path: &'m str) -> Option<Written<'m>> {
    let steps = steps(path);
    let mut state: &State = &definition.root;
    let mut rest = steps.as_slice();
    while let ["states", key, more @ ..] = rest {
        state = state.states.get(*key)?;
        rest = more;
    }
    let (trigger, list, rest) = match rest {
        ["on", key, rest @ ..] => (Trigger::On(key), &state.on.get(*key)?[..], rest),
        ["after", key, rest @ ..] => (Trigger::After(key), &state.after.get(*key)?[..], rest),
        ["always", rest @ ..] => (Trigger::Always, &state.always[..], rest),
        ["onDone", rest @ ..] => (Trigger::Finished, &state.on_done[..], rest),
        ["invoke", "onDone", rest @ ..] => (Trigger::Done(0), &state.invoke.first()?.on_done[..], rest),
        ["invoke", "onError", rest @ ..] => (Trigger::Error(0), &state.invoke.first()?.on_error[..], rest),
        ["invoke", index, which, rest @ ..] => {
            let index: usize = index.parse().ok()?;
            let invoke = state.invoke.get(index)?;
            match *which {
                "onDone" => (Trigger::Done(index), &invoke.on_done[..], rest),
                _ => (Trigger::Error(index), &invoke.on_error[..], rest),
            }
        }
        _ => return None,
    };
    let index = rest.first().map_or(Some(0), |index| index.parse().ok())?;
    (index < list.len()).then_some(Written { trigger, list, index })
}

/// Takes `a.b["c.d"][1]` apart. The format allows no quotes and no backslashes in keys, so none need undoing.
fn steps(path: &str) -> Vec<&str> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let (step, more) = if let Some(quoted) = rest.strip_prefix("[\"") {
            quoted.split_once("\"]").unwrap_or((quoted, ""))
        } else if let Some(index) = rest.strip_prefix('[') {
            index.split_once(']').unwrap_or((index, ""))
        } else {
            rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()))
        };
        steps.push(step);
        rest = more.strip_prefix('.').unwrap_or(more);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_come_apart() {
        assert_eq!(steps("states.a.invoke[1].onError[0]"), ["states", "a", "invoke", "1", "onError", "0"]);
        assert_eq!(steps("on[\"x.*\"]"), ["on", "x.*"]);
        assert_eq!(steps("states.a.after.1500[2]"), ["states", "a", "after", "1500", "2"]);
        assert!(steps("").is_empty());
    }
}
