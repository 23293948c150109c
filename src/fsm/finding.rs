//! What a check found: codes, findings, the report.

use std::fmt;

use serde::Serialize;

use super::locate::Locator;
use super::path::Path;

/// How much a finding weighs.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The definition has no meaning; `compile` refuses it.
    Error,
    /// It has a meaning, but a fault is waiting in it. `meta.fsm.allow` may excuse it.
    Lint,
    /// Worth knowing; refuses nothing. `meta.fsm.allow` may silence it.
    Warning,
}

impl Class {
    /// The letter that a printed finding starts with: `E`, `L` or `W`.
    pub fn letter(self) -> char {
        match self {
            Class::Error => 'E',
            Class::Lint => 'L',
            Class::Warning => 'W',
        }
    }
}

/// A kind of finding: its stable name and what it means.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Code {
    /// Kebab-case, never renamed: scripts and `meta.fsm.allow` refer to it.
    pub name: &'static str,
    /// Its class is part of the code: a code is never an error here and a lint there.
    pub class: Class,
    /// One sentence for people.
    pub about: &'static str,
}

macro_rules! codes {
    ($($constant:ident $name:literal $class:ident $about:literal;)*) => {
        $(#[doc = $about] pub(super) const $constant: Code =
            Code { name: $name, class: Class::$class, about: $about };)*
        /// Every code there is.
        pub const CODES: &[Code] = &[$($constant),*];
    };
}

codes! {
    SYNTAX "syntax" Error "The text is not JSON.";
    DUPLICATE_KEY "duplicate-key" Error "An object has the same key twice; a parser would silently take the last.";
    UNKNOWN_KEY "unknown-key" Error "A key that the format does not have at this place.";
    MISSING_KEY "missing-key" Error "A key that the format demands at this place.";
    WRONG_TYPE "wrong-type" Error "A value of another JSON type than the format demands.";
    BAD_VALUE "bad-value" Error "A value of the right type that means nothing here.";
    BAD_NAME "bad-name" Error "A key or id outside [A-Za-z_][A-Za-z0-9_-]*.";
    INTEGER_KEY "integer-key" Error "A state key that looks like an integer; JavaScript would re-order it.";
    BAD_EVENT "bad-event" Error "An event descriptor that is no name, `a.b`, `a.*` or `*`, or one that begins with `xstate.`.";
    LEFT_OUT "left-out" Error "A feature of XState that the format leaves out on purpose.";
    BAD_TARGET "bad-target" Error "A target that is not written as the format says.";
    UNKNOWN_TARGET "unknown-target" Error "A target that no state answers to.";
    UNKNOWN_INITIAL "unknown-initial" Error "An initial state that is not a child.";
    DUPLICATE_ID "duplicate-id" Error "Two states, or two invocations, with one id.";
    BAD_DELAY "bad-delay" Error "An `after` key that is neither a canonical whole number of milliseconds nor a name.";
    UNDEFINED_DELAY "undefined-delay" Error "A named delay that meta.fsm.delays does not define; XState would fire it at once.";
    STRING_IN_AFTER "string-in-after" Error "A string inside an `after` list; XState drops its target.";
    BAD_PARAMS "bad-params" Error "Parameters that a built-in guard or action cannot use.";
    UNKNOWN_GUARD "unknown-guard" Error "A guard that neither the format nor the program has.";
    UNKNOWN_ACTION "unknown-action" Error "An action that neither the format nor the program has.";
    UNKNOWN_HANDLER "unknown-handler" Error "An invocation whose `src` the program did not register.";
    UNUSED_HANDLER "unused-handler" Error "A handler that the program requires and no invocation uses.";
    ENDLESS_ALWAYS "endless-always" Error "A cycle of `always` transitions that no guard can break.";
    BAD_ALLOW "bad-allow" Error "An entry of meta.fsm.allow whose code does not exist or cannot be excused.";
    TOO_LARGE "too-large" Error "More states, events or transitions than a compiled table may hold.";
    UNREACHABLE_STATE "unreachable-state" Lint "A state that no sequence of events leads to.";
    DEAD_END "dead-end" Lint "A non-final state that nothing can leave.";
    NO_FINAL "no-final" Lint "A state from which no final state can be reached.";
    UNHANDLED_ERROR "unhandled-error" Lint "An invocation whose `onError` list does not end unguarded.";
    UNBOUNDED_RETRY "unbounded-retry" Lint "A cycle of timer and error edges that starts work again, with no counter or deadline to end it.";
    SHADOWING_WILDCARD "shadowing-wildcard" Lint "A `*` that swallows the timeout, done or error event of an outer state.";
    NEVER_TAKEN "never-taken" Lint "A transition that can never be taken.";
    MISSING_MAX_ITERATIONS "missing-max-iterations" Lint "An endless macrostep is possible and options.maxIterations is absent.";
    TWO_PAYLOAD_HANDLERS "two-payload-handlers" Lint "A configuration in which two invocations own the payload at once.";
    NO_TIMEOUT "no-timeout" Warning "An invoking state without a timeout although its handler may be abandoned.";
    LATE_TIMEOUT "late-timeout" Warning "A timeout beside a sink: sinks are not abandoned, so it has no effect before the sink has answered.";
    PARKED "parked" Warning "A state that only an outside event can leave.";
    UNSET_CONTEXT "unset-context" Warning "A context key that is read, but neither in `context` nor ever assigned.";
    UNUSED_ALLOW "unused-allow" Warning "An entry of meta.fsm.allow that excuses nothing.";
}

