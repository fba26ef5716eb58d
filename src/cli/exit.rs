//! Exit codes, and the two lines that explain one: what we could not do and why, then what helps.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

/// How the process ends. The numbers are a promise to scripts and unit files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// Something could not be read or delivered; it was named.
    Failed = 1,
    /// The operator's mistake: flags, or what they point at. Clap ends with the same code.
    Usage = 2,
    /// EX_CANTCREAT: output or state can't be created.
    CannotCreate = 73,
    /// EX_TEMPFAIL: another agent holds the state or the log-path.
    Held = 75,
    /// EX_CONFIG: a file of the configuration can't be read, or says what can't be done.
    Config = 78,
}

impl Exit {
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why the process ends early. Shown as `error: cannot … : cause`, and `hint: …` below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: Exit,
    /// One line, lower case, no full stop.
    pub message: String,
    pub hint: Option<String>,
}

impl Failure {
    pub fn new(code: Exit, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), hint: None }
    }

    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// Appends the cause, and the cause of the cause, each after a colon.
    pub fn caused_by(mut self, cause: &(dyn Error + 'static)) -> Failure {
        let mut next = Some(cause);
        while let Some(cause) = next {
            let text = cause.to_string();
            // Some libraries repeat the cause in their own message.
            if !self.message.ends_with(&text) {
                self.message = format!("{}: {text}", self.message);
            }
            next = cause.source();
        }
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_the_promised_ones() {
        let codes =
            [Exit::Done, Exit::Failed, Exit::Usage, Exit::CannotCreate, Exit::Held, Exit::Config].map(Exit::code);
        assert_eq!(codes, [0, 1, 2, 73, 75, 78]);
    }

    #[test]
    fn a_failure_is_two_lines() {
        let cause = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let failure = Failure::new(Exit::CannotCreate, "cannot create /out").caused_by(&cause).hint("run as root");
        assert_eq!(failure.to_string(), "error: cannot create /out: permission denied\nhint: run as root");
        assert_eq!(Failure::usage("no").to_string(), "error: no");
    }

    #[test]
    fn a_repeated_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: inner")]
        struct Outer(#[source] std::fmt::Error);
        let failure = Failure::usage("cannot").caused_by(&Outer(std::fmt::Error));
        assert_eq!(failure.message, "cannot: outer: inner: an error occurred when formatting an argument");
        assert_eq!(Failure::usage("cannot: x").caused_by(&std::io::Error::other("x")).message, "cannot: x");
    }
}
