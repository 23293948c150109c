//! Definition to machine: the only way to get one.

mod plans;

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::{IndexMap, IndexSet};
use serde_json::{Map, Value};

use super::builtin;
use super::check;
use super::context::{Cell, Layout};
use super::definition::{Backoff, Call, Definition, Delay};
use super::finding::{Class, Report};
use super::graph::{self, Aim, EventKind, Graph};
use super::machine::{EventId, Invocation, InvocationId, Machine, State, StateId, Timer, Transition};
use super::plan::{Choice, Formula, NONE, Op, Plan, Span};
use super::vocabulary::Vocabulary;

/// How to compile.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// Takes the place of `meta.fsm.delays`, as a whole and in the same form; for simulating.
    pub delays: Option<Map<String, Value>>,
    /// Microsteps that one event may take when the definition has no `options.maxIterations`; at least 1.
    pub default_max_iterations: u32,
    /// What the program registers. Names it lacks are errors.
    pub vocabulary: Option<Vocabulary>,
    /// Findings of this class, and of weightier ones, are refused. Of class E they are in any case.
    pub refuse: Class,
}

impl Default for CompileOptions {
    fn default() -> CompileOptions {
        CompileOptions { delays: None, default_max_iterations: 200, vocabulary: None, refuse: Class::Error }
    }
}

/// Compiles a definition.
///
/// # Errors
/// The whole report, when it has a finding of class E, or of another class that `options` refuse. Otherwise these do not stop a machine from
/// being made; look at them with [`check`](super::check()).
pub fn compile(definition: Definition, options: &CompileOptions) -> Result<Machine, Report> {
    let given = options.delays.as_ref().map(check::read_delays).transpose()?;
    let report = check::check_with(&definition, given.as_ref(), options.vocabulary.as_ref());
    if !report.is_clean(options.refuse.max(Class::Error)) {
        return Err(report);
    }
    let mut machine = {
        let graph = Graph::new(&definition);
        Compiler::new(&graph, given.as_ref().unwrap_or(&definition.delays)).run()
    };
    machine.max_iterations = definition.max_iterations.unwrap_or(options.default_max_iterations).max(1);
    machine.definition = definition;
    Ok(machine)
}

/// Builds the tables of `machine` from a graph that was checked.
struct Compiler<'g, 'd> {
    graph: &'g Graph<'d>,
    delays: &'g IndexMap<String, Delay>,
    machine: Machine,
    layout: Layout,
    guards: IndexSet<String>,
    action_names: IndexSet<String>,
    /// By edge, into `machine.tests`.
    tests: Vec<u32>,
    /// The ops of each call of the definition, made once though many plans use them. The key is its address.
    calls: HashMap<*const Call, Vec<Op>>,
    /// By final state, into `machine.internals`.
    finished: HashMap<usize, u32>,
    plans: HashMap<(usize, usize), Plan>,
}

impl<'g, 'd> Compiler<'g, 'd> {
    fn new(graph: &'g Graph<'d>, delays: &'g IndexMap<String, Delay>) -> Compiler<'g, 'd> {
        let all = graph::calls(graph.definition);
        let own = all.into_iter().filter(|call| !call.is_builtin()).map(|call| call.name.clone());
        let action_names = own.chain(builtin::ACTIONS.iter().map(|name| (*name).to_owned())).collect();
        Compiler {
            graph,
            delays,
            machine: empty(),
            layout: Layout::default(),
            guards: IndexSet::new(),
            action_names,
            tests: Vec::new(),
            calls: HashMap::new(),
            finished: HashMap::new(),
            plans: HashMap::new(),
        }
    }

    fn run(mut self) -> Machine {
        self.context();
        self.names();
        self.timers();
        self.transitions();
        self.tables();
        self.machine.start = self.start();
        self.machine.guards = self.guards.into_iter().collect();
        self.machine.action_names = self.action_names.into_iter().collect();
        let unset = self.layout.keys.len() - self.machine.initial_cells.len();
        self.machine.initial_cells.extend(std::iter::repeat_n(Cell::Undefined, unset));
        self.machine.layout = Arc::new(self.layout);
        self.machine
    }

