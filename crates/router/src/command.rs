//! Calls from our side to stations: what a handler asks for, and what became of it.

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use std::{fmt, time::Duration};
use switchboard_messages::Violations;
use switchboard_rpc::{StationId, Version};

/// Brings commands to stations, whatever lies between. A worker gives its handlers one over its bus.
pub trait Caller: Send + Sync + 'static {
    /// Sends a command and waits for its outcome. Always ends: at the latest when its times have passed.
    fn call(&self, command: Command) -> BoxFuture<'static, Outcome>;

    /// Sends a command whose outcome goes to [`Router::on_outcome`](crate::Router::on_outcome), with `context`. `Ok`
    /// means that the command is under way.
    fn send(&self, command: Command, context: ByteString) -> BoxFuture<'static, Result<(), Outcome>>;
}

/// A call to a station.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Command {
    /// Whose station.
    pub tenant: ByteString,
    /// Which station.
    pub station: StationId,
    /// The version that the payload is written in.
    pub version: Version,
    /// The action.
    pub action: ByteString,
    /// A JSON object.
    pub payload: Bytes,
    /// How it is to be sent.
    pub options: Options,
}

/// How a command is to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How long the station may take to answer. Default: as the gateway is set.
    pub timeout: Option<Duration>,
    /// How long the command may wait for a station that is not connected. Default: not at all.
    pub time_to_live: Option<Duration>,
    /// Before all normal commands of the station.
    pub urgent: bool,
    /// An idempotency key: a second command of the same key goes to the station only once.
    pub key: Option<ByteString>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The station answered with this payload.
    Answered(ByteString),
    /// The station answered with a CALLERROR.
    Refused {
        /// The code as the station wrote it.
        code: ByteString,
        /// The description.
        description: ByteString,
        /// The details as JSON text.
        details: ByteString,
    },
    /// The station is not connected.
    Offline,
    /// Too many commands wait for the station.
    Busy,
    /// It waited longer than it was allowed to, and was never sent.
    Expired,
    /// It was taken back before it was sent.
    Cancelled,
    /// The connection went before it was written, or the station may not be called now.
    NotSent,
    /// It was written and no answer came: nobody knows whether the station acted on it.
    Unknown,
}

/// The end of a command that was sent with [`Caller::send`]: the last argument of a handler for
/// [`Router::on_outcome`](crate::Router::on_outcome).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// The command's id.
    pub command_id: ByteString,
    /// Its action.
    pub action: ByteString,
    /// What was sent along.
    pub context: ByteString,
    /// What became of it.
    pub outcome: Outcome,
}

impl Ended {
    /// The end of a command.
    #[must_use]
    pub const fn new(
        command_id: ByteString,
        action: ByteString,
        context: ByteString,
        outcome: Outcome,
    ) -> Self {
        Self { command_id, action, context, outcome }
    }
}

/// Why a typed call to a station gave no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The station refused it with a CALLERROR.
    #[error("the station refused it with {code}: {description}")]
    Refused {
        /// The code as the station wrote it.
        code: ByteString,
        /// The description.
        description: ByteString,
        /// The details as JSON text.
        details: ByteString,
    },
    /// The station is not connected.
    #[error("the station is offline")]
    Offline,
    /// Too many commands wait for the station.
    #[error("too many commands wait for the station")]
    Busy,
    /// It waited longer than it was allowed to, and was never sent.
    #[error("the command expired before it was sent")]
    Expired,
    /// It was taken back before it was sent.
    #[error("the command was cancelled")]
    Cancelled,
    /// The connection went before it was written, or the station may not be called now.
    #[error("the command was not sent")]
    NotSent,
    /// It was written and no answer came: nobody knows whether the station acted on it.
    #[error("no answer came, and nobody knows whether the station acted on it")]
    Unknown,
    /// The request is not valid and was not sent (V09).
    #[error("the request is not valid")]
    Invalid(#[source] Violations),
    /// The station answered with something that cannot be read as the response. It did act on the command.
    #[error("the station's response cannot be read")]
    Unreadable {
        /// What it answered.
        payload: ByteString,
        /// What is wrong with it.
        #[source]
        violations: Violations,
    },
    /// The request is of another version than the station speaks.
    #[error("the station speaks {station:?} and the request is of {request:?}")]
    WrongVersion {
        /// What the station speaks.
        station: Version,
        /// What the request is written in.
        request: Version,
    },
    /// There is no way to stations here: the router runs as a plain function.
    #[error("there is no way to a station from here")]
    NoWay,
}

impl CommandError {
    /// Whether the station certainly did not act on the command, so that it may be sent again without harm.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Offline | Self::Busy | Self::Expired | Self::NotSent)
    }
}

impl From<Outcome> for Result<ByteString, CommandError> {
    fn from(outcome: Outcome) -> Self {
        Err(match outcome {
            Outcome::Answered(payload) => return Ok(payload),
            Outcome::Refused { code, description, details } => {
                CommandError::Refused { code, description, details }
            }
            Outcome::Offline => CommandError::Offline,
            Outcome::Busy => CommandError::Busy,
            Outcome::Expired => CommandError::Expired,
            Outcome::Cancelled => CommandError::Cancelled,
            Outcome::NotSent => CommandError::NotSent,
            Outcome::Unknown => CommandError::Unknown,
        })
    }
}

impl fmt::Debug for dyn Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Caller")
    }
}
