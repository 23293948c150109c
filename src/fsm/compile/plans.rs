//! From an edge in a leaf to the operations that taking it performs.
//!
//! Order, as in XState: exits from the leaf outward (exit actions, then timers cancelled, then
//! invocations stopped), the actions of the transition, entries inward (entry actions, delays evaluated, invocations
//! created, `initial.actions` when the child is entered by default), `done.state` queued; when that ends the machine,
//! the exit actions of all that is active.

use serde_json::Value;

use super::{Compiler, extend, push};
use crate::fsm::builtin::{self, Action, Change, Guard, Operand};
use crate::fsm::context::Slot;
use crate::fsm::definition::Call;
use crate::fsm::graph::Route;
use crate::fsm::machine::{self, ActionId, GuardId, InvocationId, StateId, TimerId, TransitionId};
use crate::fsm::plan::{ContextPath, EventPath, Head, Internal, InternalData, NONE, Op, Plan, Right, Source, Test};

impl<'d> Compiler<'_, 'd> {
    pub fn transition_plan(&mut self, leaf: usize, edge: usize) -> Plan {
        let graph = self.graph;
        let actions = &graph.edges[edge].transition.actions;
        let Some(route) = graph.route(leaf, edge) else {
            let ops = self.calls(actions);
            return self.plan(ops, leaf, edge, false);
        };
        let mut ops = Vec::new();
        for &node in &route.exits {
            ops.extend(self.calls(&graph.nodes[node].state.exit));
            ops.extend(graph.nodes[node].timers.clone().map(|timer| Op::Cancel { timer: TimerId::new(timer) }));
            ops.extend(graph.nodes[node].invocations.clone().map(|one| Op::Stop { invocation: InvocationId::new(one) }));
        }
        ops.extend(self.calls(actions));
        let creates = self.enter(&route, &mut ops);
        self.plan(ops, route.leaf, edge, creates || route.leaf != leaf)
    }

    pub fn start(&mut self) -> Plan {
        let graph = self.graph;
        let leaf = graph.default_leaf(0);
        let mut chain: Vec<(usize, bool)> = graph.chain(leaf).map(|node| (node, true)).collect();
        chain.reverse();
        let mut ops = Vec::new();
        self.enter(&Route { exits: Vec::new(), entries: chain, leaf }, &mut ops);
        self.plan(ops, leaf, 0, true)
    }

    fn plan(&mut self, ops: Vec<Op>, leaf: usize, edge: usize, changes: bool) -> Plan {
        let assigns = ops.iter().any(|op| {
            matches!(op, Op::SetNumber { .. } | Op::SetLiteral { .. } | Op::Increment { .. } | Op::SetEvent { .. } | Op::Assign { .. })
        });
        let mut fused: Vec<Op> = Vec::with_capacity(ops.len());
        for op in ops {
            match fused.last_mut().and_then(|last| Some((last.fused(op)?, last))) {
                Some((both, last)) => *last = both,
                None => fused.push(op),
            }
        }
        Plan {
            test: NONE,
            finishes: self.graph.ends(leaf),
            ops: extend(&mut self.machine.ops, fused),
            to: StateId::new(leaf),
            transition: TransitionId::new(edge),
            changes: changes || assigns,
        }
    }

    /// True when an invocation is created on the way.
    fn enter(&mut self, route: &Route, ops: &mut Vec<Op>) -> bool {
        let graph = self.graph;
        let mut creates = false;
        for &(node, by_default) in &route.entries {
            let state = graph.nodes[node].state;
            ops.extend(self.calls(&state.entry));
            for timer in graph.nodes[node].timers.clone() {
                let id = TimerId::new(timer);
                ops.push(match self.machine.formulas[timer] {
                    Some(_) => Op::ArmBackoff { timer: id },
                    None => Op::Arm { timer: id, delay_ms: self.constant_ms(timer) },
                });
            }
            ops.extend(graph.nodes[node].invocations.clone().map(|one| Op::Start { invocation: InvocationId::new(one) }));
            creates |= !graph.nodes[node].invocations.is_empty();
            if let Some(initial) = state.initial.as_ref().filter(|_| by_default) {
                ops.extend(self.calls(&initial.actions));
            }
            if state.is_final && !graph.ends(node) {
                ops.push(Op::Queue { internal: self.finished(node) });
            }
        }
        if graph.ends(route.leaf) {
            for node in graph.chain(route.leaf) {
                ops.extend(self.calls(&graph.nodes[node].state.exit));
            }
        }
        creates
    }

    /// The event that a final state sends to its parent.
    fn finished(&mut self, node: usize) -> u32 {
        if let Some(internal) = self.finished.get(&node) {
            return *internal;
        }
        let parent = self.graph.nodes[node].parent.unwrap_or(0);
        let id = self.event_id(&format!("xstate.done.state.{}", self.graph.nodes[parent].id));
        let data = self.graph.nodes[node].state.output.clone().map_or(InternalData::None, InternalData::Output);
        let internal = push(&mut self.machine.internals, Internal { id, data });
        self.finished.insert(node, internal);
        internal
    }

    fn calls(&mut self, calls: &'d [Call]) -> Vec<Op> {
        calls.iter().flat_map(|call| self.call(call)).collect()
    }

    fn call(&mut self, call: &'d Call) -> Vec<Op> {
        if let Some(ops) = self.calls.get(&std::ptr::from_ref(call)) {
            return ops.clone();
        }
        let index = self.action_names.get_index_of(&call.name).unwrap_or_default();
        let params = call.params.clone().map(Value::Object);
        let told = machine::Action { id: ActionId::new(index), name: call.name.clone(), params };
        let action = push(&mut self.machine.actions, told);
        let ops = match builtin::action(call) {
            Some(Action::Assign(changes)) => self.assign(action, &changes),
            Some(Action::Raise { name, event }) => {
                let raised = Internal { id: self.event_id(name), data: InternalData::Payload(event.clone()) };
                vec![Op::Raise { action, internal: push(&mut self.machine.internals, raised) }]
            }
            Some(Action::Custom) | None => vec![Op::Custom { action }],
        };
        self.calls.insert(std::ptr::from_ref(call), ops.clone());
        ops
    }

    /// One op per key; one op for all keys when one of them reads the context, which the others must not have changed.
    fn assign(&mut self, action: u32, changes: &[(&'d str, Change<'d>)]) -> Vec<Op> {
        let sources: Vec<(Slot, Source)> = changes.iter().map(|(key, change)| (self.slot(key), self.source(change))).collect();
        let reads_context = sources.iter().any(|(_, source)| matches!(source, Source::Context(_)));
        if reads_context || sources.is_empty() {
            return vec![Op::Assign { action, assign: push(&mut self.machine.assigns, sources) }];
        }
        let tell = |index| if index == 0 { action } else { NONE };
        let op = |(index, (slot, source))| match source {
            Source::Number(value) => Op::SetNumber { slot, action: tell(index), value },
            Source::Literal(literal) => Op::SetLiteral { slot, action: tell(index), literal },
            Source::Increment(by) => Op::Increment { slot, action: tell(index), by },
            Source::Event(path) => Op::SetEvent { slot, action: tell(index), path: push(&mut self.machine.paths, path) },
            Source::Context(_) => Op::Assign { action: NONE, assign: NONE },
        };
        sources.into_iter().enumerate().map(op).collect()
    }

    fn source(&mut self, change: &Change<'_>) -> Source {
        match change {
            Change::Increment(by) => Source::Increment(*by),
            Change::Set(Operand::Context(path)) => Source::Context(self.context_path(path)),
            Change::Set(Operand::Event(path)) => Source::Event(event_path(path)),
            Change::Set(Operand::Literal(value)) => match value.as_f64() {
                Some(number) => Source::Number(number),
                None => Source::Literal(self.literal(value)),
            },
        }
    }

    fn slot(&mut self, key: &str) -> Slot {
        let (index, _) = self.layout.keys.insert_full(key.to_owned());
        Slot(u16::try_from(index).unwrap_or(u16::MAX))
    }

    pub fn context_path(&mut self, path: &str) -> ContextPath {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        ContextPath { slot: self.slot(first), rest: segments(rest) }
    }

    pub fn test(&mut self, guard: &Guard<'_>) -> Test {
        match guard {
            Guard::Custom { name, params } => Test::Custom {
                guard: GuardId::new(self.guards.insert_full((*name).to_owned()).0),
                params: params.cloned().map(Value::Object),
            },
            Guard::Compare { order, key, value } => Test::Compare {
                order: *order,
                left: self.context_path(key),
                right: match value {
                    Operand::Context(path) => Right::Context(self.context_path(path)),
                    Operand::Event(path) => Right::Event(event_path(path)),
                    Operand::Literal(value) => value.as_f64().map_or_else(|| Right::Literal((*value).clone()), Right::Number),
                },
            },
            Guard::EventIn { path, values } => Test::EventIn { path: event_path(path), values: values.to_vec() },
            Guard::All(inner) => Test::All(inner.iter().map(|guard| self.test(guard)).collect()),
            Guard::Any(inner) => Test::Any(inner.iter().map(|guard| self.test(guard)).collect()),
            Guard::Not(inner) => Test::Not(Box::new(self.test(inner))),
        }
    }
}

fn event_path(path: &str) -> EventPath {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let head = match first {
        "type" => Head::Type,
        "output" => Head::Output,
        "error" => Head::Error,
        other => Head::Other(other.into()),
    };
    EventPath { head, rest: segments(rest) }
}

fn segments(rest: Option<&str>) -> Box<[Box<str>]> {
    rest.into_iter().flat_map(|rest| rest.split('.')).map(Into::into).collect()
}
