//! The exit codes of every command, in one table that `--help` shows as well.

use std::process::ExitCode;

/// How a command of the binary ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// It did what was asked; of `send`: the station answered.
    Done = 0,
    /// The station refused the command with a CALLERROR.
    Refused = 1,
    /// The command line could not be understood (this one is clap's).
    Usage = 2,
    /// The station is not connected.
    Offline = 3,
    /// The station's queue is full.
    Busy = 4,
    /// The command waited too long and was never sent.
    Expired = 5,
    /// The command was taken back before it was sent.
    Cancelled = 6,
    /// The connection went before the command was written, or the station may not be called now.
    NotSent = 7,
    /// The command was written and no answer came.
    Unknown = 8,
    /// The books of simulated stations do not add up.
    Inconsistent = 9,
    /// The configuration is wrong.
    Configuration = 64,
    /// What was given is wrong: the payload, the action or the station's id.
    Data = 65,
    /// The process could not be reached.
    Unreachable = 69,
    /// Something failed that should not have.
    Internal = 70,
    /// A database is damaged. Nothing was changed.
    Damaged = 74,
    /// The process did not accept the token, or asks for one.
    Denied = 77,
    /// It was told to stop, and told again before it had finished; or it was told not to wait any longer.
    Interrupted = 130,
}

impl Exit {
    /// All of them, with what `--help` says.
    pub(crate) const ALL: [(Self, &'static str); 17] = [
        (Self::Done, "done; send: the station answered"),
        (Self::Refused, "send: the station refused with a CALLERROR"),
        (Self::Usage, "the command line could not be understood"),
        (Self::Offline, "send: the station is not connected"),
        (Self::Busy, "send: too many commands wait for the station"),
        (Self::Expired, "send: the command waited too long and was never sent"),
        (Self::Cancelled, "send: the command was taken back before it was sent"),
        (
            Self::NotSent,
            "send: the connection went before the command was written, or it may not be sent now",
        ),
        (Self::Unknown, "send: written, and no answer came; the station may or may not have acted on it"),
        (Self::Inconsistent, "simulate: the server was not told everything, or its books differ"),
        (Self::Configuration, "the configuration is wrong"),
        (Self::Data, "an action, a payload or a station's id is wrong"),
        (
            Self::Unreachable,
            "no running switchboard could be reached, or a port or the data directory is taken",
        ),
        (Self::Internal, "something failed that should not have"),
        (Self::Damaged, "a database is damaged, and nothing was changed; see switchboard salvage"),
        (Self::Denied, "the token is missing or wrong"),
        (Self::Interrupted, "run: stopped at once, without finishing; send: no longer waited for"),
    ];

    /// The table as `--help` shows it.
    pub(crate) fn help() -> String {
        let mut text = String::from("Exit codes:\n");
        for (exit, meaning) in Self::ALL {
            text.push_str(&format!("  {:>3}  {meaning}\n", exit as u8));
        }
        text
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not do what was asked: what to say, and the exit code.
#[derive(Debug, thiserror::Error)]
#[error("{error:#}")]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) exit: Exit,
    /// What to say.
    pub(crate) error: anyhow::Error,
}

impl Failure {
    /// A failure with this exit code and text.
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, error: anyhow::Error::msg(text.into()) }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { exit: Exit::Internal, error }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self { exit: Exit::Internal, error: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_documented_once() {
        let mut codes: Vec<u8> = Exit::ALL.iter().map(|(exit, _)| *exit as u8).collect();
        assert!(codes.is_sorted());
        codes.dedup();
        assert_eq!(codes.len(), Exit::ALL.len());
    }
}