/// A place in the text of a definition.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    /// 1-based.
    pub line: usize,
    /// 1-based, in characters (not bytes).
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The stable code; see [`CODES`].
    pub code: &'static str,
    /// The class of that code.
    pub class: Class,
    /// The state and the edge, for example `states.received.invoke.onDone`; empty for the root.
    pub path: String,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What was probably meant, ready to be put in.
    pub suggestion: Option<String>,
    /// Where in the text; `None` when a definition was checked that has no text.
    pub position: Option<Position>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.class.letter(), self.code)?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        if let Some(position) = self.position {
            write!(f, " ({position})")?;
        }
        write!(f, ": {}", self.message)?;
        match &self.suggestion {
            Some(meant) => write!(f, "; did you mean `{meant}`?"),
            None => Ok(()),
        }
    }
}

/// All findings of one check, in document order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// In the order in which their places come in the definition.
    pub findings: Vec<Finding>,
    /// The checks that need the whole graph (class L, endless `always`) did not run, because errors leave holes in it.
    pub partial: bool,
}

impl Report {
    /// True when no finding is of class `refuse` or weightier: `is_clean(Class::Lint)` means neither E nor L.
    pub fn is_clean(&self, refuse: Class) -> bool {
        self.findings.iter().all(|finding| finding.class > refuse)
    }

    /// The findings of one class.
    pub fn of(&self, class: Class) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.class == class)
    }

    /// The findings of class E.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.of(Class::Error)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        if self.partial {
            writeln!(f, "The checks of the whole graph wait until these errors are mended.")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// A finding while the check still runs: its path is not yet text and its position not yet known.
#[derive(Debug)]
pub(super) struct Draft {
    pub code: Code,
    pub path: Path,
    /// Below `path`: where in the text it is, when that is more exact than what `path` names.
    pub detail: Path,
    /// Point at the key, not at its value.
    pub at_key: bool,
    pub message: String,
    pub suggestion: Option<String>,
}

impl Draft {
    pub fn new(code: Code, path: Path, message: impl Into<String>) -> Draft {
        Draft { code, path, detail: Path::root(), at_key: false, message: message.into(), suggestion: None }
    }

    pub fn detail(mut self, detail: Path) -> Draft {
        self.detail = detail;
        self
    }

    pub fn at_key(mut self) -> Draft {
        self.at_key = true;
        self
    }

    pub fn suggest(mut self, suggestion: Option<String>) -> Draft {
        self.suggestion = suggestion;
        self
    }

    /// Path and message on one line, for readers that want only the first finding.
    pub fn sentence(&self) -> String {
        let place = self.path.to_string();
        let colon = if place.is_empty() { "" } else { ": " };
        let meant = self.suggestion.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        format!("{place}{colon}{}{meant}", self.message)
    }

    fn finish(self, locator: &Locator, report_position: bool) -> (usize, Finding) {
        let offset = locator.offset(&self.path.join(&self.detail), self.at_key);
        let finding = Finding {
            code: self.code.name,
            class: self.code.class,
            path: self.path.to_string(),
            message: self.message,
            suggestion: self.suggestion,
            position: report_position.then(|| locator.position(offset)),
        };
        (offset, finding)
    }
}

/// Turns drafts into a report in document order.
pub(super) fn report(drafts: Vec<Draft>, locator: &Locator, report_position: bool, partial: bool) -> Report {
    let mut placed: Vec<_> = drafts.into_iter().map(|draft| draft.finish(locator, report_position)).collect();
    // The sort is stable: findings at one place stay in the order of the checks.
    placed.sort_by_key(|(offset, _)| *offset);
    Report { findings: placed.into_iter().map(|(_, finding)| finding).collect(), partial }
}
