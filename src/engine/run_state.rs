//! The run's own lifecycle: a machine like any other, from `fsm-definitions/run.json`.

use crate::fsm::{CompileOptions, Definition, Effects, Event, EventData, Host, Instance, Machine, Status, compile};
use crate::journal::RunTransition;
use crate::sync::RwLock;
use serde_json::Map;
use std::sync::{Arc, LazyLock};

/// The definition, as it lies in `fsm-definitions/`.
pub const RUN_DEFINITION: &str = include_str!("../../fsm-definitions/run.json");

static MACHINE: LazyLock<Machine> = LazyLock::new(|| {
    let definition = serde_json::from_str::<Definition>(RUN_DEFINITION).expect("checked by a test");
    compile(definition, &CompileOptions::default()).expect("checked by a test")
});

/// A host without guards or actions.
struct Nobody;

impl Host for Nobody {}

/// The state that a run is in, and how it came there.
pub(super) struct RunState {
    machine: &'static Machine,
    instance: Instance,
    effects: Effects,
    view: Arc<RwLock<RunStatus>>,
}

/// The run's state as others see it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RunStatus {
    /// `idle`, `active`, `paused`, `draining`, `completed`, `failed`, `stopped` or `cancelled`.
    pub state: String,
    /// Why it is there, if there is something to say.
    pub reason: Option<String>,
    /// Whether it has come to its end.
    pub ended: bool,
}

impl RunState {
    pub fn new() -> RunState {
        let machine = &*MACHINE;
        let mut effects = Effects::default();
        let instance = machine.start(machine.initial_context(), &mut Nobody, &mut effects).expect("its first step ends");
        let state = machine.state_name(instance.state()).to_owned();
        let view = Arc::new(RwLock::new(RunStatus { state, reason: None, ended: false }));
        RunState { machine, instance, effects, view }
    }

    pub fn view(&self) -> Arc<RwLock<RunStatus>> {
        self.view.clone()
    }

    /// Sends an event; gives the transition if it made one.
    pub fn send(&mut self, event: &'static str, reason: Option<&str>, at_micros: u64) -> Option<RunTransition> {
        let from: Box<str> = self.machine.state_name(self.instance.state()).into();
        let members = reason.map(|reason| Map::from_iter([("reason".to_owned(), reason.into())]));
        let data = members.as_ref().map_or(EventData::None, EventData::Payload);
        let sent = Event { id: self.machine.event(event), name: None, data };
        self.machine.send(&mut self.instance, &sent, &mut Nobody, &mut self.effects).ok()?;
        let to: Box<str> = self.machine.state_name(self.instance.state()).into();
        let news = reason.is_some() && self.view.read().reason.as_deref() != reason;
        if from == to && !(news && self.is_paused()) {
            return None;
        }
        let ended = self.instance.status() != Status::Active;
        *self.view.write() = RunStatus { state: to.to_string(), reason: reason.map(str::to_owned), ended };
        Some(RunTransition { at_micros, event, from, to, reason: reason.map(Into::into) })
    }

    pub fn name(&self) -> String {
        self.view.read().state.clone()
    }

    pub fn is_paused(&self) -> bool {
        self.machine.state_name(self.instance.state()).starts_with("paused")
    }
}
