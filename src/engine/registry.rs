//! What the program registers for the names in a definition.

use crate::fsm::{ActionId, Context, Event, GuardId, InvocationId, Machine};
use crate::processor::{Handler, Watcher};
use serde_json::Value;
use std::sync::Arc;

/// What a guard or action of the program may look at.
pub struct View<'a> {
    pub(super) machine: &'a Machine,
    pub(super) context: &'a Context,
    pub(super) event: &'a Event<'a>,
    pub(super) params: Option<&'a Value>,
}

impl View<'_> {
    /// One value of the machine's context, as JSON.
    pub fn context(&self, key: &str) -> Option<Value> {
        self.context.get(self.machine.context_slot(key)?)
    }

    /// The event's name.
    pub fn event(&self) -> &str {
        self.event.name.unwrap_or_else(|| self.machine.event_name(self.event.id))
    }

    /// The `params` that the definition gives this guard or action.
    pub fn params(&self) -> Option<&Value> {
        self.params
    }
}

/// Decides a guard. Must be quick and must not block: the chunk is locked while it runs.
pub(super) type Guard = Arc<dyn Fn(&View<'_>) -> bool + Send + Sync>;
/// Performs an action. Must be quick and must not block: the chunk is locked while it runs.
pub(super) type ActionFn = Arc<dyn Fn(&View<'_>) + Send + Sync>;

/// The code behind an invocation.
pub(super) enum Role<P> {
    /// Runs on any worker.
    Parallel(Arc<dyn Handler<P>>),
    /// Runs on the committer, in order: the sink with this number.
    Ordered(usize),
    /// Runs beside them, without payload.
    Watcher(Arc<dyn Watcher>),
}

impl<P> Clone for Role<P> {
    fn clone(&self) -> Self {
        match self {
            Role::Parallel(handler) => Role::Parallel(handler.clone()),
            Role::Ordered(sink) => Role::Ordered(*sink),
            Role::Watcher(watcher) => Role::Watcher(watcher.clone()),
        }
    }
}

/// The program's code by the machine's numbers.
pub(super) struct Registry<P> {
    /// By [`InvocationId`].
    pub roles: Vec<Role<P>>,
    /// By [`GuardId`].
    pub guards: Vec<Guard>,
    /// By [`ActionId`].
    pub actions: Vec<ActionFn>,
}

impl<P> Registry<P> {
    pub fn role(&self, invocation: InvocationId) -> &Role<P> {
        &self.roles[invocation.index()]
    }

    pub fn guard(&self, guard: GuardId, view: &View<'_>) -> bool {
        self.guards[guard.index()](view)
    }

    pub fn act(&self, action: ActionId, view: &View<'_>) {
        self.actions[action.index()](view);
    }
}