    fn context(&mut self) {
        for (key, value) in &self.graph.definition.context {
            self.layout.keys.insert(key.clone());
            let cell = match value.as_f64() {
                Some(number) => Cell::Number(number),
                None => Cell::Literal(self.literal(value)),
            };
            self.machine.initial_cells.push(cell);
        }
    }

    fn names(&mut self) {
        let graph = self.graph;
        for (index, node) in graph.nodes.iter().enumerate() {
            let mut chain: Vec<usize> = graph.chain(index).collect();
            chain.reverse();
            let active = chain.into_iter().flat_map(|node| graph.nodes[node].invocations.clone());
            self.machine.state_index.insert(node.name.clone(), StateId::new(index));
            self.machine.states.push(State {
                name: node.name.clone(),
                id: node.id.clone(),
                parent: node.parent.map(StateId::new),
                is_final: node.state.is_final,
                is_leaf: graph.is_leaf(index),
                tags: node.state.tags.clone(),
                invocations: active.map(InvocationId::new).collect(),
            });
        }
        for (index, (name, kind)) in graph.events.iter().enumerate() {
            let id = EventId::new(index);
            let machine = &mut self.machine;
            machine.events.push(name.clone());
            machine.settles.push(match kind {
                EventKind::Done(invocation) | EventKind::Error(invocation) => Some(InvocationId::new(*invocation)),
                _ => None,
            });
            match kind {
                EventKind::Prefix => machine.wildcards.push(id),
                EventKind::Rest => {}
                _ => drop(machine.event_index.insert(name.clone(), id)),
            }
        }
        let events = &self.machine.events;
        self.machine.wildcards.sort_by_key(|id| std::cmp::Reverse(events[id.index()].len()));
        for invocation in &graph.invocations {
            self.machine.invocations.push(Invocation {
                id: invocation.id.clone(),
                src: invocation.invoke.src.clone(),
                input: invocation.invoke.input.clone(),
                state: StateId::new(invocation.node),
                done: self.event_id(&format!("xstate.done.actor.{}", invocation.id)),
                error: self.event_id(&format!("xstate.error.actor.{}", invocation.id)),
            });
        }
    }

    fn event_id(&self, name: &str) -> EventId {
        // Every name asked for here was put in by the graph.
        self.graph.events.get_index_of(name).map_or(EventId::REST, EventId::new)
    }

    fn timers(&mut self) {
        for timer in &self.graph.timers {
            let node = &self.graph.nodes[timer.node];
            self.machine.timers.push(Timer {
                state: StateId::new(timer.node),
                event: self.event_id(&format!("xstate.after.{}.{}", timer.key, node.id)),
                key: timer.key.to_owned(),
            });
            let formula = match self.delays.get(timer.key) {
                Some(Delay::Backoff(backoff)) => Some(Formula {
                    base: backoff.base,
                    factor: backoff.factor.unwrap_or(Backoff::DEFAULT_FACTOR),
                    max: backoff.max.unwrap_or(f64::INFINITY),
                    by: self.context_path(backoff.by.as_deref().unwrap_or(Backoff::DEFAULT_BY)),
                    jitter: backoff.jitter.unwrap_or_default(),
                }),
                _ => None,
            };
            self.machine.formulas.push(formula);
        }
    }

    /// Milliseconds of a timer whose delay is no formula.
    fn constant_ms(&self, timer: usize) -> f64 {
        let key = self.graph.timers[timer].key;
        match self.delays.get(key) {
            Some(Delay::Constant(ms)) => *ms,
            _ => key.parse().unwrap_or_default(),
        }
    }

