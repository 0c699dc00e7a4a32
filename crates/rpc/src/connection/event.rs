//! What goes into a connection and what comes out of it.

use crate::{Fault, MessageId};
use bytes::Bytes;
use bytestring::ByteString;
use std::time::{Duration, Instant};

/// Which side of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The central side: the peer is a station.
    Csms,
    /// The station: the peer is a central system.
    Station,
}

/// In which queue our CALL waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Before all normal ones.
    Urgent,
    /// In order.
    #[default]
    Normal,
}

/// A CALL of ours.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// By which our side knows it. Not reused while the call has not ended.
    pub key: u64,
    /// By which the peer knows it: a UUID that was never used before (C08). At most 36 characters.
    pub id: MessageId,
    /// What we ask for.
    pub action: ByteString,
    /// A JSON object; empty counts as `{}`.
    pub payload: Bytes,
    /// In which queue it waits.
    pub lane: Lane,
    /// How long the peer may take, counted from the write.
    pub answer_timeout: Duration,
    /// How long it may wait to be written, counted from now.
    pub queue_timeout: Duration,
}

/// Why our CALL was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallRefused {
    /// As many wait as may.
    #[error("too many calls wait for this connection")]
    Full,
    /// The connection has ended.
    #[error("the connection has ended")]
    Closed,
    /// The station's registration does not allow this action now (L06).
    #[error("the action may not be sent while the registration is {0}")]
    NotAllowedWhile(super::Registration),
    /// The payload is not a JSON object, as far as brackets and strings show it.
    #[error("the payload is not a JSON object")]
    PayloadNotObject,
    /// The frame is not one that may be sent unasked: neither SEND nor CALLRESULTERROR of 2.1.
    #[error("the frame cannot be sent unasked")]
    NotUnanswered,
}

/// Why an answer of our side was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// No call with this number is in hand: it was answered before, or never came.
    #[error("no call with this number waits for an answer")]
    NotInHand,
    /// The connection has ended.
    #[error("the connection has ended")]
    Closed,
    /// The frame is not a CALLRESULT or CALLERROR with the id of the call. The call is still in hand.
    #[error("the frame is no answer to this call")]
    NotAnAnswer,
}

/// A text to be written to the socket as one text message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The text.
    pub text: ByteString,
    /// What it is.
    pub kind: TransmitKind,
}

/// What a text to be written is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransmitKind {
    /// Our answer to the call with this number.
    Answer {
        /// [`Called::seq`]
        seq: u64,
    },
    /// An earlier answer, again (C09).
    Repeat,
    /// A CALL of ours. From now on nobody can say that the station did not get it.
    Call {
        /// [`Outgoing::key`]
        key: u64,
    },
    /// A CALLERROR about a bad frame.
    Error,
    /// A SEND or CALLRESULTERROR of ours (2.1).
    Unanswered,
}

/// A CALL of the peer, to be answered with [`Connection::answer`](super::Connection::answer).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// Which call of this connection it is; rises with each, and with each SEND.
    pub seq: u64,
    /// The id that the answer must carry.
    pub id: MessageId,
    /// What is asked for.
    pub action: ByteString,
    /// The whole frame, as it came.
    pub frame: ByteString,
    /// The payload, a slice of the frame; `{}` where the frame says `null`.
    pub payload: ByteString,
    /// When it came.
    pub received: Instant,
}

/// A SEND of the peer (2.1), never answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its number among the calls and SENDs of this connection.
    pub seq: u64,
    /// Its id.
    pub id: MessageId,
    /// What it is about.
    pub action: ByteString,
    /// The whole frame, as it came.
    pub frame: ByteString,
    /// The payload, a slice of the frame.
    pub payload: ByteString,
    /// When it came.
    pub received: Instant,
}

/// What became of a CALL of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The peer answered with a CALLRESULT.
    Answered {
        /// The whole frame.
        frame: ByteString,
        /// The payload, a slice of the frame.
        payload: ByteString,
    },
    /// The peer answered with a CALLERROR.
    Refused {
        /// The whole frame.
        frame: ByteString,
        /// Any text; [`ErrorCode::from_wire`](crate::ErrorCode::from_wire) knows the specified ones.
        code: ByteString,
        /// For people.
        description: ByteString,
        /// Any JSON.
        details: ByteString,
    },
    /// The peer answered with something that cannot be read (C06). Whether it acted on the call is unknown.
    MalformedAnswer {
        /// What came.
        frame: ByteString,
        /// What is wrong with it.
        fault: Fault,
    },
    /// Nobody answered in time. Whether the peer acted on the call is unknown (C07).
    TimedOut,
    /// It waited as long as it might and was never written.
    Expired,
    /// It was never written: the connection ended, or the station's registration forbids it (L04, L06).
    NotSent,
    /// It was written, and the connection ended before an answer came: whether the peer acted on it is unknown (L04).
    Unknown,
    /// Our side took it back before it was written.
    Cancelled,
}

/// Why a frame of the peer was dropped without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ignored {
    /// It is no frame.
    Bad(Fault),
    /// It answers no CALL of ours that is open: unknown, late or second (C04).
    Unmatched,
    /// A bound was reached.
    Overflow,
}

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer calls. The next call is given out only after this one was answered (C10).
    Called(Called),
    /// The peer tells something and wants no answer (2.1, F16).
    Sent(Sent),
    /// The peer did not understand a CALLRESULT of ours (2.1, F16). Nothing is completed by it.
    ResultError {
        /// The id of the peer's CALL that we answered.
        id: MessageId,
        /// Any text.
        code: ByteString,
        /// For people.
        description: ByteString,
        /// The whole frame.
        frame: ByteString,
    },
    /// Our CALL was handed out for writing.
    Written {
        /// [`Outgoing::key`]
        key: u64,
    },
    /// Our CALL has ended. Every call that was taken ends exactly once.
    Ended {
        /// [`Outgoing::key`]
        key: u64,
        /// How.
        outcome: Outcome,
    },
    /// A bad frame was answered with a CALLERROR.
    Refused {
        /// What is wrong with it.
        fault: Fault,
    },
    /// A frame was dropped without an answer.
    Ignored {
        /// Why.
        reason: Ignored,
    },
    /// The connection must be closed by us. It takes no more input.
    Close {
        /// The WebSocket close code.
        code: u16,
        /// The reason to be sent with it.
        reason: &'static str,
    },
}
