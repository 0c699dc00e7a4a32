//! What a client tells.

use super::gate::Registration;
use bytestring::ByteString;
use std::time::Duration;
use switchboard_rpc::{
    MessageId,
    connection::{Called, Outcome},
};

/// How a call has ended that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// With an answer.
    Answered,
    /// With an error.
    Refused,
    /// Without an answer in time, or with one that cannot be read.
    Unanswered,
    /// With the connection.
    Lost,
}

/// What happened, in the order in which it did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A connection was made.
    Connected {
        /// How often one was made before.
        earlier: u64,
    },
    /// No connection could be made.
    NotConnected {
        /// Why, for people.
        error: String,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The connection has ended. All calls that were open on it have ended before.
    Disconnected {
        /// Why, for people.
        reason: String,
    },
    /// A BootNotification was answered.
    Registered {
        /// With what.
        registration: Registration,
        /// Accepted: how often a Heartbeat is sent; otherwise when the next BootNotification is.
        interval: Duration,
        /// The whole answer.
        answer: ByteString,
    },
    /// A BootNotification was refused, not answered in time, or answered with something else.
    BootFailed {
        /// How it ended.
        outcome: Outcome,
    },
    /// A Heartbeat was answered.
    Heartbeat {
        /// The answer, with the central system's time.
        answer: ByteString,
    },
    /// The central system calls, and waits for [`Client::answer`](super::Client::answer).
    Called(Called),
    /// The central system called, and the client has answered and obeyed by itself.
    Obeyed {
        /// What it wanted.
        action: ByteString,
    },
    /// A call was sent and has ended, whoever made it: the application, the client itself, or what is billed. Told only if
    /// [`Config::tells_exchanges`](super::Config::tells_exchanges) says so, after the event that tells what it brought.
    Exchanged {
        /// How it ended.
        end: Ending,
        /// How long after it was written.
        after: Duration,
    },
    /// A call has ended.
    Ended {
        /// The key that [`Client::call`](super::Client::call) gave.
        key: u64,
        /// How.
        outcome: Outcome,
    },
    /// A billing message was answered.
    Billed {
        /// The number that [`Client::bill`](super::Client::bill) gave.
        number: u64,
        /// The transaction that it is about.
        transaction: ByteString,
        /// Its action.
        action: ByteString,
        /// The answer's payload.
        answer: ByteString,
    },
    /// A billing message was refused or not answered, and will be sent again.
    BillFailed {
        /// Its number.
        number: u64,
        /// What became of this attempt.
        outcome: Outcome,
    },
    /// A billing message was refused or not answered so often that it was given up.
    GivenUp {
        /// Its number.
        number: u64,
        /// The transaction that it is about.
        transaction: ByteString,
        /// Its action.
        action: ByteString,
        /// What became of the last attempt.
        outcome: Outcome,
    },
    /// Too much waited to be billed, and readings were left out.
    Thinned {
        /// How many.
        readings: u64,
    },
    /// The queue could not keep a message or take note of an answer, as on a full disk. Messages stay in memory and are
    /// sent; what was not kept is tried again with the next one. Until then a restart loses it.
    QueueFailed {
        /// Why, for people.
        error: String,
    },
    /// The central system did not understand an answer of ours (2.1).
    ResultError {
        /// The id of its call.
        id: MessageId,
        /// Which error.
        code: ByteString,
        /// For people.
        description: ByteString,
    },
    /// The client has stopped.
    Stopped,
}