    fn transitions(&mut self) {
        for (index, edge) in self.graph.edges.iter().enumerate() {
            let guard = edge.transition.guard.as_ref().and_then(builtin::guard);
            self.machine.transitions.push(Transition {
                source: StateId::new(edge.source),
                target: match edge.aim {
                    Aim::State(target) => Some(StateId::new(target)),
                    Aim::Stay | Aim::Unknown => None,
                },
                reenter: edge.transition.reenter,
                guarded: guard.is_some(),
                path: self.graph.edge_path(index).to_string(),
            });
            let test = guard.map(|guard| self.test(&guard));
            self.tests.push(match test {
                Some(test) => push(&mut self.machine.tests, test),
                None => NONE,
            });
        }
    }

    fn tables(&mut self) {
        let graph = self.graph;
        let columns = graph.events.len().next_power_of_two();
        self.machine.row_bits = columns.trailing_zeros();
        for node in 0..graph.nodes.len() {
            // In a state that ends the machine nothing happens any more.
            let rests = graph.is_leaf(node) && !graph.ends(node);
            // Many events have the same candidates in a leaf (above all: none).
            let mut choices: HashMap<Vec<usize>, Choice> = HashMap::new();
            for event in 0..graph.events.len() {
                let candidates = if rests { graph.until_unguarded(graph.candidates(node, event)) } else { Vec::new() };
                let choice = *choices.entry(candidates).or_insert_with_key(|candidates| self.choice(node, candidates));
                self.machine.table.push(choice);
            }
            self.machine.table.resize((node + 1) * columns, Choice::NOBODY);
            let always = if rests { graph.until_unguarded(graph.always(node)) } else { Vec::new() };
            let always = self.choice(node, &always);
            self.machine.always.push(always);
        }
    }

    fn choice(&mut self, leaf: usize, edges: &[usize]) -> Choice {
        let Some((first, rest)) = edges.split_first() else { return Choice::NOBODY };
        let first = self.plan_of(leaf, *first);
        let rest: Vec<Plan> = rest.iter().map(|edge| self.plan_of(leaf, *edge)).collect();
        Choice { first, rest: extend(&mut self.machine.plans, rest) }
    }

    fn plan_of(&mut self, leaf: usize, edge: usize) -> Plan {
        if let Some(plan) = self.plans.get(&(leaf, edge)) {
            return *plan;
        }
        let plan = Plan { test: self.tests[edge], ..self.transition_plan(leaf, edge) };
        self.plans.insert((leaf, edge), plan);
        plan
    }

    fn literal(&mut self, value: &Value) -> u32 {
        let known = self.layout.literals.iter().position(|literal| literal == value);
        known.map_or_else(|| push(&mut self.layout.literals, value.clone()), number)
    }
}

/// Limits in `check` keep every array of a machine below 2^32.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(NONE)
}

fn push<T>(list: &mut Vec<T>, item: T) -> u32 {
    list.push(item);
    number(list.len() - 1)
}

fn extend<T>(list: &mut Vec<T>, items: impl IntoIterator<Item = T>) -> Span {
    let start = number(list.len());
    list.extend(items);
    Span { start, end: number(list.len()) }
}

fn empty() -> Machine {
    Machine {
        definition: Definition::default(),
        max_iterations: 1,
        states: Vec::new(),
        state_index: HashMap::new(),
        events: Vec::new(),
        event_index: HashMap::new(),
        wildcards: Vec::new(),
        settles: Vec::new(),
        invocations: Vec::new(),
        timers: Vec::new(),
        formulas: Vec::new(),
        transitions: Vec::new(),
        guards: Vec::new(),
        actions: Vec::new(),
        action_names: Vec::new(),
        layout: Arc::default(),
        initial_cells: Vec::new(),
        table: Vec::new(),
        row_bits: 0,
        always: Vec::new(),
        plans: Vec::new(),
        ops: Vec::new(),
        tests: Vec::new(),
        assigns: Vec::new(),
        paths: Vec::new(),
        internals: Vec::new(),
        start: Plan::NOWHERE,
    }
}
