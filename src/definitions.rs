//! Lifecycles of a chunk that come with the crate, as they lie in `fsm-definitions/`.
//!
//! None of them is privileged: the engine runs any definition that passes the checks. They are here to start from, and each is the
//! text of a file, so that it can be written out, changed and loaded again.
//!
//! | | handlers it invokes | what it is for |
//! |---|---|---|
//! | [`CHUNK`] | `validate`, `transform`, `sink`, `deadLetter` | the default: three attempts a stage, then the dead letter |
//! | [`DIRECT`] | `transform`, `sink` | trusted sources: no second try, a failed chunk ends the run |
//! | [`PATIENT`] | `transform`, `sink`, `deadLetter` | targets that come and go: tried again until the chunk is an hour old |
//! | [`QUARANTINE`] | `validate`, `sink`, `deadLetter` | services: what fails for good waits for an operator's `RETRY` or `DISCARD` |
//!
//! ```
//! let lifecycle = sluicegate::definitions::chunk();
//! assert_eq!(lifecycle, sluicegate::definitions::CHUNK.parse()?);
//! # Ok::<(), sluicegate::fsm::Report>(())
//! ```

use crate::fsm::{Definition, Role, Use, Vocabulary};

/// What the lifecycle of an export or a pipeline may invoke: `validate` and `transform`, and behind them `sink` and `deadLetter`.
pub fn vocabulary() -> Vocabulary {
    Vocabulary::closed()
        .handler("validate", Use::Optional, Role::Payload)
        .handler("transform", Use::Required, Role::Payload)
        .handler("sink", Use::Required, Role::Ordered)
        .handler("deadLetter", Use::Optional, Role::Ordered)
}

/// The default lifecycle, as JSON.
pub const CHUNK: &str = include_str!("../fsm-definitions/chunk.json");

/// Transform and sink and nothing else, as JSON.
pub const DIRECT: &str = include_str!("../fsm-definitions/direct.json");

/// No limit on attempts, one on time, as JSON.
pub const PATIENT: &str = include_str!("../fsm-definitions/patient.json");

/// A chunk that fails for good waits for an operator, as JSON.
pub const QUARANTINE: &str = include_str!("../fsm-definitions/quarantine.json");

/// The default lifecycle: [`CHUNK`], parsed.
pub fn chunk() -> Definition {
    parsed(CHUNK)
}

/// [`DIRECT`], parsed.
pub fn direct() -> Definition {
    parsed(DIRECT)
}

/// [`PATIENT`], parsed.
pub fn patient() -> Definition {
    parsed(PATIENT)
}

/// [`QUARANTINE`], parsed.
pub fn quarantine() -> Definition {
    parsed(QUARANTINE)
}

fn parsed(text: &str) -> Definition {
    text.parse().expect("checked by a test")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsm::{Class, check};

    #[test]
    fn all_of_them_pass_every_check() {
        for definition in [chunk(), direct(), patient(), quarantine()] {
            let report = check(&definition, None);
            assert!(report.is_clean(Class::Lint), "{}: {report}", definition.id);
        }
    }
}
