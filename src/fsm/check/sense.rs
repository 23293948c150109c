//! Names that must mean something: ids, targets, delays, guards, actions, handlers, context keys.

use std::collections::{BTreeSet, HashSet};

use indexmap::IndexMap;

use crate::fsm::builtin::{self, Action, Change, Fault, Guard, Operand, Parser};
use crate::fsm::definition::{Backoff, Call, Delay};
use crate::fsm::finding::{self, Draft};
use crate::fsm::graph::{Aim, Graph};
use crate::fsm::names;
use crate::fsm::path::Path;
use crate::fsm::vocabulary::{Use, Vocabulary};

/// A definition of sound shape, or the part of it that is.
pub(super) struct Sense<'g, 'd> {
    pub graph: &'g Graph<'d>,
    pub delays: &'g IndexMap<String, Delay>,
    pub vocabulary: Option<&'g Vocabulary>,
}

impl<'d> Sense<'_, 'd> {
    pub fn ids(&self) -> Vec<Draft> {
        let graph = self.graph;
        let twice = |node: &usize| {
            let message = format!("another state has the id `{}` already", graph.nodes[*node].id);
            let path = if graph.nodes[*node].state.id.is_some() { graph.node_path(*node).key("id") } else { graph.node_path(*node) };
            Draft::new(finding::DUPLICATE_ID, path, message)
        };
        let mut drafts: Vec<Draft> = graph.duplicate_ids.iter().map(twice).collect();
        let mut seen = HashSet::new();
        for (index, invocation) in graph.invocations.iter().enumerate() {
            if !seen.insert(&invocation.id) {
                let message = format!("another invocation has the id `{}` already", invocation.id);
                drafts.push(Draft::new(finding::DUPLICATE_ID, graph.invocation_path(index).key("id"), message));
            }
        }
        drafts
    }

    pub fn initials(&self) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let Some(initial) = node.state.initial.as_ref().filter(|_| node.initial.is_none()) else { continue };
            if node.state.states.is_empty() {
                continue; // reported as such
            }
            let path = self.graph.node_path(index).key("initial");
            let known = node.state.states.keys().map(String::as_str);
            let draft = Draft::new(finding::UNKNOWN_INITIAL, path, format!("unknown initial state `{}`", initial.target));
            drafts.push(draft.detail(Path::root().key("target")).suggest(names::nearest(&initial.target, known)));
        }
        drafts
    }

    pub fn targets(&self) -> Vec<Draft> {
        let check = |edge: usize| match self.graph.edges[edge].aim {
            Aim::Unknown => Some(self.unknown_target(edge)),
            Aim::State(0) => self.half_entered_root(edge),
            Aim::State(_) | Aim::Stay => None,
        };
        (0..self.graph.edges.len()).filter_map(check).collect()
    }

    /// XState enters a root that is the target of an inner state although it never left it: its timers are armed twice.
    fn half_entered_root(&self, edge: usize) -> Option<Draft> {
        let inner = &self.graph.edges[edge];
        let message = "the root would be entered without being left; add \"reenter\": true or name a state inside";
        let draft = Draft::new(finding::BAD_TARGET, self.graph.edge_path(edge), message).detail(Path::root().key("target"));
        (inner.source != 0 && !inner.transition.reenter).then_some(draft)
    }

    fn unknown_target(&self, edge: usize) -> Draft {
        let (path, detail) = (self.graph.edge_path(edge), Path::root().key("target"));
        let target = self.graph.edges[edge].transition.target.as_deref().unwrap_or_default();
        let source = self.graph.edges[edge].source;
        if source == 0 && !target.starts_with(['#', '.']) {
            let meant = self.graph.child(0, target.split('.').next().unwrap_or_default()).map(|_| format!(".{target}"));
            let message = format!("`{target}` is no target from the root, which has no siblings");
            return Draft::new(finding::BAD_TARGET, path, message).detail(detail).suggest(meant);
        }
        let draft = Draft::new(finding::UNKNOWN_TARGET, path, format!("unknown target `{target}`"));
        draft.detail(detail).suggest(self.meant_target(source, target))
    }

    /// The nearest target in the form that was used, else the state of that name elsewhere.
    fn meant_target(&self, source: usize, target: &str) -> Option<String> {
        let graph = self.graph;
        let below = |base: usize, prefix: &str| -> Vec<String> {
            let inside = base + 1..graph.nodes[base].end;
            let skip = if base == 0 { 0 } else { graph.nodes[base].name.len() + 1 };
            inside.map(|node| format!("{prefix}{}", &graph.nodes[node].name[skip..])).collect()
        };
        let known: Vec<String> = if target.starts_with('#') {
            let explicit = graph.nodes.iter().filter_map(|node| node.state.id.as_ref()).map(|id| format!("#{id}"));
            explicit.chain(below(0, &format!("#{}.", graph.definition.id))).collect()
        } else if target.starts_with('.') {
            below(source, ".")
        } else {
            below(graph.nodes[source].parent.unwrap_or(0), "")
        };
        let elsewhere = || {
            let key = target.rsplit(['.', '#']).next().unwrap_or(target);
            let node = graph.nodes.iter().skip(1).find(|node| node.key == key)?;
            Some(format!("#{}.{}", graph.definition.id, node.name))
        };
        names::nearest(target, known.iter().map(String::as_str)).or_else(elsewhere)
    }

    pub fn delays(&self) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for timer in &self.graph.timers {
            if !names::is_name(timer.key) || self.delays.contains_key(timer.key) {
                continue;
            }
            let path = self.graph.node_path(timer.node).key("after").key(timer.key);
            let known = self.delays.keys().map(String::as_str);
            let draft =
                Draft::new(finding::UNDEFINED_DELAY, path, format!("undefined delay `{}`; XState would fire it at once", timer.key));
            drafts.push(draft.at_key().suggest(names::nearest(timer.key, known)));
        }
        drafts
    }

    pub fn calls(&self) -> Vec<Draft> {
        let mut drafts = Vec::new();
        for Site { path, call, is_guard } in self.sites() {
            let mut parser = Parser::default();
            if is_guard {
                let guard = parser.guard(call);
                let names = guard.iter().flat_map(custom_guards);
                let known = self.vocabulary.and_then(|vocabulary| vocabulary.guards.as_ref());
                drafts.extend(names.filter_map(|name| unknown(finding::UNKNOWN_GUARD, "guard", &path, name, known?)));
            } else if parser.action(call) == Some(Action::Custom) {
                let known = self.vocabulary.and_then(|vocabulary| vocabulary.actions.as_ref());
                drafts.extend(known.and_then(|known| unknown(finding::UNKNOWN_ACTION, "action", &path, &call.name, known)));
            }
            let report = |fault: Fault| Draft::new(fault.code, path.clone(), fault.message).detail(fault.detail).suggest(fault.suggestion);
            drafts.extend(parser.faults.into_iter().map(report));
        }
        drafts
    }

    pub fn handlers(&self) -> Vec<Draft> {
        let Some(known) = self.vocabulary.and_then(|vocabulary| vocabulary.handlers.as_ref()) else { return Vec::new() };
        let mut drafts = Vec::new();
        for (index, invocation) in self.graph.invocations.iter().enumerate() {
            let src = &invocation.invoke.src;
            if !known.contains_key(src) {
                let draft =
                    Draft::new(finding::UNKNOWN_HANDLER, self.graph.invocation_path(index).key("src"), format!("unknown handler `{src}`"));
                drafts.push(draft.suggest(names::nearest(src, known.keys().map(String::as_str))));
            }
        }
        let used: HashSet<&str> = self.graph.invocations.iter().map(|invocation| invocation.invoke.src.as_str()).collect();
        for (name, _) in known.iter().filter(|(name, handler)| handler.need == Use::Required && !used.contains(name.as_str())) {
            let message = format!("no state invokes `{name}`, which the program requires");
            drafts.push(Draft::new(finding::UNUSED_HANDLER, Path::root(), message));
        }
        drafts
    }

    /// Keys of the context that are read, but neither there from the start nor ever assigned.
    pub fn unset_context(&self) -> Vec<Draft> {
        let mut known: BTreeSet<&str> = self.graph.definition.context.keys().map(String::as_str).collect();
        let sites = self.sites();
        known.extend(sites.iter().flat_map(|site| site.writes()));
        let delays = Path::root().key("meta").key("fsm").key("delays");
        let counters = self.delays.iter().filter_map(|(name, delay)| match delay {
            Delay::Backoff(backoff) => Some((delays.key(name), backoff.by.as_deref().unwrap_or(Backoff::DEFAULT_BY))),
            Delay::Constant(_) => None,
        });
        let reads = sites.iter().flat_map(|site| site.reads().into_iter().map(|key| (site.path.clone(), key)));
        let mut drafts = Vec::new();
        for (path, key) in reads.chain(counters) {
            let first = key.split('.').next().unwrap_or(key);
            if !known.contains(first) {
                let draft = Draft::new(finding::UNSET_CONTEXT, path, format!("reads the context key `{first}`, which nothing sets"));
                drafts.push(draft.suggest(names::nearest(first, known.iter().copied())));
            }
        }
        drafts
    }

    /// How many names the definition uses, at most: calls, custom guards and context keys.
    pub fn names(&self) -> usize {
        let named = |site: &Site<'_>| match builtin::guard(site.call).filter(|_| site.is_guard) {
            Some(guard) => custom_guards(&guard).len() + site.reads().len(),
            None => 1 + site.reads().len() + site.writes().len(),
        };
        self.graph.definition.context.len() + self.sites().iter().map(named).sum::<usize>()
    }

    /// Every guard and action, with the place where it stands.
    fn sites(&self) -> Vec<Site<'d>> {
        let mut sites = Vec::new();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let path = self.graph.node_path(index);
            add_actions(&mut sites, &path.key("entry"), &node.state.entry);
            add_actions(&mut sites, &path.key("exit"), &node.state.exit);
            if let Some(initial) = &node.state.initial {
                add_actions(&mut sites, &path.key("initial").key("actions"), &initial.actions);
            }
        }
        for (index, edge) in self.graph.edges.iter().enumerate() {
            let path = self.graph.edge_path(index);
            if let Some(guard) = &edge.transition.guard {
                sites.push(Site { path: path.key("guard"), call: guard, is_guard: true });
            }
            add_actions(&mut sites, &path.key("actions"), &edge.transition.actions);
        }
        sites
    }
}

