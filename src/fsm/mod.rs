//! The pure core: explicit finite state machines, checked like programs before they run.
//!
//! A machine is written as JSON ([`Definition`]), a strict subset of an XState v5 config: it loads unmodified in XState
//! and its visual editor, and real XState is the oracle of the semantics (`tests/conformance`).
//!
//! ```text
//! text ──check_text──▶ Definition + Report      all findings at once, with line and column
//!        Definition ──compile──▶ Machine        the only way to get one; refuses what has no meaning
//!           Machine ──start────▶ Instance       one per chunk
//!             Event ──send─────▶ Effects        start and stop work, arm and cancel timers
//! ```
//!
//! Nothing here reads a clock, starts a thread or opens a file. The core decides; its caller runs the handlers, keeps
//! the timers, and tells the machine what happened.
//!
//! ```
//! use serde_json::json;
//! use sluicegate::fsm::{
//!     CompileOptions, Effect, Effects, Event, EventData, Status, Vocabulary, Use, Role, check_text, compile,
//! };
//!
//! let text = r#"{
//!     "id": "order", "initial": "received",
//!     "states": {
//!         "received": { "invoke": { "id": "validate", "src": "validate", "onDone": "validatd", "onError": "refused" } },
//!         "validated": { "type": "final" },
//!         "refused": { "type": "final" }
//!     }
//! }"#;
//! let program = Vocabulary::closed().handler("validate", Use::Required, Role::Ordered);
//! let (_, report) = check_text(text, Some(&program));
//! assert_eq!(
//!     report.findings[0].to_string(),
//!     "E unknown-target states.received.invoke.onDone (4:82): unknown target `validatd`; did you mean `validated`?"
//! );
//!
//! let (definition, report) = check_text(&text.replace("validatd", "validated"), Some(&program));
//! assert!(report.findings.is_empty());
//! let machine = compile(definition.unwrap(), &CompileOptions::default())?;
//!
//! let mut effects = Effects::new();
//! let mut order = machine.start(machine.initial_context(), &mut (), &mut effects)?;
//! let &[Effect::Start(work)] = effects.iter().as_slice() else { panic!("one handler starts") };
//! assert_eq!(machine.invocation(work).src, "validate");
//!
//! let output = json!({ "rows": 17 });
//! let done = Event { id: machine.invocation(work).done, name: None, data: EventData::Output(&output) };
//! machine.send(&mut order, &done, &mut (), &mut effects)?;
//! assert_eq!((machine.state_name(order.state()), order.status()), ("validated", Status::Done));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod builder;
mod builtin;
mod check;
mod compile;
mod context;
mod cycles;
pub mod definition;
mod effect;
mod finding;
mod flow;
mod graph;
mod instance;
mod lint;
mod locate;
mod machine;
mod names;
mod path;
mod plan;
mod retry;
mod shape;
pub mod simulate;
mod step;
mod value;
mod vocabulary;

pub use check::{check, check_text};
pub use compile::{CompileOptions, compile};
pub use context::{Context, Slot};
pub use definition::{Definition, Jitter};
pub use effect::{Effect, Effects};
pub use finding::{CODES, Class, Code, Finding, Position, Report};
pub use instance::{Instance, Status};
pub use machine::{
    Action, ActionId, Candidate, Event, EventData, EventId, GuardId, Invocation, InvocationId, Machine, StateId, Timer, TimerId,
    Transition, TransitionId,
};
pub use step::{Handled, Host, Microstep, StepError};
pub use vocabulary::{Role, Use, Vocabulary};
