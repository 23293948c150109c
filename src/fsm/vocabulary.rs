//! What a program registers, for checking a definition against it.

use indexmap::IndexMap;

/// Whether a definition must use a handler.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A definition that never invokes it is refused: the program would do nothing useful.
    Required,
    /// A definition may do without.
    Optional,
}

/// What a handler has to do with the payload, and whether it may be abandoned when its state is left.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Works on the payload, on a worker. May be abandoned, so its state wants a timeout.
    Payload,
    /// Works on the payload in chunk order (sinks, the dead letter). Never abandoned: its own I/O has the deadline.
    Ordered,
    /// Only watches; may run beside a handler of the payload. May be abandoned.
    Watcher,
}

#[derive(Copy, Clone, Debug)]
pub(super) struct Handler {
    pub need: Use,
    pub role: Role,
}

/// The guards, actions and handlers that a program has.
///
/// A category is open (anything goes) until something is registered in it or it is closed.
/// Names below `fsm.` are built in and never need registering.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    pub(super) guards: Option<Vec<String>>,
    pub(super) actions: Option<Vec<String>>,
    pub(super) handlers: Option<IndexMap<String, Handler>>,
}

impl Vocabulary {
    /// All three categories open.
    pub fn new() -> Vocabulary {
        Vocabulary::default()
    }

    /// All three categories closed and empty: what is not registered afterwards is unknown.
    pub fn closed() -> Vocabulary {
        Vocabulary::new().no_guards().no_actions().no_handlers()
    }

    /// Registers a guard.
    #[must_use]
    pub fn guard(mut self, name: impl Into<String>) -> Vocabulary {
        self.guards.get_or_insert_default().push(name.into());
        self
    }

    /// Registers an action.
    #[must_use]
    pub fn action(mut self, name: impl Into<String>) -> Vocabulary {
        self.actions.get_or_insert_default().push(name.into());
        self
    }

    /// Registers the handler of invocations with `src: name`.
    #[must_use]
    pub fn handler(mut self, name: impl Into<String>, need: Use, role: Role) -> Vocabulary {
        self.handlers.get_or_insert_default().insert(name.into(), Handler { need, role });
        self
    }

    /// Closes the category of guards.
    #[must_use]
    pub fn no_guards(mut self) -> Vocabulary {
        self.guards.get_or_insert_default();
        self
    }

    /// Closes the category of actions.
    #[must_use]
    pub fn no_actions(mut self) -> Vocabulary {
        self.actions.get_or_insert_default();
        self
    }

    /// Closes the category of handlers.
    #[must_use]
    pub fn no_handlers(mut self) -> Vocabulary {
        self.handlers.get_or_insert_default();
        self
    }

    pub(super) fn role(&self, src: &str) -> Option<Role> {
        self.handlers.as_ref()?.get(src).map(|handler| handler.role)
    }
}