struct Site<'d> {
    path: Path,
    call: &'d Call,
    is_guard: bool,
}

impl<'d> Site<'d> {
    fn changes(&self) -> Vec<(&'d str, Change<'d>)> {
        match builtin::action(self.call) {
            Some(Action::Assign(changes)) if !self.is_guard => changes,
            _ => Vec::new(),
        }
    }

    /// Context keys that it assigns.
    fn writes(&self) -> Vec<&'d str> {
        self.changes().into_iter().map(|(key, _)| key).collect()
    }

    /// Context paths that it looks at.
    fn reads(&self) -> Vec<&'d str> {
        let mut keys = Vec::new();
        if self.is_guard {
            builtin::guard(self.call).iter().for_each(|guard| guard_reads(guard, &mut keys));
        }
        keys.extend(self.changes().into_iter().filter_map(|(_, change)| match change {
            Change::Set(Operand::Context(key)) => Some(key),
            _ => None,
        }));
        keys
    }
}

fn add_actions<'d>(sites: &mut Vec<Site<'d>>, path: &Path, calls: &'d [Call]) {
    let site = |(index, call)| Site { path: path.item(index, calls.len()), call, is_guard: false };
    sites.extend(calls.iter().enumerate().map(site));
}

fn unknown(code: finding::Code, what: &str, path: &Path, name: &str, known: &[String]) -> Option<Draft> {
    if known.iter().any(|known| known == name) {
        return None;
    }
    let draft = Draft::new(code, path.clone(), format!("unknown {what} `{name}`")).detail(Path::root().key("type"));
    Some(draft.suggest(names::nearest(name, known.iter().map(String::as_str))))
}

fn custom_guards<'d>(guard: &Guard<'d>) -> Vec<&'d str> {
    match guard {
        Guard::Custom { name, .. } => vec![name],
        Guard::All(inner) | Guard::Any(inner) => inner.iter().flat_map(custom_guards).collect(),
        Guard::Not(inner) => custom_guards(inner),
        Guard::Compare { .. } | Guard::EventIn { .. } => Vec::new(),
    }
}

fn guard_reads<'d>(guard: &Guard<'d>, keys: &mut Vec<&'d str>) {
    match guard {
        Guard::Compare { key, value, .. } => {
            keys.push(key);
            keys.extend(if let Operand::Context(key) = value { Some(*key) } else { None });
        }
        Guard::All(inner) | Guard::Any(inner) => inner.iter().for_each(|guard| guard_reads(guard, keys)),
        Guard::Not(inner) => guard_reads(inner, keys),
        Guard::Custom { .. } | Guard::EventIn { .. } => {}
    }
}
