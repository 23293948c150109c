//! How the command ends: exit codes, and errors as a person reads them.

use crate::engine::{Outcome, RunError, RunReport};
use crate::trouble::{Trouble, TroubleKind};
use serde_json::{Value, json};
use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// A good or at least expected end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything is done.
    Complete,
    /// Everything is done, some rows are set aside.
    DeadLetters,
    /// Stopped, and can be resumed.
    Stopped,
    /// What was looked for was found, which is bad news: findings, an illegal walk.
    Findings,
    /// An audit that does not come out.
    Unsound,
}

impl Exit {
    /// As the shell sees it.
    pub fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Exit::Complete => 0,
            Exit::Unsound => 1,
            Exit::DeadLetters => 3,
            Exit::Stopped => 75,
            Exit::Findings => 78,
        })
    }

    /// The worse of two ends. A run that was stopped is not complete, whatever else there is to say of it.
    pub fn and(self, other: Exit) -> Exit {
        match (self, other) {
            (Exit::Complete, other) | (Exit::DeadLetters, other @ (Exit::Stopped | Exit::Unsound)) => other,
            (worse, _) => worse,
        }
    }
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Exit {
        match outcome {
            Outcome::Complete => Exit::Complete,
            Outcome::CompleteWithDeadLetters => Exit::DeadLetters,
            Outcome::Stopped | Outcome::Cancelled => Exit::Stopped,
            Outcome::Failed => Exit::Unsound,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// A bad end.
#[derive(Debug)]
pub struct Failure {
    kind: TroubleKind,
    error: Box<dyn Error>,
    /// What to do about it, where there is more to say than the error says.
    advice: Option<String>,
}

impl Failure {
    /// What was asked for cannot be done as it was asked.
    pub fn configuration(message: impl Into<String>) -> Failure {
        Trouble::lasting(TroubleKind::Configuration, message).into()
    }

    /// With what to do about it.
    pub fn advise(mut self, advice: impl Into<String>) -> Failure {
        self.advice = Some(advice.into());
        self
    }

    /// What kind of trouble it is.
    pub fn kind(&self) -> TroubleKind {
        self.kind
    }

    /// For programs: what [`Failure::report`] tells people.
    pub fn describe(&self) -> Value {
        let mut causes = Vec::new();
        let mut cause = self.error.source();
        while let Some(error) = cause {
            causes.push(error.to_string());
            cause = error.source();
        }
        json!({
            "kind": self.kind, "exit_code": self.kind as u8, "message": self.error.to_string(),
            "because": causes, "advice": self.advice,
        })
    }

    /// What a run did until it failed.
    pub fn run(&self) -> Option<&RunReport> {
        match self.error.downcast_ref()? {
            RunError::Failed { report, .. } => Some(report),
            _ => None,
        }
    }

    /// Prints it on standard error and gives the exit code.
    pub fn report(&self) -> ExitCode {
        if self.kind == TroubleKind::BrokenPipe {
            // Like any other Unix tool whose reader has gone away: without a word, by the signal itself.
            let _ = signal_hook::low_level::emulate_default_handler(signal_hook::consts::SIGPIPE);
        } else {
            super::progress::clear();
            let mut text = format!("error: {}\n", self.error);
            let mut cause = self.error.source();
            while let Some(error) = cause {
                text += &format!("  because: {error}\n");
                cause = error.source();
            }
            if let Some(advice) = &self.advice {
                text += &format!("{advice}\n");
            }
            eprint!("{}", without_secrets(&text));
        }
        ExitCode::from(self.kind as u8)
    }
}

/// What is wrong with the command line, as a person reads it.
pub fn refuse(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    let shown = without_secrets(&text);
    if shown == text {
        error.exit();
    }
    eprint!("{shown}");
    std::process::exit(error.exit_code())
}

/// `text` without connection strings that stood on the command line in the wrong place, where an error quotes them or begins to.
fn without_secrets(text: &str) -> String {
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    arguments.fold(text.to_owned(), |text, argument| {
        let login = argument.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@')).map(|(login, _)| login);
        match login.filter(|login| login.contains(':')) {
            Some(login) => text.replace(&argument, "[connection string]").replace(login, "[login]"),
            None if argument.contains("password=") => text.replace(&argument, "[connection string]"),
            None => text,
        }
    })
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Failure {
        Failure { kind: trouble.kind(), error: Box::new(trouble), advice: None }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        let kind = match &error {
            RunError::Definition(_) => TroubleKind::Configuration,
            RunError::Setup(trouble) | RunError::Failed { trouble, .. } => trouble.kind(),
        };
        Failure { kind, error: Box::new(error), advice: None }
    }
}

#[cfg(test)]
mod tests {
    use super::Exit::{Complete, DeadLetters, Stopped};

    #[test]
    fn of_several_tables_the_worst_end_counts() {
        assert_eq!([Complete, DeadLetters, Complete].into_iter().fold(Complete, super::Exit::and), DeadLetters);
        assert_eq!(DeadLetters.and(Stopped), Stopped);
        assert_eq!(Stopped.and(DeadLetters), Stopped);
    }
}
